"""Which loss of stage 1 makes the best embedder of a language model that can read? On dev of medicine alone.

    python benchmarks/objectives.py --data DIR_WITH_MEDICAL_AND_CHEMISTRY

Protocol, fixed before it ran; the test set is not touched. SmolLM2-135M-Instruct, medicine as `domains.py` makes it,
corpus-taught, texts of 64 tokens, one bottleneck token. Stage 1 is half SFT-style, half reconstruction, where nothing
else is said; it reads the questions of all training records, in every variant alike.

- Variants, each by one difference from the package's loss (`tokens`: the paper's, and the read-out loss of weight 1):
  - `paper`: no read-out loss.
  - `set`, `content`, `idf`: the read-out asks for the set of Y's tokens, each once; of those without the tokens of more
    than a tenth of the documents; of all, weighted by inverse document frequency (arXiv 2401.11248).
  - `falling`: the read-out's weight falls by a cosine to a tenth (the same).
  - `soft`, `soft-paper`: what the same model predicts with X in sight is predicted in place of the tokens, by both
    losses; by the paper's alone, without a read-out (arXiv 2511.17129).
  - `state`, `state-read-out`: Y is decoded from the last state of Z alone, given back as an input; without a read-out
    and with it.
  - `two-sided`: a quarter of stage 1 SFT-style, a quarter from document to query, half reconstruction.
  - controls, with a read-out each: `no-cut-off`; plain fine-tuning (`gl`) and plain pretraining (`pt`), where the text
    ends with the bottleneck token and that is asked for Y.
- The learning rate of stage 1: 4e-4 for every variant, the best of three for `tokens` in `learning_rates.py`. Stage 1
  reads 100,000 tokens.
- Stage 2: 200 pairs, two epochs of batches of 32, rate 1e-4, temperature 0.02, the last weights. Seed 0.
- Judged by nDCG@10 on dev, its 500 questions in its documents and 500 training ones: as it is, and after stage 2.
- Then `tokens` and the two best others after stage 2 with seed 1 too. The best of them becomes the default if it is
  better than `tokens` after stage 2, in the mean of both seeds, by more than the two seeds of either differ.
- Minutes on one core, by the first eleven arms: 23 each. 14 arms and 3 of another seed: 6.5 hours, half with two
  processes.
- Cut, before a result was there, to what two sessions of two cores hold: from three rates for every variant, and from
  200,000 tokens with two new seeds at last. Cut again when eleven variants were measured at 4e-4: two other rates for
  `tokens`, the controls and the two best others, another five hours. So each variant is judged at the best rate of
  `tokens`, which favours that one.

An arm whose result file is there is not run again. `--variants` runs some, so that two processes share the work;
`--confirm` runs what comes last.
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
import numpy as np
import torch
from arms import MIXTURE, PAPERS_LOSS, READ_OUT, Lab, Stage1
from domains import Domain
from flags import program_parser
from objective_models import FallingReadOut, FromState, ReadOutAtTheEnd, SetReadOut, SoftTargets
from torch import Tensor

import lbr_st
from lbr_st.cli.main import run_command
from lbr_st.data.records import read_records
from lbr_st.errors import InputError
from lbr_st.learning.objectives import Arm
from lbr_st.model.bottleneck import bottleneck_module

PROGRAM = "objectives"
DEFAULT = "tokens"
RATE = 4e-4
PAIRS, SETTING = 200, (1e-4, 0.02)
BEST, SEEDS = 2, (0, 1)
DISTRACTORS = 500
COMMON_SHARE = 0.1  # of the documents, that a word of content is not in

Found = dict[str, dict[str, Any]]  # by variant

VARIANTS = {
    DEFAULT: Stage1(MIXTURE, more=READ_OUT),
    "paper": Stage1(MIXTURE, more=PAPERS_LOSS),
    "set": Stage1(MIXTURE, more=READ_OUT),
    "content": Stage1(MIXTURE, more=READ_OUT),
    "idf": Stage1(MIXTURE, more=READ_OUT),
    "falling": Stage1(MIXTURE, more=READ_OUT),
    "soft": Stage1(MIXTURE, more=READ_OUT, training_model=SoftTargets),
    "soft-paper": Stage1(MIXTURE, more=PAPERS_LOSS, training_model=SoftTargets),
    "state": Stage1(MIXTURE, more=PAPERS_LOSS, training_model=FromState),
    "state-read-out": Stage1(MIXTURE, more=READ_OUT, training_model=FromState),
    "two-sided": Stage1("sft:0.25,doc2query:0.25,reconstruct:0.5", more=READ_OUT),
    "no-cut-off": Stage1(MIXTURE, Arm.NO_CUT_OFF, more=READ_OUT),
    "gl": Stage1("sft", Arm.PLAIN),
    "pt": Stage1("reconstruct", Arm.PLAIN),
}


def variant(name: str, domain: Domain, lab: Lab) -> Stage1:
    """Return what stage 1 of a variant is, with what its loss needs to know of the domain."""
    stage = dataclasses.replace(VARIANTS[name], more={**VARIANTS[name].more, "learning_rate": RATE})
    model = stage.training_model
    if name in ("set", "content", "idf"):
        model = partial(SetReadOut, weights=token_weights(name, domain, lab))
    elif name == "falling":
        parts = lab.scale.stage1.get("gradient_accumulation_steps", 1)
        model = partial(FallingReadOut, batches=parts * lab.stage1_steps(domain, domains.REGIMES[0], stage))
    elif stage.arm is Arm.PLAIN:
        id_ = bottleneck_module(lbr_st.from_backbone(str(lab.backbone(domain)))).bottleneck_token_ids[-1]
        model = partial(ReadOutAtTheEnd, bottleneck_id=id_, weight=1.0)
    return dataclasses.replace(stage, training_model=model)


def token_weights(kind: str, domain: Domain, lab: Lab) -> Tensor:
    """Return what each token of the vocabulary weighs in a read-out, ``(vocabulary,)`` float32.

    Args:
        kind: ``set``, all alike; ``content``, none where more than `COMMON_SHARE` of the documents have it; ``idf``,
            the logarithm of the inverse share of documents that have it. Special tokens have none.
        domain: Domain whose passages of stage 1 are counted.
        lab: Where the backbone is.
    """
    module = bottleneck_module(lbr_st.from_backbone(str(lab.backbone(domain)), max_seq_length=lab.scale.length))
    texts = [
        record["document"] for record in read_records(domain.stage1(domains.REGIMES[0], "passages"), ("document",))
    ]
    rows = module.tokenizer(texts, add_special_tokens=False, truncation=True, max_length=lab.scale.length)["input_ids"]
    embeddings: Any = module.model.get_input_embeddings()
    documents = np.zeros(len(embeddings.weight))
    for ids in rows:
        documents[list(set(ids))] += 1
    weights = {
        "set": np.ones_like(documents),
        "content": (documents <= COMMON_SHARE * len(rows)).astype(float),
        "idf": np.log((len(rows) + 1) / (documents + 1)),
    }[kind]
    weights[module.tokenizer.all_special_ids] = 0
    return torch.tensor(weights, dtype=torch.float32)


def run_arm(name: str, seed: int, domain: Domain, lab: Lab) -> dict[str, Any]:
    """Train a variant, score it on dev as it is and after stage 2, and keep none of it."""
    of_run = f"objectives-{name}-{RATE:g}-{lab.scale.stage1_tokens}"
    learned = lab.stage1(domain, domains.REGIMES[0], of_run, seed, variant(name, domain, lab))
    scores = {"0": score(Path(learned), domain)}
    aligned = lab.stage2(domain, learned, f"{of_run}-seed{seed}", PAIRS, SETTING, seed)
    scores[str(PAIRS)] = score(aligned, domain)
    shutil.rmtree(learned)
    shutil.rmtree(aligned)
    return {"dev_ndcg_at_10": scores}


def score(model: Path, domain: Domain) -> float:
    """Return nDCG@10 of the dev queries, in their documents and the first of `Domain.dev_corpus`."""
    return arms.dev_score(model, domain, DISTRACTORS)


def to_confirm(found: Found) -> list[str]:
    """Return the default and the best others after stage 2.

    Raises:
        InputError: If a variant is missing.
    """
    missing = [name for name in VARIANTS if name not in found]
    if missing:
        raise InputError(f"--confirm: not measured yet: {', '.join(missing)}")
    others = sorted(found.keys() - {DEFAULT}, key=lambda name: -found[name]["dev_ndcg_at_10"][str(PAIRS)])
    return [DEFAULT, *others[:BEST]]


def label(name: str) -> str:
    """Return the name of a variant in a figure."""
    return name.replace("-", "_")


def figures_of(seeds: Sequence[Found]) -> dict[str, float]:
    """Return the scores of each variant with the first seed, and the mean and range of those with all seeds."""
    figures = {}
    for name, first in seeds[0].items():
        of_seeds = [found[name]["dev_ndcg_at_10"] for found in seeds if name in found]
        for pairs, value in first["dev_ndcg_at_10"].items():
            figures[f"{label(name)}_dev_ndcg_at_10_{pairs}"] = value
            if len(of_seeds) == len(SEEDS):
                values = [each[pairs] for each in of_seeds]
                figures[f"{label(name)}_confirmed_dev_ndcg_at_10_{pairs}"] = float(np.mean(values))
                figures[f"{label(name)}_confirmed_dev_ndcg_at_10_{pairs}_range"] = max(values) - min(values)
    return figures


def main(argv: Sequence[str] | None = None) -> None:
    """Run what is missing of what was asked for, and write a summary of all that is there."""
    parser = program_parser(__doc__)
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=[*VARIANTS], help="(default: all)")
    parser.add_argument("--confirm", action="store_true", help="measure the best ones again, when all is measured")
    asked, lab, settings = arms.begin(argv, __doc__, ("medical",), scale="smollm2", parser=parser)
    domain = lab.domain("medical", asked.data)

    def all_that_is_there(seed: int) -> Found:
        there = {name: arms.if_measured(PROGRAM, f"{name}-{RATE:g}", seed, settings) for name in VARIANTS}
        return {name: arm for name, arm in there.items() if arm is not None}

    def measure(names: Sequence[str], seed: int) -> None:
        for name in names:
            if name in asked.chosen.variants:
                run = partial(run_arm, name, seed, domain, lab)
                arms.measured(PROGRAM, f"{name}-{RATE:g}", seed, settings, run)

    measure([*VARIANTS], SEEDS[0])
    if asked.chosen.confirm:
        measure(to_confirm(all_that_is_there(SEEDS[0])), SEEDS[1])
    seeds = [all_that_is_there(seed) for seed in SEEDS]
    figures = {name: round(value, 6) for name, value in figures_of(seeds).items()}
    arms.write_summary(PROGRAM, asked, figures, [arm for found in seeds for arm in found.values()])


if __name__ == "__main__":
    run_command(main)
