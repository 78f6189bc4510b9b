"""The settings of stage 2."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from sentence_transformers.sentence_transformer.training_args import SentenceTransformerTrainingArguments

from lbr_st.errors import InputError
from lbr_st.training.config import StageConfig
from lbr_st.training.flags import flag, required, told
from lbr_st.training.rates import rates_in_words

MAX_FORGETTING = 1.0
TEACHER_WEIGHT = 1.0
RERANKER_TEMPERATURE = 1.0  # rerankers are trained on their scores as they are

# Training arguments that would be wrong here, or do nothing.
NOT_SUPPORTED = {
    "push_to_hub": "it would send checkpoints, and in them the token; lbr publish push sends the finished model",
    "label_names": "InfoNCE has no labels",
    "label_smoothing_factor": "the loss is InfoNCE",
    "neftune_noise_alpha": "noise on the embeddings would be noise on what is compared",
    "router_mapping": "models with several routes cannot be trained",
    "auto_find_batch_size": "a smaller batch has other negatives; --mini-batch-size saves memory",
    "prompts": "--query-prompt and --document-prompt are saved with the model too",
    "bf16_full_eval": "an evaluation while training is computed as training is; say --bf16",
    "fp16_full_eval": "an evaluation while training is computed as training is; say --fp16",
    "load_best_model_at_end": "say --keep best or --keep last",
    "metric_for_best_model": "the best is that of dev nDCG@10; say --keep best or --keep last",
    "fsdp": "each process holds a whole model; what does not fit is trained with --lora-rank",
    "deepspeed": "each process holds a whole model; what does not fit is trained with --lora-rank",
}


@dataclass(kw_only=True, repr=False, eq=False)
class AlignConfig(StageConfig, SentenceTransformerTrainingArguments):
    """The settings of stage 2: align a model with query-document pairs.

    Every field is a flag of ``lbr align`` by the same name, whose help says what it means. The arguments of
    `SentenceTransformerTrainingArguments` are fields too.

    Raises:
        InputError: If settings contradict each other: with the flags.
    """

    GROUPS: ClassVar[dict[str, tuple[str, ...]]] = StageConfig.GROUPS | {
        "loss": ("temperature", "mini_batch_size", "symmetric", "matryoshka_dims", "lm_weight"),
        "a teacher beside InfoNCE": ("teacher", "reranker", "teacher_weight", "teacher_temperature", "weak_teacher"),
        "with --dev-data": ("corpus_extra", "keep", "early_stopping", "max_forgetting"),
        "speed": ("attention",),
    }
    NEED_DEV_DATA: ClassVar[tuple[str, ...]] = (
        "corpus_extra", "keep", "early_stopping", "max_forgetting", "weak_teacher",
    )  # fmt: skip

    model: str = required(
        "output directory of stage 1; or any causal language model, to skip stage 1; or any sentence-transformers "
        "model, trained as the kind it is",
        "DIR_OR_ID",
    )
    data: str = required(
        "set of `lbr data prepare`, or a file (JSON Lines, CSV, Parquet, ...) or id of a Hub dataset with a query and "
        "a document a row (question/answer, anchor/positive, ...), and hard negatives where it has them (negative, "
        "negative_1 ..., negatives; `lbr data mine` finds some)",
        "FILE_OR_ID",
    )
    dev_data: str | None = told("the same, held out; scored while training", "FILE_OR_ID")
    corpus_extra: str | None = told("documents that join those of --dev-data in its corpus", "FILE_OR_ID")
    temperature: float = told("temperature of InfoNCE; 0.01 to 0.05 is the range to search", "TAU", default=0.02)
    mini_batch_size: int | None = told(
        "encode N texts at a time, by gradient caching: the loss of a batch of thousands in the memory of N, for one "
        "more forward pass (default: the whole batch at once)",
        "N",
    )
    symmetric: bool = told("ask for the query of each document too", default=False)
    matryoshka_dims: list[int] | None = told(
        "train the first D dimensions as embeddings of their own, beside all of them", "D"
    )
    lm_weight: float = told(
        "keep the language model in training: W times the loss of stage 1 on the same pairs", "W", default=0.0
    )
    keep: Literal["best", "last"] | None = told(
        "end with the checkpoint of the best dev nDCG@10, or with the last one (default: best)"
    )
    teacher: str | None = told(
        "sentence-transformers model whose ranking of the documents of a batch is learned too; its scores are computed "
        "once, before training",
        "DIR_OR_ID",
    )
    reranker: str | None = told(
        "the same with a CrossEncoder of sentence-transformers, of each row's own document and hard negatives",
        "DIR_OR_ID",
    )
    teacher_weight: float | None = told(
        f"weight of the divergence from the teacher's ranking beside InfoNCE (default: {TEACHER_WEIGHT:g})", "W"
    )
    teacher_temperature: float | None = told(
        "temperature of the teacher's scores (default: that of --temperature for the cosines of --teacher, "
        f"{RERANKER_TEMPERATURE:g} for --reranker)",
        "TAU",
    )
    weak_teacher: bool = told("learn from a teacher that is weaker on --dev-data than the model", default=False)
    early_stopping: int | None = told("stop when dev nDCG@10 was not the best so far N times in a row", "N")
    max_forgetting: float | None = told(
        f"warn when the loss of the language model rises by more, per target token (default: {MAX_FORGETTING:g})",
        "NATS",
    )
    attention: Literal["eager", "sdpa"] | None = told(
        "implementation to train with; eager is faster for short texts on a CPU (default: the model's own, sdpa for "
        "most)"
    )

    learning_rate: float | None = told(rates_in_words("align"))  # type: ignore[assignment]
    per_device_train_batch_size: int = field(default=64, metadata={"help": "pairs of a process in a batch"})
    per_device_eval_batch_size: int = field(default=64, metadata={"help": "texts of a process at a time"})

    @property
    def teacher_flag(self) -> str | None:
        """``--teacher`` or ``--reranker``, whichever is given."""
        return next((flag(name) for name in ("teacher", "reranker") if getattr(self, name) is not None), None)

    @property
    def texts_in_a_row(self) -> int:
        """Two where the language model is kept in training: a text and its target."""
        return 2 if self.lm_weight else 1

    def check(self) -> None:
        """Refuse settings that contradict each other.

        Raises:
            InputError: With the flags, and why.
        """
        if self.schedule_by_scores is not None:  # which asks for a metric by itself
            raise InputError(f"--lr-scheduler-type {self.schedule_by_scores}: stage 2 has no loss on dev to follow")
        self.refuse(NOT_SUPPORTED)
        super().check()
        # The classes' defaults.
        if self.batch_sampler != "batch_sampler" or self.train_sampling_strategy != "random":
            raise InputError(
                "--batch-sampler, --train-sampling-strategy: batches are made so that no text is a negative of a query "
                "it answers"
            )
        self.at_least(1, "mini_batch_size", "early_stopping")
        self.at_least(0, "lm_weight")
        if self.matryoshka_dims is not None and not all(each >= 1 for each in self.matryoshka_dims):
            raise InputError(f"--matryoshka-dims must be at least 1, got {self.matryoshka_dims}")
        for name in ("temperature", "max_forgetting", "teacher_weight", "teacher_temperature"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise InputError(f"{flag(name)} must be above 0, got {value}")
        self._check_teacher()
        if self.keep == "best" and self.save_strategy == "no":
            raise InputError("--keep best needs checkpoints, and --save-strategy no leaves none")
        if self.early_stopping is not None and (self.keep == "last" or self.save_strategy == "no"):
            raise InputError(
                "--early-stopping waits for a better checkpoint: leave out --keep last, --save-strategy no"
            )

    def _check_teacher(self) -> None:
        if self.teacher is not None and self.reranker is not None:
            raise InputError("--teacher and --reranker are two teachers; leave out one of them")
        if self.teacher_flag is None:
            for name in ("teacher_weight", "teacher_temperature", "weak_teacher"):
                if getattr(self, name) not in (None, False):
                    raise InputError(f"{flag(name)} is for a teacher: give --teacher or --reranker")
