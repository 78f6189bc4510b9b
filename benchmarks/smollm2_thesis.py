"""Does stage 1 help a language model that can read? SmolLM2-135M in medicine and chemistry, beside its competitors.

    python benchmarks/smollm2_thesis.py --data DIR_WITH_MEDICAL_AND_CHEMISTRY

Protocol, fixed before the test set was touched with these models, but for what is marked (*):

- Domains and regimes as `domains.py` makes them, of 7,000 training records each: corpus-taught, and strict for what
  has `strict` below. Texts of 64 tokens, one bottleneck token. Stage 1 reads 100,000 tokens of X, Z and Y at a learning
  rate of 4e-4; stage 2 is two epochs of 200 pairs or one of 1,000, batches of 32, temperature 0.02, the last weights.
- Arms, each with 200 pairs of stage 2, and `ibgl` without any: no stage 1 (`cl`); plain fine-tuning (`gl`) and plain
  pretraining (`pt`); IB-GL by the paper's loss (`ibgl_paper`) and with the read-out loss, the default (`ibgl`), half
  SFT-style, half reconstruction both; the default with Y in sight of X (`no_cut_off`); and by reconstruction alone, so
  that stage 1 reads no question (`ibgl_passages`). `cl`, `gl`, `ibgl` and the encoders also with 1,000 pairs; `ibgl`
  strict too, with 200.
- Labels: what stage 1 reads SFT-style are labels too, the questions of training records with their answers; documents
  of dev and test it asks for by their titles. Half of its 1,024 examples in medicine and 1,088 in chemistry are such.
  So IB-GL with 200 pairs has read 712 and 744 labels at most, less than `cl` with 1,000. Plain fine-tuning has 1,376
  and 1,504 before its pairs. `pt` and `ibgl_passages` read none in stage 1. In chemistry stage 1 is taught by another
  name of a compound than the one that is asked, and passages hold these names too: it reads no question there at all.
- Beside them: the backbone as it is, the mean of its last states and its last token; BM25, over words and over
  trigrams of characters; all-MiniLM-L6-v2 and bge-small-en-v1.5, as they are and after stage 2 on the same pairs (rates
  5e-5 and 2e-4). Every dense system also fused with BM25, 0.7 of its standardized scores and 0.3 of BM25's.
- The rate of stage 2 is the better of two, 1e-4 and 2e-4, on dev of medicine (its 500 questions in its documents and
  500 training ones) with 200 pairs, seed 0; chemistry takes the same. It is chosen for `cl`, for `ibgl` and all with a
  bottleneck, for `gl` and all without one, and for either encoder. (*) At first what has a stage 1 took 1e-4 unasked,
  the best of three after 32 steps in `learning_rates.py`, where 200 pairs are 14 steps. That was changed when `cl`
  and `gl` had been scored in medicine, and `cl` in chemistry; of these scores none is kept.
- Seeds 0 and 1, of both stages, for `cl` and `ibgl` with 200 pairs; seed 0 elsewhere.
- Scores: recall@10 and nDCG@10 of the first 1,000 test questions in the full corpus, which is their documents and 500
  training ones, drawn of those that are in no pair of stage 2, by mteb's search; of documents with equal scores the
  right one comes last. (*) They were the first 500 at first, which are all in pairs: a model is told in stage 2 that
  these answer other questions. That was changed with the rates. Intervals: paired bootstrap of recall@10 over the seeds
  that both have and queries, of what the default finds more, alone and with BM25.
- All but BM25 read 64 tokens of a text, BM25 all of it. bge-small-en-v1.5 is given no instruction for queries.
- Minutes on one core in float32, by what `adapt.py` took of 75 tokens a second in training and 350 encoded: stage 1 23,
  a rate of stage 2 with 200 pairs and its dev 12, stage 2 with 200 pairs 8, with 1,000 20, scores 5 each. Of both
  domains: stage 1 of six arms 276, stage 2 and scores with 200 pairs 182, with 1,000 pairs of three arms 150, strict
  72, more seeds 98, rates 90, the rest 80: 950, or 8 hours of two processes.
- Cut, before a model of it was there, to what can be had: from 200,000 tokens, 1,500 test questions in a corpus of all
  training documents, rates of stage 2 for each domain and each arm, three seeds of four arms, two epochs of 1,000 pairs
  of seven arms, other strict arms, stage 2 alone on all 7,000 pairs.

An arm whose result file is there is not run again. `--domains` and `--arms` run some, so that two processes share the
work. The Hub alone has bge: its cells come last, and without the Hub all others are measured. The summary is of all
that is there, and what is missing is named.
"""

