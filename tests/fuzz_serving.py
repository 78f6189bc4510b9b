"""What the fuzzer asks a server: requests of every path, by a real socket, while its data change; and what is allowed.

A case of ``lbr serve`` has its requests in a file, so that it can be run once more. They are sent when the server is
ready; then it is told to end.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import io
import json
import logging
import socket
import threading
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import h11
import numpy as np
from hypothesis import strategies as st

REQUESTS = "requests.json"
KEY, PLACE = "KEY-OF-THE-SERVER", "127.0.0.1"  # in a request: the key that its server wants
PATIENCE = 0.5  # seconds in which a request must be whole
ANSWERED = 30  # seconds in which each is answered
SANE = {"input": ["How is anaemia treated?"]}

METHODS = ["GET", "GET", "GET", "HEAD", "PUT", "DELETE", "OPTIONS", "get", "", "\x00"]
POSTS = {
    "/v1/embeddings": ("input", "model", "encoding_format", "dimensions", "input_type", "user"),
    "/words": ("input", "input_type"),
    "/reload": (),
}
GETS = ["/", "/v1/models", "/v1/models/x", "/v1/models/model", "/health", "/metrics", "/search"]
GOOD_VALUES: dict[str, list[Any]] = {
    "model": ["model", "model-query", None], "encoding_format": ["float", "base64", None],
    "dimensions": [32, 16, 16.0, 8, 0, -1, True], "input_type": ["query", "document", None], "user": ["me"],
}  # fmt: skip
HEADERS = [
    f"Authorization: Bearer {KEY}", "Authorization: Bearer", "Authorization: \xff", "Content-Type: application/json",
    "Content-Type: text/plain; charset=x", "Host: example.org", "Host: ", "Host: localhost:\xb2", "Origin: null",
    "Origin: http://localhost", "Expect: 100-continue", "Upgrade: websocket", "Upgrade: h2c",
    "Transfer-Encoding: chunked", "Transfer-Encoding: gzip", "Content-Length: 3", "Content-Length: 99999999999",
    "Content-Length: -1", "Content-Encoding: gzip", "Accept: text/html", "Range: bytes=0-1", ": ", "X", "X: \x00",
    f"X: {'x' * 70000}",
]  # fmt: skip


# --- what is drawn ---


@st.composite
def bodies(draw: Any, path: str) -> bytes:
    """Draw a body: a good one, one with odd fields, or no JSON at all."""
    from fuzz_cases import GOOD, NAMES, mutated, texts, values

    inputs = st.lists(texts, min_size=1, max_size=4)
    if path != "/words":
        inputs = st.one_of(inputs, st.sampled_from(GOOD))
    fields: dict[str, Any] = {"input": draw(inputs)}
    for name in draw(st.lists(st.sampled_from(POSTS.get(path) or ("input",)), max_size=2, unique=True)):
        fields[name] = draw(st.one_of(st.sampled_from(GOOD_VALUES[name]) if name in GOOD_VALUES else inputs, values))
    if draw(st.integers(0, 5)) == 0:
        fields |= draw(st.dictionaries(st.sampled_from(NAMES), values, max_size=2))
    content = json.dumps(draw(st.one_of(st.just(fields), st.just(fields), values))).encode()
    return draw(mutated(content)) if draw(st.booleans()) else content


@st.composite
def queries(draw: Any) -> str:
    """Draw what stands behind the question mark of a search."""
    from fuzz_cases import GOOD, NAMES, NUMBERS, ODD, texts

    numbers = ["1", "3", "100", "101", "\xb2", "\u0661", "0" * 9 + "1" * 5000, *NUMBERS]
    pools = {"by": ["dense", "bm25", "fused", *ODD], "k": numbers, "side": ["after", "before", ""]}
    said = {"q": draw(st.one_of(st.sampled_from(GOOD), texts))}
    for name in draw(st.lists(st.sampled_from([*pools, *pools, *NAMES]), max_size=3)):
        said[name] = draw(st.one_of(st.sampled_from(pools.get(name, ODD)), texts))
    if draw(st.integers(0, 9)) == 0:
        return "&".join(f"{name}={value}" for name, value in said.items())
    return "&".join(f"{quote(name)}={quote(value, errors='surrogatepass')}" for name, value in said.items())


@st.composite
def asked(draw: Any) -> dict[str, str]:
    """Draw a request as a client sends it; most are whole."""
    from fuzz_cases import ODD, mutated

    path = draw(st.sampled_from(["/search", *POSTS, "/search", *GETS, "/search", *POSTS]))
    is_post = path in POSTS
    method = "POST" if is_post else "GET"
    body = draw(bodies(path)) if is_post else b""
    if path == "/search" or draw(st.integers(0, 9)) == 0:
        path += f"?{draw(queries())}"
    odd = draw(st.integers(0, 9))
    if odd == 0:
        path = draw(st.sampled_from([f"{path}/", f"/{path}", path[1:], "*", "http://x/", "/%00%ff", *ODD]))
    elif odd == 1:
        method = draw(st.sampled_from([*METHODS, *POSTS]))
    headers = [f"Host: {PLACE}", f"Authorization: Bearer {KEY}", "Connection: close", f"Content-Length: {len(body)}"]
    if odd in (2, 3):
        headers += draw(st.lists(st.sampled_from(HEADERS), min_size=1, max_size=2))
    if odd == 4:
        headers.pop(draw(st.integers(0, len(headers) - 1)))
    if odd == 5 and is_post:
        headers[-1] = "Transfer-Encoding: chunked"
        body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    head = "\r\n".join(
        [f"{method} {path} {draw(st.sampled_from(['HTTP/1.1'] * 9 + ['HTTP/1.0', 'HTTP/9', 'x']))}", *headers]
    )
    sent = head.encode("utf-8", "surrogatepass") + b"\r\n\r\n" + body
    if odd == 6:
        sent = draw(mutated(sent))
    return {"send": sent.decode("latin-1")}


@st.composite
def steps(draw: Any, files: dict[str, bytes]) -> bytes:
    """Draw requests, and between them changes of the files that are served.

    Args:
        draw: Draws.
        files: The files.
    """
    from fuzz_cases import mutated

    found: list[dict[str, str]] = []
    for _ in range(draw(st.integers(4, 12))):
        if files and draw(st.integers(0, 5)) == 0:
            name = draw(st.sampled_from(sorted(files)))
            content = draw(mutated(files[name])).decode("latin-1")
            found.append({"write": name, "content": content} if draw(st.integers(0, 3)) else {"remove": name})
            found.append({"send": sent_as("POST", "/reload").decode("latin-1")})
        else:
            found.append(draw(asked()))
    return json.dumps(found).encode()


def sent_as(method: str, path: str, body: bytes = b"") -> bytes:
    """Return a request that is in order."""
    head = f"{method} {path} HTTP/1.1\r\nHost: {PLACE}\r\nConnection: close\r\nAuthorization: Bearer {KEY}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


# --- what is asked, and allowed ---


class WrongAnswerError(AssertionError):
    """A server answered what it must not, or not at all, or its log has an error."""


class _Log(logging.Handler):
    """Keeps what is an error."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.kept: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        trace = "".join(traceback.format_exception(*record.exc_info)) if record.exc_info else ""
        self.kept.append(f"{record.getMessage()}\n{trace}")


