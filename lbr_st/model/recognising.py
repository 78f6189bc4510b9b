"""What a path is by the names of the files in it: a model, or something near one, and then what to give instead."""

from __future__ import annotations

import re
from pathlib import Path

from lbr_st.files import read_json

CONFIG, MODULES, ADAPTER = "config.json", "modules.json", "adapter_config.json"
PART = re.compile(r"\d+_\w+")  # the folder of a module of an embedding model
CACHED = "models--"  # how a folder of the Hub's cache begins
PACKED = {".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".zst"}

# Names that weights have by convention.
OF_TRANSFORMERS = ("model*.safetensors", "pytorch_model*.bin")
# Weights in forms that no model is opened from, and what to do.
UNREAD = {
    ("consolidated*.pth", "consolidated*.safetensors"): (
        "in its maker's own form",
        "take the version of it for transformers, which has a config.json",
    ),
    ("*.onnx", "onnx/*.onnx"): ("for ONNX Runtime", "take the model it was made from"),
    ("openvino*.xml", "openvino/*.xml"): ("for OpenVINO", "take the model it was made from"),
    ("tf_model*.h5", "*.h5", "flax_model*.msgpack", "*.msgpack", "saved_model.pb"): (
        "of TensorFlow or Flax",
        "take its version for PyTorch, or open it with transformers 4 (from_tf=True, from_flax=True) and save it again",
    ),
}
LONE = {".safetensors", ".bin", ".pt", ".pth", ".ckpt"}


def is_model(folder: Path) -> bool:
    """Tell whether a folder holds a model, whole or not: by its configuration, or by weights of a usual name.

    Others have files named ``config.json`` and ``modules.json``, too: what stands in them is looked at.
    """
    if (folder / ADAPTER).is_file() or isinstance(_content(folder / MODULES), list):
        return True
    about = _content(folder / CONFIG)
    if isinstance(about, dict) and about.keys() & {"model_type", "architectures"}:
        return True
    names = (*OF_TRANSFORMERS, "*.gguf", "consolidated*.pth", "tf_model*.h5", "flax_model*.msgpack")
    return any(next(folder.glob(name), None) for name in names) or bool(snapshots_in(folder))


def why_no_model(path: Path) -> str:
    """Say what a file is, or a folder without a configuration, that is named as a model, and what to do."""
    if path.is_file():
        return _of_file(path)
    if snapshots := snapshots_in(path):
        return f"it is a folder of the Hub's cache; name the snapshot in it, {snapshots[0]}"
    folders = sorted(each for each in path.glob("*") if each.is_dir())
    if any(PART.fullmatch(each.name) and (each / CONFIG).is_file() for each in folders):
        return f"it has the modules of an embedding model, and no {MODULES}; copy it whole again"
    if below := [each for each in folders if is_model(each)]:
        several = f"{len(below)} models lie in it, such as" if below[1:] else "a model lies in it:"
        return f"the directory has no {CONFIG}; {several} {below[-1]}"
    if (unread := unread_weights(path)) is not None:
        return unread
    weights = sorted(each.name for each in path.glob("*") if each.suffix in LONE and "optimizer" not in each.name)
    if weights:
        return f"it has weights ({weights[0]}), but no {CONFIG} that says of what; copy the model whole again"
    return f"the directory has no {CONFIG}"


def unread_weights(folder: Path) -> str | None:
    """Say what a folder is whose weights are in a form that is not read, and what to do; None for any other.

    One that has weights of transformers, too, is any other.
    """
    if any(next(folder.glob(name), None) for name in OF_TRANSFORMERS):
        return None
    for names, (what, remedy) in UNREAD.items():
        for name in names:
            if file := next(iter(sorted(folder.glob(name))), None):
                return f"its weights are {what} ({file.relative_to(folder)}), which is not read; {remedy}"
    return None


def _of_file(path: Path) -> str:
    """Say what a file is that is named as a model."""
    for names, (what, remedy) in UNREAD.items():
        if any(path.match(name) for name in names):
            return f"it has weights {what}, which is not read; {remedy}"
    if path.suffix.lower() in PACKED:
        return "it is a packed file; unpack it, and name its directory"
    if is_model(path.parent) and (path.parent / CONFIG).is_file():
        return f"it is a file of a model; name its directory, {path.parent}"
    if path.suffix.lower() in LONE:
        return f"it is a file of weights; name a directory that has its {CONFIG} and its tokenizer, too"
    return "it is a file; name its directory"


def snapshots_in(folder: Path) -> list[Path]:
    """Return the models in a folder of the Hub's cache: the one that ``main`` is, or all; none in other folders."""
    inner = folder if folder.name == "snapshots" else folder / "snapshots"
    try:
        main = inner / (inner.parent / "refs" / "main").read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        main = inner
    if main != inner and main.is_dir() and is_model(main):
        return [main]
    if folder.name != "snapshots" and not folder.name.startswith(CACHED):
        return []
    return sorted(each for each in inner.glob("*") if each.is_dir() and is_model(each))


def _content(file: Path) -> object:
    """Return what a file of JSON says; None where there is none, or it is no JSON."""
    try:
        return read_json(file) if file.is_file() else None
    except (OSError, ValueError):
        return None
