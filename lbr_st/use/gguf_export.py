"""A model as one GGUF file for llama.cpp and Ollama, which append its bottleneck token as the end of every text."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer

from lbr_st.errors import InputError
from lbr_st.model.contract import LBR_CONFIG, SavedFiles
from lbr_st.use.gguf_run import FULL_EVERY, LOCAL_BASE
from lbr_st.use.gguf_vocabulary import choose

# Family in transformers: architecture in llama.cpp, which computes Mistral as Llama.
ARCHITECTURES = {
    "llama": "llama",
    "mistral": "llama",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "gemma3_text": "gemma3",
}
ACTIVATIONS = {"gemma3": "gelu_pytorch_tanh"}
WITH_BIASES = {"llama", "qwen2"}

# Of a q8_0 file in half precision: rows that are no whole blocks, and attention, as llama.cpp rounds what goes into a
# q8_0 matrix too. Of SmolLM2-135M a long text had a vector of cosine 0.9986 with attention in q8_0, and has 0.9996.
BLOCK, STAYS = 32, "attn_"


def require_shape(model: Path) -> None:
    """Refuse a model that llama.cpp would compute otherwise, before its weights are read.

    Raises:
        InputError: With what it has that a GGUF file cannot say.
    """
    if not (model / LBR_CONFIG).is_file():
        raise InputError(f"--to gguf: {model} has no {LBR_CONFIG}: it is no model of lbr-st, with a bottleneck token")
    files = SavedFiles(model)
    if len(files.ids) != 1:
        raise InputError(
            f"--to gguf: the model has {len(files.ids)} bottleneck tokens, and llama.cpp appends one at most; "
            "--to onnx takes any number"
        )
    if files.domain_ids:
        raise InputError(
            "--to gguf: the model has domain tokens, and llama.cpp would match them inside other words too; --to onnx "
            "takes them"
        )
    for reason in _reasons(files.config, files.max_seq_length):
        raise InputError(f"--to gguf: {reason}; --to onnx takes it")


def _reasons(config: Any, length: int) -> Iterator[str]:
    """Give what llama.cpp does not compute as transformers does."""
    architecture = ARCHITECTURES.get(config.model_type)
    if architecture is None:
        yield f"the shape of the model, {config.model_type}, is none of {', '.join(ARCHITECTURES)}"
        return
    activation = getattr(config, "hidden_activation", None) or config.hidden_act
    if activation != ACTIVATIONS.get(architecture, "silu"):
        yield f"llama.cpp has no {activation} in a {architecture}"
    if architecture not in WITH_BIASES and getattr(config, "attention_bias", False):
        yield f"llama.cpp has no biases in a {architecture}"
    if architecture == "gemma3":
        yield from _reasons_of_gemma(config)
        return
    layers = getattr(config, "layer_types", None) or ["sliding_attention"]
    window = getattr(config, "sliding_window", None)
    if window is not None and "sliding_attention" in layers and window < length:
        yield f"its layers see {window} tokens and texts have up to {length}: llama.cpp lets a {architecture} see all"
    positions = config.rope_parameters
    known = {"default", "linear", "llama3"} if architecture == "llama" else {"default", "linear"}
    if positions["rope_type"] not in known:
        yield f"its positions are scaled in a way not written here for a {architecture}, {positions['rope_type']}"


def _reasons_of_gemma(config: Any) -> Iterator[str]:
    types = {True: "full_attention", False: "sliding_attention"}
    if config.layer_types != [types[(i + 1) % FULL_EVERY == 0] for i in range(config.num_hidden_layers)]:
        yield f"llama.cpp lets every {FULL_EVERY}th layer of a gemma3 see the whole text, and this model others"
    if config.query_pre_attn_scalar != config.head_dim or config.num_hidden_layers == 62:  # the 27B
        yield "llama.cpp scales the attention of a gemma3 by the width of a head, and this model does not"
    if getattr(config, "use_bidirectional_attention", False):
        yield "it reads texts in both directions"
    local, whole = (config.rope_parameters[kind] for kind in ("sliding_attention", "full_attention"))
    if local["rope_type"] != "default" or local["rope_theta"] != LOCAL_BASE:
        yield f"llama.cpp takes positions of base {LOCAL_BASE:g} for the layers of a gemma3 that see a part"
    if whole["rope_type"] not in ("default", "linear"):
        yield f"its positions are scaled in a way not written here for a gemma3, {whole['rope_type']}"


def write_gguf(model: SentenceTransformer, file: Path, weights_as: str) -> None:
    """Write a model as a GGUF file.

    Args:
        model: The model, in float32, of a shape that `require_shape` takes.
        file: File to write.
        weights_as: ``f16`` or ``q8_0``, which `STAYS` is not; norms and biases are in float32.

    Raises:
        InputError: If llama.cpp would cut texts into other tokens than its tokenizer does.
    """
    import gguf

    transformer: Any = model[0]
    language_model = transformer.model
    config = language_model.config
    architecture = ARCHITECTURES[config.model_type]
    tensors = dict(_tensors(language_model, architecture))
    vocabulary = choose(tokenizer_of(model), len(tensors["token_embd.weight"]))
    writer: Any = gguf.GGUFWriter(file, architecture)
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_description(_description(model))
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_file_type(gguf.LlamaFileType[f"MOSTLY_{weights_as.upper()}"])
    writer.add_context_length(_context(model))
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(_head_width(config))
    writer.add_value_length(_head_width(config))
    writer.add_rope_dimension_count(_head_width(config))
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(len(vocabulary.tokens))
    writer.add_pooling_type(gguf.PoolingType.LAST)
    positions = config.rope_parameters
    if architecture == "gemma3":
        writer.add_sliding_window(config.sliding_window)
        positions = positions["full_attention"]
    writer.add_rope_freq_base(positions["rope_theta"])
    if positions["rope_type"] == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(positions["factor"])
    vocabulary.write(writer)
    kinds = gguf.GGMLQuantizationType
    for name, values in tensors.items():
        kind = kinds.F32 if values.ndim == 1 else kinds[weights_as.upper()]
        if kind == kinds.Q8_0 and (STAYS in name or values.shape[1] % BLOCK):
            kind = kinds.F16
        writer.add_tensor(name, gguf.quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def tokenizer_of(model: SentenceTransformer) -> Tokenizer:
    """Return a copy of the tokenizer of a model, which neither cuts nor pads."""
    tokenizer = Tokenizer.from_str(model.tokenizer.backend_tokenizer.to_str())
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def write_modelfile(model: SentenceTransformer, file: Path) -> None:
    """Write the ``Modelfile`` by which Ollama takes a GGUF file that lies beside it."""
    lines = [f"# {_description(model)}", f"FROM ./{file.name}", f"PARAMETER num_ctx {_context(model)}"]
    (file.parent / "Modelfile").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _context(model: SentenceTransformer) -> int:
    """Return what the texts of the model are shorter than: a longer one is an error in llama.cpp, and not a vector."""
    return model.get_max_seq_length() + 1  # type: ignore[operator]


def _description(model: SentenceTransformer) -> str:
    """Say how the vectors are made, in one line, with the prompts: nothing but a reader puts them before a text."""
    prompts = [f"before a {name} goes {json.dumps(p, ensure_ascii=False)}" for name, p in model.prompts.items() if p]
    return "; ".join(["Embeddings of texts: the state of the last token, normalised", *prompts])


def _head_width(config: Any) -> int:
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


def _tensors(language_model: Any, architecture: str) -> Iterator[tuple[str, np.ndarray]]:
    """Give the tensors of a model, by llama.cpp's names and in its order of rows."""
    import gguf

    config = language_model.config
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH[architecture.upper()], config.num_hidden_layers)
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    for name, tensor in language_model.state_dict().items():
        ours = names.get_name(f"model.{name}", try_suffixes=(".weight", ".bias"))
        if ours is None:
            raise InputError(f"--to gguf: llama.cpp has no tensor for {name} in a {architecture}")
        values = tensor.float().numpy()
        projection = name.split(".")[-2]
        if architecture == "llama" and projection in heads:
            values = _in_pairs(values, heads[projection])
        if architecture == "gemma3" and projection.endswith("norm"):
            values = values + 1  # which transformers adds when it computes
        yield ours, values
    if architecture == "llama" and config.rope_parameters["rope_type"] == "llama3":
        width = _head_width(config)
        plain = config.rope_parameters["rope_theta"] ** (-torch.arange(0, width, 2).float() / width)
        yield "rope_freqs.weight", (plain / language_model.rotary_emb.inv_freq).numpy()


def _in_pairs(rows: np.ndarray, heads: int) -> np.ndarray:
    """Return the rows of a query or key projection with the halves of each head in turn: llama.cpp rotates pairs."""
    halves = rows.reshape(heads, 2, -1, *rows.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(rows.shape))
