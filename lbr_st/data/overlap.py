"""Whether what is tested on is in what is trained on: exactly, but for what counts for nothing, or nearly."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from lbr_st.data.near_duplicates import THRESHOLD, RarestFirst, as_array, shingles, similarity
from lbr_st.data.same_text import AUTO, same_text
from lbr_st.errors import InputError
from lbr_st.records import FIELDS, Record

KINDS = ("exact", "normalised", "near")
PLURALS = {"query": "queries", "document": "documents", "negative": "hard negatives"}
MOST_NAMED = 3


class Overlap(NamedTuple):
    """A text that is on both sides.

    Attributes:
        kind: One of `KINDS`: equal; equal but for what `same_text` leaves out; a near-duplicate.
        field: ``query``, ``document`` or ``negative``.
        id: Id of the record that is trained on.
        held_out_id: Id of the record that is tested on.
        similarity: Jaccard index of their shingles.
        text: Text of the record that is trained on.
        held_out: Text of the record that is tested on.
    """

    kind: str
    field: str
    id: str
    held_out_id: str
    similarity: float
    text: str
    held_out: str


class HeldOutTexts:
    """Finds the texts that are among those held out.

    Args:
        texts: The held-out texts, each with its id before it.
        threshold: Least similarity of near-duplicates; 0 for none.
        level: What is the same text, one of `lbr_st.data.same_text.LEVELS`.
    """

    def __init__(self, texts: Iterable[tuple[str, str]], threshold: float = THRESHOLD, level: str = AUTO) -> None:
        self.threshold, self.level = threshold, level
        self._exact: dict[str, str] = {}
        for id_, text in texts:
            self._exact.setdefault(text, id_)
        self._same: dict[str, str] = {}
        for text in self._exact:
            self._same.setdefault(same_text(text, level), text)
        self._texts = list(self._exact) if threshold else []
        self._sets = [shingles(text, level) for text in self._texts]
        arrays = list(map(as_array, self._sets))
        self._order = RarestFirst(arrays)
        self._by_shingle: dict[int, list[int]] = defaultdict(list)
        for number, each in enumerate(arrays):
            for shingle in self._order.prefix(each, threshold):
                self._by_shingle[shingle].append(number)

    def find(self, text: str) -> tuple[str, str, float, str] | None:
        """Return (kind, id, similarity, text) of the held-out text that a text is most like, or None."""
        if text in self._exact:
            return "exact", self._exact[text], 1.0, text
        same = self._same.get(same_text(text, self.level))
        if same is not None:
            alike = similarity(shingles(text, self.level), shingles(same, self.level))
            return "normalised", self._exact[same], alike, same
        if not self._sets:
            return None
        own = shingles(text, self.level)
        prefix = self._order.prefix(as_array(own), self.threshold)
        candidates = {number for shingle in prefix for number in self._by_shingle.get(shingle, ())}
        values = [(similarity(own, self._sets[number]), -number) for number in candidates]
        value, number = max(values, default=(0.0, 0))
        if value < self.threshold:
            return None
        near = self._texts[-number]
        return "near", self._exact[near], value, near


def overlaps(
    train: Iterable[Record],
    held_out: Sequence[Record],
    fields: Sequence[str] = FIELDS,
    threshold: float = THRESHOLD,
    level: str = AUTO,
) -> Iterator[Overlap]:
    """Yield every text of ``train`` that is among those of ``held_out``.

    Where both fields are compared, a query is looked for among the documents too, and a document among the queries: of
    duplicate questions, or of pairs and their mirrors, a text is either.

    Args:
        train: Records with ``id`` and, where they have them, ``query``, ``document`` and ``negatives``. Where documents
            are compared, these are documents too.
        held_out: Records with ``query`` and ``document``, where they have them.
        fields: Fields to compare.
        threshold: Least Jaccard index of near-duplicates; 0 for none.
        level: What is the same text, one of `lbr_st.data.same_text.LEVELS`.
    """
    texts = [(str(record.get("id")), record[field]) for record in held_out for field in fields if record.get(field)]
    among = HeldOutTexts(texts, threshold, level)
    for record in train:
        own = [(field, record.get(field)) for field in fields]
        if "document" in fields:
            own += [("negative", negative) for negative in record.get("negatives") or ()]
        for field, text in own:
            found = among.find(text) if text else None
            if text and found:
                kind, other, value, like = found
                yield Overlap(kind, field, str(record.get("id")), other, value, text, like)


def count(found: Iterable[Overlap]) -> dict[str, dict[str, int]]:
    """Return the number of overlaps by field and kind."""
    counts = Counter((overlap.field, overlap.kind) for overlap in found)
    return {field: {kind: counts[field, kind] for kind in KINDS} for field in PLURALS}


def describe(found: Sequence[Overlap]) -> str:
    """Say how many texts are on both sides, and name some of them."""
    counts = count(found)
    parts = [
        f"{sum(by_kind.values())} {PLURALS[field]} ("
        + ", ".join(f"{number} {kind}" for kind, number in by_kind.items() if number)
        + ")"
        for field, by_kind in counts.items()
        if any(by_kind.values())
    ]
    some = ", ".join(f"{o.field} of {o.id} and of {o.held_out_id}" for o in found[:MOST_NAMED])
    return f"{' and '.join(parts)}: {some}{', ...' if len(found) > MOST_NAMED else ''}"


def refuse_overlap(
    train: Sequence[Record],
    held_out: Sequence[Record],
    named: str,
    fields: Sequence[str] = FIELDS,
    level: str = AUTO,
) -> None:
    """Refuse to train on what is tested on.

    Args:
        train: Records that are trained on.
        held_out: Records that are held out.
        named: Name of the held-out data, for the message.
        fields: Fields to compare.
        level: What is the same text, one of `lbr_st.data.same_text.LEVELS`.

    Raises:
        InputError: If a text is on both sides; with the number of such texts, some of them, and what to do.
    """
    found = list(overlaps(train, held_out, fields, level=level))
    if found:
        raise InputError(
            f"the training data and {named} overlap in {describe(found)}; --allow-overlap trains all the same, "
            "and lbr data prepare takes them out of the training data"
        )
