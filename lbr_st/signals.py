"""What stage 1 shows of itself while it trains: a table of its data at the start, curves at the end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lbr_st.files import UNFINISHED

# Title of a panel: what it shows, and the names in the trainer's log.
PANELS = {
    "loss, nats per target token": {"loss": "training", "eval_loss": "held out"},
    "carried by the bottleneck, nats per target token": {"eval_bottleneck_nats": "held out"},
    "tokens per second": {"tokens_per_second": "training"},
}


def strata_table(rows: Sequence[dict[str, int]]) -> str:
    """Write the strata of `lbr_st.objectives.strata` as a table for people."""
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


def plot(log: Sequence[dict[str, Any]], path: str | Path) -> None:
    """Draw the curves of a trainer's log as a PNG, one panel for each kind of number that it has.

    Args:
        log: ``trainer.state.log_history``.
        path: File to write, whole or not at all.
    """
    import matplotlib.figure  # here, as it takes half a second that most commands need not wait

    curves: dict[str, dict[str, list[tuple[int, float]]]] = {}
    for title, names in PANELS.items():
        of_objectives = {
            key: key.removeprefix("eval_").removesuffix("_loss") + ", held out"
            for entry in log
            for key in entry
            if "eval_loss" in names and key.startswith("eval_") and key.endswith("_loss")
        }
        for key, label in (of_objectives | names).items():
            points = [(entry["step"], entry[key]) for entry in log if key in entry]
            if points:
                curves.setdefault(title, {})[label] = points
    if not curves:
        return
    figure = matplotlib.figure.Figure(figsize=(7, 2.6 * len(curves)), layout="constrained")
    for axes, (title, lines) in zip(figure.subplots(len(curves), squeeze=False)[:, 0], curves.items(), strict=True):
        for label, points in lines.items():
            marker = "o" if label.endswith("held out") else None
            axes.plot(*zip(*points, strict=True), label=label, marker=marker, markersize=4)
        axes.set_title(title, fontsize=10)
        axes.grid(alpha=0.3)
        if len(lines) > 1:
            axes.legend(fontsize=8)
    axes.set_xlabel("step")
    unfinished = Path(f"{path}{UNFINISHED}")
    figure.savefig(unfinished, format="png", dpi=120)
    unfinished.replace(path)
