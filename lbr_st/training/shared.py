"""What both stages and the nano backbone share: flags, the output directory, resuming."""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import os
import shutil
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import torch
import yaml
from accelerate import PartialState
from sentence_transformers import SentenceTransformer
from transformers import (
    HfArgumentParser,
    IntervalStrategy,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from transformers.utils.import_utils import enable_tf32

from lbr_st.data.prepared_set import describe_set, mteb_tasks_of
from lbr_st.errors import InputError
from lbr_st.files import UNFINISHED, write_json
from lbr_st.model import opening
from lbr_st.model.bottleneck import BottleneckTransformer, bottleneck_module, check_room
from lbr_st.model.contract import fingerprint
from lbr_st.model.opening import DEFAULT_MAX_LENGTH
from lbr_st.model.saving import load, save, save_other

logger = logging.getLogger(__name__)

RUN_FILE = "lbr_run.json"

# Training arguments that change where a run writes and what it prints, not the weights it ends with.
NOT_PART_OF_THE_RUN = {
    "output_dir", "logging_dir", "run_name", "report_to", "disable_tqdm", "log_level", "log_level_replica",
    "logging_steps", "logging_strategy", "logging_first_step", "save_steps", "save_strategy", "save_total_limit",
    "eval_steps", "eval_strategy", "resume_from_checkpoint", "dataloader_num_workers", "dataloader_pin_memory",
    "use_cpu", "push_to_hub", "hub_token", "ddp_timeout",
}  # fmt: skip

# They decide which checkpoint is the best one, where that is asked for.
PART_OF_THE_BEST = {"save_steps", "save_strategy", "eval_steps", "eval_strategy"}

# What a trainer raises of arguments that contradict each other, want a package that is not there, or a network.
CANNOT_START = (ValueError, RuntimeError, ImportError, OSError)

# What a saved model says of its training beside our own flags, and of what it scored: names in the trainer's log.
SAID_OF_TRAINING = (
    "learning_rate", "num_train_epochs", "max_steps", "per_device_train_batch_size", "gradient_accumulation_steps",
    "warmup_steps", "lr_scheduler_type", "bf16", "fp16", "seed",
)  # fmt: skip
SCORES = {
    "loss": "eval_loss", "nats through the bottleneck": "eval_bottleneck_nats",
    "recall@10": "eval_dev_cosine_recall@10", "nDCG@10": "eval_dev_cosine_ndcg@10",
}  # fmt: skip

Arguments = TypeVar("Arguments", bound=TrainingArguments)

EPILOG = (
    "The arguments of transformers.TrainingArguments are accepted too, under their own names: --learning-rate, "
    "--num-train-epochs, --per-device-train-batch-size, --gradient-accumulation-steps, --bf16, --save-steps, "
    "--report-to, --seed, ..."
)


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are a line, like all others."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message} (see {self.prog} --help)")


