"""Stage 2, generative-refined contrastive learning (arXiv 2601.11124, section 3.3).

The same causal model reads ``[BOS? X Z]``; the hidden state of the last bottleneck token is the embedding. InfoNCE
(eq. 3) pulls a query to its document and away from the other documents of the batch.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate.data_loader import prepare_data_loader
from datasets import Dataset
from peft import PeftModel
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer
from sentence_transformers.sentence_transformer.data_collator import SentenceTransformerDataCollator
from sentence_transformers.sentence_transformer.training_args import SentenceTransformerTrainingArguments
from torch import nn
from torch.utils.data import BatchSampler, DataLoader
from transformers import EarlyStoppingCallback, TrainerCallback

from lbr_st.alignment.batches import DistinctBatchSampler, documents_by_query, training_rows
from lbr_st.alignment.losses import JointCollator, JointLoss, info_nce
from lbr_st.data import mining as hard_negatives
from lbr_st.data.prepared_set import PreparedSet, file_of, refuse_overlaps
from lbr_st.data.records import read_records, read_tuples
from lbr_st.errors import InputError
from lbr_st.files import write_jsonl
from lbr_st.learning.masked_model import IBGLModel
from lbr_st.learning.objectives import check_fits, example_maker
from lbr_st.model.bottleneck import BottleneckTransformer, bottleneck_module
from lbr_st.model.precision import autocast_dtype
from lbr_st.model.saving import is_other_embedding_model, open_sentence_transformer
from lbr_st.records import Record
from lbr_st.training import curves as signals
from lbr_st.training import lora as adapters
from lbr_st.training.held_out import NDCG, HeldOutEvaluator, Watch
from lbr_st.training.shared import (
    CANNOT_START,
    SaveAtEvaluation,
    SetEpoch,
    add_stage_arguments,
    check_launch,
    checkpoint_dir,
    claim_output_dir,
    describe_run,
    evaluate_while_training,
    finish,
    is_finished,
    keep_best,
    last_whole_checkpoint,
    make_parser,
    open_model,
    parse_arguments,
    set_prompts,
    train_to_the_end,
)

logger = logging.getLogger(__name__)

# Training arguments that would be wrong here, or do nothing.
NOT_SUPPORTED = {
    "label_smoothing_factor": "the loss is InfoNCE",
    "neftune_noise_alpha": "noise on the embeddings would be noise on what is compared",
    "router_mapping": "models with several routes cannot be trained",
    "auto_find_batch_size": "a smaller batch has other negatives; --mini-batch-size saves memory",
    "prompts": "--query-prompt and --document-prompt are saved with the model too",
    "load_best_model_at_end": "say --keep best or --keep last",
    "fsdp": "each process holds a whole model; what does not fit is trained with --lora-rank",
    "deepspeed": "each process holds a whole model; what does not fit is trained with --lora-rank",
}

MAX_FORGETTING = 1.0


class GRCLTrainer(SentenceTransformerTrainer):
    """Sentence-transformers' trainer, with the batches of `DistinctBatchSampler`.

    With LoRA a checkpoint is the adapter alone.

    Args:
        model: Trained in place.
        args: The trainer's.
        train_dataset: Rows of `training_rows`.
        known: Documents that answer each query, beside those of the rows.
        adapter: What is trained of the model; default is all of it.
        **kwargs: What the trainer takes.

    Raises:
        InputError: If not one batch can be made.
    """

    def __init__(
        self,
        model: SentenceTransformer,
        args: SentenceTransformerTrainingArguments,
        train_dataset: Dataset,
        *,
        known: Mapping[str, Iterable[str]] | None = None,
        adapter: PeftModel | None = None,
        **kwargs: Any,
    ) -> None:
        self.adapter = adapter
        self.batches = DistinctBatchSampler(
            train_dataset,
            args.train_batch_size,
            # Sentence-transformers sets it in several processes, as uneven parts would hang; these are even.
            args.dataloader_drop_last and args.world_size == 1,
            known=known,
            seed=args.seed if args.data_seed is None else args.data_seed,
            num_processes=args.world_size,
            process_index=args.process_index,
        )
        super().__init__(model=model, args=args, train_dataset=train_dataset, **kwargs)
        self.add_callback(SetEpoch(self.batches))
        self.add_callback(SaveAtEvaluation())

    def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None:
        """Collect nothing for a model card: it would be of the checkpoints, and none is written."""

    def get_batch_sampler(self, *args: Any, **kwargs: Any) -> BatchSampler:
        """Return the batches of this process."""
        return self.batches

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Return a loader that is not divided among the processes once more."""
        loader = self._build_dataloader(self.train_dataset, self.args.train_batch_size, dataset_kind="train")
        return prepare_data_loader(
            loader,
            device=self.accelerator.device,
            num_processes=1,
            process_index=0,
            put_on_device=True,
            non_blocking=self.accelerator.non_blocking,
        )

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        if not self.args.should_save:
            return
        folder = output_dir or str(self.args.output_dir)
        if self.adapter is not None:
            adapters.save_adapter(self.adapter, folder)
        else:
            self.model.save_pretrained(folder, create_model_card=False)

    def _load_from_checkpoint(self, checkpoint_path: str) -> None:  # type: ignore[override]
        if self.adapter is not None:
            adapters.load_adapter(self.adapter, checkpoint_path)
        elif _is_ours(self.model):  # on the CPU: beside a model and its optimizer a GPU may have no room for another
            saved = BottleneckTransformer.load(checkpoint_path)
            bottleneck_module(self.model).model.load_state_dict(saved.model.state_dict())
        else:
            super()._load_from_checkpoint(checkpoint_path)

    def _load_best_model(self) -> None:
        """Load it, or fail: sentence-transformers would go on with the last weights."""
        assert self.state.best_model_checkpoint is not None
        self._load_from_checkpoint(self.state.best_model_checkpoint)


