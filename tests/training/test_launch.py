"""What the environment, a folder and the flags say is looked at before the data are read, and nothing is left."""

import os
from dataclasses import replace

import pytest
from helpers import MANY, make_bert

import lbr_st
from lbr_st.alignment import run as of_align
from lbr_st.alignment.config import AlignConfig
from lbr_st.errors import InputError
from lbr_st.files import write_jsonl
from lbr_st.learning import run as of_learn
from lbr_st.learning.config import LearnConfig
from lbr_st.training.launch import check_environment, making_a_trainer

ONE = "unset {} to train in one process, or start several with torchrun --nproc-per-node N"
MODULES = {"learn": of_learn, "align": of_align}
STAGE = pytest.mark.parametrize("stage", MODULES)


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"ACCELERATE_MIXED_PRECISION": "fp17"}, "ACCELERATE_MIXED_PRECISION=fp17 in the environment: unset it, or"),
        ({"ACCELERATE_DYNAMO_BACKEND": "foo"}, "ACCELERATE_DYNAMO_BACKEND=foo in the environment: unset it, or choose"),
        ({"ACCELERATE_USE_CPU": "maybe"}, "ACCELERATE_USE_CPU=maybe in the environment: unset it, or say true or fals"),
        (
            {"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0"},
            "the environment says WORLD_SIZE=2 RANK=0 LOCAL_RANK=0, as of one of several processes, but no "
            "MASTER_ADDR: " + ONE.format("WORLD_SIZE RANK LOCAL_RANK"),
        ),
        (
            {"LOCAL_RANK": "0"},
            "the environment says LOCAL_RANK=0, as of one of several processes, but no ",
        ),
        ({"WORLD_SIZE": "two"}, f"WORLD_SIZE=two in the environment is no number: {ONE.format('WORLD_SIZE')}"),
        ({"RANK": "first"}, f"RANK=first in the environment is no number: {ONE.format('RANK')}"),
    ],
)
def test_an_environment_that_cannot_be_meant(environment, message, monkeypatch):
    with pytest.raises(InputError) as error:
        check_environment(environment)
    assert str(error.value).startswith(message)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError) as error:
        AlignConfig(model="none", data="none", output_dir="none")
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"ACCELERATE_MIXED_PRECISION": "bf16", "ACCELERATE_USE_CPU": "True", "ACCELERATE_DYNAMO_BACKEND": "NO"},
        {"WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": "-1"},
        {"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"},
    ],
)
def test_an_environment_that_launchers_make(environment):
    check_environment(environment)


@pytest.mark.parametrize("raised", [ValueError("a"), OSError("a file"), InputError("a")])
def test_what_cannot_be_made_is_one_line(raised):
    with pytest.raises(InputError, match="^a") as error, making_a_trainer():
        raise raised
    assert error.value.__cause__ is (None if error.value is raised else raised)


def test_the_network_is_no_input():
    error = ConnectionError("refused")
    with pytest.raises(ConnectionError) as raised, making_a_trainer():
        raise error
    assert raised.value is error


@pytest.fixture
def config_of(backbone, tmp_path, monkeypatch):
    """Configurations of both stages, in which no data may be read."""
    data = str(tmp_path / "train.jsonl")
    write_jsonl(data, MANY)
    for module in MODULES.values():
        for name in {"read_records", "read_tuples"} & vars(module).keys():
            monkeypatch.setattr(module, name, lambda *args: pytest.fail("data were read"))

    def make(stage, **changes):
        settings = {"model": backbone, "output_dir": str(tmp_path / "out"), "max_length": 16} | changes
        if stage == "align":
            return AlignConfig(data=data, **settings)
        dev = settings.pop("dev_data", None)
        return LearnConfig(data=[data], dev_data=dev and [dev], **settings)

    return make


def start(stage, config):
    module = MODULES[stage]
    if config.find_rate:
        return module.find_rate(config)
    return getattr(module, stage)(config)


