"""``lbr data prepare``: sources in; a clean set out, split, isolated and described."""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, Features, List, Value
from datasets.arrow_writer import ArrowWriter
from tqdm.auto import tqdm

from lbr_st.data import card, registry
from lbr_st.data import split as splits
from lbr_st.data.cleaning import clean, printable
from lbr_st.data.drops import Drops
from lbr_st.data.overlap import count, overlaps
from lbr_st.data.parts import Part, Reading, parts_of
from lbr_st.data.prepared_set import SET_FILE
from lbr_st.data.records import UniqueIds
from lbr_st.data.rows import stop
from lbr_st.data.settings import HELD_OUT, Settings
from lbr_st.data.sides import Sides
from lbr_st.data.stopwatch import Stopwatch
from lbr_st.errors import InputError
from lbr_st.files import UNFINISHED, file_sha256, write_json, write_text
from lbr_st.records import Record

logger = logging.getLogger(__name__)

# What a record is while it is prepared.
FEATURES = Features(
    {
        "id": Value("string"),
        "document_id": Value("string"),
        "query": Value("string"),
        "document": Value("string"),
        "negatives": List(Value("string")),
        "source": Value("string"),
        "group": Value("string"),
        "side": Value("string"),
        "relevance": Value("int64"),
        "is_choice": Value("bool"),
    }
)


