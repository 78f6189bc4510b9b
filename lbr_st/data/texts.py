"""What a cell of a row says: a text, several texts, objects with a text, or a conversation."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from lbr_st.data import names
from lbr_st.data.cleaning import printable
from lbr_st.data.templates import excerpt
from lbr_st.errors import RowError

ASKS = ("user", "human", "prompter")
ANSWERS = ("assistant", "gpt", "model", "ai", "bot", "chatbot")
# Where the text of an object is: of a passage of DPR or Tevatron.
TEXT = ("text", "document", "passage", "passage_text", "content", "contents", "body", "abstract")
NEEDS_TEXT = ", which stands for a text of another file: put the text there in its place, or take the column away"
# What says of a message that nothing is to be learned from it, where it is 0 or false: of OpenAI, ms-swift and Axolotl.
_LEARNED = ("weight", "loss", "train", "training", "trainable")
_CALLS = ("tool_calls", "function_call")
_MESSAGE = ({"role", "content"}, {"from", "value"}, {"role", "parts"})
# What a cell begins with that holds a Python or JSON value of texts, written out: a list, an object, numpy's array.
_VALUE = re.compile(r"(?:[A-Za-z_.]+\()?(?:[\[{(]\s*)+b?['\"]|[A-Za-z_.]+\(\[|b['\"]")
_STRING = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\"""", re.DOTALL)
_ARRAY = re.compile(rf"\[\s*(?:{_STRING.pattern})(?:\s+(?:{_STRING.pattern}))*\s*\]", re.DOTALL)
_CALL = re.compile(r"(?:\A|[\s{(\[])(?:array|frozenset)\([\[{].*[\])}]\Z", re.DOTALL)
_CUT = ("...", "\u2026")
# Columns of what a model wrote, which may be code or JSON.
_WRITTEN = ("output", "response", "completion")
# Where a turn of a conversation begins that is written out as one text, as Anthropic's preferences are.
_TURN = re.compile(r"(?:\A|\n)\s*\n(?:#+ *)?(Human|User|Assistant|AI|Bot) *: ?", re.IGNORECASE)
# The same as training writes it: with the marks of ChatML, Llama, Gemma, Zephyr, Alpaca, Guanaco and Vicuna.
_MARK = re.compile(
    r"<\|(?:im_start|start_header_id)\|>[ \t]*(\w+)(?:<\|end_header_id\|>)?|<start_of_turn>[ \t]*(\w+)|"
    r"<\|(user|assistant|system)\|>|\[(/?INST)\]|<(human|bot)>:|\b(USER|ASSISTANT):|"
    r"#{2,3} *(Human|User|Assistant|System|Instruction|Input|Response|Question|Answer)(?: *:|(?=[ \t]*\n))|"
    r"^(Human|User|Assistant|AI|Bot) *:",
    re.MULTILINE,
)
_AROUND = re.compile(
    r"<\|(?:im_end|eot_id|end|endoftext|begin_of_text|end_of_text)\|>|<end_of_turn>|</?s>|<bos>|<eos>|"
    r"<<SYS>>.*?<</SYS>>",
    re.DOTALL,
)
_BEFORE = re.compile(r"(?:\s|<\|begin_of_text\|>|<\|endoftext\|>|<s>|<bos>)*")
_PREAMBLE = ("Below ", "A chat ", "The following ", "This is ", "You are ")
_SAID_BY = dict.fromkeys(("inst", "instruction", "question", "human", "user"), "user")
_SAID_BY |= dict.fromkeys(("/inst", "response", "answer", "ai", "bot", "model", "assistant"), "assistant")
_INPUT = "input"  # of Alpaca, which goes on with what the user says
QUESTION_AND_ANSWER = re.compile(r"\s*(?:Question|Q)[ \d]*[:.].*?\n\s*(?:Answer|A)[ \d]*[:.]", re.DOTALL)


def text_of(where: str, column: str, value: Any) -> str:
    """Return a value that must be text.

    Raises:
        RowError: If it is another thing, or blank.
    """
    where = f"{where}, column {column!r}"
    if not isinstance(value, str) and value == value:
        of_id = "" if not _is_id(value) else NEEDS_TEXT
        raise RowError(where, "not text", f"expected text, found {excerpt(value)}{of_id}")
    if is_blank(value):  # NaN too
        raise RowError(where, "empty text", "the text is empty")
    return value


