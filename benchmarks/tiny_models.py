"""Tiny models of every family, of random weights, and tokenizers like those of the families: for faults and tests."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    GemmaTokenizer,
    GPT2Tokenizer,
    GPTNeoXTokenizer,
    LlamaTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Qwen2Tokenizer,
    TokenizersBackend,
)

TEXTS = [
    "What causes high blood pressure?",
    "Salt, weight and age raise blood pressure; so does stress.",
    "How is anaemia treated?",
    "Anaemia is treated with iron, folic acid or vitamin B12.",
    "Sorting a list takes n log n comparisons.",
    "Ein kurzer deutscher Satz mit Umlauten: äöü ß.",
]

SHAPE: Mapping[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 256,
    "initializer_range": 0.3,  # large enough that differences between tokens show in float32
    "pad_token_id": None,
    "bos_token_id": None,
    "eos_token_id": None,
}
WINDOW = 4
MIXED: Mapping[str, Any] = {
    "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
    "sliding_window": WINDOW,
}

# Name: model type, what its configuration adds to SHAPE, its tokenizer.
FAMILIES: dict[str, tuple[str, Mapping[str, Any], str]] = {
    "qwen2": ("qwen2", {}, "qwen2"),
    "qwen2-sliding": ("qwen2", {"use_sliding_window": True, **MIXED}, "qwen2"),
    "qwen3": ("qwen3", {}, "qwen2"),
    "llama": ("llama", {}, "llama3"),
    "mistral-sliding": ("mistral", {"sliding_window": WINDOW}, "llama2"),
    "gemma3": ("gemma3_text", MIXED, "gemma"),
    "phi3": ("phi3", {"sliding_window": WINDOW}, "llama2"),
    "gpt-neox": ("gpt_neox", {}, "gpt-neox"),
    "gpt2": ("gpt2", {}, "gpt2"),
    "olmo2": ("olmo2", {}, "gpt2"),
    "smollm3": ("smollm3", {"use_sliding_window": True, **MIXED}, "qwen2"),
}


def tiny(family: str, attention: str = "sdpa", layers: int = 2, **kwargs: Any) -> PreTrainedModel:
    """Return a random causal language model of a family, 32 wide."""
    model_type, extra, _ = FAMILIES[family]
    settings: dict[str, Any] = {"vocab_size": 50, **SHAPE, **extra, "num_hidden_layers": layers, **kwargs}
    if "layer_types" in settings:
        settings["layer_types"] = settings["layer_types"][:layers]
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(
        AutoConfig.for_model(model_type, **settings), attn_implementation=attention
    ).eval()


def make_tokenizer(kind: str) -> PreTrainedTokenizerBase:
    """Return a tokenizer trained on TEXTS, built as the family's own is."""
    byte_level = {"qwen2": Qwen2Tokenizer, "gpt2": GPT2Tokenizer, "gpt-neox": GPTNeoXTokenizer}
    if kind in byte_level:
        return byte_level[kind]().train_new_from_iterator(TEXTS * 20, vocab_size=320)
    if kind == "llama3":  # byte-level with BOS
        backend = Qwen2Tokenizer().train_new_from_iterator(TEXTS * 20, vocab_size=320).backend_tokenizer
        backend.add_special_tokens(["<s>"])
        template = processors.TemplateProcessing(
            single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", backend.token_to_id("<s>"))]
        )
        backend.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), template])
        return TokenizersBackend(tokenizer_object=backend, eos_token="<|endoftext|>", bos_token="<s>")
    specials = {
        "llama2": ["<unk>", "<s>", "</s>"],
        "gemma": ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"],
    }[kind]
    trained = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    trained.normalizer = normalizers.Replace(" ", "▁")
    trained.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=520, special_tokens=specials + bytes_, show_progress=False)
    trained.train_from_iterator(TEXTS * 20, trainer)
    model = json.loads(trained.to_str())["model"]
    class_ = {"llama2": LlamaTokenizer, "gemma": GemmaTokenizer}[kind]
    return class_(vocab=model["vocab"], merges=[tuple(merge) for merge in model["merges"]], add_bos_token=True)


def make_backbone(folder: str | Path, family: str = "qwen2", tied: bool = True, layers: int = 2, **kwargs: Any) -> str:
    """Save a tiny random causal language model with its tokenizer, as AutoModel users have it."""
    tokenizer = make_tokenizer(FAMILIES[family][2])
    ids = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    model = tiny(family, layers=layers, vocab_size=len(tokenizer), tie_word_embeddings=tied, **ids, **kwargs)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)
