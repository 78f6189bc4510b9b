"""Stage 2, generative-refined contrastive learning (GR-CL, arXiv 2601.11124, section 3.3).

The same causal model reads ``[BOS? X Z]``; the hidden state of the last bottleneck token is the embedding. InfoNCE
(eq. 3) pulls a query to its document and away from the other documents of the batch.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.evaluation import BaseEvaluator, SequentialEvaluator
from sentence_transformers.sentence_transformer.data_collator import SentenceTransformerDataCollator
from torch import nn
from transformers import EarlyStoppingCallback, TrainerCallback

from lbr_st.alignment.batches import LABEL, documents_by_query, training_rows
from lbr_st.alignment.config import MAX_FORGETTING, RERANKER_TEMPERATURE, TEACHER_WEIGHT, AlignConfig
from lbr_st.alignment.distillation import Teaching
from lbr_st.alignment.losses import JointCollator, JointLoss, info_nce
from lbr_st.alignment.teacher import Lessons, Teacher, check_strength, teacher_of
from lbr_st.alignment.trainer import AlignTrainer
from lbr_st.data.prepared_set import PreparedSet, file_of, refuse_overlaps, same_text_of
from lbr_st.data.records import read_records, read_test, read_tuples
from lbr_st.data.sources import check_is_there
from lbr_st.errors import InputError
from lbr_st.learning.examples import ExampleMaker, check_fits
from lbr_st.learning.masked_model import CutOffModel
from lbr_st.learning.measures import LanguageModelEvaluator
from lbr_st.model.adapters import merge_opened
from lbr_st.model.bottleneck import BottleneckTransformer, bottleneck_module
from lbr_st.model.lengths import warn_of_longer
from lbr_st.model.named import is_other_embedding_model
from lbr_st.model.nested import preprocess_nested
from lbr_st.model.opening import open_sentence_transformer
from lbr_st.model.precision import autocast_dtype
from lbr_st.model.saving import load
from lbr_st.model.similarity import compare_by_cosine
from lbr_st.model.trainable import check_can_be_trained, check_max_length, embedding_width
from lbr_st.records import Record
from lbr_st.training.callbacks import WarnOfCollapse, evaluate_while_training, keep_best
from lbr_st.training.describe import describe_run, open_folder
from lbr_st.training.finish import finish, set_prompts, write_log
from lbr_st.training.flags import flag
from lbr_st.training.held_out import NDCG, HeldOutEvaluator
from lbr_st.training.launch import check_launch, making_a_trainer
from lbr_st.training.lora import adapter_for, merged, open_for_training, quantization
from lbr_st.training.rates import set_learning_rate
from lbr_st.training.resume import (
    Run,
    State,
    last_whole_checkpoint,
    leaving_nothing,
    train_to_the_end,
    with_weights_on_disk,
)
from lbr_st.training.trial import Plan, RateSearch, measure, trial, try_rates
from lbr_st.training.verdicts import RecallsInLog, compared_with, write_verdict

logger = logging.getLogger(__name__)

# Title of a panel of the curves: names in the trainer's log, and what the line is called.
CURVES = {
    "loss": {
        "loss": "training",
        "contrastive": "InfoNCE",
        "teacher": "teacher, weighted",
        "lm": "language model, weighted",
    },
    "retrieval, dev": {"eval_dev_cosine_recall@10": "recall@10", "eval_dev_cosine_ndcg@10": "nDCG@10"},
    "variance of embeddings, dev": {"eval_dev_variance": "variance"},
    "alignment, dev (0 is best)": {"eval_dev_alignment": "alignment"},
    "uniformity, dev (lower is better)": {"eval_dev_uniformity": "uniformity"},
    "Separation Ratio, dev": {"eval_dev_separation_ratio": "Separation Ratio"},
    "loss of the language model, dev, nats per target token": {"eval_dev_lm_loss": "held out"},
}


@dataclass(frozen=True)
class AlignSources:
    """What a run of stage 2 is to read: files or Hub ids.

    Attributes:
        train: Pairs.
        dev: Held-out pairs, or None.
        dev_corpus: Documents that join those of ``dev`` in its corpus, or None.
    """

    train: str
    dev: str | None
    dev_corpus: str | None


@dataclass(frozen=True)
class AlignData:
    """What a run of stage 2 reads.

    Attributes:
        train: Pairs with their hard negatives.
        dev: Held-out pairs; empty where there are none.
        dev_corpus: Documents that join those of ``dev`` in its corpus, hard negatives of its file among them.
        same: What is the same text, one of `lbr_st.data.same_text.LEVELS`.
    """

    train: list[Record]
    dev: list[Record]
    dev_corpus: list[Record]
    same: str


def align(config: AlignConfig) -> SentenceTransformer:
    """Run stage 2: align a model with query-document pairs.

    The trained model is in ``config.output_dir`` too, saved and verified. A run that was killed goes on from its last
    checkpoint with ``resume``, to the same weights.

    Args:
        config: Settings of the stage.

    Returns:
        The trained model, in evaluation mode.

    Raises:
        InputError: If the settings, the data or the model cannot be used, before any long work; or if they ask for a
            trial, which `plan` and `find_rate` are for.
    """
    config.refuse_trial()
    with leaving_nothing(config.output_dir):
        prepared = prepare(config, config.for_trainer())
        if prepared is None:
            logger.info("%s is finished already", config.output_dir)
            return _open_finished(config.output_dir)
        run, trainer = prepared
        PartialState().wait_for_everyone()  # all have looked at the folder
        if trainer.args.should_save:
            run.begin()
        if trainer.lessons is not None:
            trainer.lessons.ask(str(trainer.args.output_dir))
        train_to_the_end(trainer, config.output_dir)
        with with_weights_on_disk(trainer, config.output_dir):
            write_log(trainer, run.output_dir, CURVES)
            write_verdict(trainer, run.output_dir, compared_with(trainer.sentence_transformer))
            if trainer.args.should_save:
                warn_if_worse(trainer)
            model = trainer.sentence_transformer
            if trainer.adapter is not None:
                model = merged(model, trainer.adapter, config)
            matryoshka_dims = check_dimensions(config.matryoshka_dims, model.get_embedding_dimension())
            if hasattr(model[0], "model"):
                language_model: Any = model[0].model
                if matryoshka_dims is not None:
                    language_model.config.matryoshka_dimensions = matryoshka_dims  # vLLM offers these
                elif getattr(language_model.config, "matryoshka_dimensions", None):
                    logger.warning(
                        "--matryoshka-dims: the first dimensions were not trained alone, and are offered no more"
                    )
                    del language_model.config.matryoshka_dimensions
            return finish(model, trainer, "align", run)


def plan(config: AlignConfig) -> Plan:
    """Say what a run of stage 2 takes on this machine; nothing is left of it.

    Args:
        config: Settings of the stage.

    Raises:
        InputError: As `align` does; or if the run is finished.
    """
    with trial(config, prepare) as trainer:
        seconds = 0.0
        if trainer.lessons is not None:
            seconds = trainer.lessons.seconds()
            trainer.lessons.teacher.close()
        return replace(measure(trainer), teacher_seconds=seconds)


def find_rate(config: AlignConfig) -> RateSearch:
    """Try three learning rates for stage 2, judged by the embeddings of the dev data; nothing is left of it.

    Args:
        config: Settings of the stage.

    Raises:
        InputError: As `align` does; or if there are no dev data, or the run is finished.
    """
    with trial(config, prepare) as trainer:
        if trainer.lessons is not None:
            trainer.lessons.ask(str(trainer.args.output_dir))
        return try_rates(trainer, f"eval_{NDCG}")


def prepare(config: AlignConfig, arguments: AlignConfig) -> tuple[Run, AlignTrainer] | None:
    """Make all that a run needs before its first step, and refuse what it cannot do.

    Args:
        config: Settings of the stage.
        arguments: What the trainer gets, changed in place; see `AlignConfig.for_trainer`.

    Returns:
        The run and what trains it; None if it is finished already.

    Raises:
        InputError: If the settings, the data or the model cannot be used.
    """
    check_launch(config)
    check_model(config)
    sources = find_sources(config)
    teacher = teacher_of(config)
    set_learning_rate(arguments, "align")
    if sources.dev is not None:
        evaluate_while_training(arguments)
        if config.keep != "last" and config.save_strategy != "no":
            keep_best(arguments, f"eval_{NDCG}", greater_is_better=True)
    open_folder(config, arguments)
    data = read_data(config, sources)
    run = describe_run(config, arguments, [config.data], [data.train, data.dev, data.dev_corpus])
    if run.open(config.resume) is State.FINISHED:
        return None
    if arguments.train_batch_size * arguments.world_size == 1 and not any(each["negatives"] for each in data.train):
        raise InputError("--per-device-train-batch-size 1: a pair alone has no negatives")
    model = _open(config)
    if arguments.ddp_find_unused_parameters is None:  # in ours, all that is trained gets a gradient
        arguments.ddp_find_unused_parameters = not _is_ours(model)
    set_prompts(model, config)
    dimensions = check_dimensions(config.matryoshka_dims, model.get_embedding_dimension())
    dimensions = dimensions or own_dimensions(model, config.model)
    return run, _trainer(config, arguments, model, data, dimensions, teacher)


def check_model(config: AlignConfig) -> None:
    """Refuse a model that cannot be trained as the settings say, before data are read; no weights are read.

    Raises:
        InputError: With the setting, and what the model has.
    """
    if Path(config.model).exists() and is_other_embedding_model(config.model):
        _check_of_no_other(config)
    asked: dict[str, Any] = {
        "num_bottleneck_tokens": config.bottleneck_tokens, "compression_ratio": config.compression_ratio,
        "prompts": config.given_prompts, "nested": config.nested,
    }  # fmt: skip
    about = check_can_be_trained(config.model, config.max_length, config.texts_in_a_row, **asked)
    width = None if about is None else embedding_width(config.model, about)
    if width is not None:
        check_dimensions(config.matryoshka_dims, width)


def _check_of_no_other(config: AlignConfig) -> None:
    """Refuse what an embedding model that is not ours has no use for."""
    names = ("bottleneck_tokens", "compression_ratio", "nested", "lora_rank", "lm_weight")
    if given := [flag(name) for name in names if getattr(config, name)]:
        them = "them" if len(given) > 1 else "it"
        raise InputError(
            f"{' and '.join(given)}: {config.model} is an embedding model without bottleneck tokens; leave {them} out, "
            "or start from a language model"
        )


def find_sources(config: AlignConfig) -> AlignSources:
    """Return what stage 2 is to read; nothing of it is read yet, but what a prepared set says of itself.

    Raises:
        InputError: If a source is not there, or a setting needs dev data.
    """
    prepared = PreparedSet.open(config.data) if os.path.isdir(config.data) else None
    train = file_of(config.data, "align")
    dev = file_of(config.dev_data, "dev") if config.dev_data else None
    if dev is None and prepared and prepared.has("dev"):
        dev = prepared.file("dev")
    config.check_held_out(has_dev=dev is not None)
    for source in (train, dev, config.corpus_extra):
        if source is not None:
            check_is_there(source)
    return AlignSources(train, dev, config.corpus_extra)


def read_data(config: AlignConfig, sources: AlignSources | None = None) -> AlignData:
    """Read what stage 2 trains on, and what it is held against, which is less, first; say what was read.

    Args:
        config: Settings of the stage.
        sources: What `find_sources` says; default is to ask it.

    Raises:
        InputError: If a source cannot be read, or a text is both trained on and held out.
    """
    sources = sources or find_sources(config)
    dev, others = read_test(sources.dev, config.min_score, config.on_error) if sources.dev else ([], [])
    extra = sources.dev_corpus
    dev_corpus = [*others, *(read_records(extra, ("document",), on_error=config.on_error) if extra else [])]
    train = read_tuples(sources.train, config.min_score, config.on_error)
    held_out = [(sources.dev, dev)] if sources.dev else []
    refuse_overlaps([(sources.train, train)], held_out, allowed=config.allow_overlap)
    logger.info("%s", describe_data(sources.train, train, dev))
    return AlignData(train, dev, dev_corpus, same_text_of(sources.train))


def describe_data(source: str, train: Sequence[Record], dev: Sequence[Record]) -> str:
    """Say what was read: pairs, hard negatives, and where from."""
    negatives = sum(len(record["negatives"]) for record in train)
    held_out = f"; {len(dev):,} held-out pairs" if dev else "; no held-out pairs"
    return f"{len(train):,} pairs with {negatives:,} hard negatives from {source}{held_out}"


def warn_if_worse(trainer: AlignTrainer) -> None:
    """Say so if no checkpoint was as good on the dev data as the model before training."""
    scores = [(entry["step"], entry[f"eval_{NDCG}"]) for entry in trainer.state.log_history if f"eval_{NDCG}" in entry]
    before = [score for step, score in scores if not step]
    after = [score for step, score in scores if step]
    if before and after and max(after) < before[0]:
        numbers = before[0], max(after)
        logger.warning("training made the model worse: dev nDCG@10 %.3f before it, %.3f at the best after", *numbers)


def _is_ours(model: SentenceTransformer) -> bool:
    return isinstance(model[0], BottleneckTransformer)


def _open(config: AlignConfig) -> SentenceTransformer:
    """Open the model: one of this package, a language model, or another embedding model."""
    attention = {} if config.attention is None else {"attn_implementation": config.attention}
    if not is_other_embedding_model(config.model):
        return open_for_training(config, **quantization(config), **attention)
    _check_of_no_other(config)
    model = open_sentence_transformer(config.model, model_kwargs={"dtype": torch.float32, **attention})
    compare_by_cosine(model, f"--model {config.model}")
    language_model = model.transformers_model
    if language_model is not None:
        merge_opened(language_model, config.model)
        if config.max_length is not None:
            check_max_length(config.max_length, language_model.config)
    if config.max_length is not None:
        model.max_seq_length = config.max_length
    return model


def _open_finished(folder: str) -> SentenceTransformer:
    return open_sentence_transformer(folder) if is_other_embedding_model(folder) else load(folder)


def _trainer(
    config: AlignConfig,
    arguments: AlignConfig,
    model: SentenceTransformer,
    data: AlignData,
    matryoshka_dims: list[int] | None,
    teacher: Teacher | None,
) -> AlignTrainer:
    train = training_rows(data.train, data.same)
    _warn_of_longer(model, data)
    query, document = (model.prompts.get(name) or "" for name in ("query", "document"))
    arguments.prompts = {name: query if name == "anchor" else document for name in train.column_names}
    lessons = None
    if teacher is not None:
        lessons = Lessons(teacher, train)
        train = train.add_column(LABEL, list(range(len(train))))
    adapter = adapter_for(model, config)
    language_model = _language_model(model, config) if data.dev or config.lm_weight else None
    begins = last_whole_checkpoint(config.output_dir) is None
    callbacks: list[TrainerCallback] = []
    evaluator: BaseEvaluator | None = None
    if data.dev:
        options: dict[str, Any] = {"batch_size": config.per_device_eval_batch_size, "dtype": autocast_dtype(config)}
        evaluator = embeddings = HeldOutEvaluator(data.dev, data.dev_corpus, **options)
        if language_model is not None:
            of_language = LanguageModelEvaluator(language_model, model, data.dev, **options)
            evaluator = SequentialEvaluator([embeddings, of_language])
        callbacks.append(RecallsInLog(embeddings))
        callbacks.append(WarnOfCollapse(MAX_FORGETTING if config.max_forgetting is None else config.max_forgetting))
        # What training is compared with; a run that goes on has it in its log.
        arguments.eval_on_start = begins
    if config.early_stopping is not None:
        callbacks.append(EarlyStoppingCallback(config.early_stopping))
    if _is_ours(model) and adapter is None and not config.lm_weight:
        freeze_unused_head(model)
    if teacher is not None and begins:
        if model.device != config.device:
            model.to(config.device)
        check_strength(teacher, model, data.dev, data.dev_corpus)
    with making_a_trainer():
        return AlignTrainer(
            model,
            arguments,
            train,
            known=documents_by_query(data.train, data.same),
            same=data.same,
            adapter=adapter,
            lessons=lessons,
            loss=_loss(config, model, language_model, matryoshka_dims, lessons),
            data_collator=_collator(config, arguments, model),
            evaluator=evaluator,
            callbacks=callbacks,
        )


def _warn_of_longer(model: SentenceTransformer, data: AlignData) -> None:
    """Say how many texts of training and of the dev data are longer than the model reads."""
    pairs = [*data.train, *data.dev]
    negatives = (text for record in data.train for text in record["negatives"])
    documents = (record["document"] for record in [*pairs, *data.dev_corpus])
    warn_of_longer(model, (record["query"] for record in pairs), [*documents, *negatives])


def freeze_unused_head(model: SentenceTransformer) -> None:
    """Freeze an untied language-model head: no embedding depends on it, so it would never get a gradient."""
    language_model = bottleneck_module(model).model
    head = language_model.get_output_embeddings()
    if head.weight is not language_model.get_input_embeddings().weight:
        head.requires_grad_(False)


def _language_model(model: SentenceTransformer, config: AlignConfig) -> CutOffModel | None:
    """Return the language model under the information cut-off; None if it cannot be used so, and need not be."""
    if not _is_ours(model):
        return None
    module = bottleneck_module(model)
    try:
        check_fits(module)
        return CutOffModel(module.model)
    except InputError as error:
        if config.lm_weight:
            raise InputError(f"--lm-weight: {error}") from error
        logger.info("the loss of the language model is not watched: %s", error)
        return None


def check_dimensions(dimensions: Sequence[int] | None, width: int | None) -> list[int] | None:
    """Return the dimensions to train, the whole width first.

    Raises:
        InputError: If one is out of range.
    """
    if dimensions is None:
        return None
    assert width is not None
    if not all(1 <= each <= width for each in dimensions):
        raise InputError(f"--matryoshka-dims must be from 1 to {width}, the width of the embeddings; got {dimensions}")
    return sorted({width, *dimensions}, reverse=True)


def own_dimensions(model: SentenceTransformer, name: str) -> list[int] | None:
    """Return the first dimensions that a model keeps of its vectors, which are trained alone; None where it keeps all.

    Args:
        model: The model to train.
        name: Its name, for a line that says so.
    """
    if model.truncate_dim is None:
        return None
    width = model.get_embedding_dimension()
    assert width is not None
    logger.info("--model %s keeps the first %d numbers of its vectors (truncate_dim): these are trained", name, width)
    return [width]


def _loss(
    config: AlignConfig,
    model: SentenceTransformer,
    language_model: CutOffModel | None,
    matryoshka_dims: list[int] | None,
    lessons: Lessons | None,
) -> nn.Module:
    contrastive = info_nce(
        model,
        config.temperature,
        symmetric=config.symmetric,
        mini_batch_size=config.mini_batch_size,
        matryoshka_dims=matryoshka_dims,
        teaching=None if lessons is None else _teaching(config, lessons),
    )
    if not config.lm_weight:
        return contrastive
    assert language_model is not None
    if config.mini_batch_size and config.world_size > 1:
        raise InputError("--lm-weight with --mini-batch-size runs in one process")
    dtype = autocast_dtype(config)
    return JointLoss(model, contrastive, language_model, config.lm_weight, config.mini_batch_size, dtype)


def _teaching(config: AlignConfig, lessons: Lessons) -> Teaching:
    in_batch = lessons.teacher.in_batch
    usual = config.temperature if in_batch else RERANKER_TEMPERATURE
    return Teaching(
        lessons.scores_of,
        in_batch,
        weight=TEACHER_WEIGHT if config.teacher_weight is None else config.teacher_weight,
        temperature=usual if config.teacher_temperature is None else config.teacher_temperature,
    )


def _collator(
    config: AlignConfig, arguments: AlignConfig, model: SentenceTransformer
) -> SentenceTransformerDataCollator:
    preprocess: Callable[..., Any] = model.preprocess
    if _is_ours(model) and bottleneck_module(model).nested:
        preprocess = partial(preprocess_nested, model, config.seed)
    if not config.lm_weight:
        return SentenceTransformerDataCollator(preprocess, prompts=arguments.prompts)
    return JointCollator(
        preprocess, prompts=arguments.prompts, make_examples=ExampleMaker(model, "sft", seed=config.seed)
    )
