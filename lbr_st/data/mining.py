"""Hard negatives found by a model: documents that are near a query and do not answer it; sentence-transformers' search.

The documents that are searched are those of the pairs themselves and those of a corpus that the user gives. What a set
holds out is never among them, and like everything else this is proved on the files that were written.
"""

from __future__ import annotations

import contextlib
import logging
import random
import shlex
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from sentence_transformers import SentenceTransformer
from sentence_transformers.util import mine_hard_negatives

from lbr_st.data import card, registry
from lbr_st.data.drops import ON_ERROR, Drops
from lbr_st.data.isolate import is_isolated, overlaps_left, rows_of
from lbr_st.data.overlap import HeldOutTexts, count
from lbr_st.data.prepared_set import PreparedSet, file_of, mteb_tasks_of, same_text_of
from lbr_st.data.preparing import check_target
from lbr_st.data.records import read_records, read_tuples
from lbr_st.data.same_text import AUTO, same_text
from lbr_st.data.sources import check_is_there
from lbr_st.data.table import counter_of
from lbr_st.data.words import WORDS, count_words
from lbr_st.data.write import DROPPED
from lbr_st.errors import InputError, not_written, one_line
from lbr_st.files import file_sha256, replacing_folder, write_jsonl
from lbr_st.metrics import SIMILARITIES_AT_A_TIME
from lbr_st.model.lengths import saying_what_is_longer
from lbr_st.model.named import check_embedder_exists
from lbr_st.model.opening import open_sentence_transformer
from lbr_st.records import FIELDS, Record

logger = logging.getLogger(__name__)

FILTERS = ("margin", "relative_margin", "max_score")
MEAN_OF = 256  # documents, drawn at random: more of them hardly move their mean


@dataclass(frozen=True, kw_only=True)
class MineConfig:
    """Pairs, and how their hard negatives are found; the fields are the flags of ``lbr data mine``.

    Attributes:
        source: Prepared set, or a file of pairs.
        model: Any sentence-transformers model to find them with, a folder or a Hub id; its prompts are applied.
        output_dir: New or empty folder for the set with hard negatives.
        negatives: Number of hard negatives for each pair. Pairs for which there are fewer are left out.
        corpus: File or Hub dataset of documents to find them in, beside those of the pairs; of a prepared set it is the
            corpus.
        margin: Least difference of the similarity of the query to its document and to a negative.
        relative_margin: The same as a share of the document's similarity; 0.05 is that of NV-Retriever
            (arXiv 2407.15831). Similarities are of vectors less the mean of the documents' then: those of a language
            model point nearly one way, so that 95% of any of them is less than all.
        max_score: Largest similarity of a negative to the query.
        skip: Number of the most similar documents that are left out.
        batch_size: Number of texts encoded at once.
        min_score: Least score of a document that answers its query, where a column of the source grades them.
        on_error: ``stop`` at the first row that cannot be used, or ``skip`` and count such rows.

    Raises:
        InputError: If a value cannot be meant; the message names the flag.
    """

    source: str | Path
    model: str
    output_dir: str | Path
    negatives: int = 4
    corpus: str | None = None
    margin: float | None = None
    relative_margin: float | None = None
    max_score: float | None = None
    skip: int = 0
    batch_size: int = 32
    min_score: float | None = None
    on_error: str = "stop"

    def __post_init__(self) -> None:
        if self.on_error not in ON_ERROR:
            raise InputError(f"--on-error must be {' or '.join(ON_ERROR)}, got {self.on_error}")
        for name, least in (("negatives", 1), ("skip", 0), ("batch_size", 1)):
            if getattr(self, name) < least:
                flag = name.replace("_", "-")
                raise InputError(f"--{flag} must be at least {least}, got {getattr(self, name)}")
        if self.relative_margin is not None and not (self.margin is self.max_score is None):
            raise InputError(
                "--relative-margin measures similarities from the mean of the documents, --margin and --max-score do "
                "not: leave out one or the other"
            )

    @property
    def command(self) -> str:
        """Command that mines again."""
        argv = ["lbr", "data", "mine", str(self.source), "--model", self.model]
        for each in fields(self):
            value = getattr(self, each.name)
            if each.name not in ("source", "model", "output_dir", "batch_size") and value != each.default:
                argv += ["--" + each.name.replace("_", "-"), str(value)]
        return shlex.join([*argv, "--output-dir", "DIR"])


