"""What an adaptation refuses before its first step, that would be found out hours later."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

from lbr_st.adaptation.config import AdaptConfig
from lbr_st.adaptation.data_steps import ROOM, held_out_by, where_queries_come_from
from lbr_st.adaptation.endpoint import Endpoint
from lbr_st.adaptation.held_out import FEWEST_IN_ALL
from lbr_st.adaptation.layout import Layout
from lbr_st.adaptation.passages import Passage
from lbr_st.adaptation.queries import QUERIES
from lbr_st.adaptation.query_text import why_not
from lbr_st.adaptation.steps import is_done
from lbr_st.adaptation.training_steps import align_config, learn_config
from lbr_st.adaptation.writers import Decoding, Request, check_chat
from lbr_st.alignment import run as alignment
from lbr_st.data.drops import Drops, on_wrong_row
from lbr_st.data.folders import holds_no_data
from lbr_st.data.parts import Reading, parts_of
from lbr_st.data.passages import Chunker
from lbr_st.data.prepared_set import PreparedSet, file_of
from lbr_st.data.records import read_records
from lbr_st.data.same_text import same_text
from lbr_st.data.table import counter_of
from lbr_st.errors import InputError, check_installed
from lbr_st.evaluation.general import general_pairs
from lbr_st.evaluation.ranking import BM25
from lbr_st.files import require_empty
from lbr_st.learning import run as learning
from lbr_st.model.named import check_is_found, count_parameters, is_other_embedding_model
from lbr_st.model.opening import open_cross_encoder, open_sentence_transformer
from lbr_st.model.trainable import check_can_be_trained
from lbr_st.model.weights import check_weight_files
from lbr_st.records import QUERIES_FILE, Record

# Settings of the bottleneck, which a model keeps that has one.
BOTTLENECK = {"bottleneck_tokens", "compression_ratio", "nested"}
PROMPTS = ("query_prompt", "document_prompt")
BYTES = 4  # of a number of a model that is trained
# Numbers that a checkpoint has for one of the model: itself, and the two of AdamW.
IN_A_CHECKPOINT = 3
# What a server is asked, to see whether it answers.
ASKED = Request(Passage("asked", "Iron is a metal that is found in many rocks.", "asked"), "question", 1)


def check(config: AdaptConfig) -> None:
    """Refuse what can be refused before any work. What only steps need that are done already is not looked at.

    Raises:
        InputError: With the flag, and why.
        UnfinishedError: If the generator does not answer.
    """
    require_empty(config.output_dir)
    for flag, name in (("--model", config.model), ("--teacher", config.teacher), ("--reranker", config.reranker)):
        if name is not None:
            check_is_found(name, flag)
    check_can_be_trained(config.model, config.max_length)
    for source in config.sources:
        parts_of(str(source), Reading())
    for flag, file in (("--queries", config.queries), ("--general", config.general), ("--pairs", config.pairs)):
        if file is not None:
            _check_pairs(flag, file)
    check_installed("bm25s", f"--model {BM25}")
    if is_other_embedding_model(config.model) and config.learn:
        raise InputError(f"--learn: {config.model} is an embedding model, which stage 1 is left out for")
    layout = Layout(config)
    to_do = [name for name in layout.names if not is_done(layout.folder(name))]
    _check_stages(layout)
    _check_room(layout, to_do)
    _check_files(config, to_do)
    if "queries" in to_do:
        _check_queries(layout)
    if "set" in to_do and held_out_by(config.pairs) is None:
        _check_passages(layout)
    _check_models(layout, to_do)
    if "queries" in to_do:
        _check_writer(layout)


def _check_pairs(flag: str, file: str) -> None:
    """Refuse what is no file of queries with their passages, nor a prepared set."""
    path = Path(file)
    if not path.exists():
        raise InputError(f"{flag} {file}: no such file")
    if not path.is_dir() or PreparedSet.open(path) is not None:
        return
    if why := holds_no_data(path):
        raise InputError(f"{flag} {file}: {why}")
    instead = f"; give {path / QUERIES}" if (path / QUERIES_FILE).is_file() else ""
    raise InputError(
        f"{flag} {file}: is a folder, where a file of queries with their passages is needed, or a prepared set{instead}"
    )


def _check_stages(layout: Layout) -> None:
    """Refuse flags that contradict each other, packages that are not there, and texts longer than the model reads."""
    config = layout.config
    if layout.learns:
        for name in sorted(BOTTLENECK & {*config.align}):
            raise InputError(
                f"--align {name}: stage 2 has the bottleneck of stage 1; write --learn {name}={config.align[name]}"
            )
        learning.check_model(learn_config(layout, {}, config.model, Path("set"), Path("learn")))
    for name in PROMPTS:
        if layout.merges and name in config.align and config.align[name] != config.learn.get(name):
            do = f"write --learn {name}=... too, or " if layout.learns else ""
            raise InputError(
                f"--align {name}: the end is merged with what it was made from, which has not this prompt; {do}add "
                "--skip merge"
            )
    alignment.check_model(align_config(layout, {}, config.model, Path("align.jsonl"), Path("align")))


def _check_room(layout: Layout, to_do: list[str]) -> None:
    needed, free = least_room(layout, to_do), free_room(layout)
    if needed > free:
        raise InputError(
            f"--output-dir {layout.config.output_dir}: the models on the way take at least {needed / 2**30:.1f} GiB of "
            f"disk, and {free / 2**30:.1f} are free; make room, or choose another disk"
        )


def least_room(layout: Layout, to_do: list[str]) -> int:
    """Return how many bytes of disk the steps that are to be done take at once, at least; 0 where nothing is known.

    A stage holds a checkpoint and the model when it ends, and then the model alone.

    Args:
        layout: The steps.
        to_do: Names of those that are to be done.
    """
    if not Path(layout.config.model).exists():
        return 0  # a model of the Hub is weighed when it is here
    kept, most = 0, 0
    leaves = {"start": layout.pools + layout.converts, "learn": 1, "align": 1, "merge": 1, "verdict": 1}
    for name in to_do:
        stage = {"learn": layout.config.learn, "align": layout.config.align}.get(name)
        checkpoint = IN_A_CHECKPOINT if stage is not None and "lora_rank" not in stage else 0
        kept += leaves.get(name, 0)
        most = max(most, kept + checkpoint)
    return most * BYTES * parameters_of(layout.config.model)


def parameters_of(name: str) -> int:
    """Return the number of parameters of a model on this machine; 0 where its files do not tell."""
    if not is_other_embedding_model(name):
        return count_parameters(name)
    folders = (Path(name), *filter(Path.is_dir, Path(name).glob("[0-9]*_*")))
    return sum(math.prod(each.shape) for folder in folders for each in check_weight_files(folder).values())


def free_room(layout: Layout) -> int:
    """Return how many bytes are free where the steps are."""
    work = layout.config.work.absolute()
    return shutil.disk_usage(next(each for each in (work, *work.parents) if each.is_dir())).free


def _check_files(config: AdaptConfig, to_do: list[str]) -> None:
    """Read the small files whole: each says in one line what it has, or which row is wrong."""
    if "queries" in to_do or "set" in to_do:
        for source in (config.pairs, config.queries):
            if source is not None:
                read_records(file_of(source, "align"))
        own = held_out_by(config.pairs)
        for side in ("dev", "test"):
            if own is not None:
                read_records(own.file(side))
    if config.general is not None and ("merge" in to_do or "verdict" in to_do):
        general_pairs(config.general, seed=config.seed)


def _check_queries(layout: Layout) -> None:
    """Refuse a corpus without titles and queries, where none are given, and nothing writes them."""
    config = layout.config
    if config.queries is not None or config.pairs is not None or config.generator is not None:
        return
    if layout.chats:
        return
    lost = Drops()
    reading = Reading(wrong=on_wrong_row(config.on_error, lost), incomplete=lost.add_error)
    records = (
        record for source in config.sources for part in parts_of(str(source), reading) for record in part.records()
    )
    if not any(_is_asked(record) for record in records):
        raise InputError(where_queries_come_from(config, False, lost))


def _check_passages(layout: Layout) -> None:
    """Refuse fewer passages than are needed for training and judging, whatever asks for them."""
    config = layout.config
    found = {
        same_text(record["document"])
        for source in (config.pairs, config.queries)
        if source is not None
        for record in read_records(file_of(source, "align"))
    }
    # What is no tokenizer's directory yet is counted in bytes, of which a token has one at least.
    count = (lambda text: len(text.encode())) if layout.converts else counter_of(config.model)
    reading = Reading(
        chunker=Chunker(config.max_length - ROOM, count),
        wrong=on_wrong_row(config.on_error, Drops()),
        incomplete=Drops().add_error,
    )
    for source in config.sources:
        for part in parts_of(str(source), reading):
            for record in part.records():
                if len(found) >= FEWEST_IN_ALL:
                    return
                found.add(same_text(record["document"]))
    if len(found) < FEWEST_IN_ALL:
        raise InputError(
            f"{', '.join(map(str, config.sources))}: {len(found)} passages, and at least {FEWEST_IN_ALL} with a query "
            "are needed to train on some and be judged by others; give more text, or a set with its own dev and test "
            "as --pairs"
        )


def _is_asked(record: Record) -> bool:
    """Tell whether a document has a title, a heading or a query."""
    texts = (record.get("query"), record.get("title"))
    return any(text and why_not(text, record["document"]) is None for text in texts)


def _check_models(layout: Layout, to_do: list[str]) -> None:
    """Open the models that are asked only after stage 1."""
    config = layout.config
    if not {"filter", "negatives", "align"} & {*to_do}:
        return
    if config.teacher is not None:
        open_sentence_transformer(config.teacher, "--teacher")
    if config.reranker is not None:
        open_cross_encoder(config.reranker, "--reranker")
    if not layout.is_language_model:
        open_sentence_transformer(config.model)


def _check_writer(layout: Layout) -> None:
    """Ask a server for one query; a model that writes them must have a chat template that leaves room for a passage."""
    config = layout.config
    if config.queries is not None:
        return
    if config.generator is not None and config.generator_model is not None:
        endpoint = Endpoint(config.generator, config.generator_model, Decoding(), at_once=1)
        for _, answer in endpoint.write([ASKED]):
            if answer.refused:
                raise InputError(f"--generator {config.generator} refuses what it is asked: {answer.refused}")
    elif layout.chats:
        check_chat(config.model)
    elif layout.writes and (config.per_passage or 1) > 1:
        raise InputError(
            f"--per-passage {config.per_passage}: {config.model} has no chat template, and writes one question for a "
            "passage, as stage 1 teaches it; leave --per-passage out, or give --generator, which writes more"
        )
