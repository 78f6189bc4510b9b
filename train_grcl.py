"""Stage 2 of Learn Before Represent (GR-CL): align the model of stage 1 with query-document pairs.

The same as ``lbr align``. At the scale of the paper, on a GPU:

    python train_grcl.py --model stage1 --data pairs.jsonl --dev-data dev.jsonl --output-dir lbr-model --bf16 \
        --temperature 0.02 --per-device-train-batch-size 1024 --mini-batch-size 64 --learning-rate 2e-5

On two GPUs, negatives gathered from both:

    torchrun --nproc-per-node 2 train_grcl.py --model stage1 --data pairs.jsonl --output-dir lbr-model --bf16

On a CPU, in a minute, after the small stage 1 of `train_ibgl.py`:

    python train_grcl.py --model stage1 --data train.jsonl --output-dir lbr-model \
        --max-steps 20 --learning-rate 3e-4
"""

import importlib

from lbr_st.cli.main import run_command

if __name__ == "__main__":
    # Imported there: Ctrl-C meanwhile, or a package that is not installed, is one line too.
    run_command(lambda: importlib.import_module("lbr_st.cli.align").main(prog="train_grcl.py"))
