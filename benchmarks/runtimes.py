"""Which runtime encodes fastest on this machine, and how near do its vectors come? One model, in all that run it.

    OMP_NUM_THREADS=1 python benchmarks/runtimes.py --model lbr-model --data quickstart/domain

Protocol, fixed before it ran. Minutes on one core, estimated before, of SmolLM2-135M: exports 3, passages 5, queries 2,
latency 1.

- The model is any that was saved, as `make quickstart` leaves one; its texts are of a prepared set: 24 documents of
  its corpus and 48 test queries, drawn at random.
- Arms: ``torch`` in float32, ``torch_bf16``, and each other runtime of ``--runtime``; all through `TextEncoder`, with
  the budget of tokens that a probe finds for each. ``default`` is what a user gets who sets nothing:
  ``SentenceTransformer.encode``, float32, batches of 32. Nothing remembers a text: an encoder is new in each repeat.
- Five repeats, interleaved, each beginning with the next arm. A ratio is taken within each repeat, and the figure is
  the median. ``least_cosine``: of a vector of a passage or query and that of ``default``.
- ``latency``: 20 of the queries one at a time, by ``encode_query``; the figure is a ratio of medians.
- The exports are made anew in a temporary folder; ``seconds_to_open`` has their making and comparison. A runtime whose
  vectors are too far from those of the model is refused by the package, and the file says so: it is not timed.

``--beside`` says in the file what else the machine did meanwhile. What is there is not measured again.
"""

from __future__ import annotations

import math
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import results
import torch
from encode_speed import least_cosine, stock
from flags import program_parser
from interleaved import interleaved, ratio
from sentence_transformers import SentenceTransformer
from torch import Tensor

from lbr_st.cli.main import run_command
from lbr_st.data.prepared_set import file_of
from lbr_st.data.records import read_records
from lbr_st.errors import InputError
from lbr_st.model.contract import fingerprint
from lbr_st.model.encoding import TextEncoder
from lbr_st.model.lengths import prompt_of
from lbr_st.use.runtimes import RUNTIMES, TORCH, Computing

PROGRAM, ARM = "runtimes", "all"
PASSAGES, QUERIES, ONE_BY_ONE, REPEATS, DEFAULT_SIZE = 24, 48, 20, 5, 32
WAYS = {
    "torch": Computing(TORCH, "float32"),
    "torch_bf16": Computing(TORCH, "bfloat16"),
    **{name.replace("-", "_"): Computing(name) for name in RUNTIMES if name != TORCH},
}
ROLES = {"passages": "document", "queries": "query"}


def texts_of(data: str, seed: int) -> dict[str, list[str]]:
    """Draw passages and queries of a prepared set."""
    rng = random.Random(seed)
    documents = [record["document"] for record in read_records(file_of(data, "corpus"), ("document",))]
    queries = [record["query"] for record in read_records(file_of(data, "test"))]
    return {
        "passages": rng.sample(documents, min(PASSAGES, len(documents))),
        "queries": rng.sample(queries, min(QUERIES, len(queries))),
    }


def opened(model: str) -> tuple[dict[str, SentenceTransformer], dict[str, float], dict[str, str]]:
    """Open a model in each way; return the seconds that it took, an export included, and why a way is refused."""
    models, seconds, refused = {}, {}, {}
    for name, way in WAYS.items():
        start = time.perf_counter()
        try:
            models[name] = way.open(model)
        except InputError as error:  # an export whose vectors are too far from those of the model
            refused[name] = str(error).removeprefix(f"--model {model}, ")
        seconds[name] = time.perf_counter() - start
    return models, seconds, refused


