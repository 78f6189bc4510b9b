"""The README says what was measured."""

import json

from helpers import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")


def figures_of(program):
    file = ROOT / "benchmarks" / "results" / program / "summary.json"
    return json.loads(file.read_text(encoding="utf-8"))["figures"]


def rows_of(text):
    """Rows of a table, without its header."""
    lines = [line.strip("|") for line in text.splitlines() if line.startswith("| ")]
    rows = [[cell.strip().strip("*") for cell in line.split("|")] for line in lines[2:]]
    return {name: cells for name, *cells in rows}


def test_what_smollm2_found():
    figures = figures_of("foundation_smollm2")

    def of_arm(end):
        names = ("recall_at_10_test", "ndcg_at_10_test", "recall_at_10_test_fused")
        keys = [name.replace("_test", f"_test{end}") for name in names]
        return [f"{figures[key]:.3f}" if key in figures else "" for key in keys]

    assert rows_of(README.split("## Does it work?")[1].split("\n## ")[0]) == {
        "BM25": of_arm("_bm25"),
        "the backbone, the mean of its states": of_arm("_backbone"),
        "stage 2 alone": of_arm("_no_stage1"),
        "stage 1, then stage 2": of_arm(""),
    }


def test_what_it_takes():
    """Memory and minutes by backbone, stage and what is trained; where nothing was measured, it did not fit."""
    figures = figures_of("what_it_takes")
    arms = [f"{stage}_{trained}" for stage in ("learn", "align") for trained in ("full", "lora")]

    def cell(shape, arm):
        key = f"cpu_{shape}_{arm}"
        if f"gib_{key}" not in figures:
            return "over 24 GiB"
        return f"{figures[f'gib_{key}']:.1f} GiB, {figures[f'minutes_{key}']:.0f} min"

    shapes = {"135 M": "135m", "0.5 B": "0_5b", "1.5 B": "1_5b"}
    table = rows_of(README.split("what_it_takes.py)):")[1].split("\n## ")[0])
    assert table == {name: [cell(shape, arm) for arm in arms] for name, shape in shapes.items()}
