"""The scripts of examples/ find the passages that the model itself finds, in every store of every framework."""

import json
import os
import re
import runpy
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
from environments import environment
from helpers import ROOT, make_backbone
from sentence_transformers import SentenceTransformer

import lbr_st
from lbr_st.data.records import read_passages
from lbr_st.errors import InputError
from lbr_st.use.passages import chunker_of

pytestmark = pytest.mark.integration

EXAMPLES = ROOT / "examples"
STORES = [
    ("langchain", "chroma"),
    ("langchain", "qdrant"),
    ("llamaindex", "faiss"),
    ("llamaindex", "chroma"),
    ("llamaindex", "qdrant"),
    ("llamaindex", "lancedb"),
    ("haystack", "faiss"),
    ("haystack", "chroma"),
    ("haystack", "qdrant"),
]
QUESTIONS = ["What raises it?", "Is iron a vitamin?"]
PROMPTS = {"query": "Find what answers this: ", "document": "a passage, "}
FILES = {
    "guide.md": "# Anaemia\n\nAnaemia is treated with\n- iron\n- vitamin B12\n\n# Stress\n\nSalt and age raise it.\n",
    # Line breaks and indentation that must reach the model.
    "code/sort.py": "def double(x):\n    y = x + x\n\n    return y\n\n\nORDER = [\n    3,\n    1,\n]\n",
    # One line that is cut into several passages.
    "long.txt": " ".join(f"Sentence {number} says that stress is number {number * 7}." for number in range(80)),
    "notes/short.txt": "Sorting a list\n  takes n log n\n  comparisons.",
}
TOP = 3

# The script as it is, but its hits are printed whole, with all their digits.
EXACT = """
import json, os, runpy, sys
import lbr_st.use.search as search
search.format_hits = lambda _, hits: "HITS" + json.dumps([[float(score), p["document"]] for score, p in hits])
sys.argv = sys.argv[1:]
sys.path.insert(0, os.path.dirname(sys.argv[0]))
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("folder")
    for name, text in FILES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A model with prompts, and the same with empty ones."""
    folder = tmp_path_factory.mktemp("models")
    model = lbr_st.from_backbone(make_backbone(folder / "backbone"), num_bottleneck_tokens=2, max_seq_length=200).eval()
    lbr_st.save(model, folder / "empty")
    model.prompts.update(PROMPTS)
    lbr_st.save(model, folder / "prompted")
    return {name: folder / name for name in ("empty", "prompted")}


@pytest.fixture(scope="module")
def passages(folder, models):
    """What the folder is cut into, by the name of the model that reads it."""
    opened = {name: SentenceTransformer(str(path), device="cpu") for name, path in models.items()}
    return {name: read_passages(folder, partial(chunker_of, model)) for name, model in opened.items()}


@pytest.fixture(scope="module")
def cosines(models, passages):
    """The cosine of every question with every passage, by the name of the model; and were there no prompts."""
    opened = {name: SentenceTransformer(str(path), device="cpu") for name, path in models.items()}
    texts = {name: [passage["document"] for passage in found] for name, found in passages.items()}
    found = {
        name: model.encode_query(QUESTIONS) @ model.encode_document(texts[name]).T for name, model in opened.items()
    }
    empty = opened["empty"]
    return found | {"unprompted": empty.encode_query(QUESTIONS) @ empty.encode_document(texts["prompted"]).T}


