"""The encoder: the vectors of `SentenceTransformer.encode`, one text at a time, whatever the way to them."""

import re
import threading

import numpy as np
import pytest
import torch
from helpers import FAMILIES, TEXTS, Sizes, make_backbone, make_bert
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Normalize, Router, Transformer
from sentence_transformers.sentence_transformer.modules import BoW, Pooling, StaticEmbedding

import lbr_st
from lbr_st.errors import InputError
from lbr_st.model import encoding
from lbr_st.model.encoding import TextEncoder
from lbr_st.model.lengths import saying_what_is_longer

PROMPT = "Find me 3 pages, q7 of them: "
# Empty, longer than the model reads, there twice, with another start than the prompt's tokens have.
MORE = [*TEXTS, "", "blood pressure " * 60, TEXTS[0], "!", "\n", "日本"]


def alone(model, texts, role="document", prompt=None):
    """Return the vectors of each text alone: an independent computation, with no batch and no padding."""
    encode = model.encode_query if role == "query" else model.encode_document
    return np.stack([encode(text, prompt=prompt) for text in texts]).astype(np.float32)


def assert_near(found, expected, tolerance=1e-6):
    assert found.shape == expected.shape and found.dtype == torch.float32 and not found.is_inference()
    assert np.abs(found.numpy() - expected).max() <= tolerance * max(1, np.abs(expected).max())


def plain_model(folder, *modules):
    """Return a language model as sentence-transformers opens it, with other modules after it."""
    model = SentenceTransformer(modules=[Transformer(folder), *modules], prompts={"query": PROMPT})
    model.max_seq_length = 64
    return model.eval()


class Seen:
    """What the first module of a model is given: rows and width of each batch."""

    def __init__(self, model):
        module = model[0]
        backbone = getattr(module.model, "base_model", module.model)
        self.shapes = []
        backbone.register_forward_pre_hook(self._see, with_kwargs=True)

    def _see(self, module, args, kwargs):
        self.shapes.append(tuple(kwargs["input_ids"].shape))


@pytest.fixture(scope="module")
def families(tmp_path_factory):
    """A model of a family, made when it is asked for."""
    made = {}

    def model_of(family):
        if family not in made:
            folder = make_backbone(tmp_path_factory.mktemp(family), family, initializer_range=0.1)
            made[family] = lbr_st.from_backbone(folder, num_bottleneck_tokens=2, max_seq_length=64).eval()
            made[family].prompts = {"query": PROMPT, "document": ""}
        return made[family]

    return model_of


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_with_and_without_a_shared_prompt(families, family):
    """Each text runs without the prompt's tokens; sliding windows are four tokens wide."""
    model = families(family)
    encoder = TextEncoder(model, 200)
    assert_near(encoder.encode(MORE), alone(model, MORE))
    encoder.encode(TEXTS, "query")
    assert not encoder._shared  # so few are done before it pays
    encoder.encode(TEXTS, "query")
    seen = Seen(model)
    found = encoder.encode(MORE, "query")
    assert_near(found, alone(model, MORE, "query"), 1e-5)
    shared = encoder._shared[PROMPT, "query"]
    assert shared is not None
    rows = model[0].tokenize_rows([PROMPT + text for text in dict.fromkeys(MORE)])
    own = [len(row) - len(shared) * (row[: len(shared)] == shared.tokens.tolist()) for row in rows]
    batches = seen.shapes[: -len(MORE)]  # the last are those of `alone`
    assert max(width for _, width in batches) == max(own) and sum(each for each, _ in batches) == len(rows)
    assert sum(each < 64 for each in own) >= len(TEXTS)


def test_keys_and_values_of_a_prompt_are_those_of_one_row(families):
    """Whatever was encoded with them, nothing was added to them."""
    model = families("qwen2")
    encoder = TextEncoder(model, tried_from=1)
    first = encoder.encode(TEXTS, "query")
    shared = encoder._shared[PROMPT, "query"]
    assert {layer.keys.shape[:1] + layer.keys.shape[2:3] for layer in shared.cache.layers} == {(1, len(shared))}
    assert torch.equal(encoder.encode(TEXTS, "query"), first)
    for number in range(3):  # of other prompts none is kept for ever
        encoder.encode(["text"], "query", f"{PROMPT}{number} ")
    assert len(encoder._shared) == 2