def measure(model: str, texts: Mapping[str, list[str]], repeats: int) -> dict[str, Any]:
    """Encode texts of both kinds in each way, again and again, and queries one at a time."""
    models, seconds_to_open, refused = opened(model)
    budgets = {name: TextEncoder(each).budget(math.inf) for name, each in models.items()}
    found: dict[str, Any] = {"seconds_to_open": seconds_to_open, "refused": refused, "batch_tokens": budgets}
    found["seconds"] = {}
    cosines: dict[str, float] = dict.fromkeys(models, 1.0)
    for kind, role in ROLES.items():
        vectors: dict[str, Tensor] = {}
        runs: dict[str, Callable[[int], Any]] = {
            name: partial(_ours, vectors, name, each, texts[kind], role, budgets[name]) for name, each in models.items()
        }
        runs["default"] = partial(_default, vectors, models["torch"], texts[kind], role)
        found["seconds"][kind] = interleaved(runs, repeats)
        for name in models:
            cosines[name] = min(cosines[name], least_cosine(vectors[name], vectors["default"]))
    found["least_cosines"] = cosines
    found["seconds"]["latency"] = latencies(models, texts["queries"][:ONE_BY_ONE])
    return found


def _ours(
    vectors: dict[str, Tensor], name: str, model: SentenceTransformer, texts: list[str], role: str, budget: int, _: int
) -> None:
    vectors[name] = TextEncoder(model, budget).encode(texts, role)


def _default(vectors: dict[str, Tensor], model: SentenceTransformer, texts: list[str], role: str, _: int) -> None:
    vectors["default"] = stock(model, texts, prompt_of(model, role), DEFAULT_SIZE)


def latencies(models: Mapping[str, SentenceTransformer], queries: list[str]) -> dict[str, list[float]]:
    """Return the seconds of single queries, in turn."""

    def one(model: SentenceTransformer, number: int) -> None:
        model.encode_query(queries[number], show_progress_bar=False)

    for model in models.values():
        one(model, 0)  # the first is slow
    return interleaved({name: partial(one, model) for name, model in models.items()}, len(queries))


def figures_of(found: dict[str, Any]) -> dict[str, float]:
    """Return the figures of what was measured."""
    figures: dict[str, float] = {}
    for kind in ROLES:
        seconds = found["seconds"][kind]
        for name in found["batch_tokens"]:
            if name != "torch":
                figures |= ratio(f"throughput_{name}_over_torch_{kind}", seconds["torch"], seconds[name])
            figures |= ratio(f"throughput_{name}_over_default_{kind}", seconds["default"], seconds[name])
    medians = {name: statistics.median(each) for name, each in found["seconds"]["latency"].items()}
    for name in found["batch_tokens"]:
        figures[f"milliseconds_of_a_query_{name}"] = 1000 * medians[name]
        figures[f"least_cosine_{name}"] = found["least_cosines"][name]
        figures[f"seconds_to_open_{name}"] = found["seconds_to_open"][name]
    figures |= {f"is_refused_{name}": 1 for name in found["refused"]}
    return {name: round(value, 4) for name, value in figures.items()}


def main(argv: list[str] | None = None) -> None:
    """Measure it if it is not there, and write the summary."""
    parser = program_parser(__doc__)
    parser.add_argument("--model", required=True, help="directory of a saved model")
    parser.add_argument("--data", required=True, help="prepared set whose documents and queries are encoded")
    parser.add_argument("--repeats", type=int, default=REPEATS, help="(default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
    parser.add_argument("--beside", default="nothing", help="what else the machine does (default: %(default)s)")
    args = parser.parse_args(argv)
    results.conditions()
    settings = {"model": fingerprint(args.model), "threads": torch.get_num_threads(), "repeats": args.repeats}
    if not results.is_measured(PROGRAM, ARM, args.seed, settings):
        start = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            os.environ["XDG_CACHE_HOME"] = str(Path(folder))  # exports are made anew
            found = measure(args.model, texts_of(args.data, args.seed), args.repeats)
        minutes = (time.perf_counter() - start) / 60
        results.write_arm(
            PROGRAM, ARM, args.seed,
            {"found": found, "minutes": minutes, "settings": settings, "beside": args.beside},
        )  # fmt: skip
    arm = results.read_arm(PROGRAM, ARM, args.seed)
    figures = figures_of(arm["found"])
    results.write_summary(PROGRAM, figures, [arm], argv)
    for name, value in figures.items():
        print(f"{name} {value:g}")


if __name__ == "__main__":
    run_command(main)
