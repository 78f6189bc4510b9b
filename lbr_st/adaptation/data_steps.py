"""The steps of an adaptation that make the data: the start that reads them, passages, queries, and what is held out."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from lbr_st.adaptation.config import AdaptConfig
from lbr_st.adaptation.filtering import FilterConfig, NoneLeftError, filter_file
from lbr_st.adaptation.held_out import hold_out, kinds_in_words
from lbr_st.adaptation.layout import Layout
from lbr_st.adaptation.queries import NoQueriesError, QueriesConfig, QuerySet, write_queries
from lbr_st.adaptation.steps import start_over
from lbr_st.data.config import PrepareConfig
from lbr_st.data.drops import Drops
from lbr_st.data.prepared_set import PreparedSet, file_of
from lbr_st.data.preparing import prepare
from lbr_st.data.records import read_records
from lbr_st.data.rows import read_rows
from lbr_st.data.same_text import same_text
from lbr_st.errors import InputError
from lbr_st.evaluation.ranking import BM25
from lbr_st.files import replacing_folder, write_jsonl
from lbr_st.model.backbone import read_backbone
from lbr_st.model.gguf import gguf_file, write_directory
from lbr_st.quickstart.run import mean_pooled
from lbr_st.records import Record

logger = logging.getLogger(__name__)

ROOM = 4  # tokens of a row beside the text: BOS, the bottleneck token, and what a title is joined with


def open_start(layout: Layout, folder: Path) -> dict[str, Any]:
    """Write the start as what it is trained as, and as the embedder that it is without training."""
    start_over(folder, "backbone", "embeds")
    write_backbone(layout, folder)
    if not layout.pools:
        return {"embeds_by": "its own way"}
    pooled = mean_pooled(layout.backbone, layout.config.max_length)
    with replacing_folder(folder / "embeds") as unfinished:
        pooled.save_pretrained(str(unfinished), create_model_card=False)
    return {"embeds_by": "the mean of its last states"}


def write_backbone(layout: Layout, folder: Path) -> None:
    """Write the start as what it is trained as, where it is something else."""
    model = layout.config.model
    if (file := gguf_file(model)) is not None:
        write_directory(file, folder / "backbone")
    elif layout.converts:
        tokenizer, _, read_weights = read_backbone(model)
        with replacing_folder(folder / "backbone") as unfinished:
            read_weights(dtype=torch.float32).save_pretrained(unfinished)
            tokenizer.save_pretrained(unfinished)


def read_passages(layout: Layout, folder: Path) -> dict[str, Any]:
    """Cut the corpus into passages."""
    config, target = layout.config, folder / "set"
    if not target.is_dir():
        prepare(
            PrepareConfig(
                sources=config.sources,
                output_dir=target,
                test=0,
                dev=0,
                tokenizer=layout.backbone,
                chunk_tokens=config.max_length - ROOM,
                on_error=config.on_error,
            )
        )
    about = opened_set(target).about
    return {"passages": about["files"]["corpus"]["records"], "left_out": about["dropped"] or None}


def get_queries(layout: Layout, folder: Path) -> dict[str, Any]:
    """Gather the queries that are given, and titles; write others.

    Raises:
        InputError: If there are none: with where they may come from.
    """
    target = folder / "queries"
    if not target.is_dir():
        config = queries_config(layout, target)
        if not config.writes and layout.config.queries is None:
            logger.warning(
                "%s writes no queries, as it has no chat template: there are titles, headings and --pairs%s; "
                "--generator names a server that writes some",
                layout.config.model,
                ", from which stage 1 teaches it to write others" if layout.writes else "",
            )
        try:
            write_queries(config)
        except NoQueriesError as error:
            raise InputError(where_queries_come_from(layout.config, config.writes, error.lost)) from error
    about = QuerySet.open(target).about
    return {**about["kinds"], "lost": about["lost"] or None}


def queries_config(layout: Layout, target: Path) -> QueriesConfig:
    """Return how queries are got: nothing writes them where they are given, or nothing can."""
    config = layout.config
    writer: dict[str, Any] = {}
    if config.queries is None and config.generator is not None:
        writer = {"generator": config.generator, "generator_model": config.generator_model}
    elif config.queries is None and layout.chats:
        writer = {"model": layout.backbone}
    return _with_writer(layout, target, writer)


def later_queries_config(layout: Layout, target: Path) -> QueriesConfig:
    """Return how queries are got after stage 1: beside those that there are, its model writes some."""
    return _with_writer(layout, target, {"model": layout.learned})


def _with_writer(layout: Layout, target: Path, writer: dict[str, Any]) -> QueriesConfig:
    config = layout.config
    given = [each for each in (config.pairs, config.queries) if each is not None]
    sources: list[str | Path] = [layout.passages, *given[1:]]
    if writer:
        writer |= {"per_passage": config.per_passage, "most": config.most_passages, "seed": config.seed}
    return QueriesConfig(sources=sources, output_dir=target, pairs=given[0] if given else None, **writer)


def where_queries_come_from(config: AdaptConfig, writes: bool, lost: Drops) -> str:
    """Say that there are no queries, and where some may come from.

    Args:
        config: Settings of the adaptation.
        writes: Whether some were to be written.
        lost: What was left out, and why.
    """
    what = f"{', '.join(map(str, config.sources))}: no query can be used"
    if lost.counts:
        what += f" ({lost})"
    if not writes:
        what += f", and {config.model} writes none, as it has no chat template"
    return f"{what}; give --pairs FILE, --queries FILE, or --generator URL --generator-model NAME, which writes some"


def filter_queries(layout: Layout, folder: Path) -> dict[str, Any]:
    """Keep the queries that find their passage.

    Raises:
        InputError: If none does: with what else there is to do.
    """
    target = folder / "queries"
    if not target.is_dir():
        try:
            filter_file(layout.written, layout.passages, target, filter_config(layout))
        except NoneLeftError as error:
            raise InputError(
                f"{error.what}: --skip filter keeps all of them, --teacher names a model that finds more, --pairs and "
                "--generator bring other queries"
            ) from error
    about = QuerySet.open(target).about
    return {**about["kinds"], "lost": about["filter"]["lost"] or None}


def filter_config(layout: Layout) -> FilterConfig:
    """Return what queries are filtered by."""
    config = layout.config
    if config.reranker is not None:
        return FilterConfig(reranker=config.reranker)
    models = [BM25, *([config.teacher] if config.teacher else [])]
    return FilterConfig(models=models if layout.is_language_model else [*models, layout.start])


def make_set(layout: Layout, folder: Path) -> dict[str, Any]:
    """Part what is trained on from what is held out."""
    config = layout.config
    rows = list(QuerySet.open(layout.queries).rows())
    if config.queries is not None:  # which says itself what was asked by people, and what was written
        kinds = kinds_of(file_of(config.queries, "align"))
        rows = [row | {"kind": kinds.get(same_text(row["query"]), row["kind"])} for row in rows]
    own = held_out_by(config.pairs)
    if own is not None:
        held_out = {side: read_records(own.file(side)) for side in ("dev", "test")}
        train, asks = rows, f"{len(held_out['test']):,} real, of {config.pairs}"
    else:
        train, dev, test = hold_out(rows, config.seed)
        held_out, asks = {"dev": dev, "test": test}, kinds_in_words(test)
    for name, records in held_out.items():
        _write_pairs(folder / f"{name}.jsonl", records)
    return {**_prepared(layout, folder, train, folder), "test_asks": asks}


def _prepared(layout: Layout, folder: Path, train: Iterable[Record], held_out: Path) -> dict[str, Any]:
    """Write a prepared set of queries and all passages, with what a folder holds out; return its sizes."""
    _write_pairs(folder / "train.jsonl", train)
    if not (folder / "set").is_dir():
        prepare(
            PrepareConfig(
                sources=[folder / "train.jsonl", layout.passages / "corpus.jsonl"],
                output_dir=folder / "set",
                keep_html=True,  # all of it is clean
                test=held_out / "test.jsonl",
                dev=held_out / "dev.jsonl",
                regime="corpus-taught",
                name=Path(layout.config.output_dir).name,
            )
        )
    sizes = sizes_of(folder / "set")
    return {name: sizes[name] for name in ("align", "dev", "test", "corpus") if name in sizes}


def _write_pairs(file: Path, rows: Iterable[Record]) -> None:
    write_jsonl(file, ({name: row[name] for name in ("id", "query", "document")} for row in rows))


def write_after_learning(layout: Layout, folder: Path) -> dict[str, Any]:
    """Let the model of stage 1 write queries, filter them as others, and add them to what is trained on.

    What is held out stays: stage 1 was trained on the rest.
    """
    written, kept = folder / "written", folder / "queries"
    if not written.is_dir():
        write_queries(later_queries_config(layout, written))
    if "filter" not in layout.names:
        kept = written
    elif not kept.is_dir():
        filter_file(written, layout.passages, kept, filter_config(layout))
    own, about = QuerySet.open(kept), QuerySet.open(kept).about
    sizes = _prepared(layout, folder, own.rows(), layout.folder("set"))
    return {**about["kinds"], "lost": about["lost"] or None, "pairs": sizes["align"]}


def kinds_of(file: str) -> dict[str, str]:
    """Return the kinds that a file of queries gives them, by `same_text` of the query; none where it has no column."""
    return {same_text(row["query"]): row["kind"] for row in read_records(file) if "kind" in row}


def held_out_by(pairs: str | None) -> PreparedSet | None:
    """Return the prepared set that ``--pairs`` is, if an adaptation is judged by its ``dev`` and ``test``."""
    own = PreparedSet.open(pairs) if pairs is not None and Path(pairs).is_dir() else None
    return own if own is not None and own.has("dev") and own.has("test") else None


def opened_set(folder: Path) -> PreparedSet:
    """Open a set that was made before."""
    own = PreparedSet.open(folder)
    assert own is not None
    return own


def sizes_of(folder: Path) -> dict[str, int]:
    """Return the number of records in each file of a set that was made before."""
    return {name: about["records"] for name, about in opened_set(folder).about["files"].items()}


def rows_of(file: str | Path) -> list[Record]:
    """Return the rows of a file as they are written there."""
    return [row.values for row in read_rows(file)]
