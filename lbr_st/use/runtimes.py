"""An embedding model as it is run: by torch, ONNX Runtime or OpenVINO, in which type, with how many dimensions.

What another runtime than torch runs is an export of `lbr_st.use.export`: the folder that is named is one, or the model
is exported once into a cache of the user. Its backbone stands where that of transformers would: whatever encodes texts
with a sentence-transformers model does so with this one. It takes no positions and keeps no keys and values, so that
`lbr_st.model.encoding.TextEncoder` neither packs texts nor shares a prompt.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn
from transformers import PretrainedConfig
from transformers.modeling_outputs import BaseModelOutput

from lbr_st.errors import InputError, check_installed, one_line
from lbr_st.files import alone_in, read_json, remove_unfinished, replacing_folder, require_place
from lbr_st.model.backbone import config_of_transformers
from lbr_st.model.contract import VerificationError, fingerprint
from lbr_st.model.dimensions import check_dimensions_kept, dimensions_of, keep_dimensions
from lbr_st.model.exported import read_made
from lbr_st.model.named import PROMPTS, check_embedder_exists, check_model_exists
from lbr_st.model.opening import open_sentence_transformer, open_with_backbone
from lbr_st.model.precision import compute_in
from lbr_st.model.trainable import embedding_width
from lbr_st.use.export import export, require_exportable
from lbr_st.use.export_formats import FORMATS, Run

logger = logging.getLogger(__name__)

TORCH = "torch"
RUNTIMES = (TORCH, *(name for name in FORMATS if name != "gguf"))
FLOAT32, AUTO = "float32", "auto"
DTYPES = (FLOAT32, "float16", "bfloat16")
OF_A_NAME = 32  # digits of a fingerprint
MADE_SO = 2  # raised where exports are made otherwise: those that were kept are made again


@dataclass(frozen=True)
class Computing:
    """How an embedding model is run, as the flags of these names say.

    Attributes:
        runtime: One of `RUNTIMES`; default is that of an export, and else torch.
        dtype: Type of the numbers that it computes in, one of `DTYPES`, or ``auto``: it is opened in float32, and
            `lbr_st.use.dtypes.choose_dtype` chooses. Default is that of its files.
        dimensions: Number of first dimensions that its vectors keep; default is all.

    Raises:
        InputError: If a choice is not there, or the number too small.
    """

    runtime: str | None = None
    dtype: str | None = None
    dimensions: int | None = None

    def __post_init__(self) -> None:
        for name, choices in (("runtime", RUNTIMES), ("dtype", (*DTYPES, AUTO))):
            if (value := getattr(self, name)) not in (None, *choices):
                raise InputError(f"--{name} must be one of {', '.join(choices)}, got {value}")
        if self.dimensions is not None and self.dimensions < 1:
            raise InputError(f"--dimensions must be a whole number of at least 1, got {self.dimensions}")

    def check(self, name: str, flag: str = "--model") -> None:
        """Refuse a model that cannot be run so, before anything slow is done; no weights are read.

        Args:
            name: Directory, Hub id or folder of an export.
            flag: Flag it was given with, for the message.

        Raises:
            InputError: If it is no embedding model, or is none that can be exported, or was not trained for the
                dimensions; or packages are absent.
        """
        runtime = runtime_of(name, self.runtime)
        if runtime == TORCH:
            check_embedder_exists(name, flag)
        else:
            self._check_export(name, runtime, flag)
        if self.dimensions is not None:
            self._check_dimensions(name, self.dimensions)

    def _check_dimensions(self, name: str, number: int) -> None:
        """Refuse first dimensions that a model was not trained for, where its files say which these are."""
        try:
            about = read_json(Path(name, PROMPTS)) if Path(name, PROMPTS).is_file() else {}
            if not Path(name, "config.json").is_file() or about.get("truncate_dim") is not None:
                return
            config = config_of_transformers(name, trust_remote_code=False)
        except (InputError, OSError, ImportError, ValueError, AttributeError):  # what it is, its opening says
            return
        if (width := embedding_width(name, config)) is not None:
            check_dimensions_kept(number, dimensions_of(config, width), name)

    def _check_export(self, name: str, runtime: str, flag: str) -> None:
        """Refuse a model that another runtime than torch cannot run."""
        if self.dtype not in (None, FLOAT32):
            raise InputError(f"--dtype {self.dtype} is for --runtime {TORCH}: {runtime} computes in {FLOAT32}")
        made, format_ = read_made(name), FORMATS[runtime]
        packages = format_.packages
        if made is None:
            check_model_exists(name, flag)
            require_exportable(Path(name))
        elif made.runtime != runtime:
            raise InputError(
                f"{flag} {name} is an export for --runtime {made.runtime}, not for {runtime}: name the model that it "
                "was made from"
            )
        elif not Path(name, format_.file).is_file():
            raise InputError(f"{flag} {name} cannot be used: {format_.file}: missing; copy it whole again")
        else:
            packages = packages[-1:]
        for package in packages:
            check_installed(package, f"--runtime {runtime}")

    def open(self, name: str, flag: str = "--model") -> SentenceTransformer:
        """Open a model, in evaluation mode, to be run so.

        Args:
            name: Directory, Hub id or folder of an export.
            flag: Flag it was given with, for the message.

        Raises:
            InputError: As `check` does; or if its export gives other vectors, or it was trained for other dimensions.
        """
        runtime = runtime_of(name, self.runtime)
        if runtime == TORCH:
            model = open_sentence_transformer(name, flag)
            if self.dtype is not None:
                compute_in(model, getattr(torch, FLOAT32 if self.dtype == AUTO else self.dtype))
        else:
            model = _open_export(name, runtime, flag)
        if self.dimensions is not None:
            keep_dimensions(model, self.dimensions, name)
        return model.eval()

    def variant(self, name: str) -> str:
        """Return what tells the vectors of a model from those of its files as everyone opens it; empty where nothing.

        Args:
            name: Directory, Hub id or folder of an export.
        """
        runtime = runtime_of(name, self.runtime)
        parts = [None if runtime == TORCH else runtime, self.dtype, self.dimensions and f"{self.dimensions}d"]
        return "".join(f"-{part}" for part in parts if part)


def runtime_of(name: str, asked_for: str | None = None) -> str:
    """Return what runs a model: what is asked for, else the runtime of an export, else torch.

    Raises:
        InputError: If the file is damaged that says what an export is.
    """
    if asked_for is not None:
        return asked_for
    made = read_made(name)
    return TORCH if made is None else made.runtime


class Backbone(nn.Module):
    """Turns tokens into states in another runtime than torch, where a model of transformers would.

    Args:
        run: The model in its runtime.
        config: Configuration of the model.
    """

    def __init__(self, run: Run, config: PretrainedConfig) -> None:
        super().__init__()
        self.config, self.device = config, torch.device("cpu")
        self._run = run

    def forward(self, input_ids: Tensor, attention_mask: Tensor, **others: Any) -> BaseModelOutput:
        """Return the last hidden states of ``(batch, sequence)`` ids and their mask."""
        hidden, _ = self._run({"input_ids": input_ids.numpy(), "attention_mask": attention_mask.numpy()})
        return BaseModelOutput(last_hidden_state=torch.from_numpy(hidden))


def _open_export(name: str, runtime: str, flag: str) -> SentenceTransformer:
    """Open an export, or a model by its export, which is made where it is not there."""
    folder = Path(name) if read_made(name) is not None else _kept_export(name, runtime)
    made, format_ = read_made(folder), FORMATS[runtime]
    assert made is not None
    file = folder / format_.file
    remedy = f"remove {folder} and export it again"
    if (other := made.exchanged(folder)) is not None:
        raise InputError(f"{flag} {name} cannot be used: {other} is not the file that was exported; {remedy}")
    try:
        run = format_.open(file)
    except Exception as error:  # each runtime has errors of its own
        raise InputError(f"{flag} {name} cannot be used: {file}: {one_line(error)}; {remedy}") from error
    model = open_with_backbone(str(folder), partial(Backbone, run), flag)
    said = f"least cosine to the original {made.cosine:.7f} in {made.comparisons} comparisons"
    logger.info("%s runs on %s, from %s: %s", name, runtime, folder, said)
    return model


def _kept_export(name: str, runtime: str) -> Path:
    """Return the folder of a model's export in the cache; it is made and compared where it is not there.

    Raises:
        InputError: If it cannot be made, or gives other vectors.
    """
    folder = cache_folder() / f"{fingerprint(name)[:OF_A_NAME]}-{runtime}"
    if read_made(folder) is None:
        require_place(folder.parent, "--runtime: exports are kept below XDG_CACHE_HOME, else ~/.cache:")
        try:
            with alone_in(folder, waits=True):
                remove_unfinished(folder.parent, folder.name)
                if read_made(folder) is None:
                    logger.info("exporting %s for %s, once", name, runtime)
                    with replacing_folder(folder) as unfinished:
                        export(name, runtime, unfinished)
        except VerificationError as error:
            raise InputError(f"--model {name}, --runtime {runtime}: {error}") from error
        except OSError:
            if read_made(folder) is None:  # else another process was faster
                raise
    return folder


def cache_folder() -> Path:
    """Return where exports are kept for a user; it may be removed at any time."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "lbr-st" / f"exports-{MADE_SO}"
