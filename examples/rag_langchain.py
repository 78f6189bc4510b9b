"""Search a folder of text with LangChain: a saved model, its prompts on both sides, a vector store on disk.

    pip install '.[data]' langchain-core==1.7.2 langchain-chroma==1.1.0 langchain-qdrant==1.1.0

    python examples/rag_langchain.py --model lbr-model --folder docs --store chroma --index index-langchain \
        "How is a model saved?"

The index is made once and opened from then on. Of the two stores, only the one that is asked for need be installed.
FAISS and LanceDB are not among them: LangChain has both in langchain-community alone, which is no longer maintained.
With --fuse bm25 the BM25 of this package searches beside the model, for any script, and LangChain's EnsembleRetriever
fuses what both find:

    pip install '.[eval]' langchain-classic==1.0.8
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rag import CANDIDATES, TOP_K, Retrieve, answer
from sentence_transformers import SentenceTransformer

from lbr_st.cli.main import run_command
from lbr_st.model.opening import open_sentence_transformer
from lbr_st.records import Record

if TYPE_CHECKING:
    from langchain_core.embeddings import Embeddings
    from langchain_core.vectorstores import VectorStore

BATCH = 1000


def embeddings_of(model: SentenceTransformer) -> Embeddings:
    """Give a model to LangChain.

    HuggingFaceEmbeddings of langchain-huggingface is not used: it turns every line break into a space before it
    encodes, which no option prevents, and code and Markdown get other vectors than they were trained to have.
    """
    from langchain_core.embeddings import Embeddings

    class ModelEmbeddings(Embeddings):
        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            return model.encode_document(texts).tolist()

        def embed_query(self, text: str) -> list[float]:
            return model.encode_query(text).tolist()

    return ModelEmbeddings()


def open_chroma(folder: Path, embeddings: Embeddings, dimension: int) -> VectorStore:
    """Open Chroma, or make it."""
    from langchain_chroma import Chroma

    return Chroma(
        "passages", embeddings, persist_directory=str(folder), collection_configuration={"hnsw": {"space": "cosine"}}
    )


def open_qdrant(folder: Path, embeddings: Embeddings, dimension: int) -> VectorStore:
    """Open Qdrant without a server, or make it."""
    from langchain_qdrant import QdrantVectorStore
    from qdrant_client import QdrantClient
    from qdrant_client.models import Distance, VectorParams

    client = QdrantClient(path=str(folder))
    if not client.collection_exists("passages"):
        client.create_collection("passages", VectorParams(size=dimension, distance=Distance.COSINE))
    return QdrantVectorStore(client, "passages", embeddings)


# How to open a store, and the cosine of what it returns with a passage. (similarity_search_with_relevance_scores is
# the cosine with some stores, and half of it plus a half with others.)
STORES = {
    "chroma": (open_chroma, lambda distance: 1 - distance),
    "qdrant": (open_qdrant, lambda cosine: cosine),
}


def open_index(
    model: str, store: str, folder: Path, passages: list[Record] | None, bm25: list[Record] | None = None
) -> Retrieve:
    """Open a store, or make it of passages."""
    opened = open_sentence_transformer(model)
    open_store, cosine_of = STORES[store]
    index = open_store(folder, embeddings_of(opened), opened.get_embedding_dimension())
    passages = passages or []
    for start in range(0, len(passages), BATCH):
        batch = passages[start : start + BATCH]
        index.add_texts([p["document"] for p in batch], metadatas=[{"id": p["id"]} for p in batch])
    if bm25 is not None:
        return fused_with_bm25(index, bm25)

    def retrieve(question: str) -> list[tuple[float, Record]]:
        found = index.similarity_search_with_score(question, k=TOP_K)
        return [(cosine_of(score), {"id": d.metadata["id"], "document": d.page_content}) for d, score in found]

    return retrieve


def fused_with_bm25(index: VectorStore, passages: list[Record]) -> Retrieve:
    """Let BM25 search beside the model."""
    from langchain_classic.retrievers import EnsembleRetriever
    from langchain_core.callbacks import CallbackManagerForRetrieverRun
    from langchain_core.documents import Document
    from langchain_core.retrievers import BaseRetriever

    from lbr_st.evaluation.bm25 import BM25Ranker

    ranker = BM25Ranker([passage["document"] for passage in passages])

    class BM25Retriever(BaseRetriever):
        def _get_relevant_documents(self, query: str, *, run_manager: CallbackManagerForRetrieverRun) -> list[Document]:
            [(_, scores)] = ranker.scores([query])
            best = scores[0].argsort()[::-1][:CANDIDATES]
            # What has no word of the question is not found.
            return [document_of(passages[n]) for n in best if scores[0][n]]

    def document_of(passage: Record) -> Document:
        return Document(passage["document"], metadata={"id": passage["id"]})

    of_model = index.as_retriever(search_kwargs={"k": CANDIDATES})
    # By their ids, as two passages may have the same text.
    both = EnsembleRetriever(retrievers=[of_model, BM25Retriever()], id_key="id")

    def retrieve(question: str) -> list[tuple[float, Record]]:
        # It says no scores, only their order: what is shown is one over the rank.
        found = enumerate(both.invoke(question)[:TOP_K], start=1)
        return [(1 / rank, {"id": d.metadata["id"], "document": d.page_content}) for rank, d in found]

    return retrieve


def main(argv: Sequence[str] | None = None) -> None:
    """Index a folder and answer questions with its passages."""
    answer(argv, "LangChain", STORES, open_index)


if __name__ == "__main__":
    run_command(main)
