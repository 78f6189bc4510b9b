"""The command line of the stages: arguments, YAML files of them, help, and those files that are shipped."""

import json
import re
from dataclasses import replace

import pytest
import torch
from helpers import MANY, PAIRS, ROOT
from transformers import TrainingArguments

import lbr_st
from lbr_st.alignment.config import AlignConfig
from lbr_st.cli import align, learn
from lbr_st.cli.stages import StageParser, parse_stage, plan_text, rates_text
from lbr_st.errors import InputError
from lbr_st.files import write_jsonl
from lbr_st.learning.config import LearnConfig
from lbr_st.learning.objectives import Arm
from lbr_st.training.config import own_fields
from lbr_st.training.rates import FULL, LORA, listed
from lbr_st.training.trial import Plan, RateSearch, Tried
from lbr_st.training.verdicts import read_verdict

CONFIGS = ROOT / "configs"
NEEDED = ["--model", "m", "--data", "d", "--output-dir", "o"]


def parse(folder, text, *flags):
    (folder / "run.yaml").write_text(text)
    return parse_stage(LearnConfig, "lbr learn", "", ["--config", str(folder / "run.yaml"), *flags])


def test_a_command_line_is_a_configuration():
    """With dashes or underscores; what is not said is the default of the dataclass."""
    flags = ["--max-length", "64", "--prefix_share", "0.2", "0.8", "--objective", "prefix-suffix", "--bf16", "--resume"]
    found = parse_stage(LearnConfig, "lbr learn", "", [*NEEDED, *flags, "--arm", "no-cut-off"])
    expected = LearnConfig(
        model="m", data=["d"], output_dir="o", max_length=64, prefix_share=[0.2, 0.8], objective="prefix-suffix",
        bf16=True, resume=True, arm=Arm.NO_CUT_OFF,
    )  # fmt: skip
    assert found.to_dict() == expected.to_dict()
    assert parse_stage(AlignConfig, "lbr align", "", NEEDED).to_dict() == (
        AlignConfig(model="m", data="d", output_dir="o").to_dict()
    )


def test_configurations_can_be_changed(tmp_path):
    config = LearnConfig(model="m", data=["d"], output_dir="o", arm="plain")
    assert config.arm is Arm.PLAIN
    changed = replace(config, learning_rate=1e-3)
    assert {name for name, value in config.to_dict().items() if changed.to_dict()[name] != value} == {"learning_rate"}


def test_values_switches_and_lists(tmp_path):
    config = parse(
        tmp_path,
        "model: some/model\ndata: [sft=a.jsonl, reconstruct=b.jsonl]\noutput-dir: out\nresume: true\n"
        "allow_overlap: false\nlearning_rate: 2e-5\nbf16: true\nobjective: prefix-suffix\nprefix_share:\n  - 0.2\n"
        "  - 0.8\nmax-length: 64\ndocument_prompt: '- d: '\nquery_prompt:\nseed: null\n",
    )
    assert (config.document_prompt, config.query_prompt, config.seed) == ("- d: ", None, 42)
    assert (config.model, config.data, config.output_dir) == (
        "some/model",
        ["sft=a.jsonl", "reconstruct=b.jsonl"],
        "out",
    )
    assert (config.resume, config.allow_overlap, config.max_length) == (True, False, 64)
    assert (config.prefix_share, config.learning_rate, config.bf16) == ([0.2, 0.8], 2e-5, True)
    assert parse(tmp_path, "model: m\ndata: d\noutput_dir: o\nfsdp: true\n").fsdp is True


