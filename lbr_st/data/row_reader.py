"""Reads the rows of a source: a record for each document that answers its query, whichever columns these are in."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lbr_st.data import names
from lbr_st.data.account import Account
from lbr_st.data.answers import Answers
from lbr_st.data.choices import Choice, Numbers, choice_of
from lbr_st.data.column_texts import documents_in, lifted
from lbr_st.data.columns import Columns, Sides, Source
from lbr_st.data.row_judgements import RowJudgements
from lbr_st.data.row_refusals import Refusals, check_no_nli
from lbr_st.data.templates import Values, excerpt
from lbr_st.data.texts import (
    ASKS,
    QUESTION_AND_ANSWER,
    TEXT,
    cell_text,
    first_exchange,
    is_blank,
    is_conversation,
    is_instructed,
    marked_turns,
    other_parts,
    role_of,
    said,
    text_of,
    texts_of,
    unfolded,
    without_instruction,
)
from lbr_st.data.trials import Trials
from lbr_st.errors import InputError, RowError
from lbr_st.records import Record

ONE_SIDED_TITLE = "with a title before the document and none before its hard negatives"
TURNS = "of turns of a chat that are one text, read as a question and its answer"
ONE_TEXT = "that begin with a question and go on with its answer, which stay one text: two columns make a pair of them"
OTHER_PARTS = "parts of messages that are no text, such as images, were not used"


class RowReader:
    """Reads the rows of one source, and keeps account of the columns that it uses.

    How a row is read, is decided by the columns it has: they need not be the same in all rows.

    Args:
        columns: What the user says.
        needed: ``document``, and ``query`` where there must be one.
        optional: ``query`` and ``negatives`` where they are read if they are there.
        is_trial: Whether columns are tried on a row: nothing is said of what else there is.
        is_prepared: Whether rows are of a prepared set, whose texts are texts, also where they look like values that
            are written out.

    Attributes:
        ahead: Returns some of the rows that come next, which say more of a column than one row does.
    """

    def __init__(
        self,
        columns: Columns,
        needed: Sequence[str],
        optional: Sequence[str] = (),
        is_trial: bool = False,
        is_prepared: bool = False,
    ) -> None:
        self.columns, self.needed, self.wanted, self._is_trial = columns, needed, {*needed, *optional}, is_trial
        self.account = Account()
        self.ahead: Callable[[], Sequence[Values]] = tuple
        self._numbers = Numbers(columns.first_option)
        self._instructions: set[str] | None = set()  # before texts; None where one came again, as these do
        self._instructed = ""  # their column
        self._is_prepared = is_prepared
        self._together = Answers(may_be_letters=columns.document is not None)
        said_by_user = [columns.query, columns.document, *columns.negatives]
        said_by_user += columns.choices if isinstance(columns.choices, tuple) else ()
        self._templates = [template for template in said_by_user if template and re.search(r"[\[.]", template.text)]
        self._readers: dict[tuple[str, ...], Callable[[str, Values], list[Record]]] = {}
        self._trials = Trials(columns, needed, self.wanted, self._trial)
        self._judgements = RowJudgements(columns, self.account, self._trials, is_trial)
        text = text_of if is_prepared else cell_text
        self._sides = Sides(columns, self.wanted, text, self._trials.fits_templates)
        self._refusals = Refusals(self._trials, self._sides, lambda: self.ahead(), is_trial)

    def __call__(self, where: str, values: Values) -> list[Record]:
        """Return what is in a row: a record for each document that answers its query, or is judged not to.

        Args:
            where: Source and line, for messages.
            values: The row.

        Returns:
            Records with ``document``, ``query`` and ``negatives`` (a list), those of them that are wanted and there;
            ``relevance`` where it is not 1, which is 0 for a document that does not answer; and ``is_choice`` for
            multiple choice.

        Raises:
            RowError: If a column is missing, or a value is blank or of another kind.
            InputError: If a column has grades, and nothing says which of them are answers.
        """
        values = self._opened(lifted(values))
        several = self._several(values)
        is_chat = any(map(is_conversation, values.values()))
        untitled = next((name for name in values if names.is_title(name) and is_blank(values[name])), "")
        kind = (*values, several or "", str(is_chat), untitled)  # a blank title does not say whose it is
        if kind not in self._readers:
            self.account.see(values)
            self._readers[kind] = (
                self._several_reader(where, values, several) if several else self._reader(where, values)
            )
        records = self._readers[kind](where, values)
        if self._templates:
            self._count_elements(values)
        answers = sum(record.get("relevance") != 0 for record in records)
        if answers:
            self.account.count("pair" if "query" in records[0] else "document", answers)
        if "query" in records[0] and not (self._is_prepared or self._is_trial):
            self._together(records)
        return records

    def _count_elements(self, values: Values) -> None:
        """Note of the lists that templates take elements of, how many these are."""
        taken: dict[tuple[str, int], set[int]] = {}
        for template in self._templates:
            for path, there, index in template.elements_in(values):
                taken.setdefault((path, there), set()).add(index)
        for (path, there), used in taken.items():
            self.account.use_elements(path, len(used), there)

    def value(self, values: Values, column: str) -> Any:
        """Return what is in a column that is used beside texts, such as an id; None where there is none."""
        if column in values:
            self.account.use([column])
        return values.get(column)

    def say(self, source: object) -> None:
        """Say what was made of the source, after its last row.

        Raises:
            InputError: If a column looks like judgements, and nothing says whether it has any; if none is in the
                one that the user names; or if numbers of options may count from 1.
        """
        pairs = self.account.counts["pair"]
        self._numbers.check(source)
        self._together.check(source, pairs, self.account)
        self._check_instructions(source)
        self._judgements.check(source, pairs)
        self.account.say(source)

    def _check_instructions(self, source: object) -> None:
        """Refuse what was read as instructions before texts, of which none came again.

        Raises:
            InputError: If it is such.
        """
        if self._instructions and len(self._instructions) > 1:
            raise InputError(
                f"{source}: {self._instructed!r} has lists of two texts, and the first of them is another one in every "
                "row, so that it is no instruction: call the column 'queries' if both ask for the document of the row, "
                "else write one text"
            )

    def _opened(self, values: Values) -> Values:
        """Return a row in which a chat is messages, also where it is one text, or a list of what is said in turns."""
        columns = self.columns
        if columns.query or columns.document or self._is_prepared or names.first(values, names.QUERY) is not None:
            return values
        talk = names.first(values, names.CONVERSATION[:-1])
        if talk is not None:
            turns = values[talk]
            is_list = isinstance(turns, list) and len(turns) > 1 and all(isinstance(each, str) for each in turns)
            return values if not is_list else {**values, talk: [
                {"role": "assistant" if number % 2 else "user", "content": each} for number, each in enumerate(turns)
            ]}  # fmt: skip
        texts = names.several(values, names.DOCUMENT)
        text = values[texts[0]] if len(texts) == 1 and not names.is_preference(texts[0]) else None
        if not isinstance(text, str):
            return values
        # Of a document alone nothing is parted.
        messages = marked_turns(text) if "query" in self.wanted else None
        if messages and not is_blank(messages[-1]["content"]):
            self.account.note(TURNS)
            return {**values, texts[0]: messages}
        self.account.note(ONE_TEXT, QUESTION_AND_ANSWER.match(text) is not None)
        return values

    def _several(self, values: Values) -> str | None:
        """Return the column with several queries of the row's document; None where there is none."""
        if self.columns.query is not None or "query" not in self.wanted:
            return None
        one = names.first(values, names.QUERY)
        column = names.queries(values) if one is None else one
        if column is None or (one is None and names.first(values, names.CONVERSATION) is not None):
            return None
        several = values[column]
        if isinstance(several, str):
            return column if one is None and not is_blank(several) else None
        are_texts = isinstance(several, list) and all(isinstance(each, str) for each in _flat(several))
        least = 1 if one is None else 3
        return column if are_texts and len(several) >= least and not all(map(is_blank, _flat(several))) else None

    def _several_reader(self, where: str, values: Values, column: str) -> Callable[[str, Values], list[Record]]:
        """Return what reads several queries of one document, each a pair with it."""

        def each_of(where: str, values: Values) -> list[Values]:
            found = [each for each in _flat(texts_of(where, column, values[column])) if not is_blank(each)]
            texts = [text_of(where, column, each) for each in found or [""]]
            return [{**values, column: text} for text in dict.fromkeys(texts)]

        read = self._reader(where, each_of(where, values)[0])
        asked = self.columns.document.columns_in(values) if self.columns.document else []

        def read_each(where: str, values: Values) -> list[Record]:
            rows = each_of(where, values)
            records = [read(where, row) for row in rows]
            is_parallel = any(isinstance(values[each], list) and len(values[each]) == len(rows) for each in asked)
            if len(rows) > 1 and (is_parallel or len({record["document"] for record in records[0]}) > 1):
                detail = (
                    "several queries and several documents, and nothing says which are a pair: write a row for each"
                )
                raise RowError(f"{where}, column {column!r}", "missing column", detail)
            return [record for found in records for record in found]

        return read_each

    def _reader(self, where: str, values: Values) -> Callable[[str, Values], list[Record]]:
        """Return what reads rows with the columns of one."""
        asked = names.first(values, names.QUERY)
        if self.columns.query is None and asked is not None and is_instructed(values[asked]):
            return self._instructed_reader(where, values, asked)
        query, negatives = self._sides.query(values), self._sides.negatives(values)
        read = self._reader_of_a_kind(where, values, query, negatives)
        return self._plain_reader(where, values, query, negatives) if read is None else read

    def _plain_reader(
        self, where: str, values: Values, query: Source | None, negatives: Source
    ) -> Callable[[str, Values], list[Record]]:
        """Return what reads a query and documents that are texts."""
        documents = self._sides.documents(where, values)
        self._refusals.check_sides(where, values, query, documents, negatives)
        assert documents is not None
        title = self._sides.title_column(values, documents) if query is not None else ""
        if title:
            negatives = self._sides.negatives(values, are_titled=True)
        if query is None:
            negatives = Source((), lambda where, values: [])
        used = [*(query.columns if query else []), *documents.columns]
        used += negatives.columns
        judgements = self._judgements.columns_in(values, used)
        unused = self._judgements.watched_in(values, used)
        self.account.use(used)
        for column in judgements:
            check_no_nli(where, used, column, values[column])
        if query is not None and judgements:
            self._refusals.check_no_option(where, values, documents, used)
        may_judge = self._judgements.may_be_documents(values, documents.columns, used)
        are_bare = title != "" and all(_is_bare(column, values[column]) for column in negatives.columns)
        is_listed = self.columns.document is None and names.first(documents.columns, names.LISTED) is not None

        def read_row(where: str, values: Values) -> list[Record]:
            question = query.read(where, values) if query else None
            texts, others = documents.read(where, values), negatives.read(where, values)
            self._judgements.name_in_objects(negatives.columns, values)
            self.account.note(OTHER_PARTS, sum(other_parts(values[each]) for each in used if each in values))
            if are_bare and others and not is_blank(values[title]):
                self.account.note(ONE_SIDED_TITLE)
            if may_judge:
                self._judgements.watch_documents(documents.columns, values)
            if question and not judgements:
                if inside := self._judgements.of_documents(where, values, documents.columns, len(texts)):
                    return self._records(where, inside, question, texts, others, list(inside))
            return self._records(where, values, question, texts, others, judgements, is_listed, unused)

        return read_row

    def _reader_of_a_kind(
        self, where: str, values: Values, query: Source | None, negatives: Source
    ) -> Callable[[str, Values], list[Record]] | None:
        """Return what reads multiple choice, conversations or lists of passages; None for rows of another kind."""
        columns = self.columns
        if columns.document is None and (query or names.first(values, names.QUERY)):
            choice = choice_of(where, values, columns.choices, columns.answer, self._numbers)
            if choice is not None:
                return self._choice_reader(where, values, query, choice)
            self._refusals.check_answer(where, values)
        conversation = names.first(values, names.CONVERSATION)
        if conversation is None and query is None:
            chats = (each for each in names.several(values, names.DOCUMENT) if is_conversation(values[each]))
            asking = (each for each in chats if any(role_of(message) in ASKS for message in values[each]))
            conversation = next(asking, None)
        if conversation and columns.query is columns.document is None and isinstance(values[conversation], list):
            return self._conversation_reader(conversation, negatives, values)
        listed = names.first(values, names.LISTED) or _listed_in_reply(values)
        if listed and columns.document is None and (query or "query" not in self.wanted):
            if names.judgements(unfolded(values[listed])):
                return self._listed_reader(listed, query, negatives)
        return None

    def _instructed_reader(self, where: str, values: Values, asked: str) -> Callable[[str, Values], list[Record]]:
        """Return what reads queries and documents that each have an instruction before them, without these."""
        pairs = [asked, *names.several(values, names.DOCUMENT), *names.negatives(values)]

        def bare(values: Values) -> Values:
            return {**values, **{column: without_instruction(values[column]) for column in pairs}}

        read = self._reader(where, bare(values))

        def read_bare(where: str, values: Values) -> list[Record]:
            found = read(where, bare(values))
            self.account.note("with instructions before the texts, which were not used", is_instructed(values[asked]))
            if self._instructions is not None and is_instructed(values[asked]):
                self._instructed, own = asked, values[asked][0]
                if own in self._instructions:
                    self._instructions = None
                else:
                    self._instructions.add(own)
            return found

        return read_bare

    def _choice_reader(
        self, where: str, values: Values, query: Source | None, choice: Choice
    ) -> Callable[[str, Values], list[Record]]:
        if query is None and "query" in self.needed:
            raise self._refusals.missing(where, values, ["query"], None)
        self.account.use([*(query.columns if query else []), *choice.columns_in(values)])

        def read(where: str, values: Values) -> list[Record]:
            right, others = choice(where, values)
            record = self._record(query.read(where, values) if query else None, right, others)
            return [record | {"is_choice": True}]

        return read

    def _conversation_reader(
        self, column: str, negatives: Source, values: Values
    ) -> Callable[[str, Values], list[Record]]:
        """Return what reads the first question of a conversation, with its answer or with documents beside it."""
        beside = names.several(values, ("positive", "chosen"))
        judgements, used = self._judgements.columns_in(values, beside), [column, *beside, *negatives.columns]
        unused = self._judgements.watched_in(values, used)
        self.account.use(used)

        def read(where: str, values: Values) -> list[Record]:
            question, answer, left = first_exchange(where, column, values[column])
            if not beside and answer is None:
                detail = "no question of a user with an answer to be learned from"
                raise RowError(f"{where}, column {column!r}", "no answer", detail)
            self.account.note("messages of conversations were not used", left + bool(beside and answer))
            self.account.note(OTHER_PARTS, sum(other_parts(values[each]) for each in (column, *beside)))
            others = negatives.read(where, values)
            if beside or answer is None:
                documents = documents_in(beside, where, values)
                return self._records(where, values, question, documents, others, judgements, unused=unused)
            message = values[column][answer]
            documents = [said(where, column, message)]
            if not judgements and (inside := self._judgements.of_message(message)):
                return self._records(where, message, question, documents, others, inside)
            records = self._records(where, values, question, documents, others, judgements, unused=unused)
            self._judgements.watch_object(f"{column}[{answer}]", message)
            return records

        return read

    def _listed_reader(
        self, column: str, query: Source | None, negatives: Source
    ) -> Callable[[str, Values], list[Record]]:
        """Return what reads a list of passages that each say whether they answer, as those of MS MARCO do."""
        self.account.use([*(query.columns if query else []), column, *negatives.columns])

        def read(where: str, values: Values) -> list[Record]:
            of_each, place = unfolded(values[column]), f"{where}, column {column!r}"
            documents = [text_of(where, column, text) for text in of_each.get(names.first(of_each, TEXT) or "", [])]
            if not documents:
                raise RowError(place, "no documents", f"expected passages, found {excerpt(values[column])}")
            question = query.read(where, values) if query else None
            others, judgements = negatives.read(where, values), names.judgements(of_each)
            return self._records(place, of_each, question, documents, others, judgements, needs_grades=True)

        return read

    def _records(
        self,
        where: str,
        values: Values,
        query: str | None,
        documents: Sequence[Any],
        negatives: Sequence[str],
        judgements: Sequence[str],
        needs_grades: bool = False,
        unused: Sequence[str] = (),
    ) -> list[Record]:
        grades = (
            self._judgements.grades(where, values, judgements, len(documents), unused, needs_grades) if query else None
        )
        if grades is None:
            return [self._record(query, document, negatives) for document in documents]
        return [
            self._record(query, document, negatives) | ({} if grade == 1 else {"relevance": grade})
            for document, grade in zip(documents, grades, strict=True)
        ]

    def _record(self, query: str | None, document: str, negatives: Sequence[str]) -> Record:
        record: Record = {"document": document}
        if query and "query" in self.wanted:
            record = {"query": query, "document": document}
        return record | {"negatives": list(negatives)} if "negatives" in self.wanted else record

    def _trial(self, columns: Columns, needed: Sequence[str]) -> RowReader:
        return RowReader(columns, needed, tuple(self.wanted), is_trial=True)


def _flat(several: Sequence[Any]) -> list[Any]:
    """Return a list in which lists are not nested."""
    return [inner for each in several for inner in (each if isinstance(each, list) else [each])]


def _is_bare(column: str, value: Any) -> bool:
    """Tell whether hard negatives are texts without a title: no title is among their columns, nor in them."""
    texts = value if isinstance(value, list) else [value]
    return not names.plain(column).endswith("title") and not any(isinstance(text, Mapping) for text in texts)


def _listed_in_reply(values: Values) -> str | None:
    """Return the column of objects with a text that were said in reply, where a row has no other document; or None."""
    listed = names.first(values, names.LISTED_IN_REPLY)
    if listed is None or names.first(values, names.DOCUMENT) is not None:
        return None
    return listed if names.first(unfolded(values[listed]), TEXT) is not None else None
