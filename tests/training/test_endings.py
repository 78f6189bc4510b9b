"""Whatever goes wrong at the end of training, the weights are on disk and the message says where and how to go on."""

import errno
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers import MANY, make_backbone, same_weights

import lbr_st
from lbr_st.alignment.config import AlignConfig
from lbr_st.alignment.run import align
from lbr_st.cli.main import run_command
from lbr_st.errors import UnfinishedError
from lbr_st.files import write_jsonl
from lbr_st.learning.config import LearnConfig
from lbr_st.learning.run import learn
from lbr_st.model import saving
from lbr_st.model.contract import VerificationError
from lbr_st.training.held_out import NDCG, HeldOutEvaluator
from lbr_st.training.resume import last_whole_checkpoint


@pytest.fixture
def config(backbone, tmp_path):
    write_jsonl(tmp_path / "train.jsonl", MANY)
    return AlignConfig(
        model=backbone,
        data=str(tmp_path / "train.jsonl"),
        output_dir=str(tmp_path / "out"),
        max_length=24,
        max_steps=4,
        per_device_train_batch_size=4,
        learning_rate=1e-3,
    )


def as_learn(config, **changes):
    names = ("model", "output_dir", "max_length", "max_steps", "per_device_train_batch_size", "learning_rate")
    return LearnConfig(data=[config.data], **{name: getattr(config, name) for name in names} | changes)


def full_disk(*args, **kwargs):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "out")


def wrong(*args, **kwargs):
    raise VerificationError("vectors: not finite")


def message_of(run, capsys, code=1):
    with pytest.raises(SystemExit) as end:
        run_command(run)
    assert end.value.code == code
    *_, line = capsys.readouterr().err.strip().splitlines()
    return line.removeprefix("error: ")


LOST_NOTHING = (
    "Training is over and nothing of it is lost: its weights are in {}, and the same command with --resume saves the "
    "model without training again"
)
ENDS = {
    "verification": ("lbr_st.model.saving.verify", wrong, "the model was not saved, what was written is wrong: vecto"),
    "disk": ("lbr_st.model.saving._write_portable", full_disk, "out: No space left on device; make room on the disk. "),
    "last_rename": ("lbr_st.files.os.replace", full_disk, "out: No space left on device; make room on the disk. "),
}  # fmt: skip


@pytest.mark.parametrize(
    ("stage", "end", "strategy"),
    [
        ("learn", "verification", "steps"),
        pytest.param("align", "verification", "no", marks=pytest.mark.slow),
        ("align", "disk", "epoch"),
        pytest.param("learn", "last_rename", "no", marks=pytest.mark.slow),
    ],
)
def test_failures_at_the_end_lose_nothing(config, tmp_path, monkeypatch, capsys, stage, end, strategy):
    place, failure, said = ENDS[end]
    settings = as_learn(config) if stage == "learn" else config
    settings = replace(settings, save_strategy=strategy)
    run = learn if stage == "learn" else align
    run(replace(settings, output_dir=str(tmp_path / "straight")))
    with monkeypatch.context() as broken:
        if end == "last_rename":  # of the model's files alone: those before are of the run
            begun = saving.filling
            broken.setattr(
                saving, "filling", lambda *args, **kw: (broken.setattr(place, failure), begun(*args, **kw))[1]
            )
        else:
            broken.setattr(place, failure)
        line = message_of(lambda: run(settings), capsys)
    checkpoint = tmp_path / "out" / "checkpoints" / "checkpoint-4"
    assert line.startswith(said)
    assert line.endswith(LOST_NOTHING.format(checkpoint))
    assert lbr_st.load(str(checkpoint)).encode("a").shape == (32,)  # as the message says
    assert not (tmp_path / "out" / "config.json").exists()
    steps = []
    monkeypatch.setattr("transformers.Trainer.training_step", lambda *args: steps.append(1))
    run(replace(settings, resume=True))
    assert not steps
    assert same_weights(tmp_path / "straight", tmp_path / "out")
    assert (tmp_path / "out" / "training_log.json").is_file()


def test_a_run_without_checkpoints_leaves_none(config, tmp_path):
    align(replace(config, save_strategy="no"))
    assert not (tmp_path / "out" / "checkpoints").exists()
    assert (tmp_path / "out" / "config.json").is_file()


