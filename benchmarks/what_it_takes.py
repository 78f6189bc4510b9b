"""What does it take to train a backbone of 135 M, 0.5 B or 1.5 B parameters on this machine? Memory and minutes.

    python benchmarks/what_it_takes.py                        # on a GPU: --device cuda; both take --bf16

Protocol, fixed before it ran:

- Backbones of random weights in the shape of SmolLM2-135M, Qwen2.5-0.5B and Qwen2.5-1.5B, with their vocabularies.
  Texts of random words, 128 tokens each, the bottleneck token included; the Y of stage 1 has 128 as well. Nothing is
  learned and nothing is read: a step costs what it costs.
- Both stages, all weights trained with AdamW, and LoRA of rank 16; as ``lbr learn`` and ``lbr align`` train, by what
  ``--dry-run`` measures with. All weights are trained where they fit: where 16 bytes a parameter, and what a step
  holds beside them by a rough count, are less than the memory of the machine.
- A step is of 32 pairs. On a CPU it is taken in parts, as on a small machine one would: in stage 1 by
  ``--gradient-accumulation-steps``, in stage 2 by ``--mini-batch-size``, of 8 pairs at 135 M and 2 above. A GPU takes
  all 32 at once. Two parts are run, in place of 4 and 16; their time without the optimizer's own is multiplied, its own
  is added once. Three such steps are run and the last is timed.
- ``gib``: on a CPU the most that the process held, everything imported; on a GPU the most that tensors held.
  ``minutes``: of 1,000 pairs twice in stage 2, 200,000 tokens in stage 1; evaluation and saving come on top.
- Attention: eager on a CPU, where it is faster for short texts; sdpa on a GPU.
- Estimated before it ran, on two cores of 300 GFLOP/s together: 6 minutes of matrix products, 1.5 of the
  logits of stage 1, 3.5 of starting processes and opening models.

Every arm has a process of its own; one whose result file is there is not run again. Run it on a machine that does
nothing else.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import results
import torch
from flags import program_parser, training_settings
from stage1_speed import make_text, make_words, run_worker
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig, Trainer, TrainerCallback

from lbr_st.alignment import run as of_align
from lbr_st.alignment.config import AlignConfig
from lbr_st.cli.main import run_command
from lbr_st.errors import InputError
from lbr_st.evaluation.tables import markdown_table
from lbr_st.files import write_jsonl
from lbr_st.learning import run as of_learn
from lbr_st.learning.config import LearnConfig
from lbr_st.training.trial import Plan, measure, trial

PROGRAM = "what_it_takes"
GIB = 2**30
SHAPES: dict[str, dict[str, Any]] = {
    "135m": {"model_type": "llama", "num_hidden_layers": 30, "hidden_size": 576, "num_attention_heads": 9,
             "num_key_value_heads": 3, "intermediate_size": 1536, "vocab_size": 49_152},
    "0.5b": {"model_type": "qwen2", "num_hidden_layers": 24, "hidden_size": 896, "num_attention_heads": 14,
             "num_key_value_heads": 2, "intermediate_size": 4864, "vocab_size": 151_936},
    "1.5b": {"model_type": "qwen2", "num_hidden_layers": 28, "hidden_size": 1536, "num_attention_heads": 12,
             "num_key_value_heads": 2, "intermediate_size": 8960, "vocab_size": 151_936},
}  # fmt: skip
BATCH, TOKENS, RANK = 32, 128, 16
# Pairs of a part of a step, and how many parts are run.
PARTS = {
    "cpu": {"135m": (8, 2), "0.5b": (2, 2), "1.5b": (2, 2)},
    "cuda": dict.fromkeys(SHAPES, (BATCH, 1)),
}
STEPS_RUN = 3  # by `measure`, where one is timed
PAIRS, EPOCHS, STAGE1_TOKENS = 1000, 2, 200_000
STAGES, TRAINED = ("learn", "align"), ("full", "lora")


def arms_of(device: str) -> list[str]:
    """Return the arms of a device, those of one shape together."""
    return [f"{device}-{shape}-{stage}-{trained}" for shape in SHAPES for stage in STAGES for trained in TRAINED]


def config_of(shape: str, eos: int) -> PreTrainedConfig:
    """Return the configuration of a backbone."""
    settings: dict[str, Any] = {
        "tie_word_embeddings": True,
        "max_position_embeddings": 2048,
        "bos_token_id": eos,
        "eos_token_id": eos,
    }
    return AutoConfig.for_model(**SHAPES[shape], **settings)


def make_backbone(folder: Path, shape: str) -> None:
    """Save a backbone of random weights with a tokenizer, and pairs of random words for the steps to be run."""
    eos = make_words(folder)
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config_of(shape, eos), dtype=torch.bfloat16).save_pretrained(folder)
    words = json.loads((folder / "words.json").read_text(encoding="utf-8"))
    rng = random.Random(1)
    pairs = STEPS_RUN * BATCH
    # A word more than fits: all are cut to one length.
    rows = [{name: make_text(words, rng, TOKENS) for name in ("query", "document")} for _ in range(pairs)]
    write_jsonl(folder / "pairs.jsonl", rows)


def count_parameters(shape: str) -> int:
    """Return the number of parameters of a backbone."""
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config_of(shape, 0)).num_parameters()


def needed_bytes(arm: str, bf16: bool) -> int:
    """Return about how much memory an arm takes: what is held for each parameter, each token, and everything else."""
    device, shape, _, trained = arm.split("-")
    config, parameters = config_of(shape, 0), count_parameters(shape)
    of_a_parameter = 16 if trained == "full" else 2 if bf16 else 4
    # Of a layer about ten vectors of its width and four of its MLP's, in both stages those of 2 x 128 tokens a pair.
    of_a_token = config.num_hidden_layers * (10 * config.hidden_size + 4 * config.intermediate_size)
    of_a_logit = 3 * 4 * config.vocab_size * TOKENS
    pairs = PARTS[device][shape][0]
    return of_a_parameter * parameters + pairs * (2 * TOKENS * of_a_token * (2 if bf16 else 4) + of_a_logit) + GIB


def fits(arm: str, bf16: bool) -> bool:
    """Tell whether an arm fits into the memory of this machine.

    Raises:
        InputError: If it would, but other programs hold too much of it.
    """
    needed = needed_bytes(arm, bf16)
    if arm.startswith("cuda"):
        free, total = torch.cuda.mem_get_info()
    else:
        memory = psutil.virtual_memory()
        free, total = memory.available, memory.total
    if needed < total and needed > free:
        raise InputError(
            f"{arm} takes about {needed / GIB:.1f} GiB, and {free / GIB:.1f} GiB are free: end other programs"
        )
    return needed < total


class OptimizerClock(TrainerCallback):
    """Times what the optimizer itself takes of every step."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._start = 0.0

    def _now(self) -> float:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return time.perf_counter()

    def on_pre_optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Start."""
        self._start = self._now()

    def on_optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Stop."""
        self.seconds.append(self._now() - self._start)


