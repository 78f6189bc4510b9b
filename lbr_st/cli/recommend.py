"""The command ``lbr recommend``: train a language model together with a recommender, evaluate both, suggest items."""

from __future__ import annotations

import argparse
import dataclasses
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints

from lbr_st.cli.arguments import Parser, positive_int
from lbr_st.data.cleaning import printable
from lbr_st.evaluation.tables import markdown_table
from lbr_st.files import require_empty
from lbr_st.recommending.config import RecommendConfig
from lbr_st.recommending.interactions import DEV, TEST
from lbr_st.recommending.tables import find_tables
from lbr_st.training.flags import flag

if TYPE_CHECKING:
    from lbr_st.recommending.recommender import TrainedRecommender

HEADER = ("HR@1", "HR@5", "nDCG@5", "HR@10 of all", "nDCG@10 of all")  # of FIGURES
SHOWN = 5  # suggestions


def main(argv: Sequence[str] | None = None) -> None:
    """Run ``lbr recommend``.

    Raises:
        InputError: If arguments, data or a model cannot be used.
    """
    parser = Parser("lbr recommend", (__doc__ or "").partition(": ")[2])
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=Parser)
    for name, (help_, add_arguments, _) in COMMANDS.items():
        add_arguments(commands.add_parser(name, help=help_, description=help_[0].upper() + help_[1:] + "."))
    args = vars(parser.parse_args(sys.argv[1:] if argv is None else argv))
    print(COMMANDS[args.pop("command")][2](**args))  # noqa: T201


def _add_train(parser: argparse.ArgumentParser) -> None:
    hints: dict[str, Any] = get_type_hints(RecommendConfig)
    fields = {each.name: each for each in dataclasses.fields(RecommendConfig)}
    for title, names in RecommendConfig.GROUPS.items():
        group = parser.add_argument_group(title)
        for name in names:
            _add_field(group, fields.pop(name), hints[name])
    assert not fields, f"no group shows {', '.join(fields)}"


def _add_field(group: Any, field: dataclasses.Field[Any], type_: Any) -> None:
    """Add a field of the configuration as a flag."""
    settings: dict[str, Any] = {"help": field.metadata["help"]}
    if field.default is dataclasses.MISSING:
        settings["required"] = True
    else:
        settings["default"] = field.default
    if type_ is bool:
        settings["action"] = "store_true"
    elif get_origin(type_) is Literal:
        settings["choices"] = get_args(type_)
    else:
        settings["type"] = next((each for each in (int, float) if each in (type_, *get_args(type_))), str)
        settings["metavar"] = field.metadata["metavar"]
    group.add_argument(flag(field.name), **settings)


def _train(**settings: Any) -> str:
    config = RecommendConfig(**settings)
    require_empty(config.output_dir)
    find_tables(config.data, config.items, config.users, config.user_text)  # before torch is imported
    from lbr_st.recommending.run import recommend

    table = score_table(recommend(config), DEV)
    command = shlex.join(["lbr", "recommend", "evaluate", "--model", config.output_dir])
    return f"\n{table}\n\nSaved {config.output_dir}; these are the scores on dev.\nnext: {command}"


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", required=True, metavar="DIR", help="what lbr recommend train made")


def _add_evaluate(parser: argparse.ArgumentParser) -> None:
    _add_model(parser)
    parser.add_argument(
        "--split",
        choices=(TEST, DEV),
        default=TEST,
        help="what is ranked: the last choice of each user, or the one before it",
    )


def _evaluate(model: str, split: str) -> str:
    from lbr_st.recommending.recommender import open_recommender

    trained = open_recommender(model)
    user = shlex.join(["lbr", "recommend", "suggest", "--model", model, "--user", trained.interactions.users[0]])
    return f"\n{score_table(trained, split)}\n\nnext: {user}"


def score_table(trained: TrainedRecommender, split: str) -> str:
    """Lay out how high popularity, either side and both joined rank what users chose."""
    from lbr_st.recommending.ranking import FIGURES, SAMPLED, rank_held_out

    rows = []
    for name, score in trained.scorers().items():
        ranks = rank_held_out(score, trained.interactions, split)
        figures = ranks.figures()
        rows.append([name, *(f"{figures[each]:.4f}" for each in FIGURES)])
    users, items = len(ranks.users), len(trained.interactions.items)
    least = items - max(map(len, trained.interactions.histories))
    sampled = SAMPLED if least >= SAMPLED else f"up to {min(SAMPLED, items)}"
    said = f"{users:,} users; the first three among {sampled} items that a user never chose, the others among {items:,}"
    return f"{said}\n{markdown_table(['ranked by', *HEADER], rows, numbers=HEADER)}"


def _add_suggest(parser: argparse.ArgumentParser) -> None:
    _add_model(parser)
    who = parser.add_mutually_exclusive_group(required=True)
    who.add_argument("--user", metavar="ID", help="a user of the data")
    who.add_argument("--liked", nargs="+", default=[], metavar="NAME", help="what somebody new chose, oldest first")
    parser.add_argument("--top-k", type=positive_int, default=SHOWN, metavar="N", help="items that are suggested")


def _suggest(model: str, user: str | None, liked: Sequence[str], top_k: int) -> str:
    from lbr_st.recommending.recommender import ITEMS, MODEL, RECOMMENDER, open_recommender

    found = open_recommender(model).suggest(user, liked, top_k)
    lines = [f"  {each.score:.3f}  {printable(each.text)}  ({each.id})" for each in found]
    folder, asked = Path(model), "what somebody looks for"
    items = str(folder / RECOMMENDER / ITEMS)
    search = shlex.join(["lbr", "search", "--model", str(folder / MODEL), "--data", items, asked])
    return "\n".join(["", *lines, "", f"next: {search}, to search the items by words"])


COMMANDS: dict[str, tuple[str, Any, Any]] = {
    "train": ("train a language model and a recommender that learn from each other", _add_train, _train),
    "evaluate": ("rank what each user chose last, by either side and by both", _add_evaluate, _evaluate),
    "suggest": ("suggest items to a user of the data, or to somebody new", _add_suggest, _suggest),
}
