"""Stage 2's rows and batches: which texts may be negatives of which query."""

from __future__ import annotations

import collections
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from sentence_transformers.base.sampler import DefaultBatchSampler

from lbr_st.data.same_text import AUTO, same_text
from lbr_st.errors import InputError, shortened
from lbr_st.records import Record

if TYPE_CHECKING:
    from datasets import Dataset  # imported where one is made: a `DistinctBatchSampler` works without the package

logger = logging.getLogger(__name__)

MOST_NAMED = 3
EXCERPT = 60  # characters of a text that an error names
LABEL = "label"  # sentence-transformers' name of the column that goes to the loss: numbers of rows, for a teacher


def training_rows(records: Sequence[Record], same: str = AUTO) -> Dataset:
    """Lay records out as sentence-transformers' losses take them: anchor, positive, negative_1, ..., negative_n.

    Where records have different numbers of hard negatives, the first of them are used, as many as all have that have
    some; for a record without one the document of another record stands in, as judged data have queries without a wrong
    document. So it does for a hard negative that is known to answer its query, which is left out, with a count in the
    log.

    Args:
        records: With ``query``, ``document`` and ``negatives``.
        same: What is the same text, one of `lbr_st.data.same_text.LEVELS`.

    Raises:
        InputError: If there are fewer than 2.
    """
    from datasets import Dataset

    if len(records) < 2:
        raise InputError(f"in-batch negatives need at least 2 pairs, found {len(records)}")
    known = documents_by_query(records, same)
    kept, left_out = [], []
    for record in records:
        answers = known[same_text(record["query"], same)]
        negatives = [text for text in record["negatives"] if same_text(text, same) not in answers]
        wrong = [text for text in record["negatives"] if text not in negatives]
        left_out += [f"{shortened(' '.join(text.split()), 60)!r} ({record['id']})" for text in wrong]
        kept.append(record | {"negatives": negatives} if wrong else record)
    if left_out:
        logger.warning(
            "hard negatives that are known to answer their query, left out: %d, such as %s",
            len(left_out),
            "; ".join(left_out[:MOST_NAMED]),
        )
    counts = [len(record["negatives"]) for record in records]
    fewest, most = min(filter(None, counts), default=0), max(counts)
    if fewest:
        kept = _with_stand_ins(kept, fewest, known, same)
    if fewest < most:
        logger.warning(
            "records have %d to %d hard negatives; the first %d of each are used (record %s has no more)",
            fewest,
            most,
            fewest,
            kept[counts.index(fewest)]["id"],
        )
    rows = [
        {"anchor": r["query"], "positive": r["document"]}
        | {f"negative_{n}": text for n, text in enumerate(r["negatives"][:fewest], start=1)}
        for r in kept
    ]
    return Dataset.from_list(rows)


def _with_stand_ins(records: Sequence[Record], number: int, known: Mapping[str, set[str]], same: str) -> list[Record]:
    """Fill up hard negatives of each record with documents of the next records that do not answer its query.

    Args:
        records: See `training_rows`.
        number: Number of hard negatives.
        known: See `documents_by_query`.
        same: See `training_rows`.

    Raises:
        InputError: If there are fewer.
    """
    found, without = [], 0
    for index, record in enumerate(records):
        if len(record["negatives"]) < number:
            without += 1
            answers = known[same_text(record["query"], same)]
            others = {same_text(text, same): text for text in record["negatives"]}
            for step in range(1, len(records)):
                text = records[(index + step) % len(records)]["document"]
                if (key := same_text(text, same)) not in answers:
                    others.setdefault(key, text)
                if len(others) == number:
                    break
            else:
                there = len(record["negatives"])
                raise InputError(
                    f"record {record['id']} has {there or 'no'} hard negative{'s' if there > 1 else ''}, and "
                    f"{len(others) - there} documents of others do not answer its query, where {number} are needed"
                )
            record = record | {"negatives": list(others.values())}
        found.append(record)
    if without:
        logger.warning(
            "%d of %d records have no hard negative, or too few; the document of another record stands in (`lbr "
            "data mine` finds hard ones, for pairs of which none has any)",
            without,
            len(records),
        )
    return found


def documents_by_query(records: Sequence[Record], same: str = AUTO) -> dict[str, set[str]]:
    """Return the documents that are known to answer each query, all as `same_text` has them at a level."""
    known: dict[str, set[str]] = {}
    for record in records:
        known.setdefault(same_text(record["query"], same), set()).add(same_text(record["document"], same))
    return known


@dataclass
class _Batch:
    rows: list[int] = field(default_factory=list)
    texts: set[int] = field(default_factory=set)
    pairs: set[int] = field(default_factory=set)  # texts that are a query or a document of a row
    queries: set[int] = field(default_factory=set)


