"""Half precision: refused where it is slower than float32, chosen where it is faster and gives the same vectors."""

import logging
from types import SimpleNamespace

import pytest
import torch
from helpers import TEXTS
from sentence_transformers import SentenceTransformer

from lbr_st.errors import InputError
from lbr_st.use import dtypes
from lbr_st.use.dtypes import Rates, choose_dtype, measure_rates, refuse_slow
from lbr_st.use.runtimes import Computing


@pytest.fixture
def opened(saved):
    return Computing(dtype="float32").open(str(saved))


def set_rates(monkeypatch, half, float32):
    monkeypatch.setattr(dtypes, "measure_rates", lambda model, dtype: Rates(half, float32))


def test_rates_are_of_the_shape_of_the_model(opened, monkeypatch):
    """Within bounds: a matrix of a tiny model tells nothing, and one of a large model takes long."""
    shapes, own = [], dtypes.functional.linear

    def linear(tokens, weight):
        shapes.append((tokens.dtype, *tokens.shape, weight.dtype, *weight.shape))
        return own(tokens, weight)

    monkeypatch.setattr(dtypes.functional, "linear", linear)
    rates = measure_rates(opened, "bfloat16")
    assert min(rates) > 0.01
    half, full = torch.bfloat16, torch.float32
    assert shapes[:2] == [(half, 256, 512, half, 512, 512), (full, 256, 512, full, 512, 512)] and len(shapes) == 12
    for config, expected in (
        (SimpleNamespace(hidden_size=576, intermediate_size=1536), (576, 1536)),
        (SimpleNamespace(hidden_size=9999, intermediate_size=None), (4096, 4096)),
        (None, (512, 2048)),
    ):
        of_transformers = config and SimpleNamespace(config=config)
        assert dtypes._shape_of(SimpleNamespace(transformers_model=of_transformers)) == expected


def test_the_faster_type_has_the_higher_rate(opened, monkeypatch):
    """Seconds are those of a clock that the products of float32 move twice as far."""
    now, own = [0.0], dtypes.functional.linear

    def linear(tokens, weight):
        now[0] += 2.0 if tokens.dtype == torch.float32 else 1.0
        return own(tokens, weight)

    monkeypatch.setattr(dtypes.functional, "linear", linear)
    monkeypatch.setattr(dtypes.time, "perf_counter", lambda: now[0])
    half, full = measure_rates(opened, "bfloat16")
    assert half == 2 * full == pytest.approx(2 * 256 * 512 * 512 / 1e9)


def test_what_the_machine_is_slower_in_is_refused(opened, monkeypatch):
    set_rates(monkeypatch, 35.4, 193.0)
    with pytest.raises(InputError) as error:
        refuse_slow(opened, "bfloat16")
    assert str(error.value) == (
        "--dtype bfloat16 is slower here than float32: this machine multiplies matrices of the model's shape at 35 "
        "GFLOP/s in it, and at 193 in float32; take --dtype float32"
    )
    set_rates(monkeypatch, 180.0, 193.0)
    refuse_slow(opened, "bfloat16")
    monkeypatch.setattr(dtypes, "measure_rates", lambda *args: pytest.fail("was measured"))
    for dtype in (None, "float32", "auto"):
        refuse_slow(opened, dtype)


def test_the_faster_type_is_chosen_where_its_vectors_are_the_same(saved, opened, monkeypatch, caplog):
    """By the least cosine of texts in both, which is computed here with stock sentence-transformers."""
    caplog.set_level(logging.INFO, "lbr_st")
    set_rates(monkeypatch, 99.0, 100.0)
    assert choose_dtype(opened, TEXTS) == "float32" and opened.dtype == torch.float32
    assert (
        caplog.messages[-1]
        == "--dtype auto: float32, as bfloat16 is no faster here (99 GFLOP/s in bfloat16, 100 in float32)"
    )
    set_rates(monkeypatch, 414.0, 193.0)
    half = SentenceTransformer(str(saved), device="cpu", model_kwargs={"dtype": torch.bfloat16})
    exact = opened.encode_query(TEXTS, convert_to_tensor=True)
    least = torch.cosine_similarity(half.encode_query(TEXTS, convert_to_tensor=True).float(), exact).min().item()
    assert 0.9 < least < 0.99999
    for bound, expected in ((least - 2e-3, "bfloat16"), (least + 2e-3, "float32")):
        monkeypatch.setattr(dtypes, "LEAST_COSINE", bound)
        assert choose_dtype(Computing(dtype="auto").open(str(saved)), TEXTS, "query") == expected
        said = caplog.messages[-1]
        assert said.startswith(f"--dtype auto: {expected} (414 GFLOP/s in bfloat16, 193 in float32; least cosine of")
        assert f"in 6 texts {least:.3f}" in said
