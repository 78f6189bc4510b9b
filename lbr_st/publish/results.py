"""``lbr card``: the card of a saved model anew, with what mteb found."""

from __future__ import annotations

import argparse
import json
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import mteb

from lbr_st.errors import InputError
from lbr_st.model.card import CARD, Score, read, write
from lbr_st.model.contract import fingerprint

logger = logging.getLogger(__name__)

METRICS = ("ndcg_at_10", "recall_at_10")  # of retrieval; of other tasks the main score


def results_of(results_dir: str | Path, model: str | Path) -> Iterator[Path]:
    """Yield mteb's result files of a model as it is now, by its weights and not by its name."""
    revision = fingerprint(model)[:40]
    for file in sorted(Path(results_dir).rglob("*.json")):
        if file.name != "model_meta.json" and revision in file.parts:
            yield file


def scores_of(files: Iterator[Path]) -> Iterator[Score]:
    """Yield the scores of result files, and where their data are on the Hub."""
    for file in files:
        found = json.loads(file.read_text(encoding="utf-8"))
        name = found["task_name"]
        try:
            dataset = mteb.get_task(name).metadata.dataset["path"]
        except KeyError:  # a task of a local file
            dataset = None
        for split, of_subsets in found["scores"].items():
            for each in of_subsets:
                for metric in METRICS if METRICS[0] in each else ("main_score",):
                    yield Score(name, dataset, found["dataset_revision"], split, metric, each[metric])


def main(argv: Sequence[str] | None = None) -> None:
    """Run ``lbr card``.

    Raises:
        InputError: If the model cannot be used, its card is somebody else's, or there are no results of it.
    """
    parser = argparse.ArgumentParser(prog="lbr card", description="Write the card of a saved model anew.")
    parser.add_argument("--model", required=True, metavar="DIR", help="directory of the model")
    parser.add_argument("--name", help="on the Hub, owner/name (default: that of the directory)")
    parser.add_argument("--results-dir", metavar="DIR", help="mteb's result files: scores of this very model are shown")
    parser.add_argument("--licence", help="as the Hub names it: apache-2.0, mit, ...")
    parser.add_argument("--language", help="code of ISO 639-1: en, de, ...")
    args = parser.parse_args(argv)
    read(args.model)
    name = args.name or os.path.basename(os.path.abspath(args.model))
    scores: list[Score] = []
    command = None
    if args.results_dir:
        scores = list(scores_of(results_of(args.results_dir, args.model)))
        if not scores:
            raise InputError(f"--results-dir {args.results_dir} has no scores of this model as it is now")
        command = f"lbr benchmark --model {name} --suite {' '.join(dict.fromkeys(score.task for score in scores))}"
        if any(score.dataset is None for score in scores):
            command = f"lbr evaluate --model {name} --data ..."
    if not write(args.model, name, scores, licence=args.licence, language=args.language, command=command):
        raise InputError(f"{args.model}/{CARD} was not written by lbr-st; move it away to have one written")
    logger.info("wrote %s", Path(args.model) / CARD)