def test_positions_that_depend_on_the_length_share_no_prompt(tmp_path):
    """The keys of a prompt are of its own length: in a text beyond the first positions of LongRoPE they are others."""
    rope = {"rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [1.0, 4.0, 16.0, 16.0], "factor": 4.0}
    rope |= {"rope_theta": 10_000.0, "original_max_position_embeddings": 64}
    longer = {"rope_parameters": rope, "original_max_position_embeddings": 64, "sliding_window": None}
    folder = make_backbone(tmp_path, "phi3", initializer_range=0.1, max_position_embeddings=256, **longer)
    model = lbr_st.from_backbone(folder, max_seq_length=200).eval()
    model.prompts = {"query": PROMPT, "document": ""}
    texts = ["a few words", " ".join(f"word {number}" for number in range(30))]
    assert len(model[0].tokenize_rows([PROMPT + texts[1]])[0]) > 64
    encoder = TextEncoder(model, 1, tried_from=1)
    assert_near(encoder.encode(texts, "query"), alone(model, texts, "query"), 1e-5)
    assert encoder._shared == {(PROMPT, "query"): None}


@pytest.mark.parametrize("mode", ["cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"])
@pytest.mark.parametrize("include_prompt", [True, False])
def test_any_pooling(backbone, mode, include_prompt):
    """The tokens of a shared prompt are pooled, or left out, as if they had been there."""
    model = plain_model(backbone, Pooling(32, mode, include_prompt), Dense(32, 8), Normalize())
    encoder = TextEncoder(model, 150)
    texts = [text for text in MORE if text]
    assert_near(encoder.encode(texts, "query"), alone(model, texts, "query"), 1e-5)
    assert encoder._shared[PROMPT, "query"] is not None


def test_padding_of_a_tokenizer_is_none_of_ours(backbone):
    model = plain_model(backbone, Pooling(32, "lasttoken"))
    model.tokenizer.padding_side = "left"
    texts = [text for text in MORE if text]
    assert_near(TextEncoder(model, 150).encode(texts, "query"), alone(model, texts, "query"), 1e-5)
    # A text without one token is encoded as it is beside others.
    both = model.encode(["", "word"], prompt="")
    assert_near(TextEncoder(model).encode(["", "word"]), both)


@pytest.mark.parametrize("kind", ["bert", "is_causal", "gemma3"])
def test_a_model_that_is_not_causal_shares_no_prompt(backbone, tmp_path, kind):
    if kind == "bert":
        model = SentenceTransformer(make_bert(tmp_path / "bert"))
        model.prompts = {"query": PROMPT}
    elif kind == "is_causal":
        model = plain_model(backbone, Pooling(32, "mean"))
        model[0].model.config.is_causal = False
        for module in model[0].model.modules():
            if hasattr(module, "is_causal"):
                module.is_causal = False
    else:
        folder = make_backbone(tmp_path / "gemma3", "gemma3", use_bidirectional_attention=True)
        model = plain_model(folder, Pooling(32, "mean"))
    encoder = TextEncoder(model, 200)
    texts = [text for text in MORE if text]
    assert_near(encoder.encode(texts, "query"), alone(model, texts, "query"), 1e-5)
    assert encoder._shared == {(PROMPT, "query"): None}


def test_a_prompt_whose_last_token_goes_on_in_the_text(families):
    """Such a text is read as it is; the others share the prompt."""
    model, prompt = families("qwen2"), "How is anaemia treated? What causes high blood pressu"
    texts = ["re?", " and", "re", "x", "re is high"]
    encoder = TextEncoder(model, tried_from=1)
    assert_near(encoder.encode(texts, "query", prompt), alone(model, texts, "query", prompt), 1e-5)
    shared = encoder._shared[prompt, "query"]
    rows = model[0].tokenize_rows([prompt + text for text in texts])
    begins = [row[: len(shared)] == shared.tokens.tolist() for row in rows]
    assert any(begins) and not all(begins)


@pytest.mark.parametrize("budget", [1, 16, 60, 5000])
def test_batches_never_exceed_the_budget_but_for_one_text(families, budget):
    """And change no vector; equal texts are one."""
    model = families("llama")
    expected, seen = alone(model, MORE), Seen(model)
    encoder = TextEncoder(model, budget, tried_from=1000)  # of packed texts, see test_packing.py
    assert_near(encoder.encode([*MORE, *MORE]), np.concatenate([expected, expected]))
    assert all(rows * width <= budget or rows == 1 for rows, width in seen.shapes)
    assert sum(rows for rows, _ in seen.shapes) == len(set(MORE))
    assert budget < 5000 or len(seen.shapes) < 6


def test_all_vectors_are_held_once(families, monkeypatch):
    """Also where most texts are there again: one piece of memory is as large as they are together."""
    model, texts = families("llama"), TEXTS * 1000
    monkeypatch.setattr(encoding, "COPIED_AT_ONCE", 1000)
    with Sizes() as sizes:
        found = TextEncoder(model).encode(texts)
    assert (found.reshape(1000, len(TEXTS), -1) == found[: len(TEXTS)]).all()
    assert_near(found[: len(TEXTS)], alone(model, TEXTS))
    assert [size for size in sizes.of.values() if size > found.nbytes / 2] == [found.nbytes]


def test_texts_are_tokenized_once_in_a_thread_beside_the_model(families, monkeypatch):
    model = families("qwen2")
    own, seen = model.preprocess, []

    def preprocess(texts, **options):
        seen.extend((text, threading.current_thread().name) for text in texts)
        return own(texts, **options)

    texts, done = [f"text {n} " * (n % 5 + 1) for n in range(200)], []
    expected = model.encode_document(texts)
    monkeypatch.setattr(model, "preprocess", preprocess, raising=False)
    monkeypatch.setattr(encoding, "TOKENIZED_AT_ONCE", 16)
    found = TextEncoder(model, 64).encode([*texts, texts[0]], on_texts=done.append)
    assert_near(found, np.concatenate([expected, expected[:1]]))
    assert sorted(text for text, _ in seen) == sorted(texts)
    assert all(name.startswith("tokenizer") for _, name in seen)
    assert sum(done) == 201 and len(done) > 10


def test_what_fails_is_said_and_leaves_no_thread(families, monkeypatch):
    model = families("qwen2")
    texts = [f"text {n}" for n in range(100)]

    def fail(*args, **kwargs):
        raise RuntimeError("no such token")

    for name in ("preprocess", "forward"):
        with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="no such token"):
            patch.setattr(model, name, fail, raising=False)
            TextEncoder(model, 64).encode(texts)
    with pytest.raises(KeyboardInterrupt):
        TextEncoder(model, 64).encode(texts, on_texts=lambda number: (_ for _ in ()).throw(KeyboardInterrupt))
    assert not [each for each in threading.enumerate() if each.name.startswith("tokenizer")]


