"""Steps of a path are done once, go on after a kill, and are not mixed with those of another path."""

import json

import pytest

from lbr_st.adaptation.steps import Steps
from lbr_st.errors import InputError


def path(folder, *, fails=(), told=(1, 2), log=None):
    """Two steps, the second of which reads what the first left."""
    steps, log = Steps(folder, 2), [] if log is None else log

    def one(place):
        log.append("one")
        (place / "number").write_text(str(told[0]))
        return {"rows": 3}

    def two(place):
        log.append("two")
        if "two" in fails:
            (place / "half").write_text("left")
            raise OSError(28, "No space left on device")
        number = int((steps.done[0].folder / "number").read_text())
        (place / "sum").write_text(str(number + told[1]))
        return {"went_on": (place / "half").exists()}

    steps("one", "the first", {"told": told[0]}, one)
    steps("two", "the second", {"told": told[1]}, two)
    return steps


def test_steps_are_done_once(tmp_path):
    log = []
    assert [step.said for step in path(tmp_path, log=log).done] == [{"rows": 3}, {"went_on": False}]
    again = path(tmp_path, log=log)
    assert log == ["one", "two"]
    assert [(step.name, step.folder.name, step.said) for step in again.done] == [
        ("one", "1-one", {"rows": 3}), ("two", "2-two", {"went_on": False}),
    ]  # fmt: skip
    assert (tmp_path / "2-two" / "sum").read_text() == "3"


def test_a_step_that_was_cut_off_goes_on_where_it_was(tmp_path):
    log = []
    with pytest.raises(OSError, match="No space left"):
        path(tmp_path, fails=["two"], log=log)
    assert "said" not in json.loads((tmp_path / "2-two" / "lbr_step.json").read_text())
    assert path(tmp_path, log=log).done[1].said == {"went_on": True}
    assert log == ["one", "two", "two"]


def test_time_of_all_runs_is_counted(tmp_path, monkeypatch):
    clock = iter([0.0, 1.0, 10.0, 15.0, 20.0, 27.5])
    monkeypatch.setattr("lbr_st.adaptation.steps.time.perf_counter", lambda: next(clock))
    with pytest.raises(OSError, match="No space left"):
        path(tmp_path, fails=["two"])
    assert [step.seconds for step in path(tmp_path).done] == [1.0, 12.5]


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ((1, 5), "2-two was made with other settings .told: was 2, now 5.; remove it and the steps after it"),
        ((4, 2), "1-one was made with other settings .told: was 1, now 4."),
    ],
)
def test_other_settings_are_refused(tmp_path, told, message):
    path(tmp_path)
    with pytest.raises(InputError, match=message):
        path(tmp_path, told=told)


def test_what_decides_an_objective_is_named(tmp_path):
    """Nobody gave one: it follows from other flags."""
    Steps(tmp_path, 1)("learn", "stage 1", {"objective": "sft:0.4,doc2query:0.6"}, lambda folder: {})
    with pytest.raises(InputError, match="objective: was 'sft:0.4,doc2query:0.6', now None, by --learn or --skip, "):
        Steps(tmp_path, 1)("learn", "stage 1", {"objective": None}, lambda folder: {})


def test_other_contents_are_said_without_their_hashes(tmp_path):
    Steps(tmp_path, 1)("one", "the first", {"sources": ["a" * 64]}, lambda folder: {})
    with pytest.raises(InputError, match="made with other settings .sources: other contents than it had.; remove"):
        Steps(tmp_path, 1)("one", "the first", {"sources": ["b" * 64]}, lambda folder: {})


def test_what_a_kill_left_unfinished_goes(tmp_path):
    """A folder that was being written has the size of a model."""
    left = tmp_path / "1-one" / ".model-a1b2c3d4.unfinished"
    left.mkdir(parents=True)
    (tmp_path / "1-one" / "lbr_step.json").write_text('{"settings": {"told": 1}, "after": "", "seconds": 1}')
    path(tmp_path)
    assert not left.exists()


