"""A model is whole: nothing is drawn at random, no number is none, no weight an integer; else it is refused."""

import io
import json
import logging
import pickle
import re
import shutil
from functools import partial
from pathlib import Path

import pytest
import torch
from helpers import make_backbone, make_bert
from peft import LoraConfig, get_peft_model
from safetensors.torch import load, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import BoW
from transformers import (
    AutoModelForCausalLM,
    BartConfig,
    BertConfig,
    BertForSequenceClassification,
    DistilBertConfig,
    MambaConfig,
    MambaForCausalLM,
    PreTrainedModel,
    RobertaConfig,
    T5Config,
    WhisperConfig,
)

import lbr_st
from lbr_st.errors import InputError
from lbr_st.model.contract import VerificationError
from lbr_st.model.named import check_embedder_exists, check_model_exists
from lbr_st.model.opening import open_cross_encoder, open_model, open_sentence_transformer, open_with_language_model
from lbr_st.model.self_checks import check_no_leak
from lbr_st.model.trainable import check_can_be_trained
from lbr_st.model.verify import verify
from lbr_st.model.weights import check_finite, check_vectors, read_tensors, recorded
from lbr_st.use.encode import EncodeConfig, encode_corpus

LAYER = "layers.1.mlp.down_proj.weight"
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 269060552\n"


@pytest.fixture
def plain(backbone, tmp_path):
    """A directory of a language model that may be changed."""
    shutil.copytree(backbone, tmp_path / "plain")
    return tmp_path / "plain"