def test_other_models_go_their_own_way(tmp_path):
    """Words, static embeddings, and a router that has one way for queries and one for documents."""
    bert = SentenceTransformer(make_bert(tmp_path / "bert"))
    bert.max_seq_length = 24
    tokenizer = type(bert.tokenizer.backend_tokenizer).from_str(bert.tokenizer.backend_tokenizer.to_str())
    static = StaticEmbedding(tokenizer, embedding_dim=16)
    words = BoW(["blood", "pressure", "iron"], word_weights={"blood": 2.0})
    routed = SentenceTransformer(modules=[Router.for_query_document([static], [bert[0], bert[1]]), Normalize()])
    routed.prompts = {"query": PROMPT}
    for model in (bert, SentenceTransformer(modules=[static]), SentenceTransformer(modules=[words]), routed):
        for role in ("query", "document"):
            assert_near(TextEncoder(model, 40).encode(MORE, role), alone(model, MORE, role))


def test_prompts_and_widths_are_those_of_the_model(families):
    model = families("qwen2")
    encoder = TextEncoder(model)
    assert_near(encoder.encode(TEXTS, prompt="find: "), alone(model, TEXTS, prompt="find: "))
    with model.truncate_embeddings(8):
        assert_near(encoder.encode(TEXTS), alone(model, TEXTS))
        assert encoder.encode(TEXTS).shape == (6, 8) and encoder.encode([]).shape == (0, 8)
    with_default = SentenceTransformer(modules=list(model), prompts={"any": "any: "}, default_prompt_name="any")
    assert_near(TextEncoder(with_default).encode(TEXTS), alone(with_default, TEXTS))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(backbone, dtype):
    """Also of a prompt that is shared: the directions are the same to a thousandth."""
    model = plain_model(backbone, Pooling(32, "lasttoken")).to(dtype)
    encoder = TextEncoder(model, 150)
    texts = [text for text in MORE if text]
    for role in ("query", "document"):
        found, expected = encoder.encode(texts, role), torch.from_numpy(alone(model, texts, role))
        assert found.dtype == torch.float32
        assert (1 - torch.cosine_similarity(found, expected)).max() < 1e-3
    assert encoder._shared[PROMPT, "query"] is not None