def test_the_command_line_counts_more(tmp_path):
    text = "model: m\ndata: d\noutput_dir: out\nlearning_rate: 1.0e-3\nmax_length: 64\n"
    config = parse(tmp_path, text, "--learning-rate", "5e-4", "--max-length", "32")
    assert (config.learning_rate, config.max_length) == (5e-4, 32)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model: m\nlearning_rat: 1", "run.yaml, line 2: learning_rat is no argument"),
        ("model: m\nresume: 3", "line 2: resume is a switch, true or false, not 3"),
        ("model: m\nconfig: other.yaml", "line 2: config is no argument"),
        ("model: {a: b}", "line 1: model takes one value"),
        ("model: [a, b]", "line 1: model takes one value"),
        ("data: []", "line 1: data takes a value or a list of values"),
        ("data:\n- sft: a.jsonl", "line 1: data takes a value or a list of values"),
        ("model: a\nmodel: b", "line 2: model is there twice"),
        ("model: [", "run.yaml is not YAML: .* line 1, column 9"),
        ("- model", "is not a mapping of argument names to values"),
        ("", "is not a mapping of argument names to values"),
    ],
)
def test_files_refused_with_the_line(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        parse(tmp_path, text)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--config", "none.yaml"], "none.yaml: No such file"),
        (["--learning-rate", "abc"], "lbr learn: argument --learning_rate/--learning-rate: invalid float value: 'abc'"),
        (["--lora-rank", "x"], "argument --lora_rank/--lora-rank: invalid int value: 'x'"),
        (["--learning-rat", "1"], "lbr learn: unknown argument: --learning-rat 1 .see lbr learn --help"),
        (["--arm", "other"], "argument --arm: invalid choice: 'other'"),
        (["--read-out-weight", "-1"], "--read-out-weight must be a number of 0 or more"),
    ],
)
def test_arguments_refused_by_name(flags, message):
    with pytest.raises(InputError, match=message):
        parse_stage(LearnConfig, "lbr learn", "", [*NEEDED, *flags])


def test_missing_arguments_are_named():
    with pytest.raises(
        InputError, match="lbr learn: the following arguments are required: --output_dir/--output-dir, --data "
    ):
        parse_stage(LearnConfig, "lbr learn", "", ["--model", "m"])


@pytest.mark.parametrize(("command", "config"), [(learn, LearnConfig), (align, AlignConfig)])
def test_help_shows_our_own_arguments_first(capsys, command, config):
    """All of them, in groups, with defaults; then some of the trainer's, and where the others are."""
    with pytest.raises(SystemExit) as error:
        command.main(["--help"])
    assert error.value.code == 0
    printed = capsys.readouterr().out
    places = [printed.index(f"--{name.replace('_', '-')} ") for name in own_fields(config)]
    trainers = printed.index("training arguments that are often changed; --help-training lists the others")
    assert max(places) < trainers < printed.index("--learning-rate LEARNING_RATE")
    assert "--bottleneck-tokens K     number of bottleneck tokens" in printed
    assert "_" not in "".join(word for word in printed.split() if word.startswith("--"))
    assert "--weight-decay" not in printed
    with pytest.raises(SystemExit):
        command.main(["--help-training"])
    assert "--weight-decay" in capsys.readouterr().out


@pytest.mark.parametrize(("command", "config", "stage"), [(learn, LearnConfig, "learn"), (align, AlignConfig, "align")])
def test_the_learning_rate_is_by_the_size_unless_told(tmp_path, capsys, command, config, stage):
    """Its help has the tables; a YAML file that says null says nothing."""
    assert parse_stage(config, "x", "", NEEDED).learning_rate is None
    (tmp_path / "run.yaml").write_text("learning_rate: null\n")
    assert parse_stage(config, "x", "", [*NEEDED, "--config", str(tmp_path / "run.yaml")]).learning_rate is None
    assert parse_stage(config, "x", "", [*NEEDED, "--learning-rate", "0"]).learning_rate == 0.0
    with pytest.raises(SystemExit):
        command.main(["--help"])
    printed = " ".join(capsys.readouterr().out.split())
    assert (
        f"(default: by the size of the model: {listed(FULL[stage])}; with LoRA at least {listed(LORA[stage])};"
        in printed
    )
    assert ("another kind: 2e-5" in printed) == (stage == "align")
    assert "(default: None)" not in printed


def test_every_setting_has_a_help_text():
    for config in (LearnConfig, AlignConfig):
        own = {*own_fields(config)}
        assert all(action.help for action in StageParser(config, "x", "x")._actions if action.dest in own)


