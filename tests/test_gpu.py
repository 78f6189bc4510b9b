"""What only a GPU can show (``make test-gpu``)."""

import gc
import json

import pytest
import torch
from helpers import HAVE_FLEX, MANY, PARTS, make_backbone, random_ids, tiny

import lbr_st
from lbr_st.alignment.config import AlignConfig
from lbr_st.alignment.run import plan
from lbr_st.data.records import read_records
from lbr_st.files import write_jsonl
from lbr_st.learning.batches import IGNORE, PackedRows, collate
from lbr_st.learning.cross_entropy import cross_entropy_sum
from lbr_st.learning.masked_model import CutOffModel
from lbr_st.model.cutoff import TARGET, cutoff_mask
from lbr_st.model.self_checks import check_no_leak, check_packing
from lbr_st.training.held_out import HeldOutEvaluator

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


@pytest.mark.parametrize("family", HAVE_FLEX)
def test_packed_rows_train_under_flex_attention(family):
    """Loss and gradients of packed rows under FlexAttention are those of one example a row under sdpa."""
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 16}
    plain, flex = (tiny(family, attention, **heads).cuda() for attention in ("sdpa", "flex_attention"))
    examples = []
    for seed in range(6):
        ids = random_ids(seed)[0].tolist()
        labels = [i if part == TARGET else IGNORE for i, part in zip(ids, PARTS, strict=True)]
        examples.append({"input_ids": ids, "segments": PARTS, "labels": labels})
    rows = PackedRows(examples, [[0, 1, 2], [3, 4, 5]], [len(PARTS)] * 6)
    check_packing(flex)
    found = []
    for model, batch in ((plain, collate(examples)), (flex, collate(rows))):
        loss = CutOffModel(model)(**{name: tensor.cuda() for name, tensor in batch.items()})["loss"]
        loss.backward()
        found.append((loss, model.get_input_embeddings().weight.grad))
    assert abs(found[0][0] - found[1][0]) < 1e-4
    assert (found[0][1] - found[1][1]).abs().max() < 1e-3 * found[0][1].abs().max()


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("frozen", [False, True])
def test_fused_kernel_is_the_chunked_loss(frozen, autocast):
    """liger-kernel, where it is installed: value and gradients."""
    pytest.importorskip("liger_kernel")
    torch.manual_seed(0)
    head = torch.nn.Linear(64, 1000, device="cuda").requires_grad_(not frozen)
    hidden, targets = torch.randn(300, 64, device="cuda"), torch.randint(0, 1000, (300,), device="cuda")
    found = []
    for fused in (True, False):
        head.zero_grad()
        rows = hidden.clone().requires_grad_()
        with torch.autocast("cuda", torch.bfloat16, enabled=autocast):
            if fused:
                loss = cross_entropy_sum(head, rows, targets)
            else:
                loss = torch.nn.functional.cross_entropy(head(rows).float(), targets, reduction="sum")
        (loss / 300).backward()
        found.append((loss, rows.grad, head.weight.grad))
    tolerance = 2e-2 if autocast else 1e-4
    assert abs(found[0][0] - found[1][0]) < tolerance * found[1][0]
    for one, other in zip(found[0][1:], found[1][1:], strict=True):
        assert (one is None and other is None) or (one - other).abs().max() < tolerance * other.abs().max()


def test_stage_2_on_the_gpu(tmp_path):
    """The best checkpoint is loaded beside the model and its optimizer, and scores what the log says of it."""
    write_jsonl(tmp_path / "pairs.jsonl", MANY)
    data = str(tmp_path / "pairs.jsonl")
    config = AlignConfig(
        model=make_backbone(tmp_path / "backbone"), data=data, dev_data=data, allow_overlap=True, max_length=24,
        output_dir=str(tmp_path / "out"), per_device_train_batch_size=8, mini_batch_size=3, lm_weight=0.1, bf16=True,
        max_steps=6, learning_rate=1e-2, eval_steps=2,
    )  # fmt: skip
    lbr_st.align(config)
    log = json.loads((tmp_path / "out" / "training_log.json").read_text())
    best = max(entry["eval_dev_cosine_ndcg@10"] for entry in log if entry["step"] and "eval_dev_alignment" in entry)
    found = HeldOutEvaluator(read_records(data), dtype=torch.bfloat16)(lbr_st.load(str(tmp_path / "out")))
    assert found["dev_cosine_ndcg@10"] == pytest.approx(best, abs=0.02)


@pytest.mark.parametrize("lora", [None, 4])
def test_what_stage_2_takes_on_the_gpu(tmp_path, lora):
    """The memory of the allocator: at least weights, gradients and AdamW, beside them a tiny batch and workspaces."""
    write_jsonl(tmp_path / "pairs.jsonl", MANY)
    config = AlignConfig(
        model=make_backbone(tmp_path / "backbone", hidden_size=512, intermediate_size=4096, head_dim=128),
        data=str(tmp_path / "pairs.jsonl"), output_dir=str(tmp_path / "out"), max_length=24,
        per_device_train_batch_size=2, lora_rank=lora,
    )  # fmt: skip
    gc.collect()
    before = torch.cuda.memory_allocated()
    found = plan(config)
    assert found.device.type == "cuda"
    held = 4 * (found.parameters + 3 * found.trained)
    assert held <= found.peak_bytes - before < held + 2**28
    assert found.step_seconds > 0
