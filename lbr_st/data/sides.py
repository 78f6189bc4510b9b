"""Which side of a prepared set each record is on: without duplicates, split, and with nothing on two sides."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute
from datasets import Dataset, Features, List, Value
from numpy.typing import NDArray
from tqdm.auto import tqdm

from lbr_st.data import near_duplicates as near
from lbr_st.data import split as splits
from lbr_st.data.drops import Drops
from lbr_st.data.overlap import Overlap, overlaps
from lbr_st.data.prepared_set import FILES
from lbr_st.data.records import UniqueIds
from lbr_st.data.settings import HELD_OUT, Settings
from lbr_st.data.stopwatch import Stopwatch
from lbr_st.errors import InputError
from lbr_st.files import write_jsonl
from lbr_st.records import FIELDS, Record, same_text

logger = logging.getLogger(__name__)

FEWEST = 30  # held-out records, below which a warning says so


class Sides:
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
            raise InputError(": ".join(filter(None, ["no records are left", str(drops)])))
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
        sizes = {name: self.settings.size(name, total, "records to cut it from") for name in names}
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
        asked = self.settings.asked(name)
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
        gl, cl = (self.settings.size(name, len(train), "training records") for name in ("gl", "cl"))
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