def prepare(
    sources: Sequence[tuple[str, str | None]],
    output_dir: str | Path,
    reading: Reading,
    settings: Settings,
    about: card.About,
) -> dict[str, float]:
    """Prepare a set.

    The same sources and settings give the same bytes.

    Args:
        sources: What `lbr_st.data.parts.parts_of` takes, each with the side the user says that it is, or None.
        output_dir: New or empty folder. It is there when all of it is whole, not before.
        reading: How sources are read.
        settings: What decides the set.
        about: What the card says beside what was found.

    Returns:
        Seconds by step.

    Raises:
        InputError: If a source or a row cannot be used, nothing is left of them, or the folder is not empty or cannot
            be written.
    """
    target = Path(output_dir).resolve()
    _check_target(target)
    settings.check()
    drops, watch = Drops(), Stopwatch()
    wrong = drops.add_error if settings.on_error == "skip" else stop
    reading = replace(reading, wrong=wrong, incomplete=drops.add_error)
    parts = [
        part._replace(side=side) if settings.resplit else part
        for source, side in sources
        for part in parts_of(source, reading, side)
    ]
    # What is held out keeps its ids, and others give way.
    parts.sort(key=lambda part: HELD_OUT.index(part.side) if part.side in HELD_OUT else len(HELD_OUT))
    for leftover in target.parent.glob(f".{target.name}-*{UNFINISHED}"):
        logger.warning("%s is left of a run that was killed, or one that still runs; it can be deleted", leftover)
    unfinished = target.parent / f".{target.name}-{uuid.uuid4().hex[:8]}{UNFINISHED}"
    try:
        if target.is_dir():  # what could not be replaced in the end is found out now
            target.rmdir()
            target.mkdir()
        unfinished.mkdir(parents=True)
        with tempfile.TemporaryDirectory(dir=unfinished) as work:
            with watch("read"):
                table = _read(parts, work, settings, drops)
            found = Sides(table, settings, drops, watch)
            with watch("write"):
                found.write(unfinished)
        with watch("card"):
            _describe(unfinished, found, drops, about, [source for source, _ in sources])
        if target.is_dir():
            target.rmdir()
        os.replace(unfinished, target)
    except OSError as error:
        raise InputError(f"{output_dir} was not written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return watch.seconds


def _check_target(output_dir: Path) -> None:
    if output_dir == Path.cwd():
        raise InputError("--output-dir is where you are; give the set a folder of its own")
    if output_dir.is_file() or (output_dir.is_dir() and any(output_dir.iterdir())):
        raise InputError(f"--output-dir {output_dir} is not an empty folder; choose another")


def _read(parts: Sequence[Part], work: str, settings: Settings, drops: Drops) -> Dataset:
    """Read, clean and lay down on disk: in memory are ids and hashes, and, of BEIR, the texts."""
    file = os.path.join(work, "records.arrow")
    with ArrowWriter(path=file, features=FEATURES) as writer:
        for record in _records(parts, settings, drops):
            writer.write(record)
        writer.finalize()
    return Dataset.from_file(file)


def _records(parts: Sequence[Part], settings: Settings, drops: Drops) -> Iterator[Record]:
    unique = UniqueIds()
    seen: set[int] = set()
    for part in parts:
        number = 0
        for number, record in enumerate(tqdm(part.records(), f"Reading {part.name}", unit="rows"), start=1):
            reason = _clean(record, settings)
            if reason is None:
                key = splits.content_hash(part.side, record.get("query"), record["document"], *record["negatives"])
                reason = "exact duplicate" if key in seen else None
                seen.add(key)
            if reason is not None:
                drops.add(reason, record["id"], record.get("query") or record["document"])
                continue
            id_ = unique(printable(record["id"]), number)
            texts = {key: printable(record[key]) for key in ("source", "group") if record.get(key) is not None}
            yield {
                **dict.fromkeys(FEATURES), **{key: record[key] for key in FEATURES if key in record}, **texts,
                "id": id_, "document_id": printable(record.get("document_id", id_)), "side": part.side,
            }  # fmt: skip
        if not number and not drops.counts:
            raise InputError(f"{part.name}: no records")


def _clean(record: Record, settings: Settings) -> str | None:
    """Clean a record in place; return why it has to be left out, or None."""
    keep_html = record.get("keep_html", False)
    for field_, (least, most) in (
        ("query", settings.query_characters),
        ("document", settings.document_characters),
    ):
        if field_ in record:
            text = record[field_] = clean(record[field_], keep_html, one_line=field_ == "query")
            if not text:
                return f"{field_} empty"
            if len(text) < least:
                return f"{field_} shorter than {least} characters"
            if len(text) > most:
                return f"{field_} longer than {most} characters"
    negatives = (clean(text, keep_html) for text in record["negatives"])
    record["negatives"] = [text for text in negatives if text]
    return "judged not relevant" if record.get("relevance", 1) <= 0 else None


def _describe(folder: Path, found: Sides, drops: Drops, about: card.About, sources: Sequence[str]) -> None:
    """Write ``lbr_set.json``, the card and its picture."""
    settings = found.settings
    origins = [*sources, *about.derived_from]
    sources_seen = [{"source": source} for source in dict.fromkeys(found.table["source"])]
    licences = dict.fromkeys(entry.licence for entry in registry.entries_of(origins, sources_seen))
    described: dict[str, Any] = {
        "name": about.name,
        "regime": settings.regime,
        "objective": found.objective,
        "isolated": list(found.isolated),
        "near_duplicates": settings.near_duplicates,
        "licence": about.licence or ", ".join(licences) or None,
        "mteb": registry.mteb_tasks(origins, sources_seen),
        "files": {
            name: {
                "records": len(indices),
                "tokens": sum(int(tokens.sum()) for tokens in found.tokens_of(name).values()),
                "sha256": file_sha256(folder / f"{name}.jsonl"),
            }
            for name, indices in found.rows.items()
        },
        "tokens_are": settings.token,
        "searched_only": int((found.side == "corpus").sum()),
        "in_both_stages": int(np.isin(found.rows.get("gl", []), found.rows.get("cl", [])).sum()),
        "pairs_with_hard_negatives": int(found.has_negatives(found.rows["cl"]).sum()) if "cl" in found.rows else 0,
        "dropped": dict(sorted(drops.counts.items())),
        "overlaps_taken_out": count(found.overlaps),
        "overlaps_left": _left(folder, found),
        "command": about.command,
    }
    if any(number for kinds in described["overlaps_left"].values() for number in kinds.values()):
        raise RuntimeError(
            f"a set that is not isolated was not kept: {described['overlaps_left']}; this is a bug of lbr-st"
        )
    write_json(folder / SET_FILE, described)
    card.plot(folder / card.PICTURE, {name: found.tokens_of(name) for name in found.rows}, settings.token)
    write_text(folder / "README.md", card.text(described))


def _left(folder: Path, found: Sides) -> dict[str, dict[str, int]]:
    """Count, in the files as they were written, what is on two sides still."""

    def rows(*names: str) -> Iterator[Record]:
        for name in names if found.has_pairs else ["passages" if name == "cl" else name for name in names]:
            if name in found.rows:
                with open(folder / f"{name}.jsonl", encoding="utf-8") as file:
                    yield from map(json.loads, file)

    fields = found.isolated if found.has_pairs else ("document",)
    least = found.settings.near_duplicates
    trained: list[tuple[Sequence[str], Sequence[str]]] = [(("dev",), ("test",))]
    if found.has_pairs or found.settings.regime == "strict":  # else what is searched is taught, and that is all
        trained.append((("gl", "cl"), HELD_OUT))
    return count(each for own, theirs in trained for each in overlaps(rows(*own), list(rows(*theirs)), fields, least))
