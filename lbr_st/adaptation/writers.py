"""Language models on this machine that write queries: by their chat template, or as stage 1 taught them.

A model of this package ends every text with its bottleneck tokens. A prompt has none of them: what follows it would be
read out of the text's embedding, and not out of the prompt. The direction doc2query of stage 1 is the exception, as it
was trained so.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList, PretrainedConfig

from lbr_st.adaptation.answers import Key
from lbr_st.adaptation.kinds import BEGINNINGS, WRITTEN, prompt_of
from lbr_st.adaptation.passages import Passage
from lbr_st.adaptation.query_text import Answer
from lbr_st.data.passages import Chunker
from lbr_st.data.table import content_hash
from lbr_st.errors import InputError, one_line
from lbr_st.learning.objectives import Arm, parse_objective
from lbr_st.model.backbone import read_backbone
from lbr_st.model.bottleneck import bottleneck_module
from lbr_st.model.contract import fingerprint
from lbr_st.model.named import is_other_embedding_model
from lbr_st.model.opening import open_model
from lbr_st.model.positions import most_positions
from lbr_st.model.precision import evaluating
from lbr_st.model.quiet import quietly
from lbr_st.use.passages import chunker_of

logger = logging.getLogger(__name__)

MOST_NEW_TOKENS = 64  # of an answer: what is longer is no query
LEAST_ROOM = 32  # tokens for the passage beside what the model is told


class Request(NamedTuple):
    """A query to be written.

    Attributes:
        passage: What it is to find.
        kind: One of `lbr_st.adaptation.kinds.WRITTEN`.
        number: Number of the query among those of its kind, from 1.
    """

    passage: Passage
    kind: str
    number: int

    @property
    def key(self) -> Key:
        """What the answer is kept by."""
        return self.passage.id, self.kind, self.number


class Writer(Protocol):
    """What writes queries.

    Attributes:
        kinds: Those that it can write.
        about: What it is, of all settings that decide what it writes.
        batches_are_whole: Whether a batch is written as a whole, also where a part of it is there already: on this
            machine the last digits of a row depend on the rows beside it.
    """

    kinds: Sequence[str]
    about: Mapping[str, Any]
    batches_are_whole: bool

    def write(self, requests: Sequence[Request]) -> Iterator[tuple[Request, Answer]]:
        """Yield the answers of a batch, in any order."""
        ...

    def make_chunker(self) -> Chunker:
        """Return what cuts text into passages that it reads to their end."""
        ...


@dataclass(frozen=True)
class Decoding:
    """How answers are chosen.

    Attributes:
        temperature: 0 for the likeliest token each time; else what the scores are divided by before one is drawn.
        seed: Seed of what is drawn.
    """

    temperature: float = 0.0
    seed: int = 0

    def seed_of(self, request: Request) -> int:
        """Return the seed of one query: it depends on no other query."""
        return content_hash(str(self.seed), request.passage.document, request.kind, str(request.number))


class SeededNoise(LogitsProcessor):
    """Makes the largest score of each row a sample of its own generator: Gumbel's noise is added to the scores.

    transformers samples all rows by one generator, so that a row would depend on the rows before it.

    Args:
        seeds: Seed of each row.
        temperature: What the scores are divided by, above 0.
    """

    def __init__(self, seeds: Sequence[int], temperature: float) -> None:
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self.temperature = temperature

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Return the scores ``(batch, vocabulary)`` with noise."""
        rows = [torch.empty(scores.shape[1]).exponential_(generator=each) for each in self.generators]
        return scores / self.temperature - torch.stack(rows).log().to(scores.device)


