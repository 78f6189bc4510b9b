"""Install a wheel in a clean environment, away from this checkout, and use it. ``make dist`` runs this.

    python tools/try_wheel.py dist/lbr_st-0.1.0-py3-none-any.whl

The base install opens a model that was saved here, gives the same vectors, and says which extra a command needs that is
not there. With ``[all]`` it runs stage 1 on a tiny backbone and verifies what that made.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import lbr_st

ROOT = Path(__file__).parent.parent
TEXTS = ["How is anaemia treated?", "Sorting a list takes n log n comparisons."]
OPEN = """
import json, sys
import lbr_st
from sentence_transformers import SentenceTransformer
assert not lbr_st.__file__.startswith(sys.argv[1]), lbr_st.__file__
texts, expected = json.load(open("expected.json"))
for model in (lbr_st.load("model", device="cpu"), SentenceTransformer("model", device="cpu")):
    assert abs(model.encode(texts) - expected).max() < 1e-6
"""
LEARN = ["learn", "--model", "backbone", "--data", "pairs.jsonl", "--output-dir", "stage1"]
SMALL = ["--max-steps", "2", "--max-length", "32", "--per-device-train-batch-size", "2"]


def prepare(work: Path) -> None:
    """Make a tiny backbone, a model of it with its vectors, and a few pairs."""
    sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "benchmarks")]
    from helpers import MANY, make_backbone

    make_backbone(work / "backbone")
    model = lbr_st.from_backbone(str(work / "backbone"), num_bottleneck_tokens=2, max_seq_length=24).eval()
    lbr_st.save(model, work / "model")
    (work / "expected.json").write_text(json.dumps([TEXTS, model.encode(TEXTS).tolist()]))
    (work / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in MANY))


class Environment:
    """A clean environment in a folder, in which commands run as a user's would.

    Args:
        work: The folder; commands run there.
    """

    def __init__(self, work: Path) -> None:
        self.work = work
        self.bin = work / "environment" / "bin"
        self.variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        self.variables |= {"HF_HUB_OFFLINE": "1"}
        subprocess.run([sys.executable, "-m", "venv", self.bin.parent], check=True)
        self.run("python", "-m", "pip", "install", "-q", "-c", str(ROOT / "constraints.txt"), "pip")

    def install(self, what: str) -> None:
        """Install a package with the releases of constraints.txt."""
        self.run("python", "-m", "pip", "install", "-q", "-c", str(ROOT / "constraints.txt"), what)

    def run(self, program: str, *argv: str, status: int = 0) -> str:
        """Run a program of the environment, which must end with an exit code; return what it printed."""
        print(f"  {program} {' '.join(argv[:7])}".replace("\n", " ")[:120], flush=True)
        done = subprocess.run(
            [self.bin / program, *argv],
            cwd=self.work,
            env=self.variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if done.returncode != status:
            sys.exit(f"{done.stdout}\n{program} {' '.join(argv)} ended with {done.returncode}, not {status}")
        return done.stdout


def main() -> None:
    """Try the wheel."""
    wheel = Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        prepare(work)
        environment = Environment(work)

        environment.install(str(wheel))
        environment.run("python", "-m", "pip", "check")
        assert "learn" in environment.run("lbr", "--help")
        assert environment.run("lbr", "--version") == f"lbr-st {lbr_st.__version__}\n"
        environment.run("python", "-c", OPEN, str(ROOT))
        environment.run("lbr", "verify", "model")
        line = environment.run("lbr", *LEARN, *SMALL, status=2)
        assert line.startswith("error: ") and "pip install 'lbr-st[" in line, line

        environment.install(f"{wheel}[all]")
        environment.run("python", "-m", "pip", "check")
        environment.run("lbr", *LEARN, *SMALL)
        environment.run("lbr", "verify", "stage1")
    print(f"{wheel.name}: installed, opened a model, ran stage 1")


if __name__ == "__main__":
    main()
