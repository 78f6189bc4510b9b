"""Servers of other packages on a saved or exported model: the lines of the guide, and the vectors of the model."""

import json
import subprocess
import sys
import urllib.error
import urllib.request

import numpy as np
import pytest
from documents import blocks_under
from environments import environment, serving
from gguf_files import save_shape
from helpers import ROOT, TEXTS
from sentence_transformers import SentenceTransformer

from lbr_st.use.export import export, open_in_float32, tokenizer_of
from lbr_st.use.export_check import SHORT_TEXTS
from lbr_st.use.gguf_run import read_vocabulary
from lbr_st.use.gguf_vocabulary import PROBES, needs_of

pytestmark = pytest.mark.integration

PAGE = ROOT / "docs" / "guides" / "serving.md"
# llama.cpp's own server, which xllamacpp runs within Python, with the flags of llama-server that set the same. Without
# --parallel, llama-server has four slots that share one memory.
LLAMA_SERVER = """
import argparse
import threading
import xllamacpp
parser = argparse.ArgumentParser()
parser.add_argument("-m", required=True)
parser.add_argument("--embedding", action="store_true")
for flag in ("--threads", "--ubatch-size", "--port"):
    parser.add_argument(flag, type=int, required=True)
parser.add_argument("--host", required=True)
flags = parser.parse_args()
params = xllamacpp.CommonParams()
params.model.path = flags.m
params.embedding = flags.embedding
params.cpuparams.n_threads = flags.threads
params.n_ubatch = flags.ubatch_size
params.hostnames, params.port = [flags.host], flags.port
params.n_parallel, params.kv_unified = 4, True
server = xllamacpp.Server(params)
threading.Event().wait()
"""


def lines_of(heading, program):
    """The lines of the guide that start a program and ask it, as lists of words."""
    blocks = [block.commands for block in blocks_under(PAGE, heading) if block.language == "sh"]
    [commands] = [commands for commands in blocks if commands[0][0] == program]
    start, curl = commands
    assert curl[0] == "curl"
    return start, curl


def asked(curl, there, url):
    """What the line of the guide is answered, which asks for the vector of one text."""
    answer = subprocess.run([word.replace(there, url) for word in curl], capture_output=True, check=True, text=True)
    [row] = json.loads(answer.stdout)["data"]
    return row["embedding"]


def post(url, body):
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    return json.loads(urllib.request.urlopen(request, timeout=120).read())


@pytest.mark.parametrize("shape", ["llama", "qwen2"])
def test_llama_server(shape, tmp_path):
    saved = save_shape(tmp_path, shape)
    file = export(saved, "gguf", tmp_path / "lbr-model-gguf").file
    model = SentenceTransformer(str(saved), device="cpu")
    needs = needs_of(tokenizer_of(open_in_float32(saved)), read_vocabulary(file)).values()
    texts = [text for text in dict.fromkeys([*TEXTS, *SHORT_TEXTS, *PROBES]) if all(holds(text) for holds in needs)]
    texts = [text for text in texts if text and len(model.tokenizer(text, truncation=False)["input_ids"]) <= 64]
    assert len(texts) >= 15
    [_, *flags], curl = lines_of("## llama.cpp and Ollama", "llama-server")
    flags += ["--threads", "1", "--ubatch-size", "16"]  # it computes in parts, as it does texts of more than 512 tokens
    command = [sys.executable, "-c", LLAMA_SERVER, *flags]
    with serving(command, tmp_path, PYTHONPATH=str(environment("xllamacpp"))) as url:
        found = asked(curl, "http://localhost:8080", url)
        assert found @ model.encode("How is anaemia treated?") > 0.9999
        answer = post(f"{url}/v1/embeddings", {"input": texts})
        with pytest.raises(urllib.error.HTTPError) as error:  # as the guide says of it
            post(f"{url}/v1/embeddings", {"input": "word " * 80})
        said = json.loads(error.value.read())["error"]["message"]
    vectors = np.array([row["embedding"] for row in answer["data"]])
    expected = model.encode(texts, batch_size=1)
    assert (vectors * expected).sum(axis=1).min() > 0.9999
    assert np.abs(np.linalg.norm(vectors, axis=1) - 1).max() < 1e-6
    assert answer["usage"]["prompt_tokens"] == sum(len(model.tokenizer(text)["input_ids"]) for text in texts)
    assert "too large" in said or "exceeds" in said, said


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_infinity(family, saved, tmp_path):
    """Texts that are cut too; prompts are not put before a text."""
    folder, _ = saved[family]
    model = SentenceTransformer(str(folder), device="cpu")
    (tmp_path / "lbr-model").symlink_to(folder)
    [program, *flags], curl = lines_of("## Infinity", "infinity_emb")
    command = [str(environment("infinity") / "bin" / program), *flags]
    with serving(command, tmp_path, HF_HUB_OFFLINE="1", INFINITY_ANONYMOUS_USAGE_STATS="0") as url:
        assert np.abs(asked(curl, "http://localhost:7997", url) - model.encode("How is anaemia treated?")).max() < 1e-6
        texts = [*TEXTS, "", "word " * 80]
        answer = post(f"{url}/embeddings", {"model": "lbr-model", "input": texts})
    vectors = np.array([row["embedding"] for row in answer["data"]])
    assert np.abs(vectors - model.encode(texts, batch_size=1)).max() < 1e-6
    assert np.abs(vectors - model.encode_query(texts)).max() > 1e-2
