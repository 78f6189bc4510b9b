"""Stage 1 as a run: what it learns, what it leaves, and that it goes on to the same weights."""

import json
import shutil
from contextlib import nullcontext
from dataclasses import replace
from functools import partial

import pytest
import torch
from helpers import PAIRS, kill_after_checkpoint, make_backbone, same_weights
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer

import lbr_st
from lbr_st.data import PrepareConfig
from lbr_st.data import prepare as prepare_set
from lbr_st.errors import InputError
from lbr_st.files import write_jsonl
from lbr_st.learning.config import SELECT_BY, LearnConfig
from lbr_st.learning.masked_model import CutOffModel
from lbr_st.learning.objectives import OBJECTIVES, READ_PAIRS, Arm
from lbr_st.learning.run import find_sources, learn, prepare, read_data
from lbr_st.learning.trainer import LearnTrainer


@pytest.fixture
def config(backbone, tmp_path):
    """A run of ten steps that is scored on what it learns."""
    write_jsonl(tmp_path / "train.jsonl", PAIRS * 8)
    data = [str(tmp_path / "train.jsonl")]
    return LearnConfig(
        model=backbone,
        data=data,
        dev_data=data,
        allow_overlap=True,
        output_dir=str(tmp_path / "out"),
        max_length=24,
        learning_rate=1e-2,
        max_steps=10,
        per_device_train_batch_size=8,
        logging_steps=2,
    )


def log_of(config):
    with open(f"{config.output_dir}/training_log.json") as file:
        return json.load(file)


def run(config, **changes):
    changed = replace(config, **changes)
    learn(changed)
    return log_of(changed)


@pytest.mark.parametrize(
    ("objective", "line"),
    [
        ("sft", "2 of 8 texts are longer than the 24 tokens the model reads: the rest of them was not read"),
        ("reconstruct", "1 of 4 texts are longer than the 24 tokens the model reads: the rest of them was not read"),
        ("sft:0.5,reconstruct:0.5", "2 of 8 texts are longer than the 24 tokens the model reads: the rest of"),
        ("prefix-suffix", "1 of 4 texts are longer than the 2 x 24 tokens the model reads: the rest of them was not"),
    ],
)
def test_texts_longer_than_the_model_reads_are_counted(config, tmp_path, caplog, objective, line):
    """Each text once, before the first step."""
    rows = [{"query": f"{n}?", "document": f"{n}."} for n in range(3)]
    rows += [{"query": "why " * 30 + "?", "document": "word " * 80}]
    write_jsonl(tmp_path / "train.jsonl", rows)
    config = replace(config, objective=objective, dev_data=None)
    prepare(config, config.for_trainer())
    said = [record.getMessage() for record in caplog.records if "the model reads" in record.getMessage()]
    assert len(said) == 1 and said[0].startswith(line)
    caplog.clear()
    write_jsonl(tmp_path / "train.jsonl", rows[:3])
    prepare(replace(config, output_dir=str(tmp_path / "other")), config.for_trainer())
    assert "the model reads" not in caplog.text


