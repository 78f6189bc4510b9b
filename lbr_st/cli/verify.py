"""``lbr verify``: a line for each promise that a saved model keeps, exit code 1 at the first that it does not."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from lbr_st.cli.arguments import Parser
from lbr_st.model.contract import VerificationError
from lbr_st.model.quiet import quietly
from lbr_st.model.recognising import snapshots_in, why_no_model
from lbr_st.model.verify import verify


def main(argv: Sequence[str] | None = None) -> None:
    """Run ``lbr verify``."""
    parser = Parser("lbr verify", "Check that a saved model keeps its promises.")
    parser.add_argument("model", metavar="DIR", help="directory of a model saved by lbr-st, or of it in the Hub cache")
    parser.add_argument("--device", help="where to run it: cpu, cuda, ...; the first GPU where there is one")
    args = parser.parse_args(argv)
    snapshots = snapshots_in(Path(args.model))
    if len(snapshots) > 1:
        parser.error(f"{args.model}: {why_no_model(Path(args.model))}")
    model = str(snapshots[0]) if snapshots else args.model
    try:
        with quietly():
            for line in verify(model, device=args.device):
                print(f"ok    {line}", flush=True)  # noqa: T201
    except VerificationError as error:
        print(f"FAIL  {error}")  # noqa: T201
        sys.exit(1)
    print(f"{model} keeps its promises. next: lbr publish push --model {model} --repo-id OWNER/NAME")  # noqa: T201
