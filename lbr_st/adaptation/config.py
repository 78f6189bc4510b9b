"""What an adaptation is told: the fields of `AdaptConfig` are the flags of ``lbr adapt``."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from lbr_st.data.drops import ON_ERROR
from lbr_st.errors import InputError
from lbr_st.evaluation.shares import KEEP_GENERAL

KEEP = ("better", "end")
# What the path itself decides of the stages.
DECIDED = ("model", "data", "dev_data", "output_dir", "resume", "max_length", "seed", "dry_run", "find_rate")
LEAST_LENGTH = 16  # tokens of a passage, below which nothing can be asked about it


@dataclass(frozen=True, kw_only=True)
class AdaptConfig:
    """A corpus, a model, and what else there is.

    Attributes:
        sources: Files, folders, prepared sets, ids of Hub datasets: what ``lbr data prepare`` reads.
        model: Model to start from: a causal language model, a model of this package, or any other sentence-transformers
            model, which stage 1 is left out for.
        output_dir: New or empty folder for the model. The steps are in a folder beside it, whose name ends in
            ``.work``.
        pairs: File of pairs of real queries and their documents, or a prepared set; one with ``dev`` and ``test`` is
            judged by these.
        queries: File of queries with their passages, in the place of those that are written. A column ``kind`` says
            what they are; without it they count as real.
        generator: Address of a server that writes queries, as OpenAI's API does; default is the model to start from.
        generator_model: Name of the model there.
        per_passage: Number of queries that are written for a passage; default is one of each kind.
        most_passages: Most passages that queries are written for; default is all.
        teacher: Sentence-transformers model to learn rankings from in stage 2; also filters queries and finds hard
            negatives.
        reranker: CrossEncoder to learn from instead, which filters queries.
        weak_teacher: Whether a teacher is taken that is weaker on dev than the model.
        general: File of pairs from outside the domain; default is functions of the installed packages.
        keep_general: Share of the recall@10 on these that a merged model must keep.
        keep: ``better`` to save the start again where the end finds less, ``end`` to save the end all the same.
        max_length: Longest text in tokens, which passages are cut to.
        learn: Settings of stage 1, by the names of `LearnConfig`.
        align: Settings of stage 2, by the names of `AlignConfig`.
        skip: Steps that are left out, of ``learn``, ``filter``, ``write``, ``negatives`` and ``merge``.
        seed: Seed of all that is drawn.
        on_error: ``stop`` at the first row that cannot be used, or ``skip`` and count such rows.

    Raises:
        InputError: If a value cannot be meant; the message names the flag.
    """

    sources: Sequence[str | Path]
    model: str
    output_dir: str | Path
    pairs: str | None = None
    queries: str | None = None
    generator: str | None = None
    generator_model: str | None = None
    per_passage: int | None = None
    most_passages: int | None = None
    teacher: str | None = None
    reranker: str | None = None
    weak_teacher: bool = False
    general: str | None = None
    keep_general: float = KEEP_GENERAL
    keep: str = "better"
    max_length: int = 256
    learn: Mapping[str, Any] = field(default_factory=dict)
    align: Mapping[str, Any] = field(default_factory=dict)
    skip: Sequence[str] = ()
    seed: int = 0
    on_error: str = "stop"

    def __post_init__(self) -> None:
        if isinstance(self.sources, str | Path):
            object.__setattr__(self, "sources", [self.sources])
        if not self.sources:
            raise InputError("no corpus: name a folder, a file, a prepared set or a Hub dataset")
        self._check_values()
        self._check_together()

    def _check_values(self) -> None:
        for name, choices in (("keep", KEEP), ("on_error", ON_ERROR)):
            if getattr(self, name) not in choices:
                raise InputError(f"{_flag(name)} must be {' or '.join(choices)}, got {getattr(self, name)}")
        for step in self.skip:
            if step not in SKIPPED:
                raise InputError(f"--skip {step}: there are {', '.join(SKIPPED)}")
        if self.max_length < LEAST_LENGTH:
            raise InputError(f"--max-length must be at least {LEAST_LENGTH}, got {self.max_length}")
        if not 0 <= self.keep_general <= 1:
            raise InputError(f"--keep-general must be from 0 to 1, got {self.keep_general}")
        for stage in ("learn", "align"):
            for name in getattr(self, stage):
                if name in DECIDED:
                    raise InputError(f"{_flag(stage)} {name}: the path decides it")

    def _check_together(self) -> None:
        if self.teacher is not None and self.reranker is not None:
            raise InputError("--teacher and --reranker are two teachers; leave out one of them")
        if self.reranker is not None and "negatives" in self.skip:
            raise InputError("--reranker teaches how hard negatives rank: leave out --skip negatives, or it")
        if self.weak_teacher and self.teacher is None and self.reranker is None:
            raise InputError("--weak-teacher is for a teacher: give --teacher or --reranker")
        if (self.generator is None) != (self.generator_model is None):
            raise InputError("--generator URL and --generator-model NAME belong together; give both")
        if "learn" in self.skip and self.learn:
            raise InputError("--learn: --skip learn leaves stage 1 out")
        if self.queries is not None and (self.generator is not None or self.per_passage or self.most_passages):
            raise InputError("--queries FILE has the queries; leave out what would write some")

    @property
    def work(self) -> Path:
        """Folder of the steps."""
        target = Path(self.output_dir)
        return target.with_name(f"{target.name}.work")

    @property
    def command(self) -> str:
        """Command that does it again."""
        argv = ["lbr", "adapt", *map(str, self.sources)]
        for each in fields(self):
            value = getattr(self, each.name)
            if each.name == "sources" or value in (each.default, {}, ()):
                continue
            if isinstance(value, Mapping):
                argv += [_flag(each.name), *(f"{name}={setting}" for name, setting in value.items())]
            elif value is True:
                argv.append(_flag(each.name))
            else:
                argv += [_flag(each.name), *map(str, value if isinstance(value, list | tuple) else [value])]
        return shlex.join(argv)


SKIPPED = ("learn", "filter", "write", "negatives", "merge")


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
