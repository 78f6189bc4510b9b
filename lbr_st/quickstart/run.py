"""The whole path on what every machine has: the Python packages installed on it. No download, CPU is enough.

Each step leaves its result in the work folder and is skipped or resumed when the quickstart is started again.
"""

from __future__ import annotations

import json
import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lbr_st.alignment.config import AlignConfig
from lbr_st.alignment.run import align
from lbr_st.data.config import PrepareConfig
from lbr_st.data.parts import INSTALLED
from lbr_st.data.prepared_set import PreparedSet
from lbr_st.data.preparing import prepare
from lbr_st.data.records import read_passages
from lbr_st.evaluation.own_data import BM25, evaluate, local_task, open_for_evaluation
from lbr_st.files import write_json
from lbr_st.learning.config import LearnConfig
from lbr_st.learning.run import learn
from lbr_st.model.opening import open_sentence_transformer
from lbr_st.quickstart.nano import NanoConfig, train_backbone
from lbr_st.records import Record
from lbr_st.use.search import search

logger = logging.getLogger(__name__)

# Sized for some 20 minutes on one core, all steps together. Many small steps: a model of this size learns from the
# number of its updates.
TEST_PAIRS, DEV_PAIRS = 1000, 500
MAX_LENGTH, BLOCK_LENGTH = 64, 128
NANO_STEPS, STAGE1_STEPS, STAGE2_STEPS = 900, 600, 600
NANO_BATCH, STAGE1_BATCH, STAGE2_BATCH = 8, 16, 32
# A backbone trained for minutes takes larger steps than one trained for months.
NANO_RATE = 2e-3
STAGE_RATES = {"nano": (1e-3, 3e-4), "real": (2e-5, 2e-5)}
QUESTIONS = [
    "split a string into shell-like tokens",
    "compute the shortest path between two nodes of a graph",
    "parse a date written in ISO 8601 format",
]
STEPS = 6


@dataclass(frozen=True, kw_only=True)
class QuickstartConfig:
    """The settings of the quickstart.

    Attributes:
        backbone: Language model to start from, a directory or an id of the Hub; default is a nano one, trained here.
        baseline: Whether a model without stage 1 is trained and scored too.
        output_dir: Folder of the model; default is ``lbr-model``, with the name of the backbone where one is given.
        work_dir: Folder of everything else.
    """

    backbone: str | None = None
    baseline: bool = False
    output_dir: str | None = None
    work_dir: str | Path = "quickstart"

    @property
    def suffix(self) -> str:
        """End of the names of folders that belong to a backbone."""
        return f"-{Path(self.backbone).name}" if self.backbone else ""

    @property
    def model_dir(self) -> str:
        """Folder of the model."""
        return self.output_dir or f"lbr-model{self.suffix}"

    @property
    def domain_dir(self) -> Path:
        """Folder of the prepared set."""
        return Path(self.work_dir, "domain")


@dataclass(frozen=True)
class Outcome:
    """What the quickstart made.

    Attributes:
        config: Settings that it was made with.
        scores: Scores on the test by name, as `lbr_st.evaluate` returns them.
        queries: Number of test queries.
        documents: Number of documents that they are asked of.
        hits: Pairs of a cosine and a passage, best first, by question.
        minutes: Time it took.
    """

    config: QuickstartConfig
    scores: dict[str, dict[str, float]]
    queries: int
    documents: int
    hits: dict[str, list[tuple[float, Record]]]
    minutes: float


