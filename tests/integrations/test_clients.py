"""Clients of other packages ask ``lbr serve``, the program itself; the lines of the guide are among what is run."""

import contextlib
import copy
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from documents import blocks_under
from environments import environment
from helpers import ROOT, TEXTS
from sentence_transformers import SentenceTransformer

import lbr_st

pytestmark = pytest.mark.integration

PAGE = ROOT / "docs" / "guides" / "serving.md"
GUIDE = {"openai": "from openai", "LangChain": "from langchain_openai", "LlamaIndex": "from llama_index",
         "Haystack": "from haystack"}  # fmt: skip
DOCUMENTS = ["Iron is given.", "Salt raises it."]
QUERY = "How is anaemia treated?"
MANY = [f"{text} {number}" for number in range(3) for text in TEXTS if text]
MOST = 8  # texts of a request, of the server that takes few
LINES = "def double(x):\n    return x + x"


@pytest.fixture(scope="module")
def saved(_shared_model, tmp_path_factory):
    """A model whose queries and documents differ, of the name that the guide has."""
    folder = tmp_path_factory.mktemp("saved") / "lbr-model"
    model = copy.deepcopy(_shared_model)
    model.prompts |= {"query": "ask: ", "document": "find this: "}
    model[0].model.config.matryoshka_dimensions = [8]
    lbr_st.save(model, folder)
    return folder


@pytest.fixture(scope="module")
def opened(saved):
    return SentenceTransformer(str(saved), device="cpu")


@contextlib.contextmanager
def server(*flags):
    """The command as a program; yields its address."""
    command = [sys.executable, "-m", "lbr_st.cli.main", "serve", "--port", "0", *flags]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
    try:
        yield process.stdout.readline().split(" on ")[1].split(". ")[0]
    finally:
        process.terminate()
        assert process.wait(60) == 0
        process.stdout.close()


@pytest.fixture(scope="module")
def url(saved):
    with server("--model", str(saved)) as found:
        yield found


@pytest.fixture(scope="module")
def strict(saved):
    """A server that wants a key and takes few texts, one request at a time."""
    flags = ("--max-texts", str(MOST), "--max-queue", "1", "--api-key", "secret")
    with server("--model", str(saved), *flags) as found:
        yield found


