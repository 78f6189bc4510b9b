"""The command ``lbr quickstart``."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from lbr_st.cli.arguments import Parser
from lbr_st.evaluation.tables import score_table
from lbr_st.quickstart.run import QuickstartConfig, quickstart
from lbr_st.use.search import format_hits


def main(argv: Sequence[str] | None = None) -> None:
    """Run ``lbr quickstart``.

    Raises:
        InputError: If the installed packages give too little text, or the backbone cannot be used.
    """
    parser = Parser(
        prog="lbr quickstart",
        description="All of it on what every machine has, the Python packages installed here: a domain, both stages on "
        "SmolLM2-135M-Instruct, scores and a search. Started again, it goes on where it was.",
    )
    parser.add_argument(
        "--backbone",
        metavar="MODEL",
        help="another language model: a directory, a GGUF file, or an id of the Hub such as Qwen/Qwen2.5-0.5B",
    )
    parser.add_argument("--baseline", action="store_true", help="train the model without stage 1 too, and add its row")
    parser.add_argument("--output-dir", metavar="DIR", help="the model; lbr-model, with a backbone's name, if absent")
    parser.add_argument("--work-dir", default="quickstart", metavar="DIR", help="everything else")
    config = QuickstartConfig(**vars(parser.parse_args(argv)))
    made = quickstart(config)
    print(f"\n{made.queries} docstrings as queries, {made.documents} functions\n{score_table(made.scores)}")  # noqa: T201
    if made.left_out:
        print(  # noqa: T201
            f"\nA search over the {made.searched} functions that share most with the questions; {made.left_out} others "
            "would take longer than two minutes."
        )
    for question, hits in made.hits.items():
        print(format_hits(question, hits))  # noqa: T201
    command = ["lbr", "search", "--model", config.model_dir, "--data", str(config.domain_dir), "your question"]
    print(  # noqa: T201
        f"\nSaved {config.model_dir}, in {made.minutes:.1f} minutes:\n\n"
        "    from sentence_transformers import SentenceTransformer\n"
        f'    SentenceTransformer("{config.model_dir}").encode(["..."])\n\n'
        f"next: {shlex.join(command)}"
    )
