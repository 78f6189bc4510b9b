"""Splits that depend on the contents alone, and keep together what must not be parted."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from lbr_st.errors import InputError

# A group with more of a held-out set than this is training data: as test it would be most of the test.
LARGEST_SHARE = 0.4


def content_hash(*texts: str | None) -> int:
    """Return 63 bits that depend on the texts alone."""
    digest = hashlib.blake2b(digest_size=8)
    for text in texts:
        encoded = (text or "").encode()
        digest.update(len(encoded).to_bytes(8, "big") + encoded)
    return int.from_bytes(digest.digest(), "big") >> 1


def size_of(size: str | int | float, total: int, flag: str) -> int:
    """Return a number of records out of a number of them, or of a share below 1 (1.0 is all, 1 is one).

    Raises:
        InputError: If it is neither.
    """
    text = str(size)
    try:
        value = float(text)
    except ValueError:
        value = -1
    is_count = text.isdecimal()
    if not value >= 0 or (not is_count and value > 1):
        raise InputError(f"{flag} must be a number of records or a share from 0.0 to 1.0, got {size}")
    return int(text) if is_count else round(value * total)


def connected(keys: Sequence[NDArray[np.int64]], pairs: Sequence[tuple[int, int]] = ()) -> NDArray[np.int64]:
    """Return the number of the group of each record: those that share a key or are a pair are in one, and so on.

    Args:
        keys: Arrays of one key a record; negative keys are shared with nobody.
        pairs: Of indices.
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
        groups: Of each record.
        order: A hash of each record's contents.
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
