"""``lbr export``: a model for ONNX Runtime or OpenVINO, compared with the original before it is there.

What is written needs no torch: ``tokenizer.json`` cuts, appends the bottleneck tokens and pads, and the one file of the
model reads ``input_ids`` and ``attention_mask``, both ``(batch, sequence)`` int64. It gives ``sentence_embedding``
``(batch, width)``, pooled and normalised, which is what people and text-embeddings-inference take, and
``last_hidden_state`` ``(batch, sequence, hidden)``, which sentence-transformers pools itself. There is no input for
positions: a reader that does not know of it would get other vectors without a word.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import logging
import reprlib
import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Transformer
from tokenizers import Tokenizer
from torch import Tensor, nn

from lbr_st.errors import InputError
from lbr_st.file_contract import LBR_CONFIG, SavedFiles, check_files, fail
from lbr_st.files import UNFINISHED
from lbr_st.layouts import NOT_LOADED, check_model_exists, open_sentence_transformer, publish, unfinished_folder
from lbr_st.verify import HUGE, LONG, TEXTS, quietly

INPUTS = ["input_ids", "attention_mask"]
OUTPUTS = ["last_hidden_state", "sentence_embedding"]
# Of int8: weights that share a scale; and ONNX Runtime's accuracy level at which it multiplies int8 with int8. At its
# default it rebuilds float32 weights for every batch, which takes three times as long for a single text.
BLOCK, INT8_PRODUCTS = 32, 4

# Cosines of vectors that are the same but for rounding, in float32 and with weights in int8.
SAME, SAME_INT8 = 0.99999, 0.999

# Both inputs, as int64 arrays (batch, sequence), in; both outputs, as float32 arrays, out.
Run = Callable[[dict[str, np.ndarray]], list[np.ndarray]]

SHORT_TEXTS = [*TEXTS, "a", *("word " * number for number in (2, 5, 13, 34))]

USE = """
import numpy as np
import {runtime}
from tokenizers import Tokenizer

tokenizer = Tokenizer.from_file({tokenizer!r})  # cuts, appends what the model reads out, pads
model = {open}
rows = tokenizer.encode_batch(["What is learned before it is represented?", "Another text."])
ids, mask = (np.array([getattr(row, name) for row in rows]) for name in ("ids", "attention_mask"))
vectors = {run}
"""


@dataclass(frozen=True)
class Format:
    """A format to export to.

    Attributes:
        file: Where it goes in the output directory.
        extra: Of this package: what installs ``packages``.
        packages: To import.
        least_cosine: Between its vectors and those of the original.
        write: Writes a model to this file.
        open: Opens the file in its own runtime.
        use: How to do that, for people: the lines ``open`` and ``run`` of `USE`.
    """

    file: str
    extra: str
    packages: tuple[str, ...]
    least_cosine: float
    write: Callable[[SentenceTransformer, Path], None]
    open: Callable[[Path], Run]
    use: tuple[str, str]


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        file: The model.
        size: Of the model in bytes, with the file of its weights where it has one.
        original_size: Of the weights it was made from.
        cosine: The lowest between a vector of it and the original's.
        comparisons: How many vectors that is of.
        prompts: Of the model. Nothing but a reader puts them before a text.
    """

    file: Path
    size: int
    original_size: int
    cosine: float
    comparisons: int
    prompts: dict[str, str]


def export(model_dir: str | Path, to: str, output_dir: str | Path) -> Exported:
    """Write a model in another format, if its vectors are those of the original computed in float32.

    Args:
        model_dir: A model in the portable layout, or any sentence-transformers directory of a text transformer.
        to: One of `FORMATS`.
        output_dir: A directory that is empty or not there. After an error it is as it was.

    Raises:
        InputError: If a package is absent, the model cannot be exported, or there is something in ``output_dir``.
        VerificationError: If vectors differ: with the input and the cosine.
    """
    model_dir, output_dir, format_ = Path(model_dir), Path(output_dir), FORMATS[to]
    _check_installed(to)
    _check_exportable(model_dir)
    _check_empty(output_dir)
    with warnings.catch_warnings(), _saying_less(), quietly(), torch.no_grad():
        warnings.simplefilter("ignore")
        model = _open_in_float32(model_dir)
        with _whole_or_not_at_all(output_dir) as folder:
            _copy_without_weights(model_dir, folder)
            tokenizer = _write_tokenizer(model, model_dir, folder)
            file = folder / format_.file
            file.parent.mkdir()
            format_.write(model, file)
            cosines = compare(format_.open(file), tokenizer, model, format_)
    file = output_dir / format_.file
    return Exported(
        file=file,
        size=sum(each.stat().st_size for each in file.parent.iterdir()),
        original_size=sum(each.stat().st_size for each in model_dir.glob("*.safetensors")),
        cosine=min(cosines),
        comparisons=len(cosines),
        prompts={name: prompt for name, prompt in model.prompts.items() if prompt},
    )


