"""The command `lbr search`, and that a base install suffices for it."""

import subprocess
import sys

import pytest
from base_install import BASE_INSTALL
from helpers import TEXTS

import lbr_st
from lbr_st.cli.search import main
from lbr_st.errors import InputError
from lbr_st.files import write_jsonl


@pytest.fixture
def argv(model, tmp_path):
    lbr_st.save(model, tmp_path / "model")
    write_jsonl(tmp_path / "train.jsonl", [{"text": text} for text in TEXTS])
    return ["--model", str(tmp_path / "model"), "--data", str(tmp_path / "train.jsonl")]


def test_passages_for_each_question(argv, capsys):
    main([*argv, "--top-k", "2", "one", "two"])
    printed = capsys.readouterr().out
    assert printed.count("> ") == 2
    assert printed.count("\n    ") == 4
    assert f"Searched {len(TEXTS)} passages.\nnext: lbr encode {argv[0]} {argv[1]} " in printed


def test_refusals(argv, tmp_path, capsys):
    with pytest.raises(
        InputError, match="^lbr search: the following arguments are required: --model, --data, question"
    ):
        main([])
    with pytest.raises(
        InputError, match="^lbr search: argument --top-k: must be a whole number from 1 to 2,147,483,647, got 0"
    ):
        main([*argv, "--top-k", "0", "why"])
    with pytest.raises(InputError, match="--model ./absent is not a model: no such directory"):
        main(["--model", "./absent", *argv[2:], "why"])
    with pytest.raises(InputError, match="absent.jsonl: no such file"):
        main([*argv[:2], "--data", str(tmp_path / "absent.jsonl"), "why"])
    for question in ("", " ", "\udcff"):
        with pytest.raises(InputError, match="^lbr search: a question is empty"):
            main([*argv, "why", question])
    assert capsys.readouterr().out == ""


SEARCH_EACH = """
import sys
from lbr_st.cli.main import main

for data in sys.argv[2:]:
    main(["search", "--model", sys.argv[1], "--data", data, "why"])
"""


def test_the_base_install_suffices(argv, tmp_path):
    """Of JSON Lines and of CSV."""
    (tmp_path / "texts.csv").write_text("text\n" + "\n".join(f'"{text}"' for text in TEXTS))
    command = [sys.executable, "-c", BASE_INSTALL + SEARCH_EACH, argv[1], argv[3], str(tmp_path / "texts.csv")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout.count("> why")) == (0, 2), done.stderr
