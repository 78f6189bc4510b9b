"""Saved models that are damaged in one place: does `verify` refuse them, or are their vectors the same?"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cases import Case, Setting
from children import Child
from damages import damage
from hostile_texts import hostile_text
from sentence_transformers import SentenceTransformer
from tiny_models import TEXTS, make_backbone

import lbr_st
from lbr_st.errors import one_line
from lbr_st.model.contract import VerificationError
from lbr_st.model.verify import verify

LENGTH = 24
SAME = 1e-6  # the largest difference between two numbers of a vector in float32
PROMPTS = {"query": "query: ", "document": ""}
LAYOUTS: dict[str, dict[str, Any]] = {
    "portable": {"num_bottleneck_tokens": 2},
    "native": {"compression_ratio": 5},
}


def open_damaged_models(setting: Setting) -> Callable[[int], Case]:
    """Return what damages a saved model and asks `verify` of it."""
    folder = setting.folder
    shutil.rmtree(folder / "backbone", ignore_errors=True)
    make_backbone(folder / "backbone", family="llama", tied=False)
    texts = texts_of_all_kinds(setting.rng(-1))
    expected: dict[str, dict[str, np.ndarray]] = {}
    for layout, options in LAYOUTS.items():
        shutil.rmtree(folder / layout, ignore_errors=True)
        model = lbr_st.from_backbone(
            str(folder / "backbone"), max_seq_length=LENGTH, dtype=torch.float32, **options
        ).eval()
        model.prompts |= PROMPTS
        lbr_st.save(model, folder / layout)
        expected[layout] = vectors_of(folder / layout, texts)

    def case(number: int) -> Case:
        rng = setting.rng(number)
        layout = rng.choice([*LAYOUTS])
        copy = folder / f"case-{number}"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(folder / layout, copy)
        done = damage(copy, rng)
        end = Child(lambda: examine(copy, texts, expected[layout]), setting.loud).wait()
        verdict = end.value or {"wrong": f"verify ended with {end.error or f'signal {end.signal}'}"}
        wrong = verdict.get("wrong")
        if wrong is None:
            shutil.rmtree(copy)
        said = {"layout": layout, "damage": done, "ok": wrong is None, "why": wrong and one_line(wrong)}
        message = str(verdict.get("refused", "")).replace(str(copy), "the directory")
        return said | {"refused": one_line(message) if message else None}

    return case


def texts_of_all_kinds(rng: random.Random) -> list[str]:
    """Return texts in which every piece of the vocabulary of a toy comes, and hostile ones."""
    words = " ".join(TEXTS).split()
    pieces = [" ".join(words[place : place + 4]) for place in range(0, len(words) - 3, 2)]
    return [*TEXTS, *words, *pieces, "", *(hostile_text(rng) for _ in range(60))]


def vectors_of(folder: Path, texts: Sequence[str]) -> dict[str, np.ndarray]:
    """Return the vectors of texts in every way that people get them."""
    models = {
        "SentenceTransformer": SentenceTransformer(
            str(folder), device="cpu", local_files_only=True, trust_remote_code=True
        ),
        "lbr_st.load": lbr_st.load(str(folder), device="cpu"),
    }
    found = {}
    for name, model in models.items():
        for way in ("encode", "encode_query", "encode_document"):
            read: Any = getattr(model.eval(), way)
            found[f"{name}.{way}"] = np.asarray(read(list(texts), batch_size=64, show_progress_bar=False), np.float32)
    return found


def examine(folder: Path, texts: Sequence[str], expected: dict[str, np.ndarray]) -> dict[str, str]:
    """Ask `verify` of a damaged model; of one that passes, compare the vectors with those of before."""
    try:
        for _ in verify(folder, device="cpu"):
            pass
    except VerificationError as error:
        return {"refused": str(error)}
    try:
        found = vectors_of(folder, texts)
    except Exception as error:
        return {"wrong": f"it passes verify, and does not open: {type(error).__name__}: {error}"}
    for way, vectors in expected.items():
        if found[way].shape != vectors.shape:
            return {"wrong": f"it passes verify, and {way} gives vectors of another width"}
        differences = np.abs(found[way] - vectors).max(axis=1)
        worst = int(differences.argmax())
        if not differences[worst] <= SAME:
            what = f"{way} gives another vector of {texts[worst]!r}, by {differences[worst]:.2g}"
            return {"wrong": f"it passes verify, and {what}"}
    return {"harmless": "the same vectors"}


def figures_of_damaged_models(cases: Sequence[Case]) -> dict[str, float]:
    """Return the figures of the damaged models."""
    refused = [case for case in cases if case["refused"]]
    named = sum(not case["refused"].startswith("the directory") for case in refused)
    return {
        "damaged_models": len(cases),
        "damaged_models_refused": len(refused),
        "damaged_models_refused_by_name_of_file_or_input": named,
        "damaged_models_harmless": sum(case["ok"] and not case["refused"] for case in cases),
        "damaged_models_passed_or_crashed": sum(not case["ok"] for case in cases),
    }