@pytest.fixture(scope="module")
def _saved(backbone, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved") / "model"
    lbr_st.save(lbr_st.from_backbone(backbone, num_bottleneck_tokens=2, max_seq_length=24), folder)
    return folder


@pytest.fixture
def saved(_saved, tmp_path):
    shutil.copytree(_saved, tmp_path / "saved")
    return tmp_path / "saved"


@pytest.fixture
def bert(tmp_path):
    return Path(make_bert(tmp_path / "bert"))


def tensors_of(folder):
    """Return the tensors of a directory, in memory of their own: the file may be written over."""
    return load((folder / "model.safetensors").read_bytes())


def change(folder, change_of, bin_=False):
    """Write the tensors of a directory again, each under the name and with the numbers that are given; None is none."""
    path = folder / "model.safetensors"
    found = {key: change_of(key, tensor) for key, tensor in tensors_of(folder).items()}
    kept = {key: tensor for pair in found.values() if pair is not None for key, tensor in [pair]}
    if bin_:
        path.unlink()
        torch.save(kept, folder / "pytorch_model.bin")
    else:
        save_file(kept, path, metadata={"format": "pt"})


def of_torch(is_new, holds):
    """Return the bytes of what torch saves, in the form since 1.6 or the one before."""
    file = io.BytesIO()
    torch.save(holds, file, _use_new_zipfile_serialization=is_new)
    return file.getvalue()


def without(part):
    return lambda key, tensor: None if part in key else (key, tensor)


def named(prefix):
    return lambda key, tensor: (prefix + key, tensor)


def emptied(key, tensor):
    return key, torch.empty(0) if "embed" in key else tensor


def as_type(dtype):
    return lambda key, tensor: (key, (100 * tensor).to(dtype) if tensor.dim() == 2 else tensor)


def filled(part, value):
    def change_of(key, tensor):
        if part in key:
            tensor[-1] = value
        return key, tensor

    return change_of


def edit(folder, name="config.json", **changes):
    path = folder / name
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def refusals(name):
    """What is said before data are read, and where it is opened for training."""
    for refuse in (check_can_be_trained, lambda name: open_model(name, max_seq_length=24)):
        with pytest.raises(InputError) as refused:
            refuse(str(name))
        assert "\n" not in str(refused.value)
        yield str(refused.value)


@pytest.mark.parametrize("bin_", [False, True])
@pytest.mark.parametrize(
    ("change_of", "message"),
    [
        (without(LAYER), f"lacks 1 of the 27 tensors of the model, model.{LAYER} for one"),
        (emptied, "has model.embed_tokens.weight empty in its files, as DeepSpeed's ZeRO-3 leaves it"),
        (named("module."), "lacks .*; module.model.embed_tokens.weight is there: take what stands before"),
        (named("_orig_mod."), "lacks .*; _orig_mod.model.embed_tokens.weight is there: "),
    ],
)
def test_tensors_that_would_be_drawn_at_random(plain, change_of, message, bin_):
    change(plain, change_of, bin_)
    assert all(re.search(message, said) for said in refusals(plain))


def test_a_model_without_its_head(tmp_path):
    folder = Path(make_backbone(tmp_path / "untied", tied=False))
    change(folder, without("lm_head"))
    assert all("lm_head.weight for one; it was saved without what predicts tokens" in said for said in refusals(folder))


def test_tensors_of_layers_and_heads_that_are_not_there(plain, tmp_path):
    edit(plain, num_hidden_layers=3, layer_types=["full_attention"] * 3, max_window_layers=3)
    assert all("lacks 12 of the 39 tensors of the model, model.layers.2." in said for said in refusals(plain))
    untied = Path(make_backbone(tmp_path / "untied", tied=False))
    change(untied, without("lm_head"))
    assert all("lm_head.weight for one" in said for said in refusals(untied))


@pytest.mark.parametrize("bin_", [False, True])
def test_two_tensors_that_the_configuration_says_are_one(tmp_path, bin_):
    """transformers would use both, and lose one where the embeddings grow; two that are equal are one."""
    untied = Path(make_backbone(tmp_path / "untied", tied=False))
    edit(untied, tie_word_embeddings=True)
    shutil.copytree(untied, tmp_path / "equal")
    embedded = tensors_of(untied)["model.embed_tokens.weight"]
    change(untied, lambda key, tensor: (key, tensor), bin_)
    message = "lm_head.weight and model.embed_tokens.weight are one .*, and its files hold two that differ: write false"
    assert all(re.search(message, said) for said in refusals(untied))
    change(tmp_path / "equal", lambda key, tensor: (key, embedded.clone() if "lm_head" in key else tensor), bin_)
    check_can_be_trained(str(tmp_path / "equal"))
    assert open_model(str(tmp_path / "equal"), max_seq_length=24)[0].model.config.tie_word_embeddings


class Stranger:
    """What no table of tensors holds."""


@pytest.mark.parametrize(
    "write", [pickle.dumps, partial(of_torch, True), partial(of_torch, False)], ids=["pickle", "torch", "old torch"]
)
@pytest.mark.parametrize("holds", [Stranger(), {"a": Path.cwd}])
def test_a_pickle_of_other_things_than_tensors(plain, write, holds):
    (plain / "model.safetensors").unlink()
    (plain / "pytorch_model.bin").write_bytes(write(holds))
    said = [*refusals(plain)] if write is pickle.dumps else []
    with pytest.raises(InputError) as refused:
        open_model(str(plain), max_seq_length=24)
    for line in (*said, str(refused.value)):
        assert "is not a file of tensors, it holds other Python objects: take the version of the model in safet" in line
        assert "weights_only" not in line


def test_tensors_that_are_not_there_beside_an_adapter(plain, tmp_path):
    """Where a directory holds both, transformers reports what the adapter lacks."""
    peft_model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(plain), LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["up_proj"])
    )
    peft_model.save_pretrained(tmp_path / "lora")
    for file in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copy(tmp_path / "lora" / file, plain / file)
    open_model(str(plain), max_seq_length=24)
    change(plain, without(LAYER))
    assert all(f"model.{LAYER} for one" in said for said in refusals(plain))


@pytest.mark.parametrize(
    "open_", [open_sentence_transformer, open_with_language_model, lbr_st.load, open_model, check_can_be_trained]
)
def test_a_saved_model_that_lacks_a_tensor_or_has_no_numbers(saved, open_):
    original = saved.parent / "original"
    shutil.copytree(saved, original)
    change(saved, without(LAYER))
    with pytest.raises(InputError, match=rf"lacks 1 of the \d+ tensors of the model, .*{LAYER} for one"):
        open_(str(saved))
    shutil.copytree(original, saved, dirs_exist_ok=True)
    change(saved, filled(LAYER, float("nan")))
    if open_ is not check_can_be_trained:  # which reads no numbers
        with pytest.raises(InputError, match=rf"not finite \(NaN or infinite\) in .*{LAYER}"):
            open_(str(saved))


