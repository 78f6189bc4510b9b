"""The benchmark programs themselves, at toy size."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf_files import write_gguf
from helpers import PAIRS

import lbr_st
from lbr_st.errors import InputError
from lbr_st.files import write_jsonl
from lbr_st.learning.batches import IGNORE, collate
from lbr_st.learning.examples import ExampleMaker, build_examples
from lbr_st.learning.masked_model import CutOffModel


@pytest.fixture
def argv(tmp_path, monkeypatch):
    """Arguments for a program over medical data, with a backbone and texts of toy size."""
    import foundation_medical

    monkeypatch.setattr(foundation_medical, "DOCSTRINGS", 20)
    source = [("torch", Path("functional.py"), Path(torch.functional.__file__))]
    monkeypatch.setattr(foundation_medical, "installed_files", lambda: source)
    monkeypatch.setattr(foundation_medical, "BACKBONE", {"vocab_size": 300, "hidden_size": 64, "layers": 2})
    monkeypatch.setattr(foundation_medical, "COMMON", {"max_length": 16})
    data = tmp_path / "data"
    data.mkdir()
    for name in ("train", "dev", "test"):
        rows = [{"id": str(n), "question": f"{name} q {n}", "answer": f"{name} a {n}"} for n in range(12)]
        write_jsonl(data / f"{name}.jsonl", rows)
    return ["--data", str(data), "--work-dir", str(tmp_path / "work"), "--max-steps", "2"]


def read_summary(tmp_path, program):
    return json.loads((tmp_path / "results" / program / "summary.json").read_text())


def test_program_of_the_medical_run(tmp_path, argv):
    """Both arms, their files and the summary; other settings are refused."""
    import foundation_medical
    import results

    foundation_medical.main(argv)
    summary = read_summary(tmp_path, "foundation_medical")
    names = [f"{m}_at_10_{c}" for m in ("recall", "ndcg") for c in ("test", "full")]
    assert set(summary["figures"]) == {name + suffix for name in names for suffix in ("", "_no_stage1")}
    with pytest.raises(InputError, match="measured with other settings"):
        foundation_medical.main([*argv, "--weight-decay", "0.1"])
    arms = [results.read_arm("foundation_medical", arm, 0) for arm in ("ibgl_cl", "cl")]
    stages = [[s["stage"] for s in lbr_st.load(str(tmp_path / "work" / f"{a['arm']}-seed0"))[0].history] for a in arms]
    assert stages == [["learn", "align"], ["align"]]
    assert all(0 <= value <= 1 for arm in arms for value in arm["scores"].values())


def test_program_of_smollm2(tmp_path, argv, backbone):
    """From a GGUF file: both arms, the backbone, BM25, each with BM25 too; started again, nothing is trained."""
    import foundation_smollm2 as program
    import results

    file = write_gguf(backbone, tmp_path / "tiny.gguf", "qwen2")
    program.main([*argv, "--backbone", str(file)])
    figures = read_summary(tmp_path, "foundation_smollm2")["figures"]
    ends = [a + b for a in ("", "_no_stage1", "_backbone") for b in ("", "_fused")] + ["_bm25"]
    assert set(figures) == {f"{metric}_at_10_test{end}" for metric in ("recall", "ndcg") for end in ends}
    of_arm = results.read_arm("foundation_smollm2", "cl", 0)["scores"]
    assert figures["recall_at_10_test_no_stage1_fused"] == round(of_arm["recall_at_10_test_fused"], 4)
    history = [lbr_st.load(str(tmp_path / "work" / arm))[0].history for arm in ("ibgl_cl", "cl")]
    assert [[step["stage"] for step in each] for each in history] == [["learn", "align"], ["align"]]
    shutil.rmtree(tmp_path / "work")
    program.main([*argv, "--backbone", str(file)])
    assert not (tmp_path / "work").exists()


def test_program_of_learning_rates(tmp_path, argv, backbone):
    """Two processes share the arms; the summary is of those that are there."""
    import learning_rates as program

    arms = [*program.STAGE1_ARMS, *program.STAGE2_ARMS]
    argv = [*argv, "--backbone", backbone, "--logging-steps", "1"]
    program.main([*argv, "--arms", *arms[:4]])
    assert len(read_summary(tmp_path, "learning_rates")["figures"]) == 3 * 4
    program.main([*argv, "--arms", *arms[4:]])
    figures = read_summary(tmp_path, "learning_rates")["figures"]
    names = [arm.replace("-", "_") for arm in arms]
    assert set(figures) == {
        f"{n}_{arm}" for n in ("dev_recall_at_10", "dev_ndcg_at_10", "gradient_norm") for arm in names
    }


@pytest.fixture
def speed(monkeypatch, tmp_path):
    """The program of stage 1's speed, with a toy backbone, few steps and results in a folder of the test."""
    import stage1_speed

    for name, value in {
        "VOCABULARIES": {"8k": 8192, "152k": 9000}, "PAIRS_A_STEP": {"8k": 2, "152k": 2}, "PASSAGES_A_STEP": 1,
        "PASSAGE_LENGTH": 16, "TIMED_STEPS": {"8k": 1, "152k": 1}, "GRID_TOKENS": 128, "GRID_LENGTHS": (64,),
        "GRID_KS": (1, 4), "GRID_STEPS": 1, "PACKED_ROWS": 1, "PAIRS_TO_GROUP": 4,
    }.items():  # fmt: skip
        monkeypatch.setattr(stage1_speed, name, value)
    config = stage1_speed.nano_config
    monkeypatch.setattr(stage1_speed, "nano_config", lambda vocab_size, *_: config(vocab_size, 64, 2, 0))
    return stage1_speed


