"""Learning rates of both stages by the size of a model: a large one takes smaller steps than a small one."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Literal

import numpy as np

from lbr_st.model.named import count_parameters, is_other_embedding_model
from lbr_st.training.config import StageConfig

logger = logging.getLogger(__name__)

Stage = Literal["learn", "align"]

# Training of all weights: parameters of the model, learning rate.
FULL: dict[Stage, dict[float, float]] = {
    "learn": {
        5.5e6: 1e-3,  # benchmarks/explore.py and rate.py: better than 5e-4, on dev and on test
        135e6: 4e-4,  # benchmarks/learning_rates.py: better than 1e-4 and 2e-4, on dev before stage 2
        0.5e9: 2e-5,  # TRL, trl/scripts/sft.py: Qwen2-0.5B
        7e9: 2e-5,  # GritLM, scripts/training/train_gritlm_7b.sh: Mistral 7B, generative and contrastive at once
    },
    "align": {
        5.5e6: 3e-4,  # benchmarks/explore.py: mostly better than 1e-3, on dev
        135e6: 1e-4,  # benchmarks/learning_rates.py: better than 5e-5 and 2e-4, on dev
        0.6e9: 1e-5,  # ML-Embed, configs/config.json: Qwen3-0.6B; NVIDIA's recipe for a model of 1 B says the same
        4e9: 8e-6,  # F2LLM, configs: Qwen3-4B
    },
}
# LoRA takes larger steps than training of all weights. Nobody has published rates for smaller models; see `rate_for`.
LORA: dict[Stage, dict[float, float]] = {
    "learn": {
        0.5e9: 1e-4,  # Revela, README.md: Qwen2.5-0.5B and Llama-3.2-1B, rank 256
        7e9: 1e-4,  # LLM2Comp, arguments_first_stage.py: Llama 2 7B, rank 16, alpha 32
    },
    "align": {
        1.3e9: 2e-4,  # LLM2Vec, train_configs/supervised/Sheared-Llama.json: rank 16
        7e9: 1e-4,  # Tevatron, README.md: Mistral 7B
    },
}
# An embedding model of another kind was trained for long already: the usual rate of sentence-transformers' examples.
OTHER_EMBEDDING_MODEL = 2e-5


def rate_for(stage: Stage, parameters: float, lora: bool = False) -> float:
    """Return the learning rate for a size of model: a number of one digit, which never grows with the size.

    It is that of the nearest sizes above and below, interpolated in the logarithms of both, and beyond the ends of a
    table that of the end. With LoRA it is at least the rate of training all weights.

    Args:
        stage: ``learn`` or ``align``.
        parameters: Number of parameters of the model, whether they are trained or not.
        lora: Whether LoRA trains it.
    """
    rate = _between(FULL[stage], parameters)
    return max(rate, _between(LORA[stage], parameters)) if lora else rate


def _between(rates: Mapping[float, float], parameters: float) -> float:
    rate = np.exp(np.interp(math.log(parameters), np.log([*rates]), np.log([*rates.values()])))
    return float(f"{rate:.0e}")


def set_learning_rate(arguments: StageConfig, stage: Stage) -> None:
    """Give the trainer the learning rate for the size of its model, and say so, where the user gave none.

    Args:
        arguments: What the trainer gets, changed in place.
        stage: ``learn`` or ``align``.

    Raises:
        InputError: If the model is none.
    """
    if arguments.learning_rate is not None:
        return
    if is_other_embedding_model(arguments.model):
        arguments.learning_rate, of = OTHER_EMBEDDING_MODEL, "an embedding model of another kind"
    else:
        parameters = count_parameters(arguments.model)
        lora = arguments.lora_rank is not None
        arguments.learning_rate = rate_for(stage, parameters, lora)
        of = f"{in_millions(parameters)} parameters" + (" and LoRA" if lora else "")
    logger.info("learning rate %s, for %s (--learning-rate sets another)", written(arguments.learning_rate), of)


def rates_in_words(stage: Stage) -> str:
    """Return the help of ``--learning-rate``: the tables of a stage in a few words."""
    other = f"; an embedding model of another kind: {written(OTHER_EMBEDDING_MODEL)}" if stage == "align" else ""
    return (
        f"highest learning rate (default: by the size of the model: {listed(FULL[stage])}; with LoRA at least "
        f"{listed(LORA[stage])}; sizes between these get rates between these{other})"
    )


def listed(rates: Mapping[float, float]) -> str:
    """Write a table as a list: ``1e-3 at 5.5 M parameters, 2e-4 at 135 M``."""
    first, *others = [f"{written(rate)} at {in_millions(size)}" for size, rate in rates.items()]
    return ", ".join([f"{first} parameters", *others])


def written(rate: float) -> str:
    """Write a learning rate of one digit as people write it: ``2e-4``."""
    digit, _, exponent = f"{rate:.0e}".partition("e")
    return f"{digit}e{int(exponent)}"


def in_millions(parameters: float) -> str:
    """Write a number of parameters with its unit: ``135 M``, ``1.5 B``."""
    unit, name = (1e9, "B") if parameters >= 1e9 else (1e6, "M")
    return f"{parameters / unit:.3g} {name}"
