"""A run looked at before it is started: what it takes on this machine, and which learning rate suits it.

Both are found by real steps through the trainer that the stage builds: its batches, loss, precision, accumulation,
clipping and optimizer. Nothing of it is kept.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
import logging
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from accelerate.utils import broadcast_object_list
from torch import nn
from torch.utils.data import DataLoader
from transformers import IntervalStrategy, Trainer, TrainerCallback, TrainingArguments, set_seed
from transformers.trainer_callback import DefaultFlowCallback
from transformers.trainer_utils import SaveStrategy

from lbr_st.errors import InputError
from lbr_st.training.callbacks import SetEpoch
from lbr_st.training.config import StageConfig
from lbr_st.training.finish import free_optimizer
from lbr_st.training.held_out import NDCG
from lbr_st.training.resume import Run

logger = logging.getLogger(__name__)

Config = TypeVar("Config", bound=StageConfig)
AnyTrainer = TypeVar("AnyTrainer", bound=Trainer)

TIMED_STEPS = 3
# Of a search for a rate: steps of a try, what the rate is multiplied by, and over how many steps a loss is a mean.
RATE_STEPS, FACTORS, LOSS_STEPS = 30, (1 / 3, 1, 3), 5
# What a try may be judged by: its name for people, and whether more of it is better.
JUDGES = {f"eval_{NDCG}": ("dev nDCG@10", True), "eval_loss": ("dev loss, nats per target token", False)}

# A trial has no folder: it saves and reports nothing, and evaluates when it is told to.
NOTHING_KEPT: dict[str, Any] = {
    "save_strategy": SaveStrategy.NO,
    "eval_strategy": IntervalStrategy.NO,
    "eval_on_start": False,
    "load_best_model_at_end": False,
}


@dataclass(frozen=True)
class Plan:
    """What a run takes on this machine.

    Attributes:
        trained: Number of parameters that are trained.
        parameters: Number of all parameters, those of LoRA among them.
        tokens: Tokens of an epoch that the model reads, without padding, over all processes.
        steps: Steps of the optimizer from the start of the run to its end.
        step_seconds: Seconds of a step, making its batches included.
        evaluations: Number of times that the dev data are scored.
        evaluation_seconds: Seconds of one of them.
        peak_bytes: Most memory held: on a GPU by tensors, else by the whole process.
        device: Device that was measured.
        teacher_seconds: Seconds that a teacher is asked, before training.
    """

    trained: int
    parameters: int
    tokens: int
    steps: int
    step_seconds: float
    evaluations: int
    evaluation_seconds: float
    peak_bytes: int
    device: torch.device
    teacher_seconds: float = 0.0

    @property
    def minutes(self) -> float:
        """Minutes of all steps and evaluations, and of the teacher; saving comes on top."""
        seconds = self.steps * self.step_seconds + self.evaluations * self.evaluation_seconds
        return (seconds + self.teacher_seconds) / 60


@dataclass(frozen=True)
class Tried:
    """What a few steps at one learning rate came to.

    Attributes:
        rate: The learning rate.
        first_loss: Training loss, the mean of the first steps.
        last_loss: Training loss, the mean of the last steps.
        dev: Score on the dev data after the last step; NaN where the loss is no number any more.
    """

    rate: float
    first_loss: float
    last_loss: float
    dev: float


@dataclass(frozen=True)
class RateSearch:
    """A search for a learning rate.

    Attributes:
        judge: Name, for people, of the score on the dev data.
        tries: What was tried, from the lowest rate to the highest.
        best: What `best_of` says.
    """

    judge: str
    tries: Sequence[Tried]
    best: Tried | None


@contextlib.contextmanager
def trial(config: Config, prepare: Callable[[Config, Config], tuple[Run, AnyTrainer] | None]) -> Iterator[AnyTrainer]:
    """Give the trainer of a run as the run would have it, but one that leaves nothing behind.

    Args:
        config: Settings of a stage.
        prepare: ``prepare`` of the stage.

    Raises:
        InputError: As a run does; or if it is finished already.
    """
    arguments = config.for_trainer()
    with tempfile.TemporaryDirectory() as folder:
        arguments.output_dir = folder
        prepared = prepare(config, arguments)
        if prepared is None:
            raise InputError(f"--output-dir {config.output_dir} holds the finished model of this run")
        trainer = prepared[1]
        handler = trainer.callback_handler
        handler.callbacks = [each for each in handler.callbacks if isinstance(each, DefaultFlowCallback | SetEpoch)]
        yield trainer


def measure(trainer: Trainer, timed_steps: int = TIMED_STEPS) -> Plan:
    """Measure what a run takes by a few of its steps, of the batches that it would begin with.

    A first step is not timed: it makes what the optimizer holds. The second is on the longest batch of the epoch and
    shows the memory. The timed ones are spread evenly over the sizes of all steps of the epoch, as batches are of
    like length. Last the dev data are scored once, if there are any.

    Args:
        trainer: What `trial` gives. Its weights change.
        timed_steps: Number of steps whose mean time is taken for that of all.
    """
    args = trainer.args
    loader = trainer.get_train_dataloader()
    assert trainer.model is not None
    assert loader.batch_sampler is not None
    trained, parameters = count_parameters(trainer.model)
    batches = [list(rows) for rows in loader.batch_sampler]
    logger.info("counting the tokens of %d batches", len(batches))
    tokens, sizes = 0, []
    for batch in _load(loader, batches, args):
        masks = [tensor for name, tensor in batch.items() if name.endswith("attention_mask")]
        tokens += sum(int(mask.sum()) for mask in masks)
        sizes.append(sum(mask.numel() for mask in masks))
    accumulated = min(args.gradient_accumulation_steps, len(batches))
    chosen = steps_to_take(sizes, accumulated, timed_steps)
    broadcast_object_list(chosen)  # the parts of a batch of several processes belong together

    logger.info("measuring %d steps", len(chosen))
    clock = _Clock()
    trainer.add_callback(clock)
    taken = [batches[index] for step in chosen for index in step]
    settings = {"max_steps": len(chosen), "gradient_accumulation_steps": accumulated, "logging_strategy": "no"}
    with _changed(trainer, **settings):
        trainer.get_train_dataloader = lambda: _load(loader, taken, args)  # type: ignore[method-assign]
        if args.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        trainer.train()
    peak = torch.cuda.max_memory_allocated() if args.device.type == "cuda" else peak_resident()
    seconds = [after - before for before, after in itertools.pairwise(clock.times)][-timed_steps:]

    steps_an_epoch = math.ceil(len(batches) / args.gradient_accumulation_steps)
    steps = args.max_steps if args.max_steps > 0 else math.ceil(args.num_train_epochs * steps_an_epoch)
    evaluations = count_evaluations(args, steps, steps_an_epoch)
    evaluation_seconds = 0.0
    if evaluations:
        logger.info("measuring an evaluation")
        start = time.perf_counter()
        trainer.evaluate()
        evaluation_seconds = time.perf_counter() - start
    return Plan(
        trained=trained,
        parameters=parameters,
        tokens=int(trainer.accelerator.gather(torch.tensor(tokens, device=args.device)).sum()),
        steps=steps,
        step_seconds=statistics.mean(seconds),
        evaluations=evaluations,
        evaluation_seconds=evaluation_seconds,
        peak_bytes=peak,
        device=args.device,
    )


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """Return how many parameters are trained, and how many there are; a shared one counts once."""

    def count(parameters: Iterator[nn.Parameter]) -> int:
        # Weights in 4 bits are packed.
        states = ((each, getattr(each, "quant_state", None)) for each in parameters)
        return sum(each.numel() if state is None else math.prod(state.shape) for each, state in states)

    return count(each for each in model.parameters() if each.requires_grad), count(model.parameters())


def count_evaluations(args: TrainingArguments, steps: int, steps_an_epoch: int) -> int:
    """Return how often a run scores its dev data; the last step is scored in any case."""
    before = int(args.eval_on_start)
    if args.eval_strategy == IntervalStrategy.STEPS:
        assert args.eval_steps is not None
        every = int(args.eval_steps) if args.eval_steps >= 1 else math.ceil(args.eval_steps * steps)
        scored, delay = {*range(every, steps + 1, every), steps}, args.eval_delay
    elif args.eval_strategy == IntervalStrategy.EPOCH:
        scored, delay = {*range(steps_an_epoch, steps + 1, steps_an_epoch), steps}, args.eval_delay * steps_an_epoch
    else:
        return 0
    return before + sum(step >= delay for step in scored)


def steps_to_take(sizes: Sequence[int], accumulated: int, timed: int) -> list[list[int]]:
    """Return the batches of the steps to measure: the smallest step, the longest batch, those to be timed.

    Args:
        sizes: Size of each batch of the epoch, padding included.
        accumulated: Batches in a step.
        timed: Number of steps to be timed. They lie in the middle of so many equal parts of all steps, by size.
    """
    steps = [list(range(at, at + accumulated)) for at in range(0, len(sizes) - accumulated + 1, accumulated)]
    steps.sort(key=lambda step: sum(sizes[index] for index in step))
    longest = [max(range(len(sizes)), key=lambda index: sizes[index])] * accumulated
    return [steps[0], longest, *(steps[(2 * part + 1) * len(steps) // (2 * timed)] for part in range(timed))]


def peak_resident() -> int:
    """Return the most memory that this process has held, in bytes."""
    status = Path("/proc/self/status")
    if status.is_file():  # getrusage begins with what the process held that started this one
        lines = status.read_text(encoding="utf-8").splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
    import resource  # Windows has none

    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest if sys.platform == "darwin" else 1024 * largest


def try_rates(trainer: Trainer, metric: str) -> RateSearch:
    """Try a learning rate, a third of it and three times it, each from the same weights over the same batches.

    Each try is a short run of its own, with a tenth of it as warm-up. A copy of the first weights of what is trained
    stays in the memory of the host: next to nothing with LoRA, and on a GPU no room beside the model. A model that is
    trained whole on a CPU takes 20 bytes a parameter so, where training takes 16. To open it again before each try
    would read it twice more from disk and make its trainer anew.

    Args:
        trainer: What `trial` gives. It ends with the weights that it began with.
        metric: Name of what evaluation gives; one of `JUDGES`.

    Raises:
        InputError: If there are no dev data.
    """
    if trainer.args.eval_strategy == IntervalStrategy.NO:
        raise InputError("--find-rate needs --dev-data")
    judge, more_is_better = JUDGES[metric]
    assert trainer.model is not None
    trained = [each for each in trainer.model.parameters() if each.requires_grad]
    first = [each.detach().to("cpu", copy=True) for each in trained]
    tries = []
    for factor in FACTORS:
        # Two digits, which can be copied.
        rate = trainer.args.learning_rate if factor == 1 else float(f"{factor * trainer.args.learning_rate:.2g}")
        tries.append(_try_rate(trainer, rate, metric))
        logger.info("learning rate %g: %s %.4f", rate, judge, tries[-1].dev)
        with torch.no_grad():
            for weight, before in zip(trained, first, strict=True):
                weight.copy_(before)
    return RateSearch(judge, tries, best_of(tries, more_is_better))


def best_of(tries: Sequence[Tried], more_is_better: bool) -> Tried | None:
    """Return the best try on the dev data of those whose loss falls, or of all if none does.

    Of few dev queries a ruined model may answer more than a good one, by chance.

    Args:
        tries: What was tried.
        more_is_better: Whether a higher score is.

    Returns:
        The best; the lower loss decides between equals. None where the loss of each is no number any more.
    """
    numbers = [each for each in tries if math.isfinite(each.dev)]
    falling = [each for each in numbers if each.last_loss < each.first_loss]

    def goodness(each: Tried) -> tuple[float, float]:
        return each.dev if more_is_better else -each.dev, -each.last_loss

    return max(falling or numbers, key=goodness, default=None)


def _try_rate(trainer: Trainer, rate: float, metric: str) -> Tried:
    settings = {
        "learning_rate": rate,
        "max_steps": RATE_STEPS,
        "warmup_steps": 0.1,
        "logging_strategy": IntervalStrategy.STEPS,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
    }
    trainer.optimizer = trainer.lr_scheduler = None
    set_seed(trainer.args.seed)  # as the trainer does when it is made: order of batches, dropout
    with _changed(trainer, **settings):
        trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    first, last = statistics.fmean(losses[:LOSS_STEPS]), statistics.fmean(losses[-LOSS_STEPS:])
    free_optimizer(trainer)  # evaluation needs the room more
    return Tried(rate, first, last, trainer.evaluate()[metric] if math.isfinite(last) else math.nan)


@contextlib.contextmanager
def _changed(trainer: Trainer, **settings: Any) -> Iterator[None]:
    """Let a trainer keep nothing and have other settings, for a while."""
    before = trainer.args
    trainer.args = copy.copy(before)
    for name, value in (NOTHING_KEPT | settings).items():
        setattr(trainer.args, name, value)
    try:
        yield
    finally:
        trainer.args = before


def _load(loader: DataLoader[Any], batches: Sequence[list[int]], args: TrainingArguments) -> DataLoader[Any]:
    """Return a loader of some batches of another, in the order given."""
    workers = args.dataloader_num_workers
    return DataLoader(loader.dataset, batch_sampler=batches, collate_fn=loader.collate_fn, num_workers=workers)


class _Clock(TrainerCallback):
    """Takes the time when training begins and after every step."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def _take(self) -> None:
        if torch.accelerator.is_available():
            torch.accelerator.synchronize()
        self.times.append(time.perf_counter())

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        """Take the time."""
        self._take()

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        """Take the time."""
        self._take()
