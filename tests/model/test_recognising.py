"""What lies near a model is called what it is, where a model is named, and where data are."""

import shutil

import pytest
from helpers import make_backbone
from transformers import AutoConfig

from lbr_st.data.parts import Reading, parts_of
from lbr_st.data.records import iterate_passages, read_records
from lbr_st.errors import InputError
from lbr_st.files import write_jsonl
from lbr_st.model.backbone import Kind, kind_of, read_config
from lbr_st.model.named import check_embedder_exists, check_model_exists
from lbr_st.model.recognising import is_model, why_no_model
from lbr_st.model.trainable import check_can_be_trained


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"0" * 2000)
    return folder


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (
            ["consolidated.00.pth", "params.json"],
            "in its maker's own form .consolidated.00.pth., which is not read; take",
        ),
        (["consolidated.safetensors"], "in its maker's own form"),
        (["onnx/model.onnx"], "for ONNX Runtime .onnx/model.onnx., which is not read; take the model it was made from"),
        (["openvino_model.xml"], "for OpenVINO"),
        (["tf_model.h5"], "of TensorFlow or Flax .tf_model.h5., .* with transformers 4"),
        (["flax_model.msgpack"], "of TensorFlow or Flax"),
    ],
)
@pytest.mark.parametrize("has_config", [False, True])
def test_weights_in_another_form_are_called_what_they_are(tmp_path, files, said, has_config):
    folder = touch(tmp_path / "model", *files)
    if has_config:
        AutoConfig.for_model("llama").save_pretrained(folder)
    begins = "cannot be used" if has_config else "is not a model"
    with pytest.raises(InputError, match=f"^--model .*model {begins}: its weights are {said}"):
        check_model_exists(str(folder))


def test_weights_that_are_read_count_more(tmp_path):
    """Many repositories have several forms beside each other."""
    folder = make_backbone(tmp_path / "model")
    touch(tmp_path / "model", "tf_model.h5", "onnx/model.onnx")
    check_model_exists(folder)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("a.bin", "it is a file of weights; name a directory that has its config.json and its tokenizer, too"),
        ("a.safetensors", "it is a file of weights; "),
        ("a.pt", "it is a file of weights; "),
        ("consolidated.00.pth", "it has weights in its maker's own form, which is not read; "),
        ("model.onnx", "it has weights for ONNX Runtime, which is not read; "),
        ("model.zip", "it is a packed file; unpack it, and name its directory"),
        ("notes", "it is a file; name its directory"),
    ],
)
def test_a_lone_file_is_called_what_it_is(tmp_path, name, said):
    touch(tmp_path, name)
    with pytest.raises(InputError, match=f"^--model .* is not a model: {said}"):
        check_model_exists(str(tmp_path / name))


def test_a_file_of_a_model_names_its_folder(backbone):
    with pytest.raises(InputError, match=f"it is a file of a model; name its directory, {backbone}$"):
        check_model_exists(f"{backbone}/model.safetensors")


def test_a_folder_of_the_cache_names_the_snapshot(backbone, tmp_path):
    cached = tmp_path / "models--owner--name"
    for name in ("abc", "def"):
        shutil.copytree(backbone, cached / "snapshots" / name)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("def\n")
    for given in (cached, cached / "snapshots"):
        with pytest.raises(InputError, match="name the snapshot in it, .*name/snapshots/def$"):
            check_model_exists(str(given))
    (cached / "refs" / "main").unlink()
    assert why_no_model(cached).endswith("snapshots/abc")
    assert is_model(cached)


def test_a_folder_around_a_model_names_it(backbone, tmp_path):
    assert why_no_model(tmp_path) == "the directory has no config.json"
    shutil.copytree(backbone, tmp_path / "checkpoint-1")
    assert why_no_model(tmp_path).endswith(f"a model lies in it: {tmp_path / 'checkpoint-1'}")
    touch(tmp_path / "other", "model.safetensors")
    assert why_no_model(tmp_path / "other").startswith("it has weights (model.safetensors), but no config.json")
    shutil.copytree(backbone, tmp_path / "parts" / "0_Transformer")
    assert why_no_model(tmp_path / "parts").startswith("it has the modules of an embedding model, and no modules.json")


@pytest.mark.parametrize("name", ["bm25", "BM25"])
def test_bm25_is_no_model_that_is_opened(name):
    with pytest.raises(InputError, match=f"^--model {name}: BM25 counts words .* lbr evaluate --model"):
        check_embedder_exists(name)


@pytest.fixture(params=["whole", "cached", "weights", "adapter"])
def folder_of_a_model(request, backbone, tmp_path):
    folder = tmp_path / "models--owner--name"
    if request.param == "weights":
        return touch(folder, "pytorch_model.bin")
    if request.param == "adapter":
        folder.mkdir()
        (folder / "adapter_config.json").write_text("{}")
        return folder
    shutil.copytree(backbone, folder / "snapshots" / "abc" if request.param == "cached" else folder)
    return folder


