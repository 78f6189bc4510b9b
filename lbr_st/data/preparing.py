"""Sources in; a clean set out, split, isolated and described."""

from __future__ import annotations

import logging
import os
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from datasets.arrow_writer import ArrowWriter
from numpy.typing import NDArray
from tqdm.auto import tqdm

from lbr_st.data import card, registry
from lbr_st.data.cleaning import printable
from lbr_st.data.config import HELD_OUT, ROW_FIELDS, PrepareConfig, flag
from lbr_st.data.deduplicate import clusters_of, drop_duplicates
from lbr_st.data.drops import Drops, on_wrong_row
from lbr_st.data.ids import TWICE, UniqueIds
from lbr_st.data.isolate import is_isolated, isolate, isolated_fields, overlaps_left, taken_out
from lbr_st.data.judgements import BOTH_WAYS, JUDGED, JUDGED_OUT, NEGATIVES_NOW, join
from lbr_st.data.overlap import Overlap, count
from lbr_st.data.parts import Part, Reading, parts_of
from lbr_st.data.passages import Chunker
from lbr_st.data.prepared_set import PreparedSet
from lbr_st.data.same_text import same_text
from lbr_st.data.split import split
from lbr_st.data.table import FEATURES, LEFT_OUT, Table, content_hash, counter_of, measured, unit_of
from lbr_st.data.write import files_of, tokens_of, write_files
from lbr_st.errors import InputError, not_written
from lbr_st.files import UNFINISHED, file_sha256, replacing_folder, require_empty, require_place
from lbr_st.records import Record

logger = logging.getLogger(__name__)


