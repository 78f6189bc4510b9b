"""Does a saved model keep its promises? Its files, its read-out token, its vectors, in every way it is loaded."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer

from lbr_st.errors import shortened
from lbr_st.files import file_sha256
from lbr_st.model.bottleneck import BottleneckTransformer, bottleneck_module
from lbr_st.model.contract import (
    BESIDE_THE_TOKENIZER,
    LBR_CONFIG,
    REFERENCE,
    SavedFiles,
    VerificationError,
    changed_files,
    fail,
    file_checks,
    loaded_files,
)
from lbr_st.model.devices import check_device
from lbr_st.model.domain_tokens import terms_of
from lbr_st.model.tokens import bottleneck_token

# Lengths of differences between vectors of length 1. Of one model they agree to about 1e-6 in float32 and 1e-2 in half
# precision; a lost token or weight shows at 0.1 and more.
SAME_VECTOR = 1e-4
SAME_VECTOR_HALF_PRECISION = 5e-2

# Vectors are compared on texts of at most so many tokens; token ids on texts of any length.
VECTOR_LENGTH = 512

TEXTS = [
    "",
    " ",
    "\n\n\t",
    "one",
    "What is learned before it is represented?",
    "One is longer than the others. " * 4,
    "Ümläute, 漢字, हिन्दी, עברית, 👩‍🔬 and e\u0301 in one text",
    "\x00 \u200b \ufeff \U0010ffff",
]
LONG = "many words " * 400  # longer than any VECTOR_LENGTH

# Some families have hundreds of special tokens: the first have a text each, and all are in one.
SPECIALS_ALONE = 8

# Domain tokens whose terms have a text each.
TERMS = 8

MOST_SHOWN = 60  # characters of a text in an error

# Written down with every save, and found again on other machines and versions.
REFERENCE_TEXTS = ["", "What is learned before it is represented?", "Ümläute, 漢字 and 👩‍🔬 in one text"]
REFERENCE_NUMBERS = 8


def longer_than(length: int) -> str:
    """Return a text of more than so many tokens, and no shorter than `LONG`."""
    return "many words " * max(length, 400)


def verify(path: str | Path, in_memory: SentenceTransformer | None = None, device: str | None = None) -> Iterator[str]:
    """Check a saved model, of either layout, and say a line for each check that holds.

    The directory is loaded in all the ways that people load it, one after the other: of its weights there is one copy
    at a time, beside those of ``in_memory``.

    Args:
        path: Directory of the model.
        in_memory: The model it was saved from, to compare weights and vectors with.
        device: Device to run it on; default as sentence-transformers chooses.

    Raises:
        InputError: If there is no such device.
        VerificationError: With the file or input and the reason, for the first check that does not hold.
    """
    check_device(device)
    files = SavedFiles(path)
    yield from file_checks(files)
    for name, check in _SavedModel(files, in_memory, device).checks():
        try:
            line = check()
        except VerificationError:
            raise
        except Exception as error:  # whatever any part of the stack says of a broken directory
            where = next(iter(changed_files(files)), files.path)
            fail(where, f"the check {name!r} ended with {type(error).__name__}: {error}")
        yield f"{name}: {line}"
    yield _servers(files)


class _SavedModel:
    """A saved model, as sentence-transformers loads it; the other ways are compared with the vectors of that one."""

    def __init__(self, files: SavedFiles, in_memory: SentenceTransformer | None, device: str | None) -> None:
        self.files = files
        self.path = str(files.path)
        self.k = len(files.ids)
        self.in_memory = in_memory
        self.asked_for = device

    def checks(self) -> Iterator[tuple[str, Callable[[], str]]]:
        """Yield the checks in their order, each with its name."""
        yield "loading", self.check_loading
        yield "read-out", self.check_read_out
        yield "vectors", self.check_vectors
        yield "batches", self.check_batches
        if self.in_memory is not None:
            yield "in memory", self.check_in_memory
        _let_go(self.model)  # the others need its tokenizer, pooling and vectors
        yield "by hand", self.check_by_hand
        yield "module", self.check_module
        yield "reference", self.check_reference

    def check_loading(self) -> str:
        """Load it with sentence-transformers, which takes no more than its layout asks for."""
        trusted = not self.files.is_portable  # the native layout is our own code; the portable one must not need any
        model = SentenceTransformer(self.path, device=self.asked_for, local_files_only=True, trust_remote_code=trusted)
        self.model = model.eval()
        self.device, self.dtype = model.device, model.dtype
        parts = ", ".join(type(module).__name__ for module in model)
        return f"SentenceTransformer gives {parts}"

    @cached_property
    def texts(self) -> list[str]:
        """Texts of all kinds, the bottleneck tokens and every special token of the family spelled out among them."""
        spelled = [bottleneck_token(index) for index in {0, self.k - 1}]
        spelled += [token.replace(" ", space) for token in spelled for space in ("\u0120", "\u2581", "\xa0", "  ")]
        specials = self.model.tokenizer.all_special_tokens
        alone = [f"a {token} b {token}" for token in [*spelled, *specials[:SPECIALS_ALONE]]]
        ids = self.files.domain_ids[:TERMS]
        terms = terms_of(self.model.tokenizer, ids) if ids else []
        of_terms = [f"{term}, {term}s or ({term})" for term in terms]
        return [*TEXTS, *alone, "".join(spelled), "".join(specials), *of_terms, LONG]

    @cached_property
    def vectors(self) -> Tensor:
        """float32 vectors ``(texts, width)`` on the CPU, each of a text encoded alone."""
        return self.encode(self.model, batch_size=1)

    def encode(self, model: SentenceTransformer, batch_size: int = 16, padding_side: str = "right") -> Tensor:
        with _reading(model, min(self.files.max_seq_length, VECTOR_LENGTH), padding_side):
            return _encode(model, self.texts, batch_size)

    @property
    def tolerance(self) -> float:
        return SAME_VECTOR if self.dtype == torch.float32 else SAME_VECTOR_HALF_PRECISION

    def expected_ids(self, text_length: int) -> list[int]:
        """Return the bottleneck token ids that a text of so many tokens ends with (arXiv 2601.11124, section 3.2)."""
        ratio = self.files.compression_ratio
        k = self.k if ratio is None else min(max(math.ceil(text_length / ratio), 1), self.k)
        return self.files.ids[-k:]

    def check_read_out(self) -> str:
        """Every text ends with the bottleneck tokens, however it is padded, prompted and cut."""
        prefix = len(self.model.tokenizer("")["input_ids"]) - self.k
        lengths = (self.files.max_seq_length, prefix + self.k + 1)
        prompts = dict.fromkeys(["", "query: ", *self.model.prompts.values()])
        ways = list(itertools.product(("right", "left"), lengths, prompts))
        too_long = longer_than(self.files.max_seq_length)
        for padding_side, length, prompt in ways:
            texts = [*self.texts, too_long] if not prompt and length == lengths[0] and too_long != LONG else self.texts
            with _reading(self.model, length, padding_side):
                batch = self.model.preprocess(texts, prompt=prompt)
            for text, ids, mask in zip(texts, batch["input_ids"], batch["attention_mask"], strict=True):
                row = ids[mask.bool()].tolist()
                text_length = sum(id_ not in self.files.ids for id_ in row) - prefix
                expected = self.expected_ids(text_length)
                where = f"{_input(text)} (padding {padding_side}, prompt {prompt!r}, at most {length} tokens)"
                if row[prefix + text_length :] != expected:
                    fail(where, f"does not end with token ids {expected}, or has them in its text: {row}")
                if len(row) > length:
                    fail(where, f"is read as {len(row)} tokens")
        number = f"{self.k}" if self.files.compression_ratio is None else f"1 to {self.k}"
        return f"{len(self.texts)} texts, in {len(ways)} ways, end with {number} bottleneck token(s)"

    def check_vectors(self) -> str:
        for text, vector in zip(self.texts, self.vectors, strict=True):
            if not vector.isfinite().all():
                fail(_input(text), "its vector is not finite")
            if abs(vector.norm().item() - 1) > self.tolerance:
                fail(_input(text), f"its vector has length {vector.norm().item():.6f}, not 1")
        self.reference_vectors = _reference_vectors(self.model)
        return f"{len(self.vectors)} of {self.vectors.shape[1]} numbers, finite, of length 1"

    def check_batches(self) -> str:
        # Positions start at the first column: where they are absolute, padding on the left moves the text.
        sides = ["right"] if self.has_absolute_positions() else ["right", "left"]
        largest = max(
            self.compare(self.encode(self.model, padding_side=side), f"in a batch padded on the {side}")
            for side in sides
        )
        padded = f"padded on the {' or '.join(sides)}"
        return f"a text has the same vector alone and among others ({padded}), to {largest:.1g}"

    def has_absolute_positions(self) -> bool:
        """Tell whether the same tokens further on are read differently, as with learned positions."""
        language_model: Any = self.model[0].model
        ids, positions = torch.tensor([self.files.ids[-1:] * 2, [0, 1]], device=self.device)[:, None]
        far = min(64, self.files.max_seq_length - 2)  # as far as a position that surely exists
        with torch.no_grad():
            here, further_on = (language_model.base_model(ids, position_ids=positions + by)[0] for by in (0, far))
        return (here - further_on).abs().max().item() > self.tolerance * here.abs().max().item()

    def check_reference(self) -> str:
        """What was written down when the model was saved: vectors of a few texts, and the files byte for byte."""
        if REFERENCE not in self.files.json:
            return f"there is no {REFERENCE}; a model saved by lbr_st.save has one"
        reference = self.files.field(REFERENCE, "vectors", dict)
        largest = 0.0
        for text, vector in self.reference_vectors.items():
            expected = torch.tensor(reference[text])
            difference = ((torch.tensor(vector) - expected).norm() / expected.norm()).item()
            if not difference <= self.tolerance:
                fail(
                    _input(text),
                    f"its vector differs from the one written down in {REFERENCE}, by {difference:.2g} of its length",
                )
            largest = max(largest, difference)
        self.check_bytes()
        return f"files and vectors are those of when the model was saved, to {largest:.1g}"

    def check_bytes(self) -> None:
        """The files that were saved, and none beside the tokenizer's: what the vectors of a few texts do not show."""
        saved = self.files.field(REFERENCE, "sha256", dict)
        for name in changed_files(self.files):
            if not (self.files.path / name).is_file():
                fail(name, "missing")
            fail(
                name,
                f"is not the file that was saved: its SHA-256 is not the one in {REFERENCE}; after a change that is "
                "meant, open the model with lbr_st.load and save it with lbr_st.save",
            )
        for name in sorted(BESIDE_THE_TOKENIZER - saved.keys()):
            if (self.files.path / name).exists():
                fail(name, "was not saved with the model, and changes what its tokenizer.json says")

    def check_in_memory(self) -> str:
        assert self.in_memory is not None
        largest = self.compare(self.encode(self.in_memory), "of the model it was saved from")
        return f"the model it was saved from gives the same vectors, to {largest:.1g}"

    def check_by_hand(self) -> str:
        """AutoTokenizer, AutoModel, the last hidden state of the last token, divided by its length."""
        tokenizer = AutoTokenizer.from_pretrained(self.path)
        model = AutoModel.from_pretrained(self.path).to(self.device).eval()
        prefix = len(tokenizer("")["input_ids"]) - self.k
        vectors = []
        for text in self.texts:
            length = min(self.files.max_seq_length, VECTOR_LENGTH)
            row = tokenizer(text, truncation=True, max_length=length)["input_ids"]
            text_ids = row[: len(row) - self.k]
            ids = torch.tensor([text_ids + self.expected_ids(len(text_ids) - prefix)], device=self.device)
            with torch.no_grad():
                hidden = model(ids).last_hidden_state[0, -1]
            vectors.append(hidden / hidden.norm())
        _let_go(model)
        largest = self.compare(torch.stack(vectors), "with AutoModel by hand")
        return f"AutoTokenizer and AutoModel give the same vectors, to {largest:.1g}"

    def check_module(self) -> str:
        """The whole language model: nothing missing in the file, the weights of memory, vectors, and it generates."""
        loaded: Any = AutoModelForCausalLM.from_pretrained(self.path, output_loading_info=True)
        language_model, loading = loaded
        for problem in ("missing_keys", "unexpected_keys", "mismatched_keys"):
            if loading[problem]:
                fail("weights", f"{problem.replace('_', ' ')}: {', '.join(map(str, sorted(loading[problem])[:3]))}")
        config = {key: self.files[LBR_CONFIG].get(key) for key in BottleneckTransformer.config_keys}
        module = BottleneckTransformer(language_model, AutoTokenizer.from_pretrained(self.path), **config)
        rest = [self.model[index] for index in range(1, len(self.model))]
        model = SentenceTransformer(modules=[module, *rest], device=str(self.device)).eval()
        same_weights = ""
        if self.in_memory is not None:
            number = _compare_weights(language_model, bottleneck_module(self.in_memory).model)
            same_weights = f", has the {number} tensors of the model it was saved from bit for bit"
        largest = self.compare(self.encode(model), "with the module of lbr_st")
        module.generate(["one"], max_new_tokens=2)
        _let_go(model)
        return f"the language model is whole{same_weights}, generates, and gives the same vectors, to {largest:.1g}"

    def compare(self, found: Tensor, way: str) -> float:
        """Return the length of the largest difference to the vectors of the saved model: no more than rounding."""
        differences = (found.float().cpu() - self.vectors).norm(dim=1)
        worst = int(differences.argmax())
        if not differences[worst] <= self.tolerance:  # NaN is not either
            fail(_input(self.texts[worst]), f"its vector {way} differs by {differences[worst]:.2g}")
        return differences[worst].item()