def freeze_unused_head(model: SentenceTransformer) -> None:
    """Keep an untied language-model head as it is: no embedding depends on it, so it would never get a gradient."""
    language_model = bottleneck_module(model).model
    head = language_model.get_output_embeddings()
    if head.weight is not language_model.get_input_embeddings().weight:
        head.requires_grad_(False)


def main(argv: Sequence[str] | None = None) -> None:
    """Run stage 2 from the command line; see ``train_grcl.py``.

    Raises:
        InputError: If the arguments, the data or the model cannot be used.
    """
    args, training_args = parse_arguments(
        _make_parser(),
        SentenceTransformerTrainingArguments,
        argv,
        learning_rate=2e-5,
        num_train_epochs=1,
        per_device_train_batch_size=64,
        per_device_eval_batch_size=64,
    )
    prepared = PreparedSet.open(args.data) if os.path.isdir(args.data) else None
    if prepared and prepared.has("dev"):
        args.dev_data = args.dev_data or prepared.file("dev")
    check_arguments(args, training_args)
    data = _read(args)
    dev = [(args.dev_data, data.dev)] if data.dev else []
    refuse_overlaps([(file_of(args.data, "cl"), data.train)], dev, allowed=args.allow_overlap)
    hard_negatives.check_records(args, data.train)
    if data.dev:
        evaluate_while_training(training_args)
        if args.keep != "last" and training_args.save_strategy != "no":
            keep_best(training_args, f"eval_{NDCG}", greater_is_better=True)
    run = describe_run(args, training_args, data)
    if is_finished(args, run):
        return
    model = _open(args, training_args)
    if training_args.ddp_find_unused_parameters is None:  # of ours, all that is trained gets a gradient
        training_args.ddp_find_unused_parameters = not _is_ours(model)
    set_prompts(model, args)
    matryoshka_dims = check_dimensions(args.matryoshka_dims, model)
    adapter = adapters.adapter_for(model, args, training_args.seed)
    trainer = _trainer(args, training_args, model, adapter, data.train, data, matryoshka_dims)
    claim_output_dir(args, training_args, run)
    if args.mine_negatives is not None:  # only now, as it takes long: what cannot be trained was refused
        mined = _mined(args, training_args, model, data, run)
        trainer = _trainer(args, training_args, model, adapter, mined, data, matryoshka_dims)
    train_to_the_end(trainer, args.output_dir)
    if training_args.should_save:
        signals.plot(trainer.state.log_history, args.output_dir, signals.STAGE_2)
        warn_if_worse(trainer)
    if adapter is not None:
        model = adapters.merged(model, adapter, args, training_args)
    if matryoshka_dims is not None and hasattr(model[0], "model"):
        language_model: Any = model[0].model
        language_model.config.matryoshka_dimensions = matryoshka_dims  # vLLM offers these
    finish(model, trainer, "grcl", args.output_dir, run)


