"""A GGUF file says what llama.cpp has to know; integrations/test_llamacpp.py reads it there."""

import json
import sys

import gguf
import numpy as np
import pytest
from gguf_files import LLAMA3, save_shape, write_gguf
from helpers import tiny

from lbr_st.errors import InputError
from lbr_st.model.contract import VerificationError
from lbr_st.use import gguf_export
from lbr_st.use.export import export
from lbr_st.use.gguf_export import require_shape


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """The directory of a model of each shape, made when it is asked for."""
    made = {}

    def model_of(shape):
        if shape not in made:
            made[shape] = save_shape(tmp_path_factory.mktemp(shape), shape)
        return made[shape]

    return model_of


@pytest.fixture(scope="module")
def exports(models, tmp_path_factory):
    made = {}

    def export_of(shape, weights_as):
        if (shape, weights_as) not in made:
            folder = tmp_path_factory.mktemp(shape) / "new" / "export"
            made[shape, weights_as] = export(models(shape), "gguf", folder, weights_as)
        return made[shape, weights_as]

    return export_of


def fields_of(file):
    return {name: field.contents() for name, field in gguf.GGUFReader(file).fields.items()}


def test_what_is_there(exports):
    exported = exports("llama", "f16")
    assert sorted(file.name for file in exported.folder.iterdir()) == ["Modelfile", "model-f16.gguf"]
    assert exported.file == exported.folder / "model-f16.gguf" and exported.size == exported.file.stat().st_size
    assert exported.comparisons > 100 and exported.cosine > 0.9999
    assert exported.needs == ("in Unicode's NFC",) and exported.prompts == {"query": "question: "}
    description = 'Embeddings of texts: the state of the last token, normalised; before a query goes "question: "'
    assert (
        exported.folder / "Modelfile"
    ).read_text() == f"# {description}\nFROM ./model-f16.gguf\nPARAMETER num_ctx 65\n"
    fields = fields_of(exported.file)
    expected = {
        "general.architecture": "llama",
        "general.description": description,
        "general.file_type": 1,
        "llama.context_length": 65,
        "llama.embedding_length": 32,
        "llama.block_count": 2,
        "llama.feed_forward_length": 64,
        "llama.attention.head_count": 4,
        "llama.attention.head_count_kv": 2,
        "llama.attention.key_length": 8,
        "llama.attention.value_length": 8,
        "llama.rope.dimension_count": 8,
        "llama.rope.freq_base": 10_000.0,
        "llama.pooling_type": 3,  # of the last token
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "qwen2",
        "tokenizer.ggml.bos_token_id": 320,
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.ggml.eos_token_id": 321,
        "tokenizer.ggml.add_eos_token": True,
    }
    assert {name: fields[name] for name in expected} == expected
    assert fields["tokenizer.ggml.tokens"][321] == "\uffff<|bottleneck 0|>"
    assert fields["tokenizer.ggml.token_type"][320:] == [3, 3] and len(fields["tokenizer.ggml.tokens"]) == 322


def test_gemma(exports):
    exported = exports("gemma3", "q8_0")
    assert exported.cosine > 0.999 and exported.needs == ()
    fields = fields_of(exported.file)
    expected = {
        "general.file_type": 7,
        "gemma3.attention.sliding_window": 4,
        "gemma3.rope.freq_base": 1_000_000.0,
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.add_space_prefix": False,
    }
    assert {name: fields[name] for name in expected} == expected
    kinds = {each.name: each.tensor_type.name for each in gguf.GGUFReader(exported.file).tensors}
    assert {kind for name, kind in kinds.items() if "norm" in name} == {"F32"}
    assert {kind for name, kind in kinds.items() if "attn_" in name and "norm" not in name} == {"F16"}
    assert {kind for name, kind in kinds.items() if "attn_" not in name and "norm" not in name} == {"Q8_0"}


@pytest.mark.parametrize("shape", ["llama", "qwen2"])
def test_tensors_are_those_of_another_writer(models, exports, tmp_path, shape):
    theirs = gguf.GGUFReader(write_gguf(models(shape), tmp_path / "theirs.gguf", "qwen2")).tensors
    expected = {each.name: np.array(each.data) for each in theirs}
    found = {each.name: np.array(each.data) for each in gguf.GGUFReader(exports(shape, "f16").file).tensors}
    assert found.keys() == expected.keys()
    for name, values in found.items():
        np.testing.assert_array_equal(values, expected[name].astype(values.dtype), err_msg=name)
    assert found["token_embd.weight"].dtype == np.float16 and found["output_norm.weight"].dtype == np.float32


def test_rows_that_are_no_whole_blocks_stay_in_half_precision(tmp_path):
    model = save_shape(tmp_path, "qwen2", intermediate_size=48)
    exported = export(model, "gguf", tmp_path / "export", "q8_0")
    kinds = {each.name: each.tensor_type.name for each in gguf.GGUFReader(exported.file).tensors}
    assert kinds["blk.0.ffn_down.weight"] == "F16" and kinds["blk.0.ffn_up.weight"] == "Q8_0"


