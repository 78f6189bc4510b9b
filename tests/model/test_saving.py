"""The same model in memory, in both layouts on disk, by hand, and where this package is not installed."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import FAMILIES, PACKAGE, TEXTS, make_backbone
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from transformers import AutoModel, AutoTokenizer

import lbr_st
from lbr_st.errors import InputError
from lbr_st.model.verify import LONG, REFERENCE_TEXTS, verify

INPUTS = ["", "one", "blood pressure " * 100, "<|bottleneck 1|> spelled out", *TEXTS]

# Only stock classes, and no lbr_st: an import of it fails.
STOCK_PROCESS = """
import json, sys
sys.modules["lbr_st"] = None
import numpy as np, torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from transformers import AutoModelForCausalLM
texts, folders = json.loads(sys.argv[1])
for folder in folders:
    model = SentenceTransformer(folder, device="cpu")
    found = {}
    for side in ("right", "left"):
        model.tokenizer.padding_side = side
        found[side] = model.encode_query(texts)
        ends = [row[mask.bool()][-2:].tolist() for row, mask in
                zip(*[model.preprocess(texts)[key] for key in ("input_ids", "attention_mask")])]
        found["ends_" + side] = np.array(ends)
    ids = model.tokenizer(texts[-1], truncation=True, return_tensors="pt")["input_ids"]
    language_model = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        found["logits"] = language_model(ids).logits[0, -1].numpy()
    found["answer"] = language_model.generate(ids, max_new_tokens=4, do_sample=False)[0, ids.shape[1]:].numpy()
    np.savez(folder + "/found.npz", **found)
