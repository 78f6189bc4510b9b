"""What a run takes and which rate suits it: counted by hand, from steps that training would take, with nothing left."""

import json
import logging
import math
import mmap
import tempfile
from dataclasses import replace
from types import SimpleNamespace

import psutil
import pytest
import torch
from helpers import MANY, SHAPE, make_backbone, same_weights
from transformers import AutoTokenizer

import lbr_st
from lbr_st.alignment import run as of_align
from lbr_st.alignment.config import AlignConfig
from lbr_st.alignment.trainer import AlignTrainer
from lbr_st.errors import InputError
from lbr_st.files import write_jsonl
from lbr_st.learning import run as of_learn
from lbr_st.learning.config import LearnConfig
from lbr_st.learning.trainer import LearnTrainer
from lbr_st.training import trial as module
from lbr_st.training.rates import rate_for
from lbr_st.training.trial import (
    Plan,
    Tried,
    best_of,
    count_evaluations,
    count_parameters,
    peak_resident,
    steps_to_take,
    try_rates,
)

RUN = {"learn": of_learn.learn, "align": of_align.align}
STAGES = {"learn": of_learn, "align": of_align}
TRAINERS = {"learn": LearnTrainer, "align": AlignTrainer}
NDCG = "eval_dev_cosine_ndcg@10"
STAGE = pytest.mark.parametrize("stage", STAGES)
ONE_STAGE = pytest.mark.parametrize("stage", ["learn", pytest.param("align", marks=pytest.mark.slow)])


@pytest.fixture
def config_of(backbone, tmp_path):
    """Configurations of both stages over the same 24 pairs, with dev data."""
    data = str(tmp_path / "train.jsonl")
    write_jsonl(data, MANY)

    def make(stage, **changes):
        settings = {
            "model": backbone, "dev_data": data, "allow_overlap": True, "max_length": 16, "learning_rate": 1e-2,
            "output_dir": str(tmp_path / "out"), "per_device_train_batch_size": 5, "save_strategy": "no",
        } | changes  # fmt: skip
        if stage == "align":
            return AlignConfig(data=data, **settings)
        dev_data = settings.pop("dev_data")
        return LearnConfig(data=[data], dev_data=dev_data and [dev_data], **settings)

    return make


def log_of(config):
    with open(f"{config.output_dir}/training_log.json") as file:
        return json.load(file)


def tokens_by_hand(stage, backbone, prompt):
    """Count what a row of each stage holds, text by text."""
    tokenizer = AutoTokenizer.from_pretrained(backbone)

    def length(text):
        return len(tokenizer(text)["input_ids"])

    total = 0
    for row in MANY:
        query, document = length(prompt + row["question"]), length(row["answer"])
        # X is cut to leave room for Z; in stage 1 Y has an EOS and as much room as both.
        total += min(query, 15) + 1
        total += min(document + 1, 16) if stage == "learn" else min(document, 15) + 1
    return total


@ONE_STAGE
def test_counts_are_those_of_the_run(stage, config_of, backbone):
    """Tokens of an epoch by hand; steps and evaluations as the log of the real run has them."""
    changes = {"query_prompt": "q: ", "num_train_epochs": 1.5, "gradient_accumulation_steps": 2, "logging_steps": 1}
    config = config_of(stage, **changes)
    found = STAGES[stage].plan(config)
    assert found.tokens == tokens_by_hand(stage, backbone, "q: ")
    RUN[stage](replace(config, save_strategy="steps"))
    log = log_of(config)
    assert found.steps == max(entry["step"] for entry in log) == math.ceil(1.5 * 3)  # 5 batches an epoch, two a step
    assert found.evaluations == sum(NDCG in entry for entry in log) == 6
    assert STAGES[stage].plan(replace(config, output_dir=f"{config.output_dir}2", max_steps=7)).steps == 7


