"""Several texts in a row of tokens: the vectors of each alone, with fewer tokens run."""

import numpy as np
import pytest
import torch
from helpers import FAMILIES, make_backbone, make_bert
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Transformer
from sentence_transformers.sentence_transformer.modules import Pooling

import lbr_st
from lbr_st.model.encoding import TextEncoder
from lbr_st.model.packing import packed_batches, packed_rows, saved
from lbr_st.model.token_batches import batches_of

WORDS = "blood pressure is high in people who eat salt and iron is given to those with anaemia".split()
TEXTS = [" ".join(WORDS[start : start + length]) for length in (1, 2, 3, 5, 8, 13) for start in range(6)]


class Run:
    """Rows and width of each batch that the backbone of a model runs."""

    def __init__(self, model):
        module = model[0]
        self.shapes = []
        getattr(module.model, "base_model", module.model).register_forward_pre_hook(self._see, with_kwargs=True)

    def _see(self, module, args, kwargs):
        self.shapes.append(tuple(kwargs["input_ids"].shape))


def assert_as_alone(encoder, texts=TEXTS):
    """Each text alone is an independent computation, with no batch."""
    found, expected = encoder.encode(texts).numpy(), np.stack([encoder.model.encode_document(text) for text in texts])
    assert np.abs(found - expected).max() <= 1e-6 * max(1, np.abs(expected).max())


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family(tmp_path, family):
    """The vector of a text is what it has alone; sliding windows are four tokens wide."""
    folder = make_backbone(tmp_path / "backbone", family, initializer_range=0.1)
    model = lbr_st.from_backbone(folder, num_bottleneck_tokens=2, max_seq_length=64).eval()
    encoder = TextEncoder(model, 300, tried_from=1)
    assert_as_alone(encoder)
    assert encoder._packing is not None
    run = Run(model)
    encoder.encode(TEXTS)
    tokens = sum(map(len, model[0].tokenize_rows(list(dict.fromkeys(TEXTS)))))
    assert tokens <= sum(rows * width for rows, width in run.shapes) < 1.1 * tokens
    assert all(rows * width <= 300 for rows, width in run.shapes)


@pytest.mark.parametrize("budget", [1, 16, 60, 130, 5000])
def test_a_row_never_exceeds_the_budget_but_for_one_text(backbone, budget):
    model = SentenceTransformer(modules=[Transformer(backbone), Pooling(32, "lasttoken")]).eval()
    encoder = TextEncoder(model, budget, tried_from=1)
    encoder.encode(TEXTS)  # it is tried
    run = Run(model)
    encoder.encode(TEXTS)
    longest = max(len(ids) for ids in model.tokenizer(TEXTS)["input_ids"])
    assert all(rows * width <= budget or (rows == 1 and width <= longest) for rows, width in run.shapes)
    assert encoder._packing is not None or budget < 100


@pytest.mark.parametrize("mode", ["cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"])
def test_any_pooling(backbone, mode):
    model = SentenceTransformer(modules=[Transformer(backbone), Pooling(32, mode)]).eval()
    encoder = TextEncoder(model, 300, tried_from=1)
    assert_as_alone(encoder)
    assert encoder._packing is not None


@pytest.mark.parametrize("kind", ["bert", "is_causal"])
def test_a_model_that_is_not_causal_is_run_plainly_or_keeps_texts_apart(backbone, tmp_path, kind):
    """Whatever it does, texts in a row do not see each other."""
    if kind == "bert":
        model = SentenceTransformer(make_bert(tmp_path / "bert"))
    else:
        model = SentenceTransformer(modules=[Transformer(backbone), Pooling(32, "mean")])
        model[0].model.config.is_causal = False
        for module in model[0].model.modules():
            if hasattr(module, "is_causal"):
                module.is_causal = False
    encoder = TextEncoder(model.eval(), 300, tried_from=1)
    assert_as_alone(encoder)


def test_texts_of_a_token_or_two_decide_nothing(backbone):
    """What comes after them is packed as in a run that begins with it."""
    model = SentenceTransformer(modules=[Transformer(backbone), Pooling(32, "lasttoken")]).eval()
    letters = [chr(97 + number) for number in range(26)]
    short = [*letters, *(one + other for one in letters for other in letters[:2])]
    lengths = [len(ids) for ids in model.tokenizer(short)["input_ids"]]
    assert max(lengths) == 2 and saved(lengths, batches_of(lengths, 1000), packed_batches(lengths, 1000))
    encoder = TextEncoder(model, 1000, tried_from=1)
    assert_as_alone(encoder, short)
    assert encoder._packing is None
    assert_as_alone(encoder)
    assert encoder._packing is not None


def test_it_is_tried_when_it_would_have_saved_the_trial(backbone):
    """Few texts save less than it takes to see whether a model can be packed; what many have in common is counted."""
    model = SentenceTransformer(modules=[Transformer(backbone), Pooling(32, "lasttoken")]).eval()
    texts = ["a " * (1 + number) for number in range(16)]
    rows = [len(ids) for ids in model.tokenizer(texts)["input_ids"]]
    saves = saved(rows, batches_of(rows, 300), packed_batches(rows, 300))
    assert 0 < saves < 512
    encoder = TextEncoder(model, 300)
    for _ in range(-(-512 // saves) - 1):
        encoder.encode(texts)
        assert encoder._packing is None
    encoder.encode(texts)
    assert encoder._packing is not None


def test_a_model_without_such_positions_is_run_plainly(backbone):
    """One that takes positions, and attends to the whole row all the same, is found out before anything is encoded."""
    model = SentenceTransformer(modules=[Transformer(backbone), Pooling(32, "lasttoken")]).eval()
    own = model[0].model.forward

    def forward(input_ids, attention_mask=None, position_ids=None, **kwargs):
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        return own(input_ids=input_ids, attention_mask=mask, position_ids=position_ids, **kwargs)

    model[0].model.forward = forward
    encoder = TextEncoder(model, 300, tried_from=1)
    assert_as_alone(encoder)
    assert encoder._packing is None and not encoder._may_pack


def test_rows_are_about_as_long_as_each_other():
    """As many as their texts fill, of 128 tokens or of the longest text; the longest go into the shortest row first."""
    assert packed_rows([60, 70, 50, 8, 8], 1000) == [[1, 3, 4], [0, 2]]
    assert packed_rows([300, 100, 128, 72], 1000) == [[0], [2, 1, 3]]
    assert packed_rows([5], 1000) == [[0]] and packed_rows([5, 5, 5], 4) == [[0], [1], [2]]
    assert packed_rows([40, 30, 30], 60) == [[0], [1, 2]]
    assert packed_rows([50, 50, 50, 50, 50, 50], 120) == [[0, 3], [1, 4], [2, 5]]


def test_batches_of_rows_keep_the_budget():
    assert packed_batches([100, 100, 20, 100], 256) == [[[0, 2], [1]], [[3]]]
    assert packed_batches([200], 100) == [[[0]]]
    assert packed_batches([100] * 5, 200) == [[[0, 4]], [[1], [2]], [[3]]]


def test_what_pays():
    """Texts of one length are not packed, unless a batch of them would be short; those of many lengths are."""

    def is_packed(lengths, budget=1024):
        return saved(lengths, batches_of(lengths, budget), packed_batches(lengths, budget))

    assert is_packed([*range(4, 20)] * 2)
    assert not is_packed([16] * 64) and not is_packed([100, 101, 102]) and not is_packed([7])
