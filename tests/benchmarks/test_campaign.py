"""The campaign of faults: that its faults happen, that it sees what is lost, and all its arms at toy size."""

import errno
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from helpers import ROOT, make_backbone
from sentence_transformers import SentenceTransformer

import lbr_st
from lbr_st.errors import InputError
from lbr_st.files import write_json, write_text


@pytest.fixture
def setting(tmp_path):
    from cases import Setting

    (tmp_path / "work").mkdir()
    return Setting("kills", tmp_path / "work")


def test_a_child_gives_a_value_an_error_or_a_signal(tmp_path):
    from children import Child, TookTooLong

    assert Child(lambda: {"one": [1, None]}).wait()[:3] == ({"one": [1, None]}, None, 0)
    assert Child(lambda: int("x")).wait().error.startswith("ValueError: invalid literal")
    assert Child(lambda: sys.exit(3)).wait().error == "SystemExit: 3"
    assert Child(lambda: os.kill(os.getpid(), signal.SIGTERM)).wait().signal == signal.SIGTERM
    assert Child(lambda: "x" * 200_000).wait().value == "x" * 200_000  # more than a pipe holds
    assert not Child(lambda: "done").kill_after(30).was_killed
    begun = time.perf_counter()
    assert Child(lambda: time.sleep(60)).kill_after(0.1).was_killed
    with pytest.raises(TookTooLong, match="did not end within 0 seconds"):
        Child(lambda: time.sleep(60)).wait(0.1)
    assert time.perf_counter() - begun < 20


def test_work_here_is_interrupted():
    from children import TookTooLong, within

    with pytest.raises(TookTooLong), within(0.05):
        time.sleep(60)
    with within(0.2):
        pass
    time.sleep(0.3)


def write_some(folder):
    """Change files in every way that is looked for."""
    write_text(folder / "text.txt", "five\n")
    torch.save({"a": 1}, folder / "native.pt")
    (folder / "sub").mkdir()
    with open(folder / "sub" / "more.txt", "w") as file:
        file.write("a")
    os.rename(folder / "sub" / "more.txt", folder / "sub" / "other.txt")
    __import__("shutil").rmtree(folder / "sub")
    (folder / "absent").unlink(missing_ok=True)
    (folder.parent / "beside.txt").write_text("is below another folder")
    (folder / "text.txt").read_text()


MOMENTS = [
    "open", "write", "fsync", "rename", "native", "mkdir", "open", "write", "rename", "remove", "remove", "remove",
]  # fmt: skip


def faulty(folder, fault=None):
    """Return how `write_some` ended with a fault."""
    from children import Child
    from faults import watch

    folder.mkdir()

    def work():
        moments = watch(folder, fault)
        write_some(folder)
        return moments.seen

    return Child(work).wait()


def test_moments(tmp_path):
    assert faulty(tmp_path / "some").value == MOMENTS
    assert (tmp_path / "some" / "text.txt").read_text() == "five\n"


@pytest.mark.parametrize(
    ("place", "left"),
    [
        (0, []),
        (1, [".text.txt.unfinished"]),
        (3, [".text.txt.unfinished"]),
        (4, ["native.pt", "text.txt"]),
        (8, ["native.pt", "sub/more.txt", "text.txt"]),
        (11, ["native.pt", "text.txt"]),
    ],
)
def test_a_kill_at_a_moment(tmp_path, place, left):
    """What came before it is there, what was written at it in part, and nothing cleans up."""
    from faults import Fault

    folder = tmp_path / "some"
    assert faulty(folder, Fault(place, share=0.5)).was_killed
    files = sorted(each.relative_to(folder).as_posix() for each in folder.rglob("*") if each.is_file())
    assert files == left
    if place == 1:
        assert (folder / ".text.txt.unfinished").read_text() == "fi"
    if place == 4:
        whole = tmp_path / "whole"
        torch.save({"a": 1}, whole)
        assert 0 < (folder / "native.pt").stat().st_size < whole.stat().st_size