class _TrainingParser(HfArgumentParser):
    """The same for training arguments: their usage is a hundred lines."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message} (see {self.prog} --help)")


def make_parser(prog: str, description: str) -> argparse.ArgumentParser:
    """Return a parser with the flags that every training command has, under one name and meaning."""
    parser = _Parser(prog=prog, description=description, epilog=EPILOG, allow_abbrev=False)
    parser.add_argument(
        "--config",
        metavar="FILE",
        help="YAML file of arguments by their names (learning_rate: 2e-5); those on the command line count more",
    )
    parser.add_argument("--output-dir", required=True, metavar="DIR", help="new or empty folder for the model")
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on from the last checkpoint in --output-dir (or start, if there is none)",
    )
    return parser


def add_stage_arguments(
    parser: argparse.ArgumentParser, model_help: str, data_help: str, several: bool = False
) -> None:
    """Add the flags that both stages have, under one name and meaning; with several sources of data, or one."""
    nargs = "+" if several else None
    parser.add_argument("--model", required=True, metavar="DIR_OR_ID", help=model_help)
    parser.add_argument("--data", required=True, nargs=nargs, metavar="FILE_OR_ID", help=data_help)
    parser.add_argument(
        "--dev-data", nargs=nargs, metavar="FILE_OR_ID", help="the same, held out; scored while training"
    )
    parser.add_argument(
        "--allow-overlap",
        action="store_true",
        help="train although texts of --data are held out too, in --dev-data or in the test of the prepared set",
    )
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
        help="number of bottleneck tokens; with --compression-ratio, the most that a text gets (default: the model's "
        "own if it has some already, else 1; with --compression-ratio as many as --max-length asks for, at most 64)",
    )
    parser.add_argument(
        "--compression-ratio",
        type=float,
        metavar="R",
        help="one bottleneck token for every R tokens of text, where each text has the same number by default; such a "
        "model is saved in the native layout",
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
    dataclass: Any = arguments_class
    training_parser = _TrainingParser(dataclass, prog=parser.prog, allow_abbrev=False, add_help=False)
    argv = list(sys.argv[1:] if argv is None else argv)
    config, _ = _config_parser().parse_known_args(argv)
    if config.config is not None:
        argv = [*read_config(config.config, [parser, training_parser]), *argv]
    args, rest = parser.parse_known_args(argv)
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
    except (ValueError, ImportError) as error:  # arguments that contradict each other, or want a package
        raise InputError(" ".join(str(error).split())) from error
    if unknown:
        raise InputError(f"unknown argument: {' '.join(unknown)} (see {parser.prog} --help)")
    return args, training_args


def _config_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config")
    return parser


def read_config(path: str, parsers: Sequence[argparse.ArgumentParser]) -> list[str]:
    """Read a YAML file of arguments as the command line that says the same.

    Args:
        path: A mapping of argument names, with dashes or underscores, to values. A switch takes true or false; an
            argument that takes several values a list.
        parsers: Who must know an argument.

    Raises:
        InputError: If the file cannot be read, or an argument is unknown: with the line.
    """
    try:
        root = yaml.compose(Path(path).read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except OSError as error:
        raise InputError(f"--config {path}: {error.strerror}") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"--config {path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(root, yaml.MappingNode):
        raise InputError(f"--config {path} is not a mapping of argument names to values")
    actions = {option: action for parser in parsers for option, action in parser._option_string_actions.items()}
    argv: list[str] = []
    seen: set[str] = set()
    for key, value in root.value:
        flag = "--" + str(key.value).replace("_", "-")
        try:
            if flag in seen:
                raise InputError("is there twice")
            seen.add(flag)
            if flag not in actions or flag == "--config":
                raise InputError("is no argument")
            argv += _as_flags(flag, actions[flag], value)
        except InputError as error:
            raise InputError(f"--config {path}, line {key.start_mark.line + 1}: {key.value} {error}") from error
    return argv


def _as_flags(flag: str, action: argparse.Action, value: yaml.Node) -> list[str]:
    """Write one entry of a YAML file as it is written on the command line."""
    if action.nargs in ("+", "*"):
        items = value.value if isinstance(value, yaml.SequenceNode) else [value]
        if not items or not all(isinstance(item, yaml.ScalarNode) for item in items):
            raise InputError("takes a value or a list of values")
        return [flag, *(item.value for item in items)]
    if not isinstance(value, yaml.ScalarNode):
        raise InputError("takes one value")
    if value.tag == "tag:yaml.org,2002:null":
        return []  # as if it were not there
    is_switch = action.nargs == 0
    if is_switch and value.value.lower() not in ("true", "false"):
        raise InputError(f"is a switch, true or false, not {value.value}")
    if value.value.lower() == "true" and (is_switch or action.const is True):
        return [flag]
    return [] if is_switch else [f"{flag}={value.value}"]  # a value may begin with a dash


def check_launch(training_args: TrainingArguments, several: bool = True) -> None:
    """Refuse ways to start that run as one process or not as asked, without a word, or that cannot be resumed.

    Args:
        training_args: The trainer's.
        several: Whether the command runs in several processes.

    Raises:
        InputError: Which, and what to do instead.
    """
    torchrun = "start it with torchrun --nproc-per-node N" if several else "start it with python, in one process"
    is_cpu = training_args.device.type == "cpu"
    if training_args.n_gpu > 1:
        raise InputError(
            f"this one process sees {training_args.n_gpu} GPUs: set CUDA_VISIBLE_DEVICES to one of them"
            + (f", or {torchrun} for N of them" if several else "")
        )
    if is_cpu and (training_args.fsdp or training_args.deepspeed):
        raise InputError("FSDP and DeepSpeed need GPUs: on a CPU the trainer leaves them out without a word")
    if is_cpu and "ACCELERATE_USE_CPU" in os.environ and training_args.world_size == 1:
        raise InputError(f"accelerate launch runs one process on a CPU, whatever --num_processes says; {torchrun}")
    for variable, flag in (("ACCELERATE_USE_FSDP", "fsdp"), ("ACCELERATE_USE_DEEPSPEED", "deepspeed")):
        if os.environ.get(variable, "false").lower() == "true" and not getattr(training_args, flag):
            raise InputError(f"a configuration of accelerate asks for {flag}: {torchrun} and give --{flag} instead")
    if training_args.fsdp:
        _check_fsdp(training_args)
    plugin = getattr(training_args, "hf_deepspeed_config", None)
    if plugin is not None and plugin.is_zero3():
        raise InputError("ZeRO stage 3 has no whole head to make the loss with; take stage 2, or FSDP")
    _check_resumable(training_args)


def _check_resumable(training_args: TrainingArguments) -> None:
    if training_args.resume_from_checkpoint is not None:
        raise InputError("--resume-from-checkpoint: --resume goes on from the last checkpoint in --output-dir")
    if min(training_args.per_device_train_batch_size, training_args.per_device_eval_batch_size) < 1:
        raise InputError("--per-device-train-batch-size and --per-device-eval-batch-size must be at least 1")
    if training_args.save_only_model:
        raise InputError("--save-only-model: a run could not go on from such a checkpoint")
    if training_args.ignore_data_skip:
        raise InputError("--ignore-data-skip: a run that goes on would see other data")


def _check_fsdp(training_args: TrainingArguments) -> None:
    config: dict[str, Any] = dict(training_args.fsdp_config or {})  # type: ignore[arg-type]
    if training_args.world_size == 1:
        raise InputError("--fsdp shards over several processes: start it with torchrun --nproc-per-node N")
    if config.get("state_dict_type", "FULL_STATE_DICT") != "FULL_STATE_DICT":
        raise InputError("--fsdp-config: checkpoints are whole models, so state_dict_type must be FULL_STATE_DICT")
    if str(config.get("cpu_ram_efficient_loading", False)).lower() == "true":
        raise InputError("--fsdp-config: cpu_ram_efficient_loading would untie the head from the embeddings")
    ours = getattr(training_args, "activation_checkpointing", False) or training_args.gradient_checkpointing
    if config.get("activation_checkpointing") and ours:
        raise InputError("activation checkpointing is on twice, in --fsdp-config and beside it")


def checkpoint_dir(output_dir: str | Path) -> Path:
    """Return the folder of a run's checkpoints. They are not part of the model, and can be deleted after it."""
    return Path(output_dir, "checkpoints")


