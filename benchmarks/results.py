"""Result files: one JSON per arm and seed, and a flat summary, each saying what made it."""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lbr_st.errors import InputError
from lbr_st.files import write_json
from lbr_st.metrics import paired_interval

RESULTS = Path(__file__).parent / "results"
RESAMPLES = 2000  # of the bootstrap
# Says the commit where git cannot: in a copy without .git, or on a machine without git.
COMMIT = "LBR_COMMIT"
PACKAGES = (
    "torch",
    "triton",
    "transformers",
    "sentence-transformers",
    "mteb",
    "datasets",
    "accelerate",
    "peft",
    "tokenizers",
    "bm25s",
    "trl",
    "starlette",
    "uvicorn",
)


@functools.cache
def conditions() -> dict[str, Any]:
    """Return the commit, versions and hardware that a number was measured with.

    A program calls it once before its work, so that the commit is that of the code that ran.
    """
    # Of one that is there twice the first is imported.
    installed = {d.metadata["Name"]: d.version for d in reversed([*importlib.metadata.distributions()])}
    return {
        "commit": commit(),
        "versions": {"python": platform.python_version()} | {p: installed[p] for p in PACKAGES if p in installed},
        "hardware": f"{_processor()}, {os.cpu_count()} cores{_gpu()}",
    }


def commit() -> str:
    """Return the commit of this checkout; of a copy of it the one that `COMMIT` names."""

    def git(*args: str) -> str:
        return subprocess.run(
            ["git", *args], capture_output=True, text=True, cwd=Path(__file__).parent, check=True
        ).stdout.strip()

    # A copy may lie in the checkout of something else.
    if Path(__file__).parent.parent.joinpath(".git").exists():
        with contextlib.suppress(OSError, subprocess.CalledProcessError):
            changed = git("status", "--porcelain", "--untracked-files=no")
            return git("rev-parse", "HEAD") + (" with local changes" if changed else "")
    named = os.environ.get(COMMIT)
    return f"{named}, as {COMMIT} says" if named else "not a checkout"


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())


def _gpu() -> str:
    return f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""


def arm_path(program: str, arm: str, seed: int) -> Path:
    """Return the result file of one arm and seed."""
    return RESULTS / program / f"{arm}-seed{seed}.json"


def write_arm(program: str, arm: str, seed: int, result: dict[str, Any]) -> None:
    """Write the result file of one arm and seed."""
    path = arm_path(program, arm, seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {"arm": arm, "seed": seed, **result, **conditions()})


def read_arm(program: str, arm: str, seed: int) -> dict[str, Any]:
    """Read the result file of one arm and seed."""
    return json.loads(arm_path(program, arm, seed).read_text(encoding="utf-8"))


def is_measured(program: str, arm: str, seed: int, settings: dict[str, Any]) -> bool:
    """Tell whether the result file of an arm is there.

    Raises:
        InputError: If it was measured with other settings: its figures are not those that were asked for.
    """
    path = arm_path(program, arm, seed)
    if not path.is_file():
        return False
    if read_arm(program, arm, seed).get("settings") != settings:
        raise InputError(f"{path} was measured with other settings; move it away to measure again")
    return True


def difference(name: str, one: np.ndarray, other: np.ndarray) -> dict[str, float]:
    """Return what `one` finds more than `other` as a figure, with its interval by a paired bootstrap."""
    low, high = paired_interval(one, other, resamples=RESAMPLES)
    return {name: float((one - other).mean()), f"{name}_low": low, f"{name}_high": high}


def spread(name: str, values: Sequence[float]) -> dict[str, float]:
    """Return the mean of some seeds as a figure, with the smallest and the largest."""
    return {name: float(np.mean(values)), f"{name}_min": min(values), f"{name}_max": max(values)}


def write_summary(
    program: str,
    figures: dict[str, float],
    arms: Sequence[dict[str, Any]],
    argv: Sequence[str] | None,
    of: str | None = None,
    missing: Sequence[str] = (),
) -> None:
    """Write ``summary.json`` with the figures of a program, by name, and the conditions its arms were measured in.

    Args:
        program: Its name.
        figures: By name.
        arms: What `read_arm` gave.
        argv: What the program was called with; None is the command line.
        of: Name of the file of the program, where its results have another name.
        missing: Arms that are not measured yet.
    """
    conditions_of_arms = {}
    for key in ("commit", "versions", "hardware"):
        different = [value for n, value in enumerate(a[key] for a in arms) if value not in [a[key] for a in arms[:n]]]
        conditions_of_arms[key] = different[0] if len(different) == 1 else different
    command = " ".join(["python", f"benchmarks/{of or program}.py", *(sys.argv[1:] if argv is None else argv)])
    not_there = {"not_measured_yet": list(missing)} if missing else {}
    summary = {"figures": figures, **conditions_of_arms, "command": command, **not_there}
    write_json(RESULTS / program / "summary.json", summary)
