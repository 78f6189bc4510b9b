"""LoRA and QLoRA: low-rank updates of the linear layers; of the embeddings, the rows of new tokens alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from peft.utils import load_peft_weights
from sentence_transformers import SentenceTransformer
from transformers import BitsAndBytesConfig, PreTrainedModel, set_seed

from lbr_st.errors import InputError, require
from lbr_st.model.bottleneck import BottleneckTransformer, bottleneck_module
from lbr_st.model.domain_tokens import add_domain_tokens, terms_of
from lbr_st.model.opening import open_model
from lbr_st.training.config import StageConfig


def weights_dtype(config: StageConfig) -> torch.dtype:
    """Return the dtype of the weights: those that LoRA leaves unchanged may be in half precision too."""
    is_half = config.lora_rank is not None and (config.bf16 or config.load_in_4bit)
    return torch.bfloat16 if is_half else torch.float32


def open_for_training(config: StageConfig, **model_kwargs: Any) -> SentenceTransformer:
    """Open the model of a configuration, or start from its backbone, with weights of `weights_dtype`.

    Args:
        config: Settings of the stage.
        **model_kwargs: Arguments of ``AutoModelForCausalLM.from_pretrained``.

    Raises:
        InputError: If it is no model, or has other bottleneck tokens than those asked for.
    """
    return open_model(
        config.model,
        num_bottleneck_tokens=config.bottleneck_tokens,
        compression_ratio=config.compression_ratio,
        nested=config.nested,
        max_seq_length=config.max_length,
        texts_in_a_row=config.texts_in_a_row,
        layers=config.layers,
        dtype=weights_dtype(config),
        **model_kwargs,
    )


def quantization(config: StageConfig) -> dict[str, Any]:
    """Return the arguments a model is opened with for QLoRA; none where that is not asked for.

    Raises:
        InputError: See `four_bit`.
    """
    return {"quantization_config": four_bit()} if config.load_in_4bit else {}


def adapter_for(model: SentenceTransformer, config: StageConfig) -> PeftModel | None:
    """Add LoRA to a model, if it is asked for."""
    if config.lora_rank is None:
        return None
    set_seed(config.seed)  # the updates start at random
    return add_lora(bottleneck_module(model), config)


def merged(model: SentenceTransformer, adapter: PeftModel, config: StageConfig) -> SentenceTransformer:
    """Merge what was trained into the weights; after QLoRA, into those opened once more without quantization."""
    if config.load_in_4bit:
        whole = open_for_training(config)
        whole.prompts = model.prompts
        _give_terms(bottleneck_module(model), bottleneck_module(whole))
        of_whole = add_lora(bottleneck_module(whole), config)
        copy_adapter(adapter, of_whole)
        model, adapter = whole, of_whole
    merge(adapter)
    return model


def _give_terms(trained: BottleneckTransformer, whole: BottleneckTransformer) -> None:
    """Give a backbone that was opened once more the domain tokens of the run, whose rows the adapter has."""
    if trained.domain_token_ids and not whole.domain_token_ids:
        add_domain_tokens(whole, terms_of(trained.tokenizer, trained.domain_token_ids))


def add_lora(module: BottleneckTransformer, config: StageConfig) -> PeftModel:
    """Freeze the language model and add what LoRA trains, in place.

    Low-rank updates go to every linear layer but the head. Of the embeddings only the rows of the bottleneck tokens
    and domain tokens are trained, and of an untied head those of the domain tokens, where a target is predicted: they
    are new and have no other way to learn.

    Args:
        module: Module whose language model is changed in place.
        config: Settings of the stage: rank, alpha (an update is scaled by ``alpha / rank``) and dropout.

    Returns:
        The handle to save, load and merge the updates with.
    """
    assert config.lora_rank is not None
    model = module.model
    embeddings: list[Any] = [model.get_input_embeddings(), model.get_output_embeddings()]
    answers = module.domain_token_ids if config.texts_in_a_row > 1 else []  # else nothing is asked of the head
    new = [[*module.bottleneck_token_ids, *module.domain_token_ids], answers]
    if embeddings[0].weight is embeddings[1].weight or not answers:
        embeddings = embeddings[:1]  # a tied head follows
    names = {id(each): name for name, each in model.named_modules()}
    return get_peft_model(
        model,
        LoraConfig(
            task_type="CAUSAL_LM",
            r=config.lora_rank,
            lora_alpha=2 * config.lora_rank if config.lora_alpha is None else config.lora_alpha,
            lora_dropout=config.lora_dropout or 0.0,
            target_modules="all-linear",
            trainable_token_indices={names[id(each)]: ids for each, ids in zip(embeddings, new, strict=False)},
        ),
    )


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
    layers = require("bitsandbytes.nn.modules", "--load-in-4bit")
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
