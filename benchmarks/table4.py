"""Table 4 of the paper (arXiv 2601.11124): causal or bidirectional attention in stage 2, after IB-GL.

    python benchmarks/table4.py --data DIR_WITH_MEDICAL_AND_CHEMISTRY --bf16

Protocol, fixed before the test set was touched: that of `thesis.py`, corpus-taught, 1,000 pairs, seed 0, and

- One model of stage 1 (half SFT-style, half reconstruction, with the read-out loss), read causally in stage 2 as it was
  in stage 1, or in both directions. Nothing else differs: the embedding is the bottleneck token, and the bidirectional
  arm has the same grid.
- Minutes on one core, estimated before it ran: the bidirectional arm 6 in each domain; the other is of `thesis.py`.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import arms
import results
import systems
import table1
import thesis
from arms import Lab
from domains import Domain

from lbr_st.cli.main import run_command

PROGRAM = "table4"


def bidirectional(domain: Domain, lab: Lab) -> dict[str, Any]:
    """Score a model of IB-GL after bidirectional stage 2."""
    model = Path(lab.stage1(domain, table1.REGIME, table1.IBGL, 0))
    output = lab.work / domain.name / f"{model.name}-bidirectional"
    return lab.tuned(domain, systems.bidirectional_of_stage1(model, output), f"{output.name}-cl", table1.PAIRS)


def main(argv: list[str] | None = None) -> None:
    """Measure what is missing, and write the summary if it was asked for all domains."""
    asked, lab, settings = arms.begin(argv, __doc__, thesis.DOMAINS)
    figures: dict[str, float] = {}
    files: list[dict[str, Any]] = []
    for name in asked.domains:
        domain = lab.domain(name, asked.data)
        found = {
            "causal": table1.measured("ibgl_cl", domain, lab, settings),
            "bidirectional": arms.measured(
                PROGRAM, f"{name}-bidirectional", 0, settings, partial(bidirectional, domain, lab)
            ),
        }
        for arm, result in found.items():
            figures |= {f"{name}_{arm}_{metric}": value for metric, value in result["scores"].items()}
        one, other = (arms.hits_of([result]) for result in found.values())
        figures |= results.difference(f"{name}_causal_less_bidirectional_recall_at_10_full", one, other)
        files += found.values()
    figures = {name: round(value, 4) for name, value in figures.items()}
    arms.write_summary(PROGRAM, asked, figures, files)


if __name__ == "__main__":
    run_command(main)