def _check_installed(to: str) -> None:
    absent = [name for name in FORMATS[to].packages if importlib.util.find_spec(name) is None]
    if absent:
        raise InputError(
            f"--to {to} needs {', '.join(absent)}, not installed here: pip install 'lbr-st[{FORMATS[to].extra}]'"
        )


def _check_exportable(model_dir: Path) -> None:
    """Refuse what is known not to work before anything is loaded."""
    check_model_exists(str(model_dir))
    if not model_dir.is_dir():
        raise InputError(f"--model {model_dir} is not a directory; an export is made of a model on this machine")
    if (model_dir / LBR_CONFIG).is_file():
        files = SavedFiles(model_dir)
        if files.compression_ratio is not None:
            raise InputError(
                f"--model {model_dir} gives a text a bottleneck token for every {files.compression_ratio:g} tokens "
                "(--compression-ratio), and a tokenizer.json can only append a number that is fixed: such a model runs "
                "where lbr-st is installed"
            )
        if not files.is_portable:
            raise InputError(
                f"--model {model_dir} is in the native layout, as training checkpoints are; write it with "
                "lbr_st.save(lbr_st.load(...), ...) first"
            )
        check_files(model_dir)
    if not (model_dir / "tokenizer.json").is_file():
        raise InputError(f"--model {model_dir} has no tokenizer.json, without which nothing reads texts for an export")


def _check_empty(output_dir: Path) -> None:
    if output_dir.is_file():
        raise InputError(f"--output-dir {output_dir} is a file")
    # An export that was killed leaves its unfinished folder.
    if output_dir.is_dir() and any(path.suffix != UNFINISHED for path in output_dir.iterdir()):
        raise InputError(f"--output-dir {output_dir} is not empty; choose another")


@contextlib.contextmanager
def _saying_less() -> Iterator[None]:
    """Let the exporter's and the quantizer's own reports be, up to errors; a failed export raises."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(before)


@contextlib.contextmanager
def _whole_or_not_at_all(output_dir: Path) -> Iterator[Path]:
    """Give a folder to make an export in. It takes its place in the end; after an error nothing new is left."""
    new = [folder for folder in (output_dir, *output_dir.parents) if not folder.exists()]
    output_dir.mkdir(parents=True, exist_ok=True)
    try:
        with unfinished_folder(output_dir) as folder:
            yield folder
            publish(folder, output_dir)
    except BaseException:
        for each in new:
            each.rmdir()
        raise


def _open_in_float32(model_dir: Path) -> SentenceTransformer:
    model = open_sentence_transformer(
        str(model_dir), device="cpu", local_files_only=True, model_kwargs={"dtype": torch.float32}
    ).eval()
    if not isinstance(model[0], Transformer):
        raise InputError(f"--model {model_dir} starts with a {type(model[0]).__name__}, not a text transformer")
    model[0].model.config.use_cache = False  # keys and values would be outputs too
    model.truncate_dim = None
    return model


def _copy_without_weights(model_dir: Path, folder: Path) -> None:
    """Copy the JSON files that readers look at, and the modules behind the transformer."""
    for file in model_dir.glob("*.json"):
        if file.name not in NOT_LOADED and not file.name.endswith(".index.json"):
            shutil.copyfile(file, folder / file.name)
    for module in json.loads((model_dir / "modules.json").read_text(encoding="utf-8")):
        if module["path"] and (model_dir / module["path"]).is_dir():
            shutil.copytree(model_dir / module["path"], folder / module["path"])


def _write_tokenizer(model: SentenceTransformer, model_dir: Path, folder: Path) -> Tokenizer:
    """Write a ``tokenizer.json`` that cuts and pads by itself; return it as it reads from there."""
    path = str(folder / "tokenizer.json")
    tokenizer = Tokenizer.from_file(str(model_dir / "tokenizer.json"))
    if model.max_seq_length is not None:
        tokenizer.enable_truncation(model.max_seq_length)
    pad = {"pad_id": model.tokenizer.pad_token_id, "pad_token": model.tokenizer.pad_token}
    tokenizer.enable_padding(direction=model.tokenizer.padding_side, **pad)
    tokenizer.save(path)
    return Tokenizer.from_file(path)


class _Graph(nn.Module):
    """What is exported: the language model without its head, and all modules behind it."""

    def __init__(self, model: SentenceTransformer) -> None:
        super().__init__()
        transformer, *rest = model
        self.language_model: Any = transformer.model
        self.rest = nn.ModuleList(rest)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.language_model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return hidden, self.pool(hidden, attention_mask)

    def pool(self, hidden: Tensor, attention_mask: Tensor) -> Tensor:
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
    graph = _Graph(model).eval()
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
        raise InputError(
            f"torch cannot export a {type(graph.language_model).__name__} to ONNX "
            f"({type(cause).__name__}: {str(cause).strip().partition(chr(10))[0]})"
        ) from error
    program.save(str(file))


def open_onnx(file: Path) -> Run:
    """Open an ONNX file in ONNX Runtime, on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
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
    import openvino

    onnx_file = file.with_name("model.onnx")
    write_onnx(model, onnx_file)
    # Not openvino.convert_model, which reads the file just so and sends word of it to the makers of OpenVINO.
    openvino.save_model(openvino.Core().read_model(onnx_file), file, compress_to_fp16=False)
    for each in file.parent.glob("model.onnx*"):
        each.unlink()


