"""Real servers of ``lbr serve``, in a thread of the tests."""

import contextlib
import http.client
import json
import queue
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from lbr_st.serving.config import ServeConfig
from lbr_st.serving.run import serve


class Served:
    """A server that runs in a thread, and its client."""

    def __init__(self, server: Any, url: str) -> None:
        self.server, self.service, self.url = server, server.service, url
        self.address = (urlsplit(url).hostname, urlsplit(url).port)

    def ask(self, method: str, path: str, body: Any = None, headers: Any = None) -> tuple[int, Any, Any]:
        """Return status, headers and what JSON says; of another kind of answer its text."""
        connection = http.client.HTTPConnection(*self.address, timeout=60)
        with contextlib.closing(connection):
            sent = body if isinstance(body, bytes | None) else json.dumps(body).encode()
            connection.request(method, path, sent, headers or {})
            answer = connection.getresponse()
            text = answer.read().decode()
        is_json = answer.headers["Content-Type"] == "application/json"
        return answer.status, answer.headers, json.loads(text) if is_json and text else text

    def embed(self, input: Any, headers: Any = None, **more: Any) -> tuple[int, Any]:
        status, _, answer = self.ask("POST", "/v1/embeddings", {"input": input, "model": "lbr-model"} | more, headers)
        return status, answer

    def number(self, line: str) -> float:
        """Return a number of /metrics."""
        lines = self.ask("GET", "/metrics")[2].splitlines()
        return next((float(each.rpartition(" ")[2]) for each in lines if each.startswith(f"{line} ")), 0.0)


@contextlib.contextmanager
def serving(**settings: Any) -> Iterator[Served]:
    """Serve with the settings of `ServeConfig`, at any port; a context that stops it."""
    ready: queue.Queue[Any] = queue.Queue()

    def work() -> None:
        try:
            serve(ServeConfig(**{"port": 0} | settings), lambda *found: ready.put(found))
        except BaseException as error:
            ready.put(error)

    thread = threading.Thread(target=work)
    thread.start()
    found = ready.get(timeout=120)
    if isinstance(found, BaseException):
        thread.join()
        raise found
    served = Served(*found)
    try:
        yield served
    finally:
        served.server.should_exit = True
        thread.join(60)
        assert not thread.is_alive()
