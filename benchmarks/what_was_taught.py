"""When does stage 1 help? The gain by what stage 1 has read of what a question asks for. SmolLM2-135M.

    python benchmarks/what_was_taught.py --data DIR_WITH_MEDICAL_AND_CHEMISTRY

Protocol, fixed before the test set was touched with these models:

- Hits at 10 in the full corpus of `smollm2_thesis.py` with 200 pairs, seed 0: stage 2 alone (`cl`) and IB-GL with the
  read-out loss (`ibgl`), corpus-taught and strict. Nothing is trained here.
- What a test question asks for, its entity: in medicine the disease (`focus`), in chemistry the name that is asked.
- The questions are split in three. `in_stage1`: the entity stands in a text that stage 1 has read, of all those that
  it might have, as whole words, capitals aside. `in_stage2`: if not, it stands in a pair of stage 2. `in_neither`. In
  chemistry they are split by the kind of name, too: `trivial` and `systematic`.
- The backbone's perplexity of the entity, in nats a token after BOS alone: how it is ranked by Spearman with the gain
  (hit of `ibgl` less hit of `cl`) over the questions, and the gain in each quarter of the questions, from the best
  known entities to the least known.
- Of each group: how many questions, recall@10 of both, the gain and its interval by a paired bootstrap of questions.
- Minutes on one core, estimated before it ran: 2 for the perplexities of a domain.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import arms
import domains
import numpy as np
import results
import smollm2_thesis
import torch
import torch.nn.functional as F
from arms import Lab
from domains import REGIMES, Domain
from scipy.stats import spearmanr
from smollm2_thesis import DEFAULT, DOMAINS, FEW, STRICT, TESTED, Cell, scored_in
from transformers import AutoModelForCausalLM, AutoTokenizer

from lbr_st.cli.main import run_command
from lbr_st.data.records import read_records
from lbr_st.errors import InputError

PROGRAM = "what_was_taught"
QUARTERS = 4
WORD = re.compile(r"\w+")


def entities_of(domain: Domain, data: Path) -> list[str]:
    """Return what each test question asks for, in order."""
    lines = (data / domain.name / "test.jsonl").read_text(encoding="utf-8").splitlines()
    if domain.name == "chemistry":
        return [domains.chemistry_record(json.loads(line))["query"] for line in lines]
    return [domains.medical_record(json.loads(line))["title"] for line in lines]


def stand_in(entities: Sequence[str], texts: Iterable[str]) -> np.ndarray:
    """Tell of each entity whether it stands in one of the texts, as whole words, capitals aside."""
    words = [tuple(WORD.findall(entity.casefold())) for entity in entities]
    lengths = sorted({len(each) for each in words})
    found: set[tuple[str, ...]] = set()
    asked = set(words)
    for text in texts:
        read = WORD.findall(text.casefold())
        for length in lengths:
            found |= asked & {tuple(read[start : start + length]) for start in range(len(read) - length + 1)}
    return np.array([bool(each) and each in found for each in words])


def nats_a_token(entities: Sequence[str], backbone: Path | str) -> np.ndarray:
    """Return the cross-entropy of each entity after BOS, the mean over its tokens, in nats."""
    tokenizer = AutoTokenizer.from_pretrained(backbone)
    model = AutoModelForCausalLM.from_pretrained(backbone, dtype=torch.float32).eval()
    start = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    found = []
    with torch.inference_mode():
        for entity in entities:
            ids = torch.tensor([[start, *tokenizer(entity, add_special_tokens=False)["input_ids"]]])
            found.append(F.cross_entropy(model(ids).logits[0, :-1], ids[0, 1:]).item())
    return np.array(found)


def measure(name: str, data: Path, lab: Lab, of_thesis: dict[str, Any]) -> dict[str, Any]:
    """Split the questions of a domain in both regimes, and say what stage 1 gained in each part.

    Args:
        name: Name of the domain.
        data: Folder with its data.
        lab: Where `smollm2_thesis.py` has trained.
        of_thesis: Settings of its results.
    """
    domain = lab.domain(name, data)
    entities = entities_of(domain, data)[:TESTED]
    nats = nats_a_token(entities, lab.backbone(domain))
    pairs = [text for record in read_records(domain.pairs)[:FEW] for text in (record["query"], record["document"])]
    in_stage2, kinds = stand_in(entities, pairs), np.array(domains.kinds(domain)[:TESTED])
    figures: dict[str, float] = {}
    for regime in REGIMES:
        ours = hits(Cell(name, DEFAULT, FEW, regime), scored_in(domain, of_thesis))
        others = hits(Cell(name, "cl", FEW), scored_in(domain, of_thesis))
        in_stage1 = stand_in(entities, stage1_texts(lab, domain, regime))
        groups = {
            "in_stage1": in_stage1,
            "in_stage2": in_stage2 & ~in_stage1,
            "in_neither": ~in_stage1 & ~in_stage2,
        }
        if name == "chemistry":
            groups |= {kind: kinds == kind for kind in ("trivial", "systematic")}
        quarter = np.argsort(np.argsort(nats, kind="stable"), kind="stable") * QUARTERS // len(nats)
        groups |= {f"perplexity_{number + 1}_of_{QUARTERS}": quarter == number for number in range(QUARTERS)}
        end = "_strict" if regime == STRICT else ""
        for group, chosen in groups.items():
            figures[f"{group}_questions{end}"] = int(chosen.sum())
            if chosen.any():
                one, other = ours[None, chosen], others[None, chosen]
                figures[f"{group}_cl_recall_at_10{end}"] = float(other.mean())
                figures[f"{group}_ibgl_recall_at_10{end}"] = float(one.mean())
                figures |= results.difference(f"{group}_gain{end}", one, other)
        if (ours != others).any():
            figures[f"perplexity_gain_correlation{end}"] = float(spearmanr(nats, ours - others).statistic)
    return {"figures": {name: round(value, 4) for name, value in figures.items()}}


def stage1_texts(lab: Lab, domain: Domain, regime: str) -> list[str]:
    """Return the texts that stage 1 of the thesis has read, of all those that it might have.

    Raises:
        InputError: If it was trained elsewhere.
    """
    file = arms.read_by(lab.stage1_folder(domain, regime, f"{smollm2_thesis.PROGRAM}-{DEFAULT}", 0))
    if not file.is_file():
        raise InputError(f"{file} is not there: run benchmarks/smollm2_thesis.py here first, with the same --work-dir")
    return [json.loads(line)["text"] for line in file.read_text(encoding="utf-8").splitlines()]


def hits(cell: Cell, settings: dict[str, Any]) -> np.ndarray:
    """Return whether a system of the thesis found the document of each test question, ``(questions,)`` of 0 and 1.

    Raises:
        InputError: If it was not measured.
    """
    found = arms.if_measured(smollm2_thesis.PROGRAM, cell.name, cell.seed, settings)
    if found is None:
        raise InputError(f"{cell.name} is not measured yet; run benchmarks/smollm2_thesis.py with the same flags first")
    return arms.hits_of([found])[0]


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what is missing, and write the summary."""
    asked, lab, settings = arms.begin(argv, __doc__, DOMAINS, scale="smollm2")
    assert asked.data is not None
    found = {}
    for name in asked.domains:
        run = partial(measure, name, asked.data, lab, settings)
        found[name] = arms.measured(PROGRAM, name, 0, settings, run)
    figures = {f"{name}_{figure}": value for name, each in found.items() for figure, value in each["figures"].items()}
    arms.write_summary(PROGRAM, asked, figures, list(found.values()))


if __name__ == "__main__":
    run_command(main)
