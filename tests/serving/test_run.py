"""How the server begins, with what it refuses before the model is opened, and how it ends without losing an answer."""

import contextlib
import http.client
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from urllib.parse import urlsplit

import numpy as np
import pytest
from base_install import without
from helpers import PACKAGE, TEXTS

from lbr_st.errors import InputError
from lbr_st.serving.config import ServeConfig
from lbr_st.serving.run import serve


@pytest.fixture
def unopened(monkeypatch):
    """No model may be opened."""

    def refuse(*args):
        raise AssertionError("the model is opened before all is refused that can be")

    monkeypatch.setattr("lbr_st.use.runtimes.open_sentence_transformer", refuse)


def refusal(**settings):
    with pytest.raises(InputError) as error:
        serve(ServeConfig(**{"port": 0} | settings), lambda *ready: None)
    return str(error.value)


def test_refusals_before_the_model_is_opened(unopened, saved, backbone, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert refusal(model=str(saved), port=port) == (
            f"--host 127.0.0.1 --port {port} cannot be listened at: Address already in use; choose another --port"
        )
    assert refusal(model=str(saved), host="192.0.2.1", no_auth=True).endswith(
        "choose another --host: this machine has no such address"
    )  # of a range that is for documents
    assert "no such address" in refusal(model=str(saved), host="no.such.host.invalid", no_auth=True)
    assert "no such address" in refusal(model=str(saved), host="local\0host", no_auth=True)
    assert "absent is not a model: no such directory" in refusal(model="./absent")
    assert "a language model, not an embedding model" in refusal(model=backbone)
    assert refusal(model=str(saved), data=str(tmp_path / "absent.jsonl")).endswith("absent.jsonl: no such file")
    (tmp_path / "empty").mkdir()
    assert "no text in files that end in" in refusal(model=str(saved), data=str(tmp_path / "empty"))
    (tmp_path / "rows.jsonl").write_text('{"text": ""}\n')
    assert "line 1, column 'text': the text is empty" in refusal(model=str(saved), data=str(tmp_path / "rows.jsonl"))


def test_a_model_that_cannot_be_compared(unopened, saved, tmp_path):
    (tmp_path / "_manifest.json").write_text("{}")
    assert "absent is not a model" in refusal(model=str(saved), data=str(tmp_path), compare="./absent")
    assert "has vectors of one model; give the text" in refusal(
        model=str(saved), data=str(tmp_path), compare=str(saved)
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"host": "0.0.0.0"}, "--host 0.0.0.0 is open to other machines: give --api-key KEY, or --no-auth"),
        ({"host": "::"}, "--host :: is open to other machines"),
        ({"host": "example.org"}, "--host example.org is open to other machines"),
        ({"api_key": " "}, "--api-key is empty"),
        ({"api_key": "a", "no_auth": True}, "--api-key and --no-auth: give one of them"),
        ({"port": 65536}, "--port must be from 0 to 65535, got 65536"),
        ({"port": -1}, "--port must be from 0 to 65535, got -1"),
        ({"max_texts": 0}, "--max-texts must be a whole number of at least 1, got 0"),
        ({"batch_tokens": 0}, "--batch-tokens must be a whole number of at least 1, got 0"),
        ({"compare": "other"}, "--compare compares what two models find: it goes with --data"),
        ({"on_error": "ask"}, "--on-error must be one of stop, skip, got ask"),
    ],
)
def test_settings_that_cannot_be(settings, message):
    with pytest.raises(InputError) as error:
        ServeConfig(model="m", **settings)
    assert str(error.value).startswith(message)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.0.0.2"])
def test_this_machine_needs_no_key(host):
    assert ServeConfig(model="m", host=host).is_local


def test_names(saved, tmp_path, monkeypatch):
    monkeypatch.chdir(saved)
    assert ServeConfig(model=".").served_name == ServeConfig(model=str(saved)).served_name == "lbr-model"
    assert ServeConfig(model="owner/name").served_name == "owner/name"
    assert ServeConfig(model="owner/name", name="other").served_name == "other"


def test_who_was_taken_is_answered_at_the_end(serving, held):
    """New connections are not; on one that is open one more question is."""
    with serving() as served:
        hold = held(served.service.side.model)
        answers: queue.Queue = queue.Queue()
        threads = [threading.Thread(target=lambda t=t: answers.put(served.embed([t] * 3))) for t in TEXTS]
        is_open = http.client.HTTPConnection(*served.address, timeout=30)
        is_open.request("GET", "/health")
        assert json.loads(is_open.getresponse().read()) == {
            "status": "ok", "model": "lbr-model", "passages": 0, "words": True, "before": None,
        }  # fmt: skip
        for thread in threads:
            thread.start()
        while served.service.taken < len(TEXTS):
            time.sleep(0.01)
        served.server.should_exit = True
        while not served.service.is_stopping:
            time.sleep(0.01)
        is_open.request("GET", "/health")
        last = is_open.getresponse()
        assert last.status == 503 and json.loads(last.read())["status"] == "stopping"
        assert last.headers["Connection"] == "close"
        with pytest.raises(OSError):
            served.embed("too late")
        hold.free.set()
        for thread in threads:
            thread.join(60)
    found = [answers.get_nowait() for _ in threads]
    assert all(status == 200 and len(answer["data"]) == 3 for status, answer in found)


@contextlib.contextmanager
def program(*flags, env=None):
    """The command as a program; yields the process and its address."""
    command = [sys.executable, "-m", "lbr_st.cli.main", "serve", "--port", "0", *flags]
    environment = os.environ | {"PYTHONPATH": str(PACKAGE), "PYTHONUNBUFFERED": "1"} | (env or {})
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.slow
def test_sigterm_loses_no_answer(saved):
    """The program itself: what it prints, a large answer that is on its way when it is told to end, and its code."""
    with program("--model", str(saved), env={"LBR_API_KEY": "secret"}) as process:
        first, then = process.stdout.readline(), process.stdout.readline()
        url = first.split(" on ")[1].split(". ")[0]
        assert first == f"Serving lbr-model on {url}. Ctrl-C stops it.\n"
        assert then.startswith(f"next: curl -H 'Authorization: Bearer KEY' {url}/v1/embeddings -d ")
        where = urlsplit(url)
        connection = http.client.HTTPConnection(where.hostname, where.port, timeout=60)
        body = json.dumps({"input": [f"text {number}" for number in range(1500)]})
        connection.request("POST", "/v1/embeddings", body, {"Authorization": "Bearer secret"})
        metrics = http.client.HTTPConnection(where.hostname, where.port, timeout=60)
        while True:
            metrics.request("GET", "/metrics", headers={"Authorization": "Bearer secret"})
            if "lbr_requests_waiting 1\n" in metrics.getresponse().read().decode():
                break
        process.send_signal(signal.SIGTERM)
        answer = connection.getresponse()
        rows = json.loads(answer.read())["data"]
        assert answer.status == 200 and len(rows) == 1500
        assert np.isfinite([row["embedding"] for row in rows]).all()
        assert process.wait(60) == 0, process.stderr.read()


@pytest.mark.slow
def test_an_extra_that_is_absent():
    code = without({"starlette", "uvicorn"}) + "from lbr_st.cli.main import main\nmain(['serve', '--model', 'm'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=PACKAGE)
    assert done.returncode == 2
    assert done.stderr == "error: lbr serve needs uvicorn, which is not installed: pip install 'lbr-st[serve]'\n"
