"""``lbr submit``: what mteb's leaderboard wants of a model, out of what the model says of itself.

Two repositories take it: mteb itself the description of the model, the results repository its scores.
"""

from __future__ import annotations

import argparse
import json
import logging
import re
import shutil
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import mteb
from huggingface_hub import ModelCard
from mteb.models import ModelMeta
from mteb.models.model_meta import ScoringFunction
from mteb.models.sentence_transformer_wrapper import SentenceTransformerEncoderWrapper
from safetensors import safe_open

from lbr_st.errors import InputError
from lbr_st.evaluation.own_data import open_for_evaluation
from lbr_st.files import write_json, write_text
from lbr_st.model.card import CARD, CITATION, read
from lbr_st.model.contract import fingerprint
from lbr_st.model.verify import verify
from lbr_st.publish.results import results_of
from lbr_st.records import is_hub_id

logger = logging.getLogger(__name__)

CODE = "https://github.com/embeddings-benchmark/mteb"
SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}  # bytes of a weight


def describe(folder: Path, args: argparse.Namespace) -> ModelMeta:
    """Return mteb's description of a model.

    Args:
        folder: Of the model.
        args: What a model does not say of itself: its name, revision, licence, languages, links.

    Raises:
        InputError: If mteb refuses it.
    """
    about = read(folder)
    parameters, embeddings, size = weights(folder)
    first = about["history"][0].get("model") if about["history"] else None
    dimensions = about["matryoshka_dimensions"]
    prompts = {role: prompt for role, prompt in about["prompts"].items() if prompt}
    try:
        return ModelMeta(
            loader=SentenceTransformerEncoderWrapper,
            loader_kwargs={"model_prompts": prompts} if prompts else {},
            name=args.name,
            revision=args.revision,
            release_date=args.release_date,
            languages=args.languages,
            n_parameters=parameters,
            n_embedding_parameters=embeddings,
            memory_usage_mb=round(size / 2**20),
            max_tokens=about["max_seq_length"],
            embed_dim=sorted(dimensions) if dimensions else about["dimensions"],
            license=args.licence,
            open_weights=True,
            public_training_code=args.training_code,
            public_training_data=args.training_data,
            framework=["Sentence Transformers", "PyTorch", "safetensors", "Transformers"],
            reference=f"https://huggingface.co/{args.name}",
            similarity_fn_name=ScoringFunction.COSINE,
            use_instructions=bool(prompts),
            training_datasets={task for step in about["history"] for task in step.get("mteb_tasks", [])},
            adapted_from=first if first and is_hub_id(first) else None,
            modalities=["text"],
            model_type=["dense"],
            citation=CITATION.removeprefix("```bibtex\n").removesuffix("\n```"),
        )
    except ValueError as error:
        raise InputError(f"mteb refuses this description: {' '.join(str(error).split())[:300]}") from error


def licence_of(folder: Path) -> str:
    """Return the licence that the card of a model states.

    Raises:
        InputError: If it states none.
    """
    card = folder / CARD
    licence = ModelCard.load(card).data.license if card.is_file() else None
    if not licence:
        raise InputError(f"{card} states no licence; give --licence, or write it with lbr card --licence")
    return licence


def weights(folder: Path) -> tuple[int, int, int]:
    """Return the numbers of weights and of those of the token embeddings, and their bytes."""
    parameters = embeddings = size = 0
    for file in folder.glob("*.safetensors"):
        with safe_open(str(file), "pt") as opened:
            for name in opened.keys():
                part = opened.get_slice(name)
                number = 1
                for length in part.get_shape():
                    number *= length
                parameters += number
                size += number * SIZES.get(part.get_dtype(), 1)
                embeddings += number * ("embed_tokens" in name or "wte" in name or "embed_in" in name)
    return parameters, embeddings, size


def write_results(folder: Path, args: argparse.Namespace, meta: ModelMeta, output: Path) -> list[str]:
    """Lay the result files of a model out as the results repository has them; return the names of the tasks.

    Raises:
        InputError: If there are no results of the model as it is now.
    """
    files = [file for file in results_of(args.results_dir, folder) if _is_public(file)]
    if not files:
        raise InputError(
            f"--results-dir {args.results_dir} has no scores on public tests of this model as it is now; "
            f"lbr benchmark --model {folder} makes them"
        )
    target = output / "results" / args.name.replace("/", "__") / args.revision
    target.mkdir(parents=True)
    for file in files:
        shutil.copy2(file, target / file.name)
    write_json(target / "model_meta.json", json.loads(json.dumps(meta.to_dict(), default=str)))
    return [file.stem for file in files]


