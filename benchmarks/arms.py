"""The stages of an arm of the evidence: a backbone, stage 1 on a budget of tokens, stage 2 on some pairs, scores.

Every program of the evidence trains and scores through these functions alone, so that two arms differ by what they ask
for and by nothing else. Models are kept in the work folder under names that say what they are, and made once.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import itertools
import random
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import foundation_medical
import numpy as np
import results
import torch
from domains import REGIMES, SPLITS, Domain, code_backbone_texts, prepare
from flags import program_parser, training_settings
from nano import NanoConfig, train_backbone
from sentence_transformers import SentenceTransformer
from transformers import AutoTokenizer

import lbr_st
from lbr_st.adaptation.scoring import Judge, fused
from lbr_st.data.records import read_records
from lbr_st.errors import InputError
from lbr_st.evaluation.fusion import DENSE_WEIGHT, AllScores
from lbr_st.evaluation.own_data import EncoderOfMteb, evaluate, local_task, open_for_evaluation
from lbr_st.files import sha256, write_jsonl
from lbr_st.learning.examples import ExampleMaker, build_examples
from lbr_st.learning.masked_model import CutOffModel
from lbr_st.learning.objectives import READ_PAIRS, Arm, fields_of, parse_objective
from lbr_st.model.gguf import gguf_file, write_directory
from lbr_st.model.opening import open_sentence_transformer
from lbr_st.quickstart.run import SMOLLM2, bf16_is_faster, smollm2
from lbr_st.training.held_out import NDCG, HeldOutEvaluator

Settings = Mapping[str, Any]  # of a stage, by the names of its configuration


@dataclass(frozen=True)
class Scale:
    """Sizes and settings that all arms share.

    Attributes:
        backbone: Model to start from, `SMOLLM2` out of its package; None trains a nano backbone that never saw the
            domain.
        nano: Settings of that training.
        length: Longest text in tokens.
        records: Training records of a domain, at the most.
        stage1_tokens: Tokens of X, Z and Y that stage 1 reads, padding not counted.
        stage1: Settings of stage 1.
        stage2: Settings of stage 2.
        epochs: Passes of stage 2, by its number of pairs.
        learning_rates: Learning rates of stage 2; the grid is these by `temperatures`.
        temperatures: Temperatures of stage 2.
    """

    backbone: str | None
    nano: Settings
    length: int
    records: int
    stage1_tokens: int
    stage1: Settings
    stage2: Settings
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
        nano={"learning_rate": 1e-3, "num_train_epochs": 1, "per_device_train_batch_size": 16},
        length=64,
        records=7000,
        stage1_tokens=1_000_000,
        stage1={"learning_rate": 5e-4, "per_device_train_batch_size": 32, "attention": "eager"},
        stage2={"per_device_train_batch_size": 64, "attention": "eager"},
        epochs={200: 8, 1000: 4, 5000: 2},
        learning_rates=(3e-4, 1e-3),
    ),
    # A model that can read, on two cores.
    "smollm2": Scale(
        backbone=SMOLLM2,
        nano={},
        length=64,
        records=7000,
        stage1_tokens=100_000,
        stage1={
            "learning_rate": 4e-4,
            "per_device_train_batch_size": 8,
            "gradient_accumulation_steps": 4,
            "attention": "eager",
            # A step of like lengths is nearly one objective of a mixture; in few steps all should have their shares.
            "train_sampling_strategy": "random",
        },
        stage2={"per_device_train_batch_size": 32, "mini_batch_size": 16, "attention": "eager"},
        epochs={200: 2, 1000: 1},
        learning_rates=(1e-4, 2e-4),
        temperatures=(0.02,),
    ),
    # For those with GPUs: as many samples of stage 1 as the paper has, where the domain has them.
    "paper": Scale(
        backbone="Qwen/Qwen2-1.5B",
        nano={},
        length=512,
        records=150_000,
        stage1_tokens=150_000 * 512,
        stage1={"learning_rate": 2e-5, "per_device_train_batch_size": 32, "warmup_steps": 0.05},
        stage2={"per_device_train_batch_size": 64, "mini_batch_size": 16, "warmup_steps": 0.05},
        epochs={200: 10, 1000: 5, 5000: 2},
        learning_rates=(1e-5, 3e-5),
    ),
}

CODE_CHARACTERS = 17_400_000  # as many as the general backbone reads
PREFIX_SHARE = (0.2, 0.8)


@dataclass(frozen=True)
class Stage1:
    """What stage 1 of an arm is.

    Attributes:
        objective: Objective, or a mixture.
        arm: The method, or a control.
        compression_ratio: Tokens of X to a bottleneck token; None is one bottleneck token for any X.
        more: Settings beside these, which come last.
        training_model: What computes the loss, see `lbr_st.learn`.
    """

    objective: str
    arm: Arm = Arm.CUT_OFF
    compression_ratio: float | None = None
    more: Settings = field(default_factory=dict)
    training_model: Callable[..., CutOffModel] = CutOffModel

    @property
    def settings(self) -> dict[str, Any]:
        """Settings of `lbr_st.LearnConfig`."""
        found: dict[str, Any] = {"objective": self.objective, "arm": self.arm}
        if "prefix-suffix" in self.objective:
            found["prefix_share"] = list(PREFIX_SHARE)
        if self.compression_ratio is not None:
            found["compression_ratio"] = self.compression_ratio
        return {**found, **self.more}

    def files(self, domain: Domain, regime: str) -> dict[str, Path]:
        """Return what each objective reads."""
        objectives = parse_objective(self.objective)
        return {each: domain.stage1(regime, "pairs" if each in READ_PAIRS else "passages") for each in objectives}


PAPERS_LOSS = {"read_out_weight": 0.0}
READ_OUT = {"read_out_weight": 1.0}
MIXTURE = "sft:0.5,reconstruct:0.5"
# By the names of the thesis test and of the paper's tables.
STAGE1 = {
    "none": None,
    "pt": Stage1("reconstruct", Arm.PLAIN),
    "gl": Stage1("sft", Arm.PLAIN),
    "ibgl-sft": Stage1("sft", more=PAPERS_LOSS),
    "ibgl-reconstruct": Stage1("reconstruct", more=PAPERS_LOSS),
    "ibgl-prefix-suffix": Stage1("prefix-suffix", more=PAPERS_LOSS),
    "ibgl-mixture": Stage1(MIXTURE, more=PAPERS_LOSS),
    "ibgl-read-out": Stage1(MIXTURE, more=READ_OUT),
    "no-cut-off": Stage1(MIXTURE, Arm.NO_CUT_OFF, more=READ_OUT),
}


def stage1_of(name: str) -> Stage1:
    """Return what stage 1 of an arm is that has one."""
    stage = STAGE1[name]
    assert stage is not None, name
    return stage


@dataclass(frozen=True)
class Lab:
    """Where an experiment is run, and with what.

    Attributes:
        scale: Sizes and settings.
        work: Folder of the models.
        training: What the user says of every training run.
    """

    scale: Scale
    work: Path
    training: Settings = field(default_factory=dict)

    def domain(self, name: str, data: Path | None) -> Domain:
        """Return a domain; its files are written once."""
        return prepare(name, data, self.work / name, max(self.scale.epochs), self.scale.records)

    def backbone(self, domain: Domain) -> Path | str:
        """Return the backbone of a domain; a nano one is trained on text that has nothing to do with it, once."""
        if self.scale.backbone == SMOLLM2:
            folder = self.work / f"backbone-{SMOLLM2}"
            if not folder.is_dir():
                file = gguf_file(smollm2())
                assert file is not None
                write_directory(file, folder)
            return folder
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
        settings = {**self.scale.nano, **self.training}
        train_backbone(NanoConfig(text=[str(text)], output_dir=str(folder), resume=True, **settings))
        return folder

    def stage1(self, domain: Domain, regime: str, name: str, seed: int, like: Stage1 | None = None) -> Path | str:
        """Return the model of stage 1; the backbone for ``none``.

        Args:
            domain: The domain.
            regime: One of `domains.REGIMES`.
            name: One of `STAGE1`, or the name of the model's folder where ``like`` is given.
            seed: Seed of everything that is drawn.
            like: What stage 1 is, where it is none of `STAGE1`.
        """
        stage, backbone = like or STAGE1[name], self.backbone(domain)
        if stage is None:
            return backbone
        output = self.stage1_folder(domain, regime, name, seed)
        files = stage.files(domain, regime)
        data = [f"{each}={file}" for each, file in files.items()] if len(files) > 1 else [str(*files.values())]
        settings: dict[str, Any] = {
            "max_length": self.scale.length,
            "max_steps": self.stage1_steps(domain, regime, stage),
            "seed": seed,
            "save_strategy": "no",
            **self.scale.stage1,
            **stage.settings,
            **self.training,
        }
        config = lbr_st.LearnConfig(model=str(backbone), data=data, output_dir=str(output), resume=True, **settings)
        read: list[list[int]] = []
        lbr_st.learn(config, partial(_remembering, stage.training_model, read))
        if read:  # nothing of a model that is there already
            tokenizer = AutoTokenizer.from_pretrained(str(output))
            write_jsonl(read_by(output), ({"text": text} for text in tokenizer.batch_decode(read)))
        return output

    def stage1_folder(self, domain: Domain, regime: str, name: str, seed: int) -> Path:
        """Return the folder of a model of stage 1."""
        return self.work / domain.name / f"{regime}-{name}-seed{seed}"

    def stage1_steps(self, domain: Domain, regime: str, stage: Stage1) -> int:
        """Return how many steps read the budget of tokens, by the mean length of 1,000 examples drawn at random."""
        lengths = {
            each: _mean_length(
                str(self.backbone(domain)), self.scale.length, file, each, stage.arm, stage.compression_ratio
            )
            for each, file in stage.files(domain, regime).items()
        }
        mean = sum(share * lengths[each] for each, share in parse_objective(stage.objective).items())
        accumulated = self.scale.stage1.get("gradient_accumulation_steps", 1)
        batch = self.scale.stage1["per_device_train_batch_size"] * accumulated
        return max(1, round(self.scale.stage1_tokens / (mean * batch)))

    def stage2(
        self,
        domain: Domain,
        model: Path | str,
        name: str,
        pairs: int,
        setting: tuple[float, float],
        seed: int,
        more: Settings | None = None,
    ) -> Path:
        """Align a model on the first ``pairs`` pairs of the domain.

        Args:
            domain: The domain.
            model: What stage 1 returned.
            name: Name of the folder of the model.
            pairs: Number of pairs.
            setting: Learning rate and temperature.
            seed: Seed of the batches.
            more: Settings beside those of the scale.
        """
        output = self.work / domain.name / "stage2" / name
        data = self.work / domain.name / f"pairs-{pairs}.jsonl"
        if not data.is_file():
            write_jsonl(data, read_records(domain.pairs)[:pairs])
        learning_rate, temperature = setting
        settings: dict[str, Any] = {
            "max_length": self.scale.length,
            "seed": seed,
            "save_strategy": "no",
            "learning_rate": learning_rate,
            "temperature": temperature,
            "num_train_epochs": self.scale.epochs[pairs],
            **self.scale.stage2,
            **(more or {}),
            **self.training,
        }
        config = lbr_st.AlignConfig(model=str(model), data=str(data), output_dir=str(output), resume=True, **settings)
        lbr_st.align(config)
        return output

    def choose(
        self, domain: Domain, model: Path | str, name: str, pairs: int, distractors: int | None = None
    ) -> tuple[tuple[float, float], dict[str, float]]:
        """Return the setting of stage 2 that is best on dev by nDCG@10, and the scores of all of the grid.

        Seed 0; dev is searched as `dev_score` does. A grid of one setting is not scored.
        """
        if len(self.scale.grid) == 1:
            return self.scale.grid[0], {}
        scores = {}
        for setting in self.scale.grid:
            trained = self.stage2(domain, model, f"grid-{name}-{setting[0]}-{setting[1]}", pairs, setting, 0)
            scores[setting] = dev_score(trained, domain, distractors)
            shutil.rmtree(trained)
        best = max(scores, key=lambda setting: scores[setting])
        return best, {f"lr {rate} tau {temperature}": score for (rate, temperature), score in scores.items()}

    def tuned(self, domain: Domain, model: Path | str, name: str, pairs: int) -> dict[str, Any]:
        """Choose the setting of stage 2 for a model, align the model with it (seed 0), and return its scores too."""
        setting, scores = self.choose(domain, model, name, pairs)
        trained = self.stage2(domain, model, name, pairs, setting, 0)
        found = score(open_to_score(trained), domain)
        shutil.rmtree(trained)
        return {**found, "setting": setting, "dev_ndcg_at_10": scores}


@dataclass(frozen=True)
class Asked:
    """What a program of the evidence was asked for.

    Attributes:
        argv: Its command line; None is that of the process.
        data: Folder with ``medical`` and ``chemistry``.
        domains: Domains to measure.
        all_domains: Whether these are all that it knows.
        regimes: Regimes of stage 1 to measure.
        scale: One of `SCALES`.
        chosen: All arguments, those of the program among them.
    """

    argv: Sequence[str] | None
    data: Path | None
    domains: Sequence[str]
    all_domains: bool
    regimes: Sequence[str]
    scale: str
    chosen: argparse.Namespace


def begin(
    argv: Sequence[str] | None,
    about: str | None,
    of: Sequence[str],
    regimes: bool = False,
    scale: str = "nano",
    parser: argparse.ArgumentParser | None = None,
) -> tuple[Asked, Lab, dict[str, Any]]:
    """Read the arguments that all programs of the evidence have; what they do not know is for every training run.

    Args:
        argv: Command line of the program; None is that of the process.
        about: Docstring of the program.
        of: Domains that it knows.
        regimes: Whether some of the regimes can be asked for too.
        scale: Scale that is the default.
        parser: Parser of what the program alone has; default is nothing.

    Returns:
        What was asked for, where arms are run, and the settings that their result files carry.

    Raises:
        InputError: If the data is not there, or an argument is unknown.
    """
    parser = parser or program_parser(about)
    parser.add_argument("--data", type=Path, help="folder with medical and chemistry, each train, dev and test.jsonl")
    parser.add_argument("--domains", nargs="+", choices=of, default=of, help="(default: all, and their summary)")
    if regimes:
        parser.add_argument("--regimes", nargs="+", choices=REGIMES, help="(default: both)")
    parser.add_argument("--scale", choices=SCALES, default=scale, help="paper: for a GPU (default: %(default)s)")
    parser.add_argument("--backbone", help="language model to start from (default: that of the scale)")
    parser.add_argument("--work-dir", type=Path, help="models and data (default: runs/evidence/SCALE)")
    args, flags = parser.parse_known_args(argv)
    asked = Asked(
        argv,
        args.data,
        args.domains,
        set(args.domains) == set(of),
        getattr(args, "regimes", None) or REGIMES,
        args.scale,
        args,
    )
    sizes = SCALES[args.scale]
    if args.backbone is not None:
        sizes = dataclasses.replace(sizes, backbone=args.backbone)
    # Scales differ in what the files of a domain hold.
    work = Path("runs", "evidence", args.scale) if args.work_dir is None else args.work_dir
    lab = Lab(sizes, work, training_settings(flags))
    settings = {"flags": flags, "scale": args.scale, "backbone": sizes.backbone}
    if files := _data_files(asked):
        settings["data_sha256"] = sha256(files)
    results.conditions()
    return asked, lab, settings


def _data_files(asked: Asked) -> list[Path]:
    """Return the files of the domains that are read from a folder.

    Raises:
        InputError: If one is missing.
    """
    if asked.data is None and set(asked.domains) & {"medical", "chemistry"}:
        raise InputError("--data is needed: a folder with medical and chemistry")
    names = itertools.product(("medical", "chemistry"), SPLITS) if asked.data else ()
    files = [Path(asked.data or "", name, f"{split}.jsonl") for name, split in names]
    if missing := [file for file in files if not file.is_file()]:
        raise InputError(f"{missing[0]}: no such file")
    return files


def write_summary(program: str, asked: Asked, figures: dict[str, float], files: Sequence[dict[str, Any]]) -> None:
    """Write the summary of a program, if it was run for all of its domains."""
    if asked.all_domains:
        results.write_summary(program, figures, files, asked.argv)
    else:
        print("The summary is written by a run for all domains")


def read_by(stage1: Path) -> Path:
    """Return the file of the texts that a model of stage 1 has read, one a row of its batches, special tokens too."""
    return stage1.with_name(f"{stage1.name}-read.jsonl")


def _remembering(training_model: Callable[..., CutOffModel], read: list[list[int]], *args: Any, **more: Any) -> Any:
    """Return what computes the loss of stage 1, and adds the tokens of each row that it trains on to a list."""
    made = training_model(*args, **more)

    def remember(module: torch.nn.Module, _: Any, inputs: dict[str, Any]) -> None:
        if module.training:
            read.extend(inputs["input_ids"].tolist())

    made.register_forward_pre_hook(remember, with_kwargs=True)
    return made


@functools.cache
def _mean_length(backbone: str, length: int, file: Path, objective: str, arm: Arm, ratio: float | None) -> float:
    tokens = 1 if ratio is None else None
    model = lbr_st.from_backbone(backbone, num_bottleneck_tokens=tokens, max_seq_length=length, compression_ratio=ratio)
    records = read_records(file, fields_of(objective))
    records = random.Random(0).sample(records, min(1000, len(records)))
    examples = build_examples(records, ExampleMaker(model, objective, arm, PREFIX_SHARE))
    return float(np.mean([len(ids) for ids in examples["input_ids"]]))


def dev_score(model: Path, domain: Domain, distractors: int | None = None) -> float:
    """Return nDCG@10 of the dev queries, in their own documents and the first of `Domain.dev_corpus`.

    Args:
        model: Directory of an embedding model.
        domain: The domain.
        distractors: Number of these documents; default is all.
    """
    corpus = read_records(domain.dev_corpus, ("document",))[:distractors]
    evaluator = HeldOutEvaluator(read_records(domain.dev), corpus, batch_size=128)
    return round(evaluator(half(open_sentence_transformer(str(model))))[NDCG], 4)


def open_to_score(model: Path | str) -> Any:
    """Open a model for mteb, see `half`."""
    opened = open_for_evaluation(str(model))
    half(opened.model)
    return opened


def half(model: Any) -> Any:
    """Return a model in bf16 where that is faster; embeddings come out in float32."""
    return model.to(torch.bfloat16) if torch.cuda.is_available() or _bf16_is_faster() else model


@functools.cache
def _bf16_is_faster() -> bool:
    return bf16_is_faster()


def score(
    model: Any,
    domain: Domain,
    lexical: AllScores | None = None,
    corpora: Mapping[str, Path | None] | None = None,
    tested: int | None = None,
) -> dict[str, Any]:
    """Score a model on the test queries by mteb's search; of documents with equal scores the right one comes last.

    Args:
        model: What mteb takes.
        domain: The domain.
        lexical: BM25, to score both together too; see `lbr_st.evaluation.fusion`.
        corpora: For each corpus, by its name, the documents that join those of test. Default is none of ``test``, and
            those of all training records in ``full``.
        tested: Number of test queries, the first ones; default is all.

    Returns:
        ``scores``, recall@10 and nDCG@10 by corpus, and ``hits_at_10``: for each query in order, whether its document
        is among the first ten, a text of 0 and 1 by corpus. Of both together the corpus is called ``CORPUS_fused``.
    """
    scores: dict[str, float] = {}
    hits: dict[str, str] = {}
    test = domain.test
    if tested is not None:
        test = domain.folder / f"test-{tested}.jsonl"
        if not test.is_file():
            write_jsonl(test, read_records(domain.test)[:tested])
    for corpus, extra in (corpora or {"test": None, "full": domain.full}).items():
        judge = Judge(local_task(test, extra))
        dense = judge.scores(EncoderOfMteb(model) if isinstance(model, SentenceTransformer) else model)
        systems = {corpus: dense.scores}
        if lexical is not None:
            evaluate(lexical, judge.task)
            systems[f"{corpus}_fused"] = fused(dense, lexical, DENSE_WEIGHT)
        for name, each in systems.items():
            found = judge.found(dense.queries, each)
            values = {"recall_at_10": float(found.recall.mean()), "ndcg_at_10": found.ndcg}
            scores |= {f"{metric}_{name}": round(value, 5) for metric, value in values.items()}
            of_query = dict(zip(dense.queries, found.recall, strict=True))
            hits[name] = "".join("01"[int(of_query[id_])] for id_ in judge.task.queries.values())
    return {"scores": scores, "hits_at_10": hits}


def hits_of(found: Sequence[dict[str, Any]], corpus: str = "full") -> np.ndarray:
    """Return whether each test query was answered in a corpus, ``(results, queries)``, of what `score` gave."""
    return np.array([[int(hit) for hit in result["hits_at_10"][corpus]] for result in found])


def if_measured(program: str, name: str, seed: int, settings: dict[str, Any]) -> dict[str, Any] | None:
    """Return the result of an arm if it is there."""
    return results.read_arm(program, name, seed) if results.is_measured(program, name, seed, settings) else None


def measured(program: str, name: str, seed: int, settings: dict[str, Any], run: Callable[[], dict[str, Any]]) -> Any:
    """Return the result of an arm, which is run if it was not; its file is written when it is done."""
    if not results.is_measured(program, name, seed, settings):
        start = time.monotonic()
        found = run()
        minutes = round((time.monotonic() - start) / 60, 2)
        results.write_arm(program, name, seed, {**found, "minutes": minutes, "settings": settings})
    return results.read_arm(program, name, seed)


def all_if_measured(program: str, arms: Sequence[tuple[str, int]], settings: dict[str, Any]) -> list[Any] | None:
    """Return the results of arms, by name and seed, if all are there; else print which are missing."""
    missing = [f"{name}, seed {seed}" for name, seed in arms if if_measured(program, name, seed, settings) is None]
    if missing:
        print(f"no summary yet; not measured: {'; '.join(missing)}")
        return None
    return [results.read_arm(program, name, seed) for name, seed in arms]
