"""Queries that were not asked by people: those that point to their passage stay.

A query stays if its passage comes back: if it is among the first of BM25 or of a model (the round trip of Promptagator,
arXiv 2209.11755), or if a reranker scores both high enough (InPars-v2, arXiv 2301.01820). Copies of a passage go, and
near-duplicates of another query. Pairs that were given stay: what people asked and no search finds is what a model has
to learn.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import CrossEncoder

from lbr_st.adaptation.kinds import GIVEN, TITLE
from lbr_st.adaptation.queries import QUERIES, read_about
from lbr_st.data.drops import ON_ERROR, Drops, on_wrong_row
from lbr_st.data.near_duplicates import SHINGLE_WORDS, THRESHOLD, as_array, check_threshold, near_pairs, shingles
from lbr_st.data.prepared_set import file_of
from lbr_st.data.records import read_passages, read_records
from lbr_st.data.rows import read_rows
from lbr_st.data.same_text import AUTO, same_text
from lbr_st.data.write import DROPPED
from lbr_st.errors import InputError, naming_the_extra, not_written
from lbr_st.evaluation.ranking import BM25, DenseRanker, Ranker, check_searchers, ranks_of
from lbr_st.files import replacing_folder, require_empty, write_json, write_jsonl
from lbr_st.model.lengths import saying_what_is_longer
from lbr_st.model.opening import open_cross_encoder, open_sentence_transformer
from lbr_st.records import QUERIES_FILE, Record, is_of_prepared_set

logger = logging.getLogger(__name__)

# Several passages may answer a question, and the best of them need not be the one that it was written for. So the first
# alone would keep what is found already; 20 are those of CADET (arXiv 2505.19274). Of few passages 20 are most, and a
# tenth is asked for.
KEEP_FIRST, LARGEST_SHARE = 20, 0.1
# A query that shares nearly all its shingles with the passage was copied out of it, if it is longer than a term is.
COPIED_WORDS, COPIED_SHARE = 12, 0.9


class NoneLeftError(InputError):
    """No query is left.

    Args:
        what: How many there were, and why they were left out.
        do: What to do.
    """

    def __init__(self, what: str, do: str) -> None:
        self.what = what
        super().__init__(f"{what}: {do}")


@dataclass(frozen=True, kw_only=True)
class FilterConfig:
    """What queries stay; the fields are flags of ``lbr data filter``.

    Attributes:
        models: What searches for the passage of a query: ``bm25``, and any sentence-transformers models, as a teacher
            or the model that training starts from. It is enough that one of them finds it: each finds what the others
            miss, and what BM25 alone finds teaches nothing that BM25 does not know. Default is BM25.
        keep_first: A passage is found if it is among so many; default is 20, or a tenth of fewer than 200 passages.
        reranker: Any cross-encoder of sentence-transformers, which scores query and passage instead.
        least_score: Least score of a query; default is 0.5 where the model's scores are probabilities, and 0 where they
            are logits, which is the same.
        near_duplicates: Least similarity of near-duplicates; 0 for none.
        same_text: What is the same text, one of `lbr_st.data.same_text.LEVELS`.
        batch_size: Number of pairs that the reranker scores at once.
        min_score: Least score of a document that answers its query, where a column of the queries grades them.
        on_error: ``stop`` at the first row that cannot be used, or ``skip`` and count such rows.

    Raises:
        InputError: If a value cannot be meant, or does nothing beside the others; the message names the flag.
    """

    models: Sequence[str] | None = None
    keep_first: int | None = None
    reranker: str | None = None
    least_score: float | None = None
    near_duplicates: float = THRESHOLD
    same_text: str = AUTO
    batch_size: int = 32
    min_score: float | None = None
    on_error: str = "stop"

    def __post_init__(self) -> None:
        for name in ("keep_first", "batch_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"--{name.replace('_', '-')} must be at least 1, got {value}")
        if self.on_error not in ON_ERROR:
            raise InputError(f"--on-error must be {' or '.join(ON_ERROR)}, got {self.on_error}")
        check_threshold(self.near_duplicates)
        if self.reranker is None and self.least_score is not None:
            raise InputError("--least-score is of --reranker; give one, or --keep-first")
        if self.reranker is not None and (self.models or self.keep_first):
            raise InputError("--reranker scores in the place of --model and --keep-first; give one of them")
        if self.models is not None and not self.models:
            raise InputError("--model: name bm25, or a model")

    @property
    def searchers(self) -> list[str]:
        """What searches, each once: BM25 first, which is the fastest."""
        names = dict.fromkeys(self.models or [BM25])
        return sorted(names, key=lambda name: name != BM25)

    def first_of(self, passages: int) -> int:
        """Return among how many of so many passages one must be that counts as found."""
        return self.keep_first or min(KEEP_FIRST, max(1, int(LARGEST_SHARE * passages)))

    def open_models(self) -> dict[str, Any]:
        """Open every model that is named, also one that may find nothing more: none is wrong in silence.

        Returns:
            The models by their names; BM25, which is made of the passages, is none.

        Raises:
            InputError: If one is no model, or BM25 is asked for without its packages.
        """
        if self.reranker is not None:
            return {self.reranker: open_cross_encoder(self.reranker)}
        check_searchers(self.searchers)
        return {name: open_sentence_transformer(name) for name in self.searchers if name != BM25}


def filter_queries(
    rows: Sequence[Record],
    passages: Sequence[Record],
    config: FilterConfig,
    models: Mapping[str, Any] | None = None,
) -> tuple[list[Record], Drops]:
    """Return the queries that stay, in their order, and what was left out and why.

    Args:
        rows: Records with ``id``, ``query`` and ``document``. Those whose ``kind`` is ``given`` stay.
        passages: Records with ``document``: what is searched. Documents of the rows that are not among them join them.
        config: Which stay.
        models: What `FilterConfig.open_models` gave; default is to open them.

    Raises:
        InputError: If none is left, or a model cannot be used.
    """
    models = config.open_models() if models is None else models
    drops = Drops()
    given = [row for row in rows if row.get("kind") == GIVEN]
    written = [row for row in rows if row.get("kind") != GIVEN]
    left = _not_copied(written, config, drops)
    if config.reranker is not None:
        left, remedy = _scored(left, models[config.reranker], config, drops)
    else:
        left, remedy = _found(left, passages, models, config, drops)
    left = _different(given, left, config, drops)
    if written and not left:
        what, do = f"not one of {len(written):,} queries is left ({drops})", f"{remedy}, or write other queries"
        if not given:
            raise NoneLeftError(what, do)
        logger.warning("%s: %s; the %s that were given stay", what, do, f"{len(given):,}")
    kept = {id(row) for row in [*given, *left]}
    return [row for row in rows if id(row) in kept], drops


def _not_copied(rows: Iterable[Record], config: FilterConfig, drops: Drops) -> list[Record]:
    left = []
    for row in rows:
        if is_copy(row["query"], row["document"], config.same_text):
            drops.add("copied from the passage", row["id"], row["query"])
        else:
            left.append(row)
    return left


def is_copy(query: str, passage: str, level: str = AUTO) -> bool:
    """Tell whether a query is its passage, a large piece of it, or holds it.

    Args:
        query: The query.
        passage: The passage.
        level: What is the same text, one of `lbr_st.data.same_text.LEVELS`.
    """
    if same_text(query, level) == same_text(passage, level):
        return True
    one, two = shingles(query, level), shingles(passage, level)
    shortest = min(len(one), len(two))
    return shortest > COPIED_WORDS - SHINGLE_WORDS and len(one & two) >= COPIED_SHARE * shortest


def _found(
    rows: Sequence[Record],
    passages: Sequence[Record],
    models: Mapping[str, Any],
    config: FilterConfig,
    drops: Drops,
) -> tuple[list[Record], str]:
    """Return the rows whose passage is found, and what a user does who wants more."""
    texts = dict.fromkeys(record["document"] for record in passages)
    known = len(texts)
    texts |= dict.fromkeys(row["document"] for row in rows)
    if len(texts) > known:
        logger.warning(
            "%s documents of queries are not among the %s passages, and join them: are these the passages?",
            *(f"{len(texts) - known:,}", f"{known:,}"),
        )
    position, first = {text: number for number, text in enumerate(texts)}, config.first_of(len(texts))
    if first >= len(texts):
        logger.warning("--keep-first %d: there are %s passages, so that all queries stay", first, f"{len(texts):,}")
    missed = list(rows)
    for name in config.searchers:
        if missed:  # else nothing is encoded by a model that could find nothing more
            ranks = _ranks(models.get(name), missed, list(texts), position, config)
            found = sum(rank <= first for rank in ranks)
            logger.info(
                "%s finds the passages of %s of %s queries among its first %d of %s",
                *(name, f"{found:,}", f"{len(missed):,}", first, f"{len(texts):,}"),
            )
            missed = [row for row, rank in zip(missed, ranks, strict=True) if rank > first]
    # A card, and results, are read elsewhere: of a directory its name is enough.
    named = ["/".join(Path(each).parts[-2:]) if Path(each).is_absolute() else each for each in config.searchers]
    reason = f"passage not among the first {first} of {' or '.join(named)}"
    for row in missed:
        drops.add(reason, row["id"], row["query"])
    lost = {id(row) for row in missed}
    remedy = f"ask for less with --keep-first above {first}, name a --model that finds more"
    return [row for row in rows if id(row) not in lost], remedy


def _ranks(
    model: Any,
    rows: Sequence[Record],
    texts: Sequence[str],
    position: dict[str, int],
    config: FilterConfig,
) -> list[int]:
    """Return the rank of the passage of each row by a model; by BM25 where there is none."""
    queries, own = [row["query"] for row in rows], [position[row["document"]] for row in rows]
    ranker: Ranker
    if model is None:
        with naming_the_extra(f"--model {BM25}"):
            from lbr_st.evaluation.bm25 import BM25Ranker
        ranker = BM25Ranker(texts)
        return ranks_of(ranker, queries, own).tolist()
    with saying_what_is_longer(model):
        ranker = DenseRanker(model, texts)
        return ranks_of(ranker, queries, own).tolist()


def _scored(
    rows: Sequence[Record], model: CrossEncoder, config: FilterConfig, drops: Drops
) -> tuple[list[Record], str]:
    """Return the rows that score enough, and what a user does who wants more."""
    name = str(config.reranker)
    least = _least_score(model, name) if config.least_score is None else config.least_score
    pairs = [(row["query"], row["document"]) for row in rows]
    scores: list[float] = []
    if pairs:
        scores = model.predict(pairs, batch_size=config.batch_size, show_progress_bar=True).tolist()
    left = []
    for row, score in zip(rows, scores, strict=True):
        if score >= least:
            left.append(row)
        else:
            drops.add(f"score below {least:g} by {name}", row["id"], row["query"])
    logger.info("%s scores %s of %s queries %g or more", name, f"{len(left):,}", f"{len(rows):,}", least)
    best = f", as the best score is {max(scores):.3g}" if scores else ""
    return left, f"ask for less with --least-score{best}"


def _least_score(model: CrossEncoder, name: str) -> float:
    """Return the score of a query of which a model thinks it as likely as not that the passage answers it."""
    if isinstance(model.activation_fn, torch.nn.Sigmoid):
        return 0.5
    if isinstance(model.activation_fn, torch.nn.Identity):
        return 0.0
    raise InputError(
        f"--reranker {name}: its scores are neither probabilities nor logits; say with --least-score which are enough"
    )


def _different(given: Sequence[Record], written: Sequence[Record], config: FilterConfig, drops: Drops) -> list[Record]:
    """Return the written rows without those whose query is that of a row before them or of a given one, or nearly.

    A heading over several passages asks for each of them.
    """
    rows = [*given, *written]
    first: dict[str, int] = {}
    like: dict[int, tuple[str, int]] = {}
    for number, row in enumerate(rows):
        before = first.setdefault(same_text(row["query"], config.same_text), number)
        is_of_several = row.get("kind") == rows[before].get("kind") == TITLE
        if before != number and not (is_of_several and row["document"] != rows[before]["document"]):
            like[number] = "asked already", before
    if config.near_duplicates:
        own = list(first.values())
        sets = [as_array(shingles(rows[number]["query"], config.same_text)) for number in own]
        for one, two, _ in near_pairs(sets, config.near_duplicates):
            if own[one] not in like and own[two] >= len(given):
                like.setdefault(own[two], ("near-duplicate of another query", own[one]))
    left = []
    for number, row in enumerate(written, start=len(given)):
        if number in like:
            reason, before = like[number]
            drops.add(reason, row["id"], row["query"], like=(rows[before]["id"], rows[before]["query"]))
        else:
            left.append(row)
    return left


def filter_file(queries: str | Path, data: str | Path, output_dir: str | Path, config: FilterConfig) -> dict[str, Any]:
    """Write the queries of a file that stay, with some of those that do not.

    Args:
        queries: File of queries with their passages, or the folder that ``lbr data queries`` wrote.
        data: Passages that they were written for: a prepared set, of which it is the corpus, a file or a folder.
        output_dir: New or empty folder. It is there when all of it is whole, not before.
        config: Which stay.

    Returns:
        What its ``lbr_queries.json`` says: how many stay by ``kinds``, and how many are ``lost`` by reason.

    Raises:
        InputError: If a source or a model cannot be used, none is left, or the folder is not empty or cannot be
            written to.
        UnfinishedError: If the disk does not take it.
    """
    require_empty(output_dir)
    models = config.open_models()
    file = Path(queries) / QUERIES if Path(queries).is_dir() else Path(queries)
    if Path(queries).is_dir() and not file.is_file():
        raise InputError(f"{queries} is no folder that lbr data queries wrote: it has no {QUERIES}")
    rows = read_records(file, min_score=config.min_score, on_error=config.on_error)
    if is_of_prepared_set(file):  # what a row of ours says beside its texts, as the id of its passage, stays
        wrong = on_wrong_row(config.on_error, Drops())  # which are counted already
        own = {row.values.get("id"): row.values for row in read_rows(file, wrong=wrong)}
        rows = [own.get(row["id"], {}) | row for row in rows]
    is_ours = (file.parent / QUERIES_FILE).is_file()
    about = read_about(file.parent / QUERIES_FILE) if is_ours else {}
    unread = Drops()
    passages = read_passages(file_of(str(data), "corpus"), wrong=on_wrong_row(config.on_error, unread))
    if unread.counts:
        logger.warning("%s: %s", data, unread.describe())
    kept, drops = filter_queries(rows, passages, config, models)
    lost = Counter(about.get("lost", {}))
    lost.update(drops.counts)
    about |= {
        "kinds": dict(Counter(row.get("kind", "query") for row in kept)),
        "lost": dict(sorted(lost.items())),
        "passages": about.get("passages", {}) | {"with_queries": len({row["document"] for row in kept})},
        "filter": asdict(config)
        | {"read": len(rows), "kept": len(kept), "passages": len(passages), "lost": dict(drops.counts.most_common())},
    }
    try:
        with replacing_folder(output_dir) as folder:
            write_jsonl(folder / QUERIES, kept)
            write_jsonl(folder / DROPPED, drops.samples)
            write_json(folder / QUERIES_FILE, about)
    except OSError as error:
        raise not_written(str(output_dir), error) from error
    return about