def mine(config: MineConfig) -> PreparedSet:
    """Make a set whose pairs of stage 2 have hard negatives; of a file of pairs a set that holds nothing else.

    The other files of a set are copied. The folder is there when all of it is whole, not before.

    Raises:
        InputError: If the source has hard negatives already or was changed so that it is not isolated, the model cannot
            be opened, negatives are found for no pair, or the folder is not empty or cannot be written to.
        UnfinishedError: If the disk does not take it.
    """
    target = Path(config.output_dir).resolve()
    check_target(target)
    check_embedder_exists(config.model)
    corpus_file = None if config.corpus is None else file_of(config.corpus, "corpus")
    if corpus_file is not None:
        check_is_there(corpus_file)
    source = PreparedSet.open(config.source) if Path(config.source).is_dir() else None
    file = source.file("align") if source else str(config.source)
    if config.min_score is None:
        pairs = read_tuples(file, on_error=config.on_error)
        _check_pairs(pairs, file)
    else:  # what scores less is no hard negative here: those are mined
        pairs = read_records(file, FIELDS, config.min_score, config.on_error)
    corpus = read_records(corpus_file, ("document",), on_error=config.on_error) if corpus_file else []
    logger.info("mining for the pairs of %s%s", file, f", in {corpus_file} too" if corpus_file else "")
    if source:
        _check_isolation(source)
    if corpus_file is not None:  # what a set holds out whose file this is, or that; one set may be both
        sets = (PreparedSet.open(each) for each in (file, corpus_file))
        for own in {own.folder: own for own in sets if own}.values():
            corpus = without_held_out(own, corpus)
    mined = with_negatives(pairs, open_sentence_transformer(config.model), config, corpus, same_text_of(file))
    drops = Drops()
    kept = {record["id"] for record in mined}
    for record in pairs:
        if record["id"] not in kept:
            drops.add(f"align: fewer than {config.negatives} hard negatives", record["id"], record["query"])
    try:
        with replacing_folder(target) as folder:
            if source:
                _copy(source, folder)
            write_jsonl(folder / "align.jsonl", mined)
            about = _describe(folder, source.about if source else _about_pairs(config, pairs), config, drops)
    except OSError as error:
        raise not_written(str(config.output_dir), error) from error
    return PreparedSet(Path(config.output_dir), about)


def _check_pairs(pairs: Sequence[Record], file: str) -> None:
    given = next((record["id"] for record in pairs if record["negatives"]), None)
    if given is not None:
        raise InputError(f"record {given} of {file} has hard negatives already; mine for pairs that have none")


def _check_isolation(source: PreparedSet) -> None:
    """Refuse a set that was changed since it was made, and is not isolated any more."""
    files = source.about["files"]
    if any(file_sha256(source.file(name)) != files[name]["sha256"] for name in files):
        left = overlaps_left(source.folder, source.about)
        if not is_isolated(left):
            raise InputError(f"{source.folder} was changed, and holds texts on two sides; make it again")


def without_held_out(source: PreparedSet, corpus: Sequence[Record]) -> list[Record]:
    """Return the documents of a corpus that are none of a set's dev or test, nor nearly."""
    files = [source.file(name) for name in ("dev", "test") if source.has(name)]
    documents = ((row["id"], row["document"]) for file in files for row in read_records(file, ("document",)))
    texts = HeldOutTexts(documents, source.about["near_duplicates"], source.same_text)
    kept = [record for record in corpus if texts.find(record["document"]) is None]
    if len(kept) < len(corpus):
        logger.info("%d documents of --corpus are held out, and are no negatives", len(corpus) - len(kept))
    return kept


