"""Bottleneck tokens: entries of the vocabulary that no text can spell, appended by the tokenizer itself.

Each is an ordinary vocabulary entry whose spelling holds a raw space. Byte-level pre-tokenisation rewrites every
space of a text (to ``Ġ``) before the vocabulary is looked up, so a text that spells a bottleneck token is plain
characters. It is *not* a registered special token: those are matched in the raw text, and can be injected.
The post-processor of ``tokenizer.json`` appends the tokens, so every consumer of that file does, and
truncation and padding leave them in place.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from lbr_st.errors import InputError

# New rows start at the mean embedding; the noise only has to tell the tokens apart.
NOISE_SHARE_OF_STD = 0.1


def bottleneck_token(index: int) -> str:
    """Return the spelling of bottleneck token ``index``, with the raw space that keeps text from spelling it."""
    return f"<|bottleneck {index}|>"


def add_bottleneck_tokens(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, num_bottleneck_tokens: int
) -> tuple[PreTrainedTokenizerBase, list[int]]:
    """Give a causal language model its bottleneck tokens.

    The embedding matrix of ``model`` is changed in place: spare rows are used where the family has them (Qwen
    pads its vocabulary), else it grows. Existing rows are left bitwise as they are.

    Args:
        model: Any causal language model; its input embeddings get the new rows.
        tokenizer: Its byte-level tokenizer, left as it is.
        num_bottleneck_tokens: How many tokens, at least 1.

    Returns:
        A new tokenizer that appends the tokens to every text, and their ids in the order they are appended.
        The last one is the read-out token.

    Raises:
        InputError: If the number is below 1, or the tokenizer is not byte-level or has bottleneck tokens already.
    """
    if num_bottleneck_tokens < 1:
        raise InputError(f"the number of bottleneck tokens must be at least 1, got {num_bottleneck_tokens}")
    first_id = max(tokenizer.get_vocab().values()) + 1
    ids = list(range(first_id, first_id + num_bottleneck_tokens))
    tokenizer = _with_bottleneck(tokenizer, ids)
    _initialise_rows(model, ids)
    return tokenizer, ids


def _with_bottleneck(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> PreTrainedTokenizerBase:
    """Write the tokens into tokenizer.json: the one form that every consumer of a model reads."""
    tokens = [bottleneck_token(index) for index in range(len(ids))]
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        path = Path(folder, "tokenizer.json")
        if not path.is_file():
            raise InputError(f"{type(tokenizer).__name__} has no tokenizer.json; a fast tokenizer is needed")
        data = json.loads(path.read_text(encoding="utf-8"))
        if "ByteLevel" not in json.dumps(data["pre_tokenizer"]):
            raise InputError("bottleneck tokens need a byte-level tokenizer, as those of Qwen and Llama 3 are")
        vocabulary = data["model"]["vocab"]
        if tokens[0] in vocabulary:
            raise InputError("the tokenizer has bottleneck tokens already; load this model with lbr_st.load")
        # tokenizers numbers added tokens from the size of the model's vocabulary, whatever id the file gives them:
        # growing that vocabulary would shift them, unless they are entries of it themselves.
        vocabulary.update((token["content"], token["id"]) for token in data["added_tokens"])
        vocabulary.update(zip(tokens, ids, strict=True))
        data["post_processor"] = _appending(data["post_processor"], dict(zip(tokens, ids, strict=True)))
        path.write_text(json.dumps(data, ensure_ascii=False), encoding="utf-8")
        return AutoTokenizer.from_pretrained(folder)


def _appending(post_processor: dict[str, Any] | None, ids: dict[str, int]) -> dict[str, Any]:
    """Make the post-processor end one or two sequences with the tokens of ``ids``.

    Its own template is extended. A second template behind it is not an option: tokenizers hands that one the pieces
    of the first, and panics when there are more than two.
    """
    parts = [] if post_processor is None else post_processor.get("processors", [post_processor])
    others = [part["type"] for part in parts if part["type"] not in ("TemplateProcessing", "ByteLevel")]
    templates = [part for part in parts if part["type"] == "TemplateProcessing"]
    if others or len(templates) > 1:
        raise InputError(f"cannot append to a post-processor of {', '.join(part['type'] for part in parts)}")
    if not templates:
        sequences: list[dict[str, Any]] = [{"Sequence": {"id": name, "type_id": 0}} for name in "AB"]
        templates = [{"type": "TemplateProcessing", "single": sequences[:1], "pair": sequences, "special_tokens": {}}]
        parts = parts + templates
    for kind in ("single", "pair"):
        bottleneck = [{"SpecialToken": {"id": token, "type_id": 0}} for token in ids]
        templates[0][kind] = templates[0][kind] + bottleneck
    templates[0]["special_tokens"] |= {token: {"id": token, "ids": [i], "tokens": [token]} for token, i in ids.items()}
    return parts[0] if len(parts) == 1 else {"type": "Sequence", "processors": parts}


def _initialise_rows(model: PreTrainedModel, ids: list[int]) -> None:
    if cast(nn.Embedding, model.get_input_embeddings()).num_embeddings <= ids[-1]:
        model.resize_token_embeddings(ids[-1] + 1, mean_resizing=False)
    # A generator of its own: a backbone gives the same model whatever ran before.
    generator = torch.Generator().manual_seed(0)
    for layer in (model.get_input_embeddings(), model.get_output_embeddings()):
        weight = cast(nn.Embedding | nn.Linear, layer).weight.data
        known = weight[: ids[0]].float()
        noise = torch.randn(len(ids), weight.shape[1], generator=generator).to(weight.device)
        weight[ids] = (known.mean(dim=0) + NOISE_SHARE_OF_STD * known.std(dim=0) * noise).to(weight.dtype)
