r"""What does a small encoder of queries cost and gain? Students of a medical model and of the quickstart's.

    OMP_NUM_THREADS=1 python benchmarks/query_students.py --data DIR_WITH_MEDICAL_AND_CHEMISTRY \
        --code-model lbr-model --code-set quickstart/domain

Protocol, fixed before it ran. Both models are SmolLM2-135M-Instruct after both stages, texts of 64 tokens, float32.

- ``medical``: the model of `fewer_layers.py` with all layers. Queries: the questions of 2,000 training records, drawn
  at random, without their answers. Asked: the questions of dev, in its documents and 500 training ones.
- ``code``: what ``lbr quickstart`` leaves, a model and a set of functions of the packages installed. Queries: those of
  the 2,000 training pairs of the set. Asked: the test queries of the set, in their documents and 500 others of its
  corpus, drawn at random; nothing was chosen on them.
- Students, by ``lbr distill``: ``table`` and ``layers_6`` (the first 6 layers), of 3 passes, and
  ``table_20_epochs``, as 3 passes over a few thousand queries may be too few for a table. Seed 0, the last weights.
- ``student_recall_share``: recall@10 with the student's vectors of queries over that with the model's own. Vectors of
  documents are those of the model in both. What the model finds more has an interval, by a paired bootstrap over the
  queries.
- ``query_latency_student_vs_model``: 100 of the queries asked, one at a time by ``encode_query``, by the model and by
  all students in turn. The figure is the median of the model over the median of the student.
- The first student of a model asks it for the vectors of the queries, and the others read the same files.
- Minutes on one core, estimated before it ran, medical and code: vectors of queries 2 and 3, students 4 and 5, vectors
  to rank 4 and 4, latency 1 and 1: 24.

Each student, ranking and latency has a result file, and what is there is not run again. ``--beside`` says in the files
what else the machine did meanwhile.
"""

from __future__ import annotations

import random
import shutil
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import arms
import fewer_layers
import numpy as np
import results
import torch
from arms import Lab
from flags import program_parser
from interleaved import interleaved
from sentence_transformers import SentenceTransformer
from torch import Tensor
from torch.nn.functional import normalize

import lbr_st
from lbr_st.cli.main import run_command
from lbr_st.data.prepared_set import file_of
from lbr_st.data.records import read_records
from lbr_st.errors import InputError
from lbr_st.evaluation.ranking import best_of
from lbr_st.files import sha256, write_jsonl
from lbr_st.metrics import Pairs
from lbr_st.model.contract import fingerprint
from lbr_st.model.encoding import TextEncoder
from lbr_st.model.opening import open_sentence_transformer
from lbr_st.training.resume import RUN_FILE, checkpoint_dir

PROGRAM = "query_students"
DOMAINS = ("medical", "code")
STUDENTS: dict[str, dict[str, Any]] = {
    "table": {"student": "table", "num_train_epochs": 3},
    "table_20_epochs": {"student": "table", "num_train_epochs": 20},
    "layers_6": {"student": "layers:6"},
}
MODEL = "model"  # what the model itself is called among its students
QUERIES, DISTRACTORS, TIMED, SEED = 2000, 500, 100, 0


@dataclass(frozen=True)
class Case:
    """A model, and queries for its students.

    Attributes:
        model: Directory of the model.
        queries: What students learn from, as ``lbr distill --queries`` takes it.
        asked: Queries that are asked, and all documents.
        folder: Folder of the students.
    """

    model: Path
    queries: Path
    asked: Pairs
    folder: Path

    def student(self, name: str) -> Path:
        """Return the directory of a student and the model."""
        return self.folder / name


