"""What a vector says, in the words that the head of the language model reads out of it."""

from __future__ import annotations

from collections.abc import Sequence

from sentence_transformers import SentenceTransformer

from lbr_st.errors import InputError
from lbr_st.evaluation.read_out import read_out, warn_of_unlearned
from lbr_st.model.exported import read_made
from lbr_st.model.named import has_bottleneck_tokens
from lbr_st.model.opening import open_with_language_model
from lbr_st.serving.embeddings import ROLES, Lengths, object_of, without_halves, wrong
from lbr_st.serving.replies import ApiError

MOST_TEXTS = 64
WORDS = 12


class Speaker:
    """Says the vectors of a model in words; its language model is opened at the first question.

    Args:
        name: Directory or Hub id of the model.
    """

    def __init__(self, name: str) -> None:
        # An export has no head.
        self.name, self.can_speak = name, read_made(name) is None and has_bottleneck_tokens(name)
        self._model: SentenceTransformer | None = None

    def __call__(self, texts: Sequence[str], role: str) -> list[list[tuple[str, float]]]:
        """Return the words of each text with their weights, see `lbr_st.evaluation.read_out.read_out`.

        Raises:
            InputError: If it is no model of this package.
        """
        if not self.can_speak:
            raise InputError("only a model of this package, not an export of it, can say its vectors in words")
        if self._model is None:
            self._model = open_with_language_model(self.name).eval()
            warn_of_unlearned(self._model)
        return read_out(self._model, texts, WORDS, role=role)


def read_texts(body: bytes, most_tokens: int, lengths: Lengths) -> tuple[list[str], str]:
    """Return the texts of a request, and their role.

    Args:
        body: JSON with ``input``, a list of texts, and ``input_type``.
        most_tokens: Most tokens that they may have.
        lengths: Counts the tokens of texts of a role.

    Raises:
        ApiError: If it is another thing, or too much.
    """
    values = object_of(body, ("input", "input_type"))
    texts, role = values.get("input"), values.get("input_type") or ROLES[0]
    if role not in ROLES:
        raise wrong("input_type", f"must be {' or '.join(ROLES)}")
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise wrong("input", "must be a list of texts")
    if len(texts) > MOST_TEXTS:
        raise ApiError(422, f"input has {len(texts):,} texts, and may have {MOST_TEXTS} here", param="input")
    texts = without_halves(texts)
    if (tokens := sum(lengths(texts, role))) > most_tokens:
        raise ApiError(422, f"input has {tokens:,} tokens, and a request may have {most_tokens:,}", param="input")
    return texts, role
