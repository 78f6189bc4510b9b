"""Examples of stage 1: records tokenized into ``[BOS? X Z Y EOS]``, mixed, and counted."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sentence_transformers import SentenceTransformer
from transformers import PreTrainedTokenizerBase

from lbr_st.errors import InputError
from lbr_st.learning.batches import IGNORE
from lbr_st.learning.objectives import Arm, fields_of
from lbr_st.model.bottleneck import BottleneckTransformer, bottleneck_module
from lbr_st.model.cutoff import BOTTLENECK, PREFIX, SOURCE, TARGET
from lbr_st.model.lengths import describe_longer
from lbr_st.model.nested import draw_numbers
from lbr_st.model.positions import most_positions
from lbr_st.records import Record

if TYPE_CHECKING:
    from datasets import Dataset  # imported where one is made: an `ExampleMaker` works without the package

logger = logging.getLogger(__name__)

Columns = dict[str, list[Any]]
Pieces = Sequence[tuple[str | None, str]]


@dataclass(frozen=True)
class ExampleMaker:
    """Tokenizes columns of texts into ``[BOS? X Z Y EOS]``.

    X is tokenized exactly as at encoding time: with its prompt, and cut to the model's ``max_seq_length`` before the
    bottleneck tokens. Y is cut to as many tokens; EOS ends a Y that reaches the end of its document. Of a nested
    bottleneck Z is a first part that is drawn for each row.

    Attributes:
        model: Model whose first module's tokenizer and lengths are used, and whose prompts are.
        objective: One of `lbr_st.learning.objectives.OBJECTIVES`.
        arm: ``[BOS? X Z Y EOS]``, with Y cut off from X or in sight of it; or ``[BOS? X Y EOS]`` with X in sight. For
            ``reconstruct`` the latter is plain pretraining on the document, ``[BOS? Y EOS]``, as a document that is in
            sight need not be rebuilt.
        prefix_share: Least and largest share of a document that is X, for ``prefix-suffix``. Between them it is drawn
            for each document, the same in every run with one seed.
        seed: Seed of that draw, and of the numbers of tokens of a nested bottleneck.
        cut_off: For ``prefix-suffix``, the number of documents in each call whose end is in neither part.
        parts: Fields of Y whose tokens are marked, of ``sft`` where records have a ``target``: its first field has the
            first place. A token is of the first field that it has a character of; what stands between fields, and EOS,
            are of none.
        draws: Whether the numbers of tokens of a nested bottleneck are drawn, as for training; else all are taken.
    """

    model: SentenceTransformer
    objective: str
    arm: Arm = Arm.CUT_OFF
    prefix_share: tuple[float, float] = (0.5, 0.5)
    seed: int = 0
    cut_off: list[int] = field(default_factory=list, compare=False)
    parts: Sequence[str] = ()
    draws: bool = True

    def __call__(self, columns: Columns) -> Columns:
        """Make an example of each row.

        Args:
            columns: Texts ``document``, and ``query`` for objectives that read pairs; ``target`` where Y is not the
                document, as `lbr_st.data.records.read_records` returns it.

        Returns:
            Columns ``input_ids``, ``segments`` (see `lbr_st.model.cutoff`) and ``labels`` (`IGNORE` outside of Y); in
            each row a list of ``seq`` integers. And ``parts``, where some are asked for: a list of 0 and 1 a token.
        """
        module = bottleneck_module(self.model)
        prompt = self.model.prompts["query" if self.objective == "sft" else "document"] or ""
        sources, targets, is_cut = self._texts(columns, module, prompt)
        prefix = module.num_prefix_tokens
        source = SOURCE if self.arm is Arm.CUT_OFF else PREFIX  # what is seen by every row after it
        rows: Columns = {"input_ids": [], "segments": [], "labels": []}
        xs, ys = self._source_ids(sources, module, prompt), self._target_ids(targets, module, is_cut)
        for (x, k), y in zip(xs, ys, strict=True):
            rows["input_ids"].append(x + y)
            parts = [PREFIX] * prefix + [source] * (len(x) - prefix - k) + [BOTTLENECK] * k + [TARGET] * len(y)
            rows["segments"].append(parts)
            # Nothing predicts the first token of a row.
            rows["labels"].append([IGNORE] * len(x) + y if x else [IGNORE, *y[1:]])
        if self.parts:
            rows["parts"] = self._marks(columns["target"], rows["segments"], module)
        return rows

    def _texts(
        self, columns: Columns, module: BottleneckTransformer, prompt: str
    ) -> tuple[list[str], list[str], list[bool]]:
        """Return the texts X, the texts Y, and whether the end of the document of a Y was cut off."""
        documents = columns["document"]
        if self.objective == "prefix-suffix":
            prompt_length = len(module.tokenizer(prompt, add_special_tokens=False)["input_ids"])
            length = module.max_seq_length
            room = length - module.num_prefix_tokens - module.num_bottleneck_tokens - prompt_length
            shares = [draw_share(text, self.prefix_share, self.seed) for text in documents]
            found = split_documents(documents, shares, module.tokenizer, room, length)
            self.cut_off.append(sum(found[-1]))
            return found
        whole = [False] * len(documents)
        if self.objective == "doc2query":
            return documents, columns["query"], whole
        if "target" in columns:
            return columns["query"], [text_of(pieces) for pieces in columns["target"]], whole
        return columns.get("query", documents), documents, whole

    def _source_ids(
        self, sources: list[str], module: BottleneckTransformer, prompt: str
    ) -> Iterator[tuple[list[int], int]]:
        """Yield the ids ``[BOS? X Z]`` of each text, and how many of them are Z."""
        is_bottleneck = set(module.bottleneck_token_ids)
        texts = [prompt + text for text in sources]
        numbers = draw_numbers(texts, module.num_bottleneck_tokens, self.seed) if module.nested and self.draws else None
        for ids in module.tokenize_rows(texts, numbers=numbers):
            k = sum(id_ in is_bottleneck for id_ in ids)
            if self.arm.has_bottleneck:
                yield ids, k
            elif self.objective == "reconstruct":
                yield ids[: module.num_prefix_tokens], 0
            else:
                yield ids[: len(ids) - k], 0

    def _target_ids(self, targets: list[str], module: BottleneckTransformer, is_cut: list[bool]) -> Iterator[list[int]]:
        """Yield the ids ``[Y EOS]`` of each text."""
        tokenizer, length = module.tokenizer, module.max_seq_length
        eos = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
        found = tokenizer(targets, add_special_tokens=False, truncation=True, max_length=length)["input_ids"]
        for ids, cut in zip(found, is_cut, strict=True):
            yield ids if cut else (ids + eos)[:length]

    def _marks(
        self, targets: list[Pieces], segments: list[list[int]], module: BottleneckTransformer
    ) -> list[list[list[int]]]:
        """Return for each token of each example which field of Y it is of."""
        none, found = [0] * len(self.parts), []
        places = {name: [int(name == each) for each in self.parts] for name in self.parts}
        texts = [text_of(pieces) for pieces in targets]
        cut = {"truncation": True, "max_length": module.max_seq_length}
        found_at = module.tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True, **cut)
        for pieces, offsets, of_row in zip(targets, found_at["offset_mapping"], segments, strict=True):
            of_characters = [places.get(name or "", none) for name, text in pieces for _ in text]
            marks = [max(of_characters[start:end], key=any, default=none) for start, end in offsets]
            marks = [none] * of_row.index(TARGET) + marks + [none]  # EOS
            found.append(marks[: len(of_row)])
        return found


def text_of(target: Pieces) -> str:
    """Return the text of a target that is put together of several."""
    return "".join(text for _, text in target)


def build_examples(records: Sequence[Record], make: ExampleMaker) -> Dataset:
    """Tokenize records into examples; say how many documents have an end that no example reads.

    Args:
        records: Records with ``document``, and for objectives that read pairs with ``query``; ``sft`` reads their
            ``target`` where they have one.
        make: What makes examples of them.
    """
    from datasets import Dataset

    # The columns used are named: reconstruct reads the document of pairs too.
    names = [*fields_of(make.objective), *(["target"] if make.objective == "sft" and "target" in records[0] else [])]
    dataset = Dataset.from_list([{name: record[name] for name in names} for record in records])
    examples = dataset.map(
        make,
        batched=True,
        remove_columns=dataset.column_names,
        desc=f"Tokenizing for {make.objective}",
        new_fingerprint=f"examples-{make.objective}",  # else datasets pickles the model to make one
    )
    if longer := sum(make.cut_off):
        length = bottleneck_module(make.model).max_seq_length
        logger.warning("%s", describe_longer(longer, len(records), length, parts=2))
    return examples


def mix(datasets: dict[str, Dataset], weights: dict[str, float], seed: int) -> Dataset:
    """Mix the examples of several objectives into an epoch in which each is there at least once.

    Args:
        datasets: Examples by objective.
        weights: Share of each in the examples of the mixture. Where one has too few for its share, they come again.
        seed: Seed of the order.
    """
    from datasets import concatenate_datasets

    if len(datasets) == 1:
        return next(iter(datasets.values()))
    total = max(len(examples) / weights[name] for name, examples in datasets.items())
    parts = []
    for name, examples in datasets.items():
        count = max(round(weights[name] * total), len(examples))
        parts.append(examples.select([n % len(examples) for n in range(count)]))
    return concatenate_datasets(parts).shuffle(seed=seed)


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
            f"{positions:.0f}; ask for a maximum length of {positions // 2:.0f} at most"
        )


def with_wrong_source(examples: Dataset) -> Dataset | None:
    """Give each example the X and Z of another one, and keep its Y.

    What the loss of Y is with them, beyond what it is with its own, is what the bottleneck carries.

    Returns:
        As many examples in the same order, or None if all have the same X.
    """
    from datasets import Dataset

    rows = list(examples)
    ends = [row["segments"].index(TARGET) for row in rows]
    xs = [row["input_ids"][:end] for row, end in zip(rows, ends, strict=True)]
    if all(x == xs[0] for x in xs):
        return None

    def nearest_with_another_source(index: int) -> int:
        before = index - 1
        while xs[before] == xs[index]:  # going round: -1 is the last
            before -= 1
        return before

    found = []
    for index, (row, end) in enumerate(zip(rows, ends, strict=True)):
        other = nearest_with_another_source(index)
        target = row["input_ids"][end:]
        found.append(
            {
                "input_ids": xs[other] + target,
                "labels": [IGNORE] * ends[other] + target,
                **{
                    name: rows[other][name][: ends[other]] + row[name][end:]
                    for name in ("segments", "parts")
                    if name in row
                },
            }
        )
    return Dataset.from_list(found, features=examples.features)


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
