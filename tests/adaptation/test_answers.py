"""Answers on disk: a run goes on with its own, and with no other's."""

import pytest

from lbr_st.adaptation.answers import Answers
from lbr_st.adaptation.query_text import Answer
from lbr_st.errors import InputError

SETTINGS = {"model": "m", "model_sha256": "0", "kinds": ["question"], "seed": 3, "passages_sha256": "1"}
FIRST, SECOND = ("a", "question", 1), ("b\u2028", "claim", 2)


@pytest.fixture
def folder(tmp_path):
    """Two answers of a run."""
    answers = Answers(tmp_path / "work", SETTINGS)
    with answers.open():
        answers.add(FIRST, Answer("How\nis it? ü"))
        answers.add(SECOND, Answer("cut", ended=False))
    return tmp_path / "work"


def test_what_was_added_is_there_again(folder):
    answers = Answers(folder, SETTINGS)
    assert len(answers) == 2 and FIRST in answers and ("a", "question", 2) not in answers
    assert answers[FIRST] == Answer("How\nis it? ü", True, "") and answers[SECOND] == Answer("cut", False, "")


def test_an_answer_is_on_disk_at_once(tmp_path):
    answers = Answers(tmp_path / "work", SETTINGS)
    with answers.open():
        answers.add(FIRST, Answer("one"))
        assert Answers(tmp_path / "work", SETTINGS)[FIRST] == Answer("one")


def test_a_torn_last_line_goes(folder):
    """And what is added then begins a line of its own."""
    file = folder / "answers.jsonl"
    whole = file.read_bytes()
    file.write_bytes(whole[:-4])
    answers = Answers(folder, SETTINGS)
    assert len(answers) == 1 and SECOND not in answers
    with answers.open():
        answers.add(SECOND, Answer("cut", ended=False))
    assert file.read_bytes() == whole


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("seed", 4, "holds 2 answers of a run that was begun with --seed 3, now it is 4; go on with what it was"),
        ("kinds", ["question", "claim"], "with --kinds question, now it is question claim"),
        ("model_sha256", "9", "begun with another model by that name"),
        ("passages_sha256", "9", "begun with data that have changed since"),
    ],
)
def test_another_run_is_refused_by_name(folder, name, value, said):
    with pytest.raises(InputError, match=said):
        Answers(folder, SETTINGS | {name: value})


def test_a_run_without_an_answer_is_nobodys(tmp_path):
    answers = Answers(tmp_path / "work", SETTINGS)
    with pytest.raises(ZeroDivisionError), answers.open():
        assert (tmp_path / "work").is_dir()
        raise ZeroDivisionError
    assert not (tmp_path / "work").exists()
    with answers.open():
        (tmp_path / "work" / "answers.jsonl").write_bytes(b'{"torn')
        assert len(Answers(tmp_path / "work", SETTINGS | {"seed": 4})) == 0


def test_what_is_not_ours_is_refused(folder, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file is a file"):
        Answers(tmp_path / "file", SETTINGS)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("")
    with pytest.raises(InputError, match="mine holds other files"):
        Answers(tmp_path / "mine", SETTINGS)
    (folder / "answers.jsonl").write_bytes(b"[]\n")
    with pytest.raises(InputError, match="answers.jsonl, line 1: no answer"):
        Answers(folder, SETTINGS)
    (folder / "answers.jsonl").unlink()
    (folder / "_manifest.json").write_text("{")
    with pytest.raises(InputError, match="is not what lbr data queries wrote"):
        Answers(folder, SETTINGS)
