"""The verdict of a stage: the weights it saves against those it began with, on the dev queries."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sentence_transformers import SentenceTransformer
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from lbr_st.errors import only_warning
from lbr_st.files import read_json, write_json
from lbr_st.model.bottleneck import BottleneckTransformer
from lbr_st.training.held_out import HeldOutEvaluator
from lbr_st.verdict import THE_START, Verdict, verdict

logger = logging.getLogger(__name__)

VERDICT = "verdict.json"
# The recall@10 of each dev query, in the entry of an evaluation in the trainer's log.
RECALLS = "dev_recalls"
# A backbone has no embedding of its own: its new tokens are read out before anything was learned.
UNTRAINED = "the start, whose bottleneck tokens are untrained"


class RecallsInLog(TrainerCallback):
    """Puts the recall of each dev query beside the scores in the trainer's log.

    Checkpoints hold the log, so a run that is resumed knows what the model found before the first step. Trackers do not
    get them.

    Args:
        evaluator: What scores the dev data.
    """

    def __init__(self, evaluator: HeldOutEvaluator) -> None:
        self.evaluator = evaluator

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Put them in; the evaluation was logged last."""
        if state.is_world_process_zero:
            entry: dict[str, Any] = state.log_history[-1]
            entry[RECALLS] = self.evaluator.recalls


def without_recalls(log: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return a trainer's log as people read it."""
    return [{name: value for name, value in entry.items() if name != RECALLS} for entry in log]


def compared_with(model: SentenceTransformer) -> str:
    """Say what a verdict compares with, of a model that is about to be trained."""
    module = model[0]
    return UNTRAINED if isinstance(module, BottleneckTransformer) and not module.history else THE_START


def verdict_of(trainer: Trainer, against: str) -> Verdict | None:
    """Return the verdict of a run that has ended; None where it scored no dev queries.

    Args:
        trainer: What trained.
        against: What `compared_with` says of the model it began with.
    """
    best = trainer.state.best_global_step if trainer.args.load_best_model_at_end else None
    kept = trainer.state.global_step if best is None else best
    log: list[dict[str, Any]] = trainer.state.log_history
    recalls = {entry["step"]: entry[RECALLS] for entry in log if RECALLS in entry}
    if 0 not in recalls or kept not in recalls:
        return None
    return verdict(recalls[0], recalls[kept], seed=trainer.args.seed, against=against)


def write_verdict(trainer: Trainer, output_dir: Path, against: str) -> None:
    """Write the verdict of a run beside its model, where there is one; what cannot be written is a warning."""
    found = verdict_of(trainer, against) if trainer.args.should_save else None
    if found is not None:
        with only_warning(logger, VERDICT):
            write_json(output_dir / VERDICT, asdict(found))


def read_verdict(output_dir: str | Path) -> Verdict | None:
    """Return the verdict of the run that a folder holds; None where it scored no dev queries."""
    file = Path(output_dir, VERDICT)
    return Verdict(**read_json(file)) if file.is_file() else None
