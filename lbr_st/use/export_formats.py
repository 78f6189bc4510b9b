"""What a model is exported to: how each format is written, and opened in its own runtime."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn

from lbr_st.errors import InputError, one_line
from lbr_st.use.gguf_export import write_gguf
from lbr_st.use.gguf_run import open_gguf

INPUTS = ["input_ids", "attention_mask"]
OUTPUTS = ["last_hidden_state", "sentence_embedding"]

# For int8: the number of weights that share a scale; and ONNX Runtime's accuracy level at which it multiplies int8 with
# int8. At its default it rebuilds float32 weights for every batch, which takes three times as long for a single text.
BLOCK, INT8_PRODUCTS = 32, 4

# Cosines of vectors that are the same but for rounding: in float32, and with weights in half precision and in int8.
SAME, SAME_HALF, SAME_INT8 = 0.99999, 0.9999, 0.999

# Both inputs, as int64 arrays (batch, sequence), in; both outputs, as float32 arrays, out.
Run = Callable[[dict[str, np.ndarray]], list[np.ndarray]]


@dataclass(frozen=True)
class Format:
    """A format to export to.

    Attributes:
        file: Path of the model within the output directory.
        packages: Packages that write it; the last one opens it.
        install: Command that installs what people open it with.
        least_cosine: The least cosine of its vectors to those of the original.
        write: Writes a model to this file.
        open: Opens the file in its own runtime.
        template: File in ``templates`` with the lines that people use it with; ``$tokenizer`` and ``$model`` are paths.
    """

    file: str
    packages: tuple[str, ...]
    install: str
    least_cosine: float
    write: Callable[[SentenceTransformer, Path], None]
    open: Callable[[Path], Run]
    template: str


class Graph(nn.Module):
    """What is exported: the language model without its head, and all modules behind it."""

    def __init__(self, model: SentenceTransformer) -> None:
        super().__init__()
        transformer, *rest = model
        self.language_model: Any = transformer.model
        self.rest = nn.ModuleList(rest)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``last_hidden_state`` and ``sentence_embedding`` of ``(batch, sequence)`` ids and their mask."""
        hidden = self.language_model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return hidden, self.pool(hidden, attention_mask)

    def pool(self, hidden: Tensor, attention_mask: Tensor) -> Tensor:
        """Return what the modules behind the language model make of its last hidden states, ``(batch, width)``."""
        features = {"token_embeddings": hidden, "attention_mask": attention_mask}
        for module in self.rest:
            features = module(features)
        return features["sentence_embedding"]


def write_onnx(model: SentenceTransformer, file: Path) -> None:
    """Write a model as one ONNX file; above 2 GB, which that format cannot hold, with its weights in a second.

    Raises:
        InputError: If torch cannot export it.
    """
    # Two texts, one of them padded: of one text alone the exporter would learn that there is always one.
    ids, mask = torch.ones(2, 8, dtype=torch.long), torch.tensor([[1] * 8, [1] * 5 + [0] * 3])
    free = {0: torch.export.Dim("batch"), 1: torch.export.Dim("sequence")}
    graph = Graph(model).eval()
    try:
        program: Any = torch.onnx.export(
            graph,
            (ids, mask),
            dynamo=True,
            dynamic_shapes=(free, free),
            input_names=INPUTS,
            output_names=OUTPUTS,
            verbose=False,
        )
    except Exception as error:  # the exporter has errors of many kinds
        cause = error.__cause__ or error
        name = type(graph.language_model).__name__
        raise InputError(f"torch cannot export a {name} to ONNX ({type(cause).__name__}: {one_line(cause)})") from error
    program.save(str(file))


