"""Does llama.cpp encode passages faster? The same weights, side by side in one process.

    OMP_NUM_THREADS=1 PYTHONPATH=.integrations/xllamacpp python benchmarks/llamacpp_speed.py    # 6 minutes
    ... --scale tiny                                       # a tiny model, seconds; results in llamacpp_speed_tiny

Protocol, fixed before it ran.

- The model is the one of `encode_speed.py` with the shape of SmolLM2-135M: weights as they are drawn, one bottleneck
  token, at most 512 tokens. llama.cpp reads what ``lbr export --to gguf`` writes of it, weights in f16.
- Texts are the passages of `encode_speed.py`, 32 in each repeat: the lengths are the same in all repeats, and the words
  are others, so that nothing can be remembered.
- ``ours_float32`` and ``ours_bfloat16`` are `TextEncoder` with the budget of tokens that its probe finds. The figure is
  that of bf16 if its median is the smaller one and the least cosine with float32 is at least 0.999, and else that of
  float32.
- ``llamacpp`` is llama.cpp's own server within Python (the package ``xllamacpp``), which is asked for all texts of a
  repeat at once: as many threads as ours, four slots that share one memory, batches as they come (2,048 tokens, 512 of
  them at a time). A wheel of it for all machines need not use all that a processor can do: which instructions it uses
  is in the result file.
- Five repeats, interleaved, each beginning with the next arm; a ratio is taken within each repeat, and the figure is
  the median of five. Vectors of all arms must have a cosine of at least 0.999.

What is there is not measured again. ``--beside`` says in the file what else the machine did meanwhile.
"""

from __future__ import annotations

import math
import random
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import results
import torch
from encode_speed import LEAST_COSINE, SCALES, TOKENS, Bench, chosen_precision, least_cosine, ours, text_lengths
from flags import program_parser
from interleaved import interleaved, ratio
from stage1_speed import make_text
from torch import Tensor

import lbr_st
from lbr_st.cli.main import run_command
from lbr_st.errors import InputError
from lbr_st.model.encoding import TextEncoder
from lbr_st.use.export import export

PROGRAM, ARM = "llamacpp_speed", "135m-passages"
SHAPE, KIND, PASSAGES = "135m", "passages", 32
SLOTS = 4
PRECISIONS = ("float32", "bfloat16")
LLAMACPP = "llamacpp"


class LlamaServer:
    """llama.cpp's server within Python, on a GGUF file.

    Args:
        file: The file.
        threads: Number of its threads.

    Raises:
        InputError: If the package is not installed.
    """

    def __init__(self, file: Path, threads: int) -> None:
        try:
            import xllamacpp
        except ImportError as error:
            raise InputError(f"xllamacpp cannot be imported ({error}); see its line in the Makefile") from error
        params = xllamacpp.CommonParams()
        params.model.path = str(file)
        params.embedding = True
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
        params.n_parallel, params.kv_unified = SLOTS, True
        params.n_ctx = SLOTS * 2 * TOKENS
        self.about = f"xllamacpp {xllamacpp.__version__}: {xllamacpp.get_system_info(params)}"
        self.server = xllamacpp.Server(params)

    def encode(self, texts: Sequence[str]) -> Tensor:
        """Return the vectors of texts, in their order: ``(texts, dimensions)``."""
        rows = self.server.handle_embeddings({"input": list(texts)})["data"]
        return torch.tensor([row["embedding"] for row in sorted(rows, key=lambda row: row["index"])])


