"""The tests that need a GPU, one after the other, as long as there is time.

    PYTHONPATH=. python benchmarks/gpu_tests.py

What ``make test-gpu`` runs, in a Python that has pytest and neither this package nor its extras installed. A test that
needs a package that is not there is left out, and so is one for which no time is left. The result file is written after
each test; ``--device cpu`` runs the same tests where they have a CPU to run on.
"""

from __future__ import annotations

import importlib.util
import sys
import time
from pathlib import Path
from typing import Any

import results
from gpu_part import Part, part_parser, require_device

from lbr_st.cli.main import run_command
from lbr_st.errors import one_line

PROGRAM = "gpu_tests"
ROOT = Path(__file__).parent.parent
TESTS = ROOT / "tests" / "test_gpu.py"


def reason(report: Any) -> str:
    """Return in a line why a test failed."""
    crash = getattr(report.longrepr, "reprcrash", None)
    return one_line(crash.message if crash else report.longreprtext.splitlines()[-1])


class Recorder:
    """A plugin of pytest that writes down how each test ended, and leaves out those that there is no time for.

    Args:
        part: What says how much time is left.
        settings: What the result file carries.
    """

    def __init__(self, part: Part, settings: dict[str, Any]) -> None:
        self.part, self.settings = part, settings
        self.seconds: dict[str, float] = {}
        self.passed: list[str] = []

    def pytest_runtest_setup(self, item: Any) -> None:
        """Leave a test out where no time is left."""
        import pytest

        if self.part.seconds_left <= 0:
            pytest.skip("no time is left")

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Write down how a test ended."""
        name = report.nodeid.rpartition("::")[2]
        if report.failed:
            self.part.failed.append(f"{name}: {reason(report)}")
        elif report.skipped:
            self.part.left_out.append(f"{name}: {report.longrepr[2].removeprefix('Skipped: ')}")
        elif report.when == "call":
            self.passed.append(name)
        else:
            return
        self.seconds[name] = round(report.duration, 2)
        self.write()

    def pytest_collectreport(self, report: Any) -> None:
        """Write down what could not be imported."""
        if report.failed:
            self.part.failed.append(f"{report.nodeid}: {reason(report)}")

    def write(self) -> None:
        """Write the result file."""
        ended = {"passed": self.passed, "failed": self.part.failed, "left_out": self.part.left_out}
        results.write_arm(PROGRAM, "tests", 0, {**ended, "seconds": self.seconds, "settings": self.settings})


def main(argv: list[str] | None = None) -> None:
    """Run the tests and write their result file and the summary."""
    args = part_parser(__doc__).parse_args(argv)
    require_device(args.device)
    results.conditions()
    part, start = Part(args.seconds), time.monotonic()
    recorder = Recorder(part, {"device": args.device})
    if importlib.util.find_spec("pytest") is None:
        part.left_out.append("all tests: pytest is not installed")
    else:
        import pytest

        marked = "gpu" if args.device == "cuda" else "not gpu"
        options = ["-v", "--no-header", "-p", "no:cacheprovider"]
        code = pytest.main([*options, "-m", marked, str(TESTS)], plugins=[recorder])
        if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
            part.failed.append(f"pytest ended with {code!r}")
    recorder.write()
    sys.stdout.flush()
    figures = {
        "passed": len(recorder.passed),
        "failed": len(part.failed),
        "left_out": len(part.left_out),
        "seconds": round(time.monotonic() - start, 1),
    }
    results.write_summary(PROGRAM, figures, [results.read_arm(PROGRAM, "tests", 0)], argv)
    for kind, lines in (("left out", part.left_out), ("failed", part.failed)):
        for line in lines:
            print(f"{kind}: {line}", flush=True)
    part.end()


if __name__ == "__main__":
    run_command(main)