@contextlib.contextmanager
def asking() -> Iterator[None]:
    """Let ``lbr serve`` end when it has answered the requests of its case, and raise what was wrong."""
    import lbr_st.cli.serve as command
    from lbr_st.serving import connections, service
    from lbr_st.serving.run import serve as run

    def serve(config: Any, on_ready: Any) -> None:
        wrong: list[str] = []
        threads: list[threading.Thread] = []

        def ready(server: Any, url: str) -> None:
            on_ready(server, url)

            def work() -> None:
                try:
                    wrong.extend(_ask_all(url, config))
                except Exception:  # what is wrong with this file is found too
                    wrong.append(traceback.format_exc())
                finally:
                    server.should_exit = True

            threads.append(threading.Thread(target=work, daemon=True))
            threads[-1].start()

        run(config, ready)
        for thread in threads:
            thread.join(ANSWERED)
        if said := [*log.kept, *wrong]:
            raise WrongAnswerError("\n" + "\n".join(said))

    log, loggers = _Log(), [logging.getLogger(name) for name in ("lbr_st", "uvicorn.error", "asyncio")]
    before = command.serve, connections.HEAD_SECONDS, service.BODY_SECONDS
    command.serve, connections.HEAD_SECONDS, service.BODY_SECONDS = serve, PATIENCE, PATIENCE
    loggers[-1].setLevel(logging.ERROR)
    for logger in loggers:
        logger.addHandler(log)
    try:
        yield
    finally:
        command.serve, connections.HEAD_SECONDS, service.BODY_SECONDS = before
        for logger in loggers:
            logger.removeHandler(log)


