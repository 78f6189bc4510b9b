"""The command `lbr encode`: its flags are the settings, and its last lines say what it made."""

from dataclasses import fields

import pytest

from lbr_st.cli import encode as command
from lbr_st.cli.encode import main
from lbr_st.errors import InputError
from lbr_st.use.encode import EncodeConfig
from lbr_st.use.shards import Manifest

REQUIRED = ["--model", "m", "--data", "a", "b", "--output-dir", "vectors"]


@pytest.fixture
def called(monkeypatch, tmp_path):
    """The settings that a command line means."""
    configs = []

    def encode_corpus(config):
        configs.append(config)
        for shard in (0, 1):
            (tmp_path / f"part-0000{shard}.parquet").write_bytes(b"x" * 500_000)
        return Manifest(tmp_path, {}, rows=25, shards=2)

    monkeypatch.setattr(command, "encode_corpus", encode_corpus)
    return configs


def test_flags_are_settings(called, tmp_path, capsys):
    main(REQUIRED)
    assert called.pop() == EncodeConfig(model="m", data=["a", "b"], output_dir="vectors")
    printed = capsys.readouterr().out
    assert printed.startswith(f"Saved {tmp_path}: 25 rows in 2 files, 1.0 MB\nnext: ") and str(tmp_path) in printed
    values = "--role query --precision int8 --ranges-from there --dtype bfloat16 --with-text --batch-tokens 3"
    main([*REQUIRED, *values.split(), "--dimensions", "4"])
    assert called.pop() == EncodeConfig(
        model="m",
        data=["a", "b"],
        output_dir="vectors",
        role="query",
        precision="int8",
        ranges_from="there",
        dtype="bfloat16",
        dimensions=4,
        with_text=True,
        batch_tokens=3,
    )
    main([*REQUIRED, "--runtime", "openvino"])
    assert called.pop() == EncodeConfig(model="m", data=["a", "b"], output_dir="vectors", runtime="openvino")
    values = "--engine ray --ray-address here --actors 2 --cpus-per-actor 3 --gpus-per-actor 0.5 --shard-rows 7"
    main([*REQUIRED, *values.split()])
    found = called.pop()
    on_ray = {"engine": "ray", "ray_address": "here", "actors": 2, "cpus_per_actor": 3, "gpus_per_actor": 0.5}
    assert {name: getattr(found, name) for name in on_ray} == on_ray and found.shard_rows == 7


def test_every_setting_has_a_flag(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    printed = capsys.readouterr().out
    for field in fields(EncodeConfig):
        assert f"--{field.name.replace('_', '-')}" in printed
    assert "(default: 10000)" in printed and "(default: 0)" in printed
    assert "(default: None)" not in printed and "(default: False)" not in printed


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--shard-rows", "0"],
            "lbr encode: argument --shard-rows: must be a whole number from 1 to 2,147,483,647, got 0",
        ),
        (
            ["--actors", "none"],
            "lbr encode: argument --actors: must be a whole number from 1 to 2,147,483,647, got none",
        ),
        (["--cpus-per-actor", "0"], "--cpus-per-actor must be above 0"),
        (["--output", "x"], "lbr encode: unrecognized arguments: --output x"),
        (["--precision", "int4"], "lbr encode: argument --precision: invalid choice: 'int4'"),
        (["--runtime", "gguf"], "lbr encode: argument --runtime: invalid choice: 'gguf'"),
        (["--dtype", "int8"], "lbr encode: argument --dtype: invalid choice: 'int8'"),
        (["--dimensions", "0"], "lbr encode: argument --dimensions: must be a whole number from 1 to"),
        (["--precision", "int8", "--role", "query"], "--role query: int8 queries are scaled as the documents are"),
    ],
)
def test_refusals(called, flags, message):
    with pytest.raises(InputError) as error:
        main([*REQUIRED, *flags])
    assert message in str(error.value) and not called
