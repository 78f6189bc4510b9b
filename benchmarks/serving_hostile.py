"""Requests that are malformed, oversized or hostile, each with the status that it must get."""

from __future__ import annotations

import http.client
import json
import math
import random
import socket
from collections.abc import Callable
from typing import Any, NamedTuple

from hostile_texts import hostile_text
from serving_clients import LONGEST, vectors_of

MIB = 2**20
# What the server is told, so that too much is soon there.
MOST_MIB, MOST_TEXTS, MOST_TOKENS = 1, 64, 20_000
FLAGS = (
    "--max-body-mib", str(MOST_MIB), "--max-texts", str(MOST_TEXTS), "--max-tokens", str(MOST_TOKENS), "--name", "lbr",
)  # fmt: skip
EMBEDDINGS = "/v1/embeddings"
GOOD = {"input": ["a", "b"], "model": "lbr", "encoding_format": "base64"}


class Hostile(NamedTuple):
    """A request.

    Attributes:
        kind: What is wrong with it.
        sent: Its bytes, all that is sent.
        status: Status that it must get; None where it is broken off, and nobody waits for an answer.
        texts: Number of vectors of a good answer to ``POST /v1/embeddings``; 0 for other requests.
    """

    kind: str
    sent: bytes
    status: int | None
    texts: int = 0


def request(method: str = "POST", path: str = EMBEDDINGS, body: bytes = b"", **headers: str) -> bytes:
    """Return the bytes of a request that ends its connection."""
    told = {"Host": "localhost", "Connection": "close", "Content-Length": str(len(body))}
    told |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in told.items() if value)]
    return "\r\n".join([*lines, "", ""]).encode() + body


def of_json(value: Any, **headers: str) -> bytes:
    """Return the bytes of a request for embeddings."""
    return request(body=json.dumps(value).encode(), **headers)


def _not_json(rng: random.Random) -> tuple[bytes, int]:
    return request(body=b"\xff" + rng.randbytes(rng.randint(0, 200))), 400


def _cut(rng: random.Random) -> tuple[bytes, int]:
    whole = json.dumps(GOOD | {"input": [hostile_text(rng) for _ in range(3)]}).encode()
    return request(body=whole[: rng.randrange(len(whole))]), 400


def _no_object(rng: random.Random) -> tuple[bytes, int]:
    return of_json(rng.choice([None, True, 0, -1.5, math.nan, math.inf, "", "a", [], [GOOD], [[[]]]])), 400


def _nested(rng: random.Random) -> tuple[bytes, int]:
    opening = rng.choice(["[", '{"input":', '{"input":[{"a":', "[{"])
    return request(body=(opening * rng.randint(20_000, 60_000)).encode()), 400


def _field_that_is_none(rng: random.Random) -> tuple[bytes, int]:
    name = rng.choice(["inputs", "Input", "", "__class__", "prompt", "\u0000", "input\n", "stream"])
    return of_json(GOOD | {name: rng.choice([None, 1, "a", []])}), 400


def _input_that_is_none(rng: random.Random) -> tuple[bytes, int]:
    found: Any = rng.choice(
        [None, [], {}, {"a": "b"}, 1, 1.5, True, math.nan, [1, 2, 3], [[1, 2], [3]], ["a", 1], ["a", None], [["a"]],
         [True], [{}], ["a", ["b"]], [[]], [10**30], [-1]]
    )  # fmt: skip
    return of_json(GOOD | {"input": found}), 400


def _value_that_is_none(rng: random.Random) -> tuple[bytes, int]:
    name, values = rng.choice(
        [("encoding_format", ["hex", 1, True, ["float"], {"a": 1}, "BASE64", "float\u0000"]),
         ("dimensions", [-1, 1, 1.5, "8", True, False, [], [8], 10**9, -(10**4000), math.inf, math.nan, 0]),
         ("input_type", ["passage", 1, True, ["query"], {"a": 1}, "QUERY", "search_query"])]
    )  # fmt: skip
    return of_json(GOOD | {name: rng.choice(values)}), 400


def _number_that_is_long(rng: random.Random) -> tuple[bytes, int]:
    number = rng.choice("123456789") * rng.randint(5000, 100_000)
    return request(body=f'{{"input": "a", "dimensions": {number}}}'.encode()), 400


