"""Rows out of Parquet and of Hub datasets, with words for the numbers of their classes."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lbr_st.data import names
from lbr_st.data.cells import Row, row_of
from lbr_st.data.judgements import word_of
from lbr_st.data.sources import make_a_set
from lbr_st.errors import InputError, one_line, require

LABELS = ("label", "labels", "class")
_OF_OPTIONS = re.compile(
    r"[A-Za-z]|(choice|option|ending|answer|solution|hypothesis)?[\s_-]?\d+"
)  # classes of no topic


ROWS_AT_ONCE = 1000  # of long texts the 65,536 that pyarrow reads are gigabytes


def parquet_rows(path: Path) -> Iterator[Row]:
    """Yield the rows of a Parquet file.

    Raises:
        InputError: If it cannot be read.
    """
    pyarrow, parquet = require("pyarrow", "Parquet"), require("pyarrow.parquet", "Parquet")
    number = 0
    try:
        file = parquet.ParquetFile(path)
        about = json.loads((file.schema_arrow.metadata or {}).get(b"huggingface", b"{}"))
        labels = _labels(about.get("info", {}).get("features", {}))
        twice = [name for name, times in Counter(file.schema_arrow.names).items() if times > 1]
        if twice:
            raise InputError(f"{path}: several columns are named {', '.join(twice)}; give each a name of its own")
        for batch in file.iter_batches(ROWS_AT_ONCE):
            for values in _texts_of_bytes(pyarrow, batch).to_pylist():
                number += 1
                yield row_of(f"{path}, row {number}", number, _labelled(values, labels))
    except (pyarrow.ArrowException, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a Parquet file that can be read: {one_line(error)}") from error


def _texts_of_bytes(pyarrow: Any, batch: Any) -> Any:
    """Return rows whose columns of bytes are texts, where they are UTF-8: Spark and Impala write texts so."""
    for number, field in enumerate(batch.schema):
        if pyarrow.types.is_binary(field.type) or pyarrow.types.is_large_binary(field.type):
            try:
                batch = batch.set_column(number, field.name, batch.column(number).cast(pyarrow.large_string()))
            except pyarrow.ArrowInvalid:  # pictures
                continue
    return batch


def _labels(features: dict[str, Any]) -> dict[str, list[str]]:
    """Return what the numbers of a column mean: to some, 0 is entailment, to others a topic.

    Names that are those of options, letters or numbered, mean no more than their numbers; nor do those of a column that
    grades, or says which option is right, where none of them judges.

    Args:
        features: Features of `datasets`, as they are written.
    """
    named = {column: _names_in(feature) for column, feature in features.items()}
    return {
        column: meant
        for column, meant in named.items()
        if any(map(word_of, meant)) or not (all(map(_OF_OPTIONS.fullmatch, meant)) or _is_of_numbers(column, meant))
    }


def _is_of_numbers(column: str, meant: Sequence[str]) -> bool:
    """Tell whether the number of a class says what its name does: of 5 stars, of grades, of options."""
    if names.first([column], LABELS) is not None:  # of topics, as a rule
        return any(any(map(str.isdigit, name)) for name in meant)
    return bool(names.judgements([column])) or names.first([column], names.CHOICE_ANSWERS) is not None


def _names_in(feature: Any) -> list[str]:
    """Return the names of the classes of a column, or of a list of them; none where it has no classes."""
    while isinstance(feature, dict) and isinstance(feature.get("feature"), dict):
        feature = feature["feature"]
    return [str(name) for name in (feature.get("names") if isinstance(feature, dict) else None) or ()]


def _labelled(values: dict[str, Any], labels: dict[str, list[str]]) -> dict[str, Any]:
    """Return a row with words for the numbers of its labels; one below 0 is none."""
    said = {column: values[column] for column in labels if isinstance(values.get(column), int | list)}
    return values | {column: _label(value, labels[column]) for column, value in said.items()}


def _label(value: Any, meant: list[str]) -> Any:
    if isinstance(value, list):
        return [_label(each, meant) for each in value]
    if not isinstance(value, int):
        return value
    return meant[value] if 0 <= value < len(meant) else None


def hub_rows(name: str, config: str | None, split: str) -> Iterator[Row]:
    """Yield the rows of a split of a Hub dataset, or of a local folder that `datasets.load_dataset` reads.

    Raises:
        InputError: If there is no such dataset or split, or it cannot be read.
    """
    datasets = require("datasets", "a dataset of the Hub")
    try:
        dataset = datasets.load_dataset(name, config, split=split)
    except Exception as error:  # of many libraries: no network, no such dataset, no such split, a gated one
        if Path(name).is_dir():
            why = f" ({one_line(error)})" if "split" in str(error) else ""
            message = f"{name}: is a folder that the package datasets does not read as rows{why}; {make_a_set(name)}"
        else:
            message = f"{name}: no such file, and no dataset of the Hub that can be read: {one_line(error)}"
        raise InputError(message) from error
    labels = _labels(dataset.features.to_dict())
    for number, values in enumerate(dataset, start=1):
        yield row_of(f"{name}, row {number}", number, _labelled(values, labels))
