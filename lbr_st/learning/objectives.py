"""What stage 1 reads and predicts: objectives, mixtures of them, and the examples they make of records."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from typing import Any

from datasets import Dataset, concatenate_datasets
from sentence_transformers import SentenceTransformer
from transformers import PreTrainedTokenizerBase

from lbr_st.errors import InputError
from lbr_st.learning.batches import IGNORE
from lbr_st.model.bottleneck import BottleneckTransformer, bottleneck_module, most_positions
from lbr_st.model.cutoff import BOTTLENECK, PREFIX, SOURCE, TARGET
from lbr_st.records import Record

OBJECTIVES = {
    "sft": "X = query, Y = document",
    "doc2query": "X = document, Y = query",
    "reconstruct": "X = Y = document",
    "prefix-suffix": "X = first part of the document, Y = the rest",
}

READ_PAIRS = ("sft", "doc2query")  # the others read documents alone


def parse_objective(text: str) -> dict[str, float]:
    """Read ``sft`` or a weighted mixture, ``sft:0.7,reconstruct:0.3``.

    Returns:
        The share of each objective; they sum to 1.

    Raises:
        InputError: If an objective is unknown or named twice, or a weight is no number above 0.
    """
    weights: dict[str, float] = {}
    parts = text.split(",")
    for part in parts:
        name, separator, weight = (piece.strip() for piece in part.partition(":"))
        if name not in OBJECTIVES:
            raise InputError(f"--objective {text}: {name!r} is none of {', '.join(OBJECTIVES)}")
        if name in weights:
            raise InputError(f"--objective {text}: {name} is there twice")
        if len(parts) > 1 and not separator:
            raise InputError(f"--objective {text}: {name} has no weight; a mixture is written sft:0.7,reconstruct:0.3")
        try:
            weights[name] = float(weight) if separator else 1.0
        except ValueError:
            weights[name] = math.nan
        if not 0 < weights[name] < math.inf:
            raise InputError(f"--objective {text}: the weight of {name} must be a number above 0, not {weight!r}")
    return {name: weight / sum(weights.values()) for name, weight in weights.items()}


def parse_data(flag: str, sources: Sequence[str], objectives: Sequence[str]) -> dict[str, str]:
    """Say which source each objective reads: one for all, or one for each, written ``sft=FILE reconstruct=FILE``.

    Raises:
        InputError: If an objective has none, or a source has no objective.
    """
    if len(sources) == 1 and sources[0].partition("=")[0] not in OBJECTIVES:
        return dict.fromkeys(objectives, sources[0])
    found = {}
    for source in sources:
        name, separator, path = source.partition("=")
        if not separator or name not in objectives:
            raise InputError(
                f"{flag} {source}: several sources are written one for each objective, "
                + " ".join(f"{objective}=FILE" for objective in objectives)
            )
        if name in found:
            raise InputError(f"{flag} {source}: {name} has a source already")
        found[name] = path
    missing = [objective for objective in objectives if objective not in found]
    if missing:
        raise InputError(f"{flag}: nothing to read for {', '.join(missing)}")
    return found


def fields_of(objective: str) -> tuple[str, ...]:
    """Return the fields of a record that an objective reads."""
    return ("query", "document") if objective in READ_PAIRS else ("document",)


def mix(datasets: dict[str, Dataset], weights: dict[str, float], seed: int) -> Dataset:
    """Mix the examples of several objectives into an epoch in which each is there at least once.

    Args:
        datasets: Examples by objective.
        weights: Share of each in the examples of the mixture. Where one has too few for its share, they come again.
        seed: Of the order.
    """
    if len(datasets) == 1:
        return next(iter(datasets.values()))
    total = max(len(examples) / weights[name] for name, examples in datasets.items())
    parts = []
    for name, examples in datasets.items():
        count = max(round(weights[name] * total), len(examples))
        parts.append(examples.select([n % len(examples) for n in range(count)]))
    return concatenate_datasets(parts).shuffle(seed=seed)


def build_examples(
    records: Sequence[Record],
    model: SentenceTransformer,
    objective: str,
    *,
    bottleneck: bool = True,
    cut_off: bool = True,
    prefix_share: tuple[float, float] = (0.5, 0.5),
    seed: int = 0,
) -> Dataset:
    """Tokenize records into ``[BOS? X Z Y EOS]``, see `example_maker`.

    Args:
        records: With ``document``, and for objectives that read pairs with ``query``.
        model: See `example_maker`, as the others.
        objective: One of `OBJECTIVES`.
        bottleneck: False for the control arms.
        cut_off: False for the control arm with Z.
        prefix_share: For ``prefix-suffix``.
        seed: For ``prefix-suffix``.
    """
    options = {"bottleneck": bottleneck, "cut_off": cut_off}
    make = example_maker(model, objective, **options, prefix_share=prefix_share, seed=seed)
    # The columns used are named: reconstruct reads the document of pairs too.
    dataset = Dataset.from_list([{name: record[name] for name in fields_of(objective)} for record in records])
    return dataset.map(make, batched=True, remove_columns=dataset.column_names, desc=f"Tokenizing for {objective}")


def example_maker(
    model: SentenceTransformer,
    objective: str,
    *,
    bottleneck: bool = True,
    cut_off: bool = True,
    prefix_share: tuple[float, float] = (0.5, 0.5),
    seed: int = 0,
) -> Callable[[dict[str, list[str]]], dict[str, list[list[int]]]]:
    """Return what tokenizes a batch of columns ``document``, of pairs ``query`` too, into ``[BOS? X Z Y EOS]``.

    X is tokenized exactly as at encoding time: with its prompt, and cut to the model's ``max_seq_length`` before the
    bottleneck tokens. Y is cut to as many tokens; EOS ends a Y that reaches the end of its document.

    Args:
        model: Its first module's tokenizer and lengths are used, and its prompts.
        objective: One of `OBJECTIVES`.
        bottleneck: False for the control arms: ``[BOS? X Y EOS]`` with X in sight of Y. For ``reconstruct`` that is
            plain pretraining on the document, ``[BOS? Y EOS]``, as a document that is in sight need not be rebuilt.
        cut_off: False for the control arm with Z: ``[BOS? X Z Y EOS]`` with X in sight of Y.
        prefix_share: For ``prefix-suffix``, the least and the largest share of a document that is X. Between them it
            is drawn for each document, the same in every run with one seed.
        seed: Of the draw.

    Returns:
        A function that gives columns ``input_ids``, ``segments`` (see `lbr_st.model.cutoff`) and ``labels`` (`IGNORE` outside
        of Y), each a list of ``seq`` integers.
    """
    module = bottleneck_module(model)
    tokenizer, length = module.tokenizer, module.max_seq_length
    prefix, ids_of_bottleneck = module.num_prefix_tokens, set(module.bottleneck_token_ids)
    source = SOURCE if bottleneck and cut_off else PREFIX  # what is seen by every row after it
    before_source = source if module.hide_bos else PREFIX
    is_pretraining = objective == "reconstruct" and not bottleneck
    prompt = model.prompts["query" if objective == "sft" else "document"] or ""
    prompt_length = len(tokenizer(prompt, add_special_tokens=False)["input_ids"])
    room = length - prefix - module.num_bottleneck_tokens - prompt_length
    eos = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]

    def tokenize(batch: dict[str, list[str]]) -> dict[str, list[list[int]]]:
        documents = batch["document"]
        is_cut = [False] * len(documents)
        if objective == "prefix-suffix":
            shares = [draw_share(text, prefix_share, seed) for text in documents]
            sources, targets, is_cut = split_documents(documents, shares, tokenizer, room, length)
        elif objective == "doc2query":
            sources, targets = documents, batch["query"]
        else:
            sources, targets = batch.get("query", documents), documents
        x_ids = module.tokenize_rows([prompt + text for text in sources])
        ks = [sum(id_ in ids_of_bottleneck for id_ in ids) for ids in x_ids]
        if not bottleneck:
            x_ids = [ids[:prefix] if is_pretraining else ids[: len(ids) - k] for ids, k in zip(x_ids, ks, strict=True)]
            ks = [0] * len(ks)
        y_ids = tokenizer(targets, add_special_tokens=False, truncation=True, max_length=length)["input_ids"]
        y_ids = [ids if cut else (ids + eos)[:length] for ids, cut in zip(y_ids, is_cut, strict=True)]
        rows = list(zip(x_ids, y_ids, ks, strict=True))
        return {
            "input_ids": [x + y for x, y, _ in rows],
            "segments": [
                [before_source] * prefix + [source] * (len(x) - prefix - k) + [BOTTLENECK] * k + [TARGET] * len(y)
                for x, y, k in rows
            ],
            # Nothing predicts the first token of a row.
            "labels": [([IGNORE] * len(x) + y) if x else [IGNORE, *y[1:]] for x, y, _ in rows],
        }

    return tokenize


def draw_share(text: str, bounds: tuple[float, float], seed: int) -> float:
    """Return the share of a document that is X: drawn evenly within bounds, by its content and the seed."""
    low, high = bounds
    number = int.from_bytes(hashlib.sha256(f"{seed} {text}".encode("utf-8", "surrogatepass")).digest()[:8], "big")
    return low + (high - low) * number / 2**64


def split_documents(
    documents: list[str], shares: list[float], tokenizer: PreTrainedTokenizerBase, room: int, length: int
) -> tuple[list[str], list[str], list[bool]]:
    """Return the first part of each document, the rest, and whether its end was cut off.

    A document is cut first, so that X holds its share in ``room`` tokens, Y the rest in ``length``, and Y goes on
    where X ends.
    """
    whole = tokenizer(documents, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    prefixes, suffixes, is_cut = [], [], []
    for text, offsets, share in zip(documents, whole, shares, strict=True):
        kept = offsets[: min(int(room / share), int(length / (1 - share)))]
        middle = kept[min(max(int(len(kept) * share), 1), len(kept) - 1)][0]
        prefixes.append(text[:middle])
        suffixes.append(text[middle : kept[-1][1]])
        is_cut.append(len(kept) < len(offsets))
    return prefixes, suffixes, is_cut


def check_fits(module: BottleneckTransformer) -> None:
    """Refuse a maximum length with which ``[BOS? X Z Y]`` would be longer than the language model can read.

    Raises:
        InputError: If X and Z, and Y, each of the maximum length, have no place in one row.
    """
    positions, length = most_positions(module.model.config), module.max_seq_length
    if 2 * length > positions:
        raise InputError(
            f"stage 1 reads a text and its target in one row, up to 2 x {length} tokens, and this language model reads "
            f"{positions}; ask for a maximum length of {positions // 2} at most"
        )


def with_wrong_bottleneck(examples: Dataset) -> Dataset | None:
    """Give each example the X and Z of another one, and keep its Y.

    What the loss of Y is with them, beyond what it is with its own, is what the bottleneck carries.

    Returns:
        As many examples in the same order, or None if all have the same X.
    """
    inputs, segments = examples["input_ids"], examples["segments"]
    ends = [parts.index(TARGET) for parts in segments]
    xs = [tuple(ids[:end]) for ids, end in zip(inputs, ends, strict=True)]
    other: list[int] = []
    last = next((n for n in range(len(xs) - 1, -1, -1) if xs[n] != xs[0]), None)
    if last is None:
        return None
    # The nearest one before, going round, whose X is another.
    for n, x in enumerate(xs):
        before = n - 1 if n else last
        other.append(other[before] if n and xs[before] == x else before)

    def of(row: int, start: int) -> dict[str, Any]:
        end = ends[start]
        return {
            "input_ids": inputs[start][:end] + inputs[row][ends[row] :],
            "segments": segments[start][:end] + segments[row][ends[row] :],
            "labels": [IGNORE] * end + inputs[row][ends[row] :],
        }

    return Dataset.from_list([of(row, start) for row, start in enumerate(other)], features=examples.features)


def strata(examples: Dataset) -> list[dict[str, int]]:
    """Count examples and tokens by the length of X, in strata that double: up to 64 tokens, 65 to 128, ...

    Returns:
        A row for each stratum that has examples: ``from``, ``to`` (tokens of X), ``examples``, ``source_tokens``,
        ``bottleneck_tokens`` (both over all its examples), ``least_bottleneck_tokens`` and
        ``most_bottleneck_tokens`` (of an example), ``target_tokens``.
    """
    found: dict[int, dict[str, int]] = {}
    for parts, labels in zip(examples["segments"], examples["labels"], strict=True):
        k = parts.count(BOTTLENECK)
        x = len(parts) - parts.count(TARGET) - k
        end = 64
        while end < x:
            end *= 2
        start = 0 if end == 64 else end // 2 + 1
        row = found.setdefault(end, {"from": start, "to": end, "least_bottleneck_tokens": k})
        for key, value in (
            ("examples", 1),
            ("source_tokens", x),
            ("bottleneck_tokens", k),
            ("target_tokens", len(labels) - labels.count(IGNORE)),
        ):
            row[key] = row.get(key, 0) + value
        row["least_bottleneck_tokens"] = min(row["least_bottleneck_tokens"], k)
        row["most_bottleneck_tokens"] = max(row.get("most_bottleneck_tokens", k), k)
    return [found[end] for end in sorted(found)]
