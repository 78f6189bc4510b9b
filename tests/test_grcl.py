"""Stage 2: what is trained, against closed forms, and runs that resume."""

import json
import math

import pytest
import torch
from conftest import TEXTS, make_backbone
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from test_ibgl import kill_after_checkpoint, same_weights

import lbr_st
from lbr_st import grcl, ibgl
from lbr_st.errors import InputError
from lbr_st.files import write_jsonl
from lbr_st.verify import verify

PAIRS = [{"question": q, "answer": d} for q, d in zip(TEXTS[::2], TEXTS[1::2], strict=True)]
MANY = [{"question": f"{p['question']} {i}", "answer": f"{i} {p['answer']}"} for i in range(8) for p in PAIRS]


def test_loss_is_infonce_with_the_temperature(model):
    """Against eq. 3 written out; equal embeddings give the log of the batch size."""
    queries, documents = [p["question"] for p in PAIRS], [p["answer"] for p in PAIRS]
    loss = MultipleNegativesRankingLoss(model, scale=1 / 0.05)
    q, d = (model.encode(texts, convert_to_tensor=True) for texts in (queries, documents))
    expected = -torch.log_softmax(q @ d.T / 0.05, dim=1).diagonal().mean()
    assert abs(loss([model.preprocess(queries), model.preprocess(documents)], None) - expected) < 1e-5
    same = loss([model.preprocess(["one"] * 4), model.preprocess(["two"] * 4)], None)
    assert abs(same.item() - math.log(4)) < 1e-5


@pytest.mark.parametrize("tied", [True, False])
def test_an_untied_head_is_frozen(tmp_path, tied):
    model = lbr_st.from_backbone(make_backbone(tmp_path / "backbone", tied=tied), max_seq_length=24)
    grcl.freeze_unused_head(model)
    loss = MultipleNegativesRankingLoss(model)
    loss([model.preprocess(["a", "b"]), model.preprocess(["c", "d"])], None).backward()
    assert all((p.grad is not None) == p.requires_grad for p in model.parameters())
    assert model[0].model.get_output_embeddings().weight.requires_grad is tied


def test_dev_evaluator_counts_equal_documents_as_one(model):
    records = [
        {"id": "1", "query": "a", "document": "same"},
        {"id": "2", "query": "b", "document": "same"},
        {"id": "3", "query": "c", "document": "other"},
    ]
    evaluator = grcl.dev_evaluator(records)
    assert len(evaluator.corpus) == 2
    assert evaluator(model)["dev_cosine_recall@10"] == 1.0


def test_killed_run_resumes_to_the_same_weights(backbone, tmp_path, monkeypatch):
    write_jsonl(tmp_path / "train.jsonl", MANY)
    argv = [
        "--model", backbone, "--data", str(tmp_path / "train.jsonl"), "--max-length", "24", "--learning-rate", "1e-2",
        "--max-steps", "60", "--save-steps", "18", "--per-device-train-batch-size", "5", "--temperature", "0.1",
    ]  # fmt: skip
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    grcl.main([*argv, "--output-dir", str(straight)])
    argv += ["--output-dir", str(killed)]
    kill_after_checkpoint("lbr_st.grcl", argv, killed, step=18)
    resumed = []
    load = SentenceTransformerTrainer._load_from_checkpoint
    monkeypatch.setattr(
        SentenceTransformerTrainer, "_load_from_checkpoint", lambda *args: (resumed.append(args[1]), load(*args))
    )
    grcl.main([*argv, "--resume"])
    assert len(resumed) == 1
    assert same_weights(straight, killed)


