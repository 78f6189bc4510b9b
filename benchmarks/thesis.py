"""Does knowledge taught in stage 1 help on things that contrastive learning never saw?

    python benchmarks/thesis.py --data DIR_WITH_MEDICAL_AND_CHEMISTRY --bf16

Protocol, fixed before the test set was touched:

- Domains: medical and chemistry, as `domains.py` makes them, of 7,000 training records each. Stage 2 never sees a
  disease or compound that is asked for in dev or test. Chemistry: a query is the first name of a compound, its document
  the structure; stage 1 is taught by another name, near spellings of the first removed. Medical: a query is a question,
  its document the answer; what is searched is taught in stage 1 by its title, never by a test question.
- Regimes of stage 1, never mixed: corpus-taught (the passages that will be searched too) and strict (training records
  only).
- Backbone: a general nano language model (4 layers, 256 wide, 8k BPE) trained on 20,000 docstrings. It never saw the
  domains.
- Arms: no stage 1 (`none`); plain pretraining (`pt`) and plain fine-tuning (`gl`), without a bottleneck; IB-GL with
  each objective (`ibgl-sft`, `ibgl-reconstruct`, `ibgl-prefix-suffix` with a share of 0.2 to 0.8) and with half of
  each of the first two (`ibgl-mixture`). Stage 1 reads 1,000,000 tokens of X, Z and Y, whatever the arm (batch 32,
  learning rate 5e-4). Texts are cut at 64 tokens, k = 1.
- Two arms more, since `explore.py` found on dev what they are (the other arms had been scored on test by then, with
  seed 0 and 1,000 pairs): `ibgl-read-out`, which is `ibgl-mixture` with the read-out loss of weight 1, and its control
  `no-cut-off`, the same again with Y in sight of X. A mixture of four fifths SFT-style, which was an arm of the first
  plan, was worse on dev than half of each and was not gone on with; its files are there.
- Stage 2, the same for all: 200, 1,000 and 5,000 pairs (8, 4 and 2 epochs, batch 64, the last weights).
- Equal effort: for every arm the same grid of stage 2, learning rates 3e-4 and 1e-3 by temperatures 0.02 and 0.05,
  at 1,000 pairs, seed 0, corpus-taught; the best nDCG@10 of dev, in its documents and 2,000 training ones, is used for
  all its numbers of pairs, seeds and regimes. `ibgl` in the figures is the arm of IB-GL that is best on dev so.
- Seeds 0, 1 and 2, of stage 1 and stage 2 both, with 1,000 pairs, and with 200 pairs corpus-taught; seed 0 elsewhere.
  (Cut from three seeds everywhere when the first two arms, without stage 1, had shown that ten hours were not enough.)
  To stay within ten hours this was cut once more, when seed 0 with 1,000 pairs was measured: strict with 5,000 pairs is
  left out; `ibgl-sft` and `ibgl-prefix-suffix`, on dev the best of IB-GL in neither domain, have seed 0 alone with 200
  pairs and in the strict regime, and no strict arm with 200 pairs. And a last time, when the first five arms with 5,000
  pairs were measured, all of medicine: with so many there are no stage 1, `pt`, `gl`, `ibgl-reconstruct` and
  `ibgl-read-out`. The file of `ibgl-sft` is there.
- Scores: recall@10 and nDCG@10 of mteb, weights in bf16, in two corpora: test documents, and these and all training
  documents (``full``). BM25 beside them; and BM25 over trigrams of characters, which a reader asked for when
  most arms had been scored. Intervals: paired bootstrap of recall@10 over seeds and queries.
- Figures: ``DOMAIN_ARM_cl_METRIC_at_10_CORPUS_PAIRS`` are means over the seeds, corpus-taught; with ``_strict`` in that
  regime. `ARM_cl` is `cl` for the arm without stage 1. What `ibgl_cl`, and `ibgl_read_out_cl`, the package's default,
  find more than others have their intervals beside them, over the seeds that both have.
- Minutes on one core, estimated before it ran: backbone 20; of an arm and seed, stage 1 2.7, stage 2 0.5, 1 and 2,
  scores 0.7 each; the grid of an arm 3.5. Of all: stage 1 88 times, 4 hours; stage 2 and scores with 1,000 pairs 94
  times, 2.7 hours, with 200 pairs 58 times, 1.2 hours, with 5,000 pairs 10 times, 0.5 hours; grid 18 times, 1 hour:
  9.5 hours, half of it when two processes share the work. 1,000 pairs run first, corpus-taught before strict.
- In medicine the SFT-style arms and the mixtures read the labels of all training records in stage 1, see `domains.py`;
  plain pretraining and reconstruction read none. What few pairs are worth is therefore told by chemistry.
- Before this was written, scoring was timed once on the test set of chemistry, with a model of none of these arms.

Every step resumes; an arm whose result file is there is not run again. `--domains` and `--regimes` run some: two
processes can share the work, each with a domain, once the backbone is there. The summary is written when all are there.
"""

from __future__ import annotations

import itertools
import shutil
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import arms
import domains
import numpy as np
import results
import systems
from arms import Lab
from domains import Domain

