"""Terms are one token each where they stand as whole words, in every kind of tokenizer; other texts keep their ids."""

import copy
import json
import unicodedata

import pytest
from helpers import FAMILIES, TEXTS, make_tokenizer, tiny
from hostile_texts import SPELLED
from tokenizers import Regex, Tokenizer, pre_tokenizers

from lbr_st.errors import InputError
from lbr_st.model.term_matching import add_terms, check_term, texts_of
from lbr_st.model.tokens import add_bottleneck_tokens

KINDS = {tokenizer: family for family, (_, _, tokenizer) in reversed(FAMILIES.items())}  # a family of each
TERMS = [
    "acetylsalicylic",
    "acetylsalicylic acid",
    "beta-blocker",
    "beta-blocker (old)x",
    "cofactor Q10",
    "item 1127",
    "2-propanol",
    "Ölsäure",
    "क्षार",
]


def data_of(kind):
    """Return the tokenizer.json of a kind, with bottleneck tokens."""
    tokenizer = make_tokenizer(kind)
    tokenizer, _ = add_bottleneck_tokens(tiny(KINDS[kind], vocab_size=len(tokenizer)), tokenizer, 2)
    tokenizer.backend_tokenizer.no_truncation()
    return json.loads(tokenizer.backend_tokenizer.to_str())


def reader(data):
    return Tokenizer.from_str(json.dumps(data))


@pytest.fixture(scope="module")
def kinds():
    """For each kind the tokenizer without terms and with them, and the ids of each term: with a space, and without."""
    found = {}
    for kind in KINDS:
        plain = data_of(kind)
        data = copy.deepcopy(plain)
        pieces = add_terms(data, TERMS)
        by_text = {text: id_ for id_, text in texts_of(data).items() if id_ in pieces}
        ids = {term: (by_text[f" {term}"], by_text[term]) for term in TERMS}
        found[kind] = reader(plain), reader(data), ids
    return found


def ids_of(tokenizer, text):
    return tokenizer.encode(text, add_special_tokens=False).ids


@pytest.mark.parametrize("kind", KINDS)
def test_each_term_is_one_token_and_its_neighbours_stay(kinds, kind):
    plain, with_terms, ids = kinds[kind]
    first = max(plain.get_vocab().values()) + 1
    assert sorted(id_ for both in ids.values() for id_ in both) == list(range(first, first + 2 * len(TERMS)))
    left, right = ids_of(plain, "How is"), ids_of(plain, " treated?")
    if kind in ("llama2", "gemma"):  # the toy vocabularies join words; a piece of its own is not joined
        alone = {"normalizer": None, "pre_tokenizer": None, "post_processor": None, "added_tokens": []}
        right = ids_of(reader(json.loads(plain.to_str()) | alone), "▁treated?")
    for term in TERMS:
        spaced, alone = ids[term]
        assert ids_of(with_terms, f"How is {term} treated?") == [*left, spaced, *right]
        for before, after in (("(", ")"), ("x (", ") y"), ("x -", ", y"), ("_", "_")):
            assert ids_of(with_terms, f"{before}{term}{after}").count(alone) == 1
        start = with_terms.encode(f"{term}.").ids
        assert len({spaced, alone} & {*start}) == 1 and start[-2:] == plain.encode("").ids[-2:]
        text = f"x {term}, ({term})."
        assert with_terms.decode(ids_of(with_terms, text)) == plain.decode(ids_of(plain, text))


