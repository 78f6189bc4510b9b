"""Bad input: one clear line and exit code 2, before any long work. And the command ``lbr`` itself."""

import errno
import json
import runpy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from helpers import ROOT, SHAPE, make_backbone, make_tokenizer
from tqdm.auto import tqdm
from transformers import AutoConfig, AutoModelForCausalLM

import lbr_st
from lbr_st.cli import align, learn
from lbr_st.cli import main as lbr
from lbr_st.errors import InputError
from lbr_st.files import write_jsonl
from lbr_st.learning.config import LearnConfig


@pytest.fixture
def good(backbone, tmp_path):
    write_jsonl(tmp_path / "train.jsonl", [{"question": "a b c", "answer": "d e f"}] * 4)
    return {"--model": backbone, "--data": str(tmp_path / "train.jsonl"), "--output-dir": str(tmp_path / "out")}


def refusal(main, flags, capsys):
    before = sorted(Path(flags["--output-dir"]).rglob("*"))
    with pytest.raises(SystemExit) as error:
        lbr.run_command(lambda: main([part for pair in flags.items() for part in pair]))
    assert error.value.code == 2
    *_, line = capsys.readouterr().err.strip().splitlines()
    after = sorted(Path(flags["--output-dir"]).rglob("*"))
    assert after == before  # nothing claimed, nothing changed
    return line


BROKEN = {
    "malformed.jsonl": '{"question": "a", "answer": "b"}\n{"question": "a",\n',
    "no_column.jsonl": '{"question": "a", "reply": "b"}\n',
    "empty_text.jsonl": '{"question": "a", "answer": ""}\n',
}


@pytest.mark.parametrize("main", [learn.main, align.main], ids=["learn", "align"])
@pytest.mark.parametrize(
    ("flag", "value", "message"),
    [
        ("--data", "absent.jsonl", "absent.jsonl: no such file"),
        ("--dev-data", "absent.jsonl", "absent.jsonl: no such file"),
        ("--data", "malformed.jsonl", "malformed.jsonl, line 2, column 18: not JSON"),
        ("--data", "no_column.jsonl", "found: question, reply; looked for: document, positive, answer"),
        ("--data", "empty_text.jsonl", "empty_text.jsonl, line 1, column 'answer': the text is empty"),
        ("--bottleneck-tokens", "0", "the number of bottleneck tokens must be at least 1, got 0"),
        ("--bottleneck-tokens", "-3", "must be at least 1, got -3"),
        ("--bottleneck-tokens", "512", "leaves no room for text beside 512 bottleneck token(s)"),
        ("--max-length", "257", "--max-length 257: a maximum length of 257 is more than the 256 tokens that"),
        ("--max-length", "1", "length of 1 leaves no room for text beside 1 bottleneck token(s)"),
        ("--query-prompt", "long " * 600, "leaves no room for text beside 1 bottleneck token(s)"),
        ("--model", "empty_folder", "is not a model: the directory has no config.json"),
        ("--model", "./absent", "is not a model: no such directory"),
        ("--model", "broken_model", "is not a model"),
        ("--model", "nobody/never-published", "is not a model"),
        ("--output-dir", "full_folder", "is not empty; choose another, or add --resume"),
        ("--output-dir", "malformed.jsonl", "is a file"),
        ("--compression-ratio", "0", "the compression ratio must be a number above 0, got 0.0"),
        ("--compression-ratio", "inf", "the compression ratio must be a number above 0, got inf"),
        ("--learning-rat", "1", "unknown argument: --learning-rat"),
    ],
)
def test_refusals(good, tmp_path, monkeypatch, capsys, main, flag, value, message):
    monkeypatch.chdir(tmp_path)
    for name, content in BROKEN.items():
        (tmp_path / name).write_text(content)
    (tmp_path / "empty_folder").mkdir()
    (tmp_path / "full_folder").mkdir()
    (tmp_path / "full_folder" / "thesis.tex").write_text("years of work")
    (tmp_path / "broken_model").mkdir()
    (tmp_path / "broken_model" / "config.json").write_text("{}")
    line = refusal(main, good | {flag: value}, capsys)
    assert line.startswith("error: ")
    assert message in line


