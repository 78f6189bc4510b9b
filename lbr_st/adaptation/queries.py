"""Queries for passages: those that the data have, titles, and what a language model writes, each with its passage."""

from __future__ import annotations

import logging
import math
import os
import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

from tqdm.auto import tqdm

from lbr_st.adaptation import queries_card
from lbr_st.adaptation.answers import Answers
from lbr_st.adaptation.endpoint import Endpoint
from lbr_st.adaptation.kinds import FOUND, KINDS, WRITTEN, prompts_sha256
from lbr_st.adaptation.passages import Passage, read_passages_of
from lbr_st.adaptation.query_text import AGAIN, OF_SEVERAL, query_of, why_not
from lbr_st.adaptation.writers import Decoding, Request, Writer, open_writer
from lbr_st.data.columns import Columns
from lbr_st.data.drops import ON_ERROR, Drops, on_wrong_row
from lbr_st.data.ids import UniqueIds
from lbr_st.data.parts import Reading
from lbr_st.data.passages import Chunker
from lbr_st.data.prepared_set import mteb_tasks_of
from lbr_st.data.preparing import check_target
from lbr_st.data.rows import read_rows
from lbr_st.data.same_text import same_text
from lbr_st.data.table import content_hash
from lbr_st.data.words import count_words
from lbr_st.data.write import DROPPED
from lbr_st.errors import InputError, not_written, one_line
from lbr_st.files import data_sha256, read_json, replacing_folder, write_json, write_jsonl, write_text
from lbr_st.model.named import check_model_exists
from lbr_st.records import QUERIES_FILE, Record

logger = logging.getLogger(__name__)

QUERIES = "queries.jsonl"
DTYPES = ("float32", "float16", "bfloat16")
LEAST_WORDS = 8  # of a passage: what is shorter is no text to ask about
# Settings that mean something to a language model alone.
OF_WRITING = ("per_passage", "most", "temperature", "dtype", "batch_size")


class NoQueriesError(InputError):
    """There is no query.

    Args:
        message: What was wrong, and what to do.
        lost: What was left out, and why.
    """

    def __init__(self, message: str, lost: Drops) -> None:
        self.lost = lost
        super().__init__(message)


