"""A run and the folder that belongs to it: what it was told, how far it is, and going on to the same weights."""

from __future__ import annotations

import contextlib
import copy
import enum
import json
import logging
import os
import shutil
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from transformers import Trainer, TrainerCallback, TrainerState, TrainingArguments
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, SaveStrategy

from lbr_st.errors import DivergedError, InputError, one_line
from lbr_st.files import UNFINISHED, parents_that_go, read_json, require_place, write_json

logger = logging.getLogger(__name__)

RUN_FILE = "lbr_run.json"

# What is moved last to where a model is saved: of one model, and of one of two encoders.
WRITTEN_LAST = ("config.json", "router_config.json")


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


def state_of(folder: str | Path) -> State:
    """Return how far the run is that a folder belongs to."""
    folder = Path(folder)
    names = {path.name for path in folder.iterdir() if path.suffix != UNFINISHED} if folder.is_dir() else set()
    if not names:
        return State.NEW
    checkpoints = checkpoint_dir(folder)
    if RUN_FILE not in names:
        # The trainer makes the folder of its checkpoints before the run is written down.
        is_begun = names == {checkpoints.name} and checkpoints.is_dir() and not any(checkpoints.iterdir())
        return State.BEGUN if is_begun else State.ANOTHER
    if not names.isdisjoint(WRITTEN_LAST):
        return State.FINISHED
    if last_whole_checkpoint(folder) is None and names <= {RUN_FILE, checkpoints.name}:
        return State.BEGUN
    return State.RUNNING


class Run:
    """A training run and its folder.

    Args:
        output_dir: Folder of the model. Checkpoints are in a folder within it.
        description: Everything that decides the weights the run ends with, as plain JSON: parts by name, each a
            mapping. Before the data are read, the parts that are known.
    """

    def __init__(self, output_dir: str | Path, description: Mapping[str, Mapping[str, Any]]) -> None:
        self.output_dir = Path(output_dir)
        self.description = json.loads(json.dumps(description))

    def open(self, resume: bool) -> State:
        """Look at the folder before any long work, and compare a run in it with what is known of this one.

        Args:
            resume: The user wants to go on with the run that is there.

        Returns:
            Its state, which is not `State.ANOTHER`.

        Raises:
            InputError: If no folder can be there, it is not empty and ``resume`` is off, or it holds another run.
        """
        folder = self.output_dir
        if _is_first_process():  # several would make a folder, to try it, and take it away from each other
            require_place(folder)
        state = state_of(folder)
        if state in (State.NEW, State.BEGUN):
            return state
        if not resume:
            raise InputError(
                f"--output-dir {folder} is not empty; choose another, or add --resume to go on with the run in it"
            )
        if state is State.ANOTHER:
            raise InputError(f"--output-dir {folder} is not empty and holds no run to go on with (no {RUN_FILE})")
        try:
            before = read_json(folder / RUN_FILE)
            if not (isinstance(before, dict) and before and all(isinstance(part, dict) for part in before.values())):
                raise ValueError("it describes no run")
        except ValueError as error:
            raise InputError(f"{folder / RUN_FILE} is damaged: {one_line(error)}; choose another folder") from error
        old, new = (_flat({name: of.get(name, {}) for name in self.description}) for of in (before, self.description))
        changed = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
        if changed:
            details = "; ".join(f"{key}: was {old.get(key)!r}, now {new.get(key)!r}" for key in changed)
            raise InputError(f"--output-dir {folder} holds a run with other settings ({details})")
        return state

    def begin(self) -> None:
        """Write down in the folder which run it belongs to; nothing changes for one that goes on."""
        if last_whole_checkpoint(self.output_dir) is None:
            self.output_dir.mkdir(parents=True, exist_ok=True)
            write_json(self.output_dir / RUN_FILE, self.description)


