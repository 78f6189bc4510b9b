"""What do fewer layers cost and gain? SmolLM2-135M in medicine: all its 30 layers, the first 20, and the first 12.

    OMP_NUM_THREADS=1 python benchmarks/fewer_layers.py --data DIR_WITH_MEDICAL_AND_CHEMISTRY

Protocol, fixed before it ran; the test set is not touched. SmolLM2-135M-Instruct, medicine as `domains.py` makes it,
corpus-taught, texts of 64 tokens, one bottleneck token, float32.

- Arms: ``lbr learn`` as it is, with ``--layers 20`` and with ``--layers 12``; nothing else differs.
- The settings are those of the default in `objectives.py`, which was measured with all layers; no rate is chosen for
  fewer. Stage 1 reads 60,000 tokens, half SFT-style, half reconstruction, with the read-out loss, at a rate of 4e-4.
  Stage 2: 200 pairs, two epochs of batches of 32, rate 1e-4, temperature 0.02, the last weights. Seed 0.
- Scores after stage 2: recall@10 and nDCG@10 of dev, its 500 questions in its documents and 500 training ones. What all
  layers find more has an interval, by a paired bootstrap over the questions; one seed says nothing of other seeds.
- Seconds of a stage are those of the whole call, loading and saving included.
- Encoding: the models as they are after stage 2, `TextEncoder`, the same 32 documents of dev, drawn at random, up to
  512 tokens each. Five repeats, interleaved, each beginning with the next model. Tokens a second are by the median; a
  ratio is taken within each repeat, and the figure is the median of five.
- Minutes on one core, estimated before it ran, with 30, 20 and 12 layers: stage 1 7, 5 and 4; stage 2 8, 6 and 4; dev
  4, 3 and 2. Encoding 4: 47.
- Cut, before it ran, to what the session holds: from the 100,000 tokens of `objectives.py`.

Each stage, score and the encoding has a result file, and what is there is not run again. ``--beside`` says in the files
what else the machine did meanwhile.
"""

from __future__ import annotations

import dataclasses
import random
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import arms
import domains
import numpy as np
import results
import torch
from arms import MIXTURE, READ_OUT, Lab, Stage1
from domains import Domain
from flags import program_parser
from interleaved import interleaved, ratio
from sentence_transformers import SentenceTransformer
from torch import Tensor

from lbr_st.cli.main import run_command
from lbr_st.data.records import read_records
from lbr_st.model.encoding import TextEncoder
from lbr_st.model.opening import open_sentence_transformer
from lbr_st.training.held_out import NDCG, RECALL, HeldOutEvaluator

PROGRAM = "fewer_layers"
LAYERS = (30, 20, 12)  # the first are all
REGIME = domains.REGIMES[0]
RATE, PAIRS, SETTING, SEED = 4e-4, 200, (1e-4, 0.02), 0
TOKENS, DISTRACTORS = 60_000, 500
PASSAGES, PASSAGE_TOKENS, REPEATS = 32, 512, 5
TRAINED = ("stage1", "stage2")
PARTS = (*TRAINED, "dev")


def stage1_of(layers: int) -> Stage1:
    """Return what stage 1 of an arm is."""
    fewer = {} if layers == LAYERS[0] else {"layers": layers}
    return Stage1(MIXTURE, more={**READ_OUT, "learning_rate": RATE, **fewer})


def cut(lab: Lab) -> Lab:
    """Return the lab with the tokens of stage 1 that are read here."""
    tokens = min(TOKENS, lab.scale.stage1_tokens)
    return dataclasses.replace(lab, scale=dataclasses.replace(lab.scale, stage1_tokens=tokens))


def learned(layers: int, domain: Domain, lab: Lab) -> Path:
    """Return the model of stage 1, which is trained once."""
    return Path(cut(lab).stage1(domain, REGIME, f"{PROGRAM}-{layers}", SEED, stage1_of(layers)))


def aligned(layers: int, domain: Domain, lab: Lab) -> Path:
    """Return the model of stage 2, which is trained once."""
    return stage2(learned(layers, domain, lab), layers, domain, lab)


def stage2(before: Path, layers: int, domain: Domain, lab: Lab) -> Path:
    """Train a model of stage 1 on pairs, once."""
    return lab.stage2(domain, before, f"{PROGRAM}-{layers}", PAIRS, SETTING, SEED)


