"""What is loaded before anything is asked for: nothing but the standard library. What it costs is measured."""

import json
import subprocess
import sys

import pytest
from helpers import ROOT

import lbr_st
import lbr_st.data

MAIN = "from lbr_st.cli.main import main; main({argv})"


def loaded_by(program: str) -> set[str]:
    """Return the top-level modules that a process has at the end of a program."""
    ending = "import sys; print(*{name.partition('.')[0] for name in sys.modules}, file=sys.stderr)"
    code = f"try:\n    {program}\nexcept SystemExit: pass\n{ending}"
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    return set(done.stderr.splitlines()[-1].split())


@pytest.mark.parametrize(
    "program",
    [
        "import lbr_st",
        "import lbr_st; dir(lbr_st); lbr_st.__version__",
        "import lbr_st; dir(lbr_st.data)",
        MAIN.format(argv=["--help"]),
        MAIN.format(argv=["--version"]),
        MAIN.format(argv=["no-such-command"]),
    ],
)
def test_loads_the_standard_library_alone(program):
    more = loaded_by(program) - loaded_by("pass")
    assert more - sys.stdlib_module_names == {"lbr_st"}


@pytest.mark.parametrize("module", [lbr_st, lbr_st.data])
def test_every_promised_name_is_there(module):
    assert set(module.__all__) <= set(dir(module))
    for name in module.__all__:
        assert getattr(module, name)
    with pytest.raises(AttributeError, match="has no attribute 'absent'"):
        _ = module.absent


SUITE = """
setup:
	@true
test:
	@sleep 0.2; echo "{line}"
	@exit {status}
"""


def checkout(folder, line, status):
    """Make a folder in which ``make test`` prints a closing line."""
    folder.mkdir()
    (folder / "Makefile").write_text(SUITE.format(line=line, status=status))
    git = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@example.org"]
    subprocess.run(["git", "init", "-q", str(folder)], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "first"], check=True)
    return folder


@pytest.mark.benchmarks
def test_figures(tmp_path, monkeypatch):
    """Both commands cost more than nothing; the tests of both checkouts are timed, and those of this one pass."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import results
    import startup

    monkeypatch.setattr(results, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(startup, "REPEATS", 3)
    startup.main([])
    summary = tmp_path / "results" / "startup" / "summary.json"
    alone = json.loads(summary.read_text())["figures"]
    for name in ("help_over_bare_python", "import_over_bare_python"):
        assert alone[f"{name}_min"] <= alone[name] <= alone[f"{name}_max"]
        assert 1 < alone[name] < 8
    assert "suite_seconds_before" not in alone

    before = checkout(tmp_path / "before", "1 failed, 7 passed, 2 skipped in 0.12s", 1)
    monkeypatch.setattr(startup, "ROOT", checkout(tmp_path / "after", "== 9 passed in 61.00s (0:01:01) ==", 0))
    startup.main(["--before", str(before)])
    found = json.loads(summary.read_text())
    assert 0.1 < found["figures"]["suite_seconds_before"] < 10
    assert 0.1 < found["figures"]["suite_seconds_after"] < 10
    assert found["command"] == "python benchmarks/startup.py --before DIR"
    arm = results.read_arm("startup", "suites", 0)
    assert arm["before"]["closing_line"] == "1 failed, 7 passed, 2 skipped in 0.12s"
    assert arm["after"]["closing_line"] == "9 passed in 61.00s (0:01:01)"

    monkeypatch.setattr(startup, "ROOT", checkout(tmp_path / "red", "1 failed in 0.12s", 1))
    with pytest.raises(startup.InputError, match="do not pass: 1 failed in 0.12s"):
        startup.main(["--before", str(before)])
    assert json.loads(summary.read_text()) == found
