"""Distilling an encoder of queries: a small student learns the query vectors of a model, which keeps the documents.

No labels are needed, as the vectors of the model are what is to be learned (EmbedDistill, arXiv 2301.12005).
"""

from __future__ import annotations

import logging
import random
import statistics
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer
from sentence_transformers.sentence_transformer.data_collator import SentenceTransformerDataCollator
from sentence_transformers.sentence_transformer.losses import EmbedDistillLoss
from torch import Tensor
from transformers import set_seed

from lbr_st.alignment.teacher import EmbeddingTeacher, Lessons
from lbr_st.data.prepared_set import file_of
from lbr_st.data.records import read_queries
from lbr_st.data.sources import check_is_there
from lbr_st.distilling.config import DistillConfig
from lbr_st.distilling.students import make_student, nearness, save_both
from lbr_st.errors import InputError
from lbr_st.model.backbone import config_of_transformers
from lbr_st.model.layers import check_layers
from lbr_st.training.describe import describe_run, open_folder
from lbr_st.training.finish import leave_training, refuse_diverged, write_log
from lbr_st.training.launch import making_a_trainer
from lbr_st.training.resume import Run, State, leaving_nothing, train_to_the_end, with_weights_on_disk

logger = logging.getLogger(__name__)

QUERY, LABEL = "query", "label"
MOST_HELD_OUT, SHARE_HELD_OUT = 500, 10  # at most so many queries, and one of so many
TIMED = 20  # queries that are encoded one by one
CURVES = {"loss": {"loss": "training"}}


@dataclass(frozen=True)
class Distilled:
    """What came of a run.

    Attributes:
        model: Student and model as one, opened from the directory.
        cosine: Mean cosine of the student's vectors and the model's, of queries that were held out.
        held_out: Number of these.
        student_seconds: Median time that the student takes for one query.
        model_seconds: The same of the model.
    """

    model: SentenceTransformer
    cosine: float
    held_out: int
    student_seconds: float
    model_seconds: float


class QueryTeacher(EmbeddingTeacher):
    """The model itself, which is asked for the vectors of queries."""

    flag = "--model"


class QueryLoss(EmbedDistillLoss):
    """One minus the cosine of a vector and the teacher's; the labels are numbers of rows.

    Args:
        student: Model that is trained.
        lessons: What the teacher says of the rows.
    """

    def __init__(self, student: SentenceTransformer, lessons: Lessons) -> None:
        super().__init__(student, distance_metric="cosine")
        self.lessons = lessons

    def forward(self, sentence_features: Iterable[dict[str, Tensor]], labels: Tensor | None) -> Tensor:
        """Return the loss of a batch."""
        assert labels is not None
        return super().forward(sentence_features, vectors_of(self.lessons, labels.tolist()))


class DistillTrainer(SentenceTransformerTrainer):
    """Sentence-transformers' trainer, whose checkpoints have no card."""

    def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None:
        """Collect nothing for a model card: it would be of the checkpoints, and none is written."""

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        student: Any = self.model
        student.save_pretrained(output_dir or str(self.args.output_dir), create_model_card=False)


@dataclass(frozen=True)
class Prepared:
    """All that a run needs before its first step.

    Attributes:
        run: What it is told.
        trainer: What trains the student.
        student: The student.
        model: The model.
        lessons: What the model says of the queries; not asked for yet.
        held_out: Numbers of the queries that are not trained on.
        queries: All queries.
    """

    run: Run
    trainer: DistillTrainer
    student: SentenceTransformer
    model: SentenceTransformer
    lessons: Lessons
    held_out: list[int]
    queries: list[str]


