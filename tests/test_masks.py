"""The information cut-off: the matrix written out, and the effect shown through real models."""

import pytest
import torch
from conftest import FAMILIES, SHAPE
from transformers import AutoModelForCausalLM, DynamicCache, GPT2Config, MistralConfig, Qwen2Config

from lbr_st.errors import InputError
from lbr_st.masks import BOTTLENECK, PREFIX, SOURCE, TARGET, check_supported, cutoff_mask

B, X, Z, Y = PREFIX, SOURCE, BOTTLENECK, TARGET
ATTENTION = ["sdpa", "eager"]

# X=3, Z=1, Y=2, then a row with BOS, X=1, Z=2, Y=1 and one position of padding.
SEGMENTS = torch.tensor([[X, X, X, Z, Y, Y], [B, X, Z, Z, Y, B]])
PADDING = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 0]])
EXPECTED = torch.tensor(
    [
        [
            [1, 0, 0, 0, 0, 0],
            [1, 1, 0, 0, 0, 0],
            [1, 1, 1, 0, 0, 0],
            [1, 1, 1, 1, 0, 0],
            [0, 0, 0, 1, 1, 0],
            [0, 0, 0, 1, 1, 1],
        ],
        [
            [1, 0, 0, 0, 0, 0],
            [1, 1, 0, 0, 0, 0],
            [1, 1, 1, 0, 0, 0],
            [1, 1, 1, 1, 0, 0],
            [1, 0, 1, 1, 1, 0],
            [1, 1, 1, 1, 1, 0],  # a padded row attends to something, so that it is not NaN
        ],
    ]
)


def tiny(family: str, attention: str, layers: int, **kwargs):
    config_class, model_class = FAMILIES[family]
    torch.manual_seed(0)
    config = config_class(vocab_size=50, **(SHAPE | {"num_hidden_layers": layers}), **kwargs)
    return model_class._from_config(config, attn_implementation=attention).eval()


def masked_logits(model, ids, segments, embeddings=None, padding=None):
    embeddings = model.get_input_embeddings()(ids) if embeddings is None else embeddings
    padding = torch.ones_like(ids) if padding is None else padding
    mask = cutoff_mask(model.config, embeddings, padding, segments)
    return model(inputs_embeds=embeddings, attention_mask=mask, use_cache=False).logits


@pytest.mark.parametrize("attention", ATTENTION)
def test_matrix_written_out(attention):
    model = tiny("qwen2", attention, layers=1)
    embeddings = torch.zeros(2, 6, 32)
    mask = cutoff_mask(model.config, embeddings, PADDING, SEGMENTS)
    assert mask.shape == (2, 1, 6, 6)
    if attention == "eager":  # additive: a boolean mask would be added to the scores, and leak
        assert mask.is_floating_point()
        assert set(mask.unique().tolist()) == {0.0, torch.finfo(torch.float32).min}
        mask = mask == 0
    assert torch.equal(mask[:, 0].long(), EXPECTED)


@pytest.mark.parametrize("attention", ATTENTION)
@pytest.mark.parametrize("family", FAMILIES)
def test_target_does_not_see_source(family, attention):
    """One layer: keys and values of Z depend on Z alone, so changing X must leave Y bitwise unchanged."""
    ids = torch.randint(0, 50, (1, 12), generator=torch.Generator().manual_seed(1))
    other = ids.clone()
    other[0, 1:7] = (ids[0, 1:7] + 1) % 50
    segments = torch.tensor([[B] + [X] * 6 + [Z] * 2 + [Y] * 3])
    one = tiny(family, attention, layers=1)
    before, after = masked_logits(one, ids, segments), masked_logits(one, other, segments)
    assert torch.equal(before[0, 9:], after[0, 9:])
    assert (before[0, 7:9] - after[0, 7:9]).abs().max() > 1e-3  # the bottleneck does see X

    two = tiny(family, attention, layers=2)
    difference = masked_logits(two, ids, segments)[0, 9:] - masked_logits(two, other, segments)[0, 9:]
    assert difference.abs().max() > 1e-3  # and through it X reaches Y


@pytest.mark.parametrize("attention", ATTENTION)
@pytest.mark.parametrize("family", FAMILIES)
def test_equals_two_passes(family, attention):
    """Independent computation: run [BOS X Z], keep the keys and values of BOS and Z alone, run Y on them."""
    model = tiny(family, attention, layers=3)
    ids = torch.randint(0, 50, (2, 12), generator=torch.Generator().manual_seed(2))
    segments = torch.tensor([[B] + [X] * 6 + [Z] * 2 + [Y] * 3] * 2)
    labels = ids[:, 9:]

    embeddings = model.get_input_embeddings()(ids).detach().requires_grad_()
    logits = masked_logits(model, ids, segments, embeddings)[:, 8:11]
    torch.nn.functional.cross_entropy(logits.transpose(1, 2), labels).backward()

    twin = embeddings.detach().clone().requires_grad_()
    first = model(inputs_embeds=twin[:, :9], use_cache=True, past_key_values=DynamicCache())
    kept = DynamicCache()
    visible = [0, 7, 8]
    for index, layer in enumerate(first.past_key_values.layers):
        kept.update(layer.keys[:, :, visible], layer.values[:, :, visible], index)
    second = model(
        inputs_embeds=twin[:, 9:],
        past_key_values=kept,
        position_ids=torch.tensor([[9, 10, 11]] * 2),
        attention_mask=torch.ones(2, 6, dtype=torch.long),
    )
    two_pass = torch.cat([first.logits[:, 8:9], second.logits[:, :2]], dim=1)
    torch.nn.functional.cross_entropy(two_pass.transpose(1, 2), labels).backward()

    assert (logits - two_pass).abs().max() < 1e-5
    assert (embeddings.grad - twin.grad).abs().max() < 1e-4 * twin.grad.abs().max()
    assert twin.grad[:, 1:7].abs().max() > 1e-6  # X is learned from, through Z


@pytest.mark.parametrize("attention", ATTENTION)
def test_padding_changes_nothing(attention):
    model = tiny("llama", attention, layers=2)
    ids = torch.randint(0, 50, (1, 9), generator=torch.Generator().manual_seed(3))
    segments = torch.tensor([[B] + [X] * 3 + [Z] * 2 + [Y] * 3])
    alone = masked_logits(model, ids, segments)
    padded_ids = torch.cat([ids, torch.zeros(1, 4, dtype=torch.long)], dim=1)
    padded_segments = torch.cat([segments, torch.full((1, 4), B)], dim=1)
    padding = torch.tensor([[1] * 9 + [0] * 4])
    padded = masked_logits(model, padded_ids, padded_segments, padding=padding)
    assert torch.isfinite(padded).all()
    assert (padded[:, :9] - alone).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (GPT2Config(), "not tested for model type 'gpt2'"),
        (MistralConfig(), "not tested for model type 'mistral'"),
        (Qwen2Config(use_sliding_window=True, max_window_layers=0, num_hidden_layers=2), "sliding_attention"),
    ],
)
def test_refuses_untested_families(config, message):
    config._attn_implementation = "sdpa"
    with pytest.raises(InputError, match=message):
        check_supported(config)


def test_refuses_untested_attention():
    config = AutoModelForCausalLM.from_config(Qwen2Config(vocab_size=10, **SHAPE)).config
    config._attn_implementation = "flash_attention_2"
    with pytest.raises(InputError, match="load the model with one of: eager, sdpa"):
        check_supported(config)
