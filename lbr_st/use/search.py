"""Search a file of documents, a folder, or what `lbr encode` wrote: the shortest way to see what a model finds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from sentence_transformers import SentenceTransformer
from torch import Tensor
from tqdm.auto import tqdm

from lbr_st.data.cleaning import clean
from lbr_st.errors import naming_the_extra
from lbr_st.evaluation.ranking import (
    MEMORY_MIB,
    DenseRanker,
    Ranker,
    Scores,
    Weight,
    fuse,
    nearest,
    ranks,
    similarities,
)
from lbr_st.model.encoding import TextEncoder, check_are_texts
from lbr_st.model.lengths import warn_of_longer
from lbr_st.records import Record
from lbr_st.use.vectors import Floats

if TYPE_CHECKING:
    from lbr_st.use.encoded import Encoded

SNIPPET_LINES, SNIPPET_WIDTH = 6, 120


class Hit(NamedTuple):
    """A passage that was found for a question.

    Attributes:
        score: Similarity, or the score of the model and BM25 together.
        row: Position of the passage.
        ranks: Rank by ``model`` and by ``bm25``, where both searched.
    """

    score: float
    row: int
    ranks: dict[str, int | None] | None = None


def search(
    model: SentenceTransformer,
    passages: Sequence[Record],
    questions: Sequence[str],
    k: int = 3,
    fuse_weight: Weight | None = None,
    memory_mib: int = MEMORY_MIB,
) -> list[list[tuple[float, Record]]]:
    """Find the passages nearest to each question, and say how many texts are longer than the model reads.

    Args:
        model: Model whose query and document prompts are applied.
        passages: Records with ``document``.
        questions: Questions in natural language.
        k: Number of passages to return for each.
        fuse_weight: Share of the model where it searches together with BM25, or ``"rrf"``, see
            `lbr_st.evaluation.ranking.fuse`; default is the model alone.
        memory_mib: Memory for the vectors that are compared at once, in MiB. The model alone encodes no more passages
            at a time, and keeps none of their vectors.

    Returns:
        For each question (similarity, passage) pairs, best first; of equal ones the first comes first. With BM25 the
        score is that of both together, and a passage has ``ranks``, its rank by ``model`` and by ``bm25``; None where
        BM25 finds no word in it.

    Raises:
        InputError: If it is to be fused with BM25 and its packages are not installed.
    """
    documents, asked = [passage["document"] for passage in passages], _cleaned(questions)
    warn_of_longer(model, asked, documents)
    if fuse_weight is not None:
        by_words = _bm25(documents)
        found = _by_both(by_words, DenseRanker(model, documents, memory_mib=memory_mib), asked, k, fuse_weight)
    else:
        encoder = TextEncoder(model)
        with tqdm(total=len(documents), desc="Encoding", unit="texts") as progress:

            def read(some: slice) -> Tensor:
                return encoder.encode(documents[some], on_texts=progress.update)

            parts = similarities(model, encoder.encode(asked, "query"), read, len(documents), memory_mib)
            found = _by_model(parts, k)
    return _with_passages(found, passages)


def search_encoded(
    model: SentenceTransformer,
    encoded: Encoded,
    questions: Sequence[str],
    k: int = 3,
    fuse_weight: Weight | None = None,
    memory_mib: int = MEMORY_MIB,
) -> list[list[tuple[float, Record]]]:
    """Find the passages nearest to each question among those whose vectors `lbr encode` wrote.

    The vectors stay on disk, and of the passages only those are read that are found.

    Args:
        model: Model that encoded them, whose query prompt is applied.
        encoded: The vectors.
        questions: Questions in natural language.
        k: Number of passages to return for each.
        fuse_weight: See `search`.
        memory_mib: Memory for the vectors that are compared at once, in MiB.

    Returns:
        What `search` returns; a passage has no ``document`` where its text was not kept.

    Raises:
        InputError: If a file of the vectors is damaged, or BM25 has no texts to search in or is not installed.
        OSError: If the vectors cannot be laid out to be mapped, at the first time.
    """
    asked = _cleaned(questions)
    warn_of_longer(model, asked, [])
    vectors = encoded.vectors(model)
    if fuse_weight is not None:
        texts = encoded.texts("--fuse bm25")
        by_model = DenseRanker(model, texts, vectors=vectors, memory_mib=memory_mib)
        found = _by_both(_bm25(texts), by_model, asked, k, fuse_weight)
    else:
        with tqdm(total=len(vectors), desc="Searching", unit="passages") as progress:

            def read(some: slice) -> Floats:
                rows = vectors[some]
                progress.update(len(rows))
                return rows

            queries = TextEncoder(model).encode(asked, "query")
            found = _by_model(similarities(model, queries, read, len(vectors), memory_mib), k)
    return _with_passages(found, encoded.records(hit.row for of_question in found for hit in of_question))


def _cleaned(questions: Sequence[str]) -> list[str]:
    """Return questions without what no tokenizer takes, as it is left out of documents."""
    check_are_texts(questions)
    return [clean(question, keep_html=True, one_line=True) for question in questions]


def _by_model(parts: Iterable[tuple[slice, Scores]], k: int) -> list[list[Hit]]:
    return [[Hit(score, row) for score, row in of_question] for of_question in nearest(parts, k)]


def _bm25(documents: Sequence[str]) -> Ranker:
    with naming_the_extra("--fuse bm25"):
        from lbr_st.evaluation.bm25 import BM25Ranker
    return BM25Ranker(documents)


def _by_both(of_words: Ranker, of_model: Ranker, questions: Sequence[str], k: int, weight: Weight) -> list[list[Hit]]:
    found = []
    # The blocks of both are the same, as they have the same number of texts.
    for (_, lexical), (_, similar) in zip(of_words.scores(questions), of_model.scores(questions), strict=True):
        fused, by_model, by_words = fuse(similar, lexical, weight), ranks(similar), ranks(lexical)
        # Of two with the same score the one that is nearer to the model's first comes first.
        for row, best in enumerate(np.lexsort((by_model, -fused), axis=1)[:, :k]):
            found.append([
                Hit(float(fused[row, number]), int(number), {
                    "model": int(by_model[row, number]),
                    "bm25": int(by_words[row, number]) if lexical[row, number] > 0 else None,
                })
                for number in best
            ])  # fmt: skip
    return found


def _with_passages(
    found: Sequence[Sequence[Hit]], passages: Sequence[Record] | Mapping[int, Record]
) -> list[list[tuple[float, Record]]]:
    def passage_of(hit: Hit) -> Record:
        return passages[hit.row] if hit.ranks is None else passages[hit.row] | {"ranks": hit.ranks}

    return [[(hit.score, passage_of(hit)) for hit in of_question] for of_question in found]


def format_hits(question: str, hits: Sequence[tuple[float, Record]]) -> str:
    """Lay the passages found for a question out for reading; one whose text was not kept is its id alone."""
    parts = [f"\n> {question}"]
    for score, passage in hits:
        lines = passage.get("document", "").splitlines()
        more = [f"... ({len(lines) - SNIPPET_LINES} more lines)"] if len(lines) > SNIPPET_LINES else []
        places = ", ".join(f"{name} {rank or '-'}" for name, rank in passage.get("ranks", {}).items())
        parts.append(f"  {score:.3f}  {passage['id']}{f'  ({places})' if places else ''}")
        parts += [f"    {line}"[:SNIPPET_WIDTH] for line in lines[:SNIPPET_LINES] + more]
    return "\n".join(parts)
