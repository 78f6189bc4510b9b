"""How fast and how lean is a step of stage 1, beside plain supervised fine-tuning by TRL?

    python benchmarks/stage1_speed.py

Protocol:

- Backbone: a Qwen2 of random weights, 4 layers, 256 wide, with 8,192 or 152,000 embeddings. Texts are made of random
  words, so nothing is learned and nothing is read: a step costs what it costs. Precision: bf16 autocast on float32
  weights, AdamW.
- Pairs: queries of 20 to 100 tokens, answers of 30 to 128, 32 pairs a step (16 with the large vocabulary), in the
  same order for all. `ibgl` is `LearnTrainer` with one bottleneck token, `control` the same without
  (`arm="plain"`).
  `sft` is TRL's `SFTTrainer` on prompt and completion, loss on the completion only; its fused head has a kernel for
  GPUs and a plain loop elsewhere, so `trainer` stands beside it: transformers' own `Trainer` and model, labels on the
  completion only, logits of all rows. `full_logits` is the step of `ibgl` with the logits of all rows, and plain
  cross-entropy on them. Before anything is timed the control arm must give the loss of TRL on the first batch.
- `reconstruct` rebuilds passages of 512 tokens through one bottleneck token, 8 a step; `pretraining` is the control
  arm, next-token prediction on the same passages.
- `random`, `grouped` and `packed` are `ibgl` on the same pairs in three kinds of batch: 32 drawn at random, 32 of like
  length (the default), and 16 rows of 256 tokens with several pairs each (`pack_length=256`); tokens a second,
  without padding.
- Every measurement has a process of its own; arms are interleaved, and all is repeated. Step time is the mean over
  the timed steps, after one that is not timed; making batches is not in it. Memory is the largest resident size of the
  process, less what it was with everything imported and no model loaded. A ratio is taken within each repeat; the
  figure is the median, with the smallest and the largest beside it.
- `grid`: seconds a step of 4,096 tokens, rows of 128 to 2,048 tokens (half X, half Y), 1 to 32 bottleneck tokens.

A repeat whose result file is there is not run again. Run it on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import results
import torch
import torch.nn.functional as F
from datasets import Dataset
from flags import program_parser
from nano import nano_config, train_tokenizer
from transformers import Qwen2ForCausalLM, Trainer, TrainerCallback, TrainingArguments

import lbr_st
from lbr_st.cli.main import run_command
from lbr_st.learning.batches import IGNORE, PackedRows, collate, pack
from lbr_st.learning.examples import ExampleMaker, build_examples
from lbr_st.learning.masked_model import CutOffModel
from lbr_st.learning.objectives import Arm
from lbr_st.learning.trainer import LearnTrainer
from lbr_st.model.cutoff import cutoff_mask

PROGRAM = "stage1_speed"
VOCABULARIES = {"8k": 8192, "152k": 152_000}
PAIRS_A_STEP = {"8k": 32, "152k": 16}
PASSAGES_A_STEP, PASSAGE_LENGTH = 8, 512
TIMED_STEPS = {"8k": 6, "152k": 2}
PACKED_LENGTH, PACKED_ROWS = 256, 16
GRID_TOKENS, GRID_LENGTHS, GRID_KS, GRID_STEPS = 4096, (128, 256, 512, 1024, 2048), (1, 4, 16, 32), 2
PAIRS_TO_GROUP = 100  # times a batch, so that batches of like length can be made
KINDS_OF_BATCH = {"random": "random", "grouped": "group_by_length", "packed": "random"}
# Ours over theirs.
RATIOS = {
    "time_ratio_vs_sft_vocab8k": ("seconds", "ibgl_8k", "sft_8k"),
    "time_ratio_vs_sft_vocab152k": ("seconds", "ibgl_152k", "sft_152k"),
    "memory_ratio_vs_sft_vocab152k": ("bytes", "ibgl_152k", "sft_152k"),
    "memory_ratio_vs_full_logits_vocab152k": ("bytes", "ibgl_152k", "full_logits_152k"),
    "time_ratio_vs_trainer_vocab8k": ("seconds", "ibgl_8k", "trainer_8k"),
    "time_ratio_vs_trainer_vocab152k": ("seconds", "ibgl_152k", "trainer_152k"),
    "time_ratio_vs_control_vocab8k": ("seconds", "ibgl_8k", "control_8k"),
    "time_ratio_vs_control_vocab152k": ("seconds", "ibgl_152k", "control_152k"),
    "time_ratio_reconstruct_vs_pretraining": ("seconds", "reconstruct_8k", "pretraining_8k"),
}
ARMS = [
    "ibgl_8k", "sft_8k", "trainer_8k", "control_8k", "ibgl_152k", "sft_152k", "trainer_152k", "control_152k",
    "full_logits_152k", "reconstruct_8k", "pretraining_8k", "random_8k", "grouped_8k", "packed_8k", "grid_8k",
]  # fmt: skip


def make_backbone(folder: Path, vocabulary: str) -> None:
    """Save a random backbone with its tokenizer, and words of one token each."""
    rng = random.Random(0)
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["".join(rng.choices(letters, k=rng.randint(2, 7))) for _ in range(3000)]
    tokenizer = train_tokenizer([" ".join(rng.choices(words, k=200)) for _ in range(500)], 8192)
    torch.manual_seed(0)
    Qwen2ForCausalLM(nano_config(VOCABULARIES[vocabulary], 256, 4, tokenizer.eos_token_id)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    of_one_token = [word for word in words if len(tokenizer.encode(" " + word)) == 1]
    (folder / "words.json").write_text(json.dumps(of_one_token))


def make_text(words: list[str], rng: random.Random, tokens: int) -> str:
    """Return a text of about so many tokens."""
    return " " + " ".join(rng.choices(words, k=tokens))


def make_records(words: list[str], number: int, passages: bool) -> list[dict[str, str]]:
    """Return records of random words: pairs, or passages that fill `PASSAGE_LENGTH`."""
    rng = random.Random(1)
    if passages:
        return [{"document": make_text(words, rng, PASSAGE_LENGTH)} for _ in range(number)]
    lengths = [(rng.randint(20, 100), rng.randint(30, 127)) for _ in range(number)]
    return [{"query": make_text(words, rng, x), "document": make_text(words, rng, y)} for x, y in lengths]


class FullLogits(CutOffModel):
    """The same step with the logits of every row."""

    def forward(self, **inputs: Any) -> dict[str, torch.Tensor]:  # type: ignore[override]
        """Return the loss of `CutOffModel`."""
        labels, number = inputs["labels"], inputs["num_items_in_batch"]
        model, input_ids = self.language_model, inputs["input_ids"]
        shape = torch.empty(*input_ids.shape, 0, dtype=model.dtype)
        mask: Any = cutoff_mask(model.config, shape, inputs["attention_mask"], inputs["segments"])
        logits = model(input_ids=input_ids, attention_mask=mask, use_cache=False).logits.float()
        shifted = logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten()
        return {"loss": F.cross_entropy(*shifted, ignore_index=IGNORE, reduction="sum") / number}


def collate_plain(examples: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
    """Pad rows for a causal language model of transformers."""
    batch = collate([{**example, "segments": example["labels"]} for example in examples])  # type: ignore[typeddict-item]
    return {name: batch[name] for name in ("input_ids", "attention_mask", "labels")}


class Clock(TrainerCallback):
    """Times every step; the first is left out where the mean is taken."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
        """Start."""
        self.start = time.perf_counter()

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        """Stop."""
        self.seconds.append(time.perf_counter() - self.start)


