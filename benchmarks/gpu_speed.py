"""How fast are both stages and encoding on a GPU, at the size of SmolLM2-135M and of the paper's backbones?

    make bench-gpu            # or: PYTHONPATH=. python benchmarks/gpu_speed.py

Needs torch, transformers, sentence-transformers and peft, and nothing else: what `stage1_speed.py` measures through
trainers on a CPU is measured here with a plain loop.

- Backbones of random weights: ``135m``, a Llama in the shape of SmolLM2-135M (30 layers, 576 wide, 49,152 embeddings);
  ``1.5b``, a Qwen2 in the shape of Qwen2-1.5B (28 layers, 1536 wide, 151,936 embeddings). Random token ids. bf16
  autocast on float32 weights, AdamW.
- Arms of stage 1: `ibgl`, one bottleneck token; `read_out`, the same with the read-out loss, which is the default;
  `control`, without a bottleneck (`arm="plain"`); `sft`, transformers' own loss of the same rows, with the logits of
  all of them; `full_logits`, `ibgl` with the logits of all rows; `ibgl_flex`, `ibgl` with FlexAttention; `packed` and
  `packed_flex`, the same pairs packed into rows of 2,048 tokens; `reconstruct` (and `_flex`) and `pretraining`,
  passages of 512 tokens.
- Arm of stage 2: `align`, InfoNCE over the same pairs.
- Arm of encoding: `encode`, sentence-transformers' `encode` of texts of 128 tokens with bf16 weights, tokenizing
  included. The texts are random letters, of which each is a token.
- A batch has 64 pairs or 16 passages; of ``1.5b`` 24 pairs or 6 passages, which is what 80 GB hold.
- A step is timed from synchronization to synchronization, after two that are not timed; arms are interleaved and
  repeated. FlexAttention comes after all others, as nobody knows how long its kernels take to compile. Figures are
  medians: tokens a second without padding; GiB allocated at most; ratios within each repeat.
- `share_of_matmul_rate`: floating point operations of the model's matrix products and of the attention that the mask
  allows, forward and, in training, backward, a second, over the rate that this card reaches in a bf16 matrix product.
  Of the head, only what the loss needs is counted.

An arm that runs out of memory or time is left out; the others go on. Results are written after each shape.
"""

from __future__ import annotations

import dataclasses
import gc
import random
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import results
import torch
import torch.nn.functional as F
from gpu_part import Part, part_parser, require_device
from plain_stages import Embedder
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Normalize
from sentence_transformers.sentence_transformer.modules import Pooling
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from lbr_st.alignment.losses import info_nce
from lbr_st.cli.main import run_command
from lbr_st.learning.batches import IGNORE, Example, PackedRows, collate, pack
from lbr_st.learning.masked_model import READ_OUT_WEIGHT, CutOffModel
from lbr_st.model.bottleneck import BottleneckTransformer
from lbr_st.model.cutoff import BOTTLENECK, PREFIX, SOURCE, TARGET, cutoff_mask
from lbr_st.model.tokens import add_bottleneck_tokens

PROGRAM = "gpu_speed"
PACKED_LENGTH = 2048
TEMPERATURE = 0.02
WARM_UP = 2  # steps of each arm that are not timed
LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class Shape:
    """A backbone, and how much of it is measured at a time.

    Attributes:
        config: Its configuration; the weights are random.
        pairs: Pairs of a batch.
        passages: Passages of a batch.
        passage_length: Their length in tokens.
        texts: Texts to encode.
        text_length: Their length in tokens.
        encode_batch: Texts encoded at a time.
        matmul_size: Rows and columns of the matrices of `matmul_rate`.
        repeats: Timed steps of each arm.
    """

    config: dict[str, Any]
    pairs: int
    passages: int
    passage_length: int = 512
    texts: int = 1024
    text_length: int = 128
    encode_batch: int = 128
    matmul_size: int = 8192
    repeats: int = 7

    @property
    def toy(self) -> Shape:
        """The same architecture, for a CPU."""
        tiny = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1}
        return dataclasses.replace(
            self, config={**self.config, **tiny, "intermediate_size": 128, "vocab_size": 512}, pairs=4, passages=2,
            passage_length=16, texts=8, text_length=16, encode_batch=4, matmul_size=512, repeats=1,
        )  # fmt: skip


