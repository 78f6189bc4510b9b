"""The settings of ``lbr recommend train``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Literal

from lbr_st.data.drops import ON_ERROR, ON_ERROR_HELP
from lbr_st.data.judgements import NOTHING
from lbr_st.errors import InputError
from lbr_st.recommending.chosen import JUDGED_BY, MIN_SCORE
from lbr_st.training.flags import flag, required, told

PRELOADED, RANDOM, NONE = "preloaded", "random", "none"
MUTUAL_WEIGHT = TOKEN_DROPOUT = 0.1
AT_LEAST_1 = (
    "history", "max_length", "dimensions", "graph_layers", "recommender_batch_size", "recommender_steps",
    "steps", "joint_steps", "rounds",
)  # fmt: skip
MOST = 2**31 - 1  # of a whole number
NAMES_OF_FILES = ("model", "data", "items", "users")


@dataclass(frozen=True, kw_only=True)
class RecommendConfig:
    """The settings of ``lbr recommend train``: a language model and a recommender that learn from each other.

    Every field is a flag by the same name, whose help says what it means. The method is that of arXiv 2311.03778:
    tokens of users and items, preloaded from a recommender; prompts that tell a history in words and tokens; features
    of the language model joined to the recommender's vectors; and mutual learning with the losses ``L_llm + g d`` and
    ``L_rec + g d``, each with the other side held fixed. What follows is not fixed there, and is ours:

    - L_llm is contrastive: the text of a user, told up to some item, finds the text of that item among those of the
      batch. Items that the user chose too count for nothing there, and how often an item is chosen is taken off its
      score. So the model embeds, and needs no list of candidates.
    - L_rec is the pairwise loss of LightGCN (BPR), of the joined prediction.
    - d is the mean squared difference between the vectors of both for users and items, as a share of the mean squared
      length of the side that is held fixed. It is measured in the recommender's space.
    - The rows of the tokens are the recommender's vectors, turned into the space of the vocabulary by a fixed map:
      random orthogonal directions, moved to the mean of the vocabulary and scaled to its spread.
    - Both take turns, ``rounds`` times, the language model first. Features are computed once a round. One round with a
      weight of 0 is the sequential training that the source compares with.
    - A share of the texts is written without tokens, so that users and items without one are read by their text.
    - The forms of the texts are in `lbr_st.recommending.texts`.

    Raises:
        InputError: If settings contradict each other: with the flags.
    """

    GROUPS: ClassVar[Mapping[str, Sequence[str]]] = {
        "model and data": (
            "model", "data", "min_score", "judged_by", "items", "users", "item_text", "user_text", "on_error",
            "output_dir",
        ),
        "texts and tokens": ("tokens", "token_dropout", "history", "max_length"),
        "recommender": (
            "dimensions", "graph_layers", "recommender_steps", "recommender_batch_size", "recommender_learning_rate",
        ),
        "learning from each other": (
            "rounds", "mutual_weight", "steps", "joint_steps", "batch_size", "learning_rate", "temperature", "bf16",
            "seed",
        ),
    }  # fmt: skip

    model: str = required("language model to start from: a directory or an id of the Hub", "DIR_OR_ID")
    data: str = required(
        "who chose what: a table with a column of users, of items and of times, or a folder of RecBole's atomic files",
        "FILE_OR_FOLDER",
    )
    min_score: float | None = told(MIN_SCORE, "S")
    judged_by: str | None = told(JUDGED_BY, "COLUMN")
    items: str | None = told("table with the id of each item and its texts (default: the .item beside --data)", "FILE")
    users: str | None = told("table with the id of each user (default: the .user beside --data)", "FILE")
    item_text: str | None = told("what is told of an item, such as '{title}, {genres}' (default: all)", "TEMPLATE")
    user_text: str | None = told("what is told of a user, such as '{age}, {occupation}' (default: nothing)", "TEMPLATE")
    on_error: Literal["stop", "skip"] = told(ON_ERROR_HELP, default="stop")
    output_dir: str = required("new or empty folder for the model and the recommender", "DIR")

    tokens: Literal["preloaded", "random", "none"] = told(
        "tokens of users and items: with the vectors of the recommender, with random ones, or none", default=PRELOADED
    )
    token_dropout: float | None = told(
        f"share of the texts that are written without tokens (default: {TOKEN_DROPOUT:g}); not for --tokens none", "P"
    )
    history: int = told("most items that a user's text tells, the newest first", "N", default=10)
    max_length: int = told("longest text in tokens", "N", default=128)

    dimensions: int = told("numbers of a vector of the recommender", "N", default=64)
    graph_layers: int = told("how far the recommender looks along the graph of users and items", "N", default=3)
    recommender_steps: int = told("steps of the recommender alone, before the rounds", "N", default=2000)
    recommender_batch_size: int = told("choices in a batch of the recommender", "N", default=2048)
    recommender_learning_rate: float = told("learning rate of the recommender", "R", default=0.005)

    rounds: int = told("how often both take turns", "N", default=5)
    mutual_weight: float | None = told(
        f"weight g of the distance between both (default: {MUTUAL_WEIGHT:g}; without tokens 0)", "G"
    )
    steps: int = told("steps of the language model, in all rounds together", "N", default=1000)
    joint_steps: int = told("steps of the recommender, in all rounds together", "N", default=1000)
    batch_size: int = told("users in a batch of the language model", "N", default=64)
    learning_rate: float = told("learning rate of the language model", "R", default=1e-4)
    temperature: float = told("temperature of the language model's loss", "T", default=0.05)
    bf16: bool = told("compute the language model in bfloat16", default=False)
    seed: int = told("of all that is drawn", "S", default=0)

    def __post_init__(self) -> None:
        for name in AT_LEAST_1:
            if not 1 <= getattr(self, name) <= MOST:
                raise InputError(f"{flag(name)} must be from 1 to {MOST}, got {getattr(self, name)}")
        if self.batch_size < 2:
            raise InputError(f"--batch-size must be at least 2, got {self.batch_size}: the others are what not to find")
        for name in ("steps", "joint_steps"):
            if getattr(self, name) < self.rounds:
                raise InputError(f"{flag(name)} {getattr(self, name)} are too few for --rounds {self.rounds}")
        for name, choices in (("tokens", (PRELOADED, RANDOM, NONE)), ("on_error", ON_ERROR)):
            if getattr(self, name) not in choices:
                raise InputError(f"{flag(name)} must be one of {', '.join(choices)}, got {getattr(self, name)}")
        if self.tokens == NONE and self.token_dropout:
            raise InputError("--token-dropout is for tokens, which --tokens none leaves out: no text has one")
        if self.token_dropout is None:
            object.__setattr__(self, "token_dropout", 0.0 if self.tokens == NONE else TOKEN_DROPOUT)
        self._check_numbers()
        self._check_weight()

    def _check_numbers(self) -> None:
        for name in ("learning_rate", "recommender_learning_rate", "temperature"):
            if not 0 < getattr(self, name) < math.inf:
                raise InputError(f"{flag(name)} must be a number above 0, got {getattr(self, name)}")
        if self.min_score is not None and not math.isfinite(self.min_score):
            raise InputError(f"--min-score must be a number, got {self.min_score}")
        if self.min_score is not None and self.judged_by == NOTHING:
            raise InputError(f"--min-score is for a column that judges, and --judged-by {NOTHING} says that none does")
        if not 0 <= self.dropout <= 1:
            raise InputError(f"--token-dropout must be from 0 to 1, got {self.token_dropout}")
        if not 0 <= self.seed < 2**32:
            raise InputError(f"--seed must be a whole number from 0 to {2**32 - 1}, got {self.seed}")

    def _check_weight(self) -> None:
        if self.mutual_weight is None:
            object.__setattr__(self, "mutual_weight", 0.0 if self.tokens == NONE else MUTUAL_WEIGHT)
        if not 0 <= self.weight < math.inf:
            raise InputError(f"--mutual-weight must be a number of at least 0, got {self.mutual_weight}")
        if self.weight and self.tokens == NONE:
            raise InputError("--mutual-weight is for tokens, which --tokens none leaves out: there is nothing to share")

    @property
    def weight(self) -> float:
        """The weight of the distance."""
        return self.mutual_weight or 0.0

    @property
    def dropout(self) -> float:
        """The share of the texts without tokens."""
        return self.token_dropout or 0.0

    def described(self) -> dict[str, Any]:
        """Return the settings that decide the weights, as plain JSON; files without their folders."""
        told_ = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "output_dir"}
        for name in NAMES_OF_FILES:
            if told_[name] is not None and Path(told_[name]).exists():
                told_[name] = Path(told_[name]).name
        return {name: value for name, value in told_.items() if value is not None}
