"""The names that columns usually go by: in capitals or not, with_underscores, with-dashes or inCamelCase."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

# In the order they are looked for.
QUERY = ("query", "question", "anchor", "instruction", "prompt")
TITLE = (
    "title", "doc_title", "document_title", "passage_title", "article_title", "page_title", "section_title",
    "chapter_title", "paper_title", "headline", "heading", "header",
)  # fmt: skip
# Titles of a document in rows that ask nothing; beside a question they may be of anything.
TITLE_OF_TEXT = (*TITLE, "name", "section", "chapter")
DOCUMENT = (
    "document", "positive", "answer", "passage", "output", "response", "completion", "chosen", "correct_answer", "text",
    "content", "pos", "page_content", "contents",
)  # fmt: skip
# Documents that are said in reply: there is a question to them, and a ``title`` may be that of the question.
ANSWER = ("answer", "output", "response", "completion", "chosen", "correct_answer")
# Lists of documents, of which a list beside them says which ones answer.
LISTED = ("documents", "docs", "passages", "candidates")
# The same where they are objects of which each says so, and there is no other document.
LISTED_IN_REPLY = ("answers", "replies", "comments", "responses", "results", "contexts", "ctxs")
# Objects of what is said of a row: a name in them is looked for where the row itself has none of its kind.
ABOUT = ("meta", "metadata", "extra", "extra_info", "info", "attributes", "properties", "payload")
CONVERSATION = ("messages", "conversations", "conversation", "contents")
CHOICES = ("choices", "options")
# Ids of a row, of its document alone, of its query alone.
ROW_ID = ("id",)
DOCUMENT_ID = (
    "pid", "passage_id", "docid", "docno", "document_id", "corpus-id", "chunk_id", "text_id", "paragraph_id",
    "article_id", "page_id", "paper_id", "uid", "uuid", "guid", "pmid", "pmcid", "doi", "arxiv_id", "sku", "asin",
    "isbn", "gtin",
)  # fmt: skip
QUERY_ID = ("qid", "query_id", "question_id")
CHOICE_ANSWERS = ("answer_idx", "answerkey", "answer_index", "correct_idx", "label", "answer")
# The same where options are in columns of their own; looked for where a remedy is.
OPTION_ANSWERS = (
    *CHOICE_ANSWERS, "cop", "correct_option", "correct_choice", "correct_answer", "correct", "right_answer", "ans",
    "key", "gold", "target",
)  # fmt: skip

_NOUN = "(passage|ctx|context|document|doc|text|sentence|response|answer|completion|message|output|sample|example)"
# One side under several names, numbered or not: positive_passages, pos_1, hard_negative_ctxs, rejected_response.
_FAMILIES = {
    "positive": re.compile(rf"(positive(s|{_NOUN}s?)?|pos{_NOUN}s?|relevant{_NOUN}s?)\d*"),
    # Of two responses, j is the better one in Stack Exchange's pairs.
    "chosen": re.compile(rf"(chosen|preferred|better|winning){_NOUN}?s?|responsej"),
    "correct_answer": re.compile(r"(correct|right|true|best|gold|golden|accepted|reference)answers?\d*"),
    "pos": re.compile(r"pos\d*"),
}
_NEGATIVES = re.compile(
    rf"(hard|random|bm25|mined)*(neg|negative|rejected|distractor)(s|{_NOUN}s?)?\d*"
    rf"|(irrelevant|nonrelevant|incorrect|wrong|bad|false){_NOUN}s?\d*"
    rf"|(nonpreferred|dispreferred|unpreferred|nonchosen|unchosen|worse|worst|losing)({_NOUN}s?)?\d*|responsek"
    r"|(hard)?contradictions?|hns?\d*|(hard|bm25|mined)ones?"
)
_PREFERENCE = re.compile(r"(chosen|rejected|preferred|nonpreferred|dispreferred|unpreferred).*")
_ASKS = re.compile(r".*(question|query|prompt|problem|instruction).*")
_ID = re.compile(r"(?i:(.*[^a-z0-9])?ids?)|.*[a-z](Id|ID)s?")
# Ids that rows share.
_SHARED = re.compile(
    r".*(user|author|owner|annotator|worker|task|batch|assignment|parent|group|session|thread|category|topic|class|label|dataset|source|model|"
    r"template|language|type|neg|next|previous|related|accepted).*"
)
# What says whether a document answers its query. The first of them that a row has is taken.
_JUDGED = (
    "relevan", "judg", "accepted", "duplicate", "match", "selected", "gold", "correct", "hasanswer", "label", "target",
    "helpful",
    "sim", "score", "rating", "grade", "rel", "vote",
)  # fmt: skip
# How the judgements of several people are made one.
_SUMMED = "median|mean|average|avg|majority|max|min|sum|total"
_JUDGEMENT = re.compile(
    r"(is|are|gold|human|manual|expert|query|document|doc|passage|pair|answer|binary|esci|true|final|ce|crossencoder|"
    r"rerank(er|ing)?|bm25|teacher|model|llm|cos|cosine|semantic|text|sentence|retrieval|search|match(ing)?|"
    rf"{_SUMMED}|weighted|norm(alized)?|crowd|worker|annotator|rater|editor|user|consensus|overall)*"
    r"(relevan(ce|cy|t)|relat(ed|edness)|similar(ity)?|sim|label|score|judge?ment|rating|grade|target|duplicate|match|"
    r"selected|correct(ness)?|accepted|helpful(ness)?|useful(ness)?|quality|votes?|clicks?|clicked)"
    rf"(score|label|grade|rating|judge?ment|{_SUMMED})?s?"
    r"|(up|down|net)votes?|q?rels?|gold"
    r"|is(positive|answer|gold|entailed|best(answer)?)|(is)?answerable|hasanswer"
)
_SCORE = re.compile(r".*(score|sim|similarity|rating|vote|click)s?")
_DENIAL = re.compile(
    r"(is|are)?(irrelevant|nonrelevant|notrelevant)|is(hard)?(negative|impossible|unanswerable|neg)"
    r"|(cos|cosine|l2|euclidean|vector|embedding|semantic)?distance"
)
# The same of what may be said for another reason, as that a text is toxic: where the user names it, or it is a flag.
_WRONG = re.compile(
    rf"(is|are|has|was|contains|{_NOUN})*"
    r"(spam(my)?|hallucinat(ed|ions?|ory)|toxic(ity)?|harmful(ness)?|unsafe|nsfw|offensive|abusive|hate(ful|speech)?|"
    r"wrong|incorrect|false|bad|errors?|erroneous|mistakes?|invalid|fail(ed|ure)?|reject(ed|ion)?|refus(ed|al)|neg|"
    r"negatives?|unrelated|mismatch(ed)?|unhelpful|useless|unsupported|unfaithful|ungrounded|offtopic|misleading|fake|"
    r"noisy?|garbage|junk|lowquality|broken|outdated|obsolete|deprecated|deleted|removed|hidden|flagged|reported|"
    r"excluded?|contradict(s|ed|ory|ions?)|unanswer(ed|able)|noanswer|disliked?|downvoted?|ignored?|discard(ed)?|"
    r"skip(ped)?|nonsense)"
    r"(label|flag|score|prob(ability)?|s)?"
)
# Pairs of names of which the first asks for the second.
_PAIRS = [
    (re.compile(asks), re.compile(answers))
    for asks, answers in (
        (r"(func)?(documentation|doc)string|docs?|comments?|intent|rewrittenintent|nl|utterance|commitmessage|message",
         r"(func|source)?code(string)?|snippet|cmd|command|bash|diff|patch|func(tion)?|sql"),
        (r"summary|highlights?|tldr|keywords?|keyphrases?|topic|abstract",
         r"(full|main)?(article|document|dialogue|story|report|text|body|transcript|paragraph)"),
        (r"claim|statement", r"evidence|rationale|context|proof"),
        (r"term|word|concept|entity|phrase|acronym", r"definition|gloss|description|meaning|explanation|expansion"),
        (r"symptoms?|complaint|problem|clue|front|setup|input|context|goal|description|task",
         r"diagnosis|treatment|solution|back|punchline|output|reply|steps|code|snippet"),
        (r"subject|subjectline", r"body|emailbody"),
        (r"source|src|original", r"target|tgt|translation|paraphrase|rewrite"),
        (r"premise", r"hypothesis"),
    )
]  # fmt: skip
# Several queries of one document, as doc2query and its like make them.
_QUERIES = re.compile(
    r"(predicted|generated|gen|synthetic|hypothetical|pseudo|doc2query|llm|example|search|user)*"
    r"(queries|questions|prompts|anchors)"
)
# The last name of a path, and no remark behind a name: ``meta[title]``, but not ``Answer [en]``.
_LAST = re.compile(r".*[\w\]]\[([A-Za-z_][\w-]*)\]")


@lru_cache(maxsize=4096)
def plain(name: str) -> str:
    """Return a name without capitals, spaces and marks: ``hardneg`` of ``hard_neg``, ``hardNeg``, ``meta[hardNeg]``."""
    name = last[1] if (last := _LAST.fullmatch(name)) else name
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


def is_title(column: str) -> bool:
    """Tell whether a column by its name has the title of something: ``product_title``, and not ``question_title``."""
    return first([column], TITLE) is not None or (plain(column).endswith("title") and not asks(column))


def has_texts(columns: Iterable[str]) -> bool:
    """Tell whether one of some names is the usual one of a query or a document."""
    return first(columns, (*QUERY, *DOCUMENT)) is not None


def every(columns: Iterable[str], names: Sequence[str]) -> list[str]:
    """Return the columns that have one of some names, in the order of the names."""
    columns = list(columns)
    return [column for name in names for column in columns if plain(column) == plain(name)]


def queries(columns: Iterable[str]) -> str | None:
    """Return the column that by its name has several queries of one document: ``predicted_queries``; or None."""
    return next((column for column in columns if _QUERIES.fullmatch(plain(column))), None)


def negatives(columns: Iterable[str]) -> list[str]:
    """Return the columns of hard negatives, in the order of their numbers."""
    return _in_order(column for column in columns if _NEGATIVES.fullmatch(plain(column)))


def title_beside(column: str, columns: Iterable[str]) -> str | None:
    """Return the column that by its name has the title of another: ``negative_title`` of ``negatives``; or None."""
    own = plain(column)
    return next((each for each in columns if plain(each) in (f"{own}title", f"{own.rstrip('s')}title")), None)


def _in_order(columns: Iterable[str]) -> list[str]:
    return sorted(columns, key=lambda name: int((re.findall(r"\d+$", name) or [0])[0]))


def judgements(columns: Iterable[str]) -> list[str]:
    """Return the columns that by their names say whether a document answers its query; the likeliest first."""
    found = [column for column in columns if _JUDGEMENT.fullmatch(plain(column)) or only_denies(column)]
    return sorted(found, key=lambda column: next(n for n, part in enumerate((*_JUDGED, "")) if part in plain(column)))


def denies(column: str) -> bool:
    """Tell whether a column says of what is true that it is no answer: ``is_irrelevant``, or ``spam``."""
    return only_denies(column) or any(each.fullmatch(plain(column)) for each in (_WRONG, _NEGATIVES))


def only_denies(column: str) -> bool:
    """Tell whether a column says so, and can say nothing else: ``is_irrelevant``."""
    return bool(_DENIAL.fullmatch(plain(column)))


def is_score(column: str) -> bool:
    """Tell whether a column of judgements has by its name how near a document was found, and not whether it answers."""
    return bool(_SCORE.fullmatch(plain(column)))


def is_flag(column: str) -> bool:
    """Tell whether a column by its name says yes or no: ``is_best_answer``."""
    return plain(column).startswith(("is", "has"))


def is_family(column: str) -> bool:
    """Tell whether a column by its name has documents that answer, of which there may be several: ``positives``."""
    return any(family.fullmatch(plain(column)) for family in _FAMILIES.values())


def is_pair(column: str, other: str) -> bool:
    """Tell whether a column by its name has the other text of a pair: ``text_pair`` beside ``text``."""
    return bool(re.fullmatch(rf"pair|{re.escape(plain(other))}(pair|a|b|1|2|other|second)", plain(column)))


def can_only_judge(column: str) -> bool:
    """Tell whether a column of judgements can be nothing else: a ``label`` may be a topic."""
    return plain(column).rstrip("s") not in ("label", "target", "match", "correct", "gold", "accepted")


def is_preference(column: str) -> bool:
    """Tell whether a column has one of two answers of which one is preferred."""
    return bool(_PREFERENCE.fullmatch(plain(column)))


def pair_of(column: str, other: str) -> tuple[str, str] | None:
    """Return two columns with the one that asks first, where their names say so: ``docstring`` and ``code``."""
    for first_, second in ((column, other), (other, column)):
        if any(query.fullmatch(plain(first_)) and answer.fullmatch(plain(second)) for query, answer in _PAIRS):
            return first_, second
        if is_pair(second, first_):
            return first_, second
    return None


def asks(column: str) -> bool:
    """Tell whether a column by its name has to do with a question: ``question_title``."""
    return bool(_ASKS.fullmatch(plain(column)))


def is_id(column: str) -> bool:
    """Tell whether a column by its name has ids: ``node_id`` or ``itemId``, and not ``valid``."""
    return bool(_ID.fullmatch(column)) or bool(every([column], (*ROW_ID, *DOCUMENT_ID, *QUERY_ID)))


def own_ids(columns: Iterable[str]) -> list[str]:
    """Return the columns that by their names have an id, and not one that rows share, as that of a user is."""
    ids = (column for column in columns if is_id(column) and not column.lower().endswith("s"))
    return [column for column in ids if not _SHARED.fullmatch(plain(column))]


def siblings(columns: Iterable[str]) -> list[list[str]]:
    """Return the columns that are one of several of a kind, by kind: ``opa`` to ``opd``, ``answer_1`` and ``answer_2``.

    Their names differ in the last letter, from a on, or in the last number.
    """
    kinds: dict[tuple[str, bool], dict[str, str]] = {}
    for column in columns:
        if match := re.fullmatch(r"(.*?)(\d+|[a-z])", plain(column)):
            kinds.setdefault((match[1], match[2].isdigit()), {})[match[2]] = column
    return [
        [kind[end] for end in sorted(kind, key=lambda end: (len(end), end))]
        for (_, is_number), kind in kinds.items()
        if len(kind) > 1 and (is_number or {"a", "b"} <= kind.keys() or {"j", "k"} <= kind.keys())
    ]


def is_list(column: str) -> bool:
    """Tell by its name whether a column holds several texts: ``negatives``, ``pos``."""
    name = plain(column).rstrip("0123456789")
    return name.endswith(("s", "neg"))
