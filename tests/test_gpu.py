"""What only a GPU can show (``make test-gpu``, ``make gpu``); on a CPU the same calls with what it has."""

import gc
import json

import pytest
import torch
from helpers import HAVE_FLEX, MANY, PARTS, make_backbone, random_ids, tiny

import lbr_st
from lbr_st.alignment.config import AlignConfig
from lbr_st.data.records import read_records
from lbr_st.files import write_jsonl
from lbr_st.learning.batches import IGNORE, PackedRows, collate
from lbr_st.learning.cross_entropy import cross_entropy_sum
from lbr_st.learning.masked_model import CutOffModel
from lbr_st.model.cutoff import TARGET, cutoff_mask
from lbr_st.model.encoding import TextEncoder
from lbr_st.model.self_checks import check_no_leak, check_packing
from lbr_st.training.held_out import HeldOutEvaluator


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request):
    """Where a test runs. Without a GPU ``-m gpu`` fails: a test that is skipped looks as if it had passed."""
    if request.param == "cuda":
        torch.compiler.reset()  # so many families have more kernels than are kept
    return request.param


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_saved_and_verified(tmp_path, device, dtype):
    backbone = make_backbone(tmp_path / "backbone")
    model = lbr_st.from_backbone(backbone, num_bottleneck_tokens=2, max_seq_length=24, dtype=dtype).to(device)
    lbr_st.save(model, tmp_path / "model")
    again = lbr_st.load(str(tmp_path / "model"), device=device, model_kwargs={"dtype": dtype})
    assert again.device.type == device
    # Another process may take other kernels; the vectors have length 1.
    assert abs(again.encode(["what is it"]) - model.encode(["what is it"])).max() < 1e-2


def losses_and_gradients(device, frozen, autocast):
    """Return the loss with the gradients of rows and head, as stage 1 makes them, and from all logits."""
    torch.manual_seed(0)
    head = torch.nn.Linear(64, 1000, device=device).requires_grad_(not frozen)
    hidden, targets = torch.randn(300, 64, device=device), torch.randint(0, 1000, (300,), device=device)
    found = []
    for ours in (True, False):
        head.zero_grad()
        rows = hidden.clone().requires_grad_()
        with torch.autocast(device, torch.bfloat16, enabled=autocast):
            if ours:
                loss = cross_entropy_sum(head, rows, targets)
            else:
                loss = torch.nn.functional.cross_entropy(head(rows).float(), targets, reduction="sum")
        (loss / 300).backward()
        found.append((loss, rows.grad, head.weight.grad))
    return found


def assert_the_same(ours, theirs, tolerance):
    assert abs(ours[0] - theirs[0]) < tolerance * theirs[0]
    for one, other in zip(ours[1:], theirs[1:], strict=True):
        assert (one is None and other is None) or (one - other).abs().max() < tolerance * other.abs().max()


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("frozen", [False, True])
def test_cross_entropy_in_chunks(monkeypatch, device, frozen, autocast):
    monkeypatch.setattr("lbr_st.learning.cross_entropy.is_liger_kernel_available", lambda: False)
    assert_the_same(*losses_and_gradients(device, frozen, autocast), 2e-2 if autocast else 1e-4)


@pytest.mark.gpu
@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("frozen", [False, True])
def test_cross_entropy_by_the_fused_kernel(frozen, autocast):
    pytest.importorskip("liger_kernel")
    assert_the_same(*losses_and_gradients("cuda", frozen, autocast), 2e-2 if autocast else 1e-4)


def test_stage_2(tmp_path, device):
    """The best checkpoint is loaded beside the model and its optimizer, and scores what the log says of it."""
    pytest.importorskip("datasets")
    pytest.importorskip("matplotlib")
    write_jsonl(tmp_path / "pairs.jsonl", MANY)
    data = str(tmp_path / "pairs.jsonl")
    config = AlignConfig(
        model=make_backbone(tmp_path / "backbone"), data=data, dev_data=data, allow_overlap=True, max_length=24,
        output_dir=str(tmp_path / "out"), per_device_train_batch_size=8, mini_batch_size=3, lm_weight=0.1, bf16=True,
        max_steps=6, learning_rate=1e-2, eval_steps=2, use_cpu=device == "cpu",
    )  # fmt: skip
    lbr_st.align(config)
    log = json.loads((tmp_path / "out" / "training_log.json").read_text())
    best = max(entry["eval_dev_cosine_ndcg@10"] for entry in log if entry["step"] and "eval_dev_alignment" in entry)
    found = HeldOutEvaluator(read_records(data), dtype=torch.bfloat16)(
        lbr_st.load(str(tmp_path / "out"), device=device)
    )
    assert found["dev_cosine_ndcg@10"] == pytest.approx(best, abs=0.02)