def test_stage_1_refuses_a_backbone_that_leaks(good, tmp_path, capsys):
    """Before texts are tokenized and the output directory is claimed; stage 2 alone needs no mask and takes it."""
    settings = SHAPE | {"vocab_size": 400, "pad_token_id": 0}
    AutoModelForCausalLM.from_config(AutoConfig.for_model("qwen3_next", **settings)).save_pretrained(tmp_path / "leaky")
    make_tokenizer("qwen2").save_pretrained(tmp_path / "leaky")
    good |= {"--max-length": "64"}
    line = refusal(learn.main, good | {"--model": str(tmp_path / "leaky")}, capsys)
    assert "model type 'qwen3_next' with attn_implementation='sdpa' leaks from X to Y around the bottleneck" in line
    one_layer = make_backbone(tmp_path / "one-layer", layers=1)
    line = refusal(learn.main, good | {"--model": one_layer}, capsys)
    assert "lets nothing of X through the bottleneck; two layers are the fewest that can" in line


def test_stage_1_refuses_what_the_model_cannot_read(good, tmp_path, capsys):
    line = refusal(learn.main, good | {"--max-length": "129"}, capsys)
    assert "this language model reads 256; ask for a maximum length of 128 at most" in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("script", ["train_ibgl.py", "train_grcl.py"])
def test_scripts_as_programs(script, tmp_path, monkeypatch, capsys):
    """The scripts themselves: exit code 2, one line, no traceback."""
    flags = ["--model", "x", "--data", str(tmp_path / "absent.jsonl"), "--output-dir", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", [str(ROOT / script), *flags])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(ROOT / script), run_name="__main__")
    assert end.value.code == 2
    assert capsys.readouterr() == ("", f"error: {tmp_path}/absent.jsonl: no such file\n")


def test_help_and_version(capsys):
    """Every command, in the order of a first project; on one screen."""
    for argv in ([], ["--help"], ["-h"]):
        lbr.main(argv)
        printed = capsys.readouterr().out
        places = [printed.index(f"\n  {name} ") for name in lbr.NAMES]
        assert places == sorted(places)
        assert len(printed.splitlines()) <= 40 and max(map(len, printed.splitlines())) <= 100
    lbr.main(["--version"])
    assert capsys.readouterr().out == f"lbr-st {lbr_st.__version__}\n"


@pytest.mark.parametrize("name", lbr.NAMES)
def test_every_command_has_help(name, capsys):
    with pytest.raises(SystemExit) as error:
        lbr.main([name, "--help"])
    assert error.value.code == 0
    assert f"usage: lbr {name} " in capsys.readouterr().out


def test_a_command_that_is_not_there(capsys):
    with pytest.raises(SystemExit) as error:
        lbr.main(["lern"])
    assert error.value.code == 2
    assert (
        "error: lbr lern: no such command; there are adapt, quickstart, data, learn, align," in capsys.readouterr().err
    )


def test_an_error_begins_its_own_line_after_a_bar_of_progress(capsys):
    def work():
        for _ in tqdm(range(3), "Reading"):
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(SystemExit):
        lbr.run_command(work)
    bar, error = capsys.readouterr().err.rstrip("\n").split("\n")
    assert "Reading" in bar and error.startswith("error: No space left on device")


def test_lbr_as_a_program():
    argv = [sys.executable, "-m", "lbr_st.cli.main"]
    run = subprocess.run([*argv, "lern"], capture_output=True, text=True)
    assert (run.returncode, run.stdout) == (2, "") and run.stderr.startswith("error: lbr lern: no such command")
    run = subprocess.run([*argv, "--version"], capture_output=True, text=True)
    assert (run.returncode, run.stdout) == (0, f"lbr-st {lbr_st.__version__}\n")


def test_errors_name_the_program_that_was_typed():
    for main, prog in ((learn.main, "train_ibgl.py"), (align.main, "lbr align")):
        with pytest.raises(InputError, match=f"^{prog}: the following arguments are required: .*see {prog} --help"):
            main([], prog=prog)


def test_resume_refuses_other_data(good, tmp_path):
    config = LearnConfig(
        model=good["--model"], data=[good["--data"]], output_dir=good["--output-dir"], max_steps=1, max_length=16
    )
    lbr_st.learn(config)
    run = json.loads((tmp_path / "out" / "lbr_run.json").read_text())
    assert run["arguments"]["max_length"] == 16
    (tmp_path / "out" / "config.json").unlink()
    write_jsonl(good["--data"], [{"question": "other", "answer": "data"}])
    with pytest.raises(InputError, match="data_sha256: was"):
        lbr_st.learn(replace(config, resume=True))
