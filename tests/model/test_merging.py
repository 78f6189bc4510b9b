"""Merged weights against averages of the files; what cannot be merged, and what is said of it."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from helpers import FAMILIES, make_backbone, make_bert, make_tokenizer
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Normalize, Transformer
from sentence_transformers.sentence_transformer.modules import Pooling
from transformers import AutoModelForCausalLM

import lbr_st
from lbr_st.errors import InputError
from lbr_st.model.merging import merge
from lbr_st.model.saving import save_any, save_other
from lbr_st.model.verify import verify

LEARNED = {"stage": "learn", "model": "backbone", "data": ["corpus.jsonl"], "mteb_tasks": ["NFCorpus"]}
ALIGNED = {"stage": "align", "model": "start", "data": "pairs.jsonl"}


def moved(model, seed):
    """Change all weights of a model at random, in place."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return model


@pytest.fixture(scope="module")
def _two(backbone, tmp_path_factory):
    """Folder of a start and of what it became, with other weights in every place."""
    folder = tmp_path_factory.mktemp("two")
    model = lbr_st.from_backbone(backbone, num_bottleneck_tokens=2, max_seq_length=24)
    for seed, (name, history) in enumerate((("start", [LEARNED]), ("end", [LEARNED, ALIGNED]))):
        model[0].history = history
        lbr_st.save(moved(model, seed), folder / name)
    return folder


@pytest.fixture
def start(_two, tmp_path):
    return shutil.copytree(_two / "start", str(tmp_path / "start"))


@pytest.fixture
def end(_two, tmp_path):
    return shutil.copytree(_two / "end", str(tmp_path / "end"))


def weights_of(folder):
    return load_file(f"{folder}/model.safetensors")


def saved(model, folder):
    """Save a merged model and return its weights."""
    save_any(model, folder)
    return weights_of(folder)


@pytest.mark.parametrize("share", [0.3, 0.5])
def test_it_is_the_average_of_the_files(start, end, tmp_path, share):
    found = saved(lbr_st.merge([start, end], [1 - share, share]), tmp_path / "out")
    one, other = weights_of(start), weights_of(end)
    assert found.keys() == one.keys()
    for name in found:
        assert not torch.equal(one[name], other[name])
        torch.testing.assert_close(found[name], (1 - share) * one[name] + share * other[name], rtol=1e-6, atol=1e-7)
    assert "lm_head.weight" not in found  # tied
    assert json.loads((tmp_path / "out" / "modules.json").read_text())[0]["type"].startswith("sentence_transformers.")
    list(verify(tmp_path / "out"))


def test_a_whole_share_is_that_model(start, end, tmp_path):
    for share, one in ((0.0, start), (1.0, end)):
        found, expected = saved(merge([start, end], [1 - share, share]), tmp_path / f"{share}"), weights_of(one)
        assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_three_runs_and_layouts(start, end, tmp_path):
    """The native layout of a checkpoint is merged with the portable one."""
    third = moved(lbr_st.load(start), 3)
    third.save_pretrained(str(tmp_path / "third"), create_model_card=False)
    found = saved(merge([start, end, str(tmp_path / "third")], [1 / 3] * 3), tmp_path / "out")
    parts = [weights_of(each) for each in (start, end, tmp_path / "third")]
    for name, tensor in found.items():
        expected = torch.stack([part[name].double() for part in parts]).mean(dim=0).float()
        torch.testing.assert_close(tensor, expected, rtol=1e-6, atol=1e-7)


def test_half_precision_is_averaged_in_float32(start, end, tmp_path):
    for name in (start, end):
        halves = {key: tensor.bfloat16() for key, tensor in weights_of(name).items()}
        save_file(halves, f"{name}/model.safetensors", metadata={"format": "pt"})
    merged = merge([start, end], [0.5, 0.5])
    assert {parameter.dtype for parameter in merged.parameters()} == {torch.float32}
    norm = "model.norm.weight"
    expected = (weights_of(start)[norm].float() + weights_of(end)[norm].float()) / 2
    assert torch.equal(merged[0].model.state_dict()[norm], expected)


