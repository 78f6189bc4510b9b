"""A first model, from a few pairs to a score: every step from Python, on a CPU.

    pip install '.[all]'

    python examples/first_model.py --model HuggingFaceTB/SmolLM2-135M-Instruct --output-dir first-model

The pairs are made here, so that nothing but the backbone is needed: functions of Python's standard library, each asked
for by the beginning of its docstring. Put your own file in the place of ``pairs.jsonl``, and the rest stays.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import inspect
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import lbr_st
from lbr_st.cli.main import run_command
from lbr_st.data import PrepareConfig, prepare

MODULES = (
    "argparse", "calendar", "configparser", "csv", "datetime", "difflib", "fractions", "glob", "gzip", "heapq",
    "html", "json", "os.path", "random", "shlex", "shutil", "statistics", "tempfile", "textwrap", "uuid", "zipfile",
)  # fmt: skip


def pairs() -> Iterator[dict[str, str]]:
    """Yield functions of the standard library: what their docstring says first, and the rest of them."""
    for name in MODULES:
        source = inspect.getsource(importlib.import_module(name))
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef) and (docstring := ast.get_docstring(node)):
                node.body = node.body[1:] or [ast.Pass()]
                yield {"question": docstring.partition("\n\n")[0], "answer": ast.unparse(node)}


def main(argv: Sequence[str] | None = None) -> None:
    """Prepare a set, learn, align, evaluate."""
    parser = argparse.ArgumentParser(description="Make a first model, on functions of the standard library.")
    parser.add_argument("--model", default="HuggingFaceTB/SmolLM2-135M-Instruct", help="(default: %(default)s)")
    parser.add_argument("--output-dir", type=Path, default=Path("first-model"), help="(default: %(default)s)")
    args = parser.parse_args(argv)

    folder: Path = args.output_dir
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "pairs.jsonl"
    file.write_text("".join(json.dumps(pair) + "\n" for pair in pairs()), encoding="utf-8")

    # Clean, split, nothing of the test in training. corpus-taught: stage 1 reads all that will be searched, as it may.
    settings = PrepareConfig(sources=[file], output_dir=folder / "set", test=60, dev=30, regime="corpus-taught")
    data = prepare(settings)

    # Stage 1: the model learns the passages through the bottleneck token.
    sizes = {"max_length": 96, "per_device_train_batch_size": 16, "logging_steps": 5}
    stage1, aligned = str(folder / "stage1"), str(folder / "model")
    folder_of_set = str(data.folder)
    learn = lbr_st.LearnConfig(model=args.model, data=[folder_of_set], output_dir=stage1, **sizes)
    lbr_st.learn(learn)

    # Stage 2: pairs align what it knows. What comes back is a SentenceTransformer.
    align = lbr_st.AlignConfig(model=stage1, data=folder_of_set, output_dir=aligned, **sizes)
    model = lbr_st.align(align)

    # BM25 belongs beside every model.
    for scored in ("bm25", aligned):
        scores = lbr_st.evaluate(scored, data)
        print(f"{scored}: recall@10 {scores['recall_at_10']:.3f}, nDCG@10 {scores['ndcg_at_10']:.3f}")  # noqa: T201
    print(f"an embedding has {model.get_embedding_dimension()} numbers")  # noqa: T201
    print(f'next: lbr search --model {aligned} --data {folder_of_set} "split a string as the shell does"')  # noqa: T201


if __name__ == "__main__":
    run_command(main)
