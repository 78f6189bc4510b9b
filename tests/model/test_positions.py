"""A model never gets more tokens than it has positions for: refused where they were asked for, else cut and said."""

import logging
import math

import pytest
import torch
from helpers import make_backbone, make_bert, make_tokenizer, tiny
from sentence_transformers import SentenceTransformer
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

import lbr_st
from lbr_st.errors import InputError
from lbr_st.model.opening import open_model, open_sentence_transformer
from lbr_st.model.positions import check_positions, has_end, most_positions
from lbr_st.model.trainable import check_can_be_trained

SMALL = {
    "vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16,
    "pad_token_id": 1, "n_embd": 16, "n_layer": 1, "n_head": 2, "d_model": 16, "n_layers": 1, "n_heads": 2,
    "attention_types": [[["global"], 1]], "num_layers": 1, "num_heads": 2, "rotary_dim": 4,
}  # fmt: skip


def config_of(model_type, **settings):
    return AutoConfig.for_model(model_type, **SMALL | settings)


# What the family calls it, its value, and how many tokens can be read.
WITH_TABLES = [
    ("gpt2", "n_positions", 24, 24),
    ("gpt_neo", "max_position_embeddings", 24, 24),
    ("gptj", "n_positions", 24, 24),
    ("mpt", "max_seq_len", 24, 24),
    ("bert", "max_position_embeddings", 24, 24),
    ("distilbert", "max_position_embeddings", 24, 24),
    ("electra", "max_position_embeddings", 24, 24),
    ("roberta", "max_position_embeddings", 24, 22),
    ("xlm-roberta", "max_position_embeddings", 24, 22),
    ("camembert", "max_position_embeddings", 24, 22),
    ("mpnet", "max_position_embeddings", 24, 22),
]


@pytest.mark.parametrize(
    ("model_type", "name", "value", "expected"), WITH_TABLES, ids=[each[0] for each in WITH_TABLES]
)
def test_the_number_is_what_the_model_can_read(model_type, name, value, expected):
    """As many tokens go through the model itself, and one more is an error."""
    config = config_of(model_type, **{name: value})
    assert (most_positions(config), has_end(config)) == (expected, True)
    model = AutoModel.from_config(config).eval()
    ids = torch.full((1, expected + 1), 7)
    assert model(input_ids=ids[:, :expected])[0].isfinite().all()
    with pytest.raises((IndexError, RuntimeError)):
        model(input_ids=ids)


@pytest.mark.parametrize(
    ("model_type", "settings"),
    [
        ("bloom", {}),
        ("falcon", {"alibi": True, "max_position_embeddings": 24}),
        ("t5", {}),
        ("xlnet", {}),
        ("deberta-v2", {"position_biased_input": False, "relative_attention": True, "max_position_embeddings": 24}),
        ("mamba", {}),
    ],
)
def test_positions_without_end(model_type, settings):
    config = config_of(model_type, **settings)
    assert (most_positions(config), has_end(config)) == (math.inf, False)
    check_positions(10**6, config)


ROPE = {"rope_theta": 1e4}


