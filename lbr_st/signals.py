"""What stage 1 shows of itself while it trains: a table of its data at the start, curves at the end."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lbr_st.files import UNFINISHED

# Title of a panel: the names in the trainer's log, of training and held out. An objective has its own of the latter.
PANELS = {
    "loss, nats per target token": ("loss", "loss"),
    "carried by the bottleneck, nats per target token": (None, "bottleneck_nats"),
    "tokens per second": ("tokens_per_second", None),
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


def _curves(log: Sequence[dict[str, Any]]) -> dict[str, dict[str, list[tuple[int, float]]]]:
    """Return the points of each line of each panel."""
    held_out = re.compile(r"eval_(?:(?P<objective>.+)_)?(?P<name>loss|bottleneck_nats)")
    curves: dict[str, dict[str, list[tuple[int, float]]]] = {}
    for title, (in_training, of_held_out) in PANELS.items():
        for entry in log:
            for key, value in entry.items():
                found = held_out.fullmatch(key)
                if key == in_training:
                    label = "training"
                elif found and found["name"] == of_held_out:
                    label = f"held out, {found['objective']}" if found["objective"] else "held out"
                else:
                    continue
                curves.setdefault(title, {}).setdefault(label, []).append((entry["step"], value))
    return curves


def plot(log: Sequence[dict[str, Any]], path: str | Path) -> None:
    """Draw the curves of a trainer's log as a PNG, one panel for each kind of number that it has.

    Args:
        log: ``trainer.state.log_history``.
        path: File to write, whole or not at all.
    """
    import matplotlib.figure  # here, as it takes half a second that most commands need not wait

    curves = _curves(log)
    if not curves:
        return
    figure = matplotlib.figure.Figure(figsize=(7, 2.6 * len(curves)), layout="constrained")
    for axes, (title, lines) in zip(figure.subplots(len(curves), squeeze=False)[:, 0], curves.items(), strict=True):
        for label, points in lines.items():
            marker = "o" if label.startswith("held out") or len(points) == 1 else None
            axes.plot(*zip(*points, strict=True), label=label, marker=marker, markersize=4)
        if title == "tokens per second":
            axes.set_ylim(bottom=0)
        axes.set_title(title, fontsize=10)
        axes.grid(alpha=0.3)
        if len(lines) > 1:
            axes.legend(fontsize=8)
    axes.set_xlabel("step")
    unfinished = Path(f"{path}{UNFINISHED}")
    figure.savefig(unfinished, format="png", dpi=120)
    unfinished.replace(path)
