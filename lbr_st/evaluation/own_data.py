"""Retrieval scores through mteb: any file of pairs as a task, any model, mteb's own result files."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import mteb
from datasets import Dataset
from mteb.abstasks.retrieval import AbsTaskRetrieval
from mteb.abstasks.task_metadata import TaskMetadata
from mteb.models.search_wrappers import SearchEncoderWrapper
from mteb.models.sentence_transformer_wrapper import SentenceTransformerEncoderWrapper
from mteb.types import PromptType
from sentence_transformers import SentenceTransformer
from tqdm.auto import tqdm

from lbr_st.data.ids import UniqueIds
from lbr_st.data.prepared_set import PreparedSet
from lbr_st.data.records import read_records, read_test
from lbr_st.errors import InputError, require
from lbr_st.evaluation.bm25 import BM25OfAnyScript, tokens_of
from lbr_st.evaluation.ranking import BM25, MEMORY_MIB, rows_within
from lbr_st.files import data_sha256
from lbr_st.model.contract import fingerprint
from lbr_st.model.encoding import TextEncoder
from lbr_st.model.lengths import saying_what_is_longer
from lbr_st.model.opening import open_sentence_transformer
from lbr_st.model.quiet import silently
from lbr_st.records import Record

logger = logging.getLogger(__name__)

OTHER_THAN_TEXT = {"image", "audio", "video"}  # columns of mteb's tasks
LOCAL = "local/"  # how the path of a task of mteb begins that is made of a user's own pairs


class LocalRetrieval(AbsTaskRetrieval):
    """A retrieval task of mteb over pairs of a local file.

    Args:
        records: Pairs with ``query`` and ``document``: each query asks for its documents, graded by ``relevance`` where
            they have it.
        extra_documents: Records whose documents join the corpus and answer no query.
        name: Name of the task in mteb's result files.
        revision: Revision of the data in mteb's result files.
    """

    # mteb wants metadata on the class; each instance then has its own.
    metadata = TaskMetadata(
        name="LocalRetrieval",
        description="Question-answer pairs of a local file: each question asks for its answer.",
        dataset={"path": "local", "revision": "1"},
        type="Retrieval",
        eval_splits=["test"],
        eval_langs=["eng-Latn"],
        main_score="ndcg_at_10",
    )

    def __init__(
        self, records: Sequence[Record], extra_documents: Sequence[Record] = (), *, name: str, revision: str
    ) -> None:
        super().__init__()
        texts = dict.fromkeys(record["document"] for record in [*records, *extra_documents])
        # A document is called what its row calls it, where one does.
        names = {record["document"]: record["id"] for record in extra_documents if "id" in record}
        named = (record for record in [*extra_documents, *records] if "document_id" in record)
        names |= {record["document"]: record["document_id"] for record in named}
        unique = UniqueIds()
        self.documents = {text: unique(names.get(text), f"d{number}") for number, text in enumerate(texts)}
        self.renamed = {names[text]: id_ for text, id_ in self.documents.items() if names.get(text, id_) != id_}
        self.records = list(records)
        self.queries: dict[str, str] = {}
        for record in self.records:
            self.queries.setdefault(record["query"], record["id"])
        self.tokens = tokens_of([*self.queries, *self.documents])
        about = {"name": name, "dataset": {"path": LOCAL + name, "revision": revision}}
        self.metadata = self.metadata.model_copy(update={**about, "eval_langs": self.tokens.languages})

    def label(self, model: str) -> str:
        """Return what a table calls a model: of BM25, what it counts in these texts too."""
        return f"{model} ({self.tokens.name})" if model.lower() == BM25 else model

    @property
    def judgements(self) -> dict[str, dict[str, int]]:
        """Grades of the documents that answer a query, by their ids."""
        relevant: dict[str, dict[str, int]] = {id_: {} for id_ in self.queries.values()}
        for record in self.records:
            grades, document = relevant[self.queries[record["query"]]], self.documents[record["document"]]
            grades[document] = max(record.get("relevance", 1), grades.get(document, 0))  # a pair may come twice
        return relevant

    def load_data(self, num_proc: int | None = None, **kwargs: Any) -> None:
        """Build corpus, queries and relevance; documents that are equal are one, and so are queries."""
        corpus = [{"id": id_, "title": "", "text": text} for text, id_ in self.documents.items()]
        self.dataset = {
            "default": {
                "test": {
                    "corpus": Dataset.from_list(corpus),
                    "queries": Dataset.from_list([{"id": id_, "text": text} for text, id_ in self.queries.items()]),
                    "relevant_docs": self.judgements,
                    "top_ranked": None,
                }
            }
        }
        self.data_loaded = True

    def unload_data(self) -> None:
        """Drop what `load_data` built. mteb's own method drops the metadata of an instance too."""
        self.dataset, self.data_loaded = {}, False


