"""``/v1/embeddings`` as OpenAI's clients use it, by a real server: what it takes, what it gives, what it refuses."""

import base64

import numpy as np
import pytest
from helpers import TEXTS, make_backbone
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Transformer
from sentence_transformers.sentence_transformer.modules import Pooling

from lbr_st.use.export import export


def vectors_of(answer):
    assert answer["object"] == "list"
    assert [row["index"] for row in answer["data"]] == list(range(len(answer["data"])))
    assert {row["object"] for row in answer["data"]} == {"embedding"}
    rows = [row["embedding"] for row in answer["data"]]
    if isinstance(rows[0], str):
        rows = [np.frombuffer(base64.b64decode(row), "<f4") for row in rows]
    return np.array(rows, np.float32)


def near(found, expected, tolerance=1e-6):
    return found.shape == expected.shape and np.abs(found - expected).max() < tolerance


def test_a_text_and_a_list(served, opened):
    """In both encodings; the tokens are those that the model reads, its prompt and its bottleneck tokens too."""
    expected = opened.encode_document(TEXTS)
    for encoding in ("float", "base64", None):
        status, answer = served.embed(TEXTS, encoding_format=encoding)
        assert status == 200 and near(vectors_of(answer), expected) and answer["model"] == "lbr-model"
        assert isinstance(answer["data"][0]["embedding"], str) is (encoding == "base64")
        ids = opened.tokenizer(["find this: " + text for text in TEXTS], truncation=False)["input_ids"]
        read = sum(min(len(each), 24) for each in ids)
        assert answer["usage"] == {"prompt_tokens": read, "total_tokens": read}
    status, answer = served.embed(TEXTS[0])
    assert status == 200 and near(vectors_of(answer), expected[:1])


def test_a_text_that_is_longer_than_the_model_reads(served, opened):
    """It is cut as the model cuts it, and counted."""
    before = served.number("lbr_texts_cut_total")
    status, answer = served.embed(["word " * 60, "word"])
    assert status == 200 and near(vectors_of(answer), opened.encode_document(["word " * 60, "word"]))
    assert served.number("lbr_texts_cut_total") == before + 1


def test_queries_and_documents(served, opened):
    """By a field, and by the name of the model for clients that cannot send it."""
    query, document = opened.encode_query([TEXTS[0]]), opened.encode_document([TEXTS[0]])
    assert not near(query, document)
    for more, expected in (
        ({}, document),
        ({"input_type": "document"}, document),
        ({"input_type": "query"}, query),
        ({"model": "lbr-model-query"}, query),
        ({"model": "lbr-model-query", "input_type": "query"}, query),
        ({"model": None, "user": "someone"}, document),
    ):
        status, answer = served.embed(TEXTS[0], **more)
        assert status == 200 and near(vectors_of(answer), expected), more
    assert answer["model"] == "lbr-model"


def test_dimensions_that_the_model_was_trained_for(served, opened):
    """Cut, and of unit length again; those it was not trained for are refused, as its card names none."""
    width = opened.get_embedding_dimension()
    for dimensions in (8, 16, width):
        expected = opened.encode_document(TEXTS, truncate_dim=dimensions, normalize_embeddings=True)
        for encoding in ("float", "base64"):
            status, answer = served.embed(TEXTS, dimensions=dimensions, encoding_format=encoding)
            assert status == 200 and near(vectors_of(answer), expected)
    for dimensions, said in ((9, f"8, 16, {width}"), (width + 1, f"8, 16, {width}"), (0, "8, 16"), (True, "whole"),
                             (8.0, "whole"), ("8", "whole")):  # fmt: skip
        status, answer = served.embed("text", dimensions=dimensions)
        assert status == 400 and answer["error"]["param"] == "dimensions" and said in answer["error"]["message"]


def test_a_model_that_gives_its_first_dimensions(serving, opened):
    """What it was trained for beyond them is not there any more; of a folder of wider vectors, that is said."""
    expected = opened.encode_document(TEXTS, truncate_dim=16, normalize_embeddings=True)
    with serving(dimensions=16) as served:
        status, answer = served.embed(TEXTS)
        assert status == 200 and near(vectors_of(answer), expected)
        assert served.embed(TEXTS, dimensions=8)[0] == 200
        status, answer = served.embed(TEXTS, dimensions=32)
        assert status == 400 and answer["error"]["message"].endswith("trained for: 8, 16")
        assert served.ask("GET", "/v1/models")[2]["data"][0]["dimensions"] == 16


