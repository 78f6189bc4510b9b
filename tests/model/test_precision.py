"""A model that computes in another type than its files: as if they had been opened in it."""

import pytest
import torch
from helpers import TEXTS, make_backbone
from sentence_transformers import SentenceTransformer

import lbr_st
from lbr_st.model.precision import compute_in


@pytest.mark.parametrize("family", ["qwen2", "gemma3"])
def test_the_same_as_opened_in_that_type(tmp_path, family):
    """Bit for bit, in a model of tied weights; the frequencies that turn positions stay in float32."""
    folder = make_backbone(tmp_path / "backbone", family)
    lbr_st.save(lbr_st.from_backbone(folder, num_bottleneck_tokens=2, max_seq_length=64), tmp_path / "model")
    expected = SentenceTransformer(str(tmp_path / "model"), device="cpu", model_kwargs={"dtype": torch.bfloat16})
    model = SentenceTransformer(str(tmp_path / "model"), device="cpu", model_kwargs={"dtype": torch.float32})
    compute_in(model, torch.bfloat16)
    assert {each.dtype for each in model.parameters()} == {torch.bfloat16}
    frequencies = [each for name, each in model.named_buffers() if "inv_freq" in name]
    assert frequencies and {each.dtype for each in frequencies} == {torch.float32}
    texts = [*TEXTS, "salt and weight " * 12]
    found = model.encode(texts, convert_to_tensor=True)
    assert found.dtype == torch.bfloat16 and torch.equal(found, expected.encode(texts, convert_to_tensor=True))