def warn_if_worse(trainer: GRCLTrainer) -> None:
    """Say so if no checkpoint was as good on the dev data as the model before training."""
    scores = [(entry["step"], entry[f"eval_{NDCG}"]) for entry in trainer.state.log_history if f"eval_{NDCG}" in entry]
    before = [score for step, score in scores if not step]
    after = [score for step, score in scores if step]
    if before and after and max(after) < before[0]:
        numbers = before[0], max(after)
        logger.warning("training made the model worse: dev nDCG@10 %.3f before it, %.3f at the best after", *numbers)


class _Data(NamedTuple):
    train: list[Record]
    dev: list[Record]
    dev_corpus: list[Record]
    mining_corpus: list[Record]


def _read(args: argparse.Namespace) -> _Data:
    return _Data(
        read_tuples(file_of(args.data, "cl")),
        read_records(file_of(args.dev_data, "dev")) if args.dev_data else [],
        read_records(args.corpus_extra, ("document",)) if args.corpus_extra else [],
        read_records(args.mining_corpus, ("document",)) if args.mining_corpus else [],
    )


def _mined(
    args: argparse.Namespace,
    training_args: SentenceTransformerTrainingArguments,
    model: SentenceTransformer,
    data: _Data,
    run: dict[str, Any],
) -> list[Record]:
    """Return the records with mined negatives: found once, by one process, for all and for a resumed run."""
    decides = [name for name in run["arguments"] if name.startswith(("mining", "mine"))]
    decides += ["model", "data", "query_prompt", "document_prompt", "max_length"]
    decides += ["bottleneck_tokens", "compression_ratio"]
    described = json.dumps([run["contents"], {name: run["arguments"][name] for name in decides}], sort_keys=True)
    digest = hashlib.sha256(described.encode()).hexdigest()[:16]
    file = checkpoint_dir(args.output_dir) / f"mined-{digest}.jsonl"
    if training_args.process_index == 0 and not file.is_file():
        by = open_sentence_transformer(args.mining_model, "--mining-model") if args.mining_model else model
        batch_size = training_args.per_device_eval_batch_size
        found = hard_negatives.mine(data.train, by, args, data.mining_corpus, batch_size)
        file.parent.mkdir(parents=True, exist_ok=True)
        write_jsonl(file, found)
    while not file.is_file():  # a barrier would give up after --ddp-timeout
        time.sleep(0.5)
    return read_tuples(file)


def _trainer(
    args: argparse.Namespace,
    training_args: SentenceTransformerTrainingArguments,
    model: SentenceTransformer,
    adapter: PeftModel | None,
    records: Sequence[Record],
    data: _Data,
    matryoshka_dims: list[int] | None,
) -> GRCLTrainer:
    train = training_rows(records)
    has_negatives = len(train.column_names) > 2 or args.mine_negatives is not None
    if training_args.train_batch_size * training_args.world_size == 1 and not has_negatives:
        raise InputError("--per-device-train-batch-size 1: a pair alone has no negatives")
    query, document = (model.prompts.get(name) or "" for name in ("query", "document"))
    training_args.prompts = {name: query if name == "anchor" else document for name in train.column_names}
    language_model = _language_model(model, args) if data.dev or args.lm_weight else None
    callbacks: list[TrainerCallback] = []
    evaluator = None
    if data.dev:
        batch_size, dtype = training_args.per_device_eval_batch_size, autocast_dtype(training_args)
        evaluator = HeldOutEvaluator(data.dev, data.dev_corpus, batch_size=batch_size, dtype=dtype)
        if language_model is not None:
            evaluator.watch(language_model, model, data.dev)
        callbacks.append(Watch(MAX_FORGETTING if args.max_forgetting is None else args.max_forgetting))
        # What training is compared with; a run that goes on has it in its log.
        training_args.eval_on_start = last_whole_checkpoint(args.output_dir) is None
    if args.early_stopping is not None:
        callbacks.append(EarlyStoppingCallback(args.early_stopping))
    if _is_ours(model) and adapter is None and not args.lm_weight:
        freeze_unused_head(model)
    try:
        return GRCLTrainer(
            model,
            training_args,
            train,
            known=documents_by_query(data.train),
            adapter=adapter,
            loss=_loss(args, training_args, model, language_model, matryoshka_dims),
            data_collator=_collator(args, training_args, model),
            evaluator=evaluator,
            callbacks=callbacks,
        )
    except CANNOT_START as error:
        raise InputError(" ".join(str(error).split())) from error


