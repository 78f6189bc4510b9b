"""What both stages are told beside the trainer's own arguments, under one name and meaning."""

from __future__ import annotations

import copy
import math
import sys
from dataclasses import dataclass, field, fields
from importlib.util import find_spec
from typing import Any, ClassVar, Literal, Self

import torch
from transformers import IntervalStrategy, TrainingArguments
from transformers.integrations.deepspeed import unset_hf_deepspeed_config

from lbr_st.data.drops import ON_ERROR_HELP
from lbr_st.data.judgements import MIN_SCORE
from lbr_st.errors import InputError, check_installed, one_line
from lbr_st.model.bottleneck import check_nested, check_ratio, check_room
from lbr_st.model.trainable import DEFAULT_MAX_LENGTH
from lbr_st.training.flags import flag, required, told
from lbr_st.training.launch import check_environment
from lbr_st.training.packages import BY_EVALUATION, check_packages
from lbr_st.training.resume import checkpoint_dir

LARGEST_RANK = 65_536  # of LoRA: wider than any layer, of which all ranks are one


# Numbers of the trainer that may not be below 0.
NOT_NEGATIVE = (
    "weight_decay", "adam_epsilon", "max_grad_norm", "warmup_steps", "eval_delay", "dataloader_num_workers",
)  # fmt: skip
# Figures of held-out pairs of which less is better.
LESS_IS_BETTER = ("dev_alignment", "dev_uniformity", "dev_mean_cosine")
# What does nothing without data to evaluate on.
WITH_DEV_DATA = ("eval_on_start", "load_best_model_at_end", "metric_for_best_model", "find_rate")


