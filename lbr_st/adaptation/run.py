"""From a folder to a better retriever: queries for its passages, both stages, and a verdict.

Each step leaves its result in a folder of its own and is not done again when the adaptation is started again. What is
saved in the end is the best that was found on dev; the verdict is about other passages, which no step has chosen by.
"""

from __future__ import annotations

import gc
import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer

from lbr_st.adaptation.config import AdaptConfig
from lbr_st.adaptation.filtering import FilterConfig, filter_file
from lbr_st.adaptation.held_out import hold_out, kinds_in_words
from lbr_st.adaptation.queries import QueriesConfig, QuerySet, write_queries
from lbr_st.adaptation.report import Report, largest_changes, write_report
from lbr_st.adaptation.scoring import Found, Judge, fused
from lbr_st.adaptation.steps import Step, Steps, start_over
from lbr_st.alignment.config import AlignConfig
from lbr_st.alignment.run import align
from lbr_st.data.config import PrepareConfig
from lbr_st.data.mining import MineConfig, with_negatives, without_held_out
from lbr_st.data.parts import Reading, parts_of
from lbr_st.data.prepared_set import PreparedSet, file_of
from lbr_st.data.preparing import prepare
from lbr_st.data.records import read_records, read_tuples
from lbr_st.data.rows import read_rows
from lbr_st.data.same_text import same_text
from lbr_st.errors import InputError
from lbr_st.evaluation.general import general_pairs, general_score
from lbr_st.evaluation.own_data import local_task
from lbr_st.evaluation.ranking import BM25
from lbr_st.evaluation.shares import choose_share
from lbr_st.files import file_sha256, replacing_folder, require_empty, sha256, write_jsonl
from lbr_st.learning.config import LearnConfig
from lbr_st.learning.run import learn
from lbr_st.model.adapters import find_adapter
from lbr_st.model.backbone import read_backbone
from lbr_st.model.gguf import gguf_file, write_directory
from lbr_st.model.merging import merge
from lbr_st.model.opening import (
    check_can_be_trained,
    check_is_found,
    has_bottleneck_tokens,
    is_other_embedding_model,
    open_sentence_transformer,
)
from lbr_st.model.saving import save_any
from lbr_st.quickstart.run import choose_precision, mean_pooled
from lbr_st.records import Record
from lbr_st.verdict import REGRESSION, Verdict, verdict

logger = logging.getLogger(__name__)

ROOM = 4  # tokens of a row beside the text: BOS, the bottleneck token, and what a title is joined with
FEW_PAIRS = 2_000  # of which stage 2 makes two passes, and of more one
NEGATIVES = 2
RELATIVE_MARGIN = 0.05  # NV-Retriever (arXiv 2407.15831)


@dataclass(frozen=True)
class Adapted:
    """What an adaptation came to.

    Attributes:
        config: Settings that it was made with.
        verdict: What the model finds, against the start, on the test.
        report: The page about it.
        saved: ``end``, or ``start`` where the end is worse.
        steps: The steps, with what came of them.
    """

    config: AdaptConfig
    verdict: Verdict
    report: Path
    saved: str
    steps: list[Step]


def adapt(config: AdaptConfig) -> Adapted:
    """Adapt a model to a corpus, or go on with an adaptation that was interrupted.

    The model is in ``config.output_dir``, and ``report.html`` too; the steps stay in ``config.work``.

    Args:
        config: Corpus, model and settings.

    Raises:
        InputError: If a source, a model or a setting cannot be used, or nothing is left of the queries.
    """
    check(config)
    path = _Path(config)
    path.prepare()
    path.train()
    return path.judge()


