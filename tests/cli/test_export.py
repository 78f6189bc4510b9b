"""The command `lbr export`: what it prints of an export."""

import pytest

from lbr_st.cli import export as command
from lbr_st.cli.export import main
from lbr_st.errors import InputError
from lbr_st.use.export import Exported


@pytest.mark.parametrize(
    ("to", "runtime"), [("onnx", "onnxruntime"), ("int8", "onnxruntime"), ("openvino", "openvino")]
)
def test_what_was_made_and_what_to_do_next(tmp_path, monkeypatch, capsys, to, runtime):
    called = []

    def export(model, to, output_dir):
        called.append((model, to, output_dir))
        return Exported(tmp_path, to, 22_600_000, 22_000_000, 0.99999994, 166, {"query": "ask: "})

    monkeypatch.setattr(command, "export", export)
    main(["--model", "m", "--to", to, "--output-dir", "there"])
    assert called == [("m", to, "there")]
    printed = capsys.readouterr().out
    file = {"onnx": "onnx/model.onnx", "int8": "onnx/model_int8.onnx", "openvino": "openvino/openvino_model.xml"}[to]
    assert printed.startswith(f"Saved {tmp_path / file}: 22.6 MB, the original's weights 22.0 MB\n")
    assert "lowest cosine to the original in 166 comparisons: 0.9999999\n" in printed
    assert f"next: pip install {runtime} tokenizers, where it is used, and\n\nimport numpy as np\n" in printed
    assert f"import {runtime}\n" in printed and repr(str(tmp_path / "tokenizer.json")) in printed
    assert repr(str(tmp_path / file)) in printed and "$" not in printed
    assert printed.endswith("Before a text goes its prompt: {'query': 'ask: '}\n")


def test_refusals():
    with pytest.raises(InputError, match="^lbr export: argument --to: invalid choice: 'gguf'"):
        main(["--model", "m", "--to", "gguf", "--output-dir", "there"])
    with pytest.raises(InputError, match="^--model ./absent is not a model: no such directory"):
        main(["--model", "./absent", "--to", "onnx", "--output-dir", "there"])
