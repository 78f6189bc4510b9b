"""Bounds, errors, who may ask, searching and reading again, and clients that are slow or gone: by a real server."""

import contextlib
import errno
import json
import queue
import random
import socket
import threading
import time

import numpy as np
import pytest
from helpers import TEXTS, make_bert

import lbr_st
from lbr_st.evaluation.read_out import read_out
from lbr_st.model.lengths import TextLimit
from lbr_st.serving import connections, service
from lbr_st.serving.config import MIB
from lbr_st.serving.metrics import BOUNDS, Metrics


@pytest.fixture(scope="module")
def docs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("docs")
    for number, text in enumerate(TEXTS):
        (folder / f"{number}.md").write_text(text)
    return folder


@pytest.fixture(scope="module")
def searching(serving, docs):
    with serving(data=str(docs)) as found:
        yield found


@contextlib.contextmanager
def asking(served, *inputs):
    """Ask in threads of their own; yields a queue of (status, answer)."""
    answers = queue.Queue()
    threads = [threading.Thread(target=lambda text=text: answers.put(served.embed(text))) for text in inputs]
    for thread in threads:
        thread.start()
    yield answers
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()


def until(condition):
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def raw(served, *pieces):
    """Send bytes as they are; return all that is answered until the server closes."""
    with socket.create_connection(served.address, timeout=30) as connection:
        for piece in pieces:
            connection.sendall(piece)
        answered = b""
        while piece := connection.recv(2**16):
            answered += piece
    return answered


# ---- bounds


def test_what_is_too_much(serving, opened):
    """413 for the body, said or not; 422 for texts and tokens; and just as much as may be is taken."""
    longest = "word " * 30
    [tokens] = TextLimit(opened, "document").lengths([longest])
    with serving(max_body_mib=1, max_texts=3, max_tokens=tokens) as served:
        for headers in ({}, {"Transfer-Encoding": "chunked"}):
            body = b"x" * (MIB + 1)
            if headers:
                body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
            status, _, answer = served.ask("POST", "/v1/embeddings", body, headers)
            assert status == 413 and answer["error"]["code"] == "body_too_large"
        assert served.embed(["a"] * 3)[0] == 200
        status, answer = served.embed(["a"] * 4)
        assert status == 422 and answer["error"]["code"] == "too_many_texts"
        assert answer["error"]["message"] == "input has 4 texts, and a request may have 3"
        assert served.embed(longest)[0] == 200
        status, answer = served.embed(f"{longest}?")
        assert status == 422 and answer["error"]["code"] == "too_many_tokens"
        assert answer["error"]["message"] == f"input has {tokens + 1} tokens, and a request may have {tokens}"
        assert served.number('lbr_requests_total{path="/v1/embeddings",status="413"}') == 2


def test_a_full_queue(serving, held, opened):
    """Who comes too late is told when to come again; who was taken is answered."""
    with serving(max_queue=2) as served:
        hold = held(served.service.side.model)
        with asking(served, TEXTS[0], TEXTS[1]) as answers:
            until(lambda: served.service.taken == 2)
            connection_status, headers, answer = served.ask("POST", "/v1/embeddings", {"input": "late"})
            assert connection_status == 429 and answer["error"]["code"] == "rate_limit_exceeded"
            assert 1 <= int(headers["Retry-After"]) <= 60
            assert served.number("lbr_requests_waiting") == 2 and served.ask("GET", "/health")[0] == 200
            hold.free.set()
        assert sorted(answers.get()[0] for _ in range(2)) == [200, 200]
        assert served.embed("late")[0] == 200 and served.service.taken == 0


# ---- clients


def test_a_client_that_is_gone_is_not_waited_for(serving, held):
    """A pipe that breaks while the model works: nothing of it is encoded any more, and others are answered."""
    with serving(batch_tokens=1) as served:
        hold = held(served.service.side.model)
        body = json.dumps({"input": [f"gone {number}" for number in range(50)]}).encode()
        head = b"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body)
        with socket.create_connection(served.address) as connection:
            connection.sendall(head + body)
            assert hold.reached.wait(30)
        with asking(served, "here") as answers:
            until(lambda: served.service.taken == 1)  # the other one is out
            hold.free.set()
        assert answers.get()[0] == 200
        assert hold.texts[-1] == "here" and len(hold.texts) <= 3
        assert served.number('lbr_requests_total{path="/v1/embeddings",status="499"}') == 1


