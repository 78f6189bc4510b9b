"""The fuzzer itself: it sees a traceback, a hang and an exit code that is not promised, and writes down what did it."""

import itertools
import json
import subprocess
import sys
import time
from types import SimpleNamespace

import fuzz
import fuzz_cases
import fuzz_serving
import pytest
from hypothesis import strategies as st

import lbr_st
from lbr_st.cli.main import run_command
from lbr_st.errors import InputError, UnfinishedError


def program(argv):
    """A command that fails as its first argument says."""
    end = {
        "bug": lambda: {}["name"],
        "input": lambda: (_ for _ in ()).throw(InputError("wrong")),
        "machine": lambda: (_ for _ in ()).throw(UnfinishedError("full")),
        "code": lambda: sys.exit(3),
        "hangs": lambda: time.sleep(30),
        "done": lambda: None,
    }[argv[0]]
    run_command(end)


@pytest.mark.parametrize(
    ("argv", "code", "is_fine"),
    [("done", 0, True), ("input", 2, True), ("machine", 1, True), ("bug", 1, False), ("code", 3, False)],
)
def test_ends_that_are_promised_and_others(argv, code, is_fine):
    outcome = fuzz.run(fuzz_cases.Case([argv], {"sub/file.txt": b"x"}), program)
    assert (outcome.code, outcome.is_fine) == (code, is_fine)


def test_a_command_that_goes_on_and_on(monkeypatch):
    monkeypatch.setattr(fuzz, "SECONDS", 1)
    outcome = fuzz.run(fuzz_cases.Case(["hangs"], {}), program)
    assert not outcome.is_fine
    assert "TooSlow" in outcome.said


@pytest.mark.slow
def test_what_was_found_is_written_down_small(tmp_path, monkeypatch):
    """Of a file of any rows, the one that matters, with the command; once for each signature."""

    def fails_at_nul(case, main=None):
        is_bad = any(b"\\u0000" in content for content in case.files.values())
        return fuzz.Outcome(1, 'Traceback\n  File "lbr_st/x.py", line 3\nKeyError: 1' if is_bad else "")

    monkeypatch.setattr(fuzz, "run", fails_at_nul)
    rows = st.lists(st.fixed_dictionaries({"query": fuzz_cases.texts}), max_size=20)
    cases = rows.map(lambda table: fuzz_cases.Case(["search"], {"rows.jsonl": fuzz_cases.as_jsonl(table)}))
    looked = itertools.count()  # a clock that a busy machine does not slow down
    monkeypatch.setattr(fuzz, "time", SimpleNamespace(monotonic=lambda: next(looked) / 200))
    found = fuzz.fuzz({"search": cases}, 0.05, 1, tmp_path)
    [folder] = found.values()
    assert json.loads((folder / "argv.json").read_text()) == ["search"]
    assert (folder / "files" / "rows.jsonl").read_bytes() == b'{"query": "\\u0000"}\n'
    assert "exit code 1" in (folder / "said.txt").read_text()


def test_mutations_change_bytes_and_formats_are_read_back():
    content = fuzz_cases.as_jsonl(fuzz_cases.good_rows())
    changed = {name for name, mutate in fuzz_cases.MUTATIONS.items() if mutate(content, 9) != content}
    assert changed == {*fuzz_cases.MUTATIONS} - {"nothing", "Latin-1"}
    assert fuzz_cases.as_csv([{"a": 1, "b": "x,y"}, {"a": "\n"}]) == b'a,b\r\n1,"x,y"\r\n"\n",\r\n'


@pytest.mark.parametrize("command", fuzz_cases.NAMES_OF_COMMANDS)
def test_the_options_of_every_command_are_found(command):
    names = {action.dest for action in fuzz_cases.actions_of(command)}
    assert not names & fuzz_cases.LEFT_OUT
    some = {"learn": "read_out_weight", "data prepare": "on_error", "encode": "shard_rows", "export": "to"}
    assert command not in some or some[command] in names


@pytest.mark.slow
def test_it_starts_as_a_program():
    """It finds all that it needs outside pytest too, and ends well when nothing was found."""
    done = subprocess.run([sys.executable, fuzz.__file__, "--minutes", "0"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("seed ")


def answer(body, status="200 OK", kind="application/json"):
    return f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nConnection: close\r\n\r\n{body}".encode()


ERROR = '{"error": {"message": "no", "type": "invalid_request_error", "param": null, "code": null}}'


@pytest.mark.parametrize(
    ("answered", "said"),
    [
        (answer('{"data": [{"embedding": [0.6, -0.8]}]}'), []),
        (answer('{"data": [{"embedding": "AACAPw=="}]}'), []),  # 1.0 as four bytes
        (answer(ERROR, "422 Unprocessable"), []),
        (answer("<html>", kind="text/html"), []),
        (answer('{"data": [{"embedding": [0.6, -0.7]}]}'), ["no vectors"]),
        (answer('{"hits": [{"score": NaN}]}'), ["status 200 with what is no JSON, NaN is no JSON"]),
        (answer(ERROR.replace("no", ""), "400 Bad"), ["status 400 with no error of OpenAI's form"]),
        (answer('{"detail": "no"}', "400 Bad"), ["status 400 with no error of OpenAI's form"]),
        (answer("no", "404 Not Found", "text/plain"), ["status 404 in text/plain"]),
        (answer(ERROR, "500 Internal"), ["status 500"]),
        (answer("", "302 Found"), ["status 302"]),
        (b"", ["no answer"]),
    ],
)
def test_answers_of_a_server_that_are_allowed_and_others(answered, said):
    found = fuzz_serving.problems(fuzz_serving.sent_as("GET", "/search?q=a"), answered)
    assert [each.partition(": ")[0] for each in found] == said


def test_who_says_half_a_request_may_get_no_answer():
    assert fuzz_serving.problems(b"GET / HTT", b"") == fuzz_serving.problems(b"", b"") == []
    assert fuzz_serving.problems(b"GET / HTT\r\n\r\n", b"") == ["no answer"]


def test_a_server_is_asked_and_ends(_shared_model, tmp_path, monkeypatch):
    """What it answers wrongly is found with its traceback, and so is another answer than before."""
    lbr_st.save(_shared_model, tmp_path / "model")
    asked = [{"write": "docs.jsonl", "content": '{"text": "other"}\n'}]
    asked += [{"send": fuzz_serving.sent_as(*each).decode()} for each in (("POST", "/reload"), ("GET", "/v1/models"))]
    files = {"docs.jsonl": b'{"text": "one"}\n', fuzz_serving.REQUESTS: json.dumps(asked).encode()}
    argv = ["serve", "--model", str(tmp_path / "model"), "--data", "docs.jsonl", "--port", "0"]
    outcome = fuzz.run(fuzz_cases.Case(argv, files))
    assert (outcome.code, outcome.is_fine) == (0, True), outcome.said
    monkeypatch.setattr("lbr_st.serving.service.Service.models", lambda self, request: {}["name"])
    outcome = fuzz.run(fuzz_cases.Case([*argv, "--api-key", "secret"], files))
    assert outcome.code == 1 and not outcome.is_fine
    assert "status 500" in outcome.said and "KeyError: 'name'" in outcome.said
    assert "another answer" not in outcome.said
    monkeypatch.setattr(
        "lbr_st.serving.service.answer",
        lambda asked, vectors, tokens: json.dumps({"data": [{"embedding": [time.time()]}]}).encode(),
    )
    assert "another answer afterwards than before" in fuzz.run(fuzz_cases.Case(argv, files)).said
