"""All that a GPU is needed for, in one command and in under 8 minutes on a card like the H100.

    make gpu WEIGHTS=DIR_OF_THE_MODEL DATA=DIR_WITH_TRAIN_DEV_TEST_JSONL

or ``PYTHONPATH=. python benchmarks/gpu.py --weights DIR --data DIR``. The parts, each in a process of its own:

- `gpu_tests`: the tests that need a GPU;
- `gpu_speed`: tokens a second of both stages and of encoding, at 135 M and 1.5 B parameters;
- `gpu_medical`: both stages of SmolLM2 on medical pairs, where its weights and the data are given.

Nothing is installed: torch, transformers, sentence-transformers, peft and pyarrow are enough. What needs another
package is left out. Each part has a time at which it must be over, and may take what the parts before it left. At that
time it leaves out what it has not begun, and `GRACE` seconds later it is stopped. Each writes its own results as it
goes. A copy without .git says which commit it is by the environment variable LBR_COMMIT.

Exit code: 0 if all of it ran; 3 if something was left out and nothing failed; 1 if something failed. Lines that begin
with ``left out:`` and ``failed:`` say what.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

import results
from flags import program_parser
from gpu_part import DEVICES, FAILED, LEFT_OUT

from lbr_st.cli.main import run_command

PROGRAM = "gpu"
HERE = Path(__file__).parent
SECONDS = 460
GRACE = 10
# Part: the share of the time after which it must be over.
PARTS = {"gpu_tests": 0.26, "gpu_speed": 0.62, "gpu_medical": 1.0}
# Nobody waits for a network that may not be there: all that is read is on this machine. A log wants no progress bars.
ENVIRONMENT = {"PYTHONUNBUFFERED": "1", "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1", "TOKENIZERS_PARALLELISM": "false"}
MEANING = {0: "all of it ran", LEFT_OUT: "something was left out", None: "stopped, as no time was left"}


def run_part(command: list[str], seconds: float) -> int | None:
    """Run a part and return its exit code; None where it had to be stopped.

    Args:
        command: What starts it.
        seconds: How long it may take, `GRACE` included.
    """
    command = [*command, "--seconds", f"{seconds - GRACE:.0f}"]
    paths = [str(HERE.parent), os.environ.get("PYTHONPATH", "")]
    environment = ENVIRONMENT | os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    try:
        return subprocess.run(command, env=environment, cwd=HERE.parent, timeout=seconds).returncode
    except subprocess.TimeoutExpired:
        return None


def commands(args: argparse.Namespace) -> dict[str, list[str]]:
    """Return what starts each part that was asked for."""
    found = {part: [sys.executable, str(HERE / f"{part}.py"), "--device", args.device] for part in PARTS}
    if args.weights is None or args.data is None:
        print("gpu_medical is not asked for: WEIGHTS=DIR DATA=DIR name a model and the medical pairs", flush=True)
        del found["gpu_medical"]
    else:
        found["gpu_medical"] += ["--weights", str(args.weights.resolve()), "--data", str(args.data.resolve())]
    return found


def main(argv: list[str] | None = None) -> None:
    """Run the parts, and say how each ended.

    Raises:
        SystemExit: Where something failed or was left out.
    """
    parser = program_parser(__doc__)
    parser.add_argument("--weights", type=Path, metavar="DIR", help="language model, see gpu_medical.py")
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder with train, dev and test.jsonl")
    parser.add_argument("--device", choices=DEVICES, default="cuda", help="cpu: toy size (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=SECONDS, metavar="N", help="for all (default: %(default)s)")
    args = parser.parse_args(argv)
    results.conditions()
    start = time.monotonic()
    codes: dict[str, int | None] = {}
    figures: dict[str, float] = {}
    for part, command in commands(args).items():
        begun = time.monotonic()
        left = PARTS[part] * args.seconds - (begun - start)
        print(f"\n{part}: {left:.0f} s", flush=True)
        codes[part] = run_part(command, left) if left > GRACE else None
        figures[f"seconds_{part}"] = round(time.monotonic() - begun, 1)
        results.write_arm(PROGRAM, part, 0, {"seconds": figures[f"seconds_{part}"], "exit_code": codes[part]})
    said = [*(("--weights", "DIR", "--data", "DIR") if "gpu_medical" in codes else ()), "--device", args.device]
    results.write_summary(PROGRAM, figures, [results.read_arm(PROGRAM, part, 0) for part in codes], said)
    print()
    for part, code in codes.items():
        meaning = MEANING.get(code, f"failed, with exit code {code}")
        print(f"{part}: {meaning}; {figures[f'seconds_{part}']:.0f} s", flush=True)
    if any(code not in MEANING for code in codes.values()):
        sys.exit(FAILED)
    if any(codes.values()) or None in codes.values():
        sys.exit(LEFT_OUT)


if __name__ == "__main__":
    run_command(main)
