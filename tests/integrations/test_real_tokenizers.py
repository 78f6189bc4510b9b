"""Tokenizers of real models, as packages ship them: byte-level with 129k and 65k entries, SentencePiece with 32k."""

import pytest
from environments import REAL, real_tokenizer
from helpers import tiny
from hostile_texts import SPECIALS, SPELLED
from transformers import AutoTokenizer

import lbr_st

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("name", REAL)
def test_appended_to_every_text_and_spelled_by_none(tmp_path, name):
    tokenizer, family = real_tokenizer(name, tmp_path), REAL[name][2]
    tiny(family, vocab_size=len(tokenizer), eos_token_id=tokenizer.eos_token_id).save_pretrained(tmp_path)
    model = lbr_st.from_backbone(str(tmp_path), num_bottleneck_tokens=3, max_seq_length=64)
    lbr_st.save(model, tmp_path / "model")
    again, ids = AutoTokenizer.from_pretrained(tmp_path / "model"), model[0].bottleneck_token_ids
    for text in [*SPELLED, *SPECIALS, *tokenizer.all_special_tokens, "def f(x):\n    return  x", "äöü ß 漢字"]:
        expected = tokenizer(text)["input_ids"] + ids
        assert not set(expected[:-3]) & set(ids)
        assert model.tokenizer(text)["input_ids"] == again(text, truncation=False)["input_ids"] == expected