@pytest.mark.slow
def test_an_export_is_served(serving, saved, opened, tmp_path):
    """By its own runtime; it has no head that would say its vectors in words."""
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    folder = export(saved, "onnx", tmp_path / "export").folder
    with serving(model=str(folder), name="lbr-model") as served:
        status, answer = served.embed(TEXTS)
        assert status == 200 and near(vectors_of(answer), opened.encode_document(TEXTS), 1e-5)
        assert served.ask("GET", "/health")[2]["words"] is False


def test_half_a_surrogate_pair_is_left_out(served, opened):
    status, answer = served.embed("a \ud83d b")
    assert status == 200 and near(vectors_of(answer), opened.encode_document(["a  b"]))


@pytest.mark.parametrize(
    ("body", "status", "param", "said"),
    [
        (b"{", 400, None, "the body is not JSON: Expecting property name"),
        (b"", 400, None, "the body is not JSON"),
        (b"\xff\xfe", 400, None, "the body is not JSON"),
        (b"[" * 100_000, 400, None, "the body is not JSON"),
        (b'{"input": ' + b"9" * 5000 + b"}", 400, None, "the body is not JSON"),
        (["text"], 400, None, "the body must be a JSON object"),
        ({}, 400, "input", "input is missing or empty"),
        ({"input": []}, 400, "input", "input is missing or empty"),
        ({"input": 5.5}, 400, "input", "input must be a text or a list of texts"),
        ({"input": ["a", None]}, 400, "input", "input must be a text or a list of texts"),
        ({"input": {"a": 1}}, 400, "input", "input must be a text or a list of texts"),
        ({"input": [1, 2]}, 400, "input", "check_embedding_ctx_length=False"),
        ({"input": [[1, 2], [3]]}, 400, "input", "check_embedding_ctx_length=False"),
        ({"input": "a", "model": "gpt"}, 404, "model", "the models here are lbr-model and lbr-model-query"),
        ({"input": "a", "model": ["lbr-model"]}, 404, "model", "the models here are"),
        ({"input": "a", "input_type": "passage"}, 400, "input_type", "must be query or document"),
        ({"input": "a", "model": "lbr-model-query", "input_type": "document"}, 400, "input_type", "for queries"),
        ({"input": "a", "encoding_format": "hex"}, 400, "encoding_format", "must be float or base64"),
        ({"input": "a", "encoding_format": ["float"]}, 400, "encoding_format", "must be float or base64"),
        ({"input": "a", "input_typ": "query"}, 400, "input_typ", "is no field; there are input, model,"),
    ],
)
def test_refusals_are_in_the_form_of_openai(served, body, status, param, said):
    found, headers, answer = served.ask("POST", "/v1/embeddings", body)
    assert found == status and headers["Content-Type"] == "application/json"
    assert answer["error"].keys() == {"message", "type", "param", "code"}
    assert answer["error"]["type"] == "invalid_request_error" and answer["error"]["param"] == param
    assert said in answer["error"]["message"]


def test_a_text_without_a_token_is_refused_by_the_model_that_has_no_vector_for_it(served, serving, tmp_path):
    """A mean of tokens needs one; other models have a vector of an empty text."""
    assert served.embed("")[0] == 200
    transformer = Transformer(make_backbone(tmp_path / "backbone"))
    model = SentenceTransformer(modules=[transformer, Pooling(transformer.get_embedding_dimension(), "mean")])
    model.save_pretrained(str(tmp_path / "model"), create_model_card=False)
    with serving(model=str(tmp_path / "model")) as means:
        assert means.embed("a", model="model")[0] == 200
        status, answer = means.embed(["a", ""], model="model")
    assert status == 400 and answer["error"] == {
        "message": "input has no token in text 1, '': the model has no vector for it",
        "type": "invalid_request_error",
        "param": "input",
        "code": "empty_text",
    }


def test_models(served):
    status, _, answer = served.ask("GET", "/v1/models")
    assert status == 200 and answer["object"] == "list"
    assert {row["id"]: row["input_type"] for row in answer["data"]} == {
        "lbr-model": "document", "lbr-model-query": "query",
    }  # fmt: skip
    assert all(row["object"] == "model" and row["owned_by"] == "lbr-st" for row in answer["data"])
    assert served.ask("GET", "/v1/models/lbr-model-query")[2] == answer["data"][1]
    status, _, answer = served.ask("GET", "/v1/models/gpt")
    assert status == 404 and answer["error"]["code"] == "model_not_found"