def test_killed_run_resumes_to_the_same_weights(backbone, tmp_path, monkeypatch):
    write_jsonl(tmp_path / "train.jsonl", PAIRS * 8)
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    config = LearnConfig(
        model=backbone,
        data=[str(tmp_path / "train.jsonl")],
        output_dir=str(straight),
        max_length=24,
        learning_rate=1e-2,
        max_steps=58,
        save_steps=20,
        per_device_train_batch_size=4,
        lr_scheduler_type="constant",  # 58 steps end within an epoch, at full rate: one step more would show
    )
    learn(config)
    argv = [
        "--model", backbone, "--data", str(tmp_path / "train.jsonl"), "--max-length", "24", "--learning-rate", "1e-2",
        "--max-steps", "58", "--save-steps", "20", "--per-device-train-batch-size", "4",
        "--lr-scheduler-type", "constant", "--output-dir", str(killed),
    ]  # fmt: skip
    kill_after_checkpoint("lbr_st.cli.learn", argv, killed, step=20)
    config = replace(config, output_dir=str(killed))
    with pytest.raises(InputError, match="not empty; choose another, or add --resume"):
        learn(config)
    config = replace(config, resume=True)
    with pytest.raises(InputError, match="other settings .*learning_rate: was 0.01, now 0.02"):
        learn(replace(config, learning_rate=2e-2))
    resumed = []
    load = LearnTrainer._load_from_checkpoint
    monkeypatch.setattr(LearnTrainer, "_load_from_checkpoint", lambda *args: (resumed.append(args[1]), load(*args)))
    learn(config)
    assert len(resumed) == 1
    assert same_weights(straight, killed)
    before = (killed / "model.safetensors").stat().st_mtime_ns
    again = learn(config)  # finished: nothing to do
    assert (killed / "model.safetensors").stat().st_mtime_ns == before
    assert again.encode("a").tolist() == lbr_st.load(str(killed)).encode("a").tolist()
    for name in ("config.json", "model.safetensors"):  # as a kill after the last step leaves it
        (killed / name).unlink()
    learn(config)
    assert same_weights(straight, killed)
    assert not (killed / "checkpoints" / "checkpoint-59").exists()


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_objectives(config, tmp_path, objective):
    """Each objective trains, lowers its loss, and leaves a model whose history says how it was made."""
    if objective not in READ_PAIRS:
        write_jsonl(tmp_path / "train.jsonl", [{"document": pair["document"]} for pair in PAIRS] * 8)
    log = run(config, objective=objective, max_steps=-1, num_train_epochs=4, document_prompt="d: ")
    losses = [entry["eval_loss"] for entry in log if "eval_loss" in entry]
    assert len(losses) >= 4
    assert losses[-1] < losses[0]
    recall = [entry for entry in log if "eval_dev_cosine_recall@10" in entry]
    assert bool(recall) == (objective in READ_PAIRS)
    model = lbr_st.load(config.output_dir)
    assert model.prompts == {"query": "", "document": "d: "}
    assert model[0].num_bottleneck_tokens == 1
    [stage] = model[0].history
    assert (stage["stage"], stage["objective"], stage["data"]) == ("learn", objective, ["train.jsonl"])
    assert (stage["read_out_weight"], stage["arm"]) == (1.0, "cut-off")


def test_losses_and_control_arms(config, tmp_path):
    """What is asked for is trained with: the loss of the first step is linear in the weight, and 1 is its default."""
    arms = {
        "paper": {"read_out_weight": 0},
        "default": {},
        "three": {"read_out_weight": 3},
        "seen": {"read_out_weight": 0, "arm": Arm.NO_CUT_OFF},
    }
    first = replace(config, max_steps=1, logging_steps=1)
    logs = {name: run(first, output_dir=str(tmp_path / name), **changes) for name, changes in arms.items()}
    loss = {name: next(entry["loss"] for entry in log if "loss" in entry) for name, log in logs.items()}
    read_out = loss["default"] - loss["paper"]
    assert read_out > 1
    assert loss["three"] - loss["paper"] == pytest.approx(3 * read_out, abs=1e-3)
    assert abs(loss["seen"] - loss["paper"]) > 1e-4
    # Where Y sees X, what Z carries cannot be told by exchanging both.
    nats = {name for name, log in logs.items() if any("eval_bottleneck_nats" in entry for entry in log)}
    assert nats == {"paper", "default", "three"}


@pytest.mark.whole_run
@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"arm": "plain"}, marks=pytest.mark.slow),
        pytest.param({"arm": "plain", "objective": "reconstruct"}, marks=pytest.mark.slow),
        pytest.param({"pack_length": 96}, marks=pytest.mark.slow),
        pytest.param({"gradient_checkpointing": True, "gradient_accumulation_steps": 2}, marks=pytest.mark.slow),
        {"bf16": True, "lora_rank": 2},
    ],
    ids=str,
)
def test_ways_to_train(config, tmp_path, changes):
    """Each lowers its loss, says how fast it is and what the bottleneck carries, draws its curves, and loads."""
    log = run(config, **changes)
    losses = [entry["eval_loss"] for entry in log if "eval_loss" in entry]
    assert losses[-1] < losses[0]
    assert all(entry["tokens_per_second"] > 0 for entry in log if "loss" in entry)
    nats = [entry["eval_bottleneck_nats"] for entry in log if "eval_bottleneck_nats" in entry]
    assert len(nats) == (0 if "arm" in changes else len(losses))
    assert (tmp_path / "out" / "training.png").read_bytes().startswith(b"\x89PNG")
    dtypes = {weight.dtype for weight in load_file(tmp_path / "out" / "model.safetensors").values()}
    assert dtypes == {torch.bfloat16 if "lora_rank" in changes else torch.float32}
    assert SentenceTransformer(str(tmp_path / "out")).encode(["a text"]).shape == (1, 32)


