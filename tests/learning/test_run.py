"""Stage 1: examples written out, the loss against an independent computation, and runs that resume."""

import json

import numpy as np
import pytest
import torch
from helpers import LONG_PAIR, PAIRS, SHORT_PAIR, kill_after_checkpoint, make_backbone, same_weights
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer
from transformers import TrainerCallback, TrainingArguments

import lbr_st
from lbr_st.errors import InputError
from lbr_st.files import write_jsonl
from lbr_st.learning import run as ibgl
from lbr_st.learning.batches import IGNORE, collate
from lbr_st.learning.masked_model import IBGLModel
from lbr_st.learning.objectives import OBJECTIVES, READ_PAIRS, build_examples
from lbr_st.learning.run import IBGLTrainer, main
from lbr_st.model.cutoff import TARGET


def test_hidden_bos_stays_hidden_in_a_second_stage_1(tmp_path):
    backbone = make_backbone(tmp_path / "backbone", family="llama")
    write_jsonl(tmp_path / "train.jsonl", PAIRS)
    argv = ["--data", str(tmp_path / "train.jsonl"), "--max-steps", "1"]
    first, second = str(tmp_path / "first"), str(tmp_path / "second")
    main(["--model", backbone, "--output-dir", first, "--hide-bos", "--max-length", "24", *argv])
    main(["--model", first, "--output-dir", second, *argv])
    assert lbr_st.load(second)[0].hide_bos


def gradients_after_one_step(model, tmp_path, **arguments):
    args = TrainingArguments(
        output_dir=str(tmp_path / "out"), use_cpu=True, max_steps=1, learning_rate=0.0, report_to="none",
        save_strategy="no", max_grad_norm=0, disable_tqdm=True, **arguments,
    )  # fmt: skip
    trainer = IBGLTrainer(model, args=args, train_dataset=build_examples([SHORT_PAIR, LONG_PAIR] * 2, model, "sft"))
    gradients = {}
    step = torch.optim.AdamW.step

    def keep_gradients(self, *args, **kwargs):
        gradients.update({n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None})
        return step(self, *args, **kwargs)

    torch.optim.AdamW.step = keep_gradients
    try:
        trainer.train()
    finally:
        torch.optim.AdamW.step = step
    return gradients


def test_accumulation_gives_the_gradients_of_the_large_batch(model, tmp_path):
    """Micro-batches have different numbers of targets; a mean of their means would weigh them alike."""
    import copy

    large = gradients_after_one_step(copy.deepcopy(model), tmp_path, per_device_train_batch_size=4)
    small = gradients_after_one_step(
        copy.deepcopy(model), tmp_path, per_device_train_batch_size=1, gradient_accumulation_steps=4
    )
    assert large.keys() == small.keys()
    scale = max(g.abs().max() for g in large.values())
    assert scale > 1e-3
    for name in large:
        assert (large[name] - small[name]).abs().max() < 1e-5 * scale


def test_killed_run_resumes_to_the_same_weights(backbone, tmp_path, monkeypatch):
    write_jsonl(tmp_path / "train.jsonl", PAIRS * 8)
    argv = [
        "--model", backbone, "--data", str(tmp_path / "train.jsonl"), "--max-length", "24", "--learning-rate", "1e-2",
        "--max-steps", "58", "--save-steps", "20", "--per-device-train-batch-size", "4",
        "--lr-scheduler-type", "constant",  # 58 steps end within an epoch, at full rate: one step more would show
    ]  # fmt: skip
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    ibgl.main([*argv, "--output-dir", str(straight)])
    argv += ["--output-dir", str(killed)]
    kill_after_checkpoint("lbr_st.learning.run", argv, killed, step=20)
    with pytest.raises(InputError, match="not empty; choose another, or add --resume"):
        ibgl.main(argv)
    with pytest.raises(InputError, match="other settings .*learning_rate: was 0.01, now 0.02"):
        ibgl.main([*argv, "--learning-rate", "2e-2", "--resume"])
    resumed = []
    load = IBGLTrainer._load_from_checkpoint
    monkeypatch.setattr(IBGLTrainer, "_load_from_checkpoint", lambda *args: (resumed.append(args[1]), load(*args)))
    ibgl.main([*argv, "--resume"])
    assert len(resumed) == 1
    assert same_weights(straight, killed)
    before = (killed / "model.safetensors").stat().st_mtime_ns
    ibgl.main([*argv, "--resume"])  # finished: nothing to do
    assert (killed / "model.safetensors").stat().st_mtime_ns == before
    for name in ("config.json", "model.safetensors"):  # as a kill after the last step leaves it
        (killed / name).unlink()
    ibgl.main([*argv, "--resume"])
    assert same_weights(straight, killed)
    assert not (killed / "checkpoints" / "checkpoint-59").exists()


