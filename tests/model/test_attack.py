"""Text that attacks the read-out: generated texts, through stock classes, over every kind of tokenizer."""

import json

import pytest
from helpers import FAMILIES, TEXTS, make_tokenizer, tiny
from hostile_texts import SPECIALS, SPELLED
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer

import lbr_st
from lbr_st.model.term_matching import add_terms

KINDS = {tokenizer: family for family, (_, _, tokenizer) in reversed(FAMILIES.items())}
BATCH = 40
# For each of the six kinds: 1,920 texts, and 20,160 in the slow suite.
BATCHES = [8, pytest.param(84, marks=pytest.mark.slow)]


PIECES = st.one_of(
    st.text(max_size=20),
    st.sampled_from(SPECIALS),
    st.sampled_from(SPELLED),
    st.sampled_from([*TEXTS, " ", "\n", "\x00", "Ġ", "▁", "<0x0A>", "\ufffd", "\u202e", "👩‍🔬", "e\u0301" * 5]),
)
ATTACKS = st.lists(PIECES, max_size=6).map("".join)


@pytest.fixture(scope="module")
def stock(tmp_path_factory):
    """Models of each kind as anyone loads them, with their bottleneck token ids."""
    models = {}
    for kind, family in KINDS.items():
        folder = tmp_path_factory.mktemp(kind)
        tokenizer = make_tokenizer(kind)
        tokenizer.add_tokens([token for token in SPECIALS if token not in tokenizer.get_vocab()], special_tokens=True)
        tokenizer.save_pretrained(folder / "backbone")
        tiny(family, vocab_size=len(tokenizer)).save_pretrained(folder / "backbone")
        model = lbr_st.from_backbone(str(folder / "backbone"), num_bottleneck_tokens=3, max_seq_length=24)
        lbr_st.save(model, folder / "model")
        models[kind] = SentenceTransformer(str(folder / "model"), device="cpu"), model[0].bottleneck_token_ids
    return models


@pytest.mark.parametrize("batches", BATCHES)
@pytest.mark.parametrize("kind", KINDS)
def test_no_text_moves_the_read_out(stock, kind, batches):
    model, bottleneck = stock[kind]
    checked = 0

    @settings(
        max_examples=batches, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(st.lists(ATTACKS, min_size=BATCH, max_size=BATCH))
    def attack(texts):
        nonlocal checked
        batch = model.preprocess(texts)
        for text, ids, mask in zip(texts, batch["input_ids"], batch["attention_mask"], strict=True):
            row = ids[mask.bool()].tolist()
            assert row[-3:] == bottleneck, text
            assert not set(row[:-3]) & set(bottleneck), text
            assert len(row) <= 24, text
        vectors = model.encode(texts, batch_size=BATCH, convert_to_tensor=True)
        assert vectors.isfinite().all()
        assert (vectors.norm(dim=1) - 1).abs().max() < 1e-5
        checked += len(texts)

    attack()
    assert checked >= BATCH * batches


def test_special_tokens_are_special_here(stock):
    """The attack would show nothing if they were plain characters: each is one token, in the middle of a text."""
    for model, _ in stock.values():
        for token in SPECIALS:
            id_ = model.tokenizer.convert_tokens_to_ids(token)
            assert model.tokenizer(f"a{token}b", add_special_tokens=False)["input_ids"].count(id_) == 1


def test_a_lone_surrogate_is_refused_by_the_tokenizer_library(stock):
    """Not a text: it has no UTF-8. docs/guides/model.md says so."""
    for model, _ in stock.values():
        with pytest.raises((TypeError, UnicodeEncodeError)):
            model.encode(["\ud800"])


TERMS = ["beta-blocker", "acetylsalicylic acid", "bottleneck 0", "endoftext", "pressure", "x 0A", "e\u0301tat", "B12"]
PIECES_WITH_TERMS = st.one_of(PIECES, st.sampled_from([*TERMS, *(f" {term} " for term in TERMS), "s", "1", "_", "-"]))


@pytest.fixture(scope="module")
def with_terms(stock):
    """The tokenizer of each kind as it was, and with domain tokens."""
    found = {}
    for kind, (model, _) in stock.items():
        plain = Tokenizer.from_str(model.tokenizer.backend_tokenizer.to_str())
        plain.no_truncation()
        plain.no_padding()
        data = json.loads(plain.to_str())
        pieces = add_terms(data, TERMS)
        found[kind] = plain, Tokenizer.from_str(json.dumps(data)), set(pieces)
    return found


@pytest.mark.parametrize("batches", BATCHES)
@pytest.mark.parametrize("kind", KINDS)
def test_no_term_moves_the_read_out_and_other_texts_keep_their_ids(stock, with_terms, kind, batches):
    bottleneck = stock[kind][1]
    plain, changed, terms = with_terms[kind]
    letters = [normalised(plain, term) for term in TERMS]
    kept = 0

    @settings(
        max_examples=batches, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(st.lists(st.lists(PIECES_WITH_TERMS, max_size=6).map("".join), min_size=BATCH, max_size=BATCH))
    def attack(texts):
        nonlocal kept
        for text, before, after in zip(texts, plain.encode_batch(texts), changed.encode_batch(texts), strict=True):
            assert after.ids[-3:] == bottleneck, text
            assert not set(after.ids[:-3]) & set(bottleneck), text
            if not any(term in normalised(plain, text) for term in letters):
                assert after.ids == before.ids, text
                kept += 1
            elif not set(after.ids) & terms:  # inside other words alone
                assert after.ids == before.ids, text

    attack()
    assert kept >= BATCH * batches / 4


def normalised(tokenizer, text):
    """Return a text as a tokenizer normalises it, with plain spaces."""
    found = text if tokenizer.normalizer is None else tokenizer.normalizer.normalize_str(text)
    return found.replace("\u2581", " ")
