"""The command `lbr export`: what it prints of an export."""

import pytest

from lbr_st.cli import export as command
from lbr_st.cli.export import main
from lbr_st.errors import InputError
from lbr_st.use.export import Exported
from lbr_st.use.export_formats import FORMATS, TYPES


@pytest.mark.parametrize(
    ("to", "runtime"), [("onnx", "onnxruntime"), ("onnx-int8", "onnxruntime"), ("openvino", "openvino")]
)
def test_what_was_made_and_what_to_do_next(tmp_path, monkeypatch, capsys, to, runtime):
    called = []

    def export(model, to, output_dir, weights_as):
        called.append((model, to, output_dir, weights_as))
        return Exported(tmp_path, FORMATS[to], 22_600_000, 22_000_000, 0.99999994, 166, {"query": "ask: "})

    monkeypatch.setattr(command, "export", export)
    main(["--model", "m", "--to", to, "--output-dir", "there"])
    assert called == [("m", to, "there", None)]
    printed = capsys.readouterr().out
    names = {"onnx": "onnx/model", "onnx-int8": "onnx/model_int8", "openvino": "openvino/openvino_model"}
    file = names[to] + (".onnx" if runtime == "onnxruntime" else ".xml")
    assert printed.startswith(f"Saved {tmp_path / file}: 22.6 MB, the original's weights 22.0 MB\n")
    assert "lowest cosine to the original in 166 comparisons: 0.9999999\n" in printed
    assert f"next: pip install {runtime} tokenizers, where it is used, and\n\nimport numpy as np\n" in printed
    assert f"import {runtime}\n" in printed and repr(str(tmp_path / "tokenizer.json")) in printed
    assert repr(str(tmp_path / file)) in printed and "$" not in printed
    assert printed.endswith("Before a text goes its prompt: {'query': 'ask: '}\n")


def test_of_a_gguf_file(tmp_path, monkeypatch, capsys):
    needs = ("in Unicode's NFC", "without special tokens")
    exported = Exported(tmp_path, TYPES["q8_0"], 6_000_000, 22_000_000, 0.9995, 166, {}, needs)
    called = []
    monkeypatch.setattr(command, "export", lambda *args: called.append(args) or exported)
    main(["--model", "m", "--to", "gguf", "--type", "q8_0", "--output-dir", "there"])
    assert called == [("m", "gguf", "there", "q8_0")]
    printed = capsys.readouterr().out
    assert printed.startswith(f"Saved {tmp_path / 'model-q8_0.gguf'}: 6.0 MB")
    assert "next: npm install node-llama-cpp, where it is used, and\n\nimport {getLlama} from" in printed
    assert f"modelPath: {str(tmp_path / 'model-q8_0.gguf')!r}}}" in printed and "$" not in printed
    assert printed.endswith(
        "A text must be in Unicode's NFC before it goes in: llama.cpp does not see to it\n"
        "A text must be without special tokens before it goes in: llama.cpp does not see to it\n"
    )


def test_refusals():
    with pytest.raises(InputError, match="^lbr export: argument --to: invalid choice: 'tflite'"):
        main(["--model", "m", "--to", "tflite", "--output-dir", "there"])
    with pytest.raises(InputError, match="^lbr export: argument --type: invalid choice: 'q4_k'"):
        main(["--model", "m", "--to", "gguf", "--type", "q4_k", "--output-dir", "there"])
    with pytest.raises(InputError, match="^--model ./absent is not a model: no such directory"):
        main(["--model", "./absent", "--to", "onnx", "--output-dir", "there"])
