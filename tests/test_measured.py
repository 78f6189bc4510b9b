"""The README says what was measured."""

import json
import re

from helpers import ROOT

DOMAINS, PAIRS = ("medical", "chemistry"), (200, 1000)


def test_readme_says_what_was_measured():
    """Its table, and what it says of the information cut-off, are figures of the thesis test."""
    figures = json.loads((ROOT / "benchmarks" / "results" / "thesis" / "summary.json").read_text())["figures"]

    def of_arm(arm):
        return [f"{figures[f'{domain}_{arm}_recall_at_10_full_{n}']:.3f}" for domain in DOMAINS for n in PAIRS]

    section = (ROOT / "README.md").read_text(encoding="utf-8").split("## Does it work?")[1].split("\n## ")[0]
    lines = [line.strip("| ") for line in section.splitlines() if line.startswith("| ")]
    rows = [[cell.strip().strip("*") for cell in line.split(" | ")] for line in lines[2:]]
    lexical = [figures["medical_bm25_recall_at_10_full"], figures["chemistry_bm25_trigrams_recall_at_10_full"]]
    assert dict((name, cells) for name, *cells in rows) == {
        "stage 2 alone": of_arm("cl"),
        "plain fine-tuning, then stage 2": of_arm("gl_cl"),
        "stage 1, then stage 2": of_arm("ibgl_read_out_cl"),
        "BM25 (chemistry: over trigrams of characters)": [f"{value:.3f}" for value in lexical for _ in PAIRS],
    }
    said = re.search(r"adds nothing here: (.*) without it", section.replace("\n", " "))
    assert re.findall(r"0\.\d+", said[1]) == of_arm("no_cut_off_cl")
