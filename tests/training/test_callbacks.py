"""What trainers do at certain moments."""

import json
import logging
import math
import random

import pytest
import torch
from helpers import MANY
from transformers import TrainerState, TrainingArguments

from lbr_st.alignment.config import AlignConfig
from lbr_st.alignment.run import align
from lbr_st.files import write_jsonl
from lbr_st.learning.config import LearnConfig
from lbr_st.learning.run import learn
from lbr_st.training import callbacks
from lbr_st.training.callbacks import SetEpoch, WarnOfRisingLoss, rise_of


@pytest.mark.parametrize(("epoch", "expected"), [(None, 0), (0, 0), (1.0, 1), (1.4, 1)])
def test_the_sampler_is_told_the_epoch(epoch, expected):
    """Also where a run goes on within one."""

    class Sampler:
        def set_epoch(self, epoch):
            self.epoch = epoch

    sampler = Sampler()
    SetEpoch(sampler).on_epoch_begin(None, TrainerState(epoch=epoch), None)
    assert sampler.epoch == expected


FLAT = [2.0, 2.1, 1.9, 2.0]  # twenty steps begin with it


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        (FLAT + [2.0] * 8 + [3.0] * 8, (2.0, 3.0)),
        (FLAT + [4.0] * 8 + [2.0] * 8, (2.0, 4.0)),  # it came back
        (FLAT + [2.0**n for n in range(2, 18)], (2.0, sum(2.0**n for n in range(10, 18)) / 8)),
        (FLAT + [2.0] * 8 + [math.nan] * 8, (2.0, math.inf)),
        (FLAT + [2.2] * 16, (2.0, 2.2)),
        (FLAT + [2.05] * 16, None),  # within 5%
        (FLAT * 5, None),
        (FLAT + [2.0] * 8 + [1.0] * 8, None),
        (FLAT + [2.0] * 15 + [900.0], None),  # an outlier is no rise
        (FLAT + [2.0, 3.0] * 8, None),  # half of them are where they were
        ([math.nan] * 20, None),  # it did not rise: it was never there
    ],
)
def test_what_is_a_rise(losses, expected):
    found = rise_of(losses)
    assert found == (None if expected is None else pytest.approx(expected))


def test_noise_is_no_rise():
    """Of runs that learn nothing, one in a hundred at the most is taken for one that unlearns."""
    draw = random.Random(0)
    runs = [[math.exp(draw.gauss(0, 0.4)) for _ in range(steps)] for steps in (20, 100) for _ in range(500)]
    assert sum(rise_of(losses) is not None for losses in runs) <= 10


def watch(losses, max_steps, parts=1, **state):
    """Let the callback see the steps of a run, each loss in equal parts."""
    callback, arguments = WarnOfRisingLoss(), TrainingArguments(output_dir="none", use_cpu=True, learning_rate=2e-3)
    now = TrainerState(max_steps=max_steps, is_world_process_zero=True, **state)
    callback.on_train_begin(arguments, now, None)
    for loss in losses:
        for _ in range(parts):
            callback.add(torch.tensor(loss / parts))
        now.global_step += 1
        callback.on_step_end(arguments, now, None)


@pytest.mark.parametrize("parts", [1, 4])
@pytest.mark.parametrize(("max_steps", "looked_at"), [(20, 20), (400, 20), (401, 21), (2000, 100)])
def test_the_first_steps_are_looked_at_once(caplog, max_steps, looked_at, parts):
    rising = [1.0] * (looked_at // 5) + [3.0] * max_steps
    watch(rising[: looked_at - 1], max_steps, parts)
    assert not caplog.messages
    watch(rising[:max_steps], max_steps, parts)
    assert caplog.messages == [
        f"the loss rises in the first {looked_at} steps, from 1 to 3. Start again with a lower rate, such as "
        "--learning-rate 7e-4"
    ]


@pytest.mark.parametrize(
    ("steps", "state"),
    [(19, {}), (40, {"global_step": 1}), (40, {"is_world_process_zero": False})],
    ids=["few steps", "resumed", "another process"],
)
def test_runs_that_are_not_judged(caplog, steps, state):
    now = {"max_steps": steps} | state
    callback = WarnOfRisingLoss()
    callback.on_train_begin(None, TrainerState(**{"is_world_process_zero": True} | now), None)
    for step in range(steps):
        callback.add(torch.tensor(1.0 if step < 4 else 9.0))
        callback.on_step_end(None, None, None)
    assert not caplog.messages


@pytest.fixture
def settings(backbone, tmp_path):
    """What runs of both stages have, of which the first twenty steps are looked at."""
    write_jsonl(tmp_path / "train.jsonl", MANY)
    return {
        "model": backbone, "max_length": 24, "max_steps": 24, "warmup_steps": 10, "per_device_train_batch_size": 8,
        "save_strategy": "no", "logging_steps": 1, "disable_tqdm": True,
    }  # fmt: skip


def run(stage, folder, settings, output_dir, **changes):
    settings = settings | {"output_dir": str(folder / output_dir)} | changes
    data = str(folder / "train.jsonl")
    if stage == "learn":
        learn(LearnConfig(data=[data], **settings))
    else:
        align(AlignConfig(data=data, **settings))
    return folder / output_dir


def warnings_of(caplog):
    """All but that of the texts which are longer than the model reads."""
    return [message for message in caplog.messages if "texts are longer than the" not in message]


REST = [("learn", 2), ("align", 1), ("align", 2)]


@pytest.mark.parametrize(
    ("stage", "sane", "too_high"), [("learn", 1e-2, 3.0), pytest.param("align", 1e-3, 0.1, marks=pytest.mark.slow)]
)
def test_a_run_at_a_rate_far_too_high_is_warned_of(settings, tmp_path, caplog, stage, sane, too_high):
    """In stage 2 it is a model that finds what it was trained on, which a high rate makes worse."""
    if stage == "align":
        settings["model"] = str(run(stage, tmp_path, settings, "trained", learning_rate=1e-2, max_steps=80))
    caplog.clear()
    with caplog.at_level(logging.WARNING, logger="lbr_st"):
        run(stage, tmp_path, settings, "sane", learning_rate=sane)
        assert not warnings_of(caplog)
        run(stage, tmp_path, settings, "too-high", learning_rate=too_high)
    [message] = warnings_of(caplog)
    assert message.startswith("the loss rises in the first 20 steps, from ")
    assert message.endswith(f"such as --learning-rate {'1e0' if stage == 'learn' else '3e-2'}")


@pytest.mark.parametrize(
    ("stage", "batches"), [("learn", 1), *(pytest.param(*each, marks=pytest.mark.slow) for each in REST)]
)
def test_what_is_looked_at_is_the_loss_of_the_log(settings, tmp_path, monkeypatch, stage, batches):
    """However many batches a step has, and however often the loss is logged."""
    seen = []
    monkeypatch.setattr(callbacks, "rise_of", lambda losses: seen.append(losses))
    changes = {"learning_rate": 1e-3, "per_device_train_batch_size": 4, "gradient_accumulation_steps": batches}
    log = json.loads((run(stage, tmp_path, settings, "often", **changes) / "training_log.json").read_text())
    run(stage, tmp_path, settings, "never", **changes, logging_steps=1000)
    logged = [entry["loss"] for entry in log if "loss" in entry]
    assert len(logged) == 24
    assert seen[0] == pytest.approx(logged[:20], abs=1e-4)
    assert seen == [seen[0]] * 2