def local_task(
    data: str | Path | PreparedSet | LocalRetrieval,
    corpus_extra: str | Path | None = None,
    min_score: float | None = None,
    on_error: str | None = None,
) -> LocalRetrieval:
    """Make a retrieval task of pairs.

    Args:
        data: File of test pairs, whose documents are the corpus; or a prepared set or its folder, of which it is
            ``test``, searched in its ``corpus``. A task stays as it is.
        corpus_extra: File whose documents join the corpus.
        min_score: Least score of a document that answers its query, where a column grades them.
        on_error: ``stop`` at the first row that cannot be used, or ``skip`` and count such rows.

    Raises:
        InputError: If a file cannot be used.
    """
    if isinstance(data, LocalRetrieval):
        if corpus_extra is not None:
            raise InputError(f"--corpus-extra {corpus_extra}: the corpus of a task is made already")
        if min_score is not None:
            raise InputError(f"--min-score {min_score:g}: the pairs of a task are read already")
        return data
    prepared = data if isinstance(data, PreparedSet) else PreparedSet.open(data) if Path(data).is_dir() else None
    files = [prepared.file("test"), prepared.file("corpus")] if prepared else [str(data)]
    files += [str(corpus_extra)] if corpus_extra else []
    records, others = read_test(files[0], min_score, on_error)
    corpora = [read_records(file, ("document",), on_error=on_error) for file in files[1:]]
    extra = [*others, *(record for corpus in corpora for record in corpus)]
    parts = [*([prepared.about["name"]] if prepared else []), *(Path(file).stem for file in files)]
    revision = data_sha256([records, extra])[:40]
    # mteb makes a file name of it: that of no other data, and of no public test.
    name = re.sub(r"[^\w.-]+", "-", "-".join([*parts, revision[:8]]))
    task = LocalRetrieval(records, extra, name=name, revision=revision)
    if corpus_extra:
        known = {record["document"] for part in (records, others, *corpora[:-1]) for record in part}
        if already := sum(record["document"] in known for record in corpora[-1]):
            logger.info("%s: %d of its %d documents are in the corpus already", corpus_extra, already, len(corpora[-1]))
    if task.renamed:
        given, now = next(iter(task.renamed.items()))
        said = "documents have an id that another text has: mteb's files call them by a number too"
        logger.info("%s: %d %s, such as %s for %s", corpus_extra or data, len(task.renamed), said, now, given)
    return task


class EncoderOfMteb(SentenceTransformerEncoderWrapper):
    """A sentence-transformers model as mteb takes it, whose texts `lbr_st.model.encoding.TextEncoder` encodes.

    What is no retrieval, or more than text, is encoded as mteb does it.

    Args:
        model: The model.
        batch_tokens: Most tokens encoded at once, see `TextEncoder`.
    """

    def __init__(self, model: SentenceTransformer, batch_tokens: int | None = None) -> None:
        with silently():  # mteb looks for a vocabulary and a longest text, which not every model has
            super().__init__(model)
        self.encoder = TextEncoder(model, batch_tokens)
        self._vectors_of: Callable[[Sequence[str]], Any] | None = None

    def take_vectors(self, vectors_of: Callable[[Sequence[str]], Any], kind: str) -> None:
        """Take the vectors of documents from where they are kept: queries alone are encoded from now on.

        Args:
            vectors_of: Returns the vectors of documents.
            kind: What they are other than float32, such as ``int8``, by which mteb files the scores apart from those of
                the model itself; "" where they are float32.
        """
        self._vectors_of = vectors_of
        if kind:
            meta = self.mteb_model_meta
            about = {"name": f"{meta.name}-{kind}", "revision": f"{meta.revision}-{kind}"}
            self.mteb_model_meta = meta.model_copy(update=about)

    def encode(
        self, inputs: Any, *, task_metadata: TaskMetadata, prompt_type: PromptType | None = None, **kwargs: Any
    ) -> Any:
        """Return the embeddings of what mteb asks for, with the prompt of its choice."""
        if prompt_type is None or OTHER_THAN_TEXT & set(inputs.dataset.features):
            return super().encode(inputs, task_metadata=task_metadata, prompt_type=prompt_type, **kwargs)
        name = self.get_prompt_name(task_metadata, prompt_type)
        texts = [text for batch in inputs for text in batch["text"]]
        if self._vectors_of is not None and prompt_type == PromptType.document:
            return self._vectors_of(texts)
        with tqdm(total=len(texts), desc="Encoding", unit="texts") as progress:
            prompt = (self.model_prompts or {}).get(name or "")
            return self.encoder.encode(texts, prompt_type.value, prompt, progress.update)


