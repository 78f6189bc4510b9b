"""Search a folder of text with LangChain: a saved model, its prompts on both sides, a vector store on disk.

    pip install . langchain-core==1.7.2 langchain-chroma==1.1.0 langchain-qdrant==1.1.0

    python examples/rag_langchain.py --model lbr-model --folder docs --store chroma --index index-langchain \
        "How is a model saved?"

The index is made once and opened from then on. Of the two stores, only the one that is asked for need be installed.
FAISS and LanceDB are not among them: LangChain has both in langchain-community alone, which is no longer maintained.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sentence_transformers import SentenceTransformer

from lbr_st.data.records import read_passages
from lbr_st.errors import InputError
from lbr_st.layouts import fingerprint, open_sentence_transformer
from lbr_st.search import format_hits
from lbr_st.training import run_command

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


def main(argv: Sequence[str] | None = None) -> None:
    """Index a folder and answer questions with its passages.

    Raises:
        InputError: If the model, the folder or the index cannot be used, or a package is missing.
    """
    parser = argparse.ArgumentParser(description="Search a folder of text with LangChain.")
    parser.add_argument("--model", required=True, metavar="DIR", help="sentence-transformers directory")
    parser.add_argument("--folder", required=True, metavar="DIR", help="text, Markdown, HTML and source files")
    parser.add_argument("--store", choices=STORES, default="chroma", help="(default: %(default)s)")
    parser.add_argument("--index", required=True, type=Path, metavar="DIR", help="where the store is kept")
    parser.add_argument("question", nargs="+")
    args = parser.parse_args(argv)

    if not (Path(args.model) / "modules.json").is_file():
        raise InputError(f"--model {args.model} is not a sentence-transformers directory: it has no modules.json")
    if not Path(args.folder).is_dir():
        raise InputError(f"--folder {args.folder}: no such directory")
    passages = read_passages(args.folder)  # where text is cut into passages; put your own way of cutting here
    of = [f"langchain {args.store}", fingerprint(args.model), hashlib.sha256(json.dumps(passages).encode()).hexdigest()]
    built = args.index / "built.json"  # written last: an index without it is not whole
    build = not args.index.exists()
    if not build and not (built.is_file() and json.loads(built.read_text()) == of):
        raise InputError(f"--index {args.index} is unfinished, or of another folder, model or store: delete it")
    open_store, cosine_of = STORES[args.store]
    model = open_sentence_transformer(args.model)
    try:
        store = open_store(args.index / "store", embeddings_of(model), model.get_embedding_dimension())
    except ModuleNotFoundError as error:
        raise InputError(f"{error.name} is not installed: see the first lines of {__file__}") from error
    if build:
        for start in range(0, len(passages), BATCH):
            batch = passages[start : start + BATCH]
            store.add_texts([p["document"] for p in batch], metadatas=[{"id": p["id"]} for p in batch])
        built.write_text(json.dumps(of))

    for question in args.question:
        found = store.similarity_search_with_score(question, k=3)
        hits = [(cosine_of(score), {"id": d.metadata["id"], "document": d.page_content}) for d, score in found]
        print(format_hits(question, hits))  # noqa: T201


if __name__ == "__main__":
    run_command(main)
