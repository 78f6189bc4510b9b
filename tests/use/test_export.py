"""What an export gives to those who read it, computed here by hand, is what the model gives."""

import dataclasses
import hashlib
import json
import logging
import shutil
import sys

import numpy as np
import pytest
import torch
from helpers import FAMILIES, TEXTS, make_backbone
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Transformer
from sentence_transformers.sentence_transformer.modules import Pooling
from tokenizers import Tokenizer

import lbr_st
from lbr_st.errors import InputError
from lbr_st.model.contract import VerificationError, fingerprint
from lbr_st.model.domain_tokens import add_domain_tokens
from lbr_st.model.exported import Made, read_made
from lbr_st.use import export_check, export_formats
from lbr_st.use.export import export, open_in_float32
from lbr_st.use.export_formats import FORMATS

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
onnxruntime = pytest.importorskip("onnxruntime")
openvino = pytest.importorskip("openvino")

LENGTH = 24
# With BOS and layers of both kinds; with biases and parallel blocks. An export takes seconds.
FAST = [("gemma3", "openvino"), ("gpt-neox", "onnx-int8"), ("gpt-neox", "openvino-int8")]
REST = [(family, to) for family in FAMILIES for to in ("onnx", "openvino") if (family, to) not in FAST]
EXPORTS = [*FAST, *(pytest.param(*each, marks=pytest.mark.slow) for each in REST)]
TERM = "acetylsalicylic acid"
INPUTS = ["", "a", f"({TERM}) {TERM}s", "Ümläute, 漢字 and 👩‍🔬", TEXTS[0], "longer than the longest " * 20]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """The directory of a model of each family, made when it is asked for."""
    made = {}

    def model_of(family, **kwargs):
        key = (family, *kwargs.items())
        if key not in made:
            folder = tmp_path_factory.mktemp(family)
            backbone = make_backbone(
                folder / "backbone", family, layers=2 if "layer_types" in FAMILIES[family][1] else 1
            )
            model = lbr_st.from_backbone(backbone, max_seq_length=LENGTH, **(kwargs or {"num_bottleneck_tokens": 2}))
            if not family.startswith("qwen2"):
                add_domain_tokens(model[0], [TERM])
            model.prompts["query"] = "question: "
            lbr_st.save(model, folder / "model")
            made[key] = folder / "model"
        return made[key]

    return model_of


@pytest.fixture(scope="module")
def exports(models, tmp_path_factory):
    """An export, made when it is asked for."""
    made = {}

    def export_of(family, to):
        if (family, to) not in made:
            folder = tmp_path_factory.mktemp(f"{family}-{to}") / "new" / "export"
            with pytest.MonkeyPatch.context() as patch:
                onnx_format = to.replace("openvino", "onnx")
                if to != onnx_format:  # which is made through the same file
                    file = export_of(family, onnx_format).file
                    writer = "write_int8" if to.endswith("int8") else "write_onnx"
                    patch.setattr(export_formats, writer, lambda model, path: shutil.copyfile(file, path))
                made[family, to] = export(models(family), to, folder)
        return made[family, to]

    return export_of


