"""The records of a set while it is prepared: texts on disk; in memory hashes, numbers of tokens and sides."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute
from datasets import Dataset, Features, List, Value
from numpy.typing import NDArray

from lbr_st.data.drops import Drops
from lbr_st.data.ids import UniqueIds
from lbr_st.data.same_text import AUTO, same_text
from lbr_st.data.words import WORDS, count_words
from lbr_st.errors import InputError, one_line
from lbr_st.model.recognising import snapshots_in
from lbr_st.records import FIELDS, Record

# The texts and marks of a record.
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
LAST_BITS = (1 << 16) - 1
LEFT_OUT = ""  # the side of a record that is on none


@dataclass
class Table:
    """Records, what is known of each, and the side that each is on.

    Attributes:
        dataset: The records, with `FEATURES`.
        drops: What was left out.
        processes: Number of processes to map in.
        same: What is the same text, one of `lbr_st.data.same_text.LEVELS`.
        order: Hash of each record's contents.
        document: Hash of each record's document.
        key: Hash of each record's ``query`` and ``document`` as `same_text` has them; -1 where there is none.
        tokens: Numbers of tokens of each record's ``query`` and ``document``.
        side: Side of each record: ``train``, ``dev``, ``test``, ``corpus`` (searched, and seen by no stage) or
            `LEFT_OUT`.
        negatives: Hard negatives of records that lost or gained some, by index.
        has_pairs: Whether records with queries are kept; else all are documents alone.
    """

    dataset: Dataset
    drops: Drops
    processes: int
    same: str
    order: NDArray[np.int64]
    document: NDArray[np.int64]
    key: dict[str, NDArray[np.int64]]
    tokens: dict[str, NDArray[np.int64]]
    side: NDArray[np.str_]
    negatives: dict[int, list[str]] = field(default_factory=dict)
    has_pairs: bool = False

    def __len__(self) -> int:
        return len(self.dataset)

    @property
    def has_query(self) -> NDArray[np.bool_]:
        """Which records have a query."""
        return self.key["query"] >= 0

    @property
    def given(self) -> NDArray[np.str_]:
        """Sides that sources or the user say, "" where nobody does."""
        return np.array([side or "" for side in self.dataset["side"]], dtype="<U6")

    def on(self, *sides: str) -> NDArray[np.int64]:
        """Return the indices of the records on some sides."""
        return np.flatnonzero(np.isin(self.side, sides))

    def text(self, name: str, index: int) -> str | None:
        """Return a text of a record, or its id."""
        return self.dataset.data.column(name)[int(index)].as_py()

    def drop(self, reason: str, index: int, text: str | None = None, like: tuple[str, str] | None = None) -> None:
        """Count a record as left out.

        Args:
            reason: Why it is left out.
            index: Index of the record.
            text: The text that it is left out for; default is what it begins with.
            like: See `Drops.add`.
        """
        self.drops.add(reason, self.text("id", index) or "", text or self.beginning(index), like)

    def beginning(self, index: int) -> str:
        """Return the query of a record, or its document where it has none."""
        return self.text("query", index) or self.text("document", index) or ""

    def has_negatives(self, indices: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Tell which records have hard negatives."""
        has = pyarrow.compute.list_value_length(self.dataset.data.column("negatives")).to_numpy() > 0
        for index, negatives in self.negatives.items():
            has[index] = bool(negatives)
        return has[indices]

    def negatives_of(self, index: int) -> list[str]:
        """Return the hard negatives of a record."""
        found = self.negatives.get(index)
        return self.dataset.data.column("negatives")[index].as_py() if found is None else found

    def records(self, indices: NDArray[np.int64]) -> Iterator[Record]:
        """Yield records as they are written."""
        numbers = iter(indices.tolist())
        for batch in self.dataset.select(indices).iter(batch_size=1000):
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
        for batch in self.dataset.select_columns(columns).select(indices).iter(batch_size=1000):
            for id_, document, source in zip(*(batch[column] for column in columns), strict=True):
                number += 1
                yield {"id": unique(id_, number), "document": document, "source": source}


