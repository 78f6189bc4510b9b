"""Each other loss of stage 1, against one that is computed by hand, an example at a time."""

import math

import pytest
import torch
import torch.nn.functional as F
from helpers import LONG_PAIR, PAIRS, SHORT_PAIR, examples_of

from lbr_st.learning.batches import IGNORE, collate
from lbr_st.learning.masked_model import CutOffModel
from lbr_st.learning.objectives import Arm
from lbr_st.model.cutoff import BOTTLENECK, TARGET

RECORDS = [SHORT_PAIR, *PAIRS, LONG_PAIR]


@pytest.fixture
def examples(model):
    model.max_seq_length = 30
    return list(examples_of(RECORDS, model))


def targets_of(example):
    return torch.tensor([label for label in example["labels"] if label != IGNORE])


def loss_of(training_model, examples):
    return training_model.train()(**collate(examples))["loss"]


def read_out_of(language_model, example):
    """Log-probabilities of the last Z, where X and Z are all that is read."""
    end = example["segments"].index(TARGET)
    return language_model(torch.tensor([example["input_ids"][:end]])).logits[0, -1].log_softmax(0)


def mean(sums, examples):
    return sum(sums) / sum(len(targets_of(example)) for example in examples)


def test_set_by_weight(model, examples):
    from objective_models import SetReadOut

    language_model = model[0].model
    weights = torch.rand(language_model.config.vocab_size, generator=torch.Generator().manual_seed(0))
    weights[list({*targets_of(examples[0]).tolist()})] = 0  # of the first example no token counts
    sums = [0.0]
    for example in examples[1:]:
        log_probabilities, tokens = read_out_of(language_model, example), sorted({*targets_of(example).tolist()})
        total = sum(weights[token] for token in tokens)
        assert len(tokens) < len(targets_of(example)) or example is not examples[-1]
        weighted = sum(-weights[token] * log_probabilities[token] for token in tokens) / total
        sums.append(weighted * len(targets_of(example)))
    paper = loss_of(CutOffModel(language_model), examples)
    found = loss_of(SetReadOut(language_model, weights=weights, read_out_weight=0.5), examples)
    assert abs(found - paper - 0.5 * mean(sums, examples)) < 1e-4


def test_falling(model, examples):
    from objective_models import FallingReadOut

    language_model = model[0].model
    paper, whole = (loss_of(CutOffModel(language_model, read_out_weight=w), examples) for w in (0.0, 2.0))
    falling = FallingReadOut(language_model, batches=4, read_out_weight=2.0)
    shares = [((loss_of(falling, examples) - paper) / (whole - paper)).item() for _ in range(5)]
    root = math.sqrt(0.5)
    expected = [1, 0.1 + 0.45 * (1 + root), 0.55, 0.1 + 0.45 * (1 - root), 0.1]
    assert shares == pytest.approx(expected, abs=1e-4)


def test_soft_targets(model, examples):
    from objective_models import SoftTargets

    language_model = model[0].model
    own, read_out = [], []
    for example in examples:
        ids = torch.tensor([example["input_ids"]])
        start = example["segments"].index(TARGET) - 1
        expected = language_model(ids).logits[0, start:-1].softmax(-1)  # X in sight
        alone = collate([example])
        rows = CutOffModel(language_model).target_rows(**alone)
        own.append(-(expected * language_model.get_output_embeddings()(rows).log_softmax(-1)).sum())
        read_out.append(-(expected * read_out_of(language_model, example)).sum())
    for weight in (0.0, 0.5):
        loss = loss_of(SoftTargets(language_model, read_out_weight=weight), examples)
        assert abs(loss - mean(own, examples) - weight * mean(read_out, examples)) < 1e-4
    # What is expected gets no gradient: where it is met exactly, there is none left.
    language_model.zero_grad()
    sighted = [e for e in examples_of(RECORDS, model, arm=Arm.NO_CUT_OFF)]
    loss_of(SoftTargets(language_model), sighted).backward()
    assert max(p.grad.abs().max() for p in language_model.parameters() if p.grad is not None) < 1e-5


def test_from_the_state(model, examples):
    from objective_models import FromState

    language_model = model[0].model
    embed = language_model.get_input_embeddings()
    length = embed.weight.norm(dim=1).mean()
    own, read_out = [], []
    for example in examples:
        end, targets = example["segments"].index(TARGET), targets_of(example)
        ids = torch.tensor([example["input_ids"][:end]])
        state = language_model.base_model(ids).last_hidden_state[0, -1]
        inputs = torch.stack([length * state / state.norm(), *embed(targets[:-1])])[None]
        logits = language_model(inputs_embeds=inputs).logits[0]
        own.append(F.cross_entropy(logits, targets, reduction="sum"))
        read_out.append(-read_out_of(language_model, example)[targets].sum())
    for weight in (0.0, 0.5):
        loss = loss_of(FromState(language_model, read_out_weight=weight), examples)
        assert abs(loss - mean(own, examples) - weight * mean(read_out, examples)) < 1e-4
    assert len({example["segments"].index(TARGET) for example in examples}) > 1


@pytest.mark.parametrize("objective", ["sft", "reconstruct"])
def test_read_out_at_the_end_of_a_plain_text(model, objective):
    from objective_models import ReadOutAtTheEnd

    model.max_seq_length = 30
    language_model, z = model[0].model, model[0].bottleneck_token_ids[-1]
    examples = list(examples_of(RECORDS, model, objective, arm=Arm.PLAIN))
    assert not any(BOTTLENECK in example["segments"] for example in examples)
    sums = []
    for example in examples:
        last = language_model(torch.tensor([[*example["input_ids"], z]])).logits[0, -1]
        sums.append(-last.log_softmax(0)[targets_of(example)].sum())
    plain = loss_of(CutOffModel(language_model, bottleneck=False), examples)
    found = loss_of(ReadOutAtTheEnd(language_model, bottleneck=False, bottleneck_id=z, weight=0.5), examples)
    assert abs(found - plain - 0.5 * mean(sums, examples)) < 1e-4