def test_an_embedding_model_lacks_what_its_vectors_depend_on(bert):
    change(bert, without("attention.self.key.weight"))
    with pytest.raises(InputError, match=r"cannot be used: it lacks 1 of the .*, encoder.layer.0.attention.self.key"):
        open_sentence_transformer(str(bert))


def test_an_embedding_model_may_lack_what_no_vector_depends_on(bert, caplog):
    """BERT's pooler, where the pooling is a mean; and its files may have heads and old masks that nobody needs."""
    expected = SentenceTransformer(str(bert)).encode(["why"])

    def change_of(key, tensor):
        return None if "pooler" in key else (f"bert.{key}", tensor)

    change(bert, change_of)
    tensors = tensors_of(bert)
    save_file(tensors | {"cls.predictions.bias": torch.ones(3)}, bert / "model.safetensors", metadata={"format": "pt"})
    with caplog.at_level(logging.INFO):
        assert (open_sentence_transformer(str(bert)).encode(["why"]) == expected).all()
    assert not [record for record in caplog.records if "tensors" in record.getMessage()]


def test_tensors_that_the_model_has_no_place_for_are_named(plain, bert, caplog):
    for folder, key in ((plain, "model.layers.2.mlp.down_proj.weight"), (bert, "encoder.layer.7.output.dense.bias")):
        tensors = tensors_of(folder)
        save_file(tensors | {key: torch.ones(3)}, folder / "model.safetensors", metadata={"format": "pt"})
    open_model(str(plain), max_seq_length=24)
    open_sentence_transformer(str(bert))
    for name, key in ((plain, "model.layers.2.mlp.down_proj"), (bert, "encoder.layer.7.output.dense.bias")):
        assert (
            f"{name}: 1 of the tensors in its files have no place in the model and are not read, {key}" in caplog.text
        )


def test_a_reranker_that_lacks_its_head(tmp_path):
    folder = make_reranker(tmp_path)
    open_cross_encoder(str(folder))
    change(folder, without("classifier.weight"))
    with pytest.raises(InputError, match="--reranker .* lacks 1 of the .*, classifier.weight for one"):
        open_cross_encoder(str(folder))


def make_reranker(tmp_path):
    bert = Path(make_bert(tmp_path / "of_words")).parent
    shutil.rmtree(bert / "st")
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = json.loads((bert / "config.json").read_text())
    model = BertForSequenceClassification(BertConfig(vocab_size=config["vocab_size"], num_labels=1, **shape))
    model.save_pretrained(bert)
    return bert


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            BertConfig(),
            "'bert', an encoder, which reads a text both ways: .* makes an embedding model of it for lbr align",
        ),
        (RobertaConfig(), "'roberta', an encoder, which reads a text both ways"),
        (
            DistilBertConfig(),
            "'distilbert', an encoder, which reads a text both ways: a causal language model is needed",
        ),
        (T5Config(), "'t5', an encoder-decoder: a causal language model is needed"),
        (BartConfig(), "'bart', an encoder-decoder"),
        (WhisperConfig(), "'whisper', a model of sound"),
    ],
)
def test_what_is_no_causal_language_model(plain, config, message):
    config.save_pretrained(plain)
    assert all(re.search(message, said) for said in refusals(plain))


def test_an_encoder_that_is_an_embedding_model_already(bert):
    with pytest.raises(InputError, match=f"an encoder, .* is needed; lbr align --model {bert} trains it as it is"):
        open_model(str(bert), max_seq_length=24)


def test_an_encoder_that_was_made_a_decoder_is_one(plain):
    BertConfig(is_decoder=True).save_pretrained(plain)
    with pytest.raises(InputError, match="lacks .* of the .* tensors"):
        check_can_be_trained(str(plain))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_numbers_that_are_none(plain, bert, value):
    change(plain, filled("embed_tokens", value))
    with pytest.raises(InputError, match=r"not finite \(NaN or infinite\) in model.embed_tokens.weight: its files are"):
        open_model(str(plain), max_seq_length=24)
    change(bert, filled("output.LayerNorm.bias", value))
    with pytest.raises(InputError, match="cannot be used: it has numbers that are not finite"):
        open_sentence_transformer(str(bert))