def _is_id(value: Any) -> bool:
    """Tell whether a value stands for a text that is elsewhere: a number, or an object with an id and no text."""
    if isinstance(value, Mapping):
        has_text = any(isinstance(each, str) and len(each.split()) > 2 for each in value.values())
        return bool(names.own_ids(map(str, value))) and names.first(value, TEXT) is None and not has_text
    return isinstance(value, int) and not isinstance(value, bool)


def cell_text(where: str, column: str, value: Any) -> str:
    """Return a cell that must be one text, and no Python or JSON value that is written out, as pandas does to CSV.

    A list of one text is that text: an index such as Solr's has lists everywhere. Parts of text are one. Of messages,
    as trl has a completion, it is the last answer.

    Raises:
        RowError: If it is such a value, another thing, or blank.
    """
    if is_parts(value):
        return said(where, column, {"content": value})
    if is_conversation(value):
        return last_answer(where, column, value)
    text = text_of(where, column, value[0] if isinstance(value, list) and len(value) == 1 else value)
    if isinstance(value, str) and (sentences := _sentences_written_out(column, text)):
        if len(sentences) > 1:
            raise _written_out(where, column, text)
        return sentences[0]
    _check_no_value(where, column, text)
    return text


def _sentences_written_out(column: str, text: str) -> list[str]:
    """Return the texts of a list of JSON that is written out, each of two words at least; none where it is none."""
    if not text.startswith('["') or names.plain(column) in _WRITTEN or names.is_preference(column):
        return []
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return []
    return found if all(isinstance(each, str) and " " in each.strip() for each in found) else []


def is_blank(value: Any) -> bool:
    """Tell whether a cell holds nothing: null, or white space, as CSV knows no null."""
    return value is None or (isinstance(value, str) and not value.strip()) or value != value


def texts_of(where: str, column: str, value: Any) -> list[Any]:
    """Return the texts of a cell, of which none was checked yet: see `text_of`.

    Args:
        where: Source and line, for messages.
        column: Name of the column.
        value: A text, an object with a text, a conversation, of which it is the last answer, or a list of these; of
            hard negatives also an object of such lists; in a column that by its name holds several, also such a list
            that is written out as text, as in a CSV; in one of preferences, a conversation that is written out.

    Raises:
        RowError: If a conversation has no answer, or a text is a value that is written out otherwise.
    """
    if isinstance(value, str):
        if names.is_list(column):
            value = _list_written_out(where, column, value)
        else:
            _check_no_value(where, column, value)
    if isinstance(value, Mapping) and names.negatives([column]) and all(isinstance(v, list) for v in value.values()):
        texts = names.first(value, TEXT)  # beside their scores; else each list is what a system found
        value = value[texts] if texts is not None else [text for each in value.values() for text in each]
    if not isinstance(value, list) or is_conversation(value) or is_parts(value):
        return [_text(where, column, value)]
    return [_text(where, column, each) for each in value]


def _text(where: str, column: str, value: Any) -> Any:
    if is_message(value) or is_parts(value):
        return said(where, column, {"content": value} if isinstance(value, list) else value)
    if messages := messages_of(value, names.is_preference(column)):
        return last_answer(where, column, messages)
    if isinstance(value, Mapping):
        text, title = value.get(names.first(value, TEXT) or ""), names.first(value, names.TITLE)
        if isinstance(text, str):
            return text if title is None else with_title(title_of(where, column, value[title]), text)
    return value


def unfolded(value: Any) -> dict[str, list[Any]]:
    """Return a list of objects as lists by key, as which some libraries write it; nothing where it is none."""
    if isinstance(value, list) and value and all(isinstance(each, Mapping) for each in value):
        return {key: [each.get(key) for each in value] for key in dict.fromkeys(key for each in value for key in each)}
    if isinstance(value, Mapping) and all(isinstance(each, list) for each in value.values()):
        return {str(key): each for key, each in value.items()}
    return {}


def title_of(where: str, column: str, value: Any) -> str:
    """Return a title; "" where there is none, and several as one.

    Raises:
        RowError: If it is neither text nor a number.
    """
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        value = "; ".join(each for each in value if not is_blank(each))
    if is_blank(value):
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise RowError(f"{where}, column {column!r}", "not text", f"expected a title, found {excerpt(value)}")
    return printable(str(value)).strip()


def with_title(title: str, text: str) -> str:
    """Return the title and the text of a document as one text, as mteb does.

    Where there is no title it is the text, and where there is no text the title. A text whose first line is its title
    has it already.
    """
    if is_blank(title) or is_blank(text):
        return title if is_blank(text) and not is_blank(title) else text
    return text if text.lstrip().partition("\n")[0].strip() == title.strip() else f"{title} {text}"


