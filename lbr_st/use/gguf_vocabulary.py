"""The vocabulary of a GGUF file: chosen so that llama.cpp cuts texts into the tokens of the model, and read back."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

from lbr_st.errors import InputError, shortened
from lbr_st.model.verify import MOST_SHOWN, SPECIALS_ALONE, TEXTS

# Kinds of tokens, as gguf.TokenType numbers them.
NORMAL, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 3, 4, 5, 6

# SentencePiece merges the pair whose token scores highest; what no merge makes comes after all that one does.
NEVER = -1e9

# llama.cpp finds control tokens in a text by their spelling, and what it appends has to be one for node-llama-cpp. So
# the bottleneck token is spelled with a character that Unicode gives to no text.
UNSPELLED = "\uffff"

BYTE_NAMES = {f"<0x{byte:02X}>" for byte in range(256)}


class Splitting(NamedTuple):
    """How llama.cpp splits a text before its tokens are looked up, for one name of ``tokenizer.ggml.pre``.

    Attributes:
        parts: The same as the parts of a ``tokenizer.json``.
        looks_up_first: Whether a piece that is an entry is taken as it is, without merges.
    """

    parts: list[Any]
    looks_up_first: bool = False


def _by(*patterns: str) -> list[Any]:
    """Return parts that split by regular expressions, one after the other."""
    splits: list[Any] = [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in patterns]
    return [*splits, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]


_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_GPT2 = pre_tokenizers.ByteLevel(add_prefix_space=False)

# The patterns are those of the tokenizer.json of the families (GPT-2, SmolLM, Qwen2, Llama 3, DeepSeek V3).
SPLITTINGS = {
    "gpt-2": Splitting([_GPT2]),
    "smollm": Splitting([pre_tokenizers.Digits(individual_digits=True), _GPT2]),
    "qwen2": Splitting(_by(rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}|{_REST}")),
    "llama-bpe": Splitting(
        _by(rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}|{_REST}"), looks_up_first=True
    ),
    "deepseek-v3": Splitting(
        _by(
            r"\p{N}{1,3}",
            "[一-龥\u3040-ゟ゠-ヿ]+",
            r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+"""
            r"|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        )
    ),
}

# Each of the splittings cuts at least one of these into other pieces than the others do.
PROBES = (
    "Don't, DON'T, we'LL; it's 1234567 and 3.14!",
    "tabs\tand\n\n\nlines \n  with   spaces  ",
    "x=[1,2];\r\n// see http://a.b/c?d=e_f#g(h)",
    "Größe, naïve, 東京都のカタカナ, हिन्दी, עברית, العربية ١٢٣, ½ ²",
    "HTMLParser camelCase snake_case ÀÉÎ",
    "👩‍🔬🙂 \u00a0\u3000\u200b end   ",
    *TEXTS,
)


