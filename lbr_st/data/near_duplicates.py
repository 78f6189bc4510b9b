"""Near-duplicates: texts that share most of their shingles.

The similarity is the Jaccard index of the sets of three consecutive words or marks, which are the characters where a
script has no spaces between words. Case counts where it does for `lbr_st.data.same_text`, and a formula is like itself
alone: an atom more or less makes another compound. Pairs are found by prefix filtering
(Chaudhuri et al. 2006): two sets with an index of at least t share one of the first ``floor((1 - t) * size) + 1`` of
their elements, whatever order the elements of all sets are in. With the rarest first, few sets have to be compared.
All pairs are found, unless hundreds of texts share such a shingle: then what they make hang together is found.

It replaced MinHash (datasketch), which misses 1 pair in 20 at 0.8. Measured side by side at 0.9, 50,000 texts each, CPU
seconds of one process with the shingles: synthetic answers 2.3 (MinHash 4.0), synthetic questions 0.8 (2.0), Python
functions 5.5 (7.9), their docstrings 1.1 (2.5). Both found the same pairs.
"""

from __future__ import annotations

import logging
import math
import zlib
from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from lbr_st.data.same_text import AUTO, LOOSE, folded, is_formula, same_text
from lbr_st.data.words import words
from lbr_st.errors import InputError

SHINGLE_WORDS = 3
THRESHOLD = 0.9
# Below it the prefixes are long, and the search takes long with them.
LOWEST_THRESHOLD = 0.8
# Texts with a shingle in common that are compared one by one; of more, a product of matrices compares all at once, so
# many with so many.
ONE_BY_ONE = 32
AT_ONCE = 256
# Texts that each of them is compared with, about.
MOST_COMPARED = 2048
MOST_SLOTS = 1 << 22

Shingles = NDArray[np.uint32]
Pair = tuple[int, int]

logger = logging.getLogger(__name__)


def check_threshold(threshold: float) -> None:
    """Refuse a threshold that means nothing, or for which the search takes too long.

    Raises:
        InputError: If it is not 0 (off) or from 0.8 to 1.
    """
    if threshold and not LOWEST_THRESHOLD <= threshold <= 1:
        raise InputError(f"--near-duplicates must be from {LOWEST_THRESHOLD} to 1, or 0 for none, got {threshold}")


def shingles(text: str, level: str = AUTO) -> set[int]:
    """Return the hashes of all three consecutive words or marks of a text; the hash of all words of a shorter one.

    Args:
        text: Any string.
        level: What counts in it, one of `lbr_st.data.same_text.LEVELS`. Unless it is loose, a formula has one shingle.
    """
    if level != LOOSE and is_formula(text):
        return {zlib.crc32(same_text(text, level).encode())}
    found = words(folded(text, level))
    last = max(1, len(found) - SHINGLE_WORDS + 1)
    return {zlib.crc32(" ".join(found[at : at + SHINGLE_WORDS]).encode()) for at in range(last)}


def as_array(each: set[int]) -> Shingles:
    """Return the shingles of a text as an array."""
    return np.fromiter(each, np.uint32, len(each))


def similarity(a: set[int], b: set[int]) -> float:
    """Return the Jaccard index of two sets of shingles."""
    shared = len(a & b)
    return shared / (len(a) + len(b) - shared)


class RarestFirst:
    """The order that the shingles of many texts are in: those of the fewest texts come first.

    How many texts have a shingle is counted by the last bits of its hash. Where two shingles are counted as one, the
    order is another one, and any order finds all pairs.

    Args:
        sets: Shingles of each text.
    """

    def __init__(self, sets: Sequence[Shingles]) -> None:
        total = sum(map(len, sets))
        slots = min(MOST_SLOTS, 1 << max(10, total.bit_length() + 1))
        self._mask = np.uint32(slots - 1)
        self._counts = np.zeros(slots, np.int64)
        for start in range(0, len(sets), 10_000):
            flat = np.concatenate(sets[start : start + 10_000])
            self._counts += np.bincount(flat & self._mask, minlength=slots)

    def prefix(self, each: Shingles, threshold: float, shared_by: int = 1) -> list[int]:
        """Return the shingles of a text of which every near-duplicate has one at least.

        Args:
            each: Shingles of the text.
            threshold: Least similarity of near-duplicates.
            shared_by: Number of texts that have a shingle; those that fewer have are left out, as they find nothing.
        """
        most_absent = math.floor((1 - threshold) * len(each) + 1e-9)
        ranked = np.sort(self._counts[each & self._mask] << 32 | each)[: most_absent + 1]
        return (ranked[ranked >= shared_by << 32] & 0xFFFFFFFF).tolist()


