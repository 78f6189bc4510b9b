"""The files of ``lbr encode``: texts laid down in shards, files of embeddings, and a manifest of how far the run is.

The texts are laid down before the first one is encoded: what cannot be read is said before hours of work, and any
process can take any shard. They go when the run is finished.
"""

from __future__ import annotations

import bisect
import contextlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm.auto import tqdm

from lbr_st.data.cells import Wrong, stop
from lbr_st.data.cleaning import printable
from lbr_st.data.folders import text_files
from lbr_st.data.ids import UniqueIds
from lbr_st.data.passages import Chunker
from lbr_st.data.prepared_set import file_of
from lbr_st.errors import InputError, one_line
from lbr_st.files import UNFINISHED, read_json, replacing, replacing_folder, require_empty, write_json
from lbr_st.model.contract import encoders_of_documents, revision_of
from lbr_st.records import MANIFEST
from lbr_st.use.runtimes import AUTO
from lbr_st.use.texts import texts_of

# Readers of Parquet folders leave out what begins with a dot; with this name it does not count as a file of the folder.
TEXTS = f".texts{UNFINISHED}"
TEXT_SCHEMA = pa.schema({"id": pa.string(), "document": pa.string()})
LONGER = b"texts_longer_than_read"  # what a file of embeddings says of its rows, in its schema
ORIGIN = ("job", "model_sha256", "data")  # of a manifest, what says what the embeddings are made of
FOUND = ("batch_tokens", "dtype", "ranges")  # what is found out before the first file, for all of them
MOST_NUMBERS = 2**31 - 1  # of all lists in a column of Parquet that every reader knows


@dataclass(frozen=True, kw_only=True)
class Job:
    """The settings that decide the embeddings of a corpus. A run goes on with those that it was begun with.

    Attributes:
        model: Directory or Hub id of a sentence-transformers model.
        role: ``document`` for documents, ``query`` for the queries of a file; each has its prompt before it.
        precision: Type of the numbers that are written: float32, float16, int8 or binary.
        ranges_from: Folder of int8 embeddings whose ranges the numbers are scaled by; default is ranges of their own.
        runtime: What runs the model, see `lbr_st.use.runtimes.RUNTIMES`.
        dtype: Type of the numbers that the model computes in: float32, float16, bfloat16, or auto for what this machine
            is fastest with when the run is begun, which the manifest keeps.
        dimensions: Number of first dimensions that are kept; default is all.
        batch_tokens: Most tokens encoded at once, padding included; default is what this machine is fastest with when
            the run is begun, which the manifest keeps.
        shard_rows: Number of rows of a file.
        with_text: Whether each text is kept beside its embedding.
    """

    model: str
    role: str = "document"
    precision: str = "float32"
    ranges_from: str | None = None
    runtime: str | None = None
    dtype: str = "float32"
    dimensions: int | None = None
    batch_tokens: int | None = None
    shard_rows: int = 10_000
    with_text: bool = False


DEFAULTS = {each.name: each.default for each in fields(Job) if each.default is not MISSING}


def part(folder: Path, shard: int) -> Path:
    """Return the file of a shard."""
    return folder / f"part-{shard:05}.parquet"


def is_part(file: Path) -> bool | None:
    """Tell whether a file of embeddings that ``lbr encode`` wrote has texts; None of any other file."""
    try:
        schema = pq.read_schema(file)
    except (pa.ArrowException, OSError, ValueError):  # what reads it says what is wrong
        return None
    return "document" in schema.names if LONGER in (schema.metadata or {}) else None


@contextlib.contextmanager
def naming_damage(path: Path) -> Iterator[None]:
    """Refuse a file of a run that is not what was written, by name.

    Raises:
        InputError: If it is damaged.
    """
    try:
        yield
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # of the system, which says what it is
            raise
        said = f"{path} is not what lbr encode wrote: {one_line(error)}"
        raise InputError(f"{said}; encode again in another folder") from error


def write_table(table: pa.Table, path: Path) -> None:
    """Write a Parquet file whole or not at all."""
    with replacing(path) as unfinished:
        pq.write_table(table, unfinished, compression="zstd")


