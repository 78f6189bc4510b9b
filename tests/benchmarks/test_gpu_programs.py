"""What ``make gpu`` runs, at toy size on a CPU: its parts, their limits, and what they say of what they left out."""

import json
import os
import shutil
import subprocess
import sys
import time

import pytest
import torch
from base_install import without
from gguf_files import write_gguf
from helpers import MANY, ROOT
from toy_domains import SPLITS, medical_row

import lbr_st
from lbr_st.alignment.config import AlignConfig
from lbr_st.errors import EXTRAS, InputError
from lbr_st.files import file_sha256, write_jsonl
from lbr_st.learning.config import LearnConfig
from lbr_st.model.cutoff import cutoff_rule, same_sequence_rule
from lbr_st.model.named import count_parameters
from lbr_st.model.opening import open_model
from lbr_st.training.rates import rate_for

# What a machine for `make gpu` has of the extras; scipy comes with sentence-transformers, accelerate with peft.
THERE = {"accelerate", "peft", "pyarrow", "scipy"}


def summary(folder, program):
    return json.loads((folder / program / "summary.json").read_text())


@pytest.fixture
def data(tmp_path):
    """Medical pairs of toy size."""
    (tmp_path / "data").mkdir()
    for split, number in SPLITS.items():
        write_jsonl(tmp_path / "data" / f"{split}.jsonl", (medical_row(split, n) for n in range(number)))
    return tmp_path / "data"


@pytest.fixture
def copy_without_packages(tmp_path):
    """A copy of the programs, and the environment of a machine that lacks what `make gpu` can do without."""
    for folder in ("benchmarks", "lbr_st", "tests"):
        ignored = shutil.ignore_patterns("__pycache__", "results")
        shutil.copytree(ROOT / folder, tmp_path / "copy" / folder, ignore=ignored)
    for file in ("pyproject.toml", "Makefile", "constraints.txt"):
        shutil.copy(ROOT / file, tmp_path / "copy")
    (tmp_path / "site").mkdir()

    def environment(*more):
        absent = [module for module in (*EXTRAS, "trl", *more) if module not in THERE]
        (tmp_path / "site" / "sitecustomize.py").write_text(without(absent))
        settings = {"PYTHONPATH": str(tmp_path / "site"), "LBR_COMMIT": "abc123"}
        return {**os.environ, **settings}

    return tmp_path / "copy", environment


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_all_of_it_with_few_packages(tmp_path, data, backbone, copy_without_packages):
    """Every part ends, writes its results and says what it left out; nothing that is absent is needed."""
    folder, environment = copy_without_packages
    flags = "FLAGS=--device cpu --seconds 4000"
    command = ["make", "gpu", f"PYTHON={sys.executable}", f"WEIGHTS={backbone}", f"DATA={data}", flags]
    done = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True)
    assert "Error 3" in done.stderr, done.stdout[-3000:] + done.stderr[-3000:]
    assert "left out: test_stage_2[cpu]: could not import 'datasets'" in done.stdout
    assert "without BM25: " in done.stdout
    assert [line.partition(";")[0] for line in done.stdout.splitlines()[-3:]] == [
        "gpu_tests: something was left out",
        "gpu_speed: all of it ran",
        "gpu_medical: all of it ran",
    ]
    results = folder / "benchmarks" / "results"
    for program in ("gpu", "gpu_tests", "gpu_speed", "gpu_medical"):
        found = summary(results, program)
        assert found["commit"] == "abc123, as LBR_COMMIT says"
        assert str(tmp_path) not in json.dumps(found)
    tests = summary(results, "gpu_tests")["figures"]
    assert (tests["failed"], tests["left_out"]) == (0, 1) and tests["passed"] > 20
    speed = summary(results, "gpu_speed")["figures"]
    for shape in ("135m", "1_5b"):
        assert speed[f"time_ratio_vs_sft_{shape}"] > 0
        for arm in ("ibgl", "read_out", "packed", "reconstruct", "align", "encode"):
            assert speed[f"tokens_per_second_{arm}_{shape}"] > 0
            assert speed[f"share_of_matmul_rate_{arm}_{shape}"] > 0
    medical = summary(results, "gpu_medical")["figures"]
    assert medical["seeds"] == 2
    for suffix in ("", "_no_stage1", "_stage1", "_backbone"):
        assert 0 <= medical[f"recall_at_10_test{suffix}"] <= 1
        assert 0 <= medical[f"ndcg_at_10_test{suffix}"] <= 1


