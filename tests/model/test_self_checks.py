"""What is shown on the user's own model: no leak, packed rows read apart, a head that is all; and what is found out."""

import pytest
import torch
from helpers import FAMILIES, SHAPE, tiny
from transformers import AutoConfig, AutoModelForCausalLM

from lbr_st.errors import InputError
from lbr_st.model.self_checks import check_no_leak, check_packing, head_is_all

ATTENTION = ["sdpa", "eager"]


@pytest.mark.slow
def test_flex_attention_without_a_backward_is_refused():
    with pytest.raises(InputError, match="cannot be used with .*flex_attention.*does not support backward on CPU"):
        check_no_leak(tiny("llama", "flex_attention"))


@pytest.mark.parametrize("attention", ATTENTION)
@pytest.mark.parametrize("family", FAMILIES)
def test_leak_check_lets_these_families_through(family, attention):
    model = tiny(family, attention).train()
    check_no_leak(model)
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())


RECURRENT = {
    "qwen3_next": {},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
}


@pytest.mark.parametrize("model_type", RECURRENT)
def test_leak_check_finds_layers_that_heed_no_mask(model_type):
    """Linear attention and state spaces carry X to Y around every mask."""
    settings = SHAPE | {"vocab_size": 50, "pad_token_id": 0} | RECURRENT[model_type]
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(model_type, **settings))
    with pytest.raises(InputError, match=f"model type '{model_type}' .* leaks from X to Y around the bottleneck"):
        check_no_leak(model)


def test_leak_check_finds_a_mask_that_is_not_heeded(monkeypatch):
    """A boolean mask under eager attention, as one would build by hand: it is added to the scores."""

    def boolean(config, inputs_embeds, attention_mask, cache, and_mask_function):
        length = attention_mask.shape[1]
        causal = torch.ones(length, length, dtype=torch.bool).tril()
        seen = and_mask_function(0, 0, torch.arange(length)[:, None], torch.arange(length)[None])
        return (causal & seen)[None, None]

    monkeypatch.setattr("lbr_st.model.cutoff.create_masks_for_generate", boolean)
    check_no_leak(tiny("llama", "sdpa"))
    with pytest.raises(InputError, match="leaks from X to Y"):
        check_no_leak(tiny("llama", "eager"))


@pytest.mark.parametrize("wrong", ["window", "closed"])
def test_leak_check_finds_a_mask_that_changes_encoding_or_closes_the_bottleneck(monkeypatch, wrong):
    def narrow(config, inputs_embeds, attention_mask, cache, and_mask_function):
        index = torch.arange(attention_mask.shape[1])
        query, key = index[:, None], index[None]
        allowed = (query >= key) & and_mask_function(0, 0, query, key)
        allowed &= (query - key < 3) if wrong == "window" else (query == key)
        return allowed[None, None]

    monkeypatch.setattr("lbr_st.model.cutoff.create_masks_for_generate", narrow)
    message = "does not read X under the cut-off" if wrong == "window" else "lets nothing of X through"
    with pytest.raises(InputError, match=message):
        check_no_leak(tiny("llama"))


def test_leak_check_finds_a_path_without_a_gradient():
    model = tiny("llama")

    def carry_on(module, args, output):
        return output + 0.1 * output.detach().cumsum(1)

    model.base_model.layers[0].register_forward_hook(carry_on)
    with pytest.raises(InputError, match="leaks from X to Y"):
        check_no_leak(model)


def test_leak_check_says_when_weights_are_broken():
    model = tiny("llama")
    with torch.no_grad():
        model.base_model.norm.weight[0] = float("nan")
    with pytest.raises(InputError, match="hidden states that are not finite"):
        check_no_leak(model)


def test_gradients_that_are_no_numbers_are_no_leak():
    """As of the square root of zero: the states are finite, and what flows back through them is not."""
    model = tiny("llama")

    def rooted(module, args, output):
        return output + (output * 0.0).square().sum(-1, keepdim=True).sqrt()

    model.base_model.layers[0].register_forward_hook(rooted)
    with pytest.raises(InputError, match="gives gradients that are not finite"):
        check_no_leak(model)


def test_leak_check_leaves_every_part_in_its_mode_and_runs_anywhere():
    model = tiny("qwen3").train()
    model.base_model.layers[0].eval()
    before = [part.training for part in model.modules()]
    with torch.inference_mode():
        check_no_leak(model)
    assert [part.training for part in model.modules()] == before


def test_leak_check_refuses_attention_that_takes_no_mask():
    model = tiny("qwen2")
    model.config._attn_implementation = "flash_attention_2"
    with pytest.raises(InputError, match="load the model with one of: eager, sdpa, flex_attention"):
        check_no_leak(model)


@pytest.mark.parametrize("attention", ATTENTION)
@pytest.mark.parametrize("family", FAMILIES)
def test_packing_check_lets_these_families_through(family, attention):
    model = tiny(family, attention).train()
    check_packing(model)
    assert model.training


def test_packing_that_is_not_read_apart_is_refused():
    """GPT-2 without its positions starting again."""
    model = tiny("gpt2")
    forward = model.base_model.forward
    model.base_model.forward = lambda **inputs: forward(**{k: v for k, v in inputs.items() if k != "position_ids"})
    with pytest.raises(InputError, match="cannot be packed for model type 'gpt2': it does not read them as it does"):
        check_packing(model)


def test_packing_that_a_model_takes_no_positions_for_is_refused():
    """ALiBi: positions are counted by the model itself."""
    model = AutoModelForCausalLM.from_config(
        AutoConfig.for_model("mpt", vocab_size=50, d_model=32, n_heads=4, n_layers=2)
    )
    forward = model.base_model.forward

    def without_positions(input_ids, attention_mask, use_cache):
        return forward(input_ids=input_ids, attention_mask=attention_mask, use_cache=use_cache)

    model.base_model.forward = without_positions
    with pytest.raises(InputError, match="examples cannot be packed for model type 'mpt': .*unexpected keyword"):
        check_packing(model)


@pytest.mark.parametrize(("name", "all_"), [("final_logit_softcapping", False), ("no_such_setting", True)])
def test_a_cap_that_small_logits_do_not_show(name, all_):
    """Gemma 2 caps at 30; random weights give logits of about 1, which the cap leaves as they are to 1e-3."""
    config = AutoConfig.for_model("gemma2", **SHAPE | {"vocab_size": 50, "pad_token_id": 0})
    config.final_logit_softcapping = None
    language_model = AutoModelForCausalLM.from_config(config).eval()
    setattr(language_model.config, name, 1e6)
    assert head_is_all(language_model) == all_


def test_logits_that_are_not_those_of_the_head_are_found():
    """Cohere scales them."""
    assert head_is_all(tiny("llama"))
    settings = SHAPE | {"vocab_size": 50, "pad_token_id": 0, "logit_scale": 1.0}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("cohere", **settings)).eval()
    assert head_is_all(model)
    model.logit_scale = 0.5  # where its configuration does not say it
    assert not head_is_all(model)
