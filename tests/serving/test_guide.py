"""The lines of docs/guides/serving.md, asked of a real server that was started as the page says.

Those in Python want other packages: tests/integrations/test_clients.py has them.
"""

import json
import subprocess

import pytest
from documents import blocks_under
from helpers import ROOT

PAGE = ROOT / "docs" / "guides" / "serving.md"
START, ASKED = [block for block in blocks_under(PAGE, "## lbr serve") if block.language == "sh"]


@pytest.fixture(scope="module")
def of_the_page(serving, tmp_path_factory):
    folder = tmp_path_factory.mktemp("docs")
    (folder / "care.md").write_text("Iron treats it.")
    [argv] = START.commands
    assert argv == ["lbr", "serve", "--model", "lbr-model", "--data", "docs"]
    with serving(data=str(folder)) as served:
        yield served


def test_curl(of_the_page):
    answers = []
    for argv in ASKED.commands:
        there = [word.replace("http://localhost:8000", of_the_page.url) for word in argv]
        assert argv[0] == "curl" and there != argv
        answers.append(json.loads(subprocess.run(there, capture_output=True, check=True, text=True).stdout))
    embedded, found, read = answers
    assert embedded["object"] == "list" and found["hits"][0]["id"] == "care.md:1" and read["kept"] == found["passages"]
