"""The settings of ``lbr distill``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from sentence_transformers.sentence_transformer.training_args import SentenceTransformerTrainingArguments

from lbr_st.data.drops import ON_ERROR_HELP
from lbr_st.errors import InputError
from lbr_st.training.config import RunConfig
from lbr_st.training.flags import required, told

TABLE, LAYERS = "table", "layers"
# A table begins far from where it ends, and few queries have each of its tokens. With 3 passes over 2,000 queries it
# kept 0.2 of the recall of SmolLM2 in medicine, with 20 0.95 (docs/studies/speed.md). Layers take minutes a pass.
RATES = {TABLE: 3e-3, LAYERS: 1e-4}
EPOCHS = {TABLE: 20.0, LAYERS: 3.0}

# Training arguments that would be wrong here, or do nothing.
NOT_SUPPORTED = {
    "label_names": "the labels are the vectors of the model",
    "label_smoothing_factor": "the loss is a cosine",
    "neftune_noise_alpha": "a table has no such embeddings, and the vectors of the model have no noise",
    "router_mapping": "the student is trained alone",
    "prompts": "the prompt is that of the model, or none",
    "auto_find_batch_size": "a run that goes on would see other batches",
    "eval_on_start": "queries are held out for the end",
    "load_best_model_at_end": "the student is that of the last step",
    "metric_for_best_model": "the student is that of the last step",
    "fsdp": "the student is small",
    "deepspeed": "the student is small",
    "push_to_hub": "lbr publish push does it",
}


@dataclass(kw_only=True, repr=False, eq=False)
class DistillConfig(RunConfig, SentenceTransformerTrainingArguments):
    """The settings of ``lbr distill``: train a small encoder that gives the query vectors of a model.

    Every field is a flag of ``lbr distill`` by the same name, whose help says what it means. The arguments of
    `SentenceTransformerTrainingArguments` are fields too.

    Raises:
        InputError: If settings contradict each other: with the flags.
    """

    USAGE: ClassVar[str] = "--model MODEL --queries QUERIES --output-dir DIR"
    GROUPS: ClassVar[dict[str, tuple[str, ...]]] = {
        "model and queries": ("model", "queries", "on_error", "student", "output_dir", "resume"),
    }

    model: str = required("sentence-transformers model that stays the encoder of documents", "DIR_OR_ID")
    queries: str = required(
        "queries without labels: set of `lbr data prepare`, or a file or id of a Hub dataset with a query, a pair or a "
        "text a row, or a text file with a query a line",
        "FILE_OR_ID",
    )
    on_error: Literal["stop", "skip"] = told(ON_ERROR_HELP, default="stop")
    student: str = told(
        "table: a vector for each token, their mean and a projection; layers:N: the first N layers of the model itself",
        "KIND",
        default=TABLE,
    )

    learning_rate: float | None = told(  # type: ignore[assignment]
        f"default: {RATES[TABLE]:g} for a table, {RATES[LAYERS]:g} for layers"
    )
    num_train_epochs: float | None = told(  # type: ignore[assignment]
        f"passes over the queries (default: {EPOCHS[TABLE]:g} for a table, {EPOCHS[LAYERS]:g} for layers)"
    )
    per_device_train_batch_size: int = field(default=64, metadata={"help": "queries in a batch"})
    per_device_eval_batch_size: int = field(default=64, metadata={"help": "queries that the model encodes at a time"})

    @property
    def layers(self) -> int | None:
        """Number of layers of the student; None for a table.

        Raises:
            InputError: If it is neither.
        """
        kind, _, number = self.student.partition(":")
        if self.student == TABLE:
            return None
        if kind != LAYERS or not number.isdecimal():
            raise InputError(f"--student {self.student}: there are table and layers:N, as in layers:6")
        return int(number)

    def check(self) -> None:
        """Refuse settings that contradict each other.

        Raises:
            InputError: With the flags, and why.
        """
        self.refuse(NOT_SUPPORTED)
        kind = TABLE if self.layers is None else LAYERS
        if self.num_train_epochs is None:
            self.num_train_epochs = EPOCHS[kind]
        super().check()
        if self.learning_rate is None:
            self.learning_rate = RATES[kind]
        if self.world_size > 1:
            raise InputError("lbr distill runs in one process")
