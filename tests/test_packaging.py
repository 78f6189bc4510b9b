"""What is installed with what, what a wheel holds, and what fails the tests."""

import importlib.metadata
import re
import subprocess
import sys
import tomllib
import warnings
from fnmatch import fnmatch

import pytest
from base_install import BASE_INSTALL, without
from helpers import ROOT, TEXTS
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import lbr_st
from lbr_st.errors import EXTRAS
from lbr_st.files import write_jsonl

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
# Of those who use the package, and not only work on it.
USERS = ("train", "data", "eval", "export", "serve", "gpu", "qlora", "ray")
# Where a module has another name than its package.
PACKAGES = {"bs4": "beautifulsoup4", "markdown_it": "markdown-it-py", "Stemmer": "PyStemmer"}
LOCKED = dict(
    line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")
)
LOCKED = {canonicalize_name(name): version for name, version in LOCKED.items()}


def requirements(extra=None):
    """Return what an extra names, or the base install."""
    lines = PROJECT["optional-dependencies"][extra] if extra else PROJECT["dependencies"]
    return [Requirement(line) for line in lines]


def packages(extra):
    """Return the packages that an extra names."""
    return {canonicalize_name(requirement.name) for requirement in requirements(extra)}


def package_of(module):
    """Return the package of a module of an extra."""
    return canonicalize_name(PACKAGES.get(module, module))


@pytest.mark.parametrize("module", EXTRAS)
def test_the_extra_that_is_named_brings_the_module(module):
    assert package_of(module) in packages(EXTRAS[module])


@pytest.mark.parametrize("extra", USERS)
def test_every_package_of_an_extra_is_known_to_errors(extra):
    assert packages(extra) <= {package_of(module) for module in EXTRAS}


def test_all_is_what_needs_no_gpu_and_no_cluster():
    assert requirements("all") == [Requirement("lbr-st[train,data,eval,export,gguf,serve]")]


def test_the_model_may_import_no_extra():
    """The contract of import-linter names every module of an extra but scipy, which sentence-transformers brings."""
    contracts = PYPROJECT["tool"]["importlinter"]["contracts"]
    (forbidden,) = [contract for contract in contracts if contract["type"] == "forbidden"]
    assert set(forbidden["forbidden_modules"]) == EXTRAS.keys() - {"scipy"}


def test_lower_bounds():
    """Every range begins at a release, for ``make test-versions``, and is the same wherever the package is named."""
    named = [r for r in [*requirements(), *(r for extra in USERS for r in requirements(extra))]]
    ranges = {}
    for requirement in named:
        assert [s.operator for s in requirement.specifier].count(">=") == 1, requirement
        assert ranges.setdefault(requirement.name, requirement.specifier) == requirement.specifier


def test_lock_is_in_the_ranges():
    for extra in (None, "train", "data", "eval", "export", "serve", "dev", "bench"):
        for requirement in requirements(extra):
            if requirement.name != "lbr-st":
                assert requirement.specifier.contains(LOCKED[canonicalize_name(requirement.name)]), requirement


def needed(distribution, extras=("",), seen=None):
    """Return all packages that a distribution needs here, with what these need."""
    seen = set() if seen is None else seen
    for line in importlib.metadata.requires(distribution) or []:
        requirement = Requirement(line)
        key = canonicalize_name(requirement.name), frozenset(requirement.extras)
        marker = requirement.marker
        if key not in seen and (not marker or any(marker.evaluate({"extra": extra}) for extra in extras)):
            seen.add(key)
            needed(requirement.name, ("", *requirement.extras), seen)
    return seen


def test_lock_is_whole():
    """All that ``make`` installs has its release, and no line names where it comes from."""
    installed = {name: importlib.metadata.version(name).partition("+")[0] for name in ("torch", "transformers", "mteb")}
    if any(LOCKED[name] != version for name, version in installed.items()):
        pytest.skip("not the environment that make sets up")
    assert {name for name, _ in needed("lbr-st", ("", "dev"))} - {"lbr-st"} <= LOCKED.keys()
    assert {"pip", "setuptools"} <= LOCKED.keys()
    assert all(re.fullmatch(r"[\w.]+", version) for version in LOCKED.values())


