"""Domain tokens: entries of the vocabulary for terms that a language model spells in fragments, or cannot spell.

A term has a row in the input embeddings and one in the head, as a word that the model knows. They start at the mean of
the rows of its pieces, or from the vector that another model has of it, see `lbr_st.model.domain_vectors`. How a text
gets them is in `lbr_st.model.term_matching`.
"""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import transformers
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from lbr_st.errors import InputError
from lbr_st.files import read_json
from lbr_st.model.bottleneck import BottleneckTransformer
from lbr_st.model.domain_vectors import Vectors, fit, known_tokens
from lbr_st.model.term_matching import add_terms, texts_of
from lbr_st.model.tokens import make_room, save_tokenizer

logger = logging.getLogger(__name__)


def add_domain_tokens(module: BottleneckTransformer, terms: Sequence[str], vectors: Vectors | None = None) -> list[int]:
    """Give a model tokens for terms, in place. Existing rows are left bitwise as they are.

    Args:
        module: A model with its bottleneck tokens. Spare rows of its embeddings are used, where the family has them.
        terms: Terms that `lbr_st.model.term_matching.check_term` takes.
        vectors: Vectors of another model by name. A term that has one there starts from it, others from their pieces.

    Returns:
        Ids of the new tokens, two for most terms: with a space before it, and without.

    Raises:
        InputError: If the model has domain tokens already, its tokenizer cannot take these or would lose them, all
            terms are one token already, or the vectors do not fit.
    """
    if module.domain_token_ids:
        raise InputError(f"the model has {len(module.domain_token_ids)} domain tokens already; they are given once")
    with tempfile.TemporaryDirectory() as folder:
        # The tokenizer that AutoTokenizer gives depends on the configuration beside it.
        module.model.config.save_pretrained(folder)
        save_tokenizer(module.tokenizer, folder)
        file = Path(folder, "tokenizer.json")
        data = read_json(file)
        known = {id_: text for id_, text in texts_of(data).items() if id_ not in module.bottleneck_token_ids}
        pieces = add_terms(data, terms)
        if not pieces:
            raise InputError(f"domain tokens: each of the {len(terms)} terms is one token of the model already")
        file.write_text(json.dumps(data, ensure_ascii=False), encoding="utf-8")
        tokenizer = AutoTokenizer.from_pretrained(folder)
    _check_kept(tokenizer, data)
    module.tokenizer, module.domain_token_ids = tokenizer, list(pieces)
    make_room(module.model, module.domain_token_ids[-1])
    for layer in _layers(module):
        for id_, of_term in pieces.items():
            layer.weight.data[id_] = layer.weight.data[of_term].float().mean(dim=0).to(layer.weight.dtype)
    if vectors is not None:
        new = {id_: text for id_, text in texts_of(data).items() if id_ in pieces}
        _start_from_vectors(module, vectors, known, new)
    return module.domain_token_ids


def known_words(tokenizer: PreTrainedTokenizerBase) -> set[str]:
    """Return the words, and parts of words, that a model has a token of."""
    data = json.loads(tokenizer.backend_tokenizer.to_str())
    return {text.removeprefix(" ") for text in texts_of(data).values()}


def terms_of(tokenizer: PreTrainedTokenizerBase, domain_token_ids: Sequence[int]) -> list[str]:
    """Return the terms of a model, in the order in which they were given."""
    texts = texts_of(json.loads(tokenizer.backend_tokenizer.to_str()))
    return list(dict.fromkeys(texts[id_].strip(" ") for id_ in domain_token_ids))


def _check_kept(tokenizer: PreTrainedTokenizerBase, data: dict[str, Any]) -> None:
    """Refuse a tokenizer whose rules transformers makes anew when it loads, whatever tokenizer.json says of them.

    Raises:
        InputError: With the class that does.
    """
    read = json.loads(tokenizer.backend_tokenizer.to_str())
    if read["pre_tokenizer"] != data["pre_tokenizer"] or not read["model"]["ignore_merges"]:
        raise InputError(
            f"domain tokens: transformers {transformers.__version__} loads this model's tokenizer as a "
            f"{type(tokenizer).__name__}, which makes its rules anew and forgets the terms; take a model of another "
            "family, such as Qwen 3, Llama, SmolLM 2 or Gemma 3"
        )


def _layers(module: BottleneckTransformer) -> list[Any]:
    """Return the input embeddings and the head, once where they are one."""
    layers: list[Any] = [module.model.get_input_embeddings(), module.model.get_output_embeddings()]
    return layers[:1] if layers[0].weight is layers[1].weight else layers


def _start_from_vectors(
    module: BottleneckTransformer, vectors: Vectors, known: dict[int, str], new: dict[int, str]
) -> None:
    """Let the rows of terms that another model knows start from its vectors."""
    both = list(known_tokens(vectors, known))
    mapped = list(known_tokens(vectors, new))
    for layer, what in zip(_layers(module), ("input embeddings", "head"), strict=False):
        map_ = fit(vectors, both, layer.weight.data)
        logger.info(
            "vectors to %s: a map fitted on %s tokens leaves %.0f%% of the variance of %s others unexplained",
            what,
            f"{map_.fitted:,}",
            100 * map_.unexplained,
            f"{map_.held_out:,}",
        )
        for name, id_, is_spaced in mapped:
            layer.weight.data[id_] = map_(vectors[name], is_spaced).to(layer.weight.device, layer.weight.dtype)
    number = len({name for name, _, _ in mapped})
    logger.info("%d terms start from their vectors, the others from their pieces", number)