@pytest.mark.gpu
@pytest.mark.parametrize("lora", [None, 4])
def test_what_stage_2_takes(tmp_path, lora):
    """The memory of the allocator: at least weights, gradients and AdamW, beside them a tiny batch and workspaces."""
    pytest.importorskip("datasets")
    from lbr_st.alignment.run import plan

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


# The kernels of FlexAttention are compiled, which takes longest: last. They want heads of 16 and more.
HEADS = {"num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 16}
# On a CPU FlexAttention has no backward.
COMPARED = {"cpu": "eager", "cuda": "flex_attention"}


def loss_and_gradient(model, ids, segments):
    embeddings = model.get_input_embeddings()(ids).detach().requires_grad_()
    mask = cutoff_mask(model.config, embeddings, torch.ones_like(ids), segments)
    logits = model(inputs_embeds=embeddings, attention_mask=mask, use_cache=False).logits
    loss = torch.nn.functional.cross_entropy(logits[:, :-1].transpose(1, 2), ids[:, 1:])
    loss.backward()
    return loss, embeddings.grad


@pytest.mark.parametrize("family", HAVE_FLEX)
def test_flex_attention_trains_as_sdpa_does(device, family):
    ids, segments = random_ids(5, rows=2).to(device), torch.tensor([PARTS] * 2).to(device)
    sdpa, flex = (tiny(family, attention, **HEADS).to(device) for attention in ("sdpa", COMPARED[device]))
    (loss, gradient), (flex_loss, flex_gradient) = (loss_and_gradient(model, ids, segments) for model in (sdpa, flex))
    check_no_leak(flex)
    assert (loss - flex_loss).abs() < 1e-4
    assert (gradient - flex_gradient).abs().max() < 1e-3 * gradient.abs().max()


@pytest.mark.parametrize("family", HAVE_FLEX)
def test_packed_rows_train_under_flex_attention(device, family):
    """Loss and gradients of packed rows under FlexAttention are those of one example a row under sdpa."""
    plain, flex = (tiny(family, attention, **HEADS).to(device) for attention in ("sdpa", COMPARED[device]))
    examples = []
    for seed in range(6):
        ids = random_ids(seed)[0].tolist()
        labels = [i if part == TARGET else IGNORE for i, part in zip(ids, PARTS, strict=True)]
        examples.append({"input_ids": ids, "segments": PARTS, "labels": labels})
    rows = PackedRows(examples, [[0, 1, 2], [3, 4, 5]], [len(PARTS)] * 6)
    check_packing(flex)
    found = []
    for model, batch in ((plain, collate(examples)), (flex, collate(rows))):
        loss = CutOffModel(model)(**{name: tensor.to(device) for name, tensor in batch.items()})["loss"]
        loss.backward()
        found.append((loss, model.get_input_embeddings().weight.grad))
    assert abs(found[0][0] - found[1][0]) < 1e-4
    assert (found[0][1] - found[1][1]).abs().max() < 1e-3 * found[0][1].abs().max()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_encoder_gives_the_vectors_of_each_text_alone(tmp_path, device, dtype):
    """Copied while the next batch runs, with and without a prompt that is computed once."""
    model = lbr_st.from_backbone(make_backbone(tmp_path), max_seq_length=64, dtype=dtype).to(device).eval()
    model.prompts = {"query": "Find me 3 pages, q7 of them: ", "document": ""}
    texts = [f"text {number} " * (number % 7) for number in range(60)]
    encoder = TextEncoder(model, 100)
    for role, encode in (("query", model.encode_query), ("document", model.encode_document)):
        found = encoder.encode(texts, role)
        expected = torch.stack([torch.from_numpy(encode(text)) for text in texts]).float()
        assert found.device.type == "cpu" and found.dtype == torch.float32
        assert (found - expected).abs().max() < (1e-5 if dtype == torch.float32 else 2e-2)
    assert encoder._shared["Find me 3 pages, q7 of them: ", "query"] is not None
    assert TextEncoder(model)._measure() >= 256