def weights_of_a_layer():
    """Shapes of the linear layers of a layer of the tiny Qwen2: out, in."""
    wide, inner, keys = SHAPE["hidden_size"], SHAPE["intermediate_size"], SHAPE["num_key_value_heads"] * 8
    return [(wide, wide), (keys, wide), (keys, wide), (wide, wide), (inner, wide), (inner, wide), (wide, inner)]


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("rank", [None, 3])
@STAGE
def test_parameters_by_hand(stage, rank, tied, config_of, tmp_path):
    """Shared embeddings count once; the head of an untied model has no part in an embedding."""
    backbone = make_backbone(tmp_path / "other", tied=tied)
    config = config_of(stage, model=backbone, lora_rank=rank, bottleneck_tokens=2)
    with module.trial(config, STAGES[stage].prepare) as trainer:
        trained, parameters = count_parameters(trainer.model)
    wide, layers = SHAPE["hidden_size"], SHAPE["num_hidden_layers"]
    embeddings = lbr_st.from_backbone(backbone, num_bottleneck_tokens=2)[0].model.config.vocab_size * wide
    of_a_layer = sum(out * into for out, into in weights_of_a_layer()) + (wide + 2 * 16) + 2 * wide  # biases, norms
    whole = embeddings * (1 if tied else 2) + layers * of_a_layer + wide
    if rank is None:
        assert (trained, parameters) == (whole if tied or stage == "learn" else whole - embeddings, whole)
    else:
        updates = layers * sum(rank * (out + into) for out, into in weights_of_a_layer()) + 2 * wide
        assert (trained, parameters) == (updates, whole + updates)


def test_weights_in_4_bits_count_as_what_they_stand_for():
    model = torch.nn.Linear(4, 6, bias=False)
    model.weight = torch.nn.Parameter(torch.zeros(12, 1), requires_grad=False)
    model.weight.quant_state = SimpleNamespace(shape=torch.Size([6, 4]))
    assert count_parameters(model) == (0, 24)


@pytest.fixture
def virtual(monkeypatch):
    """Let a step take as many seconds as its batches have places, and an evaluation 1000; record the batches."""
    now, taken = [0.0], []

    def patch(trainer):
        step, evaluate = trainer.training_step, trainer.evaluate

        def training_step(self, model, inputs, *args, **kwargs):
            masks = [tensor for name, tensor in inputs.items() if name.endswith("attention_mask")]
            taken.append(sum(mask.numel() for mask in masks))
            now[0] += taken[-1]
            return step(self, model, inputs, *args, **kwargs)

        def timed_evaluate(self, *args, **kwargs):
            now[0] += 1000
            return evaluate(self, *args, **kwargs)

        monkeypatch.setattr(trainer, "training_step", training_step)
        monkeypatch.setattr(trainer, "evaluate", timed_evaluate)

    monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    patch(LearnTrainer)
    patch(AlignTrainer)
    return taken


