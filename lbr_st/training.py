"""What both stages and the nano backbone share: flags, the output directory, resuming."""

from __future__ import annotations

import argparse
import json
import logging
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from sentence_transformers import SentenceTransformer
from transformers import HfArgumentParser, TrainingArguments
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from lbr_st import layouts
from lbr_st.errors import InputError
from lbr_st.files import sha256, write_json
from lbr_st.modules import BottleneckTransformer, bottleneck_module

RUN_FILE = "lbr_run.json"
DEFAULT_MAX_LENGTH = 512

# Training arguments that change where a run writes and what it prints, not the weights it ends with.
NOT_PART_OF_THE_RUN = {
    "output_dir", "logging_dir", "run_name", "report_to", "disable_tqdm", "log_level", "log_level_replica",
    "logging_steps", "logging_strategy", "logging_first_step", "save_steps", "save_strategy", "save_total_limit",
    "eval_steps", "eval_strategy", "resume_from_checkpoint", "dataloader_num_workers", "dataloader_pin_memory",
    "use_cpu", "push_to_hub", "hub_token",
}  # fmt: skip

Arguments = TypeVar("Arguments", bound=TrainingArguments)

EPILOG = (
    "Every argument of transformers.TrainingArguments is accepted too, under its own name: --learning-rate, "
    "--num-train-epochs, --per-device-train-batch-size, --gradient-accumulation-steps, --bf16, --save-steps, "
    "--report-to, --seed, ..."
)


def make_parser(prog: str, description: str) -> argparse.ArgumentParser:
    """Return a parser with the flags that every training command has, under one name and meaning."""
    parser = argparse.ArgumentParser(prog=prog, description=description, epilog=EPILOG, allow_abbrev=False)
    parser.add_argument("--output-dir", required=True, metavar="DIR", help="new or empty folder for the model")
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on from the last checkpoint in --output-dir (or start, if there is none)",
    )
    return parser


def add_stage_arguments(parser: argparse.ArgumentParser, model_help: str, data_help: str) -> None:
    """Add the flags that both stages have, under one name and meaning."""
    parser.add_argument("--model", required=True, metavar="DIR_OR_ID", help=model_help)
    parser.add_argument("--data", required=True, metavar="FILE", help=data_help)
    parser.add_argument("--dev-data", metavar="FILE", help="held-out pairs, scored while training")
    parser.add_argument(
        "--max-length",
        type=int,
        metavar="N",
        help="longest text in tokens, bottleneck tokens included; saved with the model "
        f"(default: the model's own if it has bottleneck tokens already, else {DEFAULT_MAX_LENGTH})",
    )
    parser.add_argument(
        "--bottleneck-tokens",
        type=int,
        metavar="K",
        help="number of bottleneck tokens (default: the model's own if it has some already, else 1)",
    )
    parser.add_argument("--query-prompt", metavar="TEXT", help="put before every query; saved with the model")
    parser.add_argument("--document-prompt", metavar="TEXT", help="put before every document; saved with the model")


def parse_arguments(
    parser: argparse.ArgumentParser, arguments_class: type[Arguments], argv: Sequence[str] | None, **defaults: Any
) -> tuple[argparse.Namespace, Arguments]:
    """Parse our own flags with ``parser`` and all others as training arguments.

    Args:
        parser: Parser of our own flags.
        arguments_class: The trainer's arguments.
        argv: Command line without the program name; None for the one the program was started with.
        **defaults: Defaults of training arguments that differ from those of the class.

    Raises:
        InputError: If a flag is known to neither, or training arguments contradict each other.
    """
    args, rest = parser.parse_known_args(argv)
    dataclass: Any = arguments_class
    training_parser = HfArgumentParser(dataclass, prog=parser.prog, allow_abbrev=False, add_help=False)
    training_parser.set_defaults(
        output_dir=str(checkpoint_dir(args.output_dir)),
        report_to="none",
        save_total_limit=2,
        logging_steps=10,
        warmup_steps=0.1,
        use_cpu=not torch.accelerator.is_available(),
        dataloader_pin_memory=torch.accelerator.is_available(),
        **defaults,
    )
    try:
        training_args, unknown = training_parser.parse_args_into_dataclasses(rest, return_remaining_strings=True)
    except ValueError as error:  # arguments that contradict each other
        raise InputError(str(error)) from error
    if unknown:
        raise InputError(f"unknown argument: {' '.join(unknown)} (see {parser.prog} --help)")
    return args, training_args


def checkpoint_dir(output_dir: str | Path) -> Path:
    """Return the folder of a run's checkpoints. They are not part of the model, and can be deleted after it."""
    return Path(output_dir, "checkpoints")


def start_or_resume(args: argparse.Namespace, training_args: TrainingArguments, data_files: Sequence[str]) -> bool:
    """Take the output directory for this run, or go on with the run that it holds.

    Args:
        args: Our own flags, with ``output_dir`` and ``resume``.
        training_args: The trainer's; ``resume_from_checkpoint`` is set to the last whole checkpoint, if any.
        data_files: Files the run reads; a resumed run must read the same bytes.

    Returns:
        False if the directory holds the finished model already.

    Raises:
        InputError: If the directory is not empty and ``resume`` is off, or it holds another run.
    """
    output_dir = Path(args.output_dir)
    run = {
        "arguments": {k: v for k, v in vars(args).items() if k not in ("output_dir", "resume")},
        "training_arguments": {k: v for k, v in training_args.to_dict().items() if k not in NOT_PART_OF_THE_RUN},
        "data_sha256": sha256(data_files),
    }
    run = json.loads(json.dumps(run))
    if output_dir.is_file():
        raise InputError(f"--output-dir {output_dir} is a file")
    if output_dir.is_dir() and any(output_dir.iterdir()):
        if not args.resume:
            raise InputError(
                f"--output-dir {output_dir} is not empty; choose another, or add --resume to go on with the run in it"
            )
        _check_same_run(output_dir, run)
        if (output_dir / "config.json").is_file():
            return False
        training_args.resume_from_checkpoint = last_whole_checkpoint(output_dir)
    else:
        output_dir.mkdir(parents=True, exist_ok=True)
        write_json(output_dir / RUN_FILE, run)
    return True


