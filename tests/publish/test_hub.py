"""A model on the Hub, up to the network: what would be sent, and what the Hub says in one line."""

import pytest
from huggingface_hub import HfApi
from huggingface_hub.utils import filter_repo_objects

from lbr_st.errors import InputError, UnfinishedError
from lbr_st.publish.hub import push


@pytest.fixture
def sent(monkeypatch, revision):
    """What the Hub was asked for."""
    calls = {}

    class Commit:
        oid = revision

    monkeypatch.setattr(HfApi, "create_repo", lambda self, repo_id, **kw: calls.update(kw) or f"https://hub/{repo_id}")
    monkeypatch.setattr(HfApi, "upload_folder", lambda self, **kw: calls.update(kw) or Commit)
    return calls


def test_push(saved, sent, caplog, revision):
    caplog.set_level("INFO")
    pushed = push(saved, "owner/name")
    assert (pushed.url, pushed.revision) == ("https://hub/owner/name", revision)
    assert sent["private"] and sent["folder_path"] == str(saved)
    there = ["model.safetensors", "README.md", "training.png", "report.html", "lbr_run.json", "checkpoints/a/b", ".x"]
    kept = ["model.safetensors", "README.md", "training.png"]  # the page of an adaptation has texts of the corpus
    assert [*filter_repo_objects(there, ignore_patterns=sent["ignore_patterns"])] == kept
    assert "the card does not name owner/name; lbr publish card --name does that" in caplog.text


def test_an_id_that_is_none_is_refused_before_anything_else(saved, sent, caplog, monkeypatch):
    """No hint about the card stands before it, and the model is not looked at."""
    caplog.set_level("INFO")
    monkeypatch.setattr("lbr_st.publish.hub.verify", lambda model: pytest.fail("verified"))
    with pytest.raises(InputError, match="^--repo-id not a/valid/id: Repo id must "):
        push(saved, "not a/valid/id")
    assert not sent and not caplog.messages


def test_push_for_everyone(saved, sent):
    push(saved, "owner/name", public=True)
    assert sent["private"] is False


def test_a_card_that_is_not_there_is_written(saved, sent):
    (saved / "README.md").unlink()
    push(saved, "owner/name")
    assert "\n# owner/name\n" in (saved / "README.md").read_text()


def test_without_a_network(saved):
    with pytest.raises(UnfinishedError, match="^the Hub is not reached .*HF_HUB_OFFLINE unset.* The same command"):
        push(saved, "owner/name")


def test_what_is_broken_is_not_sent(saved, sent, tmp_path):
    (saved / "tokenizer.json").write_text("{}")
    with pytest.raises(InputError, match="tokenizer.json"):
        push(saved, "owner/name")
    with pytest.raises(InputError, match="holds no model of lbr-st"):
        push(tmp_path, "owner/name")
    assert not sent
