"""The trainer of stage 1: its gradients and its numbers against an independent computation."""

import copy

import numpy as np
import pytest
import torch
from helpers import LONG_PAIR, PAIRS, SHORT_PAIR, examples_of
from transformers import TrainerCallback, TrainingArguments

from lbr_st.learning.batches import IGNORE, collate
from lbr_st.learning.masked_model import CutOffModel
from lbr_st.learning.trainer import LearnTrainer
from lbr_st.model.cutoff import TARGET


def arguments_in(folder, **arguments):
    quiet = {"use_cpu": True, "report_to": "none", "disable_tqdm": True}
    return TrainingArguments(output_dir=str(folder), **quiet, **arguments)


def gradients_after_one_step(model, tmp_path, **arguments):
    args = arguments_in(tmp_path, max_steps=1, learning_rate=0.0, save_strategy="no", max_grad_norm=0, **arguments)
    trainer = LearnTrainer(model, args=args, train_dataset=examples_of([SHORT_PAIR, LONG_PAIR] * 2, model))
    gradients = {}
    step = torch.optim.AdamW.step

    def keep_gradients(self, *args, **kwargs):
        gradients.update({n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None})
        return step(self, *args, **kwargs)

    torch.optim.AdamW.step = keep_gradients
    try:
        trainer.train()
    finally:
        torch.optim.AdamW.step = step
    return gradients


def test_accumulation_gives_the_gradients_of_the_large_batch(model, tmp_path):
    """Micro-batches have different numbers of targets; a mean of their means would weigh them alike."""
    large = gradients_after_one_step(copy.deepcopy(model), tmp_path, per_device_train_batch_size=4)
    small = gradients_after_one_step(
        copy.deepcopy(model), tmp_path, per_device_train_batch_size=1, gradient_accumulation_steps=4
    )
    assert large.keys() == small.keys()
    scale = max(g.abs().max() for g in large.values())
    assert scale > 1e-3
    for name in large:
        assert (large[name] - small[name]).abs().max() < 1e-5 * scale


def test_load_best_model_at_end_brings_back_its_weights(model, tmp_path):
    """The weights are blown up after the first evaluation, so the first checkpoint is the best."""
    args = arguments_in(
        tmp_path, max_steps=4, learning_rate=0.0, save_steps=1, eval_strategy="steps", eval_steps=1,
        load_best_model_at_end=True, prediction_loss_only=True,
    )  # fmt: skip
    data = examples_of(PAIRS, model)

    class BlowUp(TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            if state.global_step > 0:
                torch.nn.init.normal_(model[0].model.get_input_embeddings().weight, std=10.0)

    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    trainer = LearnTrainer(model, args=args, train_dataset=data, held_out={"sft": data}, callbacks=[BlowUp()])
    trainer.train()
    assert trainer.state.best_global_step == 1
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())


def loss_by_hand(model, examples):
    """Sum over targets and their number, one example at a time through the plain trained model's forward."""
    training_model = CutOffModel(model[0].model).eval()
    with torch.no_grad():
        outputs = [training_model(**collate([example])) for example in examples]
    return sum(o["loss_sums"].item() for o in outputs), sum(o["targets"].item() for o in outputs)


