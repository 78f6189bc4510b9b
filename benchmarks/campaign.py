"""Is anything lost, or taken for whole that is not? Faults at seeded moments, hostile texts, damaged models, long runs.

    python benchmarks/campaign.py                            # all of it; --share 0.1: a tenth
    python benchmarks/campaign.py --arms kills full_disk     # some arms; other processes may run others
    python benchmarks/campaign.py --arms kills --case 17     # one case again, with all that it prints; writes nothing

Protocol, fixed before it ran. A case is drawn from the seed and its number. All models are of toy size (two layers, 32
wide, one thread), a run takes about a second.

- ``kills``: 1,000 cases over ``learn`` (mixed; best of the dev data; LoRA, packed), ``align`` (small batches; best of
  the dev data; LoRA), ``data prepare`` (strict; corpus-taught), ``encode`` (with texts; int8; one case in a hundred on
  Ray where it is installed, else here, as ``kills_on_ray`` shows) and saving (anew; over another model; native layout).
  Each is a real SIGKILL of a process. Half come at one of the moments at which the run changes files, within a write
  after a drawn share of its bytes; half after a drawn time. In a quarter the run that goes on is killed too. At once
  nothing may be taken for finished that is not that of an uninterrupted run. Started again to its end, the run must
  leave the same files byte for byte; the picture and the log of a training say how fast it was, and are known by name.
- ``full_disk``: 200 of these runs in which a write fails with ENOSPC, alone or with all after it; or, natively and
  whoever writes, beyond a limit on the size of files. ``read_only``: 200 in which all that changes files fails with
  EROFS or EACCES from a moment on. The same must hold; a run that ends without an error must have left all.
- ``hostile_texts``: 100,000 texts, each read with a tokenizer of six kinds (those of Qwen, GPT-2, GPT-NeoX, Llama 2,
  Llama 3, Gemma) in which special tokens of all of them are registered. Every row ends with the bottleneck tokens and
  has them nowhere else, no number is NaN, vectors have length 1 to 1e-5.
- ``damaged_models``: 2,000 damages of a saved model of either layout: half are of one byte, the others of a field, a
  tensor or a file. `verify` refuses it, or the vectors of 150 texts are the same to 1e-6 in all ways of encoding.
- ``same_vector``: 10,000 texts alone and in batches of 2 to 64, eleven families. In float32 no number of a vector
  differs by more than 1e-6; in float16 and bfloat16 the cosine of the two is at most 1e-3 below 1. (Numbers of
  vectors 32 wide are so large that bfloat16 rounds each by up to 1e-3: differences are written down beside.)
- ``soak``: 10,000 steps of each stage with checkpoints and evaluation; memory of the process at the end over that at
  step 500, at most 1.05.
- Minutes on one core, estimated before it ran: kills 35, full_disk 7, read_only 7, hostile_texts 5, damaged_models 15,
  same_vector 5, soak 6: 80.

Cases are written down as they are done, in ``--work-dir``; a campaign that was stopped goes on with the others. What a
failed case left stays there. The exit code is 1 if a case failed.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import damaged_models
import datasets
import interruptions
import readings
import results
import soak
import torch
import tqdm
import transformers
from cases import Case, Journal, Setting
from children import die_with_parent
from flags import program_parser

from lbr_st.cli.main import run_command
from lbr_st.errors import InputError

PROGRAM = "campaign"
MOST_SHOWN = 20  # failed cases in a result file
SECONDS_BETWEEN_LINES = 30
ONE_THREAD = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}


class Arm(NamedTuple):
    """An arm.

    Attributes:
        cases: Number of its cases.
        open: Returns what runs a case by its number.
        figures: Returns what its cases come to.
    """

    cases: int
    open: Callable[[Setting], Callable[[int], Case]]
    figures: Callable[[Sequence[Case]], dict[str, float]]


ARMS = {
    "kills": Arm(1000, interruptions.open_kills, interruptions.figures_of_kills),
    "full_disk": Arm(200, interruptions.open_full_disk, partial(interruptions.figures_of_failing, arm="full_disk")),
    "read_only": Arm(200, interruptions.open_read_only, partial(interruptions.figures_of_failing, arm="read_only")),
    "hostile_texts": Arm(
        100_000 // readings.TEXTS_A_CASE, readings.open_hostile_texts, readings.figures_of_hostile_texts
    ),
    "damaged_models": Arm(2000, damaged_models.open_damaged_models, damaged_models.figures_of_damaged_models),
    "same_vector": Arm(10_000 // readings.PAIRS_A_CASE, readings.open_same_vector, readings.figures_of_same_vector),
    "soak": Arm(len(soak.STAGES), soak.open_soak, soak.figures_of_soak),
}


def number_of_cases(arm: str, share: float) -> int:
    """Return how many cases a share of an arm has; the long runs are shorter instead of fewer."""
    return ARMS[arm].cases if arm == "soak" else max(round(ARMS[arm].cases * share), 1)


def settings_of(setting: Setting) -> dict[str, float | str]:
    """Return what decides the cases of an arm."""
    return {"arm": setting.arm, "seed": setting.seed, "share": setting.share}


def journal_of(setting: Setting) -> Journal:
    """Return the cases of an arm that are done."""
    return Journal(setting.folder.with_suffix(".jsonl"), settings_of(setting))


def get_ready() -> None:
    """Make this process one that can be forked: one thread, and nothing of what was imported is looked at again."""
    torch.set_num_threads(1)
    tqdm.tqdm.monitor_interval = 0  # else it starts a thread
    tqdm.tqdm.set_lock(threading.RLock())  # else it is shared with forks, and a fork that is killed may hold it
    logging.getLogger("lbr_st").setLevel(logging.ERROR)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    datasets.disable_progress_bars()
    gc.collect()
    gc.freeze()


@contextlib.contextmanager
def quiet(setting: Setting) -> Iterator[None]:
    """Write what the cases print into a file beside them."""
    with (
        open(setting.folder.with_suffix(".log"), "a", encoding="utf-8") as log,
        contextlib.redirect_stdout(log),
        contextlib.redirect_stderr(log),
    ):
        yield


def work(setting: Setting) -> None:
    """Run the cases of an arm that are not done yet, in this process and forks of it, and say how far it is."""
    journal = journal_of(setting)
    number = number_of_cases(setting.arm, setting.share)
    missing = [case for case in range(number) if case not in journal.cases]
    with journal.writing() as file:
        if not missing:
            return
        get_ready()
        with quiet(setting):
            run_case = ARMS[setting.arm].open(setting)
        begun = said = time.perf_counter()
        for done, case in enumerate(missing, start=1):
            start = time.perf_counter()
            with quiet(setting):
                found = run_case(case)
            now = time.perf_counter()
            journal.add(file, {"case": case, **found, "seconds": round(now - start, 3)})
            if not found["ok"]:
                print(f"{setting.arm}, case {case}: {found['why']}", flush=True)
            if now - said > SECONDS_BETWEEN_LINES or done == len(missing):
                said = now
                each = (now - begun) / done
                print(
                    f"{setting.arm}: {number - len(missing) + done} of {number}, "
                    f"{sum(not each['ok'] for each in journal.cases.values())} failed, {each:.2f} s each, "
                    f"{each * (len(missing) - done) / 60:.0f} minutes left",
                    flush=True,
                )


def run_worker(setting: Setting) -> None:
    """Run an arm in a process of its own, which has computed nothing yet.

    Raises:
        RuntimeError: If it ends before its time.
    """
    told = {"--work-dir": setting.folder.parent, "--seed": setting.seed, "--share": setting.share}
    command = [
        sys.executable,
        __file__,
        "--worker",
        setting.arm,
        *(str(each) for pair in told.items() for each in pair),
    ]
    code = subprocess.run(command, env=os.environ | ONE_THREAD).returncode
    if code:
        raise RuntimeError(f"{setting.arm} ended with exit code {code}; start the program again to go on")


def write_down(setting: Setting) -> None:
    """Write the result file of an arm whose cases are all done."""
    cases = [case for _, case in sorted(journal_of(setting).cases.items())]
    failed = [case for case in cases if not case["ok"]]
    told = {"figures": ARMS[setting.arm].figures(cases), "minutes": sum(case["seconds"] for case in cases) / 60}
    told |= {"cases": len(cases), "failed": len(failed), "first_failed": failed[:MOST_SHOWN]}
    if "ended_with" in cases[0]:
        ends = [case["ended_with"] for case in cases]
        told["ended_with"] = {each: ends.count(each) for each in sorted({*ends})}
    results.write_arm(PROGRAM, setting.arm, setting.seed, {**told, "settings": settings_of(setting)})


def summarize(settings: Sequence[Setting], argv: Sequence[str] | None) -> int:
    """Write the summary of the arms that are there; return how many of their cases failed."""
    there = [each for each in settings if results.is_measured(PROGRAM, each.arm, each.seed, settings_of(each))]
    arms = [results.read_arm(PROGRAM, each.arm, each.seed) for each in there]
    figures: dict[str, float] = {}
    for arm in arms:
        figures |= {name: float(f"{value:.4g}") if value % 1 else value for name, value in arm["figures"].items()}
        figures[f"minutes_{arm['arm']}"] = round(arm["minutes"], 1)
    results.write_summary(PROGRAM, figures, arms, argv)
    for name, value in figures.items():
        print(f"{name} {value:g}")
    return sum(arm["failed"] for arm in arms)


def main(argv: list[str] | None = None) -> None:
    """Run the arms that were asked for, and write a summary of all that are there."""
    parser = program_parser(__doc__)
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=[*ARMS], metavar="ARM", help=", ".join(ARMS))
    parser.add_argument("--share", type=float, default=1.0, help="share of all cases (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
    parser.add_argument("--work-dir", type=Path, default=Path("runs") / PROGRAM, help="cases, and what they leave")
    parser.add_argument("--case", type=int, nargs="+", help="run these cases of one arm, and write nothing down")
    parser.add_argument("--worker", choices=ARMS, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if not 0 < args.share <= 1:
        raise InputError(f"--share must be above 0 and at most 1, got {args.share}")
    folder = args.work_dir.resolve()

    def setting_of(arm: str) -> Setting:
        return Setting(arm, folder / arm, args.seed, args.share, loud=args.case is not None)

    if args.worker:
        die_with_parent()
        work(setting_of(args.worker))
        return
    if args.case is not None:
        os.environ |= ONE_THREAD
        get_ready()
        run_case = ARMS[args.arms[0]].open(setting_of(args.arms[0]))
        for case in args.case:
            print(run_case(case))
        return
    results.conditions()
    for setting in map(setting_of, args.arms):
        if not results.is_measured(PROGRAM, setting.arm, setting.seed, settings_of(setting)):
            run_worker(setting)
            write_down(setting)
    if summarize([setting_of(arm) for arm in ARMS], argv):
        sys.exit(1)


if __name__ == "__main__":
    run_command(main)
