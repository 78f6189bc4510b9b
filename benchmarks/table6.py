"""Table 6 of the paper (arXiv 2601.11124): SFT-style or PT-style stage 1, what they are worth and what they cost.

    python benchmarks/table6.py --data DIR_WITH_MEDICAL_AND_CHEMISTRY --bf16

Protocol, fixed before the test set was touched: that of `thesis.py`, corpus-taught, 1,000 pairs, and

- Quality: recall@10 in the full corpus after stage 2, means over seeds 0, 1 and 2, from `thesis.py`, at equal tokens.
- Cost: tokens of X, Z and Y that a second of stage 1 reads, median of three repeats of 20 steps, interleaved, the first
  10 steps of each not counted; minutes for the tokens of the thesis test by that; documents read in these minutes.
  Nothing else may run meanwhile; how many threads there were is in the files.
- Minutes on one core, estimated before it ran: 0.5 for each of 7 arms, three repeats, two domains: 21. (Before it ran,
  cut from 30 steps.)
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import statistics
from functools import partial
from pathlib import Path
from typing import Any

import arms
import domains
import numpy as np
import thesis
import torch
from arms import Lab
from domains import Domain

from lbr_st.training import run_command

PROGRAM = "table6"
STYLES = ("pt", "gl", "ibgl-sft", "ibgl-reconstruct", "ibgl-prefix-suffix", "ibgl-mixture", "ibgl-read-out")
REPEATS, STEPS, WARMUP = 3, 20, 10


def speed(style: str, domain: Domain, lab: Lab) -> dict[str, Any]:
    """Return the tokens that a second of stage 1 reads."""
    stage = arms.STAGE1[style]
    assert stage is not None
    steps = lab.stage1_steps(domain, domains.REGIMES[0], stage)
    short = dataclasses.replace(lab, flags=(*lab.flags, "--max-steps", str(STEPS), "--logging-steps", str(WARMUP)))
    model = Path(short.stage1(domain, domains.REGIMES[0], f"speed-{style}", 0, stage))
    log = json.loads((model / "training_log.json").read_text(encoding="utf-8"))
    shutil.rmtree(model)
    rates = [entry["tokens_per_second"] for entry in log if "tokens_per_second" in entry]
    examples = steps * int(arms.value_of(lab.scale.stage1, "--per-device-train-batch-size"))
    threads = torch.get_num_threads()
    return {"tokens_per_second": statistics.mean(rates[1:]), "documents": examples, "threads": threads}


def main(argv: list[str] | None = None) -> None:
    """Measure what is missing, and write the summary if it was asked for all domains."""
    args, lab, settings = arms.begin(argv, __doc__, thesis.DOMAINS)
    figures: dict[str, float] = {}
    files = []
    of = {name: lab.domain(name, args.data) for name in args.domains}
    measured = {
        (name, style, repeat): arms.measured(
            PROGRAM, f"{name}-{style}", repeat, settings, partial(speed, style, of[name], lab)
        )
        for repeat in range(REPEATS)
        for name in args.domains
        for style in STYLES
    }
    for name in args.domains:
        for style in STYLES:
            arm = thesis.Arm(name, domains.REGIMES[0], style, thesis.MAIN_PAIRS)
            found = [thesis.measured(arm, seed, of[name], lab, settings) for seed in thesis.SEEDS]
            key = f"{name}_{style.replace('-', '_')}"
            figures[f"{key}_recall_at_10_full"] = float(np.mean([f["scores"]["recall_at_10_full"] for f in found]))
            repeats = [measured[name, style, repeat] for repeat in range(REPEATS)]
            rates = [result["tokens_per_second"] for result in repeats]
            figures |= {
                f"{key}_tokens_per_second": statistics.median(rates),
                f"{key}_tokens_per_second_min": min(rates),
                f"{key}_tokens_per_second_max": max(rates),
                f"{key}_minutes": lab.scale.stage1_tokens / statistics.median(rates) / 60,
                f"{key}_documents": repeats[0]["documents"],
            }
            files += [*found, *repeats]
    figures = {name: round(value, 4) for name, value in figures.items()}
    arms.write_summary(PROGRAM, args, figures, files, argv)


if __name__ == "__main__":
    run_command(main)
