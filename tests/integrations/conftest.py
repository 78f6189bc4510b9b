"""Readers in environments of their own, made by ``make test-integrations``."""

import pytest
from helpers import FAMILIES, make_backbone

import lbr_st


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
