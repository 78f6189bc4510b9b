"""The command ``lbr evaluate``."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor

from lbr_st.cli.arguments import Parser, add_batch_tokens, add_fuse, add_memory, add_min_score, add_on_error, share
from lbr_st.cli.computing import add_computing, flags_of
from lbr_st.data.prepared_set import file_of
from lbr_st.data.records import read_test
from lbr_st.errors import InputError
from lbr_st.evaluation.fusion import DENSE_WEIGHT, evaluate_with_bm25
from lbr_st.evaluation.own_data import LocalRetrieval, evaluate, local_task, open_for_evaluation
from lbr_st.evaluation.public_tests import evaluate_on_tasks, format_outcomes, tasks_of, trained_on
from lbr_st.evaluation.ranking import BM25, MEMORY_MIB, check_searchers
from lbr_st.evaluation.tables import score_table
from lbr_st.files import require_place
from lbr_st.use.dtypes import refuse_slow
from lbr_st.use.passages import open_encoded
from lbr_st.use.runtimes import Computing
from lbr_st.use.vectors import Vectors

if TYPE_CHECKING:
    from lbr_st.use.encoded import Encoded

# Flags that go with --data, and why they go with no public test.
OF_OWN_DATA = {
    "corpus_extra": "a public test has a corpus of its own",
    "min_score": "a public test has judgements of its own",
    "vectors": "a public test has a corpus of its own",
    "memory_mib": "mteb has a bound of its own for public tests",
}

# Flags that BM25 has no use for.
OF_MODELS = ("runtime", "dtype", "dimensions", "batch_tokens", "memory_mib")


def main(argv: Sequence[str] | None = None) -> None:
    """Run ``lbr evaluate``.

    Raises:
        InputError: If a model, a file or a task cannot be used.
    """
    parser = Parser(prog="lbr evaluate", description="Score models with mteb, on your own pairs or on public tests.")
    parser.add_argument(
        "--model", required=True, nargs="+", metavar="MODEL", help="sentence-transformers directories, Hub ids, bm25"
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--data", metavar="SET_OR_FILE", help="set of `lbr data prepare`, or a file of test pairs to search among"
    )
    what.add_argument(
        "--tasks", nargs="+", metavar="NAME", help='tasks or benchmarks of mteb: NFCorpus, "MTEB(Medical, v1)", ...'
    )
    parser.add_argument("--corpus-extra", metavar="FILE", help="file whose documents join the corpus of --data")
    parser.add_argument(
        "--vectors",
        metavar="DIR",
        help="take the vectors of all documents from here, where `lbr encode --with-text` wrote them with the --model",
    )
    add_min_score(parser)
    add_fuse(parser)
    weights = parser.add_mutually_exclusive_group()
    weights.add_argument(
        "--fuse-weight",
        type=share,
        metavar="W",
        help=f"share of a model in the sum of its scores and BM25's (default: {DENSE_WEIGHT})",
    )
    weights.add_argument(
        "--fuse-dev",
        metavar="SET_OR_FILE",
        help="choose that share on dev: a set, of which it is dev, or a file of other pairs; the corpus is the same",
    )
    add_on_error(parser)
    parser.add_argument("--results-dir", default="results", metavar="DIR", help="folder of mteb's result files")
    add_batch_tokens(parser)
    add_memory(parser, MEMORY_MIB)
    add_computing(parser)
    args = parser.parse_args(argv)
    _check(parser, args)
    check_searchers(args.model, _computing(args).check)
    require_place(args.results_dir, "--results-dir")
    print(_on_tasks(args) if args.tasks else _on_own_data(args))  # noqa: T201


def _check(parser: Parser, args: argparse.Namespace) -> None:
    """Refuse flags that go without each other."""
    for flag, why in OF_OWN_DATA.items():
        if args.tasks and getattr(args, flag) is not None:
            parser.error(f"--{flag.replace('_', '-')} goes with --data; {why}")
    for flag in ("fuse", "fuse_weight", "fuse_dev"):
        if getattr(args, flag) is not None and (args.tasks or not args.fuse):
            parser.error(f"--{flag.replace('_', '-')} goes with {'--data' if args.tasks else '--fuse bm25'}")
    if args.fuse and args.memory_mib is not None:
        parser.error("--memory-mib goes without --fuse, which keeps the scores of all documents")
    if set(args.model) == {BM25}:
        _check_bm25_alone(parser, args)
    for name in args.model:
        if args.model.count(name) > 1:
            parser.error(f"--model names {name} twice")


def _check_bm25_alone(parser: Parser, args: argparse.Namespace) -> None:
    """Refuse flags that BM25 alone has no use for."""
    if args.fuse:
        parser.error("--fuse bm25: give a --model to fuse with it")
    if args.vectors:
        parser.error("--vectors goes with the --model that they were encoded with")
    for flag in OF_MODELS:
        if getattr(args, flag) is not None:
            parser.error(f"--{flag.replace('_', '-')} goes with an embedding model, and bm25 counts words")


def _computing(args: argparse.Namespace) -> Computing:
    return Computing(args.runtime, args.dtype, args.dimensions)


def _on_own_data(args: argparse.Namespace) -> str:
    # What cannot be read is said before a model is opened, and vectors of another model before the data are read.
    encoded = {name: open_encoded(args.vectors, name) for name in args.model if args.vectors and name != BM25}
    task = local_task(args.data, args.corpus_extra, args.min_score, args.on_error)
    dev = dev_task(args.fuse_dev, args.min_score, task, args.on_error) if args.fuse_dev else None
    models = _open(args, encoded, [*task.documents, *(dev.documents if dev else ())])
    settings: dict[str, Any] = {"results_dir": args.results_dir}
    search = ["lbr", "search", "--model", next((name for name in args.model if name != BM25), "DIR"), *flags_of(args)]
    if args.fuse:
        models.pop(BM25, None)
        bm25, found = evaluate_with_bm25(models, task, dev, args.fuse_weight, **settings)
        scores = {task.label(BM25): bm25}
        for name, each in found.items():
            more = {"by ranks": each.by_ranks, f"{each.weight} of its scores": each.by_weight}
            scores |= {name: each.alone} | {f"{name}, with BM25 ({how})": of for how, of in more.items()}
        search += ["--fuse", BM25, "--fuse-weight", str(next(iter(found.values())).weight)]
    else:
        settings["memory_mib"] = args.memory_mib or MEMORY_MIB
        scores = {task.label(name): evaluate(model, task, **settings) for name, model in models.items()}
    command = shlex.join([*search, "--data", args.vectors or args.data, "your question"])
    size = f"{len(task.queries)} queries, {len(task.documents)} documents"
    return f"\n{size}\n{score_table(scores)}\n\nSaved mteb's result files in {args.results_dir}.\nnext: {command}"


def _open(args: argparse.Namespace, encoded: Mapping[str, Encoded], documents: Iterable[str]) -> dict[str, Any]:
    """Open models for mteb, by what a table calls them; where there are vectors, with those of the documents."""
    rows = next(iter(encoded.values())).rows_of(documents) if encoded else {}
    computing, models = _computing(args), {}

    def open_model(name: str) -> SentenceTransformer:
        model = computing.open(name)
        refuse_slow(model, args.dtype)
        return model

    for name in args.model:
        variant, kind = "" if name == BM25 else computing.variant(name), ""
        opened = open_for_evaluation(name, args.batch_tokens, open_model, variant)
        if name in encoded:
            vectors, kind = encoded[name].vectors(opened.model), encoded[name].kind
            opened.take_vectors(partial(_vectors_of, vectors, rows), kind)
        models[f"{name} ({kind})" if kind else name] = opened
    return models


def _vectors_of(vectors: Vectors, rows: Mapping[str, int], texts: Sequence[str]) -> Tensor:
    return torch.from_numpy(vectors[[rows[text] for text in texts]])


def dev_task(source: str, min_score: float | None, task: LocalRetrieval, on_error: str | None = None) -> LocalRetrieval:
    """Return the pairs of ``--fuse-dev`` as a task in the corpus of the test, with their own documents.

    Args:
        source: Prepared set, of which it is dev, or a file of pairs.
        min_score: Least score of a document that answers its query, where a column grades them.
        task: The test.
        on_error: ``stop`` at the first row that cannot be used, or ``skip`` and count such rows.

    Raises:
        InputError: If the file cannot be used, or has queries of the test.
    """
    records, others = read_test(file_of(source, "dev"), min_score, on_error)
    if known := sum(record["query"] in task.queries for record in records):
        raise InputError(
            f"--fuse-dev {source}: {known} of its {len(records)} queries are in --data too; choose the weight on others"
        )
    corpus = [{"id": id_, "document": text} for text, id_ in task.documents.items()]
    return LocalRetrieval(records, [*corpus, *others], name="dev", revision=task.metadata.revision)


def _on_tasks(args: argparse.Namespace) -> str:
    tasks = tasks_of(args.tasks)
    models = _open(args, {}, ())
    outcomes = evaluate_on_tasks(models, tasks, args.results_dir)
    if not any(each.scores for each in outcomes):
        raise InputError(
            f"not one task could be run ({outcomes[0].task}: {outcomes[0].why_not}); where data are missing: is there "
            "a network, and is HF_HUB_OFFLINE unset?"
        )
    shown = format_outcomes(outcomes, {name: trained_on(name) for name in models})
    model = next((name for name in args.model if name != BM25), "DIR")
    command = shlex.join(["lbr", "publish", "card", "--model", model, "--results-dir", args.results_dir])
    after = "" if flags_of(args) else f"\nnext: {command}"  # a card has the scores of the model as everyone opens it
    return f"\n{shown}\n\nSaved mteb's result files in {args.results_dir}.{after}"
