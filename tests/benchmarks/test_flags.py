"""What a user says of every training run, and what result files say of it."""

import json

import pytest
from helpers import ROOT

import lbr_st
from lbr_st.errors import InputError


def stored(program, arm):
    """Return the settings of a result file that was written long ago."""
    file = ROOT / "benchmarks" / "results" / program / f"{arm}-seed0.json"
    return json.loads(file.read_text())["settings"]


def test_what_is_said_of_every_run():
    from flags import training_settings

    assert training_settings(["--bf16", "--weight-decay", "0.1"]) == {"bf16": True, "weight_decay": 0.1}
    assert training_settings([]) == {}
    for flags, match in ((["--no-such", "1"], "--no-such"), (["--max-steps", "few"], "--max-steps: invalid int")):
        with pytest.raises(InputError, match=match):
            training_settings(flags)


def test_result_files_of_before_are_found(argv):
    """They are identified by what was typed, and by nothing that has another name now."""
    import arms
    import foundation_medical

    asked, lab, settings = arms.begin([*argv, "--bf16"], None, ("medical",))
    expected = stored("thesis", "medical-none-1000")
    assert asked.domains == ("medical",) and asked.all_domains
    assert lab.training == {"bf16": True}
    assert settings.keys() == expected.keys()
    assert [settings[name] for name in ("flags", "scale")] == [expected[name] for name in ("flags", "scale")]
    study = foundation_medical.begin(asked.data / "medical", lab.work, ["--bf16"])
    expected = stored("predictors", "sft-50")
    assert study.settings.keys() == expected.keys() and study.settings["flags"] == expected["flags"]


def test_they_count_more_than_the_scale(lab, medical):
    """In both stages, the user's own come last."""
    import dataclasses

    own = dataclasses.replace(lab, training={"learning_rate": 3e-3, "weight_decay": 0.1})
    learned = own.stage1(medical, "strict", "ibgl-sft", 0)
    aligned = own.stage2(medical, learned, "own", 4, (1e-3, 0.05), 0)
    runs = [json.loads((folder / "lbr_run.json").read_text())["training_arguments"] for folder in (learned, aligned)]
    assert [(run["learning_rate"], run["weight_decay"]) for run in runs] == [(3e-3, 0.1)] * 2
    history = lbr_st.load(str(aligned))[0].history
    assert [(stage["stage"], stage["max_length"]) for stage in history] == [("learn", 16), ("align", 16)]
    assert history[1]["temperature"] == 0.05