def test_numbers_whose_sum_is_none_are_numbers():
    layer = torch.nn.Linear(4, 4)
    layer.weight.data[:] = 3e38
    check_finite("it", layer)


def test_vectors_that_are_no_numbers_in_half_precision(bert, tmp_path):
    change(
        bert,
        lambda key, tensor: (key, tensor * 4e4 if "LayerNorm.weight" in key else tensor),
    )
    model = open_sentence_transformer(str(bert))
    check_vectors(model)
    with pytest.raises(InputError, match="its vectors are not finite .* in float16"):
        check_vectors(model.half())
    (tmp_path / "docs.txt").write_text("why\n")
    config = EncodeConfig(
        model=str(bert), data=[str(tmp_path / "docs.txt")], output_dir=tmp_path / "out", dtype="float16"
    )
    with pytest.raises(InputError, match="--dtype float16: its vectors are not finite"):
        encode_corpus(config)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "open_it",
    [open_model, open_sentence_transformer, open_with_language_model],
    ids=["to train", "to encode", "to inspect"],
)
def test_numbers_that_overflow_in_a_layer_and_give_the_vector_zero(saved, plain, open_it):
    """Each weight is finite, and the norm at the end divides by infinity."""
    change(saved, lambda key, tensor: (key, tensor * 1e30 if LAYER in key else tensor))
    assert SentenceTransformer(str(saved)).encode("word").tolist() == [0.0] * 32
    with pytest.raises(InputError, match=rf"{saved} cannot be used: its vectors are zero in float32: .*; lbr verify"):
        open_it(str(saved))
    if open_it is open_model:
        change(plain, lambda key, tensor: (key, tensor * 1e30 if LAYER in key else tensor))
        with pytest.raises(InputError, match=rf"{plain} cannot be used: its vectors are zero"):
            open_model(str(plain), max_seq_length=24)


def test_a_model_of_words_need_not_know_the_first_one():
    model = SentenceTransformer(modules=[BoW(["blood", "iron"])])
    assert not model.encode("word").any()
    check_vectors(model)


@pytest.mark.parametrize("bin_", [False, True])
@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int16, torch.float8_e4m3fn])
def test_weights_that_are_integers_or_scaled(plain, bert, dtype, bin_):
    for folder in (plain, bert):
        change(folder, as_type(dtype), bin_)
        with pytest.raises(InputError, match="cannot be used: .* tensors are no floating-point numbers, .* of type "):
            check_model_exists(str(folder))
    with pytest.raises(InputError, match="are no floating-point numbers"):
        lbr_st.from_backbone(str(plain), max_seq_length=24)


def test_integers_that_are_no_weights_are_in_order(plain, tmp_path):
    """Masks and positions, as GPT-2 and BERT were saved with; and those of a model that says how it is quantized."""
    folder = Path(make_backbone(tmp_path / "gpt2", family="gpt2"))
    tensors = tensors_of(folder)
    masks = {"transformer.h.0.attn.bias": torch.ones(1, 1, 8, 8, dtype=torch.uint8), "position_ids": torch.arange(8)}
    save_file(tensors | masks, folder / "model.safetensors", metadata={"format": "pt"})
    check_can_be_trained(str(folder))
    change(plain, as_type(torch.int8))
    edit(plain, quantization_config={"quant_method": "bitsandbytes", "load_in_8bit": True})
    with pytest.raises(InputError, match=r"is quantized by bitsandbytes \(8 bits\)"):
        check_can_be_trained(str(plain))


def test_a_quantization_without_a_method(plain):
    edit(plain, quantization_config={})
    assert all("is quantized by a method it does not name" in said for said in refusals(plain))


@pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json", "config.json"])
def test_pointers_of_git_lfs(plain, saved, file):
    for folder in (plain, saved):
        (folder / file).write_text(POINTER)
        with pytest.raises(InputError, match=f"{file}: is a Git LFS pointer, .*: git lfs pull fetches it"):
            check_model_exists(str(folder))
    with pytest.raises(VerificationError, match=f"^{file}: is a Git LFS pointer"):
        list(verify(saved))


