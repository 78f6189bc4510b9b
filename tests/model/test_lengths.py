"""How much of a text a model reads, against what its own tokenizer says."""

import pytest
import torch
from helpers import TEXTS, make_bert
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Router
from sentence_transformers.sentence_transformer.modules import StaticEmbedding

from lbr_st.errors import InputError
from lbr_st.model.lengths import TextLimit, describe_longer, warn_of_longer

LINE = "1 of 2 texts are longer than the 24 tokens the model reads: the rest of them was not read"


def lengths_by_tokenizer(model, prompt, texts):
    return [len(model.tokenizer(prompt + text, truncation=False)["input_ids"]) for text in texts]


def said(caplog):
    return [record.getMessage() for record in caplog.records if "the model reads" in record.getMessage()]


def test_a_model_of_this_package(model):
    """BOS, prompt and bottleneck tokens count; a text that has as many tokens as the model reads is read whole."""
    model.prompts.update(query="ask: ", document="")
    words = [*("?" * number for number in range(40)), *TEXTS, "é" * 30]
    for role, prompt in (("query", "ask: "), ("document", "")):
        limit = TextLimit(model, role)
        assert limit.most == 24
        lengths = lengths_by_tokenizer(model, prompt, words)
        assert limit.lengths(words) == lengths
        assert 24 in lengths and 25 in lengths
        assert limit.count_longer(words) == sum(length > 24 for length in lengths)


def test_what_counts_is_what_is_cut_off(model):
    """Texts that differ behind the limit have one embedding; those that are no longer than it have their own."""
    limit = TextLimit(model, "document")
    fits = next(t for t in (" ".join(["word"] * n) for n in range(40, 0, -1)) if limit.lengths([t]) <= [24])
    longer = f"{fits} word word"
    assert limit.count_longer([fits]) == 0 and limit.count_longer([longer]) == 1
    a, b = model.encode_document([f"{longer} one", f"{longer} other"], convert_to_tensor=True)
    assert torch.allclose(a, b)


def test_with_a_compression_ratio(backbone):
    import lbr_st

    model = lbr_st.from_backbone(backbone, max_seq_length=24, compression_ratio=4.0)
    limit = TextLimit(model, "document")
    texts = [" ".join(["word"] * n) for n in range(40)]
    rows = model[0].tokenize_rows(texts)
    # Cut off is what has no room beside all the bottleneck tokens that a text may get.
    most = model[0].num_bottleneck_tokens
    tokens = [len(model.tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts]
    assert [length > 24 for length in limit.lengths(texts)] == [
        n + most + model[0].num_prefix_tokens > 24 for n in tokens
    ]
    assert max(map(len, rows)) <= 24


def test_any_other_model(tmp_path, caplog):
    """Its limit, its prompt by any of the names that sentence-transformers knows."""
    model = SentenceTransformer(make_bert(tmp_path / "bert"))
    model.max_seq_length = 24
    model.prompts = {"passage": "p: "}
    texts = ["a" * n for n in (1, 30)] + ["short", "é"]
    limit = TextLimit(model, "document")
    assert (limit.most, limit.prompt) == (24, "p: ")
    assert limit.lengths(texts) == lengths_by_tokenizer(model, "p: ", texts)
    warn_of_longer(model, ["short"], ["a b c " * 20])
    assert said(caplog) == [LINE]


@pytest.mark.parametrize("length", [None, int(1e30)])
def test_a_model_without_a_limit_says_nothing(tmp_path, caplog, length):
    model = SentenceTransformer(make_bert(tmp_path / "bert"))
    model.max_seq_length = length
    warn_of_longer(model, ["a " * 1000], ["b " * 1000])
    assert not said(caplog) and TextLimit(model, "query").count_longer(["a " * 1000]) == 0


def test_static_embeddings_and_routes(tmp_path, caplog, model):
    """Static embeddings read all, unless their tokenizer cuts; a router has a limit for each role."""
    backend = model.tokenizer.backend_tokenizer
    static = StaticEmbedding(type(backend).from_str(backend.to_str()), embedding_dim=16)
    static.tokenizer.no_truncation()
    whole = SentenceTransformer(modules=[static])
    warn_of_longer(whole, [], ["word " * 500])
    assert not said(caplog)
    static.tokenizer.enable_truncation(24)
    warn_of_longer(whole, ["word"], ["word " * 500])
    assert said(caplog) == [LINE]
    assert static.tokenizer.truncation["max_length"] == 24  # counting changes nothing
    bert = SentenceTransformer(make_bert(tmp_path / "bert"))
    bert.max_seq_length = 8
    routed = SentenceTransformer(modules=[Router.for_query_document([bert[0], bert[1]], [static])])
    assert [TextLimit(routed, role).most for role in ("query", "document")] == [8, 24]


def test_equal_texts_are_one(model, caplog):
    warn_of_longer(model, ["short"], ["word " * 30] * 5)
    assert said(caplog) == [LINE]


def test_numbers_are_for_people():
    assert describe_longer(1234, 5678901, 8192).startswith("1,234 of 5,678,901 texts are longer than the 8,192 tokens")
    assert "longer than the 2 x 24 tokens the model reads" in describe_longer(1, 2, 24, parts=2)


def test_a_prompt_that_fills_the_model(model):
    model.prompts["document"] = "word " * 30
    limit = TextLimit(model, "document")
    assert limit.count_longer(["a"]) == 1
    with pytest.raises(InputError, match="the document prompt of the model leaves no room for text: .* reads 24"):
        limit.measure()
