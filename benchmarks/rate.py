"""Is it the learning rate? Two arms of the thesis test again, with twice the learning rate in stage 1.

    python benchmarks/rate.py --data DIR_WITH_MEDICAL_AND_CHEMISTRY --bf16

The thesis test has one learning rate of stage 1 for all arms, 5e-4, tuned for none. On dev, `explore.py` found 1e-3
better for IB-GL with the read-out loss in both domains, and for plain fine-tuning, then known in medicine, too.

Protocol, fixed before any of these models was scored on test: that of `thesis.py`, corpus-taught, and

- Arms: plain fine-tuning, and IB-GL with the read-out loss, the package's default; stage 1 at 1e-3, all else the same.
- Stage 2 on 200 and 1,000 pairs, temperature 0.02, with the learning rate that is the better on dev in `explore.py`
  with 1,000 pairs, for each arm and domain.
- Seeds 0, 1 and 2, of stage 1 and stage 2 both.
- What the default finds more than plain fine-tuning at this rate, than no stage 1 and than BM25, and what each arm
  finds more than at 5e-4, has its interval beside it, a paired bootstrap over seeds and queries.
- Minutes on one core, estimated before it ran: stage 1 2.7, twice for each of 2 arms and 2 domains, as seed 0 is of
  `explore.py`; stage 2 0.5 and 1, scores 0.7 each: 55, on a processor three times as slow 165.
"""

from __future__ import annotations

import itertools
import shutil
from functools import partial
from typing import Any

import arms
import explore
import numpy as np
import results
import thesis
from arms import Lab
from domains import Domain

from lbr_st.cli.main import run_command

PROGRAM = "rate"
# By the names of the thesis test, whose rate is the lower one.
VARIANTS = {"gl": "rate-1e-3-gl", thesis.DEFAULT: "rate-1e-3-read-out"}
SIZES = (thesis.FEW_PAIRS, thesis.MAIN_PAIRS)


def run_arm(stage1: str, pairs: int, seed: int, domain: Domain, lab: Lab, settings: dict[str, Any]) -> dict[str, Any]:
    """Train an arm with one seed and score it."""
    variant = VARIANTS[stage1]
    on_dev = explore.measured(variant, thesis.MAIN_PAIRS, domain, lab, settings)["dev_ndcg_at_10"]
    rate = max(lab.scale.learning_rates, key=lambda rate: on_dev[explore.key_of(rate)])
    setting = (rate, explore.TEMPERATURE)
    model = explore.stage1_of(variant, domain, seed, lab)
    trained = lab.stage2(domain, model, f"{PROGRAM}-{stage1}-{pairs}-seed{seed}", pairs, setting, seed)
    found = arms.score(arms.open_to_score(trained), domain)
    shutil.rmtree(trained)
    return {**found, "setting": setting}


def figures_of(domain: Domain, lab: Lab, settings: dict[str, Any]) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Return the figures of a domain, and the results of which they were computed; what is missing is measured."""
    found: dict[tuple[str, int], list[dict[str, Any]]] = {
        (stage1, pairs): [] for stage1, pairs in itertools.product(VARIANTS, SIZES)
    }
    for seed, (stage1, pairs) in itertools.product(thesis.SEEDS, found):
        run = partial(run_arm, stage1, pairs, seed, domain, lab, settings)
        name = f"{domain.name}-{stage1}-{pairs}"
        found[stage1, pairs].append(arms.measured(PROGRAM, name, seed, settings, run))
    figures: dict[str, float] = {}
    for (stage1, pairs), of_seeds in found.items():
        key = f"{domain.name}_{thesis.label_of(stage1)}"
        for metric in of_seeds[0]["scores"]:
            figures |= results.spread(f"{key}_{metric}_{pairs}", [each["scores"][metric] for each in of_seeds])
        before = arms.hits_of(thesis.all_measured(stage1, pairs, domain, lab, settings))
        figures |= results.difference(
            f"{key}_less_lower_rate_recall_at_10_full_{pairs}", arms.hits_of(of_seeds), before
        )
    for pairs in SIZES:
        others = {
            thesis.label_of("gl"): found["gl", pairs],
            thesis.label_of(thesis.NONE): thesis.all_measured(thesis.NONE, pairs, domain, lab, settings),
        }
        for system in thesis.LEXICAL:
            others[system] = [thesis.measured_lexical(system, domain, lab, settings)]
        ours = arms.hits_of(found[thesis.DEFAULT, pairs])
        for other, of_other in others.items():
            key = f"{domain.name}_{thesis.label_of(thesis.DEFAULT)}_less_{other}_recall_at_10_full_{pairs}"
            figures |= results.difference(key, ours, np.broadcast_to(arms.hits_of(of_other), ours.shape))
    return figures, [each for of_seeds in found.values() for each in of_seeds]


def main(argv: list[str] | None = None) -> None:
    """Measure what is missing, and write the summary if it was asked for all domains."""
    asked, lab, settings = arms.begin(argv, __doc__, thesis.DOMAINS)
    figures: dict[str, float] = {}
    files = []
    for name in asked.domains:
        of_domain, found = figures_of(lab.domain(name, asked.data), lab, settings)
        figures |= of_domain
        files += found
    figures = {name: round(value, 4) for name, value in figures.items()}
    arms.write_summary(PROGRAM, asked, figures, files)


if __name__ == "__main__":
    run_command(main)