def _is_public(file: Path) -> bool:
    try:
        mteb.get_task(json.loads(file.read_text(encoding="utf-8"))["task_name"])
    except KeyError:
        return False
    return True


def try_out(folder: Path) -> list[str]:
    """Run the model on mteb's mock tasks; return the names of those that failed."""
    found = mteb.mock_run(open_for_evaluation(str(folder)))
    return sorted(name for name, result in found.task_results.items() if _failed(result))


def _failed(result: Any) -> bool:
    return result is not None and not isinstance(result, mteb.TaskResult)


def main(argv: Sequence[str] | None = None) -> None:
    """Run ``lbr submit``.

    Raises:
        InputError: If the model or its results cannot be submitted.
    """
    args = _make_parser().parse_args(argv)
    folder, output = Path(args.model), Path(args.output)
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", args.name):
        raise InputError(f"--name {args.name} is no name on the Hub; write owner/name")
    if not re.fullmatch(r"[0-9a-f]{40}", args.revision):
        raise InputError(f"--revision {args.revision} is no commit; `lbr push` says the 40 digits of the one it made")
    if output.exists() and any(output.iterdir()):
        raise InputError(f"--output {output} is not an empty folder; choose another")
    if not read(folder)["is_portable"]:
        raise InputError(f"{folder} is in the native layout, which mteb's runners do not open; see docs/model.md")
    args.licence = args.licence or licence_of(folder)
    for line in verify(folder):
        logger.debug(line)
    meta = describe(folder, args)
    failed = try_out(folder)
    if failed:
        raise InputError(f"mteb's mock tasks fail: {', '.join(failed)}")
    tasks = write_results(folder, args, meta, output)
    module = re.sub(r"\W", "_", args.name.split("/")[0].lower())
    variable = re.sub(r"\W", "_", args.name.split("/")[1].lower())
    write_text(output / f"{module}_models.py", IMPORTS + f"{variable} = {meta.to_python()}\n")
    print(steps(args, output, tasks, module, fingerprint(folder)))  # noqa: T201


IMPORTS = """from mteb.models.model_meta import ModelMeta, ScoringFunction
from mteb.models.sentence_transformer_wrapper import SentenceTransformerEncoderWrapper

"""


def steps(args: argparse.Namespace, output: Path, tasks: Sequence[str], module: str, digest: str) -> str:
    """Return what is left for people to do."""
    named = f"{len(tasks)} task{'s' * (len(tasks) != 1)} ({', '.join(tasks)})"
    return f"""
Prepared in {output}, of the model {digest[:12]}: {named}; mteb's mock tasks pass.

What is left, by hand:
1. https://huggingface.co/{args.name} must hold this model at {args.revision} (lbr push), for everyone.
2. Fork {CODE}, put {output}/{module}_models.py into mteb/models/model_implementations,
   run `make lint` there and open a pull request with its checklist.
3. Fork {CODE.replace("/mteb", "/results")}, put {output}/results/* into results/,
   and open a pull request that names the first one.
"""


def _make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="lbr submit", description="Prepare a submission to mteb's leaderboard.")
    parser.add_argument("--prepare", action="store_true", required=True, help="write the files; nothing is sent")
    parser.add_argument("--model", required=True, metavar="DIR", help="directory of the model")
    parser.add_argument("--name", required=True, metavar="OWNER/NAME", help="of the model on the Hub")
    parser.add_argument("--revision", required=True, metavar="COMMIT", help="of the model on the Hub, 40 digits")
    parser.add_argument(
        "--results-dir", default="results", metavar="DIR", help="what lbr benchmark wrote (default: %(default)s)"
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="new or empty folder")
    parser.add_argument("--licence", help="of the model, as mteb names it (default: that of its card)")
    parser.add_argument(
        "--languages", nargs="+", default=["eng-Latn"], metavar="CODE", help="ISO 639-3 and script (default: eng-Latn)"
    )
    parser.add_argument(
        "--release-date", default=date.today().isoformat(), metavar="DATE", help="of the revision (default: today)"
    )
    parser.add_argument("--training-code", metavar="URL", help="where the training code is public")
    parser.add_argument("--training-data", metavar="URL", help="where the training data are public")
    return parser
