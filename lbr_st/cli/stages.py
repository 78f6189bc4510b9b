"""The command line of a stage: its configuration as flags, and YAML files of them."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import yaml
from transformers import HfArgumentParser

from lbr_st.data.sources import one_of_several
from lbr_st.errors import InputError, one_line
from lbr_st.evaluation.tables import markdown_table
from lbr_st.training.config import RunConfig, StageConfig, own_fields
from lbr_st.training.flags import flag
from lbr_st.training.trial import Plan, RateSearch
from lbr_st.training.verdicts import read_verdict

Config = TypeVar("Config", bound=RunConfig)
Stage = TypeVar("Stage", bound=StageConfig)

# Training arguments that a first project may want to change, in the help of a command.
OFTEN_CHANGED = (
    "learning_rate", "num_train_epochs", "max_steps", "per_device_train_batch_size", "gradient_accumulation_steps",
    "warmup_steps", "bf16", "seed", "save_steps", "eval_steps", "report_to",
)  # fmt: skip

# Arguments that name data, and take one source.
ONE_SOURCE = ("--data", "--dev-data", "--corpus-extra", "--queries")


class StageParser(HfArgumentParser):
    """A parser of the fields of a configuration, whose help shows those of the stage first.

    Args:
        config: Class of the configuration.
        prog: Command that was typed, for messages.
        description: What it does.
    """

    def __init__(self, config: type[RunConfig], prog: str, description: str) -> None:
        dataclass: Any = config
        super().__init__(dataclass, prog=prog, description=description, allow_abbrev=False, add_help=False)
        self.config = config
        # The base class takes False for the default of a switch that has a function for it.
        factories = {each.name: each.default_factory for each in dataclasses.fields(dataclass) if each.type is bool}
        self.set_defaults(**{name: make() for name, make in factories.items() if make is not dataclasses.MISSING})
        self.add_argument(
            "--config",
            metavar="FILE",
            help="YAML file of arguments by their names (learning_rate: 2e-5); those on the command line count more",
        )
        for option, meaning in (("--help", "show this"), ("--help-training", "show the trainer's arguments too")):
            self.add_argument(option, action="store_true", help=meaning)

    def error(self, message: str) -> NoReturn:
        """Raise what is wrong: the usage would be a hundred lines.

        Raises:
            InputError: Always.
        """
        raise InputError(f"{self.prog}: {message} (see {self.prog} --help)")

    def help_text(self, with_training: bool = False) -> str:
        """Return the help: the stage's own arguments in groups, then the trainer's that are often changed, or all.

        Args:
            with_training: Show all arguments of the trainer.
        """
        by_name = {action.dest: _dashed(action) for action in self._actions if not _is_negation(action)}
        formatter = argparse.ArgumentDefaultsHelpFormatter(self.prog, max_help_position=28, width=110)
        formatter.add_text(f"usage: {self.prog} {self.config.USAGE} [--FLAG VALUE ...]")
        formatter.add_text(self.description)
        groups = {**self.config.GROUPS, "help": ("config", "help", "help_training")}
        shown = {name for names in groups.values() for name in names}
        if missing := set(own_fields(self.config)) - shown:
            raise AssertionError(f"no group of {self.config.__name__} shows {sorted(missing)}")
        all_of_trainer = [name for name in by_name if name not in shown]
        title = "training arguments that are often changed; --help-training lists the others"
        groups[title if not with_training else "training arguments"] = tuple(
            all_of_trainer if with_training else OFTEN_CHANGED
        )
        for title, names in groups.items():
            formatter.start_section(title)
            formatter.add_arguments([by_name[name] for name in names])
            formatter.end_section()
        return formatter.format_help()


def _is_negation(action: argparse.Action) -> bool:
    return any(option.startswith(("--no_", "--no-")) for option in action.option_strings)


def _dashed(action: argparse.Action) -> argparse.Action:
    """Let help show an argument as it is best written: ``--max-length``, though ``--max_length`` is read too.

    Switches are shown without a value, and a default where it says something.
    """
    action.option_strings = [option for option in action.option_strings if "_" not in option]
    if action.const is True:
        action.nargs = 0
    if action.default in (None, False) or "(default" in (action.help or ""):
        action.default = argparse.SUPPRESS
    return action


def parse_stage(config: type[Config], prog: str, description: str, argv: Sequence[str] | None) -> Config:
    """Read a command line as the configuration of a stage; ``--help`` prints the help and ends.

    Args:
        config: Class of the configuration.
        prog: Command that was typed, for messages.
        description: What it does.
        argv: Command line without the program name; None for the one the program was started with.

    Raises:
        InputError: If an argument is unknown, missing or of another kind, or arguments contradict each other.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    parser = StageParser(config, prog, description)
    if {"-h", "--help", "--help-training"} & {*argv}:
        print(parser.help_text(with_training="--help-training" in argv))  # noqa: T201
        sys.exit(0)
    before = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    before.add_argument("--config")
    file = before.parse_known_args(argv)[0].config
    if file is not None:
        argv = [*read_config(file, parser), *argv]
    found, _, unknown = parser.parse_args_into_dataclasses(
        argv, return_remaining_strings=True, look_for_args_file=False
    )
    if unknown:
        _refuse_several(prog, argv, unknown)
        raise InputError(f"{prog}: unknown argument: {' '.join(unknown)} (see {prog} --help)")
    return found


