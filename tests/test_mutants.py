"""The list of mutants follows the code and the tests: one that changes nothing, or runs nothing, holds nothing."""

import ast
from collections import Counter
from functools import cache
from pathlib import Path

import pytest
from mutants import MUTANTS, ROOT


@cache
def fast_tests_of(file: Path) -> set[str]:
    """Return the names of the tests of a file that ``mutants.py`` runs: it asks for no slow ones."""
    found = [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.FunctionDef)]
    return {node.name for node in found if "pytest.mark.slow" not in map(ast.unparse, node.decorator_list)}


def test_each_has_a_name_of_its_own():
    assert [name for name, times in Counter(mutant.name for mutant in MUTANTS).items() if times > 1] == []


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_its_line_is_there_once_and_its_tests_are_there(mutant):
    file = ROOT / "lbr_st" / mutant.file
    text = file.read_text(encoding="utf-8")
    assert text.count(mutant.line) == 1
    if file.suffix == ".py":
        ast.parse(text.replace(mutant.line, mutant.change))
    for test in mutant.tests.split():
        path, _, name = test.partition("::")
        assert not name or name.partition("[")[0] in fast_tests_of(ROOT / "tests" / path)
