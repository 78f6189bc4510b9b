"""The information cut-off: the matrix written out, and the effect shown through real models of every family."""

import pytest
import torch
from helpers import CACHE, FAMILIES, HAVE_FLEX, PARTS, WINDOW, random_ids, tiny
from transformers import DynamicCache

from lbr_st.errors import InputError
from lbr_st.model.cutoff import BOTTLENECK, PREFIX, SOURCE, TARGET, cutoff_mask

B, X, Z, Y = PREFIX, SOURCE, BOTTLENECK, TARGET
ATTENTION = ["sdpa", "eager"]

# X=3, Z=1, Y=2, then a row with BOS, X=1, Z=2, Y=1 and one position of padding.
SEGMENTS = torch.tensor([[X, X, X, Z, Y, Y], [B, X, Z, Z, Y, B]])
PADDING = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 0]])
FULL = torch.tensor(
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
# The same under a window of 4: a row sees itself and the three columns before it.
SLIDING = FULL.clone()
SLIDING[1, 4, 0] = 0
SLIDING[1, 5, :2] = 0

SOURCE_COLUMNS, FIRST_TARGET = slice(1, 7), 9


def run_masked(model, embeddings, segments, padding=None):
    padding = torch.ones_like(segments) if padding is None else padding
    mask = cutoff_mask(model.config, embeddings, padding, segments)
    return model(inputs_embeds=embeddings, attention_mask=mask, use_cache=False).logits


def masked_logits(model, ids, segments, padding=None):
    return run_masked(model, model.get_input_embeddings()(ids), segments, padding)


@pytest.mark.parametrize("attention", ATTENTION)
@pytest.mark.parametrize("family", FAMILIES)
def test_matrix_written_out(family, attention):
    model = tiny(family, attention)
    found = cutoff_mask(model.config, torch.zeros(2, 6, 32), PADDING, SEGMENTS)
    layer_types = getattr(model.config, "layer_types", None)
    if layer_types is None:
        window = getattr(model.config, "sliding_window", None)
        expected, found = {"all": SLIDING if window else FULL}, {"all": found}
    else:
        expected = {kind: {"full_attention": FULL, "sliding_attention": SLIDING}[kind] for kind in layer_types}
    assert found.keys() == expected.keys()
    for kind, mask in found.items():
        assert mask.shape == (2, 1, 6, 6)
        if attention == "eager":  # additive: a boolean mask would be added to the scores, and leak
            assert mask.is_floating_point()
            assert set(mask.unique().tolist()) == {0.0, torch.finfo(torch.float32).min}
            mask = mask == 0
        assert torch.equal(mask[:, 0].long(), expected[kind])


@pytest.mark.parametrize("attention", ATTENTION)
@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_passes_a_closed_bottleneck(family, attention):
    """Z cut off from X as well: Y is bitwise the same for any X, and has a gradient of exactly zero."""
    model = tiny(family, attention, layers=3)
    closed = torch.tensor([[Y if part == Z else part for part in PARTS]])
    ids, other = random_ids(1), random_ids(1)
    other[0, SOURCE_COLUMNS] = (other[0, SOURCE_COLUMNS] + 1) % 50
    embeddings = model.get_input_embeddings()(ids).detach().requires_grad_()
    logits = run_masked(model, embeddings, closed)
    assert torch.equal(logits[0, FIRST_TARGET:], masked_logits(model, other, closed)[0, FIRST_TARGET:])
    logits[:, FIRST_TARGET:].square().sum().backward()
    assert not embeddings.grad[:, SOURCE_COLUMNS].any()
    assert embeddings.grad[:, FIRST_TARGET:].any()

    open_ = torch.tensor([PARTS])
    difference = (masked_logits(model, ids, open_) - masked_logits(model, other, open_))[0, FIRST_TARGET:]
    assert difference.abs().max() > 1e-4  # through an open one, X reaches Y


@pytest.mark.parametrize("attention", ATTENTION)
@pytest.mark.parametrize("family", FAMILIES)
def test_source_and_bottleneck_are_read_as_at_encoding_time(family, attention):
    model = tiny(family, attention, layers=3)
    ids = random_ids(2)
    plain = model(input_ids=ids[:, :FIRST_TARGET], use_cache=False).logits
    masked = masked_logits(model, ids, torch.tensor([PARTS]))[:, :FIRST_TARGET]
    assert (masked - plain).abs().max() < 1e-5


def distance_mask(model, kind, rows, columns):
    """A float mask by hand: causal, and within the window where the layer has one."""
    away = torch.tensor(rows)[:, None] - torch.tensor(columns)[None, :]
    allowed = (away >= 0) & (away < WINDOW) if kind == "sliding" else away >= 0
    return torch.where(allowed, 0.0, torch.finfo(torch.float32).min)[None, None]


@pytest.mark.parametrize("attention", ATTENTION)
@pytest.mark.parametrize("family", FAMILIES)
def test_equals_two_passes(family, attention):
    """Independent computation: run [BOS X Z], keep the keys and values of BOS and Z alone, run Y on them."""
    model = tiny(family, attention, layers=3)
    ids = random_ids(3, rows=2)
    embeddings = model.get_input_embeddings()(ids).detach().requires_grad_()
    logits = run_masked(model, embeddings, torch.tensor([PARTS] * 2))[:, FIRST_TARGET - 1 : -1]
    labels = ids[:, FIRST_TARGET:]
    torch.nn.functional.cross_entropy(logits.transpose(1, 2), labels).backward()

    twin = embeddings.detach().clone().requires_grad_()
    whole, kept, visible = DynamicCache(), DynamicCache(), [0, 7, 8]
    first = model(inputs_embeds=twin[:, :FIRST_TARGET], use_cache=True, **{CACHE: whole})
    for index, layer in enumerate(whole.layers):
        kept.update(layer.keys[:, :, visible], layer.values[:, :, visible], index)
    rows, columns = [9, 10, 11], [*visible, 9, 10, 11]
    full, sliding = (distance_mask(model, kind, rows, columns) for kind in ("full", "sliding"))
    layer_types = getattr(model.config, "layer_types", None)
    mask = sliding if getattr(model.config, "sliding_window", None) else full
    if layer_types is not None:
        mask = {"full_attention": full, "sliding_attention": sliding}
    second = model(
        inputs_embeds=twin[:, FIRST_TARGET:],
        position_ids=torch.tensor([rows] * 2),
        attention_mask=mask,
        **{CACHE: kept},
    )
    two_pass = torch.cat([first.logits[:, -1:], second.logits[:, :2]], dim=1)
    torch.nn.functional.cross_entropy(two_pass.transpose(1, 2), labels).backward()

    assert (logits - two_pass).abs().max() < 1e-5
    assert (embeddings.grad - twin.grad).abs().max() < 1e-4 * twin.grad.abs().max()
    assert twin.grad[:, SOURCE_COLUMNS].abs().max() > 1e-6  # X is learned from, through Z


@pytest.mark.parametrize("attention", ATTENTION)
@pytest.mark.parametrize("family", ["llama", "gpt2", "mistral-sliding", "gemma3"])
def test_padding_changes_nothing(family, attention):
    model = tiny(family, attention)
    ids, segments = random_ids(4), torch.tensor([PARTS])
    alone = masked_logits(model, ids, segments)
    padded_ids = torch.cat([ids, torch.zeros(1, 6, dtype=torch.long)], dim=1)
    padded_segments = torch.cat([segments, torch.full((1, 6), B)], dim=1)
    padding = torch.tensor([[1] * len(PARTS) + [0] * 6])
    padded = masked_logits(model, padded_ids, padded_segments, padding)
    assert torch.isfinite(padded).all()
    assert (padded[:, : len(PARTS)] - alone).abs().max() < 1e-5


@pytest.mark.slow  # compiles a kernel for each
@pytest.mark.parametrize("family", HAVE_FLEX)
def test_flex_attention_gives_the_same(family):
    """Forward only: FlexAttention has no backward on a CPU."""
    models = [tiny(family, attention).requires_grad_(False) for attention in ("sdpa", "flex_attention")]
    ids, segments = random_ids(5, rows=2), torch.tensor([PARTS] * 2)
    expected, found = (masked_logits(model, ids, segments) for model in models)
    assert (expected - found).abs().max() < 1e-5


def test_refuses_attention_that_takes_no_mask():
    model = tiny("qwen2")
    model.config._attn_implementation = "flash_attention_2"
    with pytest.raises(InputError, match="load the model with one of: eager, sdpa, flex_attention"):
        cutoff_mask(model.config, torch.zeros(2, 6, 32), PADDING, SEGMENTS)
