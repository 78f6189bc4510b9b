"""Front matter: what a text says of itself before it begins.

In YAML, TOML or JSON, as Jekyll and Hugo read it; in comments of code, as Jupytext writes it; in the title blocks of
Pandoc and MultiMarkdown; in the field list that begins a text of reStructuredText.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable
from typing import Any, NamedTuple

import yaml

from lbr_st.records import CODE, HTML, MARKDOWN

BOM = "\ufeff"
# The line that a block begins with; those that it ends with, and what reads what is between them.
FENCES: dict[str, tuple[tuple[str, ...], Callable[[str], Any]]] = {
    # To this loader all is text: a date that does not exist is none the less for it.
    "---": (("---", "..."), lambda text: yaml.load(text, Loader=yaml.BaseLoader)),  # noqa: S506
    "+++": (("+++",), tomllib.loads),
    "---yaml": (("---",), lambda text: yaml.load(text, Loader=yaml.BaseLoader)),  # noqa: S506
    "---toml": (("---",), tomllib.loads),
    "---json": (("---",), lambda text: json.loads(text, strict=False)),
    "{": (("}",), lambda text: json.loads(f"{{{text}}}", strict=False)),
}
BROKEN = "with front matter that cannot be read, left out but for a title"

# Blank lines and comments that may stand before it.
_BEFORE = re.compile(r"(\s|<!--.*?-->)*", re.DOTALL)
# How a line of it begins that says something: a name and its value. Others go on, are items, comments or brackets.
_NAMED = re.compile(r"""\s*(["']?)([\w-]+)\1[ \t]*[:=]""")
_OTHER = re.compile(r"\s|$|[-#\[\]{},]|\?\s")
_TITLE = re.compile(r"""\s*(["']?)title\1[ \t]*[:=][ \t]*(?![ \t\[{|>&*!])(.*)""", re.IGNORECASE)


# A block in comments of code; behind a line for the shell or of the encoding.
_COMMENTED = re.compile(r"(?:\s*|#!.*\n|#.*coding.*\n)*(#'?|//|--|%) ---[ \t]*\n(?:\1.*\n)*?\1 ---[ \t]*(?:\n|\Z)")
# Title blocks: lines of Pandoc that each begin with %, and those of MultiMarkdown, each a name and its value.
_PANDOC = re.compile(r"(%[ \t].*\n([ \t]+\S.*\n)*){1,3}(?=\s*\n)")
_MULTI = re.compile(r"(?=title[ \t]*:)([A-Za-z][\w -]{0,30}:[ \t]+\S.*\n){2,}(?=\s*\n)", re.IGNORECASE)
# A title of reStructuredText with its line below, or lines around it, and the field list behind it.
_DOCINFO = re.compile(
    r"(?P<title>\s*(?:(?P<over>[=\-~^\"'#*+]{3,})\n)?[^\s:.].*\n(?P<under>[=\-~^\"'#*+]{3,})\n)?"
    r"\s*(?P<fields>(:[A-Za-z][\w -]*:([ \t].*)?(\n[ \t]+\S.*)*(\n|\Z))+)(?=\s*(\n|\Z))"
)


class Page(NamedTuple):
    """A text without its front matter.

    Attributes:
        title: The title that the front matter says, or "".
        text: The text, with as many empty lines in its place: the others keep their numbers.
        is_broken: Whether there was front matter that cannot be read.
    """

    title: str
    text: str
    is_broken: bool = False


def split_front_matter(text: str, suffix: str = ".md") -> Page:
    """Take the front matter off a text.

    What is no mapping of names to values is text: a line of dashes may be a thematic break. A block that does not
    parse, or is never closed and ends with a blank line, is front matter if its lines look like it.

    Args:
        text: Text of a whole file.
        suffix: Suffix of its name, which says what front matter it may have.
    """
    if suffix in CODE:
        return _of_comments(text)
    if suffix == ".rst" and (fields := _DOCINFO.match(text)):
        return Page("", _without(text, fields.start("fields"), fields.end("fields")))
    page = _of_fences(text, may_be_json=suffix in MARKDOWN | HTML)
    return _of_title_block(text) if page.text is text and suffix in MARKDOWN else page


def _without(text: str, start: int, end: int) -> str:
    """Return a text without a part of it, of which the lines stay."""
    return text[:start] + "\n" * text.count("\n", start, end) + text[end:]


def _of_comments(text: str) -> Page:
    """Return code without the block that its first comments are, if that is front matter."""
    block = _COMMENTED.match(text)
    if block is None:
        return Page("", text)
    mark, start = block[1], block.start(1)
    inside = "\n".join(line.removeprefix(mark)[1:] for line in text[start : block.end()].split("\n"))
    page = _of_fences(inside, may_be_json=False)
    return Page("", text) if page.text is inside else Page(page.title, _without(text, start, block.end()))


def _of_title_block(text: str) -> Page:
    """Return a text of Markdown without the block of a title that it begins with."""
    whole = text.removeprefix(BOM)
    block = _PANDOC.match(whole) or _MULTI.match(whole)
    if block is None:
        return Page("", text)
    title = block[0].partition("\n")[0].partition("%" if whole.startswith("%") else ":")[2]
    return Page(" ".join(title.split()), _without(whole, 0, block.end()))


def _of_fences(text: str, may_be_json: bool) -> Page:
    whole = text.removeprefix(BOM)
    before = _BEFORE.match(whole)
    start = whole.count("\n", 0, before.end() if before else 0)
    lines = whole.split("\n")
    fence = lines[start].rstrip()
    is_object = fence.startswith("{")
    found = _json(lines, start) if is_object and may_be_json else None
    if found is None and fence in FENCES and (may_be_json or not is_object):
        found = _fenced(lines, start, *FENCES[fence])
    if found is None:
        return Page("", text)
    title, end, is_broken = found
    return Page(" ".join(title.split()), "\n" * end + "\n".join(lines[end:]), is_broken)


def _fenced(
    lines: list[str], start: int, ends: tuple[str, ...], parse: Callable[[str], Any]
) -> tuple[str, int, bool] | None:
    """Return the title of the block between two fences, the line behind it, and whether it cannot be read.

    None where there is no such block.
    """
    inside = [line.rstrip("\r") for line in lines[start + 1 :]]
    end = next((number for number, line in enumerate(inside) if line.rstrip() in ends), None)
    if end is not None:
        try:
            found = parse("\n".join(inside[:end]))
        except (yaml.YAMLError, ValueError, RecursionError):
            pass
        else:
            found = {} if found is None else found  # Jekyll's pages that say nothing of themselves
            return (_title_in(found), start + end + 2, False) if isinstance(found, dict) else None
    blank = next((number for number, line in enumerate(inside) if not line.strip()), len(inside))
    for stop, behind in ((end, 2), (blank, 1)):  # closed, or ended by a blank line
        if stop is not None and _looks_like_front_matter(inside[:stop]):
            title = next((match[2] for line in inside[:stop] if (match := _TITLE.fullmatch(line))), "")
            return title.strip().rstrip(",").strip("\"'"), start + stop + behind, True
    return None


def _looks_like_front_matter(block: list[str]) -> bool:
    """Tell whether all lines of a block say something under a name, or belong to one that does."""
    names = [match[2].lower() for line in block if (match := _NAMED.match(line))]
    is_all = all(_NAMED.match(line) or _OTHER.match(line) for line in block)
    return is_all and (len(names) > 1 or "title" in names)


def _json(lines: list[str], start: int) -> tuple[str, int, bool] | None:
    """Return the same of an object, which has no fences: behind it its last line is empty."""
    text = "\n".join(lines[start:])
    try:
        found, end = json.JSONDecoder(strict=False).raw_decode(text)
    except (ValueError, RecursionError):
        return None
    rest = text[end:].partition("\n")[0]
    is_one = isinstance(found, dict) and not rest.strip()
    return (_title_in(found), start + text.count("\n", 0, end) + 1, False) if is_one else None


def _title_in(about: dict[Any, Any]) -> str:
    title = next((value for name, value in about.items() if str(name).lower() == "title"), "")
    return str(title) if isinstance(title, str | int | float) and not isinstance(title, bool) else ""
