"""What a model says of its training when a run ends."""

from types import SimpleNamespace

import pytest

from lbr_st.training.finish import scores_of

LOG = [
    {"step": 2, "loss": 3.0},
    {"step": 2, "eval_loss": 2.0, "eval_dev_cosine_recall@10": 0.9},
    {"step": 4, "eval_loss": 2.5, "eval_dev_cosine_recall@10": 0.7},
    {"step": 4, "train_loss": 2.7},
]


@pytest.mark.parametrize(("best", "loss", "recall"), [(True, 2.0, 0.9), (False, 2.5, 0.7)])
def test_scores_are_those_of_the_weights_that_were_kept(best, loss, recall):
    state = SimpleNamespace(best_global_step=2, log_history=LOG)
    trainer = SimpleNamespace(args=SimpleNamespace(load_best_model_at_end=best), state=state)
    assert scores_of(trainer) == {"loss": loss, "recall@10": recall}