SHAPES = {
    "135m": Shape(
        {"model_type": "llama", "hidden_size": 576, "num_hidden_layers": 30, "num_attention_heads": 9,
         "num_key_value_heads": 3, "intermediate_size": 1536, "vocab_size": 49_152},
        pairs=64, passages=16, texts=4096,
    ),
    "1.5b": Shape(
        {"model_type": "qwen2", "hidden_size": 1536, "num_hidden_layers": 28, "num_attention_heads": 12,
         "num_key_value_heads": 2, "intermediate_size": 8960, "vocab_size": 151_936},
        pairs=24, passages=6,
    ),
}  # fmt: skip
RATIOS = {
    "time_ratio_vs_sft": ("seconds", "ibgl", "sft"),
    "time_ratio_vs_control": ("seconds", "ibgl", "control"),
    "time_ratio_read_out_vs_ibgl": ("seconds", "read_out", "ibgl"),
    "memory_ratio_vs_sft": ("gib", "ibgl", "sft"),
    "memory_ratio_vs_full_logits": ("gib", "ibgl", "full_logits"),
    "time_ratio_flex_vs_sdpa": ("seconds", "ibgl_flex", "ibgl"),
    "time_ratio_packed_vs_padded": ("seconds", "packed", "ibgl"),
    "time_ratio_packed_flex_vs_padded": ("seconds", "packed_flex", "ibgl"),
    "time_ratio_reconstruct_vs_pretraining": ("seconds", "reconstruct", "pretraining"),
    "time_ratio_reconstruct_flex_vs_pretraining": ("seconds", "reconstruct_flex", "pretraining"),
}
# What was measured of an arm, by name: of a step, and of all repeats.
Step = dict[str, float]
Measured = dict[str, list[float]]


def make_example(rng: random.Random, vocabulary: int, x: int, y: int, bottleneck: bool = True) -> Example:
    """Return ``[X Z Y]`` of random tokens, or ``[X Y]`` with X in sight."""
    parts = [SOURCE if bottleneck else PREFIX] * x + [BOTTLENECK] * bottleneck + [TARGET] * y
    ids = [rng.randrange(vocabulary) for _ in parts]
    first = len(parts) - y
    labels = [IGNORE] * max(first, 1) + ids[max(first, 1) :]
    return {"input_ids": ids, "segments": parts, "labels": labels}


def make_batches(vocabulary: int, pairs: int, passages: int, length: int) -> dict[str, dict[str, Tensor]]:
    """Return the batch of each kind; ``queries`` and ``documents`` are the sides of ``pairs``, each with its Z."""
    lengths = [(random.Random(n).randint(20, 100), random.Random(-1 - n).randint(30, 128)) for n in range(pairs)]

    def examples(of: Iterable[tuple[int, int]], bottleneck: bool = True) -> list[Example]:
        rng = random.Random(0)
        return [make_example(rng, vocabulary, x, y, bottleneck) for x, y in of]

    rows = examples(lengths)
    sizes = [len(row["input_ids"]) for row in rows]
    packed = PackedRows(rows, pack(sizes, PACKED_LENGTH, seed=0), sizes)
    return {
        "pairs": collate(rows),
        "plain": collate(examples(lengths, bottleneck=False)),
        "packed": collate([packed[n] for n in range(len(packed))]),
        "reconstruct": collate(examples([(length, length)] * passages)),
        "pretraining": collate(examples([(0, length)] * passages, bottleneck=False)),
        "queries": collate(examples((x, 0) for x, _ in lengths)),
        "documents": collate(examples((y, 0) for _, y in lengths)),
    }


def attended_pairs(batch: dict[str, Tensor]) -> int:
    """Count the (row, column) pairs that the mask allows, summed over the rows of a batch."""
    total = 0
    for row in range(len(batch["input_ids"])):
        keep = batch["attention_mask"][row].bool()
        segments = batch["segments"][row][keep]
        sequences = batch["sequences"][row][keep] if "sequences" in batch else torch.zeros_like(segments)
        for sequence in sequences.unique():
            parts = segments[sequences == sequence]
            n, y = len(parts), int((parts == TARGET).sum())
            hidden_from_y = y * int((parts == SOURCE).sum())
            total += n * (n + 1) // 2 - hidden_from_y
    return total


