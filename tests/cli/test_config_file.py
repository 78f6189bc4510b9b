"""YAML files of arguments: what they mean, what is refused, and those that are shipped."""

import json
from pathlib import Path

import pytest
from helpers import PAIRS
from transformers import TrainingArguments

from lbr_st.alignment import run as grcl
from lbr_st.errors import InputError
from lbr_st.files import write_jsonl
from lbr_st.learning import run as ibgl
from lbr_st.training.shared import make_parser, parse_arguments

CONFIGS = Path(__file__).parent.parent.parent / "configs"


def parse(folder, text, *flags):
    (folder / "run.yaml").write_text(text)
    argv = ["--config", str(folder / "run.yaml"), *flags]
    return parse_arguments(ibgl._make_parser(), TrainingArguments, argv)


def test_values_switches_and_lists(tmp_path):
    args, training_args = parse(
        tmp_path,
        "model: some/model\ndata: [sft=a.jsonl, reconstruct=b.jsonl]\noutput-dir: out\nhide_bos: true\n"
        "no_bottleneck: false\nlearning_rate: 2e-5\nbf16: true\nprefix_share:\n  - 0.2\n  - 0.8\nmax-length: 64\n"
        "document_prompt: '- d: '\nquery_prompt:\nseed: null\n",
    )
    assert (args.document_prompt, args.query_prompt, training_args.seed) == ("- d: ", None, 42)
    assert (args.model, args.data, args.output_dir) == ("some/model", ["sft=a.jsonl", "reconstruct=b.jsonl"], "out")
    assert (args.hide_bos, args.bottleneck, args.max_length, args.prefix_share) == (True, True, 64, [0.2, 0.8])
    assert (training_args.learning_rate, training_args.bf16) == (2e-5, True)
    assert parse(tmp_path, "model: m\ndata: d\noutput_dir: o\nfsdp: true\n")[1].fsdp is True


def test_the_command_line_counts_more(tmp_path):
    text = "model: m\ndata: d\noutput_dir: out\nlearning_rate: 1.0e-3\nmax_length: 64\n"
    args, training_args = parse(tmp_path, text, "--learning-rate", "5e-4", "--max-length", "32")
    assert (training_args.learning_rate, args.max_length) == (5e-4, 32)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model: m\nlearning_rat: 1", "run.yaml, line 2: learning_rat is no argument"),
        ("model: m\nhide_bos: 3", "line 2: hide_bos is a switch, true or false, not 3"),
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
def test_refused_with_the_line(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        parse(tmp_path, text)


def test_missing_file(tmp_path):
    with pytest.raises(InputError, match="none.yaml: No such file"):
        parse_arguments(make_parser("x", "x"), TrainingArguments, ["--config", str(tmp_path / "none.yaml")])


@pytest.mark.parametrize("name", ["ibgl-qwen2-1.5b", "grcl-1.5b"])
def test_shipped_recipes_run(name, backbone, tmp_path, monkeypatch):
    """As they are, but for the model and the steps; the Hub dataset is a local stand-in of the same columns."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "keivalya" / "MedQuad-MedicalQnADataset"
    folder.mkdir(parents=True)
    rows = [{"qtype": "information", "Question": pair["query"], "Answer": pair["document"]} for pair in PAIRS] * 4
    write_jsonl(folder / "train.jsonl", rows)
    command = ibgl if name.startswith("ibgl") else grcl
    small = ["--per-device-train-batch-size", "4", "--gradient-accumulation-steps", "1", "--max-steps", "2"]
    lengths = ["--max-length", "64"]  # of the tiny backbone
    config = ["--config", str(CONFIGS / f"{name}.yaml")]
    command.main([*config, "--model", backbone, "--output-dir", str(tmp_path / "out"), *small, *lengths])
    run = json.loads((tmp_path / "out" / "lbr_run.json").read_text())
    assert run["training_arguments"]["learning_rate"] == 2e-5
    assert run["training_arguments"]["bf16"] is True
    assert run["contents"]["mteb_tasks"] == ["MedicalQARetrieval"]


def test_recipes_of_stage_1_differ_by_the_backbone():
    """And by BOS, which Llama puts before a text of 500 tokens and its bottleneck token."""
    lines = [path.read_text().splitlines() for path in sorted(CONFIGS.glob("ibgl-*.yaml"))]
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
