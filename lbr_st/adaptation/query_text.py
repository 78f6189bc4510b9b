"""A query out of what a language model answered: without what it says around it, or the reason why there is none."""

from __future__ import annotations

import re
from typing import NamedTuple

from lbr_st.adaptation.kinds import PROMPTS
from lbr_st.data.cleaning import clean
from lbr_st.data.same_text import same_text
from lbr_st.data.words import words

# Why an answer is no query, in words that are the same for all answers.
REFUSED, EMPTY, NOT_ENDED = "refused by the endpoint", "empty", "not ended"
SEVERAL, ITSELF, LONGER = "several lines", "the passage itself", "longer than the passage"
TOO_MANY, TOLD, LOOPS = "too many words for keywords", "what the model was told", "the same over and over"
AGAIN, OF_SEVERAL = "asked already", "written for several passages"

# Between spaces; of scripts without, twice as many words, see `lbr_st.data.words`. A list goes on in some answers, and
# its first keywords are good, unless they are pieces of a sentence.
MOST_KEYWORDS, LONGEST_KEYWORD, FIRST_KEYWORDS = 12, 4, 6
RUN_OF_PROMPT = 5  # words in a row that are the prompt's
LONGEST_LOOP, TIMES = 6, 3  # words that come again at once, and how often

THOUGHT = re.compile(r"<think>.*?(</think>|$)", re.DOTALL)
FENCE = re.compile(r"`{3,}\w*")
NUMBER = re.compile(r"(?:[-*•–]|\(?\d{1,2}[.):])\s+")
# "Question:", "**Keywords 1:**", and what these are called elsewhere.
LABEL = re.compile(
    r"[*_#>\s]*(?:(?:search )?(?:question|query|keywords?|key ?words|claim|statement|sentence|answer|q)|frage|"
    r"stichw(?:ort|örter)|suchbegriffe|aussage|satz|mots[- ]clés|affirmation|pregunta|palabras clave|"
    r"afirmación|domanda|parole chiave|affermazione|pergunta|palavras[- ]chave|afirmação|vraag|trefwoorden|вопрос|"
    r"ключевые слова|утверждение|问题|关键词|陈述|質問|キーワード|질문|키워드)"
    r"(?: ?\d{1,2})? ?[*_]{0,2}[:\uff1a][*_]{0,2}\s*",
    re.IGNORECASE,
)
QUOTES = {'"': '"', "'": "'", "`": "`", "“": "”", "„": "“", "«": "»", "»": "«", "‘": "’", "「": "」", "『": "』"}
BOLD = re.compile(r"(\*\*|__)(.+?)\1")
COMMAS = re.compile("[,;\u3001\uff0c\uff1b]+")
LEADS_IN = (":", "\uff1a")


class Answer(NamedTuple):
    """What a language model answered.

    Attributes:
        text: The answer as it came.
        ended: Whether the model ended it; else the most tokens did.
        refused: Why an endpoint gave none; "" where it gave one.
    """

    text: str
    ended: bool = True
    refused: str = ""


def query_of(answer: Answer, kind: str, document: str) -> tuple[str, str | None]:
    """Return the query in an answer, and None; or what was answered, and the reason why it is no query.

    Numbers, quotes, labels such as "Question:" and a line that leads in go. Keywords may be a list, of which the first
    are taken where it is long.

    Args:
        answer: What a language model answered.
        kind: What it was asked for, one of `lbr_st.adaptation.kinds.WRITTEN`.
        document: The passage that it was asked about.
    """
    if answer.refused:
        return answer.refused, REFUSED
    lines = _lines(answer.text)
    if not answer.ended:
        *whole, last = lines or [""]
        # What is behind the last comma is a part of a keyword.
        last = last[: max((each.start() for each in COMMAS.finditer(last)), default=0)] if kind == "keywords" else ""
        lines = [line for line in (*whole, last) if line]
        if not lines:
            return answer.text, NOT_ENDED
    lines = [line for line in map(_bare, _without_lead(lines)) if any(map(str.isalnum, line))]
    if kind == "keywords":
        lines = [_keywords(lines)] if lines else []
    if len(lines) != 1:
        return answer.text, SEVERAL if lines else EMPTY
    query = clean(lines[0], keep_html=True, one_line=True)
    return query, why_not(query, document) or _why_not_of_kind(query, kind)


def why_not(query: str, document: str) -> str | None:
    """Return the reason why a text is no query for a passage, or None."""
    if not any(map(str.isalnum, query)):
        return EMPTY
    if same_text(query) == same_text(document):
        return ITSELF
    return LONGER if len(query) > len(document) else None


def _why_not_of_kind(query: str, kind: str) -> str | None:
    """Return the reason why a model wrote no query of a kind, by what small models write instead."""
    found = _words(query)
    if kind == "keywords" and _is_longer(query, MOST_KEYWORDS):
        return TOO_MANY
    if _runs(found, RUN_OF_PROMPT) & _runs(_words(PROMPTS[kind]), RUN_OF_PROMPT):
        return TOLD
    loops = any(
        all(found[at : at + size] == found[at + turn * size : at + (turn + 1) * size] for turn in range(1, TIMES))
        for size in range(1, LONGEST_LOOP + 1)
        for at in range(len(found) - TIMES * size + 1)
    )
    return LOOPS if loops else None


def _keywords(lines: list[str]) -> str:
    """Return the keywords of a list, each once; of a long list the first, if these are no pieces of a sentence."""
    found: dict[str, str] = {}
    for line in lines:
        for part in COMMAS.split(line):
            if any(map(str.isalnum, part)):
                found.setdefault(same_text(part), part.strip())
    keywords = list(found.values())
    first = keywords[:FIRST_KEYWORDS]
    if _is_longer(" ".join(keywords), MOST_KEYWORDS) and not any(_is_longer(each, LONGEST_KEYWORD) for each in first):
        keywords = first
        while _is_longer(" ".join(keywords), MOST_KEYWORDS):
            keywords.pop()
    return " ".join(keywords)


def _is_longer(text: str, most: int) -> bool:
    return len(text.split()) > most or len(_words(text)) > 2 * most


def _words(text: str) -> list[str]:
    return [word for word in words(text.casefold()) if word.isalnum()]


def _runs(found: list[str], size: int) -> set[tuple[str, ...]]:
    return {tuple(found[at : at + size]) for at in range(len(found) - size + 1)}


def _lines(text: str) -> list[str]:
    text = clean(FENCE.sub("", THOUGHT.sub("", text)), keep_html=True)
    return [line.strip() for line in text.split("\n") if line.strip()]


def _without_lead(lines: list[str]) -> list[str]:
    """Leave out a first line that says what follows: "Here is a question:"."""
    return lines[1:] if len(lines) > 1 and lines[0].rstrip("*_ ").endswith(LEADS_IN) else lines


def _bare(line: str) -> str:
    """Return a line without its number, its label, and the quotes around all of it."""
    while True:
        before = line
        line = BOLD.sub(r"\2", line)
        for pattern in (NUMBER, LABEL):
            if found := pattern.match(line):
                line = line[found.end() :]
        line = line.strip()
        if len(line) > 1 and QUOTES.get(line[0]) == line[-1] and line[0] not in line[1:-1]:
            line = line[1:-1].strip()
        if line == before:
            return line
