"""The command ``lbr quickstart``: its arguments, and what it prints."""

import pytest

from lbr_st.cli import quickstart as command
from lbr_st.errors import InputError
from lbr_st.quickstart.run import Outcome, QuickstartConfig


@pytest.fixture
def asked(monkeypatch):
    """The configurations that the quickstart was called with; nothing is run."""
    found = []
    scores = {
        "BM25": {"recall_at_10": 0.5, "ndcg_at_10": 0.25},
        "stage 1 + stage 2": {"recall_at_10": 1, "ndcg_at_10": 0.75},
    }
    hits = {"split a string": [(0.9, {"id": "a.py:1", "document": "def split():\n    ..."})]}

    def run(config):
        found.append(config)
        return Outcome(config, scores, 9, 8, hits, 40, 60, 19.04)

    monkeypatch.setattr(command, "quickstart", run)
    return found


def test_what_it_prints(asked, capsys):
    command.main([])
    printed = capsys.readouterr().out
    assert asked == [QuickstartConfig()]
    assert "9 docstrings as queries, 8 functions" in printed
    assert "| BM25              |     0.500 |   0.250 |" in printed
    assert "A search over the 40 functions that share most with the questions; 60 others would take" in printed
    assert "> split a string\n  0.900  a.py:1\n    def split():" in printed
    assert "Saved lbr-model, in 19.0 minutes:" in printed and 'SentenceTransformer("lbr-model")' in printed
    assert printed.endswith("next: lbr search --model lbr-model --data quickstart/domain 'your question'\n")


def test_arguments(asked, capsys):
    command.main(["--backbone", "Qwen/Qwen2.5-0.5B", "--baseline", "--work-dir", "w"])
    command.main(["--output-dir", "mine"])
    first, second = asked
    assert first == QuickstartConfig(backbone="Qwen/Qwen2.5-0.5B", baseline=True, work_dir="w")
    assert (first.model_dir, second.model_dir) == ("lbr-model-Qwen2.5-0.5B", "mine")
    assert "--data w/domain" in capsys.readouterr().out
    with pytest.raises(InputError, match="lbr quickstart: unrecognized arguments: --fast"):
        command.main(["--fast"])
