"""The benchmark of the server, at toy size: all its parts, and that it sees what is wrong."""

import contextlib
import json
import socket
import threading

import numpy as np
import pytest

from lbr_st.errors import InputError
from lbr_st.files import write_json


@pytest.mark.slow
def test_program_of_serving(tmp_path, monkeypatch):
    """Every part with a real server; figures are those of the files; what was measured is not measured again."""
    import results
    import serving

    serving.main(["--scale", "tiny"])
    summary = json.loads((tmp_path / "results" / "serving_tiny" / "summary.json").read_text())
    figures = summary["figures"]
    losses = ("requests_lost", "soak_requests_lost", "unexpected_status", "answers_cut", "search_wrong")
    assert {name: figures[name] for name in losses} == dict.fromkeys(losses, 0)
    assert (figures["hostile_requests"], figures["stops"], figures["search_passages"]) == (96, 1, 500)
    found = {part: results.read_arm("serving_tiny", part, 0)["found"] for part in serving.PARTS}
    for mix, end in (("mixed", ""), ("queries", "_queries"), ("passages", "_passages")):
        of_mix = found["load"][mix]
        ratio = of_mix["texts_per_second"] / of_mix["texts_per_second_one_by_one"]
        assert figures[f"throughput_vs_one_by_one{end}"] == pytest.approx(ratio, abs=1e-4)
        assert 0 < of_mix["p50_seconds"] <= of_mix["p99_seconds"] <= of_mix["slowest"]
    early, late = (found["soak"][f"mib_{when}"] for when in ("early", "late"))
    assert figures["memory_growth_ratio"] == pytest.approx(late / early, abs=1e-4) and early > 100
    medians = [np.median(found["search"]["seconds"][way]) for way in ("server", "numpy")]
    assert figures["search_p50_ms_over_numpy"] == pytest.approx(medians[0] / medians[1], abs=1e-4)
    assert figures["answers_in_flight_at_stop"] >= 1 and len(found["hostile"]["kinds"]) == 24
    for part in serving.PARTS:
        refuse = (lambda bench: pytest.fail("measured again"), serving.PARTS[part][1])
        monkeypatch.setitem(serving.PARTS, part, refuse)
    serving.main(["--scale", "tiny", "--parts", "load"])
    assert json.loads((tmp_path / "results" / "serving_tiny" / "summary.json").read_text())["figures"] == figures
    file = results.arm_path("serving_tiny", "soak", 0)
    write_json(file, json.loads(file.read_text()) | {"settings": {"scale": "tiny"}})
    with pytest.raises(InputError, match="soak-seed0.json was measured with other settings"):
        serving.main(["--scale", "tiny", "--parts", "soak"])


def test_figures_count_all_that_went_wrong():
    """A lost answer and a wrong vector of each mix; a server that is not what it was; an end with another code."""
    import serving

    of_mix = {
        "requests": 10, "lost": 1, "wrong": 2, "texts_per_second": 6.0, "texts_per_second_one_by_one": 2.0,
        "texts_per_second_encode": 3.0, "p50_seconds": 0.5, "p99_seconds": 1.0, "server_cpu_share": 1.0,
    }  # fmt: skip
    figures = serving.figures_of_load(dict.fromkeys(serving.MIXES, of_mix))
    assert (figures["requests_lost"], figures["requests"], figures["p99_over_p50"]) == (9, 30, 2.0)
    assert (figures["throughput_vs_one_by_one"], figures["throughput_vs_encode_queries"]) == (3.0, 2.0)
    after = {"lives": True, "healthy": False, "nothing_logged": False}
    assert serving.figures_of_hostile({"requests": 5, "wrong": 1, "after": after})["unexpected_status"] == 3
    stops = [{"lost": 0, "code": 0, "in_flight": 3}, {"lost": 2, "code": -9, "in_flight": 4}]
    figures = serving.figures_of_stop({"stops": stops})
    assert figures == {"answers_cut": 3, "stops": 2, "answers_in_flight_at_stop": 7}


