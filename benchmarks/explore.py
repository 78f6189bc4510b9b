"""What could make stage 1 better? Variations of IB-GL and of its controls, on dev alone.

    python benchmarks/explore.py --data DIR_WITH_MEDICAL_AND_CHEMISTRY --bf16

Protocol, fixed before it ran: the test set is not touched. Domains, backbone, budgets and stage 2 are those of
`thesis.py`, corpus-taught, seed 0, 1,000 pairs; a variation is judged by nDCG@10 on dev with the better of stage 2's
two learning rates at temperature 0.02, as the arms of `thesis.py` can be by their grids. What is varied:

- the objective: document to query (`doc2query`) beside query to document and reconstruction, so that both sides are X
  and what the other side says is Y;
- the loss: `--read-out-weight`, as the embedding itself predicts the first token of Y alone;
- the number of bottleneck tokens: 4;
- the learning rate of stage 1: 1e-3;
- the order: half of the budget plain pretraining, then half IB-GL (`pt-first`);
- tokens: four times as many, for pretraining, plain fine-tuning and a mixture of IB-GL.

Minutes on one core, estimated before it ran: 4 for a variation, 11 with four times the tokens, in two domains: 2 hours.
A variation is taken for a better default if it is better in both domains by more than seeds differ, with three seeds.
"""

from __future__ import annotations

import dataclasses
import shutil
import sys
from functools import partial
from typing import Any, NamedTuple

import arms
import domains
import results
import thesis
from arms import Lab, Stage1
from domains import Domain

from lbr_st.training import run_command

PROGRAM = "explore"
TEMPERATURE = 0.02
MIXTURE = arms.STAGE1["ibgl-mixture"]
assert MIXTURE is not None
BOTH_WAYS = Stage1("sft:0.34,doc2query:0.33,reconstruct:0.33")


class Variant(NamedTuple):
    """A variation of stage 1.

    Attributes:
        stage: What is learned.
        flags: More arguments of ``train_ibgl.py``.
        tokens: Of the budget, how many times it.
        after: Arm of the thesis test that half of the budget goes to first.
    """

    stage: Stage1
    flags: str = ""
    tokens: float = 1
    after: str | None = None


VARIANTS = {
    "doc2query": Variant(Stage1("doc2query")),
    "both-ways": Variant(BOTH_WAYS),
    "read-out": Variant(MIXTURE, "--read-out-weight 1"),
    "both-ways-read-out": Variant(BOTH_WAYS, "--read-out-weight 1"),
    "four-tokens": Variant(MIXTURE, "--bottleneck-tokens 4"),
    "rate-1e-3": Variant(MIXTURE, "--learning-rate 1e-3"),
    "pt-first": Variant(MIXTURE, tokens=0.5, after="pt"),
    "pt-4x": Variant(Stage1("reconstruct", bottleneck=False), tokens=4),
    "gl-4x": Variant(Stage1("sft", bottleneck=False), tokens=4),
    "mixture-4x": Variant(MIXTURE, tokens=4),
}


def with_budget(lab: Lab, variant: Variant) -> Lab:
    """Return where a variation is run: its budget, and its arguments behind those of the scale."""
    tokens = round(variant.tokens * lab.scale.stage1_tokens)
    scale = dataclasses.replace(lab.scale, stage1_tokens=tokens, stage1=f"{lab.scale.stage1} {variant.flags}")
    return dataclasses.replace(lab, scale=scale)


def run_variant(name: str, domain: Domain, seed: int, lab: Lab) -> dict[str, Any]:
    """Train a variation, align it with each learning rate and score these on dev."""
    variant, regime = VARIANTS[name], domains.REGIMES[0]
    of = with_budget(lab, variant)
    start = None
    if variant.after is not None:
        start = of.stage1(domain, regime, f"{name}-begins", seed, arms.STAGE1[variant.after])
    model = of.stage1(domain, regime, name, seed, variant.stage, start)
    scores = {}
    for rate in lab.scale.learning_rates:
        setting = (rate, TEMPERATURE)
        trained = lab.stage2(domain, model, f"{name}-{rate}-seed{seed}", thesis.MAIN_PAIRS, setting, seed)
        scores[f"lr {rate} tau {TEMPERATURE}"] = arms.dev_score(trained, domain)
        shutil.rmtree(trained)
    return {"dev_ndcg_at_10": scores}


def main(argv: list[str] | None = None) -> None:
    """Run what is missing, and write the summary of the domains that were asked for."""
    args, lab, settings = arms.begin(argv, __doc__, thesis.DOMAINS)
    figures: dict[str, float] = {}
    files = []
    for name in args.domains:
        domain = lab.domain(name, args.data)
        for variant in VARIANTS:
            run = partial(run_variant, variant, domain, 0, lab)
            found = arms.measured(PROGRAM, f"{name}-{variant}", 0, settings, run)
            figures[f"{name}_{variant.replace('-', '_')}_dev_ndcg_at_10"] = max(found["dev_ndcg_at_10"].values())
            files.append(found)
    results.write_summary(PROGRAM, figures, files, argv if argv is not None else sys.argv[1:])


if __name__ == "__main__":
    run_command(main)