def reader_of(folder):
    """Read an export without anything of this package or torch."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    if (folder / "openvino").is_dir():
        [file] = (folder / "openvino").glob("*.xml")
        model = openvino.compile_model(file, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    else:
        (file,) = (folder / "onnx").iterdir()
        session = onnxruntime.InferenceSession(file)

    def vectors_of(texts, side="right"):
        rows = [np.array([row.ids, row.attention_mask]) for row in tokenizer.encode_batch(texts)]
        if side == "left":
            rows = [row[:, np.argsort(row[1], kind="stable")] for row in rows]
        inputs = dict(zip(["input_ids", "attention_mask"], np.stack(rows, axis=1), strict=True))
        if file.suffix == ".xml":
            return model(inputs)["sentence_embedding"]
        return session.run(["sentence_embedding"], inputs)[0]

    return vectors_of


@pytest.mark.parametrize(("family", "to"), EXPORTS)
def test_vectors_are_those_of_the_model(models, exports, family, to):
    vectors_of = reader_of(exports(family, to).folder)
    expected = SentenceTransformer(str(models(family)), device="cpu").encode(INPUTS, batch_size=1)
    alone = np.concatenate([vectors_of([text]) for text in INPUTS])
    ways = [alone, vectors_of(INPUTS[:5]), vectors_of(INPUTS)]
    if family != "gpt2":  # which learns positions
        ways.append(vectors_of(INPUTS, "left"))
    for found in ways:
        if to.endswith("int8"):
            assert (found * expected[: len(found)]).sum(axis=1).min() > 0.999
        else:
            np.testing.assert_allclose(found, expected[: len(found)], atol=1e-5)


def test_what_is_there(models, exports):
    folder = exports("gemma3", "onnx").folder
    session = onnxruntime.InferenceSession(folder / "onnx/model.onnx")
    assert [each.name for each in session.get_inputs()] == ["input_ids", "attention_mask"]
    assert [each.name for each in session.get_outputs()] == ["last_hidden_state", "sentence_embedding"]
    files = {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}
    assert files == {
        "1_Pooling/config.json", "2_Normalize/config.json", "config.json", "config_sentence_transformers.json",
        "generation_config.json", "lbr_config.json", "lbr_export.json", "modules.json", "onnx/model.onnx",
        "sentence_bert_config.json", "tokenizer.json", "tokenizer_config.json",
    }  # fmt: skip
    of_files = {  # prompts and pooling among them
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in files - {"lbr_export.json"}
    }
    made = exports("gemma3", "onnx")
    assert read_made(folder) == Made("onnx", fingerprint(models("gemma3")), made.cosine, made.comparisons, of_files)
    folder = exports("gemma3", "openvino").folder
    assert sorted(file.name for file in (folder / "openvino").iterdir()) == ["openvino_model.bin", "openvino_model.xml"]


@pytest.mark.parametrize(("family", "to"), [("gemma3", "onnx"), ("gemma3", "openvino")])
def test_the_code_for_people_works_as_it_is(models, exports, family, to):
    exported = exports(family, to)
    assert exported.comparisons > 100 and exported.cosine > 0.99999
    assert exported.prompts == {"query": "question: "}
    lines = [line for line in exported.code().splitlines() if line]
    assert len(lines) < 10
    names = {}
    exec(exported.code(), names)
    texts = ["What is learned before it is represented?", "Another text."]
    expected = SentenceTransformer(str(models(family)), device="cpu").encode(texts)
    np.testing.assert_allclose(names["vectors"], expected, atol=1e-5)


def test_sizes(models, exports):
    """Those of the files on disk."""
    exported = exports("gpt-neox", "onnx-int8")
    assert exported.size == exported.file.stat().st_size
    assert exported.original_size == (models("gpt-neox") / "model.safetensors").stat().st_size


def double_a_weight(file):
    model = onnx.load(file)
    weight = next(each for each in model.graph.initializer if len(each.dims) == 2)
    weight.raw_data = (2 * onnx.numpy_helper.to_array(weight)).tobytes()
    onnx.save(model, file)


def test_wrong_vectors_are_refused_and_nothing_is_left(models, exports, tmp_path, monkeypatch):
    right = exports("gemma3", "onnx").file

    def write_wrong(model, file):
        file.write_bytes(right.read_bytes())
        double_a_weight(file)

    monkeypatch.setitem(FORMATS, "onnx", dataclasses.replace(FORMATS["onnx"], write=write_wrong))
    with pytest.raises(
        VerificationError, match=r"^input '' alone: last_hidden_state .* cosine 0\.\d+ .* below 0.99999"
    ):
        export(models("gemma3"), "onnx", tmp_path / "new" / "export")
    assert not any(tmp_path.iterdir())
    (tmp_path / "empty").mkdir()
    with pytest.raises(VerificationError):
        export(models("gemma3"), "onnx", tmp_path / "empty")
    assert not any((tmp_path / "empty").iterdir())


def test_the_pooled_output_is_compared_too(models):
    model = open_in_float32(models("qwen2"))
    tokenizer = Tokenizer.from_file(str(models("qwen2") / "tokenizer.json"))
    tokenizer.enable_truncation(LENGTH)
    graph = export_formats.Graph(model)

    @torch.no_grad()
    def run(inputs, wrong):
        hidden, pooled = graph(*(torch.from_numpy(each) for each in inputs.values()))
        return [hidden.numpy(), pooled.numpy() * wrong]

    pad = {"pad_id": model.tokenizer.pad_token_id}
    for wrong, message in {
        np.nan: "sentence_embedding .* cosine nan",
        -1.0: "sentence_embedding .* cosine -1.0",
    }.items():
        tokenizer.enable_padding(**pad)
        with pytest.raises(VerificationError, match=message):
            export_check.compare(lambda inputs, by=wrong: run(inputs, by), tokenizer, model, FORMATS["onnx"])
    cosines = export_check.compare(lambda inputs: run(inputs, 1.0), tokenizer, model, FORMATS["onnx"])
    assert min(cosines) > 0.999999
    tokenizer.enable_truncation(LENGTH - 1)
    with pytest.raises(VerificationError, match="'many words .* cuts it into other tokens"):
        export_check.compare(lambda inputs: run(inputs, 1.0), tokenizer, model, FORMATS["onnx"])


def test_a_text_without_a_token_is_compared_in_no_runtime(tmp_path):
    """The mean of no tokens is none: the model does not encode it alone."""
    transformer = Transformer(make_backbone(tmp_path / "backbone"), max_seq_length=LENGTH)
    model = SentenceTransformer(modules=[transformer, Pooling(transformer.get_embedding_dimension(), "mean")])
    model.save_pretrained(str(tmp_path / "model"), create_model_card=False)
    tokenizer = Tokenizer.from_file(str(tmp_path / "model" / "tokenizer.json"))
    tokenizer.enable_truncation(LENGTH)
    tokenizer.enable_padding(pad_id=model.tokenizer.pad_token_id)
    graph = export_formats.Graph(model)

    @torch.no_grad()
    def run(inputs):
        assert inputs["attention_mask"].any(axis=1).all()
        return [each.numpy() for each in graph(*(torch.from_numpy(each) for each in inputs.values()))]

    assert tokenizer.encode("").ids == []
    assert min(export_check.compare(run, tokenizer, model, FORMATS["onnx"])) > 0.999999


def test_padding_on_the_left_is_compared_where_it_does_not_move_a_text(models):
    assert export_check.sides(open_in_float32(models("llama"))) == ["right", "left"]
    assert export_check.sides(open_in_float32(models("gpt2"))) == ["right"]


def test_a_model_torch_cannot_export(models, tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise RuntimeError("step 1/3\nmore") from ValueError("data-dependent guard\nmore")

    monkeypatch.setattr(torch.onnx, "export", fail)
    message = r"torch cannot export a Qwen2Model to ONNX \(ValueError: data-dependent guard more\)$"
    with pytest.raises(InputError, match=message):
        export(models("qwen2"), "onnx", tmp_path / "export")
    assert not any(tmp_path.iterdir())
    assert logging.root.manager.disable == 0


@pytest.mark.parametrize(("to", "absent"), [("onnx-int8", "onnxruntime"), ("openvino", "openvino")])
def test_absent_packages(models, tmp_path, monkeypatch, to, absent):
    monkeypatch.setitem(sys.modules, absent, None)
    message = rf"--to {to} needs {absent}, which is not installed: pip install 'lbr-st\[export\]'"
    with pytest.raises(InputError, match=message):
        export(models("qwen2"), to, tmp_path / "new" / "export")
    assert not any(tmp_path.iterdir())


def test_another_format(models, tmp_path):
    message = "--to must be one of onnx, openvino, onnx-int8, openvino-int8, gguf, got tflite"
    with pytest.raises(InputError, match=message):
        export(models("qwen2"), "tflite", tmp_path / "export")


def test_refused_models(models, tmp_path):
    by_length = models("qwen2", compression_ratio=5)
    native = tmp_path / "native"
    lbr_st.load(str(models("qwen2"))).save_pretrained(str(native))
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    for file in ("config.json", "modules.json", "lbr_config.json"):
        (damaged / file).write_text((models("qwen2") / file).read_text())
    without = tmp_path / "without"
    without.mkdir()
    (without / "modules.json").write_text(json.dumps([]))
    for model, message in {
        by_length: r"a bottleneck token for every 5 tokens \(--compression-ratio\)",
        native: "native layout.*lbr_st.save",
        damaged: "1_Pooling/config.json: missing",
        without: "has no tokenizer.json",
        tmp_path / "nothing": "no such directory",
        "owner/name": "not a directory",
    }.items():
        with pytest.raises(InputError, match=message):
            export(model, "onnx", tmp_path / "export")
    assert not (tmp_path / "export").exists()


def test_nothing_is_written_over(models, tmp_path):
    (tmp_path / "file").write_text("mine")
    for output_dir, message in {tmp_path: "is not empty", tmp_path / "file": "is a file"}.items():
        with pytest.raises(InputError, match=message):
            export(models("qwen2"), "onnx", output_dir)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
