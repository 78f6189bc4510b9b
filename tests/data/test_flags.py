"""Messages of the data layer that name a flag: each command that can print one has the flag."""

import ast
import contextlib
import io
import re
from functools import cache
from pathlib import Path

import pytest

import lbr_st.data
from lbr_st.cli.main import _main_of
from lbr_st.data.records import read_records, read_tuples
from lbr_st.errors import InputError

FLAG = re.compile(r"(?<![\w-])--[a-z][a-z-]*")
COMMAND = re.compile(r"lbr ((?:data )?[a-z]+)")
PREPARE, MINE, CHECK, FILTER = "data prepare", "data mine", "data check", "data filter"
READ = (PREPARE, "data queries", MINE, CHECK, "learn", "align", "evaluate", "inspect", "search", "encode", "adapt")
# Which commands print the messages of a module that names a flag, and no command with it.
PRINTED_BY = {
    "card": ("learn",),  # the README of a set
    "choices": (PREPARE,),  # behind "lbr data prepare"
    # Behind "lbr data prepare takes", or where a flag was given.
    "columns": (PREPARE,),
    "row_judgements": (PREPARE,),
    "row_refusals": (PREPARE,),
    "config": (PREPARE,),
    "drops": READ,
    "encodings": (PREPARE,),  # --encoding was given
    "isolate": (PREPARE,),
    "judgements": (PREPARE, "data queries", MINE, CHECK, "learn", "align", "evaluate", "inspect"),
    "mining": (MINE,),
    "near_duplicates": (PREPARE, CHECK, FILTER),
    "overlap": ("learn", "align"),
    "parts": (PREPARE,),
    "preparing": (PREPARE,),
    "records": (PREPARE,),  # --id was given
    "registry": (PREPARE,),
    "remedies": (PREPARE,),  # behind "lbr data prepare takes"
    "split": (PREPARE,),
    "table": (PREPARE,),
}
OF_A_FLAG_GIVEN = {
    ("row_judgements", "--min-score"): ("learn", "align", "evaluate", "inspect", PREPARE),
    ("records", "--target"): ("learn",),
}
NO_MESSAGES = {("card", "--same-text"), ("card", "--objective"), ("card", "--data")}  # Markdown that names commands


@cache
def flags_of(command):
    out = io.StringIO()
    name, *rest = command.split()
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        _main_of(name)([*rest, "--help"])
    return frozenset(FLAG.findall(out.getvalue()))


def messages():
    """Yield (module, text) of each string that names a flag and documents nothing."""
    for file in sorted(Path(lbr_st.data.__file__).parent.glob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
        docs = {id(node.body[0].value) for node in ast.walk(tree) if isinstance(node, documented) and node.body
                and isinstance(node.body[0], ast.Expr)}  # fmt: skip
        inner = {id(value) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for value in node.values}
        for node in ast.walk(tree):
            if id(node) in docs or id(node) in inner:
                continue
            if isinstance(node, ast.JoinedStr):
                pieces = [part.value if isinstance(part, ast.Constant) else "{}" for part in node.values]
                text = "".join(map(str, pieces))
            else:
                text = node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""
            if FLAG.search(text):
                yield file.stem, text


MESSAGES = list(messages())


def test_messages_with_flags_are_found():
    assert len(MESSAGES) > 30
    assert {module for module, text in MESSAGES if not COMMAND.search(text)} <= PRINTED_BY.keys()


@pytest.mark.parametrize(("module", "text"), MESSAGES, ids=[f"{module}-{n}" for n, (module, _) in enumerate(MESSAGES)])
def test_each_command_that_can_print_a_flag_has_it(module, text):
    """A flag stands behind the command that has it, or all that print the message have it."""
    for flag in FLAG.finditer(text):
        if (module, flag.group()) in NO_MESSAGES:
            continue
        named = [command for command in COMMAND.findall(text[: flag.start()]) if command in ("learn", *READ)]
        if "where there is no such flag, to lbr data prepare" in text:
            named = [PREPARE]
        commands = named[-1:] or OF_A_FLAG_GIVEN.get((module, flag.group())) or PRINTED_BY[module]
        assert [command for command in commands if flag.group() not in flags_of(command)] == []


@pytest.mark.parametrize("read", [read_records, read_tuples])
def test_what_reads_without_the_flag_names_none(tmp_path, read):
    (tmp_path / "f.jsonl").write_text('{"query": "q", "document": ""}\n{"query": "q", "document": "d"}\n')
    with pytest.raises(InputError, match="the text is empty$"):
        read(tmp_path / "f.jsonl")
    with pytest.raises(InputError, match="; --on-error skip leaves such rows out$"):
        read(tmp_path / "f.jsonl", on_error="stop")
