"""The commands ``lbr publish card|push|submit`` and ``lbr verify``: what they read, and what they say at the end."""

import shutil
from types import SimpleNamespace

import pytest
from huggingface_hub import HfApi

import lbr_st
from lbr_st.cli import publish, verify
from lbr_st.errors import InputError
from lbr_st.publish import leaderboard

REVISION = "0123456789" * 4


@pytest.fixture
def saved(model, tmp_path):
    lbr_st.save(model, tmp_path / "m")
    return str(tmp_path / "m")


def test_card(saved, capsys):
    publish.main(["card", "--model", saved, "--name", "owner/name", "--license", "mit", "--language", "en"])
    assert capsys.readouterr().out == (
        f"Saved {saved}/README.md\nnext: lbr publish push --model {saved} --repo-id owner/name\n"
    )


def test_push(saved, capsys, monkeypatch):
    monkeypatch.setattr(HfApi, "create_repo", lambda self, repo_id, private, **kw: f"https://hub/{repo_id} {private}")
    monkeypatch.setattr(HfApi, "repo_info", lambda self, repo_id: SimpleNamespace(private=False))
    monkeypatch.setattr(HfApi, "upload_folder", lambda self, **kw: SimpleNamespace(oid=REVISION))
    publish.main(["push", "--model", saved, "--repo-id", "owner/name", "--public"])
    shown = capsys.readouterr().out
    assert f"https://hub/owner/name False is there, revision {REVISION}\n" in shown
    assert f"lbr publish submit --model {saved} --name owner/name --revision {REVISION} --output-dir DIR" in shown


def test_submit(saved, tmp_path, capsys, monkeypatch):
    """Flags are the fields of the configuration."""
    asked = []

    def prepare(config):
        asked.append(config)
        folder = tmp_path / "out"
        return leaderboard.Submission(folder, folder / "owner_models.py", folder / "results", ["NFCorpus"])

    monkeypatch.setattr(leaderboard, "prepare_submission", prepare)
    argv = ["--model", saved, "--name", "owner/name", "--revision", REVISION, "--output-dir", str(tmp_path / "out")]
    more = ["--license", "mit", "--languages", "deu-Latn", "eng-Latn", "--release-date", "2026-01-01"]
    publish.main(["submit", *argv, *more, "--training-code", "https://code", "--results-dir", "scores"])
    assert asked == [
        leaderboard.SubmissionConfig(
            model=saved,
            name="owner/name",
            revision=REVISION,
            output_dir=str(tmp_path / "out"),
            results_dir="scores",
            license="mit",
            languages=["deu-Latn", "eng-Latn"],
            release_date="2026-01-01",
            training_code="https://code",
        )
    ]
    shown = capsys.readouterr().out
    assert shown.startswith(f"Saved {tmp_path / 'out'}: 1 task (NFCorpus); mteb's mock tasks pass.\nnext, by hand:\n")
    assert f"put {tmp_path / 'out' / 'owner_models.py'} into mteb/models/model_implementations" in shown


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["push", "--model", "m"], "lbr publish push: the following arguments are required: --repo-id"),
        (["submit", "--model", "m", "--prepare"], "lbr publish submit: the following arguments are required"),
        (["card"], "lbr publish card: the following arguments are required: --model"),
        (["cards"], "lbr publish: argument COMMAND: invalid choice: 'cards'"),
        ([], "lbr publish: the following arguments are required: COMMAND"),
    ],
)
def test_errors_name_the_command(argv, message):
    with pytest.raises(InputError) as refused:
        publish.main(argv)
    assert str(refused.value).startswith(message)


def test_verify_without_a_directory(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        verify.main([str(tmp_path / "nowhere"), "--device", "cpu"])
    assert stop.value.code == 1
    assert capsys.readouterr().out == f"FAIL  {tmp_path / 'nowhere'}: no such directory\n"
    with pytest.raises(InputError, match="lbr verify: the following arguments are required: DIR"):
        verify.main([])


def test_verify_of_a_folder_of_the_cache_of_the_hub(tmp_path, capsys, monkeypatch):
    """The snapshot in it is verified, as a copy of it would be; of several, one is to be named."""
    cached = tmp_path / "models--owner--name"
    snapshot = cached / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "modules.json").write_text("[]")
    monkeypatch.setattr(verify, "verify", lambda path, device: [path])
    for given in (cached, cached / "snapshots", snapshot):
        verify.main([str(given)])
        assert capsys.readouterr().out.startswith(f"ok    {snapshot}\n{snapshot} keeps its promises. next: lbr publish")
    shutil.copytree(snapshot, cached / "snapshots" / "def")
    with pytest.raises(InputError, match="lbr verify: .*models--owner--name: it is a folder .*; name the snapshot in"):
        verify.main([str(cached)])