def quickstart(config: QuickstartConfig) -> Outcome:
    """Prepare a domain, train a model in both stages, score it, and search with it; started again, it goes on.

    Args:
        config: Settings.

    Raises:
        InputError: If the installed packages give too little text, or the backbone cannot be used.
    """
    start = time.perf_counter()
    bm25 = open_for_evaluation(BM25)  # says now, not after the training, if its extra is missing
    work = Path(config.work_dir)
    bf16 = choose_precision(work)
    rates = STAGE_RATES["real" if config.backbone else "nano"]

    _announce(1, "the domain: functions of the installed packages and their docstrings")
    domain = PreparedSet.open(config.domain_dir) if config.domain_dir.is_dir() else None
    if domain is None:
        domain = prepare(
            PrepareConfig(sources=[INSTALLED], output_dir=config.domain_dir, test=TEST_PAIRS, dev=DEV_PAIRS)
        )
    folder = str(domain.folder)

    backbone = config.backbone
    if backbone is None:
        _announce(2, "a nano backbone, trained from scratch on the text of the training packages")
        backbone = str(work / "backbone")
        training = training_settings(NANO_STEPS, NANO_BATCH, NANO_RATE, bf16)
        text = [domain.file("learn")]
        train_backbone(NanoConfig(text=text, output_dir=backbone, block_length=BLOCK_LENGTH, **training))

    _announce(3, "stage 1: the model learns the domain through a bottleneck token")
    learned = str(work / f"stage1{config.suffix}")
    training = training_settings(STAGE1_STEPS, STAGE1_BATCH, rates[0], bf16)
    learn(LearnConfig(model=backbone, data=[folder], output_dir=learned, max_length=MAX_LENGTH, **training))

    training = training_settings(STAGE2_STEPS, STAGE2_BATCH, rates[1], bf16) | {"max_length": MAX_LENGTH}
    _announce(4, "stage 2: the model is aligned with pairs")
    align(AlignConfig(model=learned, data=folder, output_dir=config.model_dir, **training))
    without = f"{config.model_dir}-no-stage1"
    if config.baseline:
        _announce(4, "the baseline: stage 2 alone, on the same backbone")
        align(AlignConfig(model=backbone, data=folder, output_dir=without, **training))

    _announce(5, "scores on packages it never saw, by mteb")
    task = local_task(domain.file("test"))
    models = {"BM25": bm25}
    if config.baseline:
        models["stage 2 alone"] = open_for_evaluation(without)
    models["stage 1 + stage 2"] = open_for_evaluation(config.model_dir)
    scores = {name: evaluate(model, task, results_dir=work / "results") for name, model in models.items()}

    _announce(6, "a search over your own installed code")
    dtype = torch.bfloat16 if bf16 else torch.float32
    model = open_sentence_transformer(config.model_dir, model_kwargs={"dtype": dtype})
    found = search(model, read_passages(domain.file("corpus")), QUESTIONS)
    hits = dict(zip(QUESTIONS, found, strict=True))
    return Outcome(config, scores, len(task.records), len(task.documents), hits, (time.perf_counter() - start) / 60)


def choose_precision(work_dir: Path) -> bool:
    """Return whether all trainings run in bfloat16; chosen once, as runs that are resumed must go on as they began."""
    path = work_dir / "precision.json"
    if not path.is_file():
        work_dir.mkdir(parents=True, exist_ok=True)
        write_json(path, {"bf16": torch.cuda.is_available() or bf16_is_faster()})
    return json.loads(path.read_text(encoding="utf-8"))["bf16"]


def bf16_is_faster() -> bool:
    """Time a matrix product in bfloat16 against float32: with AVX512-BF16 or AMX it is several times faster."""
    seconds = {}
    for dtype in (torch.float32, torch.bfloat16):
        a = torch.ones(1024, 1024, dtype=dtype)
        a @ a
        start = time.perf_counter()
        for _ in range(3):
            a @ a
        seconds[dtype] = time.perf_counter() - start
    return seconds[torch.bfloat16] < seconds[torch.float32]


def training_settings(steps: int, batch_size: int, learning_rate: float, bf16: bool) -> dict[str, Any]:
    """Return the settings that all trainings of the quickstart have."""
    return {
        "max_steps": steps,
        "per_device_train_batch_size": batch_size,
        "learning_rate": learning_rate,
        "bf16": bf16,
        "adam_beta2": 0.98,
        "save_steps": 200,
        "logging_steps": 50,
        "resume": True,
    }


def _announce(number: int, what: str) -> None:
    logger.info("\n[%d/%d] %s", number, STEPS, what)