def test_load_best_model_at_end_brings_back_its_weights(model, tmp_path):
    """The learning rate blows the model up after its first evaluation, so the first checkpoint is the best."""
    args = TrainingArguments(
        output_dir=str(tmp_path), use_cpu=True, max_steps=4, learning_rate=0.0, report_to="none", save_steps=1,
        eval_strategy="steps", eval_steps=1, load_best_model_at_end=True, disable_tqdm=True, prediction_loss_only=True,
    )  # fmt: skip
    data = build_examples(PAIRS, model, "sft")

    class BlowUp(TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            if state.global_step > 0:
                torch.nn.init.normal_(model[0].model.get_input_embeddings().weight, std=10.0)

    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    trainer = IBGLTrainer(model, args=args, train_dataset=data, eval_dataset=data, callbacks=[BlowUp()])
    trainer.train()
    assert trainer.state.best_global_step == 1
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())


def test_a_checkpoint_cut_off_by_a_kill_is_passed_over(tmp_path):
    from lbr_st.training.shared import last_whole_checkpoint

    for step, state in ((2, '{"global_step": 2}'), (10, '{"global_step": 10}'), (12, '{"glob')):
        folder = tmp_path / "checkpoints" / f"checkpoint-{step}"
        folder.mkdir(parents=True)
        (folder / "trainer_state.json").write_text(state)
    (tmp_path / "checkpoints" / "checkpoint-14").mkdir()
    assert last_whole_checkpoint(tmp_path) == str(tmp_path / "checkpoints" / "checkpoint-10")


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_script(backbone, tmp_path, objective):
    """Each objective trains, lowers its loss, and leaves a model whose history says how it was made."""
    rows = PAIRS * 8 if objective in READ_PAIRS else [{"document": pair["document"]} for pair in PAIRS] * 8
    write_jsonl(tmp_path / "train.jsonl", rows)
    ibgl.main(
        ["--model", backbone, "--data", str(tmp_path / "train.jsonl"), "--dev-data", str(tmp_path / "train.jsonl"),
         "--allow-overlap",
         "--output-dir", str(tmp_path / "out"), "--objective", objective, "--max-length", "24", "--learning-rate",
         "1e-2", "--num-train-epochs", "4", "--per-device-train-batch-size", "8", "--document-prompt", "d: "]
    )  # fmt: skip
    log = json.loads((tmp_path / "out" / "training_log.json").read_text())
    losses = [entry["eval_loss"] for entry in log if "eval_loss" in entry]
    assert len(losses) >= 4
    assert losses[-1] < losses[0]
    recall = [entry for entry in log if "eval_dev_cosine_recall@10" in entry]
    assert bool(recall) == (objective in READ_PAIRS)
    model = lbr_st.load(str(tmp_path / "out"))
    assert model.prompts == {"query": "", "document": "d: "}
    assert model[0].num_bottleneck_tokens == 1
    [stage] = model[0].history
    assert (stage["stage"], stage["objective"], stage["data"]) == ("ibgl", objective, ["train.jsonl"])


