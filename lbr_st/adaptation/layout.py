"""Which steps an adaptation has, in order, what each reads and makes, and where that lies."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from lbr_st.adaptation.config import AdaptConfig
from lbr_st.data.folders import files_below
from lbr_st.files import file_sha256, sha256
from lbr_st.learning.objectives import Arm, parse_objective
from lbr_st.model.adapters import find_adapter
from lbr_st.model.backbone import read_backbone
from lbr_st.model.gguf import gguf_file
from lbr_st.model.named import has_bottleneck_tokens, is_other_embedding_model

NEGATIVES = 2
RELATIVE_MARGIN = 0.05  # NV-Retriever (arXiv 2407.15831)
# What stage 1 learns beside the passages where its model is to write queries after it.
WITH_DOC2QUERY = "sft:0.4,doc2query:0.2,reconstruct:0.4"


class PlannedStep(NamedTuple):
    """A step, before it is done.

    Attributes:
        name: Its name, and that of its folder.
        what: What it does, for people.
        reads: What it reads, for people.
        makes: What it makes, for people.
        settings: Everything that decides what it leaves, beside the steps before it, as plain JSON.
    """

    name: str
    what: str
    reads: str
    makes: str
    settings: Mapping[str, Any]


class Layout:
    """The steps of an adaptation, and the folders of what they leave.

    Args:
        config: Settings of the adaptation.
        trial: Folder in the place of ``config.work`` for steps that are only tried.
        done: Names of the steps that are not: what they left is in ``config.work``.

    Attributes:
        is_language_model: Whether the model to start from is one, and embeds nothing yet as others do.
        converts: Whether the language model is written anew, out of a GGUF file or an adapter and its base.
        pools: Whether the start embeds by the mean of its last states, having no way of its own.
        learns: Whether there is stage 1.
        chats: Whether the language model has a chat template, by which it writes queries itself.
        objective: What stage 1 learns; None for what the set says.
        writes: Whether the model of stage 1 writes queries, as it has no chat template and learned doc2query.
        merges: Whether the end is merged with what it was made from.
        names: Names of the steps, in order.
    """

    def __init__(self, config: AdaptConfig, trial: Path | None = None, done: Collection[str] = ()) -> None:
        self.config, self.trial, self.done = config, trial, done
        model = config.model
        self.is_language_model = not is_other_embedding_model(model)
        is_ours = self.is_language_model and has_bottleneck_tokens(model)
        self.converts = gguf_file(model) is not None or (find_adapter(model) is not None and not is_ours)
        self.pools = self.is_language_model and not is_ours
        self.learns = self.is_language_model and "learn" not in config.skip
        self.chats = self.is_language_model and bool(read_backbone(model).tokenizer.chat_template)
        by_others = self.chats or config.queries is not None or config.generator is not None
        may_write = self.learns and not by_others and "write" not in config.skip
        may_write = may_write and Arm(config.learn.get("arm", Arm.CUT_OFF)).has_bottleneck
        self.objective: str | None = config.learn.get("objective", WITH_DOC2QUERY if may_write else None)
        self.writes = may_write and "doc2query" in parse_objective(self.objective or "sft")
        # Without stage 1 a language model has no start that its end could be merged with.
        self.merges = "merge" not in config.skip and (self.learns or not self.is_language_model)
        has = {"learn": self.learns, "write": self.writes, "merge": self.merges}
        left_out = {*config.skip, *(name for name, is_there in has.items() if not is_there)}
        self.names = [name for name in STEPS if name not in left_out]

    @property
    def work(self) -> Path:
        """Folder of the steps."""
        return self.trial or self.config.work

    def folder(self, name: str) -> Path:
        """Return the folder of a step."""
        work = self.config.work if name in self.done else self.work
        return work / f"{self.names.index(name) + 1}-{name}"

    @property
    def dev_corpus(self) -> Path:
        """Passages that dev queries are asked of, beside their own, while models are chosen."""
        return self.work / "dev-corpus.jsonl"

    @property
    def backbone(self) -> str:
        """Model that training starts from."""
        return str(self.folder("start") / "backbone") if self.converts else self.config.model

    @property
    def start(self) -> str:
        """Embedding model that the start is without training."""
        return str(self.folder("start") / "embeds") if self.pools else self.backbone

    @property
    def passages(self) -> Path:
        """Prepared set of all passages."""
        return self.folder("passages") / "set"

    @property
    def written(self) -> Path:
        """Queries, before the filter."""
        return self.folder("queries") / "queries"

    @property
    def queries(self) -> Path:
        """Queries that the set is made of."""
        return self.folder("filter") / "queries" if "filter" in self.names else self.written

    @property
    def first_set(self) -> Path:
        """Prepared set that stage 1 is trained on, and that says what is held out."""
        return self.folder("set") / "set"

    @property
    def set(self) -> Path:
        """Prepared set that stage 2 is trained on: with the queries that the model of stage 1 wrote."""
        return self.folder("write") / "set" if self.writes else self.first_set

    @property
    def learned(self) -> str:
        """Model that stage 2 begins with."""
        return str(self.folder("learn") / "model") if self.learns else self.backbone

    @property
    def pairs(self) -> Path:
        """Pairs of stage 2."""
        return self.folder("negatives") / "align.jsonl" if "negatives" in self.names else self.set / "align.jsonl"

    @property
    def aligned(self) -> str:
        """Model after stage 2."""
        return str(self.folder("align") / "model")

    @property
    def before(self) -> str:
        """Model that the end is merged with."""
        return self.learned if self.learns else self.start

    @property
    def end(self) -> str:
        """Model at the end."""
        return str(self.folder("merge") / "model") if self.merges else self.aligned

    @property
    def searcher(self) -> str:
        """Model that finds hard negatives."""
        return self.config.teacher or (self.learned if self.learns else self.start)

    def planned(self) -> list[PlannedStep]:
        """Return the steps in order; what they read is hashed for it."""
        settings = self._settings()
        return [PlannedStep(name, *STEPS[name], settings[name]) for name in self.names]

    def _settings(self) -> dict[str, dict[str, Any]]:
        config = self.config
        taught = {"teacher": content_of(config.teacher), "reranker": content_of(config.reranker)}
        return {
            "start": {"model": content_of(config.model)},
            "passages": {
                "sources": [content_of_corpus(each) for each in config.sources],
                "max_length": config.max_length,
                "on_error": config.on_error,
            },
            "queries": {
                "queries": content_of(config.queries),
                "pairs": content_of(config.pairs),
                "generator": config.generator_model,
                "per_passage": config.per_passage,
                "most": config.most_passages,
                "seed": config.seed,
            },
            "filter": taught,
            "set": {"seed": config.seed},
            "learn": dict(config.learn) | {"objective": self.objective},
            "write": {"per_passage": config.per_passage, "most": config.most_passages, "seed": config.seed},
            "negatives": {
                "number": NEGATIVES,
                "relative_margin": RELATIVE_MARGIN,
                "teacher": content_of(config.teacher),
            },
            "align": dict(config.align) | {"weak_teacher": config.weak_teacher} | taught,
            "merge": {"keep_general": config.keep_general, "general": content_of(config.general)},
            "verdict": {"keep": config.keep, "general": content_of(config.general)},
        }


# What each does, reads and makes.
STEPS = {
    "start": ("the model to start from", "the model", "an embedder without training"),
    "passages": ("passages of the corpus", "the corpus", "passages of up to --max-length tokens"),
    "queries": ("queries for the passages", "passages, --pairs, --queries", "given queries, titles, written queries"),
    "filter": ("queries that find their passage", "queries, passages", "the queries that stay"),
    "set": ("what is trained on, and what is held out", "queries, passages", "train, dev and test"),
    "learn": ("stage 1: the model learns the domain", "passages, training queries", "a model"),
    "write": ("queries that the model of stage 1 writes", "passages, the model of stage 1", "more training queries"),
    "negatives": ("hard negatives", "training queries, passages", "pairs with hard negatives"),
    "align": ("stage 2: the model is aligned with queries", "pairs with their negatives, dev", "a model"),
    "merge": ("how much of the training to keep", "the models before and after, dev, --general", "a model"),
    "verdict": ("what the end finds, and the start", "dev, test, passages, --general", "the verdict, report.html"),
}


def content_of(source: str | Path | None) -> str | None:
    """Return what a file or a model is known again by: the hash of its files; of the Hub its id."""
    if source is None or not Path(source).exists():
        return None if source is None else str(source)
    path = Path(source)
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    return file_sha256(path) if path.is_file() else sha256(files)


def content_of_corpus(source: str | Path) -> str | None:
    """Return the same of a source of passages, of a folder without what is not read, where the steps may lie too."""
    return sha256(files_below(Path(source)).files) if Path(source).is_dir() else content_of(source)
