"""Answers in sight of the text, and through the bottleneck alone, against the mask that stage 1 trains with."""

import pytest
import torch
from helpers import FAMILIES, NEW, TEXTS, make_backbone, masked_greedy
from transformers import AutoModelForCausalLM, GenerationConfig

import lbr_st
from lbr_st.errors import InputError
from lbr_st.model.generation import hidden_from_answers


def open_model(folder, family, **kwargs):
    return lbr_st.from_backbone(make_backbone(folder, family=family, tied=False), max_seq_length=24, **kwargs).eval()


@pytest.mark.parametrize("family", FAMILIES)
def test_through_the_bottleneck_is_what_stage_1_trains(tmp_path, family):
    """In one batch of different lengths, so padded; the texts are hidden, and that makes a difference."""
    module = open_model(tmp_path, family, num_bottleneck_tokens=2)[0]
    expected = [masked_greedy(module, text) for text in TEXTS]
    greedy = {"max_new_tokens": NEW, "do_sample": False}
    assert module.generate(TEXTS, through_bottleneck=True, **greedy) == expected
    assert [module.generate([text], through_bottleneck=True, **greedy)[0] for text in TEXTS] == expected
    assert module.generate(TEXTS, **greedy) != expected


@pytest.mark.parametrize("family", ["gemma3", "gpt2"])
def test_beams_and_several_answers(tmp_path, family):
    module = open_model(tmp_path, family, num_bottleneck_tokens=2)[0]
    beams = {"max_new_tokens": NEW, "do_sample": False, "num_beams": 3, "num_return_sequences": 2}
    together = module.generate(TEXTS, through_bottleneck=True, **beams)
    alone = [answer for text in TEXTS for answer in module.generate([text], through_bottleneck=True, **beams)]
    assert together == alone
    assert len(together) == 2 * len(TEXTS)


def test_by_length(tmp_path):
    """Rows of one batch have different numbers of bottleneck tokens; BOS stays in sight."""
    module = open_model(tmp_path, "llama", compression_ratio=6)[0]
    greedy = {"max_new_tokens": NEW, "do_sample": False, "through_bottleneck": True}
    assert len({len(row) for row in module.tokenize_rows(TEXTS)}) > 1
    assert module.generate(TEXTS, **greedy) == [masked_greedy(module, text) for text in TEXTS]


def test_an_answer_ends_where_the_positions_do(tmp_path):
    """Of GPT-2 with 32 positions: the default is what there is room for, and more is refused before it fails."""
    backbone = make_backbone(tmp_path, family="gpt2", max_position_embeddings=32)
    module = lbr_st.from_backbone(backbone).eval()[0]
    [row] = module.tokenize_rows(["How is"])
    room = 32 - len(row)
    assert module.generate(["How is"]) == module.generate(["How is"], max_new_tokens=room)
    with pytest.raises(InputError, match=f"^the texts leave room for an answer of {room} tokens; shorten them"):
        module.generate(["How is"], max_new_tokens=room + 1)
    with pytest.raises(InputError, match="^the texts leave room for an answer of 0 tokens; shorten them"):
        module.generate(["How is " * 50])


def test_a_bottleneck_token_is_no_answer(tmp_path):
    """Not even of a model that wants to say nothing else; by plain transformers neither."""
    model = open_model(tmp_path / "backbone", "llama", num_bottleneck_tokens=2)
    language_model, ids = model[0].model, model[0].bottleneck_token_ids
    row = torch.tensor(model[0].tokenize_rows(["one"]))
    with torch.no_grad():
        last = language_model.base_model(row).last_hidden_state[0, -1]
        language_model.get_output_embeddings().weight[ids] = 100 * last
        assert int(language_model(row).logits[0, -1].argmax()) in ids
    lbr_st.save(model, tmp_path / "model")
    for answering in (language_model, AutoModelForCausalLM.from_pretrained(tmp_path / "model")):
        answer = answering.generate(row, max_new_tokens=NEW, do_sample=False)[0, row.shape[1] :]
        assert not set(answer.tolist()) & set(ids)


def test_prompt_is_part_of_the_text(model):
    greedy = {"max_new_tokens": NEW, "do_sample": False}
    assert model[0].generate(["blood"], prompt="query: ", **greedy) == model[0].generate(["query: blood"], **greedy)


def test_the_model_is_left_as_it_was(model):
    before = model.encode(TEXTS)
    model[0].generate(TEXTS, through_bottleneck=True, max_new_tokens=2)
    assert (model.encode(TEXTS) == before).all()
    assert not model[0].model._forward_pre_hooks


@pytest.mark.parametrize("way", ["use_cache", "cache_implementation", "in its own configuration", "assistant_model"])
def test_refuses_what_nothing_can_be_hidden_in(model, way):
    module, kwargs = model[0], {"max_new_tokens": 4, "do_sample": False}
    if way == "in its own configuration":
        module.model.generation_config.cache_implementation = "static"
    else:
        kwargs[way] = {"use_cache": False, "cache_implementation": "static", "assistant_model": module.model}[way]
    message = "takes no assistant" if way == "assistant_model" else "needs the default cache"
    with pytest.raises(InputError, match=message):
        module.generate(["one"], through_bottleneck=True, **kwargs)
    assert len(module.generate(["one"], **kwargs)) == 1  # in sight of the text there is nothing to hide


@pytest.mark.parametrize("argument", [{"max_length": 60}, {"generation_config": GenerationConfig(max_new_tokens=5)}])
def test_limits_that_would_be_passed_over_are_refused(model, argument):
    with pytest.raises(
        InputError, match="^generate takes no .*; say max_new_tokens, and other settings by their names"
    ):
        model[0].generate(["one"], **argument)


def test_what_it_takes_and_gives(model):
    module = model[0]
    assert module.generate([]) == []
    with pytest.raises(InputError, match="takes a list of texts"):
        module.generate("one", prompt="query: ")
    assert isinstance(module.generate(["one"], max_new_tokens=2, return_dict_in_generate=True)[0], str)


@pytest.mark.parametrize("name", ["cache", "past_key_values"])
@pytest.mark.parametrize("padded", [True, False])
def test_the_cache_is_read_by_both_of_its_names(name, padded):
    """transformers 5.24 renamed it. The prompt itself is read with the mask it has."""
    seen = []

    class Model(torch.nn.Module):
        def forward(self, **kwargs):
            seen.append(kwargs.get("attention_mask"))

    class Cache:
        def __init__(self, length):
            self.length = length

        def get_seq_length(self):
            return self.length

    hidden = torch.tensor([[True, True, False], [False, True, False]])
    model = Model()
    given = torch.ones(4, 4, dtype=torch.long) if padded else None
    with hidden_from_answers(model, hidden):
        model(input_ids=torch.zeros(2, 3), attention_mask=None, **{name: Cache(0)})
        model(input_ids=torch.zeros(4, 1), attention_mask=given, **{name: Cache(3)})  # two beams a row
    assert seen[0] is None
    assert seen[1].tolist() == [[0, 0, 1, 1], [0, 0, 1, 1], [1, 0, 1, 1], [1, 0, 1, 1]]
    assert given is None or given.all()
    assert not model._forward_pre_hooks
