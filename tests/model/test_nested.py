"""Nested bottlenecks: the first part of the tokens, its vectors, and what is saved."""

import json
from collections import Counter

import pytest
import torch
from helpers import TEXTS, make_backbone
from sentence_transformers import SentenceTransformer
from transformers import AutoTokenizer

import lbr_st
from lbr_st.errors import InputError
from lbr_st.model.nested import draw_numbers, preprocess_nested, sizes, with_first_tokens
from lbr_st.model.opening import open_model
from lbr_st.model.verify import verify

LONG = "blood pressure " * 100
INPUTS = ["", "one", LONG, *TEXTS]


@pytest.fixture(params=["qwen2", "llama", "gpt2"])  # without BOS, with it, and with learned positions
def nested(request, tmp_path):
    backbone = make_backbone(tmp_path / "backbone", family=request.param)
    return lbr_st.from_backbone(backbone, num_bottleneck_tokens=4, nested=True, max_seq_length=24).eval()


@pytest.mark.parametrize(
    ("most", "expected"), [(1, [1]), (2, [1, 2]), (3, [1, 2, 3]), (4, [1, 2, 4]), (6, [1, 2, 4, 6]), (8, [1, 2, 4, 8])]
)
def test_sizes(most, expected):
    assert sizes(most) == expected


def test_a_row_ends_with_the_first_tokens(nested):
    """Cut where it is cut with all of them, with room for 4."""
    module, plain = nested[0], AutoTokenizer.from_pretrained(nested[0].model.config._name_or_path)
    texts, numbers = ["", "one", LONG, "two"], [1, 2, 3, 4]
    rows = module.tokenize_rows(texts, numbers=numbers)
    for text, row, k in zip(texts, rows, numbers, strict=True):
        assert row == plain(text)["input_ids"][: 24 - 4] + module.bottleneck_token_ids[:k]
    assert module.tokenize_rows(texts) == module.tokenize_rows(texts, numbers=[4] * 4)
    batch = nested.preprocess(texts, numbers=numbers)
    assert [ids[mask.bool()].tolist() for ids, mask in zip(*batch.values(), strict=True)] == rows


@pytest.mark.parametrize("number", [0, 5])
def test_numbers_that_a_model_does_not_have_are_refused(nested, model, number):
    with pytest.raises(InputError, match=f"has 1 to 4 vectors for a text, not {number}"):
        nested[0].tokenize_rows(["a", "b"], numbers=[1, number])
    with pytest.raises(InputError, match=f"has 1 to 4 vectors for a text, not {number}"):
        with_first_tokens(nested, number)
    with pytest.raises(InputError, match="was not trained with --nested"):
        model.preprocess(["a"], numbers=[1])


def test_numbers_are_drawn_evenly_by_texts_and_seed():
    texts = [f"text {n}" for n in range(4000)]
    drawn = draw_numbers(texts, 4, 0)
    assert drawn == draw_numbers(texts, 4, 0)
    assert drawn != draw_numbers(texts, 4, 1)
    assert drawn[:-1] != draw_numbers(texts[:-1], 4, 0)  # among other texts, as in another epoch
    counts = Counter(drawn)
    assert sorted(counts) == [1, 2, 3, 4]
    assert all(900 < count < 1100 for count in counts.values())


def test_texts_of_a_batch_of_stage_2_have_numbers_of_their_own(nested):
    texts = [f"text {n}" for n in range(12)]
    numbers = draw_numbers(texts, 4, 3)
    assert len(set(numbers)) > 1
    batch = preprocess_nested(nested, 3, texts, prompt="q: ", task="query")
    found = [ids[mask.bool()].tolist() for ids, mask in zip(*batch.values(), strict=True)]
    assert found == nested[0].tokenize_rows(["q: " + text for text in texts], numbers=numbers)


@pytest.mark.parametrize("number", [1, 3])
def test_a_model_with_its_first_tokens(nested, tmp_path, number):
    """The vectors of a text with so many tokens; saved, stock classes give them too."""
    nested.prompts["query"] = "q: "
    cut = with_first_tokens(nested, number)
    features = nested.preprocess(INPUTS, prompt="q: ", numbers=[number] * len(INPUTS))
    with torch.no_grad():
        expected = nested(features)["sentence_embedding"]
    assert (cut.encode_query(INPUTS, convert_to_tensor=True) - expected).abs().max() < 1e-6
    assert nested[0].num_bottleneck_tokens == 4  # which is left as it was
    lbr_st.save(cut, tmp_path / "cut")
    list(verify(tmp_path / "cut"))
    stock = SentenceTransformer(str(tmp_path / "cut"), device="cpu")
    assert (stock.encode_query(INPUTS, convert_to_tensor=True) - expected).abs().max() < 1e-6
    assert lbr_st.load(str(tmp_path / "cut"))[0].nested is (number > 1)


def test_saved_and_opened(nested, tmp_path):
    """The portable layout, where a stock class gives the last vector of all tokens."""
    lbr_st.save(nested, tmp_path / "m")
    list(verify(tmp_path / "m"))
    assert json.loads((tmp_path / "m" / "lbr_config.json").read_text())["nested"] is True
    opened = open_model(str(tmp_path / "m"))
    assert opened[0].nested and open_model(str(tmp_path / "m"), nested=True)[0].nested
    assert opened[0].tokenize_rows(["a"], numbers=[2]) == nested[0].tokenize_rows(["a"], numbers=[2])
    stock = SentenceTransformer(str(tmp_path / "m"), device="cpu")
    assert abs(stock.encode(TEXTS) - nested.encode(TEXTS)).max() < 1e-6


def test_a_saved_model_that_is_not_nested_stays_so(model, tmp_path):
    lbr_st.save(model, tmp_path / "m")
    with pytest.raises(InputError, match=r"--model .*m was not trained with --nested; start again from its lang"):
        open_model(str(tmp_path / "m"), nested=True)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "--nested needs bottleneck tokens to choose from: give --bottleneck-tokens, 2 or more"),
        ({"num_bottleneck_tokens": 4, "compression_ratio": 5}, "--nested and --compression-ratio both say how many"),
    ],
)
def test_what_cannot_be_nested_is_refused(backbone, settings, message):
    with pytest.raises(InputError, match=message):
        lbr_st.from_backbone(backbone, nested=True, max_seq_length=24, **settings)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"nested": "yes"}, "nested is 'yes', not true or false"),
        ({"nested": True, "bottleneck_token_ids": [320]}, "nested is true: --nested needs bottleneck tokens"),
    ],
)
def test_a_damaged_file_is_found(model, tmp_path, change, message):
    lbr_st.save(model, tmp_path)
    file = tmp_path / "lbr_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(InputError, match=f"lbr_config.json: {message}"):
        list(verify(tmp_path))