@pytest.mark.parametrize(
    ("rope", "expected"),
    [
        ({"rope_type": "default"}, 100),
        ({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 100}, 400),
        ({"rope_type": "linear", "factor": 2.0}, 200),
        ({"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 50}, 100),
    ],
)
def test_rotary_positions_reach_as_far_as_they_are_scaled(rope, expected):
    config = config_of("qwen2", num_key_value_heads=2, max_position_embeddings=100, rope_parameters=ROPE | rope)
    assert (most_positions(config), has_end(config)) == (expected, False)
    check_positions(expected, config)
    with pytest.raises(InputError, match=f"length of {expected + 1} is more than the {expected} tokens that this mod"):
        check_positions(expected + 1, config)


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory):
    """A GPT-2 of 64 positions."""
    return make_backbone(tmp_path_factory.mktemp("gpt2"), family="gpt2", max_position_embeddings=64)


def test_a_backbone_with_few_positions(gpt2, tmp_path):
    """Asked for more than it has: refused before its weights are read. Not asked: all that it has."""
    refusal = "a maximum length of 65 is more than the 64 tokens that this model reads"
    with pytest.raises(InputError, match=refusal):
        lbr_st.from_backbone(gpt2, max_seq_length=65)
    with pytest.raises(InputError, match=f"^--max-length 65: {refusal}"):
        check_can_be_trained(gpt2, 65)
    with pytest.raises(InputError, match="length of 512 is more than the 64 tokens"):
        open_model(gpt2, max_seq_length=512)
    model = lbr_st.from_backbone(gpt2)
    assert model.max_seq_length == 64
    assert model.encode("word " * 500).shape == (32,)
    with pytest.raises(InputError, match=refusal):
        model.max_seq_length = 65
    with pytest.raises(InputError, match=refusal):
        model[0].preprocess(["a"], max_length=65)
    lbr_st.save(model, tmp_path / "saved")
    with pytest.raises(InputError, match="length of 65 is more"):
        open_model(str(tmp_path / "saved"), max_seq_length=65)


@pytest.mark.parametrize(("texts", "length"), [(1, 64), (2, 32)])
def test_the_default_length_is_shortened_and_said(gpt2, caplog, texts, length):
    assert open_model(gpt2, texts_in_a_row=texts).max_seq_length == length
    [record] = [record for record in caplog.records if record.name.startswith("lbr_st")]
    assert record.levelno == logging.WARNING
    assert record.getMessage().startswith(f"{gpt2} reads 64 tokens in a row: texts are cut to {length} tokens")
    assert record.getMessage().endswith("where 512 are the default")


def make_encoder(folder, tokens=30, positions=24, **settings):
    """Save a RoBERTa whose saved length is more than its table has."""
    tokenizer = make_tokenizer("gpt2")
    tokenizer.add_special_tokens({"pad_token": "<pad>", "cls_token": "<s>", "sep_token": "</s>"})
    config = config_of("roberta", max_position_embeddings=positions, **{"vocab_size": len(tokenizer)} | settings)
    AutoModel.from_config(config).save_pretrained(folder / "backbone")
    tokenizer.save_pretrained(folder / "backbone")
    model = SentenceTransformer(str(folder / "backbone"))
    model.max_seq_length = tokens
    model.save_pretrained(str(folder / "st"))
    return str(folder / "st")


def test_an_encoder_that_would_read_past_its_table_is_shortened_and_said(tmp_path, caplog):
    """As published models do: its shorter texts have the vectors that they have for everyone."""
    name = make_encoder(tmp_path)
    with pytest.raises((IndexError, RuntimeError)):
        SentenceTransformer(name).encode("word " * 500)
    model = open_sentence_transformer(name)
    assert f"--model {name} reads 22 tokens at most, not 24: longer texts are cut to 22" in caplog.text
    assert model.max_seq_length == 22
    assert model.encode("word " * 500).shape == (16,)
    assert (model.encode("word") == SentenceTransformer(name).encode("word")).all()


def test_an_encoder_within_its_table_stays_as_it_is(tmp_path, caplog):
    assert open_sentence_transformer(make_bert(tmp_path / "bert")).max_seq_length == 512
    assert open_sentence_transformer(make_encoder(tmp_path, tokens=20)).max_seq_length == 20
    assert not [record for record in caplog.records if record.name.startswith("lbr_st")]


def test_a_saved_model_that_says_more_than_it_has(gpt2, tmp_path):
    """A damaged or edited directory: refused by name."""
    lbr_st.save(lbr_st.from_backbone(gpt2), tmp_path / "saved")
    config = tmp_path / "saved" / "config.json"
    config.write_text(config.read_text().replace('"n_positions": 64', '"n_positions": 60'))
    with pytest.raises(InputError, match="config.json: has 60 positions, lbr_config.json texts of 64"):
        lbr_st.load(str(tmp_path / "saved"))


def test_a_rotary_model_is_held_to_what_it_was_made_for():
    config = tiny("qwen2").config
    assert most_positions(config) == 256 and not has_end(config)
    assert AutoModelForCausalLM.from_config(config)(input_ids=torch.zeros(1, 300, dtype=int)).logits.isfinite().all()