def test_files_of_weights_that_are_not_whole(plain):
    tensors = tensors_of(plain)
    whole = (plain / "model.safetensors").read_bytes()
    (plain / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="model.safetensors: not whole: .*; download or copy it again"):
        check_can_be_trained(str(plain))
    (plain / "model.safetensors").unlink()
    for there, remedy in (
        ("model-00001-of-00002.safetensors", "model.safetensors.index.json, which names the parts, is missing"),
        ("model.safetensors.incomplete", "was not downloaded to its end"),
        ("__0_0.distcp", "accelerate merge-weights"),
        ("notes.txt", "there is no model.safetensors$"),
    ):
        (plain / there).touch()
        with pytest.raises(InputError, match=f"has no weights: .*{remedy}"):
            check_can_be_trained(str(plain))
        (plain / there).unlink()
    torch.save(tensors, plain / "pytorch_model.bin")
    check_can_be_trained(str(plain))
    whole = (plain / "pytorch_model.bin").read_bytes()
    (plain / "pytorch_model.bin").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="pytorch_model.bin: not whole: its end is missing"):
        check_can_be_trained(str(plain))
    index = plain / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": dict.fromkeys(tensors, "model-00001-of-00002.safetensors")}))
    with pytest.raises(InputError, match="cannot be used: model-00001-of-00002.safetensors: missing"):
        check_can_be_trained(str(plain))
    index.write_text("{")
    with pytest.raises(InputError, match="index.json: names no files of weights"):
        check_can_be_trained(str(plain))


def test_files_in_the_form_before_torch_1_6_are_opened(plain):
    tensors = tensors_of(plain)
    (plain / "model.safetensors").unlink()
    torch.save(tensors, plain / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    assert read_tensors(plain / "pytorch_model.bin") == {}
    check_can_be_trained(str(plain))
    open_model(str(plain), max_seq_length=24)


def test_shapes_that_the_configuration_does_not_say(plain, bert):
    edit(plain, vocab_size=9999)
    assert all("model.embed_tokens.weight of shape " in said and " of 9999 x 32 by" in said for said in refusals(plain))
    edit(bert, vocab_size=9999)
    with pytest.raises(
        InputError, match="word_embeddings.weight of shape .* in its files, and of 9999 x 16 by its conf"
    ):
        open_sentence_transformer(str(bert))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dtype": "float8_e4m3fn"}, "its config.json says dtype float8_e4m3fn, in which nothing is trained"),
        ({"hidden_act": "silo"}, "transformers makes no model of its config.json (it knows no hidden_act 'silo')"),
        (
            {"rope_parameters": {"rope_type": "linaer", "rope_theta": 1e4}},
            "no model of its config.json (it knows no rope_type 'linaer')",
        ),
        ({"dtype": "float17"}, "its config.json cannot be used: module 'torch' has no attribute 'float17'"),
        ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4}}, "config.json cannot be used: Missing required"),
        ({"model_type": "frobnicate"}, "knows no model type 'frobnicate'; does a newer one?"),
    ],
)
def test_configurations_that_give_no_model_are_refused_before_data_are_read(plain, changes, message):
    edit(plain, **changes)
    with pytest.raises(InputError) as refused:
        check_can_be_trained(str(plain))
    assert message in str(refused.value)


def test_a_vocabulary_that_is_not_there(plain, bert):
    (plain / "tokenizer.json").write_text("{")
    assert all("a file of its tokenizer is no JSON (Expecting property name" in said for said in refusals(plain))
    (plain / "tokenizer.json").unlink()
    assert all("the files of its tokenizer are missing, tokenizer.json or another" in said for said in refusals(plain))
    edit(plain, "tokenizer_config.json", tokenizer_class="QWenTokenizer")
    assert all("the files of its tokenizer are missing, tokenizer.json or another" in said for said in refusals(plain))


def test_an_adapter_without_weights(plain, tmp_path):
    about = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": str(plain)}
    (tmp_path / "lora").mkdir()
    (tmp_path / "lora" / "adapter_config.json").write_text(json.dumps(about))
    assert all(
        "is an adapter without weights: there is no adapter_model" in said for said in refusals(tmp_path / "lora")
    )
    (tmp_path / "lora" / "adapter_model.safetensors").write_text(POINTER)
    assert all("is a Git LFS pointer" in said for said in refusals(tmp_path / "lora"))