@dataclass(frozen=True, kw_only=True)
class QueriesConfig:
    """Passages, and how queries for them are got; the fields are the flags of ``lbr data queries``.

    Attributes:
        sources: Prepared sets, files, folders, Hub datasets: what ``lbr data prepare`` reads.
        output_dir: New or empty folder for the queries. Answers are kept in a folder beside it until it is whole.
        model: Language model that writes queries: a directory, a Hub id, a GGUF file, or one of this package.
        generator: Address of a server that answers as OpenAI's API does, instead of a model.
        generator_model: Name of the model there.
        pairs: File of pairs, or prepared set, whose queries are given.
        kinds: Kinds of queries, of `lbr_st.adaptation.kinds.KINDS`; default is all that can be had.
        per_passage: Number of queries that are written for a passage, of the written kinds in turn; default is one of
            each.
        most: Most passages that queries are written for, drawn by the seed; default is all.
        seed: Seed of what is drawn.
        temperature: 0 for the likeliest tokens; above 0 they are drawn, so that there can be several of a kind.
        dtype: Type of the numbers that the model computes in.
        batch_size: Number of queries written at once; of an endpoint, requests at once.
        on_error: ``stop`` at the first row that cannot be used, or ``skip`` and count such rows.
        min_score: Least score of a document that answers its query, where a column grades them.

    Raises:
        InputError: If a value cannot be meant, or does nothing beside the others; the message names the flag.
    """

    sources: Sequence[str | Path]
    output_dir: str | Path
    model: str | None = None
    generator: str | None = None
    generator_model: str | None = None
    pairs: str | None = None
    kinds: Sequence[str] | None = None
    per_passage: int | None = None
    most: int | None = None
    seed: int = 0
    temperature: float = 0.0
    dtype: str = "float32"
    batch_size: int = 8
    on_error: str = "stop"
    min_score: float | None = None

    def __post_init__(self) -> None:
        if isinstance(self.sources, str | Path):
            object.__setattr__(self, "sources", [self.sources])
        if not self.sources:
            raise InputError("no source: name a prepared set, a file, a folder or a Hub dataset")
        for name in ("per_passage", "batch_size", "most"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{_flag(name)} must be at least 1, got {value}")
        for name, choices in (("on_error", ON_ERROR), ("dtype", DTYPES)):
            if getattr(self, name) not in choices:
                raise InputError(f"{_flag(name)} must be one of {', '.join(choices)}, got {getattr(self, name)}")
        if not 0 <= self.temperature < math.inf:
            raise InputError(f"--temperature must be a number from 0, got {self.temperature}")
        for kind in self.kinds or ():
            if kind not in KINDS:
                raise InputError(f"--kinds {kind}: there are {', '.join(KINDS)}")
        self._check_writer()

    def _check_writer(self) -> None:
        if self.model is not None and self.generator is not None:
            raise InputError("--model and --generator are two ways to write queries; give one of them")
        if (self.generator is None) != (self.generator_model is None):
            raise InputError("--generator URL and --generator-model NAME belong together; give both")
        if self.generator is not None and self.dtype != "float32":
            raise InputError(f"--dtype {self.dtype} is for --model; an endpoint computes as it likes")
        written = [kind for kind in self.kinds or () if kind in WRITTEN]
        if self.writes:
            if self.kinds is not None and not written:
                raise InputError(f"--kinds {' '.join(self.kinds)}: none of these is written, so leave out the model")
            return
        if written:
            raise InputError(
                f"--kinds {' '.join(written)} are written by a language model; give --model or --generator"
            )
        for each in fields(self):
            if each.name in OF_WRITING and getattr(self, each.name) != each.default:
                raise InputError(f"{_flag(each.name)} is for queries that are written; give --model or --generator")

    @property
    def writes(self) -> bool:
        """Whether a language model writes queries."""
        return self.model is not None or self.generator is not None

    @property
    def work(self) -> Path:
        """Folder of the answers until the queries are whole."""
        target = Path(self.output_dir).resolve()
        return target.with_name(f"{target.name}.work")

    @property
    def command(self) -> str:
        """Command that makes the queries again."""
        argv = ["lbr", "data", "queries", *map(str, self.sources)]
        for each in fields(self):
            value = getattr(self, each.name)
            if each.name not in ("sources", "output_dir", "batch_size") and value != each.default:
                argv += [_flag(each.name), *map(str, value if isinstance(value, list | tuple) else [value])]
        return shlex.join([*argv, "--output-dir", "DIR"])


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


@dataclass(frozen=True)
class QuerySet:
    """A folder that ``lbr data queries`` wrote.

    Attributes:
        folder: Path of the folder.
        about: Contents of its ``lbr_queries.json``.
    """

    folder: Path
    about: dict[str, Any]

    @classmethod
    def open(cls, folder: str | Path) -> QuerySet:
        """Open a folder of queries.

        Raises:
            InputError: If it is none.
        """
        file = Path(folder) / QUERIES_FILE
        if not file.is_file():
            raise InputError(f"{folder} is no folder that lbr data queries wrote: it has no {QUERIES_FILE}")
        return cls(Path(folder), read_about(file))

    @property
    def file(self) -> str:
        """Path of the queries, which every command reads that reads pairs."""
        return str(self.folder / QUERIES)

    def rows(self) -> Iterator[Record]:
        """Yield the queries as they were written, with ``kind``, ``document_id`` and ``source`` beside the texts."""
        return (row.values for row in read_rows(self.file))

    def __str__(self) -> str:
        counts = ", ".join(f"{number:,} {kind}" for kind, number in self.about["kinds"].items())
        return f"{self.folder} ({counts})"


def read_about(file: Path) -> dict[str, Any]:
    """Read what a folder of queries says of itself.

    Raises:
        InputError: If it says something else than `write_queries` writes.
    """
    try:
        about = read_json(file)
        counts = [*about["kinds"].values(), *about["lost"].values()]
        is_whole = isinstance(about["passages"], dict) and all(isinstance(count, int) for count in counts)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{file} is not what lbr data queries wrote: {one_line(error)}") from error
    if not is_whole:
        raise InputError(f"{file} is not what lbr data queries wrote")
    return about


def write_queries(config: QueriesConfig) -> QuerySet:
    """Write queries for passages, or go on with a run that was interrupted.

    The same sources, model and settings give the same bytes, also where the run was killed on the way. The folder is
    there when all of it is whole, not before.

    Raises:
        InputError: If a source, the model or the endpoint cannot be used, the folder is not empty or cannot be
            written, or answers are kept beside it of a run with other settings.
        NoQueriesError: If there is no query.
        UnfinishedError: If the endpoint does not answer, or the disk is full; what it answered before is kept.
    """
    target = Path(config.output_dir).resolve()
    check_target(target)
    lost = Drops()
    writer, kinds, passages, requests = look(config, lost)
    answers = None
    try:
        if writer is not None and requests:
            answers = Answers(config.work, _settings(config, writer, kinds, requests))
            _write_missing(config, writer, requests, answers)
            _check_answered(config, requests, answers)
        rows = list(_rows(passages, kinds, requests, answers, lost))
        if rows:
            asked = len({request.passage.id for request in requests})
            about = _describe(config, writer, rows, passages, asked, lost)
            with replacing_folder(target) as folder:
                write_jsonl(folder / QUERIES, rows)
                write_jsonl(folder / DROPPED, lost.samples)
                write_text(folder / queries_card.CARD, queries_card.text(about, rows))
                write_json(folder / QUERIES_FILE, about)
    except OSError as error:
        failed = not_written(f"--output-dir {config.output_dir}", error)
        raise _saying_what_is_kept(failed, config, answers) from error
    except Exception as error:
        _saying_what_is_kept(error, config, answers)
        raise
    if answers is not None:
        answers.remove()
    if not rows:
        raise NoQueriesError(_nothing(config, lost), lost)
    return QuerySet(Path(config.output_dir), about)


class ToWrite(NamedTuple):
    """What there is to be written.

    Attributes:
        writer: What writes it; None where nothing is written.
        kinds: Kinds of queries that there are to be.
        passages: All passages, with the queries and titles that they have.
        requests: The queries that are to be written.
    """

    writer: Writer | None
    kinds: list[str]
    passages: list[Passage]
    requests: list[Request]


def look(config: QueriesConfig, lost: Drops) -> ToWrite:
    """Open the writer, read the passages, and say which queries are to be written.

    Args:
        config: Passages, and how queries for them are got.
        lost: Counts passages that are left out.

    Raises:
        InputError: If a source, the model or the endpoint cannot be used.
    """
    writer = _writer_of(config)
    kinds = _kinds_of(config, writer)
    wrong = on_wrong_row(config.on_error, lost)
    chunker = Chunker() if writer is None else writer.make_chunker()
    reading = Reading(
        columns=Columns(min_score=config.min_score), chunker=chunker, wrong=wrong, incomplete=lost.add_error
    )
    passages = read_passages_of([*map(str, config.sources)], config.pairs, reading, lost)
    requests = [] if writer is None else plan(passages, [kind for kind in kinds if kind in WRITTEN], config, lost)
    return ToWrite(writer, kinds, passages, requests)


def _saying_what_is_kept(error: Exception, config: QueriesConfig, answers: Answers | None) -> Exception:
    """Return an error that says how to go on after it."""
    if answers:
        error.add_note(f"{len(answers)} answers are kept in {config.work}, and the same command goes on with them")
    return error


def _writer_of(config: QueriesConfig) -> Writer | None:
    decoding = Decoding(config.temperature, config.seed)
    if config.generator is not None and config.generator_model is not None:
        return Endpoint(config.generator, config.generator_model, decoding, config.batch_size)
    if config.model is None:
        return None
    check_model_exists(config.model)
    return open_writer(config.model, config.dtype, decoding)


def _kinds_of(config: QueriesConfig, writer: Writer | None) -> list[str]:
    """Return the kinds of queries that there are to be, in the order of `KINDS`.

    Raises:
        InputError: If one is asked for that the model does not write, or the same would be written again.
    """
    can = () if writer is None else writer.kinds
    if config.kinds is not None and (cannot := [kind for kind in config.kinds if kind not in (*FOUND, *can)]):
        raise InputError(
            f"--kinds {' '.join(cannot)}: --model {config.model} has no chat template and learned doc2query, which "
            f"writes {' '.join(can)}"
        )
    kinds = [kind for kind in KINDS if kind in (config.kinds or (*FOUND, *can))]
    written = [kind for kind in kinds if kind in WRITTEN]
    if writer is not None and (config.per_passage or 0) > len(written) and not config.temperature:
        raise InputError(
            f"--per-passage {config.per_passage} asks for several of a kind ({', '.join(written)}), which are all the "
            "same at --temperature 0; add --temperature 0.7"
        )
    return kinds


def plan(passages: Sequence[Passage], kinds: Sequence[str], config: QueriesConfig, lost: Drops) -> list[Request]:
    """Return the queries to be written, in the order of the passages.

    Which kinds a passage gets where it gets fewer than there are, is drawn by its text, so that all have their share.

    Args:
        passages: The passages.
        kinds: Kinds that are written.
        config: How many queries for how many passages.
        lost: Counts passages that are too short to ask about.
    """
    asked = []
    for passage in passages:
        if count_words(passage.document) < LEAST_WORDS:
            lost.add(f"passage: fewer than {LEAST_WORDS} words and marks to write about", passage.id, passage.document)
        else:
            asked.append(passage)
    if config.most is not None and config.most < len(asked):
        drawn = sorted(asked, key=lambda each: content_hash(str(config.seed), "drawn", each.document))[: config.most]
        ids = {passage.id for passage in drawn}
        asked = [passage for passage in asked if passage.id in ids]
    requests = []
    for passage in asked:
        first = content_hash(str(config.seed), "kind", passage.document)
        turns = Counter[str]()
        for turn in range(config.per_passage or len(kinds)):
            kind = kinds[(first + turn) % len(kinds)]
            turns[kind] += 1
            requests.append(Request(passage, kind, turns[kind]))
    return requests


def _settings(
    config: QueriesConfig, writer: Writer, kinds: Sequence[str], requests: Sequence[Request]
) -> dict[str, Any]:
    """Return all that decides the answers; how many are written at once does not."""
    passages = {request.passage.id: request.passage.titled for request in requests}
    names = ("per_passage", "most", "seed", "temperature")
    return {
        **writer.about,
        "kinds": [*kinds],
        **{name: getattr(config, name) for name in names},
        "prompts_sha256": prompts_sha256(),
        "passages_sha256": data_sha256([[*passages.items()]]),
    }


def batches_of(requests: Sequence[Request], size: int) -> list[list[Request]]:
    """Return requests in batches of passages of like lengths, the longest first: what takes most memory is tried first.

    The queries of one passage lie side by side, whichever of them are there already.
    """
    places = {request.passage.id: place for place, request in reversed([*enumerate(requests)])}
    ordered = sorted(requests, key=lambda each: (-len(each.passage.titled), places[each.passage.id]))
    return [ordered[start : start + size] for start in range(0, len(ordered), size)]


def _write_missing(config: QueriesConfig, writer: Writer, requests: Sequence[Request], answers: Answers) -> None:
    left = Counter(request.passage.id for request in requests if request.key not in answers)
    passages = len({request.passage.id for request in requests})
    if len(answers):
        logger.info("going on: %d of %d queries are written already", len(requests) - left.total(), len(requests))
    bar = tqdm(total=passages, initial=passages - len(left), desc="Writing queries", unit="passages")
    with answers.open(), bar as progress:
        for batch in batches_of(requests, config.batch_size):
            missing = [request for request in batch if request.key not in answers]
            for request, answer in writer.write(batch if writer.batches_are_whole else missing) if missing else ():
                if request.key in answers:
                    continue
                answers.add(request.key, answer)
                left[request.passage.id] -= 1
                progress.update(not left[request.passage.id])


def _check_answered(config: QueriesConfig, requests: Sequence[Request], answers: Answers) -> None:
    """Refuse an endpoint that refused all it was asked: then it is not the passages."""
    if refused := next((answers[request.key].refused for request in requests), ""):
        if all(answers[request.key].refused for request in requests):
            raise InputError(f"--generator {config.generator} refuses what it is asked: {refused}")


def _rows(
    passages: Sequence[Passage],
    kinds: Sequence[str],
    requests: Sequence[Request],
    answers: Answers | None,
    lost: Drops,
) -> Iterator[Record]:
    """Yield the queries in the order of the passages, each once for its passage, and count what is lost."""
    of_passage: dict[str, list[Request]] = {}
    for request in requests:
        of_passage.setdefault(request.passage.id, []).append(request)
    unique = UniqueIds()
    found = {each.id: [*_queries_of(each, of_passage.get(each.id, ()), answers)] for each in passages}
    # "What is the text about?"
    times = Counter(
        text for each in found.values() for text in {same_text(q) for kind, q, _ in each if kind in WRITTEN}
    )
    for passage in passages:
        seen: set[str] = set()
        numbers: Counter[str] = Counter()
        for kind, query, why in found[passage.id]:
            if kind not in kinds:
                continue
            text = same_text(query)
            why = why or (OF_SEVERAL if kind in WRITTEN and times[text] > 1 else AGAIN if text in seen else None)
            if why is not None:
                lost.add(f"{kind}: {why}", passage.id, query)
                continue
            seen.add(text)
            numbers[kind] += 1
            yield {
                "id": unique(f"{passage.id}#{kind}", numbers[kind]),
                "query": query,
                "document": passage.document,
                "kind": kind,
                "document_id": passage.id,
                "source": passage.source,
            }


def _queries_of(
    passage: Passage, requests: Sequence[Request], answers: Answers | None
) -> Iterator[tuple[str, str, str | None]]:
    """Yield (kind, query, why it is none) of a passage, in the order of `KINDS`."""
    for query in passage.given:
        yield "given", query, None
    for title in passage.titles:
        yield "title", title, why_not(title, passage.document)
    for request in sorted(requests, key=lambda each: (WRITTEN.index(each.kind), each.number)):
        assert answers is not None
        yield request.kind, *query_of(answers[request.key], request.kind, passage.document)


def _nothing(config: QueriesConfig, lost: Drops) -> str:
    names = ", ".join(map(str, config.sources))
    if not config.writes:
        return f"{names}: no queries and no titles; give --model or --generator, which write some"
    return (
        f"no queries: {lost.describe().partition(': ')[2]}; take another language model or other --kinds"
        if lost.counts
        else f"{names}: no queries"
    )


def _describe(
    config: QueriesConfig,
    writer: Writer | None,
    rows: Sequence[Record],
    passages: Sequence[Passage],
    asked: int,
    lost: Drops,
) -> dict[str, Any]:
    counts = Counter(row["kind"] for row in rows)
    sources = [*map(str, config.sources), *([config.pairs] if config.pairs else [])]
    about: dict[str, Any] = dict(writer.about) if writer is not None else {}
    if os.path.exists(name := about.get("model") or ""):
        about["model"] = Path(name).name
    return {
        "name": " + ".join(Path(source).resolve().name.partition(".")[0] for source in map(str, config.sources)),
        "written_by": about,
        "settings": {name: getattr(config, name) for name in ("per_passage", "most", "seed", "temperature")},
        "passages": {
            "read": len(passages),
            "written_about": asked,
            "with_queries": len({row["document_id"] for row in rows}),
        },
        "kinds": {kind: counts[kind] for kind in KINDS if counts[kind]},
        "lost": dict(sorted(lost.counts.items())),
        "mteb": mteb_tasks_of(sources, rows),
        "command": config.command,
    }
