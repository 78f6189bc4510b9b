"""The data card of a prepared set: what is in it, what was left out and why; as Markdown, with a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter
from numpy.typing import NDArray

from lbr_st.data.overlap import KINDS, PLURALS
from lbr_st.data.prepared_set import FILES, REGIMES, SET_FILE
from lbr_st.data.same_text import MEANINGS
from lbr_st.files import write_json, write_text

CARD, PICTURE = "README.md", "lengths.png"
BINS = 40

Lengths = Mapping[str, Mapping[str, NDArray[np.int64]]]


def write(folder: Path, about: Mapping[str, Any], tokens: Lengths) -> None:
    """Write ``lbr_set.json``, the card and its picture.

    Args:
        folder: Folder of the set.
        about: Contents of ``lbr_set.json``.
        tokens: Numbers of tokens of each text, by file and field.
    """
    write_json(folder / SET_FILE, about)
    plot(folder / PICTURE, tokens, about["tokens_are"])
    write_text(folder / CARD, text(about))


def summary(folder: Path) -> str:
    """Return the card of a set as a command prints it: without its metadata, its picture and how it was made."""
    card = (folder / CARD).read_text(encoding="utf-8").partition("---\n\n")[2]
    return card.partition("## Made by")[0].replace(f"![lengths]({PICTURE})\n\n", "")


def plot(file: Path, tokens: Lengths, unit: str) -> None:
    """Draw histograms of the lengths of queries and documents, one curve a file.

    Args:
        file: PNG to write.
        tokens: Numbers of tokens of each text, by file and field.
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
        about: Contents of ``lbr_set.json``.
    """
    groups = (("pairs", ("learn", "align", "dev", "test")), ("passages", ("passages", "corpus")))
    configs = {config: [name for name in names if name in about["files"]] for config, names in groups}
    front = {
        "configs": [
            {"config_name": config, "data_files": [{"split": name, "path": f"{name}.jsonl"} for name in names]}
            for config, names in configs.items()
            if names
        ]
    }
    parts = [
        f"---\n{yaml.safe_dump(front, sort_keys=False)}---",
        f"# {about['name']}",
        "A set for lbr-st: `lbr learn`, `lbr align` and `lbr evaluate` read this folder as `--data`.",
        table(
            ["file", "for", "records", about["tokens_are"]],
            [
                [f"{name}.jsonl", FILES[name], f"{of['records']:,}", f"{of['tokens']:,}"]
                for name, of in about["files"].items()
            ],
        ),
        f"![lengths]({PICTURE})",
        "\n".join(f"- {fact}" for fact in _facts(about)),
        "## Isolation",
        _isolation(about),
        "## Left out",
        _left_out(about["dropped"], about["dropped_examples"]),
        "## Made by",
        f"```\n{about['command']}\n```",
    ]
    return "\n\n".join(parts) + "\n"


def _facts(about: Mapping[str, Any]) -> list[str]:
    regime, files = about["regime"], about["files"]
    facts = [
        f"Regime: **{regime}**. {REGIMES[regime].capitalize()}. Stage 1 does `--objective {about['objective']}` unless "
        "told otherwise."
    ]
    facts += [f"There is no {name}: nothing is held out for it." for name in ("dev", "test") if name not in files]
    if {"learn", "align"} <= set(files):
        facts.append(f"{about['in_both_stages']:,} records are both in learn and in align.")
    if about["searched_only"]:
        facts.append(f"{about['searched_only']:,} documents have no query, and are searched beside those of the pairs.")
    if about.get("mined"):
        facts.append(
            f"Hard negatives: {about['mined']['negatives']} for each pair of align, {_mined_by(about['mined'])}."
        )
    facts.append(f"License: {about['license'] or 'not stated'}.")
    known = f"{', '.join(about['mteb'])} (mteb tasks; a model trained on this set names them)"
    facts.append(f"Public tests on the same source: {known if about['mteb'] else 'none known'}.")
    return facts


def _mined_by(mined: Mapping[str, Any]) -> str:
    corpus = f", with documents of {mined['corpus']}" if mined["corpus"] else ""
    return f"found by {mined['model']}{corpus}"


def _isolation(about: Mapping[str, Any]) -> str:
    if not {"dev", "test"} & set(about["files"]):
        return "Nothing is held out, so nothing was compared."
    has_pairs = any(name in about["files"] for name in ("learn", "align", "test"))
    fields, least = about["isolated"] if has_pairs else ["document"], about["near_duplicates"]
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
        f"Training records (learn, align; where there are no pairs, passages) were compared with dev and test, and dev "
        f"with test, {compared}. Normalised are texts that are one by `--same-text {about['same_text']}`: "
        f"{MEANINGS[about['same_text']]}; {near if least else 'near-duplicates were not looked for'}.\n\n"
        + table(["", *KINDS], rows)
    )


def _left_out(dropped: Mapping[str, int], examples: Mapping[str, Sequence[str]]) -> str:
    if not dropped:
        return "Nothing."
    rows = [[reason, f"{number:,}"] for reason, number in dropped.items()]
    shown = [f"- {reason}: `{text.replace('`', ' ')}`" for reason, texts in examples.items() for text in texts]
    parts = [table(["reason", "records"], rows), *(["\n".join(shown)] if shown else [])]
    return "\n\n".join([*parts, "Some of each are in dropped.jsonl."])


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table whose columns are even in plain text too."""
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    lines = [" | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in [head, *rows]]
    lines.insert(1, " | ".join("-" * width for width in widths))
    return "\n".join(f"| {line} |" for line in lines)
