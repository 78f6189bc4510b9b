"""How many tokens a second are encoded, beside sentence-transformers' own ``encode``, and where does the time go?

    python benchmarks/encode_speed.py                              # all parts, 25 minutes
    python benchmarks/encode_speed.py --parts 135m-mixed           # some of them; others may be run later
    python benchmarks/encode_speed.py --scale tiny                 # tiny models, seconds; results in encode_speed_tiny

Protocol, fixed before it ran. Minutes on two cores, estimated before: 135m: precision 0.5, passages 4.5, queries 2,
mixed 4.5, prompt64 2, profile 0.5; 0_5b: precision 2, passages 3.5, queries 2, mixed 3.

- Models have the shape of SmolLM2-135M (``135m``) and of Qwen2.5-0.5B (``0_5b``), with weights as they are drawn, saved
  in bf16; one bottleneck token, at most 512 tokens. Figures without a shape in their name are of ``135m``.
- Texts are seeded random words of one token each. ``queries`` have 6 to 20 tokens with the bottleneck token, each
  length as often. ``passages`` are log-normal, median 120, sigma 0.7, cut to 5 and 512. ``mixed`` is one query to one
  passage. ``prompt64`` are queries with an instruction of 64 tokens. They come in an order that chance makes.
- ``precision``: 100 texts of ``mixed`` in float32 and in bf16. bf16 is taken where it is faster and the least cosine of
  a text's two vectors is at least 0.999. All other parts of the shape compute in what was taken, ours and stock.
- ``ours`` is `TextEncoder` with the budget of tokens that its probe finds, as in a long run; the seconds of the probe
  are not counted. Its memory of a prompt is: each repeat begins with a new encoder.
- ``stock`` is ``SentenceTransformer.encode``. Every second text is encoded once with batches of 4, 8, ... 256 texts,
  until one has less than four fifths of the best speed, or all texts. The best size, and the next one if it is within
  5%, are in the repeats. Figures are over the one with the better median.
- ``default``, in ``mixed``, is what a user gets who sets nothing: float32, batches of 32.
- There are few texts, so that ``stock`` pads more than in a corpus of thousands, where texts of all lengths are many.
  ``share_of_padding_stock_passages`` and its like say how much of its tokens that is, and of ours.
- Repeats are interleaved, and each begins with the next arm. A ratio is taken within each repeat; the figure is the
  median of five, with the smallest and the largest. All arms must have the same vectors, to a cosine of 0.999.
- ``share_of_matmul_rate_passages``: operations of the layers' matrix products for the tokens of texts, a second of
  ``ours``, over the rate of the same products alone. That is measured in every repeat with the matrices of the first
  layer, for 256, 512, 1,024 and 2,048 rows, of which the best counts. Padding and attention count as nothing done.
- ``profile``: every second passage, ours, by torch.profiler: shares of the seconds of the thread that runs the model.
  ``python`` is what no operation accounts for, waiting for the tokenizer included. The tokenizer works beside it: its
  share is of the same seconds, and not one of the others. ``padding`` is a share of the model's tokens.

llama.cpp is measured by `llamacpp_speed.py`; memory of a long run, and two actors of Ray, by `encode_corpus.py`.

A part whose result file is there is not run again. Run it on a machine that does nothing else.
"""

from __future__ import annotations

import json
import math
import random
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import results
import torch
import torch.nn.functional as F
from flags import program_parser
from sentence_transformers import SentenceTransformer
from stage1_speed import make_text, make_words
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from tqdm import tqdm
from transformers import AutoConfig, AutoModelForCausalLM
from what_it_takes import SHAPES

import lbr_st
from lbr_st.cli.main import run_command
from lbr_st.errors import InputError
from lbr_st.model.bottleneck import bottleneck_module
from lbr_st.model.encoding import TextEncoder

