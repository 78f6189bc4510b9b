"""Stage 1, information bottleneck-constrained generative learning (arXiv 2601.11124, section 3.2).

The language model reads ``[BOS? X Z Y EOS]``, with Y cut off from X, and learns to predict Y. All that Y needs of X
must pass through the bottleneck tokens Z, whose last hidden state is the embedding of X.
"""

from __future__ import annotations

import argparse
import logging
import math
import os
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from accelerate.utils import broadcast_object_list
from datasets import Dataset, concatenate_datasets
from peft import PeftModel
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn
from torch.utils.data import Sampler, SequentialSampler
from transformers import Trainer, TrainingArguments
from transformers.trainer_utils import EvalLoopOutput

from lbr_st.data.prepared_set import PreparedSet, file_of, refuse_overlaps
from lbr_st.data.records import read_records
from lbr_st.errors import InputError
from lbr_st.learning.batches import PackedRows, StratifiedSampler, collate, pack
from lbr_st.learning.masked_model import READ_OUT_WEIGHT, IBGLModel, check_packing
from lbr_st.learning.objectives import (
    OBJECTIVES,
    READ_PAIRS,
    build_examples,
    check_fits,
    fields_of,
    mix,
    parse_data,
    parse_objective,
    strata,
    with_wrong_bottleneck,
)
from lbr_st.model.bottleneck import BottleneckTransformer, bottleneck_module
from lbr_st.model.cutoff import COMPOSED_ATTENTION, check_no_leak
from lbr_st.model.precision import autocast_dtype
from lbr_st.records import Record
from lbr_st.training import curves as signals
from lbr_st.training import held_out
from lbr_st.training import lora as adapters
from lbr_st.training.shared import (
    CANNOT_START,
    SaveAtEvaluation,
    SetEpoch,
    add_stage_arguments,
    check_launch,
    claim_output_dir,
    describe_run,
    evaluate_while_training,
    finish,
    is_finished,
    is_sharded,
    keep_best,
    make_parser,
    open_model,
    parse_arguments,
    set_prompts,
    train_to_the_end,
)

logger = logging.getLogger(__name__)

# What the best checkpoint can be selected by: its name in the log, and whether more of it is better.
SELECT_BY = {
    "loss": ("eval_loss", False),
    "nats": ("eval_bottleneck_nats", True),
    "separation-ratio": (f"eval_{held_out.NAME}_separation_ratio", True),
    "recall": (f"eval_{held_out.RECALL}", True),
}

OF_PAIRS = ("separation-ratio", "recall")

# Training arguments that would be wrong here, or do nothing.
NOT_SUPPORTED = {
    "label_smoothing_factor": "the loss of stage 1 is plain cross-entropy",
    "neftune_noise_alpha": "noise on the embeddings would be noise on X too",
    "dataloader_drop_last": "it would drop held-out examples too",
    "batch_eval_metrics": "held-out losses are summed over all examples",
    "use_liger_kernel": "the loss uses liger-kernel wherever it is installed and a GPU is there",
}