def describe_run(
    args: argparse.Namespace, training_args: TrainingArguments, data: Sequence[Sequence[Any]]
) -> dict[str, Any]:
    """Return everything that decides the weights a run ends with, as plain JSON.

    Model and data are identified by their contents and named without their folders: a model is published, the folders
    of this machine are not.

    Args:
        args: Our own flags.
        training_args: The trainer's.
        data: What the run reads: lists of records or texts.
    """
    arguments = {key: value for key, value in vars(args).items() if key not in ("output_dir", "resume", "config")}
    arguments["processes"] = training_args.world_size
    digest = hashlib.sha256()
    for item in (item for part in data for item in (f"{len(part)} of:", *part)):
        digest.update(json.dumps(item, sort_keys=True).encode())
    contents: dict[str, Any] = {"data_sha256": digest.hexdigest()}
    if "data" in arguments:
        sources = arguments["data"] if isinstance(arguments["data"], list) else [arguments["data"]]
        contents["mteb_tasks"] = mteb_tasks_of(sources, (record for part in data for record in part))
        if sets := [described for source in sources if (described := describe_set(source))]:
            contents["sets"] = sets
    for key in ("model", "mining_model"):
        if os.path.isdir(arguments.get(key) or ""):
            contents[f"{key}_sha256"] = fingerprint(arguments[key])
    for key in ("model", "mining_model", "data", "dev_data", "corpus_extra", "mining_corpus"):
        value = arguments.get(key)
        arguments[key] = (
            [_without_folder(each) for each in value] if isinstance(value, list) else _without_folder(value)
        )
    left_out = NOT_PART_OF_THE_RUN - (PART_OF_THE_BEST if training_args.load_best_model_at_end else set())
    training = {key: value for key, value in training_args.to_dict().items() if key not in left_out}
    return json.loads(json.dumps({"arguments": arguments, "training_arguments": training, "contents": contents}))


