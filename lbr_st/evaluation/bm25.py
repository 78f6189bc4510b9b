"""BM25 for the script that texts are in: mteb's own where it has a tokenizer for it, else over words and bigrams.

mteb chooses words, stop words and stems by the language of a task. That of a user's own pairs is told by their script:
the one language that has it, or that most of it is written in. Latin letters are taken for English.

mteb takes Chinese, Japanese, Korean, Thai and the like apart into characters. What it has nothing for, or would cut at
every vowel sign (Hindi, Tamil), is taken apart as Lucene's CJKAnalyzer does: into words, and where no spaces are
between words, into all pairs of neighbouring characters. So are texts of two kinds, as a corpus in Chinese and English.
"""

from __future__ import annotations

import logging
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

import mteb
import numpy as np
from bm25s.tokenization import convert_tokenized_to_string_list

from lbr_st.data.words import CHARACTER, WORD
from lbr_st.errors import InputError
from lbr_st.evaluation.ranking import Scores, blocks

logging.getLogger("bm25s").setLevel(logging.WARNING)  # it asks for DEBUG itself, and says each index that it builds


class Language(NamedTuple):
    """What a script is taken for.

    Attributes:
        code: Codes of language and script, as mteb has them.
        name: Name of the language.
        by: What mteb takes it apart into: ``words``, ``characters``, or None where it is left to `words_and_bigrams`.
        letters: Letters of the language, where others have the same script; else "".
    """

    code: str
    name: str
    by: str | None = None
    letters: str = ""


ENGLISH = Language("eng-Latn", "English", "words")
CHINESE = Language("zho-Hans", "Chinese", "characters")
JAPANESE = Language("jpn-Jpan", "Japanese", "characters")
# By the first word of the names that Unicode gives to letters.
LANGUAGES = {
    "LATIN": ENGLISH,
    "CYRILLIC": Language("rus-Cyrl", "Russian", "words", "абвгдежзийклмнопрстуфхцчшщъыьэюяё"),
    "GREEK": Language("ell-Grek", "Greek", "words"),
    "ARMENIAN": Language("hye-Armn", "Armenian", "words"),
    "ARABIC": Language("ara-Arab", "Arabic", "words", "ءآأؤإئابةتثجحخدذرزسشصضطظعغفقكلمنهوىي"),
    "CJK": CHINESE,
    "HIRAGANA": JAPANESE,
    "KATAKANA": JAPANESE,
    "HANGUL": Language("kor-Hang", "Korean", "characters"),
    "THAI": Language("tha-Thai", "Thai", "characters"),
    "LAO": Language("lao-Laoo", "Lao", "characters"),
    "KHMER": Language("khm-Khmr", "Khmer", "characters"),
    "MYANMAR": Language("mya-Mymr", "Burmese", "characters"),
    "TIBETAN": Language("bod-Tibt", "Tibetan", "characters"),
    "HEBREW": Language("heb-Hebr", "Hebrew"),
    "GEORGIAN": Language("kat-Geor", "Georgian"),
    "ETHIOPIC": Language("amh-Ethi", "Amharic"),
    "DEVANAGARI": Language("hin-Deva", "Hindi"),
    "BENGALI": Language("ben-Beng", "Bengali"),
    "GURMUKHI": Language("pan-Guru", "Punjabi"),
    "GUJARATI": Language("guj-Gujr", "Gujarati"),
    "TAMIL": Language("tam-Taml", "Tamil"),
    "TELUGU": Language("tel-Telu", "Telugu"),
    "KANNADA": Language("kan-Knda", "Kannada"),
    "MALAYALAM": Language("mal-Mlym", "Malayalam"),
    "SINHALA": Language("sin-Sinh", "Sinhala"),
}
OTHER = Language("und-Zyyy", "another language")
MTEBS_MODEL = "mteb/baseline-bm25s"
MTEBS = {language.code for language in LANGUAGES.values() if language.by}
NOTHING = "(nothing)"  # id of no document
# Texts, and characters of each, that are looked at.
MOST_TEXTS, MOST_CHARACTERS = 10_000, 1_000
# Shares of the letters: what is less than some is quoted, what is left of most are names. Japanese has some kana.
SOME, MOST, KANA = 0.01, 0.8, 0.05

PART = re.compile(f"((?:{CHARACTER})+)|{WORD}")
UNSPACED_CHARACTER = re.compile(CHARACTER)


class Tokens(NamedTuple):
    """What BM25 counts in texts.

    Attributes:
        name: What tables say of it.
        languages: Codes of their languages, as mteb has them.
    """

    name: str
    languages: list[str]


