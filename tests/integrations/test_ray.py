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
from lbr_st.use.encode import EncodeConfig, encode_corpus
from lbr_st.use.shards import MANIFEST, lay_down, part

pytestmark = pytest.mark.integration


def test_ray_gives_the_same_rows(saved, tmp_path):
    """Two actors, and a run that was begun by one of another kind."""
    path, _ = saved["qwen2"]
    corpus, here, there = (tmp_path / name for name in ("corpus.jsonl", "here", "there"))
    write_jsonl(corpus, ({"id": str(n), "text": f"passage {n} " * (n % 9 + 1)} for n in range(25)))
    settings = {"model": str(path), "data": [str(corpus)], "shard_rows": 10, "precision": "int8"}
    encode_corpus(EncodeConfig(**settings, output_dir=here))
    shutil.copytree(here, there)
    write_json(there / MANIFEST, json.loads((there / MANIFEST).read_text()) | {"finished": False})
    lay_down([str(corpus)], there, 10)
    for shard in (1, 2):
        part(there, shard).unlink()
    flags = ["--model", path, "--data", corpus, "--shard-rows", "10", "--precision", "int8", "--output-dir", there]
    command = [environment("ray") / "bin" / "lbr", "encode", *flags, "--engine", "ray", "--actors", "2"]
    done = subprocess.run(list(map(str, command)), env=os.environ | {"HF_HUB_OFFLINE": "1"}, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    one, two = (pq.read_table(folder) for folder in (here, there))
    assert one["id"].to_pylist() == two["id"].to_pylist() == [str(n) for n in range(25)]
    one, two = (np.array(table["embedding"].to_pylist()) for table in (one, two))
    assert np.abs(one - two).max() <= 1  # a step of int8, by rounding
