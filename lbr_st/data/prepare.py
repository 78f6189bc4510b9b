"""``lbr data prepare``: sources in; a clean set out, split, isolated and described."""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute
from datasets import Dataset, Features, List, Value
from datasets.arrow_writer import ArrowWriter
from numpy.typing import NDArray
from tqdm.auto import tqdm

from lbr_st.data import card, near, registry, splits
from lbr_st.data.columns import Record, RowError
from lbr_st.data.isolation import FIELDS, Overlap, count, overlaps
from lbr_st.data.passages import count_words
from lbr_st.data.reading import Part, Reading, parts_of
from lbr_st.data.records import UniqueIds
from lbr_st.data.sets import FILES, SET_FILE
from lbr_st.data.sources import stop
from lbr_st.data.texts import clean, printable, same_text
from lbr_st.errors import InputError
from lbr_st.files import UNFINISHED, file_sha256, write_json, write_jsonl, write_text

logger = logging.getLogger(__name__)

SAMPLES = 5  # of each reason, kept in dropped.jsonl
SAMPLE_CHARACTERS = 200
HELD_OUT = ("test", "dev")
FEWEST = 30  # held-out records, below which a warning says so
DEFAULT_SIZES = {"test": "0.1", "dev": "0.05", "gl": "1.0", "cl": "1.0"}
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


@dataclass(frozen=True)
class Settings:
    """What decides a prepared set, beside its sources.

    Attributes:
        query_characters: Least and most characters of a query.
        document_characters: The same of a document.
        near_duplicates: Least Jaccard index of near-duplicates, 0 for none.
        isolated: Which of ``query`` and ``document`` must not be on two sides; None is both, or, of multiple choice,
            whose options come again and again, the query.
        sizes: Number or share of the pairs of ``test`` and ``dev``, and of the training pairs for ``gl`` and ``cl``;
            default is `DEFAULT_SIZES`, as far as there is enough.
        regime: One of `lbr_st.data.sets.REGIMES`.
        resplit: Forget the sides that sources have.
        on_error: ``stop`` at the first row that cannot be used, or ``skip`` and count it.
        count_tokens: Counts the tokens of a text.
        token: What it counts.
        processes: To run in.
    """

    query_characters: tuple[int, int] = (1, 2_000)
    document_characters: tuple[int, int] = (1, 50_000)
    near_duplicates: float = near.THRESHOLD
    isolated: Sequence[str] | None = None
    sizes: Mapping[str, str | int | float] = field(default_factory=dict)
    regime: str = "strict"
    resplit: bool = False
    on_error: str = "stop"
    count_tokens: Callable[[str], int] = count_words
    token: str = "words and marks"
    processes: int = 1


