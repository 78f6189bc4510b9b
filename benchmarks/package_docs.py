"""The documentation of the installed packages as a domain: the first sentence of a docstring asks for the rest of it.

Nobody asked these questions: they are the sentences by which authors say what a function or a class does. Packages that
`constraints.txt` pins, in the pinned version, are read; the test asks of a third of them, and training has the others.
"""

from __future__ import annotations

import ast
import importlib.metadata
import random
import re
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from domains import Domain, group_of

from lbr_st.data.installed_packages import installed_files
from lbr_st.errors import InputError
from lbr_st.files import replacing_folder, write_jsonl
from lbr_st.records import Record

NAME = "packages"
CONSTRAINTS = Path(__file__).parent.parent / "constraints.txt"
LEAST_WORDS, MOST_CHARACTERS = 4, 200  # of a question
LEAST_WORDS_LEFT = 20  # of what is left of a docstring
MOST_OF_PACKAGE = 400  # of a few large packages there would be nearly nothing else
ENDS = re.compile(r"(?<=[.!?])\s+(?=[A-Z`])")
Documented = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def prepare(folder: Path, tested: int, trained: int) -> Domain:
    """Write the files of the domain, once.

    Args:
        folder: Where they are written.
        tested: Number of test questions.
        trained: Number of training records.

    Raises:
        InputError: If so many are not installed.
    """
    domain = Domain(NAME, folder)
    if folder.is_dir():
        return domain
    sides: dict[str, list[Record]] = {"test": [], "train": []}
    sizes = {"test": tested, "train": trained}
    of_package: Counter[str] = Counter()
    seen: set[str] = set()
    for package, name, file in _files_in_drawn_order():
        side = "test" if group_of(package) == 2 else "train"
        for record in entries(file, name):
            if of_package[package] == MOST_OF_PACKAGE or len(sides[side]) == sizes[side]:
                break
            texts = {record["query"], record["document"]}
            if not seen & texts:
                seen |= texts
                of_package[package] += 1
                sides[side].append(record)
        if all(len(sides[each]) == sizes[each] for each in sides):
            break
    for side, records in sides.items():
        if len(records) < sizes[side]:
            raise InputError(
                f"the installed packages document {len(records):,} functions for {side}, and {sizes[side]:,} are "
                "needed: pip install -c constraints.txt 'lbr-st[bench]'"
            )
    with replacing_folder(folder) as unfinished:
        made = Domain(NAME, unfinished)
        write_jsonl(made.test, sides["test"])
        write_jsonl(made.pairs, sides["train"])
        write_jsonl(made.full, ({"id": each["id"], "document": each["document"]} for each in sides["train"]))
    return domain


def _files_in_drawn_order() -> list[tuple[str, Path, Path]]:
    """Return (package, path within its root, path) of the files of pinned packages."""
    pinned = re.findall(r"^([\w.-]+)==(\S+)", CONSTRAINTS.read_text(encoding="utf-8"), re.MULTILINE)
    versions = {normalized(name): version for name, version in pinned}
    installed = {normalized(each.metadata["Name"]): each.version for each in importlib.metadata.distributions()}
    files = [
        (normalized(package), name, file)
        for package, name, file in installed_files()
        if installed.get(normalized(package), "none").partition("+")[0] == versions.get(normalized(package))
    ]
    random.Random(0).shuffle(files)
    return files


def normalized(name: str) -> str:
    """Return the name of a package as indexes write it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def entries(file: Path, name: Path) -> Iterator[Record]:
    """Yield what a file documents; one that cannot be read, or is not Python of this version, documents nothing.

    Args:
        file: The file.
        name: Its path within its package's root, for the ids.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in other people's code
            tree = ast.parse(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, SyntaxError, RecursionError):
        return
    for node in ast.walk(tree):
        if isinstance(node, Documented) and (found := question_of(ast.get_docstring(node) or "")):
            query, rest = found
            yield {"id": f"{name}:{node.lineno}", "query": query, "document": f"{node.name}\n{rest}"}


def question_of(docstring: str) -> tuple[str, str] | None:
    """Return the first sentence and the rest; None where one of them says too little, or the rest says it again."""
    paragraph, _, others = docstring.partition("\n\n")
    first, *more = ENDS.split(" ".join(paragraph.split()), maxsplit=1)
    rest = "\n\n".join([*more, *([others.strip()] if others.strip() else [])])
    is_long_enough = len(first.split()) >= LEAST_WORDS and len(rest.split()) >= LEAST_WORDS_LEFT
    says_it_again = first.lower() in " ".join(rest.lower().split())
    return (first, rest) if is_long_enough and len(first) <= MOST_CHARACTERS and not says_it_again else None