@dataclass(frozen=True)
class Work:
    """What a forward pass has to compute.

    Attributes:
        tokens: Tokens, padding not counted.
        logits: Rows of logits that the loss needs.
        attended: Pairs of tokens of which one attends to the other.
    """

    tokens: int
    logits: int
    attended: int

    @classmethod
    def of(cls, batches: Sequence[dict[str, Tensor]], read_outs: int = 0) -> Work:
        """Count it in batches.

        Args:
            batches: Batches of `make_batches`.
            read_outs: Rows of logits beside those of the targets.
        """
        return cls(
            tokens=sum(int(batch["attention_mask"].sum()) for batch in batches),
            logits=sum(int((batch["labels"][:, 1:] != IGNORE).sum()) for batch in batches) + read_outs,
            attended=sum(attended_pairs(batch) for batch in batches),
        )

    def operations(self, config: Any, body: int, backward: bool = True) -> float:
        """Return the floating point operations.

        Args:
            config: Configuration of the language model.
            body: Parameters of its matrices, without embeddings and head.
            backward: Count the backward pass too, which has twice as many.
        """
        width = config.num_hidden_layers * config.hidden_size
        head = config.vocab_size * config.hidden_size
        forward = 2 * (body * self.tokens + head * self.logits) + 4 * width * self.attended
        return 3 * forward if backward else forward


def matmul_rate(device: str, size: int) -> float:
    """Return the floating point operations a second of a bf16 matrix product."""
    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    seconds = []
    for _ in range(50):
        synchronize(device)
        start = time.perf_counter()
        a @ b
        synchronize(device)
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / statistics.median(seconds[30:])  # an idle card takes some time to clock up


def synchronize(device: str) -> None:
    """Wait for the card."""
    if device == "cuda":
        torch.cuda.synchronize()


