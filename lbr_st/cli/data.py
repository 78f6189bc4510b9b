"""The command ``lbr data``: prepare a set, compare two files, list the public sets."""

from __future__ import annotations

import argparse
import logging
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lbr_st.data import near_duplicates as near
from lbr_st.data import registry
from lbr_st.data.card import PICTURE, About
from lbr_st.data.columns import Columns, Template
from lbr_st.data.overlap import describe, overlaps
from lbr_st.data.parts import INSTALLED, Reading
from lbr_st.data.passages import CHUNK_TOKENS, Chunker, count_words
from lbr_st.data.prepared_set import REGIMES, file_of
from lbr_st.data.preparing import prepare
from lbr_st.data.records import read_records, read_tuples
from lbr_st.data.settings import DEFAULT_SIZES, HELD_OUT, Settings
from lbr_st.errors import InputError
from lbr_st.records import FIELDS

logger = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> None:
    """Run ``lbr data``.

    Raises:
        InputError: If arguments or data cannot be used.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(prog="lbr data", description=(__doc__ or "").partition(": ")[2])
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_prepare(commands.add_parser("prepare", help="make a set of files, folders, Hub datasets", allow_abbrev=False))
    _add_check(commands.add_parser("check", help="whether what is tested on is in what is trained on"))
    commands.add_parser("list", help="the public sets that prepare knows by name")
    args = parser.parse_args(argv)
    if args.command == "list":
        print(_list())  # noqa: T201
    elif args.command == "check":
        _check(args)
    else:
        _prepare(args, argv)


def _add_prepare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source",
        nargs="+",
        help="JSON Lines, JSON, CSV, TSV or Parquet, compressed too; a folder with files named train, dev, test; one "
        "in the form of BEIR; one of text, Markdown, HTML or source code; the id of a Hub dataset; "
        f"{INSTALLED}; or a name of `lbr data list`",
    )
    parser.add_argument("--output-dir", required=True, metavar="DIR", help="new or empty folder for the set")
    columns = parser.add_argument_group("columns", "found by their usual names unless said")
    columns.add_argument("--query", metavar="TEMPLATE", help="such as '{names[0]}'")
    columns.add_argument("--document", metavar="TEMPLATE", help="such as '{iupac}; {formula}; {smiles}'")
    columns.add_argument("--negative", action="append", default=[], metavar="TEMPLATE", help="a hard negative; repeat")
    columns.add_argument(
        "--choices", nargs="+", metavar="FIELD", help="of multiple choice: the field of the options, or one for each"
    )
    columns.add_argument("--answer", metavar="FIELD", help="of multiple choice: number from 0, letter or text")
    columns.add_argument("--id", default="id", metavar="FIELD", help="(default: %(default)s)")
    columns.add_argument("--encoding", default="utf-8", help="of text files (default: %(default)s)")
    columns.add_argument(
        "--on-error", choices=("stop", "skip"), default="stop", help="at a row that cannot be used (default: stop)"
    )
    passages = parser.add_argument_group("passages of documents that have no query")
    passages.add_argument(
        "--tokenizer", metavar="DIR_OR_ID", help="count by the tokens of this backbone (default: words and marks)"
    )
    passages.add_argument(
        "--chunk-tokens", type=int, default=CHUNK_TOKENS, metavar="N", help="the most of one (default: %(default)s)"
    )
    _add_cleaning(parser.add_argument_group("cleaning"))
    _add_splits(parser.add_argument_group("splits"))
    card = parser.add_argument_group("card")
    card.add_argument("--name", help="of the set (default: the names of the sources)")
    card.add_argument("--licence", metavar="TEXT", help="(default: that of the registry, where the source is in it)")
    card.add_argument(
        "--derived-from",
        nargs="+",
        default=[],
        metavar="NAME",
        help="public sets the data come from, names of `lbr data list` or Hub ids: mteb tasks on them are named in the "
        "metadata of models",
    )
    parser.add_argument(
        "--num-proc", type=int, default=os.cpu_count() or 1, metavar="N", help="processes (default: %(default)s)"
    )


def _add_cleaning(group: Any) -> None:
    group.add_argument("--keep-html", action="store_true", help="leave markup as it is")
    for name, default in (("query", Settings.query_characters), ("document", Settings.document_characters)):
        group.add_argument(
            f"--{name}-characters",
            type=int,
            nargs=2,
            default=default,
            metavar=("MIN", "MAX"),
            help=f"(default: {default[0]} {default[1]})",
        )
    group.add_argument(
        "--near-duplicates",
        type=float,
        default=near.THRESHOLD,
        metavar="J",
        help="least Jaccard index of near-duplicates, of shingles of 3 words, 0.8 to 1; 0: none (default: %(default)s)",
    )


def _add_splits(group: Any) -> None:
    group.add_argument(
        "--test", metavar="SIZE", help=f"number or share of the pairs, or a file (default: {DEFAULT_SIZES['test']})"
    )
    group.add_argument("--dev", metavar="SIZE", help=f"the same (default: {DEFAULT_SIZES['dev']})")
    group.add_argument("--gl", metavar="SIZE", help="of the training pairs, for stage 1 (default: all, 1.0)")
    group.add_argument(
        "--cl",
        metavar="SIZE",
        help="of the training pairs, for stage 2; none of them in gl unless both ask for more than there is (default: "
        "all, 1.0)",
    )
    group.add_argument("--group-by", metavar="FIELD", help="records with the same value stay on one side")
    group.add_argument("--resplit", action="store_true", help="forget the sides that the sources have")
    group.add_argument(
        "--isolate",
        choices=("both", "query"),
        help="what must not be on two sides: queries and documents, or queries alone (default: both; of multiple "
        "choice query, as options come again)",
    )
    group.add_argument(
        "--regime",
        choices=REGIMES,
        default="strict",
        help="; ".join(f"{name}: {meaning}" for name, meaning in REGIMES.items()) + " (default: %(default)s)",
    )


def _prepare(args: argparse.Namespace, argv: list[str]) -> None:
    registry.check_names(args.derived_from)
    sources: list[tuple[str, str | None]] = [(source, None) for source in args.source]
    sizes: dict[str, str | int | float] = {}
    for name in DEFAULT_SIZES:
        size = getattr(args, name)
        if size is not None and name in HELD_OUT and os.path.exists(size) and not size.replace(".", "").isdecimal():
            sources.append((size, name))
        elif size is not None:
            sizes[name] = size
    count = _counter(args.tokenizer) if args.tokenizer else count_words
    if args.chunk_tokens < 1 or args.num_proc < 1:
        raise InputError("--chunk-tokens and --num-proc must be at least 1")
    reading = Reading(
        _columns(args), args.id, args.group_by, args.encoding, Chunker(args.chunk_tokens, count), args.keep_html
    )
    settings = Settings(
        query_characters=tuple(args.query_characters),
        document_characters=tuple(args.document_characters),
        near_duplicates=args.near_duplicates,
        isolated={"both": FIELDS, "query": ("query",), None: None}[args.isolate],
        sizes=sizes,
        regime=args.regime,
        resplit=args.resplit,
        on_error=args.on_error,
        count_tokens=count,
        token=f"tokens of {Path(args.tokenizer).name}" if args.tokenizer else "words and marks",
        processes=args.num_proc,
    )
    name = args.name or " + ".join(Path(source).resolve().name.partition(".")[0] for source in args.source)
    seconds = prepare(
        sources, args.output_dir, reading, settings, About(name, _again(argv), args.licence, args.derived_from)
    )
    logger.info("%s", ", ".join(f"{step} {each:.1f} s" for step, each in seconds.items()))
    text = Path(args.output_dir, "README.md").read_text(encoding="utf-8").partition("---\n\n")[2]
    text = text.partition("## Made by")[0].replace(f"![lengths]({PICTURE})\n\n", "")
    print(f"{text}Saved {args.output_dir}: what is above is in its README.md; --data {args.output_dir} reads it.")  # noqa: T201


def _columns(args: argparse.Namespace) -> Columns:
    templates = {name: Template(getattr(args, name)) if getattr(args, name) else None for name in FIELDS}
    choices = args.choices
    if choices and len(choices) > 1:
        choices = tuple(Template("{" + name + "}") for name in choices)
    return Columns(
        query=templates["query"],
        document=templates["document"],
        negatives=tuple(map(Template, args.negative)),
        choices=choices[0] if isinstance(choices, list) else choices,
        answer=args.answer,
    )


def _counter(name: str) -> Any:
    """Return what counts the tokens of a backbone."""
    from tokenizers import Tokenizer
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise InputError(f"--tokenizer {name}: {str(error).splitlines()[0]}") from error
    if not tokenizer.is_fast:
        raise InputError(f"--tokenizer {name} has no tokenizer.json to count with; leave it out to count words")
    backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    backend.no_truncation()
    backend.no_padding()
    return lambda text: len(backend.encode(text, add_special_tokens=False))


def _again(argv: list[str]) -> str:
    """Return the command that makes the set, without where and how fast: the same data give the same card."""
    left_out = ("--output-dir", "--num-proc")
    while found := [at for at, each in enumerate(argv) if each.partition("=")[0] in left_out]:
        argv = argv[: found[0]] + argv[found[0] + (1 if "=" in argv[found[0]] else 2) :]
    return shlex.join(["lbr", "data", *argv, "--output-dir", "DIR"])


def _add_check(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "train", metavar="TRAIN", help="what is trained on: a file, the id of a Hub dataset, or a prepared set"
    )
    parser.add_argument("held_out", metavar="HELD_OUT", help="what is tested on")
    parser.add_argument("--isolate", choices=("both", "query"), default="both", help="(default: %(default)s)")
    parser.add_argument("--near-duplicates", type=float, default=near.THRESHOLD, metavar="J", help="see prepare")


def _check(args: argparse.Namespace) -> None:
    near.check_threshold(args.near_duplicates)
    fields = FIELDS if args.isolate == "both" else ("query",)
    train, held_out = read_tuples(file_of(args.train, "cl")), read_records(file_of(args.held_out, "test"))
    found = list(overlaps(train, held_out, fields, args.near_duplicates))
    if found:
        raise InputError(f"{args.train} and {args.held_out} overlap in {describe(found)}")
    print(f"no overlap of {len(train):,} records with {len(held_out):,}")  # noqa: T201


def _list() -> str:
    lines = []
    for domain in dict.fromkeys(entry.domain for entry in registry.load().values()):
        lines.append(domain)
        for entry in registry.load().values():
            if entry.domain == domain:
                lines += [f"  {entry.name:<25} {entry.about}", f"  {'':<25} {entry.hub}; licence: {entry.licence}"]
    return "\n".join(lines)