from __future__ import annotations

import dataclasses
import random
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import arms
import domains
import results
import systems
from arms import MIXTURE, PAPERS_LOSS, READ_OUT, Lab, Stage1
from domains import Domain
from flags import program_parser

from lbr_st.cli.main import run_command
from lbr_st.data.records import read_records
from lbr_st.evaluation.fusion import AllScores
from lbr_st.evaluation.own_data import BM25, open_for_evaluation
from lbr_st.files import replacing_folder, sha256, write_jsonl
from lbr_st.learning.objectives import Arm as Of

PROGRAM = "smollm2_thesis"
DOMAINS = ("medical", "chemistry")
TAUGHT, STRICT = domains.REGIMES
FEW, MANY = 200, 1000
SEEDS = (0, 1)
TUNED_ON = "medical"
TESTED = 1000  # of the test questions
DISTRACTORS = 500  # of the training documents, in dev and in the full corpus
ENCODER_RATES = (5e-5, 2e-4)

STAGE1: dict[str, Stage1 | None] = {
    "cl": None,
    "gl": Stage1("sft", Of.PLAIN),
    "pt": Stage1("reconstruct", Of.PLAIN),
    "ibgl_paper": Stage1(MIXTURE, more=PAPERS_LOSS),
    "ibgl": Stage1(MIXTURE, more=READ_OUT),
    "no_cut_off": Stage1(MIXTURE, Of.NO_CUT_OFF, more=READ_OUT),
    "ibgl_passages": Stage1("reconstruct", more=READ_OUT),
}
DEFAULT = "ibgl"
TWO_SEEDS = ("cl", DEFAULT)
WITH_MANY = ("cl", "gl", DEFAULT)
# Whose rate of stage 2 an arm takes that has none of its own.
LIKE = {"pt": "gl", "ibgl_paper": DEFAULT, "no_cut_off": DEFAULT, "ibgl_passages": DEFAULT}
LEXICAL: dict[str, Callable[[], Any]] = {
    "bm25": lambda: open_for_evaluation(BM25),
    "trigrams": systems.BM25OfTrigrams,
}
BACKBONES = {"backbone": "mean", "backbone_last": "lasttoken"}  # how its states become an embedding
ENCODERS: dict[str, Callable[[], Path | str]] = {"minilm": systems.minilm, "bge": lambda: systems.BGE}


BySeed = dict[int, dict[str, Any]]  # results of one arm


@dataclass(frozen=True)
class Cell:
    """One result: an arm in a domain, after stage 2 on some pairs.

    Attributes:
        domain: Name of the domain.
        arm: Name of the arm.
        pairs: Number of pairs of stage 2; 0 is none.
        regime: Regime of stage 1.
        seed: Seed of both stages.
    """

    domain: str
    arm: str
    pairs: int = 0
    regime: str = TAUGHT
    seed: int = 0

    @property
    def name(self) -> str:
        """Name of its result file."""
        strict = "-strict" if self.regime == STRICT else ""
        return f"{self.domain}-{self.arm}-{self.pairs}{strict}"

    @property
    def label(self) -> str:
        """What its figures are called, before the metric: ``cl`` says that there was a stage 2."""
        after = "_cl" if self.pairs and self.arm != "cl" else ""
        return f"{self.domain}_{self.arm}{after}"

    @property
    def ending(self) -> str:
        """What the names of its figures end with."""
        return (f"_{self.pairs}" if self.pairs else "") + ("_strict" if self.regime == STRICT else "")


def cells_of(domain: str) -> list[Cell]:
    """Return all results of a domain, what is most asked for first."""
    as_they_are = [Cell(domain, arm) for arm in (*LEXICAL, *BACKBONES, DEFAULT)]
    few = [Cell(domain, arm, FEW) for arm in STAGE1]
    many = [Cell(domain, arm, MANY) for arm in WITH_MANY]
    encoders = [Cell(domain, arm, pairs) for arm in ENCODERS for pairs in (0, FEW, MANY)]
    seeds = [Cell(domain, arm, FEW, seed=seed) for seed in SEEDS[1:] for arm in TWO_SEEDS]
    return [*as_they_are, *few, Cell(domain, DEFAULT, FEW, STRICT), *many, *seeds, *encoders]


