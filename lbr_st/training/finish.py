"""What a run ends with: prompts and history in the model, the model saved and verified, the trainer's log."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from transformers import Trainer
from transformers.utils.import_utils import enable_tf32

from lbr_st.errors import DivergedError, only_warning
from lbr_st.files import write_json
from lbr_st.model.bottleneck import BottleneckTransformer, check_prompt
from lbr_st.model.saving import load, save_any
from lbr_st.model.weights import VANISHED, reads_by_layers
from lbr_st.training import curves
from lbr_st.training.config import StageConfig
from lbr_st.training.resume import Run, checkpoint_dir
from lbr_st.training.verdicts import without_recalls

logger = logging.getLogger(__name__)

LOG = "training_log.json"
WORDS = ["word", "several words in a row"]  # which every model has a vector of

# What a saved model says of its training beside our own settings, and of what it scored: names in the trainer's log.
SAID_OF_TRAINING = (
    "learning_rate", "num_train_epochs", "max_steps", "per_device_train_batch_size", "gradient_accumulation_steps",
    "warmup_steps", "lr_scheduler_type", "bf16", "fp16", "seed",
)  # fmt: skip
SCORES = {
    "loss": "eval_loss", "nats through the bottleneck": "eval_bottleneck_nats",
    "recall@10": "eval_dev_cosine_recall@10", "nDCG@10": "eval_dev_cosine_ndcg@10",
}  # fmt: skip


def set_prompts(model: SentenceTransformer, config: StageConfig) -> None:
    """Store the prompts that were given with the model; those not given stay what the model has, and need room too.

    Raises:
        InputError: If a prompt leaves no room for text.
    """
    for name, given in config.given_prompts.items():
        prompt = model.prompts.get(name) if given is None else given
        if prompt is None:
            continue
        if isinstance(model[0], BottleneckTransformer):
            module = model[0]
            room = module.max_seq_length, module.num_prefix_tokens, module.num_bottleneck_tokens
            check_prompt(name, prompt, module.tokenizer, *room)
        model.prompts[name] = prompt


def is_sharded(trainer: Trainer) -> bool:
    """Tell whether the weights in memory are shards (FSDP)."""
    model: Any = trainer.model
    return any(hasattr(parameter, "full_tensor") for parameter in model.parameters())


def scores_of(trainer: Trainer) -> dict[str, float]:
    """Return what the weights that training ended with scored on held-out data: of the best step, or the last."""
    kept = trainer.state.best_global_step if trainer.args.load_best_model_at_end else None
    kept = trainer.state.global_step if kept is None else kept
    scores: dict[str, float] = {}
    for entry in trainer.state.log_history:
        if entry.get("step") == kept:
            scores |= {name: entry[key] for name, key in SCORES.items() if key in entry}
    return scores


def write_log(trainer: Trainer, output_dir: Path, panels: Mapping[str, Mapping[str, str]]) -> None:
    """Write the trainer's log and a picture of it, which is only a warning where it cannot be written.

    Args:
        trainer: What trained.
        output_dir: Folder of the model.
        panels: What to draw, see `lbr_st.training.curves`.
    """
    if not trainer.args.should_save:
        return
    log = without_recalls(trainer.state.log_history)
    write_json(output_dir / LOG, log)
    with only_warning(logger, curves.PLOT):
        curves.plot(log, output_dir, panels)


def finish(model: SentenceTransformer, trainer: Trainer, stage: str, run: Run) -> SentenceTransformer:
    """Save and verify the trained model, with what it was made from.

    Args:
        model: Trained model; its adapter is merged.
        trainer: What trained it. It cannot go on afterwards.
        stage: ``learn`` or ``align``.
        run: What it was told.

    Returns:
        The model in memory, on every process: whole, and in the precision it is saved in.
    """
    if isinstance(model[0], BottleneckTransformer):
        model[0].history.append(step_of_history(trainer, stage, run.description))
    if is_sharded(trainer) or getattr(trainer, "deepspeed", None) is not None:
        model = _gathered(trainer, run.output_dir)
    leave_training(trainer)
    refuse_diverged(model, trainer, run.output_dir)
    if trainer.args.should_save:
        save_any(model, run.output_dir)
    trainer.accelerator.wait_for_everyone()
    return model.eval()


def refuse_diverged(model: SentenceTransformer, trainer: Trainer, output_dir: str | Path) -> None:
    """Refuse to save a trained model that has no vector for a text any more: no second try would mend it.

    Raises:
        DivergedError: With what the vectors are, and what to do.
    """
    if (what := of_no_use(model)) is not None:
        raise DivergedError(
            f"training diverged: the vectors of the model {what}; lower --learning-rate, which was "
            f"{trainer.args.learning_rate:g}, and choose another --output-dir, or remove {output_dir}"
        )


def of_no_use(model: SentenceTransformer) -> str | None:
    """Say what the vectors of a trained model are, where they are of no use any more; else None."""
    vectors = torch.as_tensor(model.encode(WORDS, show_progress_bar=False)).float()
    if not vectors.isfinite().all():
        return "are not finite"
    return "have become zero" if reads_by_layers(model) and vectors.norm(dim=1).min() < VANISHED else None


def step_of_history(trainer: Trainer, stage: str, description: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return what a model says of a stage it went through."""
    told = {name: value for name, value in description["arguments"].items() if value is not None}
    training = {name: description["training_arguments"].get(name) for name in SAID_OF_TRAINING}
    said = {name: value for name, value in training.items() if value not in (None, -1)}
    scores = scores_of(trainer)
    return {"stage": stage, **told, **description["contents"], "training_arguments": said, "scores": scores}


def _gathered(trainer: Trainer, output_dir: Path) -> SentenceTransformer:
    """Return the whole model on every process, where each holds a part of its weights."""
    whole = checkpoint_dir(output_dir) / "whole"
    trainer.save_model(str(whole))  # all processes give their part
    trainer.accelerator.wait_for_everyone()
    model = load(str(whole))
    trainer.accelerator.wait_for_everyone()
    if trainer.args.should_save:
        shutil.rmtree(whole)
    return model


def free_optimizer(trainer: Trainer) -> None:
    """Let go of the optimizer and its states, eight bytes for each weight."""
    handler = trainer.callback_handler
    trainer.optimizer = trainer.lr_scheduler = handler.optimizer = handler.lr_scheduler = None
    trainer.accelerator.free_memory()


def leave_training(trainer: Trainer) -> None:
    """Undo what training does to a model in memory: what is saved is compared with it, exactly."""
    if trainer.args.tf32 or trainer.args.torch_compile:
        enable_tf32(False)
    # Mixed precision wraps the model's forward for good.
    trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)
    # What the optimizer holds would stand beside the copy of the model that is compared.
    free_optimizer(trainer)
