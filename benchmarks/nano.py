"""A nano backbone: a small causal language model trained from scratch on raw text, where no real one is at hand.

It stands in for a real LLM in the first evidence, and where speed alone is measured. What is saved is an ordinary
``AutoModelForCausalLM`` directory: a Qwen2 with a byte-level BPE of its own.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from datasets import Dataset
from transformers import (
    PreTrainedTokenizerBase,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen2Tokenizer,
    Trainer,
    default_data_collator,
)

from lbr_st.data.cleaning import clean
from lbr_st.data.columns import Columns
from lbr_st.data.encodings import open_text
from lbr_st.data.front_matter import Page, split_front_matter
from lbr_st.data.records import RecordReader
from lbr_st.data.rows import read_rows
from lbr_st.errors import InputError
from lbr_st.files import data_sha256, filling
from lbr_st.model.saving import STALE
from lbr_st.records import FIELDS, MARKDOWN, is_table
from lbr_st.training.config import RunConfig
from lbr_st.training.describe import settings_of
from lbr_st.training.resume import Run, State, train_to_the_end

logger = logging.getLogger(__name__)

TEXT_SUFFIXES = {".txt", ".md", ".rst", ".py"}


def read_texts(paths: Iterable[str | Path]) -> list[str]:
    """Read raw text to train a language model on.

    Args:
        paths: Files of records (the query and document of a row become one text), text files, or folders of both.

    Raises:
        InputError: If a path does not exist, a file cannot be read, or there is no text at all.
    """
    paths = list(paths)
    texts = [text for path in map(Path, paths) for file in _files(path) for text in _texts(file)]
    texts = [text for text in texts if text.strip()]
    if not texts:
        raise InputError(f"no text in {', '.join(map(str, paths))}")
    return texts


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        found = (file for file in path.rglob("*") if is_table(file) or file.suffix in TEXT_SUFFIXES)
        return sorted(file for file in found if file.is_file())
    if not path.is_file():
        raise InputError(f"{path}: no such file or folder")
    return [path]


def _texts(file: Path) -> Iterator[str]:
    if is_table(file):
        read = RecordReader(Columns(), ("document",), ("query",), keep_html=True)
        for row in read_rows(file):
            for record in read(row):
                yield "\n".join(record[name] for name in FIELDS if name in record)
        read.say(file)
        return
    with open_text(file, newline=None) as opened:
        text = opened.read()
    try:
        text.encode()
    except UnicodeError as error:
        raise InputError(f"{file}: not UTF-8") from error
    page = split_front_matter(text) if file.suffix.lower() in MARKDOWN else Page("", text)
    yield clean(f"{page.title}\n{page.text}", keep_html=True)


def train_tokenizer(texts: Sequence[str], vocab_size: int) -> PreTrainedTokenizerBase:
    """Train a byte-level BPE with the pre-tokenisation of Qwen.

    Args:
        texts: Raw texts.
        vocab_size: Most entries to make, byte alphabet and ``<|endoftext|>`` included.
    """
    return Qwen2Tokenizer().train_new_from_iterator(texts, vocab_size=vocab_size)


def nano_config(vocab_size: int, hidden_size: int, num_layers: int, eos_token_id: int) -> Qwen2Config:
    """Return the configuration of a Qwen2 with tied embeddings, 64-wide heads and an MLP three times as wide."""
    return Qwen2Config(
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        intermediate_size=3 * hidden_size,
        num_hidden_layers=num_layers,
        num_attention_heads=hidden_size // 64,
        num_key_value_heads=hidden_size // 64,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        eos_token_id=eos_token_id,
    )


def pack(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, length: int) -> Dataset:
    """Join texts with EOS and cut the stream into blocks.

    Args:
        texts: Raw texts, in the order they are joined.
        tokenizer: Its EOS ends each text.
        length: Tokens in a block; what does not fill the last block is dropped.

    Returns:
        Columns ``input_ids`` and ``labels``, each ``length`` integers.
    """

    def tokenize(batch: dict[str, list[str]]) -> dict[str, list[list[int]]]:
        stream = [id_ for ids in tokenizer(batch["text"])["input_ids"] for id_ in [*ids, tokenizer.eos_token_id]]
        blocks = [stream[start : start + length] for start in range(0, len(stream) - length + 1, length)]
        return {"input_ids": blocks, "labels": blocks}

    dataset = Dataset.from_dict({"text": list(texts)})
    return dataset.map(tokenize, batched=True, batch_size=len(texts), remove_columns=["text"], desc="Tokenizing")


@dataclass(kw_only=True, repr=False, eq=False)
class NanoConfig(RunConfig):
    """The settings of a nano backbone.

    Attributes:
        text: Text files, JSON Lines files, or folders of them.
        vocab_size: Most entries of the BPE.
        hidden_size: Width, a multiple of 64.
        layers: Number of layers; stage 1 needs 2 at least.
        block_length: Tokens in a training row.
    """

    text: list[str]
    vocab_size: int = 8192
    hidden_size: int = 256
    layers: int = 4
    block_length: int = 256

    learning_rate: float = 1e-3
    per_device_train_batch_size: int = 16

    def check(self) -> None:
        """Refuse settings that contradict each other.

        Raises:
            InputError: With the setting, and why.
        """
        super().check()
        if self.hidden_size < 64 or self.hidden_size % 64:
            raise InputError(f"hidden_size must be a multiple of 64, got {self.hidden_size}")
        self.at_least(1, "layers", "block_length")


def train_backbone(config: NanoConfig) -> None:
    """Train a nano backbone on raw text; ``config.output_dir`` holds it afterwards.

    Raises:
        InputError: If the settings or the text cannot be used.
    """
    texts = read_texts(config.text)
    arguments = config.for_trainer()
    description = settings_of(arguments)
    description["arguments"]["text"] = sorted(Path(path).name for path in config.text)
    run = Run(config.output_dir, description | {"contents": {"data_sha256": data_sha256([texts])}})
    if run.open(config.resume) is State.FINISHED:
        return
    run.begin()

    # Neighbours in a file are alike; the blocks of a batch should not be.
    random.Random(config.seed).shuffle(texts)
    tokenizer = train_tokenizer(texts, config.vocab_size)
    blocks = pack(texts, tokenizer, config.block_length)
    if not len(blocks):
        raise InputError(f"the text is shorter than one block of {config.block_length} tokens")
    torch.manual_seed(config.seed)
    model = Qwen2ForCausalLM(nano_config(len(tokenizer), config.hidden_size, config.layers, tokenizer.eos_token_id))
    logger.info("%.1f M parameters, %d tokens", model.num_parameters() / 1e6, len(blocks) * config.block_length)
    trainer = Trainer(model=model, args=arguments, train_dataset=blocks, data_collator=default_data_collator)
    train_to_the_end(trainer, config.output_dir)
    with filling(config.output_dir, last="config.json", stale=STALE) as folder:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    logger.info("saved %s", config.output_dir)
