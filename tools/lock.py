"""Write constraints.txt: every release that ``make`` installs, as pip resolves it today. ``make lock`` runs this."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
# On Linux the default build of a newer torch carries gigabytes of CUDA, and the CPU build of this one is at hand.
TORCH = "torch==2.13.0"
EXTRAS = "bench"  # and what it brings: dev, and with it all
HEADER = f"""\
# What `make` installs, every package of it, so that a fresh clone works tomorrow as it does today. Written by
# `make lock` with Python {{python}} on {{system}}; do not edit. The package itself takes the ranges of pyproject.toml.
# {TORCH} is a release whose CPU build is at hand. Elsewhere on Linux the default build carries gigabytes of CUDA:
# point PIP_EXTRA_INDEX_URL at PyTorch's CPU index.
"""


def resolve(folder: Path) -> dict[str, str]:
    """Return the release of every package that is needed, by name.

    Args:
        folder: An empty folder, for an environment with the newest pip.
    """
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    pip: list[str | Path] = [folder / "bin" / "python", "-m", "pip", "install", "--quiet"]
    subprocess.run([*pip, "--upgrade", "pip"], check=True)
    wanted = ["pip", "setuptools", TORCH, "--editable", f"{ROOT}[{EXTRAS}]"]
    report = folder / "report.json"
    subprocess.run([*pip, "--dry-run", "--ignore-installed", "--report", report, *wanted], check=True)
    packages = [package["metadata"] for package in json.loads(report.read_text(encoding="utf-8"))["install"]]
    # "2.13.0+cpu" is the build of this machine; the same release elsewhere has another name.
    return {package["name"]: package["version"].partition("+")[0] for package in packages}


def main() -> None:
    """Write the file."""
    with tempfile.TemporaryDirectory() as folder:
        packages = resolve(Path(folder))
    del packages["lbr-st"]
    header = HEADER.format(python=platform.python_version(), system=f"{platform.system()} {platform.machine()}")
    lines = [f"{name}=={version}\n" for name, version in sorted(packages.items(), key=lambda item: item[0].lower())]
    (ROOT / "constraints.txt").write_text(header + "".join(lines), encoding="utf-8")
    print(f"constraints.txt: {len(lines)} packages")


if __name__ == "__main__":
    main()