@dataclass(frozen=True)
class Vocabulary:
    """What a GGUF file says of its tokenizer.

    Attributes:
        tokens: Spellings, by id.
        kinds: Kind of each.
        eos: Id of the token behind every text: the bottleneck token.
        bos: Id of the token before every text.
        adds_bos: Whether it is put there.
        splits_as: A name of `SPLITTINGS`; empty for SentencePiece.
        merges: Pairs with a space between them, in their order; empty for SentencePiece.
        scores: Score of each token; empty for a byte-level vocabulary.
        adds_space: Whether a space goes before every text (SentencePiece).
    """

    tokens: list[str]
    kinds: list[int]
    eos: int
    bos: int
    adds_bos: bool
    splits_as: str
    merges: list[str]
    scores: list[float]
    adds_space: bool

    def write(self, writer: Any) -> None:
        """Write it with a ``gguf.GGUFWriter``."""
        writer.add_tokenizer_model("gpt2" if self.splits_as else "llama")
        writer.add_tokenizer_pre(self.splits_as or "default")
        writer.add_token_list(self.tokens)
        writer.add_token_types(self.kinds)
        if self.splits_as:
            writer.add_token_merges(self.merges)
        else:
            writer.add_token_scores(self.scores)
            writer.add_add_space_prefix(self.adds_space)
        writer.add_bos_token_id(self.bos)
        writer.add_add_bos_token(self.adds_bos)
        writer.add_eos_token_id(self.eos)
        writer.add_add_eos_token(True)

    @classmethod
    def read(cls, fields: dict[str, Any]) -> Vocabulary:
        """Read it from the fields of a GGUF file."""
        of = {name.removeprefix("tokenizer.ggml."): value for name, value in fields.items()}
        byte_level = of["model"] == "gpt2"
        return cls(
            tokens=of["tokens"],
            kinds=of["token_type"],
            eos=of["eos_token_id"],
            bos=of["bos_token_id"],
            adds_bos=of["add_bos_token"],
            splits_as=of["pre"] if byte_level else "",
            merges=of["merges"] if byte_level else [],
            scores=[] if byte_level else of["scores"],
            adds_space=not byte_level and of["add_space_prefix"],
        )

    def tokenizer(self) -> Tokenizer:
        """Return a tokenizer that cuts texts as llama.cpp does by this vocabulary."""
        ids = {token: id_ for id_, token in enumerate(self.tokens)}
        if self.splits_as:
            parts, looks_up_first = SPLITTINGS[self.splits_as]
            pairs = [(left, right) for left, right in (merge.split(" ") for merge in self.merges)]
            tokenizer = Tokenizer(models.BPE(ids, pairs, ignore_merges=looks_up_first))
            tokenizer.pre_tokenizer = pre_tokenizers.Sequence(parts)
        else:
            tokenizer = Tokenizer(models.BPE(ids, self._pairs(ids), byte_fallback=True))
            escaped = [normalizers.Prepend("▁")] * self.adds_space + [normalizers.Replace(" ", "▁")]
            tokenizer.normalizer = normalizers.Sequence(escaped)
        for kind, special in ((CONTROL, True), (USER_DEFINED, False)):
            found = [token for token, of_token in zip(self.tokens, self.kinds, strict=True) if of_token == kind]
            tokenizer.add_tokens([AddedToken(token, normalized=False, special=special) for token in found])
        around = [self.tokens[id_] for id_ in ([self.bos] if self.adds_bos else []) + [self.eos]]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=[*around[:-1], "$A", around[-1]], special_tokens=[(token, ids[token]) for token in around]
        )
        return tokenizer

    def _pairs(self, ids: dict[str, int]) -> list[tuple[str, str]]:
        """Return all pairs of entries that make an entry, the highest score first: those that SentencePiece merges."""
        found = []
        for token, score in zip(self.tokens, self.scores, strict=True):
            for cut in range(1, len(token)):
                if token[:cut] in ids and token[cut:] in ids:
                    found.append((-score, token[:cut], token[cut:]))
        return [(left, right) for _, left, right in sorted(found)]


