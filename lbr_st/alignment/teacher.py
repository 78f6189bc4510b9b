"""Teachers of stage 2: models opened, held against the student on the dev data, and asked once for all scores."""

from __future__ import annotations

import contextlib
import functools
import gc
import hashlib
import json
import logging
import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from safetensors.torch import load_file, save
from sentence_transformers import SentenceTransformer
from sentence_transformers.util import pairwise_dot_score, semantic_search
from torch import Tensor, nn
from torch.nn.functional import normalize
from tqdm import tqdm

from lbr_st.alignment.batches import LABEL
from lbr_st.alignment.config import AlignConfig
from lbr_st.alignment.distillation import lists_of
from lbr_st.errors import InputError, shortened
from lbr_st.files import parents_that_go, replacing
from lbr_st.model.contract import fingerprint
from lbr_st.model.lengths import saying_what_is_longer
from lbr_st.model.named import check_embedder_exists, check_is_found
from lbr_st.model.opening import open_cross_encoder, open_sentence_transformer
from lbr_st.model.precision import autocast_dtype, computing_in
from lbr_st.model.similarity import compare_by_cosine
from lbr_st.records import Record
from lbr_st.training.held_out import NDCG, HeldOutEvaluator

if TYPE_CHECKING:
    from datasets import Dataset

logger = logging.getLogger(__name__)

# A reranker reads each pair whole: of so many dev queries it reorders so many documents.
MOST_QUERIES, FIRST = 200, 20
# Answers in a file: a run that is killed asks again for no more than these.
PART = 512
SAMPLE = 64  # texts that a dry run asks for

Item = tuple[str, str]


class Teacher(ABC):
    """A model whose scores a student learns.

    Args:
        config: Settings of the stage.

    Attributes:
        flag: Flag it was given with.
        name: Directory or Hub id.
        in_batch: Whether it scores any query of a batch with any document of it.
        shape: Shape of an answer that says nothing.
    """

    flag: ClassVar[str]
    in_batch: ClassVar[bool]
    shape: ClassVar[tuple[int, ...]]

    def __init__(self, config: AlignConfig) -> None:
        name = getattr(config, self.flag.removeprefix("--"))
        assert name is not None
        self.name: str = name
        self.config = config
        check_exists = check_embedder_exists if isinstance(self, EmbeddingTeacher) else check_is_found
        check_exists(self.name, self.flag)

    @functools.cached_property
    def model(self) -> Any:
        """The model, opened when it is needed first."""
        return self._open().to(self.config.device).eval()

    def close(self) -> None:
        """Give its memory back."""
        self.__dict__.pop("model", None)
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    @property
    def identity(self) -> str:
        """What it is known by: the contents of a folder, or an id of the Hub."""
        return fingerprint(self.name) if Path(self.name).exists() else self.name

    @abstractmethod
    def _open(self) -> nn.Module: ...

    @abstractmethod
    def on_dev(self, student: SentenceTransformer, dev: Sequence[Record], more: Sequence[Record]) -> list[float]:
        """Return nDCG@10 on the dev data of the student, and of this teacher on the same.

        Args:
            student: Model to train.
            dev: Held-out pairs.
            more: Records whose documents join the corpus.
        """

    @abstractmethod
    def items_of(self, texts: Sequence[str]) -> list[Item]:
        """Return what it is asked of a row: of its query, positive and hard negatives."""

    @abstractmethod
    def ask(self, items: Sequence[Item]) -> Tensor:
        """Return its answers, the first axis that of the items."""

    @abstractmethod
    def scores(self, answers: Tensor) -> Tensor:
        """Return the scores of a batch's lists, see `lbr_st.alignment.distillation.lists_of`.

        Args:
            answers: Of the items of each row, ``(rows, items, ...)``.
        """


