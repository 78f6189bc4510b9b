"""The best embedding model of a domain that the evidence at 135 M points to, made and scored by one command.

    python benchmarks/best_smollm2.py --data DIR_WITH_MEDICAL_AND_CHEMISTRY --domains medical

It is the default of `smollm2_thesis.py` (IB-GL with the read-out loss, corpus-taught, seed 0) after stage 2 on 1,000
pairs, by the settings there: nothing is chosen by the test. The model is left in the work folder, as `lbr learn` and
`lbr align` save any; its scores are those of the same arm there, to the rounding of another machine. Minutes on one
core, estimated before it ran: stage 1 20, stage 2 10, scores 8.
"""

from __future__ import annotations

from collections.abc import Sequence

import arms
import results
from smollm2_thesis import DEFAULT, DOMAINS, MANY, TUNED_ON, Bench, Cell

from lbr_st.cli.main import run_command
from lbr_st.evaluation.fusion import AllScores
from lbr_st.evaluation.own_data import open_for_evaluation
from lbr_st.evaluation.ranking import BM25

PROGRAM = "best_smollm2"


def main(argv: Sequence[str] | None = None) -> None:
    """Make the models that were asked for, and write their scores."""
    asked, lab, settings = arms.begin(argv, __doc__, DOMAINS, scale="smollm2")
    tuned_on, lexical = lab.domain(TUNED_ON, asked.data), AllScores(open_for_evaluation(BM25))
    figures: dict[str, float] = {}
    files = []
    for name in asked.domains:
        bench = Bench(lab, lab.domain(name, asked.data), tuned_on, settings, lexical)
        model, setting = bench.model(Cell(name, DEFAULT, MANY))
        print(f"{name}: {model}")
        results.write_arm(PROGRAM, name, 0, {**bench.scored(model), "setting": setting, "settings": settings})
        files.append(results.read_arm(PROGRAM, name, 0))
        figures |= {f"{name}_{metric}": round(value, 4) for metric, value in files[-1]["scores"].items()}
    arms.write_summary(PROGRAM, asked, figures, files)


if __name__ == "__main__":
    run_command(main)
