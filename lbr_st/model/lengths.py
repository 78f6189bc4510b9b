"""How much of a text a model reads, in its own tokens, and how many texts are longer."""

from __future__ import annotations

import contextlib
import copy
import logging
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase

from lbr_st.errors import InputError

logger = logging.getLogger(__name__)

# The prompt that sentence-transformers puts before the texts of a role: the first of these that a model has.
PROMPTS = {"query": ("query",), "document": ("document", "passage", "corpus")}
UNLIMITED = 1e9  # transformers writes 1e30 for the length of a tokenizer that has none
TEXTS_AT_ONCE = 1000


class TextLimit:
    """How many tokens of a text a sentence-transformers model reads, its prompt and what the tokenizer adds included.

    Args:
        model: Any sentence-transformers model.
        role: ``query`` or ``document``: whose prompt is put before a text.

    Attributes:
        most: Tokens that the model reads of a text; infinity where it has no limit, or none that is known.
    """

    def __init__(self, model: SentenceTransformer, role: str) -> None:
        module = input_module(model, role)
        tokenizer = getattr(module, "tokenizer", None)
        self.role = role
        self.prompt = prompt_of(model, role)
        self.most = _most(module, tokenizer, role)
        self._count = _counter(tokenizer)
        self._added = self._count([""])[0] if self._count else 0

    def lengths(self, texts: Sequence[str]) -> list[int]:
        """Return the number of tokens of each text, with its prompt and what the tokenizer adds."""
        return self._count([self.prompt + text for text in texts]) if self._count else [0] * len(texts)

    def count_longer(self, texts: Sequence[str]) -> int:
        """Return how many texts are longer than the model reads."""
        if self.most == math.inf:
            return 0
        # A token has at least one character of ASCII, and a tokenizer may put a space before the first.
        fits = self.most - self._added - len(self.prompt.encode(errors="replace")) - 1
        doubtful = [text for text in texts if not text.isascii() or len(text) > fits]
        return sum(length > self.most for length in self.lengths(doubtful)) if doubtful else 0

    def measure(self) -> tuple[float, Callable[[str], int]] | None:
        """Return how many tokens of a text have room beside its prompt, and what counts those of a text.

        Returns:
            None for a model that knows no tokens.

        Raises:
            InputError: If there is no room.
        """
        if self._count is None:
            return None
        [empty] = self.lengths([""])
        room = self.most - empty
        if room < 1:
            raise InputError(
                f"the {self.role} prompt of the model leaves no room for text: with what the tokenizer adds it has "
                f"{empty} tokens, and the model reads {self.most}"
            )
        return room, lambda text: self.lengths([text])[0] - empty


def warn_of_longer(model: SentenceTransformer, queries: Iterable[str], documents: Iterable[str]) -> None:
    """Say in one line how many texts are longer than a model reads; nothing where none is.

    Args:
        model: Any sentence-transformers model.
        queries: Texts that get its query prompt. Those that are equal are one.
        documents: Texts that get its document prompt; the same.
    """
    longer: Counter[float] = Counter()
    total: Counter[float] = Counter()
    for role, texts in (("query", dict.fromkeys(queries)), ("document", dict.fromkeys(documents))):
        limit, rest = TextLimit(model, role), iter(texts)
        while batch := list(islice(rest, TEXTS_AT_ONCE)):
            longer[limit.most] += limit.count_longer(batch)
            total[limit.most] += len(batch)
    _warn(longer, total)


@contextlib.contextmanager
def saying_what_is_longer(model: SentenceTransformer) -> Iterator[None]:
    """Say at the end how many of the texts that a model encoded meanwhile are longer than it reads.

    This is for texts that others give it, such as mteb, with prompts of their choice.
    """
    limits: dict[str, TextLimit] = {}
    longer: Counter[float] = Counter()
    total: Counter[float] = Counter()
    preprocess = model.preprocess

    def watched(inputs: Sequence[Any], prompt: str | None = None, **kwargs: Any) -> Any:
        role = "query" if kwargs.get("task") == "query" else "document"
        if role not in limits:
            limits[role] = TextLimit(model, role)
        limit = limits[role]
        limit.prompt = prompt or ""
        texts = [each for each in inputs if isinstance(each, str)]
        longer[limit.most] += limit.count_longer(texts)
        total[limit.most] += len(texts)
        return preprocess(inputs, prompt=prompt, **kwargs)

    model.__dict__["preprocess"] = watched
    try:
        yield
    finally:
        del model.__dict__["preprocess"]
    _warn(longer, total)


def _warn(longer: Mapping[float, int], total: Mapping[float, int]) -> None:
    for most, number in longer.items():
        if number:
            logger.warning("%s", describe_longer(number, total[most], most))


def describe_longer(longer: int, total: int, most: float, parts: int = 1) -> str:
    """Say how many of some texts are longer than the tokens that a model reads, in one part or in several."""
    tokens = f"{most:,}" if parts == 1 else f"{parts} x {most:,}"
    return (
        f"{longer:,} of {total:,} texts are longer than the {tokens} tokens the model reads: the rest of them was not "
        "read"
    )


def input_module(model: SentenceTransformer, role: str) -> Any:
    """Return what tokenizes the texts of a role: the first module, of a router that of the role's route."""
    module: Any = model[0]
    routes = getattr(module, "sub_modules", None)
    if routes is None:
        return module
    route = role if role in routes else getattr(module, "default_route", None)
    return routes[route if route in routes else next(iter(routes))][0]


def prompt_of(model: SentenceTransformer, role: str) -> str:
    """Return the prompt that sentence-transformers puts before the texts of a role; empty where there is none."""
    names = [*(name for name in PROMPTS[role] if name in model.prompts), model.default_prompt_name]
    return model.prompts.get(names[0] or "") or ""


def _most(module: Any, tokenizer: Any, role: str) -> float:
    if isinstance(tokenizer, Tokenizer):  # static embeddings
        return tokenizer.truncation["max_length"] if tokenizer.truncation else math.inf
    if tokenizer is None or not callable(getattr(tokenizer, "tokenize", None)):
        return math.inf
    most = getattr(module, f"{role}_length", None) or getattr(module, "max_seq_length", None)
    return math.inf if most is None or most > UNLIMITED else most


def _counter(tokenizer: Any) -> Callable[[list[str]], list[int]] | None:
    """Return what counts the tokens of texts, of whatever kind a tokenizer is; it is not changed."""
    if isinstance(tokenizer, PreTrainedTokenizerBase) and not tokenizer.is_fast:
        return lambda texts: [len(ids) for ids in tokenizer(texts, truncation=False, verbose=False)["input_ids"]]
    if isinstance(tokenizer, PreTrainedTokenizerBase | Tokenizer):
        is_static = isinstance(tokenizer, Tokenizer)
        original: Any = getattr(tokenizer, "backend_tokenizer", tokenizer)
        backend = copy.deepcopy(original)
        backend.encode_special_tokens = original.encode_special_tokens
        backend.no_truncation()
        backend.no_padding()
        return lambda texts: [len(each) for each in backend.encode_batch(texts, add_special_tokens=not is_static)]
    if callable(getattr(tokenizer, "tokenize", None)):  # words
        return lambda texts: [len(tokenizer.tokenize(text)) for text in texts]
    return None