def embedding_model(language_model: PreTrainedModel, length: int) -> SentenceTransformer:
    """Return a language model as an embedding model, with a tokenizer of which each token is a byte.

    Args:
        language_model: The language model; it becomes a part of the other.
        length: Longest text in tokens.
    """
    vocabulary = {letter: n for n, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    whole = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>")
    whole, ids = add_bottleneck_tokens(language_model, whole, 1)  # type: ignore[assignment]
    module = BottleneckTransformer(language_model, whole, bottleneck_token_ids=ids, max_seq_length=length)
    pooling = Pooling(module.get_embedding_dimension(), pooling_mode="lasttoken")
    return SentenceTransformer(modules=[module, pooling, Normalize()], device=str(language_model.device))


class Bench:
    """A backbone of a shape with its optimizer and batches, and its arms.

    Args:
        shape: Its shape.
        device: Where it is.
    """

    def __init__(self, shape: Shape, device: str) -> None:
        self.shape, self.device = shape, device
        config = AutoConfig.for_model(**shape.config, tie_word_embeddings=True, max_position_embeddings=32_768)
        torch.manual_seed(0)
        with torch.device(device):
            self.model: Any = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa", dtype=torch.float32)
        self.body = sum(p.numel() for name, p in self.model.named_parameters() if "embed" not in name)
        self.encoder = embedding_model(self.model, shape.text_length)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-5, fused=True)
        self.on_cpu = make_batches(config.vocab_size, shape.pairs, shape.passages, shape.passage_length)
        self.batches = {
            kind: {key: tensor.to(device) for key, tensor in batch.items()} for kind, batch in self.on_cpu.items()
        }
        self.losses = self._losses()
        self.model.train()

    def _losses(self) -> dict[str, Callable[..., Tensor]]:
        """Return the loss of each arm, as a function of its batches."""
        model = self.model
        ibgl, control = CutOffModel(model), CutOffModel(model, bottleneck=False)
        read_out = CutOffModel(model, read_out_weight=READ_OUT_WEIGHT)
        contrastive = info_nce(Embedder(self.encoder, torch.bfloat16), TEMPERATURE)  # type: ignore[arg-type]

        def sft(batch: dict[str, Tensor]) -> Tensor:
            names = ("input_ids", "attention_mask", "labels")
            return model(**{name: batch[name] for name in names}, use_cache=False).loss

        def full_logits(batch: dict[str, Tensor]) -> Tensor:
            shape = torch.empty(*batch["input_ids"].shape, 0, dtype=model.dtype, device=model.device)
            mask: Any = cutoff_mask(model.config, shape, batch["attention_mask"], batch["segments"])
            logits = model(input_ids=batch["input_ids"], attention_mask=mask, use_cache=False).logits.float()
            return F.cross_entropy(logits[:, :-1].flatten(0, 1), batch["labels"][:, 1:].flatten(), ignore_index=IGNORE)

        def align(*sides: dict[str, Tensor]) -> Tensor:
            return contrastive([{name: side[name] for name in ("input_ids", "attention_mask")} for side in sides], None)

        return {
            "ibgl": lambda batch: ibgl(**batch)["loss"],
            "read_out": lambda batch: read_out(**batch)["loss"],
            "control": lambda batch: control(**batch)["loss"],
            "sft": sft,
            "full_logits": full_logits,
            "align": align,
        }

    def work(self, arm: str) -> Work:
        """Return what a step of an arm has to compute, forward."""
        loss, kinds, _ = ARMS[arm]
        return Work.of([self.on_cpu[kind] for kind in kinds], self.shape.pairs if loss == "read_out" else 0)

    def step(self, arm: str) -> Step:
        """Take a step of an arm, and return what was measured of it."""
        loss, kinds, attention = ARMS[arm]
        self.model.set_attn_implementation(attention)
        batches = [self.batches[kind] for kind in kinds]

        def train() -> None:
            # Of stage 2 the embeddings alone are made in half precision, see `Embedder`.
            with torch.autocast(self.device, torch.bfloat16, enabled=loss != "align"):
                value = self.losses[loss](*batches)
            value.backward()
            self.optimizer.step()

        try:
            return self._measured(train, self.work(arm), backward=True)
        finally:
            self.optimizer.zero_grad()

    def to_encode(self) -> Callable[[], Step]:
        """Return what encodes once, and says what was measured. The model does not train any more."""
        self.losses.clear()
        del self.optimizer
        self.encoder.to(torch.bfloat16)
        shape, rng = self.shape, random.Random(0)
        texts = ["".join(rng.choices(LETTERS, k=shape.text_length - 1)) for _ in range(shape.texts)]  # and Z
        length = shape.text_length
        work = Work(tokens=shape.texts * length, logits=0, attended=shape.texts * length * (length + 1) // 2)
        [ids] = self.encoder[0].tokenize_rows(texts[:1])  # type: ignore[operator]
        assert len(ids) == length

        def encode() -> None:
            self.encoder.encode(texts, batch_size=shape.encode_batch, show_progress_bar=False)

        return lambda: self._measured(encode, work, backward=False)

    def _measured(self, run: Callable[[], None], work: Work, backward: bool) -> Step:
        if self.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        synchronize(self.device)
        start = time.perf_counter()
        run()
        synchronize(self.device)
        seconds = time.perf_counter() - start
        gib = torch.cuda.max_memory_allocated() / 2**30 if self.device == "cuda" else 0.0
        operations = work.operations(self.model.config, self.body, backward)
        return {
            "seconds": seconds,
            "gib": gib,
            "tokens_per_second": work.tokens / seconds,
            "operations_per_second": operations / seconds,
        }


# Arm: loss, batches, attention.
ARMS: dict[str, tuple[str, tuple[str, ...], str]] = {
    "ibgl": ("ibgl", ("pairs",), "sdpa"),
    "read_out": ("read_out", ("pairs",), "sdpa"),
    "control": ("control", ("plain",), "sdpa"),
    "sft": ("sft", ("plain",), "sdpa"),
    "full_logits": ("full_logits", ("pairs",), "sdpa"),
    "packed": ("ibgl", ("packed",), "sdpa"),
    "reconstruct": ("ibgl", ("reconstruct",), "sdpa"),
    "pretraining": ("control", ("pretraining",), "sdpa"),
    "align": ("align", ("queries", "documents"), "sdpa"),
    "ibgl_flex": ("ibgl", ("pairs",), "flex_attention"),
    "packed_flex": ("ibgl", ("packed",), "flex_attention"),
    "reconstruct_flex": ("ibgl", ("reconstruct",), "flex_attention"),
}
FLEX = [arm for arm, (_, _, attention) in ARMS.items() if attention == "flex_attention"]


def interleave(part: Part, name: str, steps: Mapping[str, Callable[[], Step]], repeats: int) -> dict[str, Measured]:
    """Take some steps of each arm to warm up, then one of each again and again.

    Args:
        part: Says what there is no time or memory for: an arm that fails is left out.
        name: Name of the shape, for people.
        steps: A step of each arm.
        repeats: Timed steps of each.

    Returns:
        What was measured, with equally many values for all arms.
    """
    alive: dict[str, Callable[[], Step]] = {}
    found: dict[str, Measured] = {}

    def warm_up(arm: str) -> None:
        for _ in range(WARM_UP):
            steps[arm]()
        alive[arm] = steps[arm]

    for arm in steps:
        if part.has_time_for(f"{name}, {arm}"):
            part.attempt(f"{name}, {arm}", partial(warm_up, arm))
    for repeat in range(repeats):
        if alive and not part.has_time_for(f"{name}, repeats {repeat + 1} to {repeats}"):
            break
        for arm in list(alive):
            measured = part.attempt(f"{name}, {arm}", alive[arm])
            if measured is None:
                del alive[arm]
                found.pop(arm, None)
                continue
            for each, value in measured.items():
                found.setdefault(arm, {}).setdefault(each, []).append(value)
    return found


def figures_of(shape: str, arms: dict[str, Measured]) -> dict[str, float]:
    """Return the figures of a shape: ratios, and the medians of each arm."""
    figures = {}
    end_of_name = "_" + shape.replace(".", "_")
    for name, (unit, ours, theirs) in RATIOS.items():
        if {ours, theirs} <= arms.keys() and all(arms[theirs][unit]):
            # What ran out of time has fewer repeats.
            ratios = [a / b for a, b in zip(arms[ours][unit], arms[theirs][unit], strict=False)]
            for end, of in (("", statistics.median), ("_min", min), ("_max", max)):
                figures[name + end_of_name + end] = round(of(ratios), 3)
    for arm, values in arms.items():
        figures |= {f"{name}_{arm}{end_of_name}": round(statistics.median(each), 4) for name, each in values.items()}
    return figures


def line(what: str, values: Measured) -> str:
    """Say in a line what was measured of an arm."""
    of = {name: statistics.median(each) for name, each in values.items()}
    return (
        f"{what}: {of['tokens_per_second']:,.0f} tokens a second, {of['share_of_matmul_rate']:.1%} of the matmul rate, "
        f"{of['seconds']:.4f} s, {of['gib']:.1f} GiB, median of {len(values['seconds'])}"
    )


def main(argv: list[str] | None = None) -> None:
    """Measure all arms of all shapes; write their result files, and the summary after each shape."""
    args = part_parser(__doc__).parse_args(argv)
    require_device(args.device)
    results.conditions()
    part = Part(args.seconds)
    shapes = {name: shape if args.device == "cuda" else shape.toy for name, shape in SHAPES.items()}
    rate = matmul_rate(args.device, max(shape.matmul_size for shape in shapes.values()))
    figures = {"matmul_tflops": round(rate / 1e12, 2)}
    print(f"a bf16 matrix product: {figures['matmul_tflops']:,} TFLOP/s", flush=True)
    found: dict[str, dict[str, Measured]] = {name: {} for name in shapes}
    written: dict[str, dict[str, Any]] = {}

    def keep(name: str, arms: dict[str, Measured]) -> None:
        for arm, values in arms.items():
            values["share_of_matmul_rate"] = [each / rate for each in values.pop("operations_per_second")]
            settings = {"device": args.device, **dataclasses.asdict(shapes[name])}
            results.write_arm(PROGRAM, f"{name}-{arm}", 0, {**values, "settings": settings})
            written[f"{name}-{arm}"] = results.read_arm(PROGRAM, f"{name}-{arm}", 0)
            print(line(f"{name}, {arm}", values), flush=True)
        found[name] |= arms
        figures.update(figures_of(name, found[name]))
        results.write_summary(PROGRAM, figures, list(written.values()), argv)

    def measure(name: str, flex: bool) -> None:
        bench = Bench(shapes[name], args.device)
        steps = {arm: partial(bench.step, arm) for arm in ARMS if (arm in FLEX) == flex}
        keep(name, interleave(part, name, steps, shapes[name].repeats))
        if not flex:
            keep(name, interleave(part, name, {"encode": bench.to_encode()}, shapes[name].repeats))

    for flex in (False, True) if args.device == "cuda" else (False,):  # on a CPU FlexAttention has no backward
        for name in shapes:
            what = f"{name}, FlexAttention" if flex else name
            if part.has_time_for(what):
                part.attempt(what, partial(measure, name, flex))
            gc.collect()  # the next one needs the memory
    part.end()


if __name__ == "__main__":
    run_command(main)
