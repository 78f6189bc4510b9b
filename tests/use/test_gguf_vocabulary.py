"""Texts are cut by what a GGUF file says as the model's tokenizer cuts them, or there is no such file."""

import json

import pytest
from helpers import FAMILIES, make_tokenizer, tiny
from hostile_texts import SPELLED
from tokenizers import AddedToken, Tokenizer, normalizers, pre_tokenizers, processors

from lbr_st.errors import InputError
from lbr_st.model.tokens import add_bottleneck_tokens
from lbr_st.use.gguf_vocabulary import CONTROL, NEVER, PROBES, SPLITTINGS, choose, needs_of

NFC, NO_SPACE, NO_SPECIAL = "in Unicode's NFC", "without a space at its start", "without special tokens"
KINDS = {
    "qwen2": ("qwen2", [NFC]),
    "llama3": ("qwen2", [NFC]),
    "gpt2": ("gpt-2", []),
    "gpt-neox": ("gpt-2", [NFC]),
    "llama2": ("", [NO_SPACE, NO_SPECIAL]),
    "gemma": ("", []),
}


@pytest.fixture(scope="module")
def tokenizers():
    """A tokenizer of each kind that appends one bottleneck token."""
    made = {}
    for family in ("qwen2", "llama", "gpt2", "gpt-neox", "mistral-sliding", "gemma3"):
        kind = FAMILIES[family][2]
        original = make_tokenizer(kind)
        made[kind], _ = add_bottleneck_tokens(tiny(family, layers=1, vocab_size=len(original)), original, 1)
    return {kind: tokenizer.backend_tokenizer for kind, tokenizer in made.items()}


def changed(tokenizer):
    return Tokenizer.from_str(tokenizer.to_str())


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_tokens(tokenizers, kind):
    original, (splits_as, expected) = tokenizers[kind], KINDS[kind]
    size = max(original.get_vocab().values()) + 1
    made = choose(original, size + 2)
    assert made.splits_as == splits_as and made.tokens[size:] == [f"[PAD{size}]", f"[PAD{size + 1}]"]
    needs = needs_of(original, made)
    assert list(needs) == expected
    theirs = made.tokenizer()
    texts = [text for text in [*PROBES, *SPELLED] if all(holds(text) for holds in needs.values())]
    assert len(texts) > 80
    for text in texts:
        ids = original.encode(text).ids
        assert theirs.encode(text).ids == ids, text
        assert ids.index(made.eos) == len(ids) - 1, "spelled by a text"


def test_what_a_text_has_to_be(tokenizers):
    needs = needs_of(tokenizers["llama2"], choose(tokenizers["llama2"], 500))
    assert needs[NO_SPACE]("a ") and not needs[NO_SPACE](" a")
    assert needs[NO_SPECIAL]("<|bottleneck 0|>") and not needs[NO_SPECIAL]("a</s>")
    needs = needs_of(tokenizers["qwen2"], choose(tokenizers["qwen2"], 400))
    assert needs[NFC]("é") and not needs[NFC]("e\u0301")


def test_sentencepiece(tokenizers):
    """Scores fall with the rank of the first merge that makes a token; bytes are of their kind."""
    data = json.loads(tokenizers["llama2"].to_str())
    made = choose(tokenizers["llama2"], 500)
    left, right = data["model"]["merges"][3]
    scores = dict(zip(made.tokens, made.scores, strict=True))
    assert scores[left + right] == -3.0 and scores["<0x0A>"] == NEVER
    kinds = dict(zip(made.tokens, made.kinds, strict=True))
    assert (kinds["<0x0A>"], kinds["<s>"], kinds[left + right], kinds["[PAD499]"]) == (6, 3, 1, 5)
    assert made.adds_space and made.adds_bos and made.tokens[made.bos] == "<s>"


def test_where_nothing_goes_before_a_text_some_control_token_is_named(tokenizers):
    """node-llama-cpp appends the token behind a text only where one before it has a name."""
    made = choose(tokenizers["gpt2"], 400)
    assert not made.adds_bos and made.tokens[made.bos] == "<|endoftext|>" and made.kinds[made.bos] == CONTROL


def test_every_splitting_is_told_from_the_others():
    cuts = [
        str([pre_tokenizers.Sequence(each.parts).pre_tokenize_str(t) for t in PROBES]) for each in SPLITTINGS.values()
    ]
    assert len(set(cuts)) == len(SPLITTINGS) == 5


def test_refusals(tokenizers):
    by_words, without, lower, two = (changed(tokenizers["gpt2"]) for _ in range(4))
    by_words.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Punctuation("isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    without.pre_tokenizer = None
    lower.normalizer = normalizers.Lowercase()
    last = lower.encode("").tokens[-1]
    tokens = [(token, two.token_to_id(token)) for token in ("<|endoftext|>", last)]
    two.post_processor = processors.TemplateProcessing(
        single=["<|endoftext|>", "<|endoftext|>", "$A", last], special_tokens=tokens
    )
    strips = changed(tokenizers["qwen2"])
    strips.add_tokens([AddedToken("[user_0]", lstrip=True, normalized=False)])
    for tokenizer, message in {
        strips: r"the token \[user_0\] takes the white space beside it, as those of users and items do",
        by_words: r"splits texts in a way that is none of .* \(gpt-2, smollm, qwen2, llama-bpe, deepseek-v3\)",
        without: "splits texts in a way",
        lower: r"llama.cpp would cut \"Don't, DON'T.*\" into other tokens",
        two: "2 tokens go before every text",
    }.items():
        with pytest.raises(InputError, match=f"^--to gguf: .*{message}"):
            choose(tokenizer, 400)
