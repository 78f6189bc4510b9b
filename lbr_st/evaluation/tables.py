"""Tables of scores in Markdown. mteb's `to_dataframe` has the main score alone, and is no Markdown without tabulate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[str] = ()) -> str:
    """Lay rows out as a Markdown table that can be read as it is.

    Args:
        header: Names of the columns.
        rows: Texts of the cells.
        numbers: Names of the columns that are set to the right.
    """
    widths = [max(3, *map(len, column)) for column in zip(header, *rows, strict=True)]
    right = [name in numbers for name in header]

    def line(cells: Sequence[str]) -> str:
        set_ = (f"{cell:>{w}}" if r else f"{cell:<{w}}" for cell, w, r in zip(cells, widths, right, strict=True))
        return f"| {' | '.join(set_)} |"

    ruler = ["-" * (w - 1) + ":" if r else "-" * w for w, r in zip(widths, right, strict=True)]
    return "\n".join(map(line, [header, ruler, *rows]))


def score_table(scores: Mapping[str, Mapping[str, float]]) -> str:
    """Lay out what `lbr_st.evaluate` returned, by the names of the models."""
    rows = [(name, f"{each['recall_at_10']:.3f}", f"{each['ndcg_at_10']:.3f}") for name, each in scores.items()]
    return markdown_table(["model", "recall@10", "nDCG@10"], rows, numbers=["recall@10", "nDCG@10"])
