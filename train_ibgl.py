"""Stage 1 of Learn Before Represent (IB-GL): teach a causal language model a domain through bottleneck tokens.

The same as ``lbr learn``. At the scale of the paper, on a GPU:

    python train_ibgl.py --config configs/learn-qwen2-1.5b.yaml --output-dir stage1

With LoRA, on pairs and passages together:

    python train_ibgl.py --model Qwen/Qwen2.5-1.5B --output-dir stage1 --bf16 --lora-rank 16 \
        --objective sft:0.7,reconstruct:0.3 --data sft=pairs.jsonl reconstruct=corpus.jsonl

On a CPU, in a minute, with any small language model:

    python train_ibgl.py --model backbone --data train.jsonl --output-dir stage1 \
        --max-length 64 --max-steps 50 --learning-rate 5e-4
"""

import importlib

from lbr_st.cli.main import run_command

if __name__ == "__main__":
    # Imported there: Ctrl-C meanwhile, or a package that is not installed, is one line too.
    run_command(lambda: importlib.import_module("lbr_st.cli.learn").main(prog="train_ibgl.py"))