@pytest.mark.slow
def test_program_of_the_speed_of_stage_1(speed, tmp_path, monkeypatch):
    """Every arm measures, in one process here; ratios are those of the files. TRL is no part of the environment."""
    ask = []

    def measure(arm, backbones):
        ask.append(arm)
        if arm.startswith("check"):
            return {"losses": [1.0, 1.0]}
        return speed.measure(arm.replace("sft", "trainer"), backbones)

    monkeypatch.setattr(speed, "run_worker", measure)
    speed.main(["--repeats", "1"])
    assert ask == ["check_8k", *speed.ARMS]
    figures = read_summary(tmp_path, "stage1_speed")["figures"]
    import results

    for name, (unit, ours, theirs) in speed.RATIOS.items():
        values = [results.read_arm("stage1_speed", arm, 0)[unit] for arm in (ours, theirs)]
        assert figures[name] == figures[f"{name}_min"] == pytest.approx(values[0] / values[1], abs=1e-3)
    assert {"seconds_of_rows_64_k1", "throughput_ratio_packed_vs_grouped"} <= figures.keys()
    assert (tmp_path / "results" / "stage1_speed" / "step_time.png").stat().st_size > 1000
    speed.main(["--repeats", "1"])
    assert len(ask) == 1 + len(speed.ARMS)  # nothing is measured again


def test_a_control_that_is_not_trls_step_is_not_timed(speed, monkeypatch):
    monkeypatch.setattr(speed, "run_worker", lambda *args: {"losses": [1.0, 1.1]})
    with pytest.raises(RuntimeError, match="the control arm's loss is 1.1, TRL's 1.0: not the same step"):
        speed.main(["--repeats", "1"])


def test_full_logits_is_the_same_loss(speed, model):
    """What the memory is compared with computes the same."""
    batch = collate(list(build_examples(PAIRS, ExampleMaker(model, "sft"))))
    expected = CutOffModel(model[0].model)(**batch)["loss"]
    number = (batch["labels"] != IGNORE).sum()
    assert abs(speed.FullLogits(model[0].model)(**batch, num_items_in_batch=number)["loss"] - expected) < 1e-5


@pytest.fixture
def studies(argv, monkeypatch):
    """The studies of stage 2 at toy size."""
    import joint
    import predictors

    for name, value in (
        ("STEPS", (1, 2)), ("SEEDS", (0,)), ("FEW", 4), ("COMMON", {"max_length": 16}),
        ("STAGE1", {"save_steps": 1, "save_total_limit": 9, "per_device_train_batch_size": 4}),
        ("STAGE2", {"max_steps": 2, "per_device_train_batch_size": 4, "save_strategy": "no"}), ("RESAMPLES", 20),
        ("RUNS", {name: predictors.RUNS[name] for name in ("sft", "sft-few")}),
    ):  # fmt: skip
        monkeypatch.setattr(predictors, name, value)
    monkeypatch.setattr(joint, "WEIGHTS", ("0", "0.1"))
    monkeypatch.setattr(joint, "SEEDS", (0, 1))
    return argv[:-2]


