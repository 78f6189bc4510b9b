"""Splits that depend on the contents alone, and keep together what must not be parted."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from lbr_st.data.config import HELD_OUT, PrepareConfig
from lbr_st.data.table import LEFT_OUT, Table, content_hash
from lbr_st.errors import InputError
from lbr_st.records import FIELDS

logger = logging.getLogger(__name__)

# A group with more of a held-out set than this is training data: as test it would be most of the test.
LARGEST_SHARE = 0.4
NOTHING_LEFT = "nothing is left to cut it from"
FEWEST = 30  # held-out records, below which a warning says so


def split(
    table: Table, clusters: Mapping[str, NDArray[np.int64]], isolated: Sequence[str], config: PrepareConfig
) -> bool:
    """Cut off the held-out sets that the sources do not have.

    Args:
        table: The records; their sides change.
        clusters: Cluster of near-duplicates of each record's query and document.
        isolated: Fields that must not be on two sides.
        config: Sizes.

    Returns:
        Whether any record was to be cut off.

    Raises:
        InputError: If a set that was asked for would have no record.
    """
    pool = table.side == "train"
    counted = table.has_query if table.has_pairs else np.ones(len(table), bool)
    total = int((counted & (table.side != LEFT_OUT)).sum())
    given = table.given
    names = [name for name in HELD_OUT if name not in given and (table.has_pairs or name == "dev")]
    sizes = {name: config.size(name, total, "records to cut it from") for name in names}
    groups = np.empty(0, np.int64)
    if any(sizes.values()) and pool.any():
        groups = _groups(table, clusters, isolated)[pool]
        table.side[pool] = cut(groups, table.order[pool], counted[pool], sizes)
    for name, size in sizes.items():
        found = len(table.on(name))
        why = None
        if not found and float(config.asked(name).rstrip("%")):
            why = f"no {name}: {_why_empty(table, config, name, total, groups) if pool.any() else NOTHING_LEFT}"
        if why and getattr(config, name) is not None:
            raise InputError(why)
        if why or found < size / 2:
            logger.warning("%s", why or f"{name} has {found} of {size}: the other groups are too large for it")
        elif 0 < found < FEWEST:
            logger.warning("%s has %d records: scores on so few say little", name, found)
    return any(sizes.values())


def _groups(table: Table, clusters: Mapping[str, NDArray[np.int64]], isolated: Sequence[str]) -> NDArray[np.int64]:
    """Return what must stay together: what the user says, or records that share a query or a document."""
    group = [-1 if each is None else content_hash(each) for each in table.dataset["group"]]
    if max(group) >= 0:
        return connected([np.array(group)])
    fields = isolated if table.has_pairs else FIELDS
    # A text may be the query of one record and the document of another: of each record there is a node for each field.
    record = np.tile(np.arange(len(table)), len(fields))
    text = np.concatenate([table.key[name] for name in fields])
    nobody = np.full(len(table), -1)
    near = [np.concatenate([clusters[name] if name == each else nobody for each in fields]) for name in fields]
    return connected([record, text, *near])[: len(table)]


def _why_empty(table: Table, config: PrepareConfig, name: str, total: int, groups: NDArray[np.int64]) -> str:
    """Say why no record was cut off for a set, of those that there are."""
    asked, size = config.asked(name), config.share(name, total)
    if not size:
        return f"{total} records are too few for --{name} {asked}; give a number of records"
    sizes = np.bincount(groups)
    most = max(1, int(LARGEST_SHARE * size))
    has_groups = table.dataset.data.column("group").null_count < len(table)
    other = "" if has_groups else ", or keep together what shares a query alone: --isolate query"
    return (
        f"--{name} {asked} is {size} records, of which one group may be {most}; records that must stay "
        f"together come in groups of {int(sizes[sizes > 0].min())} to {int(sizes.max())}. Ask for more{other}"
    )


def connected(keys: Sequence[NDArray[np.int64]], pairs: Sequence[tuple[int, int]] = ()) -> NDArray[np.int64]:
    """Return the number of the group of each record: those that share a key or are a pair are in one, and so on.

    Args:
        keys: Arrays of one key a record; negative keys are shared with nobody.
        pairs: Pairs of indices of records.
    """
    total = len(keys[0])
    rows, columns = ([i for i, _ in pairs], [j for _, j in pairs])
    edges = [(np.array(rows, np.int64), np.array(columns, np.int64))]
    for key in keys:
        own = np.flatnonzero(key >= 0)
        _, first, inverse = np.unique(key[own], return_index=True, return_inverse=True)
        edges.append((own, own[first[inverse]]))
    i, j = (np.concatenate(side) for side in zip(*edges, strict=True))
    graph = coo_matrix((np.ones(len(i), np.int8), (i, j)), shape=(total, total))
    return connected_components(graph, directed=False)[1].astype(np.int64)


def cut(
    groups: NDArray[np.int64], order: NDArray[np.int64], counted: NDArray[np.bool_], sizes: Mapping[str, int]
) -> NDArray[np.str_]:
    """Give each record a side, groups whole: each held-out set in turn takes groups until it has enough records.

    Groups come in the order of the smallest hash in them, so neither the order of the input nor other groups matter. A
    group that does not fit any more, or would be more than ``LARGEST_SHARE`` of a set, is left to the next one and in
    the end to ``train``.

    Args:
        groups: Group of each record.
        order: Hash of each record's contents.
        counted: Which records count, and have to be in a group for it to be held out; of the others there may be any
            number.
        sizes: Number of records of each held-out set, in the order they are filled.

    Returns:
        The name of each record's side.
    """
    total = int(groups.max(initial=-1)) + 1
    least = np.full(total, np.iinfo(np.int64).max)
    np.minimum.at(least, groups, order)
    members = np.bincount(groups, weights=counted, minlength=total).astype(int)
    side = np.full(total, "train", dtype="<U5")
    waiting = [int(group) for group in np.argsort(least, kind="stable") if members[group]]
    for name, size in sizes.items():
        taken, left = 0, []
        for group in waiting:
            fits = members[group] <= min(size - taken, max(1, LARGEST_SHARE * size))
            if fits:
                side[group] = name
                taken += members[group]
            else:
                left.append(group)
        waiting = left
    return side[groups]