@STAGE
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dev_data": "typo.jsonl"}, "typo.jsonl: no such file"),
        ({"eval_strategy": "steps"}, "--eval-strategy: there is nothing to evaluate on, give --dev-data"),
        ({"eval_on_start": True}, "--eval-on-start needs --dev-data"),
        ({"find_rate": True}, "--find-rate needs --dev-data"),
        ({"learn": {"select_by": "recall"}, "align": {"keep": "best"}}, "--dev-data"),
        ({"learn": {"metric_for_best_model": "loss"}, "align": {"early_stopping": 2}}, "needs --dev-data"),
        (
            {"align": {"dev_data": "train", "corpus_extra": "typo.jsonl"}, "learn": {"dev_data": "typo.jsonl"}},
            "typo.js",
        ),
    ],
    ids=str,
)
def test_flags_are_looked_at_before_the_data(stage, config_of, changes, message, tmp_path):
    changes = changes.get(stage, changes)
    if changes.get("dev_data") == "train":
        changes = changes | {"dev_data": str(tmp_path / "train.jsonl")}
    with pytest.raises(InputError, match=message):
        start(stage, config_of(stage, **changes))
    assert os.listdir(tmp_path) == ["train.jsonl"]


ROOM = "a maximum length of {} leaves no room for text beside {} bottleneck token"


@STAGE
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_length": 1}, f"^--max-length 1: {ROOM.format(1, 1)}"),
        ({"document_prompt": "q " * 50}, f"^--document-prompt has .* tokens: {ROOM.format(16, 1)}"),
    ],
    ids=str,
)
def test_a_length_without_room_for_text_is_refused_before_the_data(stage, config_of, changes, message):
    with pytest.raises(InputError, match=message):
        start(stage, config_of(stage, **changes))


def test_a_saved_model_needs_room_for_its_own_bottleneck_tokens(config_of, model, tmp_path):
    lbr_st.save(model, tmp_path / "saved")
    with pytest.raises(InputError, match=f"^--max-length 2: {ROOM.format(2, 2)}"):
        start("align", config_of("align", model=str(tmp_path / "saved"), max_length=2))


@pytest.mark.parametrize(("of", "width"), [("backbone", 32), ("bert", 16)])
def test_dimensions_that_a_model_has_not_are_refused_before_the_data(of, width, config_of, tmp_path):
    changes = {"model": make_bert(tmp_path / "bert")} if of == "bert" else {}
    for dimensions in ([width + 1], [8, 64]):
        with pytest.raises(InputError, match=f"^--matryoshka-dims must be from 1 to {width}, the width of the emb"):
            start("align", config_of("align", matryoshka_dims=dimensions, **changes))


@STAGE
def test_a_folder_is_looked_at_before_the_data(stage, config_of, tmp_path):
    config = config_of(stage)
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(InputError, match="loop is a link that leads nowhere; a folder is needed"):
        start(stage, replace(config, output_dir=str(tmp_path / "loop")))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("years of work")
    for resume in (False, True):
        with pytest.raises(InputError, match="full is not empty"):
            start(stage, replace(config, output_dir=str(tmp_path / "full"), resume=resume))


@STAGE
def test_other_settings_are_refused_before_the_data(stage, config_of, tmp_path, monkeypatch):
    monkeypatch.undo()
    config = config_of(stage, max_steps=2, save_steps=1, learning_rate=1e-3)
    start(stage, config)
    (tmp_path / "out" / "config.json").unlink()  # not finished
    for module in MODULES.values():
        monkeypatch.setattr(module, "read_data", lambda *args: pytest.fail("data were read"))
    with pytest.raises(InputError, match="holds a run with other settings .*learning_rate: was 0.001, now 0.5"):
        start(stage, replace(config, learning_rate=0.5, resume=True))
    assert (tmp_path / "out" / "checkpoints" / "checkpoint-2").is_dir()


@pytest.mark.parametrize("existed", [False, True])
@STAGE
def test_a_run_that_fails_before_its_first_checkpoint_leaves_nothing(stage, config_of, tmp_path, monkeypatch, existed):
    """The folders that were made for it go; one that was there stays, and may be used at once."""
    monkeypatch.undo()
    folder = tmp_path / "new" / "out"
    config = config_of(stage, output_dir=str(folder), max_steps=2)
    if existed:
        folder.mkdir(parents=True)
    with monkeypatch.context() as patch, pytest.raises(MemoryError):
        patch.setattr("transformers.Trainer.create_optimizer", lambda *args: (_ for _ in ()).throw(MemoryError))
        start(stage, config)
    assert folder.exists() == (tmp_path / "new").exists() == existed
    assert not existed or not any(folder.iterdir())


@STAGE
def test_checkpoints_are_not_pushed(stage, config_of):
    """They hold paths of this machine and the token, and the finished model is not among them."""
    with pytest.raises(InputError, match="^--push-to-hub: it would send checkpoints, .*; lbr publish push sends the"):
        config_of(stage, push_to_hub=True, hub_token="hf_none")
