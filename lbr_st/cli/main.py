"""The console command ``lbr``: a name for each ``main`` of this package."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

COMMANDS = {
    "train-ibgl": ("lbr_st.learning.run", "stage 1: teach a language model a domain through a bottleneck"),
    "train-grcl": ("lbr_st.alignment.run", "stage 2: align it with query-document pairs"),
    "evaluate": ("lbr_st.evaluation.own_data", "score models on a question-answer file, by mteb"),
    "export": ("lbr_st.use.export", "write a model for ONNX Runtime or OpenVINO, compared with the original"),
    "benchmark": ("lbr_st.evaluation.public_tests", "score a model on the public tests of mteb that can be loaded"),
    "separation": ("lbr_st.evaluation.inspect", "what the embeddings of a model are worth on held-out pairs"),
    "verify": ("lbr_st.model.verify", "check that a saved model keeps its promises"),
    "encode": ("lbr_st.use.encode", "encode a corpus of any size into Parquet files, here or on a Ray cluster"),
    "search": ("lbr_st.use.search", "search documents with a model"),
    "card": ("lbr_st.publish.results", "write the card of a saved model anew, with mteb's scores"),
    "push": ("lbr_st.publish.hub", "put a saved model on the Hugging Face Hub"),
    "submit": ("lbr_st.publish.leaderboard", "prepare what mteb's leaderboard wants of a model"),
    "nano": ("lbr_st.quickstart.nano", "train a small language model from scratch on raw text"),
    "data": ("lbr_st.cli.data", "make clean, split and isolated sets of any text; list public ones"),
    "quickstart": ("lbr_st.quickstart.run", "all of it, on the installed Python packages"),
}


def main(argv: Sequence[str] | None = None) -> None:
    """Run ``lbr COMMAND ...``."""
    parser = argparse.ArgumentParser(prog="lbr", description="Learn Before Represent for sentence-transformers.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (_, meaning) in COMMANDS.items():
        commands.add_parser(name, help=meaning, add_help=False)
    argv = list(sys.argv[1:] if argv is None else argv)
    command = parser.parse_args(argv[:1]).command
    # Imported only now: the libraries behind a command take seconds to import.
    from lbr_st.training.shared import run_command

    run_command(importlib.import_module(COMMANDS[command][0]).main, argv[1:])


if __name__ == "__main__":
    main()