def test_a_budget_is_measured_where_it_pays(families, monkeypatch, caplog):
    """On batches of the model's own tokens, of which nobody is told who counts what it is given."""
    model, tried = families("qwen2"), []

    def measure(run, on_gpu):
        run(300)
        tried.append(on_gpu)
        return 77

    monkeypatch.setattr(encoding, "measured_budget", measure)
    encoder, seen = TextEncoder(model), Seen(model)
    assert encoder.budget(1e5) == 1024 and not tried
    with saying_what_is_longer(model):
        assert encoder.budget(1e6) == encoder.budget(10) == 77
    assert tried == [False] and seen.shapes == [(300 // 64, 64)] and "longer than" not in caplog.text
    assert TextEncoder(model, 12).budget(1e9) == 12


@pytest.mark.parametrize(("value", "what"), [(float("nan"), "not finite (NaN or infinite)"), (0.0, "zero")])
@pytest.mark.parametrize("number", [1, 20])
def test_a_text_whose_vector_is_no_direction_is_named(model, value, what, number):
    """Of one text alone too, whose numbers overflow where those of others do not."""
    of_model = model.forward

    def forward(features, **options):
        found = of_model(features, **options)
        is_it = (features["input_ids"] == wanted).any(dim=1)
        found["sentence_embedding"] = found["sentence_embedding"].masked_fill(is_it[:, None], value)
        return found

    wanted = model.tokenizer("Q", add_special_tokens=False)["input_ids"][0]
    model.forward = forward
    others = [f"{at} grams of iron" for at in range(number - 1)]
    assert TextEncoder(model).encode([*others, "iron"]).norm(dim=1).min() > 0.99
    with pytest.raises(
        InputError, match=re.escape(f"cannot be used: the vector of 'Q 1' is {what} in float32: its files are")
    ):
        TextEncoder(model).encode([*others, "Q 1"])


def test_words_that_a_model_does_not_know_have_no_direction_and_of_all_texts_that_is_refused():
    model = SentenceTransformer(modules=[BoW(["blood", "iron"])])
    unknown = ["", " ", *(f"word{at}" for at in range(8))]
    assert not TextEncoder(model).encode(unknown[:-1]).any()
    assert TextEncoder(model).encode([*unknown, "iron"])[-1].any()
    with pytest.raises(InputError, match="the model cannot be used: the vectors of all 8 texts are zero"):
        TextEncoder(model).encode(unknown)