@pytest.mark.slow
def test_program_of_the_predictors(tmp_path, studies, capsys):
    """Checkpoints of different steps and data, each with its signals and through stage 2; shared by two processes."""
    import predictors
    import results

    predictors.main([*studies, "--runs", "sft"])
    assert "3 arms are still to be measured" in capsys.readouterr().out
    assert not (tmp_path / "results" / "predictors" / "summary.json").exists()
    predictors.main(studies)
    arm = results.read_arm("predictors", "sft-few-2", 0)
    assert set(predictors.SIGNALS) - {"steps"} <= set(arm["signals"])
    assert lbr_st.load(str(predictors.path_of("sft-few-2", tmp_path / "work")))[0].history == []  # a checkpoint
    assert len((tmp_path / "work" / "few.jsonl").read_text().splitlines()) == 4
    figures = read_summary(tmp_path, "predictors")["figures"]
    names = {"spearman_separation_ratio_low", "spearman_nats_stage1_alone", "lost_by_recall_at_10_within_a_run"}
    assert names <= set(figures)
    assert (tmp_path / "results" / "predictors" / "predictors.png").read_bytes().startswith(b"\x89PNG")


def test_figures_of_the_predictors(argv, monkeypatch):
    """A signal that says it all, one that says the opposite, and what is lost by following them."""
    import predictors

    monkeypatch.setattr(predictors, "RUNS", {"a": {}, "b": {}})
    monkeypatch.setattr(predictors, "STEPS", (1, 2, 3))
    monkeypatch.setattr(predictors, "RESAMPLES", 100)
    recall = {"backbone": 0.1, "a-1": 0.2, "a-2": 0.5, "a-3": 0.4, "b-1": 0.3, "b-2": 0.6, "b-3": 0.9}
    signals = {
        name: dict.fromkeys(predictors.SIGNALS, value)
        | {"loss": value, "nats": -value, "steps": predictors.steps_of(name)}
        for name, value in recall.items()
    }
    figures = predictors.figures_of(signals, recall)
    for signal, expected in (("separation_ratio", 1), ("loss", -1), ("nats", -1)):
        assert figures[f"spearman_{signal}"] == figures[f"spearman_{signal}_stage1_alone"] == expected
        assert figures[f"spearman_{signal}_low"] == figures[f"spearman_{signal}_high"] == expected
        assert figures[f"spearman_{signal}_stage1_alone_by_run_low"] == expected
    # Ranks of the steps 0, 1, 2, 3, 1, 2, 3 and of what they led to, by hand.
    steps, after = np.array([1, 2.5, 4.5, 6.5, 2.5, 4.5, 6.5]), np.array([1, 2, 5, 4, 3, 6, 7])
    assert figures["spearman_steps"] == pytest.approx(np.corrcoef(steps, after)[0, 1], abs=1e-4)
    assert figures["spearman_steps_low"] < figures["spearman_steps"] < figures["spearman_steps_high"]
    assert figures["lost_by_chance"] == pytest.approx(0.9 - 3.0 / 7, abs=1e-4)
    assert figures["lost_by_chance_within_a_run"] == pytest.approx((0.5 - 1.1 / 3 + 0.9 - 0.6) / 2, abs=1e-4)
    assert (figures["lost_by_recall_at_10"], figures["lost_by_recall_at_10_within_a_run"]) == (0, 0)
    assert figures["lost_by_loss"] == pytest.approx(0.8)
    assert figures["lost_by_loss_within_a_run"] == pytest.approx((0.3 + 0.6) / 2)
    assert figures["lost_by_steps_within_a_run"] == pytest.approx((0.1 + 0) / 2)


@pytest.mark.slow
def test_program_of_the_joint_objective(tmp_path, studies):
    """Each weight and seed, beside the model before stage 2."""
    import joint
    import results

    joint.main(studies)
    figures = read_summary(tmp_path, "joint")["figures"]
    losses = [results.read_arm("joint", "weight-0.1", seed)["scores"]["lm_loss"] for seed in (0, 1)]
    assert figures["lm_loss_weight_0_1"] == pytest.approx(sum(losses) / 2, abs=1e-4)
    assert figures["lm_loss_weight_0_1_max"] == pytest.approx(max(losses), abs=1e-4)
    assert figures["lm_loss_before"] != figures["lm_loss_weight_0"]


