"""The names that columns usually go by: in capitals or not, with_underscores, with-dashes or inCamelCase."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

# In the order they are looked for.
QUERY = ("query", "question", "anchor", "instruction", "prompt")
TITLE = ("title", "doc_title", "document_title", "passage_title", "article_title", "page_title", "headline")
DOCUMENT = (
    "document", "positive", "answer", "passage", "output", "response", "completion", "chosen", "text", "content", "pos",
)  # fmt: skip
# Lists of documents, of which a list beside them says which ones answer.
LISTED = ("documents", "docs", "passages", "candidates")
CONVERSATION = ("messages", "conversations", "conversation")
CHOICES = ("choices", "options")
# Ids of a row, of its document alone, of its query alone.
ROW_ID = ("id",)
DOCUMENT_ID = ("docid", "docno", "pid", "passage_id", "document_id", "corpus-id", "uid", "uuid")
QUERY_ID = ("qid", "query_id", "question_id")
CHOICE_ANSWERS = ("answer_idx", "answerkey", "answer_index", "correct_idx", "label", "answer")

_NOUN = "(passage|ctx|context|document|doc|text|sentence|response|answer|completion|message|sample|example)"
# One side under several names, numbered or not: positive_passages, pos_1, hard_negative_ctxs, rejected_response.
_FAMILIES = {
    "positive": re.compile(rf"(positive(s|{_NOUN}s?)?|pos{_NOUN}s?|relevant{_NOUN}s?)\d*"),
    "chosen": re.compile(r"chosen(response|answer|message)?s?"),
    "pos": re.compile(r"pos\d*"),
}
_NEGATIVES = re.compile(
    rf"(hard|random|bm25|mined)*(neg|negative|rejected|distractor)(s|{_NOUN}s?)?\d*"
    rf"|(irrelevant|nonrelevant|incorrect|wrong){_NOUN}s?\d*"
)
# What says whether a document answers its query. The first of them that a row has is taken.
_JUDGED = (
    "relevan", "judg", "duplicate", "match", "selected", "correct", "label", "target", "sim", "score", "rating",
    "grade",
)  # fmt: skip
_JUDGEMENT = re.compile(
    r"(is|are|gold|human|manual|expert|query|document|doc|passage|pair|answer|binary|esci|true|final|ce|crossencoder|"
    r"rerank(er|ing)?|bm25|teacher|model|llm|cos|cosine|semantic|text|sentence|retrieval|search|match(ing)?)*"
    r"(relevan(ce|cy|t)|relat(ed|edness)|similar(ity)?|sim|label|score|judge?ment|rating|grade|target|duplicate|match|"
    r"selected|correct)(score|label|grade|rating|judge?ment)?s?"
    r"|is(positive|answer|gold|entailed)|(is)?answerable|hasanswer"
)
_DENIAL = re.compile(r"(is|are)?(irrelevant|nonrelevant|notrelevant)|is(hard)?(negative|impossible|unanswerable|neg)")


@lru_cache(maxsize=4096)
def plain(name: str) -> str:
    """Return a name without capitals, spaces and marks: ``hardneg`` of ``hard_neg`` and of ``hardNeg``."""
    return re.sub(r"[\W_]", "", name).lower()


def first(columns: Iterable[str], names: Sequence[str]) -> str | None:
    """Return the column that has the first of some names, or None."""
    return next(iter(several(columns, names)), None)


def several(columns: Iterable[str], names: Sequence[str]) -> list[str]:
    """Return the columns that have the first of some names that there is: one, or the whole family of the name."""
    columns = list(columns)
    for name in names:
        family = _FAMILIES.get(name)
        if family is None:
            found = [column for column in columns if plain(column) == plain(name)][:1]
        else:
            found = _in_order(column for column in columns if family.fullmatch(plain(column)))
        if found:
            return found
    return []


def every(columns: Iterable[str], names: Sequence[str]) -> list[str]:
    """Return the columns that have one of some names, in the order of the names."""
    columns = list(columns)
    return [column for name in names for column in columns if plain(column) == plain(name)]


def negatives(columns: Iterable[str]) -> list[str]:
    """Return the columns of hard negatives, in the order of their numbers."""
    return _in_order(column for column in columns if _NEGATIVES.fullmatch(plain(column)))


def _in_order(columns: Iterable[str]) -> list[str]:
    return sorted(columns, key=lambda name: int((re.findall(r"\d+$", name) or [0])[0]))


def judgements(columns: Iterable[str]) -> list[str]:
    """Return the columns that by their names say whether a document answers its query; the likeliest first."""
    found = [column for column in columns if _JUDGEMENT.fullmatch(plain(column)) or denies(column)]
    return sorted(found, key=lambda column: next(n for n, part in enumerate((*_JUDGED, "")) if part in plain(column)))


def denies(column: str) -> bool:
    """Tell whether a column says of what is true that it is no answer: ``is_irrelevant``."""
    return bool(_DENIAL.fullmatch(plain(column)))


def can_only_judge(column: str) -> bool:
    """Tell whether a column of judgements can be nothing else: a ``label`` may be a topic."""
    return plain(column).rstrip("s") not in ("label", "target", "rating", "grade", "match", "correct")


def is_list(column: str) -> bool:
    """Tell by its name whether a column holds several texts: ``negatives``, ``pos``."""
    name = plain(column).rstrip("0123456789")
    return name.endswith(("s", "neg"))