def read_texts(folder: Path, shard: int) -> pa.Table:
    """Read the texts of a shard, with the columns ``id`` and ``document``."""
    path = part(folder / TEXTS, shard)
    with naming_damage(path):
        return pq.read_table(path)


def write_embeddings(folder: Path, shard: int, columns: pa.Table, embeddings: np.ndarray, longer: int) -> None:
    """Write the file of a shard: what is known of its rows, and their embeddings as plain lists.

    Args:
        folder: Folder of the embeddings.
        shard: Number of the shard.
        columns: Ids, and texts where they are kept.
        embeddings: One for each row, ``(rows, numbers)``.
        longer: Number of texts that are longer than the model reads.
    """
    columns = columns.replace_schema_metadata({LONGER: str(longer)})
    offsets = np.arange(0, embeddings.size + 1, embeddings.shape[1], dtype=np.int32)
    lists = pa.ListArray.from_arrays(pa.array(offsets), pa.array(embeddings.reshape(-1)))
    write_table(columns.append_column("embedding", lists), part(folder, shard))


def require_room(shard_rows: int, width: int) -> None:
    """Refuse files with more numbers than their lists can have.

    Raises:
        InputError: If ``shard_rows`` embeddings of this width are too many.
    """
    if shard_rows * width > MOST_NUMBERS:
        most = MOST_NUMBERS // width
        raise InputError(f"--shard-rows {shard_rows}: a file of embeddings as wide has at most {most} rows")


def lay_down(
    sources: Sequence[str],
    folder: Path,
    shard_rows: int,
    make_chunker: Callable[[], Chunker] = Chunker,
    wrong: Wrong = stop,
    role: str = "document",
) -> tuple[int, int]:
    """Write the texts of a corpus as shards, all or none; return the numbers of rows and of shards.

    Args:
        sources: Prepared sets, files, folders of text files and Hub datasets.
        folder: Folder of the embeddings.
        shard_rows: Number of rows of a shard.
        make_chunker: Makes what cuts text files.
        wrong: Called with a `RowError` for each row that cannot be used; reading goes on if it returns.
        role: Whether documents or queries are read, see `lbr_st.use.texts.texts_of`.

    Raises:
        InputError: If a row cannot be used, or there is none.
    """
    remove_texts(folder)
    rows = shards = 0
    with replacing_folder(folder / TEXTS) as unfinished:
        for shard, texts in enumerate(_batches(_texts(sources, make_chunker, wrong, role), shard_rows)):
            write_table(pa.Table.from_pylist(texts, TEXT_SCHEMA), part(unfinished, shard))
            rows, shards = rows + len(texts), shard + 1
    return rows, shards


def remove_texts(folder: Path) -> None:
    """Remove the texts that were laid down, and what runs that were killed have left of them."""
    for each in [folder / TEXTS, *folder.glob(f".{TEXTS}*{UNFINISHED}")]:
        shutil.rmtree(each, ignore_errors=True)


def _batches(rows: Iterator[dict[str, Any]], size: int) -> Iterator[list[dict[str, Any]]]:
    batch: list[dict[str, Any]] = []
    for row in tqdm(rows, "Reading", unit="rows"):
        batch.append(row)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _texts(
    sources: Sequence[str], make_chunker: Callable[[], Chunker], wrong: Wrong, role: str
) -> Iterator[dict[str, Any]]:
    unique = UniqueIds()
    for number, source in enumerate(sources, start=1):
        of_several = f"{unique(printable(Path(source).name), number)}:" if len(sources) > 1 else ""
        for record in texts_of(source, role, make_chunker, wrong):
            yield record | {"id": of_several + record["id"]}


def describe_origin(job: Job, sources: Sequence[str]) -> dict[str, Any]:
    """Return what embeddings are made of: the settings, the weights, and, of files, whether they are still the same."""
    found: list[list[Any]] = []
    for source in sources:
        path = Path(file_of(source, "corpus"))
        files = text_files(path) if path.is_dir() else [path] if path.is_file() else []  # a Hub dataset has none here
        found.append([source, [[str(each), each.stat().st_size, each.stat().st_mtime_ns] for each in files]])
    return {"job": asdict(job), "model_sha256": revision_of(job.model), "data": found}