def _without_folder(source: str | None) -> str | None:
    """Return ``name`` of ``folder/name`` and ``objective=folder/name``; ids of the Hub stay as they are."""
    objective, separator, path = (source or "").rpartition("=")
    return source if not os.path.exists(path) else f"{objective}{separator}{Path(path).name}"


def refuse_several_processes(training_args: TrainingArguments) -> None:
    """Refuse several processes.

    Raises:
        InputError: If there are.
    """
    if training_args.world_size > 1:
        raise InputError(f"this command runs in one process, and was started in {training_args.world_size}")


def is_finished(args: argparse.Namespace, run: dict[str, Any]) -> bool:
    """Tell whether the output directory holds the finished model of this very run.

    Raises:
        InputError: If the directory is not empty and ``--resume`` is off, or it holds another run.
    """
    output_dir = Path(args.output_dir)
    if output_dir.is_file():
        raise InputError(f"--output-dir {output_dir} is a file")
    if not _contents(output_dir) or _is_only_begun(output_dir):
        return False
    if not args.resume:
        raise InputError(
            f"--output-dir {output_dir} is not empty; choose another, or add --resume to go on with the run in it"
        )
    path = output_dir / RUN_FILE
    if not path.is_file():
        raise InputError(f"--output-dir {output_dir} is not empty and holds no run to go on with (no {RUN_FILE})")
    before = json.loads(path.read_text(encoding="utf-8"))
    old = {key: value for part in before.values() for key, value in part.items()}
    new = {key: value for part in run.values() for key, value in part.items()}
    changed = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
    if changed:
        details = "; ".join(f"{key}: was {old.get(key)!r}, now {new.get(key)!r}" for key in changed)
        raise InputError(f"--output-dir {output_dir} holds a run with other settings ({details})")
    if (output_dir / "config.json").is_file():
        logger.info("%s is finished already", output_dir)
        return True
    return False


def claim_output_dir(args: argparse.Namespace, training_args: TrainingArguments, run: dict[str, Any]) -> None:
    """Write down in the output directory which run it belongs to; nothing changes for one that is resumed."""
    output_dir = Path(args.output_dir)
    PartialState().wait_for_everyone()  # all have looked at it
    if training_args.should_save and last_whole_checkpoint(output_dir) is None:
        output_dir.mkdir(parents=True, exist_ok=True)
        write_json(output_dir / RUN_FILE, run)


def _contents(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.suffix != UNFINISHED] if folder.is_dir() else []