def _flat(description: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {key: value for part in description.values() for key, value in part.items()}


def last_whole_checkpoint(output_dir: str | Path) -> str | None:
    """Return the newest checkpoint that was written to its end, or None.

    The trainer writes ``trainer_state.json`` last, so a checkpoint that was cut off by a kill has none that parses.
    """
    found = {}
    for folder in checkpoint_dir(output_dir).glob(f"{PREFIX_CHECKPOINT_DIR}-*"):
        try:
            step = int(read_json(folder / "trainer_state.json")["global_step"])
        except (FileNotFoundError, ValueError, TypeError, KeyError):
            continue
        found[step] = str(folder)
    return found[max(found)] if found else None


def _is_first_process() -> bool:
    return os.environ.get("RANK", "0") == "0"


@contextlib.contextmanager
def leaving_nothing(output_dir: str | Path) -> Iterator[None]:
    """After an error, take back what a run wrote that has no checkpoint, and the folders that were made for it.

    Args:
        output_dir: Folder of the model.

    Raises:
        InputError: If no folder can be there.
    """
    if not _is_first_process():
        yield
        return
    require_place(output_dir)
    with parents_that_go(Path(output_dir)):
        try:
            yield
        except BaseException as error:
            if state_of(output_dir) is State.BEGUN:
                _take_back(Path(output_dir))
            if isinstance(error, KeyboardInterrupt) and state_of(output_dir) is State.NEW:
                error.add_note("Nothing of the run was saved")
            raise


def _take_back(folder: Path) -> None:
    """Remove what is no use without a checkpoint; what a tracker wrote stays, and with it the file of the run."""
    checkpoints = checkpoint_dir(folder)
    evaluations = checkpoints / "eval"  # where sentence-transformers would write what an evaluation gives
    if evaluations.is_dir() and not any(evaluations.iterdir()):
        evaluations.rmdir()
    for unfinished in checkpoints.glob(f"{PREFIX_CHECKPOINT_DIR}-*"):
        shutil.rmtree(unfinished, ignore_errors=True)
    with contextlib.suppress(OSError):
        if checkpoints.is_dir():
            checkpoints.rmdir()
        (folder / RUN_FILE).unlink(missing_ok=True)


def train_to_the_end(trainer: Trainer, output_dir: str | Path) -> None:
    """Train from the last whole checkpoint, or from the start if there is none.

    A run that was killed after its last step, or stopped early, is not trained again: the trainer would go on. What
    ends a run between two steps, as an evaluation that fails, costs none of them: they are saved first. The error then
    says where the weights are, and how to go on. Ctrl-C does that too: the step, and what is scored after it, are done
    first.

    Raises:
        KeyboardInterrupt: After Ctrl-C, with a note that says where the weights are.
    """
    steps = _Steps()
    trainer.add_callback(steps)
    try:
        with steps.waiting_for(trainer.args.world_size == 1):
            _train(trainer, output_dir)
    except (Exception, KeyboardInterrupt) as error:
        _end_the_bars(trainer)
        # Arguments that are refused only when the optimizer is made.
        if isinstance(error, ValueError) and not isinstance(error, InputError) and not steps.have_begun:
            raise InputError(one_line(error)) from error
        if trainer.state.global_step:
            if steps.is_between and trainer.args.world_size == 1 and steps.interrupts < 2:
                with contextlib.suppress(Exception):  # where the disk is full, this fails too
                    _save_now(trainer, output_dir)
            error.add_note(_where_it_is(trainer, output_dir))
        raise
    finally:
        trainer.remove_callback(steps)


def _end_the_bars(trainer: Trainer) -> None:
    """End the line of a progress bar that stopped in the middle, so that a message has a line of its own."""
    for callback in trainer.callback_handler.callbacks:
        for name in ("training_bar", "prediction_bar"):
            if (bar := getattr(callback, name, None)) is not None:
                bar.close()


class _Steps(TrainerCallback):
    """Knows whether the trainer is between two steps, where weights, optimizer and counts belong together.

    There it ends the run after Ctrl-C: once a checkpoint of the step is written, in its turn after log and evaluation.
    """

    have_begun = is_between = False
    interrupts = 0

    @contextlib.contextmanager
    def waiting_for(self, is_alone: bool) -> Iterator[None]:
        """Let Ctrl-C wait for the end of a step; the second ends the run at once, and the third the process.

        Args:
            is_alone: Whether this is the only process. Several need not be at the same step, and each ends at once.
        """
        try:
            before = signal.getsignal(signal.SIGINT)
            if not is_alone or not callable(before):  # it is ignored, as for a job in the background
                raise ValueError
            signal.signal(signal.SIGINT, self._interrupt)
        except ValueError:  # or this is not the main thread
            yield
            return
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def _interrupt(self, number: int, frame: Any) -> None:
        self.interrupts += 1
        if self.interrupts > 1 or not self.have_begun:
            self.interrupts = 2
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            raise KeyboardInterrupt
        logger.warning("\nstopping after this step; Ctrl-C once more ends it at once")

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: Any, **kwargs: Any) -> None:
        """Let a run that goes on log, score and save as often as it is told now, and not as it was at first.

        A short one is logged ten times at least, so that its curve has points.
        """
        state.compute_steps(args, state.max_steps)
        state.logging_steps = min(state.logging_steps, max(1, state.max_steps // 10))

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: Any, **kwargs: Any) -> None:
        """Note it, unless the run is to end."""
        self._end_if_asked()
        self.have_begun, self.is_between = True, False

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: Any, **kwargs: Any) -> None:
        """Note it, and ask for a checkpoint if the run is to end; at the end of an epoch, what comes then is first."""
        self.is_between = True
        control.should_save |= bool(self.interrupts) and not float(state.epoch or 0).is_integer()

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: Any, **kwargs: Any) -> None:
        """Ask for a checkpoint if the run is to end."""
        control.should_save |= bool(self.interrupts)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: Any, **kwargs: Any) -> None:
        """End the run if it is to."""
        self._end_if_asked()

    def on_epoch_end(self, args: TrainingArguments, state: TrainerState, control: Any, **kwargs: Any) -> None:
        """Ask for a checkpoint if the run is to end."""
        control.should_save |= bool(self.interrupts)

    def _end_if_asked(self) -> None:
        if self.interrupts:
            raise KeyboardInterrupt