OTHERS = [
    "acetylsalicylics", "xacetylsalicylic", "Acetylsalicylic", "acetyl salicylic", "acetylsalicylic\u00e9",
    "beta-blockers", "alphabeta-blocker", "beta- blocker", "cofactor Q103", "cofactor  Q10", "cofactor\nQ10",
    "item 11275", "items 1127", "12-propanol", "2-propanols", "Ölsäuren", "क्षारा",
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_no_term_is_found_inside_other_words(kinds, kind):
    plain, with_terms, _ = kinds[kind]
    for text in OTHERS:
        for each in (text, f"a {text} b", f"({text})"):
            assert ids_of(with_terms, each) == ids_of(plain, each), each


@pytest.mark.parametrize("kind", KINDS)
def test_the_longest_that_is_whole_counts(kinds, kind):
    plain, with_terms, ids = kinds[kind]
    assert set(ids_of(with_terms, "x acetylsalicylic acid")) & set(ids["acetylsalicylic"]) == set()
    found = ids_of(with_terms, "x acetylsalicylic acids")
    assert ids["acetylsalicylic"][0] in found and ids["acetylsalicylic acid"][0] not in found
    found = ids_of(with_terms, "x beta-blocker (old)")
    assert ids["beta-blocker"][0] in found and ids["beta-blocker (old)x"][0] not in found


@pytest.mark.parametrize("kind", KINDS)
def test_a_digit_beside_a_letter_is_a_border(kinds, kind):
    """So is an underscore: byte-level tokenizers cut there themselves, and all kinds take it alike."""
    _, with_terms, ids = kinds[kind]
    for text in ("1acetylsalicylic2", "_acetylsalicylic_"):
        assert set(ids_of(with_terms, text)) & set(ids["acetylsalicylic"])


@pytest.mark.parametrize("kind", ["llama2", "gemma"])
def test_spellings_of_bytes_stay_spelled(kinds, kind):
    """Whole pieces are looked up, and SentencePiece has entries such as <0x0A>, which no merges make."""
    plain, with_terms, _ = kinds[kind]
    for entry in plain.get_vocab():
        assert ids_of(with_terms, entry) == ids_of(plain, entry)


@pytest.mark.parametrize("kind", KINDS)
def test_no_term_moves_the_read_out(kinds, kind):
    _, with_terms, _ = kinds[kind]
    bottleneck = with_terms.encode("").ids[-2:]
    for text in [*SPELLED, *TERMS, *(f"{term}{spelled}{term}" for term in TERMS for spelled in SPELLED[:8])]:
        row = with_terms.encode(text).ids
        assert row[-2:] == bottleneck and not set(row[:-2]) & set(bottleneck)


DIGITS = [{"type": "Digits", "individual_digits": True}]
BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
CUT = {"type": "Split", "pattern": {"String": "."}, "behavior": "Isolated", "invert": False}
PUNCTUATION = {"type": "Punctuation", "behavior": "Isolated"}


@pytest.mark.parametrize("parts", [[*DIGITS, BYTES], [{**DIGITS[0], "individual_digits": False}, BYTES], [CUT, BYTES]])
def test_other_parts_of_a_pre_tokenizer(parts):
    """Those of SmolLM2, StarCoder and others, which cut digits apart."""
    data = data_of("gpt2")
    data["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": parts}
    plain = reader(data)
    pieces = add_terms(data, TERMS)
    with_terms, by_text = reader(data), {text: id_ for id_, text in texts_of(data).items() if id_ in pieces}
    for term in TERMS:
        found = ids_of(with_terms, f"of {term} 12.5")
        assert found == [*ids_of(plain, "of"), by_text[f" {term}"], *ids_of(plain, " 12.5")]
    for text in [*TEXTS, "item 1128 of 11275, cofactor Q103... 1/2 ½ ٣٤ x²."]:
        assert ids_of(with_terms, text) == ids_of(plain, text)


def test_digits_are_those_of_the_library():
    """What stands for the part that cuts digits apart cuts the same characters apart."""
    numbers = "a".join(chr(code) for code in range(0x110000) if unicodedata.category(chr(code))[0] in "NMSP")
    split = pre_tokenizers.Split(Regex(r"\p{N}"), "isolated")
    assert split.pre_tokenize_str(numbers) == pre_tokenizers.Digits(individual_digits=True).pre_tokenize_str(numbers)


def test_a_part_that_is_not_known_takes_single_words_alone():
    data = data_of("gpt2")
    data["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [PUNCTUATION, BYTES]}
    add_terms(copy.deepcopy(data), ["acetylsalicylic"])
    with pytest.raises(
        InputError, match="this tokenizer cuts texts by Punctuation, which would cut 'beta-blocker' apart"
    ):
        add_terms(data, ["beta-blocker"])


def test_a_space_before_every_text_is_refused():
    data = data_of("gpt2")
    data["pre_tokenizer"]["add_prefix_space"] = True
    with pytest.raises(InputError, match="puts a space before every text"):
        add_terms(data, ["acetylsalicylic"])


def test_what_is_one_token_already_gets_none():
    data = data_of("qwen2")
    before = copy.deepcopy(data)
    assert add_terms(data, []) == {} and data == before
    pieces = add_terms(data, ["acetylsalicylic"])
    assert len(pieces) == 2
    assert add_terms(data, ["acetylsalicylic"]) == {}


@pytest.mark.parametrize(
    ("term", "message"),
    [
        ("a" * 101, "at most 100 characters, this one 101"),
        ("two  spaces", "white space other than single spaces"),
        ("tab\tin it", "white space other than single spaces"),
        (" before", "white space other than single spaces"),
        ("", "has no letter"),
        ("1127", "has no letter"),
        ("C++", "must begin and end with a letter or a digit"),
        ("(R)-x", "must begin and end with a letter or a digit"),
    ],
)
def test_terms_that_could_not_be_told_from_their_neighbours(term, message):
    with pytest.raises(InputError, match=message.replace("(", r"\(").replace(")", r"\)")):
        check_term(term)


def test_a_term_is_matched_as_the_tokenizer_normalises_it():
    """Qwen's tokenizer composes letters: a decomposed term is found in texts of either form."""
    data = data_of("qwen2")
    pieces = add_terms(data, ["O\u0308lsa\u0308ure"])
    found = [
        set(ids_of(reader(data), f"x {text}")) & set(pieces) for text in ("\u00d6ls\u00e4ure", "O\u0308lsa\u0308ure")
    ]
    assert found[0] == found[1] and len(found[0]) == 1
