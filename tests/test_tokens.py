"""Bottleneck tokens: appended to every text, spelled by none."""

import json

import pytest
import torch
from conftest import TEXTS, make_backbone
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer

from lbr_st.errors import InputError
from lbr_st.tokens import add_bottleneck_tokens, bottleneck_token

SPELLINGS = [
    "<|bottleneck 0|>",
    "a <|bottleneck 1|> b",
    "<|bottleneckĠ0|>",
    "<|bottleneck  0|>",
    "<|bottleneck 1|>" * 3,
]


def load(folder):
    return AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize("bos", [False, True])
def test_every_text_ends_with_the_tokens(tmp_path, bos):
    model, tokenizer = load(make_backbone(tmp_path / "backbone", bos=bos))
    with_tokens, ids = add_bottleneck_tokens(model, tokenizer, 3)
    assert ids == [len(tokenizer), len(tokenizer) + 1, len(tokenizer) + 2]
    for text in ["", *TEXTS]:
        assert with_tokens(text)["input_ids"] == tokenizer(text)["input_ids"] + ids
    pair = with_tokens("one", "two")["input_ids"]
    assert pair == tokenizer("one", "two")["input_ids"] + ids
    assert with_tokens.convert_ids_to_tokens(ids) == [bottleneck_token(i) for i in range(3)]
    assert {token: with_tokens.convert_tokens_to_ids(token) for token in tokenizer.get_vocab()} == tokenizer.get_vocab()


def test_no_text_spells_them(tmp_path):
    model, tokenizer = load(make_backbone(tmp_path / "backbone"))
    with_tokens, ids = add_bottleneck_tokens(model, tokenizer, 2)
    with_tokens.save_pretrained(tmp_path / "saved")
    again = AutoTokenizer.from_pretrained(tmp_path / "saved")
    raw = Tokenizer.from_file(str(tmp_path / "saved" / "tokenizer.json"))
    for text in SPELLINGS:
        for found in (with_tokens(text)["input_ids"], again(text)["input_ids"], raw.encode(text).ids):
            assert found[-2:] == ids
            assert not set(found[:-2]) & set(ids)
        assert not set(again(text, add_special_tokens=False)["input_ids"]) & set(ids)


def test_no_text_spells_them_with_ignore_merges(tmp_path):
    """Llama 3 looks a whole pre-token up before it merges; a plain entry such as <z0> would be found."""
    folder = make_backbone(tmp_path / "backbone")
    model, tokenizer = load(folder)
    with_tokens, ids = add_bottleneck_tokens(model, tokenizer, 2)
    with_tokens.save_pretrained(tmp_path / "saved")
    path = tmp_path / "saved" / "tokenizer.json"
    data = json.loads(path.read_text())
    data["model"]["ignore_merges"] = True
    raw = Tokenizer.from_str(json.dumps(data))
    for text in SPELLINGS:
        assert not set(raw.encode(text).ids[:-2]) & set(ids)


@pytest.mark.parametrize("tied", [True, False])
def test_rows(tmp_path, tied):
    """New rows lie close to the mean of the old ones, which stay bitwise as they were."""
    model, tokenizer = load(make_backbone(tmp_path / "backbone", tied=tied))
    old = [e.weight.detach().clone() for e in (model.get_input_embeddings(), model.get_output_embeddings())]
    _, ids = add_bottleneck_tokens(model, tokenizer, 2)
    new = [e.weight.detach() for e in (model.get_input_embeddings(), model.get_output_embeddings())]
    for before, after in zip(old, new, strict=True):
        assert after.shape[0] == before.shape[0] + 2
        assert torch.equal(after[:-2], before)
        distance = (after[ids] - before.mean(0)).abs().max()
        assert 0 < distance < before.std()
        assert not torch.equal(after[ids[0]], after[ids[1]])
    assert (new[0] is new[1]) or tied == torch.equal(new[0], new[1])
    assert model.config.vocab_size == len(new[0])


def test_spare_rows_are_used(tmp_path):
    model, tokenizer = load(make_backbone(tmp_path / "backbone"))
    model.resize_token_embeddings(len(tokenizer) + 10)
    _, ids = add_bottleneck_tokens(model, tokenizer, 3)
    assert model.get_input_embeddings().weight.shape[0] == len(tokenizer) + 10
    assert ids[-1] < len(tokenizer) + 10


def test_the_same_backbone_gives_the_same_rows(tmp_path):
    folder = make_backbone(tmp_path / "backbone")
    rows = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        model, tokenizer = load(folder)
        _, ids = add_bottleneck_tokens(model, tokenizer, 2)
        rows.append(model.get_input_embeddings().weight[ids])
    assert torch.equal(*rows)


def test_refusals(tmp_path):
    model, tokenizer = load(make_backbone(tmp_path / "backbone"))
    with pytest.raises(InputError, match="at least 1, got 0"):
        add_bottleneck_tokens(model, tokenizer, 0)
    with_tokens, _ = add_bottleneck_tokens(model, tokenizer, 1)
    with pytest.raises(InputError, match="has bottleneck tokens already"):
        add_bottleneck_tokens(model, with_tokens, 1)


def test_refuses_a_tokenizer_that_is_not_byte_level(tmp_path):
    from tokenizers import models, pre_tokenizers
    from transformers import TokenizersBackend

    model, _ = load(make_backbone(tmp_path / "backbone"))
    words = Tokenizer(models.WordLevel({"a": 0, "[UNK]": 1}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    with pytest.raises(InputError, match="byte-level"):
        add_bottleneck_tokens(model, TokenizersBackend(tokenizer_object=words), 1)