def test_a_disk_that_is_full_for_a_while_and_for_good(tmp_path):
    from faults import full_disk, read_only

    once = faulty(tmp_path / "once", full_disk(1, 0.5, lasting=False))
    assert once.error.startswith("OSError: [Errno 28] No space left on device")
    assert not [*(tmp_path / "once").glob("*.txt"), *(tmp_path / "once").glob("*.unfinished")]  # what removes, removes
    lasting = faulty(tmp_path / "lasting", read_only(1, 0.5, errno.EROFS))
    assert lasting.error.startswith("OSError: [Errno 30] Read-only file system")
    assert (tmp_path / "lasting" / ".text.txt.unfinished").exists()
    assert faulty(tmp_path / "denied", read_only(0, 0, errno.EACCES)).error.startswith("PermissionError")


def test_a_limit_stops_whoever_writes(tmp_path):
    from children import Child
    from faults import full_at

    def write(size):
        full_at(size)
        lbr_st.from_backbone(make_backbone(tmp_path / f"{size}"), max_seq_length=24)

    assert Child(lambda: write(10**9)).wait().error is None
    assert "File too large" in Child(lambda: write(1000)).wait().error


def test_cases_are_written_down_as_they_are_done(tmp_path):
    """A line that a kill cut off is run again, a file of other settings is refused, and so is a second writer."""
    from cases import Journal

    path, settings = tmp_path / "kills.jsonl", {"share": 0.1}
    journal = Journal(path, settings)
    with journal.writing() as file:
        journal.add(file, {"case": 0, "why": "ä"})
        with pytest.raises(InputError, match="another process works on"), Journal(path, settings).writing():
            pass
    with open(path, "a") as file:
        file.write('{"case": 1, "wh')
    again = Journal(path, settings)
    assert again.cases == {0: {"case": 0, "why": "ä"}}
    with again.writing() as file:
        again.add(file, {"case": 1})
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        settings,
        *Journal(path, settings).cases.values(),
    ]
    assert [*Journal(path, settings).cases] == [0, 1]
    with pytest.raises(InputError, match="was begun with {'share': 0.1}, now it is {'share': 1}; move it away"):
        Journal(path, {"share": 1})


def careless(folder):
    """A run that gives files their names before they are whole, and looks at the names alone when it goes on."""
    output = folder / "out"
    output.mkdir(exist_ok=True)
    for name in ("one.json", "two.json"):
        if not (output / name).exists():
            with open(output / name, "w") as file:
                file.write("[1, ")
                file.flush()
                file.write("2]")


def careful(folder):
    """The same, whole or not at all."""
    (folder / "out").mkdir(exist_ok=True)
    for name in ("one.json", "two.json"):
        write_json(folder / "out" / name, [1, 2])


@pytest.mark.parametrize(
    "arm",
    [
        *(pytest.param(arm, marks=pytest.mark.slow) for arm in ("kill", "fail_where_nothing_is_written")),
        "fail_on_a_full_disk",
    ],
)
def test_what_is_lost_is_seen(setting, monkeypatch, arm):
    """Of a careless run some cases fail, of a careful one none."""
    import interruptions
    from restarts import Run

    def failed(start):
        def run(*args):
            return {"toy": Run("toy", start, lambda output: (output / "two.json").exists(), "*.json")}

        monkeypatch.setattr(interruptions, "HOW_OFTEN", {"toy": 1})
        monkeypatch.setattr(interruptions, "runs_of", run)
        monkeypatch.setattr(interruptions, "Material", lambda folder: None)
        cases = [getattr(interruptions.Interrupted(setting), arm)(number) for number in range(12)]
        return [case for case in cases if not case["ok"]]

    wrong = failed(careless)
    assert wrong and all("is not" in case["why"] for case in wrong)
    assert failed(careful) == []


