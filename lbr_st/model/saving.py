"""One model, two layouts on disk.

*Portable*, the default: stock classes only, so ``SentenceTransformer(path)`` needs neither this package nor a flag,
and servers that read sentence-transformers directories read it too. *Native*: what ``model.save_pretrained`` writes
of a model in memory (training checkpoints), and `save` of one whose number of bottleneck tokens follows the length of
the text; ``SentenceTransformer(path, trust_remote_code=True)`` reads it where this package is installed. `load` reads
both.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import sentence_transformers
import torch
import transformers
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Normalize
from sentence_transformers.sentence_transformer.modules import Pooling
from sentence_transformers.util import load_file_path

from lbr_st.errors import InputError, UnfinishedError
from lbr_st.files import filling, read_json, write_json
from lbr_st.model import card as model_card
from lbr_st.model.bottleneck import BottleneckTransformer, bottleneck_module
from lbr_st.model.contract import (
    BESIDE_THE_TOKENIZER,
    LAST_TOKEN_POOLING,
    POOLING_CONFIG,
    PORTABLE_MODULES,
    REFERENCE,
    VerificationError,
    check_files,
    foreign_weights,
)
from lbr_st.model.devices import check_device
from lbr_st.model.precision import evaluating
from lbr_st.model.quiet import quietly
from lbr_st.model.verify import reference_of, verify

logger = logging.getLogger(__name__)

# Files that one model has and the next in the same directory may not have: they would be read with it.
STALE = [
    "model*.safetensors*",
    "sentence_bert_config.json",
    "chat_template.jinja",
    "generation_config.json",
    REFERENCE,
    *BESIDE_THE_TOKENIZER,
]


def from_backbone(
    model_name_or_path: str,
    *,
    num_bottleneck_tokens: int | None = None,
    max_seq_length: int | None = None,
    compression_ratio: float | None = None,
    nested: bool = False,
    **model_kwargs: Any,
) -> SentenceTransformer:
    """Start from a plain causal language model: a local directory, a Hub id, a GGUF file, or an adapter.

    Args:
        model_name_or_path: Directory, id of the Hub, GGUF file (its weights are dequantized) or directory that holds
            one, or a PEFT adapter, which is merged into its base.
        num_bottleneck_tokens: Number of bottleneck tokens to add. Default: 1; with a compression ratio, as many as
            the longest text asks for, at most 64.
        max_seq_length: Longest input in tokens, bottleneck tokens and BOS included; default is the longest the
            backbone takes.
        compression_ratio: Tokens of text to a bottleneck token; default is a fixed number, see
            `BottleneckTransformer`.
        nested: Whether any first part of the bottleneck tokens is a bottleneck too, see `lbr_st.model.nested`.
        **model_kwargs: Arguments of ``AutoModelForCausalLM.from_pretrained``.

    Returns:
        A model whose first module is a `BottleneckTransformer`, with prompts ``query`` and ``document`` empty.

    Raises:
        InputError: If the backbone is quantized or cannot take bottleneck tokens, or the length leaves no room for
            text or is more than the backbone reads; or the bottleneck cannot be nested.
    """
    return assemble(
        BottleneckTransformer.from_backbone(
            model_name_or_path,
            num_bottleneck_tokens=num_bottleneck_tokens,
            max_seq_length=max_seq_length,
            compression_ratio=compression_ratio,
            nested=nested,
            **model_kwargs,
        )
    )


def load(model_name_or_path: str, *, device: str | None = None, **kwargs: Any) -> SentenceTransformer:
    """Load a model saved by this package, of either layout, with its `BottleneckTransformer`.

    Args:
        model_name_or_path: Directory or Hub id.
        device: Device to put it on; default as sentence-transformers chooses.
        **kwargs: Arguments of `BottleneckTransformer.load`: ``revision``, ``token``, ``model_kwargs`` ...

    Raises:
        InputError: If it was not saved by this package, or a directory is damaged: with the file and the reason; or
            there is no such device.
    """
    check_device(device)
    if Path(model_name_or_path).is_dir():
        try:
            check_files(model_name_or_path)
        except VerificationError as error:
            raise VerificationError(f"{model_name_or_path} cannot be loaded: {error}") from error
    module = BottleneckTransformer.load(model_name_or_path, **kwargs)
    hub = {key: kwargs[key] for key in ("token", "cache_folder", "revision", "local_files_only") if key in kwargs}
    path = load_file_path(model_name_or_path, "config_sentence_transformers.json", **hub)
    saved = read_json(Path(path)) if path else {}
    model = assemble(module, saved.get("prompts"), saved.get("default_prompt_name"), device)
    model.truncate_dim = saved.get("truncate_dim")
    return model


def assemble(
    module: BottleneckTransformer,
    prompts: dict[str, str] | None = None,
    default_prompt_name: str | None = None,
    device: str | None = None,
) -> SentenceTransformer:
    """Return the model of a module: last-token pooling and normalisation follow it.

    Args:
        module: The module.
        prompts: Text before a query and a document; default is none.
        default_prompt_name: Prompt of texts of no role; default is none.
        device: Device to put it on; default as sentence-transformers chooses.
    """
    pooling = Pooling(module.get_embedding_dimension(), pooling_mode="lasttoken")
    return SentenceTransformer(
        modules=[module, pooling, Normalize()],
        prompts=prompts or {"query": "", "document": ""},
        default_prompt_name=default_prompt_name,
        similarity_fn_name="cosine",
        device=device,
    )


def save(model: SentenceTransformer, path: str | Path) -> None:
    """Save a model, and verify what was written before it takes its place.

    A model with a fixed number of bottleneck tokens is saved in the portable layout. One whose number follows the
    length of the text is saved in the native layout: no stock class appends a number of tokens that varies.

    The files are made in a folder of their own and moved to ``path`` one by one, ``config.json`` last: without that
    file nothing loads a directory, so an interrupted save cannot be taken for a model. Weights that were there go;
    other files in ``path`` are left alone, a card that somebody else wrote among them.

    Args:
        model: A model whose first module is a `BottleneckTransformer`.
        path: Directory to write to.

    Raises:
        InputError: If the first module is of another class, or ``path`` holds weights in other files than this writes.
        UnfinishedError: If what was written does not pass `lbr_st.model.verify`, or gives other vectors than ``model``.
    """
    module = bottleneck_module(model)
    path = Path(path)
    foreign = foreign_weights(path)
    if foreign:
        raise InputError(
            f"{path} holds {foreign[0].name}, which readers would take for a part of the model; save elsewhere"
        )
    is_portable = module.compression_ratio is None
    with filling(path, last="config.json", stale=STALE) as folder:
        try:
            with quietly(), evaluating(model):
                if is_portable:
                    _write_portable(model, module, folder)
                else:
                    model.save_pretrained(str(folder), create_model_card=False)
                write_json(folder / REFERENCE, reference_of(model, folder))
                for line in verify(folder, in_memory=model, device=str(model.device)):
                    logger.debug(line)
        except VerificationError as error:
            raise UnfinishedError(f"the model was not saved, what was written is wrong: {error}") from error
        if not model_card.is_by_hand(path):
            model_card.write(folder, **{"name": path.resolve().name} | model_card.said(path))
    if is_portable:
        logger.info("saved and verified %s: load it with SentenceTransformer(%r)", path, str(path))
    else:
        logger.info(
            "saved and verified %s in the native layout, as the number of bottleneck tokens follows the length of the "
            "text: load it with SentenceTransformer(%r, trust_remote_code=True) where lbr-st is installed",
            path,
            str(path),
        )


def save_other(model: SentenceTransformer, path: str | Path) -> None:
    """Save a sentence-transformers model of another kind as it saves itself, whole or not at all; a card stays."""
    path = Path(path)
    with filling(path, last="config.json", stale=STALE) as folder:
        model.save_pretrained(str(folder), create_model_card=not (path / model_card.CARD).exists())
    logger.info("saved %s: load it with SentenceTransformer(%r)", path, str(path))


def save_any(model: SentenceTransformer, path: str | Path) -> None:
    """Save a model of this package as `save` does, another one as `save_other` does."""
    write = save if isinstance(model[0], BottleneckTransformer) else save_other
    write(model, path)


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
            **({} if model.truncate_dim is None else {"truncate_dim": model.truncate_dim}),
        },
    )
    # No modality_config: beside a modules.json, sentence-transformers then reads plain text, also where the
    # tokenizer has a chat template. text-embeddings-inference and vLLM need exactly these two.
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": module.max_seq_length, "do_lower_case": False})
    (folder / "1_Pooling").mkdir()
    width = {"word_embedding_dimension": module.get_embedding_dimension()}
    write_json(folder / POOLING_CONFIG, width | LAST_TOKEN_POOLING)
    (folder / "2_Normalize").mkdir()
    write_json(folder / "2_Normalize" / "config.json", {})
    config = read_json(folder / "config.json")
    config["is_causal"] = True
    config["pad_token_id"] = module.tokenizer.pad_token_id  # text-embeddings-inference refuses null
    if "rope_theta" in (config.get("rope_parameters") or {}):  # readers older than transformers 5 look at the top level
        config["rope_theta"] = config["rope_parameters"]["rope_theta"]
    write_json(folder / "config.json", config)