def test_same_bytes(models, exports, tmp_path):
    again = export(models("qwen2"), "gguf", tmp_path / "again")
    assert again.file.read_bytes() == exports("qwen2", "f16").file.read_bytes()


@pytest.mark.parametrize(
    ("shape", "wrong"),
    [
        ("llama", {"_in_pairs": lambda rows, heads: rows}),
        ("gemma3", {"_tensors": lambda model, architecture: WRONG(model, architecture)}),
    ],
)
def test_wrong_weights_are_refused_and_nothing_is_left(models, tmp_path, monkeypatch, shape, wrong):
    for name, function in wrong.items():
        monkeypatch.setattr(gguf_export, name, function)
    with pytest.raises(VerificationError, match=r"^input '.*' alone: .* of model-f16.gguf gives a vector of cosine"):
        export(models(shape), "gguf", tmp_path / "new" / "export")
    assert not any(tmp_path.iterdir())


TENSORS = gguf_export._tensors


def WRONG(model, architecture):  # noqa: N802
    """Norms as transformers has them: without the 1 that it adds."""
    for name, values in TENSORS(model, architecture):
        yield name, values - 1 if name.endswith("norm.weight") else values


def test_types(models, tmp_path):
    with pytest.raises(InputError, match="^--type is for --to gguf, and --to is onnx$"):
        export(models("qwen2"), "onnx", tmp_path / "export", "f16")
    with pytest.raises(InputError, match="^--type must be one of f16, q8_0, got q4_k$"):
        export(models("qwen2"), "gguf", tmp_path / "export", "q4_k")
    assert not any(tmp_path.iterdir())


def test_absent_package(models, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(InputError, match=r"--to gguf needs gguf, .*: pip install 'lbr-st\[gguf\]'"):
        export(models("qwen2"), "gguf", tmp_path / "export")
    assert not any(tmp_path.iterdir())


def write_config(folder, family, ids=(1,), **settings):
    """Write what is read of a model before its weights."""
    folder.mkdir(exist_ok=True)
    tiny(family, **settings).config.save_pretrained(folder)
    (folder / "lbr_config.json").write_text(json.dumps({"bottleneck_token_ids": ids, "max_seq_length": 24}))
    return folder


GEMMA = {"layers": 6, "query_pre_attn_scalar": 8, "layer_types": ["sliding_attention"] * 5 + ["full_attention"]}
REFUSED = {
    "the shape of the model, gpt_neox, is none of llama, mistral,": ("gpt-neox", {}),
    "llama.cpp has no gelu in a llama": ("llama", {"hidden_act": "gelu"}),
    "llama.cpp has no biases in a qwen3": ("qwen3", {"attention_bias": True}),
    "layers see 4 tokens and texts have up to 24: llama.cpp lets a llama see all": ("mistral-sliding", {}),
    "layers see 4 tokens and texts have up to 24: llama.cpp lets a qwen2 see all": ("qwen2-sliding", {}),
    "scaled in a way not written here for a qwen2, llama3": ("qwen2", {"rope_parameters": LLAMA3}),
    "lets every 6th layer of a gemma3 see the whole text": ("gemma3", {}),
    "scales the attention of a gemma3 by the width of a head": ("gemma3", {**GEMMA, "query_pre_attn_scalar": 9}),
    "it reads texts in both directions": ("gemma3", {**GEMMA, "use_bidirectional_attention": True}),
    "takes positions of base 10000 for the layers of a gemma3": (
        "gemma3",
        {
            **GEMMA,
            "rope_parameters": {
                "sliding_attention": {"rope_type": "default", "rope_theta": 5.0},
                "full_attention": {"rope_type": "default", "rope_theta": 5.0},
            },
        },
    ),
}


@pytest.mark.parametrize("message", REFUSED)
def test_refused_shapes(tmp_path, message):
    family, settings = REFUSED[message]
    with pytest.raises(InputError, match=f"^--to gguf: .*{message}.*; --to onnx takes it$"):
        require_shape(write_config(tmp_path, family, **settings))


def test_shapes_that_llama_cpp_computes_alike(tmp_path):
    for family, settings in {
        "mistral-sliding": {"sliding_window": 24},
        "llama": {"rope_parameters": LLAMA3},
        "gemma3": GEMMA,
    }.items():
        require_shape(write_config(tmp_path, family, **settings))


def test_other_numbers_of_bottleneck_tokens(tmp_path):
    with pytest.raises(InputError, match="the model has 2 bottleneck tokens, and llama.cpp appends one at most"):
        require_shape(write_config(tmp_path, "qwen2", ids=[1, 2]))
    (tmp_path / "lbr_config.json").unlink()
    with pytest.raises(InputError, match="has no lbr_config.json: it is no model of lbr-st"):
        require_shape(tmp_path)


def test_domain_tokens(tmp_path):
    """llama.cpp has no rule that keeps a token of many letters out of other words."""
    write_config(tmp_path, "qwen2")
    about = json.loads((tmp_path / "lbr_config.json").read_text())
    (tmp_path / "lbr_config.json").write_text(json.dumps(about | {"domain_token_ids": [7, 8]}))
    with pytest.raises(InputError, match="^--to gguf: the model has domain tokens, and llama.cpp would match them"):
        require_shape(tmp_path)
