"""The settings of stage 1."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar, Literal, Self

from lbr_st.data.templates import Template
from lbr_st.errors import InputError
from lbr_st.learning.masked_model import READ_OUT_WEIGHT
from lbr_st.learning.objectives import OBJECTIVES, Arm, parse_objective
from lbr_st.training.config import StageConfig
from lbr_st.training.flags import required, told
from lbr_st.training.held_out import DEV, RECALL
from lbr_st.training.rates import rates_in_words

# What the best checkpoint can be selected by: its name in the log, and whether more of it is better.
SELECT_BY = {
    "loss": ("eval_loss", False),
    "nats": ("eval_bottleneck_nats", True),
    "separation-ratio": (f"eval_{DEV}_separation_ratio", True),
    "recall": (f"eval_{RECALL}", True),
}
SELECT_BY_PAIRS = ("separation-ratio", "recall")

# Training arguments that would be wrong here, or do nothing.
NOT_SUPPORTED = {
    "push_to_hub": "it would send checkpoints, and in them the token; lbr publish push sends the finished model",
    "label_names": "the labels of stage 1 are its own",
    "label_smoothing_factor": "the loss of stage 1 is plain cross-entropy",
    "neftune_noise_alpha": "noise on the embeddings would be noise on X too",
    "dataloader_drop_last": "it would drop held-out examples too",
    "batch_eval_metrics": "held-out losses are summed over all examples",
    "bf16_full_eval": "an evaluation while training is computed as training is; say --bf16",
    "fp16_full_eval": "an evaluation while training is computed as training is; say --fp16",
    "dataloader_persistent_workers": "the trainer would keep the loader of the first held-out examples for all",
    "use_liger_kernel": "the loss uses liger-kernel wherever it is installed and a GPU is there",
}


@dataclass(kw_only=True, repr=False, eq=False)
class LearnConfig(StageConfig):
    """The settings of stage 1: teach a causal language model a domain through a bottleneck.

    Every field is a flag of ``lbr learn`` by the same name, whose help says what it means. The arguments of
    `transformers.TrainingArguments` are fields too.

    Raises:
        InputError: If settings contradict each other: with the flags.
    """

    GROUPS: ClassVar[dict[str, tuple[str, ...]]] = StageConfig.GROUPS | {
        "objective": ("objective", "target", "prefix_share", "read_out_weight", "arm", "select_by"),
        "domain tokens": ("domain_tokens", "domain_vectors"),
        "speed": ("layers", "pack_length", "attention"),
    }
    NEED_DEV_DATA: ClassVar[tuple[str, ...]] = ("select_by",)

    data: list[str] = required(
        "set of `lbr data prepare`, or a file (JSON Lines, CSV, Parquet, ...) or id of a Hub dataset with a query and "
        "a document a row (question/answer, ...); reconstruct and prefix-suffix need the document only. Where "
        "objectives have data of their own: sft=FILE reconstruct=FILE",
        "FILE_OR_ID",
    )
    dev_data: list[str] | None = told("the same, held out; scored while training", "FILE_OR_ID")
    objective: str | None = told(
        "; ".join(f"{name}: {meaning}" for name, meaning in OBJECTIVES.items())
        + "; or a mixture by weight, sft:0.7,reconstruct:0.3 (default: sft, or what a prepared set says)",
        "NAME",
    )
    target: str | None = told(
        r"for sft: template of Y over any fields of a row, such as '{reasoning}\n{answer}'; the loss of each field is "
        "logged apart (default: the document)",
        "TEMPLATE",
    )
    prefix_share: list[float] | None = told(
        "for prefix-suffix: the share of a document that is X; two numbers for a share drawn between them for each "
        "document (default: 0.5)",
        "SHARE",
    )
    read_out_weight: float | None = told(
        "weight of a loss that asks the embedding itself for all tokens of Y, which is added to the paper's; 0 is the "
        f"paper's alone (default: {READ_OUT_WEIGHT:g}; 0 without a bottleneck)",
        "WEIGHT",
    )
    arm: Arm = told(
        "cut-off: the method; or a control: no-cut-off, where the bottleneck is there and Y sees X all the same; "
        "plain, without a bottleneck: plain fine-tuning for sft, plain pretraining for reconstruct",
        default=Arm.CUT_OFF,
    )
    select_by: Literal["loss", "nats", "separation-ratio", "recall"] | None = told(
        "end with the checkpoint that is best on --dev-data by its loss, by the nats that the bottleneck carries, or, "
        "for pairs, by the Separation Ratio or recall@10 of the embeddings before stage 2; recall and loss predicted "
        "best what stage 2 makes of a checkpoint, see docs/studies/checkpoints.md (default: the last one)"
    )
    layers: int | None = told(
        "keep the first N layers of the model and its final norm, and train those: a smaller and faster model "
        "(default: all layers)",
        "N",
    )
    domain_tokens: str | None = told(
        "terms that get a token each, matched as whole words: a file of `lbr data terms`, or one with a term a line; "
        "auto finds them in --data (default: none)",
        "FILE",
    )
    domain_vectors: str | None = told(
        "vectors of another model, a name and its numbers a line, from which --domain-tokens start, brought into the "
        "embeddings by a map fitted on the words that both know (default: the mean of their pieces)",
        "FILE",
    )
    pack_length: int | None = told(
        "pack examples into rows of up to N tokens, kept apart by the mask; a batch is then so many rows (default: one "
        "example a row, in batches of like length)",
        "N",
    )
    attention: Literal["eager", "sdpa", "flex_attention"] | None = told(
        "implementation to train with; flex_attention skips what the mask hides, and needs a GPU (default: the model's "
        "own, sdpa for most)"
    )

    learning_rate: float | None = told(rates_in_words("learn"))  # type: ignore[assignment]
    per_device_train_batch_size: int = field(default=32, metadata={"help": "examples of a process in a step"})
    per_device_eval_batch_size: int = field(default=32, metadata={"help": "examples of a process at a time"})
    train_sampling_strategy: str = field(default="group_by_length", metadata={"help": "group_by_length or random"})
    ddp_find_unused_parameters: bool | None = field(default=False, metadata={"help": "see torch"})

    @property
    def texts_in_a_row(self) -> int:
        """Two: a text and its target."""
        return 2

    def check(self) -> None:
        """Refuse settings that contradict each other.

        Raises:
            InputError: With the flags, and why.
        """
        super().check()
        self.arm = Arm(self.arm)
        self.refuse(NOT_SUPPORTED)
        if self.schedule_by_scores is not None and self.select_by is not None and SELECT_BY[self.select_by][1]:
            raise InputError(
                f"--lr-scheduler-type {self.schedule_by_scores} lowers the rate where a loss no longer falls, and "
                f"--select-by {self.select_by} is a score that rises; say --select-by loss, or another schedule"
            )
        self.at_least(1, "pack_length", "layers")
        if not self.eval_do_concat_batches:
            raise InputError("--eval-do-concat-batches false: held-out losses are summed over all examples")
        if self.objective is not None:
            self.check_objective(self.objective)
        self.target_template  # noqa: B018  (refuses what is no template)
        if self.read_out_weight is not None and not 0 <= self.read_out_weight < math.inf:
            raise InputError(f"--read-out-weight must be a number of 0 or more, got {self.read_out_weight}")
        if self.read_out_weight and not self.arm.has_bottleneck:
            raise InputError("--read-out-weight means nothing with --arm plain: there is nothing to read out")
        if self.nested and not self.arm.has_bottleneck:
            raise InputError("--nested means nothing with --arm plain: there is no bottleneck")
        if self.domain_vectors is not None and self.domain_tokens is None:
            raise InputError("--domain-vectors is for --domain-tokens: give the terms")
        if self.select_by is not None:
            self._check_select_by()

    def for_trainer(self) -> Self:
        """Return a copy for the trainer, see `RunConfig`, in which the weight of the read-out loss is a number."""
        arguments = super().for_trainer()
        if arguments.read_out_weight is None:
            arguments.read_out_weight = READ_OUT_WEIGHT if self.arm.has_bottleneck else 0.0
        return arguments

    @property
    def target_template(self) -> Template | None:
        """What Y is put together of; None for the document.

        Raises:
            InputError: If it is no template.
        """
        return None if self.target is None else Template(self.target)

    def check_objective(self, objective: str) -> None:
        """Refuse a ``prefix_share`` or a ``target`` that the objective has no use for.

        Raises:
            InputError: If the objective is unknown, or does not have it.
        """
        weights = parse_objective(objective)
        if self.prefix_share is not None and "prefix-suffix" not in weights:
            raise InputError(f"--prefix-share is for the objective prefix-suffix, not for {objective}")
        if self.target is not None and "sft" not in weights:
            raise InputError(f"--target is for the objective sft, not for {objective}")
        self.prefix_bounds  # noqa: B018  (refuses numbers that are no shares)

    @property
    def prefix_bounds(self) -> tuple[float, float]:
        """The least and the largest share of a document that is X.

        Raises:
            InputError: If they are no shares.
        """
        shares = self.prefix_share or [0.5]
        low, high = shares[0], shares[-1]
        if len(shares) > 2 or not 0 < low <= high < 1:
            raise InputError(
                f"--prefix-share must be one or two numbers between 0 and 1, the smaller first, got {shares}"
            )
        return low, high

    def _check_select_by(self) -> None:
        if self.load_best_model_at_end:
            raise InputError("--select-by and --load-best-model-at-end ask for the same; leave out one of them")
        if self.save_strategy == "no":
            raise InputError("--select-by needs checkpoints, and --save-strategy no leaves none")
        if self.select_by == "nats" and self.arm is not Arm.CUT_OFF:
            raise InputError(f"--select-by nats: with --arm {self.arm.value} nothing has to pass through a bottleneck")
        if self.select_by in SELECT_BY_PAIRS and self.fsdp:
            raise InputError(f"--select-by {self.select_by}: encoding needs whole weights, and FSDP keeps shards")
