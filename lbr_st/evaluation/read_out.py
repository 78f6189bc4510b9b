"""An embedding in words: what the head of the language model makes of the state that becomes the embedding.

A model that learned with the read-out loss predicts the words of what it was taught from this state.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor

from lbr_st.errors import InputError
from lbr_st.model.bottleneck import BottleneckTransformer
from lbr_st.model.precision import evaluating

logger = logging.getLogger(__name__)

TOKENS = 256  # of the vocabulary, the most likely ones, that words are made of


def read_out(
    model: SentenceTransformer, texts: Sequence[str], top_k: int = 10, *, role: str = "query", batch_size: int = 32
) -> list[list[tuple[str, float]]]:
    """Say in words what the embeddings of texts hold.

    Args:
        model: Model of this package, with its language model (`lbr_st.load`).
        texts: Texts to embed.
        top_k: Number of words of each.
        role: Prompt that is put before each text, ``query`` or ``document``.
        batch_size: Number of texts read at once.

    Returns:
        For each text (word, weight) pairs, highest weight first. The weight of a token of probability p is
        ``p * log(p / p0)`` in nats, with p0 its probability after the prompt alone, so that words which every text has
        weigh little; tokens that differ by spaces and capitals are one word. A word may be a piece of one.

    Raises:
        InputError: If the model has no language model of this package.
    """
    if not isinstance(model[0], BottleneckTransformer):
        raise InputError("only a model of this package can say its embeddings in words; open it with lbr_st.load")
    of_batches = token_weights(model, texts, role=role, batch_size=batch_size)
    return [_words(model, of_text, top_k) for of_batch in of_batches for of_text in of_batch]


def warn_of_unlearned(model: SentenceTransformer) -> None:
    """Say so of a model of this package that never learned to say its embeddings in words."""
    if isinstance(model[0], BottleneckTransformer) and not any(s.get("read_out_weight") for s in model[0].history):
        logger.warning(
            "no stage of this model learned with the read-out loss, so its words say little of a text: such a stage is "
            "lbr learn with a --read-out-weight above 0"
        )


def token_weights(
    model: SentenceTransformer, texts: Sequence[str], *, role: str, batch_size: int = 32
) -> Iterator[Tensor]:
    """Yield what each token of the vocabulary weighs in the embeddings of texts, see `read_out`.

    Args:
        model: Model of this package, with its language model.
        texts: Texts to embed.
        role: Prompt that is put before each text, ``query`` or ``document``.
        batch_size: Number of texts read at once.

    Yields:
        ``(texts, vocabulary)`` float32 of each batch, in order.
    """
    before = log_probabilities(model, [""], role)[0]
    for start in range(0, len(texts), batch_size):
        after = log_probabilities(model, texts[start : start + batch_size], role)
        yield after.exp() * (after - before)


def log_probabilities(model: SentenceTransformer, texts: Sequence[str], role: str) -> Tensor:
    """Return what the head makes of the last bottleneck token of each text, ``(texts, vocabulary)`` float32."""
    module: Any = model[0]
    pooling = model[1]
    prompt = model.prompts.get(role) or ""
    with torch.inference_mode(), evaluating(model):
        features = model.preprocess([prompt + text for text in texts])
        on_device = {name: value.to(model.device) for name, value in features.items() if isinstance(value, Tensor)}
        states = pooling(module(on_device))["sentence_embedding"]
        head = module.model.get_output_embeddings()
        return head(states.to(head.weight.dtype)).float().log_softmax(dim=-1)


def _words(model: SentenceTransformer, weights: Tensor, top_k: int) -> list[tuple[str, float]]:
    tokenizer = model.tokenizer
    special = set(tokenizer.all_special_ids)
    words: dict[str, tuple[str, float]] = {}
    values, ids = weights.topk(min(TOKENS, len(weights)))
    for weight, id_ in zip(values.tolist(), ids.tolist(), strict=True):
        word = tokenizer.decode([id_]).strip()
        if id_ in special or not any(character.isalnum() for character in word):
            continue
        # The spelling of the heaviest, which comes first.
        spelling, before = words.get(word.casefold(), (word, 0.0))
        words[word.casefold()] = (spelling, before + weight)
    return sorted(words.values(), key=lambda each: -each[1])[:top_k]
