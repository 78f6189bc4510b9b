"""Several vectors a text against texts encoded with so many tokens, and numbers that its own loss chooses."""

import pytest
import torch
from helpers import PAIRS, TEXTS, make_backbone
from sentence_transformers.util import maxsim

import lbr_st
from lbr_st.errors import InputError
from lbr_st.learning.batches import collate
from lbr_st.learning.examples import ExampleMaker
from lbr_st.learning.masked_model import CutOffModel
from lbr_st.model.cutoff import BOTTLENECK
from lbr_st.use.nested import encode_vectors, read_out_losses, smallest_numbers

INPUTS = ["", "one", "blood pressure " * 100, *TEXTS]


@pytest.fixture(scope="module")
def nested(tmp_path_factory):
    backbone = make_backbone(tmp_path_factory.mktemp("backbone"), family="llama")
    model = lbr_st.from_backbone(backbone, num_bottleneck_tokens=4, nested=True, max_seq_length=24).eval()
    model.prompts["document"] = "d: "
    return model


@pytest.mark.parametrize("side", ["right", "left"])
def test_the_vectors_of_a_part_are_those_of_a_text_with_so_many_tokens(nested, side):
    nested.tokenizer.padding_side = side
    found = {k: encode_vectors(nested, INPUTS, number=k, batch_size=4) for k in (1, 2, 3, 4)}
    nested.tokenizer.padding_side = "right"
    for k, vectors in found.items():
        assert [each.shape for each in vectors] == [(k, 32)] * len(INPUTS)
        for text, of_text, all_of_text in zip(INPUTS, vectors, found[4], strict=True):
            with torch.no_grad():
                alone = nested(nested.preprocess([text], prompt="d: ", numbers=[k]))["sentence_embedding"][0]
            assert (of_text[-1] - alone).abs().max() < 1e-6
            assert (of_text - all_of_text[:k]).abs().max() < 1e-6
    assert (torch.cat(encode_vectors(nested, INPUTS)) - torch.cat(found[4])).abs().max() < 1e-6  # all, unless told


def test_the_loss_of_a_number_is_stage_1s_with_so_many_tokens(nested):
    """Against the model that stage 1 trains, on examples of each number of tokens."""
    records = {"document": [pair["document"] for pair in PAIRS]}
    losses = read_out_losses(nested, records["document"], batch_size=2)
    model, seen = CutOffModel(nested[0].model).eval(), set()
    for seed in range(12):
        columns = ExampleMaker(nested, "reconstruct", seed=seed)(records)
        rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
        with torch.no_grad():
            found = model(**collate(rows))
        for n, row in enumerate(rows):
            k = row["segments"].count(BOTTLENECK)
            if k in (1, 2, 4):
                expected = found["read_out_loss_sums"][n] / found["targets"][n]
                assert abs(losses[n, [1, 2, 4].index(k)] - expected) < 1e-5
                seen.add((n, k))
    assert len(seen) == 9


def test_the_smallest_number_within_the_margin():
    losses = torch.tensor([[3.0, 2.5, 2.0], [2.05, 2.5, 2.0], [1.0, 2.0, 3.0], [3.0, 2.1, 2.0]])
    assert smallest_numbers(losses, [1, 2, 4], 0.0) == [4, 4, 1, 4]
    assert smallest_numbers(losses, [1, 2, 4], 0.15) == [4, 1, 1, 2]
    assert smallest_numbers(losses, [1, 2, 4], 9.0) == [1, 1, 1, 1]


def test_a_text_has_as_many_vectors_as_its_loss_asks_for(nested):
    losses = read_out_losses(nested, INPUTS)
    margin = (losses[:, 0] - losses[:, -1]).median().item()
    found = encode_vectors(nested, INPUTS, margin=margin)
    numbers = [len(each) for each in found]
    assert numbers == smallest_numbers(losses, [1, 2, 4], margin)
    assert len(set(numbers)) > 1
    for part, whole in zip(found, encode_vectors(nested, INPUTS), strict=True):
        assert torch.equal(part, whole[: len(part)])


def test_the_best_match_is_sentence_transformers_own(nested):
    """One vector of a query: the largest of its cosines with the vectors of a document."""
    queries = encode_vectors(nested, TEXTS[:2], number=1, role="query")
    documents = encode_vectors(nested, TEXTS, margin=0.0)
    expected = torch.stack([torch.stack([(d @ q[0]).max() for d in documents]) for q in queries])
    assert (maxsim(queries, documents) - expected).abs().max() < 1e-6


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"number": 5}, "has 1 to 4 vectors for a text, not 5"),
        ({"number": 2, "margin": 0.1}, "a number of vectors and a margin both say"),
        ({"margin": -1.0}, "the margin must be a number of 0 or more, got -1.0"),
    ],
)
def test_what_cannot_be_asked_for_is_refused(nested, model, settings, message):
    with pytest.raises(InputError, match=message):
        encode_vectors(nested, ["a"], **settings)
    for ask in (encode_vectors, read_out_losses):
        with pytest.raises(InputError, match="was not trained with --nested"):
            ask(model, ["a"])


def test_no_texts(nested):
    assert encode_vectors(nested, []) == []
    assert read_out_losses(nested, []).shape == (0, 3)
