"""The texts of all clients, gathered into batches by the one thread that runs the model."""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer

from lbr_st.model.encoding import TextEncoder
from lbr_st.model.lengths import TextLimit
from lbr_st.model.token_batches import default_budget
from lbr_st.serving.metrics import BATCHES, ENCODING, TEXTS, TOKENS, Metrics

logger = logging.getLogger(__name__)

Vectors = NDArray[np.float32]

TEXTS_AT_ONCE = 1_000  # of a corpus, which waits in line with the texts of clients
SPEED = 0.8  # weight of what was before in the mean of tokens a second
FIRST_SPEED = 1_000.0
MOST_SECONDS = 60  # that a client is told to wait


class Job:
    """The texts of one request, and what is there of their vectors.

    Args:
        texts: The texts.
        role: ``query`` or ``document``.
        lengths: Number of tokens that the model reads of each.

    Attributes:
        waiting: Positions of the texts that no batch has taken, longest first.
        tokens: Number of their tokens.
        future: Gets the vectors, ``(texts, dimensions)``, or what went wrong. Cancelled, the rest is not encoded.
    """

    def __init__(self, texts: Sequence[str], role: str, lengths: Sequence[int]) -> None:
        self.texts, self.role, self.lengths = texts, role, lengths
        self.waiting = deque(sorted(range(len(texts)), key=lambda at: -lengths[at]))
        self.tokens = sum(lengths)
        self.future: Future[Vectors] = Future()
        self._found: list[Any] = [None] * len(texts)
        self._left = len(texts)

    def take(self) -> int:
        """Return the position of the next text for a batch."""
        at = self.waiting.popleft()
        self.tokens -= self.lengths[at]
        return at

    def put(self, at: int, vector: Vectors) -> None:
        """Take the vector of a text."""
        self._found[at] = vector
        self._left -= 1
        if not self._left:
            self._end(lambda: self.future.set_result(np.stack(self._found)))

    def fail(self, error: BaseException) -> None:
        """Say what went wrong, and wait for no more."""
        self.waiting, self.tokens = deque(), 0
        self._end(lambda: self.future.set_exception(error))

    def _end(self, say: Callable[[], None]) -> None:
        with contextlib.suppress(InvalidStateError):  # nobody waits for it any more, or it has failed before
            say()


class Batcher:
    """Runs a model in one thread, for whoever asks; texts of all who wait are encoded together, in turn.

    Args:
        model: Any sentence-transformers model.
        batch_tokens: Most tokens of a batch; default depends on the device.
        metrics: Counts batches, texts and tokens.
    """

    def __init__(self, model: SentenceTransformer, batch_tokens: int | None = None, metrics: Metrics | None = None):
        self.batch_tokens = batch_tokens or default_budget(on_gpu=model.device.type == "cuda")
        self.encoder = TextEncoder(model, self.batch_tokens)
        self.metrics = metrics or Metrics()
        self.limits = {role: TextLimit(model, role) for role in ("query", "document")}
        self._jobs: list[Job] = []
        self._change = threading.Condition()
        self._closing = False
        self._speed = FIRST_SPEED
        self._thread = threading.Thread(target=self._run, name="model", daemon=True)

    def __enter__(self) -> Batcher:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the thread: when all are answered, or after an error at once."""
        with self._change:
            self._closing = True
            for job in self._jobs if kind is not None else ():
                job.future.cancel()
            self._change.notify()
        self._thread.join()

    def lengths(self, texts: Sequence[str], role: str) -> list[int]:
        """Return the number of tokens of each text, with its prompt, also of what the model does not read."""
        return self.limits[role].lengths(texts)

    def submit(self, texts: Sequence[str], role: str, lengths: Sequence[int]) -> Future[Vectors]:
        """Let texts be encoded.

        Args:
            texts: At least one text.
            role: ``query`` or ``document``.
            lengths: What `lengths` returns of them.

        Returns:
            Their vectors when they are there, ``(texts, dimensions)`` float32.

        Raises:
            RuntimeError: If the thread was told to end.
        """
        most = self.limits[role].most
        job = Job(texts, role, [int(min(length, most)) for length in lengths])
        with self._change:
            if self._closing:
                raise RuntimeError("the model is not run any more")
            self._jobs.append(job)
            self._change.notify()
        return job.future

    @property
    def waiting_tokens(self) -> int:
        """Number of tokens that are not encoded yet."""
        with self._change:
            return sum(job.tokens for job in self._jobs)

    def seconds_to_wait(self) -> int:
        """Return in how many seconds about half of what waits is encoded, at least one."""
        return max(1, min(MOST_SECONDS, math.ceil(self.waiting_tokens / self._speed / 2)))

    def _run(self) -> None:
        while True:
            with self._change:
                while not self._jobs and not self._closing:
                    self._change.wait()
                if not self._jobs:
                    return
                taken = self._take()
            if taken:
                self._encode(taken)

    def _take(self) -> list[tuple[Job, int]]:
        """Take texts of one role for a batch, one of each request in turn: a large one does not keep the small ones."""
        self._jobs = [job for job in self._jobs if not job.future.cancelled()]
        if not self._jobs:
            return []
        role = self._jobs[0].role
        turns = deque(job for job in self._jobs if job.role == role)
        taken, tokens = [], 0
        while turns and tokens < self.batch_tokens:
            job = turns.popleft()
            if not job.waiting:  # it has failed meanwhile
                continue
            at = job.take()
            taken.append((job, at))
            tokens += job.lengths[at]
            if job.waiting:
                turns.append(job)
        self._jobs = [*(job for job in self._jobs if job.role != role), *turns]
        return taken

    def _encode(self, taken: Sequence[tuple[Job, int]]) -> None:
        try:
            self._put(taken)
        except Exception as error:  # whatever a model raises, the thread lives on
            self._put_apart(taken, error)

    def _put(self, texts: Sequence[tuple[Job, int]]) -> None:
        start, role = time.monotonic(), texts[0][0].role
        vectors = self.encoder.encode([job.texts[at] for job, at in texts], role).numpy()
        seconds, tokens = time.monotonic() - start, sum(job.lengths[at] for job, at in texts)
        self._speed = SPEED * self._speed + (1 - SPEED) * tokens / max(seconds, 1e-6)
        self.metrics.count(BATCHES)
        self.metrics.count(ENCODING, seconds)
        self.metrics.count(TEXTS, len(texts), role=role)
        self.metrics.count(TOKENS, tokens, role=role)
        for (job, at), vector in zip(texts, vectors, strict=True):
            job.put(at, vector)

    def _put_apart(self, texts: Sequence[tuple[Job, int]], error: Exception) -> None:
        """Encode the texts of each request alone, so that only those fail that are the reason."""
        jobs = list(dict.fromkeys(job for job, _ in texts))
        for job in jobs:
            own = [each for each in texts if each[0] is job]
            try:
                if len(jobs) == 1:
                    raise error
                self._put(own)
            except Exception as reason:
                logger.error("%d texts could not be encoded", len(own), exc_info=reason)
                job.fail(reason)