def is_instructed(value: Any) -> bool:
    """Tell whether a query is an instruction and a text, as those of Instructor and GRIT are."""
    return isinstance(value, list) and len(value) == 2 and all(isinstance(each, str) for each in value)


def without_instruction(value: Any) -> Any:
    """Return the text behind an instruction, or those of a list of such pairs; another value as it is."""
    if is_instructed(value):
        return value[1]
    return [without_instruction(each) for each in value] if isinstance(value, list) else value


def _list_written_out(where: str, column: str, text: str) -> Any:
    """Return the texts of a list of JSON, Python or numpy that is written out; a text that is none as it is."""
    text = text.strip()
    if text.startswith("[") and text.endswith("]"):
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            found = _python_list(text)
        if isinstance(found, list):
            return found
    if _VALUE.match(text):
        raise _written_out(where, column, text)
    return text


def _python_list(text: str) -> list[Any] | None:
    """Return a list as Python or numpy writes it, which has no commas; None where it is none.

    Python joins texts without a comma between them, so that they are counted.
    """
    try:
        if _ARRAY.fullmatch(text):
            return [ast.literal_eval(each) for each in _STRING.findall(text)]
        found = ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return None
    is_joined = all(isinstance(each, str) for each in found) and len(_STRING.findall(text)) != len(found)
    return None if is_joined else found


def _check_no_value(where: str, column: str, text: str) -> None:
    """Refuse a text that is a value as Python or numpy writes it, cut off or not; one of JSON may be an answer.

    Raises:
        RowError: If it is one.
    """
    if not _VALUE.match(text) or names.plain(column) in _WRITTEN or names.is_preference(column):
        return
    text = text.rstrip()
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        if text.endswith(_CUT) and text.startswith(("['", '["', "{'")):
            raise _written_out(where, column, text) from None
    else:
        return
    try:
        ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        if _CALL.search(text) is None:  # of numpy
            return
    raise _written_out(where, column, text)


def is_value_of_python(text: str) -> bool:
    """Tell whether a text is a value that Python or numpy wrote out."""
    try:
        _check_no_value("", "", text)
    except RowError:
        return True
    return False


def _written_out(where: str, column: str, text: str) -> RowError:
    what = f"a value of Python or JSON that is written out and is no text, {excerpt(text)}"
    do = "write the text alone, or several as a JSON list, in a column such as 'negatives' or 'positives'"
    return RowError(f"{where}, column {column!r}", "a value written out", f"{what}: {do}")


def is_message(value: Any) -> bool:
    """Tell whether a value is a message of a conversation."""
    return isinstance(value, Mapping) and any(keys <= value.keys() for keys in _MESSAGE)


def is_conversation(value: Any) -> bool:
    """Tell whether a value is a list of messages."""
    return isinstance(value, list) and bool(value) and all(map(is_message, value))


def messages_of(value: Any, may_be_text: bool = False) -> list[Any]:
    """Return the messages of a conversation: a list, or one under ``messages``; none where it is no conversation.

    Args:
        value: What is in a cell.
        may_be_text: Whether it may be written out as one text, ``Human: ...`` and ``Assistant: ...``.
    """
    if isinstance(value, Mapping):
        value = value.get("messages")
    if may_be_text and isinstance(value, str):
        before, *turns = _TURN.split(f"\n\n{value}")
        roles, texts = [role.lower() for role in turns[::2]], turns[1::2]
        if not before.strip() and roles and roles[0] in (*ASKS, *ANSWERS):
            return [{"role": role, "content": text.strip()} for role, text in zip(roles, texts, strict=True)]
        return marked_turns(value)
    return value if is_conversation(value) else []


def marked_turns(text: str) -> list[dict[str, str]]:
    """Return the messages of a text that is a conversation with the marks of a template; none where it is none.

    It begins with a mark, or with what templates say before the first, and a user is answered in it. What is said last
    may be blank, as where a prompt ends.
    """
    begin = _BEFORE.match(text)
    start = begin.end() if begin else 0
    # Most texts begin otherwise, and none of these is searched to its end.
    if not _MARK.match(text, start) and not text.startswith(_PREAMBLE, start):
        return []
    marks = list(_MARK.finditer(text))
    if len(marks) < 2:
        return []
    turns: list[dict[str, str]] = []
    for mark, end in zip(marks, [*(each.start() for each in marks[1:]), len(text)], strict=True):
        role = next(filter(None, mark.groups())).lower()
        content = _AROUND.sub("", text[mark.end() : end]).strip()
        if role == _INPUT and turns:
            turns[-1]["content"] = "\n".join(filter(None, [turns[-1]["content"], content]))
        else:
            turns.append({"role": _SAID_BY.get(role, role), "content": content})
    roles = [turn["role"] for turn in turns if turn["role"] != "system"]
    return turns if roles[:2] == ["user", "assistant"] else []