from lbr_st.cli.main import run_command
from lbr_st.evaluation.own_data import BM25, open_for_evaluation

PROGRAM = "thesis"
DOMAINS = ("medical", "chemistry")
SEEDS = (0, 1, 2)
MAIN_PAIRS, FEW_PAIRS, MANY_PAIRS = 1000, 200, 5000
NONE = "none"
DEFAULT = "ibgl-read-out"  # what `lbr learn` does with a corpus-taught set unless told otherwise
MINOR = ("ibgl-sft", "ibgl-prefix-suffix")
WITH_MANY_PAIRS = (NONE, "pt", "gl", "ibgl-reconstruct", DEFAULT)
TRIGRAMS = "bm25_trigrams"
LEXICAL = {BM25: lambda: open_for_evaluation(BM25), TRIGRAMS: systems.BM25OfTrigrams}


class Arm(NamedTuple):
    """One arm: what stage 1 was, where and in which regime, and how many pairs stage 2 had."""

    domain: str
    regime: str
    stage1: str
    pairs: int

    @property
    def name(self) -> str:
        """Name of its result file; without stage 1 there is no regime."""
        parts = [self.domain, *([] if self.stage1 == NONE else [self.regime]), self.stage1, str(self.pairs)]
        return "-".join(parts)


def arms_of(domain: str, pairs: int) -> list[Arm]:
    """Return the arms of a domain, the corpus-taught ones first."""
    of_regimes = itertools.product(domains.REGIMES, arms.STAGE1)
    return [
        Arm(domain, regime, stage1, pairs)
        for regime, stage1 in of_regimes
        if stage1 != NONE or regime == domains.REGIMES[0]
    ]


def seeds_of(arm: Arm) -> tuple[int, ...]:
    """Return the seeds of an arm, none if it is not measured."""
    is_taught = arm.regime == domains.REGIMES[0]
    if arm.pairs == MANY_PAIRS:
        return SEEDS[: int(is_taught and arm.stage1 in WITH_MANY_PAIRS)]
    if arm.stage1 in MINOR:
        return SEEDS if is_taught and arm.pairs == MAIN_PAIRS else SEEDS[: int(is_taught or arm.pairs == MAIN_PAIRS)]
    return SEEDS if arm.pairs == MAIN_PAIRS or (is_taught and arm.pairs == FEW_PAIRS) else SEEDS[:1]


def order() -> list[tuple[Arm, int]]:
    """Return all arms and seeds, what is most asked for first."""
    return [
        (arm, seed)
        for pairs in (MAIN_PAIRS, FEW_PAIRS, MANY_PAIRS)
        for regime in domains.REGIMES
        for seed in SEEDS
        for domain in DOMAINS
        for arm in arms_of(domain, pairs)
        if arm.regime == regime and seed in seeds_of(arm)
    ]


def grid_name(domain: str, stage1: str) -> str:
    """Return the name of the result file of an arm's grid."""
    return f"grid-{domain}-{stage1}"


def setting_of(domain: Domain, stage1: str, lab: Lab, settings: dict[str, Any]) -> tuple[float, float]:
    """Return the learning rate and temperature of stage 2 of an arm, chosen once: corpus-taught, seed 0, on dev."""
    name = grid_name(domain.name, stage1)
    if not results.is_measured(PROGRAM, name, 0, settings):
        model = lab.stage1(domain, domains.REGIMES[0], stage1, 0)
        best, scores = lab.choose(domain, model, stage1, MAIN_PAIRS)
        results.write_arm(PROGRAM, name, 0, {"best": best, "dev_ndcg_at_10": scores, "settings": settings})
    rate, temperature = results.read_arm(PROGRAM, name, 0)["best"]
    return rate, temperature


def run_arm(arm: Arm, seed: int, domain: Domain, lab: Lab, settings: dict[str, Any]) -> None:
    """Train an arm with one seed, score it and write its result file."""
    times = [time.monotonic()]
    model = lab.stage1(domain, arm.regime, arm.stage1, seed)
    times.append(time.monotonic())
    setting = setting_of(domain, arm.stage1, lab, settings)
    times.append(time.monotonic())
    trained = lab.stage2(domain, model, f"{arm.name}-seed{seed}", arm.pairs, setting, seed)
    times.append(time.monotonic())
    found = arms.score(arms.open_to_score(trained), domain)
    times.append(time.monotonic())
    shutil.rmtree(trained)
    took = dict(zip(("stage1", "grid", "stage2", "scores"), np.diff(times) / 60, strict=True))
    minutes = {step: round(number, 2) for step, number in took.items()}
    result = {**found, "setting": setting, "minutes": minutes, "settings": settings}
    results.write_arm(PROGRAM, arm.name, seed, result)


def measured(arm: Arm, seed: int, domain: Domain, lab: Lab, settings: dict[str, Any]) -> dict[str, Any]:
    """Return the result of an arm, which is measured if it was not."""
    if not results.is_measured(PROGRAM, arm.name, seed, settings):
        run_arm(arm, seed, domain, lab, settings)
    return results.read_arm(PROGRAM, arm.name, seed)


