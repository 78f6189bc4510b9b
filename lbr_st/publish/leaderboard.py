"""What mteb's leaderboard wants of a model, out of what the model says of itself.

Two repositories take it: mteb itself the description of the model, the results repository its scores.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from keyword import iskeyword
from math import prod
from pathlib import Path
from typing import Any, NamedTuple, get_args

import mteb
import yaml
from huggingface_hub import ModelCard
from mteb.models import ModelMeta
from mteb.models.model_meta import ScoringFunction
from mteb.models.sentence_transformer_wrapper import SentenceTransformerEncoderWrapper
from mteb.types import Licenses
from safetensors import safe_open

from lbr_st.errors import InputError, one_line
from lbr_st.evaluation.own_data import open_for_evaluation
from lbr_st.files import read_json, replacing_folder, require_empty, write_json, write_text
from lbr_st.model.card import CARD, CITATION, read
from lbr_st.model.quiet import quietly
from lbr_st.model.verify import verify
from lbr_st.publish.licenses import check_license
from lbr_st.publish.results import results_of
from lbr_st.records import is_hub_id

SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}  # bytes of a weight
EMBEDDINGS = ("embed_tokens", "wte", "embed_in")  # what families call their token embeddings

IMPORTS = """from mteb.models.model_meta import ModelMeta, ScoringFunction
from mteb.models.sentence_transformer_wrapper import SentenceTransformerEncoderWrapper

