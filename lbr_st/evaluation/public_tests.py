"""The public tests of mteb that can be loaded here, and which of them a model was trained on."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import mteb
from mteb.abstasks import AbsTask
from mteb.abstasks.aggregated_task import AbsTaskAggregate
from mteb.abstasks.retrieval import AbsTaskRetrieval

from lbr_st.errors import InputError, one_line, shortened
from lbr_st.evaluation.bm25 import BM25OfAnyScript
from lbr_st.evaluation.own_data import watching
from lbr_st.evaluation.ranking import BM25
from lbr_st.evaluation.tables import markdown_table
from lbr_st.model.card import read
from lbr_st.model.contract import LBR_CONFIG


class Outcome(NamedTuple):
    """What came of a task.

    Attributes:
        task: Name of the task.
        metric: Name of its main score.
        scores: Main score of each model, from 0 to 1; none of BM25 where there is nothing to search, nor of any where
            the task could not be run.
        why_not: Why it could not be run.
    """

    task: str
    metric: str
    scores: dict[str, float]
    why_not: str | None = None


def tasks_of(names: Iterable[str]) -> list[AbsTask]:
    """Return the tasks of benchmarks and of tasks by their names, each once with the same parts of its data.

    Raises:
        InputError: If mteb knows none by a name; with the nearest ones.
    """
    benchmarks = {benchmark.name: benchmark for benchmark in mteb.get_benchmarks()}
    found: dict[tuple[str, ...], AbsTask] = {}
    for name in names:
        if name in benchmarks:
            tasks = list(benchmarks[name].tasks)
        else:
            try:
                tasks = [mteb.get_task(name)]
            except KeyError as error:
                known = [*benchmarks, *(task.metadata.name for task in mteb.get_tasks())]
                near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
                hint = f"; the nearest are {', '.join(near)}" if near else ""
                raise InputError(f"--tasks {name}: mteb has no benchmark or task of that name{hint}") from error
        found |= {(task.metadata.name, *task.hf_subsets, *task.eval_splits): task for task in tasks}
    return list(found.values())


def evaluate_on_tasks(models: Mapping[str, Any], tasks: Sequence[AbsTask], results_dir: str | Path) -> list[Outcome]:
    """Score models on the tasks whose data can be loaded.

    Args:
        models: What `lbr_st.evaluation.own_data.open_for_evaluation` returns, by name.
        tasks: Tasks to run, see `tasks_of`.
        results_dir: Folder of mteb's result files; a result that is there for the same weights is taken.
    """
    cache = mteb.ResultCache(results_dir)
    outcomes = []
    for task in tasks:
        name, metric = task.metadata.name, task.metadata.main_score
        # An aggregate has no data of its own.
        parts: Sequence[AbsTask] = task.metadata.tasks if isinstance(task, AbsTaskAggregate) else [task]
        to_run = {label: model for label, model in models.items() if _is_for(model, parts)}
        if not to_run:
            outcomes.append(Outcome(name, metric, {}, f"{BM25} only searches, and this is no search"))
            continue
        try:
            for part in parts:
                part.load_data()
        except Exception as error:  # what a loader raises of a network, a gate or a script is not foreseeable
            outcomes.append(Outcome(name, metric, {}, shortened(one_line(error), 160)))
            continue
        scores = {}
        for label, model in to_run.items():
            with watching(model):
                found = mteb.evaluate(model, task, cache=cache)
            # The file may have other splits and languages too, from when they were asked for.
            scores[label] = float(found.task_results[0].validate_and_filter_scores(task).get_score())
        for part in parts:
            part.unload_data()
        outcomes.append(Outcome(name, metric, scores))
    return outcomes


def _is_for(model: Any, parts: Iterable[AbsTask]) -> bool:
    """Tell whether a task is for a model: BM25 only searches."""
    return not isinstance(model, BM25OfAnyScript) or all(isinstance(part, AbsTaskRetrieval) for part in parts)


def trained_on(model: str | Path) -> set[str]:
    """Return the tasks on whose sources a model of this package was trained, as far as is known; of others none is."""
    if not Path(model, LBR_CONFIG).is_file():
        return set()
    return {task for step in read(model)["history"] for task in step.get("mteb_tasks", [])}


def format_outcomes(outcomes: Sequence[Outcome], seen: Mapping[str, set[str]]) -> str:
    """Lay out what came of the tasks, with a mark on the scores that are not those of a test.

    Args:
        outcomes: What `evaluate_on_tasks` returned.
        seen: What `trained_on` returns, by the names of the models.
    """
    ran, names = [each for each in outcomes if each.scores], list(seen)
    parts = []
    if ran:
        rows = [
            [each.task, *(_cell(each.scores.get(name), each.task in seen[name]) for name in names), each.metric]
            for each in ran
        ]
        parts.append(markdown_table(["task", *names, "metric"], rows, numbers=names))
        for name in names:
            if tasks := [each.task for each in ran if each.task in seen[name]]:
                parts.append(
                    f"{name} was trained on the sources of {', '.join(tasks)}; scores there are not those of a test."
                )
    if left := [each for each in outcomes if not each.scores]:
        listed = "\n".join(f"  {each.task}: {each.why_not}" for each in left)
        parts.append(f"Not run, {len(left)} of {len(outcomes)}:\n{listed}")
    return "\n\n".join(parts)


def _cell(score: float | None, was_seen: bool) -> str:
    if score is None:
        return "-"
    return f"(trained on) {score:.4f}" if was_seen else f"{score:.4f}"