def _is_only_begun(output_dir: Path) -> bool:
    """Tell whether all that is there is a run that ended before its first checkpoint: nothing of it would be lost."""
    names = {path.name for path in _contents(output_dir)}
    return {RUN_FILE} <= names <= {RUN_FILE, checkpoint_dir(output_dir).name} and not last_whole_checkpoint(output_dir)


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


def train_to_the_end(trainer: Trainer, output_dir: str | Path) -> None:
    """Train from the last whole checkpoint, or from the start if there is none.

    A run that was killed after its last step, or stopped early, is not trained again: the trainer would go on.
    """
    checkpoint = last_whole_checkpoint(output_dir)
    if checkpoint is not None:
        state = TrainerState.load_from_json(os.path.join(checkpoint, "trainer_state.json"))
        stopped_early = state.stateful_callbacks["TrainerControl"]["args"]["should_training_stop"]
        if stopped_early or state.global_step >= state.max_steps:
            trainer.state = state
            if trainer.args.load_best_model_at_end and state.best_model_checkpoint is not None:
                # Where it is now: the folder may have been moved.
                checkpoint = str(checkpoint_dir(output_dir) / Path(state.best_model_checkpoint).name)
            trainer._load_from_checkpoint(checkpoint)
            return
    trainer.train(resume_from_checkpoint=checkpoint)
    best = trainer.state.best_model_checkpoint
    if trainer.args.load_best_model_at_end and best is not None:
        logger.info(
            "stopped after step %d of %d; kept %s, of the best %s: %.4f",
            trainer.state.global_step,
            trainer.state.max_steps,
            Path(best).name,
            trainer.args.metric_for_best_model,
            trainer.state.best_metric,
        )


def evaluate_while_training(training_args: TrainingArguments) -> None:
    """Score the dev data about five times in a run, unless the user asked for another rhythm."""
    if training_args.eval_strategy == "no":
        training_args.eval_strategy = IntervalStrategy.STEPS
        training_args.eval_steps = training_args.eval_steps or 0.2


def keep_best(training_args: TrainingArguments, metric: str, greater_is_better: bool) -> None:
    """End with the weights that are best on the dev data, not with the last ones; needs `SaveAtEvaluation`.

    Args:
        training_args: The trainer's, changed in place.
        metric: Name of what evaluation gives, with ``eval_``.
        greater_is_better: Whether more of it is better.
    """
    training_args.load_best_model_at_end = True
    training_args.metric_for_best_model = metric
    training_args.greater_is_better = greater_is_better
    training_args.restore_callback_states_from_checkpoint = True  # how long early stopping has waited


