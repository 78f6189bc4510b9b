"""A corpus of any size into Parquet files of embeddings, with no work lost and no row there twice.

A file of embeddings gets its name when it is whole, so a run that was killed goes on with the files that are not there.
A shard is encoded in the same batches whoever does it: an interrupted run ends with the same bytes.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from sentence_transformers import SentenceTransformer
from sentence_transformers.util.quantization import quantize_embeddings
from tqdm.auto import tqdm

from lbr_st.data.drops import ON_ERROR, Drops, on_wrong_row
from lbr_st.errors import InputError, not_written, one_line, require
from lbr_st.files import alone_in, parents_that_go, require_place
from lbr_st.model.encoding import TextEncoder
from lbr_st.model.lengths import TextLimit, describe_longer
from lbr_st.model.token_batches import default_budget
from lbr_st.model.weights import check_vectors
from lbr_st.use.dtypes import COMPARED, choose_dtype, refuse_slow
from lbr_st.use.passages import chunker_of, require_sources
from lbr_st.use.runtimes import AUTO, DTYPES, Computing, runtime_of
from lbr_st.use.shards import (
    Job,
    Manifest,
    describe_origin,
    has_embeddings,
    lay_down,
    part,
    read_ranges,
    read_texts,
    require_free,
    require_room,
    take_back,
    write_embeddings,
)

logger = logging.getLogger(__name__)

ROLES = ("document", "query")
PRECISIONS = ("float32", "float16", "int8", "binary")
ENGINES = ("local", "ray")
CHOICES = {"role": ROLES, "precision": PRECISIONS, "dtype": (*DTYPES, AUTO), "engine": ENGINES, "on_error": ON_ERROR}

CALIBRATION_ROWS, CALIBRATION_SHARDS = 1000, 50  # that say how far each dimension goes, for int8
FEWEST_CALIBRATED = 100


@dataclass(frozen=True, kw_only=True)
class EncodeConfig(Job):
    """The settings of ``lbr encode``: those of `Job`, which decide the embeddings, and these, which do not.

    Attributes:
        data: Prepared sets, files of documents, folders of text files and Hub datasets.
        output_dir: New or empty folder, or that of the same run, which then goes on.
        on_error: ``stop`` at the first row that cannot be used, or ``skip`` and count such rows.
        engine: ``local`` for this process, ``ray`` for a cluster whose machines all see ``output_dir``.
        ray_address: Address of the cluster; default is one on this machine.
        actors: Number of processes on the cluster, each with the model.
        cpus_per_actor: Number of processors of each.
        gpus_per_actor: Number of GPUs of each.

    Raises:
        InputError: If a number is too small or a choice is not there; with its flag.
    """

    data: Sequence[str]
    output_dir: str | Path
    on_error: str = "stop"
    engine: str = "local"
    ray_address: str | None = None
    actors: int = 1
    cpus_per_actor: float = 1
    gpus_per_actor: float = 0

    def __post_init__(self) -> None:
        if isinstance(self.data, str):
            object.__setattr__(self, "data", (self.data,))
        for name in ("batch_tokens", "shard_rows", "actors"):
            value = getattr(self, name)
            if value is not None and value < 1:
                flag = name.replace("_", "-")
                raise InputError(f"--{flag} must be a whole number of at least 1, got {value}")
        if not self.cpus_per_actor > 0 or not self.gpus_per_actor >= 0:
            raise InputError("--cpus-per-actor must be above 0, and --gpus-per-actor at least 0")
        defaults = {each.name: each.default for each in fields(self)}
        for name in ("ray_address", "actors", "cpus_per_actor", "gpus_per_actor") if self.engine == "local" else ():
            if getattr(self, name) != defaults[name]:
                raise InputError(f"--{name.replace('_', '-')} is for a cluster: give --engine ray")
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                flag = name.replace("_", "-")
                raise InputError(f"--{flag} must be one of {', '.join(choices)}, got {getattr(self, name)}")
        _check_together(self)

    @property
    def job(self) -> Job:
        """The settings that decide the embeddings; a directory as a path that holds from anywhere."""
        values = {field.name: getattr(self, field.name) for field in fields(Job)}
        ranges_from = None if self.ranges_from is None else _absolute(self.ranges_from)
        here = {"model": _absolute(self.model), "runtime": runtime_of(self.model, self.runtime)}
        return Job(**values | here | {"ranges_from": ranges_from})


def _check_together(config: EncodeConfig) -> None:
    """Refuse settings that do not go together.

    Raises:
        InputError: With what to give instead.
    """
    computing_of(config)
    if config.dtype == AUTO and config.engine == "ray":
        raise InputError(f"--dtype {AUTO} is found out on this machine, and a cluster may have others: name a type")
    if config.ranges_from is not None and config.precision != "int8":
        raise InputError("--ranges-from goes with --precision int8")
    if config.precision == "int8" and config.role == "query" and config.ranges_from is None:
        raise InputError(
            "--role query: int8 queries are scaled as the documents are: encode these first, and name their folder "
            "with --ranges-from"
        )


def _absolute(name: str) -> str:
    return str(Path(name).resolve()) if os.path.exists(name) else name


class Encoder:
    """Encodes shards of text, in whatever process.

    Args:
        folder: Folder with the texts, where the embeddings go too.
        job: Settings that decide the embeddings.
        batch_tokens: Most tokens encoded at once; default is what `measure` finds.
        ranges: For int8, the least and the largest number of each dimension, ``(2, dimensions)`` float32; default is
            what `calibrate` finds.

    Raises:
        InputError: If it is not an embedding model.
    """

    def __init__(self, folder: str | Path, job: Job, batch_tokens: int | None = None, ranges: Any = None) -> None:
        self.folder, self.job = Path(folder), job
        self.ranges = None if ranges is None else np.asarray(ranges, np.float32)
        self._open(batch_tokens)
        self.limit = TextLimit(self.model, job.role)

    def _open(self, batch_tokens: int | None) -> None:
        self.model = open_model(self.job)
        self.texts = TextEncoder(self.model, batch_tokens, tried_from=1)

    def try_out(self) -> None:
        """Refuse a model that does not encode one word, or gives no numbers for it, before a corpus is read for it.

        Raises:
            InputError: With what torch says, or if a number is not finite or the vector is zero.
        """
        try:
            check_vectors(self.model)
            self.embed(["word"])
        except InputError as error:
            raise InputError(f"--model {self.job.model}, --dtype {self.job.dtype}: {error}") from error
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            raise InputError(
                f"--model {self.job.model}, --dtype {self.job.dtype}: it encodes no text: {one_line(error)}"
            ) from error

    @property
    def width(self) -> int:
        """How many numbers a row has in the file."""
        width = self.model.get_embedding_dimension() or 1
        return -(-width // 8) if self.job.precision == "binary" else width

    def embed(self, texts: Sequence[str], on_texts: Callable[[int], Any] | None = None) -> np.ndarray:
        """Return the embeddings of texts, ``(texts, dimensions)`` float32."""
        return self.texts.encode(texts, self.job.role, on_texts=on_texts).numpy()

    def choose_dtype(self) -> str:
        """Return the type that is fastest here and gives the same vectors, and compute in it from now on.

        The first texts of the corpus are encoded in both; see `lbr_st.use.dtypes.choose_dtype`.
        """
        texts = read_texts(self.folder, 0)["document"].slice(0, COMPARED).to_pylist()
        self.job = replace(self.job, dtype=choose_dtype(self.model, texts, self.job.role))
        self._open(self.texts.batch_tokens)
        return self.job.dtype

    def measure(self, rows: int) -> int:
        """Return the number of tokens encoded at once that the model is fastest with here, and encode so from now on.

        Args:
            rows: Number of rows of the corpus; of few, nothing is measured.
        """
        texts = read_texts(self.folder, 0)["document"].to_pylist()
        self.texts.batch_tokens = self.texts.budget(sum(map(len, texts)) * rows / len(texts))
        return self.texts.batch_tokens

    def calibrate(self, shards: int) -> np.ndarray:
        """Return how far each dimension goes, ``(2, dimensions)`` float32, unless it is known.

        It is that of a thousand different texts from all over the corpus: the first ones may be of one kind.

        Args:
            shards: Number of the shards, none of which is encoded yet.
        """
        if self.ranges is None:
            read = np.unique(np.linspace(0, shards - 1, min(shards, CALIBRATION_SHARDS)).astype(int)).tolist()
            texts: dict[str, None] = {}
            for at, shard in enumerate(read, start=1):
                different = list(dict.fromkeys(read_texts(self.folder, shard)["document"].to_pylist()))
                wanted = max(1, CALIBRATION_ROWS * at // len(read) - len(texts))
                texts |= dict.fromkeys(different[:: -(-len(different) // wanted)])
            embeddings = self.embed(list(texts))
            self.ranges = np.stack([embeddings.min(axis=0), embeddings.max(axis=0)])
            if len(texts) < FEWEST_CALIBRATED:
                logger.warning(
                    "--precision int8 is scaled by %d different texts alone: what goes beyond their ranges is cut off",
                    len(texts),
                )
        return self.ranges

    def encode(self, shard: int, on_rows: Callable[[int], Any] | None = None) -> None:
        """Write the embeddings of a shard, whole or not at all.

        Args:
            shard: Number of the shard.
            on_rows: Called with the number of rows that were encoded, again and again.
        """
        table = read_texts(self.folder, shard)
        texts = table["document"].to_pylist()
        embeddings = self._at_precision(self.embed(texts, on_rows))
        columns = table if self.job.with_text else table.select(["id"])
        write_embeddings(self.folder, shard, columns, embeddings, self.limit.count_longer(texts))

    def _at_precision(self, embeddings: np.ndarray) -> np.ndarray:
        if self.job.precision.startswith("float"):
            return embeddings.astype(self.job.precision)
        kind: Any = "ubinary" if self.job.precision == "binary" else self.job.precision
        return np.asarray(quantize_embeddings(embeddings, kind, self.ranges))


def computing_of(job: Job) -> Computing:
    """Return how the model of a job is run.

    Raises:
        InputError: If a choice is not there, or a number too small.
    """
    return Computing(job.runtime, job.dtype, job.dimensions)


def open_model(job: Job) -> SentenceTransformer:
    """Open the model, to be run as is asked for; in float32 until a type is chosen."""
    return computing_of(job).open(job.model)


def encode_corpus(config: EncodeConfig) -> Manifest:
    """Encode a corpus, or go on with a run that was interrupted; return what the folder holds.

    Whatever can be refused is refused before the texts are laid down. A run that fails before it made an embedding
    leaves nothing behind, and one that was killed before is nobody's: another one may begin in its folder.

    Raises:
        InputError: If the model, the data or the folder cannot be used, the folder holds embeddings of a run with
            other settings, data or weights, another process is at work in it, or Ray is asked for and not installed.
        UnfinishedError: If the disk does not take it.
    """
    if config.engine == "ray":
        require("ray.data", "--engine ray")
    with alone_in(config.output_dir):
        return _encode(config)


def _encode(config: EncodeConfig) -> Manifest:
    folder, job, drops = Path(config.output_dir), config.job, Drops()
    require_place(folder)
    computing_of(job).check(config.model)
    require_sources(config.data, on_wrong_row(config.on_error, Drops()), job.role)
    sources = [_absolute(source) for source in config.data]
    origin = describe_origin(job, sources)
    manifest = Manifest.read(folder, origin)
    ranges = _known_ranges(config, manifest, origin)
    if manifest is None:
        require_free(folder)
    elif manifest.finished:
        if lost := manifest.missing():
            raise InputError(f"{part(folder, lost[0])} is gone since; begin again in another --output-dir")
        logger.info("%s is finished already", folder)
        return manifest
    if manifest is None or manifest.missing():
        batch_tokens = manifest.batch_tokens if manifest else job.batch_tokens
        encoder = Encoder(folder, _with_dtype(job, manifest), batch_tokens, ranges)
        encoder.try_out()
        if config.engine == "local":
            refuse_slow(encoder.model, job.dtype)
        require_room(job.shard_rows, encoder.width)
        with _leaving_nothing(folder):
            if manifest is None:
                take_back(folder)
                make_chunker, wrong = partial(chunker_of, encoder.model, job.role), on_wrong_row(config.on_error, drops)
                laid_down = lay_down(sources, folder, job.shard_rows, make_chunker, wrong, job.role)
                manifest = Manifest.begin(folder, origin, *laid_down)
            if drops.counts:
                logger.warning("%s", drops.describe())
            _keep_what_is_measured(config, manifest, encoder)
            _encode_missing(config, manifest, encoder)
        if longer := manifest.count_longer():
            logger.warning("%s", describe_longer(longer, manifest.rows, encoder.limit.most))
    manifest.finish()
    return manifest


def _known_ranges(config: EncodeConfig, manifest: Manifest | None, origin: dict[str, Any]) -> list[list[float]] | None:
    """Return the ranges that a run was begun with, or those that it is to have; None where they are still to be found.

    Raises:
        InputError: If there are none where ``--ranges-from`` says.
    """
    if manifest is not None and manifest.ranges is not None:
        return manifest.ranges
    return None if config.ranges_from is None else read_ranges(Path(config.ranges_from), origin)


def _with_dtype(job: Job, manifest: Manifest | None) -> Job:
    """Return a job with the type that was chosen for the run, if one was."""
    return job if manifest is None or manifest.dtype is None else replace(job, dtype=manifest.dtype)


@contextlib.contextmanager
def _leaving_nothing(folder: Path) -> Iterator[None]:
    """After an error, take back what a run wrote that made no embeddings, and the folders that were made for it.

    Raises:
        UnfinishedError: If the folder cannot be written.
    """
    try:
        with parents_that_go(folder):
            try:
                yield
            except BaseException as error:
                take_back(folder)
                if isinstance(error, KeyboardInterrupt):
                    there = has_embeddings(folder)
                    error.add_note(
                        "The same command goes on with what is there"
                        if there
                        else "No file of embeddings was whole yet, and nothing is left of it"
                    )
                raise
    except OSError as error:
        failed = not_written(f"--output-dir {folder}", error)
        if has_embeddings(folder):
            failed.add_note("The same command goes on with what is there")
        raise failed from error


def _keep_what_is_measured(config: EncodeConfig, manifest: Manifest, encoder: Encoder) -> None:
    """Let the manifest keep what is measured before the first shard, and is the same for all of them."""
    if manifest.dtype is None:
        manifest.keep_dtype(encoder.choose_dtype())
    if manifest.batch_tokens is None:
        # The actors of a cluster may be other machines than this one.
        on_ray = config.engine == "ray"
        found = default_budget(on_gpu=config.gpus_per_actor > 0) if on_ray else encoder.measure(manifest.rows)
        manifest.keep_batch_tokens(found)
    if config.precision == "int8" and manifest.ranges is None:
        manifest.keep_ranges(encoder.calibrate(manifest.shards))


def _encode_missing(config: EncodeConfig, manifest: Manifest, encoder: Encoder) -> None:
    done = sum(map(manifest.rows_of, manifest.done))
    with tqdm(total=manifest.rows, initial=done, desc="Encoding", unit="rows") as progress:
        if config.engine == "local":
            shards = _here(encoder, manifest.missing(), progress.update)
        else:
            shards = _on_ray(config, manifest, progress.update)
        for shard in shards:
            manifest.add(shard)


def _here(encoder: Encoder, shards: Sequence[int], on_rows: Callable[[int], Any]) -> Iterator[int]:
    for shard in shards:
        encoder.encode(shard, on_rows)
        yield shard


def _on_ray(config: EncodeConfig, manifest: Manifest, on_rows: Callable[[int], Any]) -> Iterator[int]:
    from lbr_st.use.ray import encode_shards

    done = encode_shards(
        manifest.missing(),
        partial(Encoder, manifest.folder.resolve(), config.job, manifest.batch_tokens, manifest.ranges),
        address=config.ray_address,
        actors=config.actors,
        cpus_per_actor=config.cpus_per_actor,
        gpus_per_actor=config.gpus_per_actor,
    )
    for shard in done:
        on_rows(manifest.rows_of(shard))
        yield shard