class LocalWriter:
    """A language model on this machine; its subclasses say what it reads.

    Args:
        model: The model, with its `BottleneckTransformer`.
        about: See `Writer`.
        decoding: How answers are chosen.

    Raises:
        InputError: If the model reads too few tokens for a passage beside what it is told.
    """

    kinds: Sequence[str] = WRITTEN
    batches_are_whole = True

    def __init__(self, model: SentenceTransformer, about: Mapping[str, Any], decoding: Decoding) -> None:
        self.model, self.about, self.decoding = model, about, decoding
        self.module = bottleneck_module(model)
        self.tokenizer: Any = self.module.tokenizer
        self._said = False
        self.room = room_beside(
            [self.prompt(kind, "") for kind in self.kinds], about["model"], self.module.model.config, self.tokenizer
        )

    def make_chunker(self) -> Chunker:
        """Return what cuts text into passages that fit both into an embedding and into a prompt."""
        chunker = chunker_of(self.model)
        return Chunker(int(min(chunker.tokens, self.room)), chunker.count)

    def prompt(self, kind: str, passage: str) -> str:
        """Return what the model goes on with."""
        raise NotImplementedError

    def ids_of(self, text: str) -> list[int]:
        """Return the tokens of a prompt: no bottleneck tokens are among them."""
        return ids_of(text, self.tokenizer)

    def write(self, requests: Sequence[Request]) -> Iterator[tuple[Request, Answer]]:
        """Yield the answers to a batch."""
        rows = [self.ids_of(self.prompt(each.kind, self._within_room(each.passage.titled))) for each in requests]
        model: Any = self.module.model  # its generate comes from a mixin
        batch = self.tokenizer.pad({"input_ids": rows}, padding_side="left", return_tensors="pt").to(model.device)
        length = batch["input_ids"].shape[1]
        with evaluating(self.module), torch.inference_mode(), quietly():
            output = model.generate(
                **batch,
                **self.choosing(requests),
                eos_token_id=sorted(self._ends) or None,
                pad_token_id=self.tokenizer.pad_token_id,
            )
        for request, ids in zip(requests, output[:, length:].tolist(), strict=True):
            yield request, self._answer(ids)

    def choosing(self, requests: Sequence[Request]) -> dict[str, Any]:
        """Return arguments of generation; whatever the model's own configuration says is left out."""
        noise = []
        if self.decoding.temperature:
            noise = [SeededNoise([self.decoding.seed_of(each) for each in requests], self.decoding.temperature)]
        return {
            "max_new_tokens": MOST_NEW_TOKENS,
            "do_sample": False,
            "num_beams": 1,
            "repetition_penalty": 1.0,
            "use_cache": True,
            "logits_processor": LogitsProcessorList(noise),
        }

    def _within_room(self, passage: str) -> str:
        """Return the beginning of a passage that there is room for."""
        if self.room == math.inf:
            return passage
        found = self.tokenizer(passage, add_special_tokens=False, verbose=False, return_offsets_mapping=True)
        offsets = found["offset_mapping"]
        if len(offsets) <= self.room:
            return passage
        if not self._said:
            logger.warning("passages of more than %d tokens are asked about by their beginning", self.room)
            self._said = True
        return passage[: offsets[int(self.room)][0]]

    @property
    def _ends(self) -> set[int]:
        """Ids of the tokens that end an answer: a chat model has several."""
        of_model = self.module.model.generation_config.eos_token_id
        named = of_model if isinstance(of_model, list) else [of_model]
        return {each for each in (*named, self.tokenizer.eos_token_id) if each is not None}

    def _answer(self, ids: list[int]) -> Answer:
        ended = next((place for place, id_ in enumerate(ids) if id_ in self._ends), None)
        return Answer(self.tokenizer.decode(ids[:ended], skip_special_tokens=True), ended is not None)


class ChatWriter(LocalWriter):
    """A model that is asked through its chat template."""

    def prompt(self, kind: str, passage: str) -> str:
        """Return a conversation in which the user asks, up to where the model goes on with its answer.

        Raises:
            InputError: If the chat template of the model makes none: with what it says.
        """
        return conversation(kind, passage, self.about["model"], self.tokenizer)


def ids_of(text: str, tokenizer: Any) -> list[int]:
    """Return the tokens of a prompt, without those that a tokenizer adds."""
    ids: list[int] = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    return ids


def conversation(kind: str, passage: str, name: str, tokenizer: Any) -> str:
    """Return a conversation in which a user asks for a query, up to where the model goes on with its answer.

    Args:
        kind: Kind of the query, one of `WRITTEN`.
        passage: What it is to find.
        name: Name of the model, for messages.
        tokenizer: The tokenizer, with the chat template.

    Raises:
        InputError: If the chat template makes none: with what it says.
    """
    asked = prompt_of(kind, passage)
    try:
        prompt: str = tokenizer.apply_chat_template(
            [{"role": "user", "content": asked}], tokenize=False, add_generation_prompt=True, enable_thinking=False
        )
    except Exception as error:  # a template is a program of its own
        raise InputError(f"{name}: its chat template cannot be used: {one_line(error)}") from error
    if asked.strip() not in prompt:
        raise InputError(f"{name}: its chat template leaves out what the user says")
    return prompt + BEGINNINGS.get(kind, "")


