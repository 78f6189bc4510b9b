"""The card of a folder of queries: the share of each kind, what was lost and why, and examples; as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from lbr_st.adaptation.kinds import KINDS
from lbr_st.data.card import table
from lbr_st.data.table import content_hash
from lbr_st.errors import shortened
from lbr_st.records import Record

CARD = "README.md"
EXAMPLES = 20
SHOWN = 160  # characters of a passage


def text(about: Mapping[str, Any], rows: Sequence[Record]) -> str:
    """Return the card.

    Args:
        about: Contents of ``lbr_queries.json``.
        rows: The queries.
    """
    front = {"configs": [{"config_name": "queries", "data_files": "queries.jsonl"}]}
    passages = about["passages"]
    queries = f"{len(rows):,} {'query' if len(rows) == 1 else 'queries'}"
    parts = [
        f"---\n{yaml.safe_dump(front, sort_keys=False)}---",
        f"# Queries for {about['name']}",
        f"{queries} for {passages['with_queries']:,} of {passages['read']:,} passages. `lbr align` reads "
        "`queries.jsonl` as `--data`.",
        table(
            ["kind", "what it is", "queries", "share"],
            [[kind, KINDS[kind], f"{n:,}", f"{n / len(rows):.0%}"] for kind, n in about["kinds"].items()],
        ),
        _written(about),
        "## Lost",
        _lost(about["lost"]),
        "## Examples",
        "\n".join(_example(row) for row in examples(rows, about["settings"]["seed"])),
        "## Made by",
        f"```\n{about['command']}\n```",
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def summary(folder: Path) -> str:
    """Return the card as a command prints it: without its metadata, its examples and how it was made."""
    card = (folder / CARD).read_text(encoding="utf-8").partition("---\n\n")[2]
    return card.partition("## Examples")[0].rstrip()


def examples(rows: Sequence[Record], seed: int) -> list[Record]:
    """Return twenty queries, drawn by the seed, the kinds in turn as long as there are some."""
    drawn = sorted(rows, key=lambda row: content_hash(str(seed), row["id"], row["query"]))
    of_kind = {kind: [row for row in drawn if row["kind"] == kind] for kind in KINDS}
    turns = [row for turn in range(EXAMPLES) for found in of_kind.values() for row in found[turn : turn + 1]]
    return turns[:EXAMPLES]


def _written(about: Mapping[str, Any]) -> str:
    by = about["written_by"]
    if not by:
        return "No query was written by a language model."
    name = by["model"] if "model" in by else f"{by['generator_model']} at {by['generator']}"
    what = "the likeliest tokens"
    if about["settings"]["temperature"]:
        what = f"drawn at temperature {about['settings']['temperature']}, seed {about['settings']['seed']}"
    return f"Questions, keywords and claims are by {name}, for {about['passages']['written_about']:,} passages: {what}."


def _lost(lost: Mapping[str, int]) -> str:
    if not lost:
        return "Nothing."
    rows = [[reason, f"{number:,}"] for reason, number in lost.items()]
    return f"{table(['reason', 'number'], rows)}\n\nSome of each are in dropped.jsonl."


def _example(row: Record) -> str:
    query, passage = (shortened(" ".join(row[name].split()), SHOWN).replace("`", " ") for name in ("query", "document"))
    return f"- {row['kind']}: **{query}** `{passage}`"