def test_slow_clients(serving, monkeypatch):
    """Who says nothing, half a head or half a body is left alone after some seconds; meanwhile others are answered."""
    monkeypatch.setattr(connections, "HEAD_SECONDS", 1.0)
    monkeypatch.setattr(service, "BODY_SECONDS", 1.0)
    with serving() as served, contextlib.ExitStack() as stack:
        head = b"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n"
        slow = [stack.enter_context(socket.create_connection(served.address, timeout=30)) for _ in range(40)]
        for number, connection in enumerate(slow):
            connection.sendall([b"", b"POST /v1/emb", head, head + b'{"input"'][number % 4])
        assert served.embed("text")[0] == 200
        for number, connection in enumerate(slow):
            answered = b""
            with contextlib.suppress(ConnectionResetError):
                while piece := connection.recv(2**16):
                    answered += piece
            if number % 4 < 2:
                assert answered == b""
            else:
                assert answered.startswith(b"HTTP/1.1 408 ") and b"did not come within" in answered
        until(lambda: not served.server.server_state.connections)
        assert served.embed("text")[0] == 200


def test_a_client_that_reads_nothing(serving, monkeypatch):
    monkeypatch.setattr(connections, "STALLED_SECONDS", 1.0)
    with serving() as served:
        body = json.dumps({"input": ["a"] * 2048}).encode()
        with socket.socket() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect(served.address)
            head = b"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body)
            # Several requests, whose answers are more than any socket takes.
            until_answered = 6
            connection.sendall((head + body) * until_answered)
            until(lambda: served.server.server_state.connections)
            assert served.embed("text")[0] == 200
            until(lambda: not served.server.server_state.connections)


# ---- errors


def test_every_error_is_json(served):
    for method, path, status in (
        ("GET", "/nowhere", 404), ("GET", "/v1/embeddings/", 404), ("POST", "/", 405),
        ("GET", "/v1/embeddings", 405), ("DELETE", "/health", 405), ("GET", "/reload", 405),
        ("GET", "/search?q=a", 404), ("POST", "/reload", 404),
    ):  # fmt: skip
        found, headers, answer = served.ask(method, path)
        assert found == status, path
        assert answer["error"].keys() == {"message", "type", "param", "code"} and answer["error"]["message"]
        assert status != 405 or ("POST" in headers["Allow"]) == (method == "GET")
    assert "/v1/embeddings, /v1/models" in served.ask("GET", "/nowhere")[2]["error"]["message"]
    assert "start lbr serve with --data" in served.ask("GET", "/search?q=a")[2]["error"]["message"]


@pytest.mark.parametrize(
    "sent",
    [
        b"hello\r\n\r\n",
        b"\x16\x03\x01\x02\x00",
        pytest.param(b"GET / HTTP/9.9\r\nHost: localhost\r\n\r\n", marks=pytest.mark.slow),
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 100_000,
    ],
)
def test_what_is_no_http(served, sent):
    answered = raw(served, sent)
    head, _, body = answered.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ") and b"application/json" in head
    assert json.loads(body)["error"]["message"].startswith("this is no HTTP that can be read")


def test_hostile_requests_are_all_refused(served):
    """Bodies that are cut, mixed and bitten: whatever they are, they are the client's fault, and the server lives."""
    draw = random.Random(0)
    good = json.dumps({"input": ["a", "b"], "model": "lbr-model", "encoding_format": "float", "dimensions": 8}).encode()
    statuses = set()
    for _ in range(150):
        body = bytearray(good)
        for _ in range(draw.randint(1, 4)):
            at = draw.randrange(len(body))
            body[at : at + draw.randint(0, 5)] = draw.randbytes(draw.randint(0, 5))
        statuses.add(served.ask("POST", "/v1/embeddings", bytes(body))[0])
    assert statuses <= {200, 400, 404} and 400 in statuses
    assert served.embed("text")[0] == 200


@pytest.mark.parametrize("name", ["Host", "Origin", "Authorization", "Content-Type", "Expect", "Accept-Encoding"])
def test_hostile_headers(served, serving, name):
    """Whatever they say, an answer is one of those that there are, and never a bug."""
    for value in ("[", "http://[", "a" * 1000, "\xff\xfe", "://", "%00", ":", "[::1", "Bearer \xe9"):
        status, headers, answer = served.ask("POST", "/v1/embeddings", {"input": "a"}, {name: value})
        assert status in (200, 403, 417) and headers["Content-Type"] == "application/json", value
        assert status == 200 or answer["error"]["message"]


