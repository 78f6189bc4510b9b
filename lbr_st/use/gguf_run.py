"""A GGUF file computed as llama.cpp computes it, from what the file itself says: an export is compared through this.

llama.cpp is no package of Python, so it is not what an export runs in; ``make test-integrations`` holds this module and
llama.cpp against each other.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from lbr_st.use.gguf_vocabulary import Vocabulary

# Gemma 3 in llama.cpp: every so many layers one sees the whole text, and the others have positions of this base.
FULL_EVERY, LOCAL_BASE = 6, 10_000.0


def _read(file: Path) -> tuple[Any, dict[str, Any]]:
    """Return what reads a GGUF file, and its fields."""
    from gguf import GGUFReader

    reader: Any = GGUFReader(file)
    return reader, {name: field.contents() for name, field in reader.fields.items()}


def read_vocabulary(file: Path) -> Vocabulary:
    """Read the vocabulary of a GGUF file."""
    return Vocabulary.read(_read(file)[1])


class GGUFModel:
    """The language model of a GGUF file of an architecture that is written here.

    Args:
        file: The file.
    """

    def __init__(self, file: Path) -> None:
        from gguf import dequantize

        reader, self.fields = _read(file)
        self.architecture = self.fields["general.architecture"]
        self.in_int8 = {each.name for each in reader.tensors if each.tensor_type.name == "Q8_0"}
        self.weights = {
            each.name: torch.from_numpy(np.array(dequantize(each.data, each.tensor_type))).float()
            for each in reader.tensors
        }

    def says(self, name: str, otherwise: Any = None) -> Any:
        """Return a field of its architecture."""
        return self.fields.get(f"{self.architecture}.{name}", otherwise)

    def hidden(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Return the last hidden states ``(batch, sequence, hidden)`` of ``(batch, sequence)`` ids and their mask."""
        is_gemma = self.architecture == "gemma3"
        states = self.weights["token_embd.weight"][ids]
        if is_gemma:
            states = states * self.says("embedding_length") ** 0.5
        activate = partial(functional.gelu, approximate="tanh") if is_gemma else functional.silu
        for layer in range(self.says("block_count")):
            prefix = f"blk.{layer}."
            attended = self._attention(prefix, layer, self._norm(states, f"{prefix}attn_norm"), mask)
            states = states + self._norm(attended, f"{prefix}post_attention_norm")
            normed = self._norm(states, f"{prefix}ffn_norm")
            gate, up = (self._linear(normed, f"{prefix}ffn_{name}") for name in ("gate", "up"))
            states = states + self._norm(
                self._linear(activate(gate) * up, f"{prefix}ffn_down"), f"{prefix}post_ffw_norm"
            )
        return self._norm(states, "output_norm")

    def _norm(self, states: Tensor, name: str) -> Tensor:
        """Return them normalised; as they are where the architecture has no such layer."""
        weight = self.weights.get(f"{name}.weight")
        if weight is None:
            return states
        return functional.rms_norm(states, weight.shape, weight, self.says("attention.layer_norm_rms_epsilon"))

    def _linear(self, states: Tensor, name: str) -> Tensor:
        if f"{name}.weight" in self.in_int8:  # int8 is multiplied with int8
            states = _rounded(states)
        return functional.linear(states, self.weights[f"{name}.weight"], self.weights.get(f"{name}.bias"))

    def _attention(self, prefix: str, layer: int, states: Tensor, mask: Tensor) -> Tensor:
        length, width = states.shape[1], self.says("attention.key_length")
        window = self.says("attention.sliding_window") if (layer + 1) % FULL_EVERY else None

        def heads(name: str) -> Tensor:
            return self._linear(states, f"{prefix}attn_{name}").unflatten(-1, (-1, width)).transpose(1, 2)

        query, key = (
            self._rotated(self._norm(heads(name), f"{prefix}attn_{name}_norm"), local=window is not None)
            for name in ("q", "k")
        )
        apart = torch.arange(length)[:, None] - torch.arange(length)
        visible = (apart >= 0) if window is None else (apart >= 0) & (apart < window)
        # A token that only fills up sees itself: a row without any would be no number.
        seen = visible & mask.bool()[:, None, None, :] | torch.eye(length, dtype=torch.bool)
        found = functional.scaled_dot_product_attention(query, key, heads("v"), seen, enable_gqa=True)
        return self._linear(found.transpose(1, 2).flatten(2), f"{prefix}attn_output")

    def _rotated(self, states: Tensor, local: bool) -> Tensor:
        """Return queries or keys turned by their positions: neighbours in pairs for Llama, else halves."""
        length, width = states.shape[-2:]
        base, factor = (
            (LOCAL_BASE, 1.0) if local else (self.says("rope.freq_base"), self.says("rope.scaling.factor", 1.0))
        )
        frequencies = base ** (-torch.arange(0, width, 2).float() / width) / factor
        frequencies = frequencies / self.weights.get("rope_freqs.weight", torch.ones(1))
        angles = torch.arange(length)[:, None] * frequencies
        cos, sin = angles.cos(), angles.sin()
        if self.architecture == "llama":
            one, other = states[..., 0::2], states[..., 1::2]
            return torch.stack((one * cos - other * sin, one * sin + other * cos), dim=-1).flatten(-2)
        one, other = states.chunk(2, dim=-1)
        return torch.cat((one * cos - other * sin, one * sin + other * cos), dim=-1)


def _rounded(states: Tensor) -> Tensor:
    """Return them as 8-bit numbers hold them, blocks of 32 with a scale each."""
    blocks = states.unflatten(-1, (-1, 32))
    scales = (blocks.abs().amax(dim=-1, keepdim=True) / 127).clamp(min=torch.finfo(torch.float32).tiny)
    return ((blocks / scales).round() * scales).flatten(-2)


def open_gguf(file: Path) -> Callable[[dict[str, np.ndarray]], list[np.ndarray]]:
    """Open a GGUF file; the vectors are those of the last token, of length 1, as llama.cpp's server gives them."""
    model = GGUFModel(file)

    @torch.no_grad()
    def run(inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        ids, mask = (torch.from_numpy(inputs[name]) for name in ("input_ids", "attention_mask"))
        hidden = model.hidden(ids, mask)
        last = (mask * torch.arange(mask.shape[1])).argmax(dim=1)
        pooled = functional.normalize(hidden[torch.arange(len(last)), last], dim=-1)
        return [hidden.numpy(), pooled.numpy()]

    return run
