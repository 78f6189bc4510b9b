"""The output of ``lbr encode`` as what is searched: its vectors stay on disk, and texts that nobody asks for do too."""

from __future__ import annotations

import errno
import hashlib
import logging
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock
from sentence_transformers import SentenceTransformer
from tqdm.auto import tqdm

from lbr_st.errors import InputError, shortened
from lbr_st.files import replacing
from lbr_st.records import MANIFEST, Record
from lbr_st.use.runtimes import FLOAT32, TORCH
from lbr_st.use.shards import Manifest, naming_damage, part
from lbr_st.use.vectors import Vectors, unit

logger = logging.getLogger(__name__)

# What a folder says that is not ours to write to, or whose file system has no locks.
NOT_WRITABLE = (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
LOCK = ".vectors.lock"
EXCERPT = 60  # characters of a text that an error names


@dataclass(frozen=True)
class Encoded:
    """A folder that ``lbr encode`` wrote, as a run left it.

    Attributes:
        folder: The folder.
        manifest: What it is made of.
    """

    folder: Path
    manifest: Manifest

    @classmethod
    def open(cls, folder: str | Path, model: str) -> Encoded:
        """Open a folder whose vectors are those that a model gives to documents.

        Args:
            folder: The folder.
            model: Directory or Hub id of the model.

        Raises:
            InputError: If the run is not finished, or was of queries or of another model.
        """
        manifest = Manifest.open(Path(folder))
        job = manifest.origin["job"]
        if not manifest.finished:
            raise InputError(f"{folder}: lbr encode has not finished it; the same command goes on")
        if absent := manifest.missing():
            others = f" and {len(absent) - 1} others" if len(absent) > 1 else ""
            raise InputError(
                f"{folder} lacks {part(Path(folder), absent[0]).name}{others}, which lbr encode wrote: copy it again, "
                "or encode in another folder"
            )
        if job["role"] != "document":
            raise InputError(f"{folder} holds vectors of queries; encode documents, with --role document")
        if not manifest.is_of(model):
            raise InputError(f"{folder} was encoded with another model, {job['model']}; encode it with {model}")
        return cls(Path(folder), manifest)

    def __len__(self) -> int:
        return self.manifest.rows

    @property
    def kind(self) -> str:
        """What its vectors are other than float32: ``int8``, ``bfloat16-int8``; nothing where they are float32."""
        job = self.manifest.origin["job"]
        parts = (job["runtime"], self.manifest.dtype, job["precision"])
        return "-".join(each for each in parts if each and each not in (TORCH, FLOAT32))

    def require_texts(self, what: str) -> None:
        """Refuse a folder without texts.

        Args:
            what: What needs them, for the message.

        Raises:
            InputError: If the run kept none.
        """
        if not self.manifest.origin["job"]["with_text"]:
            raise InputError(f"{what} needs the texts, and {self.folder} has none: run lbr encode with --with-text")

    def texts(self, what: str) -> list[str]:
        """Return the texts of all passages.

        Args:
            what: What needs them, for the message.

        Raises:
            InputError: If the run kept none, or a file is damaged.
        """
        self.require_texts(what)
        return list(self._texts())

    def columns(self) -> tuple[Column, Column | None]:
        """Return the ids and the texts of all passages; None where no texts were kept.

        Raises:
            InputError: If a file is damaged.
        """
        table = pa.concat_tables(self._table(shard, self._columns) for shard in self.manifest.done)
        return Column(table["id"]), Column(table["document"]) if "document" in self._columns else None

    def records(self, rows: Iterable[int]) -> dict[int, Record]:
        """Return passages by their rows, with ``id`` and, where it was kept, ``document``; other files are not read.

        Raises:
            InputError: If a file is damaged.
        """
        of_shards, shard_rows = defaultdict(list), self.manifest.origin["job"]["shard_rows"]
        for row in sorted(set(rows)):
            of_shards[row // shard_rows].append(row)
        found: dict[int, Record] = {}
        for shard, those in of_shards.items():
            table = self._table(shard, self._columns).take([row % shard_rows for row in those])
            found |= zip(those, table.to_pylist(), strict=True)
        return found

    def rows_of(self, texts: Iterable[str]) -> dict[str, int]:
        """Return the row of each text, by the text without the white space around it: mteb takes that away.

        Raises:
            InputError: If no texts were kept, one of these is not there, or a file is damaged.
        """
        self.require_texts("--vectors")
        found: dict[str, int | None] = dict.fromkeys(map(str.strip, texts))
        for row, text in enumerate(map(str.strip, self._texts())):
            if text in found and found[text] is None:
                found[text] = row
        if absent := [text for text, row in found.items() if row is None]:
            raise InputError(
                f"--vectors {self.folder}: {len(absent):,} of {len(found):,} documents are not in it, such as "
                f"{shortened(absent[0], EXCERPT)!r}; encode all that is searched"
            )
        return {text: row for text, row in found.items() if row is not None}

    def vectors(self, model: SentenceTransformer) -> Vectors:
        """Return the vectors, mapped from one file of numpy: Parquet is compressed, and cannot be mapped.

        In a folder that cannot be written to the file is made anew each time, where temporary files are.

        Raises:
            InputError: If a file is damaged, or the vectors of the model have another number of dimensions.
            OSError: If the disk has no room for the file, at the first time.
        """
        about = [
            model.similarity_fn_name,
            *((f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in self.manifest.files),
        ]
        file = self.folder / f".vectors-{hashlib.sha256(repr(about).encode()).hexdigest()[:16]}.npy"
        if not file.is_file():
            try:
                with FileLock(self.folder / LOCK):  # of two first searches one waits for the file of the other
                    if not file.is_file():
                        with replacing(file) as unfinished:
                            self._write(unfinished, model)
            except OSError as error:
                if error.errno not in NOT_WRITABLE:
                    raise
                return self._opened(self._mapped_elsewhere(model, error), model)
            for old in self.folder.glob(".vectors-*.npy"):
                if old != file:
                    old.unlink()
        return self._opened(np.load(file, mmap_mode="r"), model)

    def _mapped_elsewhere(self, model: SentenceTransformer, error: OSError) -> Any:
        """Map the vectors from a temporary file, which is gone by name at once, and from the disk with the mapping."""
        said, place = error.strerror, tempfile.gettempdir()
        logger.warning("%s cannot be written to (%s): its vectors are laid out in %s", self.folder, said, place)
        with tempfile.TemporaryDirectory(prefix="lbr-vectors-") as folder:
            file = Path(folder) / "vectors.npy"
            self._write(file, model)
            return np.load(file, mmap_mode="r")

    def _opened(self, array: Any, model: SentenceTransformer) -> Vectors:
        numbers, job = array.shape[1], self.manifest.origin["job"]
        is_binary = job["precision"] == "binary"
        dimensions = model.get_embedding_dimension() or numbers * (8 if is_binary else 1)
        if numbers != (-(-dimensions // 8) if is_binary else dimensions):
            has = f"at most {8 * numbers}" if is_binary else numbers
            hint = f": give --dimensions {job['dimensions']}" if job["dimensions"] else ""
            raise InputError(f"{self.folder} has vectors of {has} dimensions, and the model gives {dimensions}{hint}")
        if job["precision"] != "int8":
            return Vectors(array, dimensions)
        with naming_damage(self.folder / MANIFEST):
            ranges = np.asarray(self.manifest.ranges, np.float32)
            if ranges.shape != (2, dimensions):
                raise ValueError("its ranges are not those of its vectors")
        return Vectors(array, dimensions, ranges)

    def _write(self, file: Path, model: SentenceTransformer) -> None:
        mapped, start = None, 0
        for shard in tqdm(self.manifest.done, "Mapping", unit="files"):
            numbers = self._numbers(shard)
            if mapped is None:
                shape = (self.manifest.rows, numbers.shape[1])
                mapped = np.lib.format.open_memmap(file, mode="w+", dtype=numbers.dtype, shape=shape)
            if numbers.dtype.kind == "f":
                numbers = unit(numbers.astype(np.float32), model)
            mapped[start : start + len(numbers)] = numbers
            start += len(numbers)
            del numbers  # before those of the next file are read
        assert mapped is not None and start == self.manifest.rows
        mapped.flush()

    def _numbers(self, shard: int) -> Any:
        column = self._table(shard, ["embedding"])["embedding"].combine_chunks()
        with naming_damage(part(self.folder, shard)):
            numbers = column.flatten().to_numpy().reshape(len(column), -1)
            if not np.isfinite(numbers).all():
                raise ValueError("a number in it is none")
        return numbers

    @property
    def _columns(self) -> list[str]:
        return ["id", "document"] if self.manifest.origin["job"]["with_text"] else ["id"]

    def _texts(self) -> Iterator[str]:
        for shard in self.manifest.done:
            yield from self._table(shard, ["document"])["document"].to_pylist()

    def _table(self, shard: int, columns: list[str]) -> pa.Table:
        """Read columns of a file, which has the rows that the manifest says, none of them without a value."""
        with naming_damage(part(self.folder, shard)):
            table = pq.read_table(part(self.folder, shard), columns=columns)
            table.validate(full=True)
            if table.num_rows != self.manifest.rows_of(shard):
                raise ValueError(f"{table.num_rows} rows, not {self.manifest.rows_of(shard)}")
            if any(column.null_count for column in table.columns):
                raise ValueError("a value is absent")
        return table


class Column(Sequence[str]):
    """A column of texts, as Arrow holds it."""

    def __init__(self, column: Any) -> None:
        self.column = column

    def __len__(self) -> int:
        return len(self.column)

    def __getitem__(self, at: Any) -> Any:
        return self.column[at].as_py()

    def __iter__(self) -> Iterator[str]:
        return (each for chunk in self.column.chunks for each in chunk.to_pylist())