def _check_same_run(output_dir: Path, run: dict[str, Any]) -> None:
    path = output_dir / RUN_FILE
    if not path.is_file():
        raise InputError(f"--output-dir {output_dir} is not empty and holds no run to go on with (no {RUN_FILE})")
    before = json.loads(path.read_text(encoding="utf-8"))

    def flat(run: dict[str, Any]) -> dict[str, Any]:
        return {**run["arguments"], **run["training_arguments"], "contents of the data": run["data_sha256"]}

    old, new = flat(before), flat(run)
    changed = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
    if changed:
        details = "; ".join(f"{key}: was {old.get(key)!r}, now {new.get(key)!r}" for key in changed)
        raise InputError(f"--output-dir {output_dir} holds a run with other settings ({details})")


def last_whole_checkpoint(output_dir: str | Path) -> str | None:
    """Return the newest checkpoint that was written to its end, or None.

    The trainer writes ``trainer_state.json`` last, so a checkpoint that was cut off by a kill has none that parses.
    """
    found = {}
    for folder in checkpoint_dir(output_dir).glob(f"{PREFIX_CHECKPOINT_DIR}-*"):
        try:
            state = json.loads((folder / "trainer_state.json").read_text(encoding="utf-8"))
        except (FileNotFoundError, json.JSONDecodeError):
            continue
        found[state["global_step"]] = str(folder)
    return found[max(found)] if found else None


def open_model(args: argparse.Namespace) -> SentenceTransformer:
    """Open ``--model``: one saved by this package with its bottleneck tokens, or a plain language model to start from.

    Weights are opened in float32, in which they are trained; ``--bf16`` computes in bfloat16 all the same.

    Raises:
        InputError: If it is no model, or the flags ask for other bottleneck tokens than it has.
    """
    name = args.model
    check_model_exists(name)
    try:
        config = BottleneckTransformer.load_config(name)
        if not config:
            return layouts.from_backbone(
                name,
                num_bottleneck_tokens=1 if args.bottleneck_tokens is None else args.bottleneck_tokens,
                max_seq_length=DEFAULT_MAX_LENGTH if args.max_length is None else args.max_length,
                dtype=torch.float32,
            )
        model = layouts.load(name, model_kwargs={"dtype": torch.float32})
    except InputError:
        raise
    except (OSError, ValueError) as error:
        raise InputError(f"--model {name} is not a model: {str(error).splitlines()[0]}") from error
    k = bottleneck_module(model).num_bottleneck_tokens
    if args.bottleneck_tokens not in (None, k):
        raise InputError(
            f"--model {name} was saved with {k} bottleneck token(s), "
            f"--bottleneck-tokens asks for {args.bottleneck_tokens}"
        )
    if args.max_length is not None:
        model.max_seq_length = args.max_length
    return model


def check_model_exists(name: str) -> None:
    """Refuse a local path that cannot be a model, before anything slow is tried with it.

    Raises:
        InputError: If it is a file, a directory without ``config.json``, or a path that does not exist.
    """
    path = Path(name)
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise InputError(f"--model {name} is not a model: the directory has no config.json")
    elif path.is_file() or name.count("/") > 1 or name.startswith((".", "/", "~")):
        raise InputError(f"--model {name} is not a model: no such directory")


def set_prompts(model: SentenceTransformer, args: argparse.Namespace) -> None:
    """Store the prompts that were given with the model; those not given stay as the model has them."""
    for name, prompt in (("query", args.query_prompt), ("document", args.document_prompt)):
        if prompt is not None:
            model.prompts[name] = prompt


def finish(model: SentenceTransformer, trainer: Any, stage: str, args: argparse.Namespace) -> None:
    """Write the trained model in the portable layout, with what it was made from and the trainer's log."""
    output_dir = Path(args.output_dir)
    run = json.loads((output_dir / RUN_FILE).read_text(encoding="utf-8"))
    made_from = {key: value for key, value in run["arguments"].items() if value is not None}
    for key in ("model", "data", "dev_data"):  # a model is published; the folders of this machine are not
        if key in made_from and Path(made_from[key]).exists():
            made_from[key] = Path(made_from[key]).name
    bottleneck_module(model).history.append({"stage": stage, **made_from, "data_sha256": run["data_sha256"]})
    trainer.state.save_to_json(str(output_dir / "trainer_state.json"))
    # Mixed precision wraps the model's forward; vectors are compared in the precision they are used in.
    trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)
    layouts.save_portable(model.eval(), output_dir)


def run_command(main: Callable[[list[str] | None], Any], argv: list[str] | None = None) -> None:
    """Run a command's ``main``: a line and exit code 2 for input that cannot be used, a traceback for the rest."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("lbr_st").setLevel(logging.INFO)
    # mteb 2.26 calls methods that sentence-transformers 6 has renamed.
    warnings.filterwarnings("ignore", category=FutureWarning, module="mteb")
    try:
        main(argv)
    except InputError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)
