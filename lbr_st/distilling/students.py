"""Small encoders of queries, and the directory that holds one of them and the model that it is for."""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Normalize, Router
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase

from lbr_st.errors import InputError, UnfinishedError
from lbr_st.files import filling
from lbr_st.model.bottleneck import BottleneckTransformer
from lbr_st.model.contract import keep_documents_of
from lbr_st.model.layers import check_layers, keep_layers
from lbr_st.model.lengths import TextLimit
from lbr_st.model.quiet import quietly

logger = logging.getLogger(__name__)

# The file that is written last: without it nothing opens a directory of two encoders.
LAST = "router_config.json"
SAME_VECTOR = 1e-4  # the largest difference between two numbers of one vector


def make_student(model: SentenceTransformer, layers: int | None, name: str) -> SentenceTransformer:
    """Make an encoder of queries that is to learn the vectors of a model; its weights are in float32.

    A table is an encoder of static embeddings that begins with the token embeddings of the model. It reads queries
    without a prompt, which would add the same to each of them; the layers read them with the model's own.

    Args:
        model: Model of stock classes alone, whose first module is a transformer. It is not changed.
        layers: Number of its first layers that the student has; None for a table.
        name: What the model is called in messages.

    Returns:
        A model with the prompt ``query``, which a trainer and `save_both` use.

    Raises:
        InputError: If the model is of another kind, or cannot be cut to so many layers.
    """
    transformer = model.transformers_model
    if isinstance(model[0], BottleneckTransformer):
        raise InputError(
            f"--model {name}: the number of its bottleneck tokens follows the length of a text, which stock classes of "
            "sentence-transformers cannot do; a model of one number can be distilled"
        )
    if model.truncate_dim is not None:
        raise InputError(
            f"--model {name} keeps the first {model.truncate_dim} numbers of its vectors, and a student learns whole "
            "ones; take truncate_dim out of its config_sentence_transformers.json"
        )
    if isinstance(model[0], Router) or transformer is None:
        raise InputError(f"--model {name} is no transformer, but begins with {type(model[0]).__name__}")
    if layers is None:
        return _table(model, name)
    check_layers(layers, transformer.config, name, "--student layers:")
    student = copy.deepcopy(model).float()
    cut: Any = student.transformers_model
    keep_layers(cut, layers)
    student.prompts["query"] = TextLimit(model, "query").prompt
    return student


def _table(model: SentenceTransformer, name: str) -> SentenceTransformer:
    """Return an encoder of static embeddings, with the tokens of a model and vectors of its width."""
    if not isinstance(model.tokenizer, PreTrainedTokenizerBase) or not model.tokenizer.is_fast:
        raise InputError(
            f"--model {name} has no fast tokenizer, and a table of tokens needs one; take --student layers:N"
        )
    tokenizer = Tokenizer.from_str(model.tokenizer.backend_tokenizer.to_str())
    tokenizer.no_truncation()
    transformer: Any = model.transformers_model
    rows = transformer.get_input_embeddings().weight.detach().float().cpu().clone()
    # Of one size whatever the family: a learning rate is then a share of it.
    table = StaticEmbedding(tokenizer, embedding_weights=rows / rows.std())
    width = model.get_embedding_dimension()
    assert width is not None
    projection = Dense(rows.shape[1], width, activation_function=None)
    return SentenceTransformer(
        modules=[table, projection, Normalize()],
        prompts={"query": "", "document": ""},
        similarity_fn_name=model.similarity_fn_name,
        device=str(model.device),
    )


def both(student: SentenceTransformer, model: SentenceTransformer) -> SentenceTransformer:
    """Return one model whose ``encode_query`` takes the student, and whose ``encode_document`` the model."""
    router = Router.for_query_document(
        query_modules=list(student.children()),  # type: ignore[arg-type]
        document_modules=list(model.children()),  # type: ignore[arg-type]
    )
    prompts: dict[str, Any] = {**model.prompts, "query": student.prompts["query"]}
    return SentenceTransformer(
        modules=[router],
        prompts=prompts,
        default_prompt_name=model.default_prompt_name,
        similarity_fn_name=model.similarity_fn_name,
        device=str(model.device),
    )


def save_both(
    student: SentenceTransformer, model: SentenceTransformer, path: str | Path, texts: Sequence[str], name: str
) -> SentenceTransformer:
    """Save a student and its model as one directory of stock classes, whole or not at all.

    Args:
        student: Encoder of queries, of `make_student`.
        model: Encoder of documents.
        path: Directory to write to; other files in it stay.
        texts: Texts whose vectors are compared before the directory takes its place.
        name: Directory or Hub id of the model, whose vectors of documents stay valid.

    Returns:
        What stock classes open of it.

    Raises:
        UnfinishedError: If what was written gives other vectors.
    """
    whole = both(student, model).eval()
    with filling(path, last=LAST) as folder:
        whole.save_pretrained(str(folder), create_model_card=False)
        with quietly():
            opened = SentenceTransformer(str(folder), device=str(model.device), local_files_only=True).eval()
        for role, expected in (
            ("query", student.encode_query(list(texts), show_progress_bar=False)),
            ("document", model.encode_document(list(texts), show_progress_bar=False)),
        ):
            encode: Any = getattr(opened, f"encode_{role}")
            found = encode(list(texts), show_progress_bar=False)
            difference = float(np.abs(np.asarray(found) - np.asarray(expected)).max())
            if not difference <= SAME_VECTOR:
                raise UnfinishedError(
                    f"the model was not saved: what was written gives other {role} vectors, by {difference:.1g}"
                )
        keep_documents_of(folder, name)
    logger.info("saved %s: load it with SentenceTransformer(%r)", path, str(path))
    return opened


def nearness(vectors: np.ndarray, expected: torch.Tensor) -> float:
    """Return the mean cosine of vectors and those that they are to be.

    Args:
        vectors: ``(texts, dimensions)``.
        expected: The same, of length 1.
    """
    cosines = torch.nn.functional.cosine_similarity(torch.as_tensor(vectors).float(), expected, dim=1)
    return float(cosines.mean())
