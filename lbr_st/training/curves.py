"""What training shows of itself: a table of its data at the start, curves at the end."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lbr_st.files import UNFINISHED

PLOT = "training.png"

# Title of a panel: what of the trainer's log it shows, as a pattern of names, and the label of the line. Objectives
# have lines of their own.
STAGE_1 = {
    "loss, nats per target token": {"loss": "training", "eval_(?:(?P<of>.+)_)?(?<!read_out_)loss": "held out"},
    "read-out loss, nats per target token": {"eval_(?:(?P<of>.+)_)?read_out_loss": "held out"},
    "carried by the bottleneck, nats per target token": {"eval_(?:(?P<of>.+)_)?bottleneck_nats": "held out"},
    "embeddings of held-out pairs as they are": {
        "eval_dev_cosine_recall@10": "recall@10",
        "eval_dev_separation_ratio": "Separation Ratio",
    },
    "tokens per second": {"tokens_per_second": "training"},
}
STAGE_2 = {
    "loss": {"loss": "training", "contrastive": "InfoNCE", "lm": "language model, weighted"},
    "retrieval, dev": {"eval_dev_cosine_recall@10": "recall@10", "eval_dev_cosine_ndcg@10": "nDCG@10"},
    "variance of embeddings, dev": {"eval_dev_variance": "variance"},
    "alignment, dev (0 is best)": {"eval_dev_alignment": "alignment"},
    "uniformity, dev (lower is better)": {"eval_dev_uniformity": "uniformity"},
    "Separation Ratio, dev": {"eval_dev_separation_ratio": "Separation Ratio"},
    "loss of the language model, dev, nats per target token": {"eval_dev_lm_loss": "held out"},
}
Panels = Mapping[str, Mapping[str, str]]


def strata_table(rows: Sequence[dict[str, int]]) -> str:
    """Write the strata of `lbr_st.learning.objectives.strata` as a table for people."""
    header = ("tokens of X", "examples", "tokens of X in all", "bottleneck tokens", "of an example", "tokens of Y")
    cells = [
        (
            f"{row['from']} to {row['to']}",
            f"{row['examples']:,}",
            f"{row['source_tokens']:,}",
            f"{row['bottleneck_tokens']:,}",
            f"{row['least_bottleneck_tokens']} to {row['most_bottleneck_tokens']}",
            f"{row['target_tokens']:,}",
        )
        for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(header, *cells, strict=True)]
    return "\n".join("  ".join(cell.rjust(w) for cell, w in zip(r, widths, strict=True)) for r in (header, *cells))


def _curves(log: Sequence[dict[str, Any]], panels: Panels) -> dict[str, dict[str, list[tuple[int, float]]]]:
    """Return the points of each line of each panel."""
    curves: dict[str, dict[str, list[tuple[int, float]]]] = {}
    for title, lines in panels.items():
        for entry in log:
            for key, value in entry.items():
                for pattern, name in lines.items():
                    if found := re.fullmatch(pattern, key):
                        objective = found.groupdict().get("of")
                        label = f"{name}, {objective}" if objective else name
                        curves.setdefault(title, {}).setdefault(label, []).append((entry["step"], value))
    return curves


def plot(log: Sequence[dict[str, Any]], folder: str | Path, panels: Panels) -> None:
    """Draw the curves of a trainer's log as ``training.png``, one panel for each kind of number that it has.

    Args:
        log: ``trainer.state.log_history``.
        folder: Where to write it, whole or not at all.
        panels: What to draw.
    """
    import matplotlib.figure  # here, as it takes half a second that most commands need not wait

    curves = _curves(log, panels)
    if not curves:
        return
    columns = 1 if len(curves) <= len(STAGE_1) else 2
    rows = -(-len(curves) // columns)
    figure = matplotlib.figure.Figure(figsize=(7 if columns == 1 else 11, 2.6 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes, (title, lines) in zip(grid.flat, curves.items(), strict=False):
        for label, points in lines.items():
            marker = None if label == "training" and len(points) > 1 else "o"
            axes.plot(*zip(*points, strict=True), label=label, marker=marker, markersize=4)
        if title == "tokens per second":
            axes.set_ylim(bottom=0)
        axes.set_title(title, fontsize=10)
        axes.grid(alpha=0.3)
        if len(lines) > 1:
            axes.legend(fontsize=8)
    for axes in grid.flat[len(curves) :]:
        axes.set_visible(False)
    for axes in grid.flat[max(0, len(curves) - columns) : len(curves)]:
        axes.set_xlabel("step")
    for axes in grid.flat:
        axes.xaxis.get_major_locator().set_params(integer=True)
    path = Path(folder, PLOT)
    unfinished = Path(f"{path}{UNFINISHED}")
    figure.savefig(unfinished, format="png", dpi=120)
    unfinished.replace(path)
