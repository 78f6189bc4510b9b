"""The texts that are encoded: documents, or the queries of a file."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from lbr_st.data.cells import Wrong, stop
from lbr_st.data.passages import Chunker
from lbr_st.data.prepared_set import file_of
from lbr_st.data.records import iterate_passages, iterate_queries
from lbr_st.errors import InputError
from lbr_st.records import Record


def texts_of(
    source: str, role: str, make_chunker: Callable[[], Chunker] = Chunker, wrong: Wrong = stop
) -> Iterator[Record]:
    """Yield the texts of a source with their ids, the text of each as ``document``.

    Args:
        source: A prepared set, a file, a folder of text files or a Hub dataset.
        role: ``document`` for documents, of a set its corpus; ``query`` for the queries of a file.
        make_chunker: Makes what cuts text files.
        wrong: Called with a `RowError` for each row that cannot be used; reading goes on if it returns.

    Raises:
        InputError: If a row cannot be used, or there is none; or queries are asked for of a set or a folder.
    """
    if role == "document":
        return iterate_passages(file_of(source, "corpus"), make_chunker, wrong)
    if os.path.isdir(source):
        raise InputError(f"--role query: {source} is a folder; name the file with the queries, such as its test.jsonl")
    return iterate_queries(source, wrong)
