"""A language model behind an address that answers as OpenAI's API does: ``POST /v1/chat/completions``.

vLLM, llama.cpp, Ollama, text-generation-inference and most services do. The standard library is enough for it.
"""

from __future__ import annotations

import http.client
import json
import logging
import os
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

from lbr_st.adaptation.kinds import WRITTEN, prompt_of
from lbr_st.adaptation.query_text import Answer
from lbr_st.adaptation.writers import MOST_NEW_TOKENS, Decoding, Request
from lbr_st.data.passages import Chunker
from lbr_st.errors import InputError, UnfinishedError, one_line, shortened

logger = logging.getLogger(__name__)

KEY = "OPENAI_API_KEY"
PATH = "/chat/completions"
TIMEOUT = 120.0  # seconds that an answer may take
# What passes by itself: too many requests, a server that starts or is behind another. Seconds before each new try.
PASSES = (408, 409, 425, 429, 500, 502, 503, 504)
WAITS = (1.0, 2.0, 4.0, 8.0)
LONGEST_WAIT = 60.0
# What is wrong with one passage, such as its length, and not with the rest.
OF_ONE_PASSAGE = (400, 413, 422)
MOST_REFUSED = 5  # with no answer among them: it is not the passages
SHOWN = 200  # characters of what an endpoint says


class Endpoint:
    """Asks an endpoint for queries, several at once.

    Args:
        address: Address of the server, with ``/v1`` or without.
        model: Name of the model there.
        decoding: How answers are chosen; the seed is passed on, and what it does is the server's affair.
        at_once: Number of requests at once.

    Raises:
        InputError: If the address or the key cannot be one.
    """

    kinds: Sequence[str] = WRITTEN
    batches_are_whole = False

    def __init__(self, address: str, model: str, decoding: Decoding, at_once: int) -> None:
        self.url, self._key = url_of(address), _key()
        self.model, self.decoding, self.at_once = model, decoding, at_once
        self.about: Mapping[str, Any] = {"generator": self.url, "generator_model": model}
        self._opener = urllib.request.build_opener(_NoRedirect)
        self._stopped = threading.Event()
        self._answered = self._refused = 0

    def make_chunker(self) -> Chunker:
        """Return what cuts text into passages: what the model reads is not known, so words and marks are counted."""
        return Chunker()

    def write(self, requests: Sequence[Request]) -> Iterator[tuple[Request, Answer]]:
        """Yield the answers to a batch as they come.

        Raises:
            InputError: If the endpoint refuses what it is asked, or answers something else.
            UnfinishedError: If it does not answer after several tries.
        """
        pool = ThreadPoolExecutor(self.at_once, thread_name_prefix="endpoint")
        try:
            asked = {pool.submit(self._ask, request): request for request in requests}
            for each in as_completed(asked):
                answer = each.result()
                self._count(answer)
                yield asked[each], answer
        except BaseException:
            self._stopped.set()
            raise
        finally:
            pool.shutdown(cancel_futures=True)

    def _count(self, answer: Answer) -> None:
        self._refused += bool(answer.refused)
        self._answered += not answer.refused
        if not self._answered and self._refused >= MOST_REFUSED:
            raise InputError(f"--generator {self.url} refuses what it is asked: {answer.refused}")

    def _ask(self, request: Request) -> Answer:
        for wait in (*WAITS, None):
            try:
                with self._opener.open(self._http(request), timeout=TIMEOUT) as response:
                    return self._answer_in(response.read())
            except urllib.error.HTTPError as error:
                if error.code in OF_ONE_PASSAGE:
                    return Answer("", refused=_said(error))
                if error.code not in PASSES:
                    raise self._refusal(error) from error
                why, after = _said(error), _seconds(error.headers.get("Retry-After"))
            except (OSError, http.client.HTTPException) as error:
                why, after = one_line(getattr(error, "reason", error)), 0.0
            except InputError:
                raise
            except ValueError as error:  # of a host or a proxy that is none
                remedy = "are the address, and http_proxy and https_proxy in the environment, right?"
                raise InputError(f"--generator {self.url} cannot be asked: {one_line(error)}; {remedy}") from error
            if wait is None:
                break
            logger.debug("%s: %s; trying again", self.url, why)
            if self._stopped.wait(min(max(wait, after), LONGEST_WAIT)):
                break
        raise UnfinishedError(
            f"--generator {self.url} does not answer: {why}; is it running, and is the address right?"
        )

    def _http(self, request: Request) -> urllib.request.Request:
        body = {
            "model": self.model,
            "messages": [{"role": "user", "content": prompt_of(request.kind, request.passage.titled)}],
            "max_tokens": MOST_NEW_TOKENS,
            "temperature": self.decoding.temperature,
            "seed": self.decoding.seed_of(request) % 2**31,
        }
        headers = {"Content-Type": "application/json", "User-Agent": "lbr-st"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        return urllib.request.Request(self.url, json.dumps(body).encode(), headers)

    def _answer_in(self, data: bytes) -> Answer:
        try:
            choice = json.loads(data)["choices"][0]
            text, end = choice["message"]["content"] or "", choice.get("finish_reason")
            if not isinstance(text, str):
                raise TypeError("no text")
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            said = shortened(" ".join(data.decode("utf-8", "replace").split()), SHOWN)
            raise InputError(f"--generator {self.url} answers, and not with a chat completion: {said}") from error
        return Answer(text, ended=end != "length")

    def _refusal(self, error: urllib.error.HTTPError) -> InputError:
        said = _said(error)
        remedy = ""
        if error.code in (401, 403):
            remedy = f"; its key is read from the environment variable {KEY}"
        elif error.code == 404:
            remedy = f"; is --generator-model {self.model} there, and is the address right?"
        elif where := error.headers.get("Location"):
            remedy = f"; it has moved to {where}"
        return InputError(f"--generator {self.url}: {said}{remedy}")


def _key() -> str:
    """Return the key in the environment, without white space around it, as of a file that it was read from.

    Raises:
        InputError: If no header can hold it.
    """
    key = os.environ.get(KEY, "").strip()
    if not (key.isascii() and (key or "-").isprintable()):
        raise InputError(f"{KEY} in the environment has a character that no key has; set it anew, or unset it")
    return key


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: it would take the key to another server, and make a GET of the request."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        """Return none: what the server said is an error."""


def url_of(address: str) -> str:
    """Return the address of the chat completions of a server.

    Raises:
        InputError: If it is no address of HTTP, or has a password in it.
    """
    try:
        parts = urllib.parse.urlsplit(address)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        is_address = False
    if not is_address:
        raise InputError(f"--generator {address} is no address; write it as http://localhost:8000/v1")
    if parts.username is not None:
        raise InputError(f"--generator: no name or password in the address; a key is read from {KEY}")
    path = parts.path.rstrip("/")
    if not path.endswith(PATH):
        path += PATH if path.endswith("/v1") else f"/v1{PATH}"
    return urllib.parse.urlunsplit((parts.scheme, parts.netloc, path, parts.query, ""))


def _said(error: urllib.error.HTTPError) -> str:
    """Return what a server says of an error, in one line."""
    try:
        text = error.read().decode("utf-8", "replace")
    except (OSError, http.client.HTTPException):
        text = ""
    try:
        found = json.loads(text)["error"]
        text = str(found["message"] if isinstance(found, dict) else found)
    except (ValueError, LookupError, TypeError):
        pass
    return f"HTTP {error.code}: {shortened(' '.join(text.split()) or error.reason, SHOWN)}"


def _seconds(header: str | None) -> float:
    try:
        return max(0.0, float(header or 0))
    except ValueError:  # a date
        return 0.0