def test_difference_of_outputs():
    from restarts import difference

    assert difference({"a": "1"}, {"a": "1"}) is None
    assert difference({}, {"a": "1"}) == "a is not there"
    assert difference({"a": "1", "b": "2"}, {"a": "1"}) == "b is there, which an uninterrupted run does not leave"
    assert difference({"a": "2"}, {"a": "1"}) == "a is not that of an uninterrupted run"


@pytest.fixture(scope="module")
def saved_model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("damaged")
    model = lbr_st.from_backbone(make_backbone(folder / "backbone"), num_bottleneck_tokens=2, max_seq_length=24)
    lbr_st.save(model, folder / "model")
    return folder / "model"


def test_damages_change_one_place(saved_model, tmp_path):
    import shutil

    from damages import damage, files_of

    before = {file.relative_to(saved_model): file.read_bytes() for file in files_of(saved_model)}
    said = []
    for number in range(60):
        copy = tmp_path / f"{number}"
        shutil.copytree(saved_model, copy)
        said.append(damage(copy, random.Random(number)))
        after = {file.relative_to(copy): file.read_bytes() for file in files_of(copy)}
        changed = [name for name in before.keys() | after.keys() if before.get(name) != after.get(name)]
        assert len(changed) <= 1 and all(said[-1].startswith(f"{name}:") for name in changed), said[-1]
    kinds = {each.partition(": ")[2].split()[0] for each in said}
    assert {"bit", "byte", "lost", "more", "cut"} <= kinds and len(set(said)) > 50


def test_a_damage_is_judged_by_its_vectors(saved_model, tmp_path, monkeypatch):
    """One that `verify` lets through is no harm only where the vectors are the same."""
    import shutil

    import damaged_models as program

    expected = program.vectors_of(saved_model, ["one", "two words"])
    assert program.examine(saved_model, ["one", "two words"], expected) == {"harmless": "the same vectors"}
    copy = tmp_path / "copy"
    shutil.copytree(saved_model, copy)
    config = json.loads((copy / "config.json").read_text())
    write_json(copy / "config.json", config | {"rms_norm_eps": 0.1})
    assert "lbr_reference.json" in program.examine(copy, ["one"], expected)["refused"]
    monkeypatch.setattr(program, "verify", lambda *args, **kwargs: [])
    found = program.examine(copy, ["one", "two words"], expected)
    assert "gives another vector of" in found["wrong"]
    (copy / "config.json").write_text("{}")
    assert "does not open" in program.examine(copy, ["one"], expected)["wrong"]


def test_a_moved_read_out_is_seen(saved_model, monkeypatch):
    import readings

    model = SentenceTransformer(str(saved_model), device="cpu")
    ids = lbr_st.load(str(saved_model))[0].bottleneck_token_ids
    assert readings.misread(model, ids, ["one", ""]) == []
    read = type(model).preprocess

    def lose_the_last(self, inputs, **kwargs):
        batch = read(self, inputs, **kwargs)
        batch["attention_mask"][:, -1] = 0
        return batch

    monkeypatch.setattr(SentenceTransformer, "preprocess", lose_the_last)
    assert any("the read-out of 'one' is moved" in each for each in readings.misread(model, ids, ["one", "one"]))
    monkeypatch.undo()
    encode = SentenceTransformer.encode
    monkeypatch.setattr(SentenceTransformer, "encode", lambda *args, **kwargs: 2 * encode(*args, **kwargs))
    length = re.search(r"has length ([\d.]+)", readings.misread(model, ids, ["one"])[0])
    assert float(length[1]) == pytest.approx(2, abs=1e-4)


def test_hostile_texts_are_texts_and_the_same_ones():
    from hostile_texts import hostile_text

    texts = [hostile_text(random.Random(7)) for _ in range(2)]
    assert texts[0] == texts[1]
    rng = random.Random(0)
    texts = [hostile_text(rng) for _ in range(2000)]
    assert all(text.encode() for text in texts if text)
    assert "" in texts and any("<|bottleneck 0|>" in text for text in texts) and len(set(texts)) > 1500


