"""The stages of an arm of the evidence: a backbone, stage 1 on a budget of tokens, stage 2 on some pairs, scores.

Every program of the evidence trains and scores through these functions alone, so that two arms differ by what they ask
for and by nothing else. Models are kept in the work folder under names that say what they are, and made once.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import itertools
import json
import random
import shlex
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import foundation_medical
import numpy as np
import results
import torch
from domains import REGIMES, SPLITS, Domain, code_backbone_texts, prepare

import lbr_st
from lbr_st.alignment import run as grcl
from lbr_st.data.records import read_records
from lbr_st.errors import InputError
from lbr_st.evaluation import own_data as evaluation
from lbr_st.files import sha256, write_jsonl
from lbr_st.learning import run as ibgl
from lbr_st.learning.objectives import READ_PAIRS, build_examples, fields_of, parse_objective
from lbr_st.model.opening import open_sentence_transformer
from lbr_st.quickstart import nano
from lbr_st.training.held_out import NDCG, HeldOutEvaluator


@dataclass(frozen=True)
class Scale:
    """Sizes and settings that all arms share.

    Attributes:
        backbone: Model to start from; None trains a nano backbone that never saw the domain.
        nano: Arguments of that.
        length: Longest text in tokens.
        records: Training records of a domain, at the most.
        stage1_tokens: Tokens of X, Z and Y that stage 1 reads, padding not counted.
        stage1: Arguments of stage 1.
        stage2: Arguments of stage 2.
        epochs: Of stage 2, by its number of pairs.
        learning_rates: Of stage 2; the grid is these by `temperatures`.
        temperatures: Of stage 2.
    """

    backbone: str | None
    nano: str
    length: int
    records: int
    stage1_tokens: int
    stage1: str
    stage2: str
    epochs: dict[int, int]
    learning_rates: tuple[float, ...]
    temperatures: tuple[float, ...] = (0.02, 0.05)

    @property
    def grid(self) -> list[tuple[float, float]]:
        """Learning rates by temperatures."""
        return list(itertools.product(self.learning_rates, self.temperatures))


SCALES = {
    "nano": Scale(
        backbone=None,
        nano="--learning-rate 1e-3 --num-train-epochs 1 --per-device-train-batch-size 16",
        length=64,
        records=7000,
        stage1_tokens=1_000_000,
        stage1="--learning-rate 5e-4 --per-device-train-batch-size 32 --attention eager",
        stage2="--per-device-train-batch-size 64 --attention eager",
        epochs={200: 8, 1000: 4, 5000: 2},
        learning_rates=(3e-4, 1e-3),
    ),
    # For those with GPUs: as many samples of stage 1 as the paper has, where the domain has them.
    "paper": Scale(
        backbone="Qwen/Qwen2-1.5B",
        nano="",
        length=512,
        records=150_000,
        stage1_tokens=150_000 * 512,
        stage1="--learning-rate 2e-5 --per-device-train-batch-size 32 --warmup-steps 0.05",
        stage2="--per-device-train-batch-size 64 --mini-batch-size 16 --warmup-steps 0.05",
        epochs={200: 10, 1000: 5, 5000: 2},
        learning_rates=(1e-5, 3e-5),
    ),
}

CODE_CHARACTERS = 17_400_000  # as many as the general backbone reads


@dataclass(frozen=True)
class Stage1:
    """What stage 1 of an arm is.

    Attributes:
        objective: As ``train_ibgl.py`` takes it.
        bottleneck: False for the control arms.
        compression_ratio: Tokens of X to a bottleneck token; None is one bottleneck token for any X.
        more: Arguments of ``train_ibgl.py`` beside these, which come last.
    """

    objective: str
    bottleneck: bool = True
    compression_ratio: float | None = None
    more: str = ""

    @property
    def flags(self) -> list[str]:
        """Arguments of ``train_ibgl.py``."""
        flags = ["--objective", self.objective, "--prefix-share", "0.2", "0.8"]
        if "prefix-suffix" not in self.objective:
            flags = flags[:2]
        if self.compression_ratio is not None:
            flags += ["--compression-ratio", str(self.compression_ratio)]
        return flags if self.bottleneck else [*flags, "--no-bottleneck"]

    def files(self, domain: Domain, regime: str) -> dict[str, Path]:
        """Return what each objective reads."""
        objectives = parse_objective(self.objective)
        return {each: domain.stage1(regime, "pairs" if each in READ_PAIRS else "passages") for each in objectives}


PAPERS_LOSS = "--read-out-weight 0"
# By the names of the thesis test and of the paper's tables.
STAGE1 = {
    "none": None,
    "pt": Stage1("reconstruct", bottleneck=False),
    "gl": Stage1("sft", bottleneck=False),
    "ibgl-sft": Stage1("sft", more=PAPERS_LOSS),
    "ibgl-reconstruct": Stage1("reconstruct", more=PAPERS_LOSS),
    "ibgl-prefix-suffix": Stage1("prefix-suffix", more=PAPERS_LOSS),
    "ibgl-mixture": Stage1("sft:0.5,reconstruct:0.5", more=PAPERS_LOSS),
    "ibgl-read-out": Stage1("sft:0.5,reconstruct:0.5", more="--read-out-weight 1"),
    "no-cut-off": Stage1("sft:0.5,reconstruct:0.5", more="--read-out-weight 1 --no-cut-off"),
}


@dataclass(frozen=True)
class Lab:
    """Where an experiment is run, and with what.

    Attributes:
        scale: Sizes and settings.
        work: Folder of the models.
        flags: Arguments of the user for every training run, such as ``--bf16``.
    """

    scale: Scale
    work: Path
    flags: tuple[str, ...] = ()

    def domain(self, name: str, data: Path | None) -> Domain:
        """Return a domain; its files are written once."""
        return prepare(name, data, self.work / name, max(self.scale.epochs), self.scale.records)

    def backbone(self, domain: Domain) -> Path | str:
        """Return the backbone of a domain; a nano one is trained on text that has nothing to do with it, once."""
        if self.scale.backbone is not None:
            return self.scale.backbone
        of = "code" if domain.name == "code" else "general"
        folder = self.work / f"backbone-{of}"
        text = self.work / f"{folder.name}.jsonl"
        if not text.is_file():
            self.work.mkdir(parents=True, exist_ok=True)
            if of == "code":
                write_jsonl(text, ({"text": each} for each in code_backbone_texts(CODE_CHARACTERS)))
            else:
                foundation_medical.write_general_text(text)
        args = ["--text", str(text), "--output-dir", str(folder), "--resume"]
        nano.main([*args, *shlex.split(self.scale.nano), *self.flags])
        return folder

    def stage1(self, domain: Domain, regime: str, name: str, seed: int, like: Stage1 | None = None) -> Path | str:
        """Return the model of stage 1; the backbone for ``none``.

        Args:
            domain: The domain.
            regime: One of `domains.REGIMES`.
            name: One of `STAGE1`, or of the folder of the model where ``like`` is given.
            seed: Of everything that is drawn.
            like: What stage 1 is, where it is none of `STAGE1`.
        """
        stage, backbone = like or STAGE1[name], self.backbone(domain)
        if stage is None:
            return backbone
        output = self.work / domain.name / f"{regime}-{name}-seed{seed}"
        files = stage.files(domain, regime)
        data = [f"{each}={file}" for each, file in files.items()] if len(files) > 1 else [str(*files.values())]
        steps = self.stage1_steps(domain, regime, stage)
        args = ["--model", str(backbone), "--data", *data, "--output-dir", str(output), "--resume"]
        args += ["--max-length", str(self.scale.length), "--max-steps", str(steps), "--seed", str(seed)]
        settings = [*shlex.split(self.scale.stage1), *stage.flags, *shlex.split(stage.more)]
        ibgl.main([*args, *settings, "--save-strategy", "no", *self.flags])
        return output

    def stage1_steps(self, domain: Domain, regime: str, stage: Stage1) -> int:
        """Return how many steps read the budget of tokens, by the mean length of 1,000 examples drawn at random."""
        lengths = {
            each: _mean_length(str(self.backbone(domain)), self.scale.length, file, each, stage)
            for each, file in stage.files(domain, regime).items()
        }
        mean = sum(share * lengths[each] for each, share in parse_objective(stage.objective).items())
        batch = int(value_of(self.scale.stage1, "--per-device-train-batch-size"))
        return max(1, round(self.scale.stage1_tokens / (mean * batch)))

    def stage2(
        self,
        domain: Domain,
        model: Path | str,
        name: str,
        pairs: int,
        setting: tuple[float, float],
        seed: int,
        flags: Sequence[str] = (),
    ) -> Path:
        """Align a model on the first ``pairs`` pairs of the domain.

        Args:
            domain: The domain.
            model: What stage 1 returned.
            name: Of the folder of the model.
            pairs: How many.
            setting: Learning rate and temperature.
            seed: Of the batches.
            flags: More arguments of ``train_grcl.py``.
        """
        output = self.work / domain.name / "stage2" / name
        data = self.work / domain.name / f"pairs-{pairs}.jsonl"
        if not data.is_file():
            write_jsonl(data, read_records(domain.pairs)[:pairs])
        learning_rate, temperature = setting
        args = ["--model", str(model), "--data", str(data), "--output-dir", str(output), "--resume"]
        args += ["--max-length", str(self.scale.length), "--seed", str(seed), "--save-strategy", "no"]
        args += ["--learning-rate", str(learning_rate), "--temperature", str(temperature)]
        args += ["--num-train-epochs", str(self.scale.epochs[pairs])]
        grcl.main([*args, *shlex.split(self.scale.stage2), *flags, *self.flags])
        return output

    def choose(
        self, domain: Domain, model: Path | str, name: str, pairs: int, flags: Sequence[str] = ()
    ) -> tuple[tuple[float, float], dict[str, float]]:
        """Return the setting of stage 2 that is best on dev by nDCG@10, and the scores of all of the grid.

        Seed 0; dev is searched in its own documents and `Domain.dev_corpus`. A grid of one setting is not scored.
        """
        if len(self.scale.grid) == 1:
            return self.scale.grid[0], {}
        scores = {}
        for setting in self.scale.grid:
            trained = self.stage2(domain, model, f"grid-{name}-{setting[0]}-{setting[1]}", pairs, setting, 0, flags)
            scores[setting] = dev_score(trained, domain)
            shutil.rmtree(trained)
        best = max(scores, key=lambda setting: scores[setting])
        return best, {f"lr {rate} tau {temperature}": score for (rate, temperature), score in scores.items()}

    def tuned(
        self, domain: Domain, model: Path | str, name: str, pairs: int, flags: Sequence[str] = ()
    ) -> dict[str, Any]:
        """Choose the setting of stage 2 for a model, align the model with it (seed 0), and return its scores too."""
        setting, scores = self.choose(domain, model, name, pairs, flags)
        trained = self.stage2(domain, model, name, pairs, setting, 0, flags)
        found = score(open_to_score(trained), domain, self.work / domain.name)
        shutil.rmtree(trained)
        return {**found, "setting": setting, "dev_ndcg_at_10": scores}


def begin(
    argv: Sequence[str] | None, about: str | None, of: Sequence[str], regimes: bool = False
) -> tuple[argparse.Namespace, Lab, dict[str, Any]]:
    """Read the arguments that all programs of the evidence have; what they do not know goes to every training run.

    Args:
        argv: Of the command line.
        about: The program's docstring.
        of: Domains that it knows.
        regimes: Some of them can be asked for too.

    Returns:
        The arguments, where arms are run, and the settings that their result files carry.

    Raises:
        InputError: If the data is not there.
    """
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with medical and chemistry, each train, dev and test.jsonl")
    parser.add_argument("--domains", nargs="+", choices=of, default=of, help="(default: all, and their summary)")
    if regimes:
        parser.add_argument("--regimes", nargs="+", choices=REGIMES, default=REGIMES, help="(default: both)")
    parser.add_argument("--scale", choices=SCALES, default="nano", help="paper: for a GPU (default: %(default)s)")
    parser.add_argument("--backbone", help="language model to start from (default: that of the scale)")
    parser.add_argument("--work-dir", type=Path, default=Path("runs") / "evidence", help="models and mteb's files")
    args, flags = parser.parse_known_args(argv)
    args.all_domains = set(args.domains) == set(of)
    results.conditions()
    return args, *_open_lab(args, flags)


def _open_lab(args: argparse.Namespace, flags: Sequence[str]) -> tuple[Lab, dict[str, Any]]:
    """Return where arms are run, and the settings that their result files carry.

    Raises:
        InputError: If the data is not there.
    """
    if args.data is None and set(args.domains) & {"medical", "chemistry"}:
        raise InputError("--data is needed: a folder with medical and chemistry")
    names = itertools.product(("medical", "chemistry"), SPLITS) if args.data else ()
    files = [args.data / name / f"{split}.jsonl" for name, split in names]
    if missing := [file for file in files if not file.is_file()]:
        raise InputError(f"{missing[0]}: no such file")
    scale = SCALES[args.scale]
    if args.backbone is not None:
        scale = dataclasses.replace(scale, backbone=args.backbone)
    settings = {"flags": list(flags), "scale": args.scale, "backbone": scale.backbone}
    return Lab(scale, args.work_dir, tuple(flags)), settings | ({"data_sha256": sha256(files)} if files else {})


def write_summary(
    program: str,
    args: argparse.Namespace,
    figures: dict[str, float],
    files: Sequence[dict[str, Any]],
    argv: Sequence[str] | None,
) -> None:
    """Write the summary of a program, if it was run for all of its domains."""
    if args.all_domains:
        results.write_summary(program, figures, files, argv)
    else:
        print("The summary is written by a run for all domains")


def value_of(flags: str, name: str) -> str:
    """Return the value of an argument in a line of arguments."""
    words = shlex.split(flags)
    return words[words.index(name) + 1]


@functools.cache
def _mean_length(backbone: str, length: int, file: Path, objective: str, stage: Stage1) -> float:
    ratio = stage.compression_ratio
    tokens = 1 if ratio is None else None
    model = lbr_st.from_backbone(backbone, num_bottleneck_tokens=tokens, max_seq_length=length, compression_ratio=ratio)
    records = read_records(file, fields_of(objective))
    records = random.Random(0).sample(records, min(1000, len(records)))
    examples = build_examples(records, model, objective, bottleneck=stage.bottleneck, prefix_share=(0.2, 0.8))
    return float(np.mean([len(ids) for ids in examples["input_ids"]]))


def dev_score(model: Path, domain: Domain) -> float:
    """Return nDCG@10 of the dev queries, in their own documents and `Domain.dev_corpus`."""
    corpus = read_records(domain.dev_corpus, ("document",))
    evaluator = HeldOutEvaluator(read_records(domain.dev), corpus, batch_size=128)
    return round(evaluator(half(open_sentence_transformer(str(model))))[NDCG], 4)


def open_to_score(model: Path) -> Any:
    """Open a trained model for mteb, in bf16."""
    opened = evaluation.open_for_evaluation(str(model))
    half(opened.model)
    return opened


def half(model: Any) -> Any:
    """Return a model in bf16: encoding takes half of the time, and embeddings come out in float32."""
    return model.to(torch.bfloat16)


def score(model: Any, domain: Domain, work: Path) -> dict[str, Any]:
    """Score a model on the test queries with mteb, in the test documents and in the full corpus.

    Args:
        model: What mteb takes.
        domain: The domain.
        work: Folder for mteb's files.

    Returns:
        ``scores``, recall@10 and nDCG@10 by corpus, and ``hits_at_10``: for each query in order, whether its document
        is among the first ten, a text of 0 and 1 by corpus.
    """
    scores: dict[str, float] = {}
    hits: dict[str, str] = {}
    for corpus, extra in (("test", None), ("full", domain.full)):
        task = evaluation.local_task(domain.test, extra)
        name, queries = task.metadata.name, task.queries
        relevant = {task.queries[r["query"]]: task.documents[r["document"]] for r in task.records}
        with tempfile.TemporaryDirectory() as folder:
            found = evaluation.evaluate(model, task, work / "mteb", batch_size=128, predictions=Path(folder))
            file = Path(folder, f"{name}_predictions.json")
            ranked = json.loads(file.read_text(encoding="utf-8"))["default"]["test"]
        scores |= {f"{metric}_{corpus}": found[metric] for metric in ("recall_at_10", "ndcg_at_10")}
        is_hit = [relevant[id_] in _first(ranked[id_], 10) for id_ in queries.values()]
        assert abs(np.mean(is_hit) - found["recall_at_10"]) < 1e-4, (np.mean(is_hit), found["recall_at_10"])
        hits[corpus] = "".join("01"[hit] for hit in is_hit)
    return {"scores": scores, "hits_at_10": hits}


def _first(ranked: dict[str, float], number: int) -> set[str]:
    # trec_eval, which mteb asks, puts the later id first where scores are equal.
    return set(sorted(ranked, key=lambda id_: (ranked[id_], id_), reverse=True)[:number])


def hits_of(found: Sequence[dict[str, Any]]) -> np.ndarray:
    """Return whether each test query was answered in the full corpus, ``(results, queries)``, of what `score` gave."""
    return np.array([[int(hit) for hit in result["hits_at_10"]["full"]] for result in found])


def measured(program: str, name: str, seed: int, settings: dict[str, Any], run: Callable[[], dict[str, Any]]) -> Any:
    """Return the result of an arm, which is run if it was not; its file is written when it is done."""
    if not results.is_measured(program, name, seed, settings):
        start = time.monotonic()
        found = run()
        minutes = round((time.monotonic() - start) / 60, 2)
        results.write_arm(program, name, seed, {**found, "minutes": minutes, "settings": settings})
    return results.read_arm(program, name, seed)
