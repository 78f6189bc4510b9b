"""Measure what a user waits for before anything happens, and what a developer waits for at every change.

    python benchmarks/startup.py
    python benchmarks/startup.py --before DIR

- ``help_over_bare_python``: CPU seconds, user and system, of ``lbr --help`` over those of ``python -c pass``;
  ``import_over_bare_python``: the same of ``python -c "import lbr_st"``. The three run in turn, 10 times, after one run
  of each that is not counted; each figure is the median over the 10 ratios, with the smallest and the largest.
- ``suite_seconds_before`` and ``suite_seconds_after``: the wall time of ``make test`` in another checkout and then in
  this one, each in its own environment, made beforehand. The machine should do nothing else. This checkout's tests must
  pass; how the others end is in the result file.

``--before`` measures the tests; without it their last figures are kept.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import results

from lbr_st.cli.main import run_command
from lbr_st.errors import InputError

PROGRAM = "startup"
ROOT = Path(__file__).parent.parent
REPEATS = 10
COMMANDS = {
    "bare": [sys.executable, "-c", "pass"],
    "help": [str(Path(sys.executable).with_name("lbr")), "--help"],
    "import": [sys.executable, "-c", "import lbr_st"],
}
CLOSING_LINE = re.compile(r"^=*\s*(\d+ (?:passed|failed|error).* in [\d.]+s.*?)\s*=*$", re.MULTILINE)


def cpu_seconds(command: list[str]) -> float:
    """Return the CPU seconds, user and system, of a command, which must succeed."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=ROOT)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise InputError(f"{' '.join(command)} ended with exit code {process.returncode}")
    return usage.ru_utime + usage.ru_stime


def starts() -> dict[str, Any]:
    """Measure the commands in turn."""
    for command in COMMANDS.values():
        cpu_seconds(command)
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(REPEATS):
        for name, command in COMMANDS.items():
            seconds[name].append(cpu_seconds(command))
    return {"cpu_seconds": seconds}


def make(checkout: Path, target: str) -> subprocess.CompletedProcess[str]:
    """Run a target of a checkout's Makefile, and show what it prints."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    command = ["make", "-C", str(checkout), target]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    print(done.stdout, end="", flush=True)
    return done


def suite(checkout: Path) -> dict[str, Any]:
    """Measure the fast tests of a checkout."""
    if make(checkout, "setup").returncode:
        raise InputError(f"make setup fails in {checkout}")
    begun = time.perf_counter()
    done = make(checkout, "test")
    seconds = time.perf_counter() - begun
    lines = CLOSING_LINE.findall(done.stdout)
    if not lines:
        raise InputError(f"make test in {checkout} runs no tests")
    return {"seconds": round(seconds, 1), "passed": done.returncode == 0, "closing_line": lines[-1]}


def suites(before: Path) -> dict[str, Any]:
    """Measure the fast tests of another checkout, then of this one."""
    commit = subprocess.run(["git", "-C", str(before), "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    found = {"before": suite(before) | {"commit": commit.stdout.strip()}, "after": suite(ROOT)}
    if not found["after"]["passed"]:
        raise InputError(f"the tests of this checkout do not pass: {found['after']['closing_line']}")
    return found


def summarize() -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Return the figures of what was measured, and all of it."""
    arms = [results.read_arm(PROGRAM, "starts", 0)]
    figures: dict[str, float] = {}
    seconds = arms[0]["cpu_seconds"]
    for name in ("help", "import"):
        ratios = [ours / bare for ours, bare in zip(seconds[name], seconds["bare"], strict=True)]
        key = f"{name}_over_bare_python"
        figures |= {key: statistics.median(ratios), f"{key}_min": min(ratios), f"{key}_max": max(ratios)}
    if results.arm_path(PROGRAM, "suites", 0).is_file():
        arms.append(results.read_arm(PROGRAM, "suites", 0))
        figures |= {f"suite_seconds_{when}": arms[1][when]["seconds"] for when in ("before", "after")}
    return {name: round(value, 4) for name, value in figures.items()}, arms


def main(argv: list[str] | None = None) -> None:
    """Measure, and write the summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, metavar="DIR", help="another checkout, with its environment in .venv")
    args = parser.parse_args(argv)
    results.conditions()
    results.write_arm(PROGRAM, "starts", 0, starts())
    if args.before:
        results.write_arm(PROGRAM, "suites", 0, suites(args.before.resolve()))
    figures, arms = summarize()
    # Where the other checkout lies is nobody's business.
    results.write_summary(PROGRAM, figures, arms, ["--before", "DIR"] if len(arms) == 2 else [])
    for name, value in figures.items():
        print(f"{name}: {value}")


if __name__ == "__main__":
    run_command(main)
