"""One model, two layouts on disk.

*Portable*, the default: stock classes only, so ``SentenceTransformer(path)`` needs neither this package nor a flag,
and servers that read sentence-transformers directories read it too. *Native*: what ``model.save_pretrained`` writes
of a model in memory (training checkpoints); ``SentenceTransformer(path, trust_remote_code=True)`` reads it where
this package is installed. `load` reads both.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sentence_transformers
import torch
import transformers
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Normalize
from sentence_transformers.sentence_transformer.modules import Pooling
from sentence_transformers.util import load_file_path

from lbr_st.files import UNFINISHED, sha256, write_json
from lbr_st.modules import BottleneckTransformer, bottleneck_module

logger = logging.getLogger(__name__)

# The long-lived names: vLLM and text-embeddings-inference know them, sentence-transformers 6 redirects them.
PORTABLE_MODULES = [
    {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
    {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
]

# Files in a model directory that no loader reads.
NOT_LOADED = {"lbr_run.json", "training_log.json", "trainer_state.json"}

# Reloaded float32 vectors agree with those in memory to about 1e-7; a lost token or weight shows at 1e-2 and more.
SAME_VECTOR = 1e-5
SAME_VECTOR_HALF_PRECISION = 2e-2


def from_backbone(
    model_name_or_path: str, *, num_bottleneck_tokens: int = 1, max_seq_length: int | None = None, **model_kwargs: Any
) -> SentenceTransformer:
    """Start from a plain causal language model: a local directory or a Hub id.

    Args:
        model_name_or_path: What ``AutoModelForCausalLM.from_pretrained`` takes.
        num_bottleneck_tokens: Number of bottleneck tokens k to add.
        max_seq_length: Longest input in tokens, bottleneck tokens and BOS included; default is the longest the
            backbone takes.
        **model_kwargs: Passed on to ``AutoModelForCausalLM.from_pretrained``.

    Returns:
        A model whose first module is a `BottleneckTransformer`, with prompts ``query`` and ``document`` empty.

    Raises:
        InputError: If the backbone cannot take bottleneck tokens, or the length leaves no room for text.
    """
    return _assemble(
        BottleneckTransformer.from_backbone(
            model_name_or_path,
            num_bottleneck_tokens=num_bottleneck_tokens,
            max_seq_length=max_seq_length,
            **model_kwargs,
        )
    )


def load(model_name_or_path: str, *, device: str | None = None, **kwargs: Any) -> SentenceTransformer:
    """Load a model saved by this package, of either layout, with its `BottleneckTransformer`.

    Args:
        model_name_or_path: Directory or Hub id.
        device: Where to put it; default as sentence-transformers chooses.
        **kwargs: Passed to `BottleneckTransformer.load`: ``revision``, ``token``, ``model_kwargs`` ...

    Raises:
        InputError: If it was not saved by this package.
    """
    module = BottleneckTransformer.load(model_name_or_path, **kwargs)
    hub = {key: kwargs[key] for key in ("token", "cache_folder", "revision", "local_files_only") if key in kwargs}
    path = load_file_path(model_name_or_path, "config_sentence_transformers.json", **hub)
    prompts = json.loads(Path(path).read_text(encoding="utf-8"))["prompts"] if path else None
    return _assemble(module, prompts=prompts, device=device)


def _assemble(
    module: BottleneckTransformer, prompts: dict[str, str] | None = None, device: str | None = None
) -> SentenceTransformer:
    pooling = Pooling(module.get_embedding_dimension(), pooling_mode="lasttoken")
    return SentenceTransformer(
        modules=[module, pooling, Normalize()],
        prompts=prompts or {"query": "", "document": ""},
        similarity_fn_name="cosine",
        device=device,
    )


def save_portable(model: SentenceTransformer, path: str | Path) -> None:
    """Write the portable layout, reload it with stock classes, and compare before it takes its place.

    The files are made in a folder of their own and moved to ``path`` one by one, ``config.json`` last: without that
    file nothing loads a directory, so an interrupted save cannot be taken for a model. Weights that were there go;
    other files in ``path`` are left alone.

    Args:
        model: A model whose first module is a `BottleneckTransformer`.
        path: Directory to write to.

    Raises:
        InputError: If the first module is of another class.
        RuntimeError: If what was written does not give the tokens and vectors of ``model``.
    """
    module = bottleneck_module(model)
    path = Path(path)
    path.mkdir(parents=True, exist_ok=True)
    with unfinished_folder(path) as folder:
        _write_portable(model, module, folder)
        _compare_reloaded(model, module, str(folder))
        publish(folder, path)
    logger.info("saved %s: load it with SentenceTransformer(%r)", path, str(path))


@contextlib.contextmanager
def unfinished_folder(path: Path) -> Iterator[Path]:
    """Give a folder within ``path`` to make a model in. It goes afterwards, and those of killed saves with it."""
    for leftover in path.glob(f".model-*{UNFINISHED}"):
        shutil.rmtree(leftover)
    with tempfile.TemporaryDirectory(prefix=".model-", suffix=UNFINISHED, dir=path) as folder:
        yield Path(folder)


def publish(folder: Path, path: Path) -> None:
    """Move a whole model from ``folder`` to ``path`` in place of the one there, ``config.json`` last."""
    for old in (path / "config.json", *path.glob("model*.safetensors*")):
        old.unlink(missing_ok=True)
    files = [file.relative_to(folder) for file in folder.rglob("*") if file.is_file()]
    umask = os.umask(0)
    os.umask(umask)
    for file in sorted(files, key=lambda file: (file == Path("config.json"), file)):
        (path / file).parent.mkdir(exist_ok=True)
        (folder / file).chmod(0o666 & ~umask)  # safetensors writes weights that only their owner can read
        os.replace(folder / file, path / file)


def fingerprint(path: str | Path) -> str:
    """Return a hash of the files that a model directory is loaded from, as 64 hex digits."""
    kinds = {".safetensors", ".json", ".bin", ".txt", ".model"}
    files = [file for file in [*Path(path).glob("*"), *Path(path).glob("[0-9]_*/*")] if file.suffix in kinds]
    return sha256(sorted(file for file in files if file.name not in NOT_LOADED))


def _write_portable(model: SentenceTransformer, module: BottleneckTransformer, folder: Path) -> None:
    module.save(str(folder))
    write_json(folder / "modules.json", PORTABLE_MODULES)
    write_json(
        folder / "config_sentence_transformers.json",
        {
            "model_type": "SentenceTransformer",
            "__version__": {
                "sentence_transformers": sentence_transformers.__version__,
                "transformers": transformers.__version__,
                "pytorch": torch.__version__,
            },
            "prompts": model.prompts,
            "default_prompt_name": model.default_prompt_name,
            "similarity_fn_name": "cosine",
        },
    )
    # No modality_config: beside a modules.json, sentence-transformers then reads plain text, also where the
    # tokenizer has a chat template. text-embeddings-inference and vLLM need exactly these two.
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": module.max_seq_length, "do_lower_case": False})
    (folder / "1_Pooling").mkdir()
    modes = ["cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken"]
    write_json(
        folder / "1_Pooling" / "config.json",
        {
            "word_embedding_dimension": module.get_embedding_dimension(),
            # vLLM before it read the new form takes the first key that is true.
            **{f"pooling_mode_{mode}": mode == "lasttoken" for mode in modes},
            "include_prompt": True,
        },
    )
    (folder / "2_Normalize").mkdir()
    write_json(folder / "2_Normalize" / "config.json", {})
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["is_causal"] = True
    if "rope_theta" in config.get("rope_parameters", {}):  # readers older than transformers 5 look at the top level
        config["rope_theta"] = config["rope_parameters"]["rope_theta"]
    write_json(folder / "config.json", config)


def _compare_reloaded(model: SentenceTransformer, module: BottleneckTransformer, folder: str) -> None:
    reloaded = SentenceTransformer(folder, device=str(model.device), local_files_only=True)
    texts = ["", "What is learned before it is represented?", "One is longer than the others. " * 4]
    k = module.num_bottleneck_tokens
    for text in [*texts, "long " * 2 * module.max_seq_length]:
        batch = reloaded.preprocess([text])
        if batch["input_ids"][0, -k:].tolist() != module.bottleneck_token_ids:
            raise RuntimeError(f"the saved tokenizer does not end {text[:20]!r} with {module.bottleneck_token_ids}")
    expected = model.encode(texts, convert_to_tensor=True, show_progress_bar=False).float()
    found = reloaded.encode(texts, convert_to_tensor=True, show_progress_bar=False).float()
    difference = (expected - found).abs().max().item()
    if not difference <= (SAME_VECTOR if module.model.dtype == torch.float32 else SAME_VECTOR_HALF_PRECISION):
        raise RuntimeError(f"vectors of the saved model differ from those in memory by {difference:.2g}")
