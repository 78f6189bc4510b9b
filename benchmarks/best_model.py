"""The best model of a domain that the evidence points to, made by one command.

    python benchmarks/best_model.py --data DIR_WITH_MEDICAL_AND_CHEMISTRY --bf16 --domains medical

Stage 1, and the learning rate of stage 2, are those of `explore.py` that were best on dev with 1,000 pairs, of all with
a bottleneck token; stage 2 has 5,000 pairs; seed 0. Minutes on one core, estimated before it ran: backbone 20 and stage
1 3, if they are not there, stage 2 with scores 4.
"""

from __future__ import annotations

from typing import Any

import arms
import explore
import results
import thesis
from arms import Lab
from domains import Domain

from lbr_st.cli.main import run_command

PROGRAM = "best_model"


def best_of(domain: Domain, lab: Lab, settings: dict[str, Any]) -> tuple[str, float]:
    """Return the variation of stage 1 and the learning rate of stage 2 that are best on dev."""
    scores: dict[tuple[str, float], float] = {}
    for name, variant in explore.VARIANTS.items():
        if variant.arm.has_bottleneck:
            found = explore.measured(name, thesis.MAIN_PAIRS, domain, lab, settings)["dev_ndcg_at_10"]
            scores |= {(name, rate): found[explore.key_of(rate)] for rate in lab.scale.learning_rates}
    return max(scores, key=lambda each: scores[each])


def run_domain(domain: Domain, lab: Lab, settings: dict[str, Any]) -> dict[str, Any]:
    """Train the best model of a domain, score it, and say where it is."""
    name, rate = best_of(domain, lab, settings)
    model, setting = explore.stage1_of(name, domain, 0, lab), (rate, explore.TEMPERATURE)
    trained = lab.stage2(domain, model, PROGRAM, thesis.MANY_PAIRS, setting, 0)
    print(f"{domain.name}: {trained}")
    found = arms.score(arms.open_to_score(trained), domain)
    return {**found, "stage1": name, "setting": setting}


def main(argv: list[str] | None = None) -> None:
    """Make the models that were asked for, and write their scores."""
    asked, lab, settings = arms.begin(argv, __doc__, thesis.DOMAINS)
    figures: dict[str, float] = {}
    files = []
    for name in asked.domains:
        found = {**run_domain(lab.domain(name, asked.data), lab, settings), "settings": settings}
        results.write_arm(PROGRAM, name, 0, found)
        figures |= {f"{name}_{metric}": round(value, 4) for metric, value in found["scores"].items()}
        files.append(results.read_arm(PROGRAM, name, 0))
    arms.write_summary(PROGRAM, asked, figures, files)


if __name__ == "__main__":
    run_command(main)
