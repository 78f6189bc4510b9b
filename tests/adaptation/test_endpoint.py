"""An endpoint, by a real server: what it is asked, what it may say, and what becomes of it when it says nothing."""

import socket

import pytest

from lbr_st.adaptation.endpoint import Endpoint, url_of
from lbr_st.adaptation.kinds import prompt_of
from lbr_st.adaptation.passages import Passage
from lbr_st.adaptation.query_text import Answer
from lbr_st.adaptation.writers import Decoding, Request
from lbr_st.errors import InputError, UnfinishedError

REQUESTS = [Request(Passage(f"p{n}", f"Passage number {n}.", "s"), "question", 1) for n in range(12)]
DECODING = Decoding(temperature=0.5, seed=7)


def asked(server, requests=REQUESTS, at_once=4):
    return {r.key: answer for r, answer in Endpoint(server.url, "some-model", DECODING, at_once).write(requests)}


def test_each_passage_gets_its_own_answer(server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "secret\n")  # as of a file
    server.answer = lambda content: f"What is {content.split('number ')[1].split('.')[0]}?"
    assert asked(server) == {(f"p{n}", "question", 1): Answer(f"What is {n}?") for n in range(12)}
    path, body, headers = server.asked[0]
    assert path == "/v1/chat/completions" and headers["Authorization"] == "Bearer secret"
    assert body["model"] == "some-model" and body["temperature"] == 0.5 and body["max_tokens"] == 64
    assert {body["messages"][0]["content"] for _, body, _ in server.asked} == {
        prompt_of("question", request.passage.document) for request in REQUESTS
    }
    assert len({body["seed"] for _, body, _ in server.asked}) == 12


def test_no_key_is_sent_where_there_is_none(server):
    asked(server, REQUESTS[:1])
    assert "Authorization" not in server.asked[0][2]


def test_it_is_asked_again_where_it_passes(server):
    """Too many requests, and a server that starts."""
    answers = iter([(429, "{}", {}), (503, "starting", {}), "What?"])
    server.answer = lambda content: next(answers)
    assert asked(server, REQUESTS[:1]) == {REQUESTS[0].key: Answer("What?")}


def test_it_waits_as_long_as_it_is_told(server, monkeypatch):
    monkeypatch.setattr("lbr_st.adaptation.endpoint.WAITS", (1.0, 2.0, 4.0))
    answers = iter([(429, "{}", {"Retry-After": "3"}), (429, "{}", {"Retry-After": "900"}), (500, "", {}), "What?"])
    server.answer = lambda content: next(answers)
    endpoint, waited = Endpoint(server.url, "m", DECODING, 1), []
    monkeypatch.setattr(endpoint._stopped, "wait", waited.append)
    assert [answer for _, answer in endpoint.write(REQUESTS[:1])] == [Answer("What?")]
    assert waited == [3.0, 60.0, 4.0]


def test_a_server_that_stays_busy(server):
    server.answer = lambda content: (503, '{"error": {"message": "no\\nGPU"}}', {})
    with pytest.raises(UnfinishedError, match="does not answer: HTTP 503: no GPU; is it running, and is the address"):
        asked(server)


def test_nobody_listens(server):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        server.url = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(UnfinishedError, match="does not answer: .*[Cc]onnection refused; is it running"):
        asked(server, REQUESTS[:2])


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((401, '{"error": {"message": "no key"}}', {}), "HTTP 401: no key; its key is read from .* OPENAI_API_KEY"),
        ((404, '{"error": "no such model"}', {}), "HTTP 404: no such model; is --generator-model some-model there"),
        ((200, "<html>a page</html>", {}), "answers, and not with a chat completion: <html>a page</html>"),
        ((200, '{"choices": []}', {}), "not with a chat completion"),
        ((200, '{"choices": [{"message": {"content": 5}}]}', {}), "not with a chat completion"),
    ],
)
def test_an_endpoint_that_is_none_is_refused(server, answer, said):
    server.answer = lambda content: answer
    with pytest.raises(InputError, match=said):
        asked(server)


@pytest.mark.parametrize("key", ["sec\nret", "schl\u00fcssel", "\udcff"])
def test_a_key_that_is_none_is_refused_and_not_shown(server, monkeypatch, key):
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(InputError) as refused:
        asked(server)
    said = "OPENAI_API_KEY in the environment has a character that no key has; set it anew, or unset it"
    assert str(refused.value) == said and not server.asked


@pytest.mark.parametrize(("name", "value"), [("http_proxy", "http:/proxy"), ("", "")])
def test_a_host_or_a_proxy_that_is_none_is_refused(server, monkeypatch, name, value):
    if name:
        monkeypatch.setenv(name, value)
        monkeypatch.delenv("no_proxy", raising=False)
    address = "http://a..b" if not name else "http://other.example"
    with pytest.raises(InputError, match=f"--generator {address}.* cannot be asked: .*; are the address, and http_"):
        list(Endpoint(address, "m", DECODING, 1).write(REQUESTS[:1]))


def test_a_key_goes_to_no_other_server(server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    server.answer = lambda content: (302, "", {"Location": f"{server.url}/elsewhere"})
    with pytest.raises(InputError, match="HTTP 302: .*; it has moved to http://127.0.0.1:.*/elsewhere"):
        asked(server, REQUESTS[:1])
    assert len(server.asked) == 1


def test_one_passage_that_is_refused_is_lost_alone(server):
    server.answer = lambda c: (400, '{"error": {"message": "too long"}}', {}) if "number 3." in c else "What?"
    found = asked(server)
    assert found.pop(REQUESTS[3].key) == Answer("", refused="HTTP 400: too long")
    assert set(found.values()) == {Answer("What?")} and len(found) == 11


def test_all_passages_that_are_refused_are_no_fault_of_theirs(server):
    server.answer = lambda content: (400, '{"error": {"message": "max_tokens is not known"}}', {})
    with pytest.raises(InputError, match="refuses what it is asked: HTTP 400: max_tokens is not known"):
        asked(server)


def test_an_answer_that_was_cut_off(server):
    server.answer = lambda content: (
        200,
        '{"choices": [{"message": {"content": "What is the"}, "finish_reason": "length"}]}',
        {},
    )
    assert asked(server, REQUESTS[:1]) == {REQUESTS[0].key: Answer("What is the", ended=False)}


@pytest.mark.parametrize(
    ("address", "url"),
    [
        ("http://localhost:8000", "http://localhost:8000/v1/chat/completions"),
        ("http://localhost:8000/v1/", "http://localhost:8000/v1/chat/completions"),
        ("https://a.b/openai/v1", "https://a.b/openai/v1/chat/completions"),
        ("https://a.b/x/chat/completions?api-version=1", "https://a.b/x/chat/completions?api-version=1"),
    ],
)
def test_addresses(address, url):
    assert url_of(address) == url


@pytest.mark.parametrize("address", ["localhost:8000", "ftp://a.b", "http://", "http://a:port", "file:///etc/passwd"])
def test_no_addresses(address):
    with pytest.raises(InputError, match="is no address; write it as http://localhost:8000/v1"):
        url_of(address)


def test_a_password_in_the_address_is_refused_without_being_said():
    with pytest.raises(InputError, match="no name or password in the address") as refused:
        url_of("https://me:hunter2@a.b/v1")
    assert "hunter2" not in str(refused.value)
