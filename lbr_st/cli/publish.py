"""The command ``lbr publish``: the card of a model, the Hugging Face Hub, mteb's leaderboard."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from datetime import date

from lbr_st.cli.arguments import Parser, add_output_dir
from lbr_st.errors import naming_the_extra

MTEB = "https://github.com/embeddings-benchmark"


def main(argv: Sequence[str] | None = None) -> None:
    """Run ``lbr publish``.

    Raises:
        InputError: If arguments, the model or its results cannot be used.
    """
    parser = Parser("lbr publish", (__doc__ or "").partition(": ")[2])
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=Parser)
    for name, (help_, add_arguments, _) in COMMANDS.items():
        command = commands.add_parser(name, help=help_, description=help_[0].upper() + help_[1:] + ".")
        command.add_argument("--model", required=True, metavar="DIR", help="directory of the model")
        add_arguments(command)
    args = parser.parse_args(sys.argv[1:] if argv is None else argv)
    with naming_the_extra(f"lbr publish {args.command}"):
        COMMANDS[args.command][2](args)


def _add_card(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--name", metavar="OWNER/NAME", help="name on the Hub (default: that of the directory)")
    parser.add_argument("--results-dir", metavar="DIR", help="mteb's result files, whose scores of the model are shown")
    parser.add_argument("--license", metavar="ID", help="as the Hub names it: apache-2.0, mit, ...")
    parser.add_argument("--language", metavar="CODE", help="code of ISO 639-1: en, de, ...")


def _card(args: argparse.Namespace) -> None:
    from lbr_st.publish.results import write_card

    file = write_card(
        args.model, name=args.name, results_dir=args.results_dir, license=args.license, language=args.language
    )
    repo = args.name or "OWNER/NAME"
    print(f"Saved {file}\nnext: lbr publish push --model {args.model} --repo-id {repo}")  # noqa: T201


def _add_push(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--repo-id", required=True, metavar="OWNER/NAME", help="on the Hub; made if it is not there")
    parser.add_argument("--public", action="store_true", help="everyone may see it (default: a new one is private)")


def _push(args: argparse.Namespace) -> None:
    from lbr_st.publish.hub import push

    pushed = push(args.model, args.repo_id, public=args.public)
    print(  # noqa: T201
        f"{pushed.url} is there, revision {pushed.revision}\n"
        f"next: SentenceTransformer({args.repo_id!r}); or, for mteb's leaderboard, lbr publish submit "
        f"--model {args.model} --name {args.repo_id} --revision {pushed.revision} --output-dir DIR"
    )


def _add_submit(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--name", required=True, metavar="OWNER/NAME", help="name of the model on the Hub")
    parser.add_argument("--revision", required=True, metavar="COMMIT", help="commit that holds it, 40 digits")
    add_output_dir(parser, "the files; nothing is sent")
    parser.add_argument("--results-dir", default="results", metavar="DIR", help="mteb's result files")
    parser.add_argument("--license", metavar="ID", help="as mteb names it (default: that of the card)")
    parser.add_argument(
        "--languages", nargs="+", default=["eng-Latn"], metavar="CODE", help="ISO 639-3 and script of each language"
    )
    parser.add_argument("--release-date", type=_date, metavar="YYYY-MM-DD", help="of the revision (default: today)")
    parser.add_argument("--training-code", metavar="URL", help="where the training code is public")
    parser.add_argument("--training-data", metavar="URL", help="where the training data are public")


def _date(text: str) -> str:
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no date like 2026-11-28") from None


def _submit(args: argparse.Namespace) -> None:
    from lbr_st.publish.leaderboard import SubmissionConfig, prepare_submission

    told = {name: value for name, value in vars(args).items() if name != "command" and value is not None}
    made = prepare_submission(SubmissionConfig(**told))
    tasks = f"{len(made.tasks)} task{'s' * (len(made.tasks) != 1)} ({', '.join(made.tasks)})"
    print(f"""Saved {made.folder}: {tasks}; mteb's mock tasks pass.
next, by hand:
1. https://huggingface.co/{args.name} must hold this model at {args.revision} (lbr publish push), for everyone.
2. Fork {MTEB}/mteb, put {made.description} into mteb/models/model_implementations,
   run `make lint` there and open a pull request with its checklist.
3. Fork {MTEB}/results, put {made.folder}/results/* into results/,
   and open a pull request that names the first one.""")  # noqa: T201


# Name: what it does, its arguments, the function that runs it.
COMMANDS = {
    "card": ("write the card of a saved model again, with the scores that mteb found", _add_card, _card),
    "push": ("put a saved model on the Hugging Face Hub, verified and with its card", _add_push, _push),
    "submit": ("prepare a submission to mteb's leaderboard", _add_submit, _submit),
}
