"""The data card of a prepared set: what is in it, what was left out and why; as Markdown, with a picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from matplotlib.figure import Figure
from numpy.typing import NDArray

from lbr_st.data.isolation import KINDS, PLURALS
from lbr_st.data.sets import FILES, REGIMES

PICTURE = "lengths.png"
BINS = 40


@dataclass(frozen=True)
class About:
    """What the user says of a set.

    Attributes:
        name: Of the set.
        command: That makes it again.
        licence: Of the data; default is that of the registry, where the source is there.
        derived_from: Sets of the registry, and Hub datasets, that the data come from.
    """

    name: str
    command: str = ""
    licence: str | None = None
    derived_from: list[str] = field(default_factory=list)


def plot(file: Path, tokens: Mapping[str, Mapping[str, NDArray[np.int64]]], unit: str) -> None:
    """Draw histograms of the lengths of queries and documents, one curve a file.

    Args:
        file: PNG to write.
        tokens: By file and field.
        unit: What was counted.
    """
    figure = Figure(figsize=(10, 4), layout="constrained")
    for axes, name in zip(figure.subplots(1, 2), ("query", "document"), strict=True):
        curves = {of: lengths[name] for of, lengths in tokens.items() if name in lengths}
        most = max((int(lengths.max()) for lengths in curves.values()), default=1)
        bins = np.unique(np.geomspace(1, most + 1, BINS).round())
        for of, lengths in curves.items():
            weights = np.full(len(lengths), 1 / len(lengths))
            axes.hist(lengths, bins=bins, weights=weights, histtype="step", label=f"{of} ({len(lengths):,})")
        axes.set(xscale="log", xlabel=f"{unit} of a {name}", ylabel="share of the records")
        if curves:
            axes.legend()
    # Without the version of the library, so that the same data give the same bytes.
    figure.savefig(file, dpi=120, metadata={"Software": None})


def text(about: Mapping[str, Any]) -> str:
    """Return the card.

    Args:
        about: What ``lbr_set.json`` says.
    """
    pairs = [name for name in ("gl", "cl", "dev", "test") if name in about["files"]]
    alone = [name for name in ("passages", "corpus") if name in about["files"]]
    front = {
        "configs": [
            {"config_name": config, "data_files": [{"split": name, "path": f"{name}.jsonl"} for name in names]}
            for config, names in (("pairs", pairs), ("passages", alone))
            if names
        ]
    }
    unit = about["tokens_are"]
    parts = [
        f"---\n{yaml.safe_dump(front, sort_keys=False)}---",
        f"# {about['name']}",
        "A set for lbr-st: `lbr train-ibgl`, `lbr train-grcl` and `lbr evaluate` read this folder as `--data`.",
        _table(
            ["file", "for", "records", unit],
            [
                [f"{name}.jsonl", FILES[name], f"{of['records']:,}", f"{of['tokens']:,}"]
                for name, of in about["files"].items()
            ],
        ),
        f"![lengths]({PICTURE})",
        f"- Regime: **{about['regime']}**. {REGIMES[about['regime']].capitalize()}. Stage 1 does "
        f"`--objective {about['objective']}` unless told otherwise.\n"
        f"- {about['in_both_stages']:,} records are both in gl and in cl.\n"
        f"- Licence: {about['licence'] or 'not stated'}.\n"
        f"- Public tests on the same source: {', '.join(about['mteb']) or 'none known'}"
        + (" (mteb tasks; a model trained on this set names them)." if about["mteb"] else "."),
        "## Isolation",
        _isolation(about),
        "## Left out",
        _left_out(about["dropped"]),
        "## Made by",
        f"```\n{about['command']}\n```",
    ]
    return "\n\n".join(parts) + "\n"


def _isolation(about: Mapping[str, Any]) -> str:
    fields, least = about["isolated"], about["near_duplicates"]
    near = f"near-duplicates share at least {least} of their shingles (three words or marks)"
    rows = [
        [f"{PLURALS[field]} {what}", *(str(counts[field][kind]) for kind in KINDS)]
        for what, counts in (
            ("on two sides, taken out of training or of dev", about["overlaps_taken_out"]),
            ("on two sides in these files", about["overlaps_left"]),
        )
        for field in (*fields, *(("negative",) if "document" in fields and about["pairs_with_hard_negatives"] else ()))
    ]
    if not least:
        rows = [[*row[:-1], "not compared"] for row in rows]
    compared = "by query and document" if len(fields) == 2 else f"by {fields[0]} alone"
    return (
        f"Training records (gl, cl; where there are no pairs, passages) were compared with dev and test, and dev with "
        f"test, {compared}; {near if least else 'near-duplicates were not looked for'}.\n\n"
        + _table(["", *KINDS], rows)
    )


def _left_out(dropped: Mapping[str, int]) -> str:
    if not dropped:
        return "Nothing."
    rows = [[reason, f"{number:,}"] for reason, number in dropped.items()]
    return _table(["reason", "records"], rows) + "\n\nSome of each are in dropped.jsonl."


def _table(head: list[str], rows: list[list[str]]) -> str:
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    lines = [" | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in [head, *rows]]
    lines.insert(1, " | ".join("-" * width for width in widths))
    return "\n".join(f"| {line} |" for line in lines)
