"""A corpus on a Ray cluster of this machine gives what it gives here."""

import json
import os
import shutil
import subprocess

import numpy as np
import pyarrow.parquet as pq
import pytest
from environments import environment

from lbr_st.files import write_json, write_jsonl
from lbr_st.use import encode

pytestmark = pytest.mark.integration


def test_ray_gives_the_same_rows(saved, tmp_path):
    """Two actors, and a run that was begun by one of another kind."""
    path, _ = saved["qwen2"]
    write_jsonl(tmp_path / "corpus.jsonl", ({"id": str(n), "text": f"passage {n} " * (n % 9 + 1)} for n in range(25)))
    argv = ["--model", str(path), "--data", str(tmp_path / "corpus.jsonl"), "--shard-rows", "10", "--precision", "int8"]
    encode.main([*argv, "--output", str(tmp_path / "here")])
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    manifest = tmp_path / "there" / encode.MANIFEST
    write_json(manifest, json.loads(manifest.read_text()) | {"finished": False})
    encode.lay_down([str(tmp_path / "corpus.jsonl")], tmp_path / "there", 10)
    for shard in (1, 2):
        encode.part(tmp_path / "there", shard).unlink()
    command = [environment("ray") / "bin" / "lbr", "encode", *argv, "--engine", "ray", "--actors", "2", "--output"]
    done = subprocess.run(
        [*map(str, command), str(tmp_path / "there")], env=os.environ | {"HF_HUB_OFFLINE": "1"}, capture_output=True
    )
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    here, there = (pq.read_table(tmp_path / name) for name in ("here", "there"))
    assert here["id"].to_pylist() == there["id"].to_pylist() == [str(n) for n in range(25)]
    one, two = (np.array(table["embedding"].to_pylist()) for table in (here, there))
    assert np.abs(one - two).max() <= 1  # a step of int8, by rounding
