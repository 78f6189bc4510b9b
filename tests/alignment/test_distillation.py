"""The loss of a teacher against the divergence written out, and its memory-lean form against the plain one."""

import pytest
import torch
from torch.nn.functional import normalize

from lbr_st.alignment import distillation
from lbr_st.alignment.distillation import Teaching, lists_of
from lbr_st.alignment.losses import info_nce

TAU, TEACHER_TAU, WEIGHT = 0.1, 0.3, 0.7
COLUMNS = [
    ["one", "two words", "three more words", "and one more"],
    ["a", "b c", "d e f", "g"],
    ["not a", "not b", "not d", "not g"],
    ["nor a", "nor b", "nor d", "nor g"],
]
ROWS = [5, 0, 3, 2]  # numbers of the batch's rows in the table of scores


def teaching(columns, in_batch):
    width = columns - 1 + (3 if in_batch else 0)
    table = torch.randn(6, width, generator=torch.Generator().manual_seed(1))
    return Teaching(lambda rows: table[rows], in_batch, WEIGHT, TEACHER_TAU), table[ROWS]


def written_out(embeddings, scores, in_batch):
    """InfoNCE, and the divergence of the student's softmax from the teacher's, one query at a time."""
    queries, *documents = embeddings
    contrastive, divergence = [], []
    for row, query in enumerate(queries):
        all_documents = torch.cat(documents)
        contrastive.append(-torch.log_softmax(all_documents @ query / TAU, dim=0)[row])
        mine = [column[row] for column in documents]
        if in_batch:
            mine += [documents[0][other] for other in ([1, 2, 3], [2, 3, 0], [3, 0, 1], [0, 1, 2])[row]]
        student = (torch.stack(mine) @ query / TAU).exp()
        student = student / student.sum()
        teacher = (scores[row] / TEACHER_TAU).exp()
        teacher = teacher / teacher.sum()
        divergence.append((teacher * (teacher / student).log()).sum())
    return torch.stack(contrastive).mean(), WEIGHT * torch.stack(divergence).mean()


def gradients(model, parts):
    model.zero_grad()
    sum(parts).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("mini_batch_size", [None, 3], ids=["plain", "cached"])
@pytest.mark.parametrize("widths", [None, [32, 8]], ids=["whole", "matryoshka"])
@pytest.mark.parametrize(("columns", "in_batch"), [(2, True), (4, True), (3, False), (4, False)])
def test_loss_and_gradients_are_those_written_out(model, columns, in_batch, widths, mini_batch_size):
    """In-batch and own documents, one and several hard negatives; parts of three rows, of which the last has one."""
    told, scores = teaching(columns, in_batch)
    inputs = [model.preprocess(column) for column in COLUMNS[:columns]]
    embeddings = [model(features)["sentence_embedding"] for features in inputs]
    each = [
        written_out([normalize(e[:, :width], dim=1) for e in embeddings], scores, in_batch) for width in widths or [32]
    ]
    expected = [sum(parts) / len(each) for parts in zip(*each, strict=True)]
    expected_gradients = gradients(model, expected)

    loss = info_nce(model, TAU, mini_batch_size=mini_batch_size, matryoshka_dims=widths, teaching=told)
    for _ in range(2):  # nothing is left of the first time
        found = loss([model.preprocess(column) for column in COLUMNS[:columns]], torch.tensor(ROWS))
        assert list(found) == ["contrastive", "teacher"]
        assert [part.item() for part in found.values()] == pytest.approx([part.item() for part in expected], abs=1e-5)
    found_gradients = gradients(model, found.values())
    assert found_gradients.keys() == expected_gradients.keys()
    largest = max(gradient.abs().max() for gradient in expected_gradients.values())
    assert largest > 1e-2
    for name, gradient in expected_gradients.items():
        assert (gradient - found_gradients[name]).abs().max() < 1e-5 * largest, name


def test_symmetric_is_about_infonce_alone(model):
    told, scores = teaching(2, in_batch=True)
    inputs = [model.preprocess(column) for column in COLUMNS[:2]]
    embeddings = [normalize(model(features)["sentence_embedding"], dim=1) for features in inputs]
    forward, divergence = written_out(embeddings, scores, True)
    backward, _ = written_out(embeddings[::-1], scores, True)
    found = info_nce(model, TAU, symmetric=True, teaching=told)(inputs, torch.tensor(ROWS))
    assert found["contrastive"].item() == pytest.approx(((forward + backward) / 2).item(), abs=1e-5)
    assert found["teacher"].item() == pytest.approx(divergence.item(), abs=1e-5)


def test_a_teacher_that_agrees_adds_nothing(model):
    """Its scores are the student's own cosines at the same temperature."""
    inputs = [model.preprocess(column) for column in COLUMNS[:3]]
    queries, *documents = (normalize(model(features)["sentence_embedding"], dim=1) for features in inputs)
    cosines = torch.stack([(queries * column).sum(dim=1) for column in documents], dim=1)
    told = Teaching(lambda rows: cosines.detach()[rows], False, 1.0, TAU)
    assert info_nce(model, TAU, teaching=told)(inputs, torch.arange(4))["teacher"].item() == pytest.approx(0, abs=1e-6)


def test_a_list_holds_the_positives_of_the_next_rows_up_to_a_number(monkeypatch):
    positives, negatives = torch.arange(5), torch.arange(10, 15)
    rows = torch.tensor([0, 4])
    own = [[0, 4], [10, 14]]
    assert [each.tolist() for each in lists_of([positives, negatives], rows, False)] == own
    others = [[1, 0], [2, 1], [3, 2], [4, 3]]
    assert [each.tolist() for each in lists_of([positives, negatives], rows, True)] == own + others
    monkeypatch.setattr(distillation, "MOST_POSITIVES", 3)
    assert [each.tolist() for each in lists_of([positives, negatives], rows, True)] == own + others[:2]
