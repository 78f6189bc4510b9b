"""Table 6 of the paper (arXiv 2601.11124): SFT-style or PT-style stage 1, what they are worth and what they cost.

    python benchmarks/table6.py --data DIR_WITH_MEDICAL_AND_CHEMISTRY --bf16

Protocol, fixed before the test set was touched: that of `thesis.py`, corpus-taught, 1,000 pairs, and

- Quality: recall@10 in the full corpus after stage 2, means over seeds 0, 1 and 2, from `thesis.py`, at equal tokens.
- Cost, in medicine: tokens of X, Z and Y that a second of stage 1 reads, median of three repeats of 20 steps,
  interleaved, the first 10 steps of each not counted; minutes for the tokens of the thesis test by that; examples read
  in these minutes. Nothing else may run meanwhile; how many threads there were is in the files.
- Minutes on one core, estimated before it ran: 0.5 for each of 7 arms, three repeats: 11. (Before it ran, cut from 30
  steps, and by the cost in chemistry.)
"""

from __future__ import annotations

import dataclasses
import itertools
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

from lbr_st.cli.main import run_command

PROGRAM = "table6"
STYLES = ("pt", "gl", "ibgl-sft", "ibgl-reconstruct", "ibgl-prefix-suffix", "ibgl-mixture", "ibgl-read-out")
REPEATS, STEPS, WARMUP = 3, 20, 10
OF_COST = "medical"


def speed(style: str, domain: Domain, lab: Lab) -> dict[str, Any]:
    """Return the tokens that a second of stage 1 reads."""
    stage = arms.stage1_of(style)
    steps = lab.stage1_steps(domain, domains.REGIMES[0], stage)
    short = dataclasses.replace(stage, more={**stage.more, "max_steps": STEPS, "logging_steps": WARMUP})
    model = Path(lab.stage1(domain, domains.REGIMES[0], f"speed-{style}", 0, short))
    log = json.loads((model / "training_log.json").read_text(encoding="utf-8"))
    shutil.rmtree(model)
    rates = [entry["tokens_per_second"] for entry in log if "tokens_per_second" in entry]
    examples = steps * lab.scale.stage1["per_device_train_batch_size"]
    threads = torch.get_num_threads()
    return {"tokens_per_second": statistics.mean(rates[1:]), "examples": examples, "threads": threads}


def cost(domain: Domain, lab: Lab, settings: dict[str, Any]) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Return what each style costs, and the results of which that was computed."""
    rates: dict[str, list[float]] = {style: [] for style in STYLES}
    figures: dict[str, float] = {}
    files = []
    for repeat, style in itertools.product(range(REPEATS), STYLES):
        name = f"{domain.name}-{style}"
        found = arms.measured(PROGRAM, name, repeat, settings, partial(speed, style, domain, lab))
        rates[style].append(found["tokens_per_second"])
        figures[f"{label_of(style)}_examples"] = found["examples"]
        files.append(found)
    for style, of_style in rates.items():
        key, median = label_of(style), statistics.median(of_style)
        figures |= {
            f"{key}_tokens_per_second": median,
            f"{key}_tokens_per_second_min": min(of_style),
            f"{key}_tokens_per_second_max": max(of_style),
            f"{key}_minutes": lab.scale.stage1_tokens / median / 60,
        }
    return figures, files


def label_of(style: str) -> str:
    """Return what a style is called in the names of figures."""
    return style.replace("-", "_")


def main(argv: list[str] | None = None) -> None:
    """Measure what is missing, and write the summary if it was asked for all domains."""
    asked, lab, settings = arms.begin(argv, __doc__, thesis.DOMAINS)
    figures: dict[str, float] = {}
    files = []
    for name in asked.domains:
        domain = lab.domain(name, asked.data)
        for style in STYLES:
            found = thesis.all_measured(style, thesis.MAIN_PAIRS, domain, lab, settings)
            key = f"{name}_{label_of(style)}_recall_at_10_full"
            figures[key] = float(np.mean([f["scores"]["recall_at_10_full"] for f in found]))
            files += found
        if name == OF_COST:
            of_cost, repeats = cost(domain, lab, settings)
            figures |= of_cost
            files += repeats
    figures = {name: round(value, 4) for name, value in figures.items()}
    arms.write_summary(PROGRAM, asked, figures, files)


if __name__ == "__main__":
    run_command(main)
