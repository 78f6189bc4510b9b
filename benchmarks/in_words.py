"""What does an embedding say in words, and what is that worth? SmolLM2-135M in medicine.

    python benchmarks/in_words.py --data DIR_WITH_MEDICAL_AND_CHEMISTRY

Protocol, fixed before the test set was touched:

- Models: two of `smollm2_thesis.py`, corpus-taught, seed 0, by its settings: stage 1 with the read-out loss
  (`ibgl`), as it is and after stage 2 on 200 pairs.
- The words of a text are what the head of the language model reads out of its embedding, weighed as
  `lbr_st.evaluation.read_out.read_out` does: p log(p / p0) for each token. A document keeps its 256 heaviest tokens, a
  query 64, these times the logarithm of the inverse share of the documents that kept the token: a sparse vector.
- Searched: the 1,500 test documents, for the 1,500 test questions. Alone: the sparse vectors, the embeddings, BM25. Two
  together: 0.7 of the standardized scores of the one and 0.3 of the other's: `dense_sparse`, `dense_bm25`,
  `sparse_bm25`. recall@10 and nDCG@10.
- The disease that a question is about (its `focus`) stands in the words of its document if half of the disease's tokens
  or more are among the 64 heaviest. Figures: how often it does, and how often the embedding finds the document within
  the first ten where it does and where it does not; the same of the words of the question.
- Minutes on one core, estimated before it ran: 3 to read the texts, for each model; what `smollm2_thesis.py` has not
  trained yet, 20.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import arms
import domains
import numpy as np
import torch
from domains import Domain
from sentence_transformers import SentenceTransformer
from smollm2_thesis import DEFAULT, FEW, Bench, Cell

import lbr_st
from lbr_st.cli.main import run_command
from lbr_st.data.records import read_records
from lbr_st.evaluation.bm25 import BM25Ranker
from lbr_st.evaluation.fusion import DENSE_WEIGHT, AllScores, ndcgs_at_10
from lbr_st.evaluation.own_data import BM25, open_for_evaluation
from lbr_st.evaluation.ranking import DenseRanker, Ranker, fuse, ranks
from lbr_st.evaluation.read_out import token_weights
from lbr_st.metrics import Pairs

PROGRAM = "in_words"
STAGES = {"stage1": Cell("medical", DEFAULT), "stage2": Cell("medical", DEFAULT, FEW)}
OF_DOCUMENT, OF_QUERY = 256, 64
NAMED = 0.5  # share of a disease's tokens
BATCH_SIZE = 64


def in_words(model: SentenceTransformer, texts: Sequence[str], role: str, keep: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the heaviest tokens of texts, heaviest first, and their weights, ``(texts, keep)`` each."""
    ids, weights = [], []
    for of_batch in token_weights(model, texts, role=role, batch_size=BATCH_SIZE):
        found = of_batch.topk(min(keep, of_batch.shape[1]), dim=1)
        ids.append(found.indices)
        weights.append(found.values.clamp_min(0))
    return torch.cat(ids).cpu().numpy(), torch.cat(weights).cpu().numpy()


def sparse_scores(
    queries: tuple[np.ndarray, np.ndarray], documents: tuple[np.ndarray, np.ndarray], vocabulary: int
) -> np.ndarray:
    """Return the products of sparse vectors, ``(queries, documents)`` float32.

    Args:
        queries: What `in_words` gave of the queries.
        documents: The same of the documents, whose kept tokens of weight above 0 count for the inverse share.
        vocabulary: Number of tokens.
    """
    (query_ids, query_weights), (ids, weights) = queries, documents
    kept = np.bincount(ids[weights > 0], minlength=vocabulary)
    rarity = np.log((len(ids) + 1) / (kept + 1))
    of_documents = np.zeros((len(ids), vocabulary), np.float32)
    np.put_along_axis(of_documents, ids, weights, axis=1)
    of_queries = np.zeros((len(query_ids), vocabulary), np.float32)
    np.put_along_axis(of_queries, query_ids, query_weights * rarity[query_ids].astype(np.float32), axis=1)
    return of_queries @ of_documents.T


