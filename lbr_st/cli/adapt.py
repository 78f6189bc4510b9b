"""The command ``lbr adapt``."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from lbr_st.adaptation.config import SKIPPED, AdaptConfig
from lbr_st.adaptation.planning import AdaptPlan, plan
from lbr_st.adaptation.run import adapt
from lbr_st.alignment.config import AlignConfig
from lbr_st.cli.arguments import Parser, add_on_error, add_output_dir, positive_int
from lbr_st.cli.stages import StageParser
from lbr_st.errors import InputError
from lbr_st.evaluation.tables import markdown_table
from lbr_st.learning.config import LearnConfig

STAGES: Mapping[str, Any] = {"learn": LearnConfig, "align": AlignConfig}


def main(argv: Sequence[str] | None = None) -> None:
    """Run ``lbr adapt``.

    Raises:
        InputError: If arguments, a source or a model cannot be used, or nothing is left of the queries.
    """
    parser = Parser(
        prog="lbr adapt",
        description="From a corpus and a model to a better retriever: queries for its passages, both stages, and a "
        "verdict. Started again, it goes on where it was.",
    )
    parser.add_argument("sources", nargs="+", metavar="CORPUS", help="folder or file of text, or of documents")
    parser.add_argument("--model", required=True, metavar="DIR_OR_ID", help="language model or embedding model")
    add_output_dir(parser, "the model and report.html; the steps are kept in DIR.work")
    parser.add_argument("--max-length", type=positive_int, default=256, metavar="N", help="longest text in tokens")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of all that is drawn")
    parser.add_argument("--dry-run", action="store_true", help="print the plan, with minutes and memory; write nothing")
    parser.add_argument("--skip", nargs="+", default=[], choices=SKIPPED, help="steps that are left out")
    add_on_error(parser)
    asked = parser.add_argument_group("queries")
    asked.add_argument("--pairs", metavar="FILE", help="real queries and their documents, or a prepared set")
    asked.add_argument("--queries", metavar="FILE", help="queries with their passages; none are written then")
    asked.add_argument("--generator", metavar="URL", help="a server like OpenAI's writes queries, instead of --model")
    asked.add_argument("--generator-model", metavar="NAME", help="the name of the model there")
    asked.add_argument(
        "--per-passage",
        type=positive_int,
        metavar="N",
        help="queries written for a passage; one of each kind if absent",
    )
    asked.add_argument(
        "--most-passages", type=positive_int, metavar="N", help="passages that queries are written for; all if absent"
    )
    taught = parser.add_argument_group("teachers, in stage 2")
    taught.add_argument("--teacher", metavar="DIR_OR_ID", help="sentence-transformers model to learn rankings from")
    taught.add_argument("--reranker", metavar="DIR_OR_ID", help="CrossEncoder to learn rankings from")
    taught.add_argument("--weak-teacher", action="store_true", help="take one that is weaker on dev than the model")
    end = parser.add_argument_group("the end")
    end.add_argument("--general", metavar="FILE", help="pairs from outside the domain; installed packages if absent")
    end.add_argument("--keep-general", type=float, default=0.98, metavar="SHARE", help="of what is found of these")
    end.add_argument("--keep", default="better", choices=["better", "end"], help="save the end though it finds less")
    for stage in STAGES:
        parser.add_argument(
            f"--{stage}", nargs="+", default=[], metavar="NAME=VALUE", help=f"settings of lbr {stage}: max_steps=100"
        )
    args = vars(parser.parse_args(argv))
    for stage, settings in STAGES.items():
        args[stage] = settings_of(stage, settings, args[stage])
    dry_run, config = args.pop("dry_run"), AdaptConfig(**args)
    if dry_run:
        print(f"{plan_text(plan(config))}\nnext: the same command without --dry-run")  # noqa: T201
        return
    made = adapt(config)
    print(  # noqa: T201
        f"\nSaved {made.config.output_dir}, with report.html. The steps are in {made.config.work}, which can be "
        f"deleted.\nnext: {made.search}\n{made.verdict}"
    )


def plan_text(plan: AdaptPlan) -> str:
    """Write what an adaptation takes as a table for people."""
    header = ["step", "reads", "makes", "how much", "minutes", "GiB"]
    rows = []
    for number, step in enumerate(plan.steps, start=1):
        minutes = "done" if step.minutes is None else f"{step.minutes:.1f}"
        memory = "" if step.peak_bytes is None else f"{step.peak_bytes / 2**30:.2f}"
        rows.append([f"{number} {step.name}", step.reads, step.makes, step.much, minutes, memory])
    rows.append(["all", "", "", "", f"{plan.minutes:.1f}", ""])
    needed = f"at least {plan.least_room / 2**30:.2f} GiB of " if plan.least_room else ""
    disk = f"Disk: {needed}{plan.free_room / 2**30:.1f} GiB free."
    return "\n".join([markdown_table(header, rows, numbers=["minutes", "GiB"]), "", disk, *plan.left_out])


def settings_of(stage: str, config: Any, told: Sequence[str]) -> dict[str, Any]:
    """Read ``max_steps=100`` and the like as settings of a stage, of the types that they have.

    Args:
        stage: ``learn`` or ``align``.
        config: Class of its settings.
        told: What was typed.

    Raises:
        InputError: If one is no setting of the stage, or has another type.
    """
    pairs: list[tuple[str, str]] = []
    for each in told:
        name, is_pair, value = each.partition("=")
        if not is_pair:
            raise InputError(f"lbr adapt: --{stage} {each}: write NAME=VALUE, as in max_steps=100")
        name = name.replace("-", "_")
        if name in dict(pairs):
            raise InputError(f"lbr adapt: --{stage} {name}: is there twice")
        pairs.append((name, value))
    parser = StageParser(config, f"lbr {stage}", "")
    known = {action.dest for action in parser._actions}
    for name, _ in pairs:
        if name not in known or name in ("help", "config"):
            raise InputError(f"lbr adapt: --{stage} {name}: lbr {stage} has no such setting (see lbr {stage} --help)")
    for action in parser._actions:
        action.required = False
    try:
        found = vars(argparse.ArgumentParser.parse_args(parser, [f"--{name}={value}" for name, value in pairs]))
    except InputError as error:
        raise InputError(f"lbr adapt: --{stage}: {str(error).removeprefix(f'{parser.prog}: ')}") from error
    return {name: found[name] for name, _ in pairs}