def _let_go(model: nn.Module) -> None:
    """Free the weights of a model now, whoever still holds it."""
    model.to("meta")


def _compare_weights(saved: nn.Module, in_memory: nn.Module) -> int:
    """Compare two models tensor by tensor, in the precision that was saved; return the number of tensors."""
    expected = in_memory.state_dict()
    found = saved.state_dict()
    if found.keys() != expected.keys():
        fail(
            "weights",
            f"{sorted(found.keys() ^ expected.keys())[0]} is not in the model it was saved from, or only there",
        )
    for name, tensor in found.items():
        there = expected[name].to(tensor.device, tensor.dtype)
        if there.shape != tensor.shape or not ((tensor == there) | (tensor.isnan() & there.isnan())).all():
            fail("weights", f"{name} is not what it is in the model it was saved from")
    return len(found)


def _encode(model: SentenceTransformer, texts: Sequence[str], batch_size: int) -> Tensor:
    """Return float32 vectors ``(texts, width)`` on the CPU, without any prompt."""
    dimensions, model.truncate_dim = model.truncate_dim, None
    try:
        vectors = model.encode(
            list(texts), prompt="", batch_size=batch_size, convert_to_tensor=True, show_progress_bar=False
        )
    finally:
        model.truncate_dim = dimensions
    return vectors.float().cpu()


