"""Texts that models read: hostile ones, and the same text alone and among others."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Sequence
from typing import Any

import torch
from cases import Case, Setting
from hostile_texts import SPECIALS, hostile_text
from sentence_transformers import SentenceTransformer
from tiny_models import FAMILIES, TEXTS, make_backbone, make_tokenizer, tiny

import lbr_st
from lbr_st.model.bottleneck import bottleneck_module

TEXTS_A_CASE, PAIRS_A_CASE = 200, 50
LENGTH, TOKENS = 24, 3  # of the models that read hostile texts
SAME_TEXT_LENGTH = 64
# The largest difference between two numbers of a vector in float32; in half precision, what its cosine is below 1.
FLOAT32, HALF = 1e-6, 1e-3
BATCHES = (2, 8, 32, 64)


def open_hostile_texts(setting: Setting) -> Callable[[int], Case]:
    """Return what reads hostile texts with a tokenizer of every kind."""
    kinds = {tokenizer: family for family, (_, _, tokenizer) in reversed(FAMILIES.items())}
    models = {}
    for kind, family in kinds.items():
        folder = setting.folder / kind
        shutil.rmtree(folder, ignore_errors=True)
        tokenizer = make_tokenizer(kind)
        # Registered here, each would be matched in the raw text.
        tokenizer.add_tokens([token for token in SPECIALS if token not in tokenizer.get_vocab()], special_tokens=True)
        tokenizer.save_pretrained(folder / "backbone")
        tiny(family, vocab_size=len(tokenizer)).save_pretrained(folder / "backbone")
        model = lbr_st.from_backbone(
            str(folder / "backbone"), num_bottleneck_tokens=TOKENS, max_seq_length=LENGTH, dtype=torch.float32
        )
        lbr_st.save(model, folder / "model")
        stock = SentenceTransformer(str(folder / "model"), device="cpu", local_files_only=True)
        models[kind] = stock.eval(), bottleneck_module(model).bottleneck_token_ids

    def case(number: int) -> Case:
        rng = setting.rng(number)
        texts = [hostile_text(rng) for _ in range(TEXTS_A_CASE)]
        wrong = [f"{kind}: {each}" for kind, (model, ids) in models.items() for each in misread(model, ids, texts)]
        said = {"texts": len(texts), "kinds": len(models), "moved": sum("read-out" in each for each in wrong)}
        return said | {"ok": not wrong, "why": "; ".join(wrong[:3]) or None}

    return case


def misread(model: SentenceTransformer, bottleneck: list[int], texts: Sequence[str]) -> list[str]:
    """Return what is wrong with how a model reads texts: where its read-out is, and what its vectors are."""
    batch = model.preprocess(list(texts))
    wrong = []
    for text, ids, mask in zip(texts, batch["input_ids"], batch["attention_mask"], strict=True):
        row = ids[mask.bool()].tolist()
        if row[-len(bottleneck) :] != bottleneck or set(row[: -len(bottleneck)]) & set(bottleneck):
            wrong.append(f"the read-out of {text!r} is moved: {row}")
        if len(row) > (model.max_seq_length or 0):
            wrong.append(f"{text!r} is read as {len(row)} tokens")
    vectors: Any = model.encode(list(texts), batch_size=64, convert_to_tensor=True, show_progress_bar=False)
    for text, vector in zip(texts, vectors.float(), strict=True):
        if not vector.isfinite().all():
            wrong.append(f"the vector of {text!r} is not finite")
        elif abs(vector.norm().item() - 1) > 1e-5:
            wrong.append(f"the vector of {text!r} has length {vector.norm().item()}")
    return wrong


def open_same_vector(setting: Setting) -> Callable[[int], Case]:
    """Return what compares the vector of a text alone with that in a batch."""
    models: dict[str, SentenceTransformer] = {}

    def model_of(family: str) -> SentenceTransformer:
        if family not in models:
            path = setting.folder / family
            shutil.rmtree(path, ignore_errors=True)
            make_backbone(path, family)
            models[family] = lbr_st.from_backbone(
                str(path), num_bottleneck_tokens=2, max_seq_length=SAME_TEXT_LENGTH, dtype=torch.float32
            ).eval()
        return models[family]

    def case(number: int) -> Case:
        rng = setting.rng(number)
        family = [*FAMILIES][number % len(FAMILIES)]
        texts = [rng.choice([hostile_text, plain_text])(rng) for _ in range(PAIRS_A_CASE)]
        model, size = model_of(family), rng.choice(BATCHES)
        largest, cosine = {}, {}
        for dtype in (torch.float32, torch.float16, torch.bfloat16):
            model.to(dtype)
            alone, batch = (_encode(model, texts, batch_size) for batch_size in (1, size))
            name = str(dtype).removeprefix("torch.")
            largest[name] = (alone - batch).abs().max().item()
            cosine[name] = 1 - torch.nn.functional.cosine_similarity(alone, batch).min().item()
        model.to(torch.float32)
        shutil.rmtree(setting.folder / family, ignore_errors=True)
        ok = largest["float32"] <= FLOAT32 and max(cosine["float16"], cosine["bfloat16"]) <= HALF
        why = None if ok else f"{family} in batches of {size}: differences {largest}, cosines below 1 by {cosine}"
        found = {"pairs": len(texts), "family": family, "batch": size, "largest": largest, "cosine": cosine}
        return {**found, "ok": ok, "why": why}

    return case


def plain_text(rng: random.Random) -> str:
    """Return some words of any length, up to beyond what the models read."""
    return " ".join(rng.choices(" ".join(TEXTS).split(), k=rng.choice([1, 3, 10, 30, 60])))


def _encode(model: SentenceTransformer, texts: Sequence[str], batch_size: int) -> torch.Tensor:
    found: Any = model.encode(list(texts), batch_size=batch_size, convert_to_tensor=True, show_progress_bar=False)
    return found.float()


def figures_of_hostile_texts(cases: Sequence[Case]) -> dict[str, float]:
    """Return the figures of the hostile texts."""
    return {
        "hostile_texts": sum(case["texts"] for case in cases),
        "hostile_texts_readings": sum(case["texts"] * case["kinds"] for case in cases),
        "hostile_texts_moved": sum(case["moved"] for case in cases),
        "hostile_texts_failed_cases": sum(not case["ok"] for case in cases),
    }


def figures_of_same_vector(cases: Sequence[Case]) -> dict[str, float]:
    """Return the figures of texts alone and in batches."""
    names = ("float32", "float16", "bfloat16")
    return {
        "same_vector": sum(case["pairs"] for case in cases),
        "same_vector_failed_cases": sum(not case["ok"] for case in cases),
        **{f"same_vector_largest_{name}": max(case["largest"][name] for case in cases) for name in names},
        **{f"same_vector_cosine_below_1_{name}": max(case["cosine"][name] for case in cases) for name in names},
    }