def choose(original: Tokenizer, size: int) -> Vocabulary:
    """Return the vocabulary by which llama.cpp cuts texts as a tokenizer does that appends one bottleneck token.

    Args:
        original: The tokenizer, with nothing cut or padded.
        size: Number of rows of the embedding matrix; those without a token get an unused one.

    Raises:
        InputError: If there is none: with the text that llama.cpp would cut otherwise.
    """
    data = json.loads(original.to_str())
    byte_level = not data["model"]["byte_fallback"]
    *before, eos = original.encode("").ids
    if len(before) > 1:
        raise InputError(f"--to gguf: {len(before)} tokens go before every text, and llama.cpp puts one there at most")
    vocabulary = original.get_vocab(with_added_tokens=True)
    tokens = [f"[PAD{id_}]" for id_ in range(size)]
    kinds = [UNUSED] * size
    for token, id_ in vocabulary.items():
        tokens[id_] = token
        kinds[id_] = BYTE if not byte_level and token in BYTE_NAMES else NORMAL
    for added in data["added_tokens"]:
        if not added["special"] and (added["lstrip"] or added["rstrip"]):
            raise InputError(
                f"--to gguf: the token {added['content']} takes the white space beside it, as those of users and items "
                "do, and llama.cpp leaves it there; --to onnx takes such a model"
            )
        kinds[added["id"]] = CONTROL if added["special"] else USER_DEFINED
    tokens[eos], kinds[eos] = UNSPELLED + tokens[eos], CONTROL
    merges = [tuple(merge) if isinstance(merge, list) else tuple(merge.split(" ")) for merge in data["model"]["merges"]]
    scores: dict[str, float] = {}
    if not byte_level:
        for rank, (left, right) in enumerate(merges):
            scores.setdefault(left + right, -float(rank))
    made = Vocabulary(
        tokens=tokens,
        kinds=kinds,
        eos=eos,
        # Where there is none, node-llama-cpp appends nothing either: any control token stands there, and is not put.
        bos=before[0] if before else kinds.index(CONTROL),
        adds_bos=bool(before),
        splits_as=_splitting(original) if byte_level else "",
        merges=[" ".join(merge) for merge in merges] if byte_level else [],
        scores=[] if byte_level else [scores.get(token, NEVER) for token in tokens],
        adds_space=not byte_level and original.encode("a").tokens[len(before)].startswith("▁"),
    )
    theirs, needs = made.tokenizer(), needs_of(original, made)
    for text in PROBES:
        if all(holds(text) for holds in needs.values()) and not _same(theirs, original, text):
            raise InputError(
                f"--to gguf: llama.cpp would cut {shortened(text, MOST_SHOWN)!r} into other tokens than the model's "
                "tokenizer does"
            )
    return made


def _same(one: Tokenizer, other: Tokenizer, text: str) -> bool:
    return one.encode(text).ids == other.encode(text).ids


def _splitting(original: Tokenizer) -> str:
    """Return llama.cpp's name of how a byte-level tokenizer splits texts.

    Raises:
        InputError: If llama.cpp has none that is known here.
    """

    def pieces(pre_tokenizer: Any) -> list[list[str]]:
        return [[piece for piece, _ in pre_tokenizer.pre_tokenize_str(text)] for text in PROBES]

    if original.pre_tokenizer is not None:
        found = pieces(original.pre_tokenizer)
        for name, splitting in SPLITTINGS.items():
            if pieces(pre_tokenizers.Sequence(splitting.parts)) == found:
                return name
    raise InputError(
        "--to gguf: the tokenizer splits texts in a way that is none of those that are known of llama.cpp "
        f"({', '.join(SPLITTINGS)})"
    )


def needs_of(original: Tokenizer, made: Vocabulary) -> dict[str, Callable[[str], bool]]:
    """Return what a text has to be when llama.cpp gets it, as the tokenizer makes it so and llama.cpp does not.

    Returns:
        For each need the words for it, and whether a text is so.
    """
    needs: dict[str, Callable[[str], bool]] = {}
    theirs = made.tokenizer()
    decomposed = "e\u0301"
    if original.normalizer is not None and original.normalizer.normalize_str(decomposed) != decomposed:
        needs["in Unicode's NFC"] = lambda text: unicodedata.is_normalized("NFC", text)
    if made.adds_space and not _same(theirs, original, " a"):
        needs["without a space at its start"] = lambda text: not text.startswith(" ")
    special = [made.tokens[id_] for id_, kind in enumerate(made.kinds) if kind == CONTROL and id_ != made.eos]
    if not all(_same(theirs, original, f"a{token}b") for token in special[:SPECIALS_ALONE]):
        needs["without special tokens"] = lambda text: not any(token in text for token in special)
    return needs