def all_scores(ranker: Ranker, queries: Sequence[str]) -> np.ndarray:
    """Return the scores of a ranker, ``(queries, documents)``."""
    return np.concatenate([scores for _, scores in ranker.scores(queries)])


def is_named(model: SentenceTransformer, names: Sequence[str], ids: np.ndarray) -> np.ndarray:
    """Tell of names whether `NAMED` of their tokens are among the tokens of texts.

    Args:
        model: Model whose tokenizer spells the names, as they are in the middle of a text.
        names: Names.
        ids: Tokens of the text that goes with each, ``(names, tokens)``.
    """
    spelled = model.tokenizer([f" {name}" for name in names], add_special_tokens=False)["input_ids"]
    return np.array([np.isin(of_name, own).mean() >= NAMED for of_name, own in zip(spelled, ids, strict=True)])


def names_of(domain: Domain, data: Path) -> dict[str, str]:
    """Return what each test question is about, by question."""
    lines = (data / domain.name / "test.jsonl").read_text(encoding="utf-8").splitlines()
    records = [domains.medical_record(json.loads(line)) for line in lines]
    return {record["query"]: record["title"] for record in records}


def measure(stage: str, bench: Bench, data: Path) -> dict[str, Any]:
    """Search by words and by embeddings, and say what stands in the words."""
    cell = STAGES[stage]
    folder, _ = bench.model(cell)
    pairs = Pairs.of(read_records(bench.domain.test))
    model = lbr_st.load(str(folder))
    model.max_seq_length = bench.lab.scale.length
    documents = in_words(model, pairs.documents, "document", OF_DOCUMENT)
    queries = in_words(model, pairs.queries, "query", OF_QUERY)
    dense = DenseRanker(model, pairs.documents)
    scores = {
        "sparse": sparse_scores(queries, documents, len(model.tokenizer)),
        "dense": all_scores(dense, pairs.queries),
        "bm25": all_scores(BM25Ranker(pairs.documents), pairs.queries),
    }
    for one, other in (("dense", "sparse"), ("dense", "bm25"), ("sparse", "bm25")):
        scores[f"{one}_{other}"] = fuse(scores[one], scores[other], DENSE_WEIGHT)
    hits = {name: hit_at_10(each, pairs.relevant) for name, each in scores.items()}
    relevant = [dict.fromkeys(own, 1) for own in pairs.relevant]
    figures = {f"{name}_recall_at_10": float(hit.mean()) for name, hit in hits.items()}
    figures |= {f"{name}_ndcg_at_10": float(ndcgs_at_10(each, relevant).mean()) for name, each in scores.items()}
    names = [names_of(bench.domain, data)[query] for query in pairs.queries]
    own = np.array([positions[0] for positions in pairs.relevant])
    for of, ids in (("document", documents[0][own, :OF_QUERY]), ("query", queries[0])):
        named = is_named(model, names, ids)
        figures[f"{of}_names_it"] = float(named.mean())
        for what, group in (("where_named", named), ("where_not", ~named)):
            if group.any():
                figures[f"dense_recall_at_10_{what}_in_{of}"] = float(hits["dense"][group].mean())
    if cell.pairs:
        shutil.rmtree(folder)
    return {"figures": {name: round(value, 4) for name, value in figures.items()}}


def hit_at_10(scores: np.ndarray, relevant: Sequence[Sequence[int]]) -> np.ndarray:
    """Tell of each query whether one of its documents is among the first ten."""
    place = ranks(scores)
    return np.array([place[row, own].min() <= 10 for row, own in enumerate(relevant)])


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what is missing, and write the summary."""
    asked, lab, settings = arms.begin(argv, __doc__, ("medical",), scale="smollm2")
    assert asked.data is not None
    domain = lab.domain("medical", asked.data)
    # What the thesis has chosen and trained is taken from there.
    bench = Bench(lab, domain, domain, settings, AllScores(open_for_evaluation(BM25)))
    found = {
        stage: arms.measured(PROGRAM, stage, 0, settings, partial(measure, stage, bench, asked.data))
        for stage in STAGES
    }
    figures = {f"{stage}_{name}": value for stage, each in found.items() for name, value in each["figures"].items()}
    arms.write_summary(PROGRAM, asked, figures, list(found.values()))


if __name__ == "__main__":
    run_command(main)
