"""A run and the folder that belongs to it: what it was told, how far it is, and going on to the same weights."""

from __future__ import annotations

import enum
import hashlib
import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import Trainer, TrainerState
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from lbr_st.errors import InputError
from lbr_st.files import UNFINISHED, write_json

logger = logging.getLogger(__name__)

RUN_FILE = "lbr_run.json"


def checkpoint_dir(output_dir: str | Path) -> Path:
    """Return the folder of a run's checkpoints. They are not part of the model, and can be deleted after it."""
    return Path(output_dir, "checkpoints")


class State(enum.Enum):
    """How far the run is that a folder belongs to."""

    NEW = "the folder is empty, or not there"
    BEGUN = "a run ended before its first checkpoint: nothing of it would be lost"
    RUNNING = "a run has a checkpoint to go on from"
    FINISHED = "the model is there"
    ANOTHER = "the folder holds other files"


class Run:
    """A training run and its folder.

    Args:
        output_dir: Folder of the model. Checkpoints are in a folder within it.
        description: Everything that decides the weights the run ends with, as plain JSON: parts by name, each a
            mapping.
    """

    def __init__(self, output_dir: str | Path, description: Mapping[str, Mapping[str, Any]]) -> None:
        self.output_dir = Path(output_dir)
        self.description = json.loads(json.dumps(description))

    @property
    def state(self) -> State:
        """How far the run is that the folder belongs to: this one, or another that is in it."""
        folder = self.output_dir
        names = {path.name for path in folder.iterdir() if path.suffix != UNFINISHED} if folder.is_dir() else set()
        if not names and not folder.is_file():
            return State.NEW
        checkpoints = checkpoint_dir(folder)
        if RUN_FILE not in names:
            # The trainer makes the folder of its checkpoints before the run is written down.
            is_begun = names == {checkpoints.name} and checkpoints.is_dir() and not any(checkpoints.iterdir())
            return State.BEGUN if is_begun else State.ANOTHER
        if "config.json" in names:
            return State.FINISHED
        if last_whole_checkpoint(folder) is None and names <= {RUN_FILE, checkpoints.name}:
            return State.BEGUN
        return State.RUNNING

    def open(self, resume: bool) -> State:
        """Look at the folder before any long work.

        Args:
            resume: The user wants to go on with the run that is there.

        Returns:
            Its state, which is not `State.ANOTHER`.

        Raises:
            InputError: If the folder is not empty and ``resume`` is off, or it holds another run.
        """
        state, folder = self.state, self.output_dir
        if state in (State.NEW, State.BEGUN):
            return state
        if folder.is_file():
            raise InputError(f"--output-dir {folder} is a file")
        if not resume:
            raise InputError(
                f"--output-dir {folder} is not empty; choose another, or add --resume to go on with the run in it"
            )
        if state is State.ANOTHER:
            raise InputError(f"--output-dir {folder} is not empty and holds no run to go on with (no {RUN_FILE})")
        before = json.loads((folder / RUN_FILE).read_text(encoding="utf-8"))
        old, new = _flat(before), _flat(self.description)
        changed = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
        if changed:
            details = "; ".join(f"{key}: was {old.get(key)!r}, now {new.get(key)!r}" for key in changed)
            raise InputError(f"--output-dir {folder} holds a run with other settings ({details})")
        if state is State.FINISHED:
            logger.info("%s is finished already", folder)
        return state

    def begin(self) -> None:
        """Write down in the folder which run it belongs to; nothing changes for one that goes on."""
        if last_whole_checkpoint(self.output_dir) is None:
            self.output_dir.mkdir(parents=True, exist_ok=True)
            write_json(self.output_dir / RUN_FILE, self.description)


def _flat(description: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {key: value for part in description.values() for key, value in part.items()}


def data_sha256(parts: Sequence[Sequence[Any]]) -> str:
    """Return a hash of what a run reads: lists of records or texts, in the order given."""
    digest = hashlib.sha256()
    for item in (item for part in parts for item in (f"{len(part)} of:", *part)):
        digest.update(json.dumps(item, sort_keys=True).encode())
    return digest.hexdigest()


def last_whole_checkpoint(output_dir: str | Path) -> str | None:
    """Return the newest checkpoint that was written to its end, or None.

    The trainer writes ``trainer_state.json`` last, so a checkpoint that was cut off by a kill has none that parses.
    """
    found = {}
    for folder in checkpoint_dir(output_dir).glob(f"{PREFIX_CHECKPOINT_DIR}-*"):
        try:
            state = json.loads((folder / "trainer_state.json").read_text(encoding="utf-8"))
        except (FileNotFoundError, json.JSONDecodeError):
            continue
        found[state["global_step"]] = str(folder)
    return found[max(found)] if found else None


def train_to_the_end(trainer: Trainer, output_dir: str | Path) -> None:
    """Train from the last whole checkpoint, or from the start if there is none.

    A run that was killed after its last step, or stopped early, is not trained again: the trainer would go on.
    """
    checkpoint = last_whole_checkpoint(output_dir)
    if checkpoint is not None:
        state = TrainerState.load_from_json(os.path.join(checkpoint, "trainer_state.json"))
        stopped_early = state.stateful_callbacks["TrainerControl"]["args"]["should_training_stop"]
        if stopped_early or state.global_step >= state.max_steps:
            trainer.state = state
            if trainer.args.load_best_model_at_end and state.best_model_checkpoint is not None:
                # Where it is now: the folder may have been moved.
                checkpoint = str(checkpoint_dir(output_dir) / Path(state.best_model_checkpoint).name)
            trainer._load_from_checkpoint(checkpoint)
            return
    trainer.train(resume_from_checkpoint=checkpoint)
    best = trainer.state.best_model_checkpoint
    if trainer.args.load_best_model_at_end and best is not None:
        logger.info(
            "stopped after step %d of %d; kept %s, of the best %s: %.4f",
            trainer.state.global_step,
            trainer.state.max_steps,
            Path(best).name,
            trainer.args.metric_for_best_model,
            trainer.state.best_metric,
        )
