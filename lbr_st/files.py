"""Writing whole or not at all, so that nothing half-written is ever taken for finished; hashes of what was read."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from lbr_st.errors import InputError

logger = logging.getLogger(__name__)

# What a name ends with until the file or folder is whole.
UNFINISHED = ".unfinished"


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Give a path to write a file to, which takes the place of ``path`` when it is whole; after an error nothing does.

    Yields:
        A hidden neighbour of ``path``, which readers of folders leave out; its name ends with `UNFINISHED`.
    """
    path = Path(path)
    unfinished = path.with_name(f".{path.name}{UNFINISHED}")
    try:
        yield unfinished
        with open(unfinished, "rb") as file:
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    except BaseException as error:
        with contextlib.suppress(OSError):  # of a disk that cannot be written to
            unfinished.unlink(missing_ok=True)
        _name(error, unfinished, path)
        raise


def _name(error: BaseException, unfinished: Path, path: Path) -> None:
    """Let an error of the system name what was to be written, not what that is called until it is whole."""
    if isinstance(error, OSError) and isinstance(error.filename, str):
        error.filename = error.filename.replace(str(unfinished), str(path))


@contextlib.contextmanager
def replacing_folder(path: str | Path) -> Iterator[Path]:
    """Give a folder to fill, which takes the place of ``path`` in one step when it is whole, or not at all.

    ``path`` is absent or empty, see `require_empty`; a folder with files that stay is what `filling` is for.

    Yields:
        A neighbour of ``path`` whose name ends with `UNFINISHED`.
    """
    path = Path(path)
    with parents_that_go(path.parent):
        folder = Path(tempfile.mkdtemp(prefix=f".{path.name}-", suffix=UNFINISHED, dir=path.parent))
        try:
            folder.chmod(0o777 & ~_umask())
            yield folder
            if path.is_dir():
                path.rmdir()
            os.replace(folder, path)
        except OSError as error:
            _name(error, folder, path)
            raise
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def remove_unfinished(folder: str | Path, name: str | None = None) -> None:
    """Remove what processes that were killed within `replacing_folder` have left; none must be at work there.

    Args:
        folder: Folder that they were to make one in.
        name: Name of that one; default is any.
    """
    own = "*" if name is None else glob.escape(name)
    for leftover in Path(folder).glob(f".{own}-????????{UNFINISHED}"):  # as long as tempfile makes it
        shutil.rmtree(leftover, ignore_errors=True)


@contextlib.contextmanager
def alone_in(folder: str | Path, waits: bool = False) -> Iterator[None]:
    """Let no other process of this user and machine, that asks for the same, work in a folder meanwhile.

    Where temporary files cannot be locked, all go on as if alone: no work is lost for want of a lock.

    Args:
        folder: The folder, which need not be there.
        waits: Whether to wait for one that is at work there.

    Raises:
        InputError: If one is, and it is not waited for.
    """
    # Beside other temporary files: what is in the folder, and beside it, is the user's.
    name = hashlib.sha256(str(Path(folder).resolve()).encode()).hexdigest()[:16]
    user = os.getuid() if hasattr(os, "getuid") else ""  # a container may know no name for it
    lock = FileLock(Path(tempfile.gettempdir()) / f"lbr-st-{user}-{name}.lock")
    try:
        lock.acquire(timeout=-1 if waits else 0)
    except Timeout as error:
        raise InputError(f"another process is at work in {folder}: wait for it, or choose another folder") from error
    except (OSError, NotImplementedError) as error:
        logger.debug("%s is not locked: %s", folder, error)
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def filling(path: str | Path, last: str, stale: Collection[str] = ()) -> Iterator[Path]:
    """Give a folder to make files in, which are then moved into ``path`` one by one, beside the others that are there.

    Args:
        path: Folder to move them to; made where it is not there.
        last: Name of the file that is moved last, and taken away first: without it nobody reads the folder.
        stale: Patterns of files of ``path`` that would be read together with the new ones, and go.

    Yields:
        A folder within ``path`` whose name ends with `UNFINISHED`. Those of earlier processes that were killed go.
    """
    path = Path(path)
    with alone_in(path, waits=True), parents_that_go(path):  # what is saved may be hours of work
        for leftover in path.glob(f".filling-*{UNFINISHED}"):
            shutil.rmtree(leftover)
        with tempfile.TemporaryDirectory(prefix=".filling-", suffix=UNFINISHED, dir=path) as name:
            folder = Path(name)
            try:
                yield folder
            except OSError as error:
                _name(error, folder, path)
                raise
            for old in (path / last, *(old for pattern in stale for old in path.glob(pattern))):
                old.unlink(missing_ok=True)
            files = [file.relative_to(folder) for file in folder.rglob("*") if file.is_file()]
            umask = _umask()
            for file in sorted(files, key=lambda file: (file == Path(last), file)):
                (path / file).parent.mkdir(parents=True, exist_ok=True)
                (folder / file).chmod(0o666 & ~umask)  # some writers make files that only their owner can read
                os.replace(folder / file, path / file)


