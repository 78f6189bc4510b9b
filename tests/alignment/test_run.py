"""Stage 2: what is trained, what a run ends with, and runs that resume."""

import json
import logging
import shutil
from pathlib import Path

import pytest
import torch
from helpers import MANY, TEXTS, kill_after_checkpoint, make_backbone, make_bert, same_weights
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

import lbr_st
from lbr_st.alignment import run as grcl
from lbr_st.data import mining as hard_negatives
from lbr_st.data.records import read_records
from lbr_st.errors import InputError
from lbr_st.files import write_jsonl
from lbr_st.learning import run as ibgl
from lbr_st.model.verify import verify
from lbr_st.training.held_out import HeldOutEvaluator

PAIRS = [{"question": q, "answer": d} for q, d in zip(TEXTS[::2], TEXTS[1::2], strict=True)]


@pytest.mark.parametrize("tied", [True, False])
def test_an_untied_head_is_frozen(tmp_path, tied):
    model = lbr_st.from_backbone(make_backbone(tmp_path / "backbone", tied=tied), max_seq_length=24)
    grcl.freeze_unused_head(model)
    loss = MultipleNegativesRankingLoss(model)
    loss([model.preprocess(["a", "b"]), model.preprocess(["c", "d"])], None).backward()
    assert all((p.grad is not None) == p.requires_grad for p in model.parameters())
    assert model[0].model.get_output_embeddings().weight.requires_grad is tied


def test_killed_run_resumes_to_the_same_weights(backbone, tmp_path, monkeypatch):
    write_jsonl(tmp_path / "train.jsonl", MANY)
    argv = [
        "--model", backbone, "--data", str(tmp_path / "train.jsonl"), "--max-length", "24", "--learning-rate", "1e-2",
        "--max-steps", "60", "--save-steps", "18", "--per-device-train-batch-size", "5", "--temperature", "0.1",
    ]  # fmt: skip
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    grcl.main([*argv, "--output-dir", str(straight)])
    argv += ["--output-dir", str(killed)]
    kill_after_checkpoint("lbr_st.alignment.run", argv, killed, step=18)
    resumed = []
    load = grcl.GRCLTrainer._load_from_checkpoint
    monkeypatch.setattr(grcl.GRCLTrainer, "_load_from_checkpoint", lambda *args: (resumed.append(args[1]), load(*args)))
    grcl.main([*argv, "--resume"])
    assert len(resumed) == 1
    assert same_weights(straight, killed)


