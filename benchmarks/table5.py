"""Table 5 of the paper (arXiv 2601.11124): the compression ratio, on long inputs; and the ratio by the temperature.

    python benchmarks/table5.py --data DIR_WITH_MEDICAL_AND_CHEMISTRY --bf16

Protocol, fixed before the test set was touched: that of `thesis.py`, corpus-taught, seed 0, in medicine, and

- documents of 400 tokens and more alone, cut at 768: 250 pairs of stage 2 (2 epochs, batch 16), all others in stage 1,
  the test documents and 400 training documents as full corpus. (The backbone never read more than 256 tokens at once.)
- Stage 1 is half SFT-style, half reconstruction, with the read-out loss, on 400,000 tokens (batch 16), with one
  bottleneck token for every R tokens of X: R of 10, 100, 500, 1000, and so up to 64 (no model has more), 8, 2 and 1 of
  them. A text leaves room for as many as the longest has: with R = 10 at most 704 of its tokens are read.
- Stage 2 at learning rate 3e-4 and temperature 0.05, not tuned; and for R of 100, 500 and 1000 at 0.01 and 0.02 too.
- What the ratio that the paper finds best, 500, finds more than others has its interval beside it.
- Minutes on one core, estimated before it ran: stage 1 6 for each of 4 ratios, stage 2 with its scores 6 for each of
  10 arms: 84, on a processor three times as slow as that of `thesis.py`. (Before it ran, changed from 512 tokens, where
  500 and 1000 are the same for nearly all texts, and cut from 1,200,000 tokens, 500 pairs, 1,500 documents and R of 20
  and 200 too, to stay within ten hours.)
"""

from __future__ import annotations

import dataclasses
import math
import random
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import arms
import domains
import results
import table1
from arms import Lab
from domains import Domain
from transformers import AutoTokenizer

import lbr_st
from lbr_st.cli.main import run_command
from lbr_st.data.records import read_records
from lbr_st.files import read_json, write_json, write_jsonl

PROGRAM = "table5"
RATIOS, TEMPERATURES = (10, 100, 500, 1000), (0.01, 0.02, 0.05)
OF_GRID = (100, 500, 1000)
PAIRS, LEAST_TOKENS, DOCUMENTS = 250, 400, 400
PAPERS_BEST = 500
TEMPERATURE = 0.05
# What differs from the nano scale; rows of so many tokens are faster by scaled dot product attention.
LONG: dict[str, Any] = {
    "length": 768,
    "stage1_tokens": 400_000,
    "stage1": {"learning_rate": 5e-4, "per_device_train_batch_size": 16, "attention": "sdpa"},
    "stage2": {"per_device_train_batch_size": 16, "attention": "sdpa"},
    "epochs": {PAIRS: 2},
}


def long_documents(medical: Domain, lab: Lab) -> Domain:
    """Write the files of a domain of which all documents are long, once."""
    return of_length(medical, lab, "medical-long", (LEAST_TOKENS, math.inf), PAIRS, DOCUMENTS)


def of_length(medical: Domain, lab: Lab, name: str, tokens: tuple[float, float], pairs: int, documents: int) -> Domain:
    """Write the files of a domain whose documents have so many tokens of the backbone, once.

    Args:
        medical: The domain that they are taken from.
        lab: Where experiments are run.
        name: Name of the new domain, and of its folder.
        tokens: The least and the most tokens of a document.
        pairs: Number of pairs of stage 2, at the most.
        documents: Number of training documents in the full corpus, at the most.
    """
    domain = Domain(name, lab.work / name)
    of = {"of": read_json(medical.folder / domains.TAUGHT), "tokens": [*map(str, tokens)], "pairs": pairs}
    of |= {"documents": documents, "backbone": str(lab.backbone(medical))}
    if domains.is_written(domain.folder, of):
        return domain
    domain.folder.mkdir(parents=True, exist_ok=True)
    tokenizer = AutoTokenizer.from_pretrained(str(lab.backbone(medical)))

    def long_ones(path: Path, fields: tuple[str, ...] = ("query", "document")) -> list[dict[str, Any]]:
        records = read_records(path, fields)
        rows = tokenizer([record["document"] for record in records]).input_ids
        return [record for record, ids in zip(records, rows, strict=True) if tokens[0] <= len(ids) <= tokens[1]]

    regime = domains.REGIMES[0]
    write_jsonl(domain.stage1(regime, "pairs"), long_ones(medical.stage1(regime, "pairs")))
    write_jsonl(domain.stage1(regime, "passages"), long_ones(medical.stage1(regime, "passages"), ("document",)))
    write_jsonl(domain.pairs, long_ones(medical.pairs)[:pairs])
    write_jsonl(domain.test, long_ones(medical.test))
    found = long_ones(medical.full, ("document",))
    write_jsonl(domain.full, random.Random(0).sample(found, min(len(found), documents)))
    write_json(domain.folder / domains.TAUGHT, of)
    return domain


def run_arm(ratio: int, temperature: float, domain: Domain, lab: Lab) -> dict[str, Any]:
    """Measure one ratio and temperature."""
    stage = dataclasses.replace(arms.stage1_of(table1.IBGL), compression_ratio=ratio)
    model = lab.stage1(domain, domains.REGIMES[0], f"ratio-{ratio}", 0, stage)
    setting = (lab.scale.learning_rates[0], temperature)
    tokens = lbr_st.load(str(model))[0].num_bottleneck_tokens
    trained = lab.stage2(domain, model, f"ratio-{ratio}-{temperature}", PAIRS, setting, 0)
    found = arms.score(arms.open_to_score(trained), domain)
    shutil.rmtree(trained)
    return {**found, "bottleneck_tokens": tokens}


def main(argv: list[str] | None = None) -> None:
    """Measure what is missing and write the summary."""
    asked, lab, settings = arms.begin(argv, __doc__, ("medical",))
    medical = lab.domain("medical", asked.data)
    long = LONG if asked.scale == "nano" else {"length": LONG["length"], "epochs": LONG["epochs"]}
    lab = dataclasses.replace(lab, scale=dataclasses.replace(lab.scale, **long))
    domain = long_documents(medical, lab)
    figures: dict[str, float] = {}
    files = []
    hits = {}
    of_table = [(ratio, TEMPERATURE) for ratio in RATIOS]
    for ratio, temperature in dict.fromkeys([*of_table, *((r, t) for r in OF_GRID for t in TEMPERATURES)]):
        name = f"r{ratio}-tau{temperature}"
        found = arms.measured(PROGRAM, name, 0, settings, partial(run_arm, ratio, temperature, domain, lab))
        key = f"r_{ratio}_tau_{temperature}".replace(".", "_")
        figures[f"r_{ratio}_bottleneck_tokens"] = found["bottleneck_tokens"]
        figures |= {f"{key}_{metric}": value for metric, value in found["scores"].items()}
        hits[ratio, temperature] = arms.hits_of([found])
        files.append(found)
    best = hits[PAPERS_BEST, TEMPERATURE]
    for ratio in RATIOS:
        key = f"r_{PAPERS_BEST}_less_r_{ratio}_recall_at_10_full"
        figures |= results.difference(key, best, hits[ratio, TEMPERATURE])
    figures = {name: round(value, 4) for name, value in figures.items()} | {"queries": best.size}
    arms.write_summary(PROGRAM, asked, figures, files)


if __name__ == "__main__":
    run_command(main)
