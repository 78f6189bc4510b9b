"""What the bottleneck is worth, against what the trainer logs."""

import pytest
from helpers import PAIRS, examples_of
from transformers import TrainingArguments

from lbr_st.learning.masked_model import CutOffModel
from lbr_st.learning.measures import held_out_loss, nats_through_bottleneck
from lbr_st.learning.trainer import LearnTrainer


def test_loss_and_nats_are_those_of_the_trainer(model, tmp_path):
    """In other batches; there are none where all examples have the same X."""
    args = TrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to="none", per_device_eval_batch_size=3)
    examples = examples_of(PAIRS, model)
    logged = LearnTrainer(model, args=args, held_out={"sft": examples}).evaluate()
    language_model = CutOffModel(model[0].model)
    assert held_out_loss(language_model, examples, 2) == pytest.approx(logged["eval_loss"], abs=1e-5)
    nats = nats_through_bottleneck(language_model, examples, 2)
    assert nats == pytest.approx(logged["eval_bottleneck_nats"], abs=1e-5)
    assert nats_through_bottleneck(language_model, examples_of(PAIRS[:1] * 3, model)) is None