def test_program_of_the_memory_of_stage_2(speed, tmp_path, monkeypatch):
    """Every arm measures, in one process here; ratios are those of the files."""
    import results
    import stage2_memory

    arms = {"cached_1024": (4, 2, 1), "plain_64": (2, 2, 2), "cached_64": (2, 2, 2)}
    for name, value in (
        ("ARMS", arms),
        ("TOKENS", 16),
        ("MINI_BATCH", 3),
        ("run_worker", lambda arm, folder, program: stage2_memory.measure(arm, folder)),
    ):
        monkeypatch.setattr(stage2_memory, name, value)
    stage2_memory.main([])
    figures = read_summary(tmp_path, "stage2_memory")["figures"]
    large = results.read_arm("stage2_memory", "cached_1024", 0)
    assert figures["peak_memory_gib"] == pytest.approx(large["peak_bytes"] / 2**30, abs=1e-3)
    pairs = [
        [results.read_arm("stage2_memory", arm, n)["seconds"] for arm in ("cached_64", "plain_64")] for n in (0, 1)
    ]
    ratios = [cached / plain for cached, plain in pairs]
    assert figures["time_ratio_cached_vs_plain_64_pairs"] == pytest.approx(sum(ratios) / 2, abs=1e-3)
    assert figures["time_ratio_cached_vs_plain_64_pairs_max"] == pytest.approx(max(ratios), abs=1e-3)


@pytest.mark.slow
def test_program_of_the_data_layer(tmp_path, argv, monkeypatch):
    """Planted duplicates are counted as found, and the ratio is that of the files."""
    import data_speed
    import results

    monkeypatch.setattr(data_speed, "ROWS", 2000)
    monkeypatch.setattr(data_speed, "REPEATS", 1)
    monkeypatch.setattr(data_speed, "SAMPLE_SECONDS", 0.001)

    def run_worker(arm, file):
        (tmp_path / arm).mkdir()
        return data_speed.measure(arm, file, tmp_path / arm)

    monkeypatch.setattr(data_speed, "run_worker", run_worker)
    data_speed.main([])
    figures = read_summary(tmp_path, "data_speed")["figures"]
    assert figures["near_duplicates_found"] == figures["exact_duplicates_found"] == 1
    seconds = {arm: results.read_arm("data_speed", arm, 0)["seconds"] for arm in ("prepare", "map")}
    assert figures["rows_per_second"] == round(2000 / seconds["prepare"])
    assert figures["throughput_ratio_vs_map"] == pytest.approx(seconds["map"] / seconds["prepare"], abs=1e-3)
    assert figures["peak_memory_gib"] > 0.1
    assert {"read", "measure", "near_duplicates", "split", "isolation", "write"} <= {
        name.removeprefix("rows_per_second_") for name in figures
    }


@pytest.mark.slow
def test_program_of_encoding(tmp_path, monkeypatch):
    """Kills and memory at toy size: what is whole stays, and the end is that of a straight run."""
    import encode_corpus
    import results

    for name, value in {
        "ROWS": 600, "MEMORY_ROWS": {"10k": 300, "100k": 900}, "SHARD_ROWS": 20, "KILLS": 2, "WAITS": (0.1, 0.2),
    }.items():  # fmt: skip
        monkeypatch.setattr(encode_corpus, name, value)
    passages = ({"document": f"def add_{n}(x):\n    return x + {n}"} for n in range(600))
    monkeypatch.setattr(encode_corpus, "installed_pairs", lambda: passages)
    encode_corpus.main(["--parts", "kills", "memory"])
    figures = read_summary(tmp_path, "encode_corpus")["figures"]
    assert figures.keys() == {"kills_survived", "memory_growth_ratio", "peak_memory_mib_100k_rows"}
    assert figures["kills_survived"] == 2 and results.read_arm("encode_corpus", "kills", 0)["files"] == 30
    peaks = [results.read_arm("encode_corpus", f"memory_{name}", 0)["peak_memory_mib"] for name in ("10k", "100k")]
    assert figures["memory_growth_ratio"] == pytest.approx(peaks[1] / peaks[0], abs=1e-4) and min(peaks) > 100
    monkeypatch.setattr(encode_corpus, "make_corpus", lambda work: pytest.fail("measured again"))
    encode_corpus.main(["--parts", "memory"])


