"""Domain tokens of a model: their rows, what is saved of them, and vectors of another model that they start from."""

import json
import logging

import numpy as np
import pytest
import torch
from helpers import TEXTS, make_backbone
from sentence_transformers import SentenceTransformer

import lbr_st
from lbr_st.errors import InputError
from lbr_st.model.contract import VerificationError, check_files
from lbr_st.model.domain_tokens import add_domain_tokens, known_words, terms_of
from lbr_st.model.domain_vectors import fit, known_tokens
from lbr_st.model.term_matching import texts_of
from lbr_st.model.verify import verify

TERMS = ["acetylsalicylic acid", "Ölsäure"]


def weights(module):
    layers = module.model.get_input_embeddings(), module.model.get_output_embeddings()
    return [layer.weight.detach().clone() for layer in layers]


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", ["qwen3", "gpt-neox", "gemma3"])
def test_rows_start_at_the_mean_of_their_pieces(tmp_path, family, tied):
    backbone = make_backbone(tmp_path, family, tied=tied)
    module = lbr_st.from_backbone(backbone, num_bottleneck_tokens=2, max_seq_length=24)[0]
    plain, before = module.tokenizer, weights(module)
    ids = add_domain_tokens(module, TERMS)
    assert ids == module.domain_token_ids == list(range(len(before[0]), len(before[0]) + 4))
    after = weights(module)
    assert tied == torch.equal(*after) and module.model.config.vocab_size == len(after[0])
    for old, new in zip(before, after, strict=True):
        assert torch.equal(new[: len(old)], old)
        for term, spaced in zip(TERMS, ids[::2], strict=True):
            pieces = plain(f" {term}", add_special_tokens=False)["input_ids"]
            assert len(pieces) > 2 and torch.allclose(new[spaced], old[pieces].mean(0), atol=1e-6)
    assert terms_of(module.tokenizer, ids) == TERMS
    assert module.tokenizer(f"a {TERMS[0]}")["input_ids"][-3:] == [ids[0], *module.bottleneck_token_ids]
    assert (module.max_seq_length, module.tokenizer.padding_side) == (24, "right")


def test_spare_rows_are_used(tmp_path):
    backbone = make_backbone(tmp_path, "llama")
    model = lbr_st.from_backbone(backbone, num_bottleneck_tokens=1, max_seq_length=24)
    rows = len(model.tokenizer) + 50
    model[0].model.resize_token_embeddings(rows)
    ids = add_domain_tokens(model[0], TERMS)
    assert len(weights(model[0])[0]) == rows and ids[-1] < rows


@pytest.mark.whole_run
@pytest.mark.parametrize("family", ["qwen3", "mistral-sliding"])
def test_saved_verified_and_opened_by_anyone(tmp_path, family):
    model = lbr_st.from_backbone(make_backbone(tmp_path / "b", family), num_bottleneck_tokens=2, max_seq_length=24)
    ids = add_domain_tokens(model.eval()[0], TERMS)
    lbr_st.save(model, tmp_path / "model")
    lines = list(verify(tmp_path / "model", device="cpu"))
    assert any("has 4 tokens of terms" in line for line in lines)
    assert "Its vocabulary has 4 tokens for terms of the domain." in (tmp_path / "model" / "README.md").read_text()
    texts = [*TEXTS, *TERMS, f"a {TERMS[0]}, ({TERMS[1]})"]
    for opened in (SentenceTransformer(str(tmp_path / "model"), device="cpu"), lbr_st.load(str(tmp_path / "model"))):
        assert np.abs(opened.encode(texts) - model.encode(texts)).max() < 1e-6
        assert opened.tokenizer(texts)["input_ids"] == model.tokenizer(texts)["input_ids"]
    assert opened[0].domain_token_ids == ids


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("lbr_config.json", lambda c: c.update(domain_token_ids="no"), "domain_token_ids are no list of token ids"),
        ("lbr_config.json", lambda c: c["domain_token_ids"].append(c["bottleneck_token_ids"][0]), "a token twice"),
        ("lbr_config.json", lambda c: c["domain_token_ids"].append(9999), "has the domain token 9999"),
        ("tokenizer.json", lambda t: t["pre_tokenizer"]["pretokenizers"].pop(0), "does not make token 32. of the term"),
        ("tokenizer.json", lambda t: t["model"]["vocab"].pop("Ġzzyzx"), "has no entry of id 32"),
    ],
)  # fmt: skip
def test_what_does_not_match_terms_any_more_is_refused(tmp_path, file, change, message):
    model = lbr_st.from_backbone(make_backbone(tmp_path / "b", "gpt-neox"), max_seq_length=24)
    add_domain_tokens(model[0], ["acetylsalicylic acid", "zzyzx"])
    lbr_st.save(model, tmp_path / "model")
    data = json.loads((tmp_path / "model" / file).read_text())
    change(data)
    (tmp_path / "model" / file).write_text(json.dumps(data))
    with pytest.raises(VerificationError, match=message):
        check_files(tmp_path / "model")


