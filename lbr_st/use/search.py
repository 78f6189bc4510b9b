"""Search a file of documents or a folder with a model: the shortest way to see what it finds."""

from __future__ import annotations

from collections.abc import Sequence

from sentence_transformers import SentenceTransformer
from sentence_transformers.util import semantic_search

from lbr_st.data.cleaning import clean
from lbr_st.model.lengths import warn_of_longer
from lbr_st.records import Record

SNIPPET_LINES, SNIPPET_WIDTH = 6, 120


def search(
    model: SentenceTransformer, passages: Sequence[Record], questions: Sequence[str], k: int = 3
) -> list[list[tuple[float, Record]]]:
    """Find the passages nearest to each question, and say how many texts are longer than the model reads.

    Args:
        model: Model whose query and document prompts are applied.
        passages: Records with ``document``.
        questions: Questions in natural language.
        k: Number of passages to return for each.

    Returns:
        For each question (cosine, passage) pairs, best first.
    """
    documents = [passage["document"] for passage in passages]
    # Of a question, too, what no tokenizer takes is left out.
    asked = [clean(question, keep_html=True, one_line=True) for question in questions]
    warn_of_longer(model, asked, documents)
    corpus = model.encode_document(documents, convert_to_tensor=True, show_progress_bar=True)
    queries = model.encode_query(asked, convert_to_tensor=True)
    hits = semantic_search(queries, corpus, top_k=min(k, len(passages)))
    return [[(hit["score"], passages[int(hit["corpus_id"])]) for hit in of_question] for of_question in hits]


def format_hits(question: str, hits: Sequence[tuple[float, Record]]) -> str:
    """Lay the passages found for a question out for reading."""
    parts = [f"\n> {question}"]
    for score, passage in hits:
        lines = passage["document"].splitlines()
        more = [f"... ({len(lines) - SNIPPET_LINES} more lines)"] if len(lines) > SNIPPET_LINES else []
        snippet = "\n".join(f"    {line}"[:SNIPPET_WIDTH] for line in lines[:SNIPPET_LINES] + more)
        parts.append(f"  {score:.3f}  {passage['id']}\n{snippet}")
    return "\n".join(parts)
