"""Retrieval scores through mteb: any question-answer file as a task, any model, mteb's own result files."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mteb
from datasets import Dataset
from mteb.abstasks.retrieval import AbsTaskRetrieval
from mteb.abstasks.task_metadata import TaskMetadata
from mteb.models.sentence_transformer_wrapper import SentenceTransformerEncoderWrapper

from lbr_st.data.prepared_set import PreparedSet
from lbr_st.data.records import read_records
from lbr_st.errors import InputError
from lbr_st.files import sha256
from lbr_st.model.contract import fingerprint
from lbr_st.model.opening import open_sentence_transformer
from lbr_st.records import Record

BM25 = "mteb/baseline-bm25s"


class LocalRetrieval(AbsTaskRetrieval):
    """A retrieval task of mteb over a local question-answer file.

    Args:
        records: Pairs with ``query`` and ``document``: each query asks for its documents, graded by ``relevance`` where
            they have it.
        extra_documents: Records whose documents join the corpus and answer no query.
        name: Name of the task in mteb's result files.
        revision: Of the data; goes into mteb's result files.
    """

    # mteb wants metadata on the class; each instance then has its own, which mteb drops when the task was evaluated:
    # a task is for one evaluation.
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
        self.metadata = self.metadata.model_copy(
            update={"name": name, "dataset": {"path": f"local/{name}", "revision": revision}}
        )
        texts = dict.fromkeys(record["document"] for record in [*records, *extra_documents])
        self.documents = {text: f"d{number}" for number, text in enumerate(texts)}
        self.records = list(records)
        self.queries: dict[str, str] = {}
        for record in self.records:
            self.queries.setdefault(record["query"], record["id"])

    def load_data(self, num_proc: int | None = None, **kwargs: Any) -> None:
        """Build corpus, queries and relevance; documents that are equal are one, and so are queries."""
        relevant: dict[str, dict[str, int]] = {id_: {} for id_ in self.queries.values()}
        for record in self.records:
            relevant[self.queries[record["query"]]][self.documents[record["document"]]] = record.get("relevance", 1)
        corpus = [{"id": id_, "title": "", "text": text} for text, id_ in self.documents.items()]
        self.dataset = {
            "default": {
                "test": {
                    "corpus": Dataset.from_list(corpus),
                    "queries": Dataset.from_list([{"id": id_, "text": text} for text, id_ in self.queries.items()]),
                    "relevant_docs": relevant,
                    "top_ranked": None,
                }
            }
        }
        self.data_loaded = True


def open_for_evaluation(name: str) -> Any:
    """Open a model for mteb: ``bm25``, any sentence-transformers directory or Hub id, or our native layout.

    Raises:
        InputError: If it is not a model, or BM25 is asked for without its extra.
    """
    if name == "bm25":
        try:
            return mteb.get_model(BM25)
        except ImportError as error:
            raise InputError("--model bm25 needs an extra: pip install 'lbr-st[bm25]'") from error
    model = open_sentence_transformer(name)
    wrapped = SentenceTransformerEncoderWrapper(model)
    # mteb files results by name and revision and takes what it finds there: with the model's own hash as revision, a
    # score of other weights is never found.
    if Path(name).is_dir():
        meta = {"name": f"local/{Path(name).resolve().name}", "revision": fingerprint(name)[:40]}
        wrapped.mteb_model_meta = wrapped.mteb_model_meta.model_copy(update=meta)
    return wrapped


def evaluate(
    model: Any,
    task: AbsTaskRetrieval,
    results_dir: str | Path,
    batch_size: int = 64,
    predictions: str | Path | None = None,
) -> dict[str, float]:
    """Score a model on a task with mteb, which writes its result files under ``results_dir``.

    Args:
        model: What `open_for_evaluation` returns, or anything else that mteb takes.
        task: The task.
        results_dir: Root of mteb's result files.
        batch_size: Texts encoded at once.
        predictions: Folder where mteb writes the documents that each query found; default is nowhere.

    Returns:
        mteb's scores on the test split: ``recall_at_10``, ``ndcg_at_10`` and the rest.
    """
    results = mteb.evaluate(
        model,
        task,
        encode_kwargs={"batch_size": batch_size},
        cache=mteb.ResultCache(results_dir),
        overwrite_strategy="always",
        prediction_folder=predictions,
    )
    return dict(results.task_results[0].scores["test"][0])


def table(rows: Sequence[tuple[str, dict[str, float]]]) -> str:
    """Lay scores out as a Markdown table, one row a model."""
    width = max(len(name) for name, _ in rows)
    lines = [f"| {'model':<{width}} | recall@10 | nDCG@10 |", f"| {'-' * width} | --------: | ------: |"]
    lines += [f"| {name:<{width}} | {s['recall_at_10']:9.3f} | {s['ndcg_at_10']:7.3f} |" for name, s in rows]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Run ``lbr evaluate``.

    Raises:
        InputError: If a model or a file cannot be used.
    """
    parser = argparse.ArgumentParser(
        prog="lbr evaluate", description="Score models on a question-answer file, by mteb."
    )
    parser.add_argument(
        "--model", required=True, nargs="+", metavar="DIR", help="sentence-transformers directories or Hub ids, or bm25"
    )
    parser.add_argument(
        "--data",
        required=True,
        metavar="FILE",
        help="set of `lbr data prepare`, or a file of test pairs, whose documents are the corpus",
    )
    parser.add_argument("--corpus-extra", metavar="FILE", help="file whose documents join the corpus")
    parser.add_argument(
        "--results-dir", default="results", metavar="DIR", help="mteb's result files (default: %(default)s)"
    )
    parser.add_argument("--batch-size", type=int, default=64, metavar="N", help="(default: %(default)s)")
    args = parser.parse_args(argv)
    local_task(args.data, args.corpus_extra)  # what cannot be read is said before a model is opened
    models = [(name, open_for_evaluation(name)) for name in args.model]
    rows = []
    for name, model in models:
        task = local_task(args.data, args.corpus_extra)
        rows.append((name, evaluate(model, task, args.results_dir, args.batch_size)))
    print(f"\n{len(task.queries)} queries, {len(task.documents)} documents\n{table(rows)}")  # noqa: T201


def local_task(data: str | Path, corpus_extra: str | Path | None = None) -> LocalRetrieval:
    """Make the task of a question-answer file.

    Args:
        data: File of test pairs, whose documents are the corpus; or a prepared set, of which it is ``test``, searched
            in its ``corpus``.
        corpus_extra: File whose documents join the corpus.

    Raises:
        InputError: If a file cannot be used.
    """
    prepared = PreparedSet.open(data) if Path(data).is_dir() else None
    files = [prepared.file("test"), prepared.file("corpus")] if prepared else [str(data)]
    files += [str(corpus_extra)] if corpus_extra else []
    records = read_records(files[0])
    extra = [record for file in files[1:] for record in read_records(file, fields=("document",))]
    parts = [*([prepared.about["name"]] if prepared else []), *(Path(file).stem for file in files)]
    name = re.sub(r"[^\w.-]+", "-", "-".join(parts))  # of a file
    return LocalRetrieval(records, extra, name=name, revision=sha256(files)[:40])
