"""Run the fast tests with the oldest or the newest releases that pyproject.toml allows.

``make test-versions`` runs this for both.

The oldest are the lower bounds of the package and of its extras; other packages are the newest that go with them.
torch is that of constraints.txt in both: of the others there is no small build everywhere (``--torch`` takes another).
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
# Test tools are not part of the promise.
OURS = ("train", "data", "eval", "export")


def lower_bounds() -> dict[str, str]:
    """Return the oldest release that pyproject.toml allows of every package, by name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [requirement for extra in OURS for requirement in project["optional-dependencies"][extra]]
    matches = [re.match(r"([\w.-]+)>=([\w.]+)", requirement) for requirement in [*project["dependencies"], *extras]]
    return {match[1]: match[2] for match in matches if match}


def locked(package: str) -> str:
    """Return the release of a package in constraints.txt."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return next(line.partition("==")[2] for line in lines if line.startswith(f"{package}=="))


def environment(which: str, torch: str) -> Path:
    """Make or renew an environment; return its Python."""
    folder = ROOT / ".versions" / which
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    oldest = lower_bounds() if which == "oldest" else {}
    constraints = folder / "constraints.txt"
    constraints.write_text("".join(f"{name}=={version}\n" for name, version in (oldest | {"torch": torch}).items()))
    pip: list[str | Path] = [python, "-m", "pip", "install", "-q", "--upgrade"]
    subprocess.run([*pip, "pip"], check=True)
    eager: list[str | Path] = ["--upgrade-strategy", "eager", "-c", constraints]
    subprocess.run([*pip, *eager, "-e", f"{ROOT}[dev]"], check=True)
    listed = subprocess.run(
        [python, "-m", "pip", "list", "--format", "freeze"], check=True, capture_output=True, text=True
    )
    installed = dict(line.split("==") for line in listed.stdout.splitlines() if "==" in line)
    print(f"{which}:", ", ".join(f"{name} {installed[name]}" for name in lower_bounds()), flush=True)
    return python


def main() -> int:
    """Make the environment and run the tests; return the exit status of pytest."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("which", choices=("oldest", "newest"))
    parser.add_argument("tests", nargs="*", help="files or folders; default is all fast tests")
    parser.add_argument("--torch", default=locked("torch"), metavar="VERSION", help="release of torch")
    args = parser.parse_args()
    python = environment(args.which, args.torch)
    command = [python, "-m", "pytest", "-q", "-n", "2", "--dist", "loadfile", *args.tests]
    return subprocess.run(command, cwd=ROOT).returncode


if __name__ == "__main__":
    sys.exit(main())
