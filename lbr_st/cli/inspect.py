"""The command ``lbr inspect``."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from lbr_st.cli.arguments import Parser, add_batch_size, add_min_score, add_on_error, check_asked
from lbr_st.data.cleaning import printable
from lbr_st.data.prepared_set import file_of
from lbr_st.data.records import read_test
from lbr_st.evaluation.inspect import format_numbers, inspect
from lbr_st.evaluation.read_out import read_out, warn_of_unlearned
from lbr_st.metrics import Pairs
from lbr_st.model.named import check_embedder_exists, has_bottleneck_tokens
from lbr_st.model.opening import open_with_language_model


def main(argv: Sequence[str] | None = None) -> None:
    """Run ``lbr inspect``.

    Raises:
        InputError: If the model or the data cannot be used.
    """
    parser = Parser(
        prog="lbr inspect",
        description="Say what the embeddings of a model are like on held-out pairs, or one of them in words.",
    )
    parser.add_argument("--model", required=True, metavar="DIR_OR_ID", help="any sentence-transformers model")
    parser.add_argument(
        "--data",
        metavar="SET_OR_FILE",
        help="held-out pairs: set of `lbr data prepare`, of which it is dev, or a file; their documents are the corpus",
    )
    add_min_score(parser)
    add_on_error(parser)
    add_batch_size(parser, 32)
    parser.add_argument("text", nargs="*", help="questions whose embeddings are said in words; a model of lbr-st")
    args = parser.parse_args(argv)
    if not args.data and not args.text:
        parser.error("nothing to look at: give --data, or a text")
    check_asked(parser, args.text, "text")
    args.text = [printable(text) for text in args.text]
    if args.min_score is not None and not args.data:
        parser.error("--min-score goes with --data: a text has no judgements")
    check_embedder_exists(args.model)
    if args.text and not has_bottleneck_tokens(args.model):
        parser.error(
            f"only a model of lbr-st says its embeddings in words, and {args.model} is none; give --data alone"
        )
    records, others = read_test(file_of(args.data, "dev"), args.min_score, args.on_error) if args.data else ([], [])
    model = open_with_language_model(args.model)
    if args.text:
        warn_of_unlearned(model)
        for text, words in zip(args.text, read_out(model, args.text, batch_size=args.batch_size), strict=True):
            print(f"{text}\n    {', '.join(f'{word} {weight:.2f}' for word, weight in words)}")  # noqa: T201
    command = ["lbr", "search", "--model", args.model, "--data", "DOCUMENTS", *args.text[:1]]
    if args.data:
        numbers, pairs = inspect(model, records, args.batch_size, others), Pairs.of(records, others)
        print(f"{len(pairs.queries)} queries, {len(pairs.documents)} documents\n{format_numbers(numbers)}")  # noqa: T201
        command = ["lbr", "evaluate", "--model", args.model, "bm25", "--data", args.data]
        command += [] if args.min_score is None else ["--min-score", f"{args.min_score:g}"]
        command += ["--on-error", args.on_error] if args.on_error == "skip" else []
    print(f"\nnext: {shlex.join(command)}")  # noqa: T201
