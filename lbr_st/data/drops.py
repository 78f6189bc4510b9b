"""What was left out of a prepared set, and why."""

from __future__ import annotations

from collections import Counter, defaultdict

from lbr_st.data.cleaning import printable
from lbr_st.errors import RowError

SAMPLES = 5  # of each reason, kept in dropped.jsonl
SAMPLE_CHARACTERS = 200


class Drops:
    """What was left out: how many by reason, and some of each."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._samples: dict[str, list[dict[str, str]]] = defaultdict(list)

    def add(self, reason: str, id_: str, text: str) -> None:
        """Count one."""
        self.counts[reason] += 1
        if len(self._samples[reason]) < SAMPLES:
            sample = {"reason": reason, "id": id_, "text": text[:SAMPLE_CHARACTERS]}
            self._samples[reason].append({key: printable(value) for key, value in sample.items()})

    def add_error(self, error: RowError) -> None:
        """Count a row that could not be read, and go on."""
        self.add(f"cannot be read: {error.reason}", error.where, str(error))

    @property
    def samples(self) -> list[dict[str, str]]:
        """Some of each reason, by reason."""
        return [sample for reason in sorted(self._samples) for sample in self._samples[reason]]

    def __str__(self) -> str:
        return ", ".join(f"{number} {reason}" for reason, number in self.counts.most_common())