def medical(lab: Lab, data: Path | None) -> Case:
    """Return the medical model, which is trained if it is not there."""
    domain = lab.domain("medical", data)
    model = fewer_layers.aligned(fewer_layers.LAYERS[0], domain, lab)
    folder = lab.work / "medical" / PROGRAM
    folder.mkdir(exist_ok=True)
    questions = [{"query": record["query"]} for record in read_records(domain.stage1("strict", "pairs"))[:QUERIES]]
    write_jsonl(folder / "queries.jsonl", questions)
    more = read_records(domain.dev_corpus, ("document",))[:DISTRACTORS]
    return Case(model, folder / "queries.jsonl", Pairs.of(read_records(domain.dev), more), folder)


def code(lab: Lab, model: Path, prepared: Path) -> Case:
    """Return the quickstart's model and its set."""
    corpus = read_records(file_of(str(prepared), "corpus"), ("document",))
    more = random.Random(SEED).sample(corpus, min(DISTRACTORS, len(corpus)))
    asked = Pairs.of(read_records(file_of(str(prepared), "test")), more)
    return Case(model, prepared, asked, lab.work / "code" / PROGRAM)


def distil(name: str, case: Case, lab: Lab) -> dict[str, Any]:
    """Train a student; one that was begun is begun again."""
    folder = case.student(name)
    shutil.rmtree(folder, ignore_errors=True)
    for answers in [*case.folder.glob(str(checkpoint_dir("*") / "teacher-*"))][:1]:
        _begin_with(answers, folder)
    settings: dict[str, Any] = {**STUDENTS[name], "seed": SEED, "save_strategy": "no", **lab.training}
    config = lbr_st.DistillConfig(
        model=str(case.model), queries=str(case.queries), output_dir=str(folder), resume=True, **settings
    )
    start = time.perf_counter()
    found = lbr_st.distill(config)
    assert found is not None
    return {"seconds": time.perf_counter() - start, "cosine": found.cosine, "held_out": found.held_out}


def _begin_with(answers: Path, folder: Path) -> None:
    """Make a run that has asked the model for its vectors, and was ended before its first checkpoint."""
    shutil.copytree(answers, checkpoint_dir(folder) / answers.name)
    shutil.copyfile(answers.parent.parent / RUN_FILE, folder / RUN_FILE)


def opened(case: Case) -> dict[str, SentenceTransformer]:
    """Return the model and, each with the model, its students."""
    folders = {MODEL: case.model} | {name: case.student(name) for name in STUDENTS}
    return {name: open_sentence_transformer(str(folder)) for name, folder in folders.items()}


def rank(case: Case) -> dict[str, Any]:
    """Ask all queries by the model and by its students, in documents that the model encodes once."""
    models, recalls = opened(case), {}
    documents = TextEncoder(models[MODEL]).encode(case.asked.documents)
    for name, model in models.items():
        queries = TextEncoder(model).encode(case.asked.queries, "query")
        recalls[name] = recalls_at_10(queries, documents, case.asked.relevant)
    return {"recalls": recalls, "documents": len(documents)}


def recalls_at_10(queries: Tensor, documents: Tensor, relevant: Sequence[Sequence[int]]) -> list[float]:
    """Return for each query the share of its documents that are among the ten nearest by the cosine.

    Args:
        queries: ``(queries, dimensions)``.
        documents: ``(documents, dimensions)``.
        relevant: For each query the positions of its documents.
    """
    scores = (normalize(queries) @ normalize(documents).T).numpy()
    return [
        len({*best_of(of_query, 10)} & {*answers}) / len(answers)
        for of_query, answers in zip(scores, relevant, strict=True)
    ]


def latency(case: Case) -> dict[str, Any]:
    """Encode some queries one at a time, by the model and by its students in turn."""
    queries, models = case.asked.queries[:TIMED], opened(case)
    for model in models.values():
        model.encode_query(queries[0], show_progress_bar=False)  # the first is slow
    runs = {name: partial(encode_one, model, queries) for name, model in models.items()}
    return {"seconds": interleaved(runs, len(queries))}


