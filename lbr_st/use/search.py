"""Search a file of documents or a folder with a model: the shortest way to see what it finds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sentence_transformers import SentenceTransformer
from sentence_transformers.util import semantic_search
from tqdm.auto import tqdm

from lbr_st.data.cleaning import clean
from lbr_st.errors import naming_the_extra
from lbr_st.evaluation.ranking import DenseRanker, Weight, fuse, ranks
from lbr_st.model.encoding import TextEncoder
from lbr_st.model.lengths import warn_of_longer
from lbr_st.records import Record

SNIPPET_LINES, SNIPPET_WIDTH = 6, 120


def search(
    model: SentenceTransformer,
    passages: Sequence[Record],
    questions: Sequence[str],
    k: int = 3,
    fuse_weight: Weight | None = None,
) -> list[list[tuple[float, Record]]]:
    """Find the passages nearest to each question, and say how many texts are longer than the model reads.

    Args:
        model: Model whose query and document prompts are applied.
        passages: Records with ``document``.
        questions: Questions in natural language.
        k: Number of passages to return for each.
        fuse_weight: Share of the model where it searches together with BM25, or ``"rrf"``, see
            `lbr_st.evaluation.ranking.fuse`; default is the model alone.

    Returns:
        For each question (cosine, passage) pairs, best first. With BM25 the score is that of both together, and a
        passage has ``ranks``, its rank by ``model`` and by ``bm25``; None where BM25 finds no word in it.

    Raises:
        InputError: If it is to be fused with BM25 and its packages are not installed.
    """
    documents = [passage["document"] for passage in passages]
    # Of a question, too, what no tokenizer takes is left out.
    asked = [clean(question, keep_html=True, one_line=True) for question in questions]
    warn_of_longer(model, asked, documents)
    if fuse_weight is not None:
        return _search_both(model, passages, asked, k, fuse_weight)
    encoder = TextEncoder(model)
    with tqdm(total=len(documents), desc="Encoding", unit="texts") as progress:
        corpus = encoder.encode(documents, on_texts=progress.update).to(model.device)
    queries = encoder.encode(asked, "query").to(model.device)
    hits = semantic_search(queries, corpus, top_k=min(k, len(passages)))
    return [[(hit["score"], passages[int(hit["corpus_id"])]) for hit in of_question] for of_question in hits]


def _search_both(
    model: SentenceTransformer, passages: Sequence[Record], questions: Sequence[str], k: int, weight: Weight
) -> list[list[tuple[float, Record]]]:
    with naming_the_extra("--fuse bm25"):
        from lbr_st.evaluation.bm25 import BM25Ranker
    documents = [passage["document"] for passage in passages]
    of_words, of_model = BM25Ranker(documents).scores(questions), DenseRanker(model, documents).scores(questions)
    found = []
    # The blocks of both are the same, as they have the same number of texts.
    for (_, lexical), (_, dense) in zip(of_words, of_model, strict=True):
        fused, by_model, by_words = fuse(dense, lexical, weight), ranks(dense), ranks(lexical)
        # Of two with the same score the one that is nearer to the model's first comes first.
        for row, best in enumerate(np.lexsort((by_model, -fused), axis=1)[:, :k]):
            found.append([
                (
                    float(fused[row, number]),
                    passages[number] | {"ranks": {
                        "model": int(by_model[row, number]),
                        "bm25": int(by_words[row, number]) if lexical[row, number] > 0 else None,
                    }},
                )
                for number in best
            ])  # fmt: skip
    return found


def format_hits(question: str, hits: Sequence[tuple[float, Record]]) -> str:
    """Lay the passages found for a question out for reading."""
    parts = [f"\n> {question}"]
    for score, passage in hits:
        lines = passage["document"].splitlines()
        more = [f"... ({len(lines) - SNIPPET_LINES} more lines)"] if len(lines) > SNIPPET_LINES else []
        snippet = "\n".join(f"    {line}"[:SNIPPET_WIDTH] for line in lines[:SNIPPET_LINES] + more)
        places = ", ".join(f"{name} {rank or '-'}" for name, rank in passage.get("ranks", {}).items())
        parts.append(f"  {score:.3f}  {passage['id']}{f'  ({places})' if places else ''}\n{snippet}")
    return "\n".join(parts)
