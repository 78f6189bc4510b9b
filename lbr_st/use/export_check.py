"""Whether an export gives the vectors of its model: short, long and cut texts, alone and padded, with prompts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer

from lbr_st.errors import shortened
from lbr_st.model.contract import fail
from lbr_st.model.verify import LONG, MOST_SHOWN, TEXTS, longer_than
from lbr_st.use.export_formats import OUTPUTS, SAME, Format, Graph, Run

SHORT_TEXTS = [*TEXTS, "a", *("word " * number for number in (2, 5, 13, 34))]


def compare(
    run: Run,
    tokenizer: Tokenizer,
    model: SentenceTransformer,
    format_: Format,
    needs: Iterable[Callable[[str], bool]] = (),
) -> list[float]:
    """Compare vectors of an export with ``model.encode``: alone, in batches padded on both sides, with prompts.

    Args:
        run: The export, in its own runtime.
        tokenizer: The one written beside it.
        model: The original, in float32.
        format_: Says how far they may differ.
        needs: What must hold of a text; others are left out, as the format takes them otherwise.

    Returns:
        The cosine of each vector and the original's.

    Raises:
        VerificationError: With the input and its cosine, if one is too low, or with the input that is cut otherwise.
    """
    too_long = longer_than(model.max_seq_length or 10_000)
    if tokenizer.encode(too_long).ids != model.preprocess([too_long])["input_ids"][0].tolist():
        fail(
            f"input {shortened(too_long, MOST_SHOWN)!r}",
            "the tokenizer written cuts it into other tokens than the model's own",
        )
    cosines, needs = [], list(needs)
    for all_texts, prompt, side in _comparisons(model):
        # A text without a token has no mean of tokens, in whatever runtime.
        texts = [text for text in all_texts if tokenizer.encode(prompt + text).ids]
        texts = [text for text in texts if all(holds(prompt + text) for holds in needs)]
        if not texts:
            continue
        model.tokenizer.padding_side = side
        tokenizer.enable_padding(**{**(tokenizer.padding or {}), "direction": side})
        expected = model.encode(texts, prompt=prompt, batch_size=len(texts), show_progress_bar=False)
        for output, found in _vectors(run, tokenizer, model, [prompt + text for text in texts]).items():
            for text, cosine in zip(texts, _cosines(found, expected), strict=True):
                if not cosine >= format_.least_cosine:  # NaN is not either
                    way = "alone" if len(texts) == 1 else f"in a batch padded on the {side}"
                    what = f"{output} of {format_.file} gives a vector of cosine {cosine:.6f} to the original's"
                    remedy = "; onnx keeps float32" if format_.least_cosine < SAME else ""
                    fail(
                        f"input {shortened(prompt + text, MOST_SHOWN)!r} {way}",
                        f"{what}, below {format_.least_cosine}{remedy}",
                    )
                cosines.append(cosine)
    return cosines


def _vectors(run: Run, tokenizer: Tokenizer, model: SentenceTransformer, texts: list[str]) -> dict[str, np.ndarray]:
    """Return the vectors ``(texts, width)`` of both outputs: pooled by the export, and pooled from what it gives."""
    rows = tokenizer.encode_batch(texts)
    ids, mask = (np.array([getattr(row, name) for row in rows]) for name in ("ids", "attention_mask"))
    hidden, pooled = run({"input_ids": ids, "attention_mask": mask})
    pooled_here = Graph(model).pool(torch.from_numpy(hidden), torch.from_numpy(mask)).numpy()
    return dict(zip(OUTPUTS, (pooled_here, pooled), strict=True))


def _comparisons(model: SentenceTransformer) -> Iterator[tuple[list[str], str, str]]:
    """Give texts, the prompt before them, and the side they are padded on."""
    both = sides(model)
    for prompt in {"": None, "query: ": None, **dict.fromkeys(filter(None, model.prompts.values()))}:
        for text in SHORT_TEXTS:
            yield [text], prompt, "right"
        for side in both:
            yield SHORT_TEXTS, prompt, side
    yield [LONG], "", "right"
    for side in both:
        yield [LONG, "one"], "", side


def sides(model: SentenceTransformer) -> list[str]:
    """Return where a text can be padded: where positions are learned (GPT-2), not on the left, which moves it."""
    model.tokenizer.padding_side = "left"
    encode = partial(model.encode, ["one", "word " * 13], prompt="", show_progress_bar=False)
    moved = min(_cosines(encode(batch_size=2), encode(batch_size=1))) < SAME
    return ["right"] if moved else ["right", "left"]


def _cosines(found: np.ndarray, expected: np.ndarray) -> list[float]:
    found, expected = found.astype(np.float64), expected.astype(np.float64)
    lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
    return ((found * expected).sum(axis=1) / lengths).tolist()
