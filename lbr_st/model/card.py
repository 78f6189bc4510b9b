"""The card of a saved model: how to use it, what it was made from, what it scored, what it cannot do.

It is written with every model, out of what the model says of itself (the history in ``lbr_config.json``); `lbr card`
writes it anew with mteb's scores. A card that somebody else wrote is left alone.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from huggingface_hub import EvalResult, ModelCardData
from transformers import AutoConfig

from lbr_st.errors import InputError
from lbr_st.files import write_text
from lbr_st.model.contract import LBR_CONFIG, POOLING_CONFIG
from lbr_st.records import is_hub_id

CARD = "README.md"
MARK = "<!-- written by lbr-st; a card without this line is left alone -->"
STAGES = {"learn": ("Stage 1", "learn"), "align": ("Stage 2", "align")}
# What a step of history says beside the arguments of its command.
NOT_ARGUMENTS = {"stage", "mteb_tasks", "sets", "processes", "training_arguments", "scores"}
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
        dataset: Id of its data on the Hub, None where it is not there.
        revision: Of the data.
        split: Of the data.
        metric: Its name.
        value: From 0 to 1.
    """

    task: str
    dataset: str | None
    revision: str
    split: str
    metric: str
    value: float


def write(folder: str | Path, name: str, scores: Sequence[Score] = (), **about: Any) -> bool:
    """Write the card of a saved model; return False where somebody else's is there.

    Args:
        folder: Of the model.
        name: Of the model.
        scores: Of mteb.
        **about: See `text`.
    """
    file = Path(folder) / CARD
    if file.is_file() and MARK not in file.read_text(encoding="utf-8"):
        return False
    write_text(file, text(folder, name, scores, **about))
    return True


def text(
    folder: str | Path,
    name: str,
    scores: Sequence[Score] = (),
    *,
    licence: str | None = None,
    language: str | None = None,
    command: str | None = None,
) -> str:
    """Return the card of a saved model, with metadata of the Hub.

    Args:
        folder: Of the model.
        name: Of the model, ``owner/name`` on the Hub.
        scores: Of mteb.
        licence: Of the model, as the Hub names it; default is that nothing is said.
        language: The same, as a code of ISO 639-1.
        command: That made the scores.

    Raises:
        InputError: If the folder holds no model of this package.
    """
    about = read(folder)
    history: list[dict[str, Any]] = about["history"]
    datasets = [source for step in history for source in _sources(step) if is_hub_id(source)]
    first = history[0].get("model") if history else None
    data = ModelCardData(
        model_name=name,
        library_name="sentence-transformers",
        pipeline_tag="sentence-similarity",
        tags=["sentence-transformers", "feature-extraction", "sentence-similarity", "lbr-st"],
        base_model=first if first and is_hub_id(first) else None,
        datasets=list(dict.fromkeys(datasets)) or None,
        license=licence,
        language=language,
        eval_results=[_eval_result(score, score.dataset) for score in scores if score.dataset] or None,
    )
    parts = [
        f"---\n{data.to_yaml()}\n---\n{MARK}",
        f"# {name}",
        _summary(about),
        "## Usage",
        _usage(name, about),
        "## How it was made",
        _recipe(history),
        "## Data",
        _data(history),
        "## Scores",
        _scores(history, scores, command),
        "## Limits",
        _limits(about),
        "## Citation",
        CITATION,
    ]
    return "\n\n".join(parts) + "\n"


def read(folder: str | Path) -> dict[str, Any]:
    """Return what a saved model says of itself.

    Returns:
        What is in ``lbr_config.json``, and ``architecture``, ``dimensions``, ``prompts``, ``is_portable``.

    Raises:
        InputError: If the folder holds no model of this package.
    """
    folder = Path(folder)
    if not (folder / LBR_CONFIG).is_file():
        raise InputError(f"{folder} holds no model of lbr-st: it has no {LBR_CONFIG}")

    def parse(name: str) -> dict[str, Any]:
        return json.loads((folder / name).read_text(encoding="utf-8"))

    config = AutoConfig.from_pretrained(folder)
    modules = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
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
    data = step.get("data") or []
    return [source.rpartition("=")[2] for source in ([data] if isinstance(data, str) else data)]


def _eval_result(score: Score, dataset: str) -> EvalResult:
    return EvalResult(
        task_type="Retrieval",
        dataset_type=dataset,
        dataset_name=score.task,
        dataset_split=score.split,
        dataset_revision=score.revision,
        metric_type=score.metric,
        metric_value=score.value,
    )


def _summary(about: Mapping[str, Any]) -> str:
    stages = [step["stage"] for step in about["history"]]
    how = "learned its domain through a bottleneck token, and was then aligned with query-document pairs"
    if stages == ["ibgl"]:
        how = "learned its domain through a bottleneck token, and was not aligned with queries yet"
    elif "ibgl" not in stages:
        how = "was aligned with query-document pairs" if stages else "was not trained yet"
    k = len(about["bottleneck_token_ids"])
    k, length, width = len(about["bottleneck_token_ids"]), about["max_seq_length"], about["dimensions"]
    return (
        f"An embedding model for [sentence-transformers](https://sbert.net): a causal language model "
        f"({about['architecture']}) that {how} (Learn Before Represent, "
        f"[arXiv 2601.11124](https://arxiv.org/abs/2601.11124)). It maps texts of up to {length} tokens to unit "
        f"vectors of {width} dimensions: the hidden state of the last of {k} bottleneck token{'s' * (k > 1)} that the "
        f"tokenizer appends."
    )