def read_out_by_hand(model, row):
    """Loss of each target under the logits of the last row before the first of them."""
    at = row["segments"].index(TARGET)
    with torch.no_grad():
        logits = model[0].model(torch.tensor([row["input_ids"][:at]])).logits[0, -1]
    return (-logits.log_softmax(0)[row["labels"][at:]]).tolist()


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_held_out_loss_and_nats(model, tmp_path, batch_size):
    """Per target token over the whole set, whatever the batches; nats are the loss with another's X beyond it."""
    dev = {name: examples_of([SHORT_PAIR, *PAIRS, LONG_PAIR], model, name) for name in ("sft", "reconstruct")}
    args = arguments_in(tmp_path, per_device_eval_batch_size=batch_size)
    trainer = LearnTrainer(model, args=args, held_out=dev)
    metrics = trainer.evaluate()
    own = {name: loss_by_hand(model, examples) for name, examples in dev.items()}
    wrong = {}
    for name, examples in dev.items():
        rows = list(examples)
        ends = [row["segments"].index(TARGET) for row in rows]
        shuffled = []
        for n, row in enumerate(rows):
            x, at = rows[n - 1], ends[n - 1]
            shuffled.append(
                {key: x[key][:at] + row[key][ends[n] :] for key in ("input_ids", "segments")}
                | {"labels": [IGNORE] * at + row["labels"][ends[n] :]}
            )
        wrong[name] = loss_by_hand(model, shuffled)
    for name in dev:
        assert abs(metrics[f"eval_{name}_loss"] - own[name][0] / own[name][1]) < 1e-5
        nats = wrong[name][0] / wrong[name][1] - own[name][0] / own[name][1]
        assert abs(nats) > 1e-3
        assert abs(metrics[f"eval_{name}_bottleneck_nats"] - nats) < 1e-5
    total, number = (sum(own[name][n] for name in dev) for n in (0, 1))
    assert abs(metrics["eval_loss"] - total / number) < 1e-5
    assert abs(metrics["eval_bottleneck_nats"] - (sum(wrong[n][0] for n in dev) - total) / number) < 1e-5
    losses = {name: [loss for row in rows for loss in read_out_by_hand(model, row)] for name, rows in dev.items()}
    for name in dev:
        assert abs(metrics[f"eval_{name}_read_out_loss"] - np.mean(losses[name])) < 1e-5
    assert abs(metrics["eval_read_out_loss"] - np.mean(losses["sft"] + losses["reconstruct"])) < 1e-5
    assert set(trainer.metrics) == metrics.keys() - {"eval_runtime", "epoch"}


def test_nats_of_examples_that_have_a_wrong_twin(model, tmp_path):
    """One objective has a single held-out example, and so no other X: the nats are those of the other objective."""
    dev = {"sft": examples_of(PAIRS, model), "reconstruct": examples_of(PAIRS[:1], model, "reconstruct")}
    metrics = LearnTrainer(model, args=arguments_in(tmp_path), held_out=dev).evaluate()
    assert "eval_reconstruct_bottleneck_nats" not in metrics
    assert metrics["eval_bottleneck_nats"] == pytest.approx(metrics["eval_sft_bottleneck_nats"])


def test_tokens_that_are_counted(model, tmp_path):
    """X, Z and Y of every step, without padding."""
    examples = examples_of([SHORT_PAIR, LONG_PAIR] * 4, model)
    args = arguments_in(
        tmp_path, num_train_epochs=2, per_device_train_batch_size=2, gradient_accumulation_steps=2,
        logging_strategy="no", save_strategy="no",
    )  # fmt: skip
    trainer = LearnTrainer(model, args=args, train_dataset=examples)
    trainer.train()
    assert trainer._tokens == 2 * sum(len(ids) for ids in examples["input_ids"])


def test_losses_of_the_fields_of_a_target(model, tmp_path):
    """Each by hand, with the labels of all other tokens taken away."""
    rows = [
        {"query": f"{n} and {n}", "document": f"{2 * n}",
         "target": [("why", f"twice {n}"), (None, "\n"), ("answer", f"{2 * n}")]}
        for n in range(5)
    ]  # fmt: skip
    dev = {
        "sft": examples_of(rows, model, parts=("why", "answer")),
        "reconstruct": examples_of(PAIRS, model, "reconstruct"),
    }
    args = arguments_in(tmp_path, per_device_eval_batch_size=2)
    trainer = LearnTrainer(model, args=args, held_out=dev, parts=("why", "answer"))
    metrics = trainer.evaluate()
    for number, name in enumerate(("why", "answer")):
        masked = [
            row
            | {"labels": [i if part[number] else IGNORE for i, part in zip(row["labels"], row["parts"], strict=True)]}
            for row in dev["sft"]
        ]
        total, count = loss_by_hand(model, masked)
        assert abs(metrics[f"eval_target_{name}_loss"] - total / count) < 1e-5
        read_out = []
        for row in dev["sft"]:
            of_y = row["parts"][row["segments"].index(TARGET) :]
            read_out += [loss for loss, part in zip(read_out_by_hand(model, row), of_y, strict=True) if part[number]]
        assert abs(metrics[f"eval_target_{name}_read_out_loss"] - np.mean(read_out)) < 1e-5
        assert abs(metrics[f"eval_target_{name}_bottleneck_nats"]) > 1e-4
    assert set(trainer.metrics) == metrics.keys() - {"eval_runtime", "epoch"}