def measure_arm(arm: str, backbone: Path, training: dict[str, Any]) -> dict[str, Any]:
    """Measure one arm, in this process."""
    device, shape, stage, trained = arm.split("-")
    pairs, parts = PARTS[device][shape]
    data = str(backbone / "pairs.jsonl")
    settings: dict[str, Any] = {
        "model": str(backbone), "output_dir": str(backbone / "none"), "max_length": TOKENS, "seed": 0,
        "lora_rank": RANK if trained == "lora" else None, "use_cpu": device == "cpu",
        "attention": "eager" if device == "cpu" else "sdpa", **training,
    }  # fmt: skip
    clock = OptimizerClock()

    def take(trainer: Trainer) -> Plan:
        trainer.add_callback(clock)
        return measure(trainer, timed_steps=1)

    in_parts: dict[str, Any]
    if stage == "learn":
        in_parts = {"per_device_train_batch_size": pairs, "gradient_accumulation_steps": parts}
        with trial(LearnConfig(data=[data], **in_parts, **settings), of_learn.prepare) as learner:
            found = take(learner)
    else:
        in_parts = {"per_device_train_batch_size": pairs * parts, "mini_batch_size": pairs if pairs < BATCH else None}
        with trial(AlignConfig(data=data, **in_parts, **settings), of_align.prepare) as aligner:
            found = take(aligner)
    optimizer = clock.seconds[-1]
    seconds = optimizer + (found.step_seconds - optimizer) * BATCH / (pairs * parts)
    tokens_a_step = found.tokens / STEPS_RUN
    steps = STAGE1_TOKENS / tokens_a_step if stage == "learn" else EPOCHS * PAIRS / BATCH
    return {
        "fits": True,
        "trained": found.trained,
        "parameters": found.parameters,
        "tokens_a_step": tokens_a_step,
        "optimizer_seconds": optimizer,
        "seconds_measured": found.step_seconds,
        "gib": found.peak_bytes / GIB,
        "seconds_a_step": seconds,
        "minutes": steps * seconds / 60,
    }


