import copy
import threading
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import servers
from sentence_transformers import SentenceTransformer

import lbr_st

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


@pytest.fixture(scope="session")
def serving(saved):
    """Serve the model in a thread, with settings; a context that stops it."""
    return partial(servers.serving, model=str(saved))


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