@pytest.mark.slow
def test_tests_without_pytest(copy_without_packages):
    folder, environment = copy_without_packages
    command = [sys.executable, "benchmarks/gpu_tests.py", "--device", "cpu"]
    env = environment("pytest")
    env["PYTHONPATH"] += os.pathsep + str(folder)
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode == 3, done.stderr
    assert "left out: all tests: pytest is not installed" in done.stdout
    assert summary(folder / "benchmarks" / "results", "gpu_tests")["figures"]["left_out"] == 1


def settings(backbone, folder, bf16):
    """Settings that both stages have, for a few steps at a rate that shows."""
    return {
        "model": str(backbone), "output_dir": str(folder), "max_length": 24, "use_cpu": True, "bf16": bf16,
        "learning_rate": 1e-2, "num_train_epochs": 2, "per_device_train_batch_size": 5, "seed": 3,
    }  # fmt: skip


def weights(model):
    """Return a copy of the weights of a model."""
    return {name: tensor.clone() for name, tensor in model[0].model.state_dict().items()}


def largest_difference(one, other):
    assert one.keys() == other.keys()
    return max(float((one[name] - other[name]).abs().max()) for name in one)


@pytest.mark.parametrize("bf16", [False, True])
def test_plain_loops_make_the_weights_of_both_stages(tmp_path, backbone, bf16):
    """A loop without `datasets` ends with the weights that `lbr_st.learn` and `lbr_st.align` end with."""
    import plain_stages

    write_jsonl(tmp_path / "pairs.jsonl", MANY)
    records = lbr_st.data.records.read_records(tmp_path / "pairs.jsonl")
    file = str(tmp_path / "pairs.jsonl")
    model = open_model(str(backbone), max_seq_length=24).to("cpu")
    before = weights(model)

    config = LearnConfig(data=[file], objective="sft", **settings(backbone, tmp_path / "learned", bf16))
    learned = weights(lbr_st.learn(config))
    examples = plain_stages.make_examples(records, model, "sft", 10**9)
    course = plain_stages.learn(model, examples, config, lambda: None)
    assert largest_difference(weights(model), learned) < 1e-5
    assert largest_difference(learned, before) > 1e-2
    assert course.steps == 2 * -(-len(MANY) // 5)
    assert course.tokens == 2 * sum(len(example["input_ids"]) for example in examples)

    config = AlignConfig(data=file, **settings(tmp_path / "learned", tmp_path / "aligned", bf16))
    aligned = weights(lbr_st.align(config))
    model = lbr_st.load(str(tmp_path / "learned"), device="cpu")
    plain_stages.align(model, records, config, lambda: None)
    assert largest_difference(weights(model), aligned) < 1e-5
    assert largest_difference(aligned, learned) > 1e-2


def test_examples_of_a_budget(backbone):
    """Whole records as long as their examples fit, an example of each for each objective."""
    import plain_stages

    model = open_model(str(backbone), max_seq_length=24).to("cpu")
    records = [{"query": pair["question"], "document": pair["answer"]} for pair in MANY]
    names = ("sft", "reconstruct")
    alone = {name: plain_stages.make_examples(records, model, name, 10**9) for name in names}
    assert [len(examples) for examples in alone.values()] == [len(records)] * 2
    tokens = [sum(len(alone[name][n]["input_ids"]) for name in names) for n in range(len(records))]
    for budget, number in ((sum(tokens[:3]), 3), (sum(tokens[:3]) - 1, 2), (0, 0)):
        found = plain_stages.make_examples(records, model, "sft:0.5,reconstruct:0.5", budget)
        assert found == alone["sft"][:number] + alone["reconstruct"][:number]


def test_both_stages_of_a_toy(tmp_path, data, backbone, capsys):
    """All arms of each seed, from the same weights; BM25 beside them; the summary is that of the files."""
    import gpu_medical
    import results
    from systems import assemble

    gpu_medical.main(["--device", "cpu", "--weights", str(backbone), "--data", str(data)])
    read = {
        (arm, seed): results.read_arm("gpu_medical", arm, seed)
        for arm in ("both", "no_stage1", "stage1")
        for seed in (0, 1)
    }
    figures = summary(tmp_path / "results", "gpu_medical")["figures"]
    for arm, suffix in (("both", ""), ("no_stage1", "_no_stage1"), ("stage1", "_stage1")):
        values = [read[arm, seed]["scores"]["ndcg_at_10_test"] for seed in (0, 1)]
        assert figures[f"ndcg_at_10_test{suffix}"] == pytest.approx(sum(values) / 2, abs=1e-4)
        assert figures[f"ndcg_at_10_test{suffix}_max"] == pytest.approx(max(values), abs=1e-4)
    training = read["stage1", 0]["training"]
    assert training["tokens"] <= gpu_medical.SIZES["cpu"].stage1_tokens
    assert training["learning_rate"] == rate_for("learn", count_parameters(str(backbone)))
    assert read["both", 0]["training"]["learning_rate"] == rate_for("align", count_parameters(str(backbone)))
    assert figures["recall_at_10_test_bm25"] == lbr_st.evaluate("bm25", data / "test.jsonl")["recall_at_10"]
    mean = assemble(backbone, backbone, 15, "mean")  # the last of 16 tokens is the bottleneck
    assert figures["ndcg_at_10_test_backbone"] == pytest.approx(
        lbr_st.evaluate(mean, data / "test.jsonl")["ndcg_at_10"], abs=0.02
    )
    assert "both, seed 1: recall@10 " in capsys.readouterr().out


def test_backbone_as_it_is(backbone):
    """The mean of its states over the text, as the stock classes have it."""
    import gpu_medical
    from systems import assemble

    model = open_model(str(backbone), num_bottleneck_tokens=2, max_seq_length=12).to("cpu")
    texts = ["why", "How is anaemia treated? " * 5]
    found, expected = (
        gpu_medical.mean_of_states(model).encode(texts),
        assemble(backbone, backbone, 10, "mean").encode(texts),
    )
    assert abs(found - expected).max() < 1e-5


def test_weights_of_a_gguf_in_parts(tmp_path, data, backbone, monkeypatch):
    """They are joined, read and trained; the result files name the file, and no folder."""
    import gpu_medical
    import results

    monkeypatch.setitem(gpu_medical.SIZES, "cpu", gpu_medical.Sizes(16, 600, 8, 1, (0,)))
    file = write_gguf(backbone, tmp_path / "tiny.gguf", "qwen2")
    folder = in_parts(tmp_path / "parts", file.read_bytes())
    gpu_medical.main(["--device", "cpu", "--weights", str(folder), "--data", str(data)])
    arm = results.read_arm("gpu_medical", "both", 0)
    assert arm["settings"]["weights"] == "model.gguf"
    assert str(tmp_path) not in json.dumps(arm)


def test_each_training_begins_with_the_same_weights(data, backbone):
    import gpu_medical
    from gpu_part import Part

    study = gpu_medical.begin(backbone, data, "cpu", Part(None))
    first = study.align(0)
    study.learn(0)
    study.reset()
    assert study.align(0).losses == first.losses
    assert study.align(0).losses != first.losses


def test_a_seed_that_no_time_is_left_for(tmp_path, data, backbone, capsys, monkeypatch):
    """What was measured before is written; a seed is not begun in less time than the longest took."""
    import gpu_medical
    from gpu_part import OutOfTime, Part

    def out_of_time(self):
        raise OutOfTime("no time is left")

    argv = ["--device", "cpu", "--weights", str(backbone), "--data", str(data)]
    monkeypatch.setattr(gpu_medical, "bm25", lambda data: {"recall_at_10_test": 0.5, "ndcg_at_10_test": 0.5})
    with monkeypatch.context() as patch, pytest.raises(SystemExit) as ended:
        patch.setattr(Part, "go_on", out_of_time)
        gpu_medical.main(argv)
    assert ended.value.code == 3
    assert "left out: seed 0: no time is left\nleft out: seed 1: no time is left\n" in capsys.readouterr().out
    figures = summary(tmp_path / "results", "gpu_medical")["figures"]
    assert figures["seeds"] == 0 and "ndcg_at_10_test_backbone" in figures and "ndcg_at_10_test" not in figures

    whole = gpu_medical.run_seed

    def run_seed(study, seed, records):
        time.sleep(0.3)
        whole(study, seed, records)
        study.part._end = time.monotonic() + 0.2
        return True

    monkeypatch.setattr(gpu_medical, "run_seed", run_seed)
    with pytest.raises(SystemExit) as ended:
        gpu_medical.main([*argv, "--seconds", "1000"])
    assert ended.value.code == 3
    assert capsys.readouterr().out.endswith("left out: seed 1: no time is left\n")
    assert summary(tmp_path / "results", "gpu_medical")["figures"]["seeds"] == 1


def in_parts(folder, content, number=3):
    """Write a file in parts, with its hash."""
    folder.mkdir()
    size = -(-len(content) // number)
    for n in range(number):
        (folder / f"model.gguf.part{n:02}").write_bytes(content[n * size : (n + 1) * size])
    whole = folder.parent / "whole"
    whole.write_bytes(content)
    (folder / "model.gguf.sha256").write_text(f"{file_sha256(whole)}  model.gguf\n")
    return folder


def test_weights_in_parts(tmp_path):
    import gpu_medical

    content = bytes(range(256)) * 7
    found = gpu_medical.joined(in_parts(tmp_path / "parts", content), tmp_path / "work")
    assert (found.name, found.read_bytes()) == ("model.gguf", content)
    assert gpu_medical.joined(tmp_path, tmp_path / "work") == tmp_path  # nothing to join
    (tmp_path / "other").mkdir()
    for n in range(12):  # `split --numeric-suffixes=1 -a 1` and others write no zeros
        (tmp_path / "other" / f"model.gguf.part{n}").write_bytes(content[n * 150 : (n + 1) * 150])
    shutil.copy(tmp_path / "parts" / "model.gguf.sha256", tmp_path / "other")
    assert gpu_medical.joined(tmp_path / "other", tmp_path / "work").read_bytes() == content


def test_parts_that_are_not_whole(tmp_path):
    import gpu_medical

    folder = in_parts(tmp_path / "parts", b"some weights")
    (folder / "model.gguf.part01").unlink()
    with pytest.raises(InputError, match=r"the 2 parts of model.gguf make a file of SHA-256 .* is a part missing\?"):
        gpu_medical.joined(folder, tmp_path / "work")
    assert not (tmp_path / "work" / "model.gguf").exists()
    (folder / "other.gguf.part00").touch()
    with pytest.raises(InputError, match=r"parts of 2 files, model.gguf, other.gguf; one is needed"):
        gpu_medical.joined(folder, tmp_path / "work")
    (folder / "other.gguf.part00").unlink()
    (folder / "model.gguf.sha256").unlink()
    with pytest.raises(InputError, match=r"no model.gguf.sha256; where model.gguf is: sha256sum"):
        gpu_medical.joined(folder, tmp_path / "work")


def test_operations_of_a_step():
    """The pairs that attention computes, against the drawn rule; products against a count by hand."""
    import gpu_speed
    from transformers import Qwen2Config

    batches = gpu_speed.make_batches(100, pairs=5, passages=2, length=7)
    for batch in batches.values():
        rows, length = batch["input_ids"].shape
        at = torch.meshgrid(torch.arange(rows), torch.arange(length), torch.arange(length), indexing="ij")
        allowed = (at[1] >= at[2]) & cutoff_rule(batch["segments"])(at[0], 0, at[1], at[2])
        if "sequences" in batch:
            allowed &= same_sequence_rule(batch["sequences"])(at[0], 0, at[1], at[2])
        keep = batch["attention_mask"].bool()
        allowed &= keep[:, :, None] & keep[:, None, :]
        assert gpu_speed.attended_pairs(batch) == allowed.sum()
    config = Qwen2Config(vocab_size=10, hidden_size=4, num_hidden_layers=3)
    work = gpu_speed.Work.of([batches["pretraining"]], read_outs=2)  # 2 rows of 7 tokens, 6 of them targets
    assert work == gpu_speed.Work(tokens=14, logits=12 + 2, attended=2 * 28)
    assert work.operations(config, body=11) == 6 * (11 * 14 + 40 * 14) + 12 * 12 * 2 * 28
    assert work.operations(config, body=11, backward=False) == work.operations(config, body=11) / 3


def test_sides_of_pairs():
    """Stage 2 reads the texts that stage 1 does, each with a bottleneck token, and needs no logits."""
    import gpu_speed

    batches = gpu_speed.make_batches(100, pairs=5, passages=2, length=7)
    work = gpu_speed.Work.of([batches["queries"], batches["documents"]])
    assert work.tokens == gpu_speed.Work.of([batches["pairs"]]).tokens + 5
    assert work.logits == 0
    lengths = [*batches["queries"]["attention_mask"].sum(dim=1), *batches["documents"]["attention_mask"].sum(dim=1)]
    assert work.attended == sum(n * (n + 1) // 2 for n in lengths)


@pytest.mark.parametrize("shape", ["135m", "1.5b"])
def test_arms_train_what_they_say(shape):
    """The loss of all logits is that of the targets' rows; every arm moves the weights."""
    import gpu_speed

    bench = gpu_speed.Bench(gpu_speed.SHAPES[shape].toy, "cpu")
    with torch.no_grad():
        losses = {arm: float(bench.losses[arm](bench.batches["pairs"])) for arm in ("ibgl", "read_out", "full_logits")}
        losses |= {arm: float(bench.losses[arm](bench.batches["plain"])) for arm in ("control", "sft")}
    assert losses["ibgl"] == pytest.approx(losses["full_logits"], abs=1e-4)
    assert losses["control"] == pytest.approx(losses["sft"], abs=1e-4)
    assert losses["read_out"] > losses["ibgl"] + 1
    for arm in set(gpu_speed.ARMS) - set(gpu_speed.FLEX):
        before = bench.model.model.norm.weight.detach().clone()
        assert bench.step(arm)["tokens_per_second"] > 0
        assert not torch.equal(before, bench.model.model.norm.weight), arm
    encode = bench.to_encode()
    assert bench.model.dtype == torch.bfloat16
    found = encode()
    assert found["tokens_per_second"] * found["seconds"] == pytest.approx(8 * 16)


def test_arms_that_cannot_run_are_left_out(capsys):
    """Out of memory, wrong, out of time: the others are measured, equally often."""
    import gpu_speed
    from gpu_part import Part

    count = {"good": 0, "late": 0}

    def good():
        count["good"] += 1
        return {"seconds": float(count["good"])}

    def full():
        raise torch.OutOfMemoryError("CUDA out of memory")

    def wrong():
        raise ValueError("no such kernel")

    def late():
        count["late"] += 1
        if count["late"] > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return {"seconds": 1.0}

    part = Part(None)
    found = gpu_speed.interleave(part, "nano", {"full": full, "wrong": wrong, "good": good, "late": late}, 4)
    assert found == {"good": {"seconds": [3.0, 4.0, 5.0, 6.0]}}
    assert part.left_out == ["nano, full: CUDA out of memory", "nano, late: CUDA out of memory"]
    assert part.failed == ["nano, wrong: no such kernel"]
    with pytest.raises(SystemExit) as ended:
        part.end()
    assert ended.value.code == 1
    capsys.readouterr()

    part = Part(None)

    def slow():
        part._end = time.monotonic() - 1
        return {"seconds": 1.0}

    assert gpu_speed.interleave(part, "nano", {"good": good}, 2)["good"].keys() == {"seconds"}
    assert gpu_speed.interleave(part, "nano", {"slow": slow, "good": good}, 2) == {}
    assert capsys.readouterr().out == (
        "left out: nano, good: no time is left\nleft out: nano, repeats 1 to 2: no time is left\n"
    )
    with pytest.raises(SystemExit) as ended:
        part.end()
    assert ended.value.code == 3


def test_a_gpu_is_asked_for():
    from gpu_part import require_device

    require_device("cpu")
    if torch.cuda.is_available():
        require_device("cuda")
        return
    with pytest.raises(InputError, match="finds no GPU here; --device cpu runs everything at toy size"):
        require_device("cuda")


@pytest.fixture
def parts(monkeypatch):
    """The program of all parts, with parts that end with an exit code."""
    import gpu

    def of(**code_of_part):
        found = {part: [sys.executable, "-c", code] for part, code in code_of_part.items()}
        monkeypatch.setattr(gpu, "PARTS", dict.fromkeys(found, 1.0))
        monkeypatch.setattr(gpu, "commands", lambda args: found)
        return gpu

    return of


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [("", "", None), ("", "3", 3), ("3", "1", 1), ("1", "", 1), ("2", "3", 1), ("3", "-9", 1)],
)
def test_exit_code_of_all_parts(tmp_path, parts, capsys, first, second, expected):
    ends = [
        "import os; os.kill(os.getpid(), 9)" if code == "-9" else f"import sys; sys.exit({code})"
        for code in (first, second)
    ]
    program = parts(gpu_tests=ends[0], gpu_speed=ends[1])
    if expected is None:
        program.main(["--device", "cpu"])
    else:
        with pytest.raises(SystemExit) as ended:
            program.main(["--device", "cpu"])
        assert ended.value.code == expected
    assert capsys.readouterr().out.splitlines()[-1].startswith("gpu_speed: ")
    assert summary(tmp_path / "results", "gpu")["figures"].keys() == {"seconds_gpu_tests", "seconds_gpu_speed"}


def test_a_part_that_takes_too_long_is_stopped(parts, monkeypatch, capsys):
    """It is killed when its time is over; one that would have none is not begun."""
    program = parts(gpu_tests="import time; time.sleep(600)", gpu_speed="print('begun', flush=True)")
    monkeypatch.setattr(program, "GRACE", 0.5)
    start = time.monotonic()
    with pytest.raises(SystemExit) as ended:
        program.main(["--device", "cpu", "--seconds", "2"])
    assert ended.value.code == 3
    assert 1.5 < time.monotonic() - start < 60
    out = capsys.readouterr().out
    assert "gpu_tests: stopped, as no time was left" in out and "gpu_speed: stopped, as no time was left" in out


def test_what_a_part_is_told(parts, tmp_path, monkeypatch):
    """The time that is left, less what it gets to write in; no network; what else is on the path stays there."""
    said = tmp_path / "said"
    code = f"""
import json, os, sys
import results, lbr_st
names = ("PYTHONPATH", "HF_HUB_OFFLINE")
json.dump([sys.argv[1:], *(os.environ[name] for name in names)], open({str(said)!r}, "w"))
"""
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "benchmarks"))
    program = parts(gpu_tests=code)
    program.main(["--device", "cpu", "--seconds", "100"])
    paths = f"{ROOT}{os.pathsep}{ROOT / 'benchmarks'}"
    assert json.loads(said.read_text()) == [["--seconds", f"{100 - program.GRACE}"], paths, "1"]


