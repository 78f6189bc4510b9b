"""Learning rates by the size of a model: the tables, and what a run does where the user gives none."""

import itertools
import json
import logging
import math

import pytest
from helpers import MANY, ROOT, make_bert
from transformers import AutoModelForCausalLM

import lbr_st
from lbr_st.alignment.config import AlignConfig
from lbr_st.alignment.run import align
from lbr_st.errors import InputError
from lbr_st.files import write_jsonl
from lbr_st.learning.config import LearnConfig
from lbr_st.learning.run import learn
from lbr_st.training import rates
from lbr_st.training.rates import FULL, LORA, in_millions, listed, rate_for, written

STAGES = {"learn": (learn, LearnConfig), "align": (align, AlignConfig)}
# Tables for the tiny model, so that neither an end of one nor a number of another stage passes for its rate.
TINY = {"learn": {1e3: 1e-1, 1e6: 1e-4}, "align": {1e4: 5e-3, 1e5: 2e-4}}
TINY_LORA = {"learn": {1e3: 5e-1, 1e6: 5e-4}, "align": {1e3: 4e-2, 1e6: 4e-2}}


@pytest.mark.parametrize("stage", STAGES)
def test_a_size_of_the_table_has_its_own_rate(stage):
    assert {size: rate_for(stage, size) for size in FULL[stage]} == FULL[stage]
    assert {size: rate_for(stage, size, lora=True) for size in LORA[stage]} == LORA[stage]


@pytest.mark.parametrize(("stage", "lora"), list(itertools.product(STAGES, [False, True])))
def test_a_larger_model_never_gets_a_larger_rate(stage, lora):
    found = [rate_for(stage, 10 ** (tenth / 10), lora) for tenth in range(30, 121)]
    assert found == sorted(found, reverse=True)
    assert found[0] > found[-1] > 0
    if lora:
        assert all(rate >= rate_for(stage, 10 ** (tenth / 10)) for tenth, rate in enumerate(found, 30))


@pytest.mark.parametrize(
    ("parameters", "full", "lora"),
    [
        (1e5, 1e-3, 1e-3),
        (1e6, 1e-3, 1e-3),
        (1e7, 1e-4, 1e-4),  # half-way in the logarithm; LoRA's table begins further up, and says less
        (2e7, 5e-5, 5e-5),  # 1e-3 / 20
        (1e8, 1e-5, 5e-5),
        (1e10, 1e-5, 5e-5),
    ],
)
def test_between_two_sizes_a_power_law_beyond_them_their_rate(monkeypatch, parameters, full, lora):
    monkeypatch.setitem(FULL, "learn", {1e6: 1e-3, 1e8: 1e-5})
    monkeypatch.setitem(LORA, "learn", {1e8: 5e-5})
    assert (rate_for("learn", parameters), rate_for("learn", parameters, lora=True)) == (full, lora)


def test_numbers_as_people_write_them():
    assert [written(rate) for rate in (2e-4, 1e-3, 0.3, 1.0, 0.0)] == ["2e-4", "1e-3", "3e-1", "1e0", "0e0"]
    assert [in_millions(n) for n in (28_960, 5_500_000, 134_515_584, 1_543_714_304)] == [
        "0.029 M", "5.5 M", "135 M", "1.54 B",
    ]  # fmt: skip


@pytest.mark.parametrize("stage", STAGES)
def test_the_guide_has_the_tables(stage):
    text = " ".join((ROOT / "docs" / "guides" / "training.md").read_text().split())
    assert f"| {listed(FULL[stage])} | {listed(LORA[stage])} |" in text


@pytest.fixture
def tables(monkeypatch):
    monkeypatch.setattr(rates, "FULL", TINY)
    monkeypatch.setattr(rates, "LORA", TINY_LORA)


@pytest.fixture
def start(backbone, tmp_path, caplog):
    """Run a few steps of a stage, with changes; return what the folder says of the run, and the log's line."""
    write_jsonl(tmp_path / "train.jsonl", MANY)

    def run(stage, model=backbone, **changes):
        run_stage, config = STAGES[stage]
        data = str(tmp_path / "train.jsonl")
        settings = {
            "max_length": 24, "max_steps": 3, "warmup_steps": 0, "lr_scheduler_type": "constant", "logging_steps": 1,
            "per_device_train_batch_size": 4, "save_steps": 2, "output_dir": str(tmp_path / "out"),
        }  # fmt: skip
        settings |= {"model": model, "data": [data] if stage == "learn" else data}
        caplog.clear()
        with caplog.at_level(logging.INFO, logger="lbr_st"):
            run_stage(config(**settings | changes))
        said = [line for line in caplog.messages if line.startswith("learning rate")]
        return json.loads((tmp_path / "out" / "lbr_run.json").read_text()), said

    return run


def half_way(table, parameters):
    """Independent computation: the power law through both sizes of a table."""
    (small, high), (large, low) = table.items()
    exponent = math.log(low / high) / math.log(large / small)
    return float(f"{high * (parameters / small) ** exponent:.0e}")


@pytest.mark.parametrize(("stage", "lora"), list(itertools.product(STAGES, [False, True])))
def test_a_run_has_the_rate_of_its_size_and_says_so(tables, start, backbone, tmp_path, stage, lora):
    """In the trainer, the log, the run, the history and the card; it goes on with it, and not with another."""
    parameters = sum(weight.numel() for weight in AutoModelForCausalLM.from_pretrained(backbone).parameters())
    expected = half_way((TINY_LORA if lora else TINY)[stage], parameters)
    changes = {"lora_rank": 2} if lora else {}
    run, said = start(stage, **changes)
    ending = " and LoRA" if lora else ""
    assert said == [
        f"learning rate {written(expected)}, for 0.029 M parameters{ending} (--learning-rate sets another)",
    ]
    assert run["training_arguments"]["learning_rate"] == expected
    log = json.loads((tmp_path / "out" / "training_log.json").read_text())
    assert {entry["learning_rate"] for entry in log if "learning_rate" in entry} == {expected}
    history = lbr_st.load(str(tmp_path / "out"))[0].history
    assert history[-1]["training_arguments"]["learning_rate"] == expected
    assert f"--learning-rate {expected}" in (tmp_path / "out" / "README.md").read_text()
    (tmp_path / "out" / "config.json").unlink()  # as a kill before the end leaves it
    with pytest.raises(InputError, match=f"learning_rate: was {expected}, now 0.25"):
        start(stage, resume=True, learning_rate=0.25, **changes)
    assert start(stage, resume=True, **changes)[0] == run
    assert (tmp_path / "out" / "config.json").exists()


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("rate", [0.0, 3e-3])
def test_the_rate_that_is_given_counts(tables, start, stage, rate):
    run, said = start(stage, learning_rate=rate)
    assert run["training_arguments"]["learning_rate"] == rate
    assert not said


def test_embedding_models_of_another_kind_have_their_own(tables, start, tmp_path):
    run, said = start("align", make_bert(tmp_path / "bert"))
    assert run["training_arguments"]["learning_rate"] == 2e-5
    assert said == ["learning rate 2e-5, for an embedding model of another kind (--learning-rate sets another)"]


@pytest.mark.parametrize("stage", STAGES)
def test_what_is_no_model_is_refused(start, tmp_path, stage):
    (tmp_path / "no-model").mkdir()
    (tmp_path / "no-model" / "config.json").write_text("{}")
    with pytest.raises(InputError, match="no-model is not a model: Unrecognized model"):
        start(stage, str(tmp_path / "no-model"))
    assert not (tmp_path / "out").exists()
