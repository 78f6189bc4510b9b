"""Tiny GGUF files, written as llama.cpp's converter writes them."""

import json
from pathlib import Path

import gguf
import numpy as np
import torch
from tiny_models import FAMILIES, make_tokenizer, tiny
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

import lbr_st

LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 10_000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}  # fmt: skip

# Shapes that are exported: their family, and what its configuration says beside that of the tiny one.
SHAPES = {
    "llama": ("llama", {}),
    "llama3": ("llama", {"rope_parameters": LLAMA3, "attention_bias": True, "mlp_bias": True}),
    "qwen2": ("qwen2", {}),
    "qwen2-linear": ("qwen2", {"rope_parameters": {"rope_type": "linear", "rope_theta": 10_000.0, "factor": 4.0}}),
    "qwen3": ("qwen3", {}),
    "mistral": ("mistral-sliding", {"sliding_window": 64}),
    "gemma3": (
        "gemma3",
        {
            "layers": 6,
            "initializer_range": 1.0,
            "query_pre_attn_scalar": 8,
            "layer_types": ["sliding_attention"] * 5 + ["full_attention"],
        },
    ),
}


def save_shape(folder: Path, shape: str, tokenizer: PreTrainedTokenizerBase | None = None, **kwargs) -> Path:
    """Save a tiny model of a shape that is exported, with one bottleneck token; return its directory.

    Its norms and biases are all different: as they begin, one could stand for another.

    Args:
        folder: Where to.
        shape: One of `SHAPES`.
        tokenizer: Default is one like that of its family.
        **kwargs: More for the configuration.
    """
    family, settings = SHAPES[shape]
    tokenizer = tokenizer or make_tokenizer(FAMILIES[family][2])
    settings = {"initializer_range": 0.04, "vocab_size": len(tokenizer), **settings, **kwargs}
    model = tiny(family, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, **settings)
    generator = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1:
            parameter.data += 0.2 * torch.randn(parameter.shape, generator=generator)
            if "post_" in name and "gemma" in family:  # a layer adds little, as after training: rounding stays small
                parameter.data -= 0.8
    model.save_pretrained(folder / "backbone")
    tokenizer.save_pretrained(folder / "backbone")
    made = lbr_st.from_backbone(str(folder / "backbone"), num_bottleneck_tokens=1, max_seq_length=64)
    made.prompts["query"] = "question: "
    lbr_st.save(made, folder / "model")
    return folder / "model"


# Name in a GGUF file: name in transformers, of one layer.
OF_LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def interleaved(weight: np.ndarray, heads: int) -> np.ndarray:
    """Reorder the rows of a query or key projection as llama.cpp wants them for Llama: halves of a head in turn."""
    return weight.reshape(heads, 2, -1, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape)


def write_gguf(folder: str, path: Path, splits_as: str, leave_out: str = "", architecture: str = "", **fields) -> Path:
    """Write a saved Llama or Qwen2 with a byte-level BPE as a GGUF file, in float32.

    Args:
        folder: Directory of the model.
        path: File to write.
        splits_as: llama.cpp's name of how texts are split.
        leave_out: Name of a tensor that is not written.
        architecture: Name of a family that the file claims to be of; default is the model's own.
        **fields: Whole numbers to add, by name.
    """
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    config = model.config
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    writer = gguf.GGUFWriter(path, architecture or config.model_type)
    writer.add_name("tiny")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_dimension_count(8)
    writer.add_key_length(8)
    writer.add_value_length(8)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    for name, value in fields.items():
        writer.add_uint32(name.replace("__", "."), value)
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    special = set(tokenizer.all_special_ids)
    merges = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(splits_as)
    writer.add_token_list([token for token, _ in vocabulary])
    writer.add_token_types([3 if id_ in special else 1 for _, id_ in vocabulary])
    writer.add_token_merges([" ".join(pair) for pair in merges])
    writer.add_bos_token_id(tokenizer.eos_token_id)  # transformers 5.16 wants one
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_pad_token_id(tokenizer.eos_token_id)
    writer.add_add_bos_token(False)
    writer.add_chat_template("{% for message in messages %}{{ message['content'] }}{% endfor %}")
    tensors = {"token_embd": "model.embed_tokens", "output_norm": "model.norm"}
    for layer in range(config.num_hidden_layers):
        tensors |= {f"blk.{layer}.{ours}": f"model.layers.{layer}.{theirs}" for ours, theirs in OF_LAYER.items()}
    state = model.state_dict()
    for ours, theirs in tensors.items():
        for kind in ("weight", "bias"):
            if f"{theirs}.{kind}" not in state or f"{ours}.{kind}" == leave_out:
                continue
            values = state[f"{theirs}.{kind}"].numpy()
            part = ours.rpartition(".")[2]
            if config.model_type == "llama" and part in heads:
                values = interleaved(values, heads[part])
            writer.add_tensor(f"{ours}.{kind}", np.ascontiguousarray(values))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
