"""``lbr serve`` as a process of its own, and clients that ask it over loopback."""

from __future__ import annotations

import base64
import contextlib
import http.client
import itertools
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode, urlsplit

import numpy as np
import psutil
from children import die_with_parent
from numpy.typing import NDArray

from lbr_st.errors import InputError

LONGEST = 300.0  # seconds that a client waits for an answer
ONE_THREAD = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}

Vectors = NDArray[np.float32]


class Question(NamedTuple):
    """What a client asks for in one request.

    Attributes:
        texts: The texts.
        is_query: Whether they are queries.
    """

    texts: list[str]
    is_query: bool


class Served(NamedTuple):
    """A server that answers.

    Attributes:
        process: Its process.
        address: Host and port.
        log: File of what it says of errors.
    """

    process: subprocess.Popen[str]
    address: tuple[str, int]
    log: Path

    def memory(self) -> int:
        """Return the bytes of memory that are its alone."""
        return int(psutil.Process(self.process.pid).memory_full_info().uss)

    def cpu_seconds(self) -> float:
        """Return the seconds that it has computed."""
        times = psutil.Process(self.process.pid).cpu_times()
        return times.user + times.system


def cores() -> tuple[int, int]:
    """Return the core of the server and that of everything else; one and the same where there is one."""
    allowed = sorted(os.sched_getaffinity(0))
    return allowed[-1], allowed[0]


@contextlib.contextmanager
def on_core(core: int) -> Iterator[None]:
    """Let this thread, and those that it starts, run on one core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextlib.contextmanager
def serving(core: int, model: Path, log: Path, *flags: str) -> Iterator[Served]:
    """Serve a model on one core in one thread; a context that kills the server.

    Raises:
        InputError: If it ends before it answers.
    """

    def prepare() -> None:
        die_with_parent()
        os.sched_setaffinity(0, {core})

    command = [sys.executable, "-m", "lbr_st.cli.main", "serve", "--model", str(model), "--port", "0", *flags]
    with open(log, "w", encoding="utf-8") as errors:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, text=True, env=os.environ | ONE_THREAD, preexec_fn=prepare
        )
    try:
        assert process.stdout is not None
        _, found, rest = process.stdout.readline().partition(" on http://")
        if not found:
            raise InputError(f"lbr serve did not begin: {log.read_text(encoding='utf-8')[-500:]}")
        where = urlsplit(f"http://{rest.split()[0].rstrip('.,')}")
        yield Served(process, (str(where.hostname), int(where.port or 0)), log)
    finally:
        process.kill()
        process.communicate()


class Client:
    """A client with a connection that is kept.

    Args:
        address: Host and port of the server.
    """

    def __init__(self, address: tuple[str, int]) -> None:
        self.connection = http.client.HTTPConnection(*address, timeout=LONGEST)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *error: object) -> None:
        self.connection.close()

    def ask(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        """Return the status of an answer and its body."""
        self.connection.request(method, path, body)
        answer = self.connection.getresponse()
        return answer.status, answer.read()

    def embed(self, question: Question) -> Vectors:
        """Return the vectors of texts, asked for as the client of OpenAI does.

        Raises:
            ValueError: If the answer is another one.
        """
        status, body = self.ask("POST", "/v1/embeddings", body_of(question))
        return vectors_of(status, body, len(question.texts))

    def search(self, question: str, k: int) -> list[str]:
        """Return the ids of the passages that are nearest to a question by their vectors.

        Raises:
            ValueError: If it is refused.
        """
        status, body = self.ask("GET", f"/search?{urlencode({'q': question, 'k': k, 'by': 'dense'})}")
        if status != 200:
            raise ValueError(f"{status}: {body!r}")
        return [hit["id"] for hit in json.loads(body)["hits"]]


def body_of(question: Question) -> bytes:
    """Return the body of a request."""
    role = "query" if question.is_query else "document"
    return json.dumps({"input": question.texts, "input_type": role, "encoding_format": "base64"}).encode()


def vectors_of(status: int, body: bytes, texts: int) -> Vectors:
    """Return the vectors of an answer.

    Raises:
        ValueError: If it is not whole, or not one of so many vectors of length 1.
    """
    if status != 200:
        raise ValueError(f"{status}: {body[:500]!r}")
    rows = json.loads(body)["data"]
    found = np.stack([np.frombuffer(base64.b64decode(row["embedding"]), "<f4") for row in rows])
    if [row["index"] for row in rows] != list(range(texts)) or np.abs(np.linalg.norm(found, axis=1) - 1).max() > 1e-4:
        raise ValueError(f"an answer with {len(rows)} vectors to {texts} texts, or not of length 1")
    return found


class Answered(NamedTuple):
    """What became of a request.

    Attributes:
        number: Number of its question.
        begun: Seconds from the start of all to its own.
        seconds: How long it took.
        vectors: Its vectors; None where it was lost.
        why: What was wrong, where it was.
        is_refused: Whether it was a new connection that nobody took.
    """

    number: int
    begun: float
    seconds: float
    vectors: Vectors | None
    why: str | None
    is_refused: bool


def ask_all(
    address: tuple[str, int],
    question_of: Callable[[int], Question],
    clients: int,
    goes_on: Callable[[int, float], bool],
) -> list[Answered]:
    """Let clients ask, each one question after the other, and wait for all that they have asked.

    A client whose connection nobody takes asks no more.

    Args:
        address: Host and port of the server.
        question_of: Returns a question by its number.
        clients: Number of clients.
        goes_on: Told the number of the next question and the seconds since the start, says whether it is asked.

    Returns:
        What became of each, in the order of their numbers.
    """
    numbers, found, start = itertools.count(), list[Answered](), time.perf_counter()

    def work() -> None:
        with Client(address) as client:
            is_refused = False
            while not is_refused and goes_on(number := next(numbers), begun := time.perf_counter() - start):
                vectors, why, is_new = None, None, client.connection.sock is None
                try:
                    vectors = client.embed(question_of(number))
                except (OSError, http.client.HTTPException, ValueError) as error:
                    client.connection.close()
                    why, is_refused = f"{type(error).__name__}: {error}", is_new and isinstance(error, ConnectionError)
                found.append(Answered(number, begun, time.perf_counter() - start - begun, vectors, why, is_refused))

    threads = [threading.Thread(target=work) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(found, key=lambda each: each.number)


def lost(answers: Sequence[Answered]) -> dict[str, Any]:
    """Return how many requests were lost, and why the first was."""
    wrong = [each for each in answers if each.vectors is None]
    return {"lost": len(wrong), "first_lost": wrong[0].why if wrong else None}