def trainer_of(model, tmp_path, eval_dataset, **arguments):
    args = TrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to="none", disable_tqdm=True, **arguments)
    return IBGLTrainer(model, args=args, eval_dataset=eval_dataset)


def loss_by_hand(model, examples):
    """Sum over targets and their number, one example at a time through the plain trained model's forward."""
    training_model = IBGLModel(model[0].model).eval()
    with torch.no_grad():
        outputs = [training_model(**collate([example])) for example in examples]
    return sum(o["loss_sums"].item() for o in outputs), sum(o["targets"].item() for o in outputs)


def read_out_by_hand(model, row):
    """Loss of each target under the logits of the last row before the first of them."""
    at = row["segments"].index(TARGET)
    with torch.no_grad():
        logits = model[0].model(torch.tensor([row["input_ids"][:at]])).logits[0, -1]
    return (-logits.log_softmax(0)[row["labels"][at:]]).tolist()


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_held_out_loss_and_nats(model, tmp_path, batch_size):
    """Per target token over the whole set, whatever the batches; nats are the loss with another's X beyond it."""
    dev = {name: build_examples([SHORT_PAIR, *PAIRS, LONG_PAIR], model, name) for name in ("sft", "reconstruct")}
    metrics = trainer_of(model, tmp_path, dev, per_device_eval_batch_size=batch_size).evaluate()
    own = {name: loss_by_hand(model, examples) for name, examples in dev.items()}
    wrong = {}
    for name, examples in dev.items():
        rows = list(examples)
        ends = [row["segments"].index(TARGET) for row in rows]
        shuffled = []
        for n, row in enumerate(rows):
            x, at = rows[n - 1], ends[n - 1]
            shuffled.append(
                {key: x[key][:at] + row[key][ends[n] :] for key in ("input_ids", "segments")}
                | {"labels": [IGNORE] * at + row["labels"][ends[n] :]}
            )
        wrong[name] = loss_by_hand(model, shuffled)
    for name in dev:
        assert abs(metrics[f"eval_{name}_loss"] - own[name][0] / own[name][1]) < 1e-5
        nats = wrong[name][0] / wrong[name][1] - own[name][0] / own[name][1]
        assert abs(nats) > 1e-3
        assert abs(metrics[f"eval_{name}_bottleneck_nats"] - nats) < 1e-5
    total, number = (sum(own[name][n] for name in dev) for n in (0, 1))
    assert abs(metrics["eval_loss"] - total / number) < 1e-5
    assert abs(metrics["eval_bottleneck_nats"] - (sum(wrong[n][0] for n in dev) - total) / number) < 1e-5
    losses = {name: [loss for row in rows for loss in read_out_by_hand(model, row)] for name, rows in dev.items()}
    for name in dev:
        assert abs(metrics[f"eval_{name}_read_out_loss"] - np.mean(losses[name])) < 1e-5
    assert abs(metrics["eval_read_out_loss"] - np.mean(losses["sft"] + losses["reconstruct"])) < 1e-5


def run_stage1(tmp_path, backbone, *flags, rows=None, name="out"):
    write_jsonl(tmp_path / "train.jsonl", rows or PAIRS * 8)
    argv = [
        "--model", backbone, "--data", str(tmp_path / "train.jsonl"), "--dev-data", str(tmp_path / "train.jsonl"),
        "--allow-overlap",
        "--output-dir", str(tmp_path / name), "--max-length", "24", "--learning-rate", "1e-2", "--max-steps", "10",
        "--per-device-train-batch-size", "8", "--logging-steps", "2",
    ]  # fmt: skip
    ibgl.main([*argv, *flags])
    return json.loads((tmp_path / name / "training_log.json").read_text())