def run(part: str, layers: int, domain: Domain, lab: Lab) -> dict[str, Any]:
    """Train or score an arm."""
    if part == "dev":
        return score(aligned(layers, domain, lab), domain)
    steps = cut(lab).stage1_steps(domain, REGIME, stage1_of(layers))  # how many is found out before the clock runs
    if part == "stage1":
        return {"steps": steps, "seconds": _seconds(partial(learned, layers, domain, lab))}
    before = learned(layers, domain, lab)
    return {"seconds": _seconds(partial(stage2, before, layers, domain, lab))}


def _seconds(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def score(model: Path, domain: Domain) -> dict[str, Any]:
    """Score a model on dev."""
    more = read_records(domain.dev_corpus, ("document",))[:DISTRACTORS]
    evaluator = HeldOutEvaluator(read_records(domain.dev), more)
    found = evaluator(open_sentence_transformer(str(model)))
    return {"recall_at_10": found[RECALL], "ndcg_at_10": found[NDCG], "recalls": evaluator.recalls}


def encode(domain: Domain, lab: Lab) -> dict[str, Any]:
    """Encode passages with the models of all arms, again and again."""
    documents = [record["document"] for record in read_records(domain.dev)]
    texts = random.Random(SEED).sample(documents, min(PASSAGES, len(documents)))
    models = {str(layers): open_sentence_transformer(str(aligned(layers, domain, lab))) for layers in LAYERS}
    for model in models.values():
        model.max_seq_length = PASSAGE_TOKENS
        TextEncoder(model).encode(texts[:2])  # the first is slow
    found = [int(model.preprocess(texts)["attention_mask"].sum()) for model in models.values()]
    assert len({*found}) == 1, found
    return {
        "tokens": found[0],
        "parameters": {name: sum(p.numel() for p in model.parameters()) for name, model in models.items()},
        "seconds": interleaved({name: partial(encoded, model, texts) for name, model in models.items()}, REPEATS),
    }


def encoded(model: SentenceTransformer, texts: Sequence[str], repeat: int) -> Tensor:
    """Encode texts as a new run does; all repeats do the same."""
    return TextEncoder(model).encode(texts)


def figures_of(found: dict[str, dict[str, Any]]) -> dict[str, float]:
    """Return the figures of all result files, by their names."""
    figures: dict[str, float] = {}
    encoding, everything = found["encoding"], str(LAYERS[0])
    for layers in map(str, LAYERS):
        of_arm = {part: found[f"{layers}-{part}"] for part in PARTS}
        figures |= {f"{name}_dev_{layers}_layers": of_arm["dev"][name] for name in ("recall_at_10", "ndcg_at_10")}
        figures |= {f"seconds_{part}_{layers}_layers": of_arm[part]["seconds"] for part in TRAINED}
        figures[f"million_parameters_{layers}_layers"] = encoding["parameters"][layers] / 1e6
        median = statistics.median(encoding["seconds"][layers])
        figures[f"tokens_per_second_{layers}_layers"] = encoding["tokens"] / median
        if layers == everything:
            continue
        of_all = {part: found[f"{everything}-{part}"] for part in PARTS}
        recalls = [np.array([each["dev"]["recalls"]]) for each in (of_all, of_arm)]
        figures |= results.difference(f"recall_at_10_dev_{everything}_less_{layers}_layers", *recalls)
        seconds = [sum(each[part]["seconds"] for part in TRAINED) for each in (of_all, of_arm)]
        figures[f"training_speed_{layers}_over_{everything}_layers"] = seconds[0] / seconds[1]
        of_both = (encoding["seconds"][name] for name in (everything, layers))
        figures |= ratio(f"encoding_speed_{layers}_over_{everything}_layers", *of_both)
    return figures


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what is not there, and write the summary."""
    parser = program_parser(__doc__)
    parser.add_argument("--beside", default="nothing", help="what else the machine does (default: %(default)s)")
    asked, lab, settings = arms.begin(argv, __doc__, ("medical",), scale="smollm2", parser=parser)
    domain = lab.domain("medical", asked.data)
    meanwhile = {"beside": asked.chosen.beside, "threads": torch.get_num_threads()}
    jobs: dict[str, Callable[[], dict[str, Any]]] = {
        f"{layers}-{part}": partial(run, part, layers, domain, lab) for layers in LAYERS for part in PARTS
    }
    jobs["encoding"] = partial(encode, domain, lab)

    def measured(name: str) -> dict[str, Any]:
        return arms.measured(PROGRAM, name, SEED, settings, lambda: {**jobs[name](), **meanwhile})

    found = {name: measured(name) for name in jobs}
    figures = {name: round(value, 4) for name, value in figures_of(found).items()}
    arms.write_summary(PROGRAM, asked, figures, [*found.values()])
    for name, value in figures.items():
        print(f"{name} {value:g}")


if __name__ == "__main__":
    run_command(main)
