"""The command `lbr merge`: shares from the command line or chosen on dev, and what is refused before any work."""

import shutil
from pathlib import Path

import pytest
import torch
from helpers import PAIRS, make_backbone
from safetensors.torch import load_file

import lbr_st
from lbr_st.cli.merge import main
from lbr_st.errors import InputError
from lbr_st.evaluation.shares import choose_share
from lbr_st.files import write_jsonl

MANY = [{"query": f"{n} {pair['query']}", "document": f"{pair['document']} {n}"} for n in range(5) for pair in PAIRS]


@pytest.fixture
def models(model, tmp_path):
    """Three models of other weights, and a file of pairs."""
    write_jsonl(tmp_path / "pairs.jsonl", MANY)
    for seed in range(3):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed)))
        lbr_st.save(model, tmp_path / f"m{seed}")
    return [str(tmp_path / f"m{seed}") for seed in range(3)]


@pytest.mark.parametrize(
    ("number", "weight", "shares"),
    [
        (2, [], [0.5, 0.5]),
        (2, ["--weight", "0.25"], [0.75, 0.25]),
        (2, ["--weight", "0.75", "0.25"], [0.75, 0.25]),
        (3, [], [1 / 3, 1 / 3, 1 / 3]),
        (3, ["--weight", "0.5", "0.5", "0"], [0.5, 0.5, 0.0]),
    ],
)
def test_shares(models, tmp_path, capsys, number, weight, shares):
    out = tmp_path / "out"
    main([*models[:number], *weight, "--output-dir", str(out)])
    found = load_file(out / "model.safetensors")
    parts = [load_file(f"{folder}/model.safetensors") for folder in models[:number]]
    for name, tensor in found.items():
        expected = sum(share * part[name].double() for share, part in zip(shares, parts, strict=True))
        torch.testing.assert_close(tensor, expected.float(), rtol=1e-5, atol=1e-6)
    *_, said, next_step = capsys.readouterr().out.splitlines()
    named = " and ".join(f"{share:g} of {name}" for share, name in zip(shares, models, strict=False))
    assert said == f"Saved {out}: {named}."
    assert next_step == f"next: lbr evaluate --model {out} {models[number - 1]} --data TEST_PAIRS"
    assert {path.suffix for path in out.iterdir()} & {".unfinished"} == set()


@pytest.mark.slow
def test_auto(models, tmp_path, capsys, monkeypatch):
    """It is the share that the table says; the pairs of another domain are those of the installed packages."""
    general = [{"query": f"what {n}", "document": f"{n} is that"} for n in range(12)]
    monkeypatch.setattr("lbr_st.evaluation.general.sampled_pairs", lambda number, seed: general)
    pairs, out = str(tmp_path / "pairs.jsonl"), tmp_path / "out"
    start, end = models[:2]
    auto = ["--weight", "auto", "--dev-data", pairs, "--keep-general", "0.5"]
    main([start, end, *auto, "--output-dir", str(out)])
    choice = choose_share(start, end, MANY, general, keep_general=0.5)
    share = choice.taken.share
    printed = capsys.readouterr().out
    assert str(choice) in printed and f"{1 - share:g} of {start} and {share:g} of {end}." in printed
    assert lbr_st.load(str(out))[0].history[-1]["weight"] == [1 - share, share]
    main([start, end, *auto, "--general", pairs, "--output-dir", str(tmp_path / "other")])
    assert str(choose_share(start, end, MANY, MANY, keep_general=0.5)) in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--weight", "1.5"], "lbr merge: argument --weight: must be a number from 0 to 1, got 1.5"),
        (["--weight", "half"], "must be a number from 0 to 1, got half"),
        (["--weight", "nan"], "must be a number from 0 to 1, got nan"),
        (["--weight", "0.5", "auto"], "--weight auto stands alone"),
        (["--weight", "auto", "0.5", "--dev-data", "pairs.jsonl"], "--weight auto stands alone"),
        (["--weight", "0.2", "0.2"], "weights must be from 0 to 1 and sum to 1, got 0.2, 0.2"),
        (["--weight", "0.2", "0.2", "0.6"], "2 models need as many weights, got 3"),
        (["--dev-data", "x"], "--dev-data goes with --weight auto"),
        (["--batch-size", "8"], "--batch-size goes with --weight auto"),
        (["--weight", "auto"], "--weight auto chooses on --dev-data, which is not given"),
        (["--weight", "auto", "--dev-data", "none.jsonl"], "none.jsonl"),
        (["--weight", "auto", "--dev-data", "pairs.jsonl", "--general", "none.jsonl"], "none.jsonl"),
        (["--weight", "auto", "--dev-data", "pairs.jsonl", "--keep-general", "2"], "from 0 to 1, got 2"),
    ],
)
def test_what_is_refused(models, tmp_path, monkeypatch, argv, message):
    """Before a model is opened: none is."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("lbr_st.model.merging._open", None)
    with pytest.raises(InputError, match=message):
        main([*models[:2], *argv, "--output-dir", "out"])
    assert not (tmp_path / "out").exists()


def test_paths_are_refused_first(models, tmp_path, monkeypatch):
    monkeypatch.setattr("lbr_st.model.merging._open", None)
    with pytest.raises(InputError, match="--output-dir .* is not empty; choose another folder"):
        main([*models, "--output-dir", models[0]])
    with pytest.raises(InputError, match="none is not a model: no such directory"):
        main([models[0], f"{tmp_path}/none", "--output-dir", str(tmp_path / "out")])
    with pytest.raises(InputError, match=f"{models[0]}/. is named twice; --weight gives a model a larger share"):
        main([models[0], f"{models[0]}/.", "--output-dir", str(tmp_path / "out")])
    (tmp_path / "half").mkdir()
    for file in Path(models[1]).iterdir():
        if file.name != "model.safetensors":
            (shutil.copytree if file.is_dir() else shutil.copy)(file, tmp_path / "half" / file.name)
    with pytest.raises(InputError, match="half cannot be used: model.safetensors: missing"):
        main([models[0], str(tmp_path / "half"), "--output-dir", str(tmp_path / "out")])
    with pytest.raises(InputError, match="merge: two models are needed at least"):
        main([models[0], "--output-dir", str(tmp_path / "out")])
    with pytest.raises(InputError, match="--weight auto takes two models, a start and an end, got 3"):
        main([*models, "--weight", "auto", "--output-dir", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_models_that_are_unlike_leave_nothing(models, tmp_path):
    other = lbr_st.from_backbone(make_backbone(tmp_path / "backbone"), num_bottleneck_tokens=3, max_seq_length=24)
    lbr_st.save(other, tmp_path / "other")
    with pytest.raises(InputError, match="is not like .* in the number of bottleneck tokens: 2, not 3"):
        main([models[0], str(tmp_path / "other"), "--output-dir", str(tmp_path / "deep" / "out")])
    assert not (tmp_path / "deep").exists()
