"""The README says what was measured."""

import json

from helpers import ROOT


def test_readme_says_what_was_measured():
    """Its table is of the figures of SmolLM2."""
    file = ROOT / "benchmarks" / "results" / "foundation_smollm2" / "summary.json"
    figures = json.loads(file.read_text(encoding="utf-8"))["figures"]

    def of_arm(end):
        names = ("recall_at_10_test", "ndcg_at_10_test", "recall_at_10_test_fused")
        keys = [name.replace("_test", f"_test{end}") for name in names]
        return [f"{figures[key]:.3f}" if key in figures else "" for key in keys]

    section = (ROOT / "README.md").read_text(encoding="utf-8").split("## Does it work?")[1].split("\n## ")[0]
    lines = [line.strip("|") for line in section.splitlines() if line.startswith("| ")]
    rows = [[cell.strip().strip("*") for cell in line.split("|")] for line in lines[2:]]
    assert {name: cells for name, *cells in rows} == {
        "BM25": of_arm("_bm25"),
        "the backbone, the mean of its states": of_arm("_backbone"),
        "stage 2 alone": of_arm("_no_stage1"),
        "stage 1, then stage 2": of_arm(""),
    }
