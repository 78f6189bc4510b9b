"""What a name stands for, of which no weights are read."""

from pathlib import Path

import pytest
from helpers import make_backbone
from transformers import AutoConfig, AutoModelForCausalLM

import lbr_st
from lbr_st.errors import InputError
from lbr_st.model.named import count_parameters, has_bottleneck_tokens, is_other_embedding_model


@pytest.mark.parametrize("ask", [is_other_embedding_model, has_bottleneck_tokens])
def test_a_damaged_file_is_named_where_a_model_is_asked_what_it_is(portable, ask):
    """Commands ask before they open it: lbr merge, lbr adapt."""
    Path(portable, "lbr_config.json").write_bytes(b'{"number\x01')
    with pytest.raises(InputError, match=rf"^merge: {portable} is not a model: .*control character"):
        ask(portable, "merge:")


def test_other_embedding_models_are_told_apart(bert, portable, native, backbone):
    found = {name: is_other_embedding_model(name) for name in (bert, portable, native, backbone)}
    assert found == {bert: True, portable: False, native: False, backbone: False}


@pytest.mark.parametrize("tied", [True, False])
def test_parameters_are_counted_without_the_weights(tmp_path, tied):
    """A tied head once; of a saved model the rows of its bottleneck tokens too."""
    backbone = make_backbone(tmp_path / "backbone", tied=tied)
    expected = sum(weight.numel() for weight in AutoModelForCausalLM.from_pretrained(backbone).parameters())
    lbr_st.save(lbr_st.from_backbone(backbone, num_bottleneck_tokens=2, max_seq_length=24), tmp_path / "saved")
    for folder in (Path(backbone), tmp_path / "saved"):
        (folder / "model.safetensors").unlink()
    assert count_parameters(backbone) == expected
    assert count_parameters(str(tmp_path / "saved")) == expected + (1 if tied else 2) * 2 * 32


def test_parameters_of_a_model_in_the_native_layout(backbone, native):
    assert count_parameters(native) > count_parameters(backbone)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("absent/absent/absent", "is not a model: no such directory"),
        ("empty", "is not a model: the directory has no config.json"),
        (
            "gemma3",
            "is of model type 'gemma3', a model of images and text: .*; start from the language model in it alone",
        ),
        ("unknown", "is not a model: Unrecognized model"),
    ],
)
def test_parameters_of_what_is_no_language_model(tmp_path, monkeypatch, name, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    AutoConfig.for_model("gemma3").save_pretrained(tmp_path / "gemma3")
    (tmp_path / "unknown").mkdir()
    (tmp_path / "unknown" / "config.json").write_text("{}")
    with pytest.raises(InputError, match=message):
        count_parameters(name)