class Drops:
    """What was left out: how many by reason, and some of each."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._samples: dict[str, list[dict[str, str]]] = defaultdict(list)

    def add(self, reason: str, id_: str, text: str) -> None:
        """Count one."""
        self.counts[reason] += 1
        if len(self._samples[reason]) < SAMPLES:
            sample = {"reason": reason, "id": id_, "text": text[:SAMPLE_CHARACTERS]}
            self._samples[reason].append({key: printable(value) for key, value in sample.items()})

    def add_error(self, error: RowError) -> None:
        """Count a row that could not be read, and go on."""
        self.add(f"cannot be read: {error.reason}", error.where, str(error))

    @property
    def samples(self) -> list[dict[str, str]]:
        """Some of each reason, by reason."""
        return [sample for reason in sorted(self._samples) for sample in self._samples[reason]]


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
        sources: What `lbr_st.data.reading.parts_of` takes, each with the side the user says that it is, or None.
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
    check(target, settings)
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
            found = _Found(table, settings, drops, watch)
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


def check(output_dir: Path, settings: Settings) -> None:
    """Refuse settings that cannot be meant, before anything is read.

    Raises:
        InputError: Which.
    """
    if output_dir == Path.cwd():
        raise InputError("--output-dir is where you are; give the set a folder of its own")
    if output_dir.is_file() or (output_dir.is_dir() and any(output_dir.iterdir())):
        raise InputError(f"--output-dir {output_dir} is not an empty folder; choose another")
    near.check_threshold(settings.near_duplicates)
    for flag, (least, most) in (
        ("--query-characters", settings.query_characters),
        ("--document-characters", settings.document_characters),
    ):
        if not 1 <= least <= most:
            raise InputError(f"{flag} must be two numbers from 1, the smaller first, got {least} {most}")
    for name in settings.sizes:
        _size(settings, name, 1)


def _size(settings: Settings, name: str, total: int) -> int:
    return splits.size_of(settings.sizes.get(name, DEFAULT_SIZES[name]), total, f"--{name}")


def _check_enough(settings: Settings, name: str, total: int, of: str) -> None:
    """Refuse a number of records that there are not."""
    asked = str(settings.sizes.get(name, 0))
    if asked.isdecimal() and int(asked) > total:
        raise InputError(f"--{name} {asked}, but there are only {total} {of}")


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


class _Found:
    """What is found out about the records, step by step: near-duplicates, sides, what is on two sides.

    Args:
        table: The records.
        settings: What decides the set.
        drops: Counts what is left out.
        watch: Times the steps.

    Attributes:
        side: Of each record: ``train``, ``dev``, ``test``, ``corpus`` (searched, and seen by no stage), or ``""`` where
            it is left out.
        isolated: Which fields are.
        order: A hash of each record's contents.
        document: A hash of each record's document.
        tokens: Of each record's ``query`` and ``document``.
        overlaps: What was on two sides, and is not any more.
        negatives: Hard negatives of records that lost some, by index.
        rows: Indices of the records of each file.
    """

    def __init__(self, table: Dataset, settings: Settings, drops: Drops, watch: Stopwatch) -> None:
        if not len(table):
            raise InputError(f"no records are left{_list_drops(drops)}")
        self.table, self.settings, self.drops = table, settings, drops
        self.text = {name: table.data.column(name) for name in ("id", "query", "document")}
        self.isolated = self._isolated()
        self.has_query = ~self.text["query"].is_null().to_numpy()
        with watch("measure"):
            self._measure()
        with watch("near-duplicates"):
            self.cluster = {name: self._clusters(name) for name in FIELDS}
            kept = self._without_duplicates()
        given = np.array([side or "" for side in self.table["side"]], dtype="<U6")
        self.side = np.where(given == "", "train", given)
        self.side[~kept] = ""
        self.has_pairs = bool((self.has_query & kept).any())
        if self.has_pairs:  # documents alone are neither asked for nor trained on in pairs: they are searched
            self.side[kept & ~self.has_query] = "corpus"
        self.negatives: dict[int, list[str]] = {}
        # What is held out already, before more is cut off: a set is then as large as was asked.
        with watch("isolation"):
            self.overlaps = self._isolate()
        with watch("split"):
            sizes = self._split(given)
        with watch("isolation"):
            self.overlaps += self._isolate() if any(sizes.values()) else []
        self.rows = self._files()

    def _isolated(self) -> Sequence[str]:
        is_choice = [bool(each) for each in self.table["is_choice"]]
        if self.settings.isolated is not None or not any(is_choice):
            return self.settings.isolated or FIELDS
        if not all(is_choice):
            raise InputError("multiple choice and others in one set: say what to keep apart, --isolate query or both")
        return ("query",)

    def _map(self, table: Dataset, function: Callable[..., dict[str, Any]], features: Features, what: str) -> Any:
        processes = min(self.settings.processes, max(1, len(table) // 1000))
        mapped = table.map(
            function,
            batched=True,
            remove_columns=table.column_names,
            features=features,
            num_proc=processes if processes > 1 else None,
            new_fingerprint=f"{what}-{len(table)}".replace(" ", "-"),
            load_from_cache_file=False,
            desc=what,
        )
        return mapped.data.table

    def _measure(self) -> None:
        names = ("order", "text", "query", "document", "queries", "documents")
        features = Features({name: Value("int64") for name in names})
        measured = self._map(self.table, partial(_measures, self.settings.count_tokens), features, "Measuring")
        column = lambda name: measured.column(name).to_numpy()  # noqa: E731
        self.order, self.document = column("order"), column("text")
        self.key = {name: column(name) for name in FIELDS}
        self.tokens = {"query": column("queries"), "document": column("documents")}

    def _clusters(self, name: str) -> NDArray[np.int64]:
        """Return the number of the cluster of near-duplicates of each record's text, -1 where it has none."""
        own = np.flatnonzero(self.key[name] >= 0)
        _, first, inverse = np.unique(self.key[name][own], return_index=True, return_inverse=True)
        clusters = np.full(len(self.table), -1)
        if not len(own):
            return clusters
        first = own[first]
        pairs: list[tuple[int, int]] = []
        if self.settings.near_duplicates:
            features = Features({"signature": List(Value("uint32"), length=near.PERMUTATIONS)})
            signed = self._map(
                self.table.select_columns([name]).select(first), partial(_sign, name), features, f"MinHash of {name}"
            )
            signatures = signed.column("signature").combine_chunks().flatten().to_numpy().reshape(-1, near.PERMUTATIONS)
            text_of = lambda i: self.text[name][int(first[i])].as_py()  # noqa: E731
            pairs = [(i, j) for i, j, _ in near.near_pairs(signatures, text_of, self.settings.near_duplicates)]
        clusters[own] = splits.connected([np.arange(len(first))], pairs)[inverse]
        return clusters

    def _without_duplicates(self) -> NDArray[np.bool_]:
        """Tell which records to keep: those that are near-duplicates of none that is kept, the least hash first."""
        sides = np.unique(np.array([side or "" for side in self.table["side"]]), return_inverse=True)[1]
        alike = np.stack([self.cluster["query"], self.cluster["document"], sides], axis=1)
        _, groups, sizes = np.unique(alike, axis=0, return_inverse=True, return_counts=True)
        kept = np.ones(len(alike), bool)
        several = np.flatnonzero(sizes[groups.ravel()] > 1)
        by_group: dict[int, list[int]] = defaultdict(list)
        for index in several[np.lexsort((several, self.order[several]))].tolist():
            originals = by_group[int(groups.ravel()[index])]
            found = next(((each, why) for each in originals if (why := self._alike(index, each))), None)
            if found is None:
                originals.append(index)
            else:
                kept[index] = False
                self._drop(found[1], index, f"like {self._id(found[0])}: ")
        return kept

    def _alike(self, index: int, other: int) -> str | None:
        """Say in which way two records are duplicates of each other, or None."""
        if all(self.key[name][index] == self.key[name][other] for name in FIELDS):
            return "normalised duplicate"
        least = self.settings.near_duplicates
        return "near-duplicate" if least and all(self._is_near(name, index, other) for name in FIELDS) else None

    def _is_near(self, name: str, index: int, other: int) -> bool:
        if self.key[name][index] == self.key[name][other]:
            return True
        one, two = (near.shingles(self.text[name][each].as_py() or "") for each in (index, other))
        return near.similarity(one, two) >= self.settings.near_duplicates

    def _id(self, index: int) -> str:
        return self.text["id"][index].as_py()

    def _drop(self, reason: str, index: int, before: str = "") -> None:
        text = self.text["query"][index].as_py() or self.text["document"][index].as_py()
        self.drops.add(reason, self._id(index), before + text)

    def _split(self, given: NDArray[np.str_]) -> dict[str, int]:
        """Cut the held-out sets that the sources do not have; return the sizes asked for."""
        side = self.side
        pool = side == "train"
        counted = self.has_query if self.has_pairs else np.ones(len(side), bool)
        total = int((counted & (side != "")).sum())
        names = [name for name in HELD_OUT if name not in given and (self.has_pairs or name == "dev")]
        for name in names:
            _check_enough(self.settings, name, total, "records to cut it from")
        sizes = {name: _size(self.settings, name, total) for name in names}
        if any(sizes.values()) and pool.any():
            groups = self._groups()
            side[pool] = splits.cut(groups[pool], self.order[pool], counted[pool], sizes)
        for name, size in sizes.items():
            found = int((side == name).sum())
            why = None if found else self._why_empty(name, total, size, pool)
            if why and name in self.settings.sizes:
                raise InputError(why)
            if why or found < size / 2:
                logger.warning("%s", why or f"{name} has {found} of {size}: the other groups are too large for it")
            elif 0 < found < FEWEST:
                logger.warning("%s has %d records: scores on so few say little", name, found)
        return sizes

    def _groups(self) -> NDArray[np.int64]:
        """Return what must stay together: what the user says, or records that share a query or a document."""
        group = [-1 if each is None else splits.content_hash(each) for each in self.table["group"]]
        if max(group) >= 0:
            return splits.connected([np.array(group)])
        return splits.connected([self.cluster[name] for name in (self.isolated if self.has_pairs else FIELDS)])

    def _why_empty(self, name: str, total: int, size: int, pool: NDArray[np.bool_]) -> str | None:
        """Say why a set is empty, or None if it was meant to be."""
        asked = self.settings.sizes.get(name, DEFAULT_SIZES[name])
        if not float(asked):
            return None
        if not pool.any():
            return f"no {name}: nothing is left to cut it from"
        if not size:
            return f"no {name}: {total} records are too few for --{name} {asked}; give a number of records"
        groups = self._groups()[pool]
        sizes = np.bincount(groups)
        most = max(1, int(splits.LARGEST_SHARE * size))
        by_field = self.table.data.column("group").null_count < len(self.table)
        advice = (
            "ask for more" if by_field else "ask for more, or keep together what shares a query alone: --isolate query"
        )
        return (
            f"no {name}: --{name} {asked} is {size} records, of which one group may be {most}; records that must stay "
            f"together come in groups of {int(sizes[sizes > 0].min())} to {int(sizes.max())}. Or {advice}"
        ).replace("Or ask", "Ask")

    def _isolate(self) -> list[Overlap]:
        """Take out of the training side, and of dev, what is held out; return it."""
        found: list[Overlap] = []
        for trained, held_out in (("dev", ("test",)), ("train", HELD_OUT)):
            own, theirs = np.flatnonzero(self.side == trained), np.flatnonzero(np.isin(self.side, held_out))
            if len(own) and len(theirs):
                self._keep_groups_apart(own, theirs, trained)
                own = own[self.side[own] == trained]
                found += self._take_out(own, theirs, trained)
        return found

    def _keep_groups_apart(self, own: NDArray[np.int64], theirs: NDArray[np.int64], what: str) -> None:
        group = self.table.data.column("group")
        held_out = {group[int(index)].as_py() for index in theirs} - {None}
        for index in own.tolist() if held_out else ():
            if group[index].as_py() in held_out:
                self._drop(f"{what}: its group is held out", index)
                self.side[index] = ""

    def _take_out(self, own: NDArray[np.int64], theirs: NDArray[np.int64], what: str) -> list[Overlap]:
        found: list[Overlap] = []
        rows = (record | {"id": index} for index, record in zip(own.tolist(), self.records(own), strict=True))
        fields = self.isolated if self.has_pairs else ("document",)
        for overlap in overlaps(rows, list(self.records(theirs)), fields, self.settings.near_duplicates):
            index = int(overlap.id)
            found.append(overlap._replace(id=self._id(index)))
            if overlap.field == "negative":
                self._drop(f"{what}: hard negative is held out", index, f"like {overlap.held_out_id}: ")
                negatives = self.negatives.setdefault(index, self.table[index]["negatives"])
                self.negatives[index] = [text for text in negatives if text != overlap.text]
            elif self.side[index]:
                self._drop(f"{what} overlaps what is held out", index, f"like {overlap.held_out_id}: ")
                self.side[index] = ""
        return found

    def records(self, indices: NDArray[np.int64]) -> Iterator[Record]:
        """Yield records as they are written."""
        numbers = iter(indices.tolist())
        for batch in self.table.select(indices).iter(batch_size=1000):
            for values in zip(*batch.values(), strict=True):
                row = dict(zip(batch, values, strict=True))
                row["negatives"] = self.negatives.get(next(numbers), row["negatives"])
                record = {"id": row["id"], "query": row["query"], "document": row["document"]}
                record |= {key: row[key] for key in ("negatives", "relevance") if row[key]}
                yield {key: value for key, value in record.items() if value is not None} | {"source": row["source"]}

    def passages(self, indices: NDArray[np.int64]) -> Iterator[Record]:
        """Yield the documents of records."""
        columns = ["document_id", "document", "source"]
        unique = UniqueIds()  # collections may have the same ids
        number = 0
        for batch in self.table.select_columns(columns).select(indices).iter(batch_size=1000):
            for id_, document, source in zip(*(batch[column] for column in columns), strict=True):
                number += 1
                yield {"id": unique(id_, number), "document": document, "source": source}

    def _files(self) -> dict[str, NDArray[np.int64]]:
        by_hash = np.argsort(self.order, kind="stable")
        of = lambda side: by_hash[self.side[by_hash] == side]  # noqa: E731
        train = of("train")
        for name in ("gl", "cl"):
            _check_enough(self.settings, name, len(train), "training records")
        gl, cl = (_size(self.settings, name, len(train)) for name in ("gl", "cl"))
        rows = {"corpus": self._unique(np.concatenate([of(side) for side in (*HELD_OUT, "train", "corpus")]))}
        is_taught = self.settings.regime == "corpus-taught"
        rows["passages"] = rows["corpus"] if is_taught else self._unique(train[:gl])
        if self.has_pairs:  # from the two ends: the stages share no record unless both ask for more than there is
            rows |= {"gl": train[:gl], "cl": train[len(train) - cl :]}
            rows["cl"] = self._with_negatives(rows["cl"])
        rows |= {name: of(name) for name in HELD_OUT}
        return {name: rows[name] for name in FILES if len(rows.get(name, ()))}

    def _with_negatives(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Leave out of stage 2 the pairs that lost all hard negatives: it takes pairs that all have some, or none."""
        has = self.has_negatives(rows)
        lost = np.isin(rows, list(self.negatives)) & ~has
        if lost.any() and has.any():
            for index in rows[lost].tolist():
                self._drop("cl: no hard negative is left", index)
            rows, has = rows[~lost], has[~lost]
        if 0 < has.sum() < len(rows):
            logger.warning(
                "%d of %d pairs have hard negatives; stage 2 takes pairs that all have some, or none: leave them out "
                "of the sources, and --mine-negatives finds some for all",
                has.sum(),
                len(rows),
            )
        return rows

    def has_negatives(self, indices: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Tell which records have hard negatives."""
        has = pyarrow.compute.list_value_length(self.table.data.column("negatives")).to_numpy() > 0
        has[[index for index, left in self.negatives.items() if not left]] = False
        return has[indices]

    def _unique(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the first record of each document."""
        first = np.unique(self.document[indices], return_index=True)[1]
        return indices[np.sort(first)]

    @property
    def objective(self) -> str:
        """What stage 1 does with the set by default."""
        if not self.has_pairs:
            return "reconstruct"
        return "sft:0.5,reconstruct:0.5" if self.settings.regime == "corpus-taught" else "sft"

    def write(self, folder: Path) -> None:
        """Write the files."""
        for name, indices in self.rows.items():
            rows = self.passages(indices) if name in ("passages", "corpus") else self.records(indices)
            write_jsonl(folder / f"{name}.jsonl", tqdm(rows, f"Writing {name}", len(indices), unit="rows"))
        write_jsonl(folder / "dropped.jsonl", self.drops.samples)

    def tokens_of(self, name: str) -> dict[str, NDArray[np.int64]]:
        """Return the tokens of the queries and documents of a file, those that are there."""
        indices = self.rows[name]
        fields = ["document"] if name in ("passages", "corpus") else FIELDS
        found = {field: self.tokens[field][indices] for field in fields}
        return {field: tokens for field, tokens in found.items() if tokens.any()}


def _measures(count: Callable[[str], int], batch: dict[str, list[Any]]) -> dict[str, Any]:
    queries, documents = batch["query"], batch["document"]
    return {
        "order": [
            splits.content_hash(q, d, *n) for q, d, n in zip(queries, documents, batch["negatives"], strict=True)
        ],
        "text": [splits.content_hash(text) for text in documents],
        "query": [-1 if text is None else splits.content_hash(same_text(text)) for text in queries],
        "document": [splits.content_hash(same_text(text)) for text in documents],
        "queries": [0 if text is None else count(text) for text in queries],
        "documents": [count(text) for text in documents],
    }


def _sign(name: str, batch: dict[str, list[str]]) -> dict[str, Any]:
    return {"signature": near.signatures(batch[name])}


def _list_drops(drops: Drops) -> str:
    listed = ", ".join(f"{number} {reason}" for reason, number in drops.counts.most_common())
    return f": {listed}" if listed else ""


def _describe(folder: Path, found: _Found, drops: Drops, about: card.About, sources: Sequence[str]) -> None:
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


def _left(folder: Path, found: _Found) -> dict[str, dict[str, int]]:
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