def tokens_of(texts: Sequence[str]) -> Tokens:
    """Return what BM25 counts in texts, by the letters of a sample of them."""
    characters = Counter[str]()
    for text in texts[:: -(-len(texts) // MOST_TEXTS) or 1]:
        characters.update(text[:MOST_CHARACTERS])
    letters = {letter: number for letter, number in characters.items() if letter.isalpha()}
    found, foreign = Counter[Language](), Counter[Language]()
    for letter, number in letters.items():
        language = LANGUAGES.get(_script(letter), OTHER)
        found[language] += number
        if language.letters and letter.lower() not in language.letters:
            foreign[language] += number
    if found[JAPANESE] > KANA * found[CHINESE]:
        found[JAPANESE] += found.pop(CHINESE, 0)
    return _tokens(found, foreign)


def _script(letter: str) -> str:
    name = unicodedata.name(letter, "").removeprefix("FULLWIDTH ").removeprefix("HALFWIDTH ")
    return re.split("[ -]", name, maxsplit=1)[0]


def _tokens(found: Mapping[Language, int], foreign: Mapping[Language, int]) -> Tokens:
    total = sum(found.values())
    cut = {language: number for language, number in found.items() if language.by == "characters"}
    whole = {language: number for language, number in found.items() if language.by != "characters"}
    first_cut = max(cut, key=lambda each: cut[each], default=ENGLISH)
    first_whole = max(whole, key=lambda each: whole[each], default=ENGLISH)
    share = sum(cut.values()) / total if total else 0
    if share > MOST:
        return Tokens(f"{first_cut.name}, characters", [first_cut.code])
    if share > SOME:
        return Tokens("words and character bigrams", [first_cut.code, first_whole.code])
    if foreign[first_whole] > SOME * found[first_whole]:
        return Tokens("words", [f"und-{first_whole.code.partition('-')[2]}"])
    return Tokens(first_whole.name if first_whole.by else "words", [first_whole.code])


def words_and_bigrams(text: str) -> list[str]:
    """Return the words of a text, in small letters; where no spaces are between words, pairs of neighbours instead.

    A character with no neighbour stands for itself.
    """
    found = []
    for part in PART.finditer(unicodedata.normalize("NFKC", text).casefold()):
        if part[1] is None:
            found.append(part[0])
            continue
        characters = UNSPACED_CHARACTER.findall(part[1])
        found += map("".join, zip(characters, characters[1:], strict=False)) if len(characters) > 1 else characters
    return found


def _searcher(languages: Sequence[str], mtebs: Any) -> Any:
    """Return mteb's searcher where it has a tokenizer for the one language that texts are in, else one of ours."""
    if len(languages) == 1 and languages[0] in MTEBS:
        return mtebs
    from mteb.models.model_implementations.bm25 import BM25Search

    return BM25Search(tokenizer=words_and_bigrams)


def _index(searcher: Any, corpus: Any, **kwargs: Any) -> None:
    """Let a searcher of mteb take documents.

    Raises:
        InputError: If it finds no word in them. Stop words are none, nor is what nine tenths of all documents have.
    """
    try:
        searcher.index(corpus, **kwargs)
    except ValueError as error:  # bm25s, of an empty vocabulary
        raise InputError(
            f"BM25 finds not one word in {len(corpus):,} texts, but for stop words and what nearly all of them have; "
            "leave it out, and take a model alone"
        ) from error


def with_a_word(found: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """Return the documents that BM25 found, by query, without those that have no word of it.

    mteb orders documents of equal scores by their ids: such a one would be found by its name. What found nothing keeps
    `NOTHING`, as mteb counts no query without a document.
    """
    scored = {query: {name: score for name, score in of.items() if score > 0} for query, of in found.items()}
    return {query: of or {NOTHING: 0.0} for query, of in scored.items()}


class BM25OfAnyScript:
    """mteb's BM25, a searcher of mteb; for languages that it has no tokenizer for, with ours.

    Args:
        local: How the path of the tasks begins whose languages were told by `tokens_of`. All others are mteb's.
    """

    def __init__(self, local: str) -> None:
        self.local = local
        self._mtebs: Any = mteb.get_model(MTEBS_MODEL)
        self.mteb_model_meta = self._mtebs.mteb_model_meta
        self._searcher: Any = self._mtebs
        self._size, self._is_local = 0, False

    def index(self, corpus: Any, *, task_metadata: Any, **kwargs: Any) -> None:
        """Take the documents.

        Raises:
            InputError: If there is not one word in them.
        """
        self._is_local = task_metadata.dataset["path"].startswith(self.local)
        self._searcher = _searcher(task_metadata.eval_langs, self._mtebs) if self._is_local else self._mtebs
        _index(self._searcher, corpus, task_metadata=task_metadata, **kwargs)
        self._size = len(corpus)

    def search(self, queries: Any, **kwargs: Any) -> Any:
        """Return the best documents by query; of a user's own pairs none without a word of it."""
        found = self._searcher.search(queries, **kwargs)
        return with_a_word(found) if self._is_local else found

    def scores(self, queries: Sequence[str]) -> Iterator[tuple[int, Scores]]:
        """Yield (first query, scores of all documents) for some queries at a time."""
        return _scores(self._searcher, self._size, queries)


class BM25Ranker:
    """BM25 over a list of texts of any script, a `lbr_st.evaluation.ranking.Ranker`: the scores of `BM25OfAnyScript`.

    Args:
        texts: What is ranked, at least one.

    Raises:
        InputError: If there is not one word in them.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self.tokens = tokens_of(texts)
        self.size = len(texts)
        searcher = _searcher(self.tokens.languages, mteb.get_model(MTEBS_MODEL))
        _index(
            searcher,
            [{"id": number, "text": text} for number, text in enumerate(texts)],
            task_metadata=SimpleNamespace(eval_langs=self.tokens.languages),
            hf_split="test",
            hf_subset="default",
            encode_kwargs={},
        )
        self._searcher = searcher

    def scores(self, queries: Sequence[str]) -> Iterator[tuple[int, Scores]]:
        """Yield (first query, scores) for some queries at a time; 0 where a text has no word of a query."""
        return _scores(self._searcher, self.size, queries)


def _scores(searcher: Any, size: int, queries: Sequence[str]) -> Iterator[tuple[int, Scores]]:
    """Yield the scores that mteb's search computes and of which it returns the best: for all documents, as an array."""
    index = searcher.retriever
    tokens = convert_tokenized_to_string_list(searcher._tokenizer.transform(list(queries)))
    known = [index.get_tokens_ids(each) for each in tokens]
    for start, end in blocks(len(queries), size):
        rows = [index.get_scores_from_ids(each) if each else np.zeros(size, np.float32) for each in known[start:end]]
        yield start, np.stack(rows)