FIGURES = {
    "kills_survived", "kills_on_ray", "full_disk_survived", "read_only_survived", "hostile_texts_moved",
    "damaged_models_passed_or_crashed", "same_vector_largest_float32", "soak_memory_ratio", "minutes_soak",
}  # fmt: skip


@pytest.mark.slow
def test_program_of_the_campaign(tmp_path, monkeypatch, capsys):
    """Every arm, in one process here; what was run is not run again; other settings are refused."""
    import campaign
    import results

    monkeypatch.setattr(campaign, "run_worker", campaign.work)
    argv = ["--work-dir", str(tmp_path / "work"), "--share", "0.002"]
    campaign.main(argv)
    summary = json.loads((tmp_path / "results" / "campaign" / "summary.json").read_text())
    figures = summary["figures"]
    assert figures.keys() >= FIGURES
    assert (figures["kills_survived"], figures["kills"], figures["hostile_texts"]) == (2, 2, 200)
    assert "kills: 2 of 2, 0 failed" in capsys.readouterr().out
    assert results.read_arm("campaign", "kills", 0)["settings"] == {"arm": "kills", "seed": 0, "share": 0.002}
    monkeypatch.setattr(campaign, "run_worker", lambda setting: pytest.fail("ran again"))
    campaign.main([*argv, "--arms", "kills"])
    with pytest.raises(InputError, match="measured with other settings"):
        campaign.main([*argv[:2], "--share", "0.004", "--arms", "kills"])


def test_a_failed_case_is_kept_and_told(tmp_path, monkeypatch, capsys):
    """The exit code says it, the result file has it, and the other cases are run."""
    import campaign
    import results

    def case(number):
        return {"ok": number != 1, "why": None if number != 1 else "one.json is not there", "run": "toy", "kills": 1}

    arm = campaign.ARMS["kills"]._replace(cases=3, open=lambda setting: case)
    monkeypatch.setitem(campaign.ARMS, "kills", arm)
    monkeypatch.setattr(campaign, "run_worker", campaign.work)
    with pytest.raises(SystemExit) as stop:
        campaign.main(["--work-dir", str(tmp_path / "work"), "--arms", "kills"])
    assert stop.value.code == 1
    found = results.read_arm("campaign", "kills", 0)
    assert (found["cases"], found["failed"], found["figures"]["kills_survived"]) == (3, 1, 2)
    assert found["first_failed"][0]["why"] == "one.json is not there"
    assert "kills, case 1: one.json is not there" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize(
    "arm", ["kills", "full_disk", "read_only", "hostile_texts", "damaged_models", "same_vector", "soak"]
)
def test_a_tenth_of_the_campaign(tmp_path, monkeypatch, arm):
    """As it is started by its users, and killed once itself."""
    import campaign

    argv = ["--work-dir", str(tmp_path / "work"), "--share", "0.1", "--arms", arm]
    command = [sys.executable, str(ROOT / "benchmarks" / "campaign.py"), "--worker", arm, *argv[:4]]
    env = os.environ | campaign.ONE_THREAD | {"PYTHONPATH": str(ROOT)}
    journal = Path(tmp_path / "work" / f"{arm}.jsonl")
    with subprocess.Popen(command, env=env) as process:
        while process.poll() is None and not (journal.is_file() and len(journal.read_text().splitlines()) > 1):
            time.sleep(0.05)
        process.kill()
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    campaign.main(argv)
    figures = json.loads((tmp_path / "results" / "campaign" / "summary.json").read_text())["figures"]
    expected = {"kills": 100, "full_disk_writes": 20, "read_only_writes": 20, "hostile_texts": 10_000}
    expected |= {"damaged_models": 200, "same_vector": 1000}
    assert all(figures[name] == number for name, number in expected.items() if name in figures)