class EmbeddingTeacher(Teacher):
    """Any embedding model: of each text it is asked for the embedding, and a score is a cosine."""

    flag, in_batch, shape = "--teacher", True, (1,)

    def _open(self) -> SentenceTransformer:
        model = open_sentence_transformer(self.name, self.flag)
        compare_by_cosine(model, f"{self.flag} {self.name}")
        return model

    def on_dev(self, student: SentenceTransformer, dev: Sequence[Record], more: Sequence[Record]) -> list[float]:
        """Score both by the evaluator that scores the student in training."""
        size, dtype = self.config.per_device_eval_batch_size, autocast_dtype(self.config)
        return [
            HeldOutEvaluator(dev, more, batch_size=size, dtype=dtype)(student)[NDCG],
            HeldOutEvaluator(dev, more, batch_size=size)(self.model)[NDCG],
        ]

    def items_of(self, texts: Sequence[str]) -> list[Item]:
        """Return the texts with what each is."""
        query, *documents = texts
        return [("query", query), *(("document", document) for document in documents)]

    def ask(self, items: Sequence[Item]) -> Tensor:
        """Return embeddings, each with the prompt of the teacher's own for a query or a document."""
        found: dict[int, Tensor] = {}
        for role, encode in (("query", self.model.encode_query), ("document", self.model.encode_document)):
            chosen = [n for n, item in enumerate(items) if item[0] == role]
            if chosen:
                texts = [items[n][1] for n in chosen]
                rows = encode(texts, batch_size=len(texts), convert_to_tensor=True, show_progress_bar=False)
                found |= dict(zip(chosen, normalize(rows.float(), dim=1).cpu(), strict=True))
        return torch.stack([found[n] for n in range(len(items))])

    def scores(self, answers: Tensor) -> Tensor:
        """Return the cosines of each query and the documents of its list."""
        queries, *documents = answers.unbind(dim=1)
        lists = lists_of(documents, torch.arange(len(queries)), self.in_batch)
        return torch.stack([pairwise_dot_score(queries, each) for each in lists], dim=1)