@contextlib.contextmanager
def parents_that_go(folder: Path) -> Iterator[None]:
    """Make a folder; after an error those that were made for it, and are empty, go."""
    new = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            for each in new:
                each.rmdir()
        raise


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask


def require_place(path: str | Path, flag: str = "--output-dir") -> None:
    """Refuse a path where no folder is and none can be made, or one that cannot be written to; nothing is left there.

    Args:
        path: Folder, which may be absent.
        flag: Flag it was given with, for the message.

    Raises:
        InputError: If it is one.
    """
    path = Path(path)
    if re.search("[\ud800-\udfff]", os.path.abspath(path)):
        raise InputError(f"{flag} {path}: the path has bytes that are no UTF-8, which many libraries do not take")
    nearest = next(each for each in (path, *path.absolute().parents) if os.path.lexists(each))
    if not nearest.is_dir():
        what = "is a file" if os.path.exists(nearest) else "is a link that leads nowhere"
        raise InputError(f"{flag} {path}{'' if nearest == path else f': {nearest}'} {what}; a folder is needed")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise InputError(f"{flag} {path}: {nearest} cannot be written to")
    new = [each for each in (path, *path.parents) if not os.path.lexists(each)]
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:  # whatever a file system does not take
        why = getattr(error, "strerror", None) or error
        raise InputError(f"{flag} {path}: no folder can be made there: {why}") from error
    finally:
        for each in new:
            with contextlib.suppress(OSError, ValueError):
                each.rmdir()


def require_new_file(path: str | Path, flag: str) -> None:
    """Refuse a path where there is something, or where no file can be made.

    Args:
        path: File that is to be made.
        flag: Flag it was given with, for the message.

    Raises:
        InputError: If it is one.
    """
    path = Path(path)
    require_place(path.parent, flag)
    try:
        is_there = os.path.lexists(path)
        os.lstat(path.with_name(f".{path.name}{UNFINISHED}"))
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:  # whatever a file system does not take
        why = getattr(error, "strerror", None) or error
        raise InputError(f"{flag} {path}: no file can be made there: {why}") from error
    if is_there:
        raise InputError(f"{flag} {path} is there already; choose another file")


def require_empty(path: str | Path, flag: str = "--output-dir", but: Collection[str] = ()) -> None:
    """Refuse a folder that holds something; what a killed process left unfinished is nothing.

    Args:
        path: Folder, which may be absent.
        flag: Flag it was given with, for the message.
        but: Names of files that may be there.

    Raises:
        InputError: If it is a file or holds files, or no folder can be made there.
    """
    path = Path(path)
    require_place(path, flag)
    if path.is_dir() and any(each.suffix != UNFINISHED and each.name not in but for each in path.iterdir()):
        raise InputError(f"{flag} {path} is not empty; choose another folder")


def write_text(path: str | Path, text: str | Iterable[str]) -> None:
    """Write a text, or pieces of one, whole or not at all.

    Half a surrogate pair, as the name of a file may have, is written as JSON spells it: JSON reads it back.
    """
    options: dict[str, Any] = {"encoding": "utf-8", "errors": "backslashreplace", "newline": "\n"}
    with replacing(path) as unfinished, open(unfinished, "w", **options) as file:
        file.writelines([text] if isinstance(text, str) else text)


def read_json(path: str | Path) -> Any:
    """Read a JSON file.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is no UTF-8, no JSON, or nested too deep.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except RecursionError as error:
        raise ValueError("nested too deep") from error


def write_json(path: str | Path, value: Any) -> None:
    """Write a JSON file whole or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_jsonl(path: str | Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write a JSON Lines file whole or not at all."""
    write_text(path, (json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def file_sha256(path: str | Path) -> str:
    """Return the SHA-256 of one file, as ``sha256sum`` gives it."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256(paths: Iterable[str | Path]) -> str:
    """Return the SHA-256 of the files' contents in the order given, as 64 hex digits."""
    return hashlib.sha256(b"".join(bytes.fromhex(file_sha256(path)) for path in paths)).hexdigest()


def data_sha256(parts: Sequence[Sequence[Any]]) -> str:
    """Return the SHA-256 of what is read, lists of records or texts in the order given, as 64 hex digits."""
    digest = hashlib.sha256()
    for item in (item for part in parts for item in (f"{len(part)} of:", *part)):
        digest.update(json.dumps(item, sort_keys=True).encode())
    return digest.hexdigest()
