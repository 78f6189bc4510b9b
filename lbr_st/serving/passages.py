"""What is searched: passages with their vectors, of text or of the output of ``lbr encode``."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq
from sentence_transformers import SentenceTransformer

from lbr_st.data.drops import Drops, on_wrong_row
from lbr_st.data.prepared_set import file_of
from lbr_st.data.records import read_passages
from lbr_st.errors import InputError
from lbr_st.files import replacing
from lbr_st.model.contract import fingerprint
from lbr_st.serving.batching import Vectors
from lbr_st.use.passages import chunker_of
from lbr_st.use.shards import MANIFEST, Manifest

COSINE, DOT = "cosine", "dot"
FLOATS = ("float32", "float16")
ROWS_AT_ONCE = 2**16

Embed = Callable[[Sequence[str]], Vectors]


class Change(NamedTuple):
    """What became of the passages when they were read again.

    Attributes:
        passages: Number of passages.
        encoded: Number of texts that were encoded for them.
        kept: Number of passages whose vector was there before.
        removed: Number of passages of before whose text is not there any more.
    """

    passages: int
    encoded: int
    kept: int
    removed: int


class Passages:
    """Passages of text, and their vectors.

    Args:
        ids: Id of each.
        texts: Text of each; None where nobody kept them.
        vectors: Vector of each, ``(passages, dimensions)``; of unit length where the similarity is the cosine.
        keys: What tells a text from others, for each; where vectors may be kept for it.
    """

    def __init__(
        self, ids: Sequence[str], texts: Sequence[str] | None, vectors: Any, keys: Sequence[bytes] = ()
    ) -> None:
        self.ids, self.texts, self.vectors, self.keys = ids, texts, vectors, keys


def read_and_embed(
    source: str,
    model: SentenceTransformer,
    embed: Embed,
    before: Passages | None,
    cut_for: SentenceTransformer,
    on_error: str,
) -> tuple[Passages, Change, str]:
    """Read passages, and embed those whose text was not there before.

    Args:
        source: A prepared set, a file of documents or a folder of text.
        model: The model.
        embed: Returns the vectors of texts.
        before: Passages that were read before, whose vectors are kept.
        cut_for: Model that they are cut for.
        on_error: ``stop`` at the first row that cannot be used, or ``skip`` such rows.

    Returns:
        The passages, what changed, and what of the source was left out, in one line or "".

    Raises:
        InputError: If the source cannot be read.
    """
    drops = Drops()
    wrong = on_wrong_row(on_error, drops)
    records = read_passages(file_of(source, "corpus"), partial(chunker_of, cut_for), wrong)
    ids, texts = [record["id"] for record in records], [record["document"] for record in records]
    keys = [hashlib.blake2b(text.encode(), digest_size=16).digest() for text in texts]
    known = {key: row for row, key in enumerate(before.keys)} if before else {}
    new = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
    of_new = unit(embed(list(new.values())), model) if new else np.empty((0, 0), np.float32)
    rows = {key: row for row, key in enumerate(new)}
    kept = before.vectors if before and len(new) < len(set(keys)) else of_new
    vectors = np.empty((len(keys), (of_new if new else kept).shape[1]), np.float32)
    for at, key in enumerate(keys):
        vectors[at] = of_new[rows[key]] if key in rows else kept[known[key]]
    left = set(keys)
    change = Change(
        len(keys),
        encoded=len(new),
        kept=sum(key in known for key in keys),
        removed=sum(key not in left for key in before.keys) if before else 0,
    )
    return Passages(ids, texts, vectors, keys), change, drops.describe() if drops.counts else ""


def unit(vectors: Any, model: SentenceTransformer) -> Any:
    """Return vectors of unit length where the similarity of a model is the cosine, so that it is a product."""
    if model.similarity_fn_name != COSINE:
        return vectors
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class Encoded:
    """A folder that ``lbr encode`` wrote, as a run left it.

    Attributes:
        folder: The folder.
        manifest: What it is made of.
    """

    folder: Path
    manifest: Manifest

    @staticmethod
    def is_one(folder: str | Path) -> bool:
        """Tell whether a folder is one."""
        return (Path(folder) / MANIFEST).is_file()

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
            OSError: If the file of vectors cannot be written, at the first time.
        """
        columns = ["id", "document"] if self.manifest.origin["job"]["with_text"] else ["id"]
        table = pq.read_table(self.manifest.files, columns=columns)
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
        return np.load(file, mmap_mode="r")

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
        for file in self.manifest.files:
            column = pq.read_table(file, columns=["embedding"])["embedding"].combine_chunks()
            yield column.flatten().to_numpy().reshape(len(column), -1)


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
