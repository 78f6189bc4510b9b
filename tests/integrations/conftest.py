"""Readers in environments of their own, made by ``make test-integrations``."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent))  # the families of the fast tests

from conftest import FAMILIES, TEXTS, make_backbone

import lbr_st
from lbr_st.tokens import bottleneck_token

ENVIRONMENTS = Path(__file__).parent.parent.parent / ".integrations"
# Texts that end in no whitespace: sentence-transformers 3 strips it (docs/model.md).
INPUTS = ["one", bottleneck_token(1), f"a {bottleneck_token(0)} b", "<|bottleneckĠ0|> <|bottleneck▁1|>", *TEXTS]


@pytest.fixture(scope="session")
def saved(tmp_path_factory):
    """A saved model of every family, with the model in memory."""
    models = {}
    for family in FAMILIES:
        folder = tmp_path_factory.mktemp(family)
        backbone = make_backbone(folder / "backbone", family=family, tied=family != "llama", initializer_range=0.1)
        model = lbr_st.from_backbone(backbone, num_bottleneck_tokens=2, max_seq_length=24).eval()
        model.prompts["query"] = "query: "
        lbr_st.save(model, folder / "model")
        models[family] = folder / "model", model
    return models


def environment(name: str) -> Path:
    """Return the folder of an environment, which must have been made."""
    folder = ENVIRONMENTS / name
    assert folder.is_dir(), f"{folder} is missing: run this through make test-integrations"
    return folder
