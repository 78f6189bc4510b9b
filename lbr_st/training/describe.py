"""What decides the weights a run ends with: its settings, and the contents of its model and data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lbr_st.data.prepared_set import describe_set, mteb_tasks_of
from lbr_st.files import data_sha256, file_sha256
from lbr_st.model.contract import fingerprint
from lbr_st.records import Record
from lbr_st.training.config import RunConfig, own_fields
from lbr_st.training.resume import Run

# Training arguments that change where a run writes and what it prints, not the weights it ends with.
NOT_PART_OF_THE_RUN = {
    "output_dir", "logging_dir", "run_name", "report_to", "disable_tqdm", "log_level", "log_level_replica",
    "logging_steps", "logging_strategy", "logging_first_step", "save_steps", "save_strategy", "save_total_limit",
    "eval_steps", "eval_strategy", "resume_from_checkpoint", "dataloader_num_workers", "dataloader_pin_memory",
    "use_cpu", "push_to_hub", "hub_token", "ddp_timeout",
}  # fmt: skip

# Our own settings that do not either.
HOW_IT_IS_STARTED = {"output_dir", "resume", "dry_run", "find_rate"}

# They decide which checkpoint is the best one, where that is asked for.
PART_OF_THE_BEST = {"save_steps", "save_strategy", "eval_steps", "eval_strategy"}

# Settings that name models and data: folders of this machine are not published with a model.
NAMES_OF_MODELS = ("model", "teacher", "reranker")
# Files that a model is made with, beside its data.
NAMES_OF_TERMS = ("domain_tokens", "domain_vectors")
NAMES_OF_FILES = (*NAMES_OF_MODELS, *NAMES_OF_TERMS, "data", "dev_data", "corpus_extra", "queries")


def settings_of(arguments: RunConfig) -> dict[str, dict[str, Any]]:
    """Return the settings that decide the weights, as plain JSON: our own, and the trainer's; files without folders.

    Args:
        arguments: What the trainer gets.
    """
    names = [name for name in own_fields(arguments) if name not in HOW_IT_IS_STARTED]
    own = {name: getattr(arguments, name) for name in names}
    own |= {name: _without_folders(own[name]) for name in NAMES_OF_FILES if name in own}
    left_out = NOT_PART_OF_THE_RUN - (PART_OF_THE_BEST if arguments.load_best_model_at_end else set())
    left_out |= {*own, *HOW_IT_IS_STARTED}
    training = {key: value for key, value in arguments.to_dict().items() if key not in left_out}
    return {"arguments": {**own, "processes": arguments.world_size}, "training_arguments": training}


def open_folder(config: RunConfig, arguments: RunConfig) -> None:
    """Look at the folder of a run, and compare a run in it with the settings of this one, before the data are read.

    Args:
        config: Settings as the user gave them.
        arguments: What the trainer gets, with all that does not depend on what is in the data.

    Raises:
        InputError: See `lbr_st.training.resume.Run.open`.
    """
    Run(config.output_dir, settings_of(arguments)).open(config.resume)


def describe_run(
    config: RunConfig, arguments: RunConfig, sources: Sequence[str], data: Sequence[Sequence[Record]]
) -> Run:
    """Return the run of a stage: its folder, and everything that decides the weights it ends with.

    Models and data are identified by their contents and named without their folders.

    Args:
        config: Settings as the user gave them.
        arguments: What the trainer gets.
        sources: Names of the training data, as the user gave them.
        data: Records of the training and of the held-out data.
    """
    contents: dict[str, Any] = {
        "data_sha256": data_sha256(data),
        "mteb_tasks": mteb_tasks_of(sources, (record for part in data for record in part)),
    }
    if sets := [described for source in sources if (described := describe_set(source))]:
        contents["sets"] = sets
    for name in NAMES_OF_MODELS:
        path = getattr(config, name, None)
        if path is not None and Path(path).exists():
            contents[f"{name}_sha256"] = fingerprint(path)
    for name in NAMES_OF_TERMS:
        path = getattr(config, name, None)
        if path is not None and Path(path).is_file():
            contents[f"{name}_sha256"] = file_sha256(path)
    return Run(config.output_dir, settings_of(arguments) | {"contents": contents})


def _without_folders(value: Any) -> Any:
    """Return ``name`` of ``folder/name`` and ``objective=folder/name``; ids of the Hub stay what they are."""
    if isinstance(value, list):
        return [_without_folders(each) for each in value]
    if value and Path(value).exists():  # also one with a = in it
        return Path(value).name
    objective, separator, path = (value or "").partition("=")
    return f"{objective}{separator}{Path(path).name}" if path and Path(path).exists() else value