def make_trainer(kind: str, backbone: Path, records: list[dict[str, str]], batch_size: int, steps: int) -> Any:
    """Return the trainer of one arm."""
    common: dict[str, Any] = {
        "output_dir": str(backbone / "out"), "use_cpu": True, "bf16": True, "max_steps": steps, "report_to": "none",
        "per_device_train_batch_size": batch_size, "save_strategy": "no", "logging_strategy": "no",
        "disable_tqdm": True, "learning_rate": 1e-4, "seed": 0,
        "train_sampling_strategy": KINDS_OF_BATCH.get(kind, "sequential"),
    }  # fmt: skip
    if kind == "sft":
        from trl import SFTConfig, SFTTrainer

        data = Dataset.from_list([{"prompt": r["query"], "completion": r["document"]} for r in records])
        settings: dict[str, Any] = {"completion_only_loss": True, "max_length": None, "gradient_checkpointing": False}
        return SFTTrainer(model=str(backbone), args=SFTConfig(**common, **settings), train_dataset=data)
    length = PASSAGE_LENGTH + 1 if "document" in records[0] and "query" not in records[0] else 256
    model = lbr_st.from_backbone(str(backbone), max_seq_length=length, dtype=torch.float32)
    objective = "sft" if "query" in records[0] else "reconstruct"
    arm = Arm.PLAIN if kind in ("control", "pretraining", "trainer") else Arm.CUT_OFF
    examples = build_examples(records, ExampleMaker(model, objective, arm))
    # The trainer drops columns by the names in a model's forward, which FullLogits has none of.
    arguments = TrainingArguments(**common, remove_unused_columns=kind != "full_logits")
    if kind == "trainer":
        examples = examples.remove_columns("segments")
        return Trainer(Qwen2ForCausalLM.from_pretrained(backbone), arguments, collate_plain, examples)
    train: Any = examples
    if kind == "packed":
        lengths = [len(ids) for ids in examples["input_ids"]]
        train = PackedRows(train, pack(lengths, PACKED_LENGTH, seed=0), lengths)
        arguments.per_device_train_batch_size = PACKED_ROWS
    trainer = LearnTrainer(model, arm=arm, read_out_weight=0, args=arguments, train_dataset=train)
    if kind == "full_logits":
        language_model: Any = model[0].model
        trainer.model = trainer.model_wrapped = FullLogits(language_model)
    return trainer


