"""Bottleneck tokens: entries of the vocabulary that no text can spell, appended by the tokenizer itself.

Each is an ordinary vocabulary entry whose spelling holds a raw space. Before a BPE vocabulary is looked up, the
tokenizer has rewritten every space of a text (byte-level ones to ``Ġ``, SentencePiece ones to ``▁``), so a text that
spells a bottleneck token is plain characters. It is *not* a registered special token: those are matched in the raw
text, and can be injected. The post-processor of ``tokenizer.json`` appends the tokens, so every consumer of that file
does, and truncation and padding leave them in place.
"""

from __future__ import annotations

import json
import logging
import tempfile
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from tokenizers import Tokenizer
from torch import nn
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from lbr_st.errors import InputError, one_line
from lbr_st.files import read_json, write_json

logger = logging.getLogger(__name__)

# New rows start at the mean embedding; the noise only has to tell the tokens apart.
NOISE_SHARE_OF_STD = 0.1

# Takes tokenizer.json unchanged, in transformers 4 and 5. Classes of a family rebuild parts of it when they load:
# GPT-NeoX in transformers 4 and 5, Llama and Gemma in transformers 4 lose the post-processor, and say nothing.
TOKENIZER_CLASS = "PreTrainedTokenizerFast"

# Under transformers 4 that class adds token_type_ids unless it is told not to, and GPT-2 adds their embeddings.
INPUT_NAMES = ["input_ids", "attention_mask"]

# Normalisers turn some of these into a raw space.
WHITESPACE = [*"\t\n\v\f\r\x85\u2028\u2029", *(c for c in map(chr, range(0x3001)) if unicodedata.category(c) == "Zs")]


# Files that vocabularies are in: of tokenizers, SentencePiece, tiktoken and the slow tokenizers of transformers.
VOCABULARIES = ("tokenizer.json", "*.model", "*.tiktoken", "tekken.json", "*vocab*", "*merges*", "*.txt", "*.bpe")

# Words that no tokenizer of a language takes for one, and a tokenizer without words does.
UNLIKE = ["water", "stone"]


def check_pads(tokenizer: PreTrainedTokenizerBase, bottleneck_token_ids: Sequence[int] = ()) -> None:
    """Refuse a tokenizer that has no token to pad with, and none at the end of texts that could stand for it.

    Raises:
        InputError: With what has to be set.
    """
    pad = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    if pad is None or pad in bottleneck_token_ids:
        raise InputError(
            "the tokenizer needs a token to pad with: set pad_token or eos_token in its tokenizer_config.json"
        )


def check_rows(tokenizer: PreTrainedTokenizerBase, rows: int | None) -> None:
    """Refuse a tokenizer of another model: words of its vocabulary have no row of the embeddings.

    Tokens that were added to it later may have none yet: they get new ones, see `add_bottleneck_tokens`.

    Args:
        tokenizer: The tokenizer.
        rows: How many rows the embeddings have, where that is known.

    Raises:
        InputError: With how many words that are.
    """
    if rows is None:
        return
    added = tokenizer.added_tokens_decoder
    beyond = [word for word, at in tokenizer.get_vocab().items() if at >= rows and at not in added]
    if beyond:
        raise InputError(
            f"its tokenizer knows {len(beyond)} words, {min(beyond)!r} for one, beyond the {rows} rows of its "
            "embeddings: they are not of one model; copy the tokenizer of this one there"
        )


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
        tokenizer: Its BPE tokenizer, byte-level or SentencePiece; it is not changed.
        num_bottleneck_tokens: Number of tokens, at least 1.

    Returns:
        A new tokenizer that appends the tokens to every text, and their ids in the order they are appended.
        The last one is the read-out token.

    Raises:
        InputError: If the number is below 1, or the tokenizer has bottleneck tokens already, cannot take them or
            knows no words.
    """
    if num_bottleneck_tokens < 1:
        raise InputError(f"the number of bottleneck tokens must be at least 1, got {num_bottleneck_tokens}")
    first_id = max(tokenizer.get_vocab().values()) + 1
    ids = list(range(first_id, first_id + num_bottleneck_tokens))
    with tempfile.TemporaryDirectory() as folder:
        # The tokenizer that AutoTokenizer gives depends on the configuration beside it.
        model.config.save_pretrained(folder)
        save_tokenizer(tokenizer, folder)
        _append_tokens(Path(folder, "tokenizer.json"), ids)
        tokenizer = AutoTokenizer.from_pretrained(folder)
    check_vocabulary(tokenizer)
    rows = cast(nn.Embedding, model.get_input_embeddings()).num_embeddings
    if first_id > rows:
        logger.warning(
            "%s: its tokenizer has %d ids and the model %d rows: tokens that were added to it get new ones, in which "
            "nothing is learned yet",
            model.config._name_or_path,
            first_id,
            rows,
        )
    _initialise_rows(model, ids)
    return tokenizer, ids


def check_vocabulary(tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse a tokenizer without words. Where its files are missing, transformers makes one and says nothing.

    Raises:
        InputError: If it makes the same tokens of unlike texts.
    """
    one, another = tokenizer(UNLIKE)["input_ids"]
    if one == another:
        raise InputError("its tokenizer makes the same of every text: tokenizer.json or the vocabulary is missing")