def check(config: AdaptConfig) -> None:
    """Refuse what can be refused before any work.

    Raises:
        InputError: With the flag, and why.
    """
    require_empty(config.output_dir)
    for flag, name in (("--model", config.model), ("--teacher", config.teacher), ("--reranker", config.reranker)):
        if name is not None:
            check_is_found(name, flag)
    check_can_be_trained(config.model, config.max_length)
    for source in config.sources:
        parts_of(str(source), Reading())
    for flag, file in (("--queries", config.queries), ("--general", config.general), ("--pairs", config.pairs)):
        if file is not None and not Path(file).exists():
            raise InputError(f"{flag} {file}: no such file")
    is_embedder = is_other_embedding_model(config.model)
    if is_embedder and config.learn:
        raise InputError(f"--learn: {config.model} is an embedding model, which stage 1 is left out for")
    # Flags that contradict each other, packages that are not there: before the first step, not after the sixth.
    if not is_embedder and "learn" not in config.skip:
        _learn_config(config, {}, config.model, Path("set"), Path("learn"))
    _align_config(config, {}, config.model, Path("set"), Path("align.jsonl"), Path("align"))


class _Path:
    """The steps of an adaptation, each told what those before it left."""

    def __init__(self, config: AdaptConfig) -> None:
        self.config = config
        self.is_language_model = not is_other_embedding_model(config.model)
        self.learns = self.is_language_model and "learn" not in config.skip
        # Without stage 1 a language model has no start that its end could be merged with.
        self.merges = "merge" not in config.skip and (self.learns or not self.is_language_model)
        left_out = sum(step in config.skip for step in ("filter", "negatives"))
        self.steps = Steps(config.work, 8 + self.learns + self.merges - left_out)
        self.precision = {"bf16": choose_precision(config.work)}

    def prepare(self) -> None:
        """Make the data: passages, queries, and what is held out."""
        config = self.config
        model = self.steps("start", "the model to start from", {"model": _content(config.model)}, self._start)
        self.backbone, self.start = model.said["backbone"], model.said["embeds"]
        told = {"sources": [_content(each) for each in config.sources], "max_length": config.max_length}
        told |= {"on_error": config.on_error}
        self.passages = self.steps("passages", "passages of the corpus", told, self._passages).folder / "set"
        writing = {
            "queries": _content(config.queries), "pairs": _content(config.pairs), "generator": config.generator_model,
            "per_passage": config.per_passage, "most": config.most_passages, "seed": config.seed,
        }  # fmt: skip
        self.queries = self.steps("queries", "queries for the passages", writing, self._queries).folder / "queries"
        if "filter" not in config.skip:
            told = {"teacher": _content(config.teacher), "reranker": _content(config.reranker)}
            self.queries = (
                self.steps("filter", "queries that find their passage", told, self._filter).folder / "queries"
            )
        step = self.steps("set", "what is trained on, and what is held out", {"seed": config.seed}, self._set)
        self.set = step.folder / "set"
        self.asked = step.said["test_asks"]

    def train(self) -> None:
        """Make the end of the start."""
        config, trained = self.config, self.backbone
        if self.learns:
            folder = self.steps("learn", "stage 1: the model learns the domain", dict(config.learn), self._learn).folder
            trained = str(folder / "model")
        self.learned = trained
        self.pairs = self.set / "align.jsonl"
        if "negatives" not in config.skip:
            mining = {"number": NEGATIVES, "relative_margin": RELATIVE_MARGIN}
            self.pairs = self.steps("negatives", "hard negatives", mining, self._negatives).folder / "align.jsonl"
        told = dict(config.align) | {"weak_teacher": config.weak_teacher}
        told |= {"teacher": _content(config.teacher), "reranker": _content(config.reranker)}
        folder = self.steps("align", "stage 2: the model is aligned with queries", told, self._align).folder
        self.end = self.aligned = str(folder / "model")
        self.before = self.start if not self.learns else self.learned
        if self.merges:
            told = {"keep_general": config.keep_general, "general": _content(config.general)}
            step = self.steps("merge", "how much of the training to keep", told, self._merge)
            self.end = str(step.folder / "model")

    def judge(self) -> Adapted:
        """Say what it is worth, and save what is."""
        config = self.config
        step = self.steps("verdict", "what the end finds, and the start", {"keep": config.keep}, self._verdict)
        said, saved = step.said["verdict"], step.said["saved"]
        of_test = Verdict(**said | {"outside": tuple(said["outside"])})
        target = Path(config.output_dir)
        with replacing_folder(target) as folder:
            shutil.copytree(self.end if saved == "end" else self.start, folder, dirs_exist_ok=True)
            shutil.copyfile(step.folder / "report.html", folder / "report.html")
        return Adapted(config, of_test, target / "report.html", saved, self.steps.done)

    # ---- the steps

    def _start(self, folder: Path) -> dict[str, Any]:
        """Open the start as what it is, and as the embedder that it is without training."""
        model = self.config.model
        start_over(folder, "backbone", "embeds")
        if (file := gguf_file(model)) is not None:
            write_directory(file, folder / "backbone")
            model = str(folder / "backbone")
        elif find_adapter(model) is not None and not has_bottleneck_tokens(model):
            tokenizer, _, read_weights = read_backbone(model)
            with replacing_folder(folder / "backbone") as unfinished:
                read_weights(dtype=torch.float32).save_pretrained(unfinished)
                tokenizer.save_pretrained(unfinished)
            model = str(folder / "backbone")
        if not self.is_language_model or has_bottleneck_tokens(model):
            return {"backbone": model, "embeds": model, "embeds_by": "its own way"}
        pooled = mean_pooled(model, self.config.max_length)
        with replacing_folder(folder / "embeds") as unfinished:
            pooled.save_pretrained(str(unfinished), create_model_card=False)
        return {"backbone": model, "embeds": str(folder / "embeds"), "embeds_by": "the mean of its last states"}

    def _passages(self, folder: Path) -> dict[str, Any]:
        config, target = self.config, folder / "set"
        if not target.is_dir():
            prepare(
                PrepareConfig(
                    sources=config.sources,
                    output_dir=target,
                    test=0,
                    dev=0,
                    tokenizer=self.backbone,
                    chunk_tokens=config.max_length - ROOM,
                    on_error=config.on_error,
                )
            )
        about = _opened(target).about
        return {"passages": about["files"]["corpus"]["records"], "left_out": about["dropped"] or None}

    def _queries(self, folder: Path) -> dict[str, Any]:
        target = folder / "queries"
        if not target.is_dir():
            config = self.config
            given = [each for each in (config.pairs, config.queries) if each is not None]
            sources: list[str | Path] = [self.passages, *given[1:]]
            pairs = given[0] if given else None
            write_queries(QueriesConfig(sources=sources, output_dir=target, pairs=pairs, **self._writer()))
        about = QuerySet.open(target).about
        return {**about["kinds"], "lost": about["lost"] or None}

    def _writer(self) -> dict[str, Any]:
        """Return what writes queries, as settings; nothing where they are given, or nothing can."""
        config = self.config
        if config.queries is not None:
            return {}
        if config.generator is not None:
            writer = {"generator": config.generator, "generator_model": config.generator_model}
        elif self.is_language_model and AutoTokenizer.from_pretrained(self.backbone).chat_template:
            writer = {"model": self.backbone}
        else:
            logger.warning(
                "%s has no chat template and writes no queries: there are titles, headings and --pairs; --generator "
                "names a server that writes some",
                config.model,
            )
            return {}
        return {**writer, "per_passage": config.per_passage, "most": config.most_passages, "seed": config.seed}

    def _filter(self, folder: Path) -> dict[str, Any]:
        config, target = self.config, folder / "queries"
        if not target.is_dir():
            models = [BM25, *([config.teacher] if config.teacher else [])]
            if not self.is_language_model:
                models.append(self.start)
            by = FilterConfig(reranker=config.reranker) if config.reranker else FilterConfig(models=models)
            filter_file(self.queries, self.passages, target, by)
        about = QuerySet.open(target).about
        return {**about["kinds"], "lost": about["lost"] or None}

    def _set(self, folder: Path) -> dict[str, Any]:
        rows = list(QuerySet.open(self.queries).rows())
        if self.config.queries is not None:  # which says itself what was asked by people, and what was written
            kinds = kinds_of(file_of(self.config.queries, "align"))
            rows = [row | {"kind": kinds.get(same_text(row["query"]), row["kind"])} for row in rows]
        pairs = self.config.pairs
        own = PreparedSet.open(pairs) if pairs is not None and Path(pairs).is_dir() else None
        if own is not None and own.has("dev") and own.has("test"):
            held_out = {side: read_records(own.file(side)) for side in ("dev", "test")}
            train, asks = rows, f"{len(held_out['test']):,} real, of {pairs}"
        else:
            train, dev, test = hold_out(rows, self.config.seed)
            held_out, asks = {"dev": dev, "test": test}, kinds_in_words(test)
        texts = {"train": train, **held_out}
        for name, records in texts.items():
            names = ("id", "query", "document")
            write_jsonl(folder / f"{name}.jsonl", ({n: record[n] for n in names} for record in records))
        if not (folder / "set").is_dir():
            prepare(
                PrepareConfig(
                    sources=[folder / "train.jsonl", self.passages / "corpus.jsonl"],
                    output_dir=folder / "set",
                    keep_html=True,  # all of it is clean
                    test=folder / "test.jsonl",
                    dev=folder / "dev.jsonl",
                    regime="corpus-taught",
                    name=Path(self.config.output_dir).name,
                )
            )
        files = _opened(folder / "set").about["files"]
        counts = {name: files[name]["records"] for name in ("align", "dev", "test", "corpus") if name in files}
        return {**counts, "test_asks": asks}

    def _learn(self, folder: Path) -> dict[str, Any]:
        learn(_learn_config(self.config, self.precision, self.backbone, self.set, folder / "model"))
        gc.collect()  # a trainer holds itself, and with it the model and its optimizer
        return {}

    def _negatives(self, folder: Path) -> dict[str, Any]:
        """Find hard negatives; pairs for which there are none are trained on without."""
        own = _opened(self.set)
        pairs = read_tuples(own.file("align"))
        corpus = without_held_out(own, read_records(own.file("corpus"), ("document",)))
        model = self.config.teacher or (self.learned if self.learns else self.start)
        settings: dict[str, Any] = {"negatives": NEGATIVES, "relative_margin": RELATIVE_MARGIN}
        config = MineConfig(source=self.set, model=model, output_dir=folder, **settings)
        opened = open_sentence_transformer(model)
        try:
            mined = with_negatives(pairs, opened, config, corpus, own.same_text)
        except InputError as error:  # there may be none in so few passages
            logger.warning("stage 2 does without hard negatives: %s", error)
            mined = []
        negatives = {record["id"]: record["negatives"] for record in mined}
        rows = (pair | {"negatives": negatives.get(pair["id"], [])} for pair in pairs)
        write_jsonl(folder / "align.jsonl", rows)
        return {"pairs": len(pairs), "with_hard_negatives": len(mined)}

    def _align(self, folder: Path) -> dict[str, Any]:
        align(_align_config(self.config, self.precision, self.learned, self.set, self.pairs, folder / "model"))
        gc.collect()
        return {"pairs": len(_rows(self.pairs))}

    def _merge(self, folder: Path) -> dict[str, Any]:
        dev = read_records(file_of(str(self.set), "dev"))
        general = general_pairs(self.config.general, seed=self.config.seed)
        choice = choose_share(self.before, self.end, dev, general, keep_general=self.config.keep_general)
        start_over(folder, "model")
        merged = merge([self.before, self.end], [1 - choice.taken.share, choice.taken.share])
        save_any(merged, folder / "model")
        return {"share_of_the_end": choice.taken.share, "dev_ndcg_at_10": round(choice.taken.ndcg, 4)}

    def _verdict(self, folder: Path) -> dict[str, Any]:
        dev, test = (
            Judge(local_task(self.set / f"{side}.jsonl", self.set / "corpus.jsonl")) for side in ("dev", "test")
        )
        general = general_pairs(self.config.general, seed=self.config.seed)
        lexical_dev, lexical = dev.scores(BM25), test.scores(BM25)
        weight = dev.weight(dev.scores(self.end), lexical_dev)
        start, end = test.scores(self.start), test.scores(self.end)
        queries = end.queries
        row = {query: number for number, query in enumerate(start.queries)}
        found: dict[str, Found] = {
            "start": test.found(queries, start.scores[[row[query] for query in queries]]),
            "end": test.found(queries, end.scores),
            "bm25": test.found(lexical.queries, lexical.scores),
            "fused": test.found(queries, fused(end, lexical, weight)),
        }
        before, after = (general_score(open_sentence_transformer(name), general) for name in (self.start, self.end))
        of_test = replace(
            verdict(found["start"].recall, found["end"].recall, seed=self.config.seed),
            bm25=float(found["bm25"].recall.mean()),
            fused=float(found["fused"].recall.mean()),
            outside=(before, after),
        )
        saved = what_is_saved(of_test, self.config.keep)
        gained, lost = largest_changes(test.examples(queries, found["start"], found["end"]))
        names = {
            "start": f"start: {Path(self.config.model).name}",
            "end": "end: the adapted model",
            "bm25": "BM25",
            "fused": f"end and BM25 (weight {weight:g}, chosen on dev)",
        }
        write_report(
            folder,
            Report(
                title=Path(self.config.output_dir).name,
                verdict=str(of_test),
                notes=[
                    f"The test asks {len(queries):,} queries ({self.asked}) of {len(test.documents):,} passages. No "
                    "query of a passage that is asked for was trained on.",
                    *(["The end finds less: the start was saved again."] if saved == "start" else []),
                ],
                scores={
                    names[system]: {"recall@10": f"{each.recall.mean():.3f}", "nDCG@10": f"{each.ndcg:.3f}"}
                    for system, each in found.items()
                },
                steps=self.steps.done,
                gained=gained,
                lost=lost,
                data={name: f"{value:,}" for name, value in self._sizes().items()},
                pictures={
                    what: file
                    for what, file in (
                        ("Stage 1", Path(self.learned) / "training.png"),
                        ("Stage 2", Path(self.aligned) / "training.png"),
                    )
                    if file.is_file()
                },
                command=self.config.command,
            ),
        )
        return {"verdict": of_test.__dict__, "saved": saved, "weight_beside_bm25": weight}

    def _sizes(self) -> dict[str, int]:
        return {name: about["records"] for name, about in _opened(self.set).about["files"].items()}


