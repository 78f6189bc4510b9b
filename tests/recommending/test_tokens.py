"""Tokens of users and items: one id each, for every reader of tokenizer.json, and all else as it was."""

import random

import pytest
import torch
from helpers import TEXTS, make_backbone
from tokenizers import Tokenizer

import lbr_st
from lbr_st.model.bottleneck import bottleneck_module
from lbr_st.model.verify import verify
from lbr_st.recommending.tokens import add_tokens

TOKENS = ["[user_0]", "[user_10]", "[item_1]"]


@pytest.fixture(scope="module", params=["qwen2", "llama", "mistral-sliding", "gpt2"])
def made(request, tmp_path_factory):
    """A model with tokens, and what it was before."""
    folder = tmp_path_factory.mktemp("tokens")
    backbone = make_backbone(folder / "backbone", request.param, tied=request.param != "llama")
    model = lbr_st.from_backbone(backbone, num_bottleneck_tokens=2, max_seq_length=24, dtype=torch.float32)
    module = bottleneck_module(model)
    before = {
        "ids": module.tokenize_rows(TEXTS),
        "tokenizer": module.tokenizer,
        "vectors": model.encode(TEXTS),
        "rows": module.model.get_input_embeddings().weight.detach().clone(),
        "head": module.model.get_output_embeddings().weight.detach().clone(),
    }
    rows = torch.arange(3.0)[:, None].expand(3, 32) / 10
    ids = add_tokens(module, TOKENS, rows)
    return model, module, ids, rows, before


def test_texts_without_a_token_are_read_as_before(made):
    model, module, _, _, before = made
    texts = [*TEXTS, "[user_", "[user_x]", "[ user_0]", "user_0", "[user_1]"]
    assert module.tokenize_rows(TEXTS) == before["ids"]
    assert (model.encode(TEXTS) == before["vectors"]).all()
    assert not {id_ for row in module.tokenize_rows(texts) for id_ in row} & {*made[2]}


def test_no_other_text_has_one(made):
    """Pieces of tokens, white space and bottleneck tokens in any order: ids as before, unless a token is spelled."""
    _, module, ids, _, before = made
    draw = random.Random(0)
    pieces = ["[", "]", "_", "user", "[item_1", "user_", "0", "1", "0]", "[user_0", "]", " ", "\n", "\u3000", "\uff3b"]
    pieces.append("<|bottleneck 0|>")
    texts = ["".join(draw.choices(pieces, k=draw.randint(1, 8))) for _ in range(300)]
    spelled = [any(token in text for token in TOKENS) for text in texts]
    assert 5 < sum(spelled) < 100
    for text, has_one in zip(texts, spelled, strict=True):
        found = module.tokenizer(text)["input_ids"]
        assert ({*found} & {*ids} != set()) == has_one, text
        assert has_one or found == before["tokenizer"](text)["input_ids"], text


def test_a_token_is_one_id_wherever_it_stands(made):
    """A space before it belongs to it, and the text ends as ever."""
    _, module, ids, _, _ = made
    end = module.bottleneck_token_ids
    start = module.tokenizer("")["input_ids"][: module.num_prefix_tokens]
    assert module.tokenize_rows(["[user_0][item_1] [user_10]"]) == [[*start, ids[0], ids[2], ids[1], *end]]
    [row] = module.tokenize_rows(["User [user_10], 24. Chose: Heat [item_1]"])
    assert [id_ for id_ in row if id_ in ids] == [ids[1], ids[2]]
    assert module.max_seq_length == 24 and len(module.tokenize_rows(["[user_0] " * 50])[0]) == 24


def test_new_rows_are_those_given_and_old_ones_stay(made):
    _, module, ids, rows, before = made
    inputs, outputs = module.model.get_input_embeddings().weight, module.model.get_output_embeddings().weight
    assert torch.equal(inputs[ids], rows)
    known = min(ids)
    assert torch.equal(inputs[:known], before["rows"][:known]) and torch.equal(outputs[:known], before["head"][:known])
    if outputs is not inputs:
        torch.testing.assert_close(outputs[ids[0]], before["head"][:known].mean(dim=0))
    assert {*ids} <= {*module.model.generation_config.suppress_tokens}


def test_every_reader_of_the_saved_file_finds_the_same_ids(made, tmp_path):
    """Opened again, verified, and read by the tokenizers package alone."""
    model, module, _, _, _ = made
    texts = ["User [user_0], 24. Chose: Ümläute [item_1]; Heat", *TEXTS, "[user_10] [user_100]"]
    lbr_st.save(model, tmp_path / "model")
    assert any(line.startswith("vectors: ") for line in verify(tmp_path / "model", in_memory=model))
    alone = Tokenizer.from_file(str(tmp_path / "model" / "tokenizer.json"))
    expected = module.tokenize_rows(texts, 200)
    assert [each.ids for each in alone.encode_batch(texts)] == expected
    assert bottleneck_module(lbr_st.load(str(tmp_path / "model"))).tokenize_rows(texts, 200) == expected
