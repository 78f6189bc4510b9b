"""The curves of a run, drawn at its end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lbr_st.errors import require
from lbr_st.files import replacing

PLOT = "training.png"
TOKENS_PER_SECOND = "tokens per second"
MOST_IN_ONE_COLUMN = 5

# Title of a panel: names in the trainer's log, and what the line of each is called.
Panels = Mapping[str, Mapping[str, str]]


def of_each(kind: str, objectives: Iterable[str]) -> dict[str, str]:
    """Return the names of a held-out number in the log, of all objectives together and of each, with their labels."""
    return {f"eval_{kind}": "held out"} | {f"eval_{each}_{kind}": f"held out, {each}" for each in objectives}


def points(log: Sequence[Mapping[str, Any]], panels: Panels) -> dict[str, dict[str, list[tuple[int, float]]]]:
    """Return the (step, value) points of each line of each panel that the log has any of.

    Args:
        log: ``trainer.state.log_history``.
        panels: What to draw.
    """
    found: dict[str, dict[str, list[tuple[int, float]]]] = {}
    for title, lines in panels.items():
        for entry in log:
            for name in lines.keys() & entry.keys():
                found.setdefault(title, {}).setdefault(lines[name], []).append((entry["step"], entry[name]))
    return found


def plot(log: Sequence[Mapping[str, Any]], folder: str | Path, panels: Panels) -> None:
    """Draw the curves of a trainer's log as ``training.png``, one panel for each kind of number that it has.

    Args:
        log: ``trainer.state.log_history``.
        folder: Where to write it, whole or not at all.
        panels: What to draw.

    Raises:
        InputError: If matplotlib is not installed.
    """
    figures = require("matplotlib.figure", PLOT)  # takes half a second, which most commands need not wait
    curves = points(log, panels)
    if not curves:
        return
    columns = 1 if len(curves) <= MOST_IN_ONE_COLUMN else 2
    rows = -(-len(curves) // columns)
    figure = figures.Figure(figsize=(7 if columns == 1 else 11, 2.6 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes, (title, lines) in zip(grid.flat, curves.items(), strict=False):
        _draw(axes, title, lines)
    for axes in grid.flat[len(curves) :]:
        axes.set_visible(False)
    for axes in grid.flat[max(0, len(curves) - columns) : len(curves)]:
        axes.set_xlabel("step")
    with replacing(Path(folder, PLOT)) as unfinished:
        figure.savefig(unfinished, format="png", dpi=120)


def _draw(axes: Any, title: str, lines: Mapping[str, Sequence[tuple[int, float]]]) -> None:
    for label, of_line in sorted(lines.items()):
        marker = None if label == "training" and len(of_line) > 1 else "o"
        axes.plot(*zip(*of_line, strict=True), label=label, marker=marker, markersize=4)
    if title == TOKENS_PER_SECOND:
        axes.set_ylim(bottom=0)
    axes.set_title(title, fontsize=10)
    axes.grid(alpha=0.3)
    axes.xaxis.get_major_locator().set_params(integer=True)
    if len(lines) > 1:
        axes.legend(fontsize=8)
