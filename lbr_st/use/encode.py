"""``lbr encode``: a corpus of any size into Parquet files of embeddings, with no work lost and no row there twice.

The rows are laid down first, as shards of text: what cannot be read is said before hours of work, and any process can
take any shard. A shard of embeddings gets its name when it is whole, so a run that was killed goes on with the shards
that are not there. A shard is encoded in the same batches whoever does it: an interrupted run ends with the same bytes.
"""

from __future__ import annotations

import argparse
import bisect
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.util.quantization import quantize_embeddings
from tqdm.auto import tqdm

from lbr_st.data.prepared_set import file_of
from lbr_st.data.records import iterate_passages
from lbr_st.errors import InputError
from lbr_st.files import UNFINISHED, write_json
from lbr_st.model.saving import fingerprint, open_sentence_transformer

logger = logging.getLogger(__name__)

MANIFEST, TEXTS = "_manifest.json", ".texts"  # readers of Parquet folders leave both out
TEXT_SCHEMA = pa.schema({"id": pa.string(), "document": pa.string()})
# Of the numbers of an embedding; binary has eight dimensions in each.
TYPES = {"float32": pa.float32(), "float16": pa.float16(), "int8": pa.int8(), "binary": pa.uint8()}
BATCHES_AT_ONCE = 16  # encoded in one call, in which texts are sorted by length
CALIBRATION_ROWS = 1000  # that say how far each dimension goes, for int8


@dataclass(frozen=True)
class Job:
    """What decides the embeddings of a corpus.

    Attributes:
        model: Directory or Hub id.
        role: ``document`` or ``query``: whose prompt is put before a text.
        precision: One of `TYPES`.
        dtype: To compute in.
        batch_size: Texts encoded at once.
        shard_rows: Rows of a file.
        with_text: Keep the text beside its embedding.
    """

    model: str
    role: str = "document"
    precision: str = "float32"
    dtype: str = "float32"
    batch_size: int = 64
    shard_rows: int = 10_000
    with_text: bool = False


