"""``lbr align``: stage 2 from the command line."""

from __future__ import annotations

from collections.abc import Sequence

from lbr_st.alignment.config import AlignConfig
from lbr_st.alignment.run import align, find_rate, plan
from lbr_st.cli.stages import parse_stage, run_stage

DESCRIPTION = "Stage 2: align a model with query-document pairs."


def main(argv: Sequence[str] | None = None, prog: str = "lbr align") -> None:
    """Run ``lbr align``.

    Raises:
        InputError: If the arguments, the data or the model cannot be used.
    """
    config = parse_stage(AlignConfig, prog, DESCRIPTION, argv)
    next_step = f"lbr evaluate --model {config.output_dir} bm25 --data TEST_PAIRS"
    run_stage(config, run=align, plan=plan, find_rate=find_rate, next_step=next_step)
