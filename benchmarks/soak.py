"""A long training of each stage: does its memory grow?"""

from __future__ import annotations

import random
import resource
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cases import Case, Setting
from children import Child
from readings import plain_text
from restarts import OUTPUT, Material
from transformers import TrainerCallback

import lbr_st
from lbr_st.alignment import run as of_align
from lbr_st.files import write_jsonl
from lbr_st.learning import run as of_learn
from lbr_st.training.resume import train_to_the_end

STAGES = ("learn", "align")
STEPS, MARK, MOST = 10_000, 500, 1.05


def open_soak(setting: Setting) -> Callable[[int], Case]:
    """Return what trains for long and looks at the memory."""
    folder, steps = setting.folder, round(STEPS * setting.share)
    material = Material(folder / "material")

    def case(number: int) -> Case:
        stage = STAGES[number]
        shutil.rmtree(folder / stage, ignore_errors=True)
        end = Child(lambda: soak(stage, material, folder / stage, steps, setting.seed), setting.loud).wait(
            most=6 * 3600
        )
        shutil.rmtree(folder / stage, ignore_errors=True)
        if end.value is None:
            return {"stage": stage, "ok": False, "why": f"it ended with {end.error or f'signal {end.signal}'}"}
        ok = end.value["ratio"] <= MOST
        return {"stage": stage, **end.value, "ok": ok, "why": None if ok else f"{stage}: memory grew"}

    return case


class Memory(TrainerCallback):
    """Remembers what a process holds at some steps.

    Args:
        every: Steps between two looks.
    """

    def __init__(self, every: int) -> None:
        self.every = every
        self.mib: dict[int, float] = {}

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Look."""
        if state.global_step % self.every == 0:
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            self.mib[state.global_step] = pages * resource.getpagesize() / 2**20


def soak(stage: str, material: Material, folder: Path, steps: int, seed: int) -> dict[str, Any]:
    """Train for some steps, with held-out pairs and checkpoints; return the memory at its end over that at the mark."""
    mark = min(MARK, steps // 2)
    folder.mkdir(parents=True)
    rng = random.Random(seed)
    rows = [{"query": f"{n} {plain_text(rng)}", "document": f"{plain_text(rng)} {n}"} for n in range(256)]
    train, dev = folder / "train.jsonl", folder / "dev.jsonl"
    write_jsonl(train, rows[:-16])
    write_jsonl(dev, rows[-16:])
    told: dict[str, Any] = {
        "output_dir": str(folder / OUTPUT), "max_steps": steps, "save_steps": mark // 2, "eval_steps": mark // 2,
        "eval_strategy": "steps", "per_device_train_batch_size": 4, "max_length": 32, "learning_rate": 1e-4,
        "use_cpu": True, "disable_tqdm": True, "dev_data": [str(dev)] if stage == "learn" else str(dev),
    }  # fmt: skip
    memory = Memory(max(mark // 5, 1))
    if stage == "learn":
        learn = lbr_st.LearnConfig(model=str(material.backbone), data=[str(train)], **told)
        prepared: Any = of_learn.prepare(learn, learn.for_trainer())
    else:
        align = lbr_st.AlignConfig(model=str(material.model), data=str(train), **told)
        prepared = of_align.prepare(align, align.for_trainer())
    run, trainer = prepared
    trainer.add_callback(memory)
    run.begin()
    train_to_the_end(trainer, folder / OUTPUT)
    [at_mark, at_end] = (memory.mib[max(step for step in memory.mib if step <= most)] for most in (mark, steps))
    return {"steps": steps, "mib": {str(k): round(v, 1) for k, v in memory.mib.items()}, "ratio": at_end / at_mark}


def figures_of_soak(cases: Sequence[Case]) -> dict[str, float]:
    """Return the figures of the long runs."""
    ratios = {case["stage"]: case.get("ratio", float("inf")) for case in cases}
    return {"soak_memory_ratio": max(ratios.values()), **{f"soak_memory_ratio_{s}": r for s, r in ratios.items()}}