def test_what_is_returned_is_what_was_saved(config):
    """In float32, though it was trained in half precision."""
    model = learn(replace(config, bf16=True, max_steps=2))
    assert not model.training
    saved = lbr_st.load(config.output_dir)
    assert abs(model.encode(["a text"]) - saved.encode(["a text"])).max() < 1e-6


def test_mixture_of_pairs_and_passages(config, tmp_path, caplog):
    """Each objective reads its own data; the log tells their losses apart."""
    write_jsonl(tmp_path / "corpus.jsonl", [{"text": pair["document"]} for pair in PAIRS] * 2)
    write_jsonl(tmp_path / "pairs.jsonl", PAIRS * 4)
    sources = [f"sft={tmp_path}/pairs.jsonl", f"reconstruct={tmp_path}/corpus.jsonl"]
    with caplog.at_level("INFO", logger="lbr_st"):
        log = run(config, data=sources, dev_data=sources, objective="sft:0.7,reconstruct:0.3", max_steps=4)
    [last] = [entry for entry in log if "eval_loss" in entry][-1:]
    assert {"eval_sft_loss", "eval_reconstruct_loss", "eval_sft_bottleneck_nats"} <= last.keys()
    assert "reconstruct: 30% of them, about 1.0 times each of its 6" in caplog.text
    assert "tokens of X" in caplog.text
    [stage] = lbr_st.load(config.output_dir)[0].history
    assert stage["data"] == ["sft=pairs.jsonl", "reconstruct=corpus.jsonl"]


@pytest.mark.slow
def test_run_over_strata_resumes_to_the_same_weights(config, tmp_path):
    """A mixture, packed rows and mixed k, cut off in the second epoch: the order of the batches is found again."""
    rows = [{"query": f"{n} " * (1 + n % 9), "document": f"so {n}"} for n in range(40)]
    write_jsonl(tmp_path / "train.jsonl", rows)
    changes = {"compression_ratio": 5, "pack_length": 60, "objective": "sft:0.6,reconstruct:0.4", "save_steps": 7}
    log = run(config, **changes, per_device_train_batch_size=4, max_steps=13)
    assert 1 < log[-1]["epoch"] < 7 * log[-1]["epoch"] / 13 + 1  # step 7 is within an epoch that is not the first
    out = tmp_path / "out"
    shutil.copytree(out, tmp_path / "straight")
    for name in ("config.json", "checkpoints/checkpoint-13/trainer_state.json"):
        (out / name).unlink()
    run(config, **changes, per_device_train_batch_size=4, max_steps=13, resume=True)
    assert same_weights(tmp_path / "straight", out)


def exit_by_hand():
    raise KeyboardInterrupt


def test_a_run_that_ended_before_its_first_checkpoint_can_be_started_anew(config, tmp_path, monkeypatch):
    """With other settings, and without resume: nothing of it would be lost."""
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(LearnTrainer, "training_step", lambda *args: exit_by_hand())
        patch.setattr("lbr_st.learning.run.leaving_nothing", lambda folder: nullcontext())  # as after a kill
        learn(replace(config, weight_decay=0.5))
    assert (tmp_path / "out" / "lbr_run.json").is_file()
    learn(replace(config, max_steps=1))
    described = json.loads((tmp_path / "out" / "lbr_run.json").read_text())
    assert described["training_arguments"]["weight_decay"] == 0


def test_best_model_of_a_run_killed_while_it_was_saved(config, tmp_path, monkeypatch):
    """Its last step is done, and its best checkpoint is another one."""
    config = replace(
        config,
        load_best_model_at_end=True,
        eval_strategy="steps",
        eval_steps=1,
        save_steps=1,
        max_steps=4,
        lora_rank=2,
        metric_for_best_model="eval_bottleneck_nats",
        greater_is_better=True,
    )
    losses = iter([0.5, 0.1, 0.9, 0.3, 0.2])  # the best of the steps is the second
    evaluate = LearnTrainer.evaluate

    def scripted(self, *args, **kwargs):
        metrics = evaluate(self, *args, **kwargs)
        return metrics | {"eval_bottleneck_nats": next(losses)}

    monkeypatch.setattr(LearnTrainer, "evaluate", scripted)
    learn(config)
    straight = load_file(tmp_path / "out" / "model.safetensors")
    (tmp_path / "out" / "config.json").unlink()
    learn(replace(config, resume=True))
    assert next(losses, None) is None  # nothing was trained or evaluated again
    again = load_file(tmp_path / "out" / "model.safetensors")
    assert all(torch.equal(straight[name], again[name]) for name in straight)
    state = json.loads((tmp_path / "out" / "checkpoints" / "checkpoint-4" / "trainer_state.json").read_text())
    assert state["best_global_step"] == 2