class IBGLTrainer(Trainer):
    """A `transformers.Trainer` of stage 1.

    Beside the training loss it logs ``tokens_per_second`` (X, Z and Y, without padding). Held-out examples give
    ``eval_loss`` per target token, whatever batches they come in, and ``eval_bottleneck_nats``: how much higher the
    loss is with the X and Z of another example, which is what the bottleneck carries. ``eval_read_out_loss`` is apart
    from ``eval_loss``. Of several objectives each has its own of all, too. With ``evaluator`` there is what embeddings
    of held-out pairs are worth as they are.

    Checkpoints are whole models of the native layout; with LoRA they are the adapter alone.

    Args:
        model: Model whose first module is a `BottleneckTransformer`; trained in place.
        bottleneck: False for the control arms.
        cut_off: False if the examples have Y in sight of X.
        read_out_weight: Of the read-out loss; without a bottleneck there is none.
        adapter: What is trained of the model; default is all of it.
        eval_dataset: Held-out examples, by objective where there are several.
        evaluator: Of the embeddings.
        **kwargs: What the trainer takes.
    """

    def __init__(
        self,
        model: SentenceTransformer,
        *,
        bottleneck: bool = True,
        cut_off: bool = True,
        read_out_weight: float = READ_OUT_WEIGHT,
        adapter: PeftModel | None = None,
        eval_dataset: Dataset | dict[str, Dataset] | None = None,
        evaluator: held_out.HeldOutEvaluator | None = None,
        **kwargs: Any,
    ) -> None:
        self.sentence_transformer = model
        self.evaluator = evaluator
        self.adapter = adapter
        self.held_out: list[tuple[str, bool, int]] = []  # objective, with the wrong bottleneck?, number of examples
        parts = []
        by_objective = {"": eval_dataset} if isinstance(eval_dataset, Dataset) else eval_dataset or {}
        for objective, examples in by_objective.items():
            name = objective if len(by_objective) > 1 else ""
            wrong = with_wrong_bottleneck(examples) if bottleneck and cut_off else None
            for part in (examples, wrong):
                if part is not None:
                    self.held_out.append((name, part is wrong, len(part)))
                    parts.append(part)
        self._tokens: Tensor | int = 0
        self._since: float | None = None
        self._paused = 0.0
        weight = read_out_weight if bottleneck else 0.0
        super().__init__(
            model=IBGLModel(bottleneck_module(model).model, bottleneck=bottleneck, read_out_weight=weight),
            data_collator=collate,
            eval_dataset=concatenate_datasets(parts) if parts else None,
            **kwargs,
        )
        self.add_callback(SaveAtEvaluation())

    @property
    def metrics(self) -> list[str]:
        """Names of what evaluation gives of the held-out examples."""
        kinds = {(name, "bottleneck_nats" if is_wrong else "loss") for name, is_wrong, _ in self.held_out}
        training_model: Any = self.model
        if training_model.bottleneck:
            kinds |= {(name, "read_out_loss") for name, _, _ in self.held_out}
        kinds |= {("", kind) for _, kind in kinds}
        kinds |= {("", name) for name in (self.evaluator.names if self.evaluator else [])}
        return sorted("_".join(part for part in ("eval", name, kind) if part) for name, kind in kinds)

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int] | None:
        dataset: Any = self.train_dataset if train_dataset is None else train_dataset
        if self.args.train_sampling_strategy != "group_by_length":
            return super()._get_train_sampler(train_dataset)
        batch_size = self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
        lengths = dataset.lengths if isinstance(dataset, PackedRows) else [len(ids) for ids in dataset["input_ids"]]
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        sampler = StratifiedSampler(batch_size, lengths, seed)
        self.add_callback(SetEpoch(sampler))
        return sampler

    def _get_eval_sampler(self, eval_dataset: Any) -> Sampler[int]:
        return SequentialSampler(eval_dataset)  # the order says which example is of what

    def training_step(self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Tensor:
        """Count the tokens of a step."""
        if self._since is None:
            self._since, self._paused = time.perf_counter(), 0.0
        self._tokens = self._tokens + inputs["attention_mask"].sum()
        return super().training_step(model, inputs, num_items_in_batch)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the tokens per second to the training loss."""
        if "loss" in logs and isinstance(self._tokens, Tensor) and self._since is not None:
            now = time.perf_counter()
            tokens = self.accelerator.gather(self._tokens.to(self.args.device)).sum().item()
            logs["tokens_per_second"] = round(tokens / (now - self._since - self._paused), 1)
            self._tokens, self._since, self._paused = 0, now, 0.0
        super().log(logs, start_time)

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Keep the time of it out of the tokens per second."""
        start = time.perf_counter()
        metrics = super().evaluate(*args, **kwargs)
        self._paused += time.perf_counter() - start
        return metrics

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        start = time.perf_counter()
        super()._save_checkpoint(*args, **kwargs)
        self._paused += time.perf_counter() - start

    def evaluation_loop(
        self,
        dataloader: Any,
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """Sum the loss over all held-out targets; the trainer's own mean of batch means depends on the batches."""
        output = super().evaluation_loop(dataloader, description, False, ignore_keys, metric_key_prefix)
        predictions: Any = output.predictions
        metrics: Any = output.metrics
        loss_sums, targets, *read_out_loss_sums = predictions
        counts = [count for _, _, count in self.held_out]
        assert len(loss_sums) == sum(counts), (len(loss_sums), counts)
        sums: dict[str, tuple[float, int]] = {}

        def add(objective: str, kind: str, loss: float, number: int) -> None:
            for name in (kind, f"{objective}_{kind}") if objective else (kind,):
                loss_before, number_before = sums.get(name, (0.0, 0))
                sums[name] = (loss_before + loss, number_before + number)

        own, ends = 0.0, np.cumsum(counts)[:-1]
        of_parts = [np.split(each.astype(np.float64), ends) for each in (loss_sums, *read_out_loss_sums)]
        for (objective, is_wrong, _), numbers, *losses in zip(
            self.held_out, np.split(targets, ends), *of_parts, strict=True
        ):
            loss, *read_out_loss = (each.sum() for each in losses)
            if is_wrong:  # right behind its own
                add(objective, "bottleneck_nats", loss - own, numbers.sum())
                continue
            own = loss
            add(objective, "loss", own, numbers.sum())
            for each in read_out_loss:
                add(objective, "read_out_loss", each, numbers.sum())
        metrics |= {f"{metric_key_prefix}_{name}": loss / number for name, (loss, number) in sums.items()}
        if self.evaluator is not None:
            # All processes have the model; one encodes.
            is_one = self.args.process_index == 0
            [found] = broadcast_object_list([self.evaluator(self.sentence_transformer) if is_one else {}])
            metrics |= {f"{metric_key_prefix}_{name}": value for name, value in found.items()}
        return output

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        if not self.args.should_save:
            return
        folder = output_dir or str(self.args.output_dir)
        if self.adapter is not None:
            adapters.save_adapter(self.adapter, folder)
            return
        module = bottleneck_module(self.sentence_transformer)
        if state_dict is not None:  # gathered, as the weights in memory are shards
            module.gathered_weights = {name.removeprefix("language_model."): w for name, w in state_dict.items()}
        try:
            self.sentence_transformer.save_pretrained(folder, create_model_card=False)
        finally:
            module.gathered_weights = None

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        if is_sharded(self):
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        elif self.adapter is not None:
            adapters.load_adapter(self.adapter, resume_from_checkpoint)
        else:
            saved = BottleneckTransformer.load(resume_from_checkpoint)
            bottleneck_module(self.sentence_transformer).model.load_state_dict(saved.model.state_dict())

    def _load_best_model(self) -> None:
        assert self.state.best_model_checkpoint is not None
        self._load_from_checkpoint(self.state.best_model_checkpoint)


def main(argv: Sequence[str] | None = None) -> None:
    """Run stage 1 from the command line; see ``train_ibgl.py``.

    Raises:
        InputError: If the arguments, the data or the model cannot be used.
    """
    args, training_args = parse_arguments(
        _make_parser(),
        TrainingArguments,
        argv,
        learning_rate=2e-5,
        num_train_epochs=1,
        per_device_train_batch_size=32,
        per_device_eval_batch_size=32,
        train_sampling_strategy="group_by_length",
        ddp_find_unused_parameters=False,
    )
    sources, dev_sources, weights = _sources(args)
    check_arguments(args, training_args, weights, has_dev=bool(dev_sources))
    args.read_out_weight = read_out_weight(args)
    if dev_sources:
        evaluate_while_training(training_args)
    if args.select_by is not None:
        keep_best(training_args, *SELECT_BY[args.select_by])
    records = {objective: read_records(source, fields_of(objective)) for objective, source in sources.items()}
    dev_records = {objective: read_records(source, fields_of(objective)) for objective, source in dev_sources.items()}
    refuse_overlaps(
        [(source, records[objective]) for objective, source in sources.items()],
        [(source, dev_records[objective]) for objective, source in dev_sources.items()],
        allowed=args.allow_overlap,
    )
    data = [*records.values(), *dev_records.values()]
    pairs = next((dev_records[each] for each in READ_PAIRS if each in dev_records), [])
    if not pairs and args.select_by in OF_PAIRS:
        pairs = read_records(next(iter(dev_sources.values())))
        data.append(pairs)
    run = describe_run(args, training_args, data)
    if is_finished(args, run):
        return
    model = _open(args, training_args)
    train = _training_examples(args, training_args, model, records, weights)
    dev = _examples(args, training_args, model, dev_records)
    adapter = adapters.adapter_for(model, args, training_args.seed)
    try:
        trainer = IBGLTrainer(
            model,
            bottleneck=args.bottleneck,
            cut_off=not args.no_cut_off,
            read_out_weight=args.read_out_weight or 0.0,
            adapter=adapter,
            args=training_args,
            train_dataset=train,
            eval_dataset=dev,
            evaluator=_evaluator(training_args, pairs),
        )
    except CANNOT_START as error:
        raise InputError(" ".join(str(error).split())) from error
    check_best_metric(trainer)
    claim_output_dir(args, training_args, run)
    train_to_the_end(trainer, args.output_dir)
    if training_args.should_save:
        signals.plot(trainer.state.log_history, args.output_dir, signals.STAGE_1)
    if adapter is not None:
        model = adapters.merged(model, adapter, args, training_args)
    finish(model, trainer, "ibgl", args.output_dir, run)


def _sources(args: argparse.Namespace) -> tuple[dict[str, str], dict[str, str], dict[str, float]]:
    """Return the files of the training and of the dev data, by objective, and the weights of the objectives."""
    prepared = PreparedSet.open(args.data[0]) if len(args.data) == 1 and os.path.isdir(args.data[0]) else None
    if args.objective is None:
        args.objective = prepared.about["objective"] if prepared else "sft"
    weights = parse_objective(args.objective)
    sources = parse_data("--data", args.data, list(weights))
    sources = {each: file_of(source, "gl" if each in READ_PAIRS else "passages") for each, source in sources.items()}
    if args.dev_data:
        dev_sources = parse_data("--dev-data", args.dev_data, list(weights))
        return sources, {each: file_of(source, "dev") for each, source in dev_sources.items()}, weights
    dev_sources = dict.fromkeys(weights, prepared.file("dev")) if prepared and prepared.has("dev") else {}
    if prepared and prepared.about["regime"] == "corpus-taught":  # its passages are trained on
        dev_sources = {each: file for each, file in dev_sources.items() if each in READ_PAIRS}
    return sources, dev_sources, weights


def _open(args: argparse.Namespace, training_args: TrainingArguments) -> SentenceTransformer:
    """Open the model and refuse what cannot be done with it, before texts are tokenized for minutes."""
    options = adapters.quantization(args)
    if args.attention is not None:
        options["attn_implementation"] = args.attention
    model = open_model(args, dtype=adapters.weights_dtype(args, training_args), **options)
    module = bottleneck_module(model)
    set_prompts(model, args)
    if args.hide_bos and not module.num_prefix_tokens:
        raise InputError("--hide-bos: this model puts no token before a text")
    module.hide_bos |= args.hide_bos
    check_fits(module)
    if args.bottleneck:
        check_no_leak(module.model)
    if args.pack_length:
        check_packing(module.model)
    return model


def _examples(
    args: argparse.Namespace,
    training_args: TrainingArguments,
    model: SentenceTransformer,
    records: dict[str, list[Record]],
) -> dict[str, Dataset]:
    options = {"bottleneck": args.bottleneck, "cut_off": not args.no_cut_off}
    options |= {"prefix_share": prefix_share(args), "seed": training_args.seed}
    return {objective: build_examples(each, model, objective, **options) for objective, each in records.items()}


def _training_examples(
    args: argparse.Namespace,
    training_args: TrainingArguments,
    model: SentenceTransformer,
    records: dict[str, list[Record]],
    weights: dict[str, float],
) -> Dataset | PackedRows:
    by_objective = _examples(args, training_args, model, records)
    train = mix(by_objective, weights, training_args.seed)
    logger.info("%s", describe_data(train, by_objective, weights))
    if args.pack_length is None:
        return train
    lengths = [len(ids) for ids in train["input_ids"]]
    rows = pack(lengths, args.pack_length, training_args.seed)
    logger.info("packed into %d rows, %.0f%% full", len(rows), 100 * sum(lengths) / len(rows) / args.pack_length)
    return PackedRows(train, rows, lengths)


def _evaluator(training_args: TrainingArguments, pairs: Sequence[Record]) -> held_out.HeldOutEvaluator | None:
    """Return the evaluator of the embeddings; encoding needs whole weights."""
    if not pairs or training_args.fsdp:
        return None
    batch_size, dtype = training_args.per_device_eval_batch_size, autocast_dtype(training_args)
    return held_out.HeldOutEvaluator(pairs, batch_size=batch_size, dtype=dtype)


def _make_parser() -> argparse.ArgumentParser:
    parser = make_parser("train_ibgl.py", "Stage 1: teach a causal language model a domain through a bottleneck.")
    add_stage_arguments(
        parser,
        model_help="causal language model to start from: local directory or Hub id",
        data_help="set of `lbr data prepare`, or a file (JSON Lines, CSV, Parquet, ...) or id of a Hub dataset with a "
        "query and a document a row (question/answer, ...); "
        "reconstruct and prefix-suffix need the document only. Where objectives have data of their own: "
        "sft=FILE reconstruct=FILE",
        several=True,
    )
    objective = parser.add_argument_group("objective")
    objective.add_argument(
        "--objective",
        metavar="NAME",
        help="; ".join(f"{name}: {meaning}" for name, meaning in OBJECTIVES.items())
        + "; or a mixture by weight, sft:0.7,reconstruct:0.3 (default: sft, or what a prepared set says)",
    )
    objective.add_argument(
        "--prefix-share",
        type=float,
        nargs="+",
        metavar="SHARE",
        help="for prefix-suffix: the share of a document that is X; two numbers for a share drawn between them for "
        "each document (default: 0.5)",
    )
    objective.add_argument(
        "--no-bottleneck",
        dest="bottleneck",
        action="store_false",
        help="the control arm: nothing is cut off and there is no Z. Plain fine-tuning for sft, plain pretraining for "
        "reconstruct",
    )
    objective.add_argument(
        "--no-cut-off",
        action="store_const",
        const=True,  # else None, as in runs that were made before there was the flag
        help="another control arm: Z is there, and Y sees X all the same",
    )
    objective.add_argument(
        "--read-out-weight",
        type=float,
        metavar="WEIGHT",
        help="of a loss that asks the embedding itself for all tokens of Y, which is added to the paper's; 0 is the "
        f"paper's alone (default: {READ_OUT_WEIGHT})",
    )
    objective.add_argument(
        "--hide-bos",
        action="store_true",
        help="hide the token before the text from the target too (see docs/model.md)",
    )
    parser.add_argument(
        "--select-by",
        choices=SELECT_BY,
        help="end with the checkpoint that is best on --dev-data by its loss, by the nats that the bottleneck carries, "
        "or, for pairs, by the Separation Ratio or recall@10 of the embeddings as they are; recall and loss predicted "
        "best what stage 2 makes of a checkpoint, see docs/training.md (default: the last one)",
    )
    adapters.add_arguments(parser)
    speed = parser.add_argument_group("speed")
    speed.add_argument(
        "--pack-length",
        type=int,
        metavar="N",
        help="pack examples into rows of up to N tokens, kept apart by the mask; a batch is then so many rows "
        "(default: one example a row, in batches of like length)",
    )
    speed.add_argument(
        "--attention",
        choices=COMPOSED_ATTENTION,
        help="implementation to train with; flex_attention skips what the mask hides, and needs a GPU (default: the "
        "model's own, sdpa for most)",
    )
    return parser


def prefix_share(args: argparse.Namespace) -> tuple[float, float]:
    """Return the bounds of ``--prefix-share``.

    Raises:
        InputError: If they are no shares.
    """
    shares = args.prefix_share or [0.5]
    low, high = shares[0], shares[-1]
    if len(shares) > 2 or not 0 < low <= high < 1:
        raise InputError(f"--prefix-share must be one or two numbers between 0 and 1, the smaller first, got {shares}")
    return low, high


def check_arguments(
    args: argparse.Namespace, training_args: TrainingArguments, weights: dict[str, float], has_dev: bool
) -> None:
    """Refuse flags that contradict each other, before anything is read.

    Raises:
        InputError: Which, and why.
    """
    check_launch(training_args)
    check_objective(args, weights)
    if args.pack_length is not None and args.pack_length < 1:
        raise InputError(f"--pack-length must be at least 1, got {args.pack_length}")
    adapters.check_arguments(args, training_args)
    if args.attention == "flex_attention" and training_args.device.type == "cpu":
        raise InputError("--attention flex_attention: it has no backward pass on a CPU")
    if args.select_by is not None:
        check_select_by(args, training_args, has_dev)
    if training_args.eval_strategy != "no" and not has_dev:
        raise InputError("--eval-strategy: there is nothing to evaluate on, give --dev-data")
    if not training_args.eval_do_concat_batches:
        raise InputError("--eval-do-concat-batches false: held-out losses are summed over all examples")
    for flag, reason in NOT_SUPPORTED.items():
        if getattr(training_args, flag):
            raise InputError(f"--{flag.replace('_', '-')}: {reason}")


def check_objective(args: argparse.Namespace, weights: dict[str, float]) -> None:
    """Refuse flags of the objective that contradict each other.

    Raises:
        InputError: Which, and why.
    """
    if args.prefix_share is not None and "prefix-suffix" not in weights:
        raise InputError(f"--prefix-share is for the objective prefix-suffix, not for {args.objective}")
    prefix_share(args)
    for flag, control in (("--no-bottleneck", not args.bottleneck), ("--no-cut-off", args.no_cut_off)):
        if args.hide_bos and control:
            raise InputError(f"--hide-bos means nothing with {flag}: nothing is hidden there")
    if args.no_cut_off and not args.bottleneck:
        raise InputError("--no-bottleneck leaves out Z and the cut-off both; leave out --no-cut-off")


def read_out_weight(args: argparse.Namespace) -> float | None:
    """Return the weight of the read-out loss; None for none, as runs have it that were made before there was one.

    Raises:
        InputError: If it is no weight, or there is no bottleneck to read out.
    """
    weight = args.read_out_weight
    if weight is None:
        return READ_OUT_WEIGHT if args.bottleneck else None
    if not 0 <= weight < math.inf:
        raise InputError(f"--read-out-weight must be a number of 0 or more, got {weight}")
    if weight and not args.bottleneck:
        raise InputError("--read-out-weight means nothing with --no-bottleneck: there is nothing to read out")
    return weight or None


def check_select_by(args: argparse.Namespace, training_args: TrainingArguments, has_dev: bool) -> None:
    """Refuse a ``--select-by`` that cannot select.

    Raises:
        InputError: Why.
    """
    if not has_dev:
        raise InputError("--select-by needs --dev-data")
    if training_args.load_best_model_at_end:
        raise InputError("--select-by and --load-best-model-at-end ask for the same; leave out one of them")
    if training_args.save_strategy == "no":
        raise InputError("--select-by needs checkpoints, and --save-strategy no leaves none")
    if args.select_by == "nats" and (args.no_cut_off or not args.bottleneck):
        flag = "--no-cut-off" if args.no_cut_off else "--no-bottleneck"
        raise InputError(f"--select-by nats: with {flag} nothing has to pass through a bottleneck")
    if args.select_by in OF_PAIRS and training_args.fsdp:
        raise InputError(f"--select-by {args.select_by}: encoding needs whole weights, and FSDP keeps shards")


def check_best_metric(trainer: IBGLTrainer) -> None:
    """Refuse a ``--metric-for-best-model`` that evaluation will not give.

    Raises:
        InputError: With the names that it gives.
    """
    if trainer.args.load_best_model_at_end:
        name = trainer.args.metric_for_best_model or "loss"
        if f"eval_{name.removeprefix('eval_')}" not in trainer.metrics:
            raise InputError(f"--metric-for-best-model {name}: choose from {', '.join(trainer.metrics)}")


def describe_data(train: Dataset, by_objective: dict[str, Dataset], weights: dict[str, float]) -> str:
    """Say what an epoch consists of: shares of the objectives, then tokens by the length of X."""
    lines = [f"an epoch is {len(train):,} examples"]
    if len(by_objective) > 1:
        for name, examples in by_objective.items():
            share = weights[name]
            passes = share * len(train) / len(examples)
            lines.append(f"  {name}: {share:.0%} of them, about {passes:.1f} times each of its {len(examples):,}")
    return "\n".join([*lines, signals.strata_table(strata(train))])