def test_a_disk_with_room_for_one_model(config, monkeypatch, tmp_path):
    """The copy that is kept for a moment is worth less than the model."""
    monkeypatch.setattr("lbr_st.alignment.trainer.AlignTrainer._save_checkpoint", full_disk)
    align(replace(config, save_strategy="no"))
    assert lbr_st.load(str(tmp_path / "out")).encode("a").shape == (32,)


@pytest.mark.whole_run
def test_the_picture_beside_the_model_never_stops_it(config, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("lbr_st.training.curves.plot", full_disk)
    align(config)
    assert "training.png could not be written: out: No space left on device" in caplog.text
    assert not (tmp_path / "out" / "training.png").exists()
    assert lbr_st.load(str(tmp_path / "out")).encode("a").shape == (32,)


@pytest.mark.whole_run
@pytest.mark.parametrize(
    ("place", "file"),
    [("lbr_st.model.card.write", "README.md"), ("lbr_st.training.finish.write_json", "training_log.json")],
)
def test_a_model_without_its_card_or_log_is_not_saved_and_costs_no_step(config, tmp_path, monkeypatch, place, file):
    """They are part of it: the message says where the weights are, and resuming saves them with both."""
    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left") as error:
        patch.setattr(place, full_disk)
        align(replace(config, save_strategy="no"))
    assert "nothing of it is lost" in "".join(error.value.__notes__) and not (tmp_path / "out" / "config.json").exists()
    step = "lbr_st.alignment.trainer.AlignTrainer.training_step"
    monkeypatch.setattr(step, lambda *args: pytest.fail("trained again"))
    align(replace(config, save_strategy="no", resume=True))
    assert (tmp_path / "out" / file).is_file()


@pytest.mark.parametrize(("at", "strategy"), [pytest.param(2, "no", marks=pytest.mark.slow), (4, "steps")])
def test_an_evaluation_that_fails_costs_no_step(config, tmp_path, monkeypatch, capsys, at, strategy):
    """In the middle of a run and at its last step: what was trained is saved first, whatever failed."""
    settings = replace(
        config, dev_data=config.data, allow_overlap=True, eval_strategy="steps", eval_steps=2, save_strategy=strategy,
        save_steps=100, keep="last", learning_rate=1e-2,
    )  # fmt: skip
    align(replace(settings, output_dir=str(tmp_path / "straight")))
    score = HeldOutEvaluator.__call__

    def fails(self, model, output_path=None, epoch=-1, steps=-1, **kwargs):
        if steps == at:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return score(self, model, output_path, epoch, steps, **kwargs)

    with monkeypatch.context() as broken:
        broken.setattr(HeldOutEvaluator, "__call__", fails)
        line = message_of(lambda: align(settings), capsys)
    checkpoint = tmp_path / "out" / "checkpoints" / f"checkpoint-{at}"
    assert line.startswith("out of memory (CUDA out of memory): take less at once")
    assert line.endswith(
        f"It happened at step {at} of 4: the weights of step {at} are in {checkpoint}, and the same command with "
        "--resume goes on there"
    )
    assert last_whole_checkpoint(tmp_path / "out") == str(checkpoint)
    align(replace(settings, resume=True))
    assert same_weights(tmp_path / "straight", tmp_path / "out")


def test_a_run_that_goes_on_saves_as_often_as_it_is_told_now(config, tmp_path, monkeypatch, capsys):
    from lbr_st.alignment.trainer import AlignTrainer

    step = AlignTrainer.training_step

    def fails_at_the_third(self, *args, **kwargs):
        if self.state.global_step == 2:
            raise RuntimeError("the third")
        return step(self, *args, **kwargs)

    settings = replace(config, save_steps=2, save_total_limit=None)
    with monkeypatch.context() as broken:
        broken.setattr(AlignTrainer, "training_step", fails_at_the_third)
        message_of(lambda: align(settings), capsys)
    align(replace(settings, save_steps=1, resume=True))
    names = {folder.name for folder in (tmp_path / "out" / "checkpoints").iterdir()}
    assert names >= {"checkpoint-2", "checkpoint-3", "checkpoint-4"}


def test_a_run_that_keeps_its_best_steps_alone_is_not_trained_again(config, tmp_path, monkeypatch, capsys):
    """Its saving failed: the last step is on disk until the model is."""
    settings = replace(
        config, dev_data=config.data, allow_overlap=True, eval_strategy="steps", eval_steps=1, save_strategy="best",
        keep="best",
    )  # fmt: skip
    score = HeldOutEvaluator.__call__

    def best_at_two(self, model, output_path=None, epoch=-1, steps=-1, **kwargs):
        return score(self, model, output_path, epoch, steps, **kwargs) | {NDCG: 0.9 if steps == 2 else 0.5}

    monkeypatch.setattr(HeldOutEvaluator, "__call__", best_at_two)
    align(replace(settings, output_dir=str(tmp_path / "straight")))
    assert not (tmp_path / "straight" / "checkpoints" / "checkpoint-4").exists()
    with monkeypatch.context() as broken:
        broken.setattr("lbr_st.model.saving.verify", wrong)
        message_of(lambda: align(settings), capsys)
    monkeypatch.setattr("transformers.Trainer.train", lambda *args, **kwargs: pytest.fail("trained again"))
    align(replace(settings, resume=True))
    assert same_weights(tmp_path / "straight", tmp_path / "out")


def test_a_first_step_that_fails_after_dev_was_scored_leaves_nothing(config, tmp_path, monkeypatch, capsys):
    """The evaluation before it makes a folder for what it could write."""
    from lbr_st.alignment.trainer import AlignTrainer

    def fails(*args, **kwargs):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(AlignTrainer, "training_step", fails)
    message_of(lambda: align(replace(config, dev_data=config.data, allow_overlap=True)), capsys)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("is_best", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_the_last_step_is_scored_when_its_evaluation_failed(config, tmp_path, monkeypatch, capsys, is_best):
    """It may be the best: the run that goes on keeps what one that was not interrupted does."""
    settings = replace(
        config, dev_data=config.data, allow_overlap=True, eval_strategy="steps", eval_steps=2, save_strategy="steps",
        save_steps=2, keep="best", save_total_limit=None,
    )  # fmt: skip
    failing = [False]

    def scores(self, model, output_path=None, epoch=-1, steps=-1, **kwargs):
        if steps == 4 and failing[0]:
            raise torch.OutOfMemoryError("CUDA out of memory")
        found = {name: 0.5 for name in self.names}
        self.recalls, self.ndcgs = [0.5], [0.5]
        value = {2: 0.6, 4: 0.7 if is_best else 0.55}.get(steps, 0.5)
        return found | {NDCG: value}

    monkeypatch.setattr(HeldOutEvaluator, "__call__", scores)
    align(replace(settings, output_dir=str(tmp_path / "straight")))
    failing[0] = True
    message_of(lambda: align(settings), capsys)
    failing[0] = False
    align(replace(settings, resume=True))
    assert same_weights(tmp_path / "straight", tmp_path / "out")


def test_arguments_that_the_optimizer_refuses_are_one_line(config, capsys):
    """What no check before the data knows of: nothing is left of such a run."""
    config.adam_beta1 = -1.0
    line = message_of(lambda: align(config), capsys, code=2)
    assert line == "Invalid beta parameter at index 0: -1.0"
    assert not os.path.exists(config.output_dir)


def test_a_step_that_fails_says_which_weights_are_there(config, tmp_path, monkeypatch, capsys):
    """In the middle of a step nothing is saved: its weights and its counts need not belong together."""
    from lbr_st.alignment.trainer import AlignTrainer

    step = AlignTrainer.training_step

    def fails(self, *args, **kwargs):
        if self.state.global_step == 3:
            raise MemoryError
        return step(self, *args, **kwargs)

    monkeypatch.setattr(AlignTrainer, "training_step", fails)
    line = message_of(lambda: align(replace(config, save_steps=2)), capsys)
    checkpoint = tmp_path / "out" / "checkpoints" / "checkpoint-2"
    assert f"It happened at step 3 of 4: the weights of step 2 are in {checkpoint}, and the same command" in line
    line = message_of(lambda: align(replace(config, save_steps=100, output_dir=str(tmp_path / "other"))), capsys)
    assert line.endswith("It happened at step 3 of 4, before the first checkpoint (--save-steps)")


def test_a_disk_that_is_full_at_a_checkpoint(config, tmp_path, monkeypatch, capsys):
    from lbr_st.alignment.trainer import AlignTrainer

    save = AlignTrainer._save

    def fails(self, output_dir=None, state_dict=None):
        if self.state.global_step == 4:
            full_disk()
        return save(self, output_dir, state_dict)

    with monkeypatch.context() as broken:
        broken.setattr(AlignTrainer, "_save", fails)
        line = message_of(lambda: align(replace(config, save_steps=2)), capsys)
    assert line.startswith(
        "out: No space left on device; make room on the disk. It happened at step 4 of 4: the weights"
    )
    assert f"of step 2 are in {tmp_path / 'out' / 'checkpoints' / 'checkpoint-2'}, and" in line
    align(replace(config, save_steps=2, resume=True))
    assert lbr_st.load(str(tmp_path / "out")).encode("a").shape == (32,)


def test_a_merge_that_fails_keeps_the_adapter(config, tmp_path, monkeypatch, capsys):
    settings = replace(config, lora_rank=2, save_strategy="no")
    align(replace(settings, output_dir=str(tmp_path / "straight")))
    with monkeypatch.context() as broken:
        broken.setattr("lbr_st.alignment.run.merged", full_disk)
        line = message_of(lambda: align(settings), capsys)
    checkpoint = tmp_path / "out" / "checkpoints" / "checkpoint-4"
    assert line.endswith(LOST_NOTHING.format(checkpoint))
    assert (checkpoint / "adapter_model.safetensors").is_file()
    align(replace(settings, resume=True))
    assert same_weights(tmp_path / "straight", tmp_path / "out")


def test_the_best_weights_are_named_where_they_are_kept(config, tmp_path, monkeypatch, capsys):
    settings = replace(config, dev_data=config.data, allow_overlap=True, eval_steps=2, learning_rate=1e-2)
    monkeypatch.setattr("lbr_st.model.saving.verify", wrong)
    line = message_of(lambda: align(settings), capsys)
    folder = Path(line.partition("its weights are in ")[2].partition(",")[0])
    assert folder.parent == tmp_path / "out" / "checkpoints" and folder.is_dir()


def test_from_python_the_error_is_what_it_was(config, monkeypatch):
    monkeypatch.setattr("lbr_st.model.saving.verify", wrong)
    with pytest.raises(UnfinishedError) as error:
        align(config)
    assert error.value.__notes__ == [LOST_NOTHING.format(f"{config.output_dir}/checkpoints/checkpoint-4")]


@pytest.mark.whole_run
@pytest.mark.parametrize("stage", [pytest.param("learn", marks=pytest.mark.slow), "align"])
def test_few_positions_train_to_the_end_and_are_saved(config, tmp_path, stage):
    """A GPT-2 of 64 positions, at the default length: with short data it was trained and then not saved."""
    backbone = make_backbone(tmp_path / "gpt2", family="gpt2", max_position_embeddings=64)
    write_jsonl(
        tmp_path / "long.jsonl",
        [{"query": f"{row['question']} " * 99, "document": f"{row['answer']} " * 99} for row in MANY],
    )
    for data in (config.data, str(tmp_path / "long.jsonl")):
        name = Path(data).stem
        settings = replace(config, model=backbone, data=data, max_length=None, output_dir=str(tmp_path / name))
        if stage == "learn":
            learn(as_learn(settings))
        else:
            align(settings)
        assert lbr_st.load(str(tmp_path / name)).max_seq_length == {"learn": 32, "align": 64}[stage]


@pytest.mark.parametrize("stage", ["learn", "align"])
def test_training_that_diverged_is_not_gone_on_with(config, tmp_path, capsys, stage):
    """Its weights are of no use, and saving them again would end in the same error."""
    told = replace(config, learning_rate=2e5, max_steps=2)
    run = {"learn": lambda: learn(as_learn(told)), "align": lambda: align(told)}[stage]
    said = message_of(run, capsys)
    assert said.replace("are not finite", "have become zero") == (
        "training diverged: the vectors of the model have become zero; lower --learning-rate, which was 200000, and "
        f"choose another --output-dir, or remove {tmp_path / 'out'}"
    )
