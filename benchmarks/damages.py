"""Damages of a saved model: one byte of one file, or a change of what a file says, of its tensors, or of the folder."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

WEIGHTS = "model.safetensors"
# Files that readers of a model directory know, and a saved model does not have.
STRAY: dict[str, Any] = {
    "added_tokens.json": {"blood": 7},
    "special_tokens_map.json": {"unk_token": "a", "additional_special_tokens": ["blood", " "]},
    "vocab.json": {"a": 0},
    "merges.txt": "#version: 0.2\na b\n",
    "tokenizer.model": "none",
    "chat_template.jinja": "{{ 'x' }}",
    "preprocessor_config.json": {"processor_class": "None"},
    "sentence_xlnet_config.json": {"max_seq_length": 3},
    "adapter_config.json": {"peft_type": "LORA", "base_model_name_or_path": "none"},
    "pytorch_model.bin": "none",
    "model.safetensors.index.json": {"metadata": {}, "weight_map": {}},
    "model.gguf": "GGUF",
    "3_Dense/config.json": {"in_features": 32, "out_features": 3},
}


def damage(folder: Path, rng: random.Random) -> str:
    """Damage a saved model in one place; say in a line what was done.

    Args:
        folder: Copy of its directory, changed in place.
        rng: What it is drawn from: half of the damages are of one byte.
    """
    kinds: list[Callable[[Path, random.Random], str]] = [*[_byte] * 8, *[_field] * 5, *[_tensor] * 2, _file]
    return rng.choice(kinds)(folder, rng)


def files_of(folder: Path) -> list[Path]:
    """Return the files of a directory, in order."""
    return sorted(file for file in folder.rglob("*") if file.is_file())


def _byte(folder: Path, rng: random.Random) -> str:
    file = rng.choice([each for each in files_of(folder) if each.stat().st_size])
    content = bytearray(file.read_bytes())
    # The header of weights is a small part of them.
    place = rng.randrange(len(content) if file.name != WEIGHTS or rng.random() < 0.5 else 2000)
    kind = rng.choice(["bit", "byte", "lost", "more", "cut"])
    if kind == "bit":
        content[place] ^= 1 << rng.randrange(8)
    elif kind == "byte":
        content[place] = (content[place] + rng.randint(1, 255)) % 256
    elif kind == "lost":
        del content[place]
    elif kind == "more":
        content.insert(place, rng.randrange(256))
    else:
        del content[place:]
    file.write_bytes(content)
    return f"{_name(file, folder)}: {kind} at {place}"


def _field(folder: Path, rng: random.Random) -> str:
    file = rng.choice([each for each in files_of(folder) if each.suffix == ".json"])
    data = json.loads(file.read_text(encoding="utf-8"))
    path: list[Any] = []
    inside = data
    while True:
        keys: list[Any] = list(inside) if isinstance(inside, dict) else list(range(len(inside)))
        if not keys:
            return _added(file, folder, data, rng)
        key = rng.choice(keys)
        path.append(key)
        if not isinstance(inside[key], dict | list) or rng.random() < 0.2:
            break
        inside = inside[key]
    what = _change(inside, key, rng)
    file.write_text(json.dumps(data, ensure_ascii=False), encoding="utf-8")
    return f"{_name(file, folder)}: {'.'.join(map(str, path))} {what}"


def _added(file: Path, folder: Path, data: Any, rng: random.Random) -> str:
    """Write a field that nobody asked for into a file."""
    if isinstance(data, dict):
        data["more"] = rng.choice([None, 1, "x", []])
    file.write_text(json.dumps(data), encoding="utf-8")
    return f"{_name(file, folder)}: a field more"


def _change(inside: Any, key: Any, rng: random.Random) -> str:
    """Change one value of an object or a list in place."""
    value = inside[key]
    keys = list(inside) if isinstance(inside, dict) else list(range(len(inside)))
    kind = rng.choice(["lost", "other type", "other value", "other value", "swapped", "renamed"])
    if kind == "lost":
        del inside[key]
    elif kind == "other type":
        inside[key] = rng.choice([None, True, 3, -1, 0.5, "x", "", [], {}, [value], str(value)])
    elif kind == "swapped":
        other = rng.choice(keys)
        inside[key], inside[other] = inside[other], inside[key]
        return f"swapped with {other}"
    elif kind == "renamed" and isinstance(inside, dict):
        inside[f"{key}_"] = inside.pop(key)
    else:
        inside[key] = _other(value, rng)
        return f"is {str(inside[key])[:40]!r}"
    return kind


def _other(value: Any, rng: random.Random) -> Any:
    """Return another value of the same type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return rng.choice([value + 1, value - 1, -value, 2 * value, value / 2, 0, value * (1 + 1e-6)])
    if isinstance(value, str):
        place = rng.randrange(len(value) + 1)
        return rng.choice([value + "x", value[:-1], value[::-1], value.upper(), f"{value[:place]} {value[place:]}"])
    if isinstance(value, list):
        return rng.choice([value[::-1], value[1:], value + value[:1]])
    return rng.choice([{}, None, [value]])


def _tensor(folder: Path, rng: random.Random) -> str:
    weights = load_file(folder / WEIGHTS)
    name = rng.choice(sorted(weights))
    tensor = weights[name]
    place = rng.randrange(tensor.numel())
    kind = rng.choice(["lost", "renamed", "number", "nan", "rounded", "scaled", "rows", "more", "swapped"])
    if kind == "lost":
        del weights[name]
    elif kind == "renamed":
        weights[f"{name}_"] = weights.pop(name)
    elif kind == "number":
        tensor.view(-1)[place] += 1e-3
    elif kind == "nan":
        tensor.view(-1)[place] = float("nan")
    elif kind == "rounded":
        weights[name] = tensor.to(torch.bfloat16)
    elif kind == "scaled":
        weights[name] = tensor * (1 + 1e-5)
    elif kind == "rows":
        weights[name] = tensor.flip(0).contiguous()
    elif kind == "more":
        weights["model.more.weight"] = torch.zeros(2)
    else:
        others = [other for other in sorted(weights) if weights[other].shape == tensor.shape and other != name]
        other = rng.choice(others or [name])
        weights[name], weights[other] = weights[other].clone(), tensor.clone()
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
    return f"{WEIGHTS}: {name} {kind}"


def _file(folder: Path, rng: random.Random) -> str:
    files = files_of(folder)
    file, other = rng.choice(files), rng.choice(files)
    kind = rng.choice(["lost", "empty", "of another name", "a folder", "stray", "stray"])
    if kind == "stray":
        name = rng.choice(sorted(STRAY))
        content = STRAY[name]
        (folder / name).parent.mkdir(exist_ok=True)
        text = content if isinstance(content, str) else json.dumps(content)
        (folder / name).write_text(text, encoding="utf-8")
        return f"{name}: is there"
    if kind == "of another name":
        if other != file:
            shutil.copy(other, file)
        return f"{_name(file, folder)}: is {_name(other, folder)}"
    file.unlink()
    if kind == "empty":
        file.touch()
    elif kind == "a folder":
        file.mkdir()
    return f"{_name(file, folder)}: {kind}"


def _name(file: Path, folder: Path) -> str:
    return file.relative_to(folder).as_posix()