def with_negatives(
    records: Sequence[Record],
    model: SentenceTransformer,
    config: MineConfig,
    corpus: Sequence[Record],
    same: str = AUTO,
) -> list[Record]:
    """Return records with the hard negatives that the model finds; no known document of a query is one of them.

    Records for which the filters leave fewer than were asked for are left out, with a count in the log.

    Args:
        records: Records with ``query`` and ``document``.
        model: Model to find them with; its prompts are applied.
        config: How many, and which.
        corpus: Documents to find them in, beside those of the records.
        same: What is the same text, one of `lbr_st.data.same_text.LEVELS`.

    Raises:
        InputError: If they are found for no record.
    """
    # A document in other capitals would be another one, and the first to be found.
    texts = {same_text(record["document"], same): record["document"] for record in [*corpus, *records]}
    spelled = [texts[same_text(record["document"], same)] for record in records]
    # A query in other capitals is the same one, whose other answers are no hard negatives.
    queries = {same_text(query, same): query for query in sorted(record["query"] for record in records)}
    asked = [queries[same_text(record["query"], same)] for record in records]
    for name in ("negatives", "skip"):
        if getattr(config, name) > len(texts):
            raise InputError(f"--{name} {getattr(config, name)}: there are {len(texts)} documents to find them in")
    from_mean = contextlib.nullcontext() if config.relative_margin is None else _less_the_mean(model, [*texts.values()])
    try:
        with from_mean, saying_what_is_longer(model):
            found = mine_hard_negatives(
                Dataset.from_list(
                    [{"anchor": query, "positive": text} for query, text in zip(asked, spelled, strict=True)]
                ),
                model,
                corpus=list(texts.values()),
                num_negatives=config.negatives,
                range_min=config.skip,
                absolute_margin=config.margin,
                relative_margin=config.relative_margin,
                max_score=config.max_score,
                output_format="n-tuple",
                batch_size=config.batch_size,
                # Without FAISS it is the number of queries that are compared with all documents at a time.
                faiss_batch_size=max(1, SIMILARITIES_AT_A_TIME // len(texts)),
                verbose=False,
            )
    except ValueError as error:
        raise InputError(f"no hard negatives could be mined: {one_line(error)}") from error
    names = [name for name in found.column_names if name.startswith("negative")]
    of_pair = {(row["anchor"], row["positive"]): [row[name] for name in names] for row in found}
    mined = [
        record | {"negatives": of_pair[pair]}
        for record, *pair_of in zip(records, asked, spelled, strict=True)
        if (pair := tuple(pair_of)) in of_pair
    ]
    if not mined:
        names = [f"--{name.replace('_', '-')}" for name in FILTERS if getattr(config, name) is not None]
        weaker = f"weaken {' and '.join(names)}, take another --model, or " if names else ""
        raise InputError(
            f"{config.negatives} hard negatives were found for none of {len(records)} pairs; {weaker}ask for fewer"
        )
    logger.info(
        "mined %d hard negatives for %d of %d pairs%s",
        config.negatives,
        len(mined),
        len(records),
        "" if len(mined) == len(records) else "; there are fewer for the others, which are left out",
    )
    return mined


class _LessTheMean(torch.nn.Module):
    """Last module of a model: its vectors, as wide as a mean of such and at length 1, less that mean."""

    mean: torch.Tensor

    def __init__(self, mean: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)

    def forward(self, features: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        vectors = features["sentence_embedding"][..., : len(self.mean)].float()
        vectors = torch.nn.functional.normalize(vectors, dim=-1)
        return features | {"sentence_embedding": vectors - self.mean}


@contextlib.contextmanager
def _less_the_mean(model: SentenceTransformer, documents: Sequence[str]) -> Iterator[None]:
    """Let a model give vectors less the mean of the documents', for as long as this is open."""
    sample = random.Random(0).sample(documents, min(MEAN_OF, len(documents)))
    vectors = model.encode_document(sample, normalize_embeddings=True, convert_to_tensor=True, show_progress_bar=False)
    model.append(_LessTheMean(vectors.float().mean(dim=0)))
    try:
        yield
    finally:
        del model[-1]


def _copy(source: PreparedSet, folder: Path) -> None:
    names = [f"{name}.jsonl" for name in source.about["files"] if name != "align"]
    for name in [*names, DROPPED]:
        if (source.folder / name).is_file():
            shutil.copyfile(source.folder / name, folder / name)


def _about_pairs(config: MineConfig, pairs: Sequence[Record]) -> dict[str, Any]:
    """Return what a set says of itself that is one file of pairs, of which nothing is held out."""
    sources = [str(config.source)]
    licenses = dict.fromkeys(entry.license for entry in registry.entries_of(sources, pairs))
    return {
        "name": Path(config.source).name.partition(".")[0],
        "regime": "strict",
        "objective": "sft",
        "isolated": list(FIELDS),
        "same_text": AUTO,
        "near_duplicates": 0,
        "license": ", ".join(licenses) or None,
        "mteb": mteb_tasks_of(sources, pairs),
        "files": {"align": {}},
        "tokens_are": WORDS,
        "tokenizer": None,
        "searched_only": 0,
        "dropped": {},
        "dropped_examples": {},
        "overlaps_taken_out": count([]),
        "command": None,
    }


def _describe(folder: Path, before: Mapping[str, Any], config: MineConfig, drops: Drops) -> dict[str, Any]:
    """Write what was left out, ``lbr_set.json`` and the card; prove that the set is isolated."""
    left_out = rows_of(folder / DROPPED, text="reason") if (folder / DROPPED).is_file() else ()
    samples = [*left_out, *drops.samples]
    write_jsonl(folder / DROPPED, sorted(samples, key=lambda sample: sample["reason"]))
    count_tokens, tokenizer, unit = _counter(before)
    rows = {name: _rows(folder / f"{name}.jsonl") for name in before["files"]}
    tokens = {name: _tokens(records, count_tokens) for name, records in rows.items()}
    learned = {record["id"] for record in rows.get("learn", ())}
    tasks = registry.mteb_tasks([config.corpus]) if config.corpus else []
    about = {
        **before,
        "files": {
            name: {
                "records": len(rows[name]),
                "tokens": sum(int(lengths.sum()) for lengths in tokens[name].values()),
                "sha256": file_sha256(folder / f"{name}.jsonl"),
            }
            for name in before["files"]
        },
        "mteb": sorted({*before["mteb"], *tasks}),
        "tokens_are": unit,
        "tokenizer": tokenizer,
        "in_both_stages": sum(record["id"] in learned for record in rows["align"]),
        "pairs_with_hard_negatives": len(rows["align"]),
        "mined": {"negatives": config.negatives, "model": config.model, "corpus": config.corpus},
        "dropped": dict(sorted((before["dropped"] | drops.counts).items())),
        "dropped_examples": before["dropped_examples"] | drops.examples,
        "command": "\n".join(filter(None, [before["command"], config.command])),
    }
    about["overlaps_left"] = overlaps_left(folder, about)
    if not is_isolated(about["overlaps_left"]):
        raise RuntimeError(
            f"a set that is not isolated was not kept: {about['overlaps_left']}; this is a bug of lbr-st"
        )
    card.write(folder, about, tokens)
    return about


def _counter(before: Mapping[str, Any]) -> tuple[Callable[[str], int], str | None, str]:
    """Return what counts tokens as before, with its name and unit; words where the tokenizer is not there any more."""
    try:
        return counter_of(before["tokenizer"]), before["tokenizer"], before["tokens_are"]
    except InputError as error:
        logger.warning("%s; words and marks are counted", error)
        return count_words, None, WORDS


def _tokens(records: Sequence[Record], count_tokens: Callable[[str], int]) -> dict[str, Any]:
    found = {field: [count_tokens(record[field]) for record in records if field in record] for field in FIELDS}
    return {field: np.array(lengths, np.int64) for field, lengths in found.items() if lengths}


def _rows(file: str | Path) -> list[Record]:
    return list(rows_of(file))