def _ask_all(url: str, config: Any) -> list[str]:
    """Send the requests of this folder, and one in order before and after them; return what was wrong."""
    address = PLACE, int(url.rpartition(":")[2])
    key = config.api_key or ""
    wrong: list[str] = []
    sane = sent_as("POST", "/v1/embeddings", json.dumps(SANE).encode())
    first = _answer(address, sane, key)
    path = Path(REQUESTS)
    for step in json.loads(path.read_bytes()) if path.is_file() else []:
        if "send" in step:
            sent = step["send"].encode("latin-1")
            wrong += [f"{what}, to {sent[:500]!r}" for what in problems(sent, _answer(address, sent, key))]
        elif "write" in step:
            Path(step["write"]).write_bytes(step["content"].encode("latin-1"))
        else:
            Path(step["remove"]).unlink(missing_ok=True)
    if not is_the_same(first, last := _answer(address, sane, key)):
        wrong.append(f"another answer afterwards than before: {first[-500:]!r}, {last[-500:]!r}")
    return wrong


def _answer(address: tuple[str, int], sent: bytes, key: str) -> bytes:
    """Return all that is answered to what is sent."""
    answered = b""
    with socket.create_connection(address, timeout=ANSWERED) as connection, contextlib.suppress(ConnectionError):
        connection.sendall(sent.replace(KEY.encode(), key.encode("utf-8", "surrogateescape")))
        while piece := connection.recv(2**16):
            answered += piece
    return answered


def is_whole(sent: bytes) -> bool:
    """Tell whether a server can see a request, or an error, in what was sent."""
    if not sent:
        return False
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(sent)
    try:
        return connection.next_event() is not h11.NEED_DATA
    except h11.RemoteProtocolError:
        return True


def problems(sent: bytes, answered: bytes) -> list[str]:
    """Return what is wrong with an answer.

    Args:
        sent: The request.
        answered: The answer.
    """
    if not answered:
        return ["no answer"] if is_whole(sent) else []
    status, kind, body = _parsed(answered, "HEAD" if sent.startswith(b"HEAD ") else "POST")
    if not (200 <= status < 300 or 400 <= status < 500):
        return [f"status {status}: {body[:500]!r}"]
    if sent.startswith(b"HEAD "):
        return []
    if kind != "application/json":
        return [f"status {status} in {kind}"] if status >= 400 else []
    try:
        said = json.loads(body, parse_constant=_no_constant)
    except ValueError as error:
        return [f"status {status} with what is no JSON, {error}: {body[:500]!r}"]
    if status >= 400:
        return [] if _is_error(said) else [f"status {status} with no error of OpenAI's form: {body[:500]!r}"]
    return [] if all(_is_vector(each) for each in said.get("data", []) if "embedding" in each) else ["no vectors"]


def _parsed(answered: bytes, method: str) -> tuple[int, str | None, bytes]:
    class Socket:
        def makefile(self, mode: str) -> io.BytesIO:
            return io.BytesIO(answered)

    response = http.client.HTTPResponse(Socket(), method=method)  # type: ignore[arg-type]
    response.begin()
    return response.status, response.headers["Content-Type"], response.read()


def _no_constant(word: str) -> None:
    raise ValueError(f"{word} is no JSON")


def _is_error(said: Any) -> bool:
    error = said.get("error") if isinstance(said, dict) else None
    return (
        isinstance(error, dict)
        and {*error} == {"message", "type", "param", "code"}
        and isinstance(error["message"], str)
        and bool(error["message"])
        and error["type"] == "invalid_request_error"
    )


def _is_vector(item: dict[str, Any]) -> bool:
    found = item["embedding"]
    vector = np.frombuffer(base64.b64decode(found), "<f4") if isinstance(found, str) else np.array(found)
    return bool(np.isfinite(vector).all() and abs(np.linalg.norm(vector) - 1) < 1e-3)


def is_the_same(first: bytes, second: bytes) -> bool:
    """Tell whether two answers to one request say the same."""
    (status, _, body), (other, _, after) = (_parsed(each, "POST") for each in (first, second))
    if status != other or status != 200:
        return status == other
    vectors: Sequence[Any] = [json.loads(each)["data"][0]["embedding"] for each in (body, after)]
    return bool(np.allclose(*vectors, rtol=0, atol=1e-6))
