import contextlib
import copy
import gc
import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
# The tensors are 32 wide: a second thread makes such a run ten times slower, and two of them stand in each other's way.
os.environ["OMP_NUM_THREADS"] = "1"

import pytest

# What takes seconds to import is imported where it is needed: pytest-xdist's own process reads this file too, and its
# workers wait for it.


def pytest_collection_finish() -> None:
    """Keep what was imported out of the garbage collector: each training run collects twice, over all there is."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def backbone(tmp_path_factory) -> str:
    """Directory of a tiny tied Qwen2 without BOS."""
    from helpers import make_backbone

    return make_backbone(tmp_path_factory.mktemp("backbone"))


@pytest.fixture(scope="session")
def _shared_model(backbone):
    import torch

    import lbr_st

    model = lbr_st.from_backbone(backbone, num_bottleneck_tokens=2, max_seq_length=24, dtype=torch.float32)
    return model.eval()


@pytest.fixture
def model(_shared_model):
    """A tiny model with two bottleneck tokens, longest input 24 tokens; a fresh copy for each test."""
    return copy.deepcopy(_shared_model)


@pytest.fixture(autouse=True)
def _only_whole_runs_draw_and_verify(request, monkeypatch):
    """A picture takes half a second, the check of a saved model a third: tests marked ``whole_run`` have both."""
    if "whole_run" in request.keywords:
        return
    monkeypatch.setattr("lbr_st.training.curves.plot", lambda *args: None)
    with contextlib.suppress(ImportError):  # a machine with a GPU need not have matplotlib
        monkeypatch.setattr("lbr_st.data.card.plot", lambda *args: None)
    monkeypatch.setattr("lbr_st.model.saving.verify", lambda *args, **kwargs: [])


@pytest.fixture
def prepare(tmp_path):
    """Prepare a set from sources and arguments of `PrepareConfig`; return its folder."""

    def run(*more, sources=(), folder="set", **settings):
        from lbr_st.data import PrepareConfig, prepare

        settings = {"num_proc": 1} | settings
        return prepare(PrepareConfig(sources=[*sources, *more], output_dir=tmp_path / folder, **settings)).folder

    return run