class SearchInBlocks(SearchEncoderWrapper):
    """mteb's search with a model, with as many documents at a time as memory is there for.

    Args:
        model: The model.
        memory_mib: Memory for the vectors that are compared at once, in MiB.
    """

    def __init__(self, model: EncoderOfMteb, memory_mib: int) -> None:
        super().__init__(model)
        self.memory_mib, self._dimensions = memory_mib, model.model.get_embedding_dimension() or 1

    def search(self, queries: Any, **kwargs: Any) -> Any:
        """Return the best documents by query."""
        self.corpus_chunk_size = rows_within(self.memory_mib, self._dimensions, len(queries))
        return super().search(queries, **kwargs)


def open_for_evaluation(
    name: str | Path,
    batch_tokens: int | None = None,
    open_model: Callable[[str], SentenceTransformer] = open_sentence_transformer,
    variant: str = "",
) -> Any:
    """Open a model for mteb: ``bm25``, any sentence-transformers directory or Hub id, or our native layout.

    Args:
        name: What is opened.
        batch_tokens: Most tokens encoded at once, see `lbr_st.model.encoding.TextEncoder`.
        open_model: Opens a model that is not BM25.
        variant: What tells its vectors from those of its files as everyone opens it; mteb files its scores apart.

    Raises:
        InputError: If it is not a model, or BM25 is asked for without its packages.
    """
    if name == BM25:
        for package in ("bm25s", "Stemmer"):
            require(package, f"--model {BM25}")
        return BM25OfAnyScript(LOCAL)
    wrapped = EncoderOfMteb(open_model(str(name)), batch_tokens)
    # mteb files results by name and revision and takes what it finds there: with the model's own hash as revision, a
    # score of other weights is never found.
    meta = wrapped.mteb_model_meta
    if Path(name).is_dir():
        revision = fingerprint(name)[:40]
        meta = meta.model_copy(update={"name": f"local/{Path(name).resolve().name}", "revision": revision})
    wrapped.mteb_model_meta = meta.model_copy(update={"revision": f"{meta.revision or ''}{variant}" or None})
    return wrapped


def watching(opened: Any) -> AbstractContextManager[None]:
    """Say at the end how many texts were longer than the embedding model reads that mteb was given.

    Of another one, such as BM25, nothing is said.
    """
    for name in ("searcher", "model", "model"):
        if isinstance(opened, SentenceTransformer):
            return saying_what_is_longer(opened)
        opened = getattr(opened, name, opened)
    return saying_what_is_longer(opened) if isinstance(opened, SentenceTransformer) else nullcontext()


def evaluate(
    model: Any,
    data: str | Path | PreparedSet | LocalRetrieval,
    *,
    corpus_extra: str | Path | None = None,
    min_score: float | None = None,
    results_dir: str | Path | None = None,
    predictions: str | Path | None = None,
    memory_mib: int = MEMORY_MIB,
) -> dict[str, float]:
    """Score a model on pairs with mteb: each query is asked of all documents.

    Args:
        model: A SentenceTransformer, a directory or Hub id, or ``"bm25"``; or anything else that mteb takes, as what
            `open_for_evaluation` returns.
        data: A prepared set, whose test queries are asked of its corpus, or a file of test pairs; see `local_task`.
        corpus_extra: File whose documents join the corpus.
        min_score: Least score of a document that answers its query, where a column of the data grades them.
        results_dir: Folder for mteb's result files; default is none.
        predictions: Folder for the documents that each query found, as mteb writes them; default is none.
        memory_mib: Memory for the vectors that are compared at once, in MiB; a searcher of mteb keeps to its own.

    Returns:
        mteb's scores on the test split: ``recall_at_10``, ``ndcg_at_10`` and the rest.

    Raises:
        InputError: If the model or the data cannot be used.
    """
    task = local_task(data, corpus_extra, min_score)
    opened = open_for_evaluation(model) if isinstance(model, str | Path) else model
    if isinstance(opened, SentenceTransformer):
        opened = EncoderOfMteb(opened)
    if isinstance(opened, EncoderOfMteb):
        opened = SearchInBlocks(opened, memory_mib)
    with watching(opened):
        results = mteb.evaluate(
            opened,
            task,
            cache=None if results_dir is None else mteb.ResultCache(results_dir),
            overwrite_strategy="always",
            prediction_folder=predictions,
        )
    return dict(results.task_results[0].scores["test"][0])