def said(where: str, column: str, message: Mapping[str, Any]) -> str:
    """Return the text of a message; of parts, as images are sent with, those of text, see `other_parts`.

    Raises:
        RowError: If it has none.
    """
    content = _content(message)
    if isinstance(content, list):
        parts = [part for part in map(_part, content) if part is not None]
        if content and not parts:
            raise RowError(f"{where}, column {column!r}", "not text", f"a message has no text: {excerpt(content)}")
        content = "\n".join(text_of(where, column, each) for each in parts)
    return text_of(where, column, content)


def _content(message: Mapping[str, Any]) -> Any:
    return message.get("content", message.get("value", message.get("parts")))


def _part(part: Any) -> str | None:
    text = part.get("text") if isinstance(part, Mapping) else part
    return text if isinstance(text, str) else None


def is_parts(value: Any) -> bool:
    """Tell whether a value is the parts of one text, each an object that says its ``type``, as those of OpenAI are."""
    are_objects = isinstance(value, list) and all(isinstance(each, Mapping) and "type" in each for each in value)
    return are_objects and any(each["type"] == "text" for each in value)


def other_parts(value: Any) -> int:
    """Return how many parts of the messages in a cell are no text, such as images."""
    if is_parts(value):
        return sum(_part(each) is None for each in value)
    if isinstance(value, Mapping):
        content = _content(value) if is_message(value) else value.get("messages")
        return other_parts(content) if isinstance(content, list) else 0
    return sum(map(other_parts, value)) if isinstance(value, list) else 0


def role_of(message: Mapping[str, Any]) -> str:
    """Return who says a message."""
    return str(message.get("role", message.get("from"))).lower()


def last_question(where: str, column: str, messages: Sequence[Any]) -> str:
    """Return the last question of a conversation.

    Raises:
        RowError: If nobody asks.
    """
    return _last(where, column, messages, ASKS, "question of a user")


def last_answer(where: str, column: str, messages: Sequence[Any]) -> str:
    """Return the last answer of a conversation; of one message alone what it says, whoever says it.

    Raises:
        RowError: If there is none.
    """
    spoken = [message for message in messages if role_of(message) != "system"]
    if len(spoken) == 1:
        return said(where, column, spoken[0])
    return _last(where, column, messages, ANSWERS, "answer of an assistant")


def _last(where: str, column: str, messages: Sequence[Any], roles: Sequence[str], what: str) -> str:
    for message in reversed(messages):
        if role_of(message) in roles:
            return said(where, column, message)
    raise RowError(f"{where}, column {column!r}", f"no {what.partition(' ')[0]}", f"no {what}")


def first_exchange(where: str, column: str, messages: Any) -> tuple[str, int | None, int]:
    """Return the first question of a conversation, the index of its answer, or None, and how many messages are left.

    An answer that is not to be learned from, as its ``weight`` or ``loss`` says, is passed over with its question; one
    that says nothing, as one that calls a tool does, is passed over alone.

    Raises:
        RowError: If it is no conversation, or nobody asks.
    """
    question = answer = passed = None
    messages = [] if messages is None else messages
    if not isinstance(messages, Sequence):
        raise RowError(f"{where}, column {column!r}", "not text", f"expected messages, found {excerpt(messages)}")
    for index, message in enumerate(messages):
        if not is_message(message):
            where = f"{where}, column {column!r}"
            raise RowError(where, "not text", f"expected messages, found {excerpt(message)}")
        if question is None and role_of(message) in ASKS:
            question = said(where, column, message)
        elif question is not None and role_of(message) in ANSWERS:
            if any(key in message for key in _CALLS) and is_blank(message.get("content")):
                continue
            if not any(message.get(key) == 0 for key in _LEARNED):
                answer = index
                break
            question, passed = None, question
    question = passed if question is None else question
    if question is None:
        raise RowError(f"{where}, column {column!r}", "no question", "no question of a user")
    return question, answer, len(messages) - 1 - (answer is not None)