def read_tokenizer(name: str, **kwargs: Any) -> PreTrainedTokenizerBase:
    """Read the tokenizer of a model.

    Args:
        name: Directory or id of the Hub.
        **kwargs: Arguments of ``AutoTokenizer.from_pretrained``.

    Raises:
        InputError: If its files cannot be read, or are not there.
    """
    if reason := lacks_vocabulary(name):  # of which transformers may make an empty tokenizer
        raise InputError(f"{name}: {reason}")
    try:
        return AutoTokenizer.from_pretrained(name, **kwargs)
    except json.JSONDecodeError as error:
        raise InputError(f"{name}: a file of its tokenizer is no JSON ({error})") from error
    except (KeyError, TypeError, AttributeError) as error:  # JSON of another form
        what = one_line(error)
        raise InputError(f"{name}: a file of its tokenizer is damaged ({type(error).__name__}: {what})") from error


def lacks_vocabulary(name: str) -> str | None:
    """Return that a directory of a model of transformers has no file of a vocabulary; None if it has one.

    Args:
        name: Any model. Of one that is no such directory nothing is said.
    """
    folder = Path(name)
    try:
        is_of_transformers = "model_type" in read_json(folder / "config.json")
    except (OSError, ValueError, TypeError):
        return None
    if not is_of_transformers or any(file for kind in VOCABULARIES for file in folder.glob(kind)):
        return None
    return "the files of its tokenizer are missing, tokenizer.json or another vocabulary; copy them there"


def save_tokenizer(tokenizer: PreTrainedTokenizerBase, folder: str | Path) -> None:
    """Write the tokenizer so that every reader takes its ``tokenizer.json`` unchanged.

    How it cut and padded the last texts is no part of it: the same model gives the same bytes, whatever it has read.

    Raises:
        InputError: If it has no ``tokenizer.json``.
    """
    if tokenizer.is_fast:
        tokenizer.backend_tokenizer.no_truncation()
        tokenizer.backend_tokenizer.no_padding()
    tokenizer.save_pretrained(folder)
    if not Path(folder, "tokenizer.json").is_file():
        raise InputError(f"{type(tokenizer).__name__} has no tokenizer.json; a fast tokenizer is needed")
    path = Path(folder, "tokenizer_config.json")
    config = read_json(path)
    # The template says what is added. llama.cpp takes these for orders and turns off what the template asks for.
    for order in ("add_bos_token", "add_eos_token"):
        config.pop(order, None)
    write_json(path, config | {"tokenizer_class": TOKENIZER_CLASS, "model_input_names": INPUT_NAMES})


def keep_first_tokens(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, number: int
) -> PreTrainedTokenizerBase:
    """Return a tokenizer that appends the first bottleneck tokens only.

    Args:
        model: The language model; it is not changed.
        tokenizer: Its tokenizer, with more of them; it is not changed.
        number: Number of tokens that it appends.
    """
    with tempfile.TemporaryDirectory() as folder:
        model.config.save_pretrained(folder)
        save_tokenizer(tokenizer, folder)
        path = Path(folder, "tokenizer.json")
        data = read_json(path)
        kept = [bottleneck_token(index) for index in range(number)]
        post_processor = data["post_processor"]
        for part in post_processor.get("processors", [post_processor]):
            if part["type"] == "TemplateProcessing":
                ids = {token: part["special_tokens"][token]["ids"][0] for token in kept}
        data["post_processor"] = _appending(post_processor, ids)
        path.write_text(json.dumps(data, ensure_ascii=False), encoding="utf-8")
        return AutoTokenizer.from_pretrained(folder)