def encode_one(model: SentenceTransformer, queries: Sequence[str], number: int) -> Any:
    """Encode one of the queries, by its number."""
    return model.encode_query(queries[number], show_progress_bar=False)


def measure(
    domain: str, case: Case, lab: Lab, settings: dict[str, Any], meanwhile: dict[str, Any]
) -> dict[str, dict[str, Any]]:
    """Measure what is not there of a domain, and return all of it.

    Args:
        domain: One of `DOMAINS`.
        case: Its model and queries.
        lab: Where students are trained.
        settings: What the result files carry.
        meanwhile: What they say of the machine.
    """
    jobs: dict[str, Callable[[], dict[str, Any]]] = {name: partial(distil, name, case, lab) for name in STUDENTS}
    jobs |= {"rank": partial(rank, case), "latency": partial(latency, case)}

    def measured(name: str) -> dict[str, Any]:
        return arms.measured(PROGRAM, f"{domain}-{name}", SEED, settings, lambda: {**jobs[name](), **meanwhile})

    return {name: measured(name) for name in jobs}


def figures_of(domain: str, found: dict[str, dict[str, Any]]) -> dict[str, float]:
    """Return the figures of a domain.

    Args:
        domain: One of `DOMAINS`.
        found: Its results: of each student, of ``rank`` and of ``latency``.
    """
    recalls, seconds = found["rank"]["recalls"], found["latency"]["seconds"]
    figures: dict[str, float] = {}
    for name in (MODEL, *STUDENTS):
        end = f"{domain}_{name}"
        figures[f"recall_at_10_{end}"] = float(np.mean(recalls[name]))
        figures[f"milliseconds_{end}"] = 1000 * statistics.median(seconds[name])
        if name == MODEL:
            continue
        figures[f"student_recall_share_{end}"] = float(np.mean(recalls[name]) / np.mean(recalls[MODEL]))
        both = (np.array([recalls[each]]) for each in (MODEL, name))
        figures |= results.difference(f"recall_at_10_{domain}_model_less_{name}", *both)
        medians = [statistics.median(seconds[each]) for each in (MODEL, name)]
        figures[f"query_latency_student_vs_model_{end}"] = medians[0] / medians[1]
        figures[f"cosine_held_out_{end}"] = found[name]["cosine"]
        figures[f"seconds_to_distill_{end}"] = found[name]["seconds"]
    return figures


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what is not there of what was asked for, and write the summary if that is all."""
    parser = program_parser(__doc__)
    parser.add_argument("--code-model", type=Path, help="model that lbr quickstart trained")
    parser.add_argument("--code-set", type=Path, help="set that it prepared")
    parser.add_argument("--beside", default="nothing", help="what else the machine does (default: %(default)s)")
    asked, lab, settings = arms.begin(argv, __doc__, DOMAINS, scale="smollm2", parser=parser)
    chosen = asked.chosen
    if "code" in asked.domains and not (chosen.code_model and chosen.code_set):
        raise InputError("--code-model and --code-set are needed for code: lbr quickstart makes both")
    meanwhile = {"beside": chosen.beside, "threads": torch.get_num_threads()}
    figures: dict[str, float] = {}
    files: list[dict[str, Any]] = []
    for domain in asked.domains:
        if domain == "medical":
            case, of_domain = medical(lab, asked.data), settings
        else:
            case = code(lab, chosen.code_model, chosen.code_set)
            read = [file_of(str(case.queries), name) for name in ("align", "test", "corpus")]
            of_domain = settings | {"data_sha256": sha256(read), "model_sha256": fingerprint(case.model)}
        found = measure(domain, case, lab, of_domain, meanwhile)
        figures |= figures_of(domain, found)
        files += found.values()
    figures = {name: round(value, 4) for name, value in figures.items()}
    arms.write_summary(PROGRAM, asked, figures, files)
    for name, value in figures.items():
        print(f"{name} {value:g}")


if __name__ == "__main__":
    run_command(main)