def all_measured(stage1: str, pairs: int, domain: Domain, lab: Lab, settings: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the results of a corpus-taught arm with each of `SEEDS`; what is missing is measured."""
    arm = Arm(domain.name, domains.REGIMES[0], stage1, pairs)
    return [measured(arm, seed, domain, lab, settings) for seed in SEEDS]


def measured_lexical(system: str, domain: Domain, lab: Lab, settings: dict[str, Any]) -> dict[str, Any]:
    """Return the result of one of `LEXICAL`, which is measured if it was not."""
    name = f"{domain.name}-{system}"
    if not results.is_measured(PROGRAM, name, 0, settings):
        found = arms.score(LEXICAL[system](), domain)
        results.write_arm(PROGRAM, name, 0, {**found, "settings": settings})
    return results.read_arm(PROGRAM, name, 0)


def best_ibgl(domain: str) -> str:
    """Return the arm of IB-GL that is best on dev, each with the best setting of its grid."""
    scores = {
        stage1: max(results.read_arm(PROGRAM, grid_name(domain, stage1), 0)["dev_ndcg_at_10"].values())
        for stage1 in arms.STAGE1
        if stage1.startswith("ibgl")
    }
    return max(scores, key=lambda stage1: scores[stage1])


def figures_of(domain: str, kinds: Sequence[str]) -> dict[str, float]:
    """Return the figures of a domain.

    Args:
        domain: Its name.
        kinds: Kinds of the test queries, in order; in chemistry recall@10 is given of each.
    """
    figures: dict[str, float] = {}
    of_lexical = {}
    for system in LEXICAL:
        lexical = results.read_arm(PROGRAM, f"{domain}-{system}", 0)
        figures |= {f"{domain}_{system}_{name}": value for name, value in lexical["scores"].items()}
        of_lexical[system] = np.repeat(arms.hits_of([lexical]), len(SEEDS), axis=0)
        figures |= by_kind(f"{domain}_{system}_recall_at_10_full", of_lexical[system], domain, kinds)
    for pairs, regime in itertools.product((MAIN_PAIRS, FEW_PAIRS, MANY_PAIRS), domains.REGIMES):
        suffix = f"_{pairs}" + ("_strict" if regime == "strict" else "")
        hits = {}
        for stage1 in [*arms.STAGE1, best_ibgl(domain)]:
            label = "ibgl_cl" if stage1 in hits else label_of(stage1)
            arm = Arm(domain, regime, stage1, pairs)
            read = [results.read_arm(PROGRAM, arm.name, seed) for seed in seeds_of(arm)]
            if not read:
                continue
            for name in read[0]["scores"]:
                figures |= results.spread(f"{domain}_{label}_{name}{suffix}", [each["scores"][name] for each in read])
            hits[stage1] = arms.hits_of(read)
            figures |= by_kind(f"{domain}_{label}_recall_at_10_full{suffix}", hits[stage1], domain, kinds)
        others = {label_of(stage1): found for stage1, found in hits.items()} | of_lexical
        for label, ours in (("ibgl_cl", best_ibgl(domain)), (label_of(DEFAULT), DEFAULT)):
            for other, found in others.items() if ours in hits else []:
                key = f"{domain}_{label}_less_{other}_recall_at_10_full{suffix}"
                seeds = min(len(hits[ours]), len(found))
                figures |= results.difference(key, hits[ours][:seeds], found[:seeds])
    return figures


def by_kind(key: str, hits: np.ndarray, domain: str, kinds: Sequence[str]) -> dict[str, float]:
    """Return recall@10 of each kind of query as figures, in chemistry."""
    if domain != "chemistry":
        return {}
    return {f"{key}_{kind}": float(hits[:, [each == kind for each in kinds]].mean()) for kind in sorted(set(kinds))}


def label_of(stage1: str) -> str:
    """Return what the figures call an arm."""
    return "cl" if stage1 == NONE else f"{stage1.replace('-', '_')}_cl"


def main(argv: list[str] | None = None) -> None:
    """Run what is missing, and write the summary when all is there."""
    asked, lab, settings = arms.begin(argv, __doc__, DOMAINS, regimes=True)
    of = {name: lab.domain(name, asked.data) for name in DOMAINS}
    for name in asked.domains:
        for system in LEXICAL:
            measured_lexical(system, of[name], lab, settings)

    def missing() -> list[tuple[Arm, int]]:
        return [(arm, seed) for arm, seed in order() if not results.is_measured(PROGRAM, arm.name, seed, settings)]

    for arm, seed in missing():
        if arm.domain in asked.domains and arm.regime in asked.regimes:
            run_arm(arm, seed, of[arm.domain], lab, settings)
    if left := missing():
        print(f"{len(left)} arms are still to be measured, the summary is written after them")
        return
    figures: dict[str, float] = {}
    for name in DOMAINS:
        figures |= figures_of(name, domains.kinds(of[name]))
    figures = {name: round(value, 4) for name, value in figures.items()}
    measured = [results.read_arm(PROGRAM, arm.name, seed) for arm, seed in order()]
    results.write_summary(PROGRAM, figures, measured, asked.argv)


if __name__ == "__main__":
    run_command(main)