class Stopwatch:
    """Seconds by step."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, step: str) -> Iterator[None]:
        """Time a step."""
        start = time.perf_counter()
        yield
        self.seconds[step] = self.seconds.get(step, 0.0) + time.perf_counter() - start


def prepare(config: PrepareConfig, watch: Stopwatch | None = None) -> PreparedSet:
    """Prepare a set: read, clean, leave out duplicates, split, isolate, write, and prove the isolation on the files.

    The same sources and settings give the same bytes. The folder is there when all of it is whole, not before.

    Args:
        config: Sources and settings.
        watch: Times the steps; default is that their times are logged.

    Raises:
        InputError: If a source or a row cannot be used, nothing is left of them, or the folder is not empty or cannot
            be written to.
        UnfinishedError: If the disk does not take it.
    """
    require_place(config.output_dir)
    target = Path(config.output_dir).resolve()
    check_target(target)
    drops, watch = Drops(), watch or Stopwatch()
    count_tokens = counter_of(config.tokenizer)
    parts = _parts(config, Chunker(config.chunk_tokens, count_tokens), drops)
    _check_asked(parts, config)
    logger.info("reading %s", ", ".join(part.name for part in parts))
    try:
        if target.is_dir():  # what could not be replaced in the end is found out now
            target.rmdir()
            target.mkdir()
        with replacing_folder(target) as folder, tempfile.TemporaryDirectory(dir=folder) as work:
            with watch("read"):
                dataset = _read(parts, work, config, drops)
                _check_sides(parts, dataset, drops)
            isolated = isolated_fields(dataset["is_choice"], config.isolate)
            with watch("measure"):
                table = measured(dataset, drops, config.num_proc, count_tokens, config.same_text)
            with watch("near-duplicates"):
                clusters = clusters_of(table, config.near_duplicates)
                drop_duplicates(table, clusters, config.near_duplicates)
            _search_what_has_no_query(table)
            _check_queries(table, config)
            # What is held out already, before more is cut off: a set is then as large as was asked.
            with watch("isolation"):
                overlaps = isolate(table, isolated, config)
                _check_what_is_left(table, config)
            with watch("split"):
                was_split = split(table, clusters, isolated, config)
            with watch("isolation"):
                overlaps += isolate(table, isolated, config) if was_split else []
                _check_what_is_left(table, config)
            files = files_of(table, config)
            for reason, examples in drops.examples.items():
                logger.info("left out %d, %s: %s", drops.counts[reason], reason, "; ".join(examples))
            with watch("write"):
                write_files(folder, table, files)
            with watch("card"):
                about = _describe(folder, table, files, isolated, overlaps, config)
                card.write(folder, about, {name: tokens_of(table, name, rows) for name, rows in files.items()})
    except OSError as error:
        raise not_written(str(config.output_dir), error) from error
    logger.info("%s", ", ".join(f"{step} {seconds:.1f} s" for step, seconds in watch.seconds.items()))
    return PreparedSet(Path(config.output_dir), about)


def check_target(target: Path) -> None:
    """Refuse a folder that a set cannot take the place of, and name what killed runs have left beside it.

    Raises:
        InputError: If it is where the user is, is a file or holds files.
    """
    if target == Path.cwd():
        raise InputError("--output-dir is where you are; give the set a folder of its own")
    require_empty(target)
    for leftover in target.parent.glob(f".{target.name}-*{UNFINISHED}"):
        logger.warning("%s is left of a run that was killed, or one that still runs; it can be deleted", leftover)


def _parts(config: PrepareConfig, chunker: Chunker, drops: Drops) -> list[Part]:
    reading = Reading(
        columns=config.columns,
        id=config.id,
        group=config.group_by,
        encoding=config.encoding,
        chunker=chunker,
        keep_html=config.keep_html,
        wrong=on_wrong_row(config.on_error, drops),
        incomplete=drops.add_error,
    )
    parts = [
        part._replace(side=side) if config.resplit else part
        for source, side in config.sides
        for part in parts_of(source, reading, side)
    ]
    # What is held out keeps its ids, and others give way.
    parts.sort(key=lambda part: HELD_OUT.index(part.side) if part.side in HELD_OUT else len(HELD_OUT))
    return parts


def _read(parts: Sequence[Part], work: str, config: PrepareConfig, drops: Drops) -> Dataset:
    """Read and lay down on disk: in memory are ids and hashes, and, of BEIR, the texts."""
    dataset = _on_disk(os.path.join(work, "records.arrow"), _records(parts, config, drops))
    if 0 not in dataset.unique("relevance"):
        return dataset
    return _on_disk(os.path.join(work, "answers.arrow"), _answers(dataset, config.same_text, drops))


def _on_disk(file: str, records: Iterable[Record]) -> Dataset:
    with ArrowWriter(path=file, features=FEATURES) as writer:
        for record in records:
            writer.write(record)
        writer.finalize()
    return Dataset.from_file(file)


def _answers(dataset: Dataset, same: str, drops: Drops) -> Iterator[Record]:
    """Yield the records that answer their query, with those of it that do not, on the same side, as hard negatives.

    Documents that answer nothing are yielded too, each once and without a query: they are to be searched. Neither which
    of a query's many documents become hard negatives nor their order depends on that of the rows.
    """
    queries: list[int] = []
    documents: list[int] = []
    said: list[int] = []
    answers: list[bool] = []
    for batch in dataset.select_columns(["side", "query", "document", "relevance"]).iter(batch_size=1000):
        asked = (None if query is None else same_text(query, same) for query in batch["query"])
        queries += map(content_hash, (side or "train" for side in batch["side"]), asked)
        documents += map(content_hash, batch["document"])
        said += map(content_hash, (same_text(text, same) for text in batch["document"]))
        answers += [relevance != 0 for relevance in batch["relevance"]]
    by_text = sorted(range(len(dataset)), key=documents.__getitem__)
    joined = join([queries[row] for row in by_text], [said[row] for row in by_text], [answers[row] for row in by_text])
    negatives = {by_text[row]: [by_text[other] for other in others] for row, others in joined.negatives.items()}
    texts, own = dataset.data.column("document"), dataset.data.column("negatives")
    there = {document for document, is_answer in zip(documents, answers, strict=True) if is_answer}
    for index, record in enumerate(dataset):
        if answers[index]:
            more = (text for other in negatives.get(index, ()) for text in (texts[other], *own[other]))
            yield record | {"negatives": list(dict.fromkeys([*record["negatives"], *(text.as_py() for text in more)]))}
        elif there and documents[index] not in there:
            there.add(documents[index])
            yield record | {"query": None, "negatives": [], "relevance": None, "side": None}
    for reason, indices in ((JUDGED, joined.left_out), (BOTH_WAYS, joined.both_ways)):
        for index in sorted(by_text[each] for each in indices):
            drops.add(reason, dataset[index]["id"], dataset[index]["query"])
    numbers = {JUDGED_OUT: len(joined.left_out), BOTH_WAYS: len(joined.both_ways)}
    numbers = {NEGATIVES_NOW: answers.count(False) - sum(numbers.values())} | numbers
    logger.info(", ".join(f"{number:,} {what}" for what, number in numbers.items() if number))


def _records(parts: Sequence[Part], config: PrepareConfig, drops: Drops) -> Iterator[Record]:
    unique = UniqueIds()
    seen: set[int] = set()
    for part in parts:
        number = twice = 0
        for number, record in enumerate(tqdm(part.records(), f"Reading {part.name}", unit="rows"), start=1):
            reason = _reason_to_leave_out(record, config)
            if reason is None:
                judged = "no answer" if record.get("relevance") == 0 else None
                side = part.side or "train"  # what nobody says a side of may come to any
                key = content_hash(side, judged, record.get("query"), record["document"], *record["negatives"])
                reason = "exact duplicate" if key in seen else None
                seen.add(key)
            if reason is not None:
                drops.add(reason, record["id"], record.get("query") or record["document"])
                continue
            own = printable(record["id"])
            id_ = unique(own, record.get("row", number))
            twice += id_ != own
            texts = {key: printable(record[key]) for key in ("source", "group") if record.get(key) is not None}
            yield {
                **dict.fromkeys(FEATURES), **{key: record[key] for key in FEATURES if key in record}, **texts,
                "id": id_, "document_id": printable(record.get("document_id", id_)), "side": part.side,
            }  # fmt: skip
        if twice:
            logger.info("%s: %d %s", part.name, twice, TWICE)
        if not number and not drops.counts:
            raise InputError(f"{part.name}: no records")


def _reason_to_leave_out(record: Record, config: PrepareConfig) -> str | None:
    """Return why a record has to be left out, or None."""
    for name, (least, most) in (("query", config.query_characters), ("document", config.document_characters)):
        if name in record:
            text = record[name]
            if not text:
                return f"{name} empty"
            if len(text) < least:
                return f"{name} shorter than {least} characters"
            if len(text) > most:
                return f"{name} longer than {most} characters"
    return None


def _check_asked(parts: Sequence[Part], config: PrepareConfig) -> None:
    """Refuse what is said of rows where no source has such rows, and a size of what a source has already.

    Raises:
        InputError: If there is such a flag.
    """
    said = [name for name in ROW_FIELDS if getattr(config, name) not in (None, (), [])]
    for name in said:
        if not any(name in part.asks for part in parts):
            raise InputError(
                f"{flag(name)} is of no use: {', '.join(map(str, config.sources))} has no rows that it could be said "
                "of; a collection of BEIR, a set of lbr data list, texts and installed packages are read in one way"
            )
    for name in HELD_OUT:
        own = next((part.name for part in parts if part.side == name), None)
        if own is not None and config.is_asked(name):
            raise InputError(
                f"--{name} {config.asked(name)}: {own} is {name} already; leave the number out, or forget the sides of "
                "the sources with --resplit"
            )


def _check_queries(table: Table, config: PrepareConfig) -> None:
    """Refuse what needs queries where there are none, and say of which side of a source nothing can be asked.

    Raises:
        InputError: If the user asks for it.
    """
    if not table.has_pairs:
        for name in ("test", "align"):
            if config.is_asked(name):
                raise InputError(f"--{name} {config.asked(name)}: no record has a query; leave it out, or give pairs")
    for name in HELD_OUT:
        kept = table.on(name)
        if name in table.given and not (table.has_query[kept].any() or (name == "dev" and not table.has_pairs)):
            why = f"no record of {name} has a query, so that nothing can be asked"
            if (file := config.file(name)) is not None:
                raise InputError(f"--{name} {file}: {why}; give pairs")
            logger.warning("%s", why)


def _check_sides(parts: Sequence[Part], dataset: Dataset, drops: Drops) -> None:
    """Refuse a side that the user or a source names, and of which no record can be used.

    Raises:
        InputError: If there is one; with what was left out.
    """
    found = dataset.unique("side")
    for side in dict.fromkeys(part.side for part in parts):
        if side is not None and side not in found and len(dataset):
            raise InputError(f"nothing is left of {side}; left out were {drops}")


def _check_what_is_left(table: Table, config: PrepareConfig) -> None:
    """Refuse a set whose training records, or dev, were all taken out as being held out.

    Raises:
        InputError: If it is one; with how many each step took, and some of what it took.
    """
    trains = any(float(config.asked(stage).rstrip("%")) for stage in ("learn", "align"))
    for side, what, is_asked in (("dev", "of dev", True), ("train", "to train on", trains)):
        taken = [reason for reason in taken_out(side) if reason in table.drops.counts]
        if is_asked and taken and not len(table.on(side)):
            shown = "; ".join(text for reason in taken for text in table.drops.examples.get(reason, ()))
            raise InputError(
                f"nothing is left {what}; left out were {table.drops}{f' ({shown})' if shown else ''}. --same-text and "
                "--near-duplicates say what is the same, --isolate and --group-by what is kept apart"
            )


def _search_what_has_no_query(table: Table) -> None:
    """Take documents alone out of training where there are pairs: they are neither asked for nor trained on."""
    kept = table.side != LEFT_OUT
    table.has_pairs = bool((table.has_query & kept).any())
    if table.has_pairs:
        table.side[kept & ~table.has_query] = "corpus"


def _describe(
    folder: Path,
    table: Table,
    files: Mapping[str, NDArray[np.int64]],
    isolated: Sequence[str],
    overlaps: Sequence[Overlap],
    config: PrepareConfig,
) -> dict[str, Any]:
    """Return the contents of ``lbr_set.json``; what is on two sides is counted in the files as they were written."""
    origins = [*(source for source, _ in config.sides), *config.derived_from]
    seen = [{"source": source} for source in dict.fromkeys(table.dataset["source"])]
    licenses = dict.fromkeys(entry.license for entry in registry.entries_of(origins, seen))
    about: dict[str, Any] = {
        "name": config.title,
        "regime": config.regime,
        "objective": _objective(table, config),
        "isolated": list(isolated),
        "same_text": config.same_text,
        "near_duplicates": config.near_duplicates,
        "license": config.license or ", ".join(licenses) or None,
        "mteb": registry.mteb_tasks(origins, seen),
        "files": {
            name: {
                "records": len(indices),
                "tokens": sum(int(tokens.sum()) for tokens in tokens_of(table, name, indices).values()),
                "sha256": file_sha256(folder / f"{name}.jsonl"),
            }
            for name, indices in files.items()
        },
        "tokens_are": unit_of(config.tokenizer),
        "tokenizer": config.tokenizer,
        "searched_only": len(
            np.setdiff1d(table.document[table.on("corpus")], table.document[table.on("train", *HELD_OUT)])
        ),
        "in_both_stages": int(np.isin(files.get("learn", []), files.get("align", [])).sum()),
        "pairs_with_hard_negatives": int(table.has_negatives(files["align"]).sum()) if "align" in files else 0,
        "dropped": dict(sorted(table.drops.counts.items())),
        "dropped_examples": table.drops.examples,
        "overlaps_taken_out": count(overlaps),
        "overlaps_left": {},
        "command": config.command,
    }
    about["overlaps_left"] = overlaps_left(folder, about)
    if not is_isolated(about["overlaps_left"]):
        raise RuntimeError(
            f"a set that is not isolated was not kept: {about['overlaps_left']}; this is a bug of lbr-st"
        )
    return about


def _objective(table: Table, config: PrepareConfig) -> str:
    """Return what stage 1 does with the set by default."""
    if not table.has_pairs:
        return "reconstruct"
    return "sft:0.5,reconstruct:0.5" if config.regime == "corpus-taught" else "sft"
