"""The card of a saved model: how to use it, what it was made from, what it scored, what it cannot do.

It is written with every model, out of what the model says of itself (the history in ``lbr_config.json``);
``lbr publish card`` writes it again with mteb's scores. A card that somebody else wrote, or changed, is left alone.
"""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from huggingface_hub import EvalResult, ModelCard, ModelCardData
from transformers import AutoConfig

from lbr_st.errors import InputError
from lbr_st.files import read_json, write_text
from lbr_st.model.contract import LBR_CONFIG, POOLING_CONFIG
from lbr_st.records import is_hub_id

CARD = "README.md"
TEMPLATE = Path(__file__).with_name("card.md.jinja")
# With digits of a hash of the card, in which these digits are zeros.
MARK = "<!-- written by lbr-st, {}: a card that is changed is left alone -->"
DIGITS = 16
_MARKED = re.compile(re.escape(MARK).replace(r"\{\}", f"([0-9a-f]{{{DIGITS}}})"))
STAGES = {"learn": "Stage 1", "align": "Stage 2", "merge": "Merge", "recommend train": "Recommendation"}
# What a step of history says beside the arguments of its command.
NOT_ARGUMENTS = {"stage", "mteb_tasks", "sets", "processes", "training_arguments", "training_model", "scores"}
# How a model learned its domain, by the arm of stage 1.
WAYS = {
    "cut-off": "through a bottleneck token",
    "no-cut-off": "with a bottleneck token that nothing had to pass through, as a control",
    "plain": "by plain training without a bottleneck, as a control",
}
WHOLE = "default"  # subset of data that have none
CITATION = """```bibtex
@article{liang2026learn,
  title   = {Learn Before Represent: Bridging Generative and Contrastive Learning for Domain-Specific LLM Embeddings},
  author  = {Liang, Xiaoyu and Peng, Yuchen and Luo, Jiale and Wang, Wenhao and Hu, Haoji and Zhou, Xincheng},
  journal = {arXiv preprint arXiv:2601.11124},
  year    = {2026}
}
```"""


class Score(NamedTuple):
    """A score of mteb.

    Attributes:
        task: Name of the task.
        dataset: Id of its data on the Hub; None where they are not there.
        revision: Revision of the data.
        split: Split of the data.
        metric: Name of the metric.
        value: Score, from 0 to 1.
        type: Type of the task, as mteb names it.
        subset: Subset of the data.
    """

    task: str
    dataset: str | None
    revision: str
    split: str
    metric: str
    value: float
    type: str = "Retrieval"
    subset: str = WHOLE

    @property
    def on(self) -> str:
        """What it is a score on, for people."""
        return f"{self.task}, {self.split}" if self.subset == WHOLE else f"{self.task} ({self.subset}), {self.split}"


def write(
    folder: str | Path,
    name: str,
    scores: Sequence[Score] = (),
    *,
    license: str | None = None,
    language: str | None = None,
    command: str | None = None,
) -> bool:
    """Write the card of a saved model; return False where somebody else's is there.

    Args:
        folder: Directory of the model.
        name: Name of the model, ``owner/name`` on the Hub.
        scores: Scores of mteb.
        license: License of the model, as the Hub names it; default is what `said` returns.
        language: Language of the model, a code of ISO 639-1; default is what `said` returns.
        command: Command that made the scores.

    Raises:
        InputError: If the folder holds no model of this package.
    """
    if is_by_hand(folder):
        return False
    about, before = read(folder), said(folder)
    license, language = license or before.get("license"), language or before.get("language")
    card = ModelCard.from_template(
        _metadata(about["history"], name, scores, license, language),
        str(TEMPLATE),
        mark=MARK.format("0" * DIGITS),
        name=name,
        name_in_python=repr(name),
        model=about,
        how=_how_it_learned(about["history"]),
        number_of_tokens=len(about["bottleneck_token_ids"]),
        domain_tokens=len(about.get("domain_token_ids", [])),
        layers=min((step["layers"] for step in about["history"] if "layers" in step), default=None),
        prompts=", ".join(f"{role} {prompt!r}" for role, prompt in about["prompts"].items() if prompt),
        steps=[_step(step) for step in about["history"]],
        tasks=sorted({task for step in about["history"] for task in step.get("mteb_tasks", [])}),
        rows=_rows(about["history"], scores),
        command=command if scores else None,
        citation=CITATION,
    )
    content = f"{card.content.rstrip()}\n"
    write_text(Path(folder) / CARD, _MARKED.sub(MARK.format(_hash_of(content)), content, count=1))
    return True


def is_by_hand(folder: str | Path) -> bool:
    """Tell whether a folder has a card that somebody else wrote, or changed."""
    file = Path(folder) / CARD
    if not file.is_file():
        return False
    content = file.read_text(encoding="utf-8", errors="replace")
    found = _MARKED.search(content)
    return found is None or found[1] != _hash_of(content)


def said(folder: str | Path) -> dict[str, Any]:
    """Return what somebody has let the card of a folder say of its model, which no model says of itself.

    Returns:
        ``license`` and ``language``, where the card has them, and ``name``; nothing where there is no card of ours.
    """
    file = Path(folder) / CARD
    if not file.is_file() or is_by_hand(folder):
        return {}
    about = ModelCard.load(file).data.to_dict()
    named = {"name": about["model_name"]} if "model_name" in about else {}
    return named | {key: about[key] for key in ("license", "language") if key in about}


