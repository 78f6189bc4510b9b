"""What an adaptation takes on this machine, looked at before it is started: nothing of it is kept.

What is quick is done as it will be, in a folder that goes: the start, the passages, the prepared set. Of the rest a
little is measured, by the stages' own dry runs, a batch of written queries, and some texts that are encoded.
"""

from __future__ import annotations

import functools
import gc
import logging
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sentence_transformers import SentenceTransformer

from lbr_st.adaptation.checking import check, free_room, least_room, parameters_of
from lbr_st.adaptation.config import AdaptConfig
from lbr_st.adaptation.data_steps import (
    filter_config,
    filter_queries,
    get_queries,
    later_queries_config,
    make_set,
    queries_config,
    read_passages,
    sizes_of,
    where_queries_come_from,
    write_after_learning,
    write_backbone,
)
from lbr_st.adaptation.filtering import FilterConfig, NoneLeftError
from lbr_st.adaptation.filtering import filter_queries as filter_by_rank
from lbr_st.adaptation.kinds import GIVEN, TITLE
from lbr_st.adaptation.layout import NEGATIVES, Layout
from lbr_st.adaptation.queries import QUERIES, QuerySet, ToWrite, batches_of, look
from lbr_st.adaptation.queries import plan as requests_for
from lbr_st.adaptation.query_text import why_not
from lbr_st.adaptation.steps import Steps
from lbr_st.adaptation.training_steps import align_config, dev_corpus, learn_config
from lbr_st.adaptation.writers import Decoding, Doc2QueryWriter, Request, Writer
from lbr_st.alignment import run as alignment
from lbr_st.data.drops import Drops
from lbr_st.data.records import read_records
from lbr_st.errors import InputError
from lbr_st.evaluation.general import general_pairs
from lbr_st.evaluation.ranking import BM25
from lbr_st.evaluation.shares import SHARES
from lbr_st.files import write_json, write_jsonl
from lbr_st.learning import run as learning
from lbr_st.model.opening import open_cross_encoder, open_model, open_sentence_transformer
from lbr_st.quickstart.run import choose_precision, mean_pooled, seconds_a_text
from lbr_st.records import QUERIES_FILE, Record
from lbr_st.training.trial import Plan, peak_resident

logger = logging.getLogger(__name__)

STAND_IN_WORDS = 10  # of the passage, for a query that is not written yet


@dataclass(frozen=True)
class StepPlan:
    """What a step takes.

    Attributes:
        name: Its name.
        reads: What it reads.
        makes: What it makes.
        much: How much that is; "" where it is done.
        minutes: Minutes; None where it is done.
        peak_bytes: Most memory that was held up to it: on a GPU by the tensors of a stage, else by the process.
    """

    name: str
    reads: str
    makes: str
    much: str = ""
    minutes: float | None = None
    peak_bytes: int | None = None


@dataclass(frozen=True)
class AdaptPlan:
    """What an adaptation takes on this machine.

    Attributes:
        steps: The steps, in order.
        least_room: Bytes of disk that it takes at least.
        free_room: Bytes that are free.
        left_out: What the numbers do not say, a sentence each.
    """

    steps: Sequence[StepPlan]
    least_room: int
    free_room: int
    left_out: Sequence[str]

    @property
    def minutes(self) -> float:
        """Minutes of the steps that are to be done."""
        return sum(step.minutes or 0.0 for step in self.steps)


def plan(config: AdaptConfig) -> AdaptPlan:
    """Say what an adaptation takes on this machine, and which of its steps are done; nothing is left of it.

    Args:
        config: Corpus, model and settings.

    Raises:
        InputError: As `lbr_st.adapt` does.
        UnfinishedError: If the generator does not answer.
    """
    check(config)
    layout = Layout(config)
    planned = layout.planned()
    steps = Steps(config.work, len(planned))
    done = [step.name for step in planned if steps.look(step.name, step.settings)]
    found: list[StepPlan] = []
    with tempfile.TemporaryDirectory() as folder:
        trial = _Trial(Layout(config, Path(folder), done))
        for step in planned:
            here = StepPlan(step.name, step.reads, step.makes)
            if step.name not in done:
                logger.info("\n[%d/%d] trying %s, of which nothing is kept", len(found) + 1, len(planned), step.name)
                trial.layout.folder(step.name).mkdir(parents=True)
                much, seconds, peak = trial.of(step.name)
                here = replace(here, much=much, minutes=seconds / 60, peak_bytes=peak)
            found.append(here)
    to_do = [name for name in layout.names if name not in done]
    return AdaptPlan(found, least_room(layout, to_do), free_room(layout), trial.left_out)


