"""The steps of an adaptation that train: stage 1, hard negatives, stage 2, and how much of it is kept."""

from __future__ import annotations

import gc
import logging
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from lbr_st.adaptation.config import AdaptConfig
from lbr_st.adaptation.data_steps import opened_set, rows_of, sizes_of
from lbr_st.adaptation.layout import NEGATIVES, RELATIVE_MARGIN, Layout
from lbr_st.adaptation.steps import start_over
from lbr_st.alignment.config import AlignConfig
from lbr_st.alignment.run import align
from lbr_st.data.mining import MineConfig, with_negatives, without_held_out
from lbr_st.data.prepared_set import file_of
from lbr_st.data.records import read_records, read_test, read_tuples
from lbr_st.errors import InputError
from lbr_st.evaluation.general import general_pairs
from lbr_st.evaluation.shares import choose_share
from lbr_st.files import write_jsonl
from lbr_st.learning.config import LearnConfig
from lbr_st.learning.run import learn
from lbr_st.model.merging import merge
from lbr_st.model.opening import open_sentence_transformer
from lbr_st.model.saving import save_any
from lbr_st.quickstart.run import choose_precision
from lbr_st.records import Record
from lbr_st.training.resume import checkpoint_dir

logger = logging.getLogger(__name__)

OUTSIDE = "recall@10_outside_the_domain"  # what merging says of the share that it takes
FEW_PAIRS = 2_000  # of which stage 2 makes two passes, and of more one
DEV_CORPUS = 200  # passages that dev queries are asked of while models are chosen, if their own are fewer


def learn_domain(layout: Layout, folder: Path) -> dict[str, Any]:
    """Run stage 1 on the passages and the training queries."""
    precision = {"bf16": choose_precision(layout.work)}
    learn(learn_config(layout, precision, layout.backbone, layout.first_set, folder / "model"))
    gc.collect()  # a trainer holds itself, and with it the model and its optimizer
    _remove_checkpoints(folder)
    sizes = sizes_of(layout.first_set)
    return {name: sizes[name] for name in ("learn", "passages") if name in sizes}


def find_negatives(layout: Layout, folder: Path) -> dict[str, Any]:
    """Find hard negatives; pairs for which there are none are trained on without."""
    own = opened_set(layout.set)
    pairs = read_tuples(own.file("align"))
    corpus = without_held_out(own, read_records(own.file("corpus"), ("document",)))
    settings: dict[str, Any] = {"negatives": NEGATIVES, "relative_margin": RELATIVE_MARGIN}
    config = MineConfig(source=layout.set, model=layout.searcher, output_dir=folder, **settings)
    opened = open_sentence_transformer(layout.searcher)
    try:
        mined = with_negatives(pairs, opened, config, corpus, own.same_text)
    except InputError as error:  # there may be none in so few passages
        if layout.config.reranker is not None:
            raise InputError(f"{error}; --reranker teaches how they rank: leave it out") from error
        logger.warning("stage 2 does without hard negatives: %s", error)
        mined = []
    negatives = {record["id"]: record["negatives"] for record in mined}
    rows = (pair | {"negatives": negatives.get(pair["id"], [])} for pair in pairs)
    write_jsonl(folder / "align.jsonl", rows)
    return {"pairs": len(pairs), "with_hard_negatives": len(mined)}


def align_with_queries(layout: Layout, folder: Path) -> dict[str, Any]:
    """Run stage 2 on the training queries."""
    precision = {"bf16": choose_precision(layout.work)}
    write_jsonl(layout.dev_corpus, dev_corpus(layout))
    align(align_config(layout, precision, layout.learned, layout.pairs, folder / "model"))
    gc.collect()
    _remove_checkpoints(folder)
    return {"pairs": len(rows_of(layout.pairs))}


def merge_with_start(layout: Layout, folder: Path) -> dict[str, Any]:
    """Keep as much of the training as is no worse on dev than less of it, and keeps what was known before."""
    config = layout.config
    dev, others = read_test(file_of(str(layout.set), "dev"))
    general = general_pairs(config.general, seed=config.seed)
    corpus = [*others, *dev_corpus(layout)]
    choice = choose_share(layout.before, layout.aligned, dev, general, corpus, keep_general=config.keep_general)
    start_over(folder, "model")
    taken = choice.taken
    save_any(merge([layout.before, layout.aligned], [1 - taken.share, taken.share]), folder / "model")
    return {
        "share_of_the_end": taken.share,
        "dev_nDCG@10_of_shares": {f"{each.share:g}": round(each.ndcg, 4) for each in choice.tried},
        OUTSIDE: taken.general,
    }


def learn_config(layout: Layout, precision: Mapping[str, Any], model: str, data: Path, output_dir: Path) -> LearnConfig:
    """Return the settings of stage 1."""
    told = _common(layout.config, precision) | dict(layout.config.learn) | {"objective": layout.objective}
    return LearnConfig(model=model, data=[str(data)], output_dir=str(output_dir), **told)


def align_config(
    layout: Layout, precision: Mapping[str, Any], model: str, pairs: Path, output_dir: Path
) -> AlignConfig:
    """Return the settings of stage 2."""
    config = layout.config
    number = len(rows_of(pairs)) if pairs.is_file() else 0
    told: dict[str, Any] = {"num_train_epochs": 2 if number <= FEW_PAIRS else 1, "corpus_extra": str(layout.dev_corpus)}
    told |= _common(config, precision) | dict(config.align)
    told |= {name: getattr(config, name) for name in ("teacher", "reranker", "weak_teacher")}
    told |= {"model": model, "data": str(pairs), "dev_data": str(layout.set / "dev.jsonl")}
    return AlignConfig(**told, output_dir=str(output_dir))


def dev_corpus(layout: Layout) -> list[Record]:
    """Return passages that join those of the dev queries: among its own alone, which are few, a query finds any."""
    own = {record["document"] for record in read_records(layout.set / "dev.jsonl")}
    corpus = read_records(layout.set / "corpus.jsonl", ("document",))
    others = [record for record in corpus if record["document"] not in own]
    number = min(len(others), max(0, DEV_CORPUS - len(own)))
    return random.Random(layout.config.seed).sample(others, number)


def _remove_checkpoints(folder: Path) -> None:
    """Remove what a stage that is done does not go on with: it takes several times the room of the model."""
    checkpoints = checkpoint_dir(folder / "model")
    start_over(checkpoints.parent, checkpoints.name)


def _common(config: AdaptConfig, precision: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that both stages get unless they are told others."""
    common = {"max_length": config.max_length, "seed": config.seed, "resume": True, **precision}
    if not torch.accelerator.is_available():
        common["attention"] = "eager"  # the faster one for short texts
    return common