def _make_parser() -> argparse.ArgumentParser:
    parser = make_parser("train_grcl.py", "Stage 2: align a model with query-document pairs.")
    add_stage_arguments(
        parser,
        model_help="output directory of stage 1; or any causal language model, to skip stage 1; or any "
        "sentence-transformers model, trained as it is",
        data_help="set of `lbr data prepare`, or a file (JSON Lines, CSV, Parquet, ...) or id of a Hub dataset with a "
        "query and a document a row (question/answer, anchor/positive, ...), and hard "
        "negatives where it has them (negative, negative_1 ..., negatives)",
    )
    parser.add_argument(
        "--corpus-extra", metavar="FILE_OR_ID", help="documents that join those of --dev-data in its corpus"
    )
    loss = parser.add_argument_group("loss")
    loss.add_argument(
        "--temperature",
        type=float,
        default=0.02,
        metavar="TAU",
        help="of InfoNCE; 0.01 to 0.05 is the range to search (default: %(default)s)",
    )
    loss.add_argument(
        "--mini-batch-size",
        type=int,
        metavar="N",
        help="encode N texts at a time, by gradient caching: the loss of a batch of thousands in the memory of N, for "
        "one more forward pass (default: the whole batch at once)",
    )
    loss.add_argument("--symmetric", action="store_true", help="ask for the query of each document too")
    loss.add_argument(
        "--matryoshka-dims",
        type=int,
        nargs="+",
        metavar="D",
        help="train the first D dimensions as embeddings of their own, beside all of them",
    )
    loss.add_argument(
        "--lm-weight",
        type=float,
        default=0.0,
        metavar="W",
        help="keep the language model in training: W times the loss of stage 1 on the same pairs (default: 0)",
    )
    hard_negatives.add_arguments(parser)
    dev = parser.add_argument_group("with --dev-data")
    dev.add_argument(
        "--keep",
        choices=("best", "last"),
        help="end with the checkpoint of the best dev nDCG@10, or with the last one (default: best)",
    )
    dev.add_argument(
        "--early-stopping",
        type=int,
        metavar="N",
        help="stop when dev nDCG@10 was not the best so far N times in a row",
    )
    dev.add_argument(
        "--max-forgetting",
        type=float,
        metavar="NATS",
        help=f"warn when the loss of the language model rises by more, per target token (default: {MAX_FORGETTING})",
    )
    adapters.add_arguments(parser)
    speed = parser.add_argument_group("speed")
    speed.add_argument(
        "--attention",
        choices=("eager", "sdpa"),
        help="implementation to train with; eager is faster for short texts on a CPU (default: the model's own, "
        "sdpa for most)",
    )
    return parser


def check_arguments(args: argparse.Namespace, training_args: SentenceTransformerTrainingArguments) -> None:
    """Refuse flags that contradict each other, before anything is read.

    Raises:
        InputError: Which, and why.
    """
    for flag, reason in NOT_SUPPORTED.items():
        if getattr(training_args, flag):
            raise InputError(f"--{flag.replace('_', '-')}: {reason}")
    # The classes' defaults.
    if training_args.batch_sampler != "batch_sampler" or training_args.train_sampling_strategy != "random":
        raise InputError(
            "--batch-sampler, --train-sampling-strategy: batches are made so that no text is a negative of a query it "
            "answers"
        )
    check_launch(training_args)
    adapters.check_arguments(args, training_args)
    hard_negatives.check_arguments(args)
    for flag, least in (("mini_batch_size", 1), ("early_stopping", 1), ("lm_weight", 0)):
        value = getattr(args, flag)
        if value is not None and not value >= least:
            raise InputError(f"--{flag.replace('_', '-')} must be at least {least}, got {value}")
    for flag in ("temperature", "max_forgetting"):
        value = getattr(args, flag)
        if value is not None and not value > 0:
            raise InputError(f"--{flag.replace('_', '-')} must be above 0, got {value}")
    if args.lm_weight and args.mini_batch_size and training_args.world_size > 1:
        raise InputError("--lm-weight with --mini-batch-size runs in one process")
    _check_keeping(args, training_args)