def _hash_of(content: str) -> str:
    """Return digits of the hash of a card, of which those that it has of its own do not count."""
    return hashlib.sha256(_MARKED.sub(MARK.format("0" * DIGITS), content).encode()).hexdigest()[:DIGITS]


def read(folder: str | Path) -> dict[str, Any]:
    """Return what a saved model says of itself.

    Returns:
        What is in ``lbr_config.json``, and ``architecture``, ``dimensions``, ``prompts``, ``is_portable``.

    Raises:
        InputError: If the folder holds no model of this package.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such directory")
    if not (folder / LBR_CONFIG).is_file():
        raise InputError(f"{folder} holds no model of lbr-st: it has no {LBR_CONFIG}")

    def parse(name: str) -> dict[str, Any]:
        return read_json(folder / name)

    config = AutoConfig.from_pretrained(folder)
    modules = read_json(folder / "modules.json")
    portable = (folder / POOLING_CONFIG).is_file() and modules[0]["type"].startswith("sentence_transformers.")
    return {
        **parse(LBR_CONFIG),
        "architecture": config.architectures[0],
        "dimensions": config.get_text_config().hidden_size,
        "matryoshka_dimensions": getattr(config, "matryoshka_dimensions", None),
        "prompts": parse("config_sentence_transformers.json")["prompts"],
        "is_portable": portable,
    }


def _sources(step: Mapping[str, Any]) -> list[str]:
    """Return the sources of a step; stage 1 writes them one for each objective, ``sft=FILE``."""
    data = step.get("data") or []
    data = [data] if isinstance(data, str) else data
    return [source.partition("=")[2] or source for source in data] if step["stage"] == "learn" else data


def _eval_result(score: Score, dataset: str) -> EvalResult:
    return EvalResult(
        task_type=score.type,
        dataset_type=dataset,
        dataset_config=None if score.subset == WHOLE else score.subset,
        dataset_name=score.task,
        dataset_split=score.split,
        dataset_revision=score.revision,
        metric_type=score.metric,
        metric_value=score.value,
    )


def _metadata(
    history: Sequence[Mapping[str, Any]],
    name: str,
    scores: Sequence[Score],
    license: str | None,
    language: str | None,
) -> ModelCardData:
    """Return what the Hub lists and filters models by."""
    datasets = [source.partition(":")[0] for step in history for source in _sources(step) if is_hub_id(source)]
    first = history[0].get("model") if history else None
    return ModelCardData(
        model_name=name,
        library_name="sentence-transformers",
        pipeline_tag="sentence-similarity",
        tags=["sentence-transformers", "feature-extraction", "sentence-similarity", "lbr-st"],
        base_model=first if first and is_hub_id(first) else None,
        datasets=list(dict.fromkeys(datasets)) or None,
        license=license,
        language=language,
        eval_results=[_eval_result(score, score.dataset) for score in scores if score.dataset] or None,
    )


def _how_it_learned(history: Sequence[Mapping[str, Any]]) -> str:
    stages = {step["stage"] for step in history}
    through = next((WAYS[step.get("arm", "cut-off")] for step in history if step["stage"] == "learn"), "")
    if "recommend train" in stages:
        return "was trained with a recommender to find what users choose (arXiv 2311.03778)"
    if not {"learn", "align"} & stages:
        return "was not trained yet"
    if "learn" not in stages:
        return "was aligned with query-document pairs"
    if "align" not in stages:
        return f"learned its domain {through}, and was not aligned with queries yet"
    return f"learned its domain {through}, and was then aligned with query-document pairs"


def _step(step: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the card says of a stage: its title, the command that repeats it, its data and their sets."""
    arguments = {key: value for key, value in step.items() if key not in NOT_ARGUMENTS and "sha256" not in key}
    digest = f" (SHA-256 of the records {step['data_sha256'][:16]})" if "data_sha256" in step else ""
    sets = [
        about | {"records": ", ".join(f"{number:,} in {file}" for file, number in about["records"].items())}
        for about in step.get("sets", [])
    ]
    return {
        "title": STAGES[step["stage"]],
        "command": _command(step["stage"], arguments | step.get("training_arguments", {})),
        "data": "none of its own" if step["stage"] == "merge" else (", ".join(_sources(step)) or "not known") + digest,
        "sets": sets,
    }


def _command(stage: str, arguments: Mapping[str, Any]) -> str:
    words = [" ".join([f"lbr {stage}", *map(shlex.quote, arguments.get("models", []))])]
    for name, value in arguments.items():
        if name == "models":  # those that are merged go without a flag
            continue
        flag = f"--{name.replace('_', '-')}"
        if value is True:
            words.append(flag)
        elif value is not None and value is not False:
            values = value if isinstance(value, list) else [value]
            words.append(" ".join([flag, *(shlex.quote(str(each)) for each in values)]))
    return " \\\n    ".join(words)


def _rows(history: Sequence[Mapping[str, Any]], scores: Sequence[Score]) -> list[tuple[str, str, str]]:
    """Return the table of scores: what they are on, the metric, the value."""
    own = [
        (f"held-out pairs of training ({STAGES[step['stage']]})", name, f"{value:.4f}")
        for step in history[-1:]  # those of earlier ones are of other weights
        for name, value in step.get("scores", {}).items()
    ]
    return own + [(score.on, score.metric, f"{score.value:.4f}") for score in scores]