"""


def by_hand(path, texts, prompt=""):
    tokenizer, model = AutoTokenizer.from_pretrained(path), AutoModel.from_pretrained(path)
    vectors = []
    for text in texts:
        ids = tokenizer(prompt + text, truncation=True, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            hidden = model(ids).last_hidden_state[0, -1]
        vectors.append((hidden / hidden.norm()).numpy())
    return np.stack(vectors)


@pytest.mark.whole_run
@pytest.mark.slow
def test_every_family_in_a_process_without_this_package(tmp_path):
    """Saved, verified, then read by stock classes alone: the same vectors, logits and answers as in memory."""
    models = {}
    for family in FAMILIES:
        backbone = make_backbone(
            tmp_path / "backbone" / family, family=family, tied=family != "llama", initializer_range=0.1
        )
        model = lbr_st.from_backbone(backbone, num_bottleneck_tokens=2, max_seq_length=24).eval()
        model.prompts["query"] = "query: "
        lbr_st.save(model, tmp_path / family)
        models[family] = model
    arguments = json.dumps([INPUTS, [str(tmp_path / family) for family in models]])
    subprocess.run([sys.executable, "-c", STOCK_PROCESS, arguments], check=True, cwd=tmp_path)
    for family, model in models.items():
        saved = json.loads((tmp_path / family / "tokenizer_config.json").read_text())
        assert not {"add_bos_token", "add_eos_token"} & saved.keys()  # the template says it
        found = np.load(tmp_path / family / "found.npz")
        expected = model.encode_query(INPUTS)
        for side in ("right", "left"):
            if (family, side) != ("gpt2", "left"):  # learned positions start at the first column, padding or not
                assert np.abs(found[side] - expected).max() < 1e-6
            assert found[f"ends_{side}"].tolist() == [model[0].bottleneck_token_ids] * len(INPUTS)
        assert np.abs(by_hand(tmp_path / family, INPUTS, "query: ") - expected).max() < 1e-6
        ids = model.tokenizer(INPUTS[-1], truncation=True, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            logits = model[0].model(ids).logits[0, -1].numpy()
        assert np.abs(found["logits"] - logits).max() < 1e-5
        assert model[0].generate(INPUTS[-1:], max_new_tokens=4, do_sample=False) == [
            model.tokenizer.decode(found["answer"], skip_special_tokens=True)
        ]


# Without and with BOS, full and sliding layers.
LAYOUTS = {("qwen2", 1): [], ("qwen2", 7): pytest.mark.slow, ("gemma3", 2): []}
LAYOUTS |= {(family, k): pytest.mark.slow for family, k in (("qwen2", 2), ("gemma3", 1), ("gemma3", 7))}


@pytest.mark.whole_run
@pytest.mark.parametrize(("family", "k"), [pytest.param(*each, marks=marks) for each, marks in LAYOUTS.items()])
def test_layouts_agree(tmp_path, family, k):
    backbone = make_backbone(tmp_path / "backbone", family=family, initializer_range=0.1)
    model = lbr_st.from_backbone(backbone, num_bottleneck_tokens=k, max_seq_length=20).eval()
    lbr_st.save(model, tmp_path / "portable")
    model.save_pretrained(str(tmp_path / "native"))
    texts = [" ".join(["blood", "pressure", "is"] * 9)[:length] for length in range(0, 140, 5)]
    lengths = {len(ids) for ids in model[0].tokenize_rows(texts)}
    assert {len(model.tokenizer("")["input_ids"]), 20} < lengths  # from no text to beyond the maximum
    ways = {
        "portable": SentenceTransformer(str(tmp_path / "portable")),
        "native": SentenceTransformer(str(tmp_path / "native"), trust_remote_code=True),
        "portable, by our loader": lbr_st.load(str(tmp_path / "portable")),
        "native, by our loader": lbr_st.load(str(tmp_path / "native")),
    }
    for prompt in (None, "query: "):
        expected = by_hand(tmp_path / "portable", texts, prompt or "")
        assert np.abs(model.encode(texts, prompt=prompt) - expected).max() < 1e-6
        for other in ways.values():
            assert other.max_seq_length == 20
            for side, batch_size in (("right", 1), ("right", len(texts)), ("left", 5), ("left", len(texts))):
                other.tokenizer.padding_side = side
                assert np.abs(other.encode(texts, prompt=prompt, batch_size=batch_size) - expected).max() < 1e-6


def test_a_chat_template_does_not_turn_texts_into_messages(backbone, tmp_path):
    """Most real backbones have one, and sentence-transformers would read their inputs through it."""
    model = lbr_st.from_backbone(backbone, max_seq_length=24).eval()
    model.tokenizer.chat_template = "{% for m in messages %}<|im_start|>{{ m['content'] }}<|im_end|>{% endfor %}"
    lbr_st.save(model, tmp_path / "portable")
    portable = SentenceTransformer(str(tmp_path / "portable"))
    assert portable.tokenizer.chat_template
    assert np.abs(portable.encode(INPUTS) - model.encode(INPUTS)).max() < 1e-6


def test_portable_files(model, tmp_path):
    """What servers read, file by file."""
    model.prompts.update(query="query: ", document="doc: ")
    lbr_st.save(model, tmp_path)

    def read(name):
        return json.loads((tmp_path / name).read_text())

    assert [module["type"] for module in read("modules.json")] == [
        "sentence_transformers.models.Transformer",
        "sentence_transformers.models.Pooling",
        "sentence_transformers.models.Normalize",
    ]
    pooling = read("1_Pooling/config.json")
    assert [key for key, value in pooling.items() if value is True] == ["pooling_mode_lasttoken", "include_prompt"]
    assert pooling["pooling_mode_cls_token"] is pooling["pooling_mode_mean_tokens"] is False
    assert read("sentence_bert_config.json") == {"max_seq_length": 24, "do_lower_case": False}
    config = read("config.json")
    assert config["architectures"] == ["Qwen2ForCausalLM"]
    assert config["is_causal"] is True
    assert config["pad_token_id"] == model.tokenizer.pad_token_id
    assert read("tokenizer_config.json")["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert config["rope_theta"] == config["rope_parameters"]["rope_theta"]
    assert "auto_map" not in config
    saved = read("config_sentence_transformers.json")
    assert saved["prompts"] == {"query": "query: ", "document": "doc: "}
    assert saved["similarity_fn_name"] == "cosine"
    [weights] = tmp_path.glob("*.safetensors")
    assert weights.stat().st_mode == (tmp_path / "config.json").stat().st_mode  # readable by a server too
    assert not [
        file for file in tmp_path.rglob("*") if file.suffix in (".bin", ".pt", ".pkl") or "adapter" in file.name
    ]
    assert not list(tmp_path.glob(".filling-*"))


def test_a_default_prompt_is_not_in_the_way(model, tmp_path):
    model.prompts["query"], model.default_prompt_name = "query: ", "query"
    lbr_st.save(model, tmp_path)
    expected = model.encode(["blood"], prompt="query: ")
    for saved in (SentenceTransformer(str(tmp_path)), lbr_st.load(str(tmp_path))):
        assert saved.default_prompt_name == "query"
        assert np.abs(saved.encode(["blood"]) - expected).max() < 1e-6


@pytest.mark.parametrize("native", [False, True])
def test_the_first_dimensions_stay_the_first(model, backbone, tmp_path, native):
    """What keeps some numbers of its vectors keeps them for everyone who opens it, saved by this package again too."""
    if native:
        model = lbr_st.from_backbone(backbone, compression_ratio=8, max_seq_length=24)
    model.truncate_dim = 8
    lbr_st.save(model, tmp_path / "once")
    lbr_st.save(lbr_st.load(str(tmp_path / "once")), tmp_path / "twice")
    for name in ("once", "twice"):
        opened = SentenceTransformer(str(tmp_path / name), trust_remote_code=native)
        found = opened.encode(TEXTS)
        assert found.shape == (len(TEXTS), 8) and np.allclose(found, model.encode(TEXTS), atol=1e-6)
        verify(tmp_path / name)


def test_prompts_and_history_survive(model, tmp_path):
    model.prompts["query"] = "query: "
    model[0].history.append({"stage": "learn"})
    lbr_st.save(model, tmp_path)
    again = lbr_st.load(str(tmp_path))
    assert again.prompts == {"query": "query: ", "document": ""}
    assert again[0].history == [{"stage": "learn"}]


@pytest.mark.parametrize("move", [1, 4, 8, -1])
def test_an_interrupted_save_is_not_a_model(model, tmp_path, monkeypatch, move):
    """A save cut off in any of its moves leaves nothing that loads, and the next one repairs it."""
    lbr_st.save(model, tmp_path)
    last = len([file for file in tmp_path.rglob("*") if file.is_file()])
    replace, moved = os.replace, []

    def fail_late(source, target):
        if ".filling-" in str(source) and ".filling-" not in str(target):
            moved.append(target)
            if len(moved) == (last if move == -1 else move):
                raise OSError("disk full")
        replace(source, target)

    monkeypatch.setattr("lbr_st.files.os.replace", fail_late)
    with pytest.raises(OSError, match="disk full"):
        lbr_st.save(model, tmp_path)
    assert not (tmp_path / "config.json").exists()
    with pytest.raises((OSError, ValueError)):
        SentenceTransformer(str(tmp_path))
    monkeypatch.undo()
    lbr_st.save(model, tmp_path)
    assert np.abs(SentenceTransformer(str(tmp_path)).encode(TEXTS) - model.encode(TEXTS)).max() < 1e-6


def test_a_model_has_its_card_before_it_is_one(model, tmp_path, monkeypatch):
    """A kill after ``config.json`` is there would leave a model without, which nobody saves again."""
    moved, replace = [], os.replace

    def remember(source, target):
        moved.append(Path(target).name)
        replace(source, target)

    monkeypatch.setattr("lbr_st.files.os.replace", remember)
    lbr_st.save(model, tmp_path / "m")
    assert moved[-1] == "config.json" and "README.md" in moved


def test_the_same_model_gives_the_same_bytes_whatever_it_has_read(model, tmp_path):
    """The tokenizer remembers how it cut and padded; a run that goes on after its last step has read nothing."""
    lbr_st.save(model, tmp_path / "before")
    model.encode(["a text that is cut " * 20, "and one that is padded"])
    model.tokenizer(["one", "two words"], padding=True, truncation=True, max_length=9)
    lbr_st.save(model, tmp_path / "after")
    files = [file.relative_to(tmp_path / "before") for file in (tmp_path / "before").rglob("*.json")]
    assert Path("tokenizer.json") in files
    for file in files:
        assert (tmp_path / "before" / file).read_bytes() == (tmp_path / "after" / file).read_bytes(), file
    assert json.loads((tmp_path / "after" / "tokenizer.json").read_text())["truncation"] is None


def test_a_save_over_a_sharded_one_leaves_no_old_weights(model, tmp_path):
    lbr_st.save(model, tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "model-00001-of-00002.safetensors")
    (tmp_path / "model.safetensors.index.json").write_text("{}")
    (tmp_path / ".filling-killed.unfinished").mkdir()
    (tmp_path / "notes.txt").write_text("mine")
    lbr_st.save(model, tmp_path)
    assert [file.name for file in tmp_path.glob("model*")] == ["model.safetensors"]
    assert not list(tmp_path.glob(".filling-*"))
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.whole_run
def test_a_save_over_another_layout_leaves_nothing_of_it(backbone, tmp_path):
    portable = lbr_st.from_backbone(backbone, max_seq_length=24)
    portable.tokenizer.chat_template = "{{ messages }}"
    native = lbr_st.from_backbone(backbone, compression_ratio=5, max_seq_length=24)
    lbr_st.save(portable, tmp_path)
    lbr_st.save(native, tmp_path)
    assert not (tmp_path / "sentence_bert_config.json").exists()
    assert lbr_st.load(str(tmp_path)).tokenizer.chat_template is None
    lbr_st.save(portable, tmp_path)
    assert np.abs(SentenceTransformer(str(tmp_path)).encode(TEXTS) - portable.encode(TEXTS)).max() < 1e-6


@pytest.mark.parametrize("name", ["pytorch_model.bin", "adapter_config.json", "old.safetensors"])
def test_a_directory_with_other_weights_is_left_alone(model, tmp_path, name):
    """Readers would load them in place of the model, or beside it."""
    (tmp_path / name).write_text("mine")
    with pytest.raises(InputError, match=f"holds {name}, which readers would take for a part of the model"):
        lbr_st.save(model, tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_a_save_leaves_the_mode_of_the_model(model, tmp_path):
    model.train()
    model.truncate_dim = 16
    lbr_st.save(model, tmp_path)
    assert model.training and model[0].training
    assert model.truncate_dim == 16


@pytest.mark.whole_run
def test_short_learned_positions_can_be_saved(tmp_path):
    backbone = make_backbone(tmp_path / "backbone", family="gpt2", max_position_embeddings=16)
    lbr_st.save(lbr_st.from_backbone(backbone, num_bottleneck_tokens=6, max_seq_length=8), tmp_path / "model")


@pytest.mark.whole_run
def test_a_save_that_differs_is_refused(model, tmp_path, monkeypatch):
    """Every save is reloaded and compared; a writer that loses the post-processor is found out."""
    save = type(model[0]).save

    def lose_post_processor(self, output_path):
        save(self, output_path)
        path = Path(output_path, "tokenizer.json")
        data = json.loads(path.read_text())
        data["post_processor"] = None
        path.write_text(json.dumps(data))

    monkeypatch.setattr(type(model[0]), "save", lose_post_processor)
    with pytest.raises(RuntimeError, match="tokenizer.json"):
        lbr_st.save(model, tmp_path)
    assert not (tmp_path / "config.json").exists()


@pytest.mark.whole_run
def test_a_changed_embedding_is_refused(model, tmp_path, monkeypatch):
    """Of a token that no text of the written-down reference has: only the vectors of the model in memory show it."""
    save = type(model[0]).save
    rest = {id_ for text in REFERENCE_TEXTS for id_ in model.tokenizer(text)["input_ids"]}
    [token, *_] = [id_ for id_ in model.tokenizer(LONG)["input_ids"] if id_ not in rest]

    def change_embedding(self, output_path):
        save(self, output_path)
        path = Path(output_path, "model.safetensors")
        weights = load_file(path)
        weights["model.embed_tokens.weight"][token] += 10 * torch.randn(32)
        save_file(weights, path, metadata={"format": "pt"})

    monkeypatch.setattr(type(model[0]), "save", change_embedding)
    with pytest.raises(RuntimeError, match="its vector of the model it was saved from differs"):
        lbr_st.save(model, tmp_path)


def test_refusals(backbone, model, tmp_path):
    with pytest.raises(InputError, match="lbr_config.json: missing"):
        lbr_st.load(backbone)
    lbr_st.save(model, tmp_path)
    with pytest.raises(InputError, match="not a model of lbr_st: its first module is a Transformer"):
        lbr_st.save(SentenceTransformer(str(tmp_path)), tmp_path / "again")


# Where the class is kept is not what a saved model depends on: the public name is loaded through the lazy package.
NATIVE_PROCESS = """
import json, sys
from sentence_transformers import SentenceTransformer
folder, texts = json.loads(sys.argv[1])
assert "lbr_st" not in sys.modules
model = SentenceTransformer(folder, trust_remote_code=True, device="cpu")
print(json.dumps([type(model[0]).__module__, model.encode(texts).tolist()]))
"""


def test_the_native_layout_names_the_public_class(model, tmp_path):
    model.save_pretrained(str(tmp_path))
    first = json.loads((tmp_path / "modules.json").read_text())[0]
    assert first["type"] == "lbr_st.BottleneckTransformer"
    again = SentenceTransformer(str(tmp_path), trust_remote_code=True, device="cpu")
    assert type(again[0]).__module__ == "lbr_st"
    assert np.abs(again.encode(TEXTS) - model.encode(TEXTS)).max() < 1e-6


@pytest.mark.slow
def test_the_native_layout_in_a_process_that_has_not_imported_this_package(model, tmp_path):
    model.save_pretrained(str(tmp_path))
    environment = os.environ | {"PYTHONPATH": str(PACKAGE)}
    arguments = [sys.executable, "-c", NATIVE_PROCESS, json.dumps([str(tmp_path), TEXTS])]
    found = subprocess.run(arguments, check=True, capture_output=True, text=True, env=environment, cwd=tmp_path)
    module, vectors = json.loads(found.stdout.splitlines()[-1])
    assert module == "lbr_st"
    assert np.abs(np.array(vectors) - model.encode(TEXTS)).max() < 1e-6


def test_the_class_is_pickled_by_its_public_name():
    assert pickle.loads(pickle.dumps(lbr_st.BottleneckTransformer)) is lbr_st.BottleneckTransformer  # noqa: S301


@pytest.mark.whole_run
def test_a_changed_weight_that_no_text_shows_is_refused(model, tmp_path, monkeypatch):
    """In the row of a token that no text of the checks has: the tensors are compared with those in memory."""
    save = type(model[0]).save

    def change_weight(self, output_path):
        save(self, output_path)
        path = Path(output_path, "model.safetensors")
        weights = load_file(path)
        weights["model.embed_tokens.weight"][200, 5] += 1e-3
        save_file(weights, path, metadata={"format": "pt"})

    monkeypatch.setattr(type(model[0]), "save", change_weight)
    with pytest.raises(RuntimeError, match="weights: model.embed_tokens.weight is not what it is in the model"):
        lbr_st.save(model, tmp_path)


SAVE_PROCESS = """
import json, sys
from pathlib import Path
import torch
import lbr_st
from lbr_st.model.verify import verify

