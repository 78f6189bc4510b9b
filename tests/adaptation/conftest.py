import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from helpers import make_backbone, make_bert
from transformers import AutoTokenizer

from lbr_st.adaptation.config import AdaptConfig

CHAT = (
    "{% for message in messages %}<{{ message['role'] }}>{{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


@pytest.fixture(scope="session")
def chat_backbone(tmp_path_factory) -> str:
    """Directory of a tiny language model with a chat template."""
    folder = make_backbone(tmp_path_factory.mktemp("chat"), max_position_embeddings=1024)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = CHAT
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def embedding_model(tmp_path_factory) -> str:
    """Directory of an embedding model of another kind."""
    return make_bert(tmp_path_factory.mktemp("bert") / "model")


class Server:
    """A server that answers as it is told, and keeps what it was asked.

    Attributes:
        answer: Function of what a user asks, that returns the answer, or a status with a body and headers.
        asked: Bodies and headers of all requests, in order.
    """

    def __init__(self):
        self.answer = lambda content: "What is it?"
        self.asked = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                server.asked.append((self.path, body, dict(self.headers)))
                found = server.answer(body["messages"][0]["content"])
                if isinstance(found, str):
                    choice = {"message": {"role": "assistant", "content": found}, "finish_reason": "stop"}
                    found = 200, json.dumps({"choices": [choice]}), {}
                status, data, headers = found
                self.send_response(status)
                for name, value in ({"Content-Length": str(len(data.encode()))} | headers).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data.encode())

            def do_GET(self):  # what follows a redirect
                server.asked.append((self.path, {}, dict(self.headers)))
                self.send_error(404)

            def log_message(self, *args):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    def close(self):
        self.http.shutdown()
        self.http.server_close()


@pytest.fixture
def server(monkeypatch):
    """A real server on this machine, which is tried again without waiting."""
    monkeypatch.setattr("lbr_st.adaptation.endpoint.WAITS", (0.0, 0.0, 0.0))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    server = Server()
    yield server
    server.close()


THINGS = ["iron", "salt", "copper", "zinc", "gold", "lead", "tin", "silver", "nickel", "cobalt"]
PLACES = ["rocks", "rivers", "plants", "blood", "old coins", "the sea"]
STEPS = {"num_train_epochs": 1, "max_steps": 2, "per_device_train_batch_size": 4, "learning_rate": 1e-3}


@pytest.fixture
def handbook(tmp_path):
    """A page for each thing, a section for each place: 60 passages with headings."""
    folder = tmp_path / "handbook"
    folder.mkdir()
    for thing in THINGS:
        sections = [
            f"## {thing} in {place}\n\nMuch {thing} is found in {place}, where people of long ago looked for it.\n"
            for place in PLACES
        ]
        (folder / f"{thing}.md").write_text("\n".join([f"# About {thing}\n", *sections]))
    return folder


@pytest.fixture
def config(handbook, backbone, tmp_path):
    general = tmp_path / "general.jsonl"
    rows = [{"query": f"sort {n}", "document": f"def sort_{n}(): sorted({n})"} for n in range(12)]
    general.write_text("".join(json.dumps(row) + "\n" for row in rows))
    titles = tmp_path / "titles.jsonl"
    rows = [
        {"query": f"Where is {thing} in {place}?", "document": f"Much {thing} lies in {place}.", "kind": "question"}
        for thing in THINGS
        for place in PLACES
    ]
    titles.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return AdaptConfig(
        sources=[handbook],
        queries=str(titles),
        model=str(backbone),
        output_dir=tmp_path / "out",
        general=str(general),
        max_length=48,
        learn=STEPS,
        align=STEPS,
    )
