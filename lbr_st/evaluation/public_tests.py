"""``lbr benchmark``: the public tests of mteb that can be loaded here, and which of them a model was trained on."""

from __future__ import annotations

import argparse
import difflib
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import mteb
from mteb.abstasks import AbsTask

from lbr_st.errors import InputError
from lbr_st.evaluation.own_data import open_for_evaluation
from lbr_st.model.card import read
from lbr_st.model.contract import LBR_CONFIG

logger = logging.getLogger(__name__)


class Outcome(NamedTuple):
    """What came of a task.

    Attributes:
        task: Its name.
        score: Its main score, from 0 to 1; None where it could not be run.
        metric: The name of that.
        trained_on: The model was trained on the sources of the task, as far as is known.
        why_not: Why it was not run.
    """

    task: str
    score: float | None
    metric: str
    trained_on: bool
    why_not: str | None = None


def tasks_of(names: Iterable[str]) -> list[AbsTask]:
    """Return the tasks of benchmarks and of tasks by their names, each once.

    Raises:
        InputError: If mteb knows none by a name; with the nearest ones.
    """
    benchmarks = {benchmark.name: benchmark for benchmark in mteb.get_benchmarks()}
    found: dict[str, AbsTask] = {}
    for name in names:
        if name in benchmarks:
            tasks = list(benchmarks[name].tasks)
        else:
            try:
                tasks = [mteb.get_task(name)]
            except KeyError as error:
                near = difflib.get_close_matches(name, [*benchmarks, *mteb_task_names()], n=3, cutoff=0.5)
                hint = f"; the nearest are {', '.join(near)}" if near else ""
                raise InputError(f"--suite {name}: mteb has no benchmark or task of that name{hint}") from error
        found |= {task.metadata.name: task for task in tasks}
    return list(found.values())


def mteb_task_names() -> list[str]:
    """Return the names of all tasks of mteb."""
    return [task.metadata.name for task in mteb.get_tasks()]


def run(
    model: Any, tasks: Sequence[AbsTask], trained_on: set[str], results_dir: Path, batch_size: int
) -> list[Outcome]:
    """Run the tasks whose data can be loaded.

    Args:
        model: What `lbr_st.evaluation.own_data.open_for_evaluation` returns.
        tasks: To run.
        trained_on: Names of tasks on whose sources the model was trained.
        results_dir: Root of mteb's result files; a result that is there for the same weights is taken.
        batch_size: Texts encoded at once.
    """
    outcomes = []
    cache = mteb.ResultCache(results_dir)
    for task in tasks:
        name, metric = task.metadata.name, task.metadata.main_score
        was_seen = name in trained_on
        try:
            task.load_data()
        except Exception as error:  # what a loader raises of a network, a gate or a script is not foreseeable
            why = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            outcomes.append(Outcome(name, None, metric, was_seen, why[:160]))
            continue
        found = mteb.evaluate(model, task, encode_kwargs={"batch_size": batch_size}, cache=cache)
        outcomes.append(Outcome(name, float(found.task_results[0].get_score()), metric, was_seen))
    return outcomes


def table(outcomes: Sequence[Outcome]) -> str:
    """Lay out what came of the tasks."""
    lines = ["| task | score | metric |", "| --- | ---: | --- |"]
    for each in outcomes:
        if each.score is not None:
            lines.append(f"| {each.task}{' (trained on)' * each.trained_on} | {each.score:.4f} | {each.metric} |")
    ran = [each for each in outcomes if each.score is not None]
    parts = ["\n".join(lines)] if ran else []
    if seen := [each.task for each in ran if each.trained_on]:
        parts.append(
            f"Trained on: {', '.join(seen)}. The model saw these sources; their scores are not those of a test."
        )
    if left := [each for each in outcomes if each.why_not]:
        listed = "\n".join(f"  {each.task}: {each.why_not}" for each in left)
        parts.append(f"Not run, {len(left)} of {len(outcomes)}, as their data cannot be loaded:\n{listed}")
    return "\n\n".join(parts)


def trained_on(model: str) -> set[str]:
    """Return the tasks on whose sources a model of this package was trained, as far as is known; of others none is."""
    if not Path(model, LBR_CONFIG).is_file():
        return set()
    return {task for step in read(model)["history"] for task in step.get("mteb_tasks", [])}


def main(argv: Sequence[str] | None = None) -> None:
    """Run ``lbr benchmark``.

    Raises:
        InputError: If the model or a name cannot be used, or not one task could be run.
    """
    parser = argparse.ArgumentParser(prog="lbr benchmark", description="Score a model on public tests of mteb.")
    parser.add_argument(
        "--model", required=True, metavar="DIR", help="sentence-transformers directory or Hub id, or bm25"
    )
    parser.add_argument(
        "--suite",
        required=True,
        nargs="+",
        metavar="NAME",
        help='benchmarks or tasks of mteb: "MTEB(Medical, v1)", "ChemTEB(v1.1)", "MTEB(Code, v1)", "MTEB(Law, v1)", '
        "NFCorpus, ...",
    )
    parser.add_argument(
        "--results-dir", default="results", metavar="DIR", help="mteb's result files (default: %(default)s)"
    )
    parser.add_argument("--batch-size", type=int, default=64, metavar="N", help="(default: %(default)s)")
    args = parser.parse_args(argv)
    tasks = tasks_of(args.suite)
    model = open_for_evaluation(args.model)
    outcomes = run(model, tasks, trained_on(args.model), Path(args.results_dir), args.batch_size)
    print(f"\n{table(outcomes)}")  # noqa: T201
    if all(each.score is None for each in outcomes):
        raise InputError("not one task could be run: is there a network, and is HF_HUB_OFFLINE unset?")