def room_beside(prompts: Sequence[str], name: str, config: PretrainedConfig, tokenizer: Any) -> float:
    """Return how many tokens of a passage there is room for.

    Args:
        prompts: What the model is told, without a passage.
        name: Name of the model, for messages.
        config: Configuration of the model.
        tokenizer: The tokenizer.

    Raises:
        InputError: If those are too few.
    """
    most = most_positions(config)
    room = most - MOST_NEW_TOKENS - max(len(ids_of(prompt, tokenizer)) for prompt in prompts)
    if room < LEAST_ROOM:
        raise InputError(
            f"--model {name} reads {most:.0f} tokens, which leaves no room for a passage beside what it is told; take "
            "another one, or --generator"
        )
    return room


def check_chat(name: str) -> None:
    """Refuse a language model that cannot be asked by its chat template; no weights are read.

    Args:
        name: Directory, Hub id, GGUF file, adapter, or a model of this package.

    Raises:
        InputError: If the template cannot be used, or leaves no room for a passage.
    """
    tokenizer, config, _ = read_backbone(name)
    room_beside([conversation(kind, "", name, tokenizer) for kind in WRITTEN], name, config, tokenizer)


class Doc2QueryWriter(LocalWriter):
    """A model that stage 1 taught to write the query of a document, out of its bottleneck tokens."""

    kinds: Sequence[str] = ("question",)

    def prompt(self, kind: str, passage: str) -> str:
        """Return the passage alone, as in training."""
        return (self.model.prompts["document"] or "") + passage

    def write(self, requests: Sequence[Request]) -> Iterator[tuple[Request, Answer]]:
        """Yield the answers to a batch, the text hidden from them as it was in training."""
        with quietly():
            texts = self.module.generate(
                [self.prompt(each.kind, each.passage.document) for each in requests],
                through_bottleneck=_doc2query_arm(self.module.history) is Arm.CUT_OFF,
                **self.choosing(requests),
            )
        for request, text in zip(requests, texts, strict=True):
            yield request, Answer(text, len(self.ids_of(text)) < MOST_NEW_TOKENS)


def _doc2query_arm(history: Sequence[Mapping[str, Any]]) -> Arm | None:
    """Return the arm in which stage 1 taught a model doc2query; None where it did not, or without bottleneck tokens."""
    for step in reversed(history):
        if step.get("stage") == "learn" and "doc2query" in parse_objective(step.get("objective", "sft")):
            arm = Arm(step.get("arm", Arm.CUT_OFF))
            return arm if arm.has_bottleneck else None
    return None


def open_writer(name: str, dtype: str, decoding: Decoding) -> LocalWriter:
    """Open a language model that writes queries, in the way that it can.

    That is its chat template; where it has none, doc2query, if stage 1 taught it so. Going on with a few examples was
    tried too: SmolLM2-135M repeats the examples.

    Args:
        name: Directory, Hub id, GGUF file, adapter, or a model of this package.
        dtype: Type of the numbers that it computes in.
        decoding: How answers are chosen.

    Raises:
        InputError: If it is no language model, can do neither, or reads too few tokens.
    """
    if is_other_embedding_model(name):
        raise InputError(f"--model {name} is an embedding model and writes nothing; name a language model")
    model = open_model(name, dtype=getattr(torch, dtype)).eval()
    module = bottleneck_module(model)
    about = {"model": name, "model_sha256": fingerprint(name) if Path(name).exists() else None, "dtype": dtype}
    if getattr(module.tokenizer, "chat_template", None):
        return ChatWriter(model, about, decoding)
    if _doc2query_arm(module.history) is not None:
        return Doc2QueryWriter(model, about, decoding)
    raise InputError(
        f"--model {name} has no chat template, and stage 1 did not teach it doc2query: name an instruction-tuned "
        "model, give --generator, or lbr learn --objective doc2query first"
    )
