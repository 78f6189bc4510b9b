"""``lbr export``: a model for ONNX Runtime or OpenVINO, compared with the original before it is there.

What is written needs no torch: ``tokenizer.json`` cuts, appends the bottleneck tokens and pads, and the one file of the
model reads ``input_ids`` and ``attention_mask``, both ``(batch, sequence)`` int64. It gives ``sentence_embedding``
``(batch, width)``, pooled and normalised, which is what people and text-embeddings-inference take, and
``last_hidden_state`` ``(batch, sequence, hidden)``, which sentence-transformers pools itself. There is no input for
positions: a reader that does not know of it would get other vectors without a word.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import shutil
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Transformer
from tokenizers import Tokenizer

from lbr_st.errors import InputError
from lbr_st.files import filling, require_empty
from lbr_st.model.contract import LBR_CONFIG, NOT_LOADED, SavedFiles, check_files
from lbr_st.model.opening import check_model_exists, open_sentence_transformer
from lbr_st.model.quiet import silently
from lbr_st.use.export_check import compare
from lbr_st.use.export_formats import FORMATS, Format

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
    require_empty(output_dir)
    with warnings.catch_warnings(), silently(), torch.no_grad():
        warnings.simplefilter("ignore")
        model = _open_in_float32(model_dir)
        with filling(output_dir, last="config.json") as folder:
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
