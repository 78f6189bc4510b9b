"""Does a text gain from as many vectors as its own loss asks for? Nested bottlenecks, on long medical documents.

    python benchmarks/nested.py --data DIR_WITH_MEDICAL_AND_CHEMISTRY
    python benchmarks/nested.py --data DIR_WITH_MEDICAL_AND_CHEMISTRY --scale tiny    # random; in nested_tiny

Protocol, fixed before any of these models was trained:

- Medicine, corpus-taught, documents of 256 to 768 tokens of the backbone alone, SmolLM2-135M, one seed. Texts of up to
  776 tokens, so that no document is cut. 200 pairs of stage 2 (one epoch, batches of 16), all others in stage 1; the
  corpus is the test documents and 400 training documents.
- Stage 1 is half SFT-style, half reconstruction, with the read-out loss, on 100,000 tokens (a row of the nested arm has
  3.5 tokens more on average than these are counted with). Stage 2 at 1e-4 and temperature 0.02, not tuned.
- Arms, that differ by the bottleneck alone: ``nested``, 8 tokens; ``one``, 1 token; ``r500``, one for every 500 tokens.
- A query of ``nested`` has its first vector alone. Its documents are read in these ways: with 1, 2, 4 and 8 vectors;
  with the smallest of these numbers whose read-out loss of the document itself is within 0.02, 0.05 and 0.1 nats of
  that of 8 (``loss``); and with the same numbers dealt out by length, the most to the longest (``length``). Each is
  scored by the last vector, which is stored alone, and by the best match over vectors (``maxsim`` of
  sentence-transformers). The other arms have one vector a text, their last.
- Measured: recall@10, and vectors a text in the index. 0.05 decides, by the best match: number by loss pays if it finds
  more than one vector of the same model, and no less than the same numbers by length. Beside that what it finds more
  than ``one``, ``r500`` and all 8, and what one vector of ``nested`` finds more than ``one``: the price of nesting.
  Intervals are 95% of a paired bootstrap over queries.
- Minutes on one core, estimated by 75 tokens a second in training and 350 encoded: of an arm stage 1 22, stage 2 28,
  encoding 15, and 20 more for the losses of ``nested``: 215 in all.
- Cut, before any of it ran: from 200,000 tokens of stage 1, and two epochs of stage 2.

An arm whose result file is there is not run again; `--arms` runs some, so that two processes share the work, and the
summary is written when all are there.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Sequence
from functools import partial
from typing import Any

import arms
import numpy as np
import results
import torch
from arms import MIXTURE, READ_OUT, SCALES, Lab, Stage1
from domains import REGIMES, Domain
from flags import program_parser
from sentence_transformers.util import maxsim
from table5 import of_length
from tiny_models import make_backbone
from torch import Tensor

import lbr_st
from lbr_st.cli.main import run_command
from lbr_st.data.records import read_records
from lbr_st.metrics import Pairs
from lbr_st.model.nested import sizes
from lbr_st.use.nested import encode_vectors, read_out_losses, smallest_numbers

PROGRAM = "nested"
NESTED, ONE, R500 = "nested", "one", "r500"
LAST, BEST = "last", "best"
TOKENS, LENGTHS, DOCUMENTS = 8, (256, 768), 400
MARGINS, DECIDES = (0.02, 0.05, 0.1), 0.05
SEED = 0
STAGE1 = {
    NESTED: Stage1(MIXTURE, more={**READ_OUT, "bottleneck_tokens": TOKENS, "nested": True}),
    ONE: Stage1(MIXTURE, more=READ_OUT),
    R500: Stage1(MIXTURE, compression_ratio=500, more=READ_OUT),
}
# What differs from the scale; rows of so many tokens are faster by scaled dot product attention, and need memory.
LONG: dict[str, Any] = {
    "length": LENGTHS[1] + TOKENS,
    "stage1_tokens": 100_000,
    "stage1": {
        "learning_rate": 4e-4,
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 8,
        "attention": "sdpa",
        "train_sampling_strategy": "random",
    },
    "stage2": {"per_device_train_batch_size": 16, "mini_batch_size": 4, "attention": "sdpa"},
    "epochs": {200: 1},
    "learning_rates": (1e-4,),
    "temperatures": (0.02,),
}
TINY = dataclasses.replace(
    SCALES["smollm2"],
    **LONG
    | {
        "backbone": "tiny",
        "records": 600,
        "stage1_tokens": 20_000,
        "stage1": {"learning_rate": 1e-3, "per_device_train_batch_size": 4},
        "stage2": {"per_device_train_batch_size": 8},
        "epochs": {16: 1},
    },
)
POSITIONS = 2048  # of the tiny backbone, whose rows hold a document twice


def recall_at_10(queries: Sequence[Tensor], documents: Sequence[Tensor], pairs: Pairs) -> list[float]:
    """Return which share of its documents each query finds among the first ten, by the best match over vectors.

    Args:
        queries: Vectors of each query, ``(vectors, width)``.
        documents: The same of each document.
        pairs: What they are the vectors of.
    """
    first = maxsim(list(queries), list(documents)).topk(min(10, len(documents))).indices.tolist()
    return [len({*found} & {*right}) / len(right) for found, right in zip(first, pairs.relevant, strict=True)]


def by_length(numbers: Sequence[int], lengths: Sequence[int]) -> list[int]:
    """Deal out the same numbers of vectors by length: the most to the longest."""
    order = np.argsort(lengths, kind="stable")
    found = np.empty(len(numbers), int)
    found[order] = sorted(numbers)
    return found.tolist()


def read_nested(model: Any, pairs: Pairs) -> dict[str, Any]:
    """Score a nested model in every way that its documents are read."""
    queries = encode_vectors(model, pairs.queries, number=1, role="query")
    documents = encode_vectors(model, pairs.documents)
    losses = read_out_losses(model, pairs.documents)
    lengths = [len(ids) for ids in model[0].tokenize_rows(pairs.documents)]
    offered = sizes(model[0].num_bottleneck_tokens)
    ways = {f"{k}": [k] * len(documents) for k in offered}
    for margin in MARGINS:
        ways[f"loss_{margin}"] = chosen = smallest_numbers(losses, offered, margin)
        ways[f"length_{margin}"] = by_length(chosen, lengths)
    readings = {}
    for name, numbers in ways.items():
        first = [vectors[:k] for vectors, k in zip(documents, numbers, strict=True)]
        for kind, kept in ((LAST, [vectors[-1:] for vectors in first]), (BEST, first)):
            stored = float(np.mean([len(vectors) for vectors in kept]))
            readings[f"{name}_{kind}"] = {
                "recall_at_10": recall_at_10(queries, kept, pairs),
                "vectors": stored,
                "tokens": float(np.mean(numbers)),
            }
    return {
        "readings": readings,
        "read_out_loss": dict(zip(map(str, offered), losses.mean(dim=0).tolist(), strict=True)),
    }


def read_one(model: Any, pairs: Pairs) -> dict[str, Any]:
    """Score a model that has one vector a text."""
    options: dict[str, Any] = {"convert_to_tensor": True, "show_progress_bar": False}
    queries = model.encode_query(pairs.queries, **options).float().cpu()[:, None]
    documents = model.encode_document(pairs.documents, **options).float().cpu()[:, None]
    ids = set(model[0].bottleneck_token_ids)
    tokens = [sum(id_ in ids for id_ in row) for row in model[0].tokenize_rows(pairs.documents)]
    found = {"recall_at_10": recall_at_10([*queries], [*documents], pairs), "vectors": 1.0}
    return {"readings": {LAST: {**found, "tokens": float(np.mean(tokens))}}}


def run_arm(arm: str, domain: Domain, lab: Lab) -> dict[str, Any]:
    """Train an arm and score it; the model of stage 2 is not kept."""
    model = lab.stage1(domain, REGIMES[0], f"{PROGRAM}-{arm}", SEED, STAGE1[arm])
    [setting], [pairs] = lab.scale.grid, lab.scale.epochs
    trained = lab.stage2(domain, model, f"{PROGRAM}-{arm}", pairs, setting, SEED)
    corpus = Pairs.of(read_records(domain.test), read_records(domain.full, ("document",)))
    opened = arms.half(lbr_st.load(str(trained)))
    with torch.inference_mode():
        found = (read_nested if arm == NESTED else read_one)(opened, corpus)
    shutil.rmtree(trained)
    return {**found, "documents": len(corpus.documents)}


def figures_of(found: dict[str, dict[str, Any]]) -> dict[str, float]:
    """Return the figures: every reading, and the differences that the protocol names."""
    figures: dict[str, float] = {"documents": found[NESTED]["documents"]}
    recalls = {}
    for arm, result in found.items():
        for name, reading in result["readings"].items():
            recalls[f"{arm}_{name}"] = recall = np.array([reading["recall_at_10"]])
            figures[f"{arm}_{name}_recall_at_10"] = float(recall.mean())
            figures[f"{arm}_{name}_vectors"] = reading["vectors"]
            figures[f"{arm}_{name}_tokens"] = reading["tokens"]
    figures["queries"] = recalls[f"{ONE}_{LAST}"].size
    figures |= {f"{NESTED}_{size}_read_out_loss": loss for size, loss in found[NESTED]["read_out_loss"].items()}
    one_vector, by_loss = f"{NESTED}_1_{LAST}", f"{NESTED}_loss_{DECIDES}_{BEST}"
    others = (
        one_vector,
        f"{NESTED}_length_{DECIDES}_{BEST}",
        f"{NESTED}_{TOKENS}_{BEST}",
        f"{ONE}_{LAST}",
        f"{R500}_{LAST}",
    )
    for more, less in (*((by_loss, other) for other in others), (one_vector, f"{ONE}_{LAST}")):
        figures |= results.difference(f"{more}_less_{less}_recall_at_10", recalls[more], recalls[less])
    return {name.replace(".", "_"): round(value, 4) for name, value in figures.items()}


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what is missing and write the summary."""
    SCALES.setdefault("tiny", TINY)
    parser = program_parser(__doc__)
    parser.add_argument("--arms", nargs="+", choices=STAGE1, default=[*STAGE1], help="(default: all)")
    asked, lab, settings = arms.begin(argv, __doc__, ("medical",), scale="smollm2", parser=parser)
    medical = lab.domain("medical", asked.data)
    if asked.scale == "smollm2":
        lab = dataclasses.replace(lab, scale=dataclasses.replace(lab.scale, **LONG))
    if lab.scale.backbone == TINY.backbone:
        folder = lab.work / "backbone-tiny"
        if not folder.is_dir():
            make_backbone(folder, "llama", max_position_embeddings=POSITIONS)
        lab = dataclasses.replace(lab, scale=dataclasses.replace(lab.scale, backbone=str(folder)))
    domain = of_length(medical, lab, f"medical-{PROGRAM}", LENGTHS, max(lab.scale.epochs), DOCUMENTS)
    program = f"{PROGRAM}_tiny" if asked.scale == "tiny" else PROGRAM
    for arm in asked.chosen.arms:
        arms.measured(program, arm, SEED, settings, partial(run_arm, arm, domain, lab))
    found = arms.all_if_measured(program, [(arm, SEED) for arm in STAGE1], settings)
    if found is not None:
        arms.write_summary(program, asked, figures_of(dict(zip(STAGE1, found, strict=True))), found)


if __name__ == "__main__":
    run_command(main)