@pytest.mark.whole_run
def test_models_whose_tokens_follow_the_length(backbone, tmp_path):
    for seed in (1, 2):
        by_length = lbr_st.from_backbone(backbone, compression_ratio=5, max_seq_length=24)
        lbr_st.save(moved(by_length, seed), tmp_path / str(seed))
    found = saved(merge([str(tmp_path / "1"), str(tmp_path / "2")], [0.5, 0.5]), tmp_path / "out")
    one, other = weights_of(tmp_path / "1"), weights_of(tmp_path / "2")
    assert all(torch.allclose(found[name], (one[name] + other[name]) / 2) for name in found)
    assert lbr_st.load(str(tmp_path / "out"))[0].compression_ratio == 5


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("spare", [0, 5])
def test_a_backbone_and_what_became_of_it(tmp_path, tied, spare):
    """Rows of tokens that the start has not are those of the end; spare rows, which both have, are averaged."""
    backbone = make_backbone(tmp_path / "backbone", tied=tied)
    if spare:
        language_model = AutoModelForCausalLM.from_pretrained(backbone)
        language_model.resize_token_embeddings(language_model.config.vocab_size + spare, mean_resizing=False)
        language_model.save_pretrained(backbone)
    model = moved(lbr_st.from_backbone(backbone, num_bottleneck_tokens=2, max_seq_length=24), 1)
    model.prompts["query"] = "q: "
    model[0].history = [ALIGNED]
    lbr_st.save(model, tmp_path / "end")
    merged = merge([backbone, str(tmp_path / "end")], [0.75, 0.25])
    assert merged.prompts["query"] == "q: "
    found = saved(merged, tmp_path / "out")
    one, other = weights_of(backbone), weights_of(tmp_path / "end")
    ids = model[0].bottleneck_token_ids
    matrices = {"model.embed_tokens.weight"} | (set() if tied else {"lm_head.weight"})
    assert found.keys() == one.keys() and ("lm_head.weight" in found) is not tied
    for name, tensor in found.items():
        start = one[name]
        if name in matrices:
            assert torch.equal(tensor[ids], other[name][ids])
            rows = [row for row in range(len(start)) if row not in ids]
            assert rows[-1] > ids[-1] if spare else len(rows) == ids[0]
            tensor, start, end = tensor[rows], start[rows], other[name][rows]
        else:
            end = other[name]
        torch.testing.assert_close(tensor, 0.75 * start + 0.25 * end, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("family", [family for family in FAMILIES if family != "qwen2"])
def test_a_backbone_of_every_family(family, tmp_path):
    """What saving changes in the configuration and the tokenizer makes no other model of it."""
    backbone = make_backbone(tmp_path / "backbone", family=family)
    model = moved(lbr_st.from_backbone(backbone, max_seq_length=24), 1)
    lbr_st.save(model, tmp_path / "end")
    found = merge([backbone, str(tmp_path / "end")], [0.0, 1.0])
    expected = model.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in found.state_dict().items())


def test_other_embedding_models(tmp_path):
    one = make_bert(tmp_path / "bert")
    other = str(tmp_path / "other")
    trained = moved(SentenceTransformer(one, device="cpu"), 1)
    for special in ("bos", "eos", "pad"):  # as transformers' trainer leaves it
        setattr(trained.transformers_model.config, f"{special}_token_id", 3)
    save_other(trained, other)
    found = saved(merge([one, other], [0.5, 0.5]), tmp_path / "out")
    first, second = weights_of(one), weights_of(other)
    assert all(torch.allclose(found[name], (first[name] + second[name]) / 2) for name in found)
    assert SentenceTransformer(str(tmp_path / "out"), device="cpu").encode("a").shape == (16,)


def test_what_it_says_of_itself(start, end, tmp_path):
    """The steps of all, each once, and last what was merged; the card shows it."""
    save_any(merge([start, end], [0.25, 0.75]), tmp_path / "out")
    *before, step = lbr_st.load(str(tmp_path / "out"))[0].history
    assert before == [LEARNED, ALIGNED]
    assert (step["stage"], step["models"], step["weight"]) == ("merge", ["start", "end"], [0.25, 0.75])
    assert [len(digest) for digest in step["models_sha256"]] == [64, 64]
    card = (tmp_path / "out" / "README.md").read_text()
    assert "lbr merge start end \\\n    --weight 0.25 0.75" in card
    assert "sha256" not in card and str(tmp_path) not in card
    assert "learned its domain through a bottleneck token, and was then aligned" in card
    assert "- Merge: none of its own" in card and "NFCorpus" in card


