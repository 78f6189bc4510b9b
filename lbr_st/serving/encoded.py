"""What is searched: the output of ``lbr encode``, whose vectors stay on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from sentence_transformers import SentenceTransformer

from lbr_st.errors import InputError
from lbr_st.files import replacing
from lbr_st.model.contract import fingerprint
from lbr_st.serving.passages import Passages, unit
from lbr_st.use.shards import Manifest, naming_damage

FLOATS = ("float32", "float16")


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
            InputError: If the run is not finished, or was of queries, of another model, or in whole numbers.
        """
        manifest = Manifest.open(Path(folder))
        job = manifest.origin["job"]
        if not manifest.finished or manifest.missing():
            raise InputError(f"{folder}: lbr encode has not finished it; the same command goes on")
        if job["role"] != "document":
            raise InputError(f"{folder} holds vectors of queries; encode documents, with --role document")
        if job["precision"] not in FLOATS:
            raise InputError(
                f"{folder} holds {job['precision']} vectors; encode with --precision {' or '.join(FLOATS)} to search"
            )
        is_folder = Path(model).is_dir()
        if (fingerprint(model) if is_folder else model) != (
            manifest.origin["model_sha256"] if is_folder else job["model"]
        ):
            raise InputError(f"{folder} was encoded with another model, {job['model']}; encode it with {model}")
        return cls(Path(folder), manifest)

    def read(self, model: SentenceTransformer) -> Passages:
        """Return the passages, whose vectors are on disk and not in memory.

        Raises:
            InputError: If a file is damaged.
            OSError: If the file of vectors cannot be written, at the first time.
        """
        columns = ["id", "document"] if self.manifest.origin["job"]["with_text"] else ["id"]
        tables = []
        for shard, file in zip(self.manifest.done, self.manifest.files, strict=True):
            with naming_damage(file):
                tables.append(pq.read_table(file, columns=columns))
                tables[-1].validate(full=True)
                _check_rows(tables[-1], self.manifest.rows_of(shard))
        table = pa.concat_tables(tables)
        texts = Column(table["document"]) if len(columns) > 1 else None
        return Passages(Column(table["id"]), texts, self._vectors(model))

    def _vectors(self, model: SentenceTransformer) -> Any:
        """Return the vectors, mapped from one file of numpy: Parquet is compressed, and cannot be mapped."""
        about = [
            model.similarity_fn_name,
            *((f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in self.manifest.files),
        ]
        file = self.folder / f".vectors-{hashlib.sha256(repr(about).encode()).hexdigest()[:16]}.npy"
        if not file.is_file():
            with replacing(file) as unfinished:
                self._write(unfinished, model)
            for old in self.folder.glob(".vectors-*.npy"):
                if old != file:
                    old.unlink()
        vectors = np.load(file, mmap_mode="r")
        width = model.get_embedding_dimension()
        if width is not None and width != (kept := vectors.shape[1]):
            raise InputError(
                f"{self.folder} has vectors of {kept} dimensions, and the model gives {width}: serve with --dimensions "
                f"{kept}"
            )
        return vectors

    def _write(self, file: Path, model: SentenceTransformer) -> None:
        dtype = np.dtype(self.manifest.origin["job"]["precision"])
        mapped, start = None, 0
        for vectors in self._shards():
            if mapped is None:
                shape = (self.manifest.rows, vectors.shape[1])
                mapped = np.lib.format.open_memmap(file, mode="w+", dtype=dtype, shape=shape)
            mapped[start : start + len(vectors)] = unit(vectors.astype(np.float32), model)
            start += len(vectors)
        assert mapped is not None and start == self.manifest.rows
        mapped.flush()

    def _shards(self) -> Iterator[Any]:
        for shard, file in zip(self.manifest.done, self.manifest.files, strict=True):
            with naming_damage(file):
                table = pq.read_table(file, columns=["embedding"])
                _check_rows(table, self.manifest.rows_of(shard))
                column = table["embedding"].combine_chunks()
                vectors = column.flatten().to_numpy().reshape(len(column), -1)
                if not np.isfinite(vectors).all():
                    raise ValueError("a number in it is none")
            yield vectors


def _check_rows(table: pa.Table, rows: int) -> None:
    """Refuse a table with another number of rows, or with a value that is absent."""
    if table.num_rows != rows:
        raise ValueError(f"{table.num_rows} rows, not {rows}")
    if any(column.null_count for column in table.columns):
        raise ValueError("a value is absent")


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
