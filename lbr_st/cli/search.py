"""The command ``lbr search``."""

from __future__ import annotations

import argparse
import logging
import shlex
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from sentence_transformers import SentenceTransformer

from lbr_st.cli.arguments import Parser, add_fuse, add_memory, add_on_error, check_asked, positive_int, share
from lbr_st.cli.computing import add_computing, flags_of
from lbr_st.data.cleaning import printable
from lbr_st.data.drops import Drops, on_wrong_row
from lbr_st.data.prepared_set import file_of
from lbr_st.data.records import read_passages
from lbr_st.errors import check_installed
from lbr_st.evaluation.ranking import MEMORY_MIB, RRF, Weight
from lbr_st.records import Record
from lbr_st.use.dtypes import COMPARED, choose_dtype, refuse_slow
from lbr_st.use.passages import chunker_of, is_encoded, open_encoded, require_sources
from lbr_st.use.runtimes import AUTO, DTYPES, Computing
from lbr_st.use.search import format_hits, search, search_encoded

logger = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> None:
    """Run ``lbr search``.

    Raises:
        InputError: If the model or the data cannot be used.
    """
    parser = Parser(prog="lbr search", description="Search documents with a model.")
    parser.add_argument("--model", required=True, metavar="DIR_OR_ID", help="sentence-transformers directory or Hub id")
    parser.add_argument(
        "--data",
        required=True,
        metavar="FILE_OR_FOLDER",
        help="set of `lbr data prepare`, a file of documents, a folder of text files, or the output of `lbr encode`",
    )
    add_on_error(parser)
    parser.add_argument("--top-k", type=positive_int, default=3, metavar="N", help="passages shown for a question")
    add_fuse(parser)
    parser.add_argument(
        "--fuse-weight",
        type=_weight,
        metavar="W",
        help="of --fuse: rrf, by the reciprocal ranks of both; or the share of the model in the sum of both scores, "
        "from 0 to 1, such as lbr evaluate --fuse-dev chooses (default: rrf)",
    )
    add_memory(parser, MEMORY_MIB)
    add_computing(parser, (*DTYPES, AUTO))
    parser.add_argument("question", nargs="+", help="one or more questions")
    args = parser.parse_args(argv)
    check_asked(parser, args.question, "question")
    if args.fuse_weight is not None and not args.fuse:
        parser.error("--fuse-weight goes with --fuse bm25")
    weight = None
    if args.fuse:
        weight = RRF if args.fuse_weight is None else args.fuse_weight
        check_installed("bm25s", "--fuse bm25")
    computing = Computing(args.runtime, args.dtype, args.dimensions)
    computing.check(args.model)
    wanted = (args.question, args.top_k, weight, args.memory_mib or MEMORY_MIB)
    files = ["--model", args.model, "--data", args.data]
    skipping = [] if args.on_error == "stop" else ["--on-error", args.on_error]
    if is_encoded(args.data):
        encoded = open_encoded(args.data, args.model)
        if args.fuse:
            encoded.require_texts("--fuse bm25")
        if args.dtype == AUTO:
            computing = replace(computing, dtype=encoded.manifest.dtype)
        model = computing.open(args.model)
        refuse_slow(model, args.dtype)
        found, size = search_encoded(model, encoded, *wanted), len(encoded)
        after = f"{shlex.join(['lbr', 'serve', *files, *flags_of(args)])}, to let others ask"
    else:
        model, passages = _read(args, computing)
        found, size = search(model, passages, *wanted), len(passages)
        command = shlex.join(
            ["lbr", "encode", *files, *flags_of(args), *skipping, "--with-text", "--output-dir", "vectors"]
        )
        after = f"{command}, to keep their embeddings, which --data takes too"
    for question, hits in zip(args.question, found, strict=True):
        print(format_hits(printable(question), hits))  # noqa: T201
    print(f"\nSearched {size} passages.\nnext: {after}")  # noqa: T201


def _read(args: argparse.Namespace, computing: Computing) -> tuple[SentenceTransformer, list[Record]]:
    """Open the model and read the passages, which are cut for it; what cannot be read is said before."""
    require_sources([args.data], on_wrong_row(args.on_error, Drops()))
    model, drops = computing.open(args.model), Drops()
    refuse_slow(model, args.dtype)
    wrong = on_wrong_row(args.on_error, drops)
    passages = read_passages(file_of(args.data, "corpus"), partial(chunker_of, model), wrong)
    if drops.counts:
        logger.warning("%s", drops.describe())
    if args.dtype == AUTO:
        dtype = choose_dtype(model, [passage["document"] for passage in passages[:COMPARED]])
        model = replace(computing, dtype=dtype).open(args.model)
    return model, passages


def _weight(text: str) -> Weight:
    return RRF if text == RRF else share(text)
