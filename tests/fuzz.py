"""Every command on files and flags that nobody thought of: ``make fuzz``.

Hypothesis draws files (mutated by structure and by bytes) and flags (valid ones, boundaries, nonsense). Each command
runs on them in this process, with tiny models. It must end with exit code 0, 1 or 2, never with a traceback, and within
a minute. A server answers each request with a status of 2xx or 4xx, and is then told to end, see ``fuzz_serving.py``.
What does not is written to ``.fuzz/``: the files as they were, the command, and what was said.

    python tests/fuzz.py --minutes 5        # all commands
    python tests/fuzz.py --only data learn  # some
    python tests/fuzz.py --again .fuzz/NAME # a finding once more
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import hashlib
import io
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"}
os.environ |= {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "TQDM_DISABLE": "1"}

import fuzz_serving
from fuzz_cases import NAMES_OF_COMMANDS, Case, Commands, files_of, with_server
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

ROOT = Path(__file__).parent.parent
FINDINGS = ROOT / ".fuzz"
SECONDS, SHRINKING = 60, 20
A_ROUND = 60  # seconds of a command: none takes the time of all others
MEMORY = 24 * 2**30  # of addresses: a huge number must end in MemoryError, not the machine


class TooSlow(BaseException):
    """A command that went on for a minute."""


@dataclass
class Outcome:
    """What came of a case."""

    code: Any
    said: str
    error: str = ""

    @property
    def is_fine(self) -> bool:
        """Whether it is one of the ends that are promised."""
        return self.code in (0, 1, 2) and not self.error and "Traceback" not in self.said

    @property
    def signature(self) -> str:
        """What two findings have in common that are one: the kind of error, and the last line of ours it was in."""
        lines = f"{self.said}\n{self.error}".splitlines()
        ours = [line.strip() for line in lines if 'File "' in line and "lbr_st" in line]
        kind = [line for line in lines if line and not line.startswith((" ", "error:", "Traceback"))]
        return f"{ours[-1] if ours else ''} {kind[-1].partition(':')[0] if kind else ''} {self.code}"


def run(case: Case, main: Callable[[list[str]], None] | None = None) -> Outcome:
    """Run a case in this process, in a folder of its own.

    Args:
        case: What to run.
        main: Program; default is ``lbr``.
    """
    if main is None:
        from lbr_st.cli.main import main
    before, environment = os.getcwd(), dict(os.environ)
    out, err = io.StringIO(), io.StringIO()
    outcome = Outcome(0, "")

    def stop(*args: Any) -> None:
        raise TooSlow(f"more than {SECONDS} seconds")

    with tempfile.TemporaryDirectory() as folder:
        lay_down(case, Path(folder))
        os.chdir(folder)
        handler = signal.signal(signal.SIGALRM, stop)
        signal.alarm(SECONDS)
        try:
            around = AROUND.get(case.argv[0], contextlib.nullcontext)()
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), around:
                main(with_server(case.argv))
        except SystemExit as end:
            outcome.code = end.code or 0
        except KeyboardInterrupt:
            raise
        except BaseException:  # whatever gets out is a finding
            outcome.code, outcome.error = "raised", traceback.format_exc()
        finally:
            signal.alarm(0)
            signal.signal(signal.SIGALRM, handler)
            os.chdir(before)
            os.environ.clear()
            os.environ.update(environment)
    outcome.said = err.getvalue()
    return outcome


@contextlib.contextmanager
def in_short() -> Iterator[None]:
    """Let no picture be drawn and no model be verified: an adaptation saves several, and the stages have own cases."""
    with (
        mock.patch("lbr_st.training.curves.plot"),
        mock.patch("lbr_st.data.card.plot"),
        mock.patch("lbr_st.model.saving.verify", return_value=[]),
    ):
        yield


AROUND: dict[str, Callable[[], Any]] = {"serve": fuzz_serving.asking, "adapt": in_short}


def lay_down(case: Case, folder: Path) -> None:
    """Write the files of a case."""
    for name, content in case.files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def keep(case: Case, outcome: Outcome, findings: Path = FINDINGS) -> Path:
    """Write a finding, in the place of a larger one of the same signature; return its folder."""
    folder = findings / hashlib.sha256(outcome.signature.encode()).hexdigest()[:12]
    if folder.is_dir():
        for path in sorted(folder.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
    (folder / "files").mkdir(parents=True, exist_ok=True)
    lay_down(case, folder / "files")
    (folder / "argv.json").write_text(json.dumps(case.argv, indent=1))
    (folder / "said.txt").write_text(
        f"{case.text}\n\nexit code {outcome.code}\n\n{outcome.said}\n{outcome.error}", errors="backslashreplace"
    )
    return folder


def fuzz(
    commands: Mapping[str, st.SearchStrategy[Case]], minutes: float, start: int, findings: Path = FINDINGS
) -> dict[str, Path]:
    """Draw and run cases until the time is up.

    Args:
        commands: Cases by the name of their command.
        minutes: How long.
        start: Seed of the first round.
        findings: Where findings are written.

    Returns:
        The folders of the findings, by signature.
    """
    end = time.monotonic() + 60 * minutes
    found: dict[str, Path] = {}
    counts: dict[str, int] = dict.fromkeys(commands, 0)
    rounds = start
    while time.monotonic() < end:
        for name, cases in commands.items():
            _round(name, cases, rounds, end, found, counts, findings)
        rounds += 1
        gc.collect()
        print(", ".join(f"{name} {count}" for name, count in counts.items()), f"- {len(found)} findings", flush=True)  # noqa: T201
    return found


def _round(
    name: str,
    cases: st.SearchStrategy[Case],
    number: int,
    end: float,
    found: dict[str, Path],
    counts: dict[str, int],
    to: Path,
) -> None:
    known = {*found}
    begun = time.monotonic()
    since: dict[str, float] = {}

    @seed(number)
    @settings(
        max_examples=30, deadline=None, database=None, phases=[Phase.generate, Phase.shrink],
        report_multiple_bugs=False, suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(cases)
    def each(case: Case) -> None:
        now = time.monotonic()
        if now > min(end, begun + A_ROUND) or any(now - first > SHRINKING for first in since.values()):
            return
        counts[name] += 1
        outcome = run(case)
        if outcome.is_fine or outcome.signature in known:
            return
        since.setdefault(outcome.signature, now)
        found[outcome.signature] = keep(case, outcome, to)
        raise AssertionError(outcome.signature)

    try:
        each()
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: S110  (the finding is written; that shrinking ended is none)
        pass
    for signature in {*found} - known:
        print(f"FINDING {found[signature]}: {signature}", flush=True)  # noqa: T201


@contextlib.contextmanager
def quiet_logs() -> Iterator[None]:
    """Keep what libraries log and warn out of the way."""
    import logging
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.getLogger().setLevel(logging.CRITICAL)
        yield


def main() -> None:
    """Run ``make fuzz``: exit code 1 if something was found."""
    parser = argparse.ArgumentParser(description="Run every command on mutated files and flags.")
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--seed", type=int, default=random.randrange(2**31))
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="COMMAND", help="commands that begin with one of these"
    )
    parser.add_argument("--again", type=Path, metavar="FOLDER", help="run a finding once more")
    args = parser.parse_args()
    sys.path.append(str(ROOT / "benchmarks"))  # of tiny models
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
    if args.again:
        case = Case(json.loads((args.again / "argv.json").read_text()), files_of(args.again / "files", "."))
        outcome = run(case)
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # half a character in a command
        print(f"{case.text}\nexit code {outcome.code}\n{outcome.said}{outcome.error}")  # noqa: T201
        sys.exit(not outcome.is_fine)
    names = [each for each in NAMES_OF_COMMANDS if not args.only or each.startswith(tuple(args.only))]
    print(f"seed {args.seed}", flush=True)  # noqa: T201
    models = FINDINGS / "models"  # they stay, for --again
    shutil.rmtree(models, ignore_errors=True)
    models.mkdir(parents=True)
    with quiet_logs():
        commands = Commands(models)
        found = fuzz({name: commands.of(name) for name in names}, args.minutes, args.seed)
    for signature, where in found.items():
        print(f"{where}: {signature}")  # noqa: T201
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
