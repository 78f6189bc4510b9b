"""Both stages as plain loops, for machines that have torch, transformers, sentence-transformers and peft alone.

The trainers want `datasets`. Examples, batches, losses and settings here are those of `lbr_st.learn` and
`lbr_st.align`, and so are the weights that come out, to rounding: tests/benchmarks/test_gpu_programs.py compares them.
There are no checkpoints and no curves, and nothing is saved.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn
from transformers import get_scheduler

from lbr_st.alignment.batches import DistinctBatchSampler, documents_by_query
from lbr_st.alignment.config import AlignConfig
from lbr_st.alignment.losses import info_nce
from lbr_st.learning.batches import Example, StratifiedSampler, collate
from lbr_st.learning.config import LearnConfig
from lbr_st.learning.examples import ExampleMaker
from lbr_st.learning.masked_model import CutOffModel
from lbr_st.learning.objectives import fields_of, parse_objective
from lbr_st.model.bottleneck import bottleneck_module
from lbr_st.model.precision import autocast_dtype, computing_in
from lbr_st.records import Record
from lbr_st.training.config import StageConfig
from lbr_st.training.rates import set_learning_rate


@dataclass(frozen=True)
class Course:
    """How a training went.

    Attributes:
        steps: Steps of the optimizer.
        seconds: Seconds of all of them.
        tokens: Tokens that were read, padding not counted.
        losses: Loss of each step.
        learning_rate: Highest learning rate.
    """

    steps: int
    seconds: float
    tokens: int
    losses: list[float]
    learning_rate: float

    @property
    def figures(self) -> dict[str, Any]:
        """What a result file says of it."""
        tenth = -(-self.steps // 10)
        return {
            "steps": self.steps,
            "seconds": self.seconds,
            "tokens": self.tokens,
            "tokens_per_second": self.tokens / self.seconds,
            "learning_rate": self.learning_rate,
            "loss_of_first_tenth": sum(self.losses[:tenth]) / tenth,
            "loss_of_last_tenth": sum(self.losses[-tenth:]) / tenth,
        }


class Embedder(nn.Module):
    """A model that computes in half precision and gives its embeddings in float32, as it does under a trainer.

    Args:
        model: Model that embeds.
        dtype: Half precision (autocast); None is that of the weights.
    """

    def __init__(self, model: SentenceTransformer, dtype: torch.dtype | None) -> None:
        super().__init__()
        self.model, self.dtype = model, dtype

    def forward(self, features: dict[str, Any]) -> dict[str, Tensor]:
        """Return the embeddings of tokenized texts."""
        with computing_in(self.dtype, self.model.device):
            return {"sentence_embedding": self.model(features)["sentence_embedding"].float()}


class Columns(dict[str, list[str]]):
    """Rows of pairs by column, as sentence-transformers' samplers read them."""

    @property
    def column_names(self) -> list[str]:
        """Names of the columns."""
        return list(self)


def make_examples(records: Sequence[Record], model: SentenceTransformer, objective: str, tokens: int) -> list[Example]:
    """Return examples of stage 1 of the first records: as many as have no more than so many tokens.

    Args:
        records: With ``query`` and ``document``.
        model: Model whose tokenizer makes them.
        objective: Objective, or a mixture of equal weights; of each record there is an example for each.
        tokens: Tokens of X, Z and Y of all of them, at the most.
    """
    makers = {name: ExampleMaker(model, name) for name in parse_objective(objective)}
    by_objective: dict[str, list[Example]] = {name: [] for name in makers}
    size = 500  # records at a time: reading ends soon after the last that is needed
    for start in range(0, len(records), size):
        made = [_rows(maker, records[start : start + size]) for maker in makers.values()]
        for of_record in zip(*made, strict=True):
            tokens -= sum(len(example["input_ids"]) for example in of_record)
            if tokens < 0:
                return [example for examples in by_objective.values() for example in examples]
            for examples, example in zip(by_objective.values(), of_record, strict=True):
                examples.append(example)
    return [example for examples in by_objective.values() for example in examples]


def _rows(maker: ExampleMaker, records: Sequence[Record]) -> list[Example]:
    columns = maker({name: [record[name] for record in records] for name in fields_of(maker.objective)})
    rows = zip(columns["input_ids"], columns["segments"], columns["labels"], strict=True)
    return [{"input_ids": ids, "segments": segments, "labels": labels} for ids, segments, labels in rows]