def distill(config: DistillConfig) -> Distilled | None:
    """Train a small encoder of queries, and save it and its model as one directory.

    A run that was killed goes on from its last checkpoint with ``resume``, to the same weights.

    Args:
        config: Settings.

    Returns:
        What came of it; None if it is finished already.

    Raises:
        InputError: If the settings, the queries or the model cannot be used, before any long work.
        UnfinishedError: If what was written gives other vectors.
    """
    with leaving_nothing(config.output_dir):
        prepared = prepare(config, config.for_trainer())
        if prepared is None:
            logger.info("%s is finished already", config.output_dir)
            return None
        run, trainer, student = prepared.run, prepared.trainer, prepared.student
        run.begin()
        prepared.lessons.ask(str(trainer.args.output_dir))
        train_to_the_end(trainer, config.output_dir)
        with with_weights_on_disk(trainer, config.output_dir):
            write_log(trainer, run.output_dir, CURVES)
            leave_training(trainer)
            refuse_diverged(student, trainer, config.output_dir)
            return _finish(prepared, student.eval(), prepared.model, config)


def prepare(config: DistillConfig, arguments: DistillConfig) -> Prepared | None:
    """Make all that a run needs before its first step, and refuse what it cannot do.

    Args:
        config: Settings.
        arguments: What the trainer gets, changed in place; see `DistillConfig.for_trainer`.

    Returns:
        None if the run is finished already.

    Raises:
        InputError: If the settings, the queries or the model cannot be used.
    """
    settings: Any = config  # of which a teacher reads what all configurations have
    teacher = QueryTeacher(settings)
    if config.layers is not None and Path(config.model, "config.json").is_file():  # of the Hub when it is opened
        check_layers(config.layers, config_of_transformers(config.model), config.model, "--student layers:")
    source = file_of(config.queries, "align")
    check_is_there(source)
    open_folder(config, arguments)
    queries = read_queries(source, config.on_error)
    if len(queries) < SHARE_HELD_OUT:
        raise InputError(f"--queries {source}: {len(queries)} different queries; {SHARE_HELD_OUT} are the fewest")
    run = describe_run(config, arguments, [config.queries], [[{QUERY: query} for query in queries]])
    if run.open(config.resume) is State.FINISHED:
        return None
    model = teacher.model
    set_seed(config.seed)  # a projection starts at random
    student = make_student(model, config.layers, config.model).train()
    number = min(MOST_HELD_OUT, len(queries) // SHARE_HELD_OUT)
    held_out = sorted(random.Random(config.seed).sample(range(len(queries)), number))
    trained = sorted({*range(len(queries))} - {*held_out})
    lessons = Lessons(teacher, Dataset.from_dict({QUERY: queries}))
    arguments.prompts = {QUERY: student.prompts[QUERY] or ""}
    with making_a_trainer():
        trainer = DistillTrainer(
            student,
            args=arguments,
            train_dataset=Dataset.from_dict({QUERY: [queries[n] for n in trained], LABEL: trained}),
            loss=QueryLoss(student, lessons),
            data_collator=SentenceTransformerDataCollator(student.preprocess, prompts=arguments.prompts),
        )
    logger.info("%s queries to learn from, %s held out", f"{len(trained):,}", f"{len(held_out):,}")
    return Prepared(run, trainer, student, model, lessons, held_out, queries)


def vectors_of(lessons: Lessons, rows: Sequence[int]) -> Tensor:
    """Return what the teacher says of queries, by their numbers: ``(queries, dimensions)``, of length 1."""
    return lessons.answers[lessons.positions[list(rows), 0]]


def _finish(
    prepared: Prepared, student: SentenceTransformer, model: SentenceTransformer, config: DistillConfig
) -> Distilled:
    texts = [prepared.queries[n] for n in prepared.held_out]
    opened = save_both(student, model, config.output_dir, texts[:TIMED], config.model)
    vectors = opened.encode_query(texts, batch_size=config.per_device_eval_batch_size, show_progress_bar=False)
    return Distilled(
        model=opened,
        cosine=nearness(vectors, vectors_of(prepared.lessons, prepared.held_out)),
        held_out=len(texts),
        student_seconds=_seconds(opened, texts[:TIMED]),
        model_seconds=_seconds(model, texts[:TIMED]),
    )


def _seconds(model: SentenceTransformer, queries: Sequence[str]) -> float:
    """Return the median time that a model takes for one query; the first one is longer, and not counted."""
    times = []
    for query in [queries[0], *queries]:
        start = time.perf_counter()
        model.encode_query(query, show_progress_bar=False)
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])