class SaveAtEvaluation(TrainerCallback):
    """Leaves a checkpoint at every evaluation, where the best weights are kept."""

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Ask for one; not before the first step."""
        if args.load_best_model_at_end and state.global_step:
            control.should_save = True


class SetEpoch(TrainerCallback):
    """Tells the sampler which epoch begins: accelerate does not reach it in a resumed epoch of several processes."""

    def __init__(self, sampler: Any) -> None:
        self.sampler = sampler

    def on_epoch_begin(self, args: TrainingArguments, state: TrainerState, control: Any, **kwargs: Any) -> None:
        """Where a run is resumed within an epoch, ``state.epoch`` is how far it is."""
        self.sampler.set_epoch(int(state.epoch or 0))


def open_model(args: argparse.Namespace, **model_kwargs: Any) -> SentenceTransformer:
    """Open ``--model``: one saved by this package with its bottleneck tokens, or a plain language model to start from.

    Weights are opened in float32, in which they are trained; ``--bf16`` computes in bfloat16 all the same.

    Args:
        args: Our own flags.
        **model_kwargs: Passed to ``AutoModelForCausalLM.from_pretrained``.

    Raises:
        InputError: If it is no model, or the flags ask for other bottleneck tokens than it has.
    """
    return opening.open_model(
        args.model,
        num_bottleneck_tokens=args.bottleneck_tokens,
        compression_ratio=args.compression_ratio,
        max_seq_length=args.max_length,
        **model_kwargs,
    )


def set_prompts(model: SentenceTransformer, args: argparse.Namespace) -> None:
    """Store the prompts that were given with the model; those not given stay as the model has them.

    Raises:
        InputError: If a prompt leaves no room for text.
    """
    for name, prompt in (("query", args.query_prompt), ("document", args.document_prompt)):
        if prompt is None:
            continue
        if isinstance(model[0], BottleneckTransformer):
            module = model[0]
            tokens = len(module.tokenizer(prompt, add_special_tokens=False)["input_ids"])
            try:
                check_room(module.max_seq_length, module.num_prefix_tokens + tokens, module.num_bottleneck_tokens)
            except InputError as error:
                raise InputError(f"--{name}-prompt has {tokens} tokens: {error}") from error
        model.prompts[name] = prompt


def is_sharded(trainer: Trainer) -> bool:
    """Tell whether the weights in memory are shards (FSDP)."""
    model: Any = trainer.model
    return any(hasattr(parameter, "full_tensor") for parameter in model.parameters())


def scores_of(trainer: Trainer) -> dict[str, float]:
    """Return what the weights that training ended with scored on held-out data: of the best step, or the last."""
    kept = trainer.state.best_global_step if trainer.args.load_best_model_at_end else None
    scores: dict[str, float] = {}
    for entry in trainer.state.log_history:
        if kept is None or entry.get("step") == kept:
            scores |= {name: entry[key] for name, key in SCORES.items() if key in entry}
    return scores


def finish(model: SentenceTransformer, trainer: Trainer, stage: str, output_dir: str, run: dict[str, Any]) -> None:
    """Save and verify the trained model, with what it was made from and the trainer's log."""
    made_from = {key: value for key, value in run["arguments"].items() if value is not None}
    is_ours = isinstance(model[0], BottleneckTransformer)
    if is_ours:
        said = {
            name: value for name in SAID_OF_TRAINING if (value := run["training_arguments"].get(name)) not in (None, -1)
        }
        step = {"stage": stage, **made_from, **run["contents"], "training_arguments": said}
        bottleneck_module(model).history.append({**step, "scores": scores_of(trainer)})
    sharded = is_sharded(trainer) or getattr(trainer, "deepspeed", None) is not None
    whole = checkpoint_dir(output_dir) / "whole"
    if sharded:
        trainer.save_model(str(whole))  # all processes give their part
    if trainer.args.tf32 or trainer.args.torch_compile:
        enable_tf32(False)  # what is saved is compared with what is in memory, more exactly than that
    # Mixed precision wraps the model's forward; vectors are compared in the precision they are used in.
    trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)
    # What the optimizer holds would stand beside the copies of the model that are compared.
    trainer.optimizer = trainer.lr_scheduler = None
    trainer.accelerator.free_memory()
    if trainer.args.should_save:
        write_json(Path(output_dir, "training_log.json"), trainer.state.log_history)
        save_one = save if is_ours else save_other
        save_one(load(str(whole)) if sharded else model, output_dir)
        if sharded:
            shutil.rmtree(whole)
    trainer.accelerator.wait_for_everyone()


def run_command(main: Callable[[list[str] | None], Any], argv: list[str] | None = None) -> None:
    """Run a command's ``main``: a line and exit code 2 for input that cannot be used, a traceback for the rest."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    rank = os.environ.get("RANK", "0")
    is_first_process = rank == "0"
    logging.getLogger("lbr_st").setLevel(logging.INFO if is_first_process else logging.WARNING)
    # mteb 2.26 calls methods that sentence-transformers 6 has renamed.
    warnings.filterwarnings("ignore", category=FutureWarning, module="mteb")
    try:
        main(argv)
    except InputError as error:
        sys.stderr.write(f"error: {error}\n" if is_first_process else f"error of process {rank}: {error}\n")
        sys.exit(2)