def learn(
    model: SentenceTransformer, examples: Sequence[Example], config: LearnConfig, go_on: Callable[[], None]
) -> Course:
    """Train stage 1 in place.

    Args:
        model: Model whose first module is a `lbr_st.BottleneckTransformer`, on its device.
        examples: What it learns from.
        config: Settings of the stage; of its files only the model is looked at, for the learning rate.
        go_on: Called before each step; what it raises ends the training.
    """
    arguments = config.for_trainer()
    set_learning_rate(arguments, "learn")
    size, dtype = config.per_device_train_batch_size, autocast_dtype(config)
    training = CutOffModel(bottleneck_module(model).model, read_out_weight=arguments.read_out_weight or 0.0)
    lengths = [len(example["input_ids"]) for example in examples]
    sampler = StratifiedSampler(size, lengths, config.seed)

    def losses() -> Iterator[tuple[Tensor, int]]:
        for epoch in range(int(config.num_train_epochs)):
            sampler.set_epoch(epoch)
            order = list(sampler)
            for start in range(0, len(order), size):
                of_batch = order[start : start + size]
                batch = collate([examples[index] for index in of_batch])
                on_device = {name: tensor.to(model.device, non_blocking=True) for name, tensor in batch.items()}
                with computing_in(dtype, model.device):
                    loss = training(**on_device)["loss"]
                yield loss, sum(lengths[index] for index in of_batch)

    steps = -(-len(examples) // size) * int(config.num_train_epochs)
    return _train(training, losses(), steps, arguments, go_on)


def align(
    model: SentenceTransformer, records: Sequence[Record], config: AlignConfig, go_on: Callable[[], None]
) -> Course:
    """Train stage 2 in place, on pairs without hard negatives.

    Args:
        model: Model whose first module is a `lbr_st.BottleneckTransformer`, on its device.
        records: With ``query`` and ``document``.
        config: Settings of the stage; of its files only the model is looked at, for the learning rate.
        go_on: Called before each step; what it raises ends the training.
    """
    arguments = config.for_trainer()
    set_learning_rate(arguments, "align")
    loss_of = info_nce(Embedder(model, autocast_dtype(config)), config.temperature)  # type: ignore[arg-type]
    columns = Columns(anchor=[r["query"] for r in records], positive=[r["document"] for r in records])
    size, known = config.per_device_train_batch_size, documents_by_query(records)
    batches = DistinctBatchSampler(columns, size, False, known=known, seed=config.seed)

    def losses() -> Iterator[tuple[Tensor, int]]:
        for epoch in range(int(config.num_train_epochs)):
            batches.set_epoch(epoch)
            for rows in batches:
                features = [model.preprocess([texts[row] for row in rows]) for texts in columns.values()]
                tokens = sum(int(each["attention_mask"].sum()) for each in features)
                yield loss_of([_on(model.device, each) for each in features], None), tokens

    return _train(model, losses(), len(batches) * int(config.num_train_epochs), arguments, go_on)


def _on(device: torch.device, features: dict[str, Any]) -> dict[str, Tensor]:
    return {name: tensor.to(device, non_blocking=True) for name, tensor in features.items()}


def _train(
    model: nn.Module,
    losses: Iterator[tuple[Tensor, int]],
    steps: int,
    arguments: StageConfig,
    go_on: Callable[[], None],
) -> Course:
    """Take a step for each loss, as the trainer of transformers does.

    Args:
        model: What is trained.
        losses: Loss of each batch, and how many tokens it has.
        steps: How many there are.
        arguments: Settings of the trainer.
        go_on: Called before each step.
    """
    model.train()
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=arguments.learning_rate,
        betas=(arguments.adam_beta1, arguments.adam_beta2),
        eps=arguments.adam_epsilon,
        weight_decay=arguments.weight_decay,
        fused=True,
    )
    schedule = get_scheduler(
        arguments.lr_scheduler_type, optimizer, arguments.get_warmup_steps(steps), num_training_steps=steps
    )
    kept, read = [], 0
    start = time.perf_counter()
    for loss, tokens in losses:
        go_on()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), arguments.max_grad_norm)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        kept.append(loss.detach())
        read += tokens
    found = torch.stack(kept).tolist()  # waits for a GPU
    seconds = time.perf_counter() - start
    assert len(found) == steps, (len(found), steps)
    model.eval()
    return Course(steps, seconds, read, found, arguments.learning_rate)
