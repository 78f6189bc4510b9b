"""How many tokens a transformer reads in one row, from its configuration: no weights are read."""

from __future__ import annotations

import math
from typing import Any

from transformers import PretrainedConfig

from lbr_st.errors import InputError

# What families call the number of their positions; GPT-2's n_positions and the like go by the first name too.
NAMES = ("max_position_embeddings", "max_seq_len")

# Families that count positions from the token that pads: rows of their table up to that one stand for no position.
COUNTED_FROM_PADDING = {
    "camembert", "data2vec-text", "esm", "ibert", "lilt", "longformer", "luke", "markuplm", "mpnet", "roberta",
    "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "xmod",
}  # fmt: skip


def most_positions(config: PretrainedConfig) -> float:
    """Return how many tokens a model reads in one row; infinity where its positions have no end (ALiBi, T5, DeBERTa).

    Rotary positions have no end either: of these it is what the model was made for, scaling included.
    """
    about: Any = config.get_text_config()
    without_end = (
        getattr(about, "alibi", False)
        or getattr(about, "position_embedding_type", None) == "alibi"
        or not getattr(about, "position_biased_input", True)
    )
    numbers = [number for name in NAMES if isinstance(number := getattr(about, name, None), int)]
    if without_end or not numbers or numbers[0] < 1:  # XLNet says -1
        return math.inf
    if about.model_type in COUNTED_FROM_PADDING:
        return numbers[0] - ((about.pad_token_id or 0) + 1)
    return max([numbers[0], *(_stretched(each, numbers[0]) for each in _rotary(about))])


def has_end(config: PretrainedConfig) -> bool:
    """Tell whether a model ends with an error at a text that is longer than `most_positions`; rotary ones do not."""
    return math.isfinite(most_positions(config)) and not _rotary(config.get_text_config())


def depend_on_length(config: PretrainedConfig) -> bool:
    """Tell whether the position of a token is another one in a longer row (Phi-3's LongRoPE, dynamic NTK)."""
    return any(each.get("rope_type") in ("longrope", "dynamic") for each in _rotary(config.get_text_config()))


def _rotary(about: Any) -> list[dict[str, Any]]:
    """Return the settings of rotary positions, one for each kind of layer; none where positions are of another kind."""
    settings = getattr(about, "rope_parameters", None) or {}
    return [each for each in settings.values() if isinstance(each, dict)] or ([settings] if settings else [])


def _stretched(rotary: dict[str, Any], positions: int) -> int:
    """Return how far scaled rotary positions reach: Qwen's YaRN is given with the positions of pretraining."""
    return int((rotary.get("factor") or 1) * (rotary.get("original_max_position_embeddings") or positions))


def check_positions(length: int, config: PretrainedConfig) -> None:
    """Refuse a maximum length that is longer than what a model reads.

    Raises:
        InputError: With the longest that fits.
    """
    most = most_positions(config)
    if length > most:
        raise InputError(f"a maximum length of {length} is more than the {most:.0f} tokens that this model reads")
