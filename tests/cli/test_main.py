"""Bad input: one clear line and exit code 2, before any long work."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import SHAPE, make_backbone, make_tokenizer
from transformers import AutoConfig, AutoModelForCausalLM

from lbr_st.alignment import run as grcl
from lbr_st.cli.main import COMMANDS
from lbr_st.errors import InputError
from lbr_st.files import write_jsonl
from lbr_st.learning import run as ibgl
from lbr_st.training.shared import run_command

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def good(backbone, tmp_path):
    write_jsonl(tmp_path / "train.jsonl", [{"question": "a b c", "answer": "d e f"}] * 4)
    return {"--model": backbone, "--data": str(tmp_path / "train.jsonl"), "--output-dir": str(tmp_path / "out")}


def refusal(main, flags, capsys):
    before = sorted(Path(flags["--output-dir"]).rglob("*"))
    with pytest.raises(SystemExit) as error:
        run_command(main, [part for pair in flags.items() for part in pair])
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


@pytest.mark.parametrize("main", [ibgl.main, grcl.main])
@pytest.mark.parametrize(
    ("flag", "value", "message"),
    [
        ("--data", "absent.jsonl", "absent.jsonl: no such file"),
        ("--dev-data", "absent.jsonl", "absent.jsonl: no such file"),
        ("--data", "malformed.jsonl", "malformed.jsonl, line 2, column 18: not JSON"),
        ("--data", "no_column.jsonl", "found: question, reply; looked for: document, answer"),
        ("--data", "empty_text.jsonl", "empty_text.jsonl, line 1, column 'answer': the text is empty"),
        ("--bottleneck-tokens", "0", "must be at least 1, got 0"),
        ("--bottleneck-tokens", "-3", "must be at least 1, got -3"),
        ("--bottleneck-tokens", "512", "length of 512 leaves no room for text beside 512 bottleneck token(s)"),
        ("--max-length", "1", "length of 1 leaves no room for text beside 1 bottleneck token(s)"),
        ("--query-prompt", "long " * 600, "length of 512 leaves no room for text"),
        ("--model", "empty_folder", "is not a model: the directory has no config.json"),
        ("--model", "./absent", "is not a model: no such directory"),
        ("--model", "broken_model", "is not a model"),
        ("--model", "nobody/never-published", "is not a model"),
        ("--output-dir", "full_folder", "is not empty; choose another, or add --resume"),
        ("--output-dir", "malformed.jsonl", "is a file"),
        ("--compression-ratio", "0", "the compression ratio must be a number above 0, got 0.0"),
        ("--bottleneck-tokens", "0", "the number of bottleneck tokens must be at least 1, got 0"),
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
    line = refusal(ibgl.main, good | {"--model": str(tmp_path / "leaky")}, capsys)
    assert "model type 'qwen3_next' with attn_implementation='sdpa' leaks from X to Y around the bottleneck" in line
    one_layer = make_backbone(tmp_path / "one-layer", layers=1)
    line = refusal(ibgl.main, good | {"--model": one_layer}, capsys)
    assert "lets nothing of X through the bottleneck; two layers are the fewest that can" in line


def test_stage_1_refuses_what_the_model_cannot_do(good, tmp_path, capsys):
    flags = [part for pair in good.items() for part in pair]
    with pytest.raises(InputError, match="--hide-bos: this model puts no token before a text"):
        ibgl.main([*flags, "--max-length", "64", "--hide-bos"])
    assert "this language model reads 256; ask for a maximum length of 128 at most" in refusal(ibgl.main, good, capsys)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("value", ["0", "-1", "nan"])
def test_temperature(good, capsys, value):
    assert "--temperature must be above 0" in refusal(grcl.main, good | {"--temperature": value}, capsys)


def test_one_pair_has_no_negatives(good, tmp_path, capsys):
    write_jsonl(tmp_path / "one.jsonl", [{"question": "a", "answer": "b"}])
    assert "need at least 2 pairs, found 1" in refusal(
        grcl.main, good | {"--data": str(tmp_path / "one.jsonl")}, capsys
    )


@pytest.mark.parametrize("script", ["train_ibgl.py", "train_grcl.py"])
def test_scripts_as_programs(script, tmp_path):
    """The scripts themselves: exit code 2, one line, no traceback; --help names the flags."""
    argv = [sys.executable, str(ROOT / script)]
    flags = ["--model", "x", "--data", str(tmp_path / "absent.jsonl"), "--output-dir", str(tmp_path / "out")]
    run = subprocess.run([*argv, *flags], capture_output=True, text=True, cwd=tmp_path)
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr == f"error: {tmp_path}/absent.jsonl: no such file\n"


def test_lbr_command(tmp_path):
    help_text = subprocess.run(
        [sys.executable, "-m", "lbr_st.cli.main", "--help"], capture_output=True, text=True
    ).stdout
    assert all(command in help_text for command in COMMANDS)
    argv = [sys.executable, "-m", "lbr_st.cli.main", "evaluate", "--model", "bm25", "--data", "absent.jsonl"]
    run = subprocess.run(argv, capture_output=True, text=True, cwd=tmp_path)
    assert (run.returncode, run.stderr) == (2, "error: absent.jsonl: no such file\n")


def test_help_says_what_each_flag_means(capsys):
    for main in (ibgl.main, grcl.main):
        with pytest.raises(SystemExit) as error:
            main(["--help"])
        assert error.value.code == 0
        printed = " ".join(capsys.readouterr().out.split())
        assert "--bottleneck-tokens K number of bottleneck tokens" in printed
        assert "The arguments of transformers.TrainingArguments are accepted too" in printed


def test_resume_refuses_a_folder_of_something_else(good, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("years of work")
    with pytest.raises(SystemExit):
        run_command(ibgl.main, ["--resume", *[part for pair in good.items() for part in pair]])
    assert "holds no run to go on with (no lbr_run.json)" in capsys.readouterr().err


@pytest.mark.parametrize("flags", [["--read-out-weight", "0"], ["--no-bottleneck"]])
def test_a_run_from_before_the_read_out_loss_is_gone_on_with(good, tmp_path, flags, caplog):
    """What it says of itself is what it said then."""
    argv = [*(part for pair in good.items() for part in pair), "--max-steps", "1", "--max-length", "16"]
    ibgl.main([*argv, *flags])
    file = tmp_path / "out" / "lbr_run.json"
    run = json.loads(file.read_text())
    del run["arguments"]["read_out_weight"], run["arguments"]["no_cut_off"]
    file.write_text(json.dumps(run))
    with caplog.at_level("INFO"):
        ibgl.main([*argv, *flags, "--resume"])
    assert "is finished already" in caplog.text
    if flags[0] != "--no-bottleneck":
        with pytest.raises(InputError, match="read_out_weight: was None, now 1.0"):
            ibgl.main([*argv, "--resume"])


def test_resume_refuses_other_data(good, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    argv = [part for pair in good.items() for part in pair]
    ibgl.main([*argv, "--max-steps", "1", "--max-length", "16"])
    run = json.loads((tmp_path / "out" / "lbr_run.json").read_text())
    assert run["arguments"]["max_length"] == 16
    (tmp_path / "out" / "config.json").unlink()
    write_jsonl(good["--data"], [{"question": "other", "answer": "data"}])
    with pytest.raises(SystemExit):
        run_command(ibgl.main, [*argv, "--max-steps", "1", "--max-length", "16", "--resume"])
    assert "data_sha256: was" in capsys.readouterr().err
