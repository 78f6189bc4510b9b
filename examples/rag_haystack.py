"""Search a folder of text with Haystack: a saved model, its prompts on both sides, a vector store on disk.

    pip install '.[data]' haystack-ai==3.4.0 sentence-transformers-haystack==2.0.0
    pip install faiss-haystack==3.0.0 "pyarrow<26"     # it wants numpy 1, which pyarrow 26 does not take; or one of
    pip install chroma-haystack==5.0.0
    pip install qdrant-haystack==13.1.0

    python examples/rag_haystack.py --model lbr-model --folder docs --store faiss --index index-haystack \
        "How is a model saved?"

The index is made once and opened from then on. With --fuse bm25 Haystack's own BM25, which is made for languages with
spaces between words, searches beside the model, and its DocumentJoiner fuses what both find. LanceDB is not among the
stores: its one integration, lancedb-haystack 0.1, was made for Haystack 2 and has not been released since.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rag import CANDIDATES, TOP_K, Retrieve, answer

from lbr_st.cli.main import run_command
from lbr_st.records import Record


def open_faiss(folder: Path, dimension: int) -> tuple[Any, Any]:
    """Open FAISS, or make it in memory."""
    from haystack_integrations.components.retrievers.faiss import FAISSEmbeddingRetriever
    from haystack_integrations.document_stores.faiss import FAISSDocumentStore

    store = FAISSDocumentStore(str(folder / "passages"), embedding_dim=dimension)
    return store, FAISSEmbeddingRetriever(document_store=store, top_k=TOP_K)


def open_chroma(folder: Path, dimension: int) -> tuple[Any, Any]:
    """Open Chroma, or make it."""
    from haystack_integrations.components.retrievers.chroma import ChromaEmbeddingRetriever
    from haystack_integrations.document_stores.chroma import ChromaDocumentStore

    store = ChromaDocumentStore("passages", persist_path=str(folder), distance_function="cosine")
    return store, ChromaEmbeddingRetriever(document_store=store, top_k=TOP_K)


def open_qdrant(folder: Path, dimension: int) -> tuple[Any, Any]:
    """Open Qdrant without a server, or make it."""
    from haystack_integrations.components.retrievers.qdrant import QdrantEmbeddingRetriever
    from haystack_integrations.document_stores.qdrant import QdrantDocumentStore

    store = QdrantDocumentStore(path=str(folder), index="passages", embedding_dim=dimension, progress_bar=False)
    return store, QdrantEmbeddingRetriever(document_store=store, top_k=TOP_K)


# How to open a store with its retriever, and the cosine of the score it gives a passage. FAISS gives 1 / (1 + d) for
# the squared Euclidean distance d = 2 - 2 cosine, Chroma the distance 1 - cosine.
STORES = {
    "faiss": (open_faiss, lambda score: 1 - (1 / score - 1) / 2),
    "chroma": (open_chroma, lambda score: 1 - score),
    "qdrant": (open_qdrant, lambda score: score),
}


def open_index(
    model: str, store: str, folder: Path, passages: list[Record] | None, bm25: list[Record] | None = None
) -> Retrieve:
    """Open a store, or make it of passages."""
    os.environ.setdefault("HAYSTACK_TELEMETRY_ENABLED", "False")  # it would send the path of the model
    from haystack import Document, Pipeline
    from haystack_integrations.components.embedders.sentence_transformers import (
        SentenceTransformersDocumentEmbedder,
        SentenceTransformersTextEmbedder,
    )

    # The prompts are those saved with the model; by default neither component applies them.
    query_embedder = SentenceTransformersTextEmbedder(
        model=model, encode_kwargs={"prompt_name": "query"}, progress_bar=False
    )
    open_store, cosine_of = STORES[store]
    index, retriever = open_store(folder, len(query_embedder.run("any")["embedding"]))
    if passages is not None:
        documents = [Document(p["id"], p["document"], meta={"id": p["id"]}) for p in passages]
        embedder = SentenceTransformersDocumentEmbedder(model=model, encode_kwargs={"prompt_name": "document"})
        index.write_documents(embedder.run(documents)["documents"])
        if store == "faiss":  # the others are on disk already
            folder.mkdir(parents=True)
            index.save(index.index_path)

    pipeline = Pipeline()
    pipeline.add_component("embedder", query_embedder)
    pipeline.add_component("retriever", retriever)
    pipeline.connect("embedder.embedding", "retriever.query_embedding")

    if bm25 is not None:
        return fused_with_bm25(pipeline, bm25)

    def retrieve(question: str) -> list[tuple[float, Record]]:
        found = pipeline.run({"embedder": {"text": question}})["retriever"]["documents"]
        return [(cosine_of(each.score), {"id": each.meta["id"], "document": each.content}) for each in found]

    return retrieve


def fused_with_bm25(pipeline: Any, passages: list[Record]) -> Retrieve:
    """Add BM25 and a joiner to the pipeline of a model."""
    from haystack import Document
    from haystack.components.joiners import DocumentJoiner
    from haystack.components.retrievers.in_memory import InMemoryBM25Retriever
    from haystack.document_stores.in_memory import InMemoryDocumentStore

    # The same ids as in the store of the model: by these the joiner knows them.
    words = InMemoryDocumentStore()
    words.write_documents([Document(p["id"], p["document"], meta={"id": p["id"]}) for p in passages])
    pipeline.add_component("bm25", InMemoryBM25Retriever(words, top_k=CANDIDATES))
    pipeline.add_component("joiner", DocumentJoiner("reciprocal_rank_fusion", top_k=TOP_K))
    pipeline.connect("retriever", "joiner")
    pipeline.connect("bm25", "joiner")

    def retrieve(question: str) -> list[tuple[float, Record]]:
        asked = {"embedder": {"text": question}, "retriever": {"top_k": CANDIDATES}, "bm25": {"query": question}}
        found = pipeline.run(asked)["joiner"]["documents"]
        return [(each.score, {"id": each.meta["id"], "document": each.content}) for each in found]

    return retrieve


def main(argv: Sequence[str] | None = None) -> None:
    """Index a folder and answer questions with its passages."""
    answer(argv, "Haystack", STORES, open_index)


if __name__ == "__main__":
    run_command(main)