class _Trial:
    """Tries the steps of an adaptation, each on what those before it would leave.

    Args:
        layout: The steps, in a folder that goes.
    """

    def __init__(self, layout: Layout) -> None:
        self.layout, self.config = layout, layout.config
        self.left_out = [
            "Left out of the minutes: loading and saving models, BM25, and ranking.",
            "Memory is the most that the process has held up to a step; on a GPU it is that of the stage's tensors.",
        ]
        self._is_exact = True
        self._rates: dict[str, tuple[float, float]] = {}

    def of(self, name: str) -> tuple[str, float, int]:
        """Return how much a step has to do, its seconds, and the most memory held up to then, in bytes."""
        of_steps: dict[str, Callable[[Path], tuple[str, float] | Plan]] = {
            "start": self._start, "passages": self._passages, "queries": self._queries, "filter": self._filter,
            "set": self._set, "learn": self._learn, "write": self._write, "negatives": self._negatives,
            "align": self._align, "merge": self._merge, "verdict": self._verdict,
        }  # fmt: skip
        found = of_steps[name](self.layout.folder(name))
        gc.collect()
        if isinstance(found, Plan):
            much = f"{found.tokens:,} tokens an epoch, {found.steps:,} steps"
            return much, 60 * found.minutes, found.peak_bytes
        return *found, peak_resident()

    def _start(self, folder: Path) -> tuple[str, float]:
        seconds = _timed(write_backbone, self.layout, folder)
        number = parameters_of(self.config.model) if Path(self.config.model).exists() else 0
        return f"{number:,} parameters" if number else "", seconds

    def _passages(self, folder: Path) -> tuple[str, float]:
        seconds = _timed(read_passages, self.layout, folder)
        return f"{sizes_of(self.layout.passages)['corpus']:,} passages", seconds

    def _queries(self, folder: Path) -> tuple[str, float]:
        config = queries_config(self.layout, folder / "queries")
        if not config.writes:
            seconds = _timed(get_queries, self.layout, folder)
            kinds = QuerySet.open(folder / "queries").about["kinds"]
            return ", ".join(f"{number:,} {kind}" for kind, number in kinds.items()), seconds
        lost = Drops()
        to_write = look(config, lost)
        rows = list(_with_stand_ins(to_write))
        if not rows:
            raise InputError(where_queries_come_from(self.config, config.writes, lost))
        _write_queries(folder / "queries", rows)
        assert to_write.writer is not None
        seconds = 0.0
        if to_write.requests:
            self._is_exact = False
            seconds = self._writing(to_write.writer, to_write.requests, config.batch_size)
        counts = Counter(row["kind"] for row in rows)
        found = [f"{number:,} {kind}" for kind, number in counts.items() if kind in (GIVEN, TITLE)]
        return ", ".join([*found, f"{len(to_write.requests):,} to be written"]), seconds

    def _writing(self, writer: Writer, requests: Sequence[Request], batch_size: int) -> float:
        """Return the seconds that queries take to be written, and say that others stand for them."""
        self.left_out.append(
            f"{len(requests):,} queries are not written yet: words of their passages stand for them in the steps after "
            "it."
        )
        batches = batches_of(requests, batch_size)
        return len(batches) * _timed(lambda batch: [*writer.write(batch)], batches[len(batches) // 2])

    def _filter(self, folder: Path) -> tuple[str, float]:
        config = filter_config(self.layout)
        rows = list(QuerySet.open(self.layout.written).rows())
        if self._is_exact and config.reranker is None and config.searchers == [BM25]:
            seconds = _timed(filter_queries, self.layout, folder)
            kept = len(list(QuerySet.open(folder / "queries").rows()))
            return f"{kept:,} of {len(rows):,} queries stay", seconds
        _write_queries(folder / "queries", self._without_titles_that_ask_for_many(rows))
        self.left_out.append(
            "The filter takes queries away: in the steps after it titles are counted whose passage BM25 finds, and all "
            "queries that are not written yet."
        )
        asked = [row for row in rows if row["kind"] != GIVEN]
        much = f"{len(asked):,} queries"
        if config.reranker is not None:
            pairs = [(row["query"], row["document"]) for row in asked]
            model: Any = open_cross_encoder(config.reranker)
            predict: Any = lambda sample: model.predict(sample, show_progress_bar=False)  # noqa: E731
            return much, len(pairs) * seconds_a_text(predict, pairs) if pairs else 0.0  # type: ignore[arg-type]
        documents = self._documents(self.layout.passages)
        queries = [row["query"] for row in asked]
        names = [name for name in config.searchers if name != BM25]
        return much, sum(self._encoding(name, documents, queries) for name in names)

    def _without_titles_that_ask_for_many(self, rows: list[Record]) -> list[Record]:
        """Return queries as the filter leaves titles: passages that hang together by one could not be held out."""
        titles = [row for row in rows if row["kind"] == TITLE]
        passages = [{"document": document} for document in self._documents(self.layout.passages)]
        try:
            kept, _ = filter_by_rank(titles, passages, FilterConfig())  # by BM25
        except NoneLeftError:
            kept = []
        stay = {row["id"] for row in kept}
        return [row for row in rows if row["kind"] != TITLE or row["id"] in stay]

    def _set(self, folder: Path) -> tuple[str, float]:
        seconds = _timed(make_set, self.layout, folder)
        sizes = sizes_of(self.layout.first_set)
        return ", ".join(f"{sizes.get(name, 0):,} {name}" for name in ("align", "dev", "test")), seconds

    def _learn(self, folder: Path) -> Plan:
        told = self.layout, self._precision, self.layout.backbone, self.layout.first_set, folder / "model"
        return learning.plan(learn_config(*told))

    def _write(self, folder: Path) -> tuple[str, float]:
        config = later_queries_config(self.layout, folder / "written")
        to_write = look(queries_config(self.layout, folder / "written"), Drops())
        requests = requests_for(to_write.passages, Doc2QueryWriter.kinds, config, Drops())
        seconds = 0.0
        if requests:
            # The start is as fast as what stage 1 makes of it.
            writer = Doc2QueryWriter(open_model(self.layout.backbone).eval(), {"model": self.config.model}, Decoding())
            seconds = self._writing(writer, requests, config.batch_size)
        rows = _with_stand_ins(to_write._replace(requests=requests))
        for name in ("written", "queries"):  # as if all were filtered already, and stayed
            _write_queries(folder / name, rows)
        pairs = write_after_learning(self.layout, folder)["pairs"]
        return f"{len(requests):,} to be written, {pairs:,} align", seconds

    def _negatives(self, folder: Path) -> tuple[str, float]:
        pairs = read_records(self.layout.set / "align.jsonl")
        documents = self._documents(self.layout.set)
        # As many documents of other pairs, in the place of the negatives.
        answers = list(dict.fromkeys(pair["document"] for pair in pairs)) * 2
        place = {document: number for number, document in reversed([*enumerate(answers)])}
        rows = [
            pair | {"negatives": answers[place[pair["document"]] + 1 :][: min(NEGATIVES, len(place) - 1)]}
            for pair in pairs
        ]
        write_jsonl(folder / "align.jsonl", rows)
        model = self.config.teacher or self._embedder
        seconds = self._encoding(model, documents, [pair["query"] for pair in pairs])
        return f"{len(pairs):,} queries, {len(documents):,} passages", seconds

    def _align(self, folder: Path) -> Plan:
        # What a teacher is worth beside a student that is not trained yet says nothing.
        config = replace(self.config, weak_teacher=self.config.teacher is not None or self.config.reranker is not None)
        layout = self.layout
        model = layout.learned if "learn" in layout.done else layout.backbone
        write_jsonl(layout.dev_corpus, dev_corpus(layout))
        told = Layout(config, layout.trial, layout.done), self._precision, model, layout.pairs, folder / "model"
        return alignment.plan(align_config(*told))

    def _merge(self, folder: Path) -> tuple[str, float]:
        dev = read_records(self.layout.set / "dev.jsonl")
        corpus = [record["document"] for record in dev_corpus(self.layout)]
        seconds = self._of_pairs(dev) + self._of_pairs(self._general) + self._encoding(self._embedder, corpus, [])
        return f"{len(SHARES)} shares, {len(dev):,} dev, {len(self._general):,} general", len(SHARES) * seconds

    def _verdict(self, folder: Path) -> tuple[str, float]:
        dev, test = (self._queries_of(side) for side in ("dev", "test"))
        documents = self._documents(self.layout.set)
        seconds = self._encoding(self._embedder, documents, [*dev, *test])
        seconds += self._encoding(self._embedder, documents, test)
        seconds += (1 if self.layout.merges else 2) * self._of_pairs(self._general)
        return f"{len(test):,} queries, {len(documents):,} passages", seconds

    @property
    def _precision(self) -> dict[str, Any]:
        return {"bf16": choose_precision(self.layout.work)}

    @property
    def _embedder(self) -> str:
        """The start, which encodes as fast as what becomes of it."""
        return self.layout.start

    @functools.cached_property
    def _general(self) -> list[Record]:
        return general_pairs(self.config.general, seed=self.config.seed)

    def _documents(self, folder: Path) -> list[str]:
        return [record["document"] for record in read_records(folder / "corpus.jsonl", ("document",))]

    def _queries_of(self, side: str) -> list[str]:
        return list(dict.fromkeys(record["query"] for record in read_records(self.layout.set / f"{side}.jsonl")))

    def _of_pairs(self, pairs: Sequence[Record]) -> float:
        texts = [list(dict.fromkeys(pair[field] for pair in pairs)) for field in ("document", "query")]
        return self._encoding(self._embedder, *texts)

    def _encoding(self, name: str, documents: Sequence[str], queries: Sequence[str]) -> float:
        """Return the seconds that a model takes to encode texts."""
        if name not in self._rates:
            model = self._open(name)
            encode_documents, encode_queries = model.encode_document, model.encode_query
            self._rates[name] = (
                seconds_a_text(encode_documents, documents),
                seconds_a_text(encode_queries, queries) if queries else 0.0,
            )
        of_document, of_query = self._rates[name]
        return of_document * len(documents) + of_query * len(queries)

    def _open(self, name: str) -> SentenceTransformer:
        """Open a model; the start is made of its language model, as a trial does not write it."""
        if name == self.layout.start and self.layout.pools and "start" not in self.layout.done:
            return mean_pooled(self.layout.backbone, self.config.max_length)
        return open_sentence_transformer(name)


def _timed(run: Callable[..., object], *arguments: Any) -> float:
    start = time.perf_counter()
    run(*arguments)
    return time.perf_counter() - start


def _with_stand_ins(to_write: ToWrite) -> list[Record]:
    """Return the queries of passages, with others in the place of those that are to be written."""
    texts = [(passage, GIVEN, text) for passage in to_write.passages for text in passage.given]
    texts += [
        (passage, TITLE, text)
        for passage in to_write.passages
        for text in passage.titles
        if why_not(text, passage.document) is None
    ]
    places = {passage.id: place for place, passage in enumerate(to_write.passages)}
    for passage, kind, number in to_write.requests:
        words = passage.document.split()[:STAND_IN_WORDS]
        texts.append((passage, kind, " ".join([f"{kind} {number} of {places[passage.id]}:", *words])))
    return [
        {"id": str(place), "query": text, "document": passage.document, "kind": kind}
        for place, (passage, kind, text) in enumerate(texts)
    ]


def _write_queries(folder: Path, rows: Sequence[Record]) -> None:
    folder.mkdir()
    write_jsonl(folder / QUERIES, rows)
    write_json(folder / QUERIES_FILE, {"kinds": dict(Counter(row["kind"] for row in rows)), "lost": {}, "passages": {}})
