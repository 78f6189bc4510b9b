"""``lbr learn``: stage 1 from the command line."""

from __future__ import annotations

from collections.abc import Sequence

from lbr_st.cli.stages import parse_stage, run_stage
from lbr_st.learning.config import LearnConfig
from lbr_st.learning.run import find_rate, learn, plan

DESCRIPTION = "Stage 1: teach a causal language model a domain through a bottleneck."


def main(argv: Sequence[str] | None = None, prog: str = "lbr learn") -> None:
    """Run ``lbr learn``.

    Raises:
        InputError: If the arguments, the data or the model cannot be used.
    """
    config = parse_stage(LearnConfig, prog, DESCRIPTION, argv)
    next_step = f"lbr align --model {config.output_dir} --data PAIRS --output-dir lbr-model"
    run_stage(config, run=learn, plan=plan, find_rate=find_rate, next_step=next_step)
