"""Does llama.cpp encode passages faster? The same weights, one after the other on the same threads.

    OMP_NUM_THREADS=1 python benchmarks/llamacpp_speed.py    # 6 minutes; make test-integrations made llama.cpp
    ... --scale tiny                                         # a tiny model, seconds; results in llamacpp_speed_tiny

Protocol, fixed before it ran.

- The model is the one of `encode_speed.py` with the shape of SmolLM2-135M: weights as they are drawn, one bottleneck
  token, at most 512 tokens. llama.cpp reads what ``lbr export --to gguf`` writes of it, weights in f16.
- Texts are the passages of `encode_speed.py`, 24 in each repeat: the lengths are the same in all repeats, and the words
  are others, so that nothing can be remembered.
- ``ours_float32`` and ``ours_bfloat16`` are `TextEncoder` with the budget of tokens that its probe finds. The figure is
  that of bf16 if its median is the smaller one and the least cosine with float32 is at least 0.999, and else that of
  float32.
- ``llamacpp`` is llama.cpp in node-llama-cpp, which brings it built for each kind of processor and takes the one of
  this machine; the instructions that it uses are in the result file. It has as many threads as ours, encodes a text
  after the other, as its embeddings do, and runs in a process that waits while ours encode.
- Five repeats, interleaved, each beginning with the next arm; a ratio is taken within each repeat, and the figure is
  the median of five. Vectors of all arms must have a cosine of at least 0.999.

What is there is not measured again. ``--beside`` says in the file what else the machine did meanwhile.
"""

from __future__ import annotations

import json
import math
import random
import statistics
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Self

import results
import torch
from encode_speed import LEAST_COSINE, SCALES, Bench, chosen_precision, least_cosine, ours, text_lengths
from flags import program_parser
from interleaved import interleaved, ratio
from stage1_speed import make_text
from torch import Tensor

import lbr_st
from lbr_st.cli.main import run_command
from lbr_st.errors import InputError, one_line
from lbr_st.model.encoding import TextEncoder
from lbr_st.use.export import export

PROGRAM, ARM = "llamacpp_speed", "135m-passages"
SHAPE, KIND, PASSAGES = "135m", "passages", 24
PRECISIONS = ("float32", "bfloat16")
LLAMACPP, PROGRAM_FILE = "llamacpp", "lbr_llamacpp_speed.mjs"


# Prints what it runs on, and for each line with a list of texts a line with their vectors.
ENCODE = """
import readline from "node:readline";
import {getLlama, LlamaLogLevel} from "node-llama-cpp";
const [file, threads] = [process.argv[2], Number(process.argv[3])];
const llama = await getLlama({gpu: false, build: "never", logLevel: LlamaLogLevel.error, maxThreads: threads});
const model = await llama.loadModel({modelPath: file});
const context = await model.createEmbeddingContext({threads});
console.log(JSON.stringify(llama.systemInfo));
for await (const line of readline.createInterface({input: process.stdin})) {
  const vectors = [];
  for (const text of JSON.parse(line)) vectors.push((await context.getEmbeddingFor(model.tokenize(text, true))).vector);
  console.log(JSON.stringify(vectors));
}
"""


class LlamaCpp:
    """llama.cpp in Node.js, on a GGUF file; a context that ends it.

    Args:
        folder: Folder with node-llama-cpp in its ``node_modules``.
        file: The file.
        threads: Number of its threads.

    Attributes:
        about: What it says of the processor.

    Raises:
        InputError: If it does not start.
    """

    def __init__(self, folder: Path, file: Path, threads: int) -> None:
        command = ["node", PROGRAM_FILE, str(file), str(threads)]
        try:
            (folder / PROGRAM_FILE).write_text(ENCODE, encoding="utf-8")  # a file, as it starts itself again
            self.process = subprocess.Popen(
                command, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
            )
            self.about = self._read()
        except (OSError, ValueError) as error:
            raise InputError(f"--llamacpp {folder}: llama.cpp does not start ({one_line(error)})") from error

    def __enter__(self) -> Self:
        """Return it."""
        return self

    def __exit__(self, *error: object) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()

    def encode(self, texts: Sequence[str]) -> Tensor:
        """Return the vectors of texts, in their order: ``(texts, dimensions)``."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(list(texts)) + "\n")
        self.process.stdin.flush()
        return torch.tensor(self._read())

    def _read(self) -> Any:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())


def measure(scale_name: str, seed: int, folder: Path, llamacpp: Path) -> dict[str, Any]:
    """Encode passages by all arms, again and again.

    Args:
        scale_name: Name of the scale.
        seed: Seed of all draws.
        folder: Folder for the model.
        llamacpp: Folder with node-llama-cpp.
    """
    scale = SCALES[scale_name]
    bench = Bench(folder / "backbone", scale.shapes[SHAPE], scale, seed)
    lbr_st.save(bench.in_float32, folder / "model")
    file = export(folder / "model", "gguf", folder / "gguf").file
    with LlamaCpp(llamacpp, file, torch.get_num_threads()) as other:
        return compare(bench, other)


def compare(bench: Bench, other: LlamaCpp) -> dict[str, Any]:
    """Encode passages with a model and by llama.cpp."""
    repeats = bench.scale.repeats
    of_repeat = [texts_of(bench, repeat) for repeat in range(repeats)]
    models = {f"ours_{precision}": bench.model(precision) for precision in PRECISIONS}
    budgets = {name: TextEncoder(model).budget(math.inf) for name, model in models.items()}  # warms them up, too
    vectors: dict[str, list[Tensor]] = {name: [] for name in (*models, LLAMACPP)}

    def run_ours(name: str, repeat: int) -> None:
        vectors[name].append(ours(models[name], of_repeat[repeat], "", budgets[name]))

    def run_llamacpp(repeat: int) -> None:
        vectors[LLAMACPP].append(other.encode(of_repeat[repeat]))

    other.encode([text[: len(text) // 2] for text in of_repeat[0][:2]])  # the first is slow
    runs = {name: partial(run_ours, name) for name in models} | {LLAMACPP: run_llamacpp}
    seconds = interleaved(runs, repeats)
    cosines = {
        name: min(least_cosine(*both) for both in zip(each, vectors["ours_float32"], strict=True))
        for name, each in vectors.items()
    }
    if min(cosines.values()) < LEAST_COSINE:
        raise InputError(f"the least cosines of the vectors with those in float32 are {cosines}")
    return {
        "seconds": seconds, "least_cosines": cosines, "batch_tokens": budgets, "llamacpp": other.about,
        "tokens": [tokens_of(bench, texts) for texts in of_repeat],
    }  # fmt: skip


def texts_of(bench: Bench, repeat: int) -> list[str]:
    """Return the passages of a repeat: the lengths of all repeats, and words of its own."""
    rng = random.Random(f"{bench.seed} {repeat}")
    return [make_text(bench.words, rng, tokens - 1) for tokens in text_lengths(KIND, PASSAGES, bench.seed)]


def tokens_of(bench: Bench, texts: Sequence[str]) -> int:
    """Return how many tokens texts have, the bottleneck tokens among them."""
    rows = bench.in_float32[0].tokenize_rows(texts)  # type: ignore[operator]
    return sum(len(row) for row in rows)


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
    parser.add_argument(
        "--llamacpp",
        type=Path,
        default=".integrations/llamacpp",
        help="folder with node-llama-cpp (default: %(default)s)",
    )
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
            found = measure(args.scale, args.seed, Path(folder), args.llamacpp)
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