def _usage(name: str, about: Mapping[str, Any]) -> str:
    trust = "" if about["is_portable"] else ", trust_remote_code=True"
    lines = [
        "from sentence_transformers import SentenceTransformer",
        "",
        f"model = SentenceTransformer({name!r}{trust})",
        'queries = model.encode_query(["a question"])',
        'documents = model.encode_document(["a passage that may answer it"])',
        "print(model.similarity(queries, documents))",
    ]
    notes = [] if about["is_portable"] else ["Needs `pip install lbr-st`: it has a number of tokens that varies."]
    prompts = {role: prompt for role, prompt in about["prompts"].items() if prompt}
    if prompts:
        named = ", ".join(f"{role} {prompt!r}" for role, prompt in prompts.items())
        notes.append(f"Prompts ({named}) are put in by `encode_query` and `encode_document`, and by no vector store.")
    if about["matryoshka_dimensions"]:
        kept = ", ".join(map(str, about["matryoshka_dimensions"]))
        notes.append(f"The first dimensions alone are embeddings too: {kept} (`truncate_dim`).")
    return "\n\n".join(["```python\n" + "\n".join(lines) + "\n```", *notes])


def _recipe(history: Sequence[Mapping[str, Any]]) -> str:
    if not history:
        return "It was not trained."
    parts = []
    for step in history:
        title, command = STAGES[step["stage"]]
        arguments = {key: value for key, value in step.items() if key not in NOT_ARGUMENTS and "sha256" not in key}
        if step["stage"] == "ibgl" and step.get("bottleneck", True):
            arguments.setdefault("read_out_weight", 0)  # nothing is said of it where there was none
        arguments |= step.get("training_arguments", {})
        parts.append(f"{title}:\n\n```\n{_command(command, arguments)}\n```")
    return "\n\n".join(parts) + "\n\nFolders are left out of names; what is not said is the default."


def _command(command: str, arguments: Mapping[str, Any]) -> str:
    words = [f"lbr {command}"]
    for name, value in arguments.items():
        flag = f"--{name.replace('_', '-')}"
        if name == "bottleneck":
            words += [] if value else ["--no-bottleneck"]
        elif value is True:
            words.append(flag)
        elif value is not None and value is not False:
            values = value if isinstance(value, list) else [value]
            words.append(" ".join([flag, *(shlex.quote(str(each)) for each in values)]))
    return " \\\n    ".join(words)


def _data(history: Sequence[Mapping[str, Any]]) -> str:
    lines = []
    tasks: set[str] = set()
    for step in history:
        tasks |= set(step.get("mteb_tasks", []))
        named = ", ".join(_sources(step)) or "not known"
        digest = f" (SHA-256 of the records {step['data_sha256'][:16]})" if "data_sha256" in step else ""
        lines.append(f"- {STAGES[step['stage']][0]}: {named}{digest}.")
        lines += [f"  - {_set(each)}" for each in step.get("sets", [])]
    known = ", ".join(sorted(tasks))
    if lines:
        lines.append(
            f"- Public tests on the same sources: {known}. Scores on these say less."
            if known
            else "- No public test of mteb on the same sources is known."
        )
    return "\n".join(lines) or "None."


def _set(about: Mapping[str, Any]) -> str:
    records = ", ".join(f"{number:,} in {name}" for name, number in about["records"].items())
    kept_apart = " and ".join(about["isolated"])
    return (
        f"Set {about['name']} ({records} records), {about['regime']}; training and held-out records kept apart by "
        f"{kept_apart}; license {about['license'] or 'not stated'}."
    )


def _scores(history: Sequence[Mapping[str, Any]], scores: Sequence[Score], command: str | None) -> str:
    rows = [
        f"| held-out pairs of training ({STAGES[step['stage']][0]}) | {name} | {value:.4f} |"
        for step in history
        for name, value in step.get("scores", {}).items()
    ]
    rows += [f"| {score.task}, {score.split} | {score.metric} | {score.value:.4f} |" for score in scores]
    if not rows:
        return "None yet. `lbr evaluate` scores it on pairs of yours, `lbr benchmark` on public tests."
    how = f"\n\nmteb's by\n\n```\n{command}\n```" if scores and command else ""
    return "\n".join(["| on | what | score |", "| --- | --- | --- |", *rows]) + how


def _limits(about: Mapping[str, Any]) -> str:
    limits = [
        f"- Texts are cut after {about['max_seq_length']} tokens.",
        "- It knows the domain that it was taught. On others it may be worse than a general model, and keyword search "
        "(BM25) is a baseline worth measuring.",
        "- Embeddings can be turned back into much of their text: they are as confidential as what they are made of.",
    ]
    return "\n".join(limits)
