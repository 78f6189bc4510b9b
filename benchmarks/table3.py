"""Table 3 of the paper (arXiv 2601.11124): what each stage adds.

    python benchmarks/table3.py --data DIR_WITH_MEDICAL_AND_CHEMISTRY --bf16

Protocol, fixed before the test set was touched: that of `thesis.py`, corpus-taught, 1,000 pairs, seeds 0, 1 and 2.

- The eight of `table1.py`: the backbone, after plain fine-tuning, after IB-GL with the paper's loss and with the
  read-out loss, and each of them after stage 2. Embeddings without stage 2: the last token, of IB-GL the bottleneck
  token; of these the three seeds are of IB-GL with the read-out loss, of the others seed 0. (Cut for a slower machine
  before these seeds ran: next to nothing was found on dev by the paper's loss, in table 1 by plain fine-tuning.)
- Figures: means over the seeds with the smallest and the largest beside them, and what stage 1 adds to stage 2, with
  intervals of the paired bootstrap over seeds and queries.
- Minutes on one core, estimated before it ran: what `thesis.py` and `table1.py` have not measured, stage 1 of two
  seeds more without stage 2, 10 for each: 40 in both domains.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import arms
import results
import table1
import thesis
from arms import Lab
from domains import Domain

from lbr_st.cli.main import run_command

PROGRAM = "table3"
COMPARISONS = (
    ("ibgl_cl", "cl"),
    ("ibgl_cl", "gl_cl"),
    ("gl_cl", "cl"),
    ("ibgl_paper_cl", "cl"),
    ("ibgl_paper_cl", "gl_cl"),
    ("ibgl_cl", "ibgl_paper_cl"),
)


def seeds_of(name: str) -> tuple[int, ...]:
    """Return the seeds of an arm."""
    return thesis.SEEDS if name in table1.AFTER_STAGE2 or name == "ibgl" else thesis.SEEDS[:1]


def measured(name: str, seed: int, domain: Domain, lab: Lab, settings: dict[str, Any]) -> dict[str, Any]:
    """Return the result of an arm, which is measured if it was not."""
    if name in table1.AFTER_STAGE2:
        arm = thesis.Arm(domain.name, table1.REGIME, table1.AFTER_STAGE2[name], table1.PAIRS)
        return thesis.measured(arm, seed, domain, lab, settings)
    if seed == 0:
        return table1.measured(name, domain, lab, settings)
    run = partial(table1.without_stage2, name, domain, lab, seed)
    return arms.measured(PROGRAM, f"{domain.name}-{name}", seed, settings, run)


def main(argv: list[str] | None = None) -> None:
    """Measure what is missing, and write the summary if it was asked for all domains."""
    asked, lab, settings = arms.begin(argv, __doc__, thesis.DOMAINS)
    figures: dict[str, float] = {}
    files = []
    for each in asked.domains:
        domain = lab.domain(each, asked.data)
        hits = {}
        for name in (*table1.WITHOUT_STAGE2, *table1.AFTER_STAGE2):
            found = [measured(name, seed, domain, lab, settings) for seed in seeds_of(name)]
            for metric in found[0]["scores"]:
                values = [result["scores"][metric] for result in found]
                figures |= results.spread(f"{each}_{name}_{metric}", values)
            hits[name] = arms.hits_of(found)
            files += found
        for one, other in COMPARISONS:
            figures |= results.difference(f"{each}_{one}_less_{other}_recall_at_10_full", hits[one], hits[other])
    figures = {name: round(value, 4) for name, value in figures.items()}
    arms.write_summary(PROGRAM, asked, figures, files)


if __name__ == "__main__":
    run_command(main)
