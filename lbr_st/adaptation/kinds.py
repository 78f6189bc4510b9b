"""Kinds of queries, and what a language model is told so that it writes one of a kind.

Training on questions, keywords, claims and titles together helps more than on any one of them (arXiv 2505.19274).
"""

from __future__ import annotations

import hashlib
import json

# What a kind is. The first two are found, the others are written by a language model.
KINDS = {
    "given": "queries that the data have",
    "title": "titles, headings and docstrings",
    "question": "questions that a passage answers",
    "keywords": "what is typed into a search engine",
    "claim": "statements that a passage supports",
}
GIVEN, TITLE = "given", "title"
FOUND = (GIVEN, TITLE)
WRITTEN = ("question", "keywords", "claim")

# One kind at a time: small models do one thing of several. The language is said, and never guessed by its name. Where
# the passage stands is what SmolLM2-135M-Instruct made most of, of three ways that were tried.
PROMPTS = {
    "question": "Text:\n{passage}\n\nWrite one question that this text answers. It must be clear to somebody who has "
    "not seen the text. Write it in the language of the text, and write nothing else.",
    "keywords": "Text:\n{passage}\n\nWrite three to six search keywords for this text, on one line, with commas "
    "between them. Write them in the language of the text, and write nothing else.",
    "claim": "Summarize the text below in one short sentence. Use the language of the text. Write nothing else."
    "\n\n{passage}",
}

# What an answer begins with, where that can be said: else SmolLM2-135M-Instruct copies the passage, whatever it is
# told.
BEGINNINGS = {"keywords": "Keywords:"}


def prompt_of(kind: str, passage: str) -> str:
    """Return what a language model is asked.

    Args:
        kind: One of `WRITTEN`.
        passage: What the query is to find, under its title where it has one.
    """
    return PROMPTS[kind].replace("{passage}", passage)


def prompts_sha256() -> str:
    """Return a hash of all that models are told: with other words they answer something else."""
    return hashlib.sha256(json.dumps([PROMPTS, BEGINNINGS]).encode()).hexdigest()