def test_an_adapter_named_as_its_own_base(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("lora").mkdir()
    save_file({"base_model.model.a": torch.ones(1)}, "lora/adapter_model.safetensors")
    about = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": "lora"}
    Path("lora", "adapter_config.json").write_text(json.dumps(about))
    assert all("lora is an adapter on itself" in said for said in refusals("lora"))


def test_what_has_no_modules_says_what_makes_them(plain, saved, tmp_path):
    """By its kind: what is offered can be done with it."""
    for folder in ("encoder", "both", "adapter"):
        (tmp_path / folder).mkdir()
    BertConfig().save_pretrained(tmp_path / "encoder")
    (tmp_path / "reranker").mkdir()
    BertConfig(architectures=["BertForSequenceClassification"]).save_pretrained(tmp_path / "reranker")
    T5Config().save_pretrained(tmp_path / "both")
    (tmp_path / "adapter" / "adapter_config.json").write_text("{}")
    for name, kind, remedy in (
        (plain, "a language model", "lbr learn and lbr align make one of it"),
        (tmp_path / "encoder", "an encoder, which reads a text both ways", "SentenceTransformer("),
        (
            tmp_path / "reranker",
            "a classifier or a reranker, whose head gives scores in the place of words",
            "where a command takes one it is its --reranker",
        ),
        (tmp_path / "both", "an encoder-decoder", "SentenceTransformer("),
        (tmp_path / "adapter", "an adapter", "lbr align --model"),
    ):
        for refuse in (open_sentence_transformer, check_embedder_exists):
            with pytest.raises(
                InputError, match=f"^--model {name} is {kind}, not an embedding model.*; {re.escape(remedy)}"
            ):
                refuse(str(name))
    (saved / "modules.json").unlink()
    with pytest.raises(InputError, match="was saved by lbr-st, and its modules.json is missing; copy it whole again"):
        open_sentence_transformer(str(saved))


def test_a_half_copied_model_is_refused_before_data_are_read(saved):
    """Whatever file is missing: no weights are read for that."""
    for file in (
        "1_Pooling/config.json",
        "lbr_config.json",
        "tokenizer_config.json",
        "config_sentence_transformers.json",
    ):
        whole = (saved / file).read_bytes()
        (saved / file).unlink()
        for refuse in (check_embedder_exists, check_can_be_trained, open_sentence_transformer):
            with pytest.raises(InputError, match=f"^--model {saved} .*{file}"):
                refuse(str(saved))
        (saved / file).write_bytes(whole)
    check_embedder_exists(str(saved))
    check_can_be_trained(str(saved))


def test_weights_that_torch_did_not_save(plain):
    (plain / "model.safetensors").unlink()
    (plain / "pytorch_model.bin").write_text("hi")
    with pytest.raises(InputError, match="pytorch_model.bin: not whole: torch saved no such file; download or copy it"):
        check_can_be_trained(str(plain))


def test_a_tokenizer_without_a_token_to_pad_with(plain):
    edit(plain, "tokenizer_config.json", pad_token=None, eos_token=None)
    with pytest.raises(InputError, match="needs a token to pad with: set pad_token or eos_token in its tokenizer_conf"):
        check_can_be_trained(str(plain))


def test_code_of_its_own_is_not_run(bert):
    modules = json.loads((bert / "modules.json").read_text())
    modules[1]["type"] = "my_package.MyPooling"
    (bert / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(
        InputError, match="cannot be opened: its code is not in transformers .*, and lbr runs no such code"
    ):
        open_sentence_transformer(str(bert))


def test_a_family_that_takes_no_mask():
    config = MambaConfig(vocab_size=64, hidden_size=16, num_hidden_layers=2, state_size=4)
    with pytest.raises(
        InputError, match="it takes no mask that says what each token sees, as recurrent layers and ALiBi take none$"
    ):
        check_no_leak(MambaForCausalLM(config))


def test_transformers_opens_as_before_afterwards(plain):
    before = vars(PreTrainedModel)["from_pretrained"]
    with pytest.raises(ZeroDivisionError), recorded() as opened:
        model = AutoModelForCausalLM.from_pretrained(plain)
        assert opened[0][0] is model
        _, report = AutoModelForCausalLM.from_pretrained(plain, output_loading_info=True)
        assert not report["missing_keys"]
        raise ZeroDivisionError
    assert vars(PreTrainedModel)["from_pretrained"] is before
