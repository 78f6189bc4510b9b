"""A domain that needs no download: the Python packages installed on this machine.

Pairs are (docstring, function without its docstring), found with ``ast`` in site-packages and the standard library.
They are split by package, so that no package is on two sides.
"""

from __future__ import annotations

import argparse
import ast
import gc
import hashlib
import importlib.metadata
import logging
import sysconfig
import textwrap
import warnings
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from tqdm.auto import tqdm

from lbr_st.errors import InputError
from lbr_st.files import write_jsonl
from lbr_st.records import Record

logger = logging.getLogger(__name__)

# Tests, copies of other packages, and what is installed inside the standard library.
SKIPPED_FOLDERS = {
    "site-packages",
    "tests",
    "test",
    "testing",
    "_vendor",
    "vendored",
    "idlelib",
    "lib2to3",
    "__pycache__",
}
MIN_QUERY_WORDS, MAX_QUERY_CHARACTERS = 4, 400
MIN_CODE_LINES, MAX_CODE_CHARACTERS = 3, 4000
# A package with more pairs than this is training data: as test it would be most of the test.
LARGEST_HELD_OUT_PACKAGE = 400
TEST_PAIRS, DEV_PAIRS = 1000, 500


def functions_of_file(path: Path) -> list[tuple[int, str, str]]:
    """Return (line, first paragraph of the docstring, source without docstring) of each documented function.

    A file that is not Python of this version gives none.
    """
    try:
        source = path.read_text(encoding="utf-8")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in other people's code
            tree = ast.parse(source)
    except (SyntaxError, UnicodeDecodeError, ValueError, RecursionError):
        return []
    lines = source.split("\n")
    functions = []
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (text := ast.get_docstring(node)):
            docstring = node.body[0]
            code = lines[node.lineno - 1 : docstring.lineno - 1] + lines[docstring.end_lineno : node.end_lineno]
            query = " ".join(text.split("\n\n")[0].split())
            functions.append((node.lineno, query, textwrap.dedent("\n".join(code)).strip()))
    return functions


def is_good_pair(query: str, code: str) -> bool:
    """Tell whether the docstring says enough to be a query and the function is of a size to be found."""
    return (
        len(query.split()) >= MIN_QUERY_WORDS
        and len(query) <= MAX_QUERY_CHARACTERS
        and len(code.splitlines()) >= MIN_CODE_LINES
        and len(code) <= MAX_CODE_CHARACTERS
    )


def installed_files() -> list[tuple[str, Path, Path]]:
    """Return (package, path within its root, path) of each Python source file installed.

    A package is a distribution, so that ``torch`` and ``torchgen`` are one, or a top-level module of the standard
    library.
    """
    found: dict[Path, tuple[str, Path, Path]] = {}
    distributions = importlib.metadata.packages_distributions()
    paths = sysconfig.get_paths()
    for root in dict.fromkeys(Path(paths[name]) for name in ("purelib", "platlib", "stdlib")):
        for file in root.rglob("*.py"):
            relative = file.relative_to(root)
            if not SKIPPED_FOLDERS & set(relative.parts) and file not in found:
                top = Path(relative.parts[0]).stem
                found[file] = (distributions.get(top, [top])[0], relative, file)
    return sorted(found.values())


def installed_pairs() -> list[Record]:
    """Find the (docstring, function) pairs of everything installed; each docstring and each function once.

    Returns:
        Records with ``id`` (``package/file.py:line``), ``query``, ``document`` and ``package``.
    """
    pairs: list[Record] = []
    seen: set[str] = set()
    files = installed_files()
    # Half of the time of parsing goes to the garbage collector, which finds nothing in syntax trees.
    with ProcessPoolExecutor(initializer=gc.disable) as pool:
        found = pool.map(functions_of_file, [file for _, _, file in files], chunksize=64)
        progress = tqdm(zip(files, found, strict=True), "Reading installed packages", len(files), unit="file")
        for (package, name, _), functions in progress:
            for line, query, code in functions:
                if is_good_pair(query, code) and not seen & {query, code}:
                    seen |= {query, code}
                    pairs.append({"id": f"{name}:{line}", "query": query, "document": code, "package": package})
    return pairs


def split_by_package(pairs: Sequence[Record]) -> dict[str, list[Record]]:
    """Split pairs into train, dev and test so that no package is on two sides.

    Packages are taken in the order of a hash of their name, so that the split does not depend on what else is
    installed more than it must: first test, then dev, until each has enough pairs; large packages go to train.
    """
    sizes = Counter(pair["package"] for pair in pairs)
    order = sorted(
        (package for package, size in sizes.items() if size <= LARGEST_HELD_OUT_PACKAGE),
        key=lambda package: hashlib.sha256(package.encode()).hexdigest(),
    )
    side: dict[str, str] = {}
    for name, enough in (("test", TEST_PAIRS), ("dev", DEV_PAIRS)):
        taken = 0
        while taken < enough and order:
            package = order.pop(0)
            side[package] = name
            taken += sizes[package]
    split: dict[str, list[Record]] = {"train": [], "dev": [], "test": []}
    for pair in pairs:
        split[side.get(pair["package"], "train")].append(pair)
    # Neighbours are of one file; a batch, or the first rows, should be of all.
    for rows in split.values():
        rows.sort(key=lambda pair: hashlib.sha256(pair["document"].encode()).hexdigest())
    return split


def write_code_domain(output_dir: str | Path) -> None:
    """Write ``train``, ``dev``, ``test`` and ``corpus`` (all documents) as JSON Lines.

    Raises:
        InputError: If the packages installed give too few pairs to train and test on.
    """
    pairs = installed_pairs()
    split = split_by_package(pairs)
    if not all(split.values()):
        raise InputError(f"the installed packages give only {len(pairs)} (docstring, function) pairs")
    output_dir = Path(output_dir)
    output_dir.mkdir(parents=True, exist_ok=True)
    for name, rows in split.items():
        write_jsonl(output_dir / f"{name}.jsonl", rows)
        logger.info("%-5s %6d pairs of %4d packages", name, len(rows), len({row["package"] for row in rows}))
    corpus = sorted(pairs, key=lambda pair: hashlib.sha256(pair["document"].encode()).hexdigest())
    write_jsonl(output_dir / "corpus.jsonl", ({"id": p["id"], "document": p["document"]} for p in corpus))


def main(argv: Sequence[str] | None = None) -> None:
    """Run ``lbr code-domain``: write the domain of the installed packages.

    Raises:
        InputError: See `write_code_domain`.
    """
    parser = argparse.ArgumentParser(prog="lbr code-domain", description="Pairs from the installed Python packages.")
    parser.add_argument("--output-dir", required=True, metavar="DIR", help="folder for the four files")
    write_code_domain(parser.parse_args(argv).output_dir)