def test_a_model_is_no_data(folder_of_a_model):
    (folder_of_a_model / "README.md").write_text("# A card\n\nIt would be a document.\n")
    for read in (
        lambda source: parts_of(str(source), Reading()),
        read_records,
        lambda source: list(iterate_passages(str(source))),
    ):
        with pytest.raises(InputError, match=f"^{folder_of_a_model}: is a model, where data are needed: name a file"):
            read(folder_of_a_model)


def test_a_model_with_the_name_of_a_dataset_is_no_data(backbone, tmp_path, monkeypatch):
    shutil.copytree(backbone, tmp_path / "owner" / "name")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="^owner/name: is a model, where data are needed"):
        read_records("owner/name")


def test_files_of_settings_make_no_model_of_a_folder(tmp_path):
    """Projects of all kinds have files of these names."""
    (tmp_path / "config.json").write_text('{"port": 80}')
    (tmp_path / "modules.json").write_text('{"a": 1}')
    (tmp_path / "notes.md").write_text("# Iron\n\nIron is a metal.\n")
    assert not is_model(tmp_path)
    assert [record["document"] for record in iterate_passages(str(tmp_path))]


def test_weights_are_no_data(backbone, tmp_path):
    with pytest.raises(InputError, match="is weights of a model .safetensors., no data"):
        read_records(f"{backbone}/model.safetensors")
    (tmp_path / "a.gguf").write_bytes(b"GGUF\3\0\0\0")
    with pytest.raises(InputError, match="is a model .GGUF., no data"):
        read_records(tmp_path / "a.gguf")
    write_jsonl(tmp_path / "a.jsonl", [{"query": "a", "document": "b"}])
    assert len(read_records(tmp_path / "a.jsonl")) == 1


@pytest.mark.parametrize(
    ("family", "kind"),
    [
        ("llava", Kind.IMAGES_AND_TEXT),
        ("gemma3", Kind.IMAGES_AND_TEXT),
        ("clip", Kind.IMAGES_AND_TEXT),
        ("vit", Kind.IMAGES),
        ("whisper", Kind.SOUND),
        ("wav2vec2", Kind.SOUND),
        ("qwen2_audio", Kind.SOUND),
        ("t5", Kind.ENCODER_DECODER),
        ("bart", Kind.ENCODER_DECODER),
        ("bert", Kind.ENCODER),
        ("dpr", Kind.OTHER),
        ("llama", Kind.LANGUAGE_MODEL),
        ("mamba", Kind.LANGUAGE_MODEL),
    ],
)
def test_a_configuration_of_every_kind_is_called_what_it_is(family, kind, tmp_path):
    config = AutoConfig.for_model(family)
    assert kind_of(config) is kind
    if kind is not Kind.LANGUAGE_MODEL:
        config.save_pretrained(tmp_path)
        with pytest.raises(InputError, match=f"model type '{family}', {kind.value}: a causal language model is needed"):
            read_config(str(tmp_path))


@pytest.mark.parametrize("head", ["SequenceClassification", "TokenClassification", "QuestionAnswering"])
def test_a_head_that_would_be_dropped_is_named(head, tmp_path):
    config = AutoConfig.for_model("llama", architectures=[f"LlamaFor{head}"])
    config.save_pretrained(tmp_path)
    with pytest.raises(InputError, match="a classifier or a reranker, .*; start from the language model that it was"):
        read_config(str(tmp_path))


@pytest.mark.parametrize("name", ["llava", "whisper", "vit"])
def test_what_reads_more_than_text_embeds_nothing_here(name, tmp_path):
    AutoConfig.for_model(name).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="is a model of .*, not an embedding model: .*; take a model of text$"):
        check_embedder_exists(str(tmp_path))


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ('{"eos_token_id": "x"}', "eos_token_id is 'x', no number"),
        ('{"eos_token_id": [1, "x"]}', "eos_token_id is .1, 'x'., no number"),
        ('{"eos_token_id": 1', "Expecting ',' delimiter"),
        ("[1]", ""),
        ('{"max_new_tokens": -3}', "max_new_tokens"),
    ],
)
def test_settings_of_generation_that_cannot_be_used(written, said, tmp_path):
    """Else the trained model is not saved, as it generates no text."""
    folder = make_backbone(tmp_path / "model")
    check_can_be_trained(folder)
    (tmp_path / "model" / "generation_config.json").write_text(written)
    with pytest.raises(InputError, match=f"its generation_config.json cannot be used: .*{said}.*; correct it, or take"):
        check_can_be_trained(folder)
