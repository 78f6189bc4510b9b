"""The last step of an adaptation: what the end finds, and the start, on queries that nothing was chosen by."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lbr_st.adaptation.config import AdaptConfig
from lbr_st.adaptation.data_steps import sizes_of
from lbr_st.adaptation.layout import Layout
from lbr_st.adaptation.report import Report, largest_changes, write_report
from lbr_st.adaptation.scoring import EncodesOnce, Found, Judge, fused
from lbr_st.adaptation.steps import Step
from lbr_st.adaptation.training_steps import OUTSIDE
from lbr_st.data.prepared_set import FILES
from lbr_st.evaluation.fusion import AllScores, in_order_of
from lbr_st.evaluation.general import general_pairs, general_score
from lbr_st.evaluation.own_data import local_task, open_for_evaluation
from lbr_st.evaluation.ranking import BM25
from lbr_st.verdict import FEWEST, MARGINAL, REGRESSION, WIN, Verdict, verdict

MEANS = {
    WIN: "WIN means that the whole 95% interval of the difference, in brackets, is above 0.",
    MARGINAL: "MARGINAL means that the 95% interval of the difference, in brackets, holds 0, or that fewer than "
    f"{FEWEST} queries find more or less than before: it may be chance.",
    REGRESSION: "REGRESSION means that the whole 95% interval of the difference, in brackets, is below 0.",
}


def judge(layout: Layout, done: Sequence[Step], folder: Path) -> dict[str, Any]:
    """Score the start, the end and BM25 on the test, choose what is saved, and write the report.

    Args:
        layout: The steps.
        done: Those that are done, with what came of them.
        folder: Folder of this one.

    Returns:
        The verdict, ``saved``: ``end``, or ``start`` where that finds more, and ``weight_beside_bm25``.
    """
    config, said = layout.config, {step.name: step.said for step in done}
    dev, test = (
        Judge(local_task(layout.set / f"{side}.jsonl", layout.set / "corpus.jsonl")) for side in ("dev", "test")
    )
    lexical = test.scores(open_for_evaluation(BM25))
    end_scores, outside_of_end, weight = _of_end(layout, said, dev, test)
    start = EncodesOnce(layout.start)
    start_scores = test.scores(start)
    queries = end_scores.queries
    found: dict[str, Found] = {
        "start": test.found(queries, in_order_of(queries, start_scores)),
        "end": test.found(queries, end_scores.scores),
        "bm25": test.found(lexical.queries, lexical.scores),
        "fused": test.found(queries, fused(end_scores, lexical, weight)),
    }
    of_start = general_score(start.model, general_pairs(config.general, seed=config.seed))
    of_test = replace(
        verdict(found["start"].recall, found["end"].recall, seed=config.seed),
        bm25=float(found["bm25"].recall.mean()),
        fused=float(found["fused"].recall.mean()),
        outside=(of_start, outside_of_end),
    )
    saved = what_is_saved(of_test, config.keep)
    gained, lost = largest_changes(test.examples(queries, found["start"], found["end"]))
    write_report(
        folder,
        Report(
            title=Path(config.output_dir).name,
            verdict=str(of_test),
            notes=[
                MEANS[of_test.word],
                f"The test asks {len(queries):,} queries ({said['set']['test_asks']}) of {len(test.documents):,} "
                "passages. No query of a passage that is asked for was trained on.",
                *(["The end finds less: the start was saved again."] if saved == "start" else []),
            ],
            next_steps=next_steps(layout, of_test, saved, weight),
            scores=_scores(layout, found, weight),
            steps=done,
            gained=gained,
            lost=lost,
            data={name: f"{value:,} ({FILES[name]})" for name, value in sizes_of(layout.set).items()},
            pictures={
                what: file
                for what, file in (
                    ("Stage 1", Path(layout.learned) / "training.png"),
                    ("Stage 2", Path(layout.aligned) / "training.png"),
                )
                if file.is_file()
            },
            command=config.command,
        ),
    )
    return {"verdict": of_test.__dict__, "saved": saved, "weight_beside_bm25": weight}


def what_is_saved(found: Verdict, keep: str) -> str:
    """Return ``end``, or ``start`` where the end finds less.

    Args:
        found: Verdict about the end.
        keep: ``better``, or ``end`` to save the end all the same.
    """
    return "start" if found.word == REGRESSION and keep == "better" else "end"


def verdict_of(said: Mapping[str, Any]) -> Verdict:
    """Return the verdict that `judge` has left."""
    return Verdict(**said["verdict"] | {"outside": tuple(said["verdict"]["outside"])})


def finds_more_with_bm25(of_test: Verdict) -> bool:
    """Tell whether the end and BM25 together find more than either."""
    assert of_test.fused is not None and of_test.bm25 is not None
    return of_test.fused > max(of_test.recall, of_test.bm25)


def search_command(config: AdaptConfig, weight: float | None = None) -> str:
    """Return the command that searches what was read with the model that was saved.

    Args:
        config: Settings of the adaptation.
        weight: Share of the model beside BM25; default is that BM25 is not asked.
    """
    fuse = [] if weight is None else ["--fuse", BM25, "--fuse-weight", f"{weight:g}"]
    data = ["--data", str(config.sources[0])]
    return shlex.join(["lbr", "search", "--model", str(config.output_dir), *data, *fuse, "your question"])


def next_steps(layout: Layout, of_test: Verdict, saved: str, weight: float) -> list[tuple[str, str]]:
    """Return what to do after a verdict, and the command that does it or "".

    Args:
        layout: The steps.
        of_test: The verdict.
        saved: ``end`` or ``start``.
        weight: Share of the end beside BM25 that is best on dev.
    """
    config = layout.config
    found = []
    if saved == "end":
        found.append(("Search with the new model:", search_command(config)))
    if saved == "end" and finds_more_with_bm25(of_test):
        found.append(("Together with BM25 it finds more:", search_command(config, weight)))
    elif of_test.bm25 is not None and of_test.bm25 > of_test.recall:
        found.append(("BM25 alone finds more than the new model: search with both, or with BM25.", ""))
    if of_test.word != WIN:
        better = []
        if config.pairs is None:
            better.append("real queries with their documents (--pairs)")
        if config.generator is None and config.queries is None:
            better.append("a larger model that writes the queries (--generator)")
        if config.teacher is None and config.reranker is None:
            better.append("a teacher (--teacher)")
        better.append("more text")
        what = "finds less than the start" if of_test.word == REGRESSION else "may find no more than the start"
        found.append((f"The new model {what}. What may help: {', '.join(better)}.", ""))
    return found


def _of_end(layout: Layout, said: Mapping[str, Any], dev: Judge, test: Judge) -> tuple[AllScores, float, float]:
    """Return what the end finds on the test, and outside the domain, and its weight beside BM25, chosen on dev."""
    end = EncodesOnce(layout.end)
    scores = test.scores(end)
    weight = dev.weight(dev.scores(end), dev.scores(open_for_evaluation(BM25)))
    if layout.merges:  # the share that was taken has been scored there
        return scores, said["merge"][OUTSIDE], weight
    config = layout.config
    return scores, general_score(end.model, general_pairs(config.general, seed=config.seed)), weight


def _scores(layout: Layout, found: Mapping[str, Found], weight: float) -> dict[str, dict[str, str]]:
    names = {
        "start": f"start: {Path(layout.config.model).name}",
        "end": "end: the adapted model",
        "bm25": "BM25",
        "fused": f"end and BM25 (weight {weight:g}, chosen on dev)",
    }
    return {
        names[system]: {"recall@10": f"{each.recall.mean():.3f}", "nDCG@10": f"{each.ndcg:.3f}"}
        for system, each in found.items()
    }
