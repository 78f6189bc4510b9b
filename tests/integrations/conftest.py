"""Readers in environments of their own, made by ``make test-integrations``."""

import pytest
from environments import TERMS
from helpers import FAMILIES, make_backbone

import lbr_st
from lbr_st.model.domain_tokens import add_domain_tokens


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


@pytest.fixture(scope="session")
def with_terms(tmp_path_factory):
    """A saved model with domain tokens of each kind of tokenizer, with the model in memory."""
    models = {}
    for kind, family in {tokenizer: family for family, (_, _, tokenizer) in FAMILIES.items()}.items():
        folder = tmp_path_factory.mktemp(kind)
        backbone = make_backbone(folder / "backbone", family=family, initializer_range=0.1)
        model = lbr_st.from_backbone(backbone, num_bottleneck_tokens=2, max_seq_length=24).eval()
        add_domain_tokens(model[0], TERMS)
        lbr_st.save(model, folder / "model")
        models[kind] = folder / "model", model
    return models