class Reranker(Teacher):
    """Any cross-encoder: it is asked for the score of a query and a document, before the activation."""

    flag, in_batch, shape = "--reranker", False, ()

    def _open(self) -> nn.Module:
        return open_cross_encoder(self.name, self.flag)

    def on_dev(self, student: SentenceTransformer, dev: Sequence[Record], more: Sequence[Record]) -> list[float]:
        """Let it reorder the first `FIRST` documents that the student finds, for `MOST_QUERIES` queries at most."""
        queries = list(dict.fromkeys(record["query"] for record in dev))
        chosen = set(queries[:: -(-len(queries) // MOST_QUERIES)])
        size = self.config.per_device_eval_batch_size
        evaluator = HeldOutEvaluator([r for r in dev if r["query"] in chosen], [*dev, *more], batch_size=size)
        pairs = evaluator.pairs
        options: dict[str, Any] = {"batch_size": size, "convert_to_tensor": True, "show_progress_bar": False}
        with computing_in(autocast_dtype(self.config), student.device):
            embedded_queries = student.encode_query(pairs.queries, **options).float()
            embedded_documents = student.encode_document(pairs.documents, **options).float()
        hits = semantic_search(embedded_queries, embedded_documents, top_k=FIRST)
        found: list[Any] = [[each | {"corpus_id": str(each["corpus_id"])} for each in row] for row in hits]
        items = [(pairs.queries[n], pairs.documents[int(e["corpus_id"])]) for n, row in enumerate(found) for e in row]
        with tqdm(total=len(items), desc="Scoring the reranker on dev", unit="pairs") as bar:
            scores = iter(torch.cat([_told(bar, self.ask(part)) for part in _parts(items, size)]).tolist())
        reordered: list[Any] = [[each | {"score": next(scores)} for each in row] for row in found]
        return [evaluator.compute_metrics(lists)["ndcg@k"][10] for lists in (found, reordered)]

    def items_of(self, texts: Sequence[str]) -> list[Item]:
        """Return the query with each document."""
        query, *documents = texts
        return [(query, document) for document in documents]

    def ask(self, items: Sequence[Item]) -> Tensor:
        """Return scores as they are before a sigmoid, which would press the best of them together."""
        options = {"convert_to_tensor": True, "show_progress_bar": False, "activation_fn": nn.Identity()}
        scores: Tensor = self.model.predict(list(items), batch_size=len(items), **options)
        return scores.float().cpu()

    def scores(self, answers: Tensor) -> Tensor:
        """Return the answers, which are scores."""
        return answers


def teacher_of(config: AlignConfig) -> Teacher | None:
    """Return the teacher that is asked for, not opened yet.

    Raises:
        InputError: If it can be none, or there are several processes.
    """
    if config.teacher_flag is None:
        return None
    if config.world_size > 1:
        raise InputError(f"{config.teacher_flag} runs in one process")
    return Reranker(config) if config.teacher is None else EmbeddingTeacher(config)


def check_strength(
    teacher: Teacher, student: SentenceTransformer, dev: Sequence[Record], more: Sequence[Record]
) -> None:
    """Refuse a teacher that is weaker on the dev data than the student as it starts; say what both are worth.

    Args:
        teacher: The teacher.
        student: Model to train, before the first step.
        dev: Held-out pairs. Where there are none, a warning says that nothing is known.
        more: Records whose documents join the corpus.

    Raises:
        InputError: If it is weaker, and ``weak_teacher`` is off.
    """
    if not dev:
        logger.warning(
            "nobody knows whether %s %s is better than the model: there are no dev data (--dev-data)",
            teacher.flag,
            teacher.name,
        )
        return
    logger.info("scoring %s %s and the model on the dev data", teacher.flag, teacher.name)
    with _leaving_chance_alone(teacher):
        before, taught = teacher.on_dev(student, dev, more)
    how = "" if teacher.in_batch else f" of the first {FIRST} documents that the model finds"
    numbers = f"dev nDCG@10{how} is {taught:.3f}, that of the model before training {before:.3f}"
    if taught >= before:  # not of what is no number
        logger.info("%s %s: its %s", teacher.flag, teacher.name, numbers)
    elif teacher.config.weak_teacher:
        logger.warning("%s %s is weaker than the model: its %s", teacher.flag, teacher.name, numbers)
    else:
        raise InputError(
            f"{teacher.flag} {teacher.name} is weaker than the model: its {numbers}; take a stronger one, none, or say "
            "--weak-teacher"
        )


class Lessons:
    """What a teacher says of the rows of training, each question asked once.

    The answers are kept in files, so a run that goes on asks for the rest of them only. Their folder is named by the
    teacher and the texts.

    Args:
        teacher: The teacher.
        rows: Rows of `lbr_st.alignment.batches.training_rows`.

    Raises:
        InputError: If a reranker has no hard negatives to compare with.
    """

    def __init__(self, teacher: Teacher, rows: Dataset) -> None:
        names = [name for name in rows.column_names if name != LABEL]
        if len(names) == 2 and not teacher.in_batch:
            raise InputError(
                f"{teacher.flag} ranks the documents of a row, and these rows have one: `lbr data mine` finds hard "
                "negatives, --teacher needs none"
            )
        self.teacher = teacher
        numbers: dict[Item, int] = {}
        columns = zip(*(rows[name] for name in names), strict=True)
        asked = [[numbers.setdefault(item, len(numbers)) for item in teacher.items_of(texts)] for texts in columns]
        # The longest first, as libraries do: little padding, and no surprise at the end.
        order = sorted(numbers, key=lambda item: -sum(map(len, item)))
        position = {numbers[item]: n for n, item in enumerate(order)}
        self.items = order
        self.positions = torch.tensor([[position[number] for number in row] for row in asked])
        self.answers = torch.zeros(len(order), *teacher.shape)  # until the teacher is asked

    def scores_of(self, rows: Tensor) -> Tensor:
        """Return the teacher's scores of a batch, by the numbers of its rows."""
        return self.teacher.scores(self.answers[self.positions[rows]])

    def ask(self, folder: str | Path) -> None:
        """Ask the teacher all that is not in a folder of answers yet, and give its memory back.

        Args:
            folder: Where the folder of answers is. Answers of other teachers or texts there are removed.

        Raises:
            InputError: If an answer is no number.
        """
        target = Path(folder, f"teacher-{self._key()}")
        for other in Path(folder).glob("teacher-*"):
            if other != target:
                shutil.rmtree(other)
        parts = list(_parts(self.items, PART))
        files = [target / f"{n:05}.safetensors" for n in range(len(parts))]
        missing = {file: part for file, part in zip(files, parts, strict=True) if not file.is_file()}
        if missing:
            logger.info("asking %s %s; the answers are kept in %s", self.teacher.flag, self.teacher.name, target)
            try:
                with parents_that_go(target):
                    self._write(missing)
            except OSError as error:
                kept = sum(file.is_file() for file in files)
                error.add_note(
                    f"{kept} of {len(files)} files of the teacher's answers are in {target}, and the same command goes "
                    "on there"
                )
                raise
        self.teacher.close()
        self.answers = torch.cat([load_file(file)["answers"] for file in files])

    def _write(self, parts: Mapping[Path, Sequence[Item]]) -> None:
        unit = "texts" if self.teacher.in_batch else "pairs"
        with (
            _leaving_chance_alone(self.teacher),
            self._saying_what_is_longer(),
            tqdm(total=sum(map(len, parts.values())), desc="Asking the teacher", unit=unit) as bar,
        ):
            for file, items in parts.items():
                answers = self._ask(items, bar)
                with replacing(file) as unfinished:
                    unfinished.write_bytes(save({"answers": answers}))

    def seconds(self) -> float:
        """Return how long the teacher takes for all, by a sample of texts of all lengths."""
        sample = self.items[:: -(-len(self.items) // SAMPLE)]
        with _leaving_chance_alone(self.teacher), tqdm(disable=True) as bar:
            self._ask(sample[:1], bar)  # the first time is longer
            start = time.perf_counter()
            self._ask(sample, bar)
        return (time.perf_counter() - start) / len(sample) * len(self.items)

    def _ask(self, items: Sequence[Item], bar: tqdm[Any]) -> Tensor:
        found = []
        for batch in _parts(items, self.teacher.config.per_device_eval_batch_size):
            answers = _told(bar, self.teacher.ask(batch))
            for item, answer in zip(batch, answers, strict=True):
                if not answer.isfinite().all():
                    text = shortened(" ".join(item[1].split()), 60)
                    raise InputError(f"{self.teacher.flag} {self.teacher.name} says no number of {text!r}")
            found.append(answers)
        return torch.cat(found)

    def _saying_what_is_longer(self) -> contextlib.AbstractContextManager[None]:
        return saying_what_is_longer(self.teacher.model) if self.teacher.in_batch else contextlib.nullcontext()

    def _key(self) -> str:
        """Return a short hash of the teacher and what it is asked, and how; its prompts are in its files."""
        sizes = [PART, self.teacher.config.per_device_eval_batch_size]
        asked = json.dumps([self.teacher.flag, self.teacher.identity, sizes, self.items])
        return hashlib.sha256(asked.encode()).hexdigest()[:16]


def _parts(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _told(bar: tqdm[Any], answers: Tensor) -> Tensor:
    bar.update(len(answers))
    return answers


def _leaving_chance_alone(teacher: Teacher) -> contextlib.AbstractContextManager[None]:
    """Open and ask a teacher without a trace in the random numbers: a run that need not do it ends the same."""
    device = teacher.config.device
    return torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])
