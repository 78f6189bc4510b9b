"""What of a folder is read, and what is not."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import NamedTuple

from lbr_st.data.account import Account
from lbr_st.errors import InputError, one_line
from lbr_st.model.recognising import CONFIG, is_model
from lbr_st.records import QUERIES_FILE, SET_FILE, TEXT, is_table, is_text_file

MOST_SUFFIXES = 12  # that are named
MOST_TABLES = 5  # the same
# What says that a folder is a set, queries, a step, a run of training, or a model with one of these beside it.
MADE = {SET_FILE, QUERIES_FILE, "lbr_step.json", "lbr_run.json", "modules.json", "adapter_config.json"}


class Below(NamedTuple):
    """What is below a folder.

    Attributes:
        files: The files, in the order of their names.
        hidden: Number of hidden files and folders, which are not looked into.
        made: Sets, runs and models, which are not looked into either.
        linked: Links to folders, nor these.
    """

    files: list[Path]
    hidden: int
    made: list[Path]
    linked: list[Path]


def text_files(folder: Path) -> list[Path]:
    """Return the text files below a folder, in the order of their names.

    Hidden ones are left out, and those of folders within it that this package made, and of models.

    Raises:
        InputError: If there is none, or the folder is a collection in the form of BEIR; with what to give instead.
    """
    if why := holds_no_data(folder):
        raise InputError(f"{folder}: {why}")
    below = files_below(folder).files
    if folder in (collections := collections_in(below)):
        corpus = next(file for file in tables_in(folder) if _stem(file) == "corpus")
        raise InputError(
            f"{folder} is a collection in the form of BEIR: give {corpus} itself, or make a set of it with lbr "
            f"data prepare {folder}"
        )
    found = [file for file in below if is_text_file(file)]
    if not found and collections:
        of_beir = ", ".join(map(str, collections[:MOST_TABLES]))
        raise InputError(
            f"{folder}: no text; in it the form of BEIR has {of_beir}: give that folder, lbr data prepare "
            f"{collections[0]} makes a set of it"
        )
    if not found:
        tables = [file for file in below if is_table(file)]
        named = [str(file.relative_to(folder)) for file in tables[:MOST_TABLES]]
        more = f" and {len(tables) - len(named):,} more" if len(tables) > len(named) else ""
        instead = f"; its tables are {', '.join(named)}{more}: one with texts can be given itself" if tables else ""
        if not tables and below:
            instead = f"; {below[0].relative_to(folder)} is there: name what is text .txt"
        raise InputError(f"{folder}: no text in files that end in {', '.join(sorted(TEXT))}{instead}")
    return found


def collections_in(files: Iterable[Path]) -> list[Path]:
    """Return the folders of files that are collections in the form of BEIR: with a corpus and queries."""
    stems: dict[Path, set[str]] = defaultdict(set)
    for file in files:
        if is_table(file) and _stem(file) in ("corpus", "queries"):
            stems[file.parent].add(_stem(file))
    return [folder for folder, found in stems.items() if len(found) > 1]


def tables_in(folder: Path) -> list[Path]:
    """Return the tables in a folder by their names, and none that is hidden, as what macOS writes beside each file."""
    files = (file for file in sorted(folder.iterdir()) if not file.name.startswith("."))
    return [file for file in files if file.is_file() and is_table(file)]


def holds_no_data(folder: Path) -> str | None:
    """Say what a folder is that is no data as it is: a model, or what `datasets` saved for itself; None for others."""
    if is_model(folder):
        return "is a model, where data are needed: name a file of texts, a folder of them, or a prepared set"
    load = f"datasets.load_from_disk({str(folder)!r})"
    if (folder / "dataset_dict.json").is_file():
        return f"is what save_to_disk of datasets wrote: {load}['train'].to_parquet('train.parquet') writes a split"
    if (folder / "state.json").is_file() and (folder / "dataset_info.json").is_file():
        return f"is what save_to_disk of datasets wrote: {load}.to_parquet('data.parquet') writes a file that is read"
    return None


def files_below(folder: Path) -> Below:
    """Look for what is below a folder."""
    found, hidden, made, linked = [], 0, list[Path](), list[Path]()

    def refuse(error: OSError) -> None:
        raise InputError(f"{error.filename}: cannot be looked into: {one_line(error)}") from error

    for place, folders, files in os.walk(folder, onerror=refuse):
        if Path(place) != folder and (MADE.intersection(files) or (CONFIG in files and is_model(Path(place)))):
            made.append(Path(place))
            folders.clear()
            continue
        hidden += sum(name.startswith(".") for name in (*folders, *files))
        folders[:] = [name for name in folders if not name.startswith(".")]
        linked += [Path(place, name) for name in folders if Path(place, name).is_symlink()]
        found += [Path(place, name) for name in files if not name.startswith(".")]
    files_found = sorted(found, key=lambda file: file.relative_to(folder).as_posix())
    return Below(files_found, hidden, sorted(made), sorted(linked))


def note_files(account: Account, folder: Path, read: Collection[Path]) -> None:
    """Note which files of a folder were read, and which were not, by suffix.

    Args:
        account: Takes the notes.
        folder: The folder.
        read: Those of its files that were read.
    """
    below, known = files_below(folder), set(read)
    others = [file for file in below.files if file not in known]
    account.note(f"of {len(below.files):,} files read ({_by_suffix(read)})", len(read))
    account.note(f"not read: {_by_suffix(others)}", len(others))
    collections = [each for each in collections_in(others) if each != folder]
    named = ", ".join(str(each.relative_to(folder)) for each in collections[:MOST_TABLES])
    account.note(f"in the form of BEIR, not read: {named}", len(collections))
    account.note("hidden, not looked into", below.hidden)
    made = ", ".join(str(each.relative_to(folder)) for each in below.made)
    account.note(f"made by lbr, or models, left aside: {made}", len(below.made))
    linked = ", ".join(str(each.relative_to(folder)) for each in below.linked)
    account.note(f"links to folders, not looked into: {linked}", len(below.linked))


def _stem(file: Path) -> str:
    return file.name.partition(".")[0]


def _by_suffix(files: Iterable[Path]) -> str:
    numbers = Counter(file.suffix.lower() or "without a suffix" for file in files)
    named = [f"{number:,} {suffix}" for suffix, number in numbers.most_common(MOST_SUFFIXES)]
    more = numbers.total() - sum(number for _, number in numbers.most_common(MOST_SUFFIXES))
    return ", ".join([*named, *([f"{more:,} others"] if more else [])])
