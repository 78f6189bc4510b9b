"""Several vectors a text, by a model with a nested bottleneck: a given number, or as many as its loss asks for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor
from tqdm.auto import tqdm

from lbr_st.errors import InputError
from lbr_st.model.bottleneck import BottleneckTransformer, bottleneck_module
from lbr_st.model.encoding import check_are_texts
from lbr_st.model.lengths import prompt_of
from lbr_st.model.nested import sizes
from lbr_st.model.precision import evaluating


def encode_vectors(
    model: SentenceTransformer,
    texts: Sequence[str],
    *,
    number: int | None = None,
    margin: float | None = None,
    role: str = "document",
    batch_size: int = 32,
) -> list[Tensor]:
    """Return the vectors of texts, those of the first bottleneck tokens of each.

    The last one is what a text with so many tokens is encoded to. ``sentence_transformers.util.maxsim`` scores two such
    lists by the best match of each vector of a query (late interaction, arXiv 2004.12832).

    Args:
        model: Model with a nested bottleneck.
        texts: Texts.
        number: Number of vectors of each text. Default: all that the model has, or as ``margin`` says.
        margin: Choose the number for each text: the smallest of `lbr_st.model.nested.sizes` whose read-out loss is at
            most so much above that of all tokens, in nats per token of the text. See `read_out_losses`.
        role: Prompt that is put before each text, ``query`` or ``document``.
        batch_size: Number of texts read at once.

    Returns:
        float32 of each text on the CPU, ``(vectors, width)``, rows of length 1.

    Raises:
        InputError: If the bottleneck is not nested, has fewer tokens, or both a number and a margin are given; or the
            margin is below 0.
    """
    check_are_texts(texts)
    module = bottleneck_module(model)
    most = module.num_bottleneck_tokens
    module.check_numbers([most if number is None else number])
    if number is not None and margin is not None:
        raise InputError("a number of vectors and a margin both say how many a text has; give one of them")
    if margin is not None and not margin >= 0:
        raise InputError(f"the margin must be a number of 0 or more, got {margin}")
    found = []
    for batch, states in _states(model, texts, role, batch_size):
        numbers = [number or most] * len(batch)
        if margin is not None:
            numbers = smallest_numbers(_losses(module, batch, states), sizes(most), margin)
        vectors = torch.nn.functional.normalize(states.float(), dim=-1).cpu()
        found += [of_text[:k].clone() for of_text, k in zip(vectors, numbers, strict=True)]
    return found


def read_out_losses(
    model: SentenceTransformer, texts: Sequence[str], *, role: str = "document", batch_size: int = 32
) -> Tensor:
    """Return what the vectors of a text lack of it: the read-out loss of stage 1 with the text itself as target.

    Args:
        model: Model with a nested bottleneck.
        texts: Texts.
        role: Prompt that is put before each text, ``query`` or ``document``.
        batch_size: Number of texts read at once.

    Returns:
        ``(texts, sizes)`` float32: the mean loss of the tokens of a text and its EOS under the last of the first k
        vectors, for each k of `lbr_st.model.nested.sizes`, in nats.

    Raises:
        InputError: If the bottleneck is not nested.
    """
    check_are_texts(texts)
    module = bottleneck_module(model)
    module.check_numbers([])
    batches = [_losses(module, batch, states) for batch, states in _states(model, texts, role, batch_size)]
    return torch.cat(batches) if batches else torch.empty(0, len(sizes(module.num_bottleneck_tokens)))


def smallest_numbers(losses: Tensor, numbers: Sequence[int], margin: float) -> list[int]:
    """Return the smallest number of vectors of each text whose loss is within a margin of that of the largest number.

    Args:
        losses: See `read_out_losses`.
        numbers: Number of vectors of each column, ascending.
        margin: What a loss may be more, in nats.
    """
    within = losses <= losses[:, -1:] + margin
    return [numbers[first] for first in within.int().argmax(dim=1).tolist()]


def _states(
    model: SentenceTransformer, texts: Sequence[str], role: str, batch_size: int
) -> Iterator[tuple[Sequence[str], Tensor]]:
    """Yield texts of a batch, and the states of all their bottleneck tokens, ``(texts, tokens, width)``."""
    module: Any = bottleneck_module(model)
    prompt = prompt_of(model, role) or None
    with torch.inference_mode(), evaluating(model):
        for start in tqdm(range(0, len(texts), batch_size), desc="Encoding", disable=None):
            batch = texts[start : start + batch_size]
            features = {name: each.to(model.device) for name, each in model.preprocess(batch, prompt=prompt).items()}
            output = module(features)["token_embeddings"]
            mask = features["attention_mask"]
            ends = mask.shape[1] - mask.flip(1).argmax(dim=1, keepdim=True)  # padded on either side
            places = ends - torch.arange(module.num_bottleneck_tokens, 0, -1, device=ends.device)
            yield batch, output[torch.arange(len(batch), device=ends.device)[:, None], places]


def _losses(module: BottleneckTransformer, texts: Sequence[str], states: Tensor) -> Tensor:
    """Return `read_out_losses` of a batch, on the CPU."""
    tokenizer = module.tokenizer
    eos = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    length = module.max_seq_length
    targets = tokenizer(list(texts), add_special_tokens=False, truncation=True, max_length=length)["input_ids"]
    head: Any = module.model.get_output_embeddings()
    last = [size - 1 for size in sizes(module.num_bottleneck_tokens)]
    found = []
    for ids, of_text in zip(targets, states[:, last], strict=True):
        asked = (ids + eos)[:length]
        log_probabilities = head(of_text.to(head.weight.dtype)).float().log_softmax(dim=-1)
        found.append(-log_probabilities[:, asked].sum(dim=1) / max(len(asked), 1))
    return torch.stack(found).cpu()