def figures_of(arms: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Return the figures of the arms that fit."""
    return {
        f"{name}_{arm['arm'].replace('-', '_').replace('.', '_')}": round(arm[name], 2)
        for arm in arms
        if arm["fits"]
        for name in ("gib", "seconds_a_step", "minutes")
    }


def table_of(arms: Sequence[dict[str, Any]]) -> str:
    """Write the arms as a table for people."""
    header = ["machine", "backbone", "stage", "trained", "GiB", "s a step", "minutes"]
    rows = []
    for arm in arms:
        names = arm["arm"].split("-")
        numbers = [f"{arm[name]:.1f}" for name in ("gib", "seconds_a_step", "minutes")] if arm["fits"] else ["-"] * 3
        rows.append([*names, *numbers])
    return markdown_table(header, rows, numbers=header[4:])


def main(argv: list[str] | None = None) -> None:
    """Measure what is not measured yet; write the summary, of what was measured on both devices."""
    parser = program_parser(__doc__)
    parser.add_argument("--device", choices=PARTS, default="cpu", help="(default: %(default)s)")
    parser.add_argument("--worker", nargs=2, metavar=("ARM", "BACKBONE"), help=argparse.SUPPRESS)
    args, flags = parser.parse_known_args(argv)
    training = training_settings(flags)
    if args.worker:
        print("\n" + json.dumps(measure_arm(args.worker[0], Path(args.worker[1]), training)))
        return
    results.conditions()
    for shape in SHAPES:
        missing = []
        for arm in (each for each in arms_of(args.device) if each.split("-")[1] == shape):
            settings = {"flags": flags, "parts": list(PARTS[args.device][shape])}
            if not results.is_measured(PROGRAM, arm, 0, settings):
                missing.append((arm, settings))
        if not missing:
            continue
        with tempfile.TemporaryDirectory() as folder:
            make_backbone(Path(folder), shape)
            for arm, settings in missing:
                found: dict[str, Any] = {"fits": False}
                if fits(arm, training.get("bf16", False)):
                    found = run_worker(arm, Path(folder), __file__, flags)
                results.write_arm(PROGRAM, arm, 0, {**found, "settings": settings})
                print(table_of([results.read_arm(PROGRAM, arm, 0)]), flush=True)
    arms = [arm for device in PARTS for arm in arms_of(device) if results.arm_path(PROGRAM, arm, 0).is_file()]
    measured = [results.read_arm(PROGRAM, arm, 0) for arm in arms]
    results.write_summary(PROGRAM, figures_of(measured), measured, argv)
    print(table_of(measured))


if __name__ == "__main__":
    run_command(main)