def run(program, url, **given):
    """Run a program in the environment of the clients; return what its last line says."""
    heading = f"import json\nurl = {url + '/v1'!r}\nglobals().update(json.loads({json.dumps(given)!r}))\n"
    unset = ("PYTHONPATH", "OPENAI_API_KEY", "OPENAI_BASE_URL")
    env = {name: value for name, value in os.environ.items() if name not in unset}
    done = subprocess.run(
        [environment("clients") / "bin" / "python", "-c", heading + program],
        env=env | {"HAYSTACK_TELEMETRY_ENABLED": "False"}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def near(found, expected):
    found = np.array(found, np.float64)
    return found.shape == expected.shape and np.abs(found - expected).max() < 1e-6


# What the program of the guide has at its end: vectors of its documents, and of its query.
AT_THE_END = {
    "openai": "[row.embedding for row in documents.data], query.data[0].embedding",
    "LangChain": "documents, query",
    "LlamaIndex": "index.vector_store.data.embedding_dict.values(), queries.get_query_embedding("
    "'How is anaemia treated?')",
    "Haystack": "[document.embedding for document in found], query",
}


def guide(name, url):
    [block] = [block for block in blocks_under(PAGE, "## lbr serve") if block.text.startswith(GUIDE[name])]
    assert "http://localhost:8000" in block.text
    return block.text.replace("http://localhost:8000", url)


@pytest.mark.parametrize("name", GUIDE)
def test_the_lines_of_the_guide(name, url, opened):
    """They give the vectors of the model, of queries those of queries."""
    program = f"{guide(name, url)}\ndocuments, query = {AT_THE_END[name]}\nprint(json.dumps([list(documents), query]))"
    documents, query = run(program, url)
    assert near(documents, opened.encode_document(DOCUMENTS))
    assert near(query, opened.encode_query(QUERY)) and not near(query, opened.encode_document(QUERY))


def test_the_guide_has_no_other_client():
    blocks = [block.text for block in blocks_under(PAGE, "## lbr serve") if block.language == "python"]
    assert [name for text in blocks for name, start in GUIDE.items() if text.startswith(start)] == list(GUIDE)
    assert len(blocks) == len(GUIDE)


def test_llamaindex_finds_what_the_model_finds(url, opened):
    """The retriever of the guide, whose index has the vectors of documents and which asks with those of queries."""
    found = run(f"{guide('LlamaIndex', url)}\nprint(json.dumps([[hit.text, hit.score] for hit in hits]))", url)
    scores = opened.encode_document(DOCUMENTS) @ opened.encode_query(QUERY)
    best = np.argsort(-scores)
    assert [text for text, _ in found] == [DOCUMENTS[i] for i in best]
    assert np.abs([score for _, score in found] - scores[best]).max() < 1e-6


OPENAI = """
import asyncio
from openai import AsyncOpenAI, OpenAI
client, several = (kind(base_url=url, api_key="-") for kind in (OpenAI, AsyncOpenAI))
vectors = lambda answer: [row.embedding for row in answer.data]
async def ask():
    return await asyncio.gather(*(several.embeddings.create(model="lbr-model", input=text) for text in texts))
print(json.dumps({
    "default": vectors(client.embeddings.create(model="lbr-model", input=texts)),
    "float": vectors(client.embeddings.create(model="lbr-model", input=texts, encoding_format="float")),
    "async": [vectors(answer)[0] for answer in asyncio.run(ask())],
    "query": vectors(client.embeddings.create(model="lbr-model-query", input=texts)),
    "input_type": vectors(client.embeddings.create(model="lbr-model", input=texts, extra_body={"input_type": "query"})),
    "short": vectors(client.embeddings.create(model="lbr-model", input=texts, dimensions=8)),
    "models": [model.id for model in client.models.list()],
    "model": client.models.retrieve("lbr-model-query").id,
}))
"""


def test_openai(url, opened):
    """It asks for base64 by itself; in floats, at once, and of queries the vectors are those of the model too."""
    found = run(OPENAI, url, texts=TEXTS)
    documents, queries = opened.encode_document(TEXTS), opened.encode_query(TEXTS)
    assert all(near(found[name], documents) for name in ("default", "float", "async"))
    assert all(near(found[name], queries) for name in ("query", "input_type")) and not near(found["query"], documents)
    assert near(found["short"], opened.encode_document(TEXTS, truncate_dim=8, normalize_embeddings=True))
    assert found["models"] == ["lbr-model", "lbr-model-query"] and found["model"] == "lbr-model-query"


LANGCHAIN = """
result = embeddings.embed_documents(many)
async def ask():
    return await embeddings.aembed_documents(many), await embeddings.aembed_query(many[0])
import asyncio
print(json.dumps([result, embeddings.embed_query(many[0]), *asyncio.run(ask())]))
"""
LLAMAINDEX = """
import asyncio
from llama_index.embeddings.openai_like import OpenAILikeEmbedding
documents, queries = (OpenAILikeEmbedding(model_name=name, api_base=url, api_key="-")
                      for name in ("lbr-model", "lbr-model-query"))
async def ask():
    return await documents.aget_text_embedding_batch(many), await queries.aget_query_embedding(many[0])
print(json.dumps([documents.get_text_embedding_batch(many), queries.get_query_embedding(many[0]), *asyncio.run(ask()),
                  documents.get_text_embedding(lines)]))
"""
HAYSTACK = """
import asyncio
given = lambda: [Document(content=text) for text in many]
async def ask():
    return (await documents.run_async(given()))["documents"], (await queries.run_async(many[0]))["embedding"]
later, later_query = asyncio.run(ask())
found = documents.run(given())["documents"]
vectors = lambda found: [document.embedding for document in found]
print(json.dumps([vectors(found), queries.run(many[0])["embedding"], vectors(later), later_query]))
"""


@pytest.mark.parametrize("name, more", [("LangChain", LANGCHAIN), ("Haystack", HAYSTACK), ("LlamaIndex", LLAMAINDEX)])
def test_more_texts_than_a_batch_and_async(name, more, url, opened):
    program = more if name == "LlamaIndex" else guide(name, url) + more
    documents, query, *later = run(program, url, many=MANY, lines=LINES)
    expected = opened.encode_document(MANY), opened.encode_query(MANY[0])
    assert near(documents, expected[0]) and near(query, expected[1])
    assert near(later[0], expected[0]) and near(later[1], expected[1])
    if name == "LlamaIndex":  # as the guide says of it
        [found] = later[2:]
        assert near(found, opened.encode_document(LINES.replace("\n", " ")))
        assert not near(found, opened.encode_document(LINES))


REFUSED = """
import openai
client = openai.OpenAI(base_url=url, api_key="-", max_retries=0)
def refused(**changed):
    try:
        client.embeddings.create(**{"model": "lbr-model", "input": "a", **changed})
    except openai.APIStatusError as error:
        return [type(error).__name__, error.status_code, error.code, error.param, error.message]
found = [refused(input=[1, 2]), refused(input=[[1, 2], [3]]), refused(dimensions=9), refused(model="gpt")]
found += [refused(input=[]), refused(input=["a" * 500_000] * 17)]
print(json.dumps(found))
"""


def test_what_is_refused_is_said_as_the_client_says_it(url):
    found = run(REFUSED, url)
    assert [row[:4] for row in found] == [
        ["BadRequestError", 400, "token_ids", "input"],
        ["BadRequestError", 400, "token_ids", "input"],
        ["BadRequestError", 400, "dimensions", "dimensions"],
        ["NotFoundError", 404, "model_not_found", "model"],
        ["BadRequestError", 400, None, "input"],
        ["APIStatusError", 413, "body_too_large", None],
    ]
    assert all("check_embedding_ctx_length=False" in row[4] for row in found[:2])
    assert "one that the model was trained for: 8, " in found[2][4] and "send fewer texts at once" in found[5][4]


# LangChain fetches the vocabulary of OpenAI's models, not to be had offline; any other makes ids of a text too.
TOKENS = r"""
import openai, tiktoken, tiktoken.registry
of_bytes = {bytes([byte]): byte for byte in range(256)}
tiktoken.registry.ENCODINGS["cl100k_base"] = tiktoken.Encoding(
    "cl100k_base", pat_str=r"\S+|\s+", mergeable_ranks=of_bytes, special_tokens={})
from langchain_openai import OpenAIEmbeddings
try:
    OpenAIEmbeddings(model="lbr-model", base_url=url, api_key="-").embed_documents(["a b"])
except openai.BadRequestError as error:
    print(json.dumps([error.code, error.message]))
"""


def test_langchain_as_it_comes_sends_token_ids(url):
    code, message = run(TOKENS, url)
    assert code == "token_ids" and "check_embedding_ctx_length=False" in message


BOUNDS = """
import logging, openai
from haystack import Document
from haystack.components.embedders import OpenAIDocumentEmbedder
from haystack.utils import Secret
from langchain_openai import OpenAIEmbeddings
from llama_index.embeddings.openai_like import OpenAILikeEmbedding
logging.disable()
client = openai.OpenAI(base_url=url, api_key="wrong", max_retries=0)
def said(ask):
    try:
        return len(ask())
    except openai.APIStatusError as error:
        return [type(error).__name__, error.code, error.message]
def langchain(**more):
    made = OpenAIEmbeddings(model="lbr-model", base_url=url, api_key="secret", check_embedding_ctx_length=False,
                            **more)
    return made.embed_documents(many)
def llamaindex(size):
    model = OpenAILikeEmbedding(model_name="lbr-model", api_base=url, api_key="secret", embed_batch_size=size)
    return model.get_text_embedding_batch(many)
def haystack(size, **more):
    model = OpenAIDocumentEmbedder(api_key=Secret.from_token("secret"), model="lbr-model", api_base_url=url,
                                   batch_size=size, progress_bar=False, **more)
    return [row for row in model.run([Document(content=text) for text in many])["documents"] if row.embedding]
print(json.dumps({
    "key": said(lambda: client.embeddings.create(model="lbr-model", input="a").data),
    "large": [said(langchain), said(lambda: llamaindex(most + 1)),
              said(lambda: haystack(most + 1, raise_on_failure=True))],
    "fits": [said(lambda: langchain(chunk_size=most)), said(lambda: llamaindex(most)), said(lambda: haystack(most))],
    "silent": said(lambda: haystack(most + 1)),
}))
"""


def test_batches_that_are_too_large(strict):
    """Each client has its own setting; Haystack, as it comes, goes on without the vectors of what was refused."""
    found = run(BOUNDS, strict, many=MANY, most=MOST)
    assert len(MANY) % (MOST + 1) <= MOST < len(MANY)
    assert found["key"][:2] == ["AuthenticationError", "invalid_api_key"]
    assert [row[:2] for row in found["large"]] == [["UnprocessableEntityError", "too_many_texts"]] * 3
    assert all(f"a request may have {MOST}" in row[2] for row in found["large"])
    assert found["fits"] == [len(MANY)] * 3
    assert found["silent"] == len(MANY) % (MOST + 1)


FULL = """
import asyncio, logging
from openai import AsyncOpenAI
waits = []
class Kept(logging.Handler):
    def emit(self, record):
        waits.extend(record.args[1:] if record.msg.startswith("Retrying request") else [])
logging.getLogger("openai._base_client").addHandler(Kept())
logging.getLogger("openai._base_client").setLevel(logging.INFO)
async def ask():
    async with AsyncOpenAI(base_url=url, api_key="secret", max_retries=20) as client:
        return await asyncio.gather(*(client.embeddings.create(model="lbr-model", input=text) for text in texts))
answers = asyncio.run(ask())
print(json.dumps([[answer.data[0].embedding for answer in answers], waits]))
"""


def test_a_full_queue_is_asked_again(strict, opened):
    """The server takes one request at a time, and says with 429 when to come again; none is lost."""
    found, waits = run(FULL, strict, texts=TEXTS)
    assert near(found, opened.encode_document(TEXTS))
    assert waits and all(wait >= 1 and wait == int(wait) for wait in waits)  # of its own the client waits half a second
