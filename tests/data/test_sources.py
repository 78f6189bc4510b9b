"""What is no file is said to be what it is."""

import os

import pytest
from helpers import values_in

from lbr_st.data.parts import Reading, parts_of
from lbr_st.data.rows import read_rows
from lbr_st.data.sources import check_is_there
from lbr_st.errors import InputError


def test_a_folder_is_named_with_what_reads_it(tmp_path):
    with pytest.raises(InputError, match=f"is a folder, a file is needed; lbr data prepare {tmp_path} --output-dir"):
        values_in(tmp_path)


def test_a_pipe_is_no_file(tmp_path):
    """A source is read more than once."""
    os.mkfifo(tmp_path / "pipe")
    os.symlink(tmp_path / "nowhere", tmp_path / "link")
    for source in (tmp_path / "pipe", "-"):
        for read in (lambda it: list(read_rows(it)), check_is_there, lambda it: parts_of(str(it), Reading())):
            with pytest.raises(InputError, match="a pipe or a device is not read.*; write it to a file"):
                read(source)
    with pytest.raises(InputError, match="link: is a link that leads nowhere"):
        check_is_there(tmp_path / "link")


def test_several_files_in_one_name(tmp_path, monkeypatch):
    """Joined by a comma, or as a pattern that no shell has seen."""
    monkeypatch.chdir(tmp_path)
    for name in ("a.jsonl", "b.jsonl"):
        (tmp_path / name).write_text("{}")
    for source in ("a.jsonl,b.jsonl", "*.jsonl", "[ab].jsonl"):
        with pytest.raises(InputError) as error:
            check_is_there(source)
        assert str(error.value) == (
            f"{source}: names several files, and one is read; lbr data prepare a.jsonl b.jsonl --output-dir SET makes "
            "one set of them, which is one source"
        )
    for source in ("a.jsonl,c.jsonl", "*.csv"):
        with pytest.raises(InputError, match="no such file$"):
            check_is_there(source)