def near_pairs(sets: Sequence[Shingles], threshold: float = THRESHOLD) -> Iterator[tuple[int, int, float]]:
    """Yield (index, larger index, similarity) of texts that are near-duplicates.

    Where more than `AT_ONCE` texts share a rare shingle, pairs are left out whose texts hang together by others. Where
    more than `MOST_COMPARED` do, each is compared with about so many: the first ones, and those that come after it.

    Args:
        sets: Shingles of each text.
        threshold: Least similarity of near-duplicates.
    """
    order = RarestFirst(sets)
    by_shingle: dict[int, list[int]] = defaultdict(list)
    for number, each in enumerate(sets):
        for shingle in order.prefix(each, threshold, shared_by=2):
            by_shingle[shingle].append(number)
    large = {tuple(bucket) for bucket in by_shingle.values() if len(bucket) > ONE_BY_ONE}
    found = _near_in_large(sorted(large), sets, threshold)
    if (most := max(map(len, large), default=0)) > MOST_COMPARED:
        logger.info(
            "%s texts share a rare shingle: each is compared with %s of them", f"{most:,}", f"{MOST_COMPARED:,}"
        )
    last, of_last = -1, set[int]()
    for i, j in sorted({pair for bucket in by_shingle.values() for pair in _pairs_of(bucket)} - found.keys()):
        if i != last:
            last, of_last = i, set(sets[i].tolist())
        value = similarity(of_last, set(sets[j].tolist()))
        if value >= threshold:
            found[i, j] = value
    for i, j in sorted(found):
        yield i, j, found[i, j]


def _pairs_of(bucket: list[int]) -> list[Pair]:
    return [(i, j) for at, i in enumerate(bucket) for j in bucket[at + 1 :]] if len(bucket) <= ONE_BY_ONE else []


def _near_in_large(buckets: Sequence[Sequence[int]], sets: Sequence[Shingles], threshold: float) -> dict[Pair, float]:
    """Return near-duplicates of each bucket, of a very large one as many as say what hangs together."""
    found: dict[Pair, float] = {}
    group = np.arange(len(sets))
    for bucket in buckets:
        for pairs, values in _near_of_many(bucket, sets, threshold):
            if len(bucket) > AT_ONCE:  # one pair of two groups is enough, where all would fill the memory
                own = np.sort(group[pairs], axis=1)
                apart = np.flatnonzero(own[:, 0] != own[:, 1])
                _, first = np.unique(own[apart], axis=0, return_index=True)
                pairs, values = pairs[apart[first]], values[apart[first]]
                group = _joined(group, pairs)
            found.update(zip(map(tuple, pairs.tolist()), values.tolist(), strict=True))
    return found


def _joined(group: NDArray[np.int64], pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the groups of texts once each of some pairs is in one."""
    from scipy.sparse import coo_matrix  # what few texts are compared with, opens without it
    from scipy.sparse.csgraph import connected_components

    ends = group[pairs[:, 0]], group[pairs[:, 1]]
    graph = coo_matrix((np.ones(len(pairs), np.int8), ends), shape=(len(group), len(group)))
    return connected_components(graph, directed=False)[1][group]


def _near_of_many(
    bucket: Sequence[int], sets: Sequence[Shingles], threshold: float
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float64]]]:
    """Yield near-duplicates of many texts that have a shingle in common, so many pairs with their similarities."""
    from scipy.sparse import csr_matrix

    numbers, half = np.array(bucket), MOST_COMPARED // 2
    sizes = np.array([len(sets[number]) for number in bucket])
    _, columns = np.unique(np.concatenate([sets[number] for number in bucket]), return_inverse=True)
    has = csr_matrix((np.ones(len(columns), np.int32), columns, np.r_[0, np.cumsum(sizes)]))
    for start in range(0, len(bucket), AT_ONCE):
        others = np.arange(len(bucket))
        if len(bucket) > MOST_COMPARED:
            others = np.unique(np.r_[:half, start : min(start + half, len(bucket))])
        shared = (has[start : start + AT_ONCE] @ has[others].T).tocoo()
        one, other = shared.row + start, others[shared.col]
        values = shared.data / (sizes[one] + sizes[other] - shared.data)
        near = (values >= threshold) & (one != other)
        yield np.sort(np.stack([numbers[one[near]], numbers[other[near]]], axis=1), axis=1), values[near]