@pytest.mark.parametrize("name", ["learn-qwen2-1.5b", "align-1.5b"])
def test_shipped_recipes_run(name, backbone, tmp_path, monkeypatch, capsys):
    """As they are, but for the model and the steps; the Hub dataset is a local stand-in of the same columns."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "keivalya" / "MedQuad-MedicalQnADataset"
    folder.mkdir(parents=True)
    rows = [{"qtype": "information", "Question": pair["query"], "Answer": pair["document"]} for pair in PAIRS] * 4
    write_jsonl(folder / "train.jsonl", rows)
    command = learn if name.startswith("learn") else align
    small = ["--per-device-train-batch-size", "4", "--gradient-accumulation-steps", "1", "--max-steps", "2"]
    lengths = ["--max-length", "64"]  # of the tiny backbone
    config = ["--config", str(CONFIGS / f"{name}.yaml")]
    command.main([*config, "--model", backbone, "--output-dir", str(tmp_path / "out"), *small, *lengths])
    run = json.loads((tmp_path / "out" / "lbr_run.json").read_text())
    assert run["training_arguments"]["learning_rate"] == 2e-5
    assert run["training_arguments"]["bf16"] is True
    assert run["contents"]["mteb_tasks"] == ["MedicalQARetrieval"]
    assert lbr_st.load(str(tmp_path / "out")).max_seq_length == 64
    *_, made, next_step = capsys.readouterr().out.strip().splitlines()
    assert made == f"Saved {tmp_path / 'out'}: the model, training_log.json."  # a picture takes half a second
    assert next_step.startswith("next: lbr ")


def test_recipes_of_stage_1_differ_by_the_backbone():
    """And by BOS, which Llama puts before a text of 500 tokens and its bottleneck token."""
    lines = [path.read_text().splitlines() for path in sorted(CONFIGS.glob("learn-*.yaml"))]
    assert len(lines) == 3
    different = [{*line} for line in zip(*lines, strict=True) if len({*line}) > 1]
    [_, models, lengths] = different
    assert models == {f"model: {m}" for m in ("meta-llama/Llama-3.2-1B", "Qwen/Qwen2-1.5B", "Qwen/Qwen2.5-1.5B")}
    assert lengths == {"max_length: 501", "max_length: 502"}


def test_config_of_fsdp2_is_what_accelerate_takes(monkeypatch):
    """A CPU cannot run it through the trainer; that every key is known and means FSDP2 is checked."""
    from accelerate import FullyShardedDataParallelPlugin

    settings = json.loads((CONFIGS / "fsdp2.json").read_text())
    described = TrainingArguments.__doc__.partition("fsdp_config")[2].partition("DeepSpeed")[0]
    assert all(f"- {key} (" in described for key in settings)
    arguments = TrainingArguments(output_dir="none", use_cpu=True, fsdp=True, fsdp_config=str(CONFIGS / "fsdp2.json"))
    plugin = FullyShardedDataParallelPlugin(**arguments.fsdp_plugin_args)
    assert plugin.fsdp_version == 2
    assert plugin.reshard_after_forward
    assert "FULL" in str(plugin.state_dict_type)  # checkpoints are whole models


def test_config_of_deepspeed_is_stage_2():
    settings = json.loads((CONFIGS / "deepspeed-zero2.json").read_text())
    assert settings["zero_optimization"]["stage"] == 2
    assert {v for v in settings.values() if isinstance(v, str)} == {"auto"}  # the trainer's own values


@pytest.fixture
def argv(backbone, tmp_path):
    """A command line of either stage."""
    data = str(tmp_path / "train.jsonl")
    write_jsonl(data, MANY)
    return [
        "--model", backbone, "--data", data, "--dev-data", data, "--allow-overlap", "--max-length", "24",
        "--per-device-train-batch-size", "8", "--learning-rate", "1e-2", "--output-dir", str(tmp_path / "out"),
    ]  # fmt: skip


@pytest.mark.parametrize("command", [learn, align])
def test_dry_run(command, argv, tmp_path, capsys):
    """A small table, and nothing else: the folder is not even made."""
    command.main([*argv, "--dry-run", "--max-steps", "40"])
    *lines, next_step = capsys.readouterr().out.strip().splitlines()
    found = dict(re.split(r"  +", line, maxsplit=1) for line in lines)
    assert list(found) == [
        "parameters trained", "tokens an epoch", "steps", "evaluations", "peak memory", "minutes",
    ]  # fmt: skip
    assert found["parameters trained"] == "28,992 of 28,992"
    assert re.fullmatch(r"40 of [\d.]+ s", found["steps"])
    assert re.fullmatch(r"6 of [\d.]+ s", found["evaluations"])
    assert re.fullmatch(r"[\d.]+ GiB of the process", found["peak memory"])
    assert re.fullmatch(r"\d+\.\d; saving comes on top", found["minutes"])
    assert next_step == "next: the same command without --dry-run"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", [learn, align])
def test_the_last_line_is_the_verdict(command, argv, tmp_path, capsys):
    """Said again of a run that is finished; where nothing was held out, there is none."""
    argv = [*argv, "--max-steps", "2"]
    command.main(argv)
    next_step, line = capsys.readouterr().out.splitlines()[-2:]
    assert next_step.startswith("next: lbr ")
    assert line == str(read_verdict(tmp_path / "out")) and line.startswith("VERDICT ")
    command.main([*argv, "--resume"])
    assert capsys.readouterr().out.splitlines()[-1] == line
    at = argv.index("--dev-data")
    command.main([*argv[:at], *argv[at + 2 :], "--output-dir", str(tmp_path / "other")])
    assert capsys.readouterr().out.splitlines()[-1].startswith("next: lbr ")


@pytest.mark.parametrize("command", [learn, align])
def test_find_rate(command, argv, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("lbr_st.training.trial.RATE_STEPS", 12)
    command.main([*argv, "--find-rate"])
    header, _, *lines = capsys.readouterr().out.strip().splitlines()
    names = ["learning rate", "loss at the start", "at the end", "dev nDCG@10"]
    assert [name.strip() for name in header.strip("|").split("|")] == names
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[:3]]
    assert [row[0] for row in rows] == ["0.0033", "0.01", "0.03"]
    best = max(rows, key=lambda row: float(row[3]))[0]
    assert f"best: --learning-rate {best}" in lines
    assert lines[-1] == "next: the same command with that rate, without --find-rate"
    assert not (tmp_path / "out").exists()


def tries(*scores):
    return [Tried(rate, 2.0, 1.0, score) for rate, score in zip((1e-5, 3e-5, 9e-5), scores, strict=True)]


@pytest.mark.parametrize(
    ("best", "lines"),
    [
        (0, ["best: --learning-rate 1e-05", "It is the lowest of the three: try --find-rate around it."]),
        (1, ["best: --learning-rate 3e-05"]),
        (2, ["best: --learning-rate 9e-05", "It is the highest of the three: try --find-rate around it."]),
        (None, ["none of them: the loss is no number any more. Much lower: --learning-rate 1e-06"]),
    ],
)
def test_what_is_said_of_three_rates(best, lines):
    """The flag to copy; and where the best is at the edge of what was tried."""
    found = tries(0.1, 0.2, 0.3)
    text = rates_text(RateSearch("dev nDCG@10", found, None if best is None else found[best]))
    assert text.split("\n\n")[1].splitlines() == lines


def test_without_dev_data_and_on_a_gpu():
    plan = Plan(
        trained=1000, parameters=2000, tokens=3000, steps=60, step_seconds=2.0, evaluations=0, evaluation_seconds=0.0,
        peak_bytes=3 * 2**29, device=torch.device("cuda", 0),
    )  # fmt: skip
    assert plan_text(plan).splitlines()[3:] == [
        "evaluations         none",
        "peak memory         1.50 GiB of the GPU",
        "minutes             2.0; saving comes on top",
    ]


def test_a_config_file_that_is_nested_too_deep(tmp_path):
    (tmp_path / "deep.yaml").write_text("[" * 5000)
    with pytest.raises(InputError, match="deep.yaml is not YAML: "):
        parse_stage(LearnConfig, "lbr learn", "", ["--config", str(tmp_path / "deep.yaml")])


@pytest.mark.parametrize("flag", ["--data", "--dev-data"])
def test_several_sources_where_one_is_read(flag):
    """As a shell makes of a pattern: the command that makes one of them is said."""
    other = {"--data": "--dev-data", "--dev-data": "--data"}[flag]
    argv = ["--model", "m", "--output-dir", "o", other, "d", flag, "one.jsonl", "t w o.jsonl", "3", "4", "5", "6"]
    with pytest.raises(InputError) as error:
        parse_stage(AlignConfig, "lbr align", "", argv)
    assert str(error.value) == (
        f"lbr align: {flag} takes one source, not 6; lbr data prepare one.jsonl 't w o.jsonl' 3 4 5 ... --output-dir "
        "SET makes one set of them, which is one source"
    )
