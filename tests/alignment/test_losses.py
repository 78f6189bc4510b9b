"""The loss of stage 2 against eq. 3 written out, and its memory-lean form against the plain one."""

import math

import pytest
import torch
from helpers import LONG_PAIR, PAIRS, SHORT_PAIR, examples_of
from torch.nn.functional import normalize

from lbr_st.alignment import losses as contrastive
from lbr_st.alignment.losses import JointCollator, JointLoss, info_nce
from lbr_st.learning import cross_entropy as loss
from lbr_st.learning.batches import collate
from lbr_st.learning.examples import ExampleMaker
from lbr_st.learning.masked_model import CutOffModel

TAU = 0.1
QUERIES = ["one", "two words", "three more words", "and one more"]
COLUMNS = [QUERIES, ["a", "b c", "d e f", "g"], ["not a", "not b", "not d", "not g"]]


def features(model, columns=COLUMNS):
    return [model.preprocess(column) for column in columns]


def embed(model, columns=COLUMNS, width=None):
    return [normalize(model.encode(column, convert_to_tensor=True)[:, :width], dim=1) for column in columns]


def info_nce_written_out(queries, positives, *negatives):
    """Eq. 3, one query at a time."""
    losses = []
    for row, query in enumerate(queries):
        scores = torch.stack([query @ document / TAU for column in (positives, *negatives) for document in column])
        losses.append(-(scores[row] - scores.exp().sum().log()))
    return torch.stack(losses).mean()


def symmetric_written_out(queries, positives, *negatives):
    backward = info_nce_written_out(positives, queries)
    return (info_nce_written_out(queries, positives, *negatives) + backward) / 2


@pytest.mark.parametrize("columns", [2, 3])
@pytest.mark.parametrize("mini_batch_size", [None, 3])
def test_loss_is_infonce(model, columns, mini_batch_size):
    found = info_nce(model, TAU, mini_batch_size=mini_batch_size)(features(model, COLUMNS[:columns]), None)
    assert found.item() == pytest.approx(info_nce_written_out(*embed(model)[:columns]).item(), abs=1e-5)


def test_equal_embeddings_give_the_log_of_the_number_of_candidates(model):
    columns = [["one"] * 4, ["two"] * 4, ["two"] * 4]
    assert info_nce(model, TAU)(features(model, columns), None).item() == pytest.approx(math.log(8), abs=1e-5)


def test_symmetric_is_the_mean_of_both_directions(model):
    found = info_nce(model, TAU, symmetric=True)(features(model, COLUMNS[:2]), None)
    assert found.item() == pytest.approx(symmetric_written_out(*embed(model)[:2]).item(), abs=1e-5)


def test_matryoshka_is_the_mean_over_the_first_dimensions(model):
    found = info_nce(model, TAU, matryoshka_dims=[32, 8])(features(model), None)
    expected = sum(info_nce_written_out(*embed(model, width=width)) for width in (32, 8)) / 2
    assert found.item() == pytest.approx(expected.item(), abs=1e-5)


def gradients(model, loss_of_step, inputs):
    """Return the loss and the gradients of a step."""
    model.zero_grad()
    found = loss_of_step(inputs, None)
    found = sum(found.values()) if isinstance(found, dict) else found
    found.backward()
    return found.item(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_same(first, second, tolerance=1e-5):
    assert first[0] == pytest.approx(second[0], abs=tolerance)
    assert first[1].keys() == second[1].keys()
    largest = max(gradient.abs().max() for gradient in first[1].values())
    assert largest > 1e-2
    for name, gradient in first[1].items():
        assert (gradient - second[1][name]).abs().max() < tolerance * largest, name


@pytest.mark.parametrize(
    "options", [{}, {"symmetric": True}, {"matryoshka_dims": [32, 8]}, {"symmetric": True, "matryoshka_dims": [32, 8]}]
)
def test_cached_is_plain(model, options):
    """Loss and gradients of a batch in mini-batches of three texts, where the last one is not full."""
    inputs = features(model)
    plain = gradients(model, info_nce(model, TAU, **options), inputs)
    assert_same(plain, gradients(model, info_nce(model, TAU, mini_batch_size=3, **options), inputs))


def rows():
    pairs = [*PAIRS, SHORT_PAIR, LONG_PAIR]
    return [{"anchor": p["query"], "positive": p["document"]} for p in pairs]


def joint_inputs(model):
    """Return what the trainer hands to the loss."""
    model.prompts["query"] = "q: "
    prompts = {"anchor": "q: ", "positive": ""}
    batch = JointCollator(model.preprocess, prompts=prompts, make_examples=ExampleMaker(model, "sft"))(rows())
    names = ("anchor", "positive", "lm")
    return [
        {key.removeprefix(f"{n}_"): value for key, value in batch.items() if key.startswith(f"{n}_")} for n in names
    ]


@pytest.mark.parametrize("mini_batch_size", [None, 2])
def test_joint_loss_is_the_sum_of_both_stages(model, mini_batch_size):
    *pairs, examples = inputs = joint_inputs(model)
    records = [{"query": row["anchor"], "document": row["positive"]} for row in rows()]
    expected_examples = collate(list(examples_of(records, model, "sft")))
    assert examples.keys() == expected_examples.keys()
    assert all(torch.equal(examples[name], expected_examples[name]) for name in examples)

    language_model = CutOffModel(model[0].model)
    first = gradients(model, info_nce(model, TAU), pairs)
    second = gradients(model, lambda batch, _: language_model(**batch)["loss"], examples)
    expected = (first[0] + 0.3 * second[0], {name: first[1].get(name, 0) + 0.3 * second[1][name] for name in second[1]})
    of_pairs = info_nce(model, TAU, mini_batch_size=mini_batch_size)
    joint = JointLoss(model, of_pairs, language_model, 0.3, mini_batch_size)
    assert_same(expected, gradients(model, joint, inputs))
    assert joint(inputs)["lm"].item() == pytest.approx(0.3 * second[0], abs=1e-5)
    # The trainer's autocast is not around this loss.
    in_half = JointLoss(model, of_pairs, language_model, 0.3, mini_batch_size, torch.bfloat16)(inputs)["lm"].item()
    assert in_half != joint(inputs)["lm"].item() and in_half == pytest.approx(0.3 * second[0], rel=0.02)
    # The optimizer has the weights once.
    assert len(list(joint.parameters())) == len(list(model.parameters()))


@pytest.mark.parametrize(("mini_batch_size", "forwards", "heads"), [(None, 1, 1), (2, 6, 1)])
def test_a_joint_step_makes_activations_twice_at_most(model, monkeypatch, mini_batch_size, forwards, heads):
    """However many chunks the head takes: five examples are three parts, each run once more in the backward pass."""
    monkeypatch.setattr(loss, "LOGITS_AT_A_TIME", 1)  # a chunk for each target
    *_, examples = joint_inputs(model)
    language_model = CutOffModel(model[0].model)
    joint = JointLoss(model, None, language_model, 1.0, mini_batch_size)
    counts = {"base": 0, "sum": 0}
    base = model[0].model.base_model
    base.register_forward_hook(lambda *_: counts.update(base=counts["base"] + 1))
    of_sum = contrastive.cross_entropy_sum
    monkeypatch.setattr(
        contrastive, "cross_entropy_sum", lambda *args: (counts.update(sum=counts["sum"] + 1), of_sum(*args))[1]
    )
    joint.lm_loss(examples).backward()
    assert counts == {"base": forwards, "sum": heads}
