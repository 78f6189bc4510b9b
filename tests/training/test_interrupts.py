"""Ctrl-C ends a training between two steps, with a checkpoint of the last; a second one ends it at once."""

import os
import re
import signal
import time
from contextlib import contextmanager

import pytest
from helpers import MANY, fork, same_weights
from transformers import Trainer

from lbr_st.cli import align, learn
from lbr_st.cli import main as lbr
from lbr_st.files import write_jsonl
from lbr_st.learning.trainer import LearnTrainer

MODULES = {"learn": learn, "align": align}
STEPS = 12


@pytest.fixture
def flags(backbone, tmp_path):
    data = str(tmp_path / "train.jsonl")
    write_jsonl(data, MANY)

    def make(output_dir, **more):
        settings = {
            "model": backbone, "data": data, "output_dir": output_dir, "max_length": 24, "learning_rate": 1e-2,
            "max_steps": STEPS, "per_device_train_batch_size": 4, "lr_scheduler_type": "constant",
        } | more  # fmt: skip
        return [part for name, value in settings.items() for part in (f"--{name.replace('_', '-')}", str(value))]

    return make


@contextmanager
def running(argv, tmp_path, trainer=Trainer, method="training_step", step=1, seconds=0.5):
    """Start a run, which says when it is at something after some steps and takes a while then; wait until it is."""
    original = getattr(trainer, method)
    begins, begun = os.pipe()

    def slow(self, *args, **kwargs):
        if self.state.global_step == step:
            os.write(begun, b"it begins")
            time.sleep(seconds)
        return original(self, *args, **kwargs)

    def work():
        setattr(trainer, method, slow)
        lbr.main(argv)

    with open(tmp_path / "stderr", "w") as errors:
        process = fork(work, stderr=errors.fileno())
    os.close(begun)
    try:
        assert os.read(begins, 100) == b"it begins", (tmp_path / "stderr").read_text()
        yield process
    finally:
        os.close(begins)
        process.kill()
        process.join()


def interrupt(process):
    os.kill(process.pid, signal.SIGINT)


def code_of(process):
    """Return the exit code of a process that ends."""
    process.join(60)
    return process.exitcode


def said(tmp_path):
    text = (tmp_path / "stderr").read_text()
    assert "Traceback" not in text
    return text.strip().splitlines()[-1]


@pytest.mark.parametrize("stage", ["learn", pytest.param("align", marks=pytest.mark.slow)])
def test_ctrl_c_saves_the_step_and_resuming_ends_with_the_same_weights(stage, flags, tmp_path):
    strategy = {"learn": "steps", "align": "no"}[stage]
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    MODULES[stage].main(flags(straight, save_strategy=strategy))
    with running([stage, *flags(stopped, save_strategy=strategy)], tmp_path) as process:
        interrupt(process)
        assert code_of(process) == 130
    checkpoint = f"{stopped}/checkpoints/checkpoint-2"
    assert said(tmp_path) == (
        f"stopped by Ctrl-C. It happened at step 2 of {STEPS}: the weights of step 2 are in {checkpoint}, and the same "
        "command with --resume goes on there"
    )
    assert "stopping after this step; Ctrl-C once more ends it at once" in (tmp_path / "stderr").read_text()
    assert not (stopped / "config.json").exists()
    MODULES[stage].main([*flags(stopped, save_strategy=strategy), "--resume"])
    assert same_weights(straight, stopped)


def test_a_second_ctrl_c_ends_at_once_and_leaves_nothing(flags, tmp_path):
    with running(["learn", *flags(tmp_path / "new" / "out")], tmp_path, seconds=100) as process:
        started = time.monotonic()
        interrupt(process)
        while "stopping after this step" not in (tmp_path / "stderr").read_text():
            time.sleep(0.01)
        interrupt(process)
        assert code_of(process) == 130
        assert time.monotonic() - started < 50
    assert said(tmp_path) == (
        f"stopped by Ctrl-C. It happened at step 1 of {STEPS}, before the first checkpoint (--save-steps). Nothing of "
        "the run was saved"
    )
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_ctrl_c_waits_for_an_evaluation(flags, tmp_path):
    """What is scored decides which weights are kept: a run that goes on has it in its log."""
    more = {"dev_data": tmp_path / "train.jsonl", "eval_steps": 2, "save_steps": 40, "max_steps": 8}
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    argv = [*flags(straight, **more), "--allow-overlap"]
    learn.main(argv)
    argv[argv.index(str(straight))] = str(stopped)
    with running(["learn", *argv], tmp_path, LearnTrainer, "evaluate", step=2) as process:
        interrupt(process)
        assert code_of(process) == 130
    assert re.search("at step 2 of 8: the weights of step 2 are in", said(tmp_path))
    learn.main([*argv, "--resume"])
    log = [(run / "training_log.json").read_text() for run in (straight, stopped)]
    scored = [re.findall('"eval_loss": [0-9.]+', each) for each in log]
    assert len(scored[0]) == 5 and scored[0] == scored[1]  # before the first step, too