def test_tensorboard(config, tmp_path, monkeypatch):
    """What --report-to is given to shows the same numbers."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "board"))
    log = run(config, report_to="tensorboard")
    board = EventAccumulator(str(tmp_path / "board"))
    board.Reload()
    assert {"train/loss", "train/tokens_per_second", "eval/loss", "eval/bottleneck_nats"} <= {*board.Tags()["scalars"]}
    [*_, last] = [entry["eval_bottleneck_nats"] for entry in log if "eval_bottleneck_nats" in entry]
    assert board.Scalars("eval/bottleneck_nats")[-1].value == pytest.approx(last)


@pytest.mark.parametrize(
    ("select_by", "objective", "best", "rate"),
    [("nats", "sft", max, 0.6), ("recall", "reconstruct", max, 0.6)],
)
def test_the_checkpoint_is_selected_by_a_signal(config, tmp_path, select_by, objective, best, rate):
    """Of a run whose signals go up and down, the weights at the end are those of the best value in its log."""
    rows = [{"query": f"{p['query']} {n}", "document": f"{n} {p['document']}"} for n in range(8) for p in PAIRS]
    write_jsonl(tmp_path / "train.jsonl", rows)
    log = run(
        config,
        objective=objective,
        select_by=select_by,
        learning_rate=rate,
        max_steps=11,
        eval_steps=2,
        logging_steps=10,
        save_total_limit=9,
        warmup_steps=3,
    )
    name, _ = SELECT_BY[select_by]
    values = {entry["step"]: entry[name] for entry in log if name in entry}
    assert list(values) == [0, 2, 4, 6, 8, 10, 11]
    step = best([each for each in values if each], key=values.get)
    assert step != 11
    saved = load_file(tmp_path / "out" / "checkpoints" / f"checkpoint-{step}" / "model.safetensors")
    found = load_file(tmp_path / "out" / "model.safetensors")
    assert all(torch.equal(found[key], saved[key]) for key in found)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"objective": "sfft"}, "'sfft' is none of sft, doc2query, reconstruct, prefix-suffix"),
        ({"target": "{why}", "objective": "reconstruct"}, "--target is for the objective sft, not for reconstruct"),
        ({"target": "why"}, "template 'why' has no field"),
        ({"target": "{why}"}, r"line 1: no field 'why' \(found: .*query"),
        ({"prefix_share": [0.5]}, "--prefix-share is for the objective prefix-suffix, not for sft"),
        ({"prefix_share": [0.5, 0.2], "objective": "prefix-suffix"}, "one or two numbers between 0 and 1"),
        ({"prefix_share": [1.0], "objective": "prefix-suffix"}, "one or two numbers between 0 and 1"),
        ({"arm": "no-cut-off", "select_by": "nats"}, "with --arm no-cut-off nothing has to pass"),
        ({"arm": "plain", "select_by": "nats"}, "with --arm plain nothing has to pass"),
        ({"arm": "plain", "read_out_weight": 1.0}, "--read-out-weight means nothing with --arm plain"),
        ({"read_out_weight": -1.0}, "--read-out-weight must be a number of 0 or more"),
        ({"load_in_4bit": True}, "--load-in-4bit is for LoRA: give its rank, --lora-rank"),
        ({"lora_alpha": 32}, "--lora-alpha is for LoRA: give its rank, --lora-rank"),
        ({"attention": "flex_attention"}, "it has no backward pass on a CPU"),
        ({"save_only_model": True}, "a run could not go on from such a checkpoint"),
        ({"resume_from_checkpoint": "x"}, "--resume goes on from the last checkpoint in --output-dir"),
        ({"per_device_train_batch_size": 0}, "--per-device-train-batch-size must be at least 1"),
        ({"eval_do_concat_batches": False}, "held-out losses are summed over all examples"),
        ({"query_prompt": "q " * 50}, "--query-prompt has .* tokens: a maximum length of 24 leaves no room for text"),
        ({"report_to": "wandb"}, "--report-to wandb needs wandb, which is not installed: pip install wandb"),
        (
            {"load_best_model_at_end": True, "eval_strategy": "steps", "metric_for_best_model": "eval_nats"},
            "--metric-for-best-model eval_nats: choose from eval_bottleneck_nats, eval_dev_alignment, ",
        ),
        ({"ignore_data_skip": True}, "a run that goes on would see other data"),
        ({"dataloader_drop_last": True}, "it would drop held-out examples too"),
        ({"lora_rank": 10**29}, "LoRA needs a rank from 1 to 65536"),
        ({"lora_rank": 0}, "LoRA needs a rank from 1 to 65536, an alpha of at least 1"),
        ({"bf16_full_eval": True}, "--bf16-full-eval: an evaluation while training is computed as training is"),
        (
            {"lr_scheduler_type": "reduce_lr_on_plateau", "select_by": "recall", "eval_strategy": "steps"},
            "--lr-scheduler-type reduce_lr_on_plateau lowers .* --select-by recall is a score that rises",
        ),
        ({"pack_length": 0}, "--pack-length must be at least 1"),
        ({"pack_length": 10}, "--pack-length 10: an example has .* tokens; say .* or more"),
        ({"label_names": ["x"]}, "--label-names: the labels of stage 1 are its own"),
        ({"label_smoothing_factor": 0.1}, "the loss of stage 1 is plain cross-entropy"),
        ({"neftune_noise_alpha": 5.0}, "noise on the embeddings would be noise on X too"),
        ({"fsdp": True, "lora_rank": 2}, "LoRA trains few weights and needs no FSDP"),
        ({"fsdp": True}, "FSDP and DeepSpeed need GPUs: on a CPU the trainer leaves them out"),
        ({"dev_data": None, "select_by": "loss"}, "--select-by needs --dev-data"),
        ({"dev_data": None, "eval_strategy": "steps"}, "there is nothing to evaluate on, give --dev-data"),
        ({"select_by": "loss", "save_strategy": "no"}, "--select-by needs checkpoints"),
        ({"select_by": "loss", "load_best_model_at_end": True, "eval_strategy": "steps"}, "ask for the same"),
    ],
    ids=str,
)
def test_what_cannot_work_is_refused_before_anything_is_written(config, tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        learn(replace(config, **changes))
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]


def test_recall_without_queries_cannot_select(config, tmp_path):
    write_jsonl(tmp_path / "train.jsonl", [{"document": pair["document"]} for pair in PAIRS])
    with pytest.raises(InputError, match="no column for the query"):
        learn(replace(config, select_by="recall", objective="reconstruct"))
    assert not (tmp_path / "out").exists()


def test_judged_pairs_and_the_least_score(config, tmp_path):
    """Pairs are answers; objectives that read documents alone read all of them."""
    rows = [{"query": "q", "document": f"d{n}", "label": n} for n in range(3)]
    write_jsonl(tmp_path / "train.jsonl", rows)
    with pytest.raises(InputError, match="column 'label' grades the documents .0, 1, 2.: say --min-score S"):
        read_data(config)
    data = read_data(replace(config, min_score=2, objective="sft:0.5,reconstruct:0.5"))
    assert [record["document"] for record in data.train["sft"]] == ["d2"]
    assert [record["document"] for record in data.train["reconstruct"]] == ["d0", "d1", "d2"]
    assert [record["document"] for record in data.dev["sft"]] == ["d2"]


def test_the_best_of_what_is_better_the_less_there_is_of_it(config, tmp_path):
    """The trainer takes more for better of whatever is no loss."""
    told = {"load_best_model_at_end": True, "greater_is_better": None, "eval_strategy": "steps"}
    config = replace(config, metric_for_best_model="dev_alignment", **told)
    assert config.greater_is_better is False
    assert replace(config, metric_for_best_model="dev_separation_ratio", greater_is_better=None).greater_is_better


def test_dev_data_that_a_set_cannot_be_held_against_are_said(config, tmp_path, caplog):
    """Its passages are trained on."""
    prepare_set(
        PrepareConfig(sources=[config.data[0]], output_dir=str(tmp_path / "set"), regime="corpus-taught", dev="20%")
    )
    with caplog.at_level("INFO"):
        sources = find_sources(replace(config, data=[str(tmp_path / "set")], dev_data=None, objective="reconstruct"))
    assert sources.dev == {} and "the run has no verdict; lbr inspect or lbr align says" in caplog.text


def test_what_cannot_be_selected_by(config, tmp_path):
    write_jsonl(tmp_path / "one.jsonl", [PAIRS[0]])
    one = [str(tmp_path / "one.jsonl")]
    with pytest.raises(InputError, match="--select-by separation-ratio: too few texts .* choose from loss, .*recall"):
        learn(replace(config, dev_data=one, allow_overlap=True, select_by="separation-ratio"))


def test_a_damaged_description_of_a_run_is_named(config, tmp_path):
    learn(replace(config, max_steps=1))
    wrong = "it describes no run"
    for damaged, why in (("{", "Expecting property name"), ("[]", wrong), ("{}", wrong), ('{"stage": 1}', wrong)):
        (tmp_path / "out" / "lbr_run.json").write_text(damaged)
        with pytest.raises(InputError, match=f"lbr_run.json is damaged: {why}"):
            learn(replace(config, max_steps=1, resume=True))


class OtherLoss(CutOffModel):
    def loss_sum(self, batch):
        return 2 * super().loss_sum(batch)


def test_another_loss_is_another_run(config, tmp_path):
    """It is trained with, named by the model, and never gone on with or taken for the package's own."""
    learn(replace(config, output_dir=str(tmp_path / "own"), max_steps=2))
    model = learn(replace(config, max_steps=2), partial(OtherLoss))
    assert model[0].history[-1]["training_model"] == "OtherLoss"
    logs = [json.loads((tmp_path / name / "training_log.json").read_text()) for name in ("own", "out")]
    losses = [next(entry["loss"] for entry in log if "loss" in entry) for log in logs]
    assert float(losses[1]) == pytest.approx(2 * float(losses[0]), rel=1e-3)
    with pytest.raises(InputError, match="training_model: was 'OtherLoss', now None"):
        learn(replace(config, max_steps=2, resume=True))


