"""The input module: what sentence-transformers asks of it, and what it promises."""

import inspect
import shutil

import pytest
import torch
from helpers import TEXTS, make_backbone, make_tokenizer
from sentence_transformers.base.losses.merged_forward import column_merging_disabled
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

import lbr_st
from lbr_st import BottleneckTransformer
from lbr_st.errors import InputError
from lbr_st.learning.examples import check_fits

LONG = "blood pressure " * 100


def test_config_is_the_constructor():
    parameters = set(inspect.signature(BottleneckTransformer.__init__).parameters) - {"self", "model", "tokenizer"}
    assert parameters == set(BottleneckTransformer.config_keys)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("prompt", [None, "query: "])
def test_last_tokens_are_the_bottleneck(model, side, prompt):
    model.tokenizer.padding_side = side
    batch = model.preprocess(["", "one", LONG, *TEXTS], prompt=prompt)
    assert batch["input_ids"].shape[1] == model.max_seq_length == 24
    for ids, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True):
        assert ids[mask.bool()][-2:].tolist() == model[0].bottleneck_token_ids


def test_prompt_is_part_of_the_text(model):
    with_prompt = model.preprocess(["blood"], prompt="query: ")["input_ids"]
    assert torch.equal(with_prompt, model.preprocess(["query: blood"])["input_ids"])


