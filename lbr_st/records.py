"""What everything here is about: records of a query and a document; and what a name of a source can mean."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

FIELDS = ("query", "document")

COMPRESSED = {".gz": "gzip", ".bz2": "bz2", ".xz": "xz", ".zst": "zstd"}
JSON_LINES = (".jsonl", ".ndjson")
ATOMIC = (".inter", ".item", ".user")  # tables of recommenders, as RecBole has them
TABLES = (*JSON_LINES, ".json", ".csv", ".tsv", *ATOMIC, ".parquet")
# Text, which is cut into passages.
MARKDOWN, HTML = {".md", ".markdown"}, {".html", ".htm"}
CODE = {
    ".py", ".js", ".ts", ".java", ".c", ".h", ".cc", ".cpp", ".hpp", ".go", ".rs", ".rb", ".php", ".cs", ".kt",
    ".swift", ".scala", ".sh", ".sql", ".r", ".jl", ".lua",
}  # fmt: skip
TEXT = {".txt", ".rst", ".tex"} | MARKDOWN | HTML | CODE
HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+(:[\w.-]+){0,2}")
WHITE = re.compile(r"\s+")
# What makes a folder a prepared set: `lbr data prepare` writes it last.
SET_FILE = "lbr_set.json"
QUERIES_FILE = "lbr_queries.json"  # the same of `lbr data queries`
MANIFEST = "_manifest.json"  # the same of `lbr encode`


# A row of data; which fields there are, is said by what returns it:
#   id, query, document, source   texts
#   document_id                   id of the document, where the row says one beside its own
#   negatives                     list of texts that do not answer the query, its hard negatives
#   target                        what stage 1 predicts: texts, each with the field that it is of, or None
#   relevance                     grade of the document as a whole number, 1 where nothing is said
# A plain dictionary and no TypedDict: most code goes over fields by name, and readers add some of their own.
Record = dict[str, Any]


def file_format(path: str | Path) -> str:
    """Return the suffix that says the format of a file: ``.csv`` of ``a.csv.gz``."""
    suffixes = [suffix.lower() for suffix in Path(path).suffixes]
    if suffixes and suffixes[-1] in COMPRESSED:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def is_table(path: str | Path) -> bool:
    """Tell by its name whether a file holds rows."""
    return file_format(path) in TABLES


def is_text_file(path: Path) -> bool:
    """Tell whether a path is a file of text, which is cut into passages."""
    return path.suffix.lower() in TEXT and path.is_file()


def is_hub_id(source: str | Path) -> bool:
    """Tell whether a source is meant to be on the Hub: an owner and a name that are no file here, nor look like one.

    A folder of that name is what `datasets` takes for the dataset, too.
    """
    return bool(HUB_ID.fullmatch(str(source))) and not os.path.isfile(source) and not is_table(source)


def is_of_prepared_set(path: str | Path) -> bool:
    """Tell whether a file is of a folder that this package wrote: its texts are clean, and markup in them is meant."""
    return any((Path(path).parent / name).is_file() for name in (SET_FILE, QUERIES_FILE))
