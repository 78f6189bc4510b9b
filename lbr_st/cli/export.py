"""The command ``lbr export``."""

from __future__ import annotations

from collections.abc import Sequence

from lbr_st.cli.arguments import Parser, add_output_dir
from lbr_st.use.export import export
from lbr_st.use.export_formats import FORMATS, TYPES


def main(argv: Sequence[str] | None = None) -> None:
    """Run ``lbr export``.

    Raises:
        InputError: If the model cannot be exported, or the export gives other vectors.
    """
    parser = Parser(
        prog="lbr export",
        description="Write a model for ONNX Runtime, OpenVINO, llama.cpp or Ollama, and compare it with the original.",
    )
    parser.add_argument("--model", required=True, metavar="DIR", help="a saved model, in the portable layout")
    parser.add_argument(
        "--to",
        required=True,
        choices=[*FORMATS],
        help="onnx and openvino are in float32, or with weights in int8; gguf: for llama.cpp and Ollama",
    )
    parser.add_argument("--type", choices=[*TYPES], help="of --to gguf: what its weights are; default: f16")
    add_output_dir(parser, "the export")
    args = parser.parse_args(argv)
    exported = export(args.model, args.to, args.output_dir, args.type)
    sizes = f"{exported.size / 1e6:.1f} MB, the original's weights {exported.original_size / 1e6:.1f} MB"
    print(  # noqa: T201
        f"Saved {exported.file}: {sizes}\n"
        f"lowest cosine to the original in {exported.comparisons} comparisons: {exported.cosine:.7f}\n"
        f"next: {exported.format.install}, where it is used, and\n\n{exported.code()}"
    )
    if exported.prompts:
        print(f"Before a text goes its prompt: {exported.prompts}")  # noqa: T201
    for need in exported.needs:
        print(f"A text must be {need} before it goes in: llama.cpp does not see to it")  # noqa: T201
