"""A run and its folder: how far it is, and which checkpoint it goes on from."""

import pytest

from lbr_st.errors import InputError
from lbr_st.training.resume import Run, State, last_whole_checkpoint

DESCRIPTION = {"arguments": {"a": 1}, "training_arguments": {"learning_rate": 0.01}}


@pytest.fixture
def run(tmp_path):
    return Run(tmp_path / "out", DESCRIPTION)


def checkpoint(run, step, state):
    folder = run.output_dir / "checkpoints" / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    (folder / "trainer_state.json").write_text(state)


def test_a_checkpoint_cut_off_by_a_kill_is_passed_over(run):
    for step, state in ((2, '{"global_step": 2}'), (10, '{"global_step": 10}'), (12, '{"glob'), (16, "{}"), (18, "[]")):
        checkpoint(run, step, state)
    (run.output_dir / "checkpoints" / "checkpoint-14").mkdir()
    assert last_whole_checkpoint(run.output_dir) == str(run.output_dir / "checkpoints" / "checkpoint-10")


def test_states_of_a_run(run):
    """From an empty folder to a finished model; what a killed save left unfinished is nothing."""
    assert run.open(resume=False) is State.NEW
    run.begin()
    (run.output_dir / ".filling-x.unfinished").mkdir()
    assert run.open(resume=False) is State.BEGUN
    checkpoint(run, 2, '{"global_step": 2}')
    with pytest.raises(InputError, match="is not empty; choose another, or add --resume to go on with the run in it"):
        run.open(resume=False)
    assert run.open(resume=True) is State.RUNNING
    (run.output_dir / "config.json").write_text("{}")
    assert run.open(resume=True) is State.FINISHED


def test_a_run_that_ended_before_it_was_written_down_is_begun_anew(run):
    """The trainer has made its folder, and the disk was full, or a kill came; with something in it, it is another's."""
    folder = run.output_dir / "checkpoints"
    folder.mkdir(parents=True)
    for resume in (False, True):
        assert run.open(resume) is State.BEGUN
    (folder / "epoch-3.pt").write_text("of another program")
    with pytest.raises(InputError, match="holds no run to go on with"):
        run.open(resume=True)


def test_a_run_that_was_only_begun_is_written_anew(run):
    run.begin()
    other = Run(run.output_dir, {"arguments": {"a": 2}})
    assert other.open(resume=False) is State.BEGUN
    other.begin()
    checkpoint(other, 2, '{"global_step": 2}')
    assert other.open(resume=True) is State.RUNNING
    run.begin()  # it has a checkpoint now: which run it is stays
    assert other.open(resume=True) is State.RUNNING


def test_another_run_is_refused_with_what_is_different(run):
    run.begin()
    checkpoint(run, 2, '{"global_step": 2}')
    other = Run(run.output_dir, {"arguments": {"a": 1, "b": 2}, "training_arguments": {"learning_rate": 0.02}})
    with pytest.raises(InputError, match=r"other settings \(b: was None, now 2; learning_rate: was 0.01, now 0.02\)"):
        other.open(resume=True)


def test_settings_alone_are_compared_before_the_data_are_read(run):
    run.begin()
    checkpoint(run, 2, '{"global_step": 2}')
    assert Run(run.output_dir, {"arguments": run.description["arguments"]}).open(resume=True) is State.RUNNING
    with pytest.raises(InputError, match="other settings .*b: was None, now 2"):
        Run(run.output_dir, {"arguments": run.description["arguments"] | {"b": 2}}).open(resume=True)


def test_files_of_something_else_are_refused(run):
    run.output_dir.mkdir()
    (run.output_dir / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match="is not empty; choose another, or add --resume"):
        run.open(resume=False)
    with pytest.raises(InputError, match="is not empty and holds no run to go on with"):
        run.open(resume=True)
    file = Run(run.output_dir / "thesis.tex", {})
    with pytest.raises(InputError, match="is a file"):
        file.open(resume=True)
