"""Stage 2's rows and batches: which texts may be negatives of which query."""

from __future__ import annotations

import collections
import logging
from collections.abc import Iterator, Sequence

import torch
from datasets import Dataset
from sentence_transformers.base.sampler import DefaultBatchSampler

from lbr_st.errors import InputError
from lbr_st.records import Record

logger = logging.getLogger(__name__)


def training_rows(records: Sequence[Record]) -> Dataset:
    """Lay records out as sentence-transformers' losses take them: anchor, positive, negative_1, ..., negative_n.

    A record whose hard negative is known to answer its query is left out, with a count in the log. Where records have
    different numbers of hard negatives, the first of them are used, as many as all have.

    Args:
        records: With ``query``, ``document`` and ``negatives``.

    Raises:
        InputError: If some records have hard negatives and others have none, or fewer than 2 are left.
    """
    known = documents_by_query(records)
    kept = [record for record in records if not known[record["query"]].intersection(record["negatives"])]
    if len(kept) < len(records):
        logger.warning(
            "left out %d of %d records: a hard negative of theirs is a document of the same query in another record",
            len(records) - len(kept),
            len(records),
        )
    if len(kept) < 2:
        raise InputError(f"in-batch negatives need at least 2 pairs, found {len(kept)}")
    counts = [len(record["negatives"]) for record in kept]
    fewest, most = min(counts), max(counts)
    if fewest == 0 < most:
        without = kept[counts.index(0)]["id"]
        raise InputError(
            f"record {without} has no hard negatives and others have up to {most}; give all of them some, or none (and "
            "--mine-negatives N to find them)"
        )
    if fewest < most:
        logger.warning("records have %d to %d hard negatives; the first %d of each are used", fewest, most, fewest)
    rows = [
        {"anchor": r["query"], "positive": r["document"]}
        | {f"negative_{n}": text for n, text in enumerate(r["negatives"][:fewest], start=1)}
        for r in kept
    ]
    return Dataset.from_list(rows)


def documents_by_query(records: Sequence[Record]) -> dict[str, set[str]]:
    """Return the documents that are known to answer each query."""
    known: dict[str, set[str]] = {}
    for record in records:
        known.setdefault(record["query"], set()).add(record["document"])
    return known


class DistinctBatchSampler(DefaultBatchSampler):
    """Batches in which no row's document is known to answer the query of another row, and no text is there twice.

    Sentence-transformers' sampler without duplicates compares the texts of rows. That lets two passages of one query
    meet when one of them comes with another query, or as another row's hard negative: each would be trained as a
    negative of its own query.

    In several processes the batch is that of all of them together, as its negatives are gathered; this sampler yields
    the part of one process. All parts have one size, so up to ``num_processes - 1`` rows of a batch that is not full
    are left out. Rows that fit into no batch of at least two rows are left out for an epoch.

    Args:
        dataset: Rows of `training_rows`.
        batch_size: Rows of one process.
        drop_last: Leave out batches that are not full.
        seed: Of the order, together with the epoch.
        num_processes: How many share a batch.
        process_index: Whose part is yielded.

    Raises:
        InputError: If not one batch can be made.
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int,
        drop_last: bool,
        *,
        seed: int = 0,
        num_processes: int = 1,
        process_index: int = 0,
    ) -> None:
        super().__init__(dataset, batch_size, drop_last, seed=seed)
        self.random = torch.Generator()
        self.num_processes, self.process_index = num_processes, process_index
        number: dict[str, int] = {}
        queries = list(dataset["anchor"])
        columns = [list(dataset[name]) for name in dataset.column_names]
        rows = zip(*columns, strict=True)
        self.texts = [tuple({number.setdefault(text, len(number)): None for text in row}) for row in rows]
        known: dict[str, set[int]] = {}
        for query, document in zip(queries, dataset["positive"], strict=True):
            known.setdefault(query, set()).add(number[document])
        # The texts of a row and the other documents of its query.
        self.claims = [
            texts + tuple(known[query].difference(texts)) for texts, query in zip(self.texts, queries, strict=True)
        ]
        self.random.manual_seed(seed)
        self.length = sum(1 for _ in self._one_pass())
        if not self.length:
            raise InputError(
                f"not one batch of {'' if drop_last else 'up to '}{batch_size * num_processes} rows can be made: two "
                "rows with the same text, or with documents of the same query, are never in one batch"
            )

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[list[int]]:
        """Yield as many batches in every epoch, from a second pass over the rows where one gives fewer."""
        self.random.manual_seed(self.seed + self.epoch)
        count = 0
        while count < self.length:
            for batch in self._one_pass():
                yield batch[self.process_index :: self.num_processes]
                count += 1
                if count == self.length:
                    return

    def _one_pass(self) -> Iterator[list[int]]:
        """Yield whole batches: rows in random order, each in the first batch that has a place for it."""
        waiting = collections.deque(torch.randperm(len(self.texts), generator=self.random).tolist())
        size = self.batch_size * self.num_processes
        while waiting:
            batch: list[int] = []
            texts: set[int] = set()
            claims: set[int] = set()
            put_off: list[int] = []
            while waiting and len(batch) < size:
                row = waiting.popleft()
                if texts.isdisjoint(self.claims[row]) and claims.isdisjoint(self.texts[row]):
                    batch.append(row)
                    texts.update(self.texts[row])
                    claims.update(self.claims[row])
                else:
                    put_off.append(row)
            waiting.extendleft(reversed(put_off))
            whole = batch[: len(batch) - len(batch) % self.num_processes]
            if len(whole) == size or (len(whole) >= 2 and not self.drop_last):
                yield whole
