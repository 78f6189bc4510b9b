"""What is searched: cut into passages that a model reads to their end, and refused before a model is opened."""

import pytest
from helpers import make_bert
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding

from lbr_st.data.passages import CHUNK_TOKENS
from lbr_st.data.records import read_passages
from lbr_st.errors import InputError, RowError
from lbr_st.files import write_jsonl
from lbr_st.use.passages import chunker_of, require_sources

TEXT = "\n\n".join(" ".join(f"word{n}" for n in range(k, k + 9)) for k in range(0, 900, 9))


@pytest.mark.parametrize("most", [16, 64, 10**30])
def test_passages_fit_any_model(tmp_path, most):
    """None needs more tokens than are read, and none is longer than `CHUNK_TOKENS`, however long texts it reads."""
    model = SentenceTransformer(make_bert(tmp_path / "bert"))
    model.max_seq_length = most
    model.prompts["document"] = "doc: "
    (tmp_path / "a.txt").write_text(TEXT)
    passages = read_passages(tmp_path / "a.txt", lambda: chunker_of(model))
    texts = [passage["document"] for passage in passages]
    assert "".join("".join(texts).split()) == "".join(TEXT.split())
    with_prompt = [
        len(ids) for ids in model.tokenizer(["doc: " + text for text in texts], truncation=False)["input_ids"]
    ]
    alone = [len(ids) - 2 for ids in model.tokenizer(texts, truncation=False)["input_ids"]]  # [CLS] and [SEP]
    assert max(with_prompt) <= most and max(alone) <= CHUNK_TOKENS
    assert max(with_prompt) > min(most, CHUNK_TOKENS) * 0.7


def test_a_model_of_static_embeddings(model, tmp_path):
    """It reads all of a text, and passages are of the usual length in its tokens."""
    backend = model.tokenizer.backend_tokenizer
    static = StaticEmbedding(type(backend).from_str(backend.to_str()), embedding_dim=16)
    static.tokenizer.no_truncation()
    (tmp_path / "a.txt").write_text(TEXT)
    passages = read_passages(tmp_path / "a.txt", lambda: chunker_of(SentenceTransformer(modules=[static])))
    lengths = [len(static.tokenizer.encode(p["document"], add_special_tokens=False)) for p in passages]
    assert 0.7 * CHUNK_TOKENS < max(lengths) <= CHUNK_TOKENS


def test_a_prompt_without_room(model, tmp_path):
    model.prompts["document"] = "word " * 40
    (tmp_path / "a.txt").write_text(TEXT)
    with pytest.raises(InputError, match="the document prompt of the model leaves no room for text"):
        read_passages(tmp_path, lambda: chunker_of(model))


def test_sources(tmp_path):
    """Every one is looked at before the first is read; what is skipped is not what stops."""
    write_jsonl(tmp_path / "good.jsonl", [{"text": "a"}])
    write_jsonl(tmp_path / "blank.jsonl", [{"text": " "}, {"text": "b"}])
    good, blank = str(tmp_path / "good.jsonl"), str(tmp_path / "blank.jsonl")
    require_sources([good, "owner/name"])
    with pytest.raises(InputError, match="absent.jsonl: no such file"):
        require_sources([blank, "absent.jsonl"])
    with pytest.raises(RowError, match="blank.jsonl, line 1, column 'text': the text is empty"):
        require_sources([good, blank])
    errors = []
    require_sources([good, blank], errors.append)
    assert len(errors) == 1
    write_jsonl(tmp_path / "blank.jsonl", [{"text": " "}])
    with pytest.raises(InputError, match="blank.jsonl: no records that can be used"):
        require_sources([blank], errors.append)
