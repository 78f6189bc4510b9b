"""A nano backbone: a small causal language model trained from scratch on raw text, where no real one is at hand.

It stands in for a real LLM in the quickstart, the tests and the CPU-sized evidence. What is saved is an ordinary
``AutoModelForCausalLM`` directory: a Qwen2 with a byte-level BPE of its own.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from pathlib import Path

import torch
from datasets import Dataset
from tokenizers import processors
from transformers import (
    PreTrainedTokenizerBase,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen2Tokenizer,
    Trainer,
    TrainingArguments,
    default_data_collator,
)

from lbr_st.data.records import read_texts
from lbr_st.errors import InputError
from lbr_st.files import filling
from lbr_st.model.saving import STALE
from lbr_st.training.shared import (
    claim_output_dir,
    describe_run,
    is_finished,
    make_parser,
    parse_arguments,
    refuse_several_processes,
    train_to_the_end,
)

logger = logging.getLogger(__name__)


def train_tokenizer(texts: Sequence[str], vocab_size: int, bos: bool = False) -> PreTrainedTokenizerBase:
    """Train a byte-level BPE with the pre-tokenisation of Qwen.

    Args:
        texts: Raw texts.
        vocab_size: Most entries to make, byte alphabet and ``<|endoftext|>`` included.
        bos: Put the token ``<s>`` before every text.
    """
    tokenizer = Qwen2Tokenizer().train_new_from_iterator(texts, vocab_size=vocab_size)
    if bos:
        tokenizer.add_special_tokens({"bos_token": "<s>"})
        tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", tokenizer.bos_token_id)]
        )
    return tokenizer


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


def main(argv: Sequence[str] | None = None) -> None:
    """Run ``lbr nano``: train a nano backbone on raw text.

    Raises:
        InputError: If the arguments or the text cannot be used.
    """
    parser = make_parser("lbr nano", "Train a small causal language model from scratch on raw text.")
    parser.add_argument(
        "--text", nargs="+", required=True, metavar="PATH", help="text files, JSON Lines files, or folders of them"
    )
    parser.add_argument("--vocab-size", type=int, default=8192, metavar="N", help="BPE entries (default: %(default)s)")
    parser.add_argument(
        "--hidden-size", type=int, default=256, metavar="N", help="a multiple of 64 (default: %(default)s)"
    )
    parser.add_argument(
        "--layers", type=int, default=4, metavar="N", help="2 at least for stage 1 (default: %(default)s)"
    )
    parser.add_argument(
        "--block-length", type=int, default=256, metavar="N", help="tokens in a training row (default: %(default)s)"
    )
    parser.add_argument("--bos", action="store_true", help="put a BOS token before every text, as Llama and Gemma do")
    args, training_args = parse_arguments(
        parser,
        TrainingArguments,
        argv,
        learning_rate=1e-3,
        num_train_epochs=1,
        per_device_train_batch_size=16,
    )
    refuse_several_processes(training_args)
    if args.hidden_size < 64 or args.hidden_size % 64:
        raise InputError(f"--hidden-size must be a multiple of 64, got {args.hidden_size}")
    if min(args.layers, args.block_length) < 1:
        raise InputError(f"--layers and --block-length must be at least 1, got {args.layers} and {args.block_length}")
    texts = read_texts(args.text)
    args.text = sorted(Path(path).name for path in args.text)
    run = describe_run(args, training_args, [texts])
    if is_finished(args, run):
        return
    claim_output_dir(args, training_args, run)

    # Neighbours in a file are alike; the blocks of a batch should not be.
    random.Random(training_args.seed).shuffle(texts)
    tokenizer = train_tokenizer(texts, args.vocab_size, args.bos)
    blocks = pack(texts, tokenizer, args.block_length)
    if not len(blocks):
        raise InputError(f"the text is shorter than one block of {args.block_length} tokens (--block-length)")
    torch.manual_seed(training_args.seed)
    model = Qwen2ForCausalLM(nano_config(len(tokenizer), args.hidden_size, args.layers, tokenizer.eos_token_id))
    logger.info(
        "%.1f M parameters, %d tokens of %s", model.num_parameters() / 1e6, len(blocks) * args.block_length, args.text
    )
    trainer = Trainer(model=model, args=training_args, train_dataset=blocks, data_collator=default_data_collator)
    train_to_the_end(trainer, args.output_dir)
    output_dir = Path(args.output_dir)
    with filling(output_dir, last="config.json", stale=STALE) as folder:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    logger.info("saved %s", output_dir)