PROGRAM = "encode_speed"
TOKENS = 512
QUERY_TOKENS, PROMPT_TOKENS = (6, 20), 64
PASSAGE_MEDIAN, PASSAGE_SIGMA, SHORTEST = 120, 0.7, 5
BATCH_SIZES, DEFAULT_SIZE = (4, 8, 16, 32, 64, 128, 256), 32
FALLING, NEARLY = 0.8, 0.95  # of the best speed: sizes after it are not tried; sizes that are repeated
LEAST_COSINE = 0.999
ROWS = (256, 512, 1024, 2048)  # of a matrix product alone
PRODUCTS = ("aten::addmm", "aten::mm", "aten::bmm", "aten::matmul", "aten::linear", "aten::mkldnn_linear")
GROUPS = ("matrix_products", "attention", "norms_and_other", "python")
SPEEDS = ("passages", "queries", "mixed", "prompt64")


@dataclass(frozen=True)
class Shape:
    """A model, and how many texts of each kind it encodes.

    Attributes:
        config: Configuration of its backbone.
        texts: Texts by kind.
    """

    config: dict[str, Any]
    texts: dict[str, int]


@dataclass(frozen=True)
class Scale:
    """How much is measured, of what.

    Attributes:
        shapes: Models by name.
        repeats: Timed runs of each arm.
        compared: Texts whose vectors are compared with those in float32.
    """

    shapes: dict[str, Shape]
    repeats: int = 5
    compared: int = 100


TINY = {"num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2,
        "intermediate_size": 64, "vocab_size": 8192}  # fmt: skip
OF_135M = {"passages": 128, "queries": 512, "mixed": 128, "prompt64": 128, "profile": 128}
OF_0_5B = {"passages": 32, "queries": 128, "mixed": 32}
SCALES = {
    "full": Scale({"135m": Shape(SHAPES["135m"], OF_135M), "0_5b": Shape(SHAPES["0.5b"], OF_0_5B)}),
    "tiny": Scale(
        {
            "135m": Shape(SHAPES["135m"] | TINY, dict.fromkeys(OF_135M, 24)),
            "0_5b": Shape(SHAPES["0.5b"] | TINY, dict.fromkeys(OF_0_5B, 12)),
        },
        repeats=3, compared=10,
    ),
}  # fmt: skip
NAMES = [f"{name}-{part}" for name, shape in SCALES["full"].shapes.items() for part in ("precision", *shape.texts)]