def run(framework, argv, code=None):
    python = environment(framework) / "bin" / "python"
    script = [str(EXAMPLES / f"rag_{framework}.py")]
    command = [python, *(["-c", code] if code else []), *script, *map(str, argv)]
    done = subprocess.run(command, env=os.environ | {"HF_HUB_OFFLINE": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def check_hits(stdout, cosines, passages):
    """Check passages, their order and their scores."""
    found = [json.loads(line[4:]) for line in stdout.splitlines() if line.startswith("HITS")]
    assert len(found) == len(QUESTIONS)
    for hits, of_question in zip(found, cosines, strict=True):
        best = np.argsort(-of_question)[:TOP]
        assert [document for _, document in hits] == [passages[i]["document"] for i in best]
        assert np.abs([score for score, _ in hits] - of_question[best]).max() < 1e-4


def test_the_test_would_notice(cosines, passages):
    best = np.argsort(-cosines["prompted"])[:, :TOP]
    assert (best != np.argsort(-cosines["unprompted"])[:, :TOP]).any()
    chosen = np.take_along_axis(cosines["prompted"] - cosines["unprompted"], best, axis=1)
    assert np.abs(chosen).min() > 1e-3
    assert np.diff(np.sort(cosines["prompted"])[:, -TOP - 1 :]).min() > 1e-3  # no ties
    found = [passages["prompted"][i]["document"] for i in best.ravel()]
    assert any("\n" in document for document in found)


@pytest.mark.parametrize("framework, store", STORES)
def test_finds_what_the_model_finds(framework, store, models, folder, passages, cosines, tmp_path):
    index = tmp_path / "deep" / "index"
    argv = ["--model", models["prompted"], "--folder", folder, "--store", store, "--index", index, *QUESTIONS]
    printed = run(framework, argv)
    for question, of_question in zip(QUESTIONS, cosines["prompted"], strict=True):
        answer = printed.split(f"> {question}\n")[1].split("\n> ")[0]
        ids = re.findall(r"^  -?\d\.\d{3}  (.*)$", answer, re.MULTILINE)
        assert ids == [passages["prompted"][i]["id"] for i in np.argsort(-of_question)[:TOP]]
    written = (index / "built.json").stat().st_mtime_ns
    check_hits(run(framework, argv, EXACT), cosines["prompted"], passages["prompted"])  # again: nothing is there twice
    assert (index / "built.json").stat().st_mtime_ns == written


@pytest.mark.parametrize("framework", sorted({framework for framework, _ in STORES}))
def test_empty_prompts(framework, models, folder, passages, cosines, tmp_path):
    argv = ["--model", models["empty"], "--folder", folder, "--store", "chroma", "--index", tmp_path / "index"]
    check_hits(run(framework, [*argv, *QUESTIONS], EXACT), cosines["empty"], passages["empty"])


@pytest.mark.parametrize("framework, store", STORES)
def test_bm25_finds_what_the_model_does_not(framework, store, models, folder, passages, cosines, tmp_path):
    """Also in an index that was made without BM25, and there is no second copy of what both found."""
    index = tmp_path / "index"
    argv = ["--model", models["prompted"], "--folder", folder, "--store", store, "--index", index]
    texts = [passage["document"] for passage in passages["prompted"]]
    model = SentenceTransformer(str(models["prompted"]), device="cpu")
    # A number that one passage has, and that is far down by the model.
    numbers = {n: found[1] for n, text in enumerate(texts) if (found := re.search(r"number (\d{3})\.", text))}
    similarities = model.encode_query(list(numbers.values())) @ model.encode_document(texts).T
    places = [(of_query > of_query[n]).sum() for n, of_query in zip(numbers, similarities, strict=True)]
    far, question = list(numbers.items())[int(np.argmax(places))]
    assert max(places) >= TOP
    assert texts[far] not in run(framework, [*argv, question], EXACT)
    printed = run(framework, [*argv, "--fuse", "bm25", question], EXACT)
    [hits] = [json.loads(line[4:]) for line in printed.splitlines() if line.startswith("HITS")]
    assert texts[far] in [document for _, document in hits[:2]]
    assert len({document for _, document in hits}) == TOP
    assert [score for score, _ in hits] == sorted((score for score, _ in hits), reverse=True)


@pytest.mark.parametrize("framework", sorted({framework for framework, _ in STORES}))
def test_what_cannot_be_used(framework, models, folder, tmp_path, monkeypatch):
    monkeypatch.setenv("HAYSTACK_TELEMETRY_ENABLED", "False")
    monkeypatch.syspath_prepend(EXAMPLES)
    main = runpy.run_path(str(EXAMPLES / f"rag_{framework}.py"))["main"]
    (tmp_path / "nothing").mkdir()
    given = {"--model": models["prompted"], "--folder": folder, "--index": tmp_path / "index", "--store": "chroma"}

    def message(**changed):
        flags = given | {f"--{name}": value for name, value in changed.items()}
        with pytest.raises(InputError) as error:
            main([*(str(each) for flag in flags.items() for each in flag), "why"])
        assert "\n" not in str(error.value)
        return str(error.value)

    assert "no modules.json" in message(model="absent")
    assert "no such directory" in message(folder=tmp_path / "absent")
    assert "no text in files" in message(folder=tmp_path / "nothing")
    assert "delete it" in message(index=tmp_path / "nothing")
    (tmp_path / "nothing" / "built.json").write_text('["another"]')
    assert "delete it" in message(index=tmp_path / "nothing")
    for package in ("langchain_core", "llama_index", "haystack"):
        monkeypatch.setitem(sys.modules, package, None)
    assert "is not installed" in message()


def test_ends_in_one_line(folder, tmp_path):
    argv = ["--model", "absent", "--folder", folder, "--index", tmp_path / "index", "why"]
    done = subprocess.run([sys.executable, EXAMPLES / "rag_langchain.py", *argv], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == ("error: --model absent is not a sentence-transformers directory: it has no modules.json\n")
