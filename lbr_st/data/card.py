"""The data card of a prepared set: what is in it, what was left out and why; as Markdown, with a picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter
from numpy.typing import NDArray

from lbr_st.data.overlap import KINDS, PLURALS
from lbr_st.data.prepared_set import FILES, REGIMES

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
    names = [name for name in ("query", "document") if any(name in lengths for lengths in tokens.values())]
    figure = Figure(figsize=(5 * len(names), 4.5), layout="constrained")
    colours = {of: f"C{number}" for number, of in enumerate(FILES)}
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        curves: dict[bytes, list[str]] = {}
        for of, lengths in tokens.items():
            if name in lengths:  # files with the same records are one curve
                curves.setdefault(np.sort(lengths[name]).tobytes(), []).append(of)
        every = np.concatenate([tokens[each[0]][name] for each in curves.values()])
        bins = np.unique(np.geomspace(max(1, every.min()), every.max() + 1, BINS).round())
        for each in curves.values():
            lengths_of = tokens[each[0]][name]
            weights = np.full(len(lengths_of), 1 / len(lengths_of))
            label = f"{' = '.join(each)} ({len(lengths_of):,})"
            axes.hist(lengths_of, bins=bins, weights=weights, histtype="step", label=label, color=colours[each[0]])
        axes.set(xscale="log", xlabel=f"{unit} of a {name}", ylabel="share of the records")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=2)
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
        + _facts(about)
        + f"- Licence: {about['licence'] or 'not stated'}.\n"
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


# Files of pairs; a set without them has documents alone, and is compared by these.
PAIRS = {"gl", "cl", "test"}


def _facts(about: Mapping[str, Any]) -> str:
    facts = [
        f"There is no {name}: nothing is held out for it." for name in ("dev", "test") if name not in about["files"]
    ]
    if "cl" in about["files"]:
        facts.append(f"{about['in_both_stages']:,} records are both in gl and in cl.")
    if about["searched_only"]:
        facts.append(f"{about['searched_only']:,} documents have no query, and are searched beside those of the pairs.")
    return "".join(f"- {fact}\n" for fact in facts)


def _isolation(about: Mapping[str, Any]) -> str:
    if not {"dev", "test"} & set(about["files"]):
        return "Nothing is held out, so nothing was compared."
    fields, least = about["isolated"] if PAIRS & set(about["files"]) else ["document"], about["near_duplicates"]
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
