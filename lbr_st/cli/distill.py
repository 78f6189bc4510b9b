"""The command ``lbr distill``."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from lbr_st.cli.stages import parse_stage
from lbr_st.distilling.config import DistillConfig
from lbr_st.distilling.run import distill

DESCRIPTION = "Train a small and fast encoder of queries for a model, which stays the encoder of documents."


def main(argv: Sequence[str] | None = None) -> None:
    """Run ``lbr distill``.

    Raises:
        InputError: If the arguments, the queries or the model cannot be used.
    """
    config = parse_stage(DistillConfig, "lbr distill", DESCRIPTION, argv)
    found = distill(config)
    if found is not None:
        student, model = found.student_seconds * 1000, found.model_seconds * 1000
        print(  # noqa: T201
            f"\nSaved {config.output_dir}: encode_query takes the student, encode_document the model.\n"
            f"mean cosine of its query vectors and the model's: {found.cosine:.4f}, on {found.held_out:,} held-out "
            f"queries\none query: {student:.2f} ms, by the model {model:.2f} ms"
        )
    command = shlex.join(["lbr", "evaluate", "--model", config.output_dir, config.model, "--data", "TEST_PAIRS"])
    print(f"next: {command}")  # noqa: T201