def test_wheel_holds_every_file():
    """Files that are no Python are named in pyproject.toml, whichever folder they are in."""
    patterns = PYPROJECT["tool"]["setuptools"]["package-data"]["*"]
    folder = ROOT / "lbr_st"
    files = [file for file in folder.rglob("*") if file.is_file() and file.suffix not in (".py", ".pyc")]
    assert folder / "data" / "registry.yaml" in files
    for file in files:
        inside = next(parent for parent in file.parents if (parent / "__init__.py").exists())
        assert any(fnmatch(str(file.relative_to(inside)), pattern) for pattern in patterns), file
    for directory in {file.parent for file in folder.rglob("*.py")}:
        assert (directory / "__init__.py").exists(), f"{directory} is no package: it would be left out"


WITHOUT_EXTRAS = """
import sys
import lbr_st
model = lbr_st.load(sys.argv[1], device="cpu")
vectors = model.encode(["one", "two"])
lbr_st.save(model, sys.argv[2])
assert (lbr_st.load(sys.argv[2], device="cpu").encode(["one", "two"]) == vectors).all()
from lbr_st.cli.main import main
for data in sys.argv[3:]:
    main(["search", "--model", sys.argv[1], "--data", data, "why"])
"""


def test_a_model_is_used_with_the_base_install(model, tmp_path):
    """It is opened, saved, verified, and searched with: in JSON Lines and in CSV."""
    lbr_st.save(model, tmp_path / "model")
    write_jsonl(tmp_path / "texts.jsonl", [{"text": text} for text in TEXTS])
    (tmp_path / "texts.csv").write_text("text\n" + "\n".join(f'"{text}"' for text in TEXTS))
    paths = [str(tmp_path / name) for name in ("model", "again", "texts.jsonl", "texts.csv")]
    command = [sys.executable, "-c", BASE_INSTALL + WITHOUT_EXTRAS, *paths]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout.count("> why")) == (0, 2), done.stderr


PIECES = """
import sys
from lbr_st.alignment.losses import info_nce
from lbr_st.alignment.batches import DistinctBatchSampler
from lbr_st.learning.examples import ExampleMaker
assert "datasets" not in sys.modules
"""


def test_pieces_of_the_stages_are_used_without_datasets(tmp_path):
    """Examples, batches and losses; `make gpu` trains with them where the trainers' packages are not installed."""
    code = without(EXTRAS.keys() - {"accelerate", "peft"}) + PIECES
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


RUN = """
from lbr_st.cli.main import main
main({argv!r})
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "extra"),
    [
        ("verify", None),
        ("search", None),
        ("data prepare", "data"),
        ("encode", "data"),
        ("inspect", "train"),
        ("learn", "train"),
        ("align", "train"),
        ("evaluate", "eval"),
        ("publish card", "eval"),
        ("export", "export"),
        ("serve", "serve"),
    ],
)
def test_a_command_needs_one_extra(command, extra):
    brought = {name for name, _ in needed("lbr-st", ("", extra) if extra else ("",))}
    absent = [module for module in EXTRAS if package_of(module) not in brought]
    code = without(absent) + RUN.format(argv=[*command.split(), "--help"])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"usage: lbr {command} ")


WARN = "import warnings\nwarnings.warn('this will go', category)"


@pytest.mark.parametrize("category", [FutureWarning, DeprecationWarning])
def test_warning_of_a_call_of_ours_is_a_failure(category):
    """A warning is of the module that makes the call; one of another library is not ours to mend."""
    for ours in ("lbr_st", "lbr_st.model.generation"):
        with pytest.raises(category, match="this will go"):
            exec(WARN, {"__name__": ours, "category": category})
    for theirs in ("mteb.models", "lbr_stub", "not.lbr_st"):
        with warnings.catch_warnings(record=True) as caught:
            exec(WARN, {"__name__": theirs, "category": category})
        assert len(caught) == 1
