"""A saved model proves itself, and a damaged one is refused with the file and the reason."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import make_backbone
from safetensors.torch import load_file, save_file

import lbr_st
from lbr_st.cli import main as cli
from lbr_st.errors import InputError
from lbr_st.model import verify
from lbr_st.model.contract import VerificationError


@pytest.fixture(scope="module")
def portable(tmp_path_factory):
    folder = tmp_path_factory.mktemp("portable")
    backbone = make_backbone(folder / "backbone", family="llama", tied=False)
    model = lbr_st.from_backbone(backbone, num_bottleneck_tokens=2, max_seq_length=24)
    lbr_st.save(model, folder / "model")
    return folder / "model"


@pytest.fixture(scope="module")
def native(tmp_path_factory):
    folder = tmp_path_factory.mktemp("native")
    backbone = make_backbone(folder / "backbone")
    lbr_st.save(lbr_st.from_backbone(backbone, compression_ratio=5, max_seq_length=24), folder / "model")
    return folder / "model"


def copy(source, folder):
    shutil.copytree(source, folder / "model")
    return folder / "model"


def edit(path, change):
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def run(folder):
    return list(verify.verify(folder, device="cpu"))


def test_a_line_for_each_check(portable, native, capsys):
    cli.main(["verify", str(portable)])
    lines = capsys.readouterr().out.splitlines()
    assert all(line.startswith("ok    ") for line in lines[:-1])
    assert lines[-1].startswith(f"{portable} keeps its promises. next: lbr publish push --model {portable}")
    checks = ["modules.json", "1_Pooling", "tokenizer.json", "weights", "read-out", "batches", "by hand", "module"]
    assert all(any(line.startswith(f"ok    {check}:") for line in lines) for check in checks)
    assert any("last" in line and "vLLM" in line for line in lines)
    assert any("native layout" in line for line in run(native))


def test_first_failing_input_and_exit_code(portable, tmp_path, capsys):
    folder = copy(portable, tmp_path)
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"] = weights["model.norm.weight"] * float("nan")
    forget_reference(folder)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(SystemExit) as stop:
        cli.main(["verify", str(folder)])
    assert stop.value.code == 1
    assert capsys.readouterr().out.splitlines()[-1] == "FAIL  input '': its vector is not finite"


DAMAGES = {
    # file: what is done to it, and what is said of it
    "truncated weights": (
        lambda d: (d / "model.safetensors").write_bytes((d / "model.safetensors").read_bytes()[:-100]),
        "model.safetensors: not whole: ",
    ),
    "no weights": (lambda d: (d / "model.safetensors").unlink(), "model.safetensors: missing"),
    "a pickle": (lambda d: (d / "pytorch_model.bin").write_bytes(b""), "pytorch_model.bin: weights must be whole"),
    "an adapter": (lambda d: (d / "adapter_config.json").write_text("{}"), "adapter_config.json: weights must be"),
    "a stray file": (
        lambda d: shutil.copy(d / "model.safetensors", d / "old.safetensors"),
        "old.safetensors: weights must be whole",
    ),
    "a stray shard": (
        lambda d: shutil.copy(d / "model.safetensors", d / "model-00001-of-00002.safetensors"),
        "model-00001-of-00002.safetensors: belongs to no model here",
    ),
    "not JSON": (
        lambda d: (d / "config.json").write_text('{\n"a": 1,,}'),
        "config.json, line 2, column 8: not JSON",
    ),
    "a list": (lambda d: (d / "tokenizer_config.json").write_text("[1]"), "tokenizer_config.json: is a list"),
    "a pooling that is a list": (
        lambda d: (d / "1_Pooling/config.json").write_text("[1]"),
        "1_Pooling/config.json: is a list",
    ),
    "a field nobody knows": (
        lambda d: edit(d / "lbr_config.json", lambda c: c.update(k=3)),
        "lbr_config.json: has k, which this version",
    ),
    "a history that is none": (
        lambda d: edit(d / "lbr_config.json", lambda c: c.update(history="x")),
        "lbr_config.json: history is 'x', where list is expected",
    ),
    "a length that is a switch": (
        lambda d: edit(d / "lbr_config.json", lambda c: c.update(max_seq_length=True)),
        "lbr_config.json: max_seq_length is True, where int is expected",
    ),
    "a ratio that is a word": (
        lambda d: edit(d / "lbr_config.json", lambda c: c.update(compression_ratio="x")),
        "lbr_config.json: compression_ratio is 'x'",
    ),
    "a ratio in the wrong layout": (
        lambda d: edit(d / "lbr_config.json", lambda c: c.update(compression_ratio=5)),
        "lbr_config.json: has a compression_ratio, which the portable layout cannot keep to",
    ),
    "a token between the text and the bottleneck": (
        lambda d: edit(
            d / "tokenizer.json",
            lambda t: t["post_processor"]["processors"][1]["single"].insert(
                2, {"SpecialToken": {"id": "<s>", "type_id": 0}}
            ),
        ),
        "tokenizer.json: its template for a single text has {'SpecialToken'",
    ),
    "no token to pad with": (
        lambda d: edit(d / "config.json", lambda c: c.update(pad_token_id=None)),
        "config.json: pad_token_id is None, where int is expected",
    ),
    "not UTF-8": (lambda d: (d / "config.json").write_bytes(b"\xff{}"), "config.json: not UTF-8"),
    "an unknown kind of positions": (
        lambda d: edit(d / "config.json", lambda c: c["rope_parameters"].update(rope_type="defaul")),
        "config.json: transformers makes no model of it (KeyError: 'defaul')",
    ),
    "an unknown activation": (
        lambda d: edit(d / "config.json", lambda c: c.update(hidden_act="ulis")),
        "config.json: transformers makes no model of it (KeyError: 'ulis')",
    ),
    "no configuration": (lambda d: (d / "config.json").unlink(), "config.json: missing"),
    "an unknown model type": (
        lambda d: edit(d / "config.json", lambda c: c.update(model_type="none")),
        "config.json: transformers cannot read it (ValueError",
    ),
    "no tokenizer": (lambda d: (d / "tokenizer.json").unlink(), "tokenizer.json: missing"),
    "no pooling": (lambda d: (d / "1_Pooling/config.json").unlink(), "1_Pooling/config.json: missing"),
    "no lbr_config": (lambda d: (d / "lbr_config.json").unlink(), "lbr_config.json: missing, so it was not saved"),
    "wrong vocabulary size": (
        lambda d: edit(d / "config.json", lambda c: c.update(vocab_size=400)),
        "model.safetensors: model.embed_tokens.weight has shape [323, 32], config.json a vocab_size of 400",
    ),
    "small vocabulary size": (
        lambda d: edit(d / "config.json", lambda c: c.update(vocab_size=300)),
        "config.json: vocab_size is 300, but the bottleneck token ids",
    ),
    "ids of another model": (
        lambda d: edit(d / "lbr_config.json", lambda c: c.update(bottleneck_token_ids=[1, 2])),
        "tokenizer.json: '<|bottleneck 0|>' has id 321, lbr_config.json has 1",
    ),
    "ids that are none": (
        lambda d: edit(d / "lbr_config.json", lambda c: c.update(bottleneck_token_ids=[-1])),
        "lbr_config.json: bottleneck_token_ids are [-1]",
    ),
    "ids out of range in the template": (
        lambda d: edit(
            d / "tokenizer.json",
            lambda t: t["post_processor"]["processors"][1]["special_tokens"]["<|bottleneck 1|>"].update(ids=[9999]),
        ),
        "tokenizer.json: its template for a single text ends with ids [321, 9999], not with [321, 322]",
    ),
    "a template for pairs without them": (
        lambda d: edit(d / "tokenizer.json", lambda t: t["post_processor"]["processors"][1]["pair"].pop()),
        "tokenizer.json: its template for a pair text ends with ids",
    ),
    "no template": (
        lambda d: edit(d / "tokenizer.json", lambda t: t["post_processor"]["processors"].pop()),
        "tokenizer.json: has no template",
    ),
    "tokens a text can spell": (
        lambda d: edit(d / "tokenizer.json", lambda t: t.update(pre_tokenizer=None, normalizer=None)),
        "tokenizer.json: a text could spell",
    ),
    "a token beyond the vocabulary": (
        lambda d: edit(d / "tokenizer.json", lambda t: t["model"]["vocab"].update({"zzz": 5000})),
        "tokenizer.json: has a token id 5000, config.json a vocab_size of 323",
    ),
    "an edited pooling": (
        lambda d: edit(d / "1_Pooling/config.json", lambda c: c.update(pooling_mode_mean_tokens=True)),
        "1_Pooling/config.json: pooling_mode_mean_tokens is True, not False",
    ),
    "a pooling in another order": (
        lambda d: (d / "1_Pooling/config.json").write_text(
            json.dumps(dict(reversed(json.loads((d / "1_Pooling/config.json").read_text()).items())))
        ),
        "1_Pooling/config.json: include_prompt comes before pooling_mode_lasttoken",
    ),
    "a pooling in the new form": (
        lambda d: edit(d / "1_Pooling/config.json", lambda c: c.update(pooling_mode="lasttoken")),
        "1_Pooling/config.json: has pooling_mode, which sentence-transformers 3 refuses",
    ),
    "a pooling of another width": (
        lambda d: edit(d / "1_Pooling/config.json", lambda c: c.update(word_embedding_dimension=64)),
        "1_Pooling/config.json: word_embedding_dimension is 64, config.json has 32",
    ),
    "no Normalize": (lambda d: edit(d / "modules.json", lambda m: m.pop()), "modules.json: has no module"),
    "another length": (
        lambda d: edit(d / "sentence_bert_config.json", lambda c: c.update(max_seq_length=512)),
        "sentence_bert_config.json: max_seq_length is 512, lbr_config.json has 24",
    ),
    "a key servers need": (
        lambda d: edit(d / "sentence_bert_config.json", lambda c: c.pop("do_lower_case")),
        "sentence_bert_config.json: do_lower_case is None, where bool is expected",
    ),
    "bidirectional": (
        lambda d: edit(d / "config.json", lambda c: c.update(is_causal=False)),
        "config.json: is_causal is False, not True",
    ),
    "another rotation": (
        lambda d: edit(d / "config.json", lambda c: c.update(rope_theta=5.0)),
        "config.json: rope_theta is 5.0, in rope_parameters 10000.0",
    ),
    "code to run": (
        lambda d: edit(d / "config.json", lambda c: c.update(auto_map={"AutoModel": "x.Y"})),
        "config.json: has an auto_map",
    ),
    "a class that rebuilds": (
        lambda d: edit(d / "tokenizer_config.json", lambda c: c.update(tokenizer_class="LlamaTokenizer")),
        "tokenizer_config.json: tokenizer_class is 'LlamaTokenizer'",
    ),
    "inputs of its own": (
        lambda d: edit(d / "tokenizer_config.json", lambda c: c.pop("model_input_names")),
        "tokenizer_config.json: model_input_names are None",
    ),
    "padding with the bottleneck": (
        lambda d: edit(d / "tokenizer_config.json", lambda c: c.update(pad_token="<|bottleneck 1|>")),
        "tokenizer_config.json: pad_token is '<|bottleneck 1|>'",
    ),
    "a prompt that is no text": (
        lambda d: edit(d / "config_sentence_transformers.json", lambda c: c["prompts"].update(query=3)),
        "config_sentence_transformers.json: the prompt 'query' is 3",
    ),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_refused_with_file_and_reason(portable, tmp_path, damage):
    change, message = DAMAGES[damage]
    folder = copy(portable, tmp_path)
    change(folder)
    with pytest.raises(VerificationError) as refused:
        run(folder)
    assert str(refused.value).startswith(message), refused.value
    with pytest.raises(InputError) as refused_to_load:
        lbr_st.load(str(folder))
    assert str(refused_to_load.value) == f"{folder} cannot be loaded: {refused.value}"


@pytest.mark.parametrize("field", ["num_attention_heads", "rms_norm_eps", "hidden_act"])
def test_an_edit_that_every_loader_follows_is_found(portable, tmp_path, field):
    """All ways of loading agree on the wrong vectors; those written down at the save do not."""
    folder = copy(portable, tmp_path)
    other = {"num_attention_heads": 2, "rms_norm_eps": 0.5, "hidden_act": "relu"}[field]
    edit(folder / "config.json", lambda c: c.update({field: other, "head_dim": 8}))
    if field == "num_attention_heads":
        edit(folder / "config.json", lambda c: c.update(head_dim=16, num_key_value_heads=1))
    with pytest.raises(VerificationError, match="differs from the one written down in lbr_reference.json"):
        run(folder)


def test_one_changed_number_in_the_weights_is_found(portable, tmp_path):
    """In the row of a token that no text of the checks has."""
    folder = copy(portable, tmp_path)
    weights = load_file(folder / "model.safetensors")
    weights["model.embed_tokens.weight"][200, 5] += 1
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(VerificationError, match="^model.safetensors: is not the file that was saved: its SHA-256"):
        run(folder)


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("config_sentence_transformers.json", lambda c: c["prompts"].update(query="find: ")),
        ("config_sentence_transformers.json", lambda c: c.update(default_prompt_name="query")),
        ("lbr_config.json", lambda c: c["history"].append({"stage": "learn"})),
        ("generation_config.json", lambda c: c.update(max_length=3)),
        ("2_Normalize/config.json", lambda c: c.update(more=1)),
    ],
)
def test_a_change_that_no_vector_of_the_checks_shows_is_found(portable, tmp_path, file, change):
    folder = copy(portable, tmp_path)
    edit(folder / file, change)
    with pytest.raises(VerificationError, match=f"^{file}: is not the file that was saved: its SHA-256"):
        run(folder)


def test_a_word_that_no_text_of_the_checks_has_is_found(portable, tmp_path):
    """Two words of the vocabulary change places: only texts that have them get other vectors."""
    folder = copy(portable, tmp_path)

    def swap(tokenizer):
        vocabulary = tokenizer["model"]["vocab"]
        vocabulary["Ġblood"], vocabulary["Ġpressure"] = vocabulary["Ġpressure"], vocabulary["Ġblood"]

    edit(folder / "tokenizer.json", swap)
    with pytest.raises(VerificationError, match="^tokenizer.json: is not the file that was saved"):
        run(folder)


@pytest.mark.parametrize("file", ["added_tokens.json", "special_tokens_map.json", "merges.txt"])
def test_a_file_beside_the_tokenizer_is_found(portable, tmp_path, file):
    """transformers reads it: a word is then a token that the model has no row for."""
    folder = copy(portable, tmp_path)
    content = {"added_tokens.json": '{"blood": 7}', "special_tokens_map.json": "{}"}.get(file, "#version: 0.2\n")
    (folder / file).write_text(content)
    with pytest.raises(VerificationError, match=f"^{file}: was not saved with the model"):
        run(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: (d / "2_Normalize/config.json").write_bytes(b"\xff{}"), "2_Normalize/config.json: not UTF-8"),
        (lambda d: (d / "2_Normalize/config.json").write_text("[]"), "2_Normalize/config.json: is a list"),
        (
            lambda d: [(d / "config.json").unlink(), (d / "config.json").mkdir()],
            "config.json: cannot be read: Is a dir",
        ),
        (
            lambda d: edit(d / "1_Pooling/config.json", lambda c: c.update(pooling_mode_=c.pop("pooling_mode"))),
            "1_Pooling/config.json: the check 'loading' ended with TypeError",
        ),
    ],
)
def test_what_stops_a_check_is_named_by_its_file(native, tmp_path, change, message):
    folder = copy(native, tmp_path)
    change(folder)
    with pytest.raises(VerificationError) as refused:
        run(folder)
    assert str(refused.value).startswith(message), refused.value


def test_a_file_that_went_missing_is_named(portable, tmp_path):
    folder = copy(portable, tmp_path)
    (folder / "generation_config.json").unlink()
    with pytest.raises(VerificationError, match="^generation_config.json: missing"):
        run(folder)


def forget_reference(folder):
    (folder / "lbr_reference.json").unlink()


@pytest.mark.parametrize("content", [[1], {}, {"sha256": {}}, {"sha256": {}, "vectors": {"": 3}}])
def test_a_damaged_reference_is_refused(portable, tmp_path, content):
    folder = copy(portable, tmp_path)
    (folder / "lbr_reference.json").write_text(json.dumps(content))
    with pytest.raises(VerificationError, match="lbr_reference.json|the check 'reference' ended with"):
        run(folder)


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("AutoModel", "its vector with AutoModel by hand differs"),
        ("AutoModelForCausalLM", "its vector with the module of lbr_st differs"),
    ],
)
def test_ways_of_loading_that_disagree_are_found(portable, monkeypatch, method, message):
    load = getattr(verify, method).from_pretrained

    def change(*args, **kwargs):
        loaded = load(*args, **kwargs)
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        with torch.no_grad():
            model.base_model.norm.weight[0] += 1
        return loaded

    monkeypatch.setattr(verify, method, SimpleNamespace(from_pretrained=change))
    with pytest.raises(VerificationError, match=message):
        run(portable)


def test_vectors_of_another_length_are_found(portable, monkeypatch):
    encode = verify.SentenceTransformer.encode
    monkeypatch.setattr(verify.SentenceTransformer, "encode", lambda *args, **kwargs: 2 * encode(*args, **kwargs))
    with pytest.raises(VerificationError, match="its vector has length 2.000000, not 1"):
        run(portable)


@pytest.mark.parametrize("side", ["right", "left"])
def test_vectors_that_depend_on_the_padding_are_found(portable, monkeypatch, side):
    encode = verify.SentenceTransformer.encode

    def depend(self, texts, batch_size, **kwargs):
        moved = batch_size > 1 and self.tokenizer.padding_side == side
        return encode(self, texts, batch_size=batch_size, **kwargs) + moved * 1e-3

    monkeypatch.setattr(verify.SentenceTransformer, "encode", depend)
    with pytest.raises(VerificationError, match=f"its vector in a batch padded on the {side} differs by 0.0057"):
        run(portable)


def test_what_any_part_of_the_stack_says_is_a_failed_check(portable, monkeypatch):
    def broken(*args, **kwargs):
        raise KeyError("inner")

    monkeypatch.setattr(verify.SentenceTransformer, "preprocess", broken)
    with pytest.raises(VerificationError, match="the check 'read-out' ended with KeyError: 'inner'"):
        run(portable)


def test_a_lost_tensor_is_found_though_loading_only_warns(portable, tmp_path):
    """transformers fills it with random numbers."""
    folder = copy(portable, tmp_path)
    weights = load_file(folder / "model.safetensors")
    del weights["lm_head.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(VerificationError, match="^weights: missing keys: lm_head.weight"):
        run(folder)


def test_shards_are_checked_against_their_index(portable, tmp_path):
    folder = copy(portable, tmp_path)
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names, files = sorted(weights), ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    for file, half in zip(files, (names[::2], names[1::2]), strict=True):
        save_file({name: weights[name] for name in half}, folder / file, metadata={"format": "pt"})
    index = {"metadata": {}, "weight_map": {name: files[n % 2] for n, name in enumerate(names)}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    forget_reference(folder)
    assert any("reference: there is no lbr_reference.json" in line for line in run(folder))
    index["weight_map"]["model.lost.weight"] = files[0]
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(VerificationError, match="model.safetensors.index.json: names model.lost.weight"):
        run(folder)
    (folder / files[1]).unlink()
    with pytest.raises(VerificationError, match=f"{files[1]}: missing"):
        run(folder)


def test_a_tokenizer_that_moves_the_read_out_is_found(portable, tmp_path, monkeypatch):
    """Whatever the files say, the texts are read: here a maximum length that truncation ignores."""
    model = verify.SentenceTransformer(str(portable))
    read = type(model).preprocess

    def lose_the_last(self, inputs, **kwargs):
        batch = read(self, inputs, **kwargs)
        batch["attention_mask"][:, -1] = 0
        return batch

    monkeypatch.setattr(verify.SentenceTransformer, "preprocess", lose_the_last)
    with pytest.raises(
        VerificationError, match=r"input '.*' \(padding right, prompt '', at most 24 tokens\): does not"
    ):
        run(portable)


def test_a_model_other_than_the_one_in_memory_is_found(portable):
    model = lbr_st.load(str(portable), device="cpu")
    with torch.no_grad():
        model[0].model.base_model.norm.weight[0] += 1
    with pytest.raises(VerificationError, match="its vector of the model it was saved from differs by"):
        list(verify.verify(portable, in_memory=model, device="cpu"))


@pytest.mark.whole_run
def test_half_precision_is_verified_with_its_own_tolerance(backbone, tmp_path):
    model = lbr_st.from_backbone(backbone, max_seq_length=24, dtype=torch.bfloat16)
    lbr_st.save(model, tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["dtype"] == "bfloat16"


def test_no_directory(tmp_path):
    with pytest.raises(VerificationError, match="nowhere: no such directory"):
        run(tmp_path / "nowhere")


@pytest.mark.whole_run
def test_by_length_is_saved_native_and_says_so(native, caplog, tmp_path):
    model = lbr_st.load(str(native))
    with caplog.at_level("INFO", logger="lbr_st"):
        lbr_st.save(model, tmp_path)
    assert "in the native layout, as the number of bottleneck tokens follows the length" in caplog.text
    assert "trust_remote_code=True" in caplog.text
    again = verify.SentenceTransformer(str(tmp_path), trust_remote_code=True, device="cpu")
    assert again[0].compression_ratio == 5
    texts = ["", "one", "Salt, weight and age raise blood pressure; so does stress."]
    assert np.abs(again.encode(texts) - model.encode(texts)).max() < 1e-6