class Encoder:
    """Encodes shards of text, in whatever process.

    Args:
        folder: Of the output.
        job: What decides the embeddings.
        ranges: For int8, the least and the largest of each dimension, ``(2, dimensions)`` float32.
    """

    def __init__(self, folder: str | Path, job: Job, ranges: Any = None) -> None:
        self.folder, self.job = Path(folder), job
        self.ranges = None if ranges is None else np.asarray(ranges, np.float32)
        self.model = open_model(job)

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Return the embeddings of texts, ``(texts, dimensions)`` float32."""
        encode: Any = self.model.encode_query if self.job.role == "query" else self.model.encode_document
        embeddings = encode(list(texts), batch_size=self.job.batch_size, show_progress_bar=False)
        return np.asarray(embeddings, np.float32)

    def calibrate(self) -> np.ndarray:
        """Return how far each dimension goes in the first rows, ``(2, dimensions)`` float32."""
        embeddings = self.embed(pq.read_table(self._texts(0))["document"].slice(0, CALIBRATION_ROWS).to_pylist())
        self.ranges = np.stack([embeddings.min(axis=0), embeddings.max(axis=0)])
        return self.ranges

    def encode(self, shard: int, progress: tqdm[Any] | None = None) -> None:
        """Write the embeddings of a shard, whole or not at all."""
        table = pq.read_table(self._texts(shard))
        texts = table["document"].to_pylist()
        size = BATCHES_AT_ONCE * self.job.batch_size
        parts = []
        for start in range(0, len(texts), size):
            parts.append(self._at_precision(self.embed(texts[start : start + size])))
            if progress is not None:
                progress.update(len(parts[-1]))
        columns = table if self.job.with_text else table.select(["id"])
        _write(columns.append_column("embedding", as_lists(np.concatenate(parts))), part(self.folder, shard))

    def _at_precision(self, embeddings: np.ndarray) -> np.ndarray:
        if self.job.precision.startswith("float"):
            return embeddings.astype(self.job.precision)
        kind: Any = "ubinary" if self.job.precision == "binary" else self.job.precision
        return np.asarray(quantize_embeddings(embeddings, kind, self.ranges))

    def _texts(self, shard: int) -> Path:
        return part(self.folder / TEXTS, shard)


def open_model(job: Job) -> SentenceTransformer:
    """Open the model, to compute in the dtype that is asked for."""
    return open_sentence_transformer(job.model).to(getattr(torch, job.dtype)).eval()


def as_lists(rows: np.ndarray) -> pa.ListArray:
    """Return rows as plain lists, which every reader of Parquet knows.

    Args:
        rows: ``(rows, width)`` of a type of `TYPES`.

    Raises:
        InputError: If there are more numbers than such lists can have.
    """
    if rows.size >= 2**31:
        most = (2**31 - 1) // rows.shape[1]
        raise InputError(f"--shard-rows {len(rows)}: a file of embeddings as wide has at most {most} rows")
    offsets = np.arange(0, rows.size + 1, rows.shape[1], dtype=np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(rows.reshape(-1)))


def part(folder: Path, shard: int) -> Path:
    """Return the file of a shard."""
    return folder / f"part-{shard:05}.parquet"


def _write(table: pa.Table, path: Path) -> None:
    unfinished = path.with_name(f".{path.name}{UNFINISHED}")
    pq.write_table(table, unfinished, compression="zstd")
    with open(unfinished, "rb") as file:
        os.fsync(file.fileno())
    os.replace(unfinished, path)


def lay_down(sources: Sequence[str], folder: Path, shard_rows: int) -> tuple[int, int]:
    """Write the texts of a corpus as shards, all or none; return the numbers of rows and of shards.

    Raises:
        InputError: If a row cannot be used, or there is none.
    """
    unfinished = folder / f"{TEXTS}{UNFINISHED}"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    rows = shards = 0
    waiting: list[dict[str, Any]] = []
    for record in tqdm(_passages(sources), "Reading", unit="rows"):
        waiting.append(record)
        rows += 1
        if len(waiting) == shard_rows:
            _write(pa.Table.from_pylist(waiting, TEXT_SCHEMA), part(unfinished, shards))
            waiting, shards = [], shards + 1
    if waiting:
        _write(pa.Table.from_pylist(waiting, TEXT_SCHEMA), part(unfinished, shards))
        shards += 1
    shutil.rmtree(folder / TEXTS, ignore_errors=True)
    unfinished.rename(folder / TEXTS)
    return rows, shards


def _passages(sources: Sequence[str]) -> Iterator[dict[str, Any]]:
    for source in sources:
        of_several = f"{Path(source).name}:" if len(sources) > 1 else ""
        for record in iterate_passages(file_of(source, "corpus")):
            yield record | {"id": of_several + record["id"]}


def prepare(sources: Sequence[str], folder: Path, job: Job) -> dict[str, Any]:
    """Return the manifest of a run, which is begun, or goes on where it was.

    Raises:
        InputError: If the folder holds something else, or a run with other settings, data or model.
    """
    described = {"job": asdict(job), "model_sha256": _fingerprint(job.model), "data": _describe(sources)}
    file = folder / MANIFEST
    if file.is_file():
        manifest = json.loads(file.read_text(encoding="utf-8"))
        for name, value in described.items():
            if manifest.get(name) != value:
                raise InputError(f"{folder} was begun {_difference(name, manifest.get(name), value)}")
        return manifest
    if folder.is_dir() and any(not each.name.startswith(TEXTS) for each in folder.iterdir()):
        raise InputError(f"--output {folder} is not an empty folder; choose another")
    rows, shards = lay_down(sources, folder, job.shard_rows)
    manifest = {**described, "rows": rows, "shards": shards, "finished": False, "ranges": None, "files": []}
    write_json(file, manifest)
    return manifest


def _fingerprint(model: str) -> str | None:
    return fingerprint(model) if os.path.isdir(model) else None


def _describe(sources: Sequence[str]) -> list[list[Any]]:
    """Say which data it is, and, of files, whether it is still the same."""
    found: list[list[Any]] = []
    for source in sources:
        path = Path(source)
        files = [path] if path.is_file() else sorted(each for each in path.rglob("*") if each.is_file())
        found.append([source, [[each.stat().st_size, each.stat().st_mtime_ns] for each in files]])
    return found


def _difference(name: str, before: Any, now: Any) -> str:
    again = "go on with what it was, or choose another --output"
    if name == "job":
        field = next(key for key in now if before.get(key) != now[key])
        return f"with {field} {before.get(field)!r}, now it is {now[field]!r}; {again}"
    what = "another model by that name" if name == "model_sha256" else "data that has changed since"
    return f"with {what}; {again}"


def missing(folder: Path, manifest: dict[str, Any]) -> list[int]:
    """Return the shards that are not encoded yet."""
    return [shard for shard in range(manifest["shards"]) if not part(folder, shard).is_file()]


def rows_of(shard: int, job: Job, manifest: dict[str, Any]) -> int:
    """Return the number of rows of a shard."""
    return min(job.shard_rows, manifest["rows"] - shard * job.shard_rows)


def run(folder: Path, job: Job, manifest: dict[str, Any], encode: Callable[[list[int], tqdm[Any]], Any]) -> None:
    """Encode what is missing, and keep the manifest.

    Args:
        folder: Of the output.
        job: What decides the embeddings.
        manifest: Changed in place.
        encode: Encodes shards and yields the number of each that is done; moves the progress bar.
    """
    left = missing(folder, manifest)
    done = sorted(set(range(manifest["shards"])) - set(left))
    rows = sum(rows_of(shard, job, manifest) for shard in done)
    with tqdm(total=manifest["rows"], initial=rows, desc="Encoding", unit="rows") as progress:
        for shard in encode(left, progress) if left else ():
            bisect.insort(done, shard)
            manifest["files"] = [
                {"file": part(folder, each).name, "rows": rows_of(each, job, manifest)} for each in done
            ]
            write_json(folder / MANIFEST, manifest)


def _here(encoder: Encoder | None, folder: Path, job: Job, ranges: Any) -> Callable[[list[int], tqdm[Any]], Any]:
    def encode(shards: list[int], progress: tqdm[Any]) -> Iterator[int]:
        own = encoder or Encoder(folder, job, ranges)
        for shard in shards:
            own.encode(shard, progress)
            yield shard

    return encode


def main(argv: Sequence[str] | None = None) -> None:
    """Run ``lbr encode``.

    Raises:
        InputError: If the model, the data or the folder cannot be used.
    """
    args = _make_parser().parse_args(argv)
    if min(args.batch_size, args.shard_rows, args.actors) < 1:
        raise InputError("--batch-size, --shard-rows and --actors must be at least 1")
    folder = Path(args.output)
    model = str(Path(args.model).resolve()) if os.path.isdir(args.model) else args.model
    job = Job(model, args.role, args.precision, args.dtype, args.batch_size, args.shard_rows, args.with_text)
    on_ray = _ray_engine() if args.engine == "ray" else None
    sources = [str(Path(source).resolve()) if os.path.exists(source) else source for source in args.data]
    manifest = prepare(sources, folder, job)
    if manifest["finished"]:
        logger.info("%s is finished: %d rows", folder, manifest["rows"])
        return
    encoder = None
    if job.precision == "int8" and manifest["ranges"] is None:
        encoder = Encoder(folder, job)
        manifest["ranges"] = encoder.calibrate().tolist()
        write_json(folder / MANIFEST, manifest)
    run(
        folder,
        job,
        manifest,
        on_ray(args, folder, job, manifest) if on_ray else _here(encoder, folder, job, manifest["ranges"]),
    )
    write_json(folder / MANIFEST, manifest | {"finished": True})
    shutil.rmtree(folder / TEXTS, ignore_errors=True)
    size = sum(part(folder, shard).stat().st_size for shard in range(manifest["shards"])) / 1e6
    logger.info("%s: %d rows in %d files, %.1f MB", folder, manifest["rows"], manifest["shards"], size)


def _ray_engine() -> Callable[..., Any]:
    try:
        import ray.data  # noqa: F401
    except ImportError as error:
        raise InputError("--engine ray needs an extra: pip install 'lbr-st[ray]'") from error
    from lbr_st.use.ray import engine

    return engine


def _make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lbr encode",
        description="Encode a corpus of any size into Parquet files. Started again after it was killed, it goes on.",
    )
    parser.add_argument("--model", required=True, metavar="DIR", help="sentence-transformers directory or Hub id")
    parser.add_argument(
        "--data",
        required=True,
        nargs="+",
        metavar="FILE_OR_FOLDER",
        help="set of `lbr data prepare`, files of documents, folders of text files, Hub datasets",
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="new or empty folder, or that of the same run")
    parser.add_argument(
        "--role", choices=("document", "query"), default="document", help="whose prompt to use (default: %(default)s)"
    )
    parser.add_argument(
        "--precision",
        choices=TYPES,
        default="float32",
        help="of the embeddings: int8 is scaled by the first thousand rows, binary packs the signs of eight dimensions "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--dtype",
        choices=("float32", "float16", "bfloat16"),
        default="float32",
        help="to compute in (default: %(default)s)",
    )
    parser.add_argument("--with-text", action="store_true", help="keep each text beside its embedding")
    parser.add_argument("--batch-size", type=int, default=64, metavar="N", help="(default: %(default)s)")
    parser.add_argument("--shard-rows", type=int, default=10_000, metavar="N", help="of a file (default: %(default)s)")
    engine = parser.add_argument_group("engine")
    engine.add_argument("--engine", choices=("local", "ray"), default="local", help="(default: %(default)s)")
    engine.add_argument("--ray-address", metavar="ADDRESS", help="of a cluster (default: one on this machine)")
    engine.add_argument("--actors", type=int, default=1, metavar="N", help="processes on it (default: %(default)s)")
    engine.add_argument("--cpus-per-actor", type=float, default=1, metavar="N", help="(default: %(default)s)")
    engine.add_argument("--gpus-per-actor", type=float, default=0, metavar="N", help="(default: %(default)s)")
    return parser
