"""The lines of docs/guides/serving.md, asked of a real server that was started as the page says."""

import contextlib
import io
import json
import subprocess

import pytest
from documents import blocks_of
from helpers import ROOT

PAGE = ROOT / "docs" / "guides" / "serving.md"
START, *ASKED = [
    block
    for block in blocks_of(PAGE)
    if "## lbr serve" in (lines := PAGE.read_text().splitlines()[: block.line])
    and "## ONNX Runtime and OpenVINO" not in lines
]


@pytest.fixture(scope="module")
def of_the_page(serving, tmp_path_factory):
    folder = tmp_path_factory.mktemp("docs")
    (folder / "care.md").write_text("Iron treats it.")
    [argv] = START.commands
    assert argv == ["lbr", "serve", "--model", "lbr-model", "--data", "docs"]
    with serving(data=str(folder)) as served:
        yield served


@pytest.mark.parametrize("block", [block for block in ASKED if block.language == "sh"], ids=str)
def test_curl(of_the_page, block):
    answers = []
    for argv in block.commands:
        there = [word.replace("http://localhost:8000", of_the_page.url) for word in argv]
        assert argv[0] == "curl" and there != argv
        answers.append(json.loads(subprocess.run(there, capture_output=True, check=True, text=True).stdout))
    embedded, found, read = answers
    assert embedded["object"] == "list" and found["hits"][0]["id"] == "care.md:1" and read["kept"] == found["passages"]


@pytest.mark.parametrize("block", [block for block in ASKED if block.language == "python"], ids=str)
def test_python(of_the_page, block, opened):
    pytest.importorskip("openai")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(block.text.replace("http://localhost:8000", of_the_page.url), {})
    texts, width, tokens = map(int, printed.getvalue().split())
    assert (texts, width) == (2, opened.get_embedding_dimension()) and tokens > 2


def test_the_page_has_what_is_asked():
    assert [block.language for block in ASKED] == ["sh", "python"]
