"""Search a folder of text with Haystack: a saved model, its prompts on both sides, a vector store on disk.

    pip install . haystack-ai==3.4.0 sentence-transformers-haystack==2.0.0
    pip install faiss-haystack==3.0.0 "pyarrow<26"     # it wants numpy 1, which pyarrow 26 does not take; or one of
    pip install chroma-haystack==5.0.0
    pip install qdrant-haystack==13.1.0

    python examples/rag_haystack.py --model lbr-model --folder docs --store faiss --index index-haystack \
        "How is a model saved?"

The index is made once and opened from then on. LanceDB is not among the stores: its one integration, lancedb-haystack
0.1, was made for Haystack 2 and has not been released since.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lbr_st.data.records import read_passages
from lbr_st.errors import InputError
from lbr_st.layouts import fingerprint
from lbr_st.search import format_hits
from lbr_st.training import run_command


def open_faiss(folder: Path, dimension: int) -> tuple[Any, Any]:
    """Open FAISS, or make it in memory."""
    from haystack_integrations.components.retrievers.faiss import FAISSEmbeddingRetriever
    from haystack_integrations.document_stores.faiss import FAISSDocumentStore

    store = FAISSDocumentStore(str(folder / "passages"), embedding_dim=dimension)
    return store, FAISSEmbeddingRetriever(document_store=store, top_k=3)


def open_chroma(folder: Path, dimension: int) -> tuple[Any, Any]:
    """Open Chroma, or make it."""
    from haystack_integrations.components.retrievers.chroma import ChromaEmbeddingRetriever
    from haystack_integrations.document_stores.chroma import ChromaDocumentStore

    store = ChromaDocumentStore("passages", persist_path=str(folder), distance_function="cosine")
    return store, ChromaEmbeddingRetriever(document_store=store, top_k=3)


def open_qdrant(folder: Path, dimension: int) -> tuple[Any, Any]:
    """Open Qdrant without a server, or make it."""
    from haystack_integrations.components.retrievers.qdrant import QdrantEmbeddingRetriever
    from haystack_integrations.document_stores.qdrant import QdrantDocumentStore

    store = QdrantDocumentStore(path=str(folder), index="passages", embedding_dim=dimension, progress_bar=False)
    return store, QdrantEmbeddingRetriever(document_store=store, top_k=3)


# How to open a store with its retriever, and the cosine of the score it gives a passage. FAISS gives 1 / (1 + d) for
# the squared Euclidean distance d = 2 - 2 cosine, Chroma the distance 1 - cosine.
STORES = {
    "faiss": (open_faiss, lambda score: 1 - (1 / score - 1) / 2),
    "chroma": (open_chroma, lambda score: 1 - score),
    "qdrant": (open_qdrant, lambda score: score),
}


def main(argv: Sequence[str] | None = None) -> None:
    """Index a folder and answer questions with its passages.

    Raises:
        InputError: If the model, the folder or the index cannot be used, or a package is missing.
    """
    parser = argparse.ArgumentParser(description="Search a folder of text with Haystack.")
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
    of = [f"haystack {args.store}", fingerprint(args.model), hashlib.sha256(json.dumps(passages).encode()).hexdigest()]
    built = args.index / "built.json"  # written last: an index without it is not whole
    build = not args.index.exists()
    if not build and not (built.is_file() and json.loads(built.read_text()) == of):
        raise InputError(f"--index {args.index} is unfinished, or of another folder, model or store: delete it")
    open_store, cosine_of = STORES[args.store]
    os.environ.setdefault("HAYSTACK_TELEMETRY_ENABLED", "False")  # it would send the path of the model
    try:
        from haystack import Document, Pipeline
        from haystack_integrations.components.embedders.sentence_transformers import (
            SentenceTransformersDocumentEmbedder,
            SentenceTransformersTextEmbedder,
        )

        # The prompts are those saved with the model; by default neither component applies them.
        query, document = {"prompt_name": "query"}, {"prompt_name": "document"}
        query_embedder = SentenceTransformersTextEmbedder(model=args.model, encode_kwargs=query, progress_bar=False)
        document_embedder = SentenceTransformersDocumentEmbedder(model=args.model, encode_kwargs=document)
        store, retriever = open_store(args.index / "store", len(query_embedder.run("any")["embedding"]))
    except ModuleNotFoundError as error:
        raise InputError(f"{error.name} is not installed: see the first lines of {__file__}") from error
    if build:
        documents = [Document(p["id"], p["document"], meta={"id": p["id"]}) for p in passages]
        store.write_documents(document_embedder.run(documents)["documents"])
        if args.store == "faiss":  # the others are on disk already
            (args.index / "store").mkdir(parents=True)
            store.save(store.index_path)
        built.write_text(json.dumps(of))

    pipeline = Pipeline()
    pipeline.add_component("embedder", query_embedder)
    pipeline.add_component("retriever", retriever)
    pipeline.connect("embedder.embedding", "retriever.query_embedding")
    for question in args.question:
        found = pipeline.run({"embedder": {"text": question}})["retriever"]["documents"]
        hits = [(cosine_of(each.score), {"id": each.meta["id"], "document": each.content}) for each in found]
        print(format_hits(question, hits))  # noqa: T201


if __name__ == "__main__":
    run_command(main)