def kinds_of(file: str) -> dict[str, str]:
    """Return the kinds that a file of queries gives them, by `same_text` of the query; none where it has no column."""
    return {same_text(row["query"]): row["kind"] for row in read_records(file) if "kind" in row}


def what_is_saved(found: Verdict, keep: str) -> str:
    """Return ``end``, or ``start`` where the end finds less.

    Args:
        found: Verdict about the end.
        keep: ``better``, or ``end`` to save the end all the same.
    """
    return "start" if found.word == REGRESSION and keep == "better" else "end"


def _common(config: AdaptConfig, precision: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that both stages get unless they are told others."""
    common = {"max_length": config.max_length, "seed": config.seed, "resume": True, **precision}
    if not torch.accelerator.is_available():
        common["attention"] = "eager"  # the faster one for short texts
    return common


def _learn_config(
    config: AdaptConfig, precision: Mapping[str, Any], model: str, data: Path, output_dir: Path
) -> LearnConfig:
    told = _common(config, precision) | dict(config.learn)
    return LearnConfig(model=model, data=[str(data)], output_dir=str(output_dir), **told)


def _align_config(
    config: AdaptConfig, precision: Mapping[str, Any], model: str, data: Path, pairs: Path, output_dir: Path
) -> AlignConfig:
    number = len(_rows(pairs)) if pairs.is_file() else 0
    told = {"num_train_epochs": 2 if number <= FEW_PAIRS else 1} | _common(config, precision) | dict(config.align)
    told |= {name: getattr(config, name) for name in ("teacher", "reranker", "weak_teacher")}
    told |= {"model": model, "data": str(pairs), "dev_data": str(data / "dev.jsonl"), "output_dir": str(output_dir)}
    return AlignConfig(**told)


def _opened(folder: Path) -> PreparedSet:
    """Open a set that was made before."""
    own = PreparedSet.open(folder)
    assert own is not None
    return own


def _rows(file: str | Path) -> list[Record]:
    return [row.values for row in read_rows(file)]


def _content(source: str | Path | None) -> str | None:
    """Return what a source or a model is known again by: the hash of its files; of the Hub its id."""
    if source is None or not Path(source).exists():
        return None if source is None else str(source)
    path = Path(source)
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    return file_sha256(path) if path.is_file() else sha256(files)