def text_lengths(kind: str, number: int, seed: int) -> list[int]:
    """Return how many tokens the texts of a kind have, the bottleneck token included."""
    drawn = np.random.default_rng(seed)
    if kind == "mixed":
        queries, passages = (text_lengths(of, number // 2, seed) for of in ("queries", "passages"))
        return [int(each) for each in drawn.permutation([*queries, *passages])]
    if kind == "passages":
        lengths = np.clip(np.round(drawn.lognormal(math.log(PASSAGE_MEDIAN), PASSAGE_SIGMA, number)), SHORTEST, TOKENS)
    else:
        shortest, longest = QUERY_TOKENS
        lengths = drawn.permutation(shortest + np.arange(number) % (longest - shortest + 1))
    return [int(each) for each in lengths]


class Bench:
    """A model of a shape in both precisions, and texts to encode.

    Args:
        folder: Folder for its backbone.
        shape: The shape.
        scale: How much is measured.
        seed: Seed of all draws.
    """

    def __init__(self, folder: Path, shape: Shape, scale: Scale, seed: int) -> None:
        self.folder, self.shape, self.scale, self.seed = folder, shape, scale, seed
        folder.mkdir()
        eos = make_words(folder)
        ids = {"bos_token_id": eos, "eos_token_id": eos, "tie_word_embeddings": True, "max_position_embeddings": 2048}
        torch.manual_seed(seed)
        config = AutoConfig.for_model(**{**shape.config, **ids})
        AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(folder)
        self.words: list[str] = json.loads((folder / "words.json").read_text(encoding="utf-8"))

    @cached_property
    def in_float32(self) -> SentenceTransformer:
        """The model in float32."""
        return self._open(torch.float32)

    @cached_property
    def in_bf16(self) -> SentenceTransformer:
        """The model in bf16."""
        return self._open(torch.bfloat16)

    def _open(self, dtype: torch.dtype) -> SentenceTransformer:
        model = lbr_st.from_backbone(str(self.folder), num_bottleneck_tokens=1, max_seq_length=TOKENS, dtype=dtype)
        return model.eval().to("cpu")

    def model(self, precision: str) -> SentenceTransformer:
        """Return the model in a precision."""
        return self.in_bf16 if precision == "bfloat16" else self.in_float32

    def texts(self, kind: str, number: int) -> list[str]:
        """Return texts of a kind."""
        rng = random.Random(f"{self.seed} {kind}")
        return [make_text(self.words, rng, tokens - 1) for tokens in text_lengths(kind, number, self.seed)]

    def prompt(self, kind: str) -> str:
        """Return what is put before texts of a kind."""
        return make_text(self.words, random.Random(self.seed), PROMPT_TOKENS) if kind == "prompt64" else ""


def ours(model: SentenceTransformer, texts: Sequence[str], prompt: str, budget: int) -> Tensor:
    """Encode by a new `TextEncoder`."""
    return TextEncoder(model, budget).encode(texts, prompt=prompt)


def stock(model: SentenceTransformer, texts: Sequence[str], prompt: str, size: int) -> Tensor:
    """Encode as sentence-transformers does."""
    return model.encode(
        list(texts), batch_size=size, prompt=prompt, convert_to_tensor=True, show_progress_bar=False
    ).float()


def timed(run: Callable[[], Tensor]) -> tuple[float, Tensor]:
    """Return the seconds of a run, and what it returns."""
    start = time.perf_counter()
    found = run()
    return time.perf_counter() - start, found


def least_cosine(one: Tensor, other: Tensor) -> float:
    """Return the least cosine of the two vectors of a text."""
    return float(F.cosine_similarity(one.double(), other.double()).min())


# ---- which precision


def measure_precision(bench: Bench) -> dict[str, Any]:
    """Encode texts in both precisions, and say which one is taken."""
    texts = bench.texts("mixed", bench.scale.compared)
    models = {"float32": bench.in_float32, "bfloat16": bench.in_bf16}
    seconds, vectors = {}, {}
    for precision, model in models.items():
        budget = TextEncoder(model).budget(math.inf)  # warms it up, too
        seconds[precision], vectors[precision] = timed(partial(ours, model, texts, "", budget))
    cosine = least_cosine(vectors["bfloat16"], vectors["float32"])
    chosen = chosen_precision(seconds, cosine)
    return {"texts": len(texts), "seconds": seconds, "least_cosine": cosine, "chosen": chosen}


def chosen_precision(seconds: Mapping[str, float], cosine: float) -> str:
    """Return bf16 where it is faster and near enough to float32, and else that."""
    is_better = seconds["bfloat16"] < seconds["float32"] and cosine >= LEAST_COSINE
    return "bfloat16" if is_better else "float32"


def figures_of_precision(found: dict[str, Any]) -> dict[str, float]:
    """Return the figures of both precisions."""
    seconds = found["seconds"]
    return {
        "least_cosine_bf16": found["least_cosine"],
        "speed_bf16_over_float32": seconds["float32"] / seconds["bfloat16"],
        "is_in_bf16": int(found["chosen"] == "bfloat16"),
    }


# ---- how fast


def measure_speed(kind: str, bench: Bench, precision: str) -> dict[str, Any]:
    """Encode texts of a kind by all arms, again and again."""
    model, prompt = bench.model(precision), bench.prompt(kind)
    texts = bench.texts(kind, bench.shape.texts[kind])
    rows = model[0].tokenize_rows([prompt + text for text in texts])  # type: ignore[operator]
    lengths = [len(row) for row in rows]
    budget = TextEncoder(model).budget(math.inf)
    some = texts[::2]
    tried = stock_speeds(lambda size: timed(partial(stock, model, some, prompt, size))[0], len(some))
    arms: dict[str, Callable[[], Tensor]] = {"ours": partial(ours, model, texts, prompt, budget)}
    arms |= {f"stock_{size}": partial(stock, model, texts, prompt, size) for size in repeated_sizes(tried)}
    if kind == "mixed":
        arms["default"] = partial(stock, bench.in_float32, texts, prompt, DEFAULT_SIZE)
        stock(bench.in_float32, texts[:2], prompt, 2)  # the first is slow
    seconds: dict[str, list[float]] = {arm: [] for arm in arms}
    rates, names, cosine, computed = [], [*arms], 1.0, dict.fromkeys(arms, 0)
    for repeat in tqdm(range(bench.scale.repeats), f"{kind}, {precision}", unit="repeats"):
        vectors = {}
        first = repeat % len(names)
        for arm in names[first:] + names[:first]:
            with watched(bench.in_float32 if arm == "default" else model) as seen:
                took, vectors[arm] = timed(arms[arm])
            seconds[arm].append(took)
            computed[arm] = int(seen["tokens"])
        cosine = min(cosine, *(least_cosine(vectors["ours"], vectors[arm]) for arm in names[1:]))
        if kind == "passages":
            rates.append(matmul_rate(model))
    if cosine < LEAST_COSINE:
        raise InputError(f"{kind}: a vector of ours has a cosine of {cosine:.4f} with that of another arm")
    return {
        "precision": precision, "texts": len(texts), "tokens": sum(lengths), "longest": max(lengths),
        "tokens_computed": computed, "batch_tokens": budget, "texts_a_second_tried": tried, "seconds": seconds,
        "least_cosine": cosine,
        "matmul_rates": rates, "operations": 2 * parameters_of_products(model) * sum(lengths),
    }  # fmt: skip


def stock_speeds(seconds_of: Callable[[int], float], texts: int) -> dict[str, float]:
    """Return the texts a second of batch sizes, until one is much slower than the best, or has all texts.

    Args:
        seconds_of: Encodes all texts with a batch size, and returns the seconds.
        texts: How many they are.
    """
    seconds_of(BATCH_SIZES[0])  # the first is slow
    speeds: dict[str, float] = {}
    for size in BATCH_SIZES:
        speeds[str(size)] = texts / seconds_of(size)  # a key of JSON
        if speeds[str(size)] < FALLING * max(speeds.values()) or size >= texts:
            break
    return speeds


def repeated_sizes(speeds: Mapping[str, float]) -> list[int]:
    """Return the best batch size, and the second best where it is nearly as fast."""
    best, *others = sorted(speeds, key=lambda size: -speeds[size])
    return [int(best), *(int(size) for size in others[:1] if speeds[size] >= NEARLY * speeds[best])]


def products(model: SentenceTransformer) -> list[list[nn.Linear]]:
    """Return what multiplies by a matrix in each layer."""
    module: Any = model[0]
    return [[each for each in layer.modules() if isinstance(each, nn.Linear)] for layer in module.model.model.layers]


def parameters_of_products(model: SentenceTransformer) -> int:
    """Return how many weights each token is multiplied by."""
    return sum(each.weight.numel() for layer in products(model) for each in layer)


@torch.inference_mode()
def matmul_rate(model: SentenceTransformer) -> float:
    """Return the operations a second of the matrix products of a layer alone, with as many rows as are best."""
    layer = products(model)[0]
    rates = []
    for rows in ROWS:
        seconds = 0.0
        for each in layer:
            given = torch.randn(rows, each.in_features, dtype=each.weight.dtype)
            seconds += min(timed(partial(each, given))[0] for _ in range(4))
        rates.append(2 * rows * sum(each.weight.numel() for each in layer) / seconds)
    return max(rates)


def figures_of_speed(kind: str, found: dict[str, Any]) -> dict[str, float]:
    """Return the figures of texts of a kind: ratios of each repeat, and tokens a second."""
    seconds = found["seconds"]
    best = min((arm for arm in seconds if arm.startswith("stock_")), key=lambda arm: statistics.median(seconds[arm]))
    vs_stock = "throughput_prompt64_vs_stock" if kind == "prompt64" else f"throughput_vs_stock_{kind}"
    figures = _spread(vs_stock, [a / b for a, b in zip(seconds[best], seconds["ours"], strict=True)])
    if "default" in seconds:
        ratios = [a / b for a, b in zip(seconds["default"], seconds["ours"], strict=True)]
        figures |= _spread(f"throughput_vs_default_{kind}", ratios)
        figures[f"tokens_per_second_default_{kind}"] = found["tokens"] / statistics.median(seconds["default"])
    if found["matmul_rates"]:
        done = [found["operations"] / each for each in seconds["ours"]]
        shares = [a / b for a, b in zip(done, found["matmul_rates"], strict=True)]
        figures |= _spread(f"share_of_matmul_rate_{kind}", shares)
        figures["matmul_gflops"] = statistics.median(found["matmul_rates"]) / 1e9
    for arm, end in (("ours", ""), (best, "_stock")):
        if kind != "prompt64":  # of a prompt that is computed once the tokens are not the same ones
            figures[f"share_of_padding{end}_{kind}"] = 1 - found["tokens"] / found["tokens_computed"][arm]
    return figures | {
        f"tokens_per_second_{kind}": found["tokens"] / statistics.median(seconds["ours"]),
        f"tokens_per_second_stock_{kind}": found["tokens"] / statistics.median(seconds[best]),
        f"batch_size_stock_{kind}": int(best.removeprefix("stock_")),
        f"batch_tokens_{kind}": found["batch_tokens"],
    }


def _spread(name: str, values: Sequence[float]) -> dict[str, float]:
    return {name: statistics.median(values), f"{name}_min": min(values), f"{name}_max": max(values)}


# ---- where the time goes


def measure_profile(bench: Bench, precision: str) -> dict[str, Any]:
    """Encode passages under a profiler."""
    model = bench.model(precision)
    texts = bench.texts("passages", bench.shape.texts["profile"])[::2]
    budget = TextEncoder(model).budget(math.inf)
    run = partial(ours, model, texts, "", budget)
    plain, _ = timed(run)
    with watched(model) as seen, profile(activities=[ProfilerActivity.CPU]) as profiled:
        whole, _ = timed(run)
    operations = {event.key: event.self_cpu_time_total / 1e6 for event in profiled.key_averages()}
    longest = sorted(operations, key=lambda name: -operations[name])[:25]
    return {
        "precision": precision, "batch_tokens": budget, "seconds_unprofiled": plain, "seconds": whole,
        "seconds_of_groups": grouped(operations, whole),
        "tokens": seen["tokens"], "padding": seen["tokens"] - seen["of_texts"],
        "seconds_tokenizer": seen["seconds"], "batches": seen["batches"],
        "seconds_of_operations": {name: operations[name] for name in longest},
    }  # fmt: skip


def grouped(operations: Mapping[str, float], seconds: float) -> dict[str, float]:
    """Part the seconds of a run by what they were spent on.

    Args:
        operations: Seconds of each operation of torch, without those that it calls.
        seconds: Those of the run.
    """
    found = dict.fromkeys(GROUPS, 0.0)
    for name, took in operations.items():
        attends = "attention" in name
        found["matrix_products" if name in PRODUCTS else "attention" if attends else "norms_and_other"] += took
    found["python"] = max(0.0, seconds - sum(operations.values()))
    return found


@contextmanager
def watched(model: SentenceTransformer) -> Iterator[Counter[str]]:
    """Count tokens that a model runs, those of its texts, batches, and the seconds of its tokenizer, for a while."""
    seen: Counter[str] = Counter()
    plain: Any = model.preprocess

    def preprocess(*args: Any, **kwargs: Any) -> Any:
        start = time.perf_counter()
        found = plain(*args, **kwargs)
        seen["seconds"] += time.perf_counter() - start  # type: ignore[assignment]
        seen["of_texts"] += int(found["attention_mask"].sum())
        return found

    def look(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        seen["tokens"] += kwargs["input_ids"].numel()
        seen["batches"] += 1

    backbone: Any = bottleneck_module(model).model.base_model
    hook = backbone.register_forward_pre_hook(look, with_kwargs=True)
    model.preprocess = preprocess  # type: ignore[method-assign]
    try:
        yield seen
    finally:
        hook.remove()
        del model.preprocess


def figures_of_profile(found: dict[str, Any]) -> dict[str, float]:
    """Return the shares of a profile."""
    figures = {f"share_of_{name}": took / found["seconds"] for name, took in found["seconds_of_groups"].items()}
    figures["share_of_tokenizer_beside"] = found["seconds_tokenizer"] / found["seconds"]
    figures["share_of_padding"] = found["padding"] / found["tokens"]
    return figures


def figures_of(name: str, found: dict[str, Any]) -> dict[str, float]:
    """Return the figures of a part; those of the first shape are without it in their names."""
    shape, _, part = name.partition("-")
    if part in SPEEDS:
        figures = figures_of_speed(part, found)
    else:
        figures = figures_of_precision(found) if part == "precision" else figures_of_profile(found)
    end = "" if shape == "135m" else f"_{shape}"
    return {f"{figure}{end}": round(value, 4) for figure, value in figures.items()}


def program_of(scale: str) -> str:
    """Return the name of the folder of results: what is tiny is no result."""
    return PROGRAM if scale == "full" else f"{PROGRAM}_{scale}"


class Run:
    """Result files of a scale, and what measures those that are not there.

    Args:
        scale: Name of the scale.
        seed: Seed of all draws.
    """

    def __init__(self, scale: str, seed: int) -> None:
        self.scale, self.name, self.seed = SCALES[scale], scale, seed
        self.program = program_of(scale)
        self.threads = torch.get_num_threads()

    def is_there(self, part: str) -> bool:
        """Tell whether a part is measured."""
        return results.is_measured(self.program, part, self.seed, self._settings(part))

    def read(self, part: str) -> dict[str, Any]:
        """Read the result file of a part."""
        return results.read_arm(self.program, part, self.seed)

    def measure(self, shape: str, parts: Sequence[str]) -> None:
        """Measure parts of a shape, and before them which precision they have, if that is not there."""
        first = f"{shape}-precision"
        with tempfile.TemporaryDirectory() as folder:
            bench = Bench(Path(folder, shape), self.scale.shapes[shape], self.scale, self.seed)
            if not self.is_there(first):
                self._keep(first, partial(measure_precision, bench))
            precision = self.read(first)["found"]["chosen"]
            for part in parts:
                kind = part.partition("-")[2]
                if kind == "profile":
                    self._keep(part, partial(measure_profile, bench, precision))
                elif kind in SPEEDS:
                    self._keep(part, partial(measure_speed, kind, bench, precision))

    def _settings(self, part: str) -> dict[str, Any]:
        shape = self.scale.shapes[part.partition("-")[0]]
        of_scale = {"repeats": self.scale.repeats, "compared": self.scale.compared}
        return {"scale": self.name, "threads": self.threads, **of_scale, **asdict(shape)}

    def _keep(self, part: str, measure: Callable[[], dict[str, Any]]) -> None:
        start = time.perf_counter()
        found = measure()
        minutes = (time.perf_counter() - start) / 60
        arm = {"found": found, "minutes": minutes, "settings": self._settings(part)}
        results.write_arm(self.program, part, self.seed, arm)


def main(argv: list[str] | None = None) -> None:
    """Measure the parts that were asked for and are not there, and write a summary of all that are."""
    parser = program_parser(__doc__)
    parser.add_argument("--parts", nargs="+", choices=NAMES, default=NAMES, metavar="PART", help=", ".join(NAMES))
    parser.add_argument("--scale", choices=SCALES, default="full", help="(default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
    args = parser.parse_args(argv)
    results.conditions()
    run = Run(args.scale, args.seed)
    for shape in run.scale.shapes:
        missing = [part for part in args.parts if part.startswith(f"{shape}-") and not run.is_there(part)]
        if missing:
            run.measure(shape, missing)
    arms = {part: run.read(part) for part in NAMES if run.is_there(part)}
    figures: dict[str, float] = {}
    for part, arm in arms.items():
        figures |= figures_of(part, arm["found"])
        figures[f"minutes_{part.replace('-', '_')}"] = round(arm["minutes"], 1)
    results.write_summary(run.program, figures, [*arms.values()], argv)
    for name, value in figures.items():
        print(f"{name} {value:g}")


if __name__ == "__main__":
    run_command(main)
