"""The first dimensions of vectors, of a model that was trained for them."""

import numpy as np
import pytest
from helpers import TEXTS
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Router, Transformer
from sentence_transformers.sentence_transformer.modules import Pooling

from lbr_st.errors import InputError
from lbr_st.model.dimensions import keep_dimensions, trained_dimensions
from lbr_st.model.encoding import TextEncoder


def test_cut_and_of_unit_length_again(model):
    model[0].model.config.matryoshka_dimensions = [32, 16, 8]
    assert trained_dimensions(model) == [8, 16, 32]
    texts = [*TEXTS, "and again " * 9]
    expected = model.encode_query(texts, truncate_dim=8, normalize_embeddings=True)
    keep_dimensions(model, 32)
    assert len(model) == 3
    keep_dimensions(model, 8)
    assert model.get_embedding_dimension() == 8
    assert np.abs(TextEncoder(model, 64, tried_from=1).encode(texts, "query").numpy() - expected).max() < 1e-6
    assert np.abs(model.encode_query(texts) - expected).max() < 1e-6
    assert trained_dimensions(model) == [8]


def test_one_of_two_encoders_is_of_unit_length_again(model):
    """What normalizes stands within a router."""
    model[0].model.config.matryoshka_dimensions = [8]
    whole = SentenceTransformer(modules=[Router.for_query_document([*model], [*model])])
    keep_dimensions(whole, 8)
    assert np.linalg.norm(whole.encode_query(TEXTS), axis=1) == pytest.approx(1, abs=1e-5)


def test_lengths_that_are_no_unit_stay(backbone):
    """Vectors that a model does not normalize are compared by their products, too."""
    model = SentenceTransformer(modules=[Transformer(backbone), Pooling(32, "mean")])
    model[0].model.config.matryoshka_dimensions = [8]
    expected = model.encode(TEXTS)[:, :8]
    keep_dimensions(model, 8)
    assert np.abs(model.encode(TEXTS) - expected).max() < 1e-6


def test_what_it_was_not_trained_for(model):
    for trained, said in (([8, 16], "for 8, 16, 32"), (None, "for its 32 alone")):
        model[0].model.config.matryoshka_dimensions = trained
        with pytest.raises(InputError, match=f"^--dimensions 9: the model was trained {said}; lbr align"):
            keep_dimensions(model, 9)