def test_losses_and_control_arms_of_the_command(backbone, tmp_path):
    """What is asked for is trained with: the loss of the first step is linear in the weight, and 1 is its default."""

    def run(name, *flags):
        return run_stage1(tmp_path, backbone, "--max-steps", "1", "--logging-steps", "1", *flags, name=name)

    logs = {
        name: run(str(number), *flags)
        for number, (name, flags) in enumerate(
            {
                "paper": ["--read-out-weight", "0"],
                "default": [],
                "three": ["--read-out-weight", "3"],
                "seen": ["--read-out-weight", "0", "--no-cut-off"],
            }.items()
        )
    }
    loss = {name: next(entry["loss"] for entry in log if "loss" in entry) for name, log in logs.items()}
    read_out = loss["default"] - loss["paper"]
    assert read_out > 1
    assert loss["three"] - loss["paper"] == pytest.approx(3 * read_out, abs=1e-3)
    assert abs(loss["seen"] - loss["paper"]) > 1e-4
    # Where Y sees X, what Z carries cannot be told by exchanging both.
    nats = {name for name, log in logs.items() if any("eval_bottleneck_nats" in entry for entry in log)}
    assert nats == {"paper", "default", "three"}


@pytest.mark.parametrize(
    "flags",
    [
        ["--no-bottleneck"],
        ["--no-bottleneck", "--objective", "reconstruct"],
        ["--pack-length", "96"],
        ["--activation-checkpointing", "--gradient-accumulation-steps", "2"],
        ["--bf16", "--lora-rank", "2"],
    ],
    ids=" ".join,
)
def test_ways_to_train(backbone, tmp_path, flags):
    """Each lowers its loss, says how fast it is and what the bottleneck carries, draws its curves, and loads."""
    log = run_stage1(tmp_path, backbone, *flags)
    losses = [entry["eval_loss"] for entry in log if "eval_loss" in entry]
    assert losses[-1] < losses[0]
    assert all(entry["tokens_per_second"] > 0 for entry in log if "loss" in entry)
    nats = [entry["eval_bottleneck_nats"] for entry in log if "eval_bottleneck_nats" in entry]
    assert len(nats) == (0 if "--no-bottleneck" in flags else len(losses))
    assert (tmp_path / "out" / "training.png").read_bytes().startswith(b"\x89PNG")
    dtypes = {weight.dtype for weight in load_file(tmp_path / "out" / "model.safetensors").values()}
    assert dtypes == {torch.bfloat16 if "--lora-rank" in flags else torch.float32}
    assert SentenceTransformer(str(tmp_path / "out")).encode(["a text"]).shape == (1, 32)


def test_tokens_that_are_counted(model, tmp_path):
    """X, Z and Y of every step, without padding."""
    examples = build_examples([SHORT_PAIR, LONG_PAIR] * 4, model, "sft")
    args = TrainingArguments(
        output_dir=str(tmp_path), use_cpu=True, report_to="none", disable_tqdm=True, num_train_epochs=2,
        per_device_train_batch_size=2, gradient_accumulation_steps=2, logging_strategy="no", save_strategy="no",
    )  # fmt: skip
    trainer = IBGLTrainer(model, args=args, train_dataset=examples)
    trainer.train()
    assert trainer._tokens == 2 * sum(len(ids) for ids in examples["input_ids"])


def test_mixture_of_pairs_and_passages(backbone, tmp_path, caplog):
    """Each objective reads its own data; the log tells their losses apart."""
    write_jsonl(tmp_path / "corpus.jsonl", [{"text": pair["document"]} for pair in PAIRS] * 2)
    write_jsonl(tmp_path / "pairs.jsonl", PAIRS * 4)
    with caplog.at_level("INFO", logger="lbr_st"):
        sources = [f"sft={tmp_path}/pairs.jsonl", f"reconstruct={tmp_path}/corpus.jsonl"]
        ibgl.main(
            ["--model", backbone, "--data", *sources, "--dev-data", *sources,
             "--allow-overlap", "--objective", "sft:0.7,reconstruct:0.3",
             "--output-dir", str(tmp_path / "out"), "--max-length", "24", "--max-steps", "4"]
        )  # fmt: skip
    log = json.loads((tmp_path / "out" / "training_log.json").read_text())
    [last] = [entry for entry in log if "eval_loss" in entry][-1:]
    assert {"eval_sft_loss", "eval_reconstruct_loss", "eval_sft_bottleneck_nats"} <= last.keys()
    assert "reconstruct: 30% of them, about 1.0 times each of its 6" in caplog.text
    assert "tokens of X" in caplog.text
    [stage] = lbr_st.load(str(tmp_path / "out"))[0].history
    assert stage["data"] == ["sft=pairs.jsonl", "reconstruct=corpus.jsonl"]


