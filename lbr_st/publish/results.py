"""mteb's result files of a model, and its card with the scores in them."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path

from lbr_st.errors import InputError, require
from lbr_st.files import read_json
from lbr_st.model.card import CARD, WHOLE, Score, read, said, write
from lbr_st.model.contract import LBR_CONFIG, check_files, fingerprint
from lbr_st.publish.licenses import check_language, check_license

RETRIEVAL = "Retrieval"
METRICS = ("ndcg_at_10", "recall_at_10")  # of retrieval; other tasks have the main score


def results_of(results_dir: str | Path, model: str | Path) -> Iterator[Path]:
    """Yield mteb's result files of a model with the weights that it has now, whatever the model was called.

    Args:
        results_dir: Folder of result files, searched with all folders in it.
        model: Directory of the model.
    """
    revision = fingerprint(model)[:40]
    for file in sorted(Path(results_dir).rglob("*.json")):
        if file.name != "model_meta.json" and revision in file.parts:
            yield file


def scores_of(files: Iterable[Path]) -> Iterator[Score]:
    """Yield the scores in result files, with the place of their data on the Hub."""
    mteb = require("mteb", "a table of scores")
    for file in files:
        try:
            found = read_json(file)
            name = found["task_name"]
            _ = found["dataset_revision"], [scores.items() for scores in found["scores"].values() for scores in scores]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{file} is no result of mteb: {error!r}; evaluate again") from error
        try:
            about = mteb.get_task(name).metadata
            dataset, type_, main = about.dataset["path"], about.type, about.main_score
        except KeyError:  # a task of a local file
            dataset, type_, main = None, RETRIEVAL, METRICS[0]
        for split, subsets in found["scores"].items():
            for scores in subsets:
                for metric in METRICS if type_ == RETRIEVAL else (main,):
                    value = scores["main_score"] if metric == main else scores[metric]
                    subset = scores.get("hf_subset", WHOLE)
                    yield Score(name, dataset, found["dataset_revision"], split, metric, value, type_, subset)


def write_card(
    model: str | Path,
    *,
    name: str | None = None,
    results_dir: str | Path | None = None,
    license: str | None = None,
    language: str | None = None,
) -> Path:
    """Write the card of a saved model again, and return the file.

    Args:
        model: Directory of the model.
        name: Name of the model on the Hub; default is that of the card, and without one that of the directory.
        results_dir: Folder of mteb's result files, whose scores of this very model are shown; default is none.
        license: License of the model, as the Hub names it: ``apache-2.0``, ``mit``, ...; default is that of the card.
        language: Code of ISO 639-1: ``en``, ``de``, ...; default is that of the card.

    Raises:
        InputError: If there is no model of this package, its card was written or changed by somebody else, it has no
            results, or the Hub knows no such license or language.
    """
    if license is not None:
        check_license(license)
    if language is not None:
        check_language(language)
    model = Path(model)
    require_whole(model)
    name = name or said(model).get("name", model.resolve().name)
    scores = [] if results_dir is None else list(scores_of(results_of(results_dir, model)))
    if results_dir is not None and not scores:
        raise InputError(f"--results-dir {results_dir} has no scores of this model with the weights it has now")
    if not write(model, name, scores, license=license, language=language, command=_command(name, scores)):
        raise InputError(f"{model / CARD} is not as lbr-st wrote it; move it away to have one written")
    return model / CARD


def require_whole(model: str | Path) -> None:
    """Refuse a folder that holds no model of this package, or a damaged one: with the file.

    Raises:
        InputError: If it does.
    """
    if Path(model, LBR_CONFIG).is_file():
        try:
            check_files(model)
        except InputError as error:
            raise InputError(f"{model} cannot be used: {error}") from error
    read(model)


def _command(name: str, scores: Iterable[Score]) -> str:
    """Return the command that gives the scores."""
    tasks = {score.task: score.dataset for score in scores}
    if None in tasks.values():
        return f"lbr evaluate --model {name} --data ..."
    return shlex.join(["lbr", "evaluate", "--model", name, "--tasks", *tasks])
