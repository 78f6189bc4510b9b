"""The script of the page, as far as it needs no browser: what is marked in a passage."""

import json
import re
import shutil
import subprocess

import pytest
from helpers import ROOT

PAGE = (ROOT / "lbr_st" / "serving" / "page.html").read_text(encoding="utf-8")
NODE = shutil.which("node")


def marked(question, text):
    """Return the pieces that the page makes of a passage."""
    [script] = re.findall(r"<script>(.*)</script>", PAGE, flags=re.DOTALL)
    asked = f"console.log(JSON.stringify(piecesOf({json.dumps(text)}, termsOf({json.dumps(question)}))));"
    done = subprocess.run([NODE, "-e", script + asked], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.skipif(NODE is None, reason="there is no Node.js")
@pytest.mark.parametrize(
    ("question", "text", "words"),
    [
        ("How is anaemia treated?", "Iron treats Anaemia; treatment is how.", ["treats", "Anaemia"]),
        ("How is anaemia treated?", "Anaemia is treated.", ["Anaemia", "treated"]),
        ("iron contract", "<b>Iron</b> & irons control", ["Iron", "irons"]),
        ("贫血怎么治疗", "治疗贫血用铁", ["治疗", "贫血"]),
        ("what is it?", "It is what it is.", []),
        ("", "Nothing.", []),
    ],
)
def test_words_of_the_question_are_marked(question, text, words):
    """Words that begin alike are; no letter is lost by it."""
    pieces = marked(question, text)
    assert "".join(piece for piece, _ in pieces) == text
    assert [piece for piece, is_marked in pieces if is_marked] == words


def test_what_the_script_looks_for_is_there():
    ids = set(re.findall(r'id="([^"]+)"', PAGE))
    assert set(re.findall(r'(?<!\.)get\("([^"]+)"\)', PAGE)) == ids
    assert re.search(r"prefers-color-scheme: dark", PAGE) and 'name="viewport"' in PAGE