def open_onnx(file: Path) -> Run:
    """Open an ONNX file in ONNX Runtime, on the CPU, with as many threads as torch has."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = torch.get_num_threads(), 1
    options.enable_mem_pattern = False  # it would keep a plan for each shape of a batch, and nearly all differ
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    return lambda inputs: session.run(OUTPUTS, inputs)


class _Int8Embedding(nn.Module):
    """The rows of an embedding matrix in int8, each with a scale of its own."""

    rows: Tensor
    scales: Tensor

    def __init__(self, embedding: nn.Embedding) -> None:
        super().__init__()
        # What the module gives, not its weight: Gemma scales it.
        rows = embedding(torch.arange(embedding.num_embeddings))
        scales = rows.abs().amax(dim=1, keepdim=True).clamp(min=torch.finfo(rows.dtype).tiny) / 127
        self.register_buffer("scales", scales)
        self.register_buffer("rows", (rows / scales).round().to(torch.int8))

    def forward(self, ids: Tensor) -> Tensor:
        return self.rows[ids].float() * self.scales[ids]


@contextlib.contextmanager
def _int8_embeddings(model: SentenceTransformer) -> Iterator[None]:
    transformer: Any = model[0]
    language_model = transformer.model
    embedding = language_model.get_input_embeddings()
    language_model.set_input_embeddings(_Int8Embedding(embedding))
    try:
        yield
    finally:
        language_model.set_input_embeddings(embedding)


def write_int8(model: SentenceTransformer, file: Path) -> None:
    """Write a model as ONNX with weights in int8, each block of a matrix and each row of the embeddings by its scale.

    ``quantize_dynamic`` has one scale for a whole matrix and for all texts of a batch: of a trained nano model it gave
    cosines down to 0.990, this 0.9997.
    """
    import onnx
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    whole = file.with_name("model.onnx")
    with _int8_embeddings(model):
        write_onnx(model, whole)
    quantizer = MatMulNBitsQuantizer(onnx.load(whole), bits=8, block_size=BLOCK, accuracy_level=INT8_PRODUCTS)
    quantizer.process()
    written = list(file.parent.iterdir())
    for each in written:
        each.unlink()
    # Where float32 asked for a second file, this may: no harm is done by one that was not needed.
    quantizer.model.save_model_to_file(str(file), use_external_data_format=len(written) > 1)


def write_openvino(model: SentenceTransformer, file: Path) -> None:
    """Write a model as OpenVINO's ``.xml`` and, beside it, the ``.bin`` of its weights, in float32."""
    onnx_file = file.with_name("model.onnx")
    write_onnx(model, onnx_file)
    _translate(onnx_file, file)


def write_openvino_int8(model: SentenceTransformer, file: Path) -> None:
    """Write a model as OpenVINO's ``.xml`` and ``.bin`` with weights in int8, those of `write_int8`."""
    onnx_file = file.with_name("model_int8.onnx")
    write_int8(model, onnx_file)
    _translate(onnx_file, file)


def _translate(onnx_file: Path, file: Path) -> None:
    """Write an ONNX file as OpenVINO's own, which takes its place."""
    import openvino

    # openvino.convert_model would do too, but it reports its use to the makers of OpenVINO over the network.
    openvino.save_model(openvino.Core().read_model(onnx_file), file, compress_to_fp16=False)
    for each in file.parent.glob(f"{onnx_file.name}*"):
        each.unlink()


def open_openvino(file: Path) -> Run:
    """Open an OpenVINO model on the CPU with as many threads as torch has, in float32.

    Its own choice is bfloat16 where a processor has it.
    """
    import openvino

    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    compiled = openvino.compile_model(file, "CPU", settings)

    def run(inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        outputs = compiled(inputs)
        return [outputs[name] for name in OUTPUTS]

    return run


WITH_ONNX, WITH_OPENVINO = ("onnx", "onnxscript", "onnxruntime"), ("onnx", "onnxscript", "openvino")

FORMATS = {
    "onnx": Format(
        file="onnx/model.onnx",
        packages=WITH_ONNX,
        install="pip install onnxruntime tokenizers",
        least_cosine=SAME,
        write=write_onnx,
        open=open_onnx,
        template="onnx.txt",
    ),
    "openvino": Format(
        file="openvino/openvino_model.xml",
        packages=WITH_OPENVINO,
        install="pip install openvino tokenizers",
        least_cosine=SAME,
        write=write_openvino,
        open=open_openvino,
        template="openvino.txt",
    ),
    "onnx-int8": Format(
        file="onnx/model_int8.onnx",
        packages=WITH_ONNX,
        install="pip install onnxruntime tokenizers",
        least_cosine=SAME_INT8,
        write=write_int8,
        open=open_onnx,
        template="onnx.txt",
    ),
    "openvino-int8": Format(
        file="openvino/openvino_model_int8.xml",
        packages=("onnx", "onnxscript", "onnxruntime", "openvino"),
        install="pip install openvino tokenizers",
        least_cosine=SAME_INT8,
        write=write_openvino_int8,
        open=open_openvino,
        template="openvino.txt",
    ),
    "gguf": Format(
        file="model-f16.gguf",
        packages=("gguf",),
        install="npm install node-llama-cpp",
        least_cosine=SAME_HALF,
        write=partial(write_gguf, weights_as="f16"),
        open=open_gguf,
        template="gguf.txt",
    ),
}

# What the weights of a GGUF file are, by llama.cpp's names.
TYPES = {
    "f16": FORMATS["gguf"],
    "q8_0": replace(
        FORMATS["gguf"],
        file="model-q8_0.gguf",
        least_cosine=SAME_INT8,
        write=partial(write_gguf, weights_as="q8_0"),
    ),
}
