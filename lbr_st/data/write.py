"""The files of a prepared set: which records go into which, and writing them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from lbr_st.data.config import HELD_OUT, PrepareConfig
from lbr_st.data.prepared_set import FILES
from lbr_st.data.table import Table
from lbr_st.files import write_jsonl
from lbr_st.records import FIELDS

DOCUMENTS_ALONE = ("passages", "corpus")
DROPPED = "dropped.jsonl"


def files_of(table: Table, config: PrepareConfig) -> dict[str, NDArray[np.int64]]:
    """Return the indices of the records of each file, by its name in `FILES`, in the order of their hashes.

    Raises:
        InputError: If a stage asks for more records than there are.
    """
    by_hash = np.argsort(table.order, kind="stable")
    of = {side: by_hash[table.side[by_hash] == side] for side in (*HELD_OUT, "train", "corpus")}
    train = of["train"]
    learn, align = (config.size(name, len(train), "training records") for name in ("learn", "align"))
    rows = {"corpus": _each_document_once(table, np.concatenate(list(of.values())))}
    is_taught = config.regime == "corpus-taught"
    rows["passages"] = rows["corpus"] if is_taught else _each_document_once(table, train[:learn])
    if table.has_pairs:  # from the two ends: the stages share no record unless both ask for more than there is
        rows |= {"learn": train[:learn], "align": train[len(train) - align :]}
    rows |= {name: of[name] for name in HELD_OUT}
    return {name: rows[name] for name in FILES if len(rows.get(name, ()))}


def _each_document_once(table: Table, indices: NDArray[np.int64]) -> NDArray[np.int64]:
    first = np.unique(table.document[indices], return_index=True)[1]
    return indices[np.sort(first)]


def write_files(folder: Path, table: Table, files: Mapping[str, NDArray[np.int64]]) -> None:
    """Write the records, and some of those that were left out."""
    for name, indices in files.items():
        rows = table.passages(indices) if name in DOCUMENTS_ALONE else table.records(indices)
        write_jsonl(folder / f"{name}.jsonl", tqdm(rows, f"Writing {name}", len(indices), unit="rows"))
    write_jsonl(folder / DROPPED, table.drops.samples)


def tokens_of(table: Table, name: str, indices: NDArray[np.int64]) -> dict[str, NDArray[np.int64]]:
    """Return the numbers of tokens of the queries and documents of a file, of those that it has."""
    fields = ["document"] if name in DOCUMENTS_ALONE else FIELDS
    found = {field: table.tokens[field][indices] for field in fields}
    return {field: tokens for field, tokens in found.items() if tokens.any()}
