"""Terms in a ``tokenizer.json``: each is one token where it stands as a whole word, for every reader of that file.

Two simpler ways do not hold. Added tokens with ``single_word`` are matched inside words by the reader in JavaScript,
which does not know that field, and leave a lone space before them in byte-level tokenizers. A merge that makes a term
fires in other words too.

Here a ``Split`` cuts the terms out of a text first. The rules that the pre-tokenizer has already leave such a piece
whole, and ``ignore_merges`` looks it up. Each term has two entries, with a space before it and without, as other words
have. Texts without a term are cut and merged as before.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Collection, Sequence
from typing import Any

from tokenizers import Tokenizer, decoders, pre_tokenizers

from lbr_st.errors import InputError

LONGEST_TERM = 100  # characters

# Classes of characters, as all engines of regular expressions write them. A word goes on where two of one class meet.
LETTERS, DIGITS = r"[\p{L}\p{M}]", r"\p{N}"
CLASSES = {"L": LETTERS, "M": LETTERS, "N": DIGITS}  # by the first letter of the category of a character
# Start and end of a piece: \A and \z are none in JavaScript.
START, END = r"(?<![\s\S])", r"(?![\s\S])"
SYNTAX = frozenset(r"\^$.|?*+()[]{}")

SPACE_OF_SENTENCEPIECE = "\u2581"
# What ByteLevel cuts by where it is told to, in the library's own words.
OF_BYTE_LEVEL = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
TO_BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)


def check_term(term: str) -> None:
    """Refuse a term that could not be told from what stands around it.

    Raises:
        InputError: If it is too long, has no letter, white space other than single spaces, or does not begin and end
            with a letter or a digit.
    """
    if len(term) > LONGEST_TERM:
        raise InputError(f"a term has at most {LONGEST_TERM} characters, this one {len(term)}: {term[:40]!r}...")
    if term != " ".join(term.split()):
        raise InputError(f"the term {term!r} has white space other than single spaces between its words")
    if not any(unicodedata.category(character)[0] == "L" for character in term):
        raise InputError(f"the term {term!r} has no letter")
    if unicodedata.category(term[0])[0] not in "LN" or unicodedata.category(term[-1])[0] not in "LMN":
        raise InputError(f"the term {term!r} must begin and end with a letter or a digit")


def goes_on(text: str, at: int) -> bool:
    """Tell whether a word goes on at a place of a text: a letter or a digit of one class is on both sides of it."""
    classes = [CLASSES.get(unicodedata.category(each)[0]) for each in text[max(0, at - 1) : at + 1]]
    return len(classes) == 2 and classes[0] is not None and classes[0] == classes[1]


def add_terms(data: dict[str, Any], terms: Sequence[str]) -> dict[int, list[int]]:
    """Write terms into a ``tokenizer.json``.

    Args:
        data: Contents of the file, of a BPE whose added tokens are entries of its vocabulary; changed in place.
        terms: Terms that `check_term` takes.

    Returns:
        For each new id the ids that its text had before. Ids follow the highest that is there. A term that is one token
        already, with a space and without, gets none.

    Raises:
        InputError: If the tokenizer cuts texts in a way that cannot leave terms whole, or a term is no longer one once
            the tokenizer has normalised it.
    """
    tokenizer = Tokenizer.from_str(json.dumps(data))
    vocabulary, parts = data["model"]["vocab"], _parts(data["pre_tokenizer"])
    is_byte_level = any(part["type"] == "ByteLevel" for part in parts)
    if any(part.get("add_prefix_space") for part in parts if part["type"] == "ByteLevel"):
        raise InputError(
            "domain tokens: this tokenizer puts a space before every text, so terms cannot be cut out of it"
        )
    space = " " if is_byte_level else SPACE_OF_SENTENCEPIECE
    words = list(dict.fromkeys(_as_matched(tokenizer, term, space) for term in terms))
    texts = [lead + word for word in words for lead in (space, "")]
    before = _reader(data, data["pre_tokenizer"] if is_byte_level else None)
    entries = [_entry(text, is_byte_level) for text in texts]
    first = 1 + max(tokenizer.get_vocab().values())
    new: dict[str, int] = {}
    pieces: dict[int, list[int]] = {}
    for entry, encoding in zip(entries, before.encode_batch(texts, add_special_tokens=False), strict=True):
        if entry not in vocabulary:
            new[entry] = first + len(new)
            pieces[new[entry]] = encoding.ids
    words = [word for word, *of_word in zip(words, entries[::2], entries[1::2], strict=True) if {*of_word} & new.keys()]
    if not words:
        return {}
    cut = _split(_whole_words(words, space))
    if is_byte_level:
        own = tokenizer.pre_tokenizer
        in_pieces = [w for w in words if any(len(own.pre_tokenize_str(lead + w)) > 1 for lead in (space, ""))]
        parts = [cut, *(each for part in parts for each in _leaving_whole(part, in_pieces))]
    else:
        parts = [*parts, cut]
    data["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [*parts, *_keeping_apart(data)]}
    data["model"]["ignore_merges"] = True
    vocabulary.update(new)
    _check_matched(data, words, space, is_byte_level)
    return pieces


def texts_of(data: dict[str, Any]) -> dict[int, str]:
    """Return what each entry of the vocabulary stands for, by id: with its space, where it has one before it."""
    is_byte_level = any(part["type"] == "ByteLevel" for part in _parts(data["pre_tokenizer"]))
    of_bytes = decoders.ByteLevel()
    return {
        id_: of_bytes.decode([entry]) if is_byte_level else entry.replace(SPACE_OF_SENTENCEPIECE, " ")
        for entry, id_ in data["model"]["vocab"].items()
    }


def _parts(pre_tokenizer: dict[str, Any] | None) -> list[dict[str, Any]]:
    if pre_tokenizer is None:
        return []
    return pre_tokenizer["pretokenizers"] if pre_tokenizer["type"] == "Sequence" else [pre_tokenizer]


def _reader(data: dict[str, Any], pre_tokenizer: dict[str, Any] | None) -> Tokenizer:
    """Return what cuts and merges a text that is normalised already."""
    alone: dict[str, Any] = {"normalizer": None, "post_processor": None, "added_tokens": []}
    return Tokenizer.from_str(json.dumps(data | alone | {"pre_tokenizer": pre_tokenizer}))


def _as_matched(tokenizer: Tokenizer, term: str, space: str) -> str:
    """Return a term as it stands in a text where terms are cut out.

    Raises:
        InputError: If it is no term any more.
    """
    normalised = term if tokenizer.normalizer is None else tokenizer.normalizer.normalize_str(term)
    word = normalised.replace(" ", space).strip(space)
    try:
        check_term(word.replace(space, " "))
    except InputError as error:
        raise InputError(f"{error}, as the tokenizer reads it; it was {term!r}") from error
    return word


def _entry(text: str, is_byte_level: bool) -> str:
    """Return how the vocabulary spells a text."""
    return "".join(piece for piece, _ in TO_BYTES.pre_tokenize_str(text)) if is_byte_level else text


def _split(regex: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False}


def _escaped(text: str) -> str:
    return "".join(f"\\{character}" if character in SYNTAX else character for character in text)


def _class_of(character: str) -> str:
    return CLASSES.get(unicodedata.category(character)[0], LETTERS)


def _whole_words(words: Sequence[str], space: str) -> str:
    """Return what matches one of the words, the longest, with the space before it, where it does not go on."""
    found = []
    for of_class in (LETTERS, DIGITS):
        if of_one := [word for word in words if _class_of(word[0]) == of_class]:
            found.append(f"(?:{space}|(?<!{of_class})){_longest_of(of_one)}")
    return "|".join(found)


def _longest_of(words: Collection[str], last: str = "") -> str:
    """Return what matches the longest of some words that does not go on, as a tree of their letters.

    Args:
        words: What may stand here; "" is the end of a word.
        last: The character before.
    """
    rests: dict[str, list[str]] = {}
    for word in words:
        if word:
            rests.setdefault(word[0], []).append(word[1:])
    branches = [_escaped(first) + _longest_of(of_first, first) for first, of_first in rests.items()]
    if "" in words:
        branches.append(f"(?!{_class_of(last)})")
    return branches[0] if len(branches) == 1 else f"(?:{'|'.join(branches)})"


def _leaving_whole(part: dict[str, Any], words: Sequence[str]) -> list[dict[str, Any]]:
    """Return a part of a byte-level pre-tokenizer that cuts as before, but for pieces that are one of the words.

    Raises:
        InputError: If it is none of the parts that are known.
    """
    if not words:
        return [part]
    whole = f"{START} ?{_longest_of(words)}{END}"
    match part:
        case {"type": "ByteLevel", "use_regex": False}:
            return [part]
        case {"type": "ByteLevel"}:
            return [_split(f"{whole}|{OF_BYTE_LEVEL}"), part | {"use_regex": False}]
        case {"type": "Digits", "individual_digits": alone}:
            return [_split(f"{whole}|{DIGITS}{'' if alone else '+'}")]
        case {"type": "Split", "behavior": "Isolated", "invert": False, "pattern": pattern}:
            own = pattern["Regex"] if "Regex" in pattern else _escaped(pattern["String"])
            return [_split(f"{whole}|(?:{own})")]
    raise InputError(f"domain tokens: this tokenizer cuts texts by {part['type']}, which would cut {words[0]!r} apart")


def _keeping_apart(data: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what keeps those entries in pieces that no merges make, and that would be looked up whole from now on.

    SentencePiece has the spellings of bytes, such as ``<0x0A>``. Each is cut where the merges leave a border, so that
    the same merges make the same pieces of both parts.

    Raises:
        InputError: If an entry cannot be cut so.
    """
    if data["model"].get("ignore_merges"):
        return []
    vocabulary, added = data["model"]["vocab"], {token["content"] for token in data["added_tokens"]}
    # Added tokens are cut out of a text before, and no piece has a raw space.
    entries = [entry for entry in vocabulary if entry not in added and " " not in entry]
    encoded = _reader(data, None).encode_batch(entries, add_special_tokens=False)
    apart = {entry: each for entry, each in zip(entries, encoded, strict=True) if each.ids != [vocabulary[entry]]}
    rests: dict[str, list[str]] = {}
    for entry, encoding in apart.items():
        end = encoding.offsets[0][1] if encoding.offsets else 0
        rests.setdefault(entry[:end], []).append(_escaped(entry[end:]))
    if not rests:
        return []
    cut = _split("|".join(f"{START}{_escaped(first)}(?=(?:{'|'.join(of)}){END})" for first, of in rests.items()))
    looking_up = data | {"model": data["model"] | {"ignore_merges": True}}
    again = _reader(looking_up, cut).encode_batch([*apart], add_special_tokens=False)
    for entry, one, other in zip(apart, apart.values(), again, strict=True):
        if one.ids != other.ids:
            raise InputError(f"domain tokens: the vocabulary of this tokenizer has {entry!r}, which no merges make")
    return [cut]


def _check_matched(data: dict[str, Any], words: Sequence[str], space: str, is_byte_level: bool) -> None:
    """Refuse a tokenizer that does not make one token of a term, whatever was done to it.

    Raises:
        InputError: With the first such term.
    """
    vocabulary, tokenizer = data["model"]["vocab"], Tokenizer.from_str(json.dumps(data))
    texts = [f"({word.replace(space, ' ')}) {word.replace(space, ' ')}" for word in words]
    for word, encoding in zip(words, tokenizer.encode_batch(texts, add_special_tokens=False), strict=True):
        if not {vocabulary[_entry(lead + word, is_byte_level)] for lead in (space, "")} <= {*encoding.ids}:
            raise InputError(f"domain tokens: this tokenizer cuts {word!r} apart, so it cannot be one token")