@pytest.fixture
def takes(monkeypatch):
    """The program of memory and minutes, at toy size and in one process."""
    import what_it_takes

    shape = {"num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2}
    shapes = {
        "small": {"model_type": "llama", "intermediate_size": 64, "vocab_size": 9000, **shape},
        "large": {"model_type": "qwen2", "intermediate_size": 96, "vocab_size": 9100, **shape},
    }
    for name, value in {
        "SHAPES": shapes, "BATCH": 4, "TOKENS": 16, "RANK": 2, "STAGE1_TOKENS": 1280, "PAIRS": 20,
        "PARTS": {"cpu": {"small": (1, 2), "large": (4, 1)}},
    }.items():  # fmt: skip
        monkeypatch.setattr(what_it_takes, name, value)
    return what_it_takes


@pytest.mark.slow
def test_program_of_what_it_takes(takes, tmp_path, monkeypatch, capsys):
    """Every arm measures, in one process here; a part of a step stands for all of it; nothing is measured again."""
    import results

    asked = []

    def run_worker(arm, folder, program, flags):
        asked.append(arm)
        return takes.measure_arm(arm, folder, takes.training_settings(flags))

    monkeypatch.setattr(takes, "run_worker", run_worker)
    monkeypatch.setattr(takes, "fits", lambda arm, bf16: arm != "cpu-large-learn-full" and bf16)
    takes.main(["--bf16"])
    arms = {f"cpu-{s}-{g}-{t}" for s in ("small", "large") for g in ("learn", "align") for t in ("full", "lora")}
    assert set(asked) == arms - {"cpu-large-learn-full"}
    figures = read_summary(tmp_path, "what_it_takes")["figures"]
    assert set(figures) == {
        f"{name}_{arm.replace('-', '_')}" for name in ("gib", "seconds_a_step", "minutes") for arm in asked
    }
    for arm in asked:
        found = results.read_arm("what_it_takes", arm, 0)
        _, shape, stage, trained = arm.split("-")
        assert found["tokens_a_step"] == 4 * 2 * 16
        rest = found["seconds_measured"] - found["optimizer_seconds"]
        assert 0 < found["optimizer_seconds"] < found["seconds_measured"]
        times = 2 if shape == "small" else 1
        assert found["seconds_a_step"] == pytest.approx(found["optimizer_seconds"] + times * rest)
        # 1,280 tokens; 20 pairs twice.
        steps = 1280 / 128 if stage == "learn" else 40 / 4
        assert found["minutes"] == pytest.approx(steps * found["seconds_a_step"] / 60)
        assert (found["trained"] == found["parameters"]) == (trained == "full")
    assert "| cpu" in capsys.readouterr().out
    takes.main(["--bf16"])
    assert len(asked) == len(arms) - 1
    with pytest.raises(InputError, match="measured with other settings"):
        takes.main([])


def test_shapes_are_those_of_the_models():
    """By their published numbers of parameters."""
    import what_it_takes

    counts = {shape: what_it_takes.count_parameters(shape) for shape in what_it_takes.SHAPES}
    assert counts == {"135m": 134_515_008, "0.5b": 494_032_768, "1.5b": 1_543_714_304}


def test_what_does_not_fit_is_not_tried(monkeypatch):
    """What would fit but for other programs is refused: its absence would be taken for a measurement."""
    import what_it_takes

    def memory(total, available):
        machine = type("Memory", (), {"total": total * 2**30, "available": available * 2**30})
        monkeypatch.setattr(what_it_takes.psutil, "virtual_memory", lambda: machine)

    memory(total=24, available=23)
    fits = {arm: what_it_takes.fits(arm, bf16=False) for arm in what_it_takes.arms_of("cpu")}
    assert {arm for arm, each in fits.items() if not each} == {"cpu-1.5b-learn-full", "cpu-1.5b-align-full"}
    memory(total=24, available=2)
    with pytest.raises(InputError, match=r"cpu-0.5b-align-full takes about 1[0-9].. GiB, and 2.0 GiB are free"):
        what_it_takes.fits("cpu-0.5b-align-full", bf16=False)
    assert not what_it_takes.fits("cpu-1.5b-align-full", bf16=False)
    memory(total=64, available=64)
    assert what_it_takes.fits("cpu-1.5b-align-full", bf16=False)
