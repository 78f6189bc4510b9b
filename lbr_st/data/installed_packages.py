"""A domain that needs no download: the Python packages installed on this machine.

Pairs are (docstring, function without its docstring), found with ``ast`` in site-packages and the standard library.
"""

from __future__ import annotations

import ast
import gc
import importlib.metadata
import random
import sysconfig
import textwrap
import warnings
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

from tqdm.auto import tqdm

from lbr_st.records import Record

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


class Function(NamedTuple):
    """A documented function.

    Attributes:
        line: Line of its ``def``.
        start: First line, that of its decorators.
        end: Last line.
        docstring: The first paragraph, on one line.
        code: Source without decorators and docstring.
    """

    line: int
    start: int
    end: int
    docstring: str
    code: str


def documented_functions(source: str, nested: bool = True) -> list[Function]:
    """Return the documented functions of a Python file; what is not Python of this version has none.

    Args:
        source: Text of the file.
        nested: Whether functions within other documented functions are among them.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in other people's code
            tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return []
    lines = source.split("\n")
    functions: list[Function] = []
    for node in ast.walk(tree):  # level by level: what contains comes before what it contains
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (text := ast.get_docstring(node)):
            start, end = min([node.lineno, *(each.lineno for each in node.decorator_list)]), node.end_lineno or 0
            if not nested and any(other.start <= start and end <= other.end for other in functions):
                continue
            docstring = node.body[0]
            code = lines[node.lineno - 1 : docstring.lineno - 1] + lines[docstring.end_lineno : end]
            query = " ".join(text.split("\n\n")[0].split())
            functions.append(Function(node.lineno, start, end, query, textwrap.dedent("\n".join(code)).strip()))
    return functions


def functions_of_file(path: Path) -> list[Function]:
    """Return the documented functions of a file; one that cannot be read, or is not UTF-8, has none."""
    try:
        return documented_functions(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return []


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


def installed_pairs() -> Iterator[Record]:
    """Find the (docstring, function) pairs of everything installed; each docstring and each function once.

    Yields:
        Records with ``id`` (``package/file.py:line``), ``query``, ``document`` and ``package``.
    """
    seen: set[str] = set()
    files = installed_files()
    # Half of the time of parsing goes to the garbage collector, which finds nothing in syntax trees.
    with ProcessPoolExecutor(initializer=gc.disable) as pool:
        found = pool.map(functions_of_file, [file for _, _, file in files], chunksize=64)
        progress = tqdm(zip(files, found, strict=True), "Reading installed packages", len(files), unit="file")
        for (package, name, _), functions in progress:
            for function in functions:
                query, code = function.docstring, function.code
                if is_good_pair(query, code) and not seen & {query, code}:
                    seen |= {query, code}
                    yield _record(package, name, function)


def sampled_pairs(number: int, seed: int) -> list[Record]:
    """Return some of the pairs, each of another file, without reading all that is installed.

    Args:
        number: How many, at most.
        seed: Of the draw of files, and of one function of each.
    """
    draw, files = random.Random(seed), installed_files()
    draw.shuffle(files)
    found: list[Record] = []
    seen: set[str] = set()
    with tqdm(total=number, desc="Reading installed packages", unit="pair") as progress:
        for package, name, file in files:
            if len(found) == number:
                break
            good = [each for each in functions_of_file(file) if is_good_pair(each.docstring, each.code)]
            new = [each for each in good if not seen & {each.docstring, each.code}]
            if new:
                function = draw.choice(new)
                seen |= {function.docstring, function.code}
                found.append(_record(package, name, function))
                progress.update()
    return found


def _record(package: str, name: Path, function: Function) -> Record:
    where = f"{name}:{function.line}"
    return {"id": where, "query": function.docstring, "document": function.code, "package": package}