def test_what_was_never_trained_is_said_to_be(start, tmp_path):
    model = lbr_st.load(start)
    model[0].history = []
    lbr_st.save(model, tmp_path / "untrained")
    save_any(merge([str(tmp_path / "untrained")] * 2, [0.5, 0.5]), tmp_path / "out")
    assert "was not trained yet" in (tmp_path / "out" / "README.md").read_text()


# What is done to a copy of the end, and what is said of it.
def edit_json(file, **changes):
    def edit(folder):
        path = folder / file
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return edit


@pytest.mark.parametrize(("of_start", "left"), [(None, None), ([16], None), ([32, 8], [32, 8]), ([32, 16, 8], [32, 8])])
def test_dimensions_are_those_that_all_are_trained_for(start, end, of_start, left, caplog):
    for folder, dimensions in ((start, of_start), (end, [32, 8])):
        if dimensions is not None:
            edit_json("config.json", matryoshka_dimensions=dimensions)(Path(folder))
    config = merge([start, end], [0.5, 0.5])[0].model.config
    assert getattr(config, "matryoshka_dimensions", None) == left
    assert ("those that are left: none" in caplog.text) == (left is None)


def with_another_model(**settings):
    def edit(folder):
        shutil.rmtree(folder)
        backbone = make_backbone(folder.parent / "another", **settings.pop("backbone", {}))
        model = lbr_st.from_backbone(backbone, **{"num_bottleneck_tokens": 2, "max_seq_length": 24} | settings)
        lbr_st.save(model, folder)

    return edit


def with_prompt(folder):
    model = lbr_st.load(str(folder))
    model.prompts["query"] = "q: "
    lbr_st.save(model, folder)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (with_prompt, r"its prompts: {}, not {'query': 'q: '}"),
        (with_another_model(num_bottleneck_tokens=3), "the number of bottleneck tokens: 2, not 3"),
        (with_another_model(compression_ratio=5), r"the compression ratio: None, not 5"),
        (with_another_model(nested=True), "whether its bottleneck is nested: False, not True"),
        (with_another_model(backbone={"layers": 1}), r"num_hidden_layers in config.json: 2, not 1"),
        (
            with_another_model(backbone={"num_attention_heads": 2}),
            "num_attention_heads in config.json: 4, not 2",
        ),
        (with_another_model(backbone={"rms_norm_eps": 0.5}), "rms_norm_eps in config.json: 1e-06, not 0.5"),
        (with_another_model(backbone={"tied": False}), "tie_word_embeddings in config.json: True, not False"),
        (with_another_model(backbone={"family": "llama"}), "model_type in config.json: 'qwen2', not 'llama'"),
    ],
)
def test_models_of_ours_that_are_unlike(start, end, tmp_path, edit, message):
    edit(tmp_path / "end")
    with pytest.raises(InputError, match=f"merge: {start} is not like {end} in .*{message}"):
        merge([start, end], [0.5, 0.5])


def test_another_tokenizer(start, end, tmp_path):
    path = tmp_path / "end" / "tokenizer.json"
    data = json.loads(path.read_text())
    data["model"]["merges"] = data["model"]["merges"][:-1]
    path.write_text(json.dumps(data))
    other = str(tmp_path / "other")
    lbr_st.save(lbr_st.load(end), other)  # a change that is meant
    with pytest.raises(InputError, match=r"is not like .* in its tokenizer \(model\)$"):
        merge([start, other], [0.5, 0.5])


@pytest.mark.parametrize(
    "edit",
    [
        lambda model: model["vocab"].update(a=model["vocab"]["b"], b=model["vocab"]["a"]),
        lambda model: model["merges"].reverse(),
    ],
)
def test_what_small_files_say_is_found_before_weights_are_read(end, tmp_path, monkeypatch, edit):
    monkeypatch.setattr("lbr_st.model.merging._open", lambda *args, **kwargs: pytest.fail("weights are read"))
    folder = make_backbone(tmp_path / "other")
    data = json.loads((tmp_path / "other" / "tokenizer.json").read_text())
    edit(data["model"])
    (tmp_path / "other" / "tokenizer.json").write_text(json.dumps(data))
    with pytest.raises(InputError, match=r"is not like .* in its tokenizer \(model\)$"):
        merge([folder, end], [0.5, 0.5])
    with pytest.raises(InputError, match=r"is not like .* in hidden_size in config.json: 64, not 32$"):
        merge([make_backbone(tmp_path / "wide", hidden_size=64), end], [0.5, 0.5])


