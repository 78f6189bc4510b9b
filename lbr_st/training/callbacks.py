"""What both trainers do at certain moments of a run."""

from __future__ import annotations

import logging
import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from statistics import fmean
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import IntervalStrategy, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from lbr_st.training.held_out import DEV
from lbr_st.training.rates import written

logger = logging.getLogger(__name__)

# Of unit vectors: below, they are one vector; above, of two random ones one says little more than the other.
LEAST_VARIANCE, MOST_COSINE = 0.01, 0.9

# Where a rising loss is looked for: a share of all steps, and the fewest that can tell one from noise.
FIRST_SHARE, FEWEST_STEPS = 0.05, 20
# What counts as one: a mean higher by this share, and a score of ranks that chance gives in one run of a hundred.
LEAST_RISE, LEAST_SCORE = 0.05, 2.7


def evaluate_while_training(arguments: TrainingArguments) -> None:
    """Score the dev data about five times in a run, unless the user asked for another rhythm."""
    if arguments.eval_strategy == "no":
        arguments.eval_strategy = IntervalStrategy.STEPS
        arguments.eval_steps = arguments.eval_steps or 0.2


def keep_best(arguments: TrainingArguments, metric: str, greater_is_better: bool) -> None:
    """End with the weights that are best on the dev data, not with the last ones; needs `SaveAtEvaluation`.

    Args:
        arguments: The trainer's arguments, changed in place.
        metric: Name of what evaluation gives, with ``eval_``.
        greater_is_better: Whether more of it is better.
    """
    arguments.load_best_model_at_end = True
    arguments.metric_for_best_model = metric
    arguments.greater_is_better = greater_is_better
    arguments.restore_callback_states_from_checkpoint = True  # how long early stopping has waited


class SaveAtEvaluation(TrainerCallback):
    """Leaves a checkpoint at every evaluation, where the best weights are kept."""

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Ask for one; not before the first step."""
        if args.load_best_model_at_end and state.global_step:
            control.should_save = True


class SetEpoch(TrainerCallback):
    """Tells the sampler which epoch begins: accelerate does not reach it in a resumed epoch of several processes."""

    def __init__(self, sampler: Any) -> None:
        self.sampler = sampler

    def on_epoch_begin(self, args: TrainingArguments, state: TrainerState, control: Any, **kwargs: Any) -> None:
        """Where a run is resumed within an epoch, ``state.epoch`` is how far it is."""
        self.sampler.set_epoch(int(state.epoch or 0))


class WarnOfCollapse(TrainerCallback):
    """Warns when the embeddings collapse, and when the language model forgets, with the numbers.

    Args:
        max_forgetting: How much the loss of the language model may rise above that before training, in nats per
            target token.
    """

    def __init__(self, max_forgetting: float) -> None:
        self.max_forgetting = max_forgetting

    @staticmethod
    def _before(state: TrainerState, name: str, default: Any) -> Any:
        key = f"eval_{DEV}_{name}"
        return next((entry[key] for entry in state.log_history if key in entry), default)

    def on_evaluate(  # type: ignore[override]
        self, args: TrainingArguments, state: TrainerState, control: Any, metrics: dict[str, float], **kwargs: Any
    ) -> None:
        """Look at what was measured, beside what it was before the first step."""
        if not state.is_world_process_zero:
            return
        variance, cosine = metrics.get(f"eval_{DEV}_variance", 1.0), metrics.get(f"eval_{DEV}_mean_cosine", 0.0)
        # A model that was never trained has them close together; training it takes them apart.
        if not variance >= min(LEAST_VARIANCE, self._before(state, "variance", 1.0)):  # NaN too
            logger.warning(
                "step %d: the embeddings have collapsed into one: their variance is %.2g (of 1 at the most, a warning "
                "below %.2g). A lower --learning-rate or a higher --temperature may help",
                state.global_step,
                variance,
                LEAST_VARIANCE,
            )
        elif cosine > max(MOST_COSINE, self._before(state, "mean_cosine", 0.0)):
            logger.warning(
                "step %d: the embeddings point the same way: the mean cosine of random documents is %.3f (a warning "
                "above %.2f)",
                state.global_step,
                cosine,
                MOST_COSINE,
            )
        key = f"eval_{DEV}_lm_loss"
        before = self._before(state, "lm_loss", None)
        if before is not None and not metrics[key] <= before + self.max_forgetting:
            logger.warning(
                "step %d: the language model forgets: its loss on --dev-data is %.3f nats per target token, from %.3f "
                "before training (a warning when it rises by more than %.2f). --lm-weight keeps it in training",
                state.global_step,
                metrics[key],
                before,
                self.max_forgetting,
            )


class Rise(NamedTuple):
    """A loss that rises.

    Attributes:
        before: Mean of the first fifth of the steps.
        after: Mean of the last two fifths; where they did not rise, of the two before them.
    """

    before: float
    after: float


def rise_of(losses: Sequence[float]) -> Rise | None:
    """Return how much a loss rises, or None where it does not, or not beyond its noise.

    The first fifth of the steps, in which warm-up keeps the rate low, is what the others are held against. Ranks decide
    (Mann-Whitney), so a single outlier is no rise, and a loss that explodes is one however its numbers spread.

    Args:
        losses: Loss of each step, at least five; what is not finite counts as infinite.
    """
    losses = [loss if math.isfinite(loss) else math.inf for loss in losses]
    n, m = len(losses) // 5, 2 * len(losses) // 5
    before = sorted(losses[:n])
    for after in (losses[-m:], losses[n : n + m]):
        above = sum((bisect_left(before, loss) + bisect_right(before, loss)) / 2 for loss in after)
        score = (above - n * m / 2) / math.sqrt(n * m * (n + m + 1) / 12)
        rise = Rise(fmean(before), fmean(after))
        if score > LEAST_SCORE and rise.after > (1 + LEAST_RISE) * rise.before:
            return rise
    return None


class WarnOfRisingLoss(TrainerCallback):
    """Warns when the loss rises in the first steps of a run: its learning rate is too high.

    The trainer gives it the loss of every batch. A run that is resumed is not judged, nor is one of few steps.
    """

    def __init__(self) -> None:
        self._batches: list[Tensor] = []  # of the step that is not over
        self._losses: list[Tensor] = []
        self._steps = 0

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: Any, **kwargs: Any) -> None:
        """Choose the steps that are looked at; none where the first of them are over."""
        begins = state.is_world_process_zero and not state.global_step
        self._steps = max(math.ceil(FIRST_SHARE * state.max_steps), FEWEST_STEPS) if begins else 0

    def add(self, loss: Tensor) -> None:
        """Note the loss of a batch, divided by the batches of a step; it stays on its device, where nobody waits."""
        if self._steps:
            self._batches.append(loss)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: Any, **kwargs: Any) -> None:
        """Note the loss of a step; after the last one that is looked at, warn of a rise."""
        if not self._steps:
            return
        self._losses.append(torch.stack(self._batches).sum())
        self._batches.clear()
        if len(self._losses) < self._steps:
            return
        rise = rise_of(torch.stack(self._losses).tolist())
        if rise is not None:
            logger.warning(
                "the loss rises in the first %d steps, from %.3g to %.3g. Start again with a lower rate, such as "
                "--learning-rate %s",
                self._steps,
                *rise,
                written(args.learning_rate / 3),
            )
        self._losses.clear()
        self._steps = 0