def open_openvino(file: Path) -> Run:
    """Open an OpenVINO model on the CPU, in float32: its own choice is bfloat16 where a processor has it."""
    import openvino

    compiled = openvino.compile_model(file, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def run(inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        outputs = compiled(inputs)
        return [outputs[name] for name in OUTPUTS]

    return run


USE_ONNX = (
    "onnxruntime.InferenceSession({file!r})",
    'model.run(["sentence_embedding"], {"input_ids": ids, "attention_mask": mask})[0]',
)
USE_OPENVINO = (
    'openvino.compile_model({file!r}, "CPU", {{"INFERENCE_PRECISION_HINT": "f32"}})',
    'model({"input_ids": ids, "attention_mask": mask})["sentence_embedding"]',
)
ONNX = ("onnx", ("onnx", "onnxscript", "onnxruntime"))
OPENVINO = ("openvino", ("onnx", "onnxscript", "openvino"))
FORMATS = {
    "onnx": Format("onnx/model.onnx", *ONNX, SAME, write_onnx, open_onnx, USE_ONNX),
    "openvino": Format("openvino/openvino_model.xml", *OPENVINO, SAME, write_openvino, open_openvino, USE_OPENVINO),
    "int8": Format("onnx/model_int8.onnx", *ONNX, SAME_INT8, write_int8, open_onnx, USE_ONNX),
}


def compare(run: Run, tokenizer: Tokenizer, model: SentenceTransformer, format_: Format) -> list[float]:
    """Compare vectors of an export with ``model.encode``: alone, in batches padded on both sides, with prompts.

    Args:
        run: The export, in its own runtime.
        tokenizer: The one written beside it.
        model: The original, in float32.
        format_: Says how far they may differ.

    Returns:
        The cosine of each vector and the original's.

    Raises:
        VerificationError: With the input and its cosine, if one is too low, or with the input that is cut otherwise.
    """
    if tokenizer.encode(HUGE).ids != model.preprocess([HUGE])["input_ids"][0].tolist():
        fail(f"input {_short(HUGE)}", "the tokenizer written cuts it into other tokens than the model's own")
    cosines = []
    for texts, prompt, side in _comparisons(model):
        model.tokenizer.padding_side = side
        tokenizer.enable_padding(**{**(tokenizer.padding or {}), "direction": side})
        expected = model.encode(texts, prompt=prompt, batch_size=len(texts), show_progress_bar=False)
        for output, found in _vectors(run, tokenizer, model, [prompt + text for text in texts]).items():
            for text, cosine in zip(texts, _cosines(found, expected), strict=True):
                if not cosine >= format_.least_cosine:  # NaN is not either
                    way = "alone" if len(texts) == 1 else f"in a batch padded on the {side}"
                    what = f"{output} of {format_.file} gives a vector of cosine {cosine:.6f} to the original's"
                    remedy = "; --to onnx keeps float32" if format_.least_cosine < SAME else ""
                    fail(f"input {_short(prompt + text)} {way}", f"{what}, below {format_.least_cosine}{remedy}")
                cosines.append(cosine)
    return cosines


def _vectors(run: Run, tokenizer: Tokenizer, model: SentenceTransformer, texts: list[str]) -> dict[str, np.ndarray]:
    """Return the vectors ``(texts, width)`` of both outputs: pooled by the export, and pooled from what it gives."""
    rows = tokenizer.encode_batch(texts)
    ids, mask = (np.array([getattr(row, name) for row in rows]) for name in ("ids", "attention_mask"))
    hidden, pooled = run({"input_ids": ids, "attention_mask": mask})
    pooled_here = _Graph(model).pool(torch.from_numpy(hidden), torch.from_numpy(mask)).numpy()
    return dict(zip(OUTPUTS, (pooled_here, pooled), strict=True))


def _comparisons(model: SentenceTransformer) -> Iterator[tuple[list[str], str, str]]:
    """Give texts, the prompt before them, and the side they are padded on."""
    sides = _sides(model)
    for prompt in {"": None, "query: ": None, **dict.fromkeys(filter(None, model.prompts.values()))}:
        for text in SHORT_TEXTS:
            yield [text], prompt, "right"
        for side in sides:
            yield SHORT_TEXTS, prompt, side
    yield [LONG], "", "right"
    for side in sides:
        yield [LONG, "one"], "", side


def _sides(model: SentenceTransformer) -> list[str]:
    """Return where a text can be padded: where positions are learned (GPT-2), not on the left, which moves it."""
    model.tokenizer.padding_side = "left"
    encode = partial(model.encode, ["one", "word " * 13], prompt="", show_progress_bar=False)
    moved = min(_cosines(encode(batch_size=2), encode(batch_size=1))) < SAME
    return ["right"] if moved else ["right", "left"]


def _cosines(found: np.ndarray, expected: np.ndarray) -> list[float]:
    found, expected = found.astype(np.float64), expected.astype(np.float64)
    lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
    return ((found * expected).sum(axis=1) / lengths).tolist()


def _short(text: str) -> str:
    short = reprlib.Repr()
    short.maxstring = 60
    return short.repr(text)


def main(argv: Sequence[str] | None = None) -> None:
    """Run ``lbr export``.

    Raises:
        InputError: If the model cannot be exported, or the export gives other vectors.
    """
    parser = argparse.ArgumentParser(
        prog="lbr export", description="Write a model for ONNX Runtime or OpenVINO, and compare it with the original."
    )
    parser.add_argument("--model", required=True, metavar="DIR", help="a saved model, in the portable layout")
    parser.add_argument(
        "--to", required=True, choices=[*FORMATS], help="int8: ONNX with weights in 8 bits; the others are in float32"
    )
    parser.add_argument("--output-dir", required=True, metavar="DIR", help="where to; not there yet, or empty")
    args = parser.parse_args(argv)
    exported = export(args.model, args.to, args.output_dir)
    print(_report(exported, FORMATS[args.to], Path(args.output_dir)))  # noqa: T201


def _report(exported: Exported, format_: Format, output_dir: Path) -> str:
    sizes = f"{exported.size / 1e6:.1f} MB, the original's weights {exported.original_size / 1e6:.1f} MB"
    cosines = f"lowest cosine to the original in {exported.comparisons} comparisons: {exported.cosine:.7f}"
    opened, run = format_.use
    use = USE.format(
        runtime=format_.packages[-1],
        tokenizer=str(output_dir / "tokenizer.json"),
        open=opened.format(file=str(exported.file)),
        run=run,
    )
    prompts = f"\nBefore a text goes its prompt: {exported.prompts}" if exported.prompts else ""
    return f"{exported.file}: {sizes}\n{cosines}\n{use}{prompts}"
