"""Environments of their own, made by ``make test-integrations``, and what is read in them."""

from pathlib import Path

from helpers import ROOT, TEXTS

from lbr_st.model.tokens import bottleneck_token

ENVIRONMENTS = ROOT / ".integrations"
# Texts that end in no whitespace: sentence-transformers 3 strips it (docs/guides/model.md).
INPUTS = ["one", bottleneck_token(1), f"a {bottleneck_token(0)} b", "<|bottleneckĠ0|> <|bottleneck▁1|>", *TEXTS]


def environment(name: str) -> Path:
    """Return the folder of an environment, which must have been made."""
    folder = ENVIRONMENTS / name
    assert folder.is_dir(), f"{folder} is missing: run this through make test-integrations"
    return folder