class DistinctBatchSampler(DefaultBatchSampler):
    """Batches in which no row's document is known to answer the query of another row, and no text is there twice.

    A hard negative of several rows may be: it answers none of their queries. Sentence-transformers' sampler without
    duplicates compares the texts of rows. That lets two passages of one query meet when one of them comes with another
    query, or as another row's hard negative: each would be trained as a negative of its own query. What is one text,
    `same_text` says.

    In several processes the batch is that of all of them together, as its negatives are gathered; this sampler yields
    the part of one process. All parts have one size, so up to ``num_processes - 1`` rows of a batch that is not full
    are left out. Rows that fit into no batch of at least two rows are left out for an epoch.

    Args:
        dataset: Rows of `training_rows`.
        batch_size: Rows of one process.
        drop_last: Leave out batches that are not full.
        known: Documents that answer each query, beside those of the rows, as `documents_by_query` returns them.
        same: What is the same text, one of `lbr_st.data.same_text.LEVELS`.
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
        known: Mapping[str, Iterable[str]] | None = None,
        same: str = AUTO,
        seed: int = 0,
        num_processes: int = 1,
        process_index: int = 0,
    ) -> None:
        super().__init__(dataset, batch_size, drop_last, seed=seed)
        self.random = torch.Generator()
        self.num_processes, self.process_index = num_processes, process_index
        number: dict[str, int] = {}

        def number_of(key: str) -> int:
            return number.setdefault(key, len(number))

        names = [name for name in dataset.column_names if name != LABEL]
        columns = [[number_of(same_text(text, same)) for text in dataset[name]] for name in names]
        self.pairs = [{*row} for row in zip(*columns[:2], strict=True)]
        self.texts = [tuple(dict.fromkeys(row)) for row in zip(*columns, strict=True)]
        self.queries = columns[0]
        answers: dict[int, set[int]] = {}
        for query, document in zip(*columns[:2], strict=True):
            answers.setdefault(query, set()).add(document)
        for key, its_documents in (known or {}).items():
            answers.setdefault(number_of(key), set()).update(map(number_of, its_documents))
        # Where a query has one answer, its row holds both, and comparing the texts of rows is enough.
        self.answers = {query: documents for query, documents in answers.items() if len(documents) > 1}
        self.answered_by: dict[int, set[int]] = {}  # the same, by document
        for query, documents in self.answers.items():
            for document in documents:
                self.answered_by.setdefault(document, set()).add(query)

        self.random.manual_seed(seed)
        sizes = [len(batch) for batch in self._one_pass()]
        self.length = len(sizes)
        size = batch_size * num_processes
        if not sizes:
            raise InputError(
                f"not one batch of {'' if drop_last else 'up to '}{size} rows can be made: two rows with the same "
                "query or document, or with documents of the same query, are never in one batch"
            )
        _warn_of_common(dataset, dict(zip(names[2:], columns[2:], strict=True)))
        left_out = len(self.texts) - sum(sizes)
        if len(sizes) > 1 and sum(sizes) < 0.9 * size * (len(sizes) - 1):
            logger.warning(
                "batches have %.1f rows on average, where %d were asked for: many share their query or document, and "
                "such rows are never in one batch",
                sum(sizes) / len(sizes),
                size,
            )
        if left_out > (size if drop_last else num_processes):
            logger.warning(
                "%d of %d rows are in no batch of an epoch, others in each: they share their query or document with "
                "so many that none is left to be in a batch with",
                left_out,
                len(self.texts),
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

    def _add(self, row: int, batch: _Batch) -> int | None:
        """Put a row into a batch; if it may not be there, return a text that is the reason."""
        query = self.queries[row]
        if not batch.texts.isdisjoint(self.answers.get(query, ())):
            return query
        own = self.pairs[row]
        for text in self.texts[row]:
            there = batch.texts if text in own else batch.pairs
            if text in there or not batch.queries.isdisjoint(self.answered_by.get(text, ())):
                return text
        batch.rows.append(row)
        batch.texts.update(self.texts[row])
        batch.pairs.update(own)
        batch.queries.add(query)
        return None

    def _one_pass(self) -> Iterator[list[int]]:
        """Yield whole batches: rows in random order, each in the first batch that has a place for it.

        Rows that have to wait because of the same text stand in one line, of which only the first is tried for each
        batch: with few different documents nearly all rows wait.
        """
        waiting = collections.deque(torch.randperm(len(self.texts), generator=self.random).tolist())
        lines: dict[int, collections.deque[int]] = {}
        size = self.batch_size * self.num_processes
        while waiting or lines:
            batch = _Batch()
            for text in list(lines):
                if len(batch.rows) < size and self._add(lines[text][0], batch) is None:
                    lines[text].popleft()
                    if not lines[text]:
                        del lines[text]
            while waiting and len(batch.rows) < size:
                row = waiting.popleft()
                reason = self._add(row, batch)
                if reason is not None:
                    lines.setdefault(reason, collections.deque()).append(row)
            whole = batch.rows[: len(batch.rows) - len(batch.rows) % self.num_processes]
            if len(whole) == size or (len(whole) >= 2 and not self.drop_last):
                yield whole


def _warn_of_common(dataset: Dataset, numbers: Mapping[str, Sequence[int]]) -> None:
    """Name the hard negative that more than half of the rows have, by the numbers of the texts in their columns."""
    counts = collections.Counter(each for row in zip(*numbers.values(), strict=True) for each in {*row})
    if not counts or 2 * counts.most_common(1)[0][1] <= len(dataset):
        return
    [(most, count)] = counts.most_common(1)
    text = next(dataset[name][there.index(most)] for name, there in numbers.items() if most in there)
    logger.warning(
        "%d of %d rows have the hard negative %r: it counts as often as it is in a batch; leave it out",
        count,
        len(dataset),
        shortened(text, EXCERPT),
    )
