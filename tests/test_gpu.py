"""What only a GPU can show (``make test-gpu``)."""

import pytest
import torch
from conftest import make_backbone, tiny
from test_masks import HAVE_FLEX, PARTS, random_ids

import lbr_st
from lbr_st.masks import check_no_leak, cutoff_mask

pytestmark = pytest.mark.gpu


def loss_and_gradient(model, ids, segments):
    embeddings = model.get_input_embeddings()(ids).detach().requires_grad_()
    mask = cutoff_mask(model.config, embeddings, torch.ones_like(ids), segments)
    logits = model(inputs_embeds=embeddings, attention_mask=mask, use_cache=False).logits
    loss = torch.nn.functional.cross_entropy(logits[:, :-1].transpose(1, 2), ids[:, 1:])
    loss.backward()
    return loss, embeddings.grad


@pytest.mark.parametrize("family", HAVE_FLEX)
def test_flex_attention_trains_as_sdpa_does(family):
    ids, segments = random_ids(5, rows=2).cuda(), torch.tensor([PARTS] * 2).cuda()
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 16}  # the kernels want 16 and more
    models = [tiny(family, attention, **heads).cuda() for attention in ("sdpa", "flex_attention")]
    (loss, gradient), (flex_loss, flex_gradient) = (loss_and_gradient(model, ids, segments) for model in models)
    check_no_leak(models[1])
    assert (loss - flex_loss).abs() < 1e-4
    assert (gradient - flex_gradient).abs().max() < 1e-3 * gradient.abs().max()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_saved_and_verified_on_the_gpu(tmp_path, dtype):
    backbone = make_backbone(tmp_path / "backbone")
    model = lbr_st.from_backbone(backbone, num_bottleneck_tokens=2, max_seq_length=24, dtype=dtype).to("cuda")
    lbr_st.save(model, tmp_path / "model")