def test_decks_have_what_the_protocol_says():
    import serving

    bench = object.__new__(serving.Bench)
    bench.seed, bench.scale, bench.words = 0, serving.SCALES["smollm2"], ["one", "two", "three"]
    mixed = bench.deck("mixed")
    assert len(mixed) == 128 and sum(not each.is_query for each in mixed) == 8
    words = {kind: [len(each.texts[0].split()) for each in mixed if each.is_query is kind] for kind in (True, False)}
    assert (min(words[True]), max(words[True]), min(words[False]), max(words[False])) == (3, 11, 30, 120)
    assert np.mean(words[True]) == pytest.approx(7, abs=0.1) and np.mean(words[False]) == pytest.approx(75, abs=1)
    assert bench.deck("mixed") == mixed and bench.deck("queries") != mixed


def test_hostile_requests_are_the_same_ones_and_of_every_kind():
    from serving_hostile import hostile_request

    drawn = [hostile_request(number, 0) for number in range(240)]
    assert drawn == [hostile_request(number, 0) for number in range(240)]
    assert len({each.kind for each in drawn[:24]}) == 24
    assert {each.status for each in drawn} == {200, 400, 403, 404, 405, 413, 422, None}
    assert len({each.sent for each in drawn}) > 150 and drawn[0] != hostile_request(0, 1)


@contextlib.contextmanager
def toy(*answers):
    """A server that gives each connection the next of these answers and closes it; then it takes none any more."""
    listener = socket.create_server(("127.0.0.1", 0))

    def work():
        for number, answer in enumerate(answers, 1):
            with listener.accept()[0] as connection, connection.makefile("rb") as request:
                # Read whole: what is closed with something unread is a connection reset.
                head = list(iter(request.readline, b"\r\n"))
                request.read(
                    sum(int(line.split(b":")[1]) for line in head if line.lower().startswith(b"content-length"))
                )
                if number == len(answers):
                    listener.close()
                connection.sendall(answer)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield listener.getsockname()
    finally:
        thread.join(30)


def http(status, body, kind="application/json", length=None):
    said = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = f"HTTP/1.1 {status} x\r\nContent-Type: {kind}\r\nContent-Length: {length or len(said)}\r\n"
    return f"{head}Connection: close\r\n\r\n".encode() + said


ERROR = {"error": {"message": "no", "type": "invalid_request_error", "param": None, "code": None}}


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (http(400, ERROR), None),
        (http(404, ERROR), "status 404, not 400"),
        (http(400, {"detail": "no"}), "KeyError"),
        (http(400, {"error": ERROR["error"] | {"message": ""}}), "no such form"),
        (http(400, {"error": ERROR["error"] | {"type": "server_error"}}), "no such form"),
        (http(400, ERROR, kind="text/plain"), "no such form"),
        (http(400, b"no"), "JSONDecodeError"),
        (http(400, ERROR, length=999), "IncompleteRead"),
        (b"", "RemoteDisconnected"),
    ],
)
def test_a_wrong_answer_is_seen(answer, expected):
    from serving_hostile import Hostile, what_is_wrong

    with toy(answer) as address:
        found = what_is_wrong(address, Hostile("cut", b"GET / HTTP/1.1\r\n\r\n", 400))
    assert found is None if expected is None else found.startswith(expected)


def test_answers_that_are_lost_and_connections_that_are_refused():
    """A vector of another length, too few of them, another index, an answer that is cut: each is lost."""
    import base64

    from serving_clients import Question, ask_all, lost

    def vector(*numbers, index=0):
        return {"index": index, "embedding": base64.b64encode(np.array(numbers, "<f4").tobytes()).decode()}

    whole = http(200, {"data": [vector(0.6, 0.8)]})
    answers = [
        whole, http(200, {"data": [vector(3, 4)]}), http(200, {"data": [vector(0.6, 0.8), vector(1, 0, index=1)]}),
        http(200, {"data": [vector(0.6, 0.8, index=1)]}), whole[:-5], http(503, ERROR), whole,
    ]  # fmt: skip
    with toy(*answers) as address:
        found = ask_all(address, lambda number: Question(["a"], True), 1, lambda number, begun: True)
    assert [each.vectors is None for each in found] == [False, True, True, True, True, True, False, True]
    assert [each.is_refused for each in found] == [False] * 7 + [True]
    assert found[0].vectors.tolist() == [[pytest.approx(0.6), pytest.approx(0.8)]]
    assert lost(found[:-1])["lost"] == 5
