"""Which similarity a model is compared by, and what is said where it is another than the one it was trained by."""

import pytest
import torch
from helpers import make_bert
from sentence_transformers import SentenceTransformer

from lbr_st.model.similarity import compare_by_cosine
from lbr_st.training.held_out import HeldOutEvaluator


@pytest.fixture
def bert(tmp_path):
    return SentenceTransformer(make_bert(tmp_path / "bert"), device="cpu")


@pytest.mark.parametrize("name", ["dot", "euclidean", "manhattan"])
def test_what_is_trained_compares_by_cosine(bert, name, caplog):
    """Vectors of length 1 have one order but by Manhattan distance; cut ones are not of length 1."""
    bert.similarity_fn_name = name
    if name != "manhattan":
        compare_by_cosine(bert, "--model m")
        assert (bert.similarity_fn_name, caplog.messages) == (name, [])
        bert.truncate_dim = 8
    compare_by_cosine(bert, "--model m")
    assert bert.similarity_fn_name == "cosine"
    said = f"--model m compares vectors by {name}; here, and in what is saved of it, it is by cosine"
    assert caplog.messages == [said]
    bert.truncate_dim, bert.similarity_fn_name = None, name
    del bert[2]
    compare_by_cosine(bert, "--model m")
    assert bert.similarity_fn_name == "cosine" and caplog.messages == [said, said]
    compare_by_cosine(bert, "--model m")
    assert len(caplog.messages) == 2


def test_held_out_pairs_are_scored_by_the_similarity_of_the_model(bert):
    """A vector is ten times as long as the others: by dot it is the first for all, by cosine for its own alone."""
    del bert[2]
    records = [{"query": text, "document": text} for text in ("iron", "zinc", "a group of words")]
    encode = bert.encode_document

    def long_first(texts, **kwargs):
        lengths = torch.tensor([10.0 if text == "iron" else 1.0 for text in texts])
        return encode(texts, **kwargs) * lengths[:, None]

    bert.encode_document = long_first
    for name, expected in (("cosine", 1.0), ("dot", 1 / 3)):
        bert.similarity_fn_name = name
        assert HeldOutEvaluator(records)(bert)["dev_cosine_accuracy@1"] == pytest.approx(expected)
