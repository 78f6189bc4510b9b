"""How fast is stage 1 on a GPU, at the size of the paper's backbones?

    make bench-gpu            # or: python benchmarks/stage1_gpu.py

Needs torch, transformers, sentence-transformers and peft, and nothing else: what `stage1_speed.py` measures through
trainers on a CPU is measured here with a plain loop.

- Backbone: a Qwen2 of random weights in the shape of Qwen2-1.5B (28 layers, 1536 wide, 151,936 embeddings). Random
  token ids. bf16 autocast on float32 weights, AdamW.
- Arms: `ibgl`, one bottleneck token; `control`, the same without (`arm="plain"`); `sft`, transformers' own loss of
  the same rows, with the logits of all of them; `full_logits`, `ibgl` with the logits of all rows; `ibgl_flex`,
  `ibgl` with FlexAttention; `packed` and `packed_flex`, the same pairs packed into rows of 2,048 tokens; `reconstruct`
  (and `_flex`) and `pretraining`, passages of 512 tokens.
- A step is timed from synchronization to synchronization, after two that are not timed; arms are interleaved and
  repeated. Figures are medians: tokens a second without padding; GiB allocated at most; ratios within each repeat.
- `share_of_matmul_rate`: floating point operations of the model's matrix products and of the attention that the mask
  allows, forward and backward, a second, over the rate that this card reaches in a bf16 matrix product.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import results
import torch
import torch.nn.functional as F
from flags import program_parser
from transformers import Qwen2Config, Qwen2ForCausalLM

from lbr_st.cli.main import run_command
from lbr_st.learning.batches import IGNORE, Example, PackedRows, collate, pack
from lbr_st.learning.masked_model import CutOffModel
from lbr_st.model.cutoff import BOTTLENECK, PREFIX, SOURCE, TARGET, cutoff_mask

PROGRAM = "stage1_gpu"
SHAPES: dict[str, dict[str, Any]] = {
    "1.5b": {"hidden_size": 1536, "num_hidden_layers": 28, "num_attention_heads": 12, "num_key_value_heads": 2,
             "intermediate_size": 8960, "vocab_size": 151_936},
    "nano": {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1,
             "intermediate_size": 128, "vocab_size": 512},
}  # fmt: skip
PAIRS, PASSAGES, PASSAGE_LENGTH, PACKED_LENGTH = 64, 16, 512, 2048
RATIOS = {
    "time_ratio_vs_sft": ("seconds", "ibgl", "sft"),
    "time_ratio_vs_control": ("seconds", "ibgl", "control"),
    "memory_ratio_vs_sft": ("gib", "ibgl", "sft"),
    "memory_ratio_vs_full_logits": ("gib", "ibgl", "full_logits"),
    "time_ratio_flex_vs_sdpa": ("seconds", "ibgl_flex", "ibgl"),
    "time_ratio_packed_vs_padded": ("seconds", "packed", "ibgl"),
    "time_ratio_packed_flex_vs_padded": ("seconds", "packed_flex", "ibgl"),
    "time_ratio_reconstruct_vs_pretraining": ("seconds", "reconstruct", "pretraining"),
    "time_ratio_reconstruct_flex_vs_pretraining": ("seconds", "reconstruct_flex", "pretraining"),
}


def make_example(rng: random.Random, vocabulary: int, x: int, y: int, bottleneck: bool = True) -> Example:
    """Return ``[X Z Y]`` of random tokens, or ``[X Y]`` with X in sight."""
    parts = [SOURCE if bottleneck else PREFIX] * x + [BOTTLENECK] * bottleneck + [TARGET] * y
    ids = [rng.randrange(vocabulary) for _ in parts]
    first = len(parts) - y
    labels = [IGNORE] * max(first, 1) + ids[max(first, 1) :]
    return {"input_ids": ids, "segments": parts, "labels": labels}


def make_batches(vocabulary: int, pairs: int, passages: int, length: int) -> dict[str, dict[str, torch.Tensor]]:
    """Return the batch of each kind."""
    lengths = [(random.Random(n).randint(20, 100), random.Random(-1 - n).randint(30, 128)) for n in range(pairs)]

    def examples(of: Sequence[tuple[int, int]], bottleneck: bool = True) -> list[Example]:
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
    }


def attended_pairs(batch: dict[str, torch.Tensor]) -> int:
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


def operations(config: Qwen2Config, batch: dict[str, torch.Tensor], body: int) -> float:
    """Return the floating point operations of a step: forward, and twice as many backward."""
    tokens = int(batch["attention_mask"].sum())
    targets = int((batch["labels"][:, 1:] != IGNORE).sum())
    width = config.num_hidden_layers * config.hidden_size
    head = config.vocab_size * config.hidden_size
    return 6 * (body * tokens + head * targets) + 12 * width * attended_pairs(batch)


def matmul_rate(device: str, size: int) -> float:
    """Return the floating point operations a second of a bf16 matrix product."""
    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    seconds = []
    for _ in range(8):
        synchronize(device)
        start = time.perf_counter()
        a @ b
        synchronize(device)
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / statistics.median(seconds[3:])


def synchronize(device: str) -> None:
    """Wait for the card."""
    if device == "cuda":
        torch.cuda.synchronize()


def losses(model: Qwen2ForCausalLM) -> dict[str, Callable[[dict[str, torch.Tensor]], torch.Tensor]]:
    """Return the loss of a batch in each of the ways compared."""
    ibgl, control = CutOffModel(model), CutOffModel(model, bottleneck=False)

    def sft(batch: dict[str, torch.Tensor]) -> torch.Tensor:
        names = ("input_ids", "attention_mask", "labels")
        return model(**{name: batch[name] for name in names}, use_cache=False).loss

    def full_logits(batch: dict[str, torch.Tensor]) -> torch.Tensor:
        shape = torch.empty(*batch["input_ids"].shape, 0, dtype=model.dtype, device=model.device)
        mask: Any = cutoff_mask(model.config, shape, batch["attention_mask"], batch["segments"])
        logits = model(input_ids=batch["input_ids"], attention_mask=mask, use_cache=False).logits.float()
        return F.cross_entropy(logits[:, :-1].flatten(0, 1), batch["labels"][:, 1:].flatten(), ignore_index=IGNORE)

    return {
        "ibgl": lambda batch: ibgl(**batch)["loss"],
        "control": lambda batch: control(**batch)["loss"],
        "sft": sft,
        "full_logits": full_logits,
    }


# Arm: loss, batch, attention.
ARMS = {
    "ibgl": ("ibgl", "pairs", "sdpa"),
    "control": ("control", "plain", "sdpa"),
    "sft": ("sft", "plain", "sdpa"),
    "full_logits": ("full_logits", "pairs", "sdpa"),
    "ibgl_flex": ("ibgl", "pairs", "flex_attention"),
    "packed": ("ibgl", "packed", "sdpa"),
    "packed_flex": ("ibgl", "packed", "flex_attention"),
    "reconstruct": ("ibgl", "reconstruct", "sdpa"),
    "reconstruct_flex": ("ibgl", "reconstruct", "flex_attention"),
    "pretraining": ("control", "pretraining", "sdpa"),
}


def measure(device: str, shape: str, repeats: int, sizes: tuple[int, int, int]) -> dict[str, Any]:
    """Return what was measured of each arm, a list over the repeats."""
    config = Qwen2Config(**SHAPES[shape], tie_word_embeddings=True, max_position_embeddings=32_768)
    torch.manual_seed(0)
    with torch.device(device):
        model = Qwen2ForCausalLM._from_config(config, attn_implementation="sdpa", dtype=torch.float32)
    model.train()
    body = sum(p.numel() for name, p in model.named_parameters() if "embed" not in name)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    by_name = losses(model)
    batches = {
        name: {key: tensor.to(device) for key, tensor in batch.items()}
        for name, batch in make_batches(config.vocab_size, *sizes).items()
    }
    rate = matmul_rate(device, 8192 if device == "cuda" else 512)
    # FlexAttention has no backward on a CPU.
    arms = {arm: of for arm, of in ARMS.items() if device == "cuda" or of[2] != "flex_attention"}
    found: dict[str, dict[str, list[float]]] = {
        arm: {"seconds": [], "gib": [], "tokens_per_second": [], "share_of_matmul_rate": []} for arm in arms
    }
    for repeat in range(-2, repeats):
        for arm, (loss, kind, attention) in arms.items():
            model.set_attn_implementation(attention)
            batch = batches[kind]
            if device == "cuda":
                torch.cuda.reset_peak_memory_stats()
            synchronize(device)
            start = time.perf_counter()
            with torch.autocast(device, torch.bfloat16):
                value = by_name[loss](batch)
            value.backward()
            optimizer.step()
            optimizer.zero_grad()
            synchronize(device)
            seconds = time.perf_counter() - start
            if repeat < 0:
                continue
            found[arm]["seconds"].append(seconds)
            found[arm]["gib"].append(torch.cuda.max_memory_allocated() / 2**30 if device == "cuda" else 0.0)
            found[arm]["tokens_per_second"].append(int(batch["attention_mask"].sum()) / seconds)
            found[arm]["share_of_matmul_rate"].append(operations(config, batch, body) / seconds / rate)
    return {"arms": found, "matmul_tflops": rate / 1e12}


def main(argv: list[str] | None = None) -> None:
    """Measure all arms and write their result files and the summary."""
    parser = program_parser(__doc__)
    parser.add_argument("--shape", choices=SHAPES, default="1.5b", help="(default: %(default)s)")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="(default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=7, metavar="N", help="(default: %(default)s)")
    args = parser.parse_args(argv)
    results.conditions()
    sizes = (PAIRS, PASSAGES, PASSAGE_LENGTH) if args.shape == "1.5b" else (4, 2, 16)
    measured = measure(args.device, args.shape, args.repeats, sizes)
    arms = measured["arms"]
    figures = {"matmul_tflops": round(measured["matmul_tflops"], 2)}
    for name, (unit, ours, theirs) in RATIOS.items():
        if {ours, theirs} <= arms.keys() and all(arms[theirs][unit]):
            ratios = [a / b for a, b in zip(arms[ours][unit], arms[theirs][unit], strict=True)]
            for end, of in (("", statistics.median), ("_min", min), ("_max", max)):
                figures[name + end] = round(of(ratios), 3)
    written = []
    for arm, values in arms.items():
        figures |= {f"{name}_{arm}": round(statistics.median(each), 4) for name, each in values.items()}
        results.write_arm(PROGRAM, arm, 0, {**values, "settings": {"shape": args.shape, "device": args.device}})
        written.append(results.read_arm(PROGRAM, arm, 0))
    results.write_summary(PROGRAM, figures, written, argv)
    for name, figure in figures.items():
        print(f"{name:50} {figure}")


if __name__ == "__main__":
    run_command(main)