def full_corpus(domain: Domain) -> Path:
    """Return the documents that join those of the test in the full corpus: those of training, of no pair of stage 2."""
    file = domain.folder / f"full-{DISTRACTORS}-of-no-pair.jsonl"
    if not file.is_file():
        in_pairs = {record["document"] for record in read_records(domain.pairs)}
        others = [each for each in read_records(domain.full, ("document",)) if each["document"] not in in_pairs]
        write_jsonl(file, random.Random(0).sample(others, min(len(others), DISTRACTORS)))
    return file


def scored_in(domain: Domain, settings: dict[str, Any]) -> dict[str, Any]:
    """Return what the result files of scores carry: a result in another corpus is another one."""
    return {**settings, "tested": TESTED, "corpus_sha256": sha256([full_corpus(domain)])}


@dataclass(frozen=True)
class Bench:
    """A domain and what scores its systems.

    Attributes:
        lab: Where arms are run.
        domain: The domain.
        tuned_on: The domain that the rates of stage 2 are chosen in.
        settings: What the result files carry.
        lexical: BM25, which dense systems are fused with.
    """

    lab: Lab
    domain: Domain
    tuned_on: Domain
    settings: dict[str, Any]
    lexical: AllScores

    @property
    def full(self) -> dict[str, Path]:
        """The full corpus, by what joins the test documents."""
        return {"full": full_corpus(self.domain)}

    @property
    def scored_in(self) -> dict[str, Any]:
        """What the result files of scores carry."""
        return scored_in(self.domain, self.settings)

    def score(self, system: Any, lexical: AllScores | None = None) -> dict[str, Any]:
        """Score a system on the test questions in the full corpus, and with BM25."""
        return arms.score(system, self.domain, lexical, self.full, TESTED)

    def measured(self, cell: Cell) -> dict[str, Any]:
        """Return a result, which is measured if it was not."""
        return arms.measured(PROGRAM, cell.name, cell.seed, self.scored_in, partial(self.run, cell))

    def if_measured(self, cell: Cell) -> dict[str, Any] | None:
        """Return a result if it is there."""
        return arms.if_measured(PROGRAM, cell.name, cell.seed, self.scored_in)

    def run(self, cell: Cell) -> dict[str, Any]:
        """Make a system and score it."""
        if cell.arm in LEXICAL:
            return self.score(LEXICAL[cell.arm]())
        model, setting = self.model(cell)
        found = self.scored(model)
        if cell.pairs:
            shutil.rmtree(model)
        return {**found, "setting": setting}

    def model(self, cell: Cell) -> tuple[Path | str, tuple[float, float] | None]:
        """Return the model of an arm, after stage 2 where it has pairs, and the setting of stage 2."""
        start = self.start(cell)
        if not cell.pairs:
            return start, None
        setting = self.setting(cell)
        name = f"{PROGRAM}-{cell.name}-seed{cell.seed}"
        return self.lab_of(cell.arm).stage2(self.domain, start, name, cell.pairs, setting, cell.seed), setting

    def scored(self, model: Path | str) -> dict[str, Any]:
        """Score a system on the test questions in the full corpus, alone and with BM25."""
        return self.score(self.open(model), self.lexical)

    def open(self, model: Path | str) -> Any:
        """Open a system for mteb, at the length of all."""
        opened = arms.open_to_score(model)
        opened.model.max_seq_length = self.lab.scale.length
        return opened

    def start(self, cell: Cell) -> Path | str:
        """Return the model that stage 2 starts from, or that is scored as it is."""
        if cell.arm in ENCODERS:
            return ENCODERS[cell.arm]()
        if cell.arm in BACKBONES:
            folder, backbone = self.lab.work / f"{PROGRAM}-{cell.arm}", self.lab.backbone(self.domain)
            if not folder.is_dir():
                pooled = systems.assemble(backbone, backbone, self.lab.scale.length, BACKBONES[cell.arm])
                with replacing_folder(folder) as unfinished:
                    pooled.save_pretrained(str(unfinished), create_model_card=False)
            return folder
        stage = STAGE1[cell.arm]
        if stage is None:
            return self.lab.backbone(self.domain)
        return self.lab.stage1(self.domain, cell.regime, f"{PROGRAM}-{cell.arm}", cell.seed, stage)

    def lab_of(self, arm: str) -> Lab:
        """Return the lab with the rates of stage 2 that an arm may have."""
        if arm not in ENCODERS:
            return self.lab
        return dataclasses.replace(self.lab, scale=dataclasses.replace(self.lab.scale, learning_rates=ENCODER_RATES))

    def setting(self, cell: Cell) -> tuple[float, float]:
        """Return the rate and the temperature of an arm: chosen once, with few pairs, corpus-taught, seed 0, on dev."""
        arm = LIKE.get(cell.arm, cell.arm)
        there = dataclasses.replace(self, domain=self.tuned_on)

        def choose() -> dict[str, Any]:
            # Two processes may choose at once, each for a domain.
            start, name = there.start(Cell(TUNED_ON, arm, FEW)), f"{PROGRAM}-{arm}-for-{self.domain.name}"
            best, scores = there.lab_of(arm).choose(there.domain, start, name, FEW, DISTRACTORS)
            return {"best": best, "dev_ndcg_at_10": scores}

        rate, temperature = arms.measured(PROGRAM, f"grid-{arm}", 0, self.settings, choose)["best"]
        return rate, temperature


