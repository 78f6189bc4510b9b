"""A model on the Hub, up to the network: what would be sent, and what the Hub says in one line."""

from types import SimpleNamespace

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

    def create_repo(self, repo_id, private, **more):
        calls.update(more)
        calls.setdefault("private", private)  # of one that was there nothing changes
        return f"https://hub/{repo_id}"

    monkeypatch.setattr(HfApi, "create_repo", create_repo)
    monkeypatch.setattr(HfApi, "repo_info", lambda self, repo_id: SimpleNamespace(private=calls["private"]))
    monkeypatch.setattr(HfApi, "update_repo_settings", lambda self, repo_id, **more: calls.update(more))
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


def test_a_repository_that_is_there(saved, sent):
    """A private one becomes public where it is asked for, after the model; into a public one nothing goes unasked."""
    sent["private"] = True
    push(saved, "owner/name", public=True)
    assert sent["private"] is False
    del sent["folder_path"]
    with pytest.raises(
        InputError, match="^--repo-id owner/name: this repository is public; --public says that all may"
    ):
        push(saved, "owner/name")
    assert "folder_path" not in sent
    with pytest.raises(InputError, match="^--repo-id name: name its owner too, owner/name"):
        push(saved, "name")


def test_what_another_model_has_left_goes(saved, sent):
    """Adapters, pickles, shards and files of another tokenizer or layout would be read with the model."""
    push(saved, "owner/name")
    there = [
        "adapter_config.json", "adapter_model.safetensors", "pytorch_model.bin", "model-00001-of-00002.safetensors",
        "model.safetensors.index.json", "vocab.json", "merges.txt", "1_Dense/config.json", "chat_template.jinja",
    ]  # fmt: skip
    others = ["README.md", ".gitattributes", "model-q8_0.gguf", "onnx/model.onnx", "onnx/config.json", "training.png"]
    assert [*filter_repo_objects([*there, *others], allow_patterns=sent["delete_patterns"])] == there


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