def test_run_over_strata_resumes_to_the_same_weights(backbone, tmp_path):
    """A mixture, packed rows and mixed k, cut off in the second epoch: the order of the batches is found again."""
    rows = [{"query": f"{n} " * (1 + n % 9), "document": f"so {n}"} for n in range(40)]
    flags = ["--compression-ratio", "5", "--pack-length", "60", "--objective", "sft:0.6,reconstruct:0.4"]
    flags += ["--save-steps", "7", "--per-device-train-batch-size", "4", "--max-steps", "13"]
    for name in ("straight", "resumed"):
        log = run_stage1(tmp_path, backbone, *flags, rows=rows, name=name)
    assert 1 < log[-1]["epoch"] < 7 * log[-1]["epoch"] / 13 + 1  # step 7 is within an epoch that is not the first
    for name in ("config.json", "checkpoints/checkpoint-13/trainer_state.json"):
        (tmp_path / "resumed" / name).unlink()
    run_stage1(tmp_path, backbone, *flags, "--resume", rows=rows, name="resumed")
    assert same_weights(tmp_path / "straight", tmp_path / "resumed")


def test_a_run_that_ended_before_its_first_checkpoint_can_be_started_anew(backbone, tmp_path):
    """With other settings, and without --resume: nothing of it would be lost."""
    with pytest.raises(ImportError):
        run_stage1(tmp_path, backbone, "--optim", "adamw_bnb_8bit")
    assert (tmp_path / "out" / "lbr_run.json").is_file()
    run_stage1(tmp_path, backbone)
    assert (
        json.loads((tmp_path / "out" / "lbr_run.json").read_text())["training_arguments"]["optim"] != "adamw_bnb_8bit"
    )
    with pytest.raises(InputError, match="not empty; choose another, or add --resume"):
        run_stage1(tmp_path, backbone)


def test_evaluation_without_held_out_data_is_refused(backbone, tmp_path):
    write_jsonl(tmp_path / "train.jsonl", PAIRS)
    argv = ["--model", backbone, "--data", str(tmp_path / "train.jsonl"), "--output-dir", str(tmp_path / "out")]
    with pytest.raises(InputError, match="there is nothing to evaluate on, give --dev-data"):
        ibgl.main([*argv, "--eval-strategy", "steps"])
    assert not (tmp_path / "out").exists()


def test_nats_of_examples_that_have_a_wrong_twin(model, tmp_path):
    """One objective has a single held-out example, and so no other X: the nats are those of the other objective."""
    dev = {"sft": build_examples(PAIRS, model, "sft"), "reconstruct": build_examples(PAIRS[:1], model, "reconstruct")}
    metrics = trainer_of(model, tmp_path, dev).evaluate()
    assert "eval_reconstruct_bottleneck_nats" not in metrics
    assert metrics["eval_bottleneck_nats"] == pytest.approx(metrics["eval_sft_bottleneck_nats"])


