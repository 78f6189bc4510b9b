"""Nested bottlenecks: any first part of the bottleneck tokens of a text is a bottleneck of its own.

A text is read as ``[BOS? X Z]``, and Z is causal: the state of a bottleneck token depends on those before it alone. So
the first k of K tokens are those that a text with k tokens has, and one pass gives the vectors of every k. In training
k is drawn for each text, as Matryoshka learning does with dimensions (arXiv 2205.13147) and nested dropout with any
ordered code (arXiv 1402.0915). It is drawn evenly from 1 to K, and not from `sizes` alone: each token then ends a text
at times, and its state is a vector that can be compared.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from typing import Any

from sentence_transformers import SentenceTransformer

from lbr_st.model.bottleneck import BottleneckTransformer, bottleneck_module
from lbr_st.model.saving import assemble
from lbr_st.model.tokens import keep_first_tokens


def sizes(num_bottleneck_tokens: int) -> list[int]:
    """Return the numbers of vectors that a text may be given: 1, 2, 4, ... and all."""
    return [*(2**n for n in range((num_bottleneck_tokens - 1).bit_length())), num_bottleneck_tokens]


def draw_numbers(texts: Sequence[str], most: int, seed: int) -> list[int]:
    """Draw the number of bottleneck tokens of each text, evenly from 1 to ``most``.

    Drawn by the texts themselves and the seed: a run that is resumed draws the same, and a text that comes again among
    others, as in the next epoch of stage 2, is given another number.

    Args:
        texts: The texts that are read together.
        most: Number of bottleneck tokens of the model.
        seed: Seed of the run.
    """
    digest = hashlib.sha256("\0".join([str(seed), *texts]).encode("utf-8", "surrogatepass")).digest()
    generator = random.Random(digest)
    return [generator.randint(1, most) for _ in texts]


def preprocess_nested(
    model: SentenceTransformer, seed: int, inputs: Sequence[str], prompt: str | None = None, **kwargs: Any
) -> dict[str, Any]:
    """Tokenize texts of a batch of stage 2, each with a number of bottleneck tokens that is drawn.

    Args:
        model: Model with a nested bottleneck.
        seed: Seed of the run.
        inputs: Texts.
        prompt: Put before every text.
        **kwargs: Arguments of ``model.preprocess``.
    """
    numbers = draw_numbers(inputs, bottleneck_module(model).num_bottleneck_tokens, seed)
    return model.preprocess(list(inputs), prompt=prompt, numbers=numbers, **kwargs)


def with_first_tokens(model: SentenceTransformer, number: int) -> SentenceTransformer:
    """Return the model with the first of its bottleneck tokens, sharing its weights.

    `lbr_st.save` writes it in the portable layout: every reader then gives the vector of that number.

    Args:
        model: Model with a nested bottleneck.
        number: Number of tokens to keep.

    Raises:
        InputError: If the bottleneck is not nested, or has fewer tokens.
    """
    module = bottleneck_module(model)
    module.check_numbers([number])
    cut = BottleneckTransformer(
        module.model,
        keep_first_tokens(module.model, module.tokenizer, number),
        bottleneck_token_ids=module.bottleneck_token_ids[:number],
        # A longer text is cut where it was cut before.
        max_seq_length=module.max_seq_length - module.num_bottleneck_tokens + number,
        nested=number > 1,
        domain_token_ids=module.domain_token_ids,
        history=module.history,
    )
    prompts: Any = model.prompts
    return assemble(cut, prompts, model.default_prompt_name, str(model.device))
