"""The best model of a domain that the evidence points to, made by one command.

    python benchmarks/best_model.py --data DIR_WITH_MEDICAL_AND_CHEMISTRY --bf16 --domains medical

Stage 1 on the corpus-taught set of `thesis.py`, half SFT-style, half reconstruction, with the read-out loss, and four
times the tokens of the thesis test; stage 2 on 5,000 pairs with the learning rate and temperature that the grid of
`thesis.py` found on dev; seed 0. Minutes on one core, estimated before it ran: backbone 20 if it is not there, stage 1
11, stage 2 with scores 4.
"""

from __future__ import annotations

import dataclasses
import sys
from typing import Any

import arms
import domains
import results
import table1
import thesis
from arms import Lab
from domains import Domain

from lbr_st.training import run_command

PROGRAM = "best_model"
BUDGETS = 4


def run_domain(domain: Domain, lab: Lab, settings: dict[str, Any]) -> dict[str, Any]:
    """Train the best model of a domain, score it, and say where it is."""
    setting = thesis.setting_of(domain, table1.IBGL, lab, settings)
    scale = dataclasses.replace(lab.scale, stage1_tokens=BUDGETS * lab.scale.stage1_tokens)
    longer = dataclasses.replace(lab, scale=scale)
    model = longer.stage1(domain, domains.REGIMES[0], PROGRAM, 0, arms.STAGE1[table1.IBGL])
    trained = lab.stage2(domain, model, PROGRAM, thesis.MANY_PAIRS, setting, 0)
    print(f"{domain.name}: {trained}")
    return {**arms.score(arms.open_to_score(trained), domain, lab.work / domain.name), "setting": setting}


def main(argv: list[str] | None = None) -> None:
    """Make the models that were asked for, and write their scores."""
    args, lab, settings = arms.begin(argv, __doc__, thesis.DOMAINS)
    figures: dict[str, float] = {}
    files = []
    for name in args.domains:
        found = {**run_domain(lab.domain(name, args.data), lab, settings), "settings": settings}
        results.write_arm(PROGRAM, name, 0, found)
        figures |= {f"{name}_{metric}": round(value, 4) for metric, value in found["scores"].items()}
        files.append(results.read_arm(PROGRAM, name, 0))
    results.write_summary(PROGRAM, figures, files, argv if argv is not None else sys.argv[1:])


if __name__ == "__main__":
    run_command(main)