"""


@dataclass(frozen=True, kw_only=True)
class SubmissionConfig:
    """What is submitted, and what a model does not say of itself.

    Attributes:
        model: Directory of the model.
        name: Name of the model on the Hub, ``owner/name``.
        revision: Commit on the Hub that holds it, 40 digits.
        output_dir: New or empty folder.
        results_dir: Folder of mteb's result files.
        license: License, as mteb names it; default is that of the card.
        languages: Languages, each in ISO 639-3 with its script.
        release_date: Date of the revision; default is today.
        training_code: Address of the training code, where it is public.
        training_data: Address of the training data, where they are public.

    Raises:
        InputError: If the name or the revision cannot be one of the Hub.
    """

    model: str | Path
    name: str
    revision: str
    output_dir: str | Path
    results_dir: str | Path = "results"
    license: str | None = None
    languages: Sequence[str] = ("eng-Latn",)
    release_date: str = field(default_factory=lambda: date.today().isoformat())
    training_code: str | None = None
    training_data: str | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", self.name):
            raise InputError(f"--name {self.name} is no name on the Hub; write owner/name")
        if not re.fullmatch(r"[0-9a-f]{40}", self.revision):
            raise InputError(
                f"--revision {self.revision} is no commit; lbr publish push says the 40 digits of the one it made"
            )


class Submission(NamedTuple):
    """What was prepared.

    Attributes:
        folder: Folder that holds it.
        description: File for mteb's repository.
        results: Folder for the results repository.
        tasks: Names of the tasks that have scores.
    """

    folder: Path
    description: Path
    results: Path
    tasks: list[str]


def prepare_submission(config: SubmissionConfig) -> Submission:
    """Write what the two repositories take, after the model was verified and run on mteb's mock tasks.

    Raises:
        InputError: If the model, its license or its results cannot be submitted, or the folder is not empty.
    """
    folder, output = Path(config.model), Path(config.output_dir)
    require_empty(output)
    if not read(folder)["is_portable"]:
        raise InputError(
            f"{folder} is in the native layout, which mteb's runners do not open; see docs/guides/model.md"
        )
    license_ = config.license or license_of(folder)
    if not license_.startswith("https://"):  # mteb takes an address, too
        check_license(license_, get_args(Licenses), "mteb")
    with quietly():
        for _ in verify(folder):
            pass
    meta = describe(config, license_)
    if failed := try_out(folder):
        raise InputError(f"mteb's mock tasks fail: {', '.join(failed)}")
    files = public_results(config)
    owner, name = map(_name_in_python, config.name.split("/"))
    results = Path("results", config.name.replace("/", "__"), config.revision)
    with replacing_folder(output) as unfinished:
        (unfinished / results).mkdir(parents=True)
        for file in files:
            shutil.copy2(file, unfinished / results / file.name)
        write_json(unfinished / results / "model_meta.json", json.loads(json.dumps(meta.to_dict(), default=str)))
        write_text(unfinished / f"{owner}_models.py", IMPORTS + f"{name} = {meta.to_python()}\n")
    return Submission(output, output / f"{owner}_models.py", output / results, [file.stem for file in files])


def _name_in_python(name: str) -> str:
    name = re.sub(r"\W", "_", name.lower())
    return name if name.isidentifier() and not iskeyword(name) else f"_{name}"


def describe(config: SubmissionConfig, license: str) -> ModelMeta:
    """Return mteb's description of a model.

    Raises:
        InputError: If mteb refuses it.
    """
    about = read(config.model)
    parameters, embeddings, size = weights(Path(config.model))
    first = about["history"][0].get("model") if about["history"] else None
    dimensions = about["matryoshka_dimensions"]
    prompts = {role: prompt for role, prompt in about["prompts"].items() if prompt}
    try:
        return ModelMeta(
            loader=SentenceTransformerEncoderWrapper,
            loader_kwargs={"model_prompts": prompts} if prompts else {},
            name=config.name,
            revision=config.revision,
            release_date=config.release_date,
            languages=list(config.languages),
            n_parameters=parameters,
            n_embedding_parameters=embeddings,
            memory_usage_mb=round(size / 2**20),
            max_tokens=about["max_seq_length"],
            embed_dim=sorted(dimensions) if dimensions else about["dimensions"],
            license=license,
            open_weights=True,
            public_training_code=config.training_code,
            public_training_data=config.training_data,
            framework=["Sentence Transformers", "PyTorch", "safetensors", "Transformers"],
            reference=f"https://huggingface.co/{config.name}",
            similarity_fn_name=ScoringFunction.COSINE,
            use_instructions=bool(prompts),
            training_datasets={task for step in about["history"] for task in step.get("mteb_tasks", [])},
            adapted_from=first if first and is_hub_id(first) else None,
            modalities=["text"],
            model_type=["dense"],
            citation=CITATION.removeprefix("```bibtex\n").removesuffix("\n```"),
        )
    except ValueError as error:
        raise InputError(f"mteb refuses this description: {one_line(error)}") from error


def license_of(folder: Path) -> str:
    """Return the license that the card of a model states.

    Raises:
        InputError: If it states none.
    """
    card = folder / CARD
    try:
        license_ = ModelCard.load(card).data.license if card.is_file() else None
    except (ValueError, TypeError, yaml.YAMLError) as error:
        raise InputError(f"{card} cannot be read: {one_line(error)}; give --license") from error
    if isinstance(license_, list):
        raise InputError(f"{card} states several licenses, {', '.join(map(str, license_))}; say one with --license")
    if not license_:
        raise InputError(f"{card} states no license; give --license, or write it with lbr publish card --license")
    return license_


def weights(folder: Path) -> tuple[int, int, int]:
    """Return the numbers of weights and of those of the token embeddings, and their bytes."""
    parameters = embeddings = size = 0
    for file in folder.glob("*.safetensors"):
        with safe_open(str(file), "pt") as opened:
            for name in opened.keys():
                part = opened.get_slice(name)
                number = prod(part.get_shape())
                parameters += number
                size += number * SIZES.get(part.get_dtype(), 1)
                embeddings += number * any(each in name for each in EMBEDDINGS)
    return parameters, embeddings, size


def public_results(config: SubmissionConfig) -> list[Path]:
    """Return the result files of public tests of the model.

    Raises:
        InputError: If there are none of the weights that it has now.
    """
    files = [file for file in results_of(config.results_dir, config.model) if _is_public(file)]
    if not files:
        raise InputError(
            f"--results-dir {config.results_dir} has no scores on public tests of this model with the weights it has "
            f"now; lbr evaluate --model {config.model} --tasks ... makes them"
        )
    return files


def _is_public(file: Path) -> bool:
    try:
        mteb.get_task(read_json(file)["task_name"])
    except KeyError:
        return False
    return True


def try_out(folder: Path) -> list[str]:
    """Run the model on mteb's mock tasks; return the names of those that failed."""
    found = mteb.mock_run(open_for_evaluation(str(folder)))
    return sorted(name for name, result in found.task_results.items() if _failed(result))


def _failed(result: Any) -> bool:
    return result is not None and not isinstance(result, mteb.TaskResult)