def test_refusals(tmp_path):
    model = lbr_st.from_backbone(make_backbone(tmp_path, "qwen3"), max_seq_length=24)
    vocabulary = model.tokenizer.get_vocab()
    word = next(each for each in sorted(vocabulary) if each.isascii() and each.isalpha() and f"Ġ{each}" in vocabulary)
    with pytest.raises(InputError, match="each of the 1 terms is one token of the model already"):
        add_domain_tokens(model[0], [word])
    add_domain_tokens(model[0], TERMS)
    with pytest.raises(InputError, match="the model has 4 domain tokens already"):
        add_domain_tokens(model[0], ["another"])


def test_a_tokenizer_that_transformers_makes_anew_is_refused(model):
    """That of Qwen2, whatever class its files name: a text would have the term in some readers, and not in others."""
    before = model.tokenizer("a zzyzx")["input_ids"]
    with pytest.raises(InputError, match="loads this model's tokenizer as a Qwen2Tokenizer, which makes its"):
        add_domain_tokens(model[0], ["zzyzx"])
    assert model.tokenizer("a zzyzx")["input_ids"] == before and model[0].domain_token_ids == []


NUMBERS = 8


@pytest.mark.parametrize("tied", [True, False])
def test_rows_start_from_the_vectors_of_another_model(tmp_path, caplog, tied):
    """Where the rows of all words are a linear function of their vectors, those of the terms are the same function."""
    module = lbr_st.from_backbone(make_backbone(tmp_path, "qwen3", tied=tied), max_seq_length=24)[0]
    draw = torch.Generator().manual_seed(0)
    words = sorted(known_words(module.tokenizer)) + TERMS[:1]
    vectors = {word: torch.randn(NUMBERS, generator=draw).numpy() for word in words}
    texts = texts_of(json.loads(module.tokenizer.backend_tokenizer.to_str()))
    functions = []
    for weight in {id(w): w for w in (e.weight for e in _layers(module))}.values():
        function = torch.randn(NUMBERS + 2, weight.shape[1], generator=draw)
        functions.append(function)
        for id_, text in texts.items():
            if (word := text.removeprefix(" ")) in vectors:
                weight.data[id_] = row_of(vectors[word], word != text, function)
    with caplog.at_level(logging.INFO):
        ids = add_domain_tokens(module, TERMS, vectors)
    assert caplog.text.count("leaves 0% of the variance") == len(functions) == (1 if tied else 2)
    assert "1 terms start from their vectors" in caplog.text
    for layer, function in zip(_layers(module), functions, strict=False):
        for id_, is_spaced in zip(ids[:2], (True, False), strict=True):
            assert torch.allclose(layer.weight.data[id_], row_of(vectors[TERMS[0]], is_spaced, function), atol=1e-3)
    assert terms_of(module.tokenizer, ids) == TERMS


def _layers(module):
    return module.model.get_input_embeddings(), module.model.get_output_embeddings()


def row_of(vector, is_spaced, function):
    return torch.cat([torch.from_numpy(vector), torch.tensor([1.0, float(is_spaced)])]) @ function


def test_a_word_is_held_out_with_both_of_its_tokens():
    """They have one vector and rows that are alike: with one of them fitted, the other would be known already."""
    draw = torch.Generator().manual_seed(2)
    numbers, words = 300, 600
    vectors = {f"w{n}": torch.randn(numbers, generator=draw).numpy() for n in range(words)}
    known = list(known_tokens(vectors, {n: f"{' ' * (n % 2)}w{n // 2}" for n in range(2 * words)}))
    rows = torch.randn(words, 8, generator=draw).repeat_interleave(2, dim=0) + 0.1 * torch.randn(
        1200, 8, generator=draw
    )
    found = fit(vectors, known, rows)
    assert (found.fitted, found.held_out) == (1080, 120) and found.unexplained > 1.5  # the vectors say nothing


def test_what_a_map_leaves_unexplained():
    """Of vectors that say nothing of the rows it is about all; of rows that are half noise, about half."""
    draw = torch.Generator().manual_seed(1)
    vectors = {f"w{n}": torch.randn(4, generator=draw).numpy() for n in range(2000)}
    known = list(known_tokens(vectors, {n: f" w{n}" for n in range(2000)}))
    assert known[1] == ("w1", 1, True)
    noise = torch.randn(2000, 6, generator=draw)
    said = torch.from_numpy(np.stack(list(vectors.values()))) @ torch.randn(4, 6, generator=draw)
    assert fit(vectors, known, noise).unexplained == pytest.approx(1, abs=0.05)
    found = fit(vectors, known, said / said.std() + noise)
    assert found.unexplained == pytest.approx(0.5, abs=0.06) and (found.fitted, found.held_out) == (1800, 200)
    with pytest.raises(InputError, match="know 9 tokens both, and a map from vectors of 4 numbers needs 14; give"):
        fit(vectors, known[:9], noise)
