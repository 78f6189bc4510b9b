"""The quickstart at toy size: its steps, its scores, and starting it again."""

import logging

import pytest
from helpers import TEXTS
from sentence_transformers import SentenceTransformer

from lbr_st.data import installed_packages as installed
from lbr_st.quickstart import nano
from lbr_st.quickstart import run as quickstart
from lbr_st.quickstart.run import QuickstartConfig


def toy_pairs():
    for package in range(30):
        for n, (query, document) in enumerate(zip(TEXTS[:3], TEXTS[3:], strict=True)):
            name = f"package {package} number {n}"
            yield {"id": f"{package}.py:{n}", "query": f"{name} {query}", "document": f"{document} {name}",
                   "package": f"p{package}"}  # fmt: skip


def model_files(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*.safetensors")}


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """A folder to run in, with sizes of a toy."""
    folder = tmp_path_factory.mktemp("quickstart")
    config = nano.nano_config
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(installed, "installed_pairs", toy_pairs)
        patch.setattr(quickstart, "TEST_PAIRS", 9)
        patch.setattr(quickstart, "DEV_PAIRS", 9)
        for name in ("NANO_STEPS", "STAGE1_STEPS", "STAGE2_STEPS"):
            patch.setattr(quickstart, name, 2)
        patch.setattr(quickstart, "BLOCK_LENGTH", 32)
        patch.setattr(nano, "nano_config", lambda vocab_size, *_: config(vocab_size, 64, 2, 0))
        patch.setattr("lbr_st.training.curves.plot", lambda *args: None)
        yield folder


@pytest.fixture(scope="module")
def made(toy):
    """What the first start made, and the lines that it announced."""
    lines = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    quickstart.logger.addHandler(handler)
    quickstart.logger.setLevel(logging.INFO)
    try:
        return quickstart.quickstart(QuickstartConfig(baseline=True)), lines
    finally:
        quickstart.logger.removeHandler(handler)
        quickstart.logger.setLevel(logging.NOTSET)


def test_steps_and_what_they_made(made, toy):
    outcome, lines = made
    assert [line.strip()[:5] for line in lines] == [f"[{n}/6]" for n in (1, 2, 3, 4, 4, 5, 6)]
    assert (outcome.queries, outcome.documents) == (9, 9)
    assert list(outcome.scores) == ["BM25", "stage 2 alone", "stage 1 + stage 2"]
    assert all(0 <= each["recall_at_10"] <= 1 for each in outcome.scores.values())
    assert list(outcome.hits) == quickstart.QUESTIONS
    assert all(len(hits) == 3 and hits[0][0] >= hits[-1][0] for hits in outcome.hits.values())
    assert SentenceTransformer(str(toy / "lbr-model")).encode(["one"]).shape == (1, 64)


def test_starting_again(made, toy, monkeypatch):
    """A second start trains nothing again, even where a timing of precisions would now turn out otherwise."""
    weights = model_files(toy)
    before = quickstart.choose_precision(toy / "quickstart")
    monkeypatch.setattr(quickstart, "bf16_is_faster", lambda: not before)
    again = quickstart.quickstart(QuickstartConfig(baseline=True))
    assert len(weights) > 3 and model_files(toy) == weights
    assert again.scores["stage 1 + stage 2"]["ndcg_at_10"] == made[0].scores["stage 1 + stage 2"]["ndcg_at_10"]


def test_a_real_backbone_gets_folders_of_its_own(made, backbone, toy):
    before = model_files(toy)
    config = QuickstartConfig(backbone=backbone)
    outcome = quickstart.quickstart(config)
    assert config.model_dir != made[0].config.model_dir
    assert list(outcome.scores) == ["BM25", "stage 1 + stage 2"]
    assert SentenceTransformer(str(toy / config.model_dir)).encode(["one"]).shape == (1, 32)
    assert model_files(toy).items() >= before.items()