def read_ranges(folder: Path, origin: dict[str, Any]) -> list[list[float]]:
    """Read the ranges by which the int8 embeddings of another run are scaled, of the same model.

    Args:
        folder: Folder of that run, which need not be finished.
        origin: What the embeddings of this one are made of, see `describe_origin`.

    Raises:
        InputError: If it has none, or is of another model or of other dimensions.
    """
    if not (folder / MANIFEST).is_file():
        raise InputError(f"--ranges-from {folder}: there is no {MANIFEST} in it: name a folder that lbr encode wrote")
    other = Manifest.open(folder)
    job, own = other.origin["job"], origin["job"]
    if other.ranges is None:
        raise InputError(f"--ranges-from {folder} has no ranges: it was made with --precision {job['precision']}")
    if not other.is_of(own["model"]):
        raise InputError(f"--ranges-from {folder} was made with another model, {job['model']}: its ranges are others")
    if job["dimensions"] != own["dimensions"]:
        kept = job["dimensions"] or "left out"
        raise InputError(f"--ranges-from {folder} was made with --dimensions {kept}: its ranges are others")
    return other.ranges


def has_embeddings(folder: Path) -> bool:
    """Tell whether a folder holds a file of embeddings."""
    return any(folder.glob("part-*.parquet"))


def require_free(folder: Path) -> None:
    """Refuse a folder that holds something; what a run wrote that made no embeddings is nothing.

    Raises:
        InputError: If it is a file or holds files.
    """
    require_empty(folder, but=() if has_embeddings(folder) else (MANIFEST,))


def take_back(folder: Path) -> None:
    """Remove what a run wrote that made no embeddings; where there are some, and what else there is, stays."""
    if not has_embeddings(folder):
        (folder / MANIFEST).unlink(missing_ok=True)
        remove_texts(folder)