def test_best_model_of_a_run_killed_while_it_was_saved(backbone, tmp_path, monkeypatch):
    """Its last step is done, and its best checkpoint is another one."""
    flags = ["--load-best-model-at-end", "--eval-strategy", "steps", "--eval-steps", "1", "--save-steps", "1"]
    flags += ["--max-steps", "4", "--lora-rank", "2", "--metric-for-best-model", "eval_bottleneck_nats"]
    flags += ["--greater-is-better", "true"]
    losses = iter([0.1, 0.9, 0.3, 0.2])  # the second is the best
    evaluate = IBGLTrainer.evaluate

    def scripted(self, *args, **kwargs):
        metrics = evaluate(self, *args, **kwargs)
        return metrics | {"eval_bottleneck_nats": next(losses)}

    monkeypatch.setattr(IBGLTrainer, "evaluate", scripted)
    run_stage1(tmp_path, backbone, *flags)
    straight = load_file(tmp_path / "out" / "model.safetensors")
    (tmp_path / "out" / "config.json").unlink()
    run_stage1(tmp_path, backbone, *flags, "--resume")
    assert next(losses, None) is None  # nothing was trained or evaluated again
    again = load_file(tmp_path / "out" / "model.safetensors")
    assert all(torch.equal(straight[name], again[name]) for name in straight)
    state = json.loads((tmp_path / "out" / "checkpoints" / "checkpoint-4" / "trainer_state.json").read_text())
    assert state["best_global_step"] == 2


