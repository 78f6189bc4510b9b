"""Public sets by name: where they are on the Hub, how their columns map to records, what tests are made of them."""

from __future__ import annotations

import functools
import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

import yaml

from lbr_st.data.columns import Columns
from lbr_st.data.judgements import NOTHING
from lbr_st.data.templates import Template
from lbr_st.errors import InputError, naming_the_extra
from lbr_st.records import Record, is_hub_id

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Entry:
    """One set of ``registry.yaml``; its comments say what the fields mean."""

    name: str
    domain: str
    hub: str
    splits: dict[str, str]
    license: str
    about: str
    config: str | None = None
    query: str | None = None
    document: str | None = None
    choices: list[str] | str | None = None
    answer: str | None = None
    corpus: dict[str, str] = field(default_factory=dict)
    queries: dict[str, str] = field(default_factory=dict)
    qrels: dict[str, str] = field(default_factory=dict)
    mteb: list[str] = field(default_factory=list)
    incomplete: bool = False
    keep_html: bool = False
    copies: list[str] = field(default_factory=list)
    recognised_by: dict[str, str] = field(default_factory=dict)

    @property
    def columns(self) -> Columns:
        """How its rows are read."""
        return Columns(
            query=Template(self.query) if self.query else None,
            document=Template(self.document) if self.document else None,
            choices=tuple(map(Template, self.choices)) if isinstance(self.choices, list) else self.choices,
            answer=self.answer,
            first_option=0,
            judged_by=NOTHING,  # a score here is one of a question, not of a pair
        )

    @property
    def hubs(self) -> set[str]:
        """The Hub datasets it is made of, and copies of it."""
        return {self.hub, *self.copies, *(part["hub"] for part in (self.corpus, self.queries, self.qrels) if part)}


@functools.cache
def load() -> Mapping[str, Entry]:
    """Return the registry by name."""
    text = resources.files("lbr_st.data").joinpath("registry.yaml").read_text(encoding="utf-8")
    return {name: Entry(name=name, **entry) for name, entry in yaml.safe_load(text).items()}


def entries_of(sources: Iterable[str], records: Iterable[Record] = ()) -> list[Entry]:
    """Return the sets that data come from.

    Args:
        sources: Names of sets, ids of Hub datasets (also ``owner/name:split``), anything else.
        records: Data of unknown origin; some sets are known by what their records say of themselves.
    """
    named = {source.partition(":")[0].lower() for source in sources}
    sets = load()
    found = {name for name, entry in sets.items() if named & {name, *map(str.lower, entry.hubs)}}
    marks = [
        (name, key, re.compile(pattern)) for name, entry in sets.items() for key, pattern in entry.recognised_by.items()
    ]
    seen: set[tuple[str, Any]] = set()
    for record in records:
        for name, key, pattern in marks:
            value = record.get(key)
            if isinstance(value, str) and (name, value) not in seen:
                seen.add((name, value))
                if pattern.fullmatch(value):
                    found.add(name)
    return [entry for name, entry in sets.items() if name in found]


def check_names(names: Iterable[str]) -> None:
    """Refuse what is neither a set of the registry nor a Hub id.

    Raises:
        InputError: If there is such a name; with the names of the registry.
    """
    for name in names:
        if name not in load() and "/" not in name:
            raise InputError(f"--derived-from {name}: no set of the registry ({', '.join(load())}) and no Hub id")


@functools.cache
def _every_task() -> dict[str, Any]:
    """Return the metadata of all tasks of mteb by name; none where mteb is not installed."""
    try:
        with naming_the_extra("naming all public tests on these data"):
            import mteb  # takes seconds, and most data are of no Hub
    except InputError as error:
        logger.warning("%s; those of lbr data list are named", error)
        return {}
    return {task.metadata.name: task.metadata for task in mteb.get_tasks(exclude_superseded=False)}


def mteb_tasks(sources: Iterable[str], records: Iterable[Record] = ()) -> list[str]:
    """Return the names of the mteb tasks that test on what the data come from, sorted.

    These are the tasks that the registry names, those whose own data are one of the Hub datasets, and those that mteb
    says are adapted from one of them.

    Args:
        sources: See `entries_of`.
        records: See `entries_of`.
    """
    sources = list(sources)
    entries = entries_of(sources, records)
    tasks = {task for entry in entries for task in entry.mteb}
    hubs = {source.partition(":")[0] for source in sources if is_hub_id(source)}
    hubs = {hub.lower() for hub in hubs.union(*(entry.hubs for entry in entries))}
    if hubs:
        every = _every_task()
        tasks |= {name for name, task in every.items() if task.dataset["path"].lower() in hubs}
        adapted = tasks
        while adapted:  # from one to the next
            adapted = {name for name, task in every.items() if tasks & set(task.adapted_from or ())} - tasks
            tasks |= adapted
    return sorted(tasks)
