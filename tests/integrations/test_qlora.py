"""QLoRA on weights in 4 bits: bitsandbytes, which trains on a CPU too, if slowly."""

import json
import os
import subprocess
import sys

import pytest
import torch
from helpers import PAIRS, ROOT, TEXTS, lora_of, make_backbone
from sentence_transformers import SentenceTransformer

import lbr_st
from lbr_st.files import write_jsonl
from lbr_st.training.lora import add_lora, load_adapter, merge

pytestmark = pytest.mark.integration
ENVIRONMENT = ROOT / ".integrations" / "qlora"


def run(first, argv):
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ENVIRONMENT)])}
    program = f"{first}import sys; from lbr_st.cli.main import main; main(['learn', *sys.argv[1:]])"
    return subprocess.run([sys.executable, "-c", program, *argv], env=env, capture_output=True, text=True)


def test_qlora_trains_and_ends_with_whole_weights(tmp_path):
    backbone = make_backbone(tmp_path / "backbone", hidden_size=64, intermediate_size=128, head_dim=16)
    write_jsonl(tmp_path / "train.jsonl", PAIRS * 8)
    argv = [
        "--model", backbone, "--data", str(tmp_path / "train.jsonl"), "--dev-data", str(tmp_path / "train.jsonl"),
        "--allow-overlap",
        "--output-dir", str(tmp_path / "out"), "--max-length", "24", "--learning-rate", "1e-2", "--max-steps", "10",
        "--per-device-train-batch-size", "8", "--lora-rank", "4", "--load-in-4bit", "--bf16",
    ]  # fmt: skip
    done = run("", argv)
    if done.returncode == 2 and "--load-in-4bit needs a GPU" in done.stderr:  # its fast path for such a CPU
        done = run("import bitsandbytes.nn.modules as layers; layers.has_avx512bf16 = lambda: False; ", argv)
    assert done.returncode == 0, done.stderr[-3000:]
    log = json.loads((tmp_path / "out" / "training_log.json").read_text())
    losses = [entry["eval_loss"] for entry in log if "eval_loss" in entry]
    assert losses[-1] < losses[0] - 0.1
    saved = SentenceTransformer(str(tmp_path / "out")).encode(TEXTS)
    # By hand: the backbone in whole weights, and the adapter of the last checkpoint merged into them.
    model = lbr_st.from_backbone(backbone, max_seq_length=24, dtype=torch.bfloat16)
    untrained = model.encode(TEXTS)
    adapter = add_lora(model[0], lora_of(4))
    load_adapter(adapter, tmp_path / "out" / "checkpoints" / "checkpoint-10")
    merge(adapter)
    assert abs(model.encode(TEXTS) - saved).max() < 1e-2
    assert abs(untrained - saved).max() > 0.1