def resident() -> int:
    """Return the bytes of this process that are in memory now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def measure(arm: str, backbones: Path) -> dict[str, Any]:
    """Measure one arm once, in this process."""
    kind, _, vocabulary = arm.rpartition("_")
    backbone = backbones / vocabulary
    words = json.loads((backbone / "words.json").read_text())
    if kind == "grid":
        return {"grid": measure_grid(backbone, words)}
    if kind == "check":
        return {"losses": compare_losses(backbone, words)}
    if kind == "sft":
        import trl  # noqa: F401  (its imports are not the memory of its training)
    steps = 1 + TIMED_STEPS[vocabulary]
    passages = kind in ("reconstruct", "pretraining")
    batch_size = PASSAGES_A_STEP if passages else PAIRS_A_STEP[vocabulary]
    records = make_records(words, batch_size * (PAIRS_TO_GROUP if kind in KINDS_OF_BATCH else steps), passages)
    before = resident()
    trainer = make_trainer(kind, backbone, records, batch_size, steps)
    clock = Clock()
    trainer.add_callback(clock)
    tokens: list[int] = []
    pad = trainer.data_collator

    def count(rows: Any) -> dict[str, torch.Tensor]:
        batch = pad(rows)
        tokens.append(int(batch["attention_mask"].sum()))
        return batch

    if kind in KINDS_OF_BATCH:
        trainer.data_collator = count
    trainer.train()
    largest = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    speed = sum(tokens[1:steps]) / sum(clock.seconds[1:])
    return ({"tokens_per_second": speed} if tokens else {}) | {
        "seconds": statistics.mean(clock.seconds[1:]),
        "seconds_of_steps": clock.seconds,
        "bytes": largest - before,
        "bytes_before": before,
    }


def compare_losses(backbone: Path, words: list[str]) -> list[float]:
    """Return the loss of the first batch as TRL has it, and as the control arm has it."""
    losses = []
    for kind in ("sft", "control"):
        trainer = make_trainer(kind, backbone, make_records(words, 8, passages=False), 8, 1)
        losses.append(trainer.train().training_loss)
    return losses


def measure_grid(backbone: Path, words: list[str]) -> list[dict[str, float]]:
    """Return seconds a step for each length of row and number of bottleneck tokens."""
    rng = random.Random(2)
    table = []
    for length, k in itertools.product(GRID_LENGTHS, GRID_KS):
        half = (length - k) // 2
        model = lbr_st.from_backbone(
            str(backbone), num_bottleneck_tokens=k, max_seq_length=half + k, dtype=torch.float32
        )
        rows, steps = GRID_TOKENS // length, 1 + GRID_STEPS
        texts = [make_text(words, rng, half - 1) for _ in range(rows * steps)]
        examples = build_examples([{"document": text} for text in texts], ExampleMaker(model, "reconstruct"))
        arguments: dict[str, Any] = {
            "output_dir": str(backbone / "out"), "use_cpu": True, "bf16": True, "max_steps": steps,
            "per_device_train_batch_size": rows, "save_strategy": "no", "disable_tqdm": True, "report_to": "none",
        }  # fmt: skip
        trainer = LearnTrainer(model, read_out_weight=0, args=TrainingArguments(**arguments), train_dataset=examples)
        clock = Clock()
        trainer.add_callback(clock)
        trainer.train()
        table.append({"row_tokens": length, "bottleneck_tokens": k, "seconds": statistics.mean(clock.seconds[1:])})
    return table


def run_worker(arm: str, backbones: Path, program: str = __file__) -> dict[str, Any]:
    """Measure one arm of a program in a process of its own."""
    command = [sys.executable, program, "--worker", arm, str(backbones)]
    process = subprocess.run(command, capture_output=True, text=True)
    if process.returncode:
        raise RuntimeError(f"{arm} failed:\n{process.stderr[-3000:]}")
    return json.loads(process.stdout.splitlines()[-1])


def summarize(repeats: int) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Return the figures, medians over the repeats, and all that was measured."""
    runs = {arm: [results.read_arm(PROGRAM, arm, repeat) for repeat in range(repeats)] for arm in ARMS}
    figures: dict[str, float] = {}

    def add(name: str, values: list[float], digits: int) -> None:
        for end, of in (("", statistics.median), ("_min", min), ("_max", max)):
            figures[name + end] = round(of(values), digits)

    for name, (unit, ours, theirs) in RATIOS.items():
        add(name, [a[unit] / b[unit] for a, b in zip(runs[ours], runs[theirs], strict=True)], 3)
    for theirs in ("random", "grouped"):
        speeds = [[run["tokens_per_second"] for run in runs[f"{kind}_8k"]] for kind in ("packed", theirs)]
        add(f"throughput_ratio_packed_vs_{theirs}", [a / b for a, b in zip(*speeds, strict=True)], 3)
    for arm in ARMS[:-1]:
        figures[f"seconds_{arm}"] = round(statistics.median(run["seconds"] for run in runs[arm]), 3)
        figures[f"gib_{arm}"] = round(statistics.median(run["bytes"] for run in runs[arm]) / 2**30, 3)
    for cells in zip(*(run["grid"] for run in runs["grid_8k"]), strict=True):
        name = f"seconds_of_rows_{cells[0]['row_tokens']}_k{cells[0]['bottleneck_tokens']}"
        figures[name] = round(statistics.median(cell["seconds"] for cell in cells), 3)
    return figures, [run for of_arm in runs.values() for run in of_arm]


