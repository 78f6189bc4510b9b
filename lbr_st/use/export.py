"""A model for ONNX Runtime, OpenVINO or llama.cpp, compared with the original before it is there.

A GGUF file for llama.cpp holds all that there is. What is written for the others needs no torch: ``tokenizer.json``
cuts, appends the bottleneck tokens and pads, and the one file of the model reads ``input_ids`` and ``attention_mask``,
both ``(batch, sequence)`` int64. It gives ``sentence_embedding`` ``(batch, width)``, pooled and normalised, which is
what people and text-embeddings-inference take, and ``last_hidden_state`` ``(batch, sequence, hidden)``, which
sentence-transformers pools itself. There is no input for positions: a reader that does not know it would silently get
other vectors.
"""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from string import Template

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Transformer
from tokenizers import Tokenizer

from lbr_st.errors import InputError, require
from lbr_st.files import file_sha256, filling, read_json, require_empty
from lbr_st.model.contract import LBR_CONFIG, NOT_LOADED, SavedFiles, fingerprint
from lbr_st.model.exported import Made
from lbr_st.model.named import check_embedder_exists, check_model_exists
from lbr_st.model.opening import open_sentence_transformer
from lbr_st.model.quiet import silently
from lbr_st.use.export_check import compare
from lbr_st.use.export_formats import FORMATS, TYPES, Format
from lbr_st.use.gguf_export import require_shape, tokenizer_of, write_modelfile
from lbr_st.use.gguf_run import read_vocabulary
from lbr_st.use.gguf_vocabulary import needs_of


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        folder: Folder of the export.
        format: Format that it is in.
        size: Bytes of the model, with the file of its weights where it has one.
        original_size: Bytes of the weights it was made from.
        cosine: Lowest cosine of one of its vectors to the original's.
        comparisons: Number of vectors that were compared.
        prompts: Prompts of the model. Nothing but a reader puts them before a text.
        needs: What a text has to be before it goes in, as the model's own tokenizer makes it so.
    """

    folder: Path
    format: Format
    size: int
    original_size: int
    cosine: float
    comparisons: int
    prompts: dict[str, str]
    needs: tuple[str, ...] = ()

    @property
    def file(self) -> Path:
        """The file of the model."""
        return self.folder / self.format.file

    def code(self) -> str:
        """Return a small program that embeds two texts with the export."""
        template = resources.files("lbr_st.use").joinpath("templates", self.format.template)
        paths = {"tokenizer": repr(str(self.folder / "tokenizer.json")), "model": repr(str(self.file))}
        return Template(template.read_text(encoding="utf-8")).substitute(paths)


def export(model: str | Path, to: str, output_dir: str | Path, weights_as: str | None = None) -> Exported:
    """Write a model in another format, if its vectors are those of the original computed in float32.

    Args:
        model: Directory of a model in the portable layout, or of any sentence-transformers text transformer.
        to: Format, one of `FORMATS`.
        output_dir: Folder that is empty or not there. After an error it is as it was.
        weights_as: What the weights of a GGUF file are, one of `TYPES`; default ``f16``.

    Raises:
        InputError: If a package is absent, the model cannot be exported, or there is something in ``output_dir``.
        VerificationError: If vectors differ: with the input and the cosine.
    """
    format_ = _format(to, weights_as)
    check_model_exists(str(model))
    source, output_dir = Path(model), Path(output_dir)
    require_exportable(source)
    if to == "gguf":
        require_shape(source)
    require_empty(output_dir)
    for package in format_.packages:
        require(package, f"--to {to}")
    with warnings.catch_warnings(), silently(), torch.no_grad():
        warnings.simplefilter("ignore")
        original = open_in_float32(source)
        with filling(output_dir, last=format_.file if to == "gguf" else "config.json") as folder:
            file = folder / format_.file
            file.parent.mkdir(exist_ok=True)
            needs: dict[str, Callable[[str], bool]] = {}
            if to == "gguf":
                format_.write(original, file)
                write_modelfile(original, file)
                vocabulary = read_vocabulary(file)
                tokenizer, needs = vocabulary.tokenizer(), needs_of(tokenizer_of(original), vocabulary)
                _let_cut_and_pad(tokenizer, original)
            else:
                _copy_without_weights(source, folder)
                tokenizer = _write_tokenizer(original, source, folder)
                format_.write(original, file)
            cosines = compare(format_.open(file), tokenizer, original, format_, needs.values())
            size = sum(each.stat().st_size for each in file.parent.iterdir() if to != "gguf" or each == file)
            if to != "gguf":
                computed = sorted(each for each in folder.rglob("*") if each.is_file())
                hashes = {each.relative_to(folder).as_posix(): file_sha256(each) for each in computed}
                Made(to, fingerprint(source), min(cosines), len(cosines), hashes).write(folder)
    return Exported(
        folder=output_dir,
        format=format_,
        size=size,
        original_size=sum(each.stat().st_size for each in source.glob("*.safetensors")),
        cosine=min(cosines),
        comparisons=len(cosines),
        prompts={name: prompt for name, prompt in original.prompts.items() if prompt},
        needs=tuple(needs),
    )


def _format(to: str, weights_as: str | None) -> Format:
    """Return the format that is asked for.

    Raises:
        InputError: If there is none.
    """
    if to not in FORMATS:
        raise InputError(f"--to must be one of {', '.join(FORMATS)}, got {to}")
    if weights_as is None:
        return FORMATS[to]
    if to != "gguf":
        raise InputError(f"--type is for --to gguf, and --to is {to}")
    if weights_as not in TYPES:
        raise InputError(f"--type must be one of {', '.join(TYPES)}, got {weights_as}")
    return TYPES[weights_as]


def require_exportable(model: Path) -> None:
    """Refuse what is known not to work before anything is loaded.

    Raises:
        InputError: If it is no directory of an embedding model whose ``tokenizer.json`` does all to a text.
    """
    if not model.is_dir():
        raise InputError(f"--model {model} is not a directory; an export is made of a model on this machine")
    check_embedder_exists(str(model))
    if (model / "router_config.json").is_file():
        raise InputError(f"--model {model} is a model of two encoders; export the one that encodes documents")
    if (model / LBR_CONFIG).is_file():
        files = SavedFiles(model)
        if files.compression_ratio is not None:
            raise InputError(
                f"--model {model} gives a text a bottleneck token for every {files.compression_ratio:g} tokens "
                "(--compression-ratio), and a tokenizer.json can only append a number that is fixed: such a model runs "
                "where lbr-st is installed"
            )
        if not files.is_portable:
            raise InputError(
                f"--model {model} is in the native layout, as training checkpoints are; write it with "
                "lbr_st.save(lbr_st.load(...), ...) first"
            )
    if not (model / "tokenizer.json").is_file():
        raise InputError(f"--model {model} has no tokenizer.json, without which nothing reads texts for an export")


def open_in_float32(model: Path) -> SentenceTransformer:
    """Open a model as it is exported and compared: in float32, on the CPU.

    Raises:
        InputError: If it is not a text transformer.
    """
    opened = open_sentence_transformer(
        str(model), device="cpu", local_files_only=True, model_kwargs={"dtype": torch.float32}
    ).eval()
    if not isinstance(opened[0], Transformer):
        raise InputError(f"--model {model} starts with a {type(opened[0]).__name__}, not a text transformer")
    opened[0].model.config.use_cache = False  # a text is read once: the graph keeps no keys and values
    opened.truncate_dim = None
    return opened


def _copy_without_weights(model: Path, folder: Path) -> None:
    """Copy the JSON files that readers look at, and the modules behind the transformer."""
    for file in model.glob("*.json"):
        if file.name not in NOT_LOADED and not file.name.endswith(".index.json"):
            shutil.copyfile(file, folder / file.name)
    for module in read_json(model / "modules.json"):
        if module["path"] and (model / module["path"]).is_dir():
            shutil.copytree(model / module["path"], folder / module["path"])


def _write_tokenizer(original: SentenceTransformer, model: Path, folder: Path) -> Tokenizer:
    """Write a ``tokenizer.json`` that cuts and pads by itself; return it as it reads from there."""
    path = str(folder / "tokenizer.json")
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    _let_cut_and_pad(tokenizer, original)
    tokenizer.save(path)
    return Tokenizer.from_file(path)


def _let_cut_and_pad(tokenizer: Tokenizer, original: SentenceTransformer) -> None:
    if original.max_seq_length is not None:
        tokenizer.enable_truncation(original.max_seq_length)
    pad = {"pad_id": original.tokenizer.pad_token_id, "pad_token": original.tokenizer.pad_token}
    tokenizer.enable_padding(direction=original.tokenizer.padding_side, **pad)
