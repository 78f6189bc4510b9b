"""What a model says of its training when a run ends."""

import gc
import weakref
from types import SimpleNamespace

import pytest
import torch
from transformers import Trainer, TrainingArguments

import lbr_st
from lbr_st.errors import InputError
from lbr_st.training.finish import free_optimizer, scores_of, set_prompts

LOG = [
    {"step": 2, "loss": 3.0},
    {"step": 2, "eval_loss": 2.0, "eval_dev_cosine_recall@10": 0.9},
    {"step": 4, "eval_loss": 2.5, "eval_dev_cosine_recall@10": 0.7},
    {"step": 4, "train_loss": 2.7},
]


@pytest.mark.parametrize(("best", "loss", "recall"), [(True, 2.0, 0.9), (False, 2.5, 0.7)])
def test_scores_are_those_of_the_weights_that_were_kept(best, loss, recall):
    state = SimpleNamespace(best_global_step=2, global_step=4, log_history=LOG)
    trainer = SimpleNamespace(args=SimpleNamespace(load_best_model_at_end=best), state=state)
    assert scores_of(trainer) == {"loss": loss, "recall@10": recall}
    state.global_step = state.best_global_step = 5  # which was not scored
    assert scores_of(trainer) == {}


def test_the_optimizer_is_let_go_of(tmp_path):
    """Wherever the trainer has put it: its states are twice as large as the weights."""
    weights = torch.nn.Linear(2, 1)
    arguments = TrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to="none", max_steps=1)
    trainer = Trainer(weights, arguments)
    trainer.create_optimizer_and_scheduler(1)
    trainer.callback_handler.optimizer = trainer.optimizer
    optimizer = weakref.ref(trainer.optimizer)
    free_optimizer(trainer)
    gc.collect()
    assert optimizer() is None


def test_a_prompt_that_the_model_has_needs_room_too(backbone):
    model = lbr_st.from_backbone(backbone, max_seq_length=8)
    model.prompts["query"] = "one two three four five six seven eight nine: "
    config = SimpleNamespace(given_prompts={"query": None, "document": None})
    with pytest.raises(InputError, match="^--query-prompt has .* tokens: a maximum length of 8 leaves no room"):
        set_prompts(model, config)
    model.prompts["query"] = "q"
    set_prompts(model, config)
    assert model.prompts["query"] == "q"
