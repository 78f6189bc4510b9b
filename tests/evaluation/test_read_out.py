"""An embedding in words, against the language model run by hand."""

import pytest
import torch
from helpers import PAIRS, make_bert
from sentence_transformers import SentenceTransformer

from lbr_st.errors import InputError
from lbr_st.evaluation import read_out as module
from lbr_st.evaluation.read_out import read_out

TEXTS = [PAIRS[0]["query"], PAIRS[1]["query"], "a"]


def weights_of(model, prompt, text):
    """Weight of each token: p times what its logarithm has gained on that of no text."""
    ids = [torch.tensor([model.tokenizer(prompt + each)["input_ids"]]) for each in (text, "")]
    logits = [model[0].model(each).logits[0, -1] for each in ids]
    after, before = (each.log_softmax(0) for each in logits)
    return after.exp() * (after - before)


def test_words_are_what_the_head_makes_of_the_state(model, monkeypatch):
    monkeypatch.setattr(module, "TOKENS", 10**6)  # those of the least weight too
    model.prompts["document"] = "d: "
    for role, prompt in (("query", ""), ("document", "d: ")):
        for text, words in zip(TEXTS, read_out(model, TEXTS, 5, role=role, batch_size=2), strict=True):
            expected = {}
            for id_, weight in enumerate(weights_of(model, prompt, text).tolist()):
                word = model.tokenizer.decode([id_]).strip().casefold()
                if any(map(str.isalnum, word)) and id_ not in model.tokenizer.all_special_ids:
                    expected[word] = expected.get(word, 0) + weight
            best = sorted(expected.values(), reverse=True)[:5]
            assert [weight for _, weight in words] == pytest.approx(best, abs=1e-5)
            assert [expected[word.casefold()] for word, _ in words] == pytest.approx(best, abs=1e-5)


def test_one_word_however_it_is_written(model):
    """ " a" and "A" are one; what is no word, and special tokens, are none."""
    tokenizer = model.tokenizer
    ids = {tokenizer.decode([id_]): id_ for id_ in range(len(tokenizer))}
    spellings = [id_ for text, id_ in ids.items() if text.strip().casefold() == "a"]
    assert len(spellings) > 1
    head = model[0].model.get_output_embeddings()

    class Fixed(torch.nn.Module):
        weight = head.weight

        def forward(self, states):
            logits = torch.full((len(states), len(head.weight)), -9.0)
            logits[:, spellings] = 5.0
            logits[:, [ids[","], tokenizer.eos_token_id]] = 9.0
            return logits if len(states) > 1 else torch.zeros_like(logits)  # no text

    model[0].model.set_output_embeddings(Fixed())
    [[(word, weight)], _] = read_out(model, TEXTS[:2], 1)
    assert word.casefold() == "a"
    p = torch.cat([torch.full((len(head.weight) - len(spellings) - 2,), -9.0), torch.tensor([5.0] * len(spellings)),
                   torch.tensor([9.0, 9.0])]).softmax(0)[-3]  # fmt: skip
    assert weight == pytest.approx(
        len(spellings) * float(p * (p.log() + torch.tensor(len(head.weight)).log())), rel=1e-4
    )


def test_another_model_has_no_words(tmp_path):
    with pytest.raises(InputError, match="only a model of this package can say"):
        read_out(SentenceTransformer(make_bert(tmp_path / "bert")), ["a"])
