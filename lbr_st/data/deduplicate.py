"""Of records that say the same, one is kept."""

from __future__ import annotations

from collections import defaultdict
from functools import lru_cache, partial
from typing import Any

import numpy as np
from datasets import Features, List, Value
from numpy.typing import NDArray

from lbr_st.data.near_duplicates import Shingles, as_array, near_pairs, shingles, similarity
from lbr_st.data.same_text import same_text
from lbr_st.data.split import connected
from lbr_st.data.table import LEFT_OUT, Table, mapped
from lbr_st.records import FIELDS

Clusters = dict[str, NDArray[np.int64]]


def clusters_of(table: Table, threshold: float) -> Clusters:
    """Return the number of the cluster of near-duplicates of each record's query and document, -1 where it has none.

    Args:
        table: The records.
        threshold: Least similarity of near-duplicates; 0 for none, and each cluster is one text then.
    """
    return {name: _clusters(table, name, threshold) for name in FIELDS}


def _clusters(table: Table, name: str, threshold: float) -> NDArray[np.int64]:
    key = table.key[name]
    own = np.flatnonzero(key >= 0)
    clusters = np.full(len(table), -1)
    if not len(own):
        return clusters
    # Of one text in several spellings the one of the least hash is compared, wherever it stands.
    own = own[np.argsort(table.order[own], kind="stable")]
    _, first, inverse = np.unique(key[own], return_index=True, return_inverse=True)
    pairs = [(i, j) for i, j, _ in near_pairs(_shingles(table, name, own[first]), threshold)] if threshold else []
    clusters[own] = connected([np.arange(len(first))], pairs)[inverse]
    return clusters


def _shingles(table: Table, name: str, indices: NDArray[np.int64]) -> list[Shingles]:
    """Return the shingles of some texts, made in several processes and read from disk."""
    features = Features({"shingles": List(Value("uint32"))})
    texts = table.dataset.select_columns([name]).select(indices)
    column = mapped(texts, partial(_shingles_of, name, table.same), features, table.processes, f"Shingles of {name}")[
        "shingles"
    ]
    return [
        values[start:end]
        for chunk in column.chunks
        for values, offsets in [(chunk.values.to_numpy(), chunk.offsets.to_numpy())]
        for start, end in zip(offsets, offsets[1:], strict=False)
    ]


def _shingles_of(name: str, same: str, batch: dict[str, list[str]]) -> dict[str, Any]:
    return {"shingles": [as_array(shingles(text, same)) for text in batch[name]]}


def drop_duplicates(table: Table, clusters: Clusters, threshold: float) -> None:
    """Leave out records that are like one that is kept, of the same side: in query and document, the least hash first.

    Their hard negatives join those of the one that is kept: a file of triplets says a pair once for each negative.

    Args:
        table: The records.
        clusters: What `clusters_of` returned.
        threshold: Least similarity of near-duplicates; 0 for none.
    """
    given = table.given
    sides = np.unique(np.where(given == "", "train", given), return_inverse=True)[1]
    alike = np.stack([clusters["query"], clusters["document"], sides], axis=1)
    _, groups, sizes = np.unique(alike, axis=0, return_inverse=True, return_counts=True)
    groups = groups.ravel()
    several = np.flatnonzero(sizes[groups] > 1)
    by_group: dict[int, list[int]] = defaultdict(list)
    for index in several[np.lexsort((several, table.order[several]))].tolist():
        originals = by_group[int(groups[index])]
        found = next(((each, why) for each in originals if (why := _alike(table, index, each, threshold))), None)
        if found is None:
            originals.append(index)
        else:
            table.side[index] = LEFT_OUT
            # Of the same query, the documents say what is left out.
            of_one = table.text("query", index) == table.text("query", found[0])
            text, other = (
                table.text("document", each) if of_one else table.beginning(each) for each in (index, found[0])
            )
            table.drop(found[1], index, text, like=(table.text("id", found[0]) or "", other or ""))
            _join_negatives(table, index, found[0])


def _join_negatives(table: Table, index: int, kept: int) -> None:
    """Give the hard negatives of a record that is left out to the one that is kept, but for what answers its query."""
    if not (more := table.negatives_of(index)):
        return
    answer = same_text(table.text("document", kept) or "", table.same)
    more = [text for text in more if same_text(text, table.same) != answer]
    table.negatives[kept] = list(dict.fromkeys([*table.negatives_of(kept), *more]))


def _alike(table: Table, index: int, other: int, threshold: float) -> str | None:
    """Say in which way two records are duplicates of each other, or None."""
    if all(table.key[name][index] == table.key[name][other] for name in FIELDS):
        return "normalised duplicate"
    is_near = threshold and all(_is_near(table, name, index, other, threshold) for name in FIELDS)
    return "near-duplicate" if is_near else None


# A text that many are like is compared with all of them.
_shingles_of_text = lru_cache(10_000)(shingles)


def _is_near(table: Table, name: str, index: int, other: int, threshold: float) -> bool:
    if table.key[name][index] == table.key[name][other]:
        return True
    one, two = (_shingles_of_text(table.text(name, each) or "", table.same) for each in (index, other))
    return similarity(one, two) >= threshold