def reference_of(model: SentenceTransformer, folder: Path) -> dict[str, Any]:
    """Return what a model saved in ``folder`` can be known by later: hashes of its files, and a few vectors."""
    hashes = {file.relative_to(folder).as_posix(): file_sha256(file) for file in loaded_files(folder)}
    return {"sha256": hashes, "vectors": _reference_vectors(model)}


def _reference_vectors(model: SentenceTransformer) -> dict[str, list[float]]:
    """Return the first numbers of the vectors of a few texts."""
    vectors = _encode(model, REFERENCE_TEXTS, batch_size=1)[:, :REFERENCE_NUMBERS]
    return dict(zip(REFERENCE_TEXTS, vectors.tolist(), strict=True))


@contextlib.contextmanager
def _reading(model: SentenceTransformer, length: int, padding_side: str) -> Iterator[None]:
    """Cut texts at another length and pad them on a given side, for a while."""
    before = model.max_seq_length, model.tokenizer.padding_side
    model.max_seq_length, model.tokenizer.padding_side = length, padding_side
    try:
        yield
    finally:
        model.max_seq_length, model.tokenizer.padding_side = before


def _input(text: str) -> str:
    return f"input {shortened(text, MOST_SHOWN)!r}"


def _servers(files: SavedFiles) -> str:
    """Return what no directory can give: known limits of the engines, for the reader to decide."""
    if not files.is_portable:
        return "servers: vLLM, text-embeddings-inference and llama.cpp do not read the native layout"
    if len(files.ids) > 1:
        return f"servers: vLLM and text-embeddings-inference append all tokens; llama.cpp one, not {len(files.ids)}"
    return "servers: for llama.cpp, convert a copy without the post-processor (docs/guides/serving.md)"
