"""Search a file of documents or a folder with a model: the shortest way to see what it finds."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from sentence_transformers import SentenceTransformer
from sentence_transformers.util import semantic_search

from lbr_st.data.prepared_set import file_of
from lbr_st.data.records import read_passages
from lbr_st.model.opening import open_sentence_transformer
from lbr_st.records import Record

SNIPPET_LINES = 6


def search(
    model: SentenceTransformer, passages: Sequence[Record], questions: Sequence[str], top_k: int = 3
) -> list[list[tuple[float, Record]]]:
    """Find the passages nearest to each question.

    Args:
        model: Its query and document prompts are applied.
        passages: Records with ``document``.
        questions: Natural-language questions.
        top_k: Passages to return for each.

    Returns:
        For each question (cosine, passage) pairs, best first.
    """
    corpus = model.encode_document([p["document"] for p in passages], convert_to_tensor=True, show_progress_bar=True)
    queries = model.encode_query(list(questions), convert_to_tensor=True)
    hits = semantic_search(queries, corpus, top_k=top_k)
    return [[(hit["score"], passages[int(hit["corpus_id"])]) for hit in of_question] for of_question in hits]


def format_hits(question: str, hits: Sequence[tuple[float, Record]]) -> str:
    """Lay the passages found for a question out for reading."""
    parts = [f"\n> {question}"]
    for score, passage in hits:
        lines = passage["document"].splitlines()
        more = [f"... ({len(lines) - SNIPPET_LINES} more lines)"] if len(lines) > SNIPPET_LINES else []
        snippet = "\n".join(f"    {line}"[:120] for line in lines[:SNIPPET_LINES] + more)
        parts.append(f"  {score:.3f}  {passage['id']}\n{snippet}")
    return "\n".join(parts)


def main(argv: Sequence[str] | None = None) -> None:
    """Run ``lbr search``.

    Raises:
        InputError: If the model or the data cannot be used.
    """
    parser = argparse.ArgumentParser(prog="lbr search", description="Search documents with a model.")
    parser.add_argument("--model", required=True, metavar="DIR", help="sentence-transformers directory or Hub id")
    parser.add_argument(
        "--data",
        required=True,
        metavar="FILE_OR_FOLDER",
        help="set of `lbr data prepare`, a file of documents, or a folder of text files",
    )
    parser.add_argument("--top-k", type=int, default=3, metavar="N", help="passages a question (default: %(default)s)")
    parser.add_argument("question", nargs="+", help="one or more questions")
    args = parser.parse_args(argv)
    passages = read_passages(file_of(args.data, "corpus"))
    model = open_sentence_transformer(args.model)
    for question, hits in zip(args.question, search(model, passages, args.question, args.top_k), strict=True):
        print(format_hits(question, hits))  # noqa: T201
