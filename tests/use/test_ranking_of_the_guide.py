"""The lines of docs/guides/using.md that rank int8 and binary vectors, on vectors that `lbr encode` wrote."""

import numpy as np
import pytest
from documents import blocks_under
from helpers import ROOT, TEXTS
from sentence_transformers import SentenceTransformer

from lbr_st.cli.encode import main
from lbr_st.files import write_jsonl

PAGE = ROOT / "docs" / "guides" / "using.md"
BLOCKS = blocks_under(PAGE, "### Rank int8 and binary vectors")
[LINES] = [block.text for block in BLOCKS if block.language == "python"]
# Many of which differ in their meaning, as far as a model of random weights has one.
ROWS = [{"text": f"{text} {'and salt ' * (n % 5)}{n}"} for n in range(40) for text in TEXTS]


@pytest.fixture(scope="module")
def ranked(saved, tmp_path_factory):
    """What the lines have found: their names."""
    folder = tmp_path_factory.mktemp("page")
    write_jsonl(folder / "corpus.jsonl", ROWS)
    write_jsonl(folder / "queries.jsonl", [{"text": text} for text in TEXTS])
    (folder / "lbr-model").symlink_to(saved)
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for block in BLOCKS:
            for argv in block.commands if block.language == "sh" else ():
                main(argv[2:])
        exec(compile(LINES, str(PAGE), "exec"), found)
        _, found["queries"] = found["read"]("query-vectors")
    return found


@pytest.fixture(scope="module")
def exact(saved, ranked):
    model = SentenceTransformer(str(saved))
    documents = model.encode_document([row["text"] for row in ROWS])
    assert np.allclose(ranked["query"], model.encode_query("How is anaemia treated?"), atol=1e-6)
    return documents, documents @ ranked["query"]


def test_int8_has_the_order_of_float32(ranked, exact):
    """But for what 256 steps cannot tell apart: no score is further off than half a step of each dimension."""
    _, scores = exact
    steps = (ranked["high"] - ranked["low"]) / 255
    off = ranked["scores"] + ranked["query"] @ (ranked["low"] + 128.5 * steps) - scores  # with what is left out
    bound = np.abs(ranked["query"] * steps).sum() / 2
    assert np.abs(off).max() <= bound + 1e-5
    best = np.argsort(-scores)
    assert len({*ranked["by_int8"].tolist()} & {*best[:10].tolist()}) >= 8
    assert scores[ranked["by_int8"]].min() >= scores[best[9]] - 2 * bound


def test_binary_is_found_by_signs_and_scored_by_the_query(ranked, exact):
    documents, _ = exact
    query, signs = ranked["query"], np.where(documents > 0, 1.0, -1.0)
    differing = ((documents > 0) != (query > 0)).sum(axis=1)
    assert np.array_equal(ranked["differing"], differing)
    candidates = sorted(range(len(ROWS)), key=lambda at: (differing[at], at))[:40]
    expected = sorted(candidates, key=lambda at: -(signs[at] @ query))[:10]
    assert len(ranked["by_binary"]) == 10
    assert np.allclose(signs[ranked["by_binary"]] @ query, signs[expected] @ query, atol=1e-5)


def test_queries_have_the_steps_of_the_documents(saved, ranked):
    """Those that the page encodes last."""
    queries = SentenceTransformer(str(saved)).encode_query(TEXTS)
    steps = (ranked["high"] - ranked["low"]) / 255
    expected = np.clip(np.floor((queries - ranked["low"]) / steps), 0, 255) - 128
    assert np.abs(ranked["queries"] - expected).max() <= 1