@pytest.mark.parametrize(
    ("stage", "changes"),
    [
        ("learn", {}),
        pytest.param("learn", {"pack_length": 40, "bf16": True}, marks=pytest.mark.slow),
        pytest.param(
            "learn",
            {"train_sampling_strategy": "random", "lora_rank": 2, "activation_checkpointing": True},
            marks=pytest.mark.slow,
        ),
        ("align", {}),
        pytest.param(
            "align",
            {"mini_batch_size": 2, "lm_weight": 0.5, "matryoshka_dims": [8], "early_stopping": 2, "keep": "best"},
            marks=pytest.mark.slow,
        ),
    ],
    ids=str,
)
def test_steps_are_those_of_training(stage, changes, config_of, virtual):
    """The second is on the longest batch of the first epoch; the timed ones stand for all of its steps."""
    accumulated = 2
    if "keep" in changes:
        changes = changes | {"save_strategy": "steps"}
    config = config_of(stage, gradient_accumulation_steps=accumulated, per_device_train_batch_size=3, **changes)
    found = STAGES[stage].plan(config)
    measured = list(virtual)
    virtual.clear()
    RUN[stage](replace(config, output_dir=f"{config.output_dir}2", num_train_epochs=1))
    epoch = list(virtual)
    assert len(measured) == (2 + 3) * accumulated
    assert measured[accumulated : 2 * accumulated] == [max(epoch)] * accumulated
    steps = sorted(sum(epoch[n : n + accumulated]) for n in range(0, len(epoch) - 1, accumulated))
    timed = [sum(measured[n : n + accumulated]) for n in range(2 * accumulated, len(measured), accumulated)]
    assert sum(measured[:accumulated]) == steps[0]
    assert timed == [steps[len(steps) // 6], steps[len(steps) // 2], steps[5 * len(steps) // 6]]
    assert found.step_seconds == sum(timed) / 3
    assert found.evaluation_seconds == 1000
    assert found.minutes == (found.steps * found.step_seconds + found.evaluations * 1000) / 60


def test_without_dev_data_there_are_no_evaluations(config_of, virtual):
    found = of_align.plan(config_of("align", dev_data=None))
    assert (found.evaluations, found.evaluation_seconds) == (0, 0)
    assert found.minutes == found.steps * found.step_seconds / 60


def test_steps_written_out():
    """Two batches a step, the last one alone: it is in no step that is measured, though it may be the longest batch."""
    sizes = [9, 9, 1, 1, 5, 5, 3, 3, 7, 7, 11]
    assert steps_to_take(sizes, 2, 2) == [[2, 3], [10, 10], [6, 7], [8, 9]]
    assert steps_to_take([4], 1, 3) == [[0]] * 5


@pytest.mark.parametrize(
    ("changes", "evaluations"),
    [
        ({}, 5),
        ({"eval_steps": 4}, 3),
        ({"eval_steps": 4, "eval_on_start": True}, 4),
        ({"eval_strategy": "epoch"}, 4),
        ({"eval_delay": 5}, 3),  # 6, 8 and 10
        ({"eval_steps": 4, "eval_on_start": True, "eval_delay": 99}, 1),
        ({"eval_strategy": "epoch", "eval_delay": 2}, 3),
        ({"eval_strategy": "no"}, 0),
    ],
    ids=str,
)
def test_evaluations_of_ten_steps(changes, evaluations):
    """Of three steps an epoch: the last step is scored too, and the part of an epoch at the end."""
    settings = {"eval_strategy": "steps", "eval_steps": 0.2, "eval_on_start": False, "eval_delay": 0} | changes
    assert count_evaluations(SimpleNamespace(**settings), 10, 3) == evaluations


def test_peak_is_of_this_process():
    """It is what was held, not what is: it stays when the memory is given back."""
    mib = 2**20  # counted in pages, about
    before, now = peak_resident(), psutil.Process().memory_info().rss
    assert before > now - mib
    held = mmap.mmap(-1, before - now + 64 * mib)  # memory that was never freed before
    held[:: mmap.PAGESIZE] = b"\1" * -(-len(held) // mmap.PAGESIZE)
    after = peak_resident()
    assert before + 48 * mib < after < before + 80 * mib
    held.close()
    assert peak_resident() > after - mib


def test_memory_is_that_of_the_longest_batch(config_of, monkeypatch):
    """Read after the steps: before them it would be that of the data."""
    order = []
    train, evaluate = LearnTrainer.train, LearnTrainer.evaluate
    monkeypatch.setattr(LearnTrainer, "train", lambda *args: (train(*args), order.append("train"))[0])
    monkeypatch.setattr(LearnTrainer, "evaluate", lambda *args: (evaluate(*args), order.append("evaluate"))[0])
    monkeypatch.setattr(module, "peak_resident", lambda: order.append("peak") or 123)
    found = of_learn.plan(config_of("learn"))
    assert order == ["train", "peak", "evaluate"]
    assert (found.peak_bytes, found.device.type) == (123, "cpu")


@pytest.mark.parametrize("function", ["plan", "find_rate"])
@ONE_STAGE
def test_nothing_is_left(stage, function, config_of, tmp_path, monkeypatch):
    """Nor is a tracker told."""
    monkeypatch.setattr(module, "RATE_STEPS", 2)
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "board"))
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    getattr(STAGES[stage], function)(config_of(stage, report_to="tensorboard", save_strategy="steps"))
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.slow
@STAGE
def test_a_run_after_it_is_the_run_without_it(stage, config_of, tmp_path, monkeypatch):
    """In the same process: the weights, and with them the order of the batches."""
    monkeypatch.setattr(module, "RATE_STEPS", 2)
    config = config_of(stage, max_steps=6, save_strategy="steps", bf16=True)
    RUN[stage](config)
    other = replace(config, output_dir=str(tmp_path / "other"))
    STAGES[stage].plan(replace(other, gradient_accumulation_steps=2))
    STAGES[stage].find_rate(other)
    RUN[stage](other)
    assert same_weights(tmp_path / "out", tmp_path / "other")


# ---- which rate


@ONE_STAGE
def test_the_sane_rate_of_three(stage, config_of, monkeypatch):
    """One that moves nothing, one that learns, one that ruins; the weights are exactly those of before."""
    monkeypatch.setattr(module, "FACTORS", (1e-4, 1, 1e4))
    with module.trial(config_of(stage), STAGES[stage].prepare) as trainer:
        before = {name: weight.clone() for name, weight in trainer.model.state_dict().items()}
        found = try_rates(trainer, NDCG)
        after = trainer.model.state_dict()
        assert all(torch.equal(before[name], after[name]) for name in before)
    assert [each.rate for each in found.tries] == [1e-6, 1e-2, 100.0]
    assert found.best is found.tries[1]
    assert found.judge == "dev nDCG@10"
    nothing, learned, ruined = found.tries
    assert learned.dev > nothing.dev
    assert learned.last_loss < min(learned.first_loss, ruined.last_loss)


def test_the_best_of_tries_written_out():
    """On dev; a loss that rises counts less, one that is no number not at all; the loss decides between equals."""
    low, middle, high = Tried(1, 3.0, 2.5, 0.4), Tried(2, 3.0, 2.0, 0.4), Tried(3, 9.0, 99.0, 0.6)
    lost = Tried(4, 3.0, math.inf, math.nan)
    assert best_of([low, middle, high, lost], more_is_better=True) is middle
    assert best_of([low, replace(middle, dev=0.5)], more_is_better=False) is low
    assert best_of([high, lost], more_is_better=True) is high
    assert best_of([lost], more_is_better=True) is None


@pytest.mark.parametrize(
    ("stage", "changes"),
    [
        ("learn", {}),
        pytest.param(
            "learn",
            {"train_sampling_strategy": "random", "lora_rank": 2, "lora_dropout": 0.2},
            marks=pytest.mark.slow,
        ),
        pytest.param("align", {}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_a_try_is_a_short_run(stage, changes, config_of, monkeypatch, caplog):
    """The last of three, after two others: same losses and score as a real run of its steps and rate."""
    monkeypatch.setattr(module, "RATE_STEPS", 12)
    config = config_of(stage, save_strategy="steps", warmup_steps=50, **changes)
    [*_, last] = STAGES[stage].find_rate(config).tries
    assert last.rate == 3e-2
    warned = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert not [message for message in warned if "texts are longer than the" not in message]
    short = {"learning_rate": 3e-2, "warmup_steps": 0.1, "max_steps": 12, "logging_steps": 1, "eval_steps": 12}
    keep = {"keep": "last"} if stage == "align" else {}
    RUN[stage](replace(config, **short, **keep))
    log = log_of(config)
    losses = [entry["loss"] for entry in log if "loss" in entry]
    assert last.first_loss == pytest.approx(sum(losses[:5]) / 5, rel=1e-6)
    assert last.last_loss == pytest.approx(sum(losses[-5:]) / 5, rel=1e-6)
    assert last.dev == [entry[NDCG] for entry in log if NDCG in entry][-1]


@ONE_STAGE
def test_without_a_rate_that_of_the_size_is_tried(stage, config_of, monkeypatch):
    """And a third of it and three times it, in two digits."""
    monkeypatch.setattr(module, "RATE_STEPS", 1)
    found = STAGES[stage].find_rate(config_of(stage, learning_rate=None))
    by_size = rate_for(stage, 28_992)
    assert [each.rate for each in found.tries] == pytest.approx([by_size / 3, by_size, 3 * by_size], rel=0.02)
    assert found.tries[1].rate == by_size


@pytest.mark.slow
def test_dev_data_without_pairs_are_judged_by_the_loss(config_of, tmp_path, monkeypatch):
    """Less of it is better."""
    monkeypatch.setattr(module, "FACTORS", (1e-4, 1))
    passages = str(tmp_path / "passages.jsonl")
    write_jsonl(passages, [{"document": row["answer"]} for row in MANY])
    config = config_of("learn", dev_data=passages, objective="reconstruct")
    found = of_learn.find_rate(replace(config, data=[passages]))
    assert found.judge == "dev loss, nats per target token"
    assert found.best is found.tries[1]
    assert found.tries[1].dev < found.tries[0].dev


def test_a_loss_that_is_no_number(config_of, monkeypatch):
    """Such a rate is never the best; its embeddings are not scored."""
    monkeypatch.setattr(module, "RATE_STEPS", 3)
    monkeypatch.setattr(module, "FACTORS", (1, 1e32))
    config = config_of("align", learning_rate=1e-3, max_grad_norm=0.0)
    found = of_align.find_rate(config)
    assert not math.isfinite(found.tries[1].last_loss)
    assert math.isnan(found.tries[1].dev)
    assert found.best is found.tries[0]
    monkeypatch.setattr(module, "FACTORS", (1e32,))
    assert of_align.find_rate(config).best is None


# ---- what is refused


@pytest.mark.parametrize("function", ["plan", "find_rate"])
@STAGE
def test_what_a_run_refuses(stage, function, config_of, tmp_path):
    """With the same line: of the folder, the data, the model, and what its trainer needs."""
    trial = getattr(STAGES[stage], function)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    for changes in (
        {"output_dir": str(tmp_path / "full")},
        {"allow_overlap": False},
        {"model": str(tmp_path / "none")},
        {"query_prompt": "q " * 50},
    ):
        config = config_of(stage, **changes)
        with pytest.raises(InputError) as of_trial:
            trial(config)
        with pytest.raises(InputError) as of_run:
            RUN[stage](config)
        assert str(of_trial.value) == str(of_run.value)


@STAGE
def test_a_finished_run_takes_nothing(stage, config_of):
    config = config_of(stage, max_steps=1, save_strategy="steps")
    RUN[stage](config)
    with pytest.raises(InputError, match="out holds the finished model of this run"):
        STAGES[stage].plan(replace(config, resume=True, dry_run=True))


@pytest.mark.parametrize("name", ["dry_run", "find_rate"])
@STAGE
def test_who_trains_is_not_asked_what_it_takes(stage, name, config_of, tmp_path):
    with pytest.raises(
        InputError, match=rf"^{name}: this function trains; {'plan' if 'dry' in name else name}\(config"
    ):
        RUN[stage](config_of(stage, **{name: True}))
    assert not (tmp_path / "out").exists()


@STAGE
def test_rates_need_dev_data(stage, config_of):
    with pytest.raises(InputError, match="^--find-rate needs --dev-data$"):
        STAGES[stage].find_rate(config_of(stage, dev_data=None))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dry_run": True, "find_rate": True}, "--dry-run and --find-rate each end without training"),
        ({"find_rate": True, "fsdp": True}, "FSDP and DeepSpeed keep shards of them"),
    ],
    ids=str,
)
def test_settings_that_contradict_each_other(config_of, changes, message):
    with pytest.raises(InputError, match=message):
        config_of("learn", **changes)


def test_minutes_written_out():
    plan = Plan(
        trained=1, parameters=2, tokens=3, steps=60, step_seconds=2.0, evaluations=6, evaluation_seconds=10.0,
        peak_bytes=4, device=torch.device("cpu"),
    )  # fmt: skip
    assert plan.minutes == 3