def figures_of(found: dict[Cell, dict[str, Any]]) -> dict[str, float]:
    """Return the figures of what was measured: means over seeds, and differences to the default."""
    figures: dict[str, float] = {}
    groups: dict[Cell, BySeed] = {}
    for cell, result in found.items():
        groups.setdefault(dataclasses.replace(cell, seed=0), {})[cell.seed] = result
    for cell, of_seeds in groups.items():
        first = next(iter(of_seeds.values()))
        for metric in first["scores"]:
            plain, fused = metric.removesuffix("_fused"), "_fused" if metric.endswith("_fused") else ""
            name = f"{cell.label}{fused}_{plain}{cell.ending}"
            values = [each["scores"][metric] for each in of_seeds.values()]
            figures |= results.spread(name, values) if len(values) > 1 else {name: values[0]}
    for cell, of_seeds in groups.items():
        for pairs in (FEW, MANY) if cell.arm in LEXICAL else (cell.pairs,):
            default = dataclasses.replace(cell, arm=DEFAULT, pairs=pairs)
            if default in groups and cell.arm != DEFAULT:
                figures |= less(groups[default], of_seeds, default, cell)
    return figures


def less(ours: BySeed, others: BySeed, default: Cell, other: Cell) -> dict[str, float]:
    """Return what the default finds more than another system, over the seeds that both have, alone and with BM25."""
    seeds = sorted(ours.keys() & others.keys())
    name = other.label.removeprefix(f"{other.domain}_")
    figures: dict[str, float] = {}
    for corpus in ("full", "full_fused") if seeds else ():
        # BM25 has no fusion with itself: it is compared as it is.
        theirs = corpus if corpus in others[seeds[0]]["hits_at_10"] else "full"
        one = arms.hits_of([ours[seed] for seed in seeds], corpus)
        another = arms.hits_of([others[seed] for seed in seeds], theirs)
        fused = "_fused" if corpus == "full_fused" else ""
        figures |= results.difference(
            f"{default.label}{fused}_less_{name}_recall_at_10_full{default.ending}", one, another
        )
    return figures


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what is missing of what was asked for, and write a summary of all that is there."""
    parser = program_parser(__doc__)
    names = [*LEXICAL, *BACKBONES, *STAGE1, *ENCODERS]
    parser.add_argument("--arms", nargs="+", choices=names, default=names, help="(default: all)")
    asked, lab, settings = arms.begin(argv, __doc__, DOMAINS, scale="smollm2", parser=parser)
    found: dict[Cell, dict[str, Any]] = {}
    missing: list[str] = []
    tuned_on, lexical = lab.domain(TUNED_ON, asked.data), AllScores(open_for_evaluation(BM25))
    for name in DOMAINS:
        bench = Bench(lab, lab.domain(name, asked.data), tuned_on, settings, lexical)
        for cell in cells_of(name):
            if name in asked.domains and cell.arm in asked.chosen.arms:
                bench.measured(cell)
            result = bench.if_measured(cell)
            if result is None:
                missing.append(f"{cell.name}, seed {cell.seed}")
            else:
                found[cell] = result
    if missing:
        print(f"not measured yet: {'; '.join(missing)}")
    figures = {name: round(value, 4) for name, value in figures_of(found).items()}
    results.write_summary(PROGRAM, figures, list(found.values()), argv, missing=missing)


if __name__ == "__main__":
    run_command(main)
