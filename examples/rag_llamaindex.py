"""Search a folder of text with LlamaIndex: a saved model, its prompts on both sides, a vector store on disk.

    pip install '.[data]' llama-index-core==0.14.25 llama-index-embeddings-huggingface==0.8.0
    pip install llama-index-vector-stores-faiss==0.7.0 faiss-cpu==1.15.1     # or one of
    pip install llama-index-vector-stores-chroma==0.6.0
    pip install llama-index-vector-stores-qdrant==0.10.4
    pip install llama-index-vector-stores-lancedb==0.6.0

    python examples/rag_llamaindex.py --model lbr-model --folder docs --store faiss --index index-llamaindex \
        "How is a model saved?"

The index is made once and opened from then on. With --fuse bm25 the BM25 of this package searches beside the model, for
any script (pip install '.[eval]'), and LlamaIndex's QueryFusionRetriever fuses what both find.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rag import CANDIDATES, TOP_K, Retrieve, answer

from lbr_st.cli.main import run_command
from lbr_st.records import Record

if TYPE_CHECKING:
    from llama_index.core import VectorStoreIndex
    from llama_index.core.embeddings import BaseEmbedding


def embedding_of(model: str) -> BaseEmbedding:
    """Give a saved model to LlamaIndex, which replaces the prompts saved with it by empty ones unless it gets them."""
    from llama_index.embeddings.huggingface import HuggingFaceEmbedding

    config = json.loads((Path(model) / "config_sentence_transformers.json").read_text(encoding="utf-8"))
    prompts = config.get("prompts", {})
    return HuggingFaceEmbedding(model, query_instruction=prompts.get("query"), text_instruction=prompts.get("document"))


def open_faiss(folder: Path, embedding: BaseEmbedding) -> VectorStoreIndex:
    """Open FAISS, or make it in memory. It holds vectors alone; LlamaIndex keeps the text beside it."""
    import faiss
    from llama_index.core import StorageContext, VectorStoreIndex, load_index_from_storage
    from llama_index.vector_stores.faiss import FaissVectorStore

    if folder.exists():
        store = FaissVectorStore.from_persist_dir(str(folder))
        storage = StorageContext.from_defaults(vector_store=store, persist_dir=str(folder))
        return load_index_from_storage(storage, embed_model=embedding)
    store = FaissVectorStore(faiss.IndexFlatIP(len(embedding.get_query_embedding("any"))))
    return VectorStoreIndex([], storage_context=StorageContext.from_defaults(vector_store=store), embed_model=embedding)


def open_chroma(folder: Path, embedding: BaseEmbedding) -> VectorStoreIndex:
    """Open Chroma, or make it."""
    import chromadb
    from llama_index.core import VectorStoreIndex
    from llama_index.vector_stores.chroma import ChromaVectorStore

    collection = chromadb.PersistentClient(str(folder)).get_or_create_collection(
        "passages", configuration={"hnsw": {"space": "cosine"}}, embedding_function=None
    )
    return VectorStoreIndex.from_vector_store(ChromaVectorStore(collection), embed_model=embedding)


def open_qdrant(folder: Path, embedding: BaseEmbedding) -> VectorStoreIndex:
    """Open Qdrant without a server, or make it."""
    from llama_index.core import VectorStoreIndex
    from llama_index.vector_stores.qdrant import QdrantVectorStore
    from qdrant_client import QdrantClient

    store = QdrantVectorStore("passages", client=QdrantClient(path=str(folder)), index_doc_id=False)
    return VectorStoreIndex.from_vector_store(store, embed_model=embedding)


def open_lancedb(folder: Path, embedding: BaseEmbedding) -> VectorStoreIndex:
    """Open LanceDB, or make it."""
    from llama_index.core import VectorStoreIndex
    from llama_index.vector_stores.lancedb import LanceDBVectorStore

    return VectorStoreIndex.from_vector_store(LanceDBVectorStore(str(folder)), embed_model=embedding)


# How to open a store, and the cosine of the score it gives a passage. LlamaIndex makes of a distance d the score
# exp(-d); that of Chroma is 1 - cosine, that of LanceDB the squared Euclidean one, 2 - 2 cosine.
STORES = {
    "faiss": (open_faiss, lambda score: score),
    "chroma": (open_chroma, lambda score: 1 + math.log(score)),
    "qdrant": (open_qdrant, lambda score: score),
    "lancedb": (open_lancedb, lambda score: 1 + math.log(score) / 2),
}


def open_index(
    model: str, store: str, folder: Path, passages: list[Record] | None, bm25: list[Record] | None = None
) -> Retrieve:
    """Open a store, or make it of passages."""
    from llama_index.core.schema import TextNode

    open_store, cosine_of = STORES[store]
    index = open_store(folder, embedding_of(model))
    if passages is not None:
        # Metadata that is not excluded is put before the text, and into its vector.
        exclude = {"excluded_embed_metadata_keys": ["id"]}
        index.insert_nodes([TextNode(text=p["document"], metadata={"id": p["id"]}, **exclude) for p in passages])
        if store == "faiss":  # the others are on disk already
            index.storage_context.persist(str(folder))
    if bm25 is not None:
        return fused_with_bm25(index, bm25)
    retriever = index.as_retriever(similarity_top_k=TOP_K)

    def retrieve(question: str) -> list[tuple[float, Record]]:
        found = retriever.retrieve(question)
        return [(cosine_of(each.score), {"id": each.metadata["id"], "document": each.text}) for each in found]

    return retrieve


def fused_with_bm25(index: VectorStoreIndex, passages: list[Record]) -> Retrieve:
    """Let BM25 search beside the model."""
    from llama_index.core.llms import MockLLM
    from llama_index.core.retrievers import BaseRetriever, QueryFusionRetriever
    from llama_index.core.retrievers.fusion_retriever import FUSION_MODES
    from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode

    from lbr_st.evaluation.bm25 import BM25Ranker

    ranker = BM25Ranker([passage["document"] for passage in passages])

    class BM25Retriever(BaseRetriever):
        def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
            [(_, scores)] = ranker.scores([query_bundle.query_str])
            best = scores[0].argsort()[::-1][:CANDIDATES]
            # What has no word of the question is not found.
            return [NodeWithScore(node=node_of(passages[n]), score=float(scores[0][n])) for n in best if scores[0][n]]

    def node_of(passage: Record) -> TextNode:
        # Nodes are one where their texts and metadata are.
        return TextNode(text=passage["document"], metadata={"id": passage["id"]})

    of_model = index.as_retriever(similarity_top_k=CANDIDATES)
    # One query, the question itself: no language model is asked for others.
    both = QueryFusionRetriever(
        [of_model, BM25Retriever()],
        llm=MockLLM(),
        mode=FUSION_MODES.RECIPROCAL_RANK,
        similarity_top_k=TOP_K,
        num_queries=1,
        use_async=False,
    )

    def retrieve(question: str) -> list[tuple[float, Record]]:
        found = both.retrieve(question)
        return [(each.score, {"id": each.metadata["id"], "document": each.text}) for each in found]

    return retrieve


def main(argv: Sequence[str] | None = None) -> None:
    """Index a folder and answer questions with its passages."""
    answer(argv, "LlamaIndex", STORES, open_index)


if __name__ == "__main__":
    run_command(main)
