"""What is left out of data, and what becomes of rows that cannot be used."""

from __future__ import annotations

from collections import Counter, defaultdict

from lbr_st.data.cells import Wrong, stop
from lbr_st.data.choices import COUNTED
from lbr_st.data.cleaning import printable
from lbr_st.errors import RowError, shortened

ON_ERROR = ("stop", "skip")
ON_ERROR_HELP = "at a row that cannot be used: stop, or skip it and count"
SAMPLES = 5  # of each reason, kept in dropped.jsonl
SAMPLE_CHARACTERS = 200
SHOWN, SHOWN_CHARACTERS = 3, 100  # of these, in the log and on the card
# What is wrong with all rows of a source if it is with one: to leave them out leaves nothing.
OF_ALL_ROWS = (
    "missing column", "missing field", "wrong encoding", "a column without a name", "no judgement",
    "a value written out", "a key twice", COUNTED,
)  # fmt: skip
MOST_TRIED = 1000  # rows that cannot be used, until it is said that none can
MOST_NAMED = 3  # reasons of which one is named in a line


class Drops:
    """What was left out: how many records by reason, and some of each."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._samples: dict[str, list[dict[str, str]]] = defaultdict(list)

    def add(self, reason: str, id_: str, text: str, like: tuple[str, str] | None = None) -> None:
        """Count a record.

        Args:
            reason: Why it is left out.
            id_: Its id.
            text: The text that it is left out for.
            like: Id and text of the record that stays in its place.
        """
        self.counts[reason] += 1
        if len(self._samples[reason]) < SAMPLES:
            sample = {"reason": reason, "id": id_, "text": text[:SAMPLE_CHARACTERS]}
            if like is not None:
                sample |= {"like_id": like[0], "like": like[1][:SAMPLE_CHARACTERS]}
            self._samples[reason].append({key: printable(value) for key, value in sample.items()})

    def add_error(self, error: RowError) -> None:
        """Count a row that could not be read, and go on."""
        self.add(f"cannot be read: {error.reason}", error.where, str(error))

    @property
    def samples(self) -> list[dict[str, str]]:
        """Some of each reason, by reason."""
        return [sample for reason in sorted(self._samples) for sample in self._samples[reason]]

    @property
    def examples(self) -> dict[str, list[str]]:
        """Some of what is left out for being like another text, by reason, for people."""
        quoted = lambda text: repr(shortened(" ".join(text.split()), SHOWN_CHARACTERS))  # noqa: E731
        found = {
            reason: [
                f"{quoted(sample['text'])} ({sample['id']}) like {quoted(sample['like'])} ({sample['like_id']})"
                for sample in samples[:SHOWN]
                if "like" in sample
            ]
            for reason, samples in sorted(self._samples.items())
        }
        return {reason: shown for reason, shown in found.items() if shown}

    def describe(self) -> str:
        """Say in one line how many were left out, why, and name one of each of the most frequent reasons."""
        reasons = [reason for reason, _ in self.counts.most_common(MOST_NAMED)]
        examples = "; ".join(self._samples[reason][0]["text"] for reason in reasons)
        return f"rows left out: {self.counts.total():,} ({self}), such as {examples}"

    def __str__(self) -> str:
        return ", ".join(f"{number} {reason}" for reason, number in self.counts.most_common())


def on_wrong_row(on_error: str | None, drops: Drops) -> Wrong:
    """Return what is called with a row that cannot be used.

    Args:
        on_error: ``stop`` at the first such row, and say how to go on, or ``skip`` them; None where a command has no
            such flag.
        drops: Counts those that are skipped.
    """
    if on_error is None:
        return stop
    return drops.add_error if on_error == "skip" else _stop


def _stop(error: RowError) -> None:
    stop(error if error.reason in OF_ALL_ROWS else error.saying("; --on-error skip leaves such rows out"))


class Waiting:
    """Waits with the first row that cannot be used for one that can: without one, to skip such rows leaves nothing.

    Args:
        wrong: What is called with rows that cannot be used, see `on_wrong_row`.
    """

    def __init__(self, wrong: Wrong) -> None:
        self._wrong = wrong
        self._is_used = wrong is not _stop  # what does not say that rows can be skipped, has not to wait
        self._first: RowError | None = None
        self._number = 0

    def __call__(self, error: RowError) -> None:
        """Take a row that cannot be used."""
        if self._is_used or (error.reason in OF_ALL_ROWS and self._first is None):
            self._wrong(error)
            return
        self._first = self._first or error
        self._number += 1
        if self._number == MOST_TRIED:
            self.end()

    def used(self) -> None:
        """Take note of a row that can be used."""
        self._is_used = True
        if self._first is not None:
            self._wrong(self._first)

    def end(self) -> None:
        """Stop at the first row, if no other could be used.

        Raises:
            RowError: If there is one; it says that to skip such rows leaves nothing.
        """
        if self._first is not None and not self._is_used:
            raise self._first.saying(f"; none of the {self._number:,} rows can be used" if self._number > 1 else "")