def measure(scale_name: str, seed: int, folder: Path) -> dict[str, Any]:
    """Encode passages by all arms, again and again."""
    scale = SCALES[scale_name]
    bench = Bench(folder / "backbone", scale.shapes[SHAPE], scale, seed)
    lbr_st.save(bench.in_float32, folder / "model")
    server = LlamaServer(export(folder / "model", "gguf", folder / "gguf").file, torch.get_num_threads())
    of_repeat = [texts_of(bench, repeat) for repeat in range(scale.repeats)]
    models = {f"ours_{precision}": bench.model(precision) for precision in PRECISIONS}
    budgets = {name: TextEncoder(model).budget(math.inf) for name, model in models.items()}  # warms them up, too
    vectors: dict[str, list[Tensor]] = {name: [] for name in (*models, LLAMACPP)}

    def run_ours(name: str, repeat: int) -> None:
        vectors[name].append(ours(models[name], of_repeat[repeat], "", budgets[name]))

    def run_llamacpp(repeat: int) -> None:
        vectors[LLAMACPP].append(server.encode(of_repeat[repeat]))

    server.encode([text[: len(text) // 2] for text in of_repeat[0][:2]])  # the first is slow
    runs = {name: partial(run_ours, name) for name in models} | {LLAMACPP: run_llamacpp}
    seconds = interleaved(runs, scale.repeats)
    cosines = {
        name: min(map(least_cosine, each, vectors["ours_float32"], strict=True)) for name, each in vectors.items()
    }
    if min(cosines.values()) < LEAST_COSINE:
        raise InputError(f"the least cosines of the vectors with those in float32 are {cosines}")
    return {
        "seconds": seconds, "least_cosines": cosines, "batch_tokens": budgets, "llamacpp": server.about,
        "tokens": [tokens_of(bench, texts) for texts in of_repeat],
    }  # fmt: skip


def texts_of(bench: Bench, repeat: int) -> list[str]:
    """Return the passages of a repeat: the lengths of all repeats, and words of its own."""
    rng = random.Random(f"{bench.seed} {repeat}")
    return [make_text(bench.words, rng, tokens - 1) for tokens in text_lengths(KIND, PASSAGES, bench.seed)]


def tokens_of(bench: Bench, texts: Sequence[str]) -> int:
    """Return how many tokens texts have, the bottleneck tokens among them."""
    return sum(map(len, bench.in_float32[0].tokenize_rows(texts)))  # type: ignore[operator]


def figures_of(found: dict[str, Any]) -> dict[str, float]:
    """Return the figures of what was measured."""
    seconds = found["seconds"]
    medians = {name: statistics.median(each) for name, each in seconds.items()}
    of_ours = {precision: medians[f"ours_{precision}"] for precision in PRECISIONS}
    chosen = f"ours_{chosen_precision(of_ours, found['least_cosines']['ours_bfloat16'])}"
    figures = ratio("throughput_vs_llamacpp_passages", seconds[LLAMACPP], seconds[chosen])
    figures["is_in_bf16"] = int(chosen == "ours_bfloat16")
    for name, each in seconds.items():
        rates = [tokens / took for tokens, took in zip(found["tokens"], each, strict=True)]
        figures[f"tokens_per_second_{name}"] = statistics.median(rates)
        figures[f"least_cosine_{name}"] = found["least_cosines"][name]
    return {name: round(value, 4) for name, value in figures.items()}


def main(argv: list[str] | None = None) -> None:
    """Measure it if it is not there, and write the summary."""
    parser = program_parser(__doc__)
    parser.add_argument("--scale", choices=SCALES, default="full", help="(default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
    parser.add_argument("--beside", default="nothing", help="what else the machine does (default: %(default)s)")
    args = parser.parse_args(argv)
    results.conditions()
    program = PROGRAM if args.scale == "full" else f"{PROGRAM}_{args.scale}"
    scale, threads = SCALES[args.scale], torch.get_num_threads()
    settings = {"scale": args.scale, "threads": threads, "repeats": scale.repeats, **asdict(scale.shapes[SHAPE])}
    if not results.is_measured(program, ARM, args.seed, settings):
        start = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            found = measure(args.scale, args.seed, Path(folder))
        minutes = (time.perf_counter() - start) / 60
        arm = {"found": found, "minutes": minutes, "settings": settings, "beside": args.beside}
        results.write_arm(program, ARM, args.seed, arm)
    arm = results.read_arm(program, ARM, args.seed)
    figures = figures_of(arm["found"])
    results.write_summary(program, figures, [arm], argv)
    for name, value in figures.items():
        print(f"{name} {value:g}")


if __name__ == "__main__":
    run_command(main)
