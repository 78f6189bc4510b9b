"""What the language model and its bottleneck are worth on held-out examples, in nats per target token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.evaluation import BaseEvaluator

from lbr_st.learning.batches import collate
from lbr_st.learning.examples import ExampleMaker, build_examples, with_wrong_source
from lbr_st.learning.masked_model import CutOffModel
from lbr_st.model.precision import computing_in, evaluating
from lbr_st.records import Record
from lbr_st.training.held_out import DEV


def held_out_loss(model: CutOffModel, examples: Any, batch_size: int = 32) -> float:
    """Return the loss of stage 1 (arXiv 2601.11124, eq. 2) on examples, in nats per target token.

    Args:
        model: Language model under the information cut-off.
        examples: What `lbr_st.learning.examples.build_examples` returns.
        batch_size: Number of examples at a time.
    """
    device = next(model.parameters()).device
    total = targets = 0.0
    with evaluating(model), torch.no_grad():
        for start in range(0, len(examples), batch_size):
            rows = examples.select(range(start, min(start + batch_size, len(examples))))
            output = model(**{name: tensor.to(device) for name, tensor in collate(list(rows)).items()})
            total += output["loss_sums"].double().sum().item()
            targets += output["targets"].sum().item()
    return total / targets


def nats_through_bottleneck(model: CutOffModel, examples: Any, batch_size: int = 32) -> float | None:
    """Return what the bottleneck carries, in nats per target token.

    It is the loss with the X and Z of another example, less the loss with its own. 0 means that Z is ignored. An
    estimate, not a bound: a wrong Z can be worse than none.

    Returns:
        None where all examples have the same X.
    """
    wrong = with_wrong_source(examples)
    if wrong is None:
        return None
    return held_out_loss(model, wrong, batch_size) - held_out_loss(model, examples, batch_size)


class LanguageModelEvaluator(BaseEvaluator):
    """Sentence-transformers' evaluator of ``dev_lm_loss``: the loss of stage 1 on pairs, X = query and Y = document.

    Args:
        language_model: Language model of the model that is evaluated, under the information cut-off.
        model: Model whose tokenizer and prompts make the examples.
        records: Held-out pairs, with ``query`` and ``document``.
        batch_size: Number of examples at a time.
        dtype: Half precision to compute in (autocast); default is the dtype of the model.
    """

    def __init__(
        self,
        language_model: CutOffModel,
        model: SentenceTransformer,
        records: Sequence[Record],
        *,
        batch_size: int = 32,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.language_model = language_model
        self.examples = build_examples(records, ExampleMaker(model, "sft", draws=False))
        self.batch_size, self.dtype = batch_size, dtype
        self.primary_metric = f"{DEV}_lm_loss"

    def __call__(  # type: ignore[override]
        self, model: SentenceTransformer, output_path: str | None = None, epoch: int = -1, steps: int = -1
    ) -> dict[str, float]:
        """Return the loss."""
        with computing_in(self.dtype, model.device):
            return {f"{DEV}_lm_loss": held_out_loss(self.language_model, self.examples, self.batch_size)}
