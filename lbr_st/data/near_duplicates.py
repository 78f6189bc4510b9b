"""Near-duplicates: texts that share most of their shingles, found with MinHash (datasketch) and then compared exactly.

The similarity is the Jaccard index of the sets of three consecutive words or marks. MinHash (Broder 1997) finds the
candidates; whether they are near-duplicates is decided by the sets themselves.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from datasketch import MinHash
from numpy.typing import NDArray

from lbr_st.data.passages import WORD_OR_MARK
from lbr_st.errors import InputError

SHINGLE_WORDS = 3
THRESHOLD = 0.9
# Two texts are compared where all rows of a band agree. Of pairs at 0.9 these find 99.99%, at 0.8 95%.
PERMUTATIONS, BANDS = 128, 16
LOWEST_THRESHOLD = 0.8
# A band that more texts share than this would mean millions of comparisons: each with the first and with the next one.
LARGEST_BUCKET = 32
# Far below the threshold by the signatures, a pair is not worth the exact comparison: four standard errors.
MARGIN = 0.14

Signatures = NDArray[np.uint32]


def check_threshold(threshold: float) -> None:
    """Refuse a threshold that the bands do not serve.

    Raises:
        InputError: If it is not 0 (off) or from 0.8 to 1.
    """
    if threshold and not LOWEST_THRESHOLD <= threshold <= 1:
        raise InputError(f"--near-duplicates must be from {LOWEST_THRESHOLD} to 1, or 0 for none, got {threshold}")


def shingles(text: str) -> set[int]:
    """Return the hashes of all three consecutive words or marks of a text; of a shorter one that of all it has."""
    words = WORD_OR_MARK.findall(text.casefold())
    last = max(1, len(words) - SHINGLE_WORDS + 1)
    return {zlib.crc32(" ".join(words[at : at + SHINGLE_WORDS]).encode()) for at in range(last)}


def similarity(a: set[int], b: set[int]) -> float:
    """Return the Jaccard index."""
    shared = len(a & b)
    return shared / (len(a) + len(b) - shared)


def signatures(texts: Iterable[str]) -> Signatures:
    """Return the MinHash signatures of texts, ``(len(texts), PERMUTATIONS)``."""
    sets = (shingles(text) for text in texts)
    hashes = MinHash.generator(sets, num_perm=PERMUTATIONS, scheme="affine32", hashfunc=lambda value: value)
    return np.array([each.hashvalues for each in hashes], dtype=np.uint32).reshape(-1, PERMUTATIONS)


def near_pairs(
    found: Signatures, texts: Callable[[int], str] | Sequence[str], threshold: float = THRESHOLD
) -> Iterator[tuple[int, int, float]]:
    """Yield (index, larger index, similarity) of texts that are near-duplicates.

    Args:
        found: Their signatures.
        texts: The texts, or a function that returns the one of an index.
        threshold: The least similarity.
    """
    text_of = texts if callable(texts) else texts.__getitem__
    last, of_last = -1, set[int]()
    for i, j in _candidates(found, threshold).tolist():
        if i != last:
            last, of_last = i, shingles(text_of(i))
        value = similarity(of_last, shingles(text_of(j)))
        if value >= threshold:
            yield i, j, value


def _candidates(found: Signatures, threshold: float) -> NDArray[np.int64]:
    """Return pairs of indices that share a band, sorted, ``(pairs, 2)``."""
    if not len(found):
        return np.empty((0, 2), np.int64)
    rows = PERMUTATIONS // BANDS
    codes: list[NDArray[np.int64]] = [np.empty(0, np.int64)]
    for band in range(BANDS):
        part = np.ascontiguousarray(found[:, band * rows : (band + 1) * rows])
        keys = part.view(f"V{part.itemsize * rows}").ravel()
        order = np.argsort(keys, kind="stable")
        ordered = keys[order]
        starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1], [True]]))
        pairs: list[tuple[int, int]] = []
        for start, end in zip(starts, starts[1:], strict=False):
            if end - start > 1:
                pairs += _of_bucket(sorted(order[start:end].tolist()))
        array = np.array(pairs, np.int64).reshape(-1, 2)
        agree = np.empty(len(array), bool)
        for at in range(0, len(array), 100_000):
            i, j = array[at : at + 100_000].T
            agree[at : at + 100_000] = (found[i] == found[j]).mean(axis=1) >= threshold - MARGIN
        codes.append(array[agree] @ np.array([len(found), 1]))
    unique = np.unique(np.concatenate(codes))
    return np.stack(np.divmod(unique, len(found)), axis=1)


def _of_bucket(bucket: list[int]) -> list[tuple[int, int]]:
    if len(bucket) <= LARGEST_BUCKET:
        return [(i, j) for at, i in enumerate(bucket) for j in bucket[at + 1 :]]
    return [*((bucket[0], j) for j in bucket[1:]), *zip(bucket[1:], bucket[2:], strict=False)]