def test_a_model_that_fails(serving, monkeypatch, caplog):
    with serving() as served:

        def fail(*args, **kwargs):
            raise RuntimeError("CUDA error:\nno kernel")

        own = served.service.side.model.preprocess
        monkeypatch.setattr(served.service.side.model, "preprocess", fail, raising=False)
        status, answer = served.embed("text")
        assert status == 500 and answer["error"]["type"] == "server_error"
        assert answer["error"]["message"] == "the model does not encode it: CUDA error: no kernel"
        monkeypatch.setattr(served.service.side.model, "preprocess", own)
        monkeypatch.setattr(service, "answer", fail)
        status, answer = served.embed("text")
        assert status == 500 and "a bug of lbr-st" in answer["error"]["message"]
        counted = served.ask("GET", "/metrics")[2]
        assert 'path="/v1/embeddings",status="500"} 2' in counted and 'status="499"' not in counted
        monkeypatch.undo()
        assert served.embed("text")[0] == 200 and served.service.taken == 0


# ---- who may ask


def test_a_key(serving):
    """White space around it, as of a file that it was read from, is none of it."""
    with serving(api_key=" s\u00e9cret\u00e0\n") as served:
        right = {"Authorization": "Bearer s\u00e9cret\u00e0".encode()}
        for key in ("", "Bearer", "Bearer secret", "Basic s\u00e9cret", "Bearer s\u00e9cret2"):
            headers = {"Authorization": key.encode()} if key else {}
            for method, path in (("POST", "/v1/embeddings"), ("GET", "/metrics"), ("GET", "/nowhere")):
                status, found, answer = served.ask(method, path, None, headers)
                assert status == 401 and answer["error"]["code"] == "invalid_api_key"
                assert found["WWW-Authenticate"] == "Bearer"
        assert served.embed("text", right)[0] == 200
        assert served.ask("GET", "/health")[0] == 200  # who looks whether it lives has no key


def test_pages_of_other_sites(served, serving):
    """A page whose name was made to mean this machine, and one that asks across sites."""
    assert served.ask("GET", "/health", None, {"Host": "evil.example:80"})[0] == 403
    assert served.embed("text", {"Origin": "https://evil.example"})[0] == 403
    port = served.address[1]
    for host in ("localhost", f"localhost:{port}", f"127.0.0.1:{port}", "[::1]:80"):
        assert served.ask("GET", "/health", None, {"Host": host})[0] == 200
        assert served.ask("GET", "/health", None, {"Host": host, "Origin": f"http://{host}"})[0] == 200
    with serving(host="0.0.0.0", no_auth=True) as other:
        other.address = ("127.0.0.1", other.address[1])
        assert other.ask("GET", "/health", None, {"Host": "lbr.example"})[0] == 200


# ---- search


def test_search(searching, docs, opened):
    """What the index finds is in test_index.py; here that it is asked for it."""
    for by in ("dense", "bm25", "fused"):
        status, _, answer = searching.ask("GET", f"/search?q=Is+anaemia+treated+with+iron%3F&k=2&by={by}")
        assert status == 200 and (answer["by"], answer["query"]) == (by, "Is anaemia treated with iron?")
        assert answer["passages"] == len(searching.service.index) and len(answer["hits"]) == 2
        scores = [hit["score"] for hit in answer["hits"]]
        assert scores == sorted(scores, reverse=True)
        for hit in answer["hits"]:
            name, _, line = hit["id"].rpartition(":")
            assert line and hit["text"] in (docs / name).read_text() and ("ranks" in hit) == (by == "fused")
            if by == "dense":
                cosine = opened.encode_query("Is anaemia treated with iron?") @ opened.encode_document(hit["text"])
                assert hit["score"] == pytest.approx(float(cosine), abs=1e-6)
    assert len(searching.ask("GET", "/search?q=%ED%A0%BD+a%00b")[2]["hits"]) == 10
    for query, param in (("", "q"), ("?q=+", "q"), ("?q=a&by=splade", "by"), ("?q=a&k=0", "k"), ("?q=a&k=101", "k"),
                         ("?q=a&k=x", "k"), ("?q=a&k=%C2%B2", "k"), ("?q=a&k=-1", "k"), ("?q=a&k=0000000019", "k"),
                         (f"?q=a&k={'0' * 8}1{'0' * 5000}", "k"), ("?q=a&top_k=2", "top_k"), ("?query=a", "query"),
                         ("?q=a&k=1&k=2", "k"), ("?q=a&%ED=1", "\ufffd")):  # fmt: skip
        status, _, answer = searching.ask("GET", f"/search{query}")
        assert status == 400 and answer["error"]["param"] == param
    assert searching.ask("GET", "/search?q=a&top_k=2")[2]["error"]["message"] == (
        "top_k is no field; there are q, k, by, side"
    )