@dataclass(kw_only=True, repr=False, eq=False)
class RunConfig(TrainingArguments):
    """The arguments of a trainer, some with other defaults, for a run that can go on after it was killed.

    Raises:
        InputError: If arguments contradict each other: with the flags.
    """

    # What the help of a command shows of it: how it is called, and groups of fields with their titles.
    USAGE: ClassVar[str] = "--model MODEL --data DATA --output-dir DIR"
    GROUPS: ClassVar[dict[str, tuple[str, ...]]] = {}

    output_dir: str = required("new or empty folder for the model", "DIR")
    resume: bool = told("go on from the last checkpoint in --output-dir, or start where there is none", default=False)

    report_to: None | str | list[str] = field(default="none", metadata={"help": "trackers: tensorboard, wandb, ..."})
    save_total_limit: int | None = field(default=2, metadata={"help": "checkpoints kept"})
    logging_steps: float = field(
        default=10, metadata={"help": "steps between two lines of the log; a short run has ten of them at least"}
    )
    warmup_steps: float = field(
        default=0.1, metadata={"help": "steps of warm-up; below 1 a share of all steps; none where it would be one"}
    )
    use_cpu: bool = field(default_factory=lambda: not torch.accelerator.is_available(), metadata={"help": "no GPU"})
    dataloader_pin_memory: bool = field(default_factory=torch.accelerator.is_available, metadata={"help": "for a GPU"})
    num_train_epochs: float = field(default=1, metadata={"help": "passes over the data"})

    def __post_init__(self) -> None:
        check_environment()
        # The trainer takes more for better of whatever is no loss.
        if (
            self.greater_is_better is None
            and (self.metric_for_best_model or "").removeprefix("eval_") in LESS_IS_BETTER
        ):
            self.greater_is_better = False
        if self.deepspeed and find_spec("deepspeed") is None:
            raise InputError("--deepspeed needs deepspeed, which is not installed: pip install deepspeed")
        try:
            super().__post_init__()
        except Exception as error:  # arguments that contradict each other, want a package, or name a file that is none
            unset_hf_deepspeed_config()  # what is half made of it would be asked by every model that is opened next
            raise InputError(one_line(error)) from error
        self.check()
        check_packages(self)

    def check(self) -> None:
        """Refuse settings that contradict each other.

        Raises:
            InputError: With the flags, and why.
        """
        if self.resume_from_checkpoint is not None:
            raise InputError("--resume-from-checkpoint: --resume goes on from the last checkpoint in --output-dir")
        self.at_least(1, "per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps")
        self.at_least(0, "learning_rate", "num_train_epochs")
        self._check_numbers()
        self.at_least(0, *NOT_NEGATIVE)
        self._check_steps()
        if self.fp16 and self.device.type == "cpu":
            raise InputError("--fp16 is for a GPU: on a CPU training would be in float32 all the same; --bf16 is not")
        if self.save_only_model:
            raise InputError("--save-only-model: a run could not go on from such a checkpoint")
        if self.ignore_data_skip:
            raise InputError("--ignore-data-skip: a run that goes on would see other data")

    def _check_steps(self) -> None:
        """Refuse a run of no step."""
        if self.max_steps == 0 or self.max_steps < -1:
            raise InputError(f"--max-steps must be at least 1, got {self.max_steps}; leave it out for whole epochs")
        if self.max_steps == -1 and not self.num_train_epochs > 0:
            raise InputError(f"--num-train-epochs must be above 0, got {self.num_train_epochs:g}: nothing is trained")

    def _check_numbers(self) -> None:
        for name in ("adam_beta1", "adam_beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"{flag(name)} must be a number from 0 to below 1, got {getattr(self, name)}")
        if self.dataloader_prefetch_factor is not None and not self.dataloader_num_workers:
            raise InputError("--dataloader-prefetch-factor is for workers: give --dataloader-num-workers")
        own = own_fields(self)
        for name in (each.name for each in fields(self) if each.name not in own):
            value = getattr(self, name)
            if isinstance(value, float) and not math.isfinite(value):
                raise InputError(f"{flag(name)} must be a number, got {value}")
        for name in ("seed", "data_seed"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < 2**32:
                raise InputError(f"{flag(name)} must be a whole number from 0 to {2**32 - 1}, got {value}")

    def at_least(self, least: float, *names: str) -> None:
        """Refuse numbers that are too small; those that are not given are left alone."""
        for name in names:
            value = getattr(self, name)
            if value is not None and not value >= least:
                raise InputError(f"{flag(name)} must be at least {least}, got {value}")

    def refuse(self, reasons: dict[str, str]) -> None:
        """Refuse training arguments that would be wrong in a stage, or do nothing.

        Args:
            reasons: Why, by name.
        """
        for name, reason in reasons.items():
            if getattr(self, name):
                raise InputError(f"{flag(name)}: {reason}")

    @property
    def schedule_by_scores(self) -> str | None:
        """The schedule of the learning rate where it wants a score of each evaluation, else None."""
        return next((name for name in BY_EVALUATION if self.lr_scheduler_type == name), None)

    def get_warmup_steps(self, num_training_steps: int) -> int:
        """Return the steps of warm-up; none where it would be one, whose learning rate is 0: it trains nothing."""
        steps: int = super().get_warmup_steps(num_training_steps)
        return steps if steps > 1 else 0

    def for_trainer(self) -> Self:
        """Return a copy for the trainer: it writes its checkpoints below the model, and its settings may be changed."""
        arguments = copy.copy(self)
        arguments.output_dir = str(checkpoint_dir(self.output_dir))
        return arguments


@dataclass(kw_only=True, repr=False, eq=False)
class StageConfig(RunConfig):
    """The settings that both stages have.

    Every field is a flag of the command line by the same name: ``max_length`` is ``--max-length``. The arguments of
    `transformers.TrainingArguments` are fields too.
    """

    GROUPS: ClassVar[dict[str, tuple[str, ...]]] = {
        "model and data": (
            "model", "data", "dev_data", "min_score", "on_error", "output_dir", "resume", "max_length",
            "bottleneck_tokens", "compression_ratio", "nested", "query_prompt", "document_prompt", "allow_overlap",
        ),
        "LoRA, instead of training all weights; merged into them at the end": (
            "lora_rank", "lora_alpha", "lora_dropout", "load_in_4bit",
        ),
        "before training": ("dry_run", "find_rate"),
    }  # fmt: skip

    # Settings of a stage that do nothing without dev data.
    NEED_DEV_DATA: ClassVar[tuple[str, ...]] = ()

    model: str = required("model to start from: a directory or an id of the Hub", "DIR_OR_ID")
    min_score: float | None = told(MIN_SCORE, "S")
    on_error: Literal["stop", "skip"] = told(ON_ERROR_HELP, default="stop")
    allow_overlap: bool = told(
        "train although texts of --data are held out too, in --dev-data or in the test of the prepared set",
        default=False,
    )
    max_length: int | None = told(
        "longest text in tokens, bottleneck tokens included; saved with the model (default: the model's own if it has "
        f"bottleneck tokens already, else {DEFAULT_MAX_LENGTH})",
        "N",
    )
    bottleneck_tokens: int | None = told(
        "number of bottleneck tokens; with --compression-ratio, the most that a text gets (default: the model's own if "
        "it has some already, else 1; with --compression-ratio as many as --max-length asks for, at most 64)",
        "K",
    )
    compression_ratio: float | None = told(
        "one bottleneck token for every R tokens of text, where each text has the same number by default; such a model "
        "is saved in the native layout",
        "R",
    )
    nested: bool = told(
        "end each text with a first part of the --bottleneck-tokens that is drawn, so that one model gives a text 1 to "
        "K vectors; saved with the model, and stage 2 keeps to it",
        default=False,
    )
    query_prompt: str | None = told("text put before every query; saved with the model", "TEXT")
    document_prompt: str | None = told("text put before every document; saved with the model", "TEXT")
    lora_rank: int | None = told("train updates of this rank (default: no LoRA)", "R")
    lora_alpha: int | None = told("updates are scaled by A / R (default: 2 R)", "A")
    lora_dropout: float | None = told("dropout on the input of an update (default: 0)", "P")
    load_in_4bit: bool = told("QLoRA: keep the frozen weights in 4 bits (needs bitsandbytes)", default=False)
    dry_run: bool = told(
        "say what the run takes, parameters, tokens, steps, memory and minutes, from a few real steps; then end and "
        "leave nothing",
        default=False,
    )
    find_rate: bool = told(
        "try --learning-rate, a third of it and three times it for some steps each, say which is best on the dev data; "
        "then end and leave nothing",
        default=False,
    )

    @property
    def texts_in_a_row(self) -> int:
        """Number of texts of the maximum length that the language model must read in one row."""
        return 1

    @property
    def given_prompts(self) -> dict[str, str | None]:
        """What is to stand before a text, by its role; None where nothing was said."""
        return {"query": self.query_prompt, "document": self.document_prompt}

    @property
    def layers(self) -> int | None:
        """Number of the first layers of the model that are kept before training; None for all of them."""
        return None

    def check(self) -> None:
        """Refuse settings that contradict each other.

        Raises:
            InputError: With the flags, and why.
        """
        super().check()
        self._check_lora()
        self._check_lengths()
        for name, prompt in self.given_prompts.items():
            if any("\ud800" <= character <= "\udfff" for character in prompt or ""):
                raise InputError(f"--{name}-prompt: it has bytes that are no UTF-8, or half a surrogate pair")
        if self.dry_run and self.find_rate:
            raise InputError("--dry-run and --find-rate each end without training; leave out one of them")
        if self.find_rate and (self.fsdp or self.deepspeed):
            raise InputError("--find-rate puts the first weights back, and FSDP and DeepSpeed keep shards of them")

    def _check_lengths(self) -> None:
        """Refuse lengths that no model could have; whether this one has them is said when it is looked at."""
        self.at_least(1, "max_length")
        try:
            name = "compression_ratio"
            check_ratio(self.compression_ratio)
            name = "bottleneck_tokens"
            if self.bottleneck_tokens is not None:
                check_room(self.max_length or sys.maxsize, 0, self.bottleneck_tokens)
        except InputError as error:
            raise InputError(f"{flag(name)} {getattr(self, name)}: {error}") from error
        # Without a number, a saved model says its own.
        check_nested(self.nested, self.bottleneck_tokens or 2, self.compression_ratio)

    def check_held_out(self, has_dev: bool) -> None:
        """Refuse settings that need dev data where there are none.

        Raises:
            InputError: With the flag.
        """
        if has_dev:
            return
        if self.eval_strategy != IntervalStrategy.NO:
            raise InputError("--eval-strategy: there is nothing to evaluate on, give --dev-data")
        for name in (*self.NEED_DEV_DATA, *WITH_DEV_DATA):
            if getattr(self, name):
                raise InputError(f"{flag(name)} needs --dev-data")

    def refuse_trial(self) -> None:
        """Refuse a configuration that asks what a run would be like, where one is started.

        Raises:
            InputError: If it does.
        """
        for name, function in (("dry_run", "plan"), ("find_rate", "find_rate")):
            if getattr(self, name):
                raise InputError(f"{name}: this function trains; {function}(config) beside it does not")

    def _check_lora(self) -> None:
        if self.lora_rank is None:
            for name in ("lora_alpha", "lora_dropout", "load_in_4bit"):
                if getattr(self, name) not in (None, False):
                    raise InputError(f"{flag(name)} is for LoRA: give its rank, --lora-rank")
            return
        alpha = 2 * self.lora_rank if self.lora_alpha is None else self.lora_alpha
        dropout = self.lora_dropout or 0.0
        if not 1 <= self.lora_rank <= LARGEST_RANK or alpha < 1 or not 0 <= dropout < 1:
            raise InputError(
                f"LoRA needs a rank from 1 to {LARGEST_RANK}, an alpha of at least 1 and a dropout from 0 to below 1; "
                f"got {self.lora_rank}, {alpha} and {dropout}"
            )
        if self.fsdp or self.deepspeed:
            raise InputError("LoRA trains few weights and needs no FSDP or DeepSpeed; leave out one of them")
        if self.load_in_4bit:
            check_installed("bitsandbytes", "--load-in-4bit")


def own_fields(config: type[RunConfig] | RunConfig) -> list[str]:
    """Return the names of the settings that are ours and no trainer's."""
    class_ = config if isinstance(config, type) else type(config)
    trainers: Any = next(each for each in class_.__mro__ if not each.__module__.startswith("lbr_st."))
    of_trainer = {each.name for each in fields(trainers)} - {"output_dir"}
    return [each.name for each in fields(class_) if each.name not in of_trainer]
