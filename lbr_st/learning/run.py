"""Stage 1, information bottleneck-constrained generative learning (IB-GL, arXiv 2601.11124, section 3.2).

The language model reads ``[BOS? X Z Y EOS]``, with Y cut off from X, and learns to predict Y. All that Y needs of X
must pass through the bottleneck tokens Z, whose last hidden state is the embedding of X.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from accelerate import PartialState
from datasets import Dataset
from sentence_transformers import SentenceTransformer

from lbr_st.data.prepared_set import PreparedSet, file_of, refuse_overlaps
from lbr_st.data.records import read_records, read_test
from lbr_st.data.sources import check_is_there
from lbr_st.data.terms import AUTO, LEAST_COUNT, LEAST_PIECES, find_terms, read_terms, terms_in, texts_of
from lbr_st.data.vectors import check_form, read_vectors
from lbr_st.errors import InputError
from lbr_st.learning.batches import PackedRows, pack
from lbr_st.learning.config import SELECT_BY, SELECT_BY_PAIRS, LearnConfig
from lbr_st.learning.examples import ExampleMaker, build_examples, check_fits, mix, strata, text_of
from lbr_st.learning.masked_model import CutOffModel
from lbr_st.learning.objectives import OBJECTIVES, READ_PAIRS, fields_of, parse_data, parse_objective
from lbr_st.learning.trainer import LearnTrainer
from lbr_st.model.bottleneck import BottleneckTransformer, bottleneck_module
from lbr_st.model.domain_tokens import add_domain_tokens, known_words
from lbr_st.model.domain_vectors import Vectors
from lbr_st.model.lengths import warn_of_longer
from lbr_st.model.named import is_other_embedding_model
from lbr_st.model.opening import open_tokenizer
from lbr_st.model.precision import autocast_dtype
from lbr_st.model.saving import load
from lbr_st.model.self_checks import check_no_leak, check_packing
from lbr_st.model.trainable import check_can_be_trained
from lbr_st.records import Record
from lbr_st.training import curves
from lbr_st.training.callbacks import evaluate_while_training, keep_best
from lbr_st.training.describe import describe_run, open_folder
from lbr_st.training.finish import finish, set_prompts, write_log
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

MOST_TERMS_NAMED = 5

# Title of a panel of the curves: names in the trainer's log, and what the line is called.
CURVES: dict[str, dict[str, str]] = {
    "loss, nats per target token": {"loss": "training"} | curves.of_each("loss", OBJECTIVES),
    "read-out loss, nats per target token": curves.of_each("read_out_loss", OBJECTIVES),
    "carried by the bottleneck, nats per target token": curves.of_each("bottleneck_nats", OBJECTIVES),
    "embeddings of held-out pairs before stage 2": {
        "eval_dev_cosine_recall@10": "recall@10",
        "eval_dev_separation_ratio": "Separation Ratio",
    },
    curves.TOKENS_PER_SECOND: {"tokens_per_second": "training"},
}


@dataclass(frozen=True)
class LearnSources:
    """What a run of stage 1 is to read.

    Attributes:
        objective: What the user says, else what a prepared set is for.
        weights: Share of each of its objectives; they sum to 1.
        train: File or Hub id that each objective reads.
        dev: File or Hub id that each is held against; empty where there is none.
    """

    objective: str
    weights: dict[str, float]
    train: dict[str, str]
    dev: dict[str, str]


@dataclass(frozen=True)
class LearnData:
    """What a run of stage 1 reads.

    Attributes:
        weights: Share of each objective; they sum to 1.
        train: Records by objective.
        dev: Held-out records by objective; empty where there are none.
        pairs: Held-out pairs whose embeddings are measured; empty where there are none.
        others: Documents that their queries are to be told apart from too, hard negatives of the same file.
    """

    weights: dict[str, float]
    train: dict[str, list[Record]]
    dev: dict[str, list[Record]]
    pairs: list[Record]
    others: list[Record]


class Domain(NamedTuple):
    """What domain tokens are made of, where it is in files.

    Attributes:
        terms: Terms that get a token each; None for those of the data, or none.
        vectors: What they start from, by name; None for their pieces.
    """

    terms: list[str] | None = None
    vectors: Vectors | None = None


def learn(config: LearnConfig, training_model: Callable[..., CutOffModel] = CutOffModel) -> SentenceTransformer:
    """Run stage 1: teach a causal language model a domain through a bottleneck.

    The trained model is in ``config.output_dir`` too, saved and verified. A run that was killed goes on from its last
    checkpoint with ``resume``, to the same weights.

    Args:
        config: Settings of the stage.
        training_model: What the language model is trained as: a subclass of `CutOffModel` trains with another loss.

    Returns:
        The trained model, in evaluation mode.

    Raises:
        InputError: If the settings, the data or the model cannot be used, before any long work; or if they ask for a
            trial, which `plan` and `find_rate` are for.
    """
    config.refuse_trial()
    with leaving_nothing(config.output_dir):
        prepared = prepare(config, config.for_trainer(), training_model)
        if prepared is None:
            logger.info("%s is finished already", config.output_dir)
            return load(config.output_dir)
        run, trainer = prepared
        PartialState().wait_for_everyone()  # all have looked at the folder
        if trainer.args.should_save:
            run.begin()
        train_to_the_end(trainer, config.output_dir)
        with with_weights_on_disk(trainer, config.output_dir):
            of_parts = {f"eval_target_{field}_loss": field for field in trainer.parts}
            write_log(trainer, run.output_dir, CURVES | {"loss of fields of Y, nats per token": of_parts})
            write_verdict(trainer, run.output_dir, compared_with(trainer.sentence_transformer))
            model = trainer.sentence_transformer
            if trainer.adapter is not None:
                model = merged(model, trainer.adapter, config)
            return finish(model, trainer, "learn", run)


def plan(config: LearnConfig) -> Plan:
    """Say what a run of stage 1 takes on this machine; nothing is left of it.

    Args:
        config: Settings of the stage.

    Raises:
        InputError: As `learn` does; or if the run is finished.
    """
    with trial(config, prepare) as trainer:
        return measure(trainer)


def find_rate(config: LearnConfig) -> RateSearch:
    """Try three learning rates for stage 1, judged on the dev data; nothing is left of it.

    Pairs are judged by their embeddings, other dev data by the loss.

    Args:
        config: Settings of the stage.

    Raises:
        InputError: As `learn` does; or if there are no dev data, or the run is finished.
    """
    with trial(config, prepare) as trainer:
        return try_rates(trainer, "eval_loss" if trainer.evaluator is None else f"eval_{NDCG}")


def check_model(config: LearnConfig) -> None:
    """Refuse a model that cannot be trained as the settings say, before data are read; no weights are read.

    Raises:
        InputError: With the setting, and what the model has.
    """
    check_can_be_trained(
        config.model,
        config.max_length,
        config.texts_in_a_row,
        config.layers,
        config.bottleneck_tokens,
        config.given_prompts,
        config.compression_ratio,
        config.nested,
        domain_tokens=config.domain_tokens is not None,
    )
    if Path(config.model).exists() and is_other_embedding_model(config.model):
        open_tokenizer(config.model)  # an encoder is refused


def prepare(
    config: LearnConfig, arguments: LearnConfig, training_model: Callable[..., CutOffModel] = CutOffModel
) -> tuple[Run, LearnTrainer] | None:
    """Make all that a run needs before its first step, and refuse what it cannot do.

    Args:
        config: Settings of the stage.
        arguments: What the trainer gets, changed in place; see `LearnConfig.for_trainer`.
        training_model: See `learn`.

    Returns:
        The run and what trains it; None if it is finished already.

    Raises:
        InputError: If the settings, the data or the model cannot be used.
    """
    check_launch(config)
    if config.attention == "flex_attention" and config.device.type == "cpu":
        raise InputError("--attention flex_attention: it has no backward pass on a CPU")
    check_model(config)
    sources = find_sources(config)
    config = replace(config, objective=sources.objective)  # the run and the model say it
    arguments.objective = sources.objective
    set_learning_rate(arguments, "learn")
    if sources.dev:
        evaluate_while_training(arguments)
    if config.select_by is not None:
        keep_best(arguments, *SELECT_BY[config.select_by])
    open_folder(config, arguments)
    domain = _read_terms(config)
    data = read_data(config, sources)
    run = describe_run(
        config, arguments, list(config.data), [*data.train.values(), *data.dev.values(), data.pairs, data.others]
    )
    if training_model is not CutOffModel:
        run.description["contents"]["training_model"] = _name_of(training_model)
    if run.open(config.resume) is State.FINISHED:
        return None
    trainer = _trainer(config, arguments, _open(config, data, domain), data, training_model)
    check_best_metric(trainer, config.select_by)
    return run, trainer


def _name_of(training_model: Any) -> str:
    """Return what a run says of another loss: the name of the class, with those of the arguments it is given."""
    given = ", ".join(sorted(getattr(training_model, "keywords", {})))
    name = getattr(training_model, "func", training_model).__qualname__
    return f"{name}({given})" if given else name


def find_sources(config: LearnConfig) -> LearnSources:
    """Return what stage 1 is to read; nothing of it is read yet, but what a prepared set says of itself.

    Raises:
        InputError: If a source is not there, an objective has none, or a setting needs dev data.
    """
    prepared = PreparedSet.open(config.data[0]) if len(config.data) == 1 and os.path.isdir(config.data[0]) else None
    objective = config.objective or (prepared.about["objective"] if prepared else "sft")
    config.check_objective(objective)
    weights = parse_objective(objective)
    named = parse_data("--data", config.data, list(weights))
    train = {each: file_of(source, "learn" if each in READ_PAIRS else "passages") for each, source in named.items()}
    dev = _dev_sources(config, prepared, list(weights))
    config.check_held_out(has_dev=bool(dev))
    for source in dict.fromkeys([*train.values(), *dev.values()]):
        check_is_there(source)
    return LearnSources(objective, weights, train, dev)


def read_data(config: LearnConfig, sources: LearnSources | None = None) -> LearnData:
    """Read what stage 1 trains on, and what it is held against, which is less, first.

    Args:
        config: Settings of the stage.
        sources: What `find_sources` says; default is to ask it.

    Raises:
        InputError: If a source cannot be read, or a text is both trained on and held out.
    """
    sources = sources or find_sources(config)
    asked = config.min_score, config.on_error
    target = {"sft": config.target_template}
    others: dict[str, list[Record]] = {each: [] for each in sources.dev if each in READ_PAIRS}
    dev = {
        each: read_records(source, fields_of(each), *asked, target.get(each), others=others.get(each))
        for each, source in sources.dev.items()
    }
    train = {
        each: read_records(source, fields_of(each), *asked, target.get(each)) for each, source in sources.train.items()
    }
    refuse_overlaps(
        [(source, [*train[each], *_predicted(train[each])]) for each, source in sources.train.items()],
        [(source, dev[each]) for each, source in sources.dev.items()],
        allowed=config.allow_overlap,
    )
    pairs, beside = next(((dev[each], others[each]) for each in READ_PAIRS if each in dev), ([], []))
    if not pairs and sources.dev:
        # What reads documents alone may be held against a file without queries, unless it is judged by them.
        with contextlib.nullcontext() if config.select_by in SELECT_BY_PAIRS else contextlib.suppress(InputError):
            pairs, beside = read_test(next(iter(sources.dev.values())), *asked)
    return LearnData(sources.weights, train, dev, pairs, beside)


def _predicted(records: Sequence[Record]) -> Iterator[Record]:
    """Yield the fields of the targets of records, which are trained on, as documents."""
    for record in records:
        for field, text in record.get("target", ()):
            if field is not None:
                yield {"query": record["query"], "document": text}


def _dev_sources(config: LearnConfig, prepared: PreparedSet | None, objectives: Sequence[str]) -> dict[str, str]:
    """Return what each objective is held against: what the user says, else the dev of a prepared set."""
    if config.dev_data:
        given = parse_data("--dev-data", config.dev_data, objectives)
        return {each: file_of(source, "dev") for each, source in given.items()}
    if prepared is None or not prepared.has("dev"):
        return {}
    # The passages of a corpus-taught set are trained on.
    held_out = READ_PAIRS if prepared.about["regime"] == "corpus-taught" else tuple(OBJECTIVES)
    found = {each: prepared.file("dev") for each in objectives if each in held_out}
    if not found:
        logger.info(
            "the dev data of %s are not asked: their passages are read by %s, as the set is corpus-taught, so that the "
            "run has no verdict; lbr inspect or lbr align says what its model finds",
            prepared.folder,
            " and ".join(objectives),
        )
    return found


def _open(config: LearnConfig, data: LearnData, domain: Domain) -> SentenceTransformer:
    """Open the model and refuse what cannot be done with it, before texts are tokenized for minutes."""
    options: dict[str, Any] = quantization(config)
    if config.attention is not None:
        options["attn_implementation"] = config.attention
    model = open_for_training(config, **options)
    module = bottleneck_module(model)
    if config.domain_tokens is not None:
        _add_domain_tokens(module, config, data, domain)
    set_prompts(model, config)
    check_fits(module)
    if config.arm.has_bottleneck:
        check_no_leak(module.model)
    if config.pack_length:
        check_packing(module.model)
    return model


def _read_terms(config: LearnConfig) -> Domain:
    """Read what domain tokens are made of, before the data."""
    if config.domain_tokens in (None, AUTO):
        if config.domain_vectors is not None:  # which of them are used is known with the terms
            check_form(config.domain_vectors)
        return Domain()
    terms, vectors = read_terms(str(config.domain_tokens)), None
    if config.domain_vectors is not None:
        vectors = read_vectors(config.domain_vectors, {*terms, *known_words(open_tokenizer(config.model))})
    return Domain(terms, vectors)


def _add_domain_tokens(module: BottleneckTransformer, config: LearnConfig, data: LearnData, domain: Domain) -> None:
    """Give the model the domain tokens that are asked for; of the training data alone, where it is to find them."""
    texts = texts_of(_as_read(record) for each in data.train.values() for record in each)
    terms, vectors = domain
    if terms is None:
        found = find_terms(texts, module.tokenizer)
        if not found:
            raise InputError(
                f"--domain-tokens auto: no word of --data comes {LEAST_COUNT} times and falls into {LEAST_PIECES} "
                "pieces; leave it out, or give a file of lbr data terms with a lower --least-count or --least-pieces"
            )
        most = ", ".join(f"{each.term} ({each.count:,} times, {each.pieces} pieces)" for each in found[:5])
        logger.info("%d terms of --data get a token, the first: %s", len(found), most)
        terms = [each.term for each in found]
        if config.domain_vectors is not None:
            vectors = read_vectors(config.domain_vectors, {*terms, *known_words(module.tokenizer)})
    else:
        _say_which_come(terms, texts, f"--domain-tokens {config.domain_tokens}")
    ids = add_domain_tokens(module, terms, vectors)
    logger.info("%d domain tokens, ids %d to %d", len(ids), ids[0], ids[-1])


def _say_which_come(terms: Sequence[str], texts: Sequence[str], what: str) -> None:
    """Say how many terms come in the texts that are trained on: the tokens of the others learn nothing.

    Raises:
        InputError: If none does.
    """
    come = terms_in(terms, texts)
    absent = [term for term in terms if term not in come]
    first = ", ".join(absent[:MOST_TERMS_NAMED]) + (", ..." if len(absent) > MOST_TERMS_NAMED else "")
    if not come:
        raise InputError(
            f"{what}: none of its {len(terms):,} terms comes in a text of --data, as whole words in these capitals "
            f"({first}); lbr data terms finds those that do"
        )
    if absent:
        logger.warning(
            "%s: %s of %s terms come in no text of --data, and their tokens learn nothing; leave them out: %s",
            what,
            f"{len(absent):,}",
            f"{len(terms):,}",
            first,
        )
    else:
        logger.info("%s: %s of %s terms come in --data", what, f"{len(terms):,}", f"{len(terms):,}")


def _trainer(
    config: LearnConfig,
    arguments: LearnConfig,
    model: SentenceTransformer,
    data: LearnData,
    training_model: Callable[..., CutOffModel],
) -> LearnTrainer:
    template = config.target_template
    parts = () if template is None else template.fields
    train = {each: build_examples(records, _maker(config, model, each)) for each, records in data.train.items()}
    dev = {
        each: build_examples(records, _maker(config, model, each, parts if each == "sft" else (), draws=False))
        for each, records in data.dev.items()
    }
    _warn_of_longer(model, data)
    epoch = mix(train, data.weights, config.seed)
    logger.info("%s", describe_epoch(epoch, train, data.weights))
    evaluator = None
    if data.pairs and not config.fsdp:  # encoding needs whole weights
        batch_size, dtype = config.per_device_eval_batch_size, autocast_dtype(config)
        evaluator = HeldOutEvaluator(data.pairs, data.others, batch_size=batch_size, dtype=dtype)
        # What the verdict compares with; a run that goes on has it in its log.
        arguments.eval_on_start = last_whole_checkpoint(config.output_dir) is None
    rows = epoch if config.pack_length is None else _packed(epoch, config.pack_length, config.seed)
    adapter = adapter_for(model, config)
    with making_a_trainer():
        return LearnTrainer(
            model,
            arm=config.arm,
            read_out_weight=arguments.read_out_weight or 0.0,
            adapter=adapter,
            args=arguments,
            train_dataset=rows,
            held_out=dev,
            parts=parts,
            evaluator=evaluator,
            training_model=training_model,
            callbacks=[RecallsInLog(evaluator)] if evaluator else None,
        )


def _as_read(record: Record) -> Record:
    """Return a record with what stage 1 predicts of it as its document."""
    return {**record, "document": text_of(record["target"])} if "target" in record else record


def _warn_of_longer(model: SentenceTransformer, data: LearnData) -> None:
    """Say how many texts are longer than the model reads, of the objectives that read a text to that limit."""
    read = {each: data.train[each] + data.dev.get(each, []) for each in data.train if each != "prefix-suffix"}
    pairs = [record for each in read if each in READ_PAIRS for record in read[each]]
    documents = [_as_read(record)["document"] for records in read.values() for record in records]
    warn_of_longer(model, (record["query"] for record in pairs), documents)


def _maker(
    config: LearnConfig, model: SentenceTransformer, objective: str, parts: Sequence[str] = (), draws: bool = True
) -> ExampleMaker:
    bounds = config.prefix_bounds
    return ExampleMaker(model, objective, config.arm, bounds, config.seed, parts=parts, draws=draws)


def _packed(examples: Dataset, row_length: int, seed: int) -> PackedRows:
    lengths = [len(ids) for ids in examples["input_ids"]]
    if (longest := max(lengths)) > row_length:
        raise InputError(f"--pack-length {row_length}: an example has {longest} tokens; say {longest} or more")
    rows = pack(lengths, row_length, seed)
    logger.info("packed into %d rows, %.0f%% full", len(rows), 100 * sum(lengths) / len(rows) / row_length)
    return PackedRows(examples, rows, lengths)


def check_best_metric(trainer: LearnTrainer, select_by: str | None = None) -> None:
    """Refuse a ``--metric-for-best-model``, or a ``--select-by``, that evaluation will not give.

    Raises:
        InputError: With the names that it gives.
    """
    if trainer.args.load_best_model_at_end or trainer.args.metric_for_best_model is not None:
        name = trainer.args.metric_for_best_model or "loss"
        if f"eval_{name.removeprefix('eval_')}" in trainer.metrics:
            return
        if select_by is None:
            raise InputError(f"--metric-for-best-model {name}: choose from {', '.join(trainer.metrics)}")
        there = [each for each, (metric, _) in SELECT_BY.items() if metric in trainer.metrics]
        raise InputError(
            f"--select-by {select_by}: too few texts of the dev data differ for it; choose from {', '.join(there)}"
        )


def describe_epoch(epoch: Dataset, by_objective: Mapping[str, Dataset], weights: Mapping[str, float]) -> str:
    """Say what an epoch consists of: shares of the objectives, then tokens by the length of X."""
    lines = [f"an epoch is {len(epoch):,} examples"]
    if len(by_objective) > 1:
        for name, examples in by_objective.items():
            share = weights[name]
            passes = share * len(epoch) / len(examples)
            lines.append(f"  {name}: {share:.0%} of them, about {passes:.1f} times each of its {len(examples):,}")
    return "\n".join([*lines, strata_table(strata(epoch))])


def strata_table(rows: Sequence[Mapping[str, int]]) -> str:
    """Write the strata of `lbr_st.learning.examples.strata` as a table for people."""
    header = ("tokens of X", "examples", "tokens of X in all", "bottleneck tokens", "of an example", "tokens of Y")
    cells = [
        (
            f"{row['from']} to {row['to']}",
            f"{row['examples']:,}",
            f"{row['source_tokens']:,}",
            f"{row['bottleneck_tokens']:,}",
            f"{row['least_bottleneck_tokens']} to {row['most_bottleneck_tokens']}",
            f"{row['target_tokens']:,}",
        )
        for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(header, *cells, strict=True)]
    return "\n".join("  ".join(cell.rjust(w) for cell, w in zip(r, widths, strict=True)) for r in (header, *cells))
