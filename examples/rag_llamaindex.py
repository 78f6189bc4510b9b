"""Search a folder of text with LlamaIndex: a saved model, its prompts on both sides, a vector store on disk.

    pip install . llama-index-core==0.14.25 llama-index-embeddings-huggingface==0.8.0
    pip install llama-index-vector-stores-faiss==0.7.0 faiss-cpu==1.15.1     # or one of
    pip install llama-index-vector-stores-chroma==0.6.0
    pip install llama-index-vector-stores-qdrant==0.10.4
    pip install llama-index-vector-stores-lancedb==0.6.0

    python examples/rag_llamaindex.py --model lbr-model --folder docs --store faiss --index index-llamaindex \
        "How is a model saved?"

The index is made once and opened from then on.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lbr_st.data.records import read_passages
from lbr_st.errors import InputError
from lbr_st.layouts import fingerprint
from lbr_st.search import format_hits
from lbr_st.training import run_command

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


def main(argv: Sequence[str] | None = None) -> None:
    """Index a folder and answer questions with its passages.

    Raises:
        InputError: If the model, the folder or the index cannot be used, or a package is missing.
    """
    parser = argparse.ArgumentParser(description="Search a folder of text with LlamaIndex.")
    parser.add_argument("--model", required=True, metavar="DIR", help="sentence-transformers directory")
    parser.add_argument("--folder", required=True, metavar="DIR", help="text, Markdown, HTML and source files")
    parser.add_argument("--store", choices=STORES, default="faiss", help="(default: %(default)s)")
    parser.add_argument("--index", required=True, type=Path, metavar="DIR", help="where the store is kept")
    parser.add_argument("question", nargs="+")
    args = parser.parse_args(argv)

    if not (Path(args.model) / "modules.json").is_file():
        raise InputError(f"--model {args.model} is not a sentence-transformers directory: it has no modules.json")
    if not Path(args.folder).is_dir():
        raise InputError(f"--folder {args.folder}: no such directory")
    passages = read_passages(args.folder)  # where text is cut into passages; put your own way of cutting here
    of = [
        f"llamaindex {args.store}",
        fingerprint(args.model),
        hashlib.sha256(json.dumps(passages).encode()).hexdigest(),
    ]
    built = args.index / "built.json"  # written last: an index without it is not whole
    build = not args.index.exists()
    if not build and not (built.is_file() and json.loads(built.read_text()) == of):
        raise InputError(f"--index {args.index} is unfinished, or of another folder, model or store: delete it")
    open_store, cosine_of = STORES[args.store]
    try:
        from llama_index.core.schema import TextNode

        index = open_store(args.index / "store", embedding_of(args.model))
    except ModuleNotFoundError as error:
        raise InputError(f"{error.name} is not installed: see the first lines of {__file__}") from error
    if build:
        # Metadata that is not excluded is put before the text, and into its vector.
        exclude = {"excluded_embed_metadata_keys": ["id"]}
        index.insert_nodes([TextNode(text=p["document"], metadata={"id": p["id"]}, **exclude) for p in passages])
        if args.store == "faiss":  # the others are on disk already
            index.storage_context.persist(str(args.index / "store"))
        built.write_text(json.dumps(of))

    retriever = index.as_retriever(similarity_top_k=3)
    for question in args.question:
        found = retriever.retrieve(question)
        hits = [(cosine_of(each.score), {"id": each.metadata["id"], "document": each.text}) for each in found]
        print(format_hits(question, hits))  # noqa: T201


if __name__ == "__main__":
    run_command(main)
