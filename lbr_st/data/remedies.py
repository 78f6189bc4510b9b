"""What to type where the columns of a row are not found: only flags that were tried on the row, and no guess."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any, Protocol

from lbr_st.data import names
from lbr_st.data.ids import id_text
from lbr_st.data.templates import MOST_STEPS, Template, Values, field_of
from lbr_st.data.texts import is_value_of_python
from lbr_st.errors import InputError

# What is no name of a column: a number, an address, a sentence.
_DATA = re.compile(r"-?[\d.]+|https?://.*|.*[^\W\d]\S*(\s+\S+){3,}", re.DOTALL)
_SENTENCE = re.compile(r"(?!https?:)[^\W\d]\S*(\s+\S+){2,}", re.DOTALL)
_NO_TEXT = re.compile(
    r".*(url|uri|date|lang|language|source|type|authors?|name|user|role|model|category|topic|tags?|time|version|count|number|hash|format)"
    r"|.*status|.*decision|.*index|section|chapter|split|from|license|subject|domain|domains|method|endpoint|event|object|kind|state|(finish|stop)reason|.*(asin|sku|isbn|gtin|barcode)"
)
# Lists of what may be a document, beside which no other text is taken for it.
_DOCUMENTS = re.compile(r"(?i:.*(answer|repl|comment|response|passage|paragraph|document|context|candidate|result).*)")
# Lists of what a model answered, of which there is one unless more were asked for, as services write them.
_ANSWERED = ("choices", "candidates", "generations", "output", "outputs", "content", "parts")
_WORDS = re.compile(r"\s|\?|[^\x00-\x7f]")
_OF_SENTENCES = (
    "abstract",
    "sentences",
    "lines",
    "body",
    "description",
    "features",
    "bulletpoints",
)  # lists of parts of one text
_NAME = re.compile(r"(product|item|drug|compound|entity|concept|dish|recipe|company|place)?name")
# A value that is an id, whatever its column is called.
_ID_VALUE = re.compile(r"\s*([0-9a-fA-F]{8}-([0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}|(?=\S*\d)[0-9a-f]{16,})\s*")
_CODED = re.compile(r"\w+([._:/]\w+)+")  # a word of a program, such as chat.completion
_ACTIONS = ("index", "create", "update", "delete")
_LEAST_OPTIONS = 3
MOST_NAMED = 30  # columns in a message
_LEAST_OTHERS = 2  # rows that say the same
# What two numbered columns are called that are options; two of another name may be a pair.
_OPTION = re.compile(
    r"(sol|opt|ans|alt|hyp|solution|option|choice|ending|answer|alternative|response|candidate|completion|"
    r"continuation|hypothesis|output|document|doc|passage)(\d+|[ab])"
)
_TEMPLATES = "lbr data prepare takes templates"


class Tried(Protocol):
    """Tells whether a row makes a pair, or a document, where some of `Columns` are other ones."""

    def __call__(self, **changes: Any) -> bool:
        """Try it."""


def remedy(sides: Sequence[Sequence[str]], values: Values, tried: Tried, others: Sequence[Values] = ()) -> str:
    """Say what to do about a row without a column for the query, the document or both.

    Where several columns might be meant, none is taken: the user is told which ones there are.

    Args:
        sides: What templates may be said for: ``query``, ``document`` or both; the best first.
        values: The columns where they are looked for.
        tried: Tries templates, or options, on the row.
        others: Other rows of the source: a text that all of them have is neither a query nor a document.
    """
    columns = list(map(str, values))
    if any(_DATA.fullmatch(column.strip()) for column in columns):
        return "if the first line is data, put one above it that names the columns; else " + _TEMPLATES
    texts = texts_of_row(values)
    if len(running(texts)) < len(sides[0]):  # a source and its target may be texts, whatever they are called
        texts = texts_of_row(values, are_sentences=True)
    differing = _that_differ(texts, others)
    texts = differing if len(running(differing)) >= len(sides[0]) else texts  # else the rows are of one query
    many = {name for kind in names.siblings(values) if len(kind) >= _LEAST_OPTIONS for name in kind}
    is_asked = any("query" in asked for asked in sides)
    of_options = {name for kind in names.siblings(values) if _are_options(kind) for name in kind}
    beside = running({path: text for path, text in texts.items() if path not in of_options}, 1)
    query = _templates(["query"], values, beside) if is_asked else {}
    # Options that are found by their names lack no document.
    if query and names.first(values, names.CHOICES) and tried(**{side: Template(each) for side, each in query.items()}):
        return f"{_TEMPLATES}: --query '{query['query']}'"
    if said := _of_an_export(values):
        return said
    if flags := options(values, tried, query) or _listed_options(values, tried, query):
        return f"lbr data prepare takes {flags}"
    found = []
    for asked in sides:
        templates = _templates(asked, values, running(texts, len(asked)))
        if "query" not in asked and templates and (name := _name_beside(templates["document"], values)):
            templates = {"document": f"{{{name}}} {templates['document']}"}
        if templates and tried(**{name: Template(template) for name, template in templates.items()}):
            found.append(" ".join(f"--{name} '{template}'" for name, template in templates.items()))
    documents = {str(name): value for name, value in values.items() if _DOCUMENTS.fullmatch(str(name))}
    are_several = any(
        isinstance(value, list)
        or _is_written(value)
        # Of an object with lists and a text beside them, or in another column of a document, the text is meant.
        or (any(_lists_in(name, name, value)) and not any(f"{{{each}" in said for each in documents for said in found))
        for name, value in documents.items()
    )
    if found and not are_several and many.isdisjoint(texts):
        return f"{_TEMPLATES}: {', or for documents alone '.join(found)}"
    return _what_there_is(sides, values, texts, tried)


def _that_differ(texts: dict[str, str], others: Sequence[Values]) -> dict[str, str]:
    """Return the texts of a row without those that all other rows have too."""
    if len(others) < _LEAST_OTHERS:
        return texts
    return {path: text for path, text in texts.items() if any(field_of(other, path) != text for other in others)}


def _of_an_export(values: Values) -> str:
    """Say what to do about a row that is a part of what a program exports; "" for others."""
    if tree := next((column for column, value in values.items() if _is_tree(value)), None):
        return (
            f"{tree!r} is a tree of messages, as ChatGPT exports a conversation: write the messages of one branch as "
            "a list 'messages' of objects with 'role' and 'content'"
        )
    if len(values) == 1 and {*values} <= {*_ACTIONS} and all(isinstance(value, Mapping) for value in values.values()):
        return (
            f"{next(iter(values))!r} is an action of Elasticsearch's bulk format: write one object a line for each "
            "document, with its '_id' in it"
        )
    return ""


def _is_tree(value: Any) -> bool:
    """Tell whether a value is a conversation whose messages are by their ids, each with those that follow it."""
    nodes = list(value.values()) if isinstance(value, Mapping) else []
    return bool(nodes) and all(isinstance(node, Mapping) and "message" in node for node in nodes)


def _name_beside(document: str, values: Values) -> str | None:
    """Return the column of the name of what a document describes, as of a product; None where its title says it."""
    column = next((each for each in values if _NAME.fullmatch(names.plain(str(each)))), None)
    is_text = column is not None and isinstance(values[column], str) and re.search(r"[^\W\d]", values[column])
    has_title = any(map(_is_title, re.findall(r"\{([^{}]+)\}", document)))
    return column if is_text and not has_title and _can_be_spelled([str(column)]) else None


def _what_there_is(sides: Sequence[Sequence[str]], values: Values, texts: Mapping[str, str], tried: Tried) -> str:
    """Say where texts are, where nobody but the user knows which of them are meant."""
    lists = [path for column, value in values.items() for path in _lists_in(str(column), str(column), value)]
    asked = sides[0] if len(sides[0]) <= len(texts) or lists else sides[-1]
    possible = running(texts, len(asked))
    if len(asked) == 1:
        possible = [path for path in possible if tried(**{asked[0]: Template(f"{{{path}}}")})]
    if written := [column for column, value in values.items() if _is_written(value)]:
        lists_of = f"{some_of(written)} has a list that is written out"
        return f"{lists_of}: if it is of documents, call the column 'positives', and each is one"
    if len(possible) < len(asked) and not lists:
        return "and no other column has a text that could be it"
    said = [f"{_TEMPLATES}, {' and '.join(f'--{side}' for side in asked)}"]
    if possible:
        said.append(f"texts are in {some_of(f'{{{path}}}' for path in possible)}")
    if lists:
        said.append(f"{', '.join(lists)} may have several, of which a template takes one")
    if sentences := [path for path in lists if names.plain(path) in _OF_SENTENCES]:
        said.append(f"where {sentences[0]} has the sentences of one text, join them first")
    return "; ".join(said)


def options(values: Values, tried: Tried, query: Mapping[str, str]) -> str | None:
    """Return the flags of a multiple-choice question whose options are in columns of their own, or None.

    Args:
        values: The row.
        tried: Tries them on it.
        query: Template of the query, by this name, where one is needed.
    """
    asked = {name: Template(template) for name, template in query.items()}
    for kind in names.siblings(column for column in values if not names.negatives([column])):
        if not _are_options(kind) or not _can_be_spelled(kind):
            continue
        templates = tuple(Template(f"{{{column}}}") for column in kind)
        for answer in names.every(values, names.OPTION_ANSWERS):
            # With one too high for a count from 0 it is tried as one from 1.
            firsts = [first for first in (None, 1) if answer not in kind]
            if any(tried(choices=templates, answer=answer, first_option=first, **asked) for first in firsts):
                flags = [*(f"--query '{template}'" for template in query.values()), "--choices", shlex.join(kind)]
                return f"{' '.join(flags)} --answer {shlex.quote(answer)}{_first_option(kind, values[answer])}"
    return None


def _are_options(kind: Sequence[str]) -> bool:
    return len(kind) >= _LEAST_OPTIONS or all(_OPTION.fullmatch(names.plain(column)) for column in kind)


def _first_option(kind: Sequence[str], answer: Any) -> str:
    """Say what a number may count from, where the names of the options do, or it is one too high for the other."""
    number = id_text(answer) or ""
    if not number.isdecimal() or number == "0" or not (kind[0].endswith("1") or number == str(len(kind))):
        return ""
    return ", with --first-option 1 if it counts from 1"


def _listed_options(values: Values, tried: Tried, query: Mapping[str, str]) -> str | None:
    """Return the same of one whose options are a list under another name, and whose answer is a number; or None."""
    lists = [
        column
        for column, value in values.items()
        if isinstance(value, list) and len(value) > 1 and all(isinstance(text, str) for text in value)
        if not _is_other(str(column)) and _can_be_spelled([str(column)])
    ]
    asked = {name: Template(template) for name, template in query.items()}
    for answer in names.every(values, names.OPTION_ANSWERS):
        is_number = not isinstance(values[answer], list) and (id_text(values[answer]) or "").isdecimal()
        if len(lists) == 1 and is_number and tried(choices=lists[0], answer=answer, **asked):
            flags = [*(f"--query '{template}'" for template in query.values()), "--choices", shlex.quote(lists[0])]
            return f"{' '.join(flags)} --answer {shlex.quote(answer)}"
    return None


def texts_of_row(values: Values, are_sentences: bool = False) -> dict[str, str]:
    """Return the texts of a row that may be a query or a document, by their paths.

    None is in a list, which may hold several, but the two that are all of a row, and the one answer of a model; and
    none is a hard negative or a judgement.

    Args:
        values: The row.
        are_sentences: Whether a column is one too that is called otherwise, but has a text of several words.
    """
    if len(values) == 1:
        [(column, pair)] = values.items()
        if isinstance(pair, list) and len(pair) == 2 and all(isinstance(text, str) and text.strip() for text in pair):
            return {f"{column}[{number}]": text for number, text in enumerate(pair)}
    sentences = {
        column: value
        for column, value in values.items()
        if are_sentences and isinstance(value, str) and _SENTENCE.fullmatch(value)
        if not names.negatives([column]) and _can_be_spelled([column])
    }
    judgements = set(names.judgements(values))
    keys = {key for value in values.values() if isinstance(value, Mapping) for key in value}  # a text that names one
    found = {
        path: text
        for column, value in values.items()
        if column not in judgements
        for path, text in _texts_in(str(column), str(column), value)
        if _can_be_spelled([path]) and text not in keys
    }
    return sentences | found


def running(texts: Mapping[str, str], least: int = 0) -> list[str]:
    """Return the paths of titles, questions and texts of more than a word; of words, too, where those are too few."""
    found = [path for path, text in texts.items() if _WORDS.search(text)]
    words = [path for path, text in texts.items() if not _CODED.fullmatch(text.strip())]
    of_a_word = [*filter(_is_title, texts), *filter(names.asks, texts)]
    return [path for path in texts if path in (*found, *of_a_word)] if len(found) >= least else words


def _texts_in(path: str, name: str, value: Any, depth: int = 0) -> Iterator[tuple[str, str]]:
    # A source is a name, or what was indexed, as in a hit of Elasticsearch.
    is_object = isinstance(value, Mapping) and names.plain(name) == "source"
    if depth > MOST_STEPS or (_is_other(name) and not is_object):
        return
    if isinstance(value, str):
        if re.search(r"[^\W\d]", value) and not _ID_VALUE.fullmatch(value) and not _is_json(value):
            yield path, value  # a number in a CSV is text too
    elif isinstance(value, Mapping):
        for key, each in value.items():
            yield from _texts_in(f"{path}[{key}]", str(key), each, depth + 1)
    elif names.plain(name) in _ANSWERED and isinstance(value, list) and len(value) == 1 and type(value[0]) is dict:
        yield from _texts_in(f"{path}[0]", "", value[0], depth + 1)


def _is_written(value: Any) -> bool:
    """Tell whether a value is a list of texts that is written out."""
    return isinstance(value, str) and value.lstrip().startswith("[") and _is_json(value)


def _is_json(text: str) -> bool:
    """Tell whether a text is an object or a list that is written out, of JSON or as Python writes it."""
    try:
        return text.lstrip().startswith(("{", "[")) and isinstance(json.loads(text), dict | list)
    except (ValueError, RecursionError):
        return is_value_of_python(text)


def _is_other(name: str) -> bool:
    """Tell by its name whether a column is neither a query nor a document."""
    return bool(names.negatives([name]) or names.is_id(name) or _NO_TEXT.fullmatch(names.plain(name)))


def some_of(columns: Iterable[Any]) -> str:
    """Name columns for a message, and how many more there are."""
    named = [str(column) for column in columns]
    more = len(named) - MOST_NAMED
    return ", ".join(named[:MOST_NAMED]) + (f" and {more:,} more" if more > 0 else "")


def _lists_in(path: str, name: str, value: Any, depth: int = 0) -> Iterator[str]:
    """Yield the paths of lists of texts, or of objects, that may be several documents."""
    if depth > MOST_STEPS or _is_other(name):
        return
    if isinstance(value, list) and value and isinstance(value[0], str | Mapping | list):
        yield path
    elif isinstance(value, Mapping):
        for key, each in value.items():
            yield from _lists_in(f"{path}[{key}]", str(key), each, depth + 1)


def _templates(sides: Sequence[str], values: Values, texts: Sequence[str]) -> dict[str, str]:
    """Return the templates that alone can be meant; none where several can."""
    titles = list(filter(_is_title, texts))[:1]
    if len(texts) == 1 and names.first([_called(texts[0])], names.TITLE) is None:  # a title is all that is said of it
        titles = []
    asking = [path for path in texts if names.asks(path)]
    others = [path for path in texts if path not in (*titles, *asking)]
    # The title and the body of a question are one text, and two questions are two.
    if any(set(kind) & set(asking) for kind in names.siblings(values)):
        asking, others = [], [path for path in texts if path not in titles]
    if len(sides) == 1 and "query" in sides:
        found = [asking or titles] if asking or not others else [others] if len(others) == 1 and not titles else []
    elif len(sides) == 1:
        found = [[*titles, *others]] if len(others) == 1 else []
    elif asking:
        found = [asking, [*titles, *others]] if len(others) == 1 else []
    else:
        beside = titles or len({path.rpartition("[")[0] for path in others}) == 1  # and none within an object
        of_two = [*titles, *others] if titles and len(titles + others) == 2 else _pair_in(others) if beside else []
        found = [[path] for path in of_two]
    joined = (" ".join(f"{{{path}}}" for path in paths) for paths in found)
    return dict(zip(sides, joined, strict=True)) if found and all(found) else {}


def _pair_in(paths: Sequence[str]) -> Sequence[str]:
    """Return the query and the document of texts, by their names; none where these do not say, or say it of several.

    Two that are numbered are in their order.
    """
    if len(paths) == 2 and names.siblings(paths):
        return paths
    pairs = {pair for one, other in combinations(paths, 2) if (pair := names.pair_of(one, other))}
    return next(iter(pairs)) if len(pairs) == 1 else ()


def _is_title(path: str) -> bool:
    return names.is_title(_called(path))


def _called(path: str) -> str:
    """Return the last name in a path."""
    return path.rpartition("[")[2].rstrip("]")


def _can_be_spelled(paths: Sequence[str]) -> bool:
    try:
        return all(Template(f"{{{path}}}") for path in paths)
    except InputError:  # a name that no template can spell
        return False
