"""Figure 3 of the paper (arXiv 2601.11124): which share of a fixed budget should go to stage 1?

    python benchmarks/figure3.py --data DIR_WITH_MEDICAL_AND_CHEMISTRY --bf16

Protocol, fixed before the test set was touched: that of `thesis.py`, corpus-taught, seed 0, and

- 500,000 tokens in all, of which stage 1 (half SFT-style, half reconstruction, with the read-out loss) reads 0, 25,
  50, 75 and 100%, and stage 2 the rest, queries and documents of 5,000 pairs. At 100% there is no stage 2. (Before it
  ran, cut from 1,000,000 tokens, for a slower machine.)
- Learning rate and temperature of stage 2 are those that the grid of `thesis.py` found for the arm.
- Minutes on one core, estimated before it ran: 6 for each of 5 shares in two domains: 60.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import arms
import domains
import matplotlib.figure
import numpy as np
import results
import table1
import thesis
from arms import Lab
from domains import Domain
from transformers import AutoTokenizer

from lbr_st.cli.main import run_command
from lbr_st.data.records import read_records

PROGRAM = "figure3"
SHARES = (0, 25, 50, 75, 100)  # percent


def stage2_steps(domain: Domain, lab: Lab, tokens: float) -> int:
    """Return how many steps of stage 2 read so many tokens."""
    tokenizer = AutoTokenizer.from_pretrained(str(lab.backbone(domain)))
    texts = [text for record in read_records(domain.pairs) for text in (record["query"], record["document"])]
    room = lab.scale.length - 1
    lengths = [min(len(ids), room) + 1 for ids in tokenizer(texts).input_ids]
    batch = lab.scale.stage2["per_device_train_batch_size"]
    return max(1, round(tokens / (2 * float(np.mean(lengths)) * batch)))


def run_arm(share: int, domain: Domain, lab: Lab, settings: dict[str, Any]) -> dict[str, Any]:
    """Measure one share."""
    total = lab.scale.stage1_tokens // 2
    part = dataclasses.replace(lab, scale=dataclasses.replace(lab.scale, stage1_tokens=total * share // 100))
    stage1 = table1.IBGL if share else thesis.NONE
    name = f"share-{share}" if share else stage1
    model = part.stage1(domain, domains.REGIMES[0], name, 0, arms.STAGE1[stage1])
    if share == 100:
        return arms.score(arms.open_to_score(Path(model)), domain)
    setting = thesis.setting_of(domain, stage1, lab, settings)
    steps = stage2_steps(domain, lab, total * (100 - share) / 100)
    name = f"share-{share}"
    trained = lab.stage2(domain, model, name, thesis.MANY_PAIRS, setting, 0, {"max_steps": steps})
    found = arms.score(arms.open_to_score(trained), domain)
    shutil.rmtree(trained)
    return {**found, "stage2_steps": steps}


def draw(figures: dict[str, float], of: Sequence[str]) -> None:
    """Draw recall@10 over the share of stage 1."""
    figure = matplotlib.figure.Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for name in of:
        values = [figures[f"{name}_share_{share}_recall_at_10_full"] for share in SHARES]
        axes.plot(SHARES, values, marker="o", label=name)
    axes.set_xlabel("share of stage 1 in a fixed budget of tokens, %")
    axes.set_ylabel("recall@10, full corpus")
    axes.set_xticks(SHARES)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(results.RESULTS / PROGRAM / "figure3.png", dpi=120)


def main(argv: list[str] | None = None) -> None:
    """Measure what is missing, and write the summary if it was asked for all domains."""
    asked, lab, settings = arms.begin(argv, __doc__, thesis.DOMAINS)
    figures: dict[str, float] = {}
    files = []
    for name in asked.domains:
        domain = lab.domain(name, asked.data)
        for share in SHARES:
            run = partial(run_arm, share, domain, lab, settings)
            found = arms.measured(PROGRAM, f"{name}-share-{share}", 0, settings, run)
            for metric, value in found["scores"].items():
                figures[f"{name}_share_{share}_{metric}"] = round(value, 4)
            files.append(found)
    if asked.all_domains:
        draw(figures, asked.domains)
    arms.write_summary(PROGRAM, asked, figures, files)


if __name__ == "__main__":
    run_command(main)
