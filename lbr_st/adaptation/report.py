"""What an adaptation did, as one page that needs nothing else: the verdict, the scores, the steps, single queries."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2

from lbr_st.adaptation.steps import Step
from lbr_st.files import write_text

REPORT = "report.html"
MOST_QUERIES = 20  # that gained, and as many that lost
SHOWN = 200  # characters of a document


@dataclass(frozen=True)
class Example:
    """A query of which another model finds its document elsewhere.

    Attributes:
        query: The query.
        document: Its document.
        before: Rank of the document for the start model, from 1.
        after: The same for the new model.
        first_before: Document that the start model finds first.
        first_after: Document that the new model finds first.
    """

    query: str
    document: str
    before: int
    after: int
    first_before: str
    first_after: str


@dataclass(frozen=True, kw_only=True)
class Report:
    """What the page shows.

    Attributes:
        title: Name of the model.
        verdict: The verdict in one line.
        notes: What a reader has to know of it, a sentence each.
        next_steps: What to do now: a sentence, and a command or "".
        scores: Scores by system, each by the name of a column.
        steps: The steps, with what came of them.
        gained: Queries whose document is found higher up than before, most first.
        lost: Queries whose document is found further down, most first.
        data: What the data are, by name.
        pictures: PNG files by what they show.
        command: Command that made it.
    """

    title: str
    verdict: str
    notes: Sequence[str]
    next_steps: Sequence[tuple[str, str]]
    scores: Mapping[str, Mapping[str, str]]
    steps: Sequence[Step]
    gained: Sequence[Example]
    lost: Sequence[Example]
    data: Mapping[str, str]
    pictures: Mapping[str, Path] = field(default_factory=dict)
    command: str = ""


def largest_changes(examples: Sequence[Example]) -> tuple[list[Example], list[Example]]:
    """Return the queries that gained most and those that lost most, by how many times nearer the first rank they are.

    From rank 20 to 2 is as much as from 10 to 1: a reader sees both at the top of a list.
    """
    gained = sorted((each for each in examples if each.after < each.before), key=lambda each: each.after / each.before)
    lost = sorted((each for each in examples if each.after > each.before), key=lambda each: each.before / each.after)
    return gained[:MOST_QUERIES], lost[:MOST_QUERIES]


def _said(value: Any) -> str:
    """Write what came of a step for people: numbers with their thousands apart, counts by name."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} ({_said(each)})" for name, each in value.items())
    if isinstance(value, float):
        return f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def write_report(folder: Path, report: Report) -> Path:
    """Write the page into the folder of the model; return its path."""
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    pages = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    pages.filters["said"] = _said
    pages.filters["minutes"] = lambda seconds: f"{seconds / 60:.1f}"
    pages.filters["short"] = lambda text: text if len(text) <= SHOWN else text[:SHOWN].rstrip() + " …"
    pictures = {name: base64.b64encode(file.read_bytes()).decode() for name, file in report.pictures.items()}
    word = report.verdict.removeprefix("VERDICT ").partition(":")[0]
    columns = list(dict.fromkeys(name for of_system in report.scores.values() for name in of_system))
    page = pages.get_template(f"{REPORT}.jinja")
    write_text(folder / REPORT, page.render(report=report, pictures=pictures, word=word, columns=columns))
    return folder / REPORT