class Manifest:
    """What a folder of embeddings is made of, and how far the run is. A change is on disk when its method returns.

    Args:
        folder: Folder of the embeddings.
        origin: What they are made of, see `describe_origin`.
        rows: Number of rows of the corpus.
        shards: Number of files that they make.

    Attributes:
        finished: Whether all files are there.
        ranges: For int8, the least and the largest number of each dimension.
        dtype: Type that the model computes in; None until it is chosen.
        batch_tokens: Tokens encoded at once. Vectors are rounded in another way in other batches: a run that goes on
            ends with the same bytes because it takes the number that it was begun with.
        done: Shards whose file is there, in order.
    """

    def __init__(self, folder: Path, origin: dict[str, Any], rows: int, shards: int) -> None:
        self.folder, self.origin, self.rows, self.shards = folder, origin, rows, shards
        self.finished = False
        self.ranges: list[list[float]] | None = None
        self.dtype: str | None = None
        self.batch_tokens: int | None = None
        self.done = [shard for shard in range(shards) if part(folder, shard).is_file()]

    @classmethod
    def begin(cls, folder: Path, origin: dict[str, Any], rows: int, shards: int) -> Manifest:
        """Write the manifest of a run whose texts are laid down."""
        manifest = cls(folder, origin, rows, shards)
        manifest.batch_tokens = origin["job"]["batch_tokens"]
        manifest.dtype = None if origin["job"]["dtype"] == AUTO else origin["job"]["dtype"]
        manifest._write()
        return manifest

    @classmethod
    def read(cls, folder: Path, origin: dict[str, Any]) -> Manifest | None:
        """Read the manifest of a folder; None where no run was begun in it, or one that is another and made nothing.

        Raises:
            InputError: If there are embeddings of a run that was begun with other settings, data or weights, or the
                manifest cannot be read.
        """
        if not (folder / MANIFEST).is_file():
            return None
        about = _read_manifest(folder)
        for name, value in origin.items():
            if about.get(name) != value:
                if not has_embeddings(folder):
                    return None
                difference = _difference(name, about.get(name), value)
                raise InputError(
                    f"{folder} was begun {difference}; go on with what it was, or choose another --output-dir"
                )
        return cls._of(folder, origin, about)

    @classmethod
    def open(cls, folder: Path) -> Manifest:
        """Read the manifest of a folder, whatever it is made of.

        Raises:
            InputError: If it cannot be read.
        """
        about = _read_manifest(folder)
        return cls._of(folder, {name: about[name] for name in ORIGIN}, about)

    @classmethod
    def _of(cls, folder: Path, origin: dict[str, Any], about: dict[str, Any]) -> Manifest:
        manifest = cls(folder, origin, about["rows"], about["shards"])
        manifest.finished, manifest.ranges = about["finished"], about["ranges"]
        manifest.batch_tokens, manifest.dtype = about["batch_tokens"], about["dtype"]
        return manifest

    @property
    def files(self) -> list[Path]:
        """The files that are there."""
        return [part(self.folder, shard) for shard in self.done]

    def count_longer(self) -> int:
        """Return how many texts are longer than the model reads, as the files say."""
        longer = 0
        for file in self.files:
            with naming_damage(file):
                longer += int((pq.read_schema(file).metadata or {}).get(LONGER, 0))
        return longer

    def is_of(self, model: str) -> bool:
        """Tell whether a model gives the vectors that documents have here.

        Args:
            model: Directory of a model, of its export or of its student, or its id on the Hub.
        """
        own, own_name = self.origin["model_sha256"], self.origin["job"]["model"]
        encoders = encoders_of_documents(model)
        # Where the Hub was not reached then or is not now, the name has to do.
        return any(weights == own if weights and own else name == own_name for weights, name in encoders)

    def missing(self) -> list[int]:
        """Return the shards whose file is not there."""
        return sorted(set(range(self.shards)) - set(self.done))

    def rows_of(self, shard: int) -> int:
        """Return the number of rows of a shard."""
        shard_rows = self.origin["job"]["shard_rows"]
        return min(shard_rows, self.rows - shard * shard_rows)

    def keep_dtype(self, dtype: str) -> None:
        """Keep the type that the model computes in for all shards."""
        self.dtype = dtype
        self._write()

    def keep_batch_tokens(self, batch_tokens: int) -> None:
        """Keep the number of tokens that all shards are encoded with at once."""
        self.batch_tokens = batch_tokens
        self._write()

    def keep_ranges(self, ranges: np.ndarray) -> None:
        """Keep the ranges that all shards are scaled by."""
        self.ranges = ranges.tolist()
        self._write()

    def add(self, shard: int) -> None:
        """Say that the file of a shard is there."""
        bisect.insort(self.done, shard)
        self._write()

    def finish(self) -> None:
        """Say that all files are there; the texts go first, as nobody looks for them in a folder that is finished."""
        remove_texts(self.folder)
        self.finished = True
        self._write()

    def _write(self) -> None:
        files = [{"file": part(self.folder, shard).name, "rows": self.rows_of(shard)} for shard in self.done]
        found = {name: getattr(self, name) for name in FOUND}
        about = {**self.origin, "rows": self.rows, "shards": self.shards, "finished": self.finished, **found}
        write_json(self.folder / MANIFEST, {**about, "files": files})


def _read_manifest(folder: Path) -> dict[str, Any]:
    file = folder / MANIFEST
    try:
        about = read_json(file)
        about["job"] = DEFAULTS | about["job"]  # an older one may lack a setting that came later
        _ = [about[name] for name in (*ORIGIN, "rows", "shards", "finished", *FOUND)]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{file} is not what lbr encode wrote: {error!r}") from error
    return about


def _difference(name: str, before: Any, now: Any) -> str:
    if name == "job":
        field = next((key for key in now if before.get(key) != now[key]), None)
        if field is None:
            return "by another version of lbr-st"
        flag, (was, is_) = f"--{field.replace('_', '-')}", (before.get(field), now[field])
        return (
            f"without {flag}, now it is {is_}" if was is None else f"with {flag} {was}, now it is {is_ or 'left out'}"
        )
    return "with another model by that name" if name == "model_sha256" else "with data that has changed since"