def test_targets_longer_than_the_model_reads_are_counted(config, tmp_path, caplog):
    """In the place of the documents, which stage 1 then does not read."""
    rows = [{"query": f"{n}?", "document": "word " * 80, "why": f"{n}" * (1 + 80 * n)} for n in range(2)]
    write_jsonl(tmp_path / "train.jsonl", rows)
    config = replace(config, target="{why}", dev_data=None)
    prepare(config, config.for_trainer())
    assert "1 of 4 texts are longer than the 24 tokens the model reads" in caplog.text


def test_targets_of_several_fields(config, tmp_path):
    """The log has the loss of each field, and another target is another run; a field may hold what is held out."""
    rows = [{**pair, "why": f"as {pair['query']}"} for pair in PAIRS]
    write_jsonl(tmp_path / "train.jsonl", [*rows, {"query": "more", "document": "4", "why": "2 and " * 12}])
    config = replace(config, target=r"{why}\n{document}", objective="sft:0.5,reconstruct:0.5", max_steps=2)
    log = run(config)
    assert {"eval_target_why_loss", "eval_target_document_read_out_loss", "eval_sft_loss"} <= log[-1].keys() | log[
        -2
    ].keys()
    with pytest.raises(InputError, match="target"):
        learn(replace(config, target="{document}", resume=True))
    write_jsonl(tmp_path / "dev.jsonl", [{"query": "another", "document": rows[0]["why"], "why": "w"}])
    with pytest.raises(InputError, match="overlap in"):
        read_data(replace(config, allow_overlap=False, dev_data=[str(tmp_path / "dev.jsonl")], objective="sft"))


def test_the_first_layers_of_a_backbone(config, tmp_path, caplog):
    """With LoRA on those that are left; an ordinary directory comes out, and a run with another number is another."""
    caplog.set_level("INFO")
    model_of_three = make_backbone(tmp_path / "three", layers=3)
    config = replace(config, model=model_of_three, layers=2, lora_rank=2, max_steps=2, dev_data=None)
    model = learn(config)
    assert f"keeping the first 2 of the 3 layers of {model_of_three}" in caplog.text
    about = json.loads((tmp_path / "out" / "config.json").read_text())
    assert about["num_hidden_layers"] == 2 and len(about["layer_types"]) == 2
    stock = SentenceTransformer(config.output_dir)
    assert len(stock[0].auto_model.layers) == 2
    assert stock.encode("a") == pytest.approx(model.encode("a"), abs=1e-6)
    with pytest.raises(InputError, match=r"a run with other settings \(layers: was 2, now None\)"):
        learn(replace(config, layers=None, resume=True))
    with pytest.raises(InputError, match="--layers must be at least 1, got 0"):
        replace(config, layers=0)
    with pytest.raises(InputError, match="--layers 3: .* has 3 layers"):
        learn(replace(config, layers=3, output_dir=str(tmp_path / "other")))