def test_weights_and_data_are_asked_for(capsys):
    """Without them the other parts run."""
    import argparse
    from pathlib import Path

    import gpu

    args = argparse.Namespace(device="cpu", weights=None, data=None)
    assert list(gpu.commands(args)) == ["gpu_tests", "gpu_speed"]
    assert "gpu_medical is not asked for: WEIGHTS=DIR DATA=DIR" in capsys.readouterr().out
    args.weights, args.data = Path("w"), Path("d")
    found = gpu.commands(args)["gpu_medical"]
    assert found[-4:] == ["--weights", str(Path("w").resolve()), "--data", str(Path("d").resolve())]


def test_commit_of_a_copy(monkeypatch, tmp_path):
    """Where git cannot say it, the environment does; where git can, it does not matter what that says."""
    import results

    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    monkeypatch.setenv("LBR_COMMIT", "abc123")
    if head:
        assert results.commit().startswith(head)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert results.commit() == "abc123, as LBR_COMMIT says"
    monkeypatch.delenv("LBR_COMMIT")
    assert results.commit() == "not a checkout"
    monkeypatch.undo()
    monkeypatch.setenv("LBR_COMMIT", "abc123")
    monkeypatch.setattr(results, "__file__", str(tmp_path / "benchmarks" / "results.py"))
    assert results.commit() == "abc123, as LBR_COMMIT says"


