"""``POST /v1/embeddings`` as OpenAI has it: what is asked, and what is answered."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sentence_transformers import SentenceTransformer

from lbr_st.errors import one_line, shortened
from lbr_st.model.dimensions import trained_dimensions
from lbr_st.model.weights import reads_by_layers
from lbr_st.serving.batching import Vectors
from lbr_st.serving.config import OF_QUERIES, ServeConfig
from lbr_st.serving.replies import ApiError

FORMATS = ("float", "base64")
ROLES = ("query", "document")
SHOWN = 60  # characters of a text that an error names
FIELDS = ("input", "model", "encoding_format", "dimensions", "input_type", "user")
HALVES = {half: None for half in range(0xD800, 0xE000)}  # of surrogate pairs, which no tokenizer takes

Lengths = Callable[[Sequence[str], str], Sequence[int]]


@dataclass(frozen=True)
class Asked:
    """What a request asks for.

    Attributes:
        model: What the client calls the model.
        texts: The texts.
        lengths: Number of tokens of each, also of those that are not read.
        role: ``query`` or ``document``.
        encoding: One of `FORMATS`.
        dimensions: Number of dimensions to keep; None for all.
    """

    model: str
    texts: list[str]
    lengths: Sequence[int]
    role: str
    encoding: str
    dimensions: int | None


def needs_tokens(model: SentenceTransformer, lengths: Lengths) -> bool:
    """Tell whether a text without a token has no vector: of a table of words it is zero, and some models count none."""
    return reads_by_layers(model) and lengths(["word"], "document") != [0]


def require_tokens(field: str, texts: Sequence[str], lengths: Sequence[int]) -> None:
    """Refuse a text that no token is made of, as an empty one may be: it would have no vector.

    Raises:
        ApiError: With the first such text.
    """
    if 0 in lengths:
        number = lengths.index(0)
        text = shortened(repr(texts[number]), SHOWN)
        raise wrong(field, f"has no token in text {number}, {text}: the model has no vector for it", "empty_text")


class Reader:
    """Reads requests for one model.

    Args:
        config: Bounds, and the name of the model.
        model: The model.
        lengths: Counts the tokens of texts of a role.
    """

    def __init__(self, config: ServeConfig, model: SentenceTransformer, lengths: Lengths) -> None:
        self.config, self.lengths = config, lengths
        self.width = model.get_embedding_dimension()
        self.cuts = trained_dimensions(model)
        name = config.served_name
        self.roles = {name: None, name + OF_QUERIES: "query"}
        self._needs_tokens = needs_tokens(model, lengths)

    def __call__(self, body: bytes) -> Asked:
        """Return what a body asks for.

        Raises:
            ApiError: If it is not JSON, a field is not there or has another kind of value, or it is too much.
        """
        values = object_of(body, FIELDS)
        name, role = self._model(values)
        texts = self._texts(values.get("input"))
        encoding = values.get("encoding_format") or FORMATS[0]
        if encoding not in FORMATS:
            raise wrong("encoding_format", f"must be {' or '.join(FORMATS)}")
        dimensions = self._dimensions(values.get("dimensions"))
        lengths = self.lengths(texts, role)
        if self._needs_tokens:
            require_tokens("input", texts, lengths)
        if sum(lengths) > self.config.max_tokens:
            raise ApiError(
                422,
                f"input has {sum(lengths):,} tokens, and a request may have {self.config.max_tokens:,}",
                param="input",
                code="too_many_tokens",
            )
        return Asked(name, texts, lengths, role, encoding, dimensions)

    def _model(self, values: Mapping[str, Any]) -> tuple[str, str]:
        name = values.get("model") or self.config.served_name
        if not isinstance(name, str) or name not in self.roles:
            known = " and ".join(self.roles)
            raise ApiError(404, f"the models here are {known}", param="model", code="model_not_found")
        role, by_name = values.get("input_type"), self.roles[name]
        if role is not None and role not in ROLES:
            raise wrong("input_type", f"must be {' or '.join(ROLES)}")
        if role is not None and by_name not in (None, role):
            raise wrong("input_type", f"is {role}, and {name} is the name of the model for queries")
        return name, role or by_name or "document"

    def _texts(self, found: Any) -> list[str]:
        texts = [found] if isinstance(found, str) else found
        if found is None or (isinstance(texts, list) and not texts):
            raise wrong("input", "is missing or empty: send a text or a list of texts")
        if isinstance(texts, list) and any(_is_token_ids(each) for each in texts):
            raise wrong(
                "input",
                "holds token ids, which leave out what the model appends to a text: send texts. LangChain's "
                "OpenAIEmbeddings sends them with check_embedding_ctx_length=False",
                "token_ids",
            )
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise wrong("input", "must be a text or a list of texts")
        if len(texts) > self.config.max_texts:
            raise ApiError(
                422,
                f"input has {len(texts):,} texts, and a request may have {self.config.max_texts:,}",
                param="input",
                code="too_many_texts",
            )
        return without_halves(texts)

    def _dimensions(self, found: Any) -> int | None:
        if found is None or (found == self.width and not isinstance(found, bool)):
            return None
        if isinstance(found, bool) or not isinstance(found, int):
            raise wrong("dimensions", "must be a whole number")
        if found not in self.cuts:
            trained = ", ".join(map(str, self.cuts))
            raise wrong("dimensions", f"must be one that the model was trained for: {trained}", "dimensions")
        return found


def without_halves(texts: Sequence[str]) -> list[str]:
    """Return texts without halves of surrogate pairs, as JSON may spell them."""
    return [text.translate(HALVES) for text in texts]


def _is_token_ids(value: Any) -> bool:
    return isinstance(value, int | list) and not isinstance(value, bool)


def object_of(body: bytes, fields: Sequence[str]) -> Mapping[str, Any]:
    """Return the JSON object that a body is.

    Args:
        body: The body.
        fields: Fields that it may have.

    Raises:
        ApiError: If it is none, or has another field.
    """
    try:
        values = json.loads(body)
    except (ValueError, RecursionError) as error:
        said = one_line(error) if isinstance(error, ValueError) else "nested too deep"
        raise ApiError(400, f"the body is not JSON: {said}", code="not_json") from error
    if not isinstance(values, dict):
        raise ApiError(400, f"the body must be a JSON object, with {' and '.join(fields[:2])}", code="not_json")
    check_names([*values], fields)
    return values


def check_names(names: Sequence[str], known: Sequence[str]) -> None:
    """Refuse what would be read by nobody.

    Args:
        names: Names of fields or parameters of a request.
        known: Those that there are.

    Raises:
        ApiError: If one is another, or is there twice.
    """
    for name in names:
        if name not in known:
            raise wrong(name, f"is no field; there are {', '.join(known)}")
        if names.count(name) > 1:
            raise wrong(name, "is given more than once")


def wrong(field: str, what: str, code: str | None = None) -> ApiError:
    """Return the error of a field that cannot be used."""
    return ApiError(400, f"{field} {what}", param=field, code=code)


def answer(asked: Asked, vectors: Vectors, tokens: int) -> bytes:
    """Return the answer to a request.

    Args:
        asked: The request.
        vectors: Vectors of its texts.
        tokens: Number of tokens that the model read.
    """
    if asked.dimensions is not None and asked.dimensions < vectors.shape[1]:
        vectors = vectors[:, : asked.dimensions]
        vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    # One vector at a time: a thread that makes a long text of numbers lets no other one run meanwhile.
    rows = (
        f'{{"object": "embedding", "index": {number}, "embedding": {_spelled(vector, asked.encoding)}}}'
        for number, vector in enumerate(vectors)
    )
    usage = json.dumps({"prompt_tokens": tokens, "total_tokens": tokens})
    model = json.dumps(asked.model)
    return f'{{"object": "list", "data": [{", ".join(rows)}], "model": {model}, "usage": {usage}}}'.encode("ascii")


def _spelled(vector: Vectors, encoding: str) -> str:
    if encoding == "base64":
        return f'"{base64.b64encode(vector.astype("<f4").tobytes()).decode("ascii")}"'
    return json.dumps(vector.tolist())