def plot(figures: dict[str, float], path: Path) -> None:
    """Draw seconds a step over the length of a row, a line for each number of bottleneck tokens."""
    import matplotlib.figure

    figure = matplotlib.figure.Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for k in GRID_KS:
        seconds = [figures[f"seconds_of_rows_{length}_k{k}"] for length in GRID_LENGTHS]
        axes.plot(GRID_LENGTHS, seconds, marker="o", label=f"k = {k}")
    axes.set_xscale("log", base=2)
    axes.set_xticks(GRID_LENGTHS, [str(length) for length in GRID_LENGTHS])
    axes.set_ylim(bottom=0)
    axes.set_xlabel("tokens in a row, X, Z and Y")
    axes.set_ylabel(f"seconds a step of {GRID_TOKENS:,} tokens")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)


def main(argv: list[str] | None = None) -> None:
    """Measure what is not measured yet, and write the summary."""
    parser = program_parser(__doc__)
    parser.add_argument("--repeats", type=int, default=5, metavar="N", help="(default: %(default)s)")
    parser.add_argument("--worker", nargs=2, metavar=("ARM", "BACKBONES"), help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.worker:
        print("\n" + json.dumps(measure(args.worker[0], Path(args.worker[1]))))
        return
    results.conditions()
    settings = {"threads": torch.get_num_threads()}
    runs = itertools.product(range(args.repeats), ARMS)
    missing = [(repeat, arm) for repeat, arm in runs if not results.is_measured(PROGRAM, arm, repeat, settings)]
    with tempfile.TemporaryDirectory() as folder:
        for vocabulary in VOCABULARIES if missing else ():
            make_backbone(Path(folder, vocabulary), vocabulary)
        if missing:
            trl, control = run_worker("check_8k", Path(folder))["losses"]
            if abs(trl - control) > 1e-3:
                raise RuntimeError(f"the control arm's loss is {control}, TRL's {trl}: not the same step")
        for repeat, arm in missing:
            found = run_worker(arm, Path(folder))
            print(repeat, arm, {k: round(v, 3) for k, v in found.items() if isinstance(v, float | int)}, flush=True)
            results.write_arm(PROGRAM, arm, repeat, {**found, "settings": settings})
    figures, arms = summarize(args.repeats)
    results.write_summary(PROGRAM, figures, arms, argv)
    plot(figures, results.RESULTS / PROGRAM / "step_time.png")


if __name__ == "__main__":
    run_command(main)
