"""The command ``lbr merge``."""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Sequence

from lbr_st.cli.arguments import Parser, add_min_score, add_output_dir, positive_int
from lbr_st.data.prepared_set import file_of
from lbr_st.data.records import read_test
from lbr_st.evaluation.general import general_pairs
from lbr_st.evaluation.shares import KEEP_GENERAL, choose_share
from lbr_st.files import require_empty
from lbr_st.model.merging import check_mergeable, check_shares, is_plain, merge
from lbr_st.model.saving import save_any

AUTO = "auto"
# What only --weight auto reads.
OF_AUTO = ("dev_data", "min_score", "general", "keep_general", "batch_size")
BATCH_SIZE = 32


def main(argv: Sequence[str] | None = None) -> None:
    """Run ``lbr merge``.

    Raises:
        InputError: If the models cannot be merged, or the data or the folder cannot be used.
    """
    parser = _parser()
    args = parser.parse_args(argv)
    if AUTO in (args.weight or ()) and len(args.weight) > 1:
        parser.error("--weight auto stands alone: it chooses the share itself")
    is_auto = args.weight == [AUTO]
    if not is_auto and (given := [name for name in OF_AUTO if getattr(args, name) is not None]):
        parser.error(f"--{given[0].replace('_', '-')} goes with --weight auto")
    if is_auto and len(args.models) != 2:
        parser.error(f"--weight auto takes two models, a start and an end, got {len(args.models)}")
    if is_auto and args.dev_data is None:
        parser.error("--weight auto chooses on --dev-data, which is not given")
    paths = [os.path.realpath(name) for name in args.models]
    if twice := [name for number, name in enumerate(args.models) if paths[number] in paths[:number]]:
        parser.error(f"{twice[0]} is named twice; --weight gives a model a larger share")
    weights = [] if is_auto else _weights(parser, args)
    # What cannot be done is said before a model is opened.
    require_empty(args.output_dir)
    check_mergeable(args.models)
    if is_auto:
        dev, others = read_test(file_of(args.dev_data, "dev"), args.min_score)
        general = general_pairs(args.general)
        keep = KEEP_GENERAL if args.keep_general is None else args.keep_general
        start, end = args.models
        batch_size = args.batch_size or BATCH_SIZE
        choice = choose_share(start, end, dev, general, others, keep_general=keep, batch_size=batch_size)
        print(f"\n{choice}")  # noqa: T201
        weights = [1 - choice.taken.share, choice.taken.share]
    save_any(merge(args.models, weights), args.output_dir)
    shares = " and ".join(f"{weight:g} of {name}" for weight, name in zip(weights, args.models, strict=True))
    beside = [] if is_plain(args.models[-1]) else args.models[-1:]
    command = shlex.join(["lbr", "evaluate", "--model", args.output_dir, *beside, "--data", "TEST_PAIRS"])
    print(f"\nSaved {args.output_dir}: {shares}.\nnext: {command}")  # noqa: T201


def _weights(parser: Parser, args: argparse.Namespace) -> list[float]:
    """Return the share of each model, of what ``--weight`` says: nothing, the share of the last of two, or all."""
    number = len(args.models)
    if args.weight is None:
        return [1 / number] * number
    if len(args.weight) == 1 and number == 2:
        return check_shares(args.models, [1 - args.weight[0], *args.weight])
    return check_shares(args.models, args.weight)


def _share(text: str) -> float | str:
    """Read a share from 0 to 1, or ``auto``."""
    return AUTO if text == AUTO else _between(text)


def _between(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"must be a number from 0 to 1, got {text}")
    return number


def _parser() -> Parser:
    parser = Parser(prog="lbr merge", description="Average the weights of models of one kind.")
    parser.add_argument(
        "models",
        nargs="+",
        metavar="MODEL",
        help="directories or Hub ids: a start and what it became, or several runs from one start",
    )
    parser.add_argument(
        "--weight",
        nargs="+",
        type=_share,
        metavar="W",
        help="share of the last of two models; or one share for each model; or auto: one of five shares, chosen "
        "on --dev-data (default: equal shares)",
    )
    add_output_dir(parser, "the merged model")
    auto = parser.add_argument_group("--weight auto")
    auto.add_argument(
        "--dev-data", metavar="SET_OR_FILE", help="held-out pairs: set of `lbr data prepare`, of which it is dev"
    )
    add_min_score(auto)
    auto.add_argument(
        "--general",
        metavar="FILE",
        help="pairs from outside the domain (default: docstrings and functions of the packages installed here)",
    )
    auto.add_argument(
        "--keep-general",
        type=_between,
        metavar="S",
        help=f"share of the start's recall@10 outside the domain that must be kept (default: {KEEP_GENERAL})",
    )
    auto.add_argument(
        "--batch-size", type=positive_int, metavar="N", help=f"texts encoded at once (default: {BATCH_SIZE})"
    )
    return parser