def _save_now(trainer: Trainer, output_dir: str | Path, **settings: Any) -> None:
    """Write a checkpoint of the step that a trainer is at, unless it is there."""
    checkpoint = last_whole_checkpoint(output_dir)
    if checkpoint is not None and checkpoint.endswith(f"-{trainer.state.global_step}"):
        return
    before = trainer.args
    trainer.args = copy.copy(before)
    for name, value in ({"push_to_hub": False} | settings).items():
        setattr(trainer.args, name, value)
    try:
        trainer._save_checkpoint(trainer.model, trial=None)  # type: ignore[arg-type]
    finally:
        trainer.args = before


def _where_it_is(trainer: Trainer, output_dir: str | Path) -> str:
    """Say what is on disk of a run that ended before its model was saved, and how to go on."""
    state = trainer.state
    said = f"It happened at step {state.global_step} of {state.max_steps}"
    checkpoint = last_whole_checkpoint(output_dir)
    if checkpoint is None:
        return f"{said}, before the first checkpoint (--save-steps)"
    step = checkpoint.rpartition("-")[2]
    return f"{said}: the weights of step {step} are in {checkpoint}, and the same command with --resume goes on there"


@contextlib.contextmanager
def with_weights_on_disk(trainer: Trainer, output_dir: str | Path) -> Iterator[None]:
    """Let what comes after training fail without loss: its weights are in a checkpoint, and the error says where.

    A run without checkpoints (``--save-strategy no``) gets one for as long as it takes to save its model.

    Args:
        trainer: What trained to the end. It cannot go on afterwards.
        output_dir: Folder of the model.
    """
    args, state = trainer.args, trainer.state
    is_best = args.load_best_model_at_end and state.best_model_checkpoint is not None
    # Where only the best are saved, the last step has to be there too: else it would be trained again.
    last = checkpoint_dir(output_dir) / f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}"
    for_now = args.save_strategy == SaveStrategy.BEST or (args.save_strategy == SaveStrategy.NO and not is_best)
    for_now = for_now and not last.is_dir()
    if for_now:
        with contextlib.suppress(OSError):  # a disk with room for one model only
            _save_now(trainer, output_dir, save_only_model=True)
    try:
        yield
    except (Exception, KeyboardInterrupt) as error:
        folder = state.best_model_checkpoint if is_best else last_whole_checkpoint(output_dir)
        if folder is not None and not isinstance(error, DivergedError):
            error.add_note(
                f"Training is over and nothing of it is lost: its weights are in {folder}, and the same command with "
                "--resume saves the model without training again"
            )
        raise
    if for_now and (is_best or args.save_strategy == SaveStrategy.NO) and args.should_save:
        shutil.rmtree(last, ignore_errors=True)
        with contextlib.suppress(OSError):  # what a tracker wrote stays
            checkpoint_dir(output_dir).rmdir()


def _score_the_last(trainer: Trainer, checkpoint: str) -> None:
    """Score the last step where its evaluation failed or was killed: it may be the best."""
    state, metric = trainer.state, trainer.args.metric_for_best_model or "loss"
    name = f"eval_{metric.removeprefix('eval_')}"
    scored = any(name in entry for entry in state.log_history if entry.get("step") == state.global_step)
    if scored or not trainer.args.load_best_model_at_end:
        return
    trainer._load_from_checkpoint(checkpoint)
    if trainer._determine_best_metric(trainer.evaluate(), trial=None):
        state.best_model_checkpoint = checkpoint
    if trainer.args.should_save:
        state.save_to_json(os.path.join(checkpoint, "trainer_state.json"))


def _train(trainer: Trainer, output_dir: str | Path) -> None:
    checkpoint = last_whole_checkpoint(output_dir)
    if checkpoint is not None:
        state = TrainerState.load_from_json(os.path.join(checkpoint, "trainer_state.json"))
        stopped_early = state.stateful_callbacks["TrainerControl"]["args"]["should_training_stop"]
        if stopped_early or state.global_step >= state.max_steps:
            trainer.state = state
            _score_the_last(trainer, checkpoint)
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