def test_a_backbone_of_another_tokenizer(end, tmp_path):
    backbone = make_backbone(tmp_path / "other")
    tokenizer = make_tokenizer("qwen2")
    tokenizer.add_tokens(["<|more|>"])
    tokenizer.save_pretrained(backbone)
    with pytest.raises(InputError, match=r"is not like .* in its tokenizer \(added_tokens\)$"):
        merge([backbone, end], [0.5, 0.5])


def bert_of(folder, pooling="mean", dense=False):
    """Save a tiny model of another kind."""
    transformer = Transformer(make_bert(folder).removesuffix("/st"))
    modules = [transformer, Pooling(16, pooling_mode=pooling), *([Normalize()] if not dense else [])]
    SentenceTransformer(modules=modules, device="cpu").save_pretrained(str(folder / "st"))
    return str(folder / "st")


def test_other_models_that_are_unlike(tmp_path):
    one = bert_of(tmp_path / "one")
    with pytest.raises(InputError, match="pooling_mode of Pooling: 'mean', not 'cls'"):
        merge([one, bert_of(tmp_path / "cls", pooling="cls")], [0.5, 0.5])
    with pytest.raises(InputError, match="its modules: .*'Normalize'"):
        merge([one, bert_of(tmp_path / "other", dense=True)], [0.5, 0.5])


def test_buffers_and_shapes_that_differ(start, end, monkeypatch):
    """A class that makes its buffers of something else than its configuration."""
    from lbr_st.model import merging

    one, other = lbr_st.load(start), lbr_st.load(end)
    monkeypatch.setattr(merging, "_described", lambda model: {})
    for model, value in ((one, 1.0), (other, 2.0)):
        model[0].register_buffer("scale", torch.tensor(value))
    with pytest.raises(InputError, match="merge: a is not like b in the buffer 0.scale$"):
        merging._refuse_unlike(one, other, "a", "b")
    del other[0].scale
    with pytest.raises(InputError, match="in the buffer 0.scale, which one alone has"):
        merging._refuse_unlike(one, other, "a", "b")
    other[0].register_parameter("more", torch.nn.Parameter(torch.ones(1)))
    with pytest.raises(InputError, match="in the weight 0.more, which one alone has"):
        merging._refuse_unlike(one, other, "a", "b")
    one[0].register_parameter("more", torch.nn.Parameter(torch.ones(2)))
    with pytest.raises(InputError, match=r"in the shape of 0.more: \(2,\), not \(1,\)"):
        merging._refuse_unlike(one, other, "a", "b")


def test_models_of_two_kinds(start, backbone, tmp_path):
    bert = make_bert(tmp_path / "bert")
    with pytest.raises(InputError, match="model_type in config.json: 'bert', not 'qwen2'"):
        merge([bert, start], [0.5, 0.5])
    with pytest.raises(InputError, match=f"merge: {backbone} is a language model: it can be merged with one model"):
        merge([backbone, bert], [0.5, 0.5])
    with pytest.raises(InputError, match="it can be merged with one model of lbr-st that was made from it"):
        merge([backbone, start, start], [0.2, 0.3, 0.5])
    with pytest.raises(InputError, match="are language models, and none of them embeds texts"):
        merge([backbone, backbone], [0.5, 0.5])
    with pytest.raises(InputError, match="merge: two models are needed at least"):
        merge([start], [1.0])
    with pytest.raises(InputError, match=f"merge: {tmp_path}/none is not a model: no such directory"):
        merge([start, f"{tmp_path}/none"], [0.5, 0.5])


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([0.5], "2 models need as many weights, got 1"),
        ([0.5, 0.6], "weights must be from 0 to 1 and sum to 1, got 0.5, 0.6"),
        ([1.5, -0.5], "got 1.5, -0.5"),
        ([float("nan"), 1.0], "got nan, 1"),
    ],
)
def test_shares_that_are_none(start, weights, message):
    with pytest.raises(InputError, match=message):
        merge([start, start], weights)
