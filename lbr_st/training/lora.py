"""LoRA and QLoRA: low-rank updates of the linear layers; of the embeddings, the bottleneck rows alone."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from peft.utils import load_peft_weights
from sentence_transformers import SentenceTransformer
from transformers import BitsAndBytesConfig, PreTrainedModel, TrainingArguments, set_seed

from lbr_st.errors import InputError
from lbr_st.model.bottleneck import BottleneckTransformer, bottleneck_module
from lbr_st.training.shared import open_model


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of LoRA."""
    lora = parser.add_argument_group("LoRA", "instead of training all weights; merged into them at the end")
    lora.add_argument("--lora-rank", type=int, metavar="R", help="train updates of this rank (default: no LoRA)")
    lora.add_argument("--lora-alpha", type=int, metavar="A", help="updates are scaled by A / R (default: 2 R)")
    lora.add_argument("--lora-dropout", type=float, metavar="P", help="(default: 0)")
    lora.add_argument(
        "--load-in-4bit", action="store_true", help="QLoRA: keep the frozen weights in 4 bits (needs bitsandbytes)"
    )


def check_arguments(args: argparse.Namespace, training_args: TrainingArguments) -> None:
    """Refuse flags that contradict each other.

    Raises:
        InputError: Which, and why.
    """
    if args.lora_rank is not None:
        check_settings(*settings(args))
        if training_args.fsdp or training_args.deepspeed:
            raise InputError("LoRA trains few weights and needs no FSDP or DeepSpeed; leave out one of them")
    for flag in ("lora_alpha", "lora_dropout", "load_in_4bit"):
        if getattr(args, flag) not in (None, False) and args.lora_rank is None:
            raise InputError(f"--{flag.replace('_', '-')} is for LoRA: give its rank, --lora-rank")


def settings(args: argparse.Namespace) -> tuple[int, int | None, float]:
    """Return rank, alpha and dropout."""
    return args.lora_rank, args.lora_alpha, args.lora_dropout or 0.0


def weights_dtype(args: argparse.Namespace, training_args: TrainingArguments) -> torch.dtype:
    """Return the type of the weights: those that LoRA leaves as they are may be in half precision too."""
    is_half = args.lora_rank is not None and (training_args.bf16 or args.load_in_4bit)
    return torch.bfloat16 if is_half else torch.float32


def quantization(args: argparse.Namespace) -> dict[str, Any]:
    """Return what a model is opened with for QLoRA; nothing where that is not asked for.

    Raises:
        InputError: See `four_bit`.
    """
    return {"quantization_config": four_bit()} if args.load_in_4bit else {}


def adapter_for(model: SentenceTransformer, args: argparse.Namespace, seed: int) -> PeftModel | None:
    """Add LoRA to a model if it is asked for."""
    if args.lora_rank is None:
        return None
    set_seed(seed)  # the updates start at random
    return add_lora(bottleneck_module(model), *settings(args))


def merged(
    model: SentenceTransformer, adapter: PeftModel, args: argparse.Namespace, training_args: TrainingArguments
) -> SentenceTransformer:
    """Merge what was trained into the weights; after QLoRA, into those opened once more without quantization."""
    if args.load_in_4bit:
        whole = open_model(args, dtype=weights_dtype(args, training_args))
        whole.prompts, module = model.prompts, bottleneck_module(whole)
        module.hide_bos = bottleneck_module(model).hide_bos
        of_whole = add_lora(module, *settings(args))
        copy_adapter(adapter, of_whole)
        model, adapter = whole, of_whole
    merge(adapter)
    return model


def check_settings(rank: int, alpha: int | None, dropout: float) -> int:
    """Refuse settings that LoRA cannot have, and return alpha: twice the rank where none is given.

    Raises:
        InputError: If one is out of range.
    """
    alpha = 2 * rank if alpha is None else alpha
    if rank < 1 or alpha < 1 or not 0 <= dropout < 1:
        raise InputError(
            "LoRA needs a rank and an alpha of at least 1 and a dropout from 0 to below 1; "
            f"got {rank}, {alpha} and {dropout}"
        )
    return alpha


def add_lora(module: BottleneckTransformer, rank: int, alpha: int | None = None, dropout: float = 0.0) -> PeftModel:
    """Freeze the language model and add what LoRA trains, in place.

    Low-rank updates go to every linear layer but the head. Of the embeddings only the rows of the bottleneck tokens
    are trained; they are new and have no other way to learn.

    Args:
        module: Its language model is changed in place.
        rank: Of the updates.
        alpha: Scale of an update is ``alpha / rank``; default is twice the rank.
        dropout: On the input of an update, while training.

    Returns:
        The handle to save, load and merge the updates with.

    Raises:
        InputError: If the rank, alpha or dropout is out of range.
    """
    alpha = check_settings(rank, alpha, dropout)
    model = module.model
    embeddings = model.get_input_embeddings()
    [name] = [name for name, each in model.named_modules() if each is embeddings]
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=rank,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules="all-linear",
        trainable_token_indices={name: module.bottleneck_token_ids},
    )
    return get_peft_model(model, config)


def save_adapter(peft_model: PeftModel, folder: str | Path) -> None:
    """Write the adapter alone: what a checkpoint of LoRA consists of."""
    peft_model.save_pretrained(str(folder), save_embedding_layers=False)


def load_adapter(peft_model: PeftModel, folder: str | Path) -> None:
    """Put a saved adapter's values in the place of those in memory."""
    set_peft_model_state_dict(peft_model, load_peft_weights(str(folder), device="cpu"))


def copy_adapter(trained: PeftModel, other: PeftModel) -> None:
    """Put the values of a trained adapter into that of another model."""
    set_peft_model_state_dict(other, get_peft_model_state_dict(trained, save_embedding_layers=False))


def merge(peft_model: PeftModel) -> PreTrainedModel:
    """Merge the updates into the weights, in place. The model is then as it was, with other weights."""
    model: Any = peft_model.merge_and_unload()
    model.requires_grad_(True)
    return model


def four_bit() -> BitsAndBytesConfig:
    """Return the quantization that QLoRA trains on (NF4, arXiv 2305.14314).

    Raises:
        InputError: If bitsandbytes is not installed, or cannot train here.
    """
    try:
        import bitsandbytes.nn.modules as layers
    except ImportError as error:
        raise InputError("--load-in-4bit needs bitsandbytes: pip install 'lbr-st[qlora]'") from error
    if not torch.accelerator.is_available() and layers.has_avx512bf16():
        raise InputError(
            "--load-in-4bit needs a GPU: on this CPU bitsandbytes packs its layers for inference at the first "
            "evaluation, and they do not train any more"
        )
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
