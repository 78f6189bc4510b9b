"""What is searched or encoded: whether it is there, and text cut into passages that a model reads to their end."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sentence_transformers import SentenceTransformer

from lbr_st.data.cells import Wrong, stop
from lbr_st.data.passages import CHUNK_TOKENS, Chunker
from lbr_st.data.prepared_set import file_of
from lbr_st.data.sources import check_is_there
from lbr_st.errors import InputError, naming_the_extra
from lbr_st.model.lengths import TextLimit
from lbr_st.records import MANIFEST
from lbr_st.use.texts import texts_of

if TYPE_CHECKING:
    from lbr_st.use.encoded import Encoded


def require_sources(sources: Sequence[str], wrong: Wrong = stop, role: str = "document") -> None:
    """Refuse a source that is not there, or that does not begin with what can be read, before another one is read.

    Args:
        sources: Prepared sets, files, folders of text files and Hub datasets.
        wrong: Called with a `RowError` for each row that cannot be used, until one can.
        role: Whether documents or queries are read.

    Raises:
        InputError: If there is no file or folder by a name that is no Hub id, a prepared set has no corpus, or there
            is no first document.
    """
    for source in sources:
        _refuse_parts(source)
    files = [file_of(source, "corpus") if role == "document" else source for source in sources]
    for file in files:
        if not os.path.isdir(file):
            check_is_there(file)
    for file in files:
        if os.path.exists(file):
            next(texts_of(file, role, wrong=wrong))


def is_encoded(source: str) -> bool:
    """Tell whether a source is the output of ``lbr encode``."""
    return (Path(source) / MANIFEST).is_file()


def open_encoded(source: str, model: str) -> Encoded:
    """Open the output of ``lbr encode``, see `lbr_st.use.encoded.Encoded.open`.

    Raises:
        InputError: If it is not what a model gives to documents, or the package that reads it is not installed.
    """
    if not is_encoded(source):
        _refuse_parts(source)
        raise InputError(f"{source} holds no vectors: lbr encode makes such a folder")
    with naming_the_extra("the output of lbr encode"):
        from lbr_st.use.encoded import Encoded
    return Encoded.open(source, model)


def _refuse_parts(source: str) -> None:
    """Refuse files of vectors of ``lbr encode`` that are no folder of them: alone, or without the manifest.

    A file with texts is read as any other table of texts.

    Raises:
        InputError: With what to give, or to copy.
    """
    path = Path(source)
    files = sorted(path.glob("part-*.parquet"))[:1] if path.is_dir() else [path] if path.suffix == ".parquet" else []
    if not files or not files[0].is_file():
        return
    with naming_the_extra("the output of lbr encode"):
        from lbr_st.use.shards import is_part
    if (with_texts := is_part(files[0])) is None or (with_texts and files == [path]):
        return
    if (files[0].parent / MANIFEST).is_file():
        raise InputError(
            f"{source} is one file of what lbr encode wrote, without texts; give the folder, {path.parent}"
        )
    raise InputError(f"{source}: vectors of lbr encode without their {MANIFEST}: copy it too, into their folder")


def chunker_of(model: SentenceTransformer, role: str = "document") -> Chunker:
    """Return what cuts files into passages that fit a model, in its own tokens.

    Args:
        model: Any sentence-transformers model.
        role: ``document`` or ``query``: whose prompt is put before a passage.

    Raises:
        InputError: If the prompt leaves no room for text, or the package that finds the boundaries is not installed.
    """
    measure = TextLimit(model, role).measure()
    if measure is None:
        return Chunker()
    room, count = measure
    return Chunker(int(min(CHUNK_TOKENS, room)), count)