def test_reload_takes_up_what_changed(searching, docs):
    """It counts the texts that were encoded; the server says the same in /metrics."""
    encoded = searching.number('lbr_texts_total{role="document"}')
    passages = len(searching.service.index)
    (docs / "zebra.md").write_text("zebra")
    status, _, answer = searching.ask("POST", "/reload")
    assert (status, answer) == (200, {"passages": passages + 1, "encoded": 1, "kept": passages, "removed": 0})
    [hit] = searching.ask("GET", "/search?q=zebra&k=1&by=bm25")[2]["hits"]
    assert hit["id"] == "zebra.md:1" and searching.number("lbr_passages") == passages + 1
    (docs / "zebra.md").unlink()
    assert searching.ask("POST", "/reload")[2] == {"passages": passages, "encoded": 0, "kept": passages, "removed": 1}
    assert searching.ask("GET", "/search?q=zebra&by=bm25")[2]["hits"] == []
    assert searching.number('lbr_texts_total{role="document"}') == encoded + 1


def test_reload_that_fails_or_is_one_too_many(searching, docs, held):
    (docs / "one.md").write_bytes(b"caf\xe9")
    status, _, answer = searching.ask("POST", "/reload")
    assert status == 422 and "one.md" in answer["error"]["message"] and "as they were" in answer["error"]["message"]
    (docs / "one.md").write_text("new")
    hold = held(searching.service.side.model)
    answers = queue.Queue()
    thread = threading.Thread(target=lambda: answers.put(searching.ask("POST", "/reload")))
    thread.start()
    assert hold.reached.wait(30)
    status, _, answer = searching.ask("POST", "/reload")
    assert status == 409 and answer["error"]["code"] == "reloading"
    assert searching.ask("GET", "/search?q=iron&by=bm25")[0] == 200  # the old ones, meanwhile
    hold.free.set()
    thread.join(60)
    assert answers.get()[2]["encoded"] == 1


def test_reload_that_the_machine_fails(searching, monkeypatch):
    """What is no bug of this package is said in one line: a right that was taken away, a memory that is full."""
    for error, said in ((PermissionError(errno.EACCES, "Permission denied", "docs"), "docs: Permission denied; give"),
                        (MemoryError(), "out of memory (MemoryError)")):  # fmt: skip
        with monkeypatch.context() as patch:
            patch.setattr(searching.service.index, "load", lambda *args, error=error: (_ for _ in ()).throw(error))
            status, _, answer = searching.ask("POST", "/reload")
        assert status == 422 and answer["error"]["code"] == "data"
        assert answer["error"]["message"].startswith(f"the data cannot be read, and are as they were: {said}")
    assert searching.ask("POST", "/reload")[0] == 200


# ---- metrics


def test_metrics_are_in_the_form_of_prometheus(served):
    served.embed(["a", "b"], input_type="query")
    before = served.number('lbr_texts_total{role="query"}')
    served.embed(["a", "b", "c"], input_type="query")
    assert served.number('lbr_texts_total{role="query"}') == before + 3
    _, headers, text = served.ask("GET", "/metrics")
    assert headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert text.endswith("\n")
    names = set()
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            names.add(line.split()[2])
        elif not line.startswith("# "):
            series, _, value = line.rpartition(" ")
            assert float(value) >= 0 and any(series.startswith(name) for name in names), line
    assert {"lbr_requests_total", "lbr_request_seconds", "lbr_requests_waiting", "lbr_tokens_total"} <= names


def test_a_histogram_is_cumulative():
    metrics = Metrics()
    for seconds in (0.005, 0.006, 100):
        metrics.observe(seconds)
    lines = str(metrics).splitlines()
    buckets = [int(line.split()[1]) for line in lines if line.startswith("lbr_request_seconds_bucket")]
    assert buckets == [1, *[2] * (len(BOUNDS) - 1), 3]
    assert "lbr_request_seconds_sum 100.011" in lines and "lbr_request_seconds_count 3" in lines


def test_a_corpus_waits_in_line_with_clients(searching, opened):
    """What is longer than the model reads is said; its vectors are those of the model, in order."""
    texts = [f"{'long ' * (number % 40)}text {number}" for number in range(60)]
    vectors = searching.service.side.embed(texts)
    assert np.abs(vectors - opened.encode_document(texts)).max() < 1e-6


# ---- words, and another model


@pytest.fixture(scope="module")
def comparing(serving, docs, tmp_path_factory):
    with serving(data=str(docs), compare=make_bert(tmp_path_factory.mktemp("other") / "bert", dropout=0)) as found:
        yield found