def test_embedding_is_the_last_hidden_state_of_the_last_bottleneck_token(model):
    """By hand, without padding, pooling or normalisation modules."""
    for text in ["", "one", *TEXTS]:
        ids = model.tokenizer(text, truncation=True, max_length=24, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            hidden = model[0].model(ids, output_hidden_states=True).hidden_states[-1]
        expected = hidden[0, -1] / hidden[0, -1].norm()
        assert (model.encode(text, convert_to_tensor=True) - expected).abs().max() < 1e-6


def test_batch_does_not_matter(model):
    texts = ["", "one", LONG, *TEXTS]
    together = model.encode(texts, batch_size=len(texts), convert_to_tensor=True)
    alone = torch.stack([model.encode(text, convert_to_tensor=True) for text in texts])
    assert (together - alone).abs().max() < 1e-6


def test_forward_leaves_its_features_alone(model):
    batch = model.preprocess(TEXTS)
    before = {key: value.clone() for key, value in batch.items()}
    first, second = model[0](batch), model[0](batch)
    assert batch.keys() == before.keys()
    assert all(torch.equal(batch[key], before[key]) for key in batch)
    assert torch.equal(first["token_embeddings"], second["token_embeddings"])


def test_merged_columns_give_the_same_loss(model):
    """The loss may pad all columns into one batch with zeros on the right; the read-out must not move."""
    loss = MultipleNegativesRankingLoss(model)
    columns = [model.preprocess(["a", "b b b"]), model.preprocess([LONG, "c"])]
    merged = loss([dict(c) for c in columns], None)
    with column_merging_disabled():
        separate = loss([dict(c) for c in columns], None)
    assert abs(merged - separate) < 1e-6


@pytest.mark.parametrize("length", [-1, 0, 2])
def test_a_length_without_room_for_text_is_refused(model, length):
    with pytest.raises(InputError, match=f"maximum length of {length} leaves no room .* smallest that does is 3"):
        model.max_seq_length = length
    with pytest.raises(InputError, match="leaves no room"):
        model.preprocess(["a"], max_length=length)
    model.max_seq_length = 3
    assert model.preprocess([LONG])["input_ids"].shape[1] == 3


def test_a_tokenizer_that_does_not_append_is_refused(model, backbone):
    with pytest.raises(InputError, match="ends a text with ids"):
        BottleneckTransformer(
            model[0].model, AutoTokenizer.from_pretrained(backbone), bottleneck_token_ids=[1, 2], max_seq_length=24
        )


@pytest.mark.parametrize("family", ["qwen2", "llama"])  # without and with BOS
def test_number_of_tokens_follows_the_length(tmp_path, family):
    """k = clamp(ceil(|X| / R), 1, K), the last ones, BOS not counted (arXiv 2601.11124, section 3.2)."""
    backbone = make_backbone(tmp_path, family=family)
    model = lbr_st.from_backbone(backbone, num_bottleneck_tokens=3, compression_ratio=5, max_seq_length=24).eval()
    ids, plain = model[0].bottleneck_token_ids, AutoTokenizer.from_pretrained(backbone)
    number = {0: 1, 1: 1, 5: 1, 6: 2, 10: 2, 11: 3, 15: 3, 16: 3, 20: 3}
    texts = {n: "x" * n for n in number}
    prefix = len(plain("")["input_ids"])
    rows = model[0].tokenize_rows(list(texts.values()))
    for (n, text), row in zip(texts.items(), rows, strict=True):
        x = plain(text)["input_ids"]
        assert len(x) == prefix + n
        assert row == x[: 24 - 3] + ids[-number[n] :]
    batch = model.preprocess(list(texts.values()))
    for row, padded, mask in zip(rows, batch["input_ids"], batch["attention_mask"], strict=True):
        assert padded[mask.bool()].tolist() == row
    together = model.encode(list(texts.values()), convert_to_tensor=True)
    alone = torch.stack([model.encode(text, convert_to_tensor=True) for text in texts.values()])
    assert (together - alone).abs().max() < 1e-6
    for vector, row in zip(alone, rows, strict=True):
        with torch.no_grad():
            hidden = model[0].model.base_model(torch.tensor([row])).last_hidden_state[0, -1]
        assert (vector - hidden / hidden.norm()).abs().max() < 1e-6
    # The prompt is part of the text.
    assert model.preprocess(["x" * 4], prompt="xx")["input_ids"][0].tolist() == rows[3]


@pytest.mark.parametrize(
    ("ratio", "length", "expected"), [(None, 24, 1), (5, 24, 4), (6, 24, 4), (2, 24, 8), (500, 128, 1), (1, 256, 64)]
)
def test_default_number_of_tokens(backbone, ratio, length, expected):
    model = lbr_st.from_backbone(backbone, compression_ratio=ratio, max_seq_length=length)
    assert model[0].num_bottleneck_tokens == expected
    [longest] = model[0].tokenize_rows(["x" * 300])
    assert longest[-expected:] == model[0].bottleneck_token_ids  # the longest text uses all of them
    assert len(longest) == length


def test_64_tokens(backbone):
    model = lbr_st.from_backbone(backbone, num_bottleneck_tokens=64, max_seq_length=80)
    ids = model.preprocess(["", "blood " * 100])["input_ids"]
    assert ids[1, -64:].tolist() == model[0].bottleneck_token_ids
    assert ids[0, :64].tolist() == model[0].bottleneck_token_ids


@pytest.mark.parametrize("ratio", [0, -1, float("nan"), float("inf")])
def test_a_compression_ratio_that_is_none_is_refused(backbone, ratio):
    with pytest.raises(InputError, match="compression ratio must be a number above 0"):
        lbr_st.from_backbone(backbone, compression_ratio=ratio, max_seq_length=24)


def test_a_shorter_limit_for_one_call(model):
    ids = model.preprocess([LONG], max_length=10)["input_ids"][0].tolist()
    assert (len(ids), ids[-2:]) == (10, model[0].bottleneck_token_ids)
    assert model.preprocess([LONG])["input_ids"].shape[1] == 24


def test_generation_leaves_every_part_in_its_mode(model):
    """Dropout is off while it generates, and what was training trains on."""
    module = model[0]
    module.model.train()
    module.model.base_model.layers[0].eval()
    before = [part.training for part in model.modules()]
    seen = []
    module.model.register_forward_pre_hook(lambda m, _: seen.append(any(part.training for part in m.modules())))
    module.generate(["one"], max_new_tokens=2)
    assert seen == [False, False]
    assert [part.training for part in model.modules()] == before


def test_a_model_that_reads_more_than_text_is_refused(tmp_path):
    AutoConfig.for_model("gemma3").save_pretrained(tmp_path)
    make_tokenizer("gemma").save_pretrained(tmp_path)
    with pytest.raises(
        InputError, match="model type 'gemma3', a model of images and text: .*; start from the language model"
    ):
        lbr_st.from_backbone(str(tmp_path))


def test_a_generation_config_that_could_not_be_saved_again_is_refused(tmp_path):
    backbone = make_backbone(tmp_path)
    (tmp_path / "generation_config.json").write_text('{"do_sample": false, "temperature": 0.7}')
    with pytest.raises(InputError, match="generation_config.json of .* contradicts itself"):
        lbr_st.from_backbone(backbone, max_seq_length=24)


def test_hub_arguments_reach_tokenizer_and_configuration(backbone, tmp_path):
    """A backbone in a subfolder: weights of one place with the tokenizer of another would be a silent mix."""
    shutil.copytree(backbone, tmp_path / "v2")
    model = lbr_st.from_backbone(str(tmp_path), max_seq_length=24, subfolder="v2", local_files_only=True)
    assert model.encode("one").shape == (32,)


def test_model_whose_positions_have_no_end(tmp_path):
    """ALiBi (BLOOM): no max_position_embeddings. The length must be given, and then nothing limits stage 1's rows."""
    tokenizer = make_tokenizer("qwen2")
    config = AutoConfig.for_model("bloom", vocab_size=len(tokenizer), hidden_size=32, n_head=4, n_layer=2)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(InputError, match="does not say how long a text it reads; give a max_seq_length"):
        lbr_st.from_backbone(str(tmp_path))
    check_fits(lbr_st.from_backbone(str(tmp_path), max_seq_length=24)[0])
