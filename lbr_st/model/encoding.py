"""Texts into vectors with any sentence-transformers model, as fast as this machine can.

The vectors are those of ``SentenceTransformer.encode``; what differs is how the model gets its texts. Equal ones are
encoded once. They are tokenized once, in a thread beside the model, sorted by their tokens and cut into batches by a
budget of tokens, each padded on the right to its own length. A prompt is computed once for all of them, and short texts
of many lengths are packed side by side.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.util import truncate_embeddings
from torch import Tensor

from lbr_st.errors import InputError, shortened
from lbr_st.model.lengths import input_module, prompt_of
from lbr_st.model.packing import LEAST_TRIED, OF_A_TRIAL, Packing, pack, packed_batches, saved
from lbr_st.model.shared_prompt import SHORTEST, SharedPrompt, share_prompt
from lbr_st.model.token_batches import batches_of, default_budget, measured_budget, pieces_of
from lbr_st.model.token_rows import Row, padded, rest_of, rows_of
from lbr_st.model.weights import VANISHED, reads_by_layers, why_overflown

TOKENIZED_AT_ONCE = 128  # texts; they are about as long as each other
BATCHES_AHEAD = 16  # that the thread makes beside the model, at most
CHARACTERS_A_TOKEN = 4  # about, before a text is tokenized
WORTH_A_PROBE = 64  # batches of the default size: what encodes fewer is done before a probe pays
TRIED_LENGTH = 128  # tokens of the texts that a probe encodes
OF_A_CACHED_TOKEN = 8  # of so many, each is read by attention alone, and takes the memory of one
TRIED_FROM = 8  # texts: to try whether a model can do something costs as much as a few of them
PROMPTS_KEPT = 2  # of queries and of documents
TRIED_TOKENS = 16  # of a text, that packing is tried with
PLAIN = {"input_ids", "attention_mask"}  # of rows that can be packed, and share a prompt
EXCERPT = 60  # characters of a text that an error names
SEVERAL = 8  # texts, of which a model of words knows one
COPIED_AT_ONCE = 2**14  # vectors of texts that were there before
ENDINGS = ("a", "1", "Z", "\n", "é")  # texts that a prompt is followed by, to see which tokens are its own


@dataclass(frozen=True)
class _Way:
    """How texts are encoded.

    Attributes:
        prompt: What is put before each.
        role: ``query`` or ``document``.
        budget: Most tokens of a batch.
        shared: What is computed of the prompt, if it is.
    """

    prompt: str
    role: str
    budget: int
    shared: SharedPrompt | None

    def size(self, text: str) -> int:
        """Return about how many tokens a text has with its prompt, before it is tokenized."""
        return (len(self.prompt) + len(text)) // CHARACTERS_A_TOKEN + 1


@dataclass(frozen=True)
class _Batch:
    """Texts that are encoded at once.

    Attributes:
        positions: Where they are among all texts.
        features: What the model is given; None where it makes it of the texts itself.
        by: What runs the model otherwise than plainly: the prompt that is left out of ``features``, or the packing.
    """

    positions: list[int]
    features: dict[str, Any] | None = None
    by: SharedPrompt | Packing | None = None


def check_are_texts(texts: Sequence[str]) -> None:
    """Refuse one text where several are meant: each of its letters would be one.

    Raises:
        TypeError: If it is one.
    """
    if isinstance(texts, str):
        raise TypeError(f"expected a list of texts, got the text {shortened(texts, EXCERPT)!r}: put it into a list")


class TextEncoder:
    """Encodes texts with a model, which must not change meanwhile.

    Args:
        model: Any sentence-transformers model.
        batch_tokens: Most tokens of a batch, padding included; one text may have more. Default is what a probe of two
            seconds finds, where there is so much to encode that it pays, and else a number that depends on the device.
        tried_from: Number of texts with a prompt from which on it is tried to compute the prompt once for all of them.
            Short texts are packed when that would have saved the time that it takes to try it. What has to give the
            same bytes wherever it begins says 1, and both are tried at once.
    """

    def __init__(
        self, model: SentenceTransformer, batch_tokens: int | None = None, tried_from: int = TRIED_FROM
    ) -> None:
        self.model, self.batch_tokens, self.tried_from = model, batch_tokens, tried_from
        self._asked: Counter[tuple[str, str]] = Counter()
        self._is_tokenized = True  # until the model shows that it reads something else than rows of tokens
        self._shared: dict[tuple[str, str], SharedPrompt | None] = {}
        self._packing: Packing | None = None
        self._to_save = 0  # tokens that packing would have saved
        self._may_pack = True  # until the model shows that it cannot

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

        Raises:
            InputError: If a vector is not finite, or zero where that is not for want of a word that the model knows.
            TypeError: If there is one text, and no list.
        """
        check_are_texts(texts)
        if not texts:
            return torch.empty(0, self.model.get_embedding_dimension() or 0)
        prompt = prompt_of(self.model, role) if prompt is None else prompt
        first: dict[str, int] = {}  # row of each text that is another than those before it
        where = [first.setdefault(text, row) for row, text in enumerate(texts)]
        unique, rows = list(first), torch.tensor(list(first.values()))
        times = np.bincount(where)[rows.numpy()]
        found = torch.empty(0)
        self.model.eval()
        with torch.inference_mode(), contextlib.closing(self._vectors(unique, prompt, role)) as batches:
            for positions, vectors in batches:
                if not len(found):
                    with torch.inference_mode(False):  # what is returned may be changed by whoever asked
                        found = torch.empty(len(texts), vectors.shape[1])
                self._check([unique[at] for at in positions], vectors)
                found[rows[positions]] = vectors
                if on_texts is not None:
                    on_texts(int(times[positions].sum()))
        self._check_some_direction(unique, found, rows)
        again = [row for row, at in enumerate(where) if at != row]
        for start in range(0, len(again), COPIED_AT_ONCE):  # all vectors are not held twice
            some = again[start : start + COPIED_AT_ONCE]
            found[some] = found[[where[row] for row in some]]
        return found

    def _check(self, texts: Sequence[str], vectors: Tensor) -> None:
        """Refuse vectors that are no numbers, or zero where a model reads by layers: what follows would rank by chance.

        Raises:
            InputError: With the first text.
        """
        wrong, what = ~vectors.isfinite().all(dim=1), "not finite (NaN or infinite)"
        if not wrong.any() and reads_by_layers(self.model):
            wrong, what = vectors.norm(dim=1) < VANISHED, "zero"
            for at in wrong.nonzero().flatten().tolist():  # of a text without a word there may be no tokens
                wrong[at] = any(map(str.isalnum, texts[at]))
        if wrong.any():
            raise self._refusing(f"the vector of {shortened(texts[int(wrong.nonzero()[0])], EXCERPT)!r} is {what}")

    def _check_some_direction(self, texts: Sequence[str], vectors: Tensor, rows: Tensor) -> None:
        """Refuse a model of words that gives no vector for any of several texts; it need not know the words of one."""
        known = [at for at, text in enumerate(texts) if text.strip()]
        if len(known) >= SEVERAL and bool((vectors.norm(dim=1)[rows[known]] < VANISHED).all()):
            raise self._refusing(f"the vectors of all {len(known)} texts are zero")

    def _refusing(self, what: str) -> InputError:
        name = getattr(getattr(self.model.transformers_model, "config", None), "_name_or_path", "")
        return InputError(f"{name or 'the model'} cannot be used: {what} {why_overflown(self.model)}")

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
        rows = rows_of(features)
        if rows is None:
            return default_budget(self._on_gpu)
        [row] = [{name: ids[:TRIED_LENGTH] for name, ids in row.items()} for row in rows]
        rest = rest_of(features)

        def run(tokens: int) -> None:
            number = max(1, tokens // len(row["input_ids"]))
            self._forward(self._padded([row] * number, "document") | rest, "document").cpu()

        return measured_budget(run, self._on_gpu)

    def _vectors(self, texts: Sequence[str], prompt: str, role: str) -> Generator[tuple[list[int], Tensor]]:
        """Yield positions of texts with their vectors, batch by batch."""
        budget = self.budget(sum(map(len, texts)) + len(prompt) * len(texts))
        way = _Way(prompt, role, budget, self._shared_prompt(prompt, role, len(texts)))
        copied: tuple[list[int], Tensor, Any] | None = None
        for batch in self._batches(texts, way):
            if batch.features is None:
                vectors = self._plain([texts[at] for at in batch.positions], way)
            else:
                features = {name: self._moved(value) for name, value in batch.features.items()}
                vectors = self._forward(features, role, batch.by)
            # While a GPU copies vectors of one batch, it is given the next one.
            before, copied = copied, (batch.positions, *self._copied(vectors.float()))
            if before is not None:
                yield _arrived(before)
        if copied is not None:
            yield _arrived(copied)

    def _batches(self, texts: Sequence[str], way: _Way) -> Iterator[_Batch]:
        """Yield batches; while the model runs those of a piece of the texts, a thread makes those of the next."""

        def make(piece: Sequence[int]) -> list[_Batch]:
            return self._batches_of([texts[at] for at in piece], piece, way)

        first, *others = pieces_of([way.size(text) for text in texts], 2 * way.budget, BATCHES_AHEAD // 2)
        if not others:
            yield from make(first)
            return
        with ThreadPoolExecutor(1, thread_name_prefix="tokenizer") as thread:
            ahead = thread.submit(make, first)
            for piece in others:
                made, ahead = ahead.result(), thread.submit(make, piece)
                yield from made
            yield from ahead.result()

    def _batches_of(self, texts: Sequence[str], positions: Sequence[int], way: _Way) -> list[_Batch]:
        """Return the batches of a piece of the texts, at positions among all of them."""
        rows: list[Row] = []
        rest: dict[str, Any] = {}
        for start in range(0, len(texts), TOKENIZED_AT_ONCE) if self._is_tokenized else ():
            some = list(texts[start : start + TOKENIZED_AT_ONCE])
            features = self.model.preprocess(some, prompt=way.prompt, task=way.role)
            found = rows_of(features)
            if found is None:
                self._is_tokenized = False
                break
            rows += found
            rest = rest_of(features)
        if not self._is_tokenized:
            sizes = [way.size(text) for text in texts]
            return [_Batch([positions[at] for at in batch]) for batch in batches_of(sizes, way.budget)]
        groups: dict[SharedPrompt | None, list[int]] = {}
        for at, row in enumerate(rows):
            has_prompt = way.shared is not None and set(row) == PLAIN and _begins_with(row, way.shared)
            groups.setdefault(way.shared if has_prompt else None, []).append(at)
        batches = []
        for shared, members in groups.items():
            known = 0 if shared is None else len(shared)
            lengths = [len(rows[at]["input_ids"]) - known + known // OF_A_CACHED_TOKEN for at in members]
            plain = batches_of(lengths, way.budget)
            if shared is None and (packed := self._packed(rows, members, lengths, plain, way)):
                for those, features in packed:
                    batches.append(_Batch([positions[at] for at in those], features | rest, self._packing))
                continue
            for batch in plain:
                those = [members[at] for at in batch]
                features = self._padded([rows[at] for at in those], way.role, known) | rest
                batches.append(_Batch([positions[at] for at in those], features, shared))
        return batches

    def _packed(
        self, rows: Sequence[Row], members: Sequence[int], lengths: Sequence[int], plain: Sequence[list[int]], way: _Way
    ) -> list[tuple[list[int], dict[str, Tensor]]]:
        """Return batches of packed texts with their features, where they take less time than plain ones; else none."""
        if self._on_gpu or not self._may_pack:
            return []  # the attention of a GPU is slow with such a mask
        batches = packed_batches(lengths, way.budget)
        saves = saved(lengths, plain, batches)
        if not saves:
            return []
        self._to_save += saves
        if self._packing is None:
            if self._to_save < OF_A_TRIAL and self.tried_from > 1:
                return []
            longest = rows[members[plain[0][0]]]["input_ids"][:TRIED_TOKENS].tolist()
            if len(longest) < LEAST_TRIED:  # it is decided by a longer text, wherever a run begins
                return []
            self._packing = pack(self.model, longest) if set(rows[members[0]]) == PLAIN else None
            self._may_pack = self._packing is not None
        if self._packing is None:
            return []
        padding = self._padding(way.role)
        found = []
        for batch in batches:
            those = [members[at] for row in batch for at in row]
            packed = self._packing.arguments([[rows[members[at]] for at in row] for row in batch], padding)
            found.append((those, self._padded([rows[at] for at in those], way.role) | packed))
        return found

    def _padded(self, rows: Sequence[Row], role: str, start: int = 0) -> dict[str, Tensor]:
        """Return rows as the model takes them, without the tokens before ``start``, which are computed already."""
        features = padded(rows, self._padding(role), start)
        return {name: value.pin_memory() for name, value in features.items()} if self._on_gpu else features

    def _padding(self, role: str) -> int:
        return getattr(getattr(input_module(self.model, role), "tokenizer", None), "pad_token_id", None) or 0

    def _shared_prompt(self, prompt: str, role: str, texts: int) -> SharedPrompt | None:
        self._asked[prompt, role] += texts
        if not prompt or not self._is_tokenized or self._asked[prompt, role] < self.tried_from:
            return None
        if (prompt, role) not in self._shared:
            while len(self._shared) >= PROMPTS_KEPT:
                del self._shared[next(iter(self._shared))]
            ids = self._ids_of(prompt, role)
            self._shared[prompt, role] = share_prompt(self.model, ids) if len(ids) >= SHORTEST else None
        return self._shared[prompt, role]

    def _ids_of(self, prompt: str, role: str) -> list[int]:
        """Return the tokens that texts with a prompt begin with, whatever comes after it."""
        rows = rows_of(type(self.model).preprocess(self.model, list(ENDINGS), prompt=prompt, task=role))
        if rows is None:
            return []
        first, *others = [row["input_ids"].tolist() for row in rows]
        shortest = min(map(len, [first, *others]))
        same = (at for at in range(shortest) if any(ids[at] != first[at] for ids in others))
        return first[: next(same, shortest)]

    def _forward(self, features: dict[str, Any], role: str, by: SharedPrompt | Packing | None = None) -> Tensor:
        found = self.model(features, task=role) if by is None else by.features(features)
        vectors = found["sentence_embedding"]
        width = self.model.truncate_dim
        return vectors if width is None else truncate_embeddings(vectors, width)

    def _plain(self, texts: Sequence[str], way: _Way) -> Tensor:
        """Return the vectors of a batch by a model that reads something else than rows of tokens, such as words."""
        options: dict[str, Any] = {"batch_size": len(texts), "convert_to_tensor": True, "show_progress_bar": False}
        found: Any = self.model.encode(list(texts), prompt=way.prompt, task=way.role, **options)
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
