"""Do domain tokens help? SmolLM2-135M in medicine and chemistry, with and without.

    python benchmarks/domain_tokens.py --data DIR_WITH_MEDICAL_AND_CHEMISTRY

Protocol, fixed before the test set was touched with these models:

- Domains, corpus-taught, and settings as in `smollm2_thesis.py`: 7,000 training records, texts of 64 tokens, one
  bottleneck token, IB-GL with the read-out loss, half SFT-style, half reconstruction, at 4e-4.
- Arms, that differ by the vocabulary alone: `plain`, and `terms` with up to 900 domain tokens, as many as the published
  chemistry embedder had. Terms come 5 times at least and fall into 3 pieces at least, in training records: in chemistry
  in their names (all of them, the systematic one among them), in medicine in their questions and answers.
- Equal tokens: stage 1 of either arm reads 100,000 tokens of X, Z and Y, as its own tokenizer counts them. With terms
  that is more text: as many steps more as its examples are shorter.
- Each after stage 1 alone, and after stage 2 on 200 pairs (two epochs) and on 1,000 (one), batches of 32, the
  rate that is chosen there for `ibgl`, temperature 0.02, the last weights. Seed 0, of both stages.
- Scores: recall@10 and nDCG@10 as there, of 1,000 questions. What `terms` finds more than `plain`, with a paired
  bootstrap over queries: of all questions, of those with a term in them and those without, and in chemistry of trivial
  and of systematic names. Trivial names are the question: they are found once in twenty times without.
- `plain` is the arm `ibgl` of `smollm2_thesis.py`, whose results are taken, or measured where they are not there.
- Minutes on one core, estimated as there: of a domain stage 1 23, stage 2 8 and 20, scores 5 each: 132 in all.
- Cut, before any of it ran: a second seed, and rates of stage 2 of its own.

An arm whose result file is there is not run again; `--domains` runs some, so that two processes share the work, and the
summary is written when both are there. `--scale tiny` is a try on a random model of two layers, minutes.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import arms
import domains
import numpy as np
import results
from arms import MIXTURE, PREFIX_SHARE, READ_OUT, SCALES, Lab, Stage1
from domains import Domain
from smollm2_thesis import DEFAULT, DOMAINS, STRICT, TAUGHT, TESTED, TUNED_ON, Bench
from smollm2_thesis import Cell as OfThesis
from tiny_models import make_backbone

import lbr_st
from lbr_st.cli.main import run_command
from lbr_st.data.records import read_records
from lbr_st.data.terms import find_terms, read_terms, texts_of, write_terms
from lbr_st.evaluation.fusion import AllScores
from lbr_st.evaluation.own_data import BM25, open_for_evaluation
from lbr_st.learning.examples import ExampleMaker, build_examples
from lbr_st.learning.objectives import fields_of, parse_objective
from lbr_st.model.bottleneck import bottleneck_module
from lbr_st.model.domain_tokens import add_domain_tokens
from lbr_st.model.opening import open_tokenizer

PROGRAM = "domain_tokens"
PLAIN, TERMS = "plain", "terms"
SEED = 0
MOST, LEAST_COUNT, LEAST_PIECES = 900, 5, 3
STAGE1 = Stage1(MIXTURE, more=READ_OUT)
MEASURED_ON = 1000  # records by which the length of examples is estimated

TINY = dataclasses.replace(
    SCALES["smollm2"],
    backbone="tiny",
    length=24,
    records=200,
    stage1_tokens=2000,
    stage1={"learning_rate": 1e-3, "per_device_train_batch_size": 8},
    stage2={"per_device_train_batch_size": 8},
    epochs={20: 1, 40: 1},
)


class Cell(NamedTuple):
    """One result: an arm in a domain, after stage 2 on some pairs, 0 for none."""

    domain: str
    arm: str
    pairs: int

    @property
    def name(self) -> str:
        """Name of its result file."""
        return f"{self.domain}-{self.arm}-{self.pairs}"


def names_of(data: Path, kept: set[str]) -> list[str]:
    """Return the names of the compounds of train.jsonl that are kept."""
    rows = map(json.loads, (data / "chemistry" / "train.jsonl").read_text(encoding="utf-8").splitlines())
    return [name for row in rows if row["id"] in kept for name in (*row["names"], row["iupac"])]


def terms_file(lab: Lab, domain: Domain, data: Path) -> Path:
    """Return the file of the terms of a domain, found in training records alone."""
    file = lab.work / domain.name / "terms.jsonl"
    if not file.is_file():
        records = read_records(domain.stage1(STRICT, "pairs"))
        texts = names_of(data, {r["id"] for r in records}) if domain.name == "chemistry" else texts_of(records)
        tokenizer = open_tokenizer(str(lab.backbone(domain)))
        found = find_terms(texts, tokenizer, most=MOST, least_count=LEAST_COUNT, least_pieces=LEAST_PIECES)
        write_terms(file, found)
    return file


def mean_length(lab: Lab, domain: Domain, terms: Path | None) -> float:
    """Return the mean number of tokens of an example of stage 1, as the tokenizer of an arm counts them."""
    model = lbr_st.from_backbone(str(lab.backbone(domain)), num_bottleneck_tokens=1, max_seq_length=lab.scale.length)
    if terms is not None:
        add_domain_tokens(bottleneck_module(model), read_terms(terms))
    mean = 0.0
    for objective, share in parse_objective(STAGE1.objective).items():
        records = read_records(STAGE1.files(domain, TAUGHT)[objective], fields_of(objective))
        drawn = [records[n] for n in np.random.default_rng(0).permutation(len(records))[:MEASURED_ON]]
        examples = build_examples(drawn, ExampleMaker(model, objective, STAGE1.arm, PREFIX_SHARE))
        mean += share * float(np.mean([len(ids) for ids in examples["input_ids"]]))
    return mean


def stage1(lab: Lab, domain: Domain, arm: str, data: Path) -> Path | str:
    """Return the model of stage 1 of an arm, which is trained once."""
    terms = terms_file(lab, domain, data) if arm == TERMS else None
    more: dict[str, Any] = {}
    if terms is not None:  # as many steps more as its examples are shorter
        shorter = mean_length(lab, domain, None) / mean_length(lab, domain, terms)
        steps = max(1, round(lab.stage1_steps(domain, TAUGHT, STAGE1) * shorter))
        more = {"domain_tokens": str(terms), "max_steps": steps}
    like = dataclasses.replace(STAGE1, more={**STAGE1.more, **more})
    return lab.stage1(domain, TAUGHT, f"{PROGRAM}-{arm}", SEED, like)


def measure(cell: Cell, bench: Bench, data: Path) -> dict[str, Any]:
    """Make the model of a cell and score it; that of stage 2 is not kept."""
    lab, domain = bench.lab, bench.domain
    if cell.arm == PLAIN and not is_tiny(bench.settings):
        same = bench.measured(OfThesis(cell.domain, DEFAULT, cell.pairs))
        return {"scores": same["scores"], "hits_at_10": same["hits_at_10"]}
    model = stage1(lab, domain, cell.arm, data)
    if cell.pairs:
        of_thesis = OfThesis(cell.domain, DEFAULT, cell.pairs)
        setting = lab.scale.grid[0] if is_tiny(bench.settings) else bench.setting(of_thesis)
        model = lab.stage2(domain, model, f"{PROGRAM}-{cell.arm}-{cell.pairs}", cell.pairs, setting, SEED)
    found = bench.score(bench.open(model))
    if cell.pairs:
        shutil.rmtree(model)
    return found


def is_tiny(settings: dict[str, Any]) -> bool:
    """Tell whether a trial of the program is run."""
    return bool(settings["scale"] == "tiny")


def groups_of(domain: Domain, terms: Sequence[str]) -> dict[str, np.ndarray]:
    """Return which test queries are in each group, ``(queries,)`` bool: with a term or without, and of each kind."""
    kinds = np.array(domains.kinds(domain)[:TESTED])
    padded = [f" {' '.join(''.join(c if c.isalnum() else ' ' for c in r['query']).split())} "
              for r in read_records(domain.test)[:TESTED]]  # fmt: skip
    has_term = np.array([any(f" {term} " in query for term in terms) for query in padded])
    found = {"all": np.ones(len(kinds), bool), "with_term": has_term, "without_term": ~has_term}
    if domain.name == "chemistry":
        found |= {kind: kinds == kind for kind in ("trivial", "systematic")}
    return found


def figures_of(domain: Domain, found: dict[Cell, dict[str, Any]], terms: Sequence[str]) -> dict[str, float]:
    """Return the figures of a domain: its scores, and what terms find more, by group of queries."""
    figures: dict[str, float] = {f"{domain.name}_terms": len(terms)}
    groups = groups_of(domain, terms)
    for pairs in dict.fromkeys(cell.pairs for cell in found):
        hits = {}
        for arm in (PLAIN, TERMS):
            result = found[Cell(domain.name, arm, pairs)]
            figures |= {f"{domain.name}_{arm}_{metric}_{pairs}": value for metric, value in result["scores"].items()}
            hits[arm] = arms.hits_of([result])
        for group, members in groups.items():
            if not members.any():
                continue
            name = f"{domain.name}_{group}_{pairs}"
            figures[f"{name}_queries"] = int(members.sum())
            for arm in (PLAIN, TERMS):
                figures[f"{name}_{arm}_recall_at_10_full"] = float(hits[arm][:, members].mean())
            more = f"{name}_terms_less_plain_recall_at_10_full"
            figures |= results.difference(more, hits[TERMS][:, members], hits[PLAIN][:, members])
    return figures


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what is missing of what was asked for, and write the summary."""
    SCALES.setdefault("tiny", TINY)
    asked, lab, settings = arms.begin(argv, __doc__, DOMAINS, scale="smollm2")
    if lab.scale.backbone == TINY.backbone:
        folder = lab.work / "backbone-tiny"
        if not folder.is_dir():
            make_backbone(folder, "llama")
        lab = dataclasses.replace(lab, scale=dataclasses.replace(lab.scale, backbone=str(folder)))
    program = f"{PROGRAM}_tiny" if is_tiny(settings) else PROGRAM  # what is tiny is no result
    assert asked.data is not None  # `begin` refuses both domains without
    lexical = AllScores(open_for_evaluation(BM25))
    benches = {}
    for name in DOMAINS:
        domain = lab.domain(name, asked.data)
        benches[name] = Bench(lab, domain, lab.domain(TUNED_ON, asked.data), settings, lexical)
    cells = [Cell(name, arm, pairs) for name in DOMAINS for pairs in (0, *lab.scale.epochs) for arm in (PLAIN, TERMS)]
    for cell in cells:
        if cell.domain in asked.domains:
            run = partial(measure, cell, benches[cell.domain], asked.data)
            arms.measured(program, cell.name, SEED, settings, run)
    found = arms.all_if_measured(program, [(cell.name, SEED) for cell in cells], settings)
    if found is None:
        return
    of_cells = dict(zip(cells, found, strict=True))
    figures: dict[str, float] = {}
    for name, bench in benches.items():
        terms = terms_file(lab, bench.domain, asked.data)
        figures |= figures_of(bench.domain, of_cells, read_terms(terms))
        for arm, file in ((PLAIN, None), (TERMS, terms)):
            figures[f"{name}_{arm}_tokens_of_an_example"] = mean_length(lab, bench.domain, file)
    arms.write_summary(program, asked, {key: round(value, 4) for key, value in figures.items()}, found)


if __name__ == "__main__":
    run_command(main)
