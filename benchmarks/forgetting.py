"""What does learning a domain cost outside of it? SmolLM2-135M, taught medicine or chemistry, asked for code.

    python benchmarks/forgetting.py --data DIR_WITH_MEDICAL_AND_CHEMISTRY

Protocol, fixed before the test set of code was touched with these models:

- Models of `smollm2_thesis.py`, seed 0, by its settings: stage 2 alone (`cl`), plain fine-tuning (`gl`), IB-GL with the
  read-out loss (`ibgl`), each after stage 2 on 200 pairs of medicine or of chemistry, corpus-taught.
- Beside them: the backbone as it is, the mean of its last states; and the backbone after stage 2 on 200 pairs of code
  (`general`), of other packages than are asked for, at the rate that is best for `cl` in medicine.
- Asked: 500 docstrings of the test set of code (`domains.py`) for their functions, in these and 500 more of it. 64
  tokens a text. recall@10 and nDCG@10.
- Minutes on one core, estimated before it ran: a model 1.3 to score, stage 2 of `general` 2.5; what
  `smollm2_thesis.py` has trained and not kept 3 each, 30 in all.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from functools import partial
from typing import Any

import arms
from domains import Domain
from smollm2_thesis import DEFAULT, DOMAINS, FEW, TUNED_ON, Bench, Cell

from lbr_st.cli.main import run_command
from lbr_st.data.records import read_records
from lbr_st.evaluation.fusion import AllScores
from lbr_st.evaluation.own_data import BM25, open_for_evaluation
from lbr_st.training.held_out import NDCG, RECALL, HeldOutEvaluator

PROGRAM = "forgetting"
ARMS = ("cl", "gl", DEFAULT)
GENERAL = "general"
QUERIES, DISTRACTORS = 500, 500
BATCH_SIZE = 64
METRICS = ("recall_at_10", "ndcg_at_10")


def measure(name: str, cell: Cell, bench: Bench, code: Domain) -> dict[str, Any]:
    """Score a model on code; one that was made for it alone is not kept."""
    if name == GENERAL:
        lab = bench.lab
        model: Any = lab.stage2(code, lab.backbone(code), f"{PROGRAM}-{name}", FEW, bench.setting(cell), 0)
    else:
        model, _ = bench.model(cell)
    records = read_records(code.test)
    asked, more = records[:QUERIES], records[QUERIES : QUERIES + DISTRACTORS]
    found = HeldOutEvaluator(asked, more, batch_size=BATCH_SIZE)(bench.open(model).model)
    if cell.pairs:
        shutil.rmtree(model)
    return {"recall_at_10": round(found[RECALL], 4), "ndcg_at_10": round(found[NDCG], 4)}


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what is missing, and write the summary."""
    asked, lab, settings = arms.begin(argv, __doc__, DOMAINS, scale="smollm2")
    code, lexical = lab.domain("code", None), AllScores(open_for_evaluation(BM25))
    tuned_on = lab.domain(TUNED_ON, asked.data)
    benches = {name: Bench(lab, lab.domain(name, asked.data), tuned_on, settings, lexical) for name in asked.domains}
    first = asked.domains[0]
    cells = {"backbone": Cell(first, "backbone"), GENERAL: Cell(first, "cl", FEW)}
    cells |= {f"{name}_{arm}": Cell(name, arm, FEW) for name in asked.domains for arm in ARMS}
    found = {
        name: arms.measured(PROGRAM, name, 0, settings, partial(measure, name, cell, benches[cell.domain], code))
        for name, cell in cells.items()
    }
    figures = {f"{name}_{metric}": each[metric] for name, each in found.items() for metric in METRICS}
    arms.write_summary(PROGRAM, asked, figures, list(found.values()))


if __name__ == "__main__":
    run_command(main)