def test_the_words_of_vectors(comparing, saved):
    """As the read-out says them, for each role; what is no list of texts, and too many, are refused."""
    model = lbr_st.load(saved)
    for role, input_type in (("query", None), ("query", "query"), ("document", "document")):
        status, _, answer = comparing.ask("POST", "/words", {"input": TEXTS, "input_type": input_type})
        expected = read_out(model, TEXTS, 12, role=role)
        assert status == 200
        for found, words in zip(answer["words"], expected, strict=True):
            assert [word for word, _ in found] == [word for word, _ in words]
            assert [weight for _, weight in found] == pytest.approx([weight for _, weight in words], abs=1e-5)
    for body, status, param in (({}, 400, "input"), ({"input": "a"}, 400, "input"), ({"input": [1]}, 400, "input"),
                                ({"input": ["a"], "input_type": "x"}, 400, "input_type"),
                                ({"input": ["a"], "model": "m"}, 400, "model"), ({"input": ["a"] * 65}, 422, "input"),
                                ({"input": ["a " * 300_000]}, 422, "input")):  # fmt: skip
        found, _, answer = comparing.ask("POST", "/words", body)
        assert found == status and answer["error"]["param"] == param


def test_reading_again_that_fails_for_one_model_changes_none(comparing, docs, monkeypatch):
    with monkeypatch.context() as patch:
        (docs / "late.md").write_text("late")
        patch.setattr(comparing.service.before, "load", lambda: (_ for _ in ()).throw(MemoryError()))
        status, _, answer = comparing.ask("POST", "/reload")
        assert status == 422 and "are as they were: out of memory" in answer["error"]["message"]
        assert comparing.ask("GET", "/search?q=late&by=bm25")[2]["hits"] == []
    assert comparing.ask("POST", "/reload")[0] == 200
    for side in ("after", "before"):
        assert comparing.ask("GET", f"/search?q=late&by=bm25&side={side}")[2]["hits"][0]["text"] == "late"


def test_each_model_is_asked_by_its_own_tokens(comparing, monkeypatch):
    """One that counts none, as a table of words may, answers where the other one has no vector."""
    for side in (comparing.service.side, comparing.service.before):
        monkeypatch.setattr(side.batcher, "lengths", lambda texts, role: [0] * len(texts))
    monkeypatch.setattr(comparing.service.before, "needs_tokens", False)
    assert [comparing.ask("GET", f"/search?q=iron&side={side}")[0] for side in ("after", "before")] == [400, 200]


def test_two_models_side_by_side(comparing):
    """Both search the same passages, each with its own vectors, and both read them again."""
    other = comparing.service.before.model
    for side, model in (("after", comparing.service.side.model), ("before", other)):
        _, _, answer = comparing.ask("GET", f"/search?q=iron&k=100&side={side}")
        for hit in answer["hits"]:
            cosine = model.encode_query("iron") @ model.encode_document(hit["text"])
            assert hit["score"] == pytest.approx(float(cosine), abs=1e-6)
    ids = [{hit["id"] for hit in comparing.ask("GET", f"/search?q=iron&k=100&side={side}")[2]["hits"]}
           for side in ("after", "before")]  # fmt: skip
    assert ids[0] == ids[1] and len(ids[0]) == comparing.service.before.index.__len__()
    health = comparing.ask("GET", "/health")[2]
    assert health["before"] == "st" and health["words"] is True
    assert comparing.ask("POST", "/reload")[2]["encoded"] == 0
    assert comparing.ask("GET", "/search?q=iron&side=left")[0] == 400


def test_a_model_of_others_says_no_words(serving, tmp_path, searching):
    with serving(model=make_bert(tmp_path / "bert")) as served:
        assert served.ask("GET", "/health")[2]["words"] is False
        status, _, answer = served.ask("POST", "/words", {"input": ["a"]})
        assert status == 400 and answer["error"]["code"] == "no_words"
    assert searching.ask("GET", "/search?q=iron&side=before")[0] == 404


def test_the_page(served, serving):
    """It needs no key, as it holds nothing, and may load nothing from elsewhere."""
    status, headers, text = served.ask("GET", "/")
    assert status == 200 and headers["Content-Type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert text.startswith("<!doctype html>") and "http://" not in text and "https://" not in text
    assert "innerHTML" not in text
    with serving(api_key="secret") as other:
        assert other.ask("GET", "/")[0] == 200 and other.ask("GET", "/search")[0] == 401