def test_a_step_that_left_nothing_may_be_told_something_else(tmp_path):
    """A mistyped name is found out in the middle of it, and the right one is no other path."""
    steps = Steps(tmp_path, 1)
    with pytest.raises(InputError, match="no such model"):
        steps("one", "the first", {"model": "typo"}, lambda folder: (_ for _ in ()).throw(InputError("no such model")))
    assert Steps(tmp_path, 1)("one", "the first", {"model": "right"}, lambda folder: {"rows": 1}).said == {"rows": 1}


def test_a_step_on_another_one_is_refused(tmp_path):
    """Its own settings are the same, what it stands on is not."""
    path(tmp_path)
    (tmp_path / "1-one" / "number").unlink()
    (tmp_path / "1-one" / "lbr_step.json").unlink()
    with pytest.raises(InputError, match="2-two was made with other settings .a step before it has other settings."):
        path(tmp_path, told=(9, 2))


@pytest.mark.parametrize(
    "content",
    [
        "{", "[]", '{"settings": {}}', '{"settings": [], "after": "", "seconds": 1}',
        '{"settings": {}, "after": 1, "seconds": 1}',
        '{"settings": {}, "after": "", "seconds": 1, "said": 1}', '{"settings": {}, "after": "", "seconds": "1"}',
    ],
)  # fmt: skip
def test_what_is_no_step(tmp_path, content):
    (tmp_path / "1-one").mkdir()
    (tmp_path / "1-one" / "lbr_step.json").write_text(content)
    with pytest.raises(InputError, match="lbr_step.json is damaged; remove .*1-one, and the step is done again"):
        path(tmp_path)
    (tmp_path / "1-one" / "lbr_step.json").rename(tmp_path / "1-one" / "mine.json")
    with pytest.raises(InputError, match="1-one is not empty and holds no step to go on with"):
        path(tmp_path)
    # A run that was killed while it made the file has left nothing else, and the step begins anew.
    (tmp_path / "1-one" / "mine.json").rename(tmp_path / "1-one" / ".lbr_step.json.unfinished")
    path(tmp_path)


@pytest.mark.parametrize(
    ("error", "last"),
    [
        (InputError("no"), "It was step 1 of 1, one; what was done before it is kept in {folder}"),
        (OSError("no"), "It was step 1 of 1, one; the same command goes on there"),
        (KeyboardInterrupt(), "It was step 1 of 1, one; the same command goes on there"),
    ],
)
def test_an_error_says_how_to_go_on(tmp_path, error, last):
    with pytest.raises(type(error)) as raised:
        Steps(tmp_path, 1)("one", "the first", {}, lambda folder: (_ for _ in ()).throw(error))
    assert raised.value.__notes__ == [last.format(folder=tmp_path)]


def test_what_a_stage_says_itself_names_no_flag_that_there_is_not(tmp_path):
    error = KeyboardInterrupt()
    error.add_note("the weights of step 3 are in out, and the same command with --resume goes on there")
    with pytest.raises(KeyboardInterrupt) as raised:
        Steps(tmp_path, 1)("one", "the first", {}, lambda folder: (_ for _ in ()).throw(error))
    assert raised.value.__notes__ == ["the weights of step 3 are in out, and the same command goes on there"]


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda file: file.unlink(), "number is gone"),
        (lambda file: file.write_text(""), "number has 0 bytes, where it had 1"),
    ],
)
def test_a_step_that_lost_files_is_not_gone_on_from(tmp_path, damage, why):
    path(tmp_path)
    (tmp_path / "1-one" / "more").touch()  # of somebody who looked into it
    path(tmp_path)
    damage(tmp_path / "1-one" / "number")
    with pytest.raises(InputError, match=f"1-one is damaged: {why}; remove the folder and the steps after it"):
        path(tmp_path)


def test_looking_at_steps_does_none(tmp_path):
    steps = Steps(tmp_path, 2)
    assert [steps.look("one", {"told": 1}), steps.look("two", {"told": 2})] == [False, False]
    assert not [*tmp_path.iterdir()]
    path(tmp_path)
    again = Steps(tmp_path, 2)
    assert [again.look("one", {"told": 1}), again.look("two", {"told": 2})] == [True, True]
    with pytest.raises(InputError, match="1-one was made with other settings"):
        Steps(tmp_path, 2).look("one", {"told": 5})
