import contextlib
import copy
import http.client
import json
import queue
import threading
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from sentence_transformers import SentenceTransformer

import lbr_st
from lbr_st.serving.config import ServeConfig
from lbr_st.serving.run import serve

DIMENSIONS = [8, 16]


@pytest.fixture(scope="session")
def saved(_shared_model, tmp_path_factory) -> Path:
    """Directory of a portable model with prompts, trained for shorter vectors too, as its card says."""
    folder = tmp_path_factory.mktemp("saved") / "lbr-model"
    model = copy.deepcopy(_shared_model)
    model.prompts |= {"query": "ask: ", "document": "find this: "}
    model[0].model.config.matryoshka_dimensions = DIMENSIONS
    lbr_st.save(model, folder)
    return folder


@pytest.fixture(scope="session")
def opened(saved):
    """The same model as everyone opens it."""
    return SentenceTransformer(str(saved))


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


@pytest.fixture(scope="session")
def serving(saved):
    """Serve the model in a thread, with settings; a context that stops it."""

    @contextlib.contextmanager
    def run(**settings: Any):
        ready: queue.Queue[Any] = queue.Queue()

        def work() -> None:
            try:
                serve(ServeConfig(**{"model": str(saved), "port": 0} | settings), lambda *found: ready.put(found))
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

    return run


@pytest.fixture(scope="module")
def served(serving):
    """A server that the tests of a module share; those that change it start their own."""
    with serving() as found:
        yield found


class Held:
    """Holds the thread of a model before its next batch, until it is let go."""

    def __init__(self, model: Any) -> None:
        self.model, self.reached, self.free = model, threading.Event(), threading.Event()
        self.texts: list[str] = []
        self.own = model.preprocess
        model.preprocess = self.preprocess

    def preprocess(self, texts: list[str], **options: Any) -> Any:
        self.reached.set()
        assert self.free.wait(60)
        self.texts += texts
        return self.own(texts, **options)


@pytest.fixture
def held():
    return Held