def test_tensorboard(backbone, tmp_path, monkeypatch):
    """What --report-to is given to shows the same numbers."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "board"))
    log = run_stage1(tmp_path, backbone, "--report-to", "tensorboard")
    board = EventAccumulator(str(tmp_path / "board"))
    board.Reload()
    assert {"train/loss", "train/tokens_per_second", "eval/loss", "eval/bottleneck_nats"} <= {*board.Tags()["scalars"]}
    [*_, last] = [entry["eval_bottleneck_nats"] for entry in log if "eval_bottleneck_nats" in entry]
    assert board.Scalars("eval/bottleneck_nats")[-1].value == pytest.approx(last)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--objective", "sfft"], "'sfft' is none of sft, doc2query, reconstruct, prefix-suffix"),
        (["--prefix-share", "0.5"], "--prefix-share is for the objective prefix-suffix, not for sft"),
        (["--objective", "prefix-suffix", "--prefix-share", "0.5", "0.2"], "one or two numbers between 0 and 1"),
        (["--objective", "prefix-suffix", "--prefix-share", "1"], "one or two numbers between 0 and 1"),
        (["--no-bottleneck", "--hide-bos"], "--hide-bos means nothing with --no-bottleneck"),
        (["--no-cut-off", "--hide-bos"], "--hide-bos means nothing with --no-cut-off"),
        (["--no-bottleneck", "--no-cut-off"], "leave out --no-cut-off"),
        (["--no-cut-off", "--select-by", "nats"], "with --no-cut-off nothing has to pass"),
        (["--no-bottleneck", "--read-out-weight", "1"], "--read-out-weight means nothing with --no-bottleneck"),
        (["--read-out-weight", "-1"], "--read-out-weight must be a number of 0 or more"),
        (["--load-in-4bit"], "--load-in-4bit is for LoRA: give its rank, --lora-rank"),
        (["--lora-alpha", "32"], "--lora-alpha is for LoRA: give its rank, --lora-rank"),
        (["--attention", "flex_attention"], "it has no backward pass on a CPU"),
        (["--save-only-model"], "a run could not go on from such a checkpoint"),
        (["--resume-from-checkpoint", "x"], "--resume goes on from the last checkpoint in --output-dir"),
        (["--per-device-train-batch-size", "0"], "must be at least 1"),
        (["--eval-do-concat-batches", "false"], "held-out losses are summed over all examples"),
        (["--learning-rate", "abc"], "invalid float value: 'abc'"),
        (["--lora-rank", "x"], "argument --lora-rank: invalid int value: 'x'"),
        (["--query-prompt", "q " * 50], "--query-prompt has .* tokens: a maximum length of 24 leaves no room for text"),
        (["--report-to", "wandb"], "requires wandb to be installed"),
        (
            ["--load-best-model-at-end", "--eval-strategy", "steps", "--metric-for-best-model", "eval_nats"],
            "--metric-for-best-model eval_nats: choose from eval_bottleneck_nats, eval_dev_alignment, ",
        ),
        (["--ignore-data-skip"], "a run that goes on would see other data"),
        (["--dataloader-drop-last"], "it would drop held-out examples too"),
        (["--lora-rank", "0"], "LoRA needs a rank and an alpha of at least 1"),
        (["--pack-length", "0"], "--pack-length must be at least 1"),
        (["--pack-length", "10"], "rows of 10 tokens are too short for an example of"),
        (["--label-smoothing-factor", "0.1"], "the loss of stage 1 is plain cross-entropy"),
        (["--neftune-noise-alpha", "5"], "noise on the embeddings would be noise on X too"),
        (["--fsdp", "--lora-rank", "2"], "FSDP and DeepSpeed need GPUs"),
        (["--fsdp"], "FSDP and DeepSpeed need GPUs: on a CPU the trainer leaves them out without a word"),
        (["--hide-bos"], "this model puts no token before a text"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_written(backbone, tmp_path, flags, message):
    with pytest.raises(InputError, match=message):
        run_stage1(tmp_path, backbone, *flags)
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("select_by", "objective", "best", "rate"),
    [
        ("nats", "sft", max, "0.6"),
        ("recall", "reconstruct", max, "0.6"),
    ],
)
def test_the_checkpoint_is_selected_by_a_signal(tmp_path, backbone, select_by, objective, best, rate):
    """Of a run whose signals go up and down, the weights at the end are those of the best value in its log."""
    rows = [{"query": f"{p['query']} {n}", "document": f"{n} {p['document']}"} for n in range(8) for p in PAIRS]
    write_jsonl(tmp_path / "train.jsonl", rows)
    out = tmp_path / "out"
    main(
        ["--model", backbone, "--data", str(tmp_path / "train.jsonl"), "--dev-data", str(tmp_path / "train.jsonl"),
         "--allow-overlap",
         "--objective", objective, "--select-by", select_by, "--max-length", "24", "--output-dir", str(out),
         "--learning-rate", rate, "--max-steps", "11", "--eval-steps", "2", "--per-device-train-batch-size", "8",
         "--save-total-limit", "9", "--warmup-steps", "3"]
    )  # fmt: skip
    name, _ = ibgl.SELECT_BY[select_by]
    log = json.loads((out / "training_log.json").read_text())
    values = {entry["step"]: entry[name] for entry in log if name in entry}
    assert list(values) == [2, 4, 6, 8, 10, 11]
    step = best(values, key=values.get)
    assert step != 11
    saved = load_file(out / "checkpoints" / f"checkpoint-{step}" / "model.safetensors")
    found = load_file(out / "model.safetensors")
    assert all(torch.equal(found[key], saved[key]) for key in found)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--select-by", "loss"], "--select-by needs --dev-data"),
        (["--select-by", "nats", "--no-bottleneck"], "--select-by nats: with --no-bottleneck nothing has to pass"),
        (["--select-by", "loss", "--save-strategy", "no"], "--select-by needs checkpoints"),
        (["--select-by", "loss", "--load-best-model-at-end", "--eval-strategy", "steps"], "ask for the same"),
        (["--select-by", "recall", "--objective", "reconstruct"], "no column for the query"),
    ],
)
def test_select_by_that_cannot_select(tmp_path, backbone, flags, message):
    write_jsonl(tmp_path / "train.jsonl", [{"document": p["document"]} for p in PAIRS])
    argv = ["--model", backbone, "--data", str(tmp_path / "train.jsonl"), "--output-dir", str(tmp_path / "out")]
    dev = ["--dev-data", str(tmp_path / "train.jsonl"), "--allow-overlap"] if "needs --dev-data" not in message else []
    with pytest.raises(InputError, match=message):
        main([*argv, *dev, *flags])
    assert not (tmp_path / "out").exists()
