"""What decides a prepared set: the fields of `PrepareConfig` are the flags of ``lbr data prepare``."""

from __future__ import annotations

import math
import os
import re
import shlex
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, fields
from fractions import Fraction
from pathlib import Path

from lbr_st.data import registry
from lbr_st.data.columns import Columns
from lbr_st.data.drops import ON_ERROR
from lbr_st.data.near_duplicates import THRESHOLD, check_threshold
from lbr_st.data.passages import CHUNK_TOKENS
from lbr_st.data.prepared_set import REGIMES
from lbr_st.data.same_text import AUTO, LEVELS
from lbr_st.data.templates import Template
from lbr_st.errors import InputError

HELD_OUT = ("test", "dev")
# Of the pairs, and of the training pairs; as far as there is enough.
DEFAULT_SIZES = {"test": "10%", "dev": "5%", "learn": "100%", "align": "100%"}
ISOLATE = ("both", "query")
# What says how the rows of a source are read.
ROW_FIELDS = (
    "query", "document", "negative", "choices", "answer", "first_option", "min_score", "judged_by", "id",
)  # fmt: skip
NUMBER = re.compile(r"\d+", re.ASCII)
PATH = re.compile(r"[/\\]|\.[^\W\d]")  # is in the name of a file, and in no number
SHARE = re.compile(r"(\d+(?:\.\d+)?)%", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class PrepareConfig:
    """Sources and settings of a prepared set. The same ones give the same bytes.

    Attributes:
        sources: Files, folders, ids of Hub datasets, names of the registry, or ``installed-packages``; see
            `lbr_st.data.parts.parts_of`.
        output_dir: New or empty folder for the set.
        query: Template of the query, such as ``{names[0]}``; default is the column of a usual name.
        document: Template of the document.
        negative: Templates of hard negatives.
        choices: Fields of the options of multiple choice: one that holds all, or one for each.
        answer: Field that says which option is right.
        first_option: Number of the first option, 0 or 1, where a number says which is right; default is that a source
            of which no number is 0 is refused.
        min_score: Least score of a document that answers its query, where a column grades them.
        judged_by: Column that says whether the document of a row answers its query, or a path to it, ``meta[label]``;
            ``none`` if none does; default is the usual names.
        id: Field of the id; default is the usual names of `lbr_st.data.names`.
        encoding: Encoding of text files.
        on_error: ``stop`` at the first row that cannot be used, or ``skip`` and count such rows.
        tokenizer: Backbone whose tokens are counted; default is words and marks.
        chunk_tokens: Most tokens of a passage that is cut from a document without a query.
        keep_html: Whether markup stays in texts.
        query_characters: Least and most characters of a query.
        document_characters: Least and most characters of a document.
        same_text: What is the same text, one of `lbr_st.data.same_text.LEVELS`.
        near_duplicates: Least Jaccard index of near-duplicates, from 0.8 to 1; 0 for none.
        test: Number of pairs to hold out (``100``), share of all pairs (``"10%"``), or a file that is the test.
        dev: The same for dev.
        learn: Number or share of the training pairs that stage 1 gets.
        align: Number or share of the training pairs that stage 2 gets.
        group_by: Field whose values must not be parted.
        resplit: Whether the sides that the sources have are forgotten.
        isolate: ``both`` to keep queries and documents apart, ``query`` for queries alone; default is both, and for
            multiple choice, whose options come again, queries.
        regime: One of `lbr_st.data.prepared_set.REGIMES`.
        name: Name of the set; default is the names of the sources.
        license: License of the data; default is that of the registry, where it has the source.
        derived_from: Sets of the registry, and Hub datasets, that the data come from.
        num_proc: Number of processes to run in.

    Raises:
        InputError: If a value cannot be meant; the message names the flag.
    """

    sources: Sequence[str | Path]
    output_dir: str | Path
    query: str | None = None
    document: str | None = None
    negative: Sequence[str] = ()
    choices: Sequence[str] = ()
    answer: str | None = None
    first_option: int | None = None
    min_score: float | None = None
    judged_by: str | None = None
    id: str | None = None
    encoding: str = "utf-8"
    on_error: str = "stop"
    tokenizer: str | Path | None = None
    chunk_tokens: int = CHUNK_TOKENS
    keep_html: bool = False
    query_characters: Sequence[int] = (1, 2_000)
    document_characters: Sequence[int] = (1, 50_000)
    same_text: str = AUTO
    near_duplicates: float = THRESHOLD
    test: str | int | Path | None = None
    dev: str | int | Path | None = None
    learn: str | int | None = None
    align: str | int | None = None
    group_by: str | None = None
    resplit: bool = False
    isolate: str | None = None
    regime: str = "strict"
    name: str | None = None
    license: str | None = None
    derived_from: Sequence[str] = ()
    num_proc: int = field(default_factory=lambda: os.cpu_count() or 1)

    def __post_init__(self) -> None:
        if isinstance(self.sources, str | Path):
            object.__setattr__(self, "sources", [self.sources])
        if self.tokenizer is not None:
            object.__setattr__(self, "tokenizer", str(self.tokenizer))
        if not self.sources:
            raise InputError("no source: name a file, a folder, a Hub dataset or a set of lbr data list")
        check_threshold(self.near_duplicates)
        for name in ("query_characters", "document_characters"):
            least, most = getattr(self, name)
            if not 1 <= least <= most:
                raise InputError(f"{flag(name)} must be two numbers from 1, the smaller first, got {least} {most}")
        for name in ("chunk_tokens", "num_proc"):
            if getattr(self, name) < 1:
                raise InputError(f"{flag(name)} must be at least 1, got {getattr(self, name)}")
        _check_choice("on_error", self.on_error, ON_ERROR)
        _check_choice("regime", self.regime, REGIMES)
        _check_choice("same_text", self.same_text, LEVELS)
        _check_choice("isolate", self.isolate, (*ISOLATE, None))
        _check_choice("first_option", self.first_option, (0, 1, None))
        for name in DEFAULT_SIZES:
            self.share(name, 1)
        registry.check_names(self.derived_from)
        self.columns  # noqa: B018  # templates that cannot be read are refused here

    @property
    def columns(self) -> Columns:
        """Where things are in a row."""
        several = len(self.choices) > 1
        return Columns(
            query=Template(self.query) if self.query else None,
            document=Template(self.document) if self.document else None,
            negatives=tuple(map(Template, self.negative)),
            choices=tuple(Template("{" + name + "}") for name in self.choices)
            if several
            else next(iter(self.choices), None),
            answer=self.answer,
            first_option=self.first_option,
            min_score=self.min_score,
            judged_by=self.judged_by,
        )

    @property
    def sides(self) -> list[tuple[str, str | None]]:
        """Sources, each with the side that the user says it is, or None."""
        found: list[tuple[str, str | None]] = [(str(source), None) for source in self.sources]
        return found + [(file, name) for name in HELD_OUT if (file := self.file(name)) is not None]

    @property
    def title(self) -> str:
        """Name of the set."""
        return self.name or " + ".join(Path(source).resolve().name.partition(".")[0] for source in self.sources)

    @property
    def command(self) -> str:
        """Command that makes the set again, without where and how fast: the same data give the same card."""
        argv = ["lbr", "data", "prepare", *map(str, self.sources)]
        for each in fields(self):
            value, said = getattr(self, each.name), flag(each.name)
            value = tuple(value) if isinstance(value, list) else value
            if each.name in ("sources", "output_dir", "num_proc") or value == each.default:
                continue
            if each.name == "negative":
                argv += [part for template in value for part in (said, template)]
            elif value is True:
                argv.append(said)
            else:
                argv += [said, *map(str, value if isinstance(value, tuple) else [value])]
        return shlex.join([*argv, "--output-dir", "DIR"])

    def file(self, name: str) -> str | None:
        """Return the file that the user says is a held-out set, or None where a size is asked for."""
        value = getattr(self, name)
        text = str(value)
        is_size = value is None or NUMBER.fullmatch(text) or SHARE.fullmatch(text)
        return text if name in HELD_OUT and not is_size and os.path.exists(text) else None

    def asked(self, name: str) -> str:
        """Return the size of a part as it was asked for, or the default."""
        value = getattr(self, name)
        return DEFAULT_SIZES[name] if value is None else str(value)

    def is_asked(self, name: str) -> bool:
        """Tell whether the user asks for a number or a share of records, and not for none."""
        return getattr(self, name) is not None and self.file(name) is None and self.share(name, 10**6) > 0

    def share(self, name: str, total: int) -> int:
        """Return how many of ``total`` records a part is asked to have, which may be more than there are.

        Raises:
            InputError: If what was asked for is no size.
        """
        return 0 if self.file(name) else size_of(self.asked(name), total, name)

    def size(self, name: str, total: int, what: str) -> int:
        """Return how many of ``total`` records a part has.

        Args:
            name: ``test``, ``dev``, ``learn`` or ``align``.
            total: Number of records to take it from.
            what: Name of these records, for the message.

        Raises:
            InputError: If there are fewer than were asked for.
        """
        size = self.share(name, total)
        if size > total:
            raise InputError(f"--{name} {self.asked(name)}, but there are only {total} {what}")
        return size


def flag(name: str) -> str:
    """Return the flag of a field."""
    return "--" + name.replace("_", "-")


def _check_choice(name: str, value: object, choices: Collection[object]) -> None:
    if value not in choices:
        allowed = " or ".join(str(choice) for choice in choices if choice is not None)
        raise InputError(f"{flag(name)} must be {allowed}, got {value}")


def size_of(size: str, total: int, name: str) -> int:
    """Return a number of records: ``100``, or ``10%`` of ``total``, which is rounded.

    That of ``learn`` is rounded down and that of ``align`` up, so that both shares of a whole share no record.

    Raises:
        InputError: If it is neither; with how to write it.
    """
    share = SHARE.fullmatch(size)
    if NUMBER.fullmatch(size):
        return int(size)
    if share is None or float(share[1]) > 100:
        file = ", or the path of a file" if name in HELD_OUT else ""
        how = f"write a number of records (--{name} 100) or a share (--{name} 10%){file}"
        raise InputError(f"--{name} {size}: {'no such file; ' if file and PATH.search(size) else ''}{how}")
    return {"learn": math.floor, "align": math.ceil}.get(name, round)(Fraction(share[1]) * total / 100)
