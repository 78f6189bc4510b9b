"""Where a folder can be made, and where none can: said before any work, and nothing is left of the question."""

import errno
import os
import tempfile
from pathlib import Path

import pytest

from lbr_st.errors import InputError
from lbr_st.files import (
    alone_in,
    filling,
    read_json,
    replacing_folder,
    require_empty,
    require_new_file,
    require_place,
    write_text,
)


def links(folder):
    (folder / "file").write_text("a")
    (folder / "dangling").symlink_to(folder / "nowhere")
    (folder / "loop").symlink_to(folder / "loop")
    (folder / "to-file").symlink_to(folder / "file")
    os.mkfifo(folder / "pipe")


@pytest.mark.parametrize("below", ["", "/a/b"])
@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("file", "is a file; a folder is needed"),
        ("to-file", "is a file; a folder is needed"),
        ("pipe", "is a file; a folder is needed"),
        ("dangling", "is a link that leads nowhere; a folder is needed"),
        ("loop", "is a link that leads nowhere; a folder is needed"),
    ],
)
def test_places_where_no_folder_can_be(tmp_path, name, below, what):
    links(tmp_path)
    path = f"{tmp_path / name}{below}"
    where = f": {tmp_path / name} " if below else " "
    for require in (require_place, require_empty):
        with pytest.raises(InputError) as error:
            require(path)
        assert str(error.value) == f"--output-dir {path}{where}{what}"
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("x" * 300, "no folder can be made there: File name too long"),
        ("new/" + "x" * 300, "no folder can be made there: File name too long"),
        ("a\0b", "no folder can be made there: embedded null byte"),
        (os.fsdecode(b"x_\xe9"), "the path has bytes that are no UTF-8, which many libraries do not take"),
        (os.fsdecode(b"x_\xe9/out"), "the path has bytes that are no UTF-8, which many libraries do not take"),
    ],
)
def test_names_that_no_folder_can_have(tmp_path, name, what):
    with pytest.raises(InputError) as error:
        require_place(tmp_path / name, "--results-dir")
    assert str(error.value) == f"--results-dir {tmp_path / name}: {what}"
    assert not any(tmp_path.iterdir())


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a file system that makes no folders")
def test_a_file_system_that_makes_no_folders():
    with pytest.raises(InputError, match="^--output-dir /proc/x: (no folder can be made there|/proc cannot be)"):
        require_place("/proc/x")


def test_places_where_a_folder_can_be(tmp_path, monkeypatch):
    """Nothing is made, and what is there stays."""
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there")
    monkeypatch.chdir(tmp_path)
    for path in (tmp_path, "there", "link", "new", "new/deep/er", tmp_path / "link" / "in"):
        require_place(path)
    assert sorted(os.listdir()) == ["link", "there"] and not os.listdir("there")


@pytest.mark.parametrize("content", [b"[" * 100_000, b"{", b"\xff"], ids=["too deep", "no JSON", "no UTF-8"])
def test_what_is_no_json_is_one_kind_of_error(tmp_path, content):
    (tmp_path / "f.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"."):
        read_json(tmp_path / "f.json")


def test_a_disk_that_takes_nothing_is_said_of_the_file_that_was_to_be_written(tmp_path, monkeypatch):
    """Not of its hidden neighbour, which cannot even be taken away from a file system that is read-only."""

    def refuse(path, *args, **kwargs):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr("builtins.open", refuse)
    monkeypatch.setattr("pathlib.Path.unlink", refuse)
    with pytest.raises(OSError, match="Read-only") as error:
        write_text(tmp_path / "README.md", "text")
    assert error.value.filename == str(tmp_path / "README.md")
    for fill in (replacing_folder, lambda path: filling(path, last="a.json")):
        with pytest.raises(OSError, match="Read-only") as error, fill(tmp_path / "set") as folder:
            write_text(folder / "a.json", "{}")
        assert error.value.filename == str(tmp_path / "set" / "a.json")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("there", "--output .*there is there already; choose another file"),
        ("new/\0", "no file can be made there: .*embedded null"),
        ("x" * 250, "no file can be made there: File name too long"),
        ("there/new", "there is a file; a folder is needed"),
    ],
)
def test_a_file_that_cannot_be_made(tmp_path, name, message):
    (tmp_path / "there").write_text("")
    with pytest.raises(InputError, match=message):
        require_new_file(tmp_path / name, "--output")
    require_new_file(tmp_path / "new" / "file", "--output")
    assert [each.name for each in tmp_path.iterdir()] == ["there"]


def test_where_nothing_can_be_locked_work_is_saved(tmp_path, monkeypatch):
    """A disk without locks is no reason to lose it."""
    (tmp_path / "no-folder").write_text("")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "no-folder"))
    with alone_in(tmp_path / "out"):
        (tmp_path / "out").write_text("whole")
    assert (tmp_path / "out").read_text() == "whole"