def _refuse_several(prog: str, argv: Sequence[str], unknown: Sequence[str]) -> None:
    """Refuse several sources where one is read, as a shell makes of ``*.jsonl``.

    Raises:
        InputError: With what makes one of them.
    """
    name = next((each for each in reversed(argv[: argv.index(unknown[0])]) if each.startswith("-")), "")
    if any(each.startswith("-") for each in unknown) or flag(name.lstrip("-")) not in ONE_SOURCE:
        return
    value = argv[argv.index(name) + 1]
    raise InputError(f"{prog}: {name} takes one source, not {1 + len(unknown)}; {one_of_several([value, *unknown])}")


def run_stage(
    config: Stage,
    *,
    run: Callable[[Stage], Any],
    plan: Callable[[Stage], Plan],
    find_rate: Callable[[Stage], RateSearch],
    next_step: str,
) -> None:
    """Do what was asked for with a stage, and say what came of it and what to do next.

    The last line of a run with dev queries is its verdict.

    Args:
        config: Its settings.
        run: Function that trains.
        plan: Function that says what training takes, for ``--dry-run``.
        find_rate: Function that tries learning rates, for ``--find-rate``.
        next_step: Command to type after a run.
    """
    verdict = None
    if config.dry_run:
        said, next_step = plan_text(plan(config)), "the same command without --dry-run"
    elif config.find_rate:
        said, next_step = rates_text(find_rate(config)), "the same command with that rate, without --find-rate"
    else:
        run(config)
        made = ["training.png", "training_log.json"]
        there = [name for name in made if Path(config.output_dir, name).is_file()]
        said = f"\nSaved {config.output_dir}: {', '.join(['the model', *there])}."
        verdict = read_verdict(config.output_dir)
    if config.should_save:
        last = "" if verdict is None else f"\n{verdict}"
        print(f"{said}\nnext: {next_step}{last}")  # noqa: T201


def plan_text(plan: Plan) -> str:
    """Write what a run takes as a table for people."""
    before = {"asking the teacher": f"{plan.teacher_seconds / 60:.1f} minutes"} if plan.teacher_seconds else {}
    rows = {
        "parameters trained": f"{plan.trained:,} of {plan.parameters:,}",
        "tokens an epoch": f"{plan.tokens:,}",
        "steps": f"{plan.steps:,} of {plan.step_seconds:.3g} s",
        "evaluations": f"{plan.evaluations:,} of {plan.evaluation_seconds:.3g} s" if plan.evaluations else "none",
        **before,
        "peak memory": f"{plan.peak_bytes / 2**30:.2f} GiB of the {'GPU' if plan.device.type == 'cuda' else 'process'}",
        "minutes": f"{plan.minutes:.1f}; saving comes on top",
    }
    width = max(map(len, rows))
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows.items())


def rates_text(search: RateSearch) -> str:
    """Write what came of a search for a learning rate as a table for people, and which rate to use."""
    header = ["learning rate", "loss at the start", "at the end", search.judge]
    rows = [
        [f"{each.rate:g}", f"{each.first_loss:.3f}", f"{each.last_loss:.3f}", f"{each.dev:.4f}"]
        for each in search.tries
    ]
    table = markdown_table(header, rows, numbers=header)
    if search.best is None:
        lower = f"{search.tries[0].rate / 10:.2g}"
        return f"{table}\n\nnone of them: the loss is no number any more. Much lower: --learning-rate {lower}"
    said = f"{table}\n\nbest: --learning-rate {search.best.rate:g}"
    edges = {search.tries[0].rate: "lowest", search.tries[-1].rate: "highest"}
    if search.best.rate in edges:
        said += f"\nIt is the {edges[search.best.rate]} of the three: try --find-rate around it."
    return said


def read_config(path: str, parser: argparse.ArgumentParser) -> list[str]:
    """Read a YAML file of arguments as the command line that says the same.

    Args:
        path: File with a mapping of argument names, with dashes or underscores, to values. A switch takes true or
            false; an argument that takes several values a list.
        parser: Parser that must know an argument.

    Raises:
        InputError: If the file cannot be read, or an argument is unknown: with the line.
    """
    try:
        root = yaml.compose(Path(path).read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except OSError as error:
        raise InputError(f"--config {path}: {error.strerror}") from error
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise InputError(f"--config {path} is not YAML: {one_line(error)}") from error
    if not isinstance(root, yaml.MappingNode):
        raise InputError(f"--config {path} is not a mapping of argument names to values")
    actions = parser._option_string_actions
    argv: list[str] = []
    seen: set[str] = set()
    for key, value in root.value:
        name = flag(str(key.value))
        try:
            if name in seen:
                raise InputError("is there twice")
            seen.add(name)
            if name not in actions or name in ("--config", "--help", "--help-training"):
                raise InputError("is no argument")
            argv += _as_flags(name, actions[name], value)
        except InputError as error:
            raise InputError(f"--config {path}, line {key.start_mark.line + 1}: {key.value} {error}") from error
    return argv


def _as_flags(name: str, action: argparse.Action, value: yaml.Node) -> list[str]:
    """Write one entry of a YAML file the way it is written on the command line."""
    if action.nargs in ("+", "*"):
        items = value.value if isinstance(value, yaml.SequenceNode) else [value]
        if not items or not all(isinstance(item, yaml.ScalarNode) for item in items):
            raise InputError("takes a value or a list of values")
        return [name, *(item.value for item in items)]
    if not isinstance(value, yaml.ScalarNode):
        raise InputError("takes one value")
    if value.tag == "tag:yaml.org,2002:null":
        return []  # nothing is said
    is_switch = action.const is True
    if is_switch and value.value.lower() not in ("true", "false"):
        raise InputError(f"is a switch, true or false, not {value.value}")
    if value.value.lower() == "true" and action.const is True:
        return [name]
    return [f"{name}={value.value}"]  # a value may begin with a dash