def _check_keeping(args: argparse.Namespace, training_args: SentenceTransformerTrainingArguments) -> None:
    for flag in ("corpus_extra", "keep", "early_stopping", "max_forgetting"):
        if getattr(args, flag) is not None and not args.dev_data:
            raise InputError(f"--{flag.replace('_', '-')} needs --dev-data")
    if args.keep == "best" and training_args.save_strategy == "no":
        raise InputError("--keep best needs checkpoints, and --save-strategy no leaves none")
    if args.early_stopping is not None and (args.keep == "last" or training_args.save_strategy == "no"):
        raise InputError("--early-stopping waits for a better checkpoint: leave out --keep last, --save-strategy no")


def check_dimensions(dimensions: Sequence[int] | None, model: SentenceTransformer) -> list[int] | None:
    """Return the dimensions to train, the whole width first.

    Raises:
        InputError: If one is out of range.
    """
    if dimensions is None:
        return None
    width = model.get_embedding_dimension()
    assert width is not None
    if not all(1 <= each <= width for each in dimensions):
        raise InputError(f"--matryoshka-dims must be from 1 to {width}, the width of the embeddings; got {dimensions}")
    return sorted({width, *dimensions}, reverse=True)


def _is_ours(model: SentenceTransformer) -> bool:
    return isinstance(model[0], BottleneckTransformer)


def _open(args: argparse.Namespace, training_args: SentenceTransformerTrainingArguments) -> SentenceTransformer:
    """Open the model: one of this package, a language model, or another embedding model."""
    attention = {} if args.attention is None else {"attn_implementation": args.attention}
    if not is_other_embedding_model(args.model):
        options = adapters.quantization(args) | attention
        return open_model(args, dtype=adapters.weights_dtype(args, training_args), **options)
    if Path(args.model).is_dir() and not Path(args.model, "config.json").is_file():
        raise InputError(
            f"--model {args.model}: a model without config.json, which is no transformer, cannot be trained"
        )
    for flag in ("bottleneck_tokens", "compression_ratio", "lora_rank", "lm_weight"):
        if getattr(args, flag):
            raise InputError(
                f"--{flag.replace('_', '-')}: {args.model} is an embedding model without bottleneck tokens"
            )
    model = open_sentence_transformer(args.model, model_kwargs={"dtype": torch.float32, **attention})
    if args.max_length is not None:
        model.max_seq_length = args.max_length
    return model


def _language_model(model: SentenceTransformer, args: argparse.Namespace) -> IBGLModel | None:
    """Return the language model under the information cut-off; None if it cannot be used so, and need not be."""
    if not _is_ours(model):
        return None
    module = bottleneck_module(model)
    try:
        check_fits(module)
        return IBGLModel(module.model)
    except InputError as error:
        if args.lm_weight:
            raise InputError(f"--lm-weight: {error}") from error
        logger.info("the loss of the language model is not watched: %s", error)
        return None


def _loss(
    args: argparse.Namespace,
    training_args: SentenceTransformerTrainingArguments,
    model: SentenceTransformer,
    language_model: IBGLModel | None,
    matryoshka_dims: list[int] | None,
) -> nn.Module:
    contrastive = info_nce(
        model,
        args.temperature,
        symmetric=args.symmetric,
        mini_batch_size=args.mini_batch_size,
        matryoshka_dims=matryoshka_dims,
    )
    if not args.lm_weight:
        return contrastive
    assert language_model is not None
    dtype = autocast_dtype(training_args)
    return JointLoss(model, contrastive, language_model, args.lm_weight, args.mini_batch_size, dtype)


def _collator(
    args: argparse.Namespace, training_args: SentenceTransformerTrainingArguments, model: SentenceTransformer
) -> SentenceTransformerDataCollator:
    if not args.lm_weight:
        return SentenceTransformerDataCollator(model.preprocess, prompts=training_args.prompts)
    return JointCollator(model.preprocess, prompts=training_args.prompts, make_examples=example_maker(model, "sft"))
