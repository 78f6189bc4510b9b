"""The sentence-transformers input module: a causal language model that reads ``[BOS? X Z]``.

The embedding of a text is the last hidden state of its last bottleneck token. As the tokenizer always ends a text
with that token, reading it out is sentence-transformers' own last-token pooling.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import InputModule
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lbr_st.errors import InputError
from lbr_st.model.backbone import read_backbone, read_language_model
from lbr_st.model.generation import hidden_from_answers
from lbr_st.model.positions import check_positions, has_end, most_positions
from lbr_st.model.precision import evaluating
from lbr_st.model.tokens import add_bottleneck_tokens, check_pads, read_tokenizer, save_tokenizer

# What decides which files of the Hub are read.
HUB_ARGUMENTS = ("revision", "token", "cache_dir", "local_files_only", "subfolder")

# transformers writes 1e30 for the maximum length of a tokenizer that has none.
UNLIMITED = 1e9

# Number of tokens of a model where it follows the length of the text, unless one is asked for: at most this.
MOST_BOTTLENECK_TOKENS = 64

DEFAULT_MAX_NEW_TOKENS = 128  # of an answer


def check_room(length: int, num_prefix_tokens: int, num_bottleneck_tokens: int) -> None:
    """Refuse a maximum length that leaves no room for text beside BOS and bottleneck tokens.

    Raises:
        InputError: If not one token of text would fit, or there are no bottleneck tokens.
    """
    if num_bottleneck_tokens < 1:
        raise InputError(f"the number of bottleneck tokens must be at least 1, got {num_bottleneck_tokens}")
    needed = num_prefix_tokens + num_bottleneck_tokens + 1
    if length < needed:
        raise InputError(
            f"a maximum length of {length} leaves no room for text beside {num_bottleneck_tokens} "
            f"bottleneck token(s); the smallest that does is {needed}"
        )


def check_prompt(
    role: str,
    prompt: str,
    tokenizer: PreTrainedTokenizerBase,
    length: int,
    num_prefix_tokens: int,
    num_bottleneck_tokens: int,
) -> None:
    """Refuse a prompt that leaves no room for text.

    Args:
        role: ``query`` or ``document``.
        prompt: What stands before a text.
        tokenizer: Tokenizer of the model.
        length: Longest input in tokens.
        num_prefix_tokens: Number of tokens that the tokenizer puts before a text.
        num_bottleneck_tokens: Number of bottleneck tokens.

    Raises:
        InputError: With the flag.
    """
    tokens = len(tokenizer(prompt, add_special_tokens=False)["input_ids"])
    try:
        check_room(length, num_prefix_tokens + tokens, num_bottleneck_tokens)
    except InputError as error:
        raise InputError(f"--{role}-prompt has {tokens} tokens: {error}") from error


def check_ratio(compression_ratio: float | None) -> None:
    """Refuse a compression ratio that is no number of tokens.

    Raises:
        InputError: If it is not a number above 0.
    """
    if compression_ratio is not None and not 0 < compression_ratio < math.inf:
        raise InputError(f"the compression ratio must be a number above 0, got {compression_ratio}")


def check_nested(nested: bool, num_bottleneck_tokens: int, compression_ratio: float | None) -> None:
    """Refuse a nested bottleneck of one token, or of a number of tokens that follows the length of the text.

    Raises:
        InputError: With the flags.
    """
    if nested and num_bottleneck_tokens < 2:
        raise InputError("--nested needs bottleneck tokens to choose from: give --bottleneck-tokens, 2 or more")
    if nested and compression_ratio is not None:
        raise InputError("--nested and --compression-ratio both say how many tokens a text has; leave out one of them")


class BottleneckTransformer(InputModule):
    """A causal language model whose tokenizer ends every text with bottleneck tokens.

    The whole language model is kept, head included: stage 1 trains it as one, and the saved model generates.

    Args:
        model: Causal language model with embedding rows for the bottleneck tokens.
        tokenizer: Tokenizer that appends them.
        bottleneck_token_ids: Their ids, in order. The last one is the read-out token.
        max_seq_length: Longest input in tokens, bottleneck tokens and BOS included. Longer texts are cut, the
            bottleneck tokens stay.
        compression_ratio: Tokens of text to a bottleneck token, R of arXiv 2601.11124 (section 3.2). A text of n
            tokens, its prompt included, then ends with the last ``clamp(ceil(n / R), 1, K)`` of the K bottleneck
            tokens. Default: every text ends with all of them.
        nested: Whether any first part of the bottleneck tokens is a bottleneck too, see `lbr_st.model.nested`.
        domain_token_ids: Ids of the tokens that terms have, see `lbr_st.model.domain_tokens`; default is none.
        history: One entry per training stage, saying what the model was made from.

    Raises:
        InputError: If ``max_seq_length`` leaves no room for text or is more than the language model reads, the
            tokenizer does not append the tokens, the compression ratio is not above 0, or the bottleneck cannot be
            nested.
    """

    # The name that the native layout stores: public, and free of which file the class is in.
    __module__ = "lbr_st"

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    gathered_weights: dict[str, Tensor] | None = None  # set while it is saved, where those in memory are shards
    config_file_name = "lbr_config.json"
    config_keys = [
        "bottleneck_token_ids", "max_seq_length", "compression_ratio", "nested", "domain_token_ids", "history",
    ]  # fmt: skip

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        bottleneck_token_ids: list[int],
        max_seq_length: int,
        compression_ratio: float | None = None,
        nested: bool = False,
        domain_token_ids: list[int] | None = None,
        history: list[dict[str, Any]] | None = None,
    ) -> None:
        super().__init__()
        check_ratio(compression_ratio)
        check_nested(nested, len(bottleneck_token_ids), compression_ratio)
        self.model = model
        self.tokenizer = tokenizer
        self.compression_ratio = compression_ratio
        self.nested = bool(nested)
        self.bottleneck_token_ids = list(bottleneck_token_ids)
        self.domain_token_ids = list(domain_token_ids or [])
        # Where positions are learned (GPT-2), padding on the left would move the text to other positions.
        self.tokenizer.padding_side = "right"
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        check_pads(self.tokenizer, self.bottleneck_token_ids)
        self.history = list(history or [])
        appended = tokenizer("")["input_ids"][-self.num_bottleneck_tokens :]
        if appended != self.bottleneck_token_ids:
            raise InputError(f"the tokenizer ends a text with ids {appended}, not with {self.bottleneck_token_ids}")
        self.max_seq_length = max_seq_length

    @classmethod
    def from_backbone(
        cls,
        model_name_or_path: str,
        *,
        num_bottleneck_tokens: int | None = None,
        max_seq_length: int | None = None,
        compression_ratio: float | None = None,
        nested: bool = False,
        **model_kwargs: Any,
    ) -> BottleneckTransformer:
        """Start from a plain causal language model: a local directory, a Hub id, a GGUF file, or an adapter.

        Args:
            model_name_or_path: Directory, id of the Hub, GGUF file or directory that holds one, or a PEFT adapter,
                which is merged into its base.
            num_bottleneck_tokens: Number of bottleneck tokens to add. Default: 1; with a compression ratio, as many
                as the longest text asks for, at most `MOST_BOTTLENECK_TOKENS`.
            max_seq_length: Longest input in tokens; default is the longest that the backbone takes.
            compression_ratio: Tokens of text to a bottleneck token; default is a fixed number, see the class.
            nested: See the class.
            **model_kwargs: Arguments of ``AutoModelForCausalLM.from_pretrained``; ``revision``, ``token`` and other
                arguments of the Hub to the tokenizer and the configuration too.

        Raises:
            InputError: If the model is quantized, or reads more than text, shorter texts than those asked for, or does
                not say how long a text; if its generation configuration contradicts itself, the tokenizer cannot take
                bottleneck tokens, or a GGUF file or an adapter cannot be used.
        """
        check_ratio(compression_ratio)
        hub = {name: model_kwargs[name] for name in HUB_ARGUMENTS if name in model_kwargs}
        tokenizer, config, read_weights = read_backbone(model_name_or_path, **hub)
        if max_seq_length is None:
            longest = min(tokenizer.model_max_length, most_positions(config))
            if longest > UNLIMITED:
                raise InputError(f"{model_name_or_path} does not say how long a text it reads; give a max_seq_length")
            max_seq_length = int(longest)
        prefix = len(tokenizer("")["input_ids"])
        if num_bottleneck_tokens is None:
            # The longest text has n tokens with n + n / R = what is left beside the prefix.
            most = 1 if compression_ratio is None else math.ceil((max_seq_length - prefix) / (compression_ratio + 1))
            num_bottleneck_tokens = max(1, min(most, MOST_BOTTLENECK_TOKENS))
        # Refused before gigabytes of weights are read.
        check_nested(nested, num_bottleneck_tokens, compression_ratio)
        check_room(max_seq_length, prefix, num_bottleneck_tokens)
        check_positions(max_seq_length, config)
        model = read_weights(**model_kwargs)
        tokenizer, ids = add_bottleneck_tokens(model, tokenizer, num_bottleneck_tokens)
        # A bottleneck token is an input; as an output it would be noise.
        if model.generation_config is None:
            raise InputError(f"{type(model).__name__} does not generate, and stage 1 needs a model that does")
        try:
            model.generation_config.validate(strict=True)
        except ValueError as error:
            raise InputError(
                f"the generation_config.json of {model_name_or_path} contradicts itself and could not be saved again "
                f"({str(error).splitlines()[0]}); correct it in a copy of the model"
            ) from error
        model.generation_config.suppress_tokens = [*(model.generation_config.suppress_tokens or []), *ids]
        return cls(
            model,
            tokenizer,
            bottleneck_token_ids=ids,
            max_seq_length=max_seq_length,
            compression_ratio=compression_ratio,
            nested=nested,
        )

    @property
    def num_bottleneck_tokens(self) -> int:
        """Number of bottleneck tokens; of a model with a compression ratio, the most that a text can get."""
        return len(self.bottleneck_token_ids)

    @property
    def num_prefix_tokens(self) -> int:
        """Number of tokens the tokenizer puts before a text: 1 where the family has a BOS, else 0."""
        return len(self.tokenizer("")["input_ids"]) - self.num_bottleneck_tokens

    @property
    def max_seq_length(self) -> int:
        """Longest input in tokens, bottleneck tokens and BOS included."""
        return self.tokenizer.model_max_length

    @max_seq_length.setter
    def max_seq_length(self, value: int) -> None:
        # A tokenizer that cannot leave room for what it appends turns truncation off, and says nothing.
        check_room(value, self.num_prefix_tokens, self.num_bottleneck_tokens)
        check_positions(value, self.model.config)
        self.tokenizer.model_max_length = int(value)

    def get_embedding_dimension(self) -> int:
        """Return the width of the hidden states."""
        return self.model.config.hidden_size

    def tokenize_rows(
        self, texts: Sequence[str], max_length: int | None = None, numbers: Sequence[int] | None = None
    ) -> list[list[int]]:
        """Tokenize texts into rows ``[BOS? X Z]``, not padded. Training and encoding both read a text like this.

        Args:
            texts: Texts, prompts included.
            max_length: Longest row in tokens; default is ``max_seq_length``.
            numbers: Number of bottleneck tokens of each text, for a nested bottleneck; default is all of them. A text
                is cut where it is with all of them.

        Returns:
            A list of ids for each text. With a compression ratio, a row has the last of the bottleneck tokens only;
            with ``numbers`` the first.

        Raises:
            InputError: If a number is none of the model's.
        """
        rows = self.tokenizer(list(texts), truncation=True, max_length=max_length or self.max_seq_length)["input_ids"]
        if numbers is not None:
            self.check_numbers(numbers)
            all_but = [len(row) - self.num_bottleneck_tokens for row in rows]
            return [row[: end + k] for row, end, k in zip(rows, all_but, numbers, strict=True)]
        if self.compression_ratio is None:
            return rows
        most, prefix, ratio = self.num_bottleneck_tokens, self.num_prefix_tokens, self.compression_ratio
        ends = [len(row) - most for row in rows]
        kept = [min(max(math.ceil((end - prefix) / ratio), 1), most) for end in ends]
        return [row[:end] + row[len(row) - k :] for row, end, k in zip(rows, ends, kept, strict=True)]

    def check_numbers(self, numbers: Sequence[int]) -> None:
        """Refuse a model whose bottleneck is not nested, and numbers of tokens that it does not have.

        Raises:
            InputError: With the number.
        """
        if not self.nested:
            raise InputError("this model was not trained with --nested: it has one vector for a text")
        if wrong := [k for k in numbers if not 1 <= k <= self.num_bottleneck_tokens]:
            raise InputError(f"this model has 1 to {self.num_bottleneck_tokens} vectors for a text, not {wrong[0]}")

    def preprocess(
        self,
        inputs: Sequence[Any],
        prompt: str | None = None,
        max_length: int | None = None,
        numbers: Sequence[int] | None = None,
        **kwargs: Any,
    ) -> dict[str, Tensor | Any]:
        """Tokenize texts; every row ends with its bottleneck tokens, then padding.

        Args:
            inputs: Texts.
            prompt: Put before every text.
            max_length: Shorter limit for this call, in tokens.
            numbers: Number of bottleneck tokens of each text, see `tokenize_rows`.
            **kwargs: Ignored (sentence-transformers passes ``task``).

        Returns:
            ``input_ids`` and ``attention_mask``, both ``(batch, seq)`` int64.

        Raises:
            InputError: If ``max_length`` leaves no room for text, or is more than the language model reads; or a number
                of tokens is none of the model's.
        """
        texts = self._prepend_prompt(list(inputs), prompt) if prompt else list(inputs)
        if max_length is not None:
            check_room(max_length, self.num_prefix_tokens, self.num_bottleneck_tokens)
            check_positions(max_length, self.model.config)
        rows = self.tokenize_rows(texts, max_length, numbers)
        padded = self.tokenizer.pad({"input_ids": rows}, return_tensors="pt")
        return {"input_ids": padded["input_ids"], "attention_mask": padded["attention_mask"]}

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Run the language model without its head.

        Args:
            features: ``input_ids`` and ``attention_mask``, ``(batch, seq)``.
            **kwargs: Ignored.

        Returns:
            The features with ``token_embeddings`` ``(batch, seq, hidden)``: last hidden states after the final norm.
        """
        output = self.model.base_model(
            input_ids=features["input_ids"], attention_mask=features["attention_mask"], use_cache=False
        )
        return {**features, "token_embeddings": output.last_hidden_state}

    def generate(
        self, texts: Sequence[str], *, prompt: str | None = None, through_bottleneck: bool = False, **kwargs: Any
    ) -> list[str]:
        """Continue ``[BOS? X Z]`` with an answer Y, as stage 1 trains it (arXiv 2601.11124, section 3.2).

        Open, the answer sees the text: what ``AutoModelForCausalLM.generate`` gives of the saved directory. Through
        the bottleneck, it sees BOS, Z and itself. The first token comes from the last bottleneck token in both.

        Args:
            texts: Texts X, generated from as one batch.
            prompt: Text put before every text.
            through_bottleneck: Hide the text from the answer.
            **kwargs: Arguments of ``transformers`` generation: ``max_new_tokens`` (default: 128, or what there is room
                for), ``do_sample``, ...

        Returns:
            The answers, in the order of the texts; ``num_return_sequences`` of each, where that is given.

        Raises:
            InputError: If ``texts`` is one text, the texts leave no room for the answer, or generation through the
                bottleneck is asked for in a way that leaves no place to hide the text: without the default cache, or
                with an assistant.
        """
        if isinstance(texts, str):
            raise InputError("generate takes a list of texts; put the one text in a list")
        if not texts:
            return []
        tokenizer = self.tokenizer
        model: Any = self.model  # its generate comes from a mixin
        rows = self.tokenize_rows(self._prepend_prompt(list(texts), prompt) if prompt else texts)
        batch = tokenizer.pad({"input_ids": rows}, padding_side="left", return_tensors="pt").to(model.device)
        length = batch["input_ids"].shape[1]
        if refused := [name for name in ("max_length", "generation_config") if kwargs.get(name) is not None]:
            raise InputError(f"generate takes no {refused[0]}; say max_new_tokens, and other settings by their names")
        defaults = {"max_new_tokens": DEFAULT_MAX_NEW_TOKENS, "pad_token_id": tokenizer.pad_token_id, "use_cache": True}
        if has_end(model.config):
            room = int(most_positions(model.config)) - length
            if room < (kwargs.get("max_new_tokens") or 1):
                raise InputError(
                    f"the texts leave room for an answer of {max(room, 0)} tokens; shorten them or the answer"
                )
            defaults["max_new_tokens"] = min(DEFAULT_MAX_NEW_TOKENS, room)
        kwargs = defaults | kwargs | {"return_dict_in_generate": False}
        hiding = hidden_from_answers(model, self._is_text(**batch)) if through_bottleneck else contextlib.nullcontext()
        with evaluating(self), hiding:
            output = model.generate(**batch, **kwargs)
        return tokenizer.batch_decode(output[:, length:], skip_special_tokens=True)

    def _is_text(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return which columns of rows padded on the left are neither BOS nor bottleneck tokens: text, or padding."""
        is_bottleneck = torch.isin(input_ids, torch.tensor(self.bottleneck_token_ids, device=input_ids.device))
        starts = attention_mask.argmax(dim=1, keepdim=True)
        is_prefix = torch.arange(input_ids.shape[1], device=input_ids.device) < starts + self.num_prefix_tokens
        return ~(is_bottleneck | is_prefix)

    def save(self, output_path: str, *args: Any, **kwargs: Any) -> None:
        """Write language model, tokenizer and ``lbr_config.json``: the native layout."""
        self.model.save_pretrained(output_path, state_dict=self.gathered_weights)
        save_tokenizer(self.tokenizer, output_path)
        self.save_config(output_path)

    @classmethod
    def load(
        cls,
        model_name_or_path: str,
        subfolder: str = "",
        token: bool | str | None = None,
        cache_folder: str | None = None,
        revision: str | None = None,
        local_files_only: bool = False,
        init_defaults: dict[str, Any] | None = None,
        *,
        model_kwargs: dict[str, Any] | None = None,
        processor_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> BottleneckTransformer:
        """Load the module from a saved directory or Hub id, of the native or the portable layout.

        Args:
            model_name_or_path: Directory or Hub id.
            subfolder: Folder within it.
            token: Hub token.
            cache_folder: Hub cache.
            revision: Hub revision.
            local_files_only: Do not ask the Hub.
            init_defaults: Constructor arguments that the saved configuration may lack.
            model_kwargs: Arguments of ``AutoModelForCausalLM.from_pretrained``.
            processor_kwargs: Arguments of ``AutoTokenizer.from_pretrained``.
            **kwargs: Other arguments that sentence-transformers passes to every module; not used here.

        Raises:
            InputError: If there is no ``lbr_config.json``, it and the tokenizer disagree, or weights are missing.
        """
        hub: dict[str, Any] = {"token": token, "revision": revision, "local_files_only": local_files_only}
        config = cls.load_config(model_name_or_path, subfolder=subfolder, cache_folder=cache_folder, **hub)
        if not config:
            raise InputError(
                f"{model_name_or_path} has no {cls.config_file_name}, so it was not saved by lbr_st; "
                "start from a plain language model with lbr_st.from_backbone"
            )
        hub |= {"subfolder": subfolder, "cache_dir": cache_folder}
        model = read_language_model(model_name_or_path, **hub, **(model_kwargs or {}))
        tokenizer = read_tokenizer(model_name_or_path, **hub, **(processor_kwargs or {}))
        return cls(model, tokenizer, **{**(init_defaults or {}), **config})


def bottleneck_module(model: SentenceTransformer) -> BottleneckTransformer:
    """Return the first module of a model of this package.

    Raises:
        InputError: If the model does not start with a `BottleneckTransformer`.
    """
    module = model[0]
    if not isinstance(module, BottleneckTransformer):
        name = type(module).__name__
        raise InputError(f"not a model of lbr_st: its first module is a {name}; open it with lbr_st.load")
    return module