def test_script(backbone, tmp_path):
    """Trains from a plain backbone, scores dev recall@10 while training, and ends with the portable layout."""
    write_jsonl(tmp_path / "train.jsonl", MANY)
    output = tmp_path / "out"
    grcl.main(
        ["--model", backbone, "--data", str(tmp_path / "train.jsonl"), "--dev-data", str(tmp_path / "train.jsonl"),
         "--output-dir", str(output), "--bottleneck-tokens", "3", "--max-length", "24", "--learning-rate", "1e-3",
         "--num-train-epochs", "6", "--per-device-train-batch-size", "8", "--query-prompt", "q: "]
    )  # fmt: skip
    log = json.loads((output / "training_log.json").read_text())
    recalls = [entry["eval_dev_cosine_recall@10"] for entry in log if "eval_dev_cosine_recall@10" in entry]
    assert len(recalls) >= 5
    ndcg = [entry["eval_dev_cosine_ndcg@10"] for entry in log if "eval_dev_cosine_ndcg@10" in entry]
    assert ndcg[-1] > ndcg[0]
    model = lbr_st.load(str(output))
    assert (model.prompts["query"], model[0].num_bottleneck_tokens, model.max_seq_length) == ("q: ", 3, 24)
    assert model[0].history[-1]["temperature"] == 0.05
    assert json.loads((output / "modules.json").read_text())[0]["type"] == "sentence_transformers.models.Transformer"
    found = grcl.dev_evaluator(lbr_st.records.read_records(tmp_path / "train.jsonl"))(model)
    assert found["dev_cosine_recall@10"] == pytest.approx(recalls[-1])


def test_both_stages_by_length(tmp_path):
    """The number of tokens follows the length in training, in checkpoints, and in the model at the end."""
    backbone = make_backbone(tmp_path / "backbone", family="gemma3")
    write_jsonl(tmp_path / "train.jsonl", MANY)
    argv = ["--data", str(tmp_path / "train.jsonl"), "--max-steps", "2", "--learning-rate", "1e-3"]
    by_length = ["--compression-ratio", "5", "--max-length", "24", "--hide-bos"]
    ibgl.main(["--model", backbone, "--output-dir", str(tmp_path / "stage1"), *argv, *by_length])
    grcl.main(["--model", str(tmp_path / "stage1"), "--output-dir", str(tmp_path / "out"), *argv])
    list(verify(tmp_path / "out" / "checkpoints" / "checkpoint-2"))  # as good as the model at the end
    module = lbr_st.load(str(tmp_path / "out"))[0]
    assert (module.compression_ratio, module.num_bottleneck_tokens, module.hide_bos) == (5, 4, True)
    stock = SentenceTransformer(str(tmp_path / "out"), trust_remote_code=True, device="cpu")
    assert stock.preprocess(["x" * 9])["input_ids"][0, -2:].tolist() == module.bottleneck_token_ids[-2:]
    with pytest.raises(InputError, match="has --compression-ratio 5.0; it cannot be opened with --compression-ratio 6"):
        grcl.main(
            ["--model", str(tmp_path / "out"), "--output-dir", str(tmp_path / "no"), *argv, "--compression-ratio", "6"]
        )


def test_stage_2_takes_stage_1_as_it_is(backbone, model, tmp_path):
    lbr_st.save(model, tmp_path / "stage1")
    write_jsonl(tmp_path / "train.jsonl", MANY)
    argv = ["--model", str(tmp_path / "stage1"), "--data", str(tmp_path / "train.jsonl"), "--max-steps", "1"]
    with pytest.raises(InputError, match="has --bottleneck-tokens 2; it cannot be opened with --bottleneck-tokens 1"):
        grcl.main([*argv, "--output-dir", str(tmp_path / "refused"), "--bottleneck-tokens", "1"])
    assert not (tmp_path / "refused").exists()
    grcl.main([*argv, "--output-dir", str(tmp_path / "out"), "--learning-rate", "0"])
    assert same_weights(tmp_path / "stage1", tmp_path / "out")
    again = lbr_st.load(str(tmp_path / "out"))
    assert (again[0].num_bottleneck_tokens, again.max_seq_length) == (2, 24)