def _append_tokens(path: Path, ids: list[int]) -> None:
    """Write the tokens into tokenizer.json: the one form that every consumer of a model reads."""
    tokens = [bottleneck_token(index) for index in range(len(ids))]
    data = read_json(path)
    vocabulary = data["model"]["vocab"]
    if data["model"]["type"] != "BPE":
        raise InputError(f"bottleneck tokens need a BPE tokenizer, this one is {data['model']['type']}")
    if tokens[0] in vocabulary:
        raise InputError("the tokenizer has bottleneck tokens already; load this model with lbr_st.load")
    refuse_spellable(Tokenizer.from_file(str(path)), tokens)
    # tokenizers numbers added tokens from the size of the model's vocabulary, whatever id the file gives them:
    # growing that vocabulary would shift them, unless they are entries of it themselves.
    vocabulary.update((token["content"], token["id"]) for token in data["added_tokens"])
    vocabulary.update(zip(tokens, ids, strict=True))
    data["post_processor"] = _appending(data["post_processor"], dict(zip(tokens, ids, strict=True)))
    path.write_text(json.dumps(data, ensure_ascii=False), encoding="utf-8")


def refuse_spellable(tokenizer: Tokenizer, tokens: list[str]) -> None:
    """Refuse a tokenizer that could hand its vocabulary a text with a raw space in it.

    An entry with a raw space is then out of reach: whatever a BPE makes of a piece of text is a part of that piece.

    Raises:
        InputError: If a text that spells one of ``tokens`` keeps its space.
    """
    for token in tokens:
        for space in WHITESPACE:
            text = token.replace(" ", space)
            if tokenizer.normalizer is not None:
                text = tokenizer.normalizer.normalize_str(text)
            pieces = [text]
            if tokenizer.pre_tokenizer is not None:
                pieces = [piece for piece, _ in tokenizer.pre_tokenizer.pre_tokenize_str(text)]
            if any(" " in piece for piece in pieces):
                raise InputError(
                    f"a text could spell {token!r}: this tokenizer keeps raw spaces; "
                    "a byte-level or SentencePiece BPE is needed, as those of Qwen, Llama and Gemma are"
                )


def _appending(post_processor: dict[str, Any] | None, ids: dict[str, int]) -> dict[str, Any]:
    """Make the post-processor end one or two sequences with the tokens of ``ids``.

    Its own template is extended, and what it has behind the text (an EOS) goes: Z follows X. A second template is not
    an option: tokenizers hands that one the pieces of the first, and panics when there are more than two.
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
        pieces = templates[0][kind]
        end_of_text = 1 + max(place for place, piece in enumerate(pieces) if "Sequence" in piece)
        templates[0][kind] = pieces[:end_of_text] + bottleneck
    templates[0]["special_tokens"] |= {token: {"id": token, "ids": [i], "tokens": [token]} for token, i in ids.items()}
    return parts[0] if len(parts) == 1 else {"type": "Sequence", "processors": parts}


def make_room(model: PreTrainedModel, last_id: int) -> None:
    """Give a model rows of embeddings up to an id, where it has not as many; those that are there stay as they are."""
    if cast(nn.Embedding, model.get_input_embeddings()).num_embeddings <= last_id:
        model.resize_token_embeddings(last_id + 1, mean_resizing=False)


def _initialise_rows(model: PreTrainedModel, ids: list[int]) -> None:
    make_room(model, ids[-1])
    # A generator of its own: a backbone gives the same model whatever ran before.
    generator = torch.Generator().manual_seed(0)
    for layer in (model.get_input_embeddings(), model.get_output_embeddings()):
        weight = cast(nn.Embedding | nn.Linear, layer).weight.data
        known = weight[: ids[0]].float()
        noise = torch.randn(len(ids), weight.shape[1], generator=generator).to(weight.device)
        weight[ids] = (known.mean(dim=0) + NOISE_SHARE_OF_STD * known.std(dim=0) * noise).to(weight.dtype)
