"""Texts into vectors with any sentence-transformers model, as fast as this machine can.

The vectors are those of ``SentenceTransformer.encode``; what differs is how the model gets its texts. Equal ones are
encoded once. They are tokenized once, in a thread beside the model, sorted by their tokens and cut into batches by a
budget of tokens, each padded on the right to its own length. A prompt is computed once for all of them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from sentence_transformers.util import truncate_embeddings
from torch import Tensor

from lbr_st.model.lengths import input_module, prompt_of
from lbr_st.model.shared_prompt import SHORTEST, SharedPrompt, share_prompt
from lbr_st.model.token_batches import batches_of, default_budget, measured_budget, pieces_of

Row = dict[str, NDArray[np.int64]]  # what a tokenizer says of a text, without padding

TOKENIZED_AT_ONCE = 128  # texts; they are about as long as each other
BATCHES_AHEAD = 16  # that the thread makes beside the model, at most
CHARACTERS_A_TOKEN = 4  # about, before a text is tokenized
WORTH_A_PROBE = 64  # batches of the default size: what encodes fewer is done before a probe pays
TRIED_LENGTH = 128  # tokens of the texts that a probe encodes
OF_A_CACHED_TOKEN = 8  # of so many, each is read by attention alone, and takes the memory of one
PROMPTS_KEPT = 2  # of queries and of documents
OF_TOKENS = {"input_ids", "attention_mask", "token_type_ids"}  # what rows can be made of
ENDINGS = ("a", "1", "Z", "\n", "é")  # texts that a prompt is followed by, to see which tokens are its own


@dataclass
class _Batch:
    """Texts that are encoded at once.

    Attributes:
        positions: Where they are among all texts.
        features: What the model is given; None where it makes it of the texts itself.
        shared: What is computed of the tokens that are left out of ``features``.
    """

    positions: list[int]
    features: dict[str, Any] | None = None
    shared: SharedPrompt | None = None


class TextEncoder:
    """Encodes texts with a model, which must not change meanwhile.

    Args:
        model: Any sentence-transformers model.
        batch_tokens: Most tokens of a batch, padding included; one text may have more. Default is what a probe of two
            seconds finds, where there is so much to encode that it pays, and else a number that depends on the device.
    """

    def __init__(self, model: SentenceTransformer, batch_tokens: int | None = None) -> None:
        self.model, self.batch_tokens = model, batch_tokens
        self._is_tokenized = True  # until the model shows that it reads something else than rows of tokens
        self._shared: dict[tuple[str, str], SharedPrompt | None] = {}

    def encode(
        self,
        texts: Sequence[str],
        role: str = "document",
        prompt: str | None = None,
        on_texts: Callable[[int], Any] | None = None,
    ) -> Tensor:
        """Return the vectors of texts, in their order: ``(texts, dimensions)`` float32, in memory of the processor.

        Args:
            texts: Texts.
            role: ``query`` or ``document``: whose prompt is put before a text, and what a router is told.
            prompt: Another prompt than that of the role.
            on_texts: Called with the number of texts that were encoded, again and again.
        """
        if not texts:
            return torch.empty(0, self.model.get_embedding_dimension() or 0)
        prompt = prompt_of(self.model, role) if prompt is None else prompt
        places: dict[str, int] = {}
        where = [places.setdefault(text, len(places)) for text in texts]
        unique, times = list(places), np.bincount(where)
        found = torch.empty(0)
        self.model.eval()
        with torch.inference_mode(), contextlib.closing(self._vectors(unique, prompt, role)) as batches:
            for positions, vectors in batches:
                if not len(found):
                    found = torch.empty(len(unique), vectors.shape[1])
                found[positions] = vectors
                if on_texts is not None:
                    on_texts(int(times[positions].sum()))
        return found if len(unique) == len(texts) else found[where]

    def budget(self, characters: float) -> int:
        """Return how many tokens are encoded at once; where it pays, after a probe, whose finding is kept.

        Args:
            characters: How many characters are to be encoded.
        """
        if self.batch_tokens is not None:
            return self.batch_tokens
        default = default_budget(self._on_gpu)
        if characters < WORTH_A_PROBE * default * CHARACTERS_A_TOKEN:
            return default
        self.model.eval()
        self.batch_tokens = self._measure()
        return self.batch_tokens

    @property
    def _on_gpu(self) -> bool:
        return self.model.device.type == "cuda"

    @torch.inference_mode()
    def _measure(self) -> int:
        # Of the class: who watches what a model is given need not know of texts that nobody gave it.
        features = type(self.model).preprocess(self.model, ["a text of some words " * TRIED_LENGTH], task="document")
        rows = _rows_of(features)
        if rows is None:
            return default_budget(self._on_gpu)
        [row] = [{name: ids[:TRIED_LENGTH] for name, ids in row.items()} for row in rows]
        rest = _rest_of(features)

        def run(tokens: int) -> None:
            number = max(1, tokens // len(row["input_ids"]))
            self._forward(self._padded([row] * number, 0, "document") | rest, "document").cpu()

        return measured_budget(run, self._on_gpu)

    def _vectors(self, texts: Sequence[str], prompt: str, role: str) -> Generator[tuple[list[int], Tensor]]:
        """Yield positions of texts with their vectors, batch by batch."""
        characters = [len(text) for text in texts]
        budget = self.budget(sum(characters) + len(prompt) * len(texts))
        shared = self._shared_prompt(prompt, role)
        sizes = [(each + len(prompt)) // CHARACTERS_A_TOKEN + 1 for each in characters]
        copied: tuple[list[int], Tensor, Any] | None = None
        for batch in self._batches(texts, sizes, prompt, role, budget, shared):
            if batch.features is None:
                own = [texts[at] for at in batch.positions]
                vectors = self._plain(own, prompt, role)
            else:
                features = {name: self._moved(value) for name, value in batch.features.items()}
                vectors = self._forward(features, role, batch.shared)
            # While a GPU copies vectors of one batch, it is given the next one.
            before, copied = copied, (batch.positions, *self._copied(vectors.float()))
            if before is not None:
                yield _arrived(before)
        if copied is not None:
            yield _arrived(copied)

    def _batches(
        self,
        texts: Sequence[str],
        sizes: Sequence[int],
        prompt: str,
        role: str,
        budget: int,
        shared: SharedPrompt | None,
    ) -> Iterator[_Batch]:
        """Yield batches; while the model runs those of a piece of the texts, a thread makes those of the next."""

        def make(piece: Sequence[int]) -> list[_Batch]:
            return self._batches_of([texts[at] for at in piece], piece, prompt, role, budget, shared)

        first, *others = pieces_of(sizes, 2 * budget, BATCHES_AHEAD // 2)
        if not others:
            yield from make(first)
            return
        with ThreadPoolExecutor(1, thread_name_prefix="tokenizer") as thread:
            ahead = thread.submit(make, first)
            for piece in others:
                made, ahead = ahead.result(), thread.submit(make, piece)
                yield from made
            yield from ahead.result()

    def _batches_of(
        self,
        texts: Sequence[str],
        positions: Sequence[int],
        prompt: str,
        role: str,
        budget: int,
        shared: SharedPrompt | None,
    ) -> list[_Batch]:
        rows: list[Row] = []
        rest: dict[str, Any] = {}
        for start in range(0, len(texts), TOKENIZED_AT_ONCE) if self._is_tokenized else ():
            features = self.model.preprocess(list(texts[start : start + TOKENIZED_AT_ONCE]), prompt=prompt, task=role)
            found = _rows_of(features)
            if found is None:
                self._is_tokenized = False
                break
            rows += found
            rest = _rest_of(features)
        if not self._is_tokenized:
            sizes = [(len(prompt) + len(text)) // CHARACTERS_A_TOKEN + 1 for text in texts]
            return [_Batch([positions[at] for at in batch]) for batch in batches_of(sizes, budget)]
        with_prompt = [at for at, row in enumerate(rows) if shared is not None and _begins_with(row, shared)]
        has_prompt = set(with_prompt)
        apart = [at for at in range(len(rows)) if at not in has_prompt]
        batches = []
        for members, head in ((with_prompt, shared), (apart, None)):
            left_out = 0 if head is None else len(head)
            lengths = [len(rows[at]["input_ids"]) - left_out + left_out // OF_A_CACHED_TOKEN for at in members]
            for batch in batches_of(lengths, budget):
                those = [members[at] for at in batch]
                features = self._padded([rows[at] for at in those], left_out, role) | rest
                batches.append(_Batch([positions[at] for at in those], features, head))
        return batches

    def _padded(self, rows: Sequence[Row], left_out: int, role: str) -> dict[str, Any]:
        """Return rows padded on the right to the longest of them, without the tokens that are computed already."""
        longest = max(1, *(len(row["input_ids"]) - left_out for row in rows))
        padding = getattr(getattr(input_module(self.model, role), "tokenizer", None), "pad_token_id", None) or 0
        features = {}
        for name in rows[0]:
            padded = np.full((len(rows), longest), padding if name == "input_ids" else 0, np.int64)
            for line, row in zip(padded, rows, strict=True):
                own = row[name][left_out:]
                line[: len(own)] = own
            tensor = torch.from_numpy(padded)
            features[name] = tensor.pin_memory() if self._on_gpu else tensor
        return features

    def _shared_prompt(self, prompt: str, role: str) -> SharedPrompt | None:
        if not prompt or not self._is_tokenized:
            return None
        if (prompt, role) not in self._shared:
            while len(self._shared) >= PROMPTS_KEPT:
                del self._shared[next(iter(self._shared))]
            ids = self._ids_of(prompt, role)
            self._shared[prompt, role] = share_prompt(self.model, ids, role) if len(ids) >= SHORTEST else None
        return self._shared[prompt, role]

    def _ids_of(self, prompt: str, role: str) -> list[int]:
        """Return the tokens that texts with a prompt begin with, whatever comes after it."""
        rows = _rows_of(type(self.model).preprocess(self.model, list(ENDINGS), prompt=prompt, task=role))
        if rows is None:
            return []
        first, *others = [row["input_ids"].tolist() for row in rows]
        shortest = min(map(len, [first, *others]))
        same = (at for at in range(shortest) if any(ids[at] != first[at] for ids in others))
        return first[: next(same, shortest)]

    def _forward(self, features: dict[str, Any], role: str, shared: SharedPrompt | None = None) -> Tensor:
        found = self.model(features, task=role) if shared is None else shared.features(features)
        vectors = found["sentence_embedding"]
        width = self.model.truncate_dim
        return vectors if width is None else truncate_embeddings(vectors, width)

    def _plain(self, texts: Sequence[str], prompt: str, role: str) -> Tensor:
        """Return the vectors of a batch by a model that reads something else than rows of tokens, such as words."""
        options: dict[str, Any] = {"batch_size": len(texts), "convert_to_tensor": True, "show_progress_bar": False}
        found: Any = self.model.encode(list(texts), prompt=prompt, task=role, **options)
        return found

    def _moved(self, value: Any) -> Any:
        return value.to(self.model.device, non_blocking=self._on_gpu) if isinstance(value, Tensor) else value

    def _copied(self, vectors: Tensor) -> tuple[Tensor, Any]:
        """Begin to copy vectors from a GPU; return the copy, and what says that it is there."""
        if vectors.device.type != "cuda":
            return vectors.cpu(), None
        copy, event = vectors.to("cpu", non_blocking=True), torch.cuda.Event()
        event.record()
        return copy, event


def _arrived(copied: tuple[list[int], Tensor, Any]) -> tuple[list[int], Tensor]:
    positions, vectors, event = copied
    if event is not None:
        event.synchronize()
    return positions, vectors


def _begins_with(row: Row, shared: SharedPrompt) -> bool:
    ids, head = row["input_ids"], shared.tokens
    return len(ids) > len(head) and bool((ids[: len(head)] == head).all())


def _rows_of(features: Mapping[str, Any]) -> list[Row] | None:
    """Return the tokens of each text without padding; None where features are something else than rows of tokens."""
    tensors = {name: value for name, value in features.items() if isinstance(value, Tensor)}
    if not {"input_ids", "attention_mask"} <= set(tensors) <= OF_TOKENS:
        return None
    if any(each.dim() != 2 or each.shape != tensors["input_ids"].shape for each in tensors.values()):
        return None
    if not all(isinstance(value, str | int | None) for value in _rest_of(features).values()):
        return None
    mask = tensors["attention_mask"]
    lengths, starts = mask.sum(dim=1).tolist(), mask.argmax(dim=1).tolist()
    columns = {name: value.numpy() for name, value in tensors.items()}
    return [
        {name: column[at, start : start + length] for name, column in columns.items()}
        for at, (start, length) in enumerate(zip(starts, lengths, strict=True))
    ]


def _rest_of(features: Mapping[str, Any]) -> dict[str, Any]:
    """Return what features say of all texts, such as the number of tokens of a prompt."""
    return {name: value for name, value in features.items() if not isinstance(value, Tensor)}