def test_script(backbone, tmp_path):
    """Trains from a plain backbone, scores dev recall@10 while training, and ends with the portable layout."""
    write_jsonl(tmp_path / "train.jsonl", MANY)
    output = tmp_path / "out"
    grcl.main(
        ["--model", backbone, "--data", str(tmp_path / "train.jsonl"), "--dev-data", str(tmp_path / "train.jsonl"),
         "--allow-overlap",
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
    assert model[0].history[-1]["temperature"] == 0.02
    assert json.loads((output / "modules.json").read_text())[0]["type"] == "sentence_transformers.models.Transformer"
    found = HeldOutEvaluator(read_records(tmp_path / "train.jsonl"))(model)
    assert found["dev_cosine_ndcg@10"] == pytest.approx(max(ndcg[1:]))  # the best, not the last
    assert (output / "training.png").read_bytes().startswith(b"\x89PNG")


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


@pytest.fixture
def argv(backbone, tmp_path):
    """Arguments of a run of a few steps, with dev data."""
    write_jsonl(tmp_path / "train.jsonl", MANY)
    return [
        "--model", backbone, "--data", str(tmp_path / "train.jsonl"), "--dev-data", str(tmp_path / "train.jsonl"),
        "--allow-overlap",
        "--max-length", "24", "--per-device-train-batch-size", "8", "--output-dir", str(tmp_path / "out"),
        "--learning-rate", "1e-3", "--max-steps", "4", "--eval-steps", "2",
    ]  # fmt: skip


def log_of(folder):
    return json.loads((folder / "training_log.json").read_text())


def values(log, name):
    return [(entry["step"], entry[name]) for entry in log if name in entry]


def test_the_language_model_is_watched_from_before_the_first_step(argv, tmp_path):
    """The loss at step 0 is that of stage 1's own log; the last step is scored too."""
    stage1 = tmp_path / "stage1"
    data = ["--data", str(tmp_path / "train.jsonl"), "--dev-data", str(tmp_path / "train.jsonl"), "--allow-overlap"]
    ibgl.main([*argv[:2], *data, "--max-length", "24", "--output-dir", str(stage1), "--max-steps", "3"])
    grcl.main([*argv, "--model", str(stage1), "--max-steps", "5"])
    log = log_of(tmp_path / "out")
    losses = values(log, "eval_dev_lm_loss")
    assert [step for step, _ in losses] == [0, 2, 4, 5]
    assert losses[0][1] == pytest.approx(values(log_of(stage1), "eval_loss")[-1][1], abs=1e-4)
    ratios = values(log_of(stage1), "eval_dev_separation_ratio")
    assert values(log, "eval_dev_separation_ratio")[0][1] == pytest.approx(ratios[-1][1], abs=1e-4)


def cut_off(folder, step):
    """Leave what a run had written when it was killed right after the checkpoint of a step."""
    (folder / "config.json").unlink()
    for checkpoint in (folder / "checkpoints").glob("checkpoint-*"):
        if int(checkpoint.name.rpartition("-")[2]) > step:
            shutil.rmtree(checkpoint)


def run_and_resume(argv, out):
    """Return the weights of a run, which are also those of the same one cut off after step 2 and gone on with."""
    grcl.main(argv)
    straight = load_file(out / "model.safetensors")
    cut_off(out, 2)
    grcl.main([*argv, "--resume"])
    resumed = load_file(out / "model.safetensors")
    assert all(torch.equal(straight[name], resumed[name]) for name in straight)
    return straight


RUIN = ["--learning-rate", "0.3", "--max-steps", "12"]


@pytest.mark.parametrize("keep", ["best", "last"])
def test_the_best_checkpoint_is_kept(argv, tmp_path, keep):
    """Of a run that unlearns: each query is trained on the answer of another one."""
    good = tmp_path / "good"
    grcl.main([*argv, "--max-steps", "30", "--learning-rate", "1e-2", "--eval-steps", "30", "--output-dir", str(good)])
    answers = [row["answer"] for row in MANY[1:] + MANY[:1]]
    write_jsonl(tmp_path / "wrong.jsonl", [{**row, "answer": a} for row, a in zip(MANY, answers, strict=True)])
    wrong = ["--model", str(good), "--data", str(tmp_path / "wrong.jsonl"), "--max-steps", "12", "--keep", keep]
    grcl.main([*argv, *wrong, "--learning-rate", "1e-2"])
    scores = values(log_of(tmp_path / "out"), "eval_dev_cosine_ndcg@10")[1:]
    best = max(score for _, score in scores)
    assert best > scores[-1][1] + 0.1
    found = HeldOutEvaluator(read_records(tmp_path / "train.jsonl"))(lbr_st.load(str(tmp_path / "out")))
    assert found["dev_cosine_ndcg@10"] == pytest.approx(best if keep == "best" else scores[-1][1], abs=1e-6)


def test_early_stopping_and_a_resumed_run_stop_at_the_same_step(argv, tmp_path):
    """A learning rate of 0 makes nothing better: the first evaluation is the best one, and two more are waited for."""
    argv += ["--early-stopping", "2", "--max-steps", "20", "--learning-rate", "0", "--save-total-limit", "9"]
    grcl.main(argv)
    out = tmp_path / "out"
    scores = values(log_of(out), "eval_dev_cosine_ndcg@10")
    assert [step for step, _ in scores] == [0, 2, 4, 6]
    for step in (4, 6):  # in the midst of it, and when it had stopped but the model was not saved
        cut_off(out, step)
        grcl.main([*argv, "--resume"])
        assert values(log_of(out), "eval_dev_cosine_ndcg@10") == scores


@pytest.mark.parametrize(
    ("flags", "messages"),
    [
        (
            RUIN,
            [
                "the embeddings have collapsed into one: their variance is 0.00",
                "the embeddings point the same way: the mean cosine of random documents is 0.9",
            ],
        ),
        (
            ["--learning-rate", "0.1", "--max-steps", "8", "--temperature", "0.05", "--max-forgetting", "0.3"],
            ["the language model forgets: its "],
        ),
    ],
    ids=["collapse", "forgetting"],
)
def test_runs_made_to_fail_are_warned_of(argv, caplog, flags, messages):
    with caplog.at_level(logging.WARNING, logger="lbr_st"):
        grcl.main([*argv, *flags])
    assert all(message in caplog.text for message in messages)
    assert "step 0" not in caplog.text


def test_a_run_that_goes_well_is_not_warned_of(argv, caplog):
    with caplog.at_level(logging.WARNING, logger="lbr_st"):
        grcl.main(argv)
    assert not caplog.records


def test_lora_trains_the_adapter_and_resumes(argv, tmp_path, backbone):
    argv += ["--lora-rank", "4", "--learning-rate", "1e-1", "--lora-dropout", "0.1", "--save-total-limit", "9"]
    out = tmp_path / "out"
    straight = run_and_resume(argv, out)
    assert not list((out / "checkpoints").glob("*/model.safetensors"))
    before = load_file(f"{backbone}/model.safetensors")
    layer, embeddings = "model.layers.0.self_attn.q_proj.weight", "model.embed_tokens.weight"
    assert (before[layer] - straight[layer]).abs().max() > 1e-3
    of_text = len(before[embeddings])
    assert torch.equal(before[embeddings], straight[embeddings][:of_text])
    start = lbr_st.from_backbone(backbone, max_seq_length=24)[0].model.get_input_embeddings().weight
    assert not torch.equal(start[of_text:], straight[embeddings][of_text:])


def test_matryoshka_dimensions_are_written_down(argv, tmp_path):
    grcl.main([*argv, "--matryoshka-dims", "8", "16", "--mini-batch-size", "4", "--symmetric"])
    assert json.loads((tmp_path / "out" / "config.json").read_text())["matryoshka_dimensions"] == [32, 16, 8]
    model = SentenceTransformer(str(tmp_path / "out"), truncate_dim=8)
    assert model.encode(["a"]).shape == (1, 8)


def test_triplets(argv, tmp_path):
    rows = [{"anchor": p["question"], "positive": p["answer"], "negative": f"not {p['answer']}"} for p in MANY]
    write_jsonl(tmp_path / "train.jsonl", rows)
    grcl.main([*argv, "--query-prompt", "q: ", "--document-prompt", "d: "])
    assert lbr_st.load(str(tmp_path / "out")).prompts == {"query": "q: ", "document": "d: "}


def test_a_cached_joint_run_resumes_to_the_same_weights(argv, tmp_path):
    argv += ["--mini-batch-size", "3", "--lm-weight", "0.5", "--save-total-limit", "9"]
    out = tmp_path / "out"
    run_and_resume(argv, out)


def test_joint_training_keeps_the_language_model(argv, tmp_path):
    """With a weight the held-out loss falls; the log has both parts."""
    argv += ["--learning-rate", "1e-2", "--max-steps", "12", "--max-forgetting", "100", "--logging-steps", "1"]
    argv += ["--temperature", "0.05"]
    grcl.main(argv)
    grcl.main([*argv, "--lm-weight", "1", "--output-dir", str(tmp_path / "joint")])
    alone, joint = (values(log_of(tmp_path / name), "eval_dev_lm_loss") for name in ("out", "joint"))
    assert alone[0] == joint[0]
    assert joint[-1][1] < joint[0][1] < alone[-1][1]
    log = log_of(tmp_path / "joint")
    parts = zip(values(log, "contrastive"), values(log, "lm"), values(log, "loss"), strict=True)
    assert all(c[1] + lm[1] == pytest.approx(loss[1], abs=1e-3) for c, lm, loss in parts)


def test_any_embedding_model_is_trained_as_it_is(argv, tmp_path):
    """The arm of contrastive learning alone: same batches, same loss, and what comes out is of the same kind."""
    bert = make_bert(tmp_path / "bert")
    argv += ["--model", bert, "--query-prompt", "q: "]
    for flags in (["--lora-rank", "4"], ["--bottleneck-tokens", "2"], ["--lm-weight", "1"]):
        with pytest.raises(InputError, match=f"{flags[0]}: .* is an embedding model without bottleneck tokens"):
            grcl.main([*argv, *flags])
    argv += ["--save-total-limit", "9"]
    out = tmp_path / "out"
    run_and_resume(argv, out)
    assert not same_weights(Path(bert), out)
    model = SentenceTransformer(str(out))
    assert [type(module).__name__ for module in model] == ["Transformer", "Pooling", "Normalize"]
    assert (model.prompts["query"], model.max_seq_length) == ("q: ", 24)
    log = log_of(out)
    assert values(log, "eval_dev_cosine_ndcg@10")[-1][0] == 4
    assert not values(log, "eval_dev_lm_loss")
    assert "sentence-transformers" in (out / "README.md").read_text()


def test_stage_1_alone_is_an_embedding_model(argv, tmp_path):
    """Stage 2 skipped: what stage 1 saves encodes, scores and verifies as it is."""
    output = ["--output-dir", str(tmp_path / "stage1"), "--max-length", "24"]
    ibgl.main([*argv[:4], *output, "--max-steps", "1"])
    list(verify(tmp_path / "stage1"))
    model = SentenceTransformer(str(tmp_path / "stage1"))
    assert HeldOutEvaluator(read_records(argv[3]))(model)["dev_cosine_recall@10"] > 0


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--temperature", "0"], "--temperature must be above 0, got 0.0"),
        (["--mini-batch-size", "0"], "--mini-batch-size must be at least 1, got 0"),
        (["--matryoshka-dims", "64"], "--matryoshka-dims must be from 1 to 32, the width of the"),
        (["--early-stopping", "2", "--keep", "last"], "--early-stopping waits for a better checkpoint"),
        (["--keep", "best", "--save-strategy", "no"], "--keep best needs checkpoints"),
        (["--mining-margin", "0.1"], "--mining-margin needs --mine-negatives"),
        (["--batch-sampler", "no_duplicates"], "--batch-sampler, --train-sampling-strategy: batches are made so that"),
        (["--neftune-noise-alpha", "1"], "--neftune-noise-alpha: noise on the embeddings would be"),
        (["--auto-find-batch-size"], "--auto-find-batch-size: a smaller batch has other negatives"),
        (["--load-best-model-at-end", "--eval-strategy", "steps"], "--load-best-model-at-end: say --keep best or"),
        (["--per-device-train-batch-size", "1"], "a pair alone has no negatives"),
        (["--fsdp"], "each process holds a whole model; what does not fit is trained with --lora-rank"),
        (["--lora-alpha", "4"], "--lora-alpha is for LoRA"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_refused_at_once(argv, tmp_path, flags, message):
    with pytest.raises(InputError, match=message):
        grcl.main([*argv, *flags])
    assert not (tmp_path / "out").exists()


def test_flags_that_need_dev_data(argv):
    argv = [*argv[:4], *argv[6:]]
    for flags in (["--keep", "last"], ["--early-stopping", "1"], ["--corpus-extra", argv[3]]):
        with pytest.raises(InputError, match=f"{flags[0]} needs --dev-data"):
            grcl.main([*argv, *flags])


@pytest.mark.parametrize("of", ["language model", "bert"])
def test_attention_is_that_which_was_asked_for(argv, tmp_path, monkeypatch, of):
    """Of both kinds of models; it is of the run and not of the model that is saved."""
    if of == "bert":
        argv += ["--model", make_bert(tmp_path / "bert")]
    seen = []
    monkeypatch.setattr(grcl, "train_to_the_end", lambda trainer, folder: seen.append(trainer.model[0].model.config))
    monkeypatch.setattr(grcl, "finish", lambda *args: None)
    for name in ("eager", "sdpa"):
        grcl.main([*argv, "--output-dir", str(tmp_path / name), "--attention", name])
    assert [config._attn_implementation for config in seen] == ["eager", "sdpa"]


def test_a_run_that_makes_the_model_worse_says_so(argv, tmp_path, caplog):
    grcl.main([*argv, "--max-steps", "30", "--learning-rate", "1e-2", "--eval-steps", "30"])
    with caplog.at_level(logging.WARNING, logger="lbr_st"):
        worse = ["--model", str(tmp_path / "out"), "--output-dir", str(tmp_path / "worse"), "--eval-steps", "6"]
        grcl.main([*argv, *RUIN, *worse])
    scores = [value for _, value in values(log_of(tmp_path / "worse"), "eval_dev_cosine_ndcg@10")]
    assert f"dev nDCG@10 {scores[0]:.3f} before it, {max(scores[1:]):.3f} at the best after" in caplog.text


def test_a_finished_run_that_was_moved_before_its_model_was_saved(argv, tmp_path):
    argv += [*RUIN, "--eval-steps", "6"]
    grcl.main(argv)
    moved = (tmp_path / "out").rename(tmp_path / "moved")
    first = load_file(moved / "model.safetensors")
    (moved / "config.json").unlink()
    grcl.main([*argv, "--output-dir", str(moved), "--resume"])
    second = load_file(moved / "model.safetensors")
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_what_cannot_be_trained_is_refused_before_mining(argv, tmp_path, monkeypatch):
    monkeypatch.setattr(hard_negatives, "mine", None)  # would fail if it were called
    flags = ["--mine-negatives", "1", "--lm-weight", "1", "--max-length", "200"]
    with pytest.raises(InputError, match="--lm-weight: stage 1 reads a text and its target in one row"):
        grcl.main([*argv, *flags])
    assert not (tmp_path / "out").exists()


def test_the_dev_corpus_may_have_more_documents(argv, tmp_path):
    """Every document of the extra corpus competes."""
    write_jsonl(tmp_path / "extra.jsonl", [{"document": p["answer"] + " too"} for p in MANY])
    grcl.main([*argv, "--corpus-extra", str(tmp_path / "extra.jsonl"), "--learning-rate", "0"])
    logged = values(log_of(tmp_path / "out"), "eval_dev_cosine_recall@10")[0][1]
    records, extra = read_records(argv[3]), read_records(tmp_path / "extra.jsonl", ("document",))
    model = lbr_st.load(str(tmp_path / "out"))  # as it was before
    more, fewer = HeldOutEvaluator(records, extra), HeldOutEvaluator(records)
    assert len(more.corpus) == 2 * len(MANY)
    assert more(model)["dev_cosine_recall@10"] == pytest.approx(logged)
    assert logged < fewer(model)["dev_cosine_recall@10"]