def test_tests_of_a_device(tmp_path, monkeypatch, capsys):
    """How each ended is in the result file; those after the end of the time are left out."""
    import gpu_tests
    import results

    tests = tmp_path / "tests" / "test_it.py"
    tests.parent.mkdir()
    tests.write_text(
        "import pytest, time\n"
        "def test_good(): pass\n"
        "def test_wrong(): assert 1 == 2, 'one is not two'\n"
        "def test_absent(): pytest.importorskip('no_such_package')\n"
        "@pytest.mark.gpu\ndef test_on_a_gpu(): raise AssertionError\n"
        "def test_long(): time.sleep(4)\n"
        "def test_late(): raise AssertionError\n"
    )
    (tmp_path / "pyproject.toml").write_text("[tool.pytest.ini_options]\nmarkers = ['gpu: needs a GPU']\n")
    monkeypatch.setattr(gpu_tests, "TESTS", tests)
    with pytest.raises(SystemExit) as ended:
        gpu_tests.main(["--device", "cpu", "--seconds", "4"])
    assert ended.value.code == 1
    found = results.read_arm("gpu_tests", "tests", 0)
    assert found["passed"] == ["test_good", "test_long"]
    assert found["failed"] == ["test_wrong: AssertionError: one is not two assert 1 == 2"]
    assert found["left_out"] == [
        "test_absent: could not import 'no_such_package': No module named 'no_such_package'",
        "test_late: no time is left",
    ]
    out = capsys.readouterr().out
    assert "left out: test_late: no time is left\nfailed: test_wrong: " in out
    broken = tests.with_name("test_broken.py")
    broken.write_text("import no_such_package\n")
    monkeypatch.setattr(gpu_tests, "TESTS", broken)
    with pytest.raises(SystemExit) as ended:
        gpu_tests.main(["--device", "cpu"])
    assert ended.value.code == 1
    assert "No module named 'no_such_package'" in results.read_arm("gpu_tests", "tests", 0)["failed"][0]
