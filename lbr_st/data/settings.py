"""What decides a prepared set, beside its sources."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from lbr_st.data import near_duplicates as near
from lbr_st.data import split as splits
from lbr_st.data.passages import count_words
from lbr_st.errors import InputError

HELD_OUT = ("test", "dev")
DEFAULT_SIZES = {"test": "0.1", "dev": "0.05", "gl": "1.0", "cl": "1.0"}


@dataclass(frozen=True)
class Settings:
    """What decides a prepared set, beside its sources.

    Attributes:
        query_characters: Least and most characters of a query.
        document_characters: The same of a document.
        near_duplicates: Least Jaccard index of near-duplicates, 0 for none.
        isolated: Which of ``query`` and ``document`` must not be on two sides; None is both, or, of multiple choice,
            whose options come again and again, the query.
        sizes: Number or share of the pairs of ``test`` and ``dev``, and of the training pairs for ``gl`` and ``cl``;
            default is `DEFAULT_SIZES`, as far as there is enough.
        regime: One of `lbr_st.data.prepared_set.REGIMES`.
        resplit: Forget the sides that sources have.
        on_error: ``stop`` at the first row that cannot be used, or ``skip`` and count it.
        count_tokens: Counts the tokens of a text.
        token: What it counts.
        processes: To run in.
    """

    query_characters: tuple[int, int] = (1, 2_000)
    document_characters: tuple[int, int] = (1, 50_000)
    near_duplicates: float = near.THRESHOLD
    isolated: Sequence[str] | None = None
    sizes: Mapping[str, str | int | float] = field(default_factory=dict)
    regime: str = "strict"
    resplit: bool = False
    on_error: str = "stop"
    count_tokens: Callable[[str], int] = count_words
    token: str = "words and marks"
    processes: int = 1

    def check(self) -> None:
        """Refuse what cannot be meant, before anything is read.

        Raises:
            InputError: Which.
        """
        near.check_threshold(self.near_duplicates)
        for flag, (least, most) in (
            ("--query-characters", self.query_characters),
            ("--document-characters", self.document_characters),
        ):
            if not 1 <= least <= most:
                raise InputError(f"{flag} must be two numbers from 1, the smaller first, got {least} {most}")
        for name in self.sizes:
            self.share(name, 1)

    def asked(self, name: str) -> str:
        """Return the size of a set as it was asked for, or the default."""
        return str(self.sizes.get(name, DEFAULT_SIZES[name]))

    def share(self, name: str, total: int) -> int:
        """Return how many of ``total`` records a set is asked to have, which may be more than there are.

        Raises:
            InputError: If what was asked for is no size.
        """
        return splits.size_of(self.asked(name), total, f"--{name}")

    def size(self, name: str, total: int, of: str) -> int:
        """Return how many of ``total`` records a set has.

        Args:
            name: Of the set.
            total: How many there are.
            of: What they are, for the message.

        Raises:
            InputError: If there are fewer than were asked for.
        """
        size = self.share(name, total)
        if size > total:
            raise InputError(f"--{name} {self.asked(name)}, but there are only {total} {of}")
        return size
