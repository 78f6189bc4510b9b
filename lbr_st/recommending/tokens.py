"""Entries of the vocabulary for users and items, with rows of their own, beside the bottleneck tokens."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoTokenizer

from lbr_st.errors import InputError
from lbr_st.files import read_json
from lbr_st.model.bottleneck import BottleneckTransformer
from lbr_st.model.tokens import make_room, save_tokenizer
from lbr_st.recommending.texts import TOKEN


def check_has_none(module: BottleneckTransformer) -> None:
    """Refuse a model that has tokens of users and items: those of others would be taken for these.

    Raises:
        InputError: With one of them.
    """
    there = sorted(filter(TOKEN.fullmatch, module.tokenizer.get_vocab()))
    if there:
        raise InputError(
            f"the model has {len(there):,} tokens of users and items already, {there[0]} for one; start from the model "
            "that it was made of"
        )


def add_tokens(module: BottleneckTransformer, tokens: Sequence[str], rows: Tensor) -> list[int]:
    """Give a model tokens that texts spell, in place; texts without one of them keep their ids.

    A space before a token belongs to it. Spare rows are used where the family has them, else the matrix grows; the
    rows that are there stay as they are. A head of its own gets the mean of its rows, and no token is generated.

    Args:
        module: Module of the model; its tokenizer is replaced.
        tokens: Spellings.
        rows: Row of each in the input embeddings, ``(tokens, width)``.

    Returns:
        The ids of the tokens.
    """
    model: Any = module.model
    first = max(module.tokenizer.get_vocab().values()) + 1
    ids = list(range(first, first + len(tokens)))
    length = module.max_seq_length
    with tempfile.TemporaryDirectory() as folder:
        model.config.save_pretrained(folder)  # what AutoTokenizer gives depends on it
        save_tokenizer(module.tokenizer, folder)
        _add_to_file(Path(folder, "tokenizer.json"), dict(zip(tokens, ids, strict=True)))
        module.tokenizer = AutoTokenizer.from_pretrained(folder)
    module.tokenizer.padding_side = "right"
    module.max_seq_length = length
    assert module.tokenizer.convert_tokens_to_ids(list(tokens)) == ids
    make_room(model, ids[-1])
    inputs, outputs = (layer.weight.data for layer in (model.get_input_embeddings(), model.get_output_embeddings()))
    with torch.no_grad():
        outputs[ids] = outputs[:first].mean(dim=0)
        inputs[ids] = rows.to(inputs)  # of a tied head these are its rows too
    model.generation_config.suppress_tokens = [*(model.generation_config.suppress_tokens or []), *ids]
    return ids


def _add_to_file(path: Path, ids: dict[str, int]) -> None:
    data = read_json(path)
    # Entries of the vocabulary too: tokenizers gives an added token the number that its spelling has there.
    data["model"]["vocab"].update(ids)
    form = {"single_word": False, "lstrip": True, "rstrip": False, "normalized": False, "special": False}
    data["added_tokens"] += [{"id": id_, "content": token, **form} for token, id_ in ids.items()]
    path.write_text(json.dumps(data, ensure_ascii=False), encoding="utf-8")
