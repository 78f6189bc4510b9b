"""Which share of a training is kept: what is scored, and the rule."""

import pytest
import torch
from helpers import PAIRS

import lbr_st
from lbr_st.evaluation.general import general_score
from lbr_st.evaluation.shares import SHARES, Choice, Tried, best_share, choose_share
from lbr_st.model.merging import merge
from lbr_st.training.held_out import HeldOutEvaluator

MANY = [{"query": f"{n} {pair['query']}", "document": f"{pair['document']} {n}"} for n in range(5) for pair in PAIRS]
OTHERS = [{"query": f"what {n}", "document": f"{n} is that"} for n in range(12)]


def tried(*scores):
    """Return what was tried, of nDCG@10 on dev and recall@10 outside the domain by share."""
    return [Tried(share, [ndcg] * 4, 0.9, general) for share, (ndcg, general) in zip(SHARES, scores, strict=True)]


@pytest.mark.parametrize(
    ("scores", "share"),
    [
        ([(0.5, 0.8), (0.6, 0.8), (0.7, 0.79), (0.8, 0.78), (0.9, 0.7)], 0.5),  # 0.784 is needed
        ([(0.5, 0.8), (0.6, 0.8), (0.7, 0.9), (0.8, 0.9), (0.9, 0.9)], 1.0),
        ([(0.5, 0.8), (0.6, 0.8), (0.7, 0.8), (0.7, 0.8), (0.6, 0.8)], 0.75),  # of equals the nearest to the end
        ([(1.0, 0.8), (1.0, 0.8), (1.0, 0.8), (1.0, 0.8), (1.0, 0.7)], 0.75),
        ([(0.5, 0.8), (0.6, 0.7), (0.7, 0.7), (0.8, 0.7), (0.9, 0.7)], 0.0),
        ([(0.9, 0.8), (0.6, 0.8), (0.7, 0.8), (0.8, 0.8), (0.5, 0.8)], 0.0),
    ],
)
def test_the_rule(scores, share):
    assert best_share(tried(*scores), 0.98).share == share


@pytest.mark.parametrize(
    ("end", "share"),
    [
        ([1.0, 0.5, 0.5, 0.5], 1.0),  # 0.125 below the best, where the standard error is 0.125
        ([1.0, 0.5, 0.4, 0.5], 0.5),  # 0.150 and 0.119
        ([0.875, 0.5, 0.5, 0.5], 0.5),  # 0.156 and 0.118
    ],
)
def test_dev_must_tell_the_end_from_the_best_to_leave_training_out(end, share):
    best = [1.0, 1.0, 0.5, 0.5]
    found = [Tried(0.0, [0.0] * 4, 0.9, 0.8), Tried(0.5, best, 0.9, 0.8), Tried(1.0, end, 0.9, 0.8)]
    assert best_share(found, 0.98).share == share
    assert best_share([*found[:2], found[2]._replace(general=0.7)], 0.98).share == 0.5
    said = str(Choice(found, found[2], 0.98)).splitlines()[-1]
    assert said.startswith("taken: share 1, the most training that is within a standard error of the best nDCG@10 on")


def test_exactly_what_must_be_kept_is_enough():
    found = tried((0.1, 0.5), (0.2, 0.25), (0.3, 0.25), (0.4, 0.25), (0.5, 0.25))
    assert best_share(found, 0.5).share == 1.0
    assert best_share(found, 0.51).share == 0.0


def test_the_table():
    found = tried((0.5, 0.8), (0.6, 0.8), (0.7, 0.79), (0.8, 0.78), (0.9, 0.7))
    lines = str(Choice(found, found[2], 0.98)).splitlines()
    assert lines[0] == "| share of the end | dev nDCG@10 | dev recall@10 | recall@10 outside the domain |"
    assert [cell.strip() for cell in lines[4].strip("|").split("|")] == ["0.5", "0.700", "0.900", "0.790"]
    assert lines[-1] == "taken: share 0.5, best nDCG@10 on dev of those with 0.784 or more outside the domain"
    none = tried((0.5, 0.8), (0.6, 0.7), (0.7, 0.7), (0.8, 0.7), (0.9, 0.7))
    line = "taken: share 0, the start itself, as no other keeps 98% of its 0.800"
    assert str(Choice(none, none[0], 0.98)).splitlines()[-1] == line


def test_what_is_scored_is_the_merged_model(model, tmp_path):
    lbr_st.save(model, tmp_path / "start")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    lbr_st.save(model, tmp_path / "end")
    start, end = str(tmp_path / "start"), str(tmp_path / "end")
    choice = choose_share(start, end, MANY, OTHERS, keep_general=0.0)
    assert [each.share for each in choice.tried] == [0, 0.25, 0.5, 0.75, 1]
    for each in choice.tried:
        merged = merge([start, end], [1 - each.share, each.share])
        found = HeldOutEvaluator(MANY)(merged)
        assert (each.ndcg, each.recall) == pytest.approx((found["dev_cosine_ndcg@10"], found["dev_cosine_recall@10"]))
        assert each.general == general_score(merged, OTHERS)
    assert len({each.ndcg for each in choice.tried}) > 1
    assert choice.taken == best_share(choice.tried, 0.0)