def _other_model(rng: random.Random) -> tuple[bytes, int]:
    name = rng.choice(
        ["gpt-4", "../lbr", "lbr-query-query", "LBR", 1, True, ["lbr"], {"lbr": 1}, "lbr\u0000", "x" * 9999]
    )
    return of_json(GOOD | {"model": name}), 404


def _too_many_texts(rng: random.Random) -> tuple[bytes, int]:
    return of_json(GOOD | {"input": ["a"] * rng.randint(MOST_TEXTS + 1, 5000)}), 422


def _too_many_tokens(rng: random.Random) -> tuple[bytes, int]:
    number = rng.randint(1, MOST_TEXTS)
    return of_json(GOOD | {"input": ["a " * (4 * MOST_TOKENS // number)] * number}), 422


def _too_large(rng: random.Random) -> tuple[bytes, int]:
    size = rng.choice([MOST_MIB * MIB + 1, 10**10, 10**19])
    return request(body=b"{", Content_Length=str(size)), 413


def _too_large_in_chunks(rng: random.Random) -> tuple[bytes, int]:
    body = b" " * (MOST_MIB * MIB + 1)
    chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    return request(Content_Length="", Transfer_Encoding="chunked") + chunked, 413


def _no_path(rng: random.Random) -> tuple[bytes, int]:
    path = rng.choice(
        ["/nowhere", "/v1", "/v1/embeddings/", "/v1/embeddings%00", "//v1/embeddings", "/../../etc/passwd",
         "/%2e%2e/%2e%2e/etc/passwd", "/v1/models/gpt-4", "/v1/models/..%2f..", "/search?q=a", "/admin.php", "/%ff%fe"]
    )  # fmt: skip
    return request("GET", path), 404


def _no_method(rng: random.Random) -> tuple[bytes, int]:
    method, path = rng.choice(
        [("GET", EMBEDDINGS), ("PUT", EMBEDDINGS), ("DELETE", "/health"), ("POST", "/search"), ("PATCH", "/"),
         ("GET", "/reload"), ("BREW", "/metrics"), ("OPTIONS", EMBEDDINGS)]
    )  # fmt: skip
    return request(method, path), 405


def _other_site(rng: random.Random) -> tuple[bytes, int]:
    name = rng.choice(["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:80", "[", "a" * 5000])
    if rng.random() < 0.5:
        return of_json(GOOD, Host=name), 403
    return of_json(GOOD, Origin=f"https://{name}"), 403


def _no_http(rng: random.Random) -> tuple[bytes, int]:
    head = f"POST {EMBEDDINGS} HTTP/1.1\r\nHost: localhost\r\n"
    sent = rng.choice(
        [b"\x16\x03\x01\x02\x00" + rng.randbytes(50), b"\x00" + rng.randbytes(20) + b"\r\n\r\n", b"hello\r\n\r\n",
         b"GET / HTTP/9.9\r\nHost: localhost\r\n\r\n", b"GET /a b HTTP/1.1\r\nHost: localhost\r\n\r\n",
         b"GET / HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
         *(f"{head}{line}\r\n\r\n".encode("latin-1") for line in (
             "Content-Length: abc", "Content-Length: -1", f"Content-Length: {10**30}",
             "Content-Length: 1\r\nContent-Length: 2", "X : a", "no colon",
             "Transfer-Encoding: gzip", "X: a\x00b", f"X: {'a' * 100_000}"))]
    )  # fmt: skip
    return sent, 400


def _broken_chunks(rng: random.Random) -> tuple[bytes, int]:
    return request(Content_Length="", Transfer_Encoding="chunked") + rng.choice(
        [b"zz\r\n", b"-5\r\n", b"\xff\r\n"]
    ), 400


def _words(rng: random.Random) -> tuple[bytes, int]:
    body, status = rng.choice(
        [({}, 400), ({"input": "a"}, 400), ({"input": [1]}, 400), ({"input": []}, 400), ({"input": ["a"] * 65}, 422),
         ({"input": ["a"], "input_type": "x"}, 400), ({"input": ["a"], "k": 1}, 400)]
    )  # fmt: skip
    return request(path="/words", body=json.dumps(body).encode()), status


def _nothing_to_search(rng: random.Random) -> tuple[bytes, int]:
    return (request("GET", "/search?q=%ED%A0%BD&k=-1"), 404) if rng.random() < 0.5 else (request(path="/reload"), 404)


def _hostile_texts(rng: random.Random) -> Hostile:
    texts = [hostile_text(rng) for _ in range(rng.randint(1, 4))]
    return Hostile("hostile_texts", of_json(GOOD | {"input": texts}), 200, len(texts))


def _half_characters(rng: random.Random) -> Hostile:
    """Halves of surrogate pairs, which JSON can spell and no text can hold; and keys that are there twice."""
    half = rng.choice(["\\ud800", "\\udfff", "a\\udc00b", "\\ud83d\\ud83d\\ude00"])
    body = f'{{"input": "first", "input": ["{half}", ""], "encoding_format": "base64"}}'
    return Hostile("half_characters", request(body=body.encode()), 200, 2)


def _odd_headers(rng: random.Random) -> Hostile:
    name, value = rng.choice(
        [("Content_Type", "text/plain"), ("Content_Type", "\u00ff"), ("Expect", "100-continue"),
         ("Accept", "image/png"),
         ("Authorization", "Bearer \u00e9"), ("Upgrade", "websocket"), ("X_Forwarded_For", "1.2.3.4, evil"),
         ("Accept_Encoding", "br;q=x"), ("Cookie", "a" * 8000), ("Range", "bytes=0-0")]
    )  # fmt: skip
    return Hostile("odd_headers", of_json(GOOD, **{name: value}), 200, 2)


def _gone(rng: random.Random) -> Hostile:
    whole = of_json(GOOD)
    return Hostile("gone", whole[: rng.randrange(1, len(whole) + 1)], None)


REFUSED: dict[str, Callable[[random.Random], tuple[bytes, int]]] = {
    "not_json": _not_json, "cut": _cut, "no_object": _no_object, "nested": _nested,
    "field_that_is_none": _field_that_is_none, "input_that_is_none": _input_that_is_none,
    "value_that_is_none": _value_that_is_none, "number_that_is_long": _number_that_is_long,
    "other_model": _other_model, "too_many_texts": _too_many_texts, "too_many_tokens": _too_many_tokens,
    "too_large": _too_large, "too_large_in_chunks": _too_large_in_chunks, "no_path": _no_path,
    "no_method": _no_method, "other_site": _other_site, "no_http": _no_http, "broken_chunks": _broken_chunks,
    "words": _words, "nothing_to_search": _nothing_to_search,
}  # fmt: skip
TAKEN = (_hostile_texts, _half_characters, _odd_headers, _gone)


def hostile_request(number: int, seed: int) -> Hostile:
    """Return a request by its number: every kind in turn, drawn anew each time."""
    rng = random.Random(f"{seed} {number}")
    kinds = [*REFUSED]
    place = number % (len(kinds) + len(TAKEN))
    if place >= len(kinds):
        return TAKEN[place - len(kinds)](rng)
    return Hostile(kinds[place], *REFUSED[kinds[place]](rng))


def what_is_wrong(address: tuple[str, int], asked: Hostile) -> str | None:
    """Send a request; return what is wrong with its answer, None if nothing is."""
    try:
        with socket.create_connection(address, timeout=LONGEST) as connection:
            connection.sendall(asked.sent)
            if asked.status is None:
                return None
            with http.client.HTTPResponse(connection) as answer:
                answer.begin()
                body = answer.read()
        if answer.status != asked.status:
            return f"status {answer.status}, not {asked.status}: {body[:200]!r}"
        if asked.texts:
            vectors_of(answer.status, body, asked.texts)
            return None
        error = json.loads(body)["error"]
        is_form = error.keys() == {"message", "type", "param", "code"} and error["message"]
        is_json = answer.headers["Content-Type"] == "application/json"
        return None if is_form and is_json and error["type"] == "invalid_request_error" else f"no such form: {body!r}"
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError) as error:
        return f"{type(error).__name__}: {error}"
