"""The command `lbr adapt`: its flags are its settings, those of the stages are read as theirs, the verdict is last."""

from types import SimpleNamespace

import pytest

from lbr_st.adaptation.planning import AdaptPlan, StepPlan
from lbr_st.cli import adapt as command
from lbr_st.cli.adapt import main, settings_of
from lbr_st.errors import InputError
from lbr_st.learning.config import LearnConfig

LEAST = ["handbook", "--model", "m", "--output-dir", "out"]


@pytest.fixture
def asked(monkeypatch):
    configs = []

    def adapt(config):
        configs.append(config)
        return SimpleNamespace(config=config, verdict="VERDICT WIN: recall@10 0.9", search="lbr search")

    monkeypatch.setattr(command, "adapt", adapt)
    return configs


def test_flags_are_settings(asked, capsys):
    main([*LEAST, "--skip", "merge", "--teacher", "t", "--learn", "max_steps=3", "learning-rate=1e-3", "--seed", "7"])
    [config] = asked
    assert (config.sources, config.model, config.skip) == (["handbook"], "m", ["merge"])
    assert (config.teacher, config.seed) == ("t", 7)
    assert config.learn == {"max_steps": 3, "learning_rate": 1e-3}
    assert config.align == {}
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "VERDICT WIN: recall@10 0.9"
    assert "next: lbr search" in lines


@pytest.mark.parametrize(
    ("told", "message"),
    [
        (["max_steps"], "^lbr adapt: --learn max_steps: write NAME=VALUE"),
        (["no_such=1"], "^lbr adapt: --learn no_such: lbr learn has no such setting"),
        (["max_steps=1", "max-steps=2"], "^lbr adapt: --learn max_steps: is there twice"),
        (["max_steps=many"], "max_steps.*invalid int value: 'many'"),
    ],
)
def test_settings_that_are_none(told, message):
    with pytest.raises(InputError, match=message):
        settings_of("learn", LearnConfig, told)


def test_settings_of_other_kinds():
    told = ["bf16=true", "objective=reconstruct", "warmup_steps=0.2"]
    assert settings_of("learn", LearnConfig, told) == {"bf16": True, "objective": "reconstruct", "warmup_steps": 0.2}


def test_what_the_path_decides(asked):
    with pytest.raises(InputError, match="^--align output_dir: the path decides it"):
        main([*LEAST, "--align", "output_dir=x"])


def test_a_dry_run_prints_a_plan_and_runs_nothing(asked, monkeypatch, capsys):
    steps = [
        StepPlan("start", "the model", "an embedder"),
        StepPlan("learn", "pairs", "a model", "9 steps", 1.5, 2**30),
    ]
    monkeypatch.setattr(command, "plan", lambda config: AdaptPlan(steps, 2**30, 2**34, ["Left out: something."]))
    main([*LEAST, "--dry-run"])
    assert not asked
    assert capsys.readouterr().out.splitlines() == [
        "| step    | reads     | makes       | how much | minutes |  GiB |",
        "| ------- | --------- | ----------- | -------- | ------: | ---: |",
        "| 1 start | the model | an embedder |          |    done |      |",
        "| 2 learn | pairs     | a model     | 9 steps  |     1.5 | 1.00 |",
        "| all     |           |             |          |     1.5 |      |",
        "",
        "Disk: at least 1.00 GiB of 16.0 GiB free.",
        "Left out: something.",
        "next: the same command without --dry-run",
    ]
