"""The command ``lbr data``: prepare a set, write, filter and mine for it, find terms, compare files, list sets."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import MISSING, fields
from functools import partial
from pathlib import Path
from typing import Any

from lbr_st.adaptation.kinds import KINDS
from lbr_st.cli.arguments import Parser, add_batch_size, add_min_score, add_on_error, add_output_dir, positive_int
from lbr_st.data import registry
from lbr_st.data.config import DEFAULT_SIZES, ISOLATE, PrepareConfig
from lbr_st.data.judgements import JUDGED_BY
from lbr_st.data.near_duplicates import THRESHOLD, check_threshold
from lbr_st.data.overlap import describe, overlaps
from lbr_st.data.parts import INSTALLED
from lbr_st.data.passages import CHUNK_TOKENS
from lbr_st.data.prepared_set import REGIMES, PreparedSet, file_of, same_text_of
from lbr_st.data.records import read_records, read_tuples
from lbr_st.data.same_text import AUTO, LEVELS, MEANINGS
from lbr_st.data.terms import LEAST_COUNT, LEAST_PIECES, MOST_TERMS, find_terms, training_texts, write_terms
from lbr_st.errors import InputError, naming_the_extra
from lbr_st.evaluation.tables import markdown_table
from lbr_st.files import parents_that_go, require_new_file
from lbr_st.records import FIELDS, Record

MOST_TERMS_SHOWN = 30


def main(argv: Sequence[str] | None = None) -> None:
    """Run ``lbr data``.

    Raises:
        InputError: If arguments or data cannot be used.
    """
    parser = Parser("lbr data", (__doc__ or "").partition(": ")[2])
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=Parser)
    for name, (help_, add_arguments, _) in COMMANDS.items():
        command = commands.add_parser(name, help=help_, description=help_[0].upper() + help_[1:] + ".")
        command.argument_default = argparse.SUPPRESS  # what is not said is left to the configuration
        add_arguments(command)
    args = parser.parse_args(sys.argv[1:] if argv is None else argv)
    with naming_the_extra(f"lbr data {args.command}"):
        COMMANDS[args.command][2](args)


def _add_prepare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "sources",
        nargs="+",
        metavar="SOURCE",
        help="JSON Lines, JSON, CSV, TSV or Parquet, compressed too; a folder with files named train, dev, test; one "
        "in the form of BEIR; one of text, Markdown, HTML or source code; the id of a Hub dataset; "
        f"{INSTALLED}; or a name of lbr data list",
    )
    add_output_dir(parser, "the set")
    columns = parser.add_argument_group("columns", "found by their usual names unless said")
    columns.add_argument("--query", metavar="TEMPLATE", help="such as '{names[0]}'")
    columns.add_argument("--document", metavar="TEMPLATE", help="such as '{iupac}; {formula}; {smiles}'")
    columns.add_argument("--negative", action="append", metavar="TEMPLATE", help="a hard negative; repeat")
    columns.add_argument(
        "--choices",
        nargs="+",
        metavar="FIELD",
        help="of multiple choice: the field of the options, or one for each",
    )
    columns.add_argument(
        "--answer",
        metavar="FIELD",
        help="of multiple choice: number, letter or text of the right option",
    )
    columns.add_argument(
        "--first-option",
        type=int,
        choices=(0, 1),
        help="of multiple choice: number of the first option, where a number says which is right; default: 0, and "
        "refused where none is 0",
    )
    add_min_score(columns)
    columns.add_argument("--judged-by", metavar="FIELD", help=JUDGED_BY)
    columns.add_argument("--id", metavar="FIELD", help="field of the id")
    columns.add_argument("--encoding", default="utf-8", help="encoding of text files")
    add_on_error(columns)
    passages = parser.add_argument_group("passages of documents that have no query")
    passages.add_argument(
        "--tokenizer",
        metavar="DIR_OR_ID",
        help="count by the tokens of this backbone (default: words and marks)",
    )
    passages.add_argument(
        "--chunk-tokens", type=positive_int, default=CHUNK_TOKENS, metavar="N", help="most tokens of a passage"
    )
    _add_cleaning(parser.add_argument_group("cleaning"))
    _add_splits(parser.add_argument_group("splits", "a SIZE is a number (100) or a share (10%)"))
    card = parser.add_argument_group("card")
    card.add_argument("--name", help="name of the set (default: the names of the sources)")
    card.add_argument(
        "--license",
        metavar="TEXT",
        help="license of the data (default: that of lbr data list, where the source is in it)",
    )
    card.add_argument(
        "--derived-from",
        nargs="+",
        metavar="NAME",
        help="public sets the data come from, names of lbr data list or Hub ids: mteb tasks on them are named in the "
        "metadata of models",
    )
    parser.add_argument(
        "--num-proc", type=positive_int, default=_default("num_proc"), metavar="N", help="processes to run in"
    )


def _add_cleaning(group: Any) -> None:
    group.add_argument("--keep-html", action="store_true", help="leave markup in texts")
    for name in FIELDS:
        least, most = _default(f"{name}_characters")
        group.add_argument(
            f"--{name}-characters",
            type=int,
            nargs=2,
            metavar=("MIN", "MAX"),
            help=f"least and most characters of a {name} (default: {least} {most})",
        )
    _add_same_text(group, AUTO)
    _add_near_duplicates(group)


def _add_same_text(group: Any, default: str | None, more: str = "") -> None:
    meanings = "; ".join(f"{level}: {meaning}" for level, meaning in MEANINGS.items())
    group.add_argument("--same-text", choices=LEVELS, default=default, help=f"what is one text. {meanings}{more}")


def _add_near_duplicates(group: Any) -> None:
    group.add_argument(
        "--near-duplicates",
        type=float,
        default=THRESHOLD,
        metavar="J",
        help="least Jaccard index of near-duplicates, of shingles of 3 words, 0.8 to 1; 0: none",
    )


def _add_splits(group: Any) -> None:
    texts = {
        "test": "pairs that are held out for the test; or a file that is the test",
        "dev": "the same for dev",
        "learn": "training pairs for stage 1",
        "align": "training pairs for stage 2; none of those of stage 1 unless both ask for more than there is",
    }
    for name, text in texts.items():
        size = DEFAULT_SIZES[name].replace("%", "%%")
        metavar = "SIZE_OR_FILE" if name in ("test", "dev") else "SIZE"
        group.add_argument(f"--{name}", metavar=metavar, help=f"{text} (default: {size})")
    group.add_argument("--group-by", metavar="FIELD", help="records with the same value stay on one side")
    group.add_argument("--resplit", action="store_true", help="forget the sides that the sources have")
    group.add_argument(
        "--isolate",
        choices=ISOLATE,
        help="what must not be on two sides: queries and documents, or queries alone (default: both; of multiple "
        "choice query, as options come again)",
    )
    meanings = "; ".join(f"{name}: {meaning}" for name, meaning in REGIMES.items())
    group.add_argument("--regime", choices=REGIMES, default="strict", help=meanings)


def _default(name: str) -> Any:
    [found] = [each for each in fields(PrepareConfig) if each.name == name]
    return found.default if found.default_factory is MISSING else found.default_factory()


def _prepare(args: argparse.Namespace) -> None:
    from lbr_st.data import card
    from lbr_st.data.preparing import prepare

    config = PrepareConfig(**_settings(args))
    made = prepare(config)
    print(card.summary(made.folder))  # noqa: T201
    print(f"Saved {made}; what is above is in its README.md.")  # noqa: T201
    print(f"next: lbr learn --model BACKBONE --data {made.folder} --output-dir stage1")  # noqa: T201


def _settings(args: argparse.Namespace) -> dict[str, Any]:
    return {name: value for name, value in vars(args).items() if name != "command"}


def _add_queries(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "sources", nargs="+", metavar="SOURCE", help="prepared sets, and whatever lbr data prepare reads"
    )
    add_output_dir(parser, "the queries")
    parser.add_argument("--pairs", metavar="FILE", help="pairs, or a prepared set, whose queries are given")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, help="default: all that can be had")
    writing = parser.add_argument_group("queries that a language model writes", "by one of the first two")
    writing.add_argument("--model", metavar="DIR_OR_ID", help="by its chat template, doc2query, or a few examples")
    writing.add_argument("--generator", metavar="URL", help="a server that answers as OpenAI's API does")
    writing.add_argument("--generator-model", metavar="NAME", help="name of the model there")
    writing.add_argument(
        "--per-passage", type=positive_int, metavar="N", help="queries of a passage (default: one of each kind)"
    )
    writing.add_argument(
        "--most", type=positive_int, metavar="N", help="most passages, drawn by the seed (default: all)"
    )
    writing.add_argument(
        "--temperature", type=float, default=0.0, metavar="T", help="0: the likeliest tokens; above, they are drawn"
    )
    writing.add_argument("--dtype", default="float32", metavar="TYPE", help="float32, float16 or bfloat16")
    writing.add_argument("--batch-size", type=positive_int, default=8, metavar="N", help="queries written at once")
    parser.add_argument("--seed", type=int, default=0, help="seed of what is drawn")
    add_min_score(parser)
    add_on_error(parser)


def _queries(args: argparse.Namespace) -> None:
    from lbr_st.adaptation import queries_card
    from lbr_st.adaptation.queries import QueriesConfig, write_queries

    made = write_queries(QueriesConfig(**_settings(args)))
    print(queries_card.summary(made.folder))  # noqa: T201
    print(f"Saved {made}; examples are in its README.md.")  # noqa: T201
    print(f"next: lbr align --model MODEL --data {made.file} --output-dir model")  # noqa: T201


def _add_filter(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("queries", metavar="QUERIES", help="folder of lbr data queries, or a file of queries")
    parser.add_argument(
        "--data",
        required=True,
        metavar="SET_OR_FILE",
        help="passages that they were written for: a prepared set, a file, or a folder of text files",
    )
    add_output_dir(parser, "the queries that stay")
    parser.add_argument(
        "--model",
        dest="models",
        nargs="+",
        metavar="MODEL",
        help="what must find the passage of a query, one of them: bm25, sentence-transformers directories, Hub ids "
        "(default: bm25)",
    )
    parser.add_argument(
        "--keep-first",
        type=positive_int,
        metavar="K",
        help="a passage is found if it is among so many (default: 20, or a tenth of fewer than 200 passages)",
    )
    parser.add_argument("--reranker", metavar="DIR_OR_ID", help="a cross-encoder that scores query and passage instead")
    parser.add_argument(
        "--least-score",
        type=float,
        metavar="S",
        help="least score by --reranker (default: 0.5; of a model that gives logits 0)",
    )
    _add_same_text(parser, AUTO)
    _add_near_duplicates(parser)
    add_min_score(parser)
    add_on_error(parser)
    parser.add_argument(
        "--batch-size", type=positive_int, default=32, metavar="N", help="pairs that --reranker scores at once"
    )


def _filter(args: argparse.Namespace) -> None:
    from lbr_st.adaptation.filtering import FilterConfig, filter_file

    settings = _settings(args)
    queries, data, output_dir = (settings.pop(name) for name in ("queries", "data", "output_dir"))
    about = filter_file(queries, data, output_dir, FilterConfig(**settings))
    done = about["filter"]
    for reason, number in done["lost"].items():
        print(f"{number:>8,}  {reason}")  # noqa: T201
    print(  # noqa: T201
        f"Saved {output_dir}: {done['kept']:,} of {done['read']:,} queries; some of the others are in dropped.jsonl."
    )
    file = f"{output_dir}/queries.jsonl"
    print(f"next: lbr data mine {file} --model MODEL --output-dir mined")  # noqa: T201


def _add_mine(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="SET", help="a prepared set; or a file of pairs")
    parser.add_argument(
        "--model", required=True, metavar="DIR_OR_ID", help="any sentence-transformers model to find them with"
    )
    add_output_dir(parser, "the set with hard negatives")
    parser.add_argument("--negatives", type=positive_int, default=4, metavar="N", help="hard negatives of each pair")
    parser.add_argument(
        "--corpus",
        metavar="SET_OR_FILE",
        help="documents to find them in, beside those of the pairs: a set, of which it is the corpus, or a file; what "
        "SET holds out is left out",
    )
    add_min_score(parser)
    add_on_error(parser)
    filters = parser.add_argument_group("filters of false negatives", "none unless said")
    filters.add_argument(
        "--margin",
        type=float,
        metavar="M",
        help="a negative is at least this much less similar to the query than its document is",
    )
    filters.add_argument(
        "--relative-margin",
        type=float,
        metavar="M",
        help="the same as a share of the document's similarity; 0.05 is that of NV-Retriever (arXiv 2407.15831)",
    )
    filters.add_argument(
        "--max-score", type=float, metavar="S", help="a negative is at most this similar; not with --relative-margin"
    )
    filters.add_argument("--skip", type=int, default=0, metavar="N", help="leave out the N most similar ones")
    add_batch_size(parser, 32)


def _mine(args: argparse.Namespace) -> None:
    from lbr_st.data.mining import MineConfig, mine

    made = mine(MineConfig(**_settings(args)))
    print(f"Saved {made}, {args.negatives} hard negatives for each pair of align.")  # noqa: T201
    print(f"next: lbr align --model MODEL --data {made.folder} --output-dir model")  # noqa: T201


def _add_check(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "train", metavar="TRAIN", help="what is trained on: a file, the id of a Hub dataset, or a prepared set"
    )
    parser.add_argument("held_out", metavar="HELD_OUT", help="what is tested on, the same")
    parser.add_argument("--isolate", choices=ISOLATE, default="both", help="queries and documents, or queries alone")
    _add_same_text(parser, None, " (default: as in the set that TRAIN is, else auto)")
    parser.set_defaults(min_score=None)  # a default that is None is left out of what is parsed
    add_min_score(parser)
    add_on_error(parser)
    _add_near_duplicates(parser)


def _check(args: argparse.Namespace) -> None:
    check_threshold(args.near_duplicates)
    fields_ = FIELDS if args.isolate == "both" else ("query",)
    trained, train = _each_once(args.train, ("learn", "align"), read_tuples, args)
    tested, held_out = _each_once(args.held_out, ("dev", "test"), partial(read_records, fields=FIELDS), args)
    same = args.same_text or same_text_of(args.train)
    found = list(overlaps(train, held_out, fields_, args.near_duplicates, same))
    if found:
        raise InputError(f"{trained} and {tested} overlap in {describe(found)}")
    print(f"no overlap of {len(train):,} records of {trained} with {len(held_out):,} of {tested}")  # noqa: T201


def _each_once(
    source: str, names: Sequence[str], read: Callable[..., list[Record]], args: argparse.Namespace
) -> tuple[str, list[Record]]:
    """Return what a source is called, and its records; of a prepared set those of several files, each record once."""
    own = PreparedSet.open(source) if Path(source).is_dir() else None
    files = [file_of(source, name) for name in names if own and own.has(name)] or [file_of(source, names[-1])]
    records = [read(file, min_score=args.min_score, on_error=args.on_error) for file in files]
    if len(files) == 1:
        return files[0], records[0]
    return " and ".join(files), list({record["id"]: record for each in records for record in each}.values())


def _add_terms(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data", required=True, metavar="SET_OR_FILE", help="what is trained on: a prepared set, a file, or a Hub id"
    )
    parser.add_argument("--model", required=True, metavar="DIR_OR_ID", help="language model that is to get the tokens")
    parser.add_argument(
        "--output", required=True, metavar="FILE", help="new file for the terms, JSON Lines; it may be edited"
    )
    parser.add_argument(
        "--least-count", type=positive_int, default=LEAST_COUNT, metavar="N", help="fewest times a term comes"
    )
    parser.add_argument(
        "--least-pieces", type=positive_int, default=LEAST_PIECES, metavar="N", help="fewest pieces it falls into"
    )
    parser.add_argument("--most", type=positive_int, default=MOST_TERMS, metavar="N", help="most terms")
    add_on_error(parser)


def _terms(args: argparse.Namespace) -> None:
    from lbr_st.model.opening import open_tokenizer

    output = Path(args.output)
    require_new_file(output, "--output")
    tokenizer = open_tokenizer(args.model)
    texts = training_texts(args.data, args.on_error)
    limits = {"least_count": args.least_count, "least_pieces": args.least_pieces, "most": args.most}
    terms = find_terms(texts, tokenizer, **limits)
    if not terms:
        raise InputError(
            f"no word of {args.data} comes {args.least_count} times and falls into {args.least_pieces} pieces; lower "
            "--least-count or --least-pieces"
        )
    with parents_that_go(output.parent):
        write_terms(output, terms)
    rows = [(each.term, f"{each.count:,}", f"{each.pieces}", f"{each.saved:,}") for each in terms[:MOST_TERMS_SHOWN]]
    print(markdown_table(["term", "count", "pieces", "tokens saved"], rows, ["count", "pieces", "tokens saved"]))  # noqa: T201
    saved = sum(term.saved for term in terms)
    print(f"\nSaved {output}: {len(terms):,} terms, which save {saved:,} tokens of {len(texts):,} texts.")  # noqa: T201
    print(  # noqa: T201
        f"next: lbr learn --model {args.model} --data {args.data} --domain-tokens {output} --output-dir stage1"
    )


def _add_nothing(parser: argparse.ArgumentParser) -> None:
    """The command has no arguments."""


def _list(args: argparse.Namespace) -> None:
    entries = registry.load().values()
    for domain in dict.fromkeys(entry.domain for entry in entries):
        print(domain)  # noqa: T201
        for entry in entries:
            if entry.domain == domain:
                print(f"  {entry.name:<25} {entry.about}")  # noqa: T201
                print(f"  {'':<25} {entry.hub}; license: {entry.license}")  # noqa: T201
    print("next: lbr data prepare NAME --output-dir my-set")  # noqa: T201


# What a command does, what adds its arguments, and what runs it.
COMMANDS: dict[str, tuple[str, Callable[[argparse.ArgumentParser], None], Callable[[argparse.Namespace], None]]] = {
    "prepare": ("make a set of files, folders, Hub datasets: clean, split and isolated", _add_prepare, _prepare),
    "queries": ("collect queries for passages: given, titles, written by a language model", _add_queries, _queries),
    "filter": ("leave out queries that do not find their passage, copies and duplicates", _add_filter, _filter),
    "mine": ("find hard negatives for the pairs of a set with a model", _add_mine, _mine),
    "terms": ("find words that a model spells in many pieces, to give each a token", _add_terms, _terms),
    "check": ("say whether what is tested on is in what is trained on", _add_check, _check),
    "list": ("list the public sets that prepare knows by name", _add_nothing, _list),
}


if __name__ == "__main__":
    main()
