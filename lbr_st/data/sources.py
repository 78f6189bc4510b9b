"""What a user names as data: that it is there, and what it is where it is no file."""

from __future__ import annotations

import glob
import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from lbr_st.data.folders import holds_no_data
from lbr_st.data.kinds import check_kind
from lbr_st.errors import InputError
from lbr_st.records import is_hub_id

NO_FILE = "no such file"
MOST_SOURCES = 5  # that a message names


def make_a_set(path: str | Path) -> str:
    """Say what reads a folder, or text, where rows are needed."""
    return f"lbr data prepare {path} --output-dir SET makes a set of it"


def one_of_several(sources: Sequence[str | Path]) -> str:
    """Say what makes one source of several."""
    named = shlex.join(map(str, sources[:MOST_SOURCES])) + (" ..." if len(sources) > MOST_SOURCES else "")
    return f"lbr data prepare {named} --output-dir SET makes one set of them, which is one source"


def check_is_there(source: str | Path) -> None:
    """Refuse a source that is no id of a Hub dataset, nor a file of what its name says, before another one is read.

    Raises:
        InputError: With what it is.
    """
    if os.path.isdir(source) and (why := holds_no_data(Path(source))):  # with one slash it could be an id of the Hub
        raise InputError(f"{source}: {why}")
    if is_hub_id(source):
        return
    if not os.path.isfile(source):
        raise InputError(f"{source}: {what_it_is(source)}")
    check_kind(Path(source))


def check_is_file(path: str | Path, of: str, else_: str) -> None:
    """Refuse what is no file, of what is neither rows to train on nor text.

    Args:
        path: Path that a user gave.
        of: What the file is of, for people.
        else_: What to do where it is a folder.

    Raises:
        InputError: With what it is.
    """
    if os.path.isdir(path):
        raise InputError(f"{path}: is a folder, a file of {of} is needed; {else_}")
    if not os.path.isfile(path):
        raise InputError(f"{path}: {what_it_is(path)}")


def what_it_is(source: str | Path) -> str:
    """Say what a source is that is no file."""
    if os.path.isdir(source):
        return f"is a folder, a file is needed; {make_a_set(source)}"
    if str(source) == "-" or os.path.exists(source):  # /dev/stdin, <(...)
        return "a pipe or a device is not read, as a source is read more than once; write it to a file"
    several = str(source).split(",") if "," in str(source) else sorted(glob.glob(str(source)))
    if several and all(map(os.path.exists, several)):
        return f"names several files, and one is read; {one_of_several(several)}"
    return "is a link that leads nowhere" if os.path.islink(source) else NO_FILE