def measured(dataset: Dataset, drops: Drops, processes: int, count: Callable[[str], int], same: str = AUTO) -> Table:
    """Return records with their hashes and numbers of tokens, all of them on the side that sources say, or training.

    Args:
        dataset: The records, with `FEATURES`.
        drops: What was left out already.
        processes: Number of processes to map in.
        count: Counts the tokens of a text.
        same: What is the same text, one of `lbr_st.data.same_text.LEVELS`.

    Raises:
        InputError: If there are none.
    """
    if not len(dataset):
        raise InputError(": ".join(filter(None, ["no records are left", str(drops)])))
    names = ("order", "text", "query", "document", "queries", "documents")
    features = Features({name: Value("int64") for name in names})
    found = mapped(dataset, partial(_measures, count, same), features, processes, "Measuring")
    column = {name: found.column(name).to_numpy() for name in names}
    table = Table(
        dataset=dataset,
        drops=drops,
        processes=processes,
        same=same,
        order=column["order"],
        document=column["text"],
        key={name: column[name] for name in FIELDS},
        tokens={"query": column["queries"], "document": column["documents"]},
        side=np.full(len(dataset), "train", dtype="<U6"),
    )
    given = table.given
    table.side[given != ""] = given[given != ""]
    return table


def mapped(
    dataset: Dataset, function: Callable[..., dict[str, Any]], features: Features, processes: int, what: str
) -> Any:
    """Return the Arrow table that a function makes of all records, in several processes where it is worth it."""
    processes = min(processes, max(1, len(dataset) // 1000))
    found = dataset.map(
        function,
        batched=True,
        remove_columns=dataset.column_names,
        features=features,
        num_proc=processes if processes > 1 else None,
        new_fingerprint=f"{what}-{len(dataset)}".replace(" ", "-"),
        load_from_cache_file=False,
        desc=what,
    )
    return found.data.table


def _measures(count: Callable[[str], int], same: str, batch: dict[str, list[Any]]) -> dict[str, Any]:
    queries, documents = batch["query"], batch["document"]
    return {
        "order": list(map(_order, queries, documents, batch["negatives"])),
        "text": [content_hash(text) for text in documents],
        "query": [-1 if text is None else content_hash(same_text(text, same)) for text in queries],
        "document": [content_hash(same_text(text, same)) for text in documents],
        "queries": [0 if text is None else count(text) for text in queries],
        "documents": [count(text) for text in documents],
    }


def _order(query: str | None, document: str, negatives: list[str]) -> int:
    """Return the hash that says where a record comes: by its query and document, and last by its hard negatives.

    These are joined of several rows, so that their order is not theirs.
    """
    own = content_hash(query, document)
    return own & ~LAST_BITS | content_hash(*sorted(negatives)) & LAST_BITS if negatives else own


def content_hash(*texts: str | None) -> int:
    """Return 63 bits that depend on the texts alone."""
    digest = hashlib.blake2b(digest_size=8)
    for text in texts:
        encoded = (text or "").encode()
        digest.update(len(encoded).to_bytes(8, "big") + encoded)
    return int.from_bytes(digest.digest(), "big") >> 1


def counter_of(tokenizer: str | Path | None) -> Callable[[str], int]:
    """Return what counts the tokens of a backbone; words and marks where none is named.

    Raises:
        InputError: If the tokenizer cannot be opened, or cannot count without the text being changed.
    """
    if tokenizer is None:
        return count_words
    from tokenizers import Tokenizer
    from transformers import AutoTokenizer

    try:
        opened = AutoTokenizer.from_pretrained(tokenizer)
    except (OSError, ValueError) as error:
        from lbr_st.model.backbone import of_the_hub

        said = one_line(error) if Path(tokenizer).exists() else f"there is no such directory, and {of_the_hub(error)}"
        if snapshots := snapshots_in(Path(tokenizer)):
            said = f"it is a folder of the Hub's cache; name the snapshot in it, {snapshots[0]}"
        elif Path(tokenizer).is_dir() and not any(Path(tokenizer).glob("*token*")):
            said = "it has no files of a tokenizer"
        raise InputError(f"--tokenizer {tokenizer}: {said}") from error
    if not opened.is_fast:
        raise InputError(f"--tokenizer {tokenizer} has no tokenizer.json to count with; leave it out to count words")
    backend = Tokenizer.from_str(opened.backend_tokenizer.to_str())
    backend.no_truncation()
    backend.no_padding()
    return lambda text: len(backend.encode(text, add_special_tokens=False))


def unit_of(tokenizer: str | Path | None) -> str:
    """Return what `counter_of` counts, for people."""
    return WORDS if tokenizer is None else f"tokens of {Path(tokenizer).name}"