def kilobytes(name):
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name + ":")]
    return int(line.split()[1])

what, small, large, folder = json.loads(sys.argv[1])
lbr_st.save(lbr_st.from_backbone(small, max_seq_length=24), folder + "/small")  # what is loaded and kept by libraries
model = lbr_st.from_backbone(large, max_seq_length=24)
with torch.no_grad():
    for parameter in model.parameters():
        parameter.copy_(parameter.clone())  # in memory of its own, not that of the file it was loaded from
size = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
if what == "verify":
    lbr_st.save(model, folder + "/large")
    model = None
Path("/proc/self/clear_refs").write_text("5")  # the highest so far is forgotten
before = kilobytes("VmRSS")
if what == "save":
    lbr_st.save(model, folder + "/large")
else:
    for line in verify(folder + "/large", device="cpu"):
        pass
print((kilobytes("VmHWM") - before) * 1024 / size)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="memory is read from /proc")
@pytest.mark.parametrize("what", ["save", "verify"])
def test_no_more_than_one_copy_is_loaded_beside_the_model_in_memory(backbone, tmp_path, what):
    """Each way of loading is let go before the next: three at once would end a training run that just fits."""
    large = {"hidden_size": 512, "intermediate_size": 2048, "num_attention_heads": 8, "num_key_value_heads": 8}
    folder = make_backbone(tmp_path / "backbone", layers=6, tied=False, head_dim=64, initializer_range=0.02, **large)
    environment = os.environ | {"PYTHONPATH": str(PACKAGE)}
    arguments = [sys.executable, "-c", SAVE_PROCESS, json.dumps([what, backbone, folder, str(tmp_path)])]
    found = subprocess.run(arguments, check=True, capture_output=True, text=True, env=environment)
    growth = float(found.stdout.splitlines()[-1])
    assert 0.5 < growth < 1.5  # of the size of its weights
