"""The first layers of a model: what is left computes what the whole one has at that depth, and its files say so."""

import pytest
import torch
from gguf_files import write_gguf
from helpers import FAMILIES, make_backbone, make_bert, tiny
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM

import lbr_st
from lbr_st.errors import InputError
from lbr_st.model import card
from lbr_st.model.layers import FAMILIES as CUT
from lbr_st.model.layers import check_layers, keep_layers
from lbr_st.model.opening import open_model
from lbr_st.model.trainable import check_can_be_trained

NORMS = {"gpt2": "ln_f", "gpt-neox": "final_layer_norm"}
IDS = torch.arange(1, 13).reshape(1, -1)  # longer than the window


def hidden(model, depth=None):
    """Return the last hidden states; with a depth, those after so many layers and the final norm."""
    body = model.base_model
    with torch.no_grad():
        if depth is None:
            return body(IDS, use_cache=False).last_hidden_state
        found = body(IDS, use_cache=False, output_hidden_states=True).hidden_states[depth]
        norm = next(getattr(body, name) for name in ("norm", *NORMS.values()) if hasattr(body, name))
        return norm(found)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("number", [1, 2])
def test_what_is_left_is_the_whole_one_at_that_depth(family, number, tmp_path):
    """In memory, and read from its directory by stock classes, of which the configuration says what is there."""
    model = tiny(family, layers=3)
    expected, logits = hidden(model, number), model(IDS).logits
    types = getattr(model.config, "layer_types", None)
    parameters = model.num_parameters()
    keep_layers(model, number)
    torch.testing.assert_close(hidden(model), expected, rtol=0, atol=0)
    assert not torch.allclose(model(IDS).logits, logits)
    assert model.num_parameters() < parameters
    model.save_pretrained(tmp_path)
    config = AutoConfig.from_pretrained(tmp_path)
    assert config.num_hidden_layers == number
    assert types is None or config.layer_types == types[:number]
    assert len(getattr(config, "no_rope_layers", None) or [0] * number) == number
    assert (getattr(config, "max_window_layers", None) or 0) <= number
    again, loading = AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not loading["missing_keys"] and not loading["unexpected_keys"]
    torch.testing.assert_close(hidden(again), expected, rtol=0, atol=1e-6)


def test_every_family_of_the_tests_is_known_and_no_other():
    assert {tiny(family).config.model_type for family in FAMILIES} == CUT


@pytest.mark.parametrize("number", [0, 2, 3])
def test_a_number_that_leaves_nothing_out_is_refused(backbone, number):
    message = f"--layers {number}: {backbone} has 2 layers; a number from 1 to 1 leaves some of them"
    with pytest.raises(InputError) as error:
        check_layers(number, AutoConfig.from_pretrained(backbone), backbone)
    assert str(error.value) == message


def test_it_is_refused_before_weights_are_read(backbone, tmp_path, monkeypatch):
    monkeypatch.setattr("lbr_st.model.opening.from_backbone", lambda *args, **kwargs: pytest.fail("weights are read"))
    with pytest.raises(InputError, match="has 2 layers"):
        check_can_be_trained(backbone, layers=2)
    with pytest.raises(InputError, match="has 2 layers"):
        open_model(backbone, layers=2)
    with pytest.raises(InputError, match="model type 'bert', of which nobody has looked"):
        check_layers(1, AutoConfig.from_pretrained(make_bert(tmp_path / "bert")), "it")


def test_an_adapter_is_merged_before(tmp_path):
    """It has updates of all layers."""
    backbone = make_backbone(tmp_path / "backbone", layers=3)
    model = AutoModelForCausalLM.from_pretrained(backbone)
    adapted = get_peft_model(model, LoraConfig(target_modules="all-linear", init_lora_weights=False))
    adapted.save_pretrained(tmp_path / "adapter")
    expected = hidden(adapted.merge_and_unload(), 1)
    cut = open_model(str(tmp_path / "adapter"), layers=1)[0].model.eval()
    torch.testing.assert_close(hidden(cut), expected, rtol=0, atol=1e-5)


def test_a_gguf_file(backbone, tmp_path):
    file = write_gguf(backbone, tmp_path / "model.gguf", "qwen2")
    whole = open_model(str(file), max_seq_length=24)[0].model.eval()
    cut = open_model(str(file), layers=1, max_seq_length=24)[0].model.eval()
    torch.testing.assert_close(hidden(cut), hidden(whole, 1), rtol=0, atol=0)


def test_a_model_of_this_package(model, tmp_path):
    """Its bottleneck tokens stay."""
    lbr_st.save(model, tmp_path / "model")
    expected = hidden(model[0].model, 1)
    cut = open_model(str(tmp_path / "model"), layers=1).eval()
    assert cut[0].num_bottleneck_tokens == 2
    torch.testing.assert_close(hidden(cut[0].model), expected, rtol=0, atol=0)


def test_the_card_says_it(model, tmp_path):
    model[0].history.append({"stage": "learn", "model": "backbone", "data": ["pairs.jsonl"], "layers": 1})
    lbr_st.save(model, tmp_path / "model")
    said = (tmp_path / "model" / card.CARD).read_text()
    assert "It has the first 1 layers of its backbone." in said and "--layers 1" in said
