"""The loss of stage 1 against independent computations."""

import math

import pytest
import torch
from helpers import CACHE, FAMILIES, LONG_PAIR, PAIRS, SHAPE, SHORT_PAIR, examples_of, make_backbone
from transformers import AutoConfig, AutoModelForCausalLM, DynamicCache

import lbr_st
from lbr_st.learning import masked_model as ibgl_model
from lbr_st.learning.batches import IGNORE, PackedRows, collate, join
from lbr_st.learning.masked_model import CutOffModel
from lbr_st.learning.objectives import Arm
from lbr_st.model.cutoff import BOTTLENECK, SOURCE, TARGET, cutoff_mask
from lbr_st.model.self_checks import check_packing


def test_bottleneck_of_mixed_length(tmp_path):
    """With a compression ratio each example has its own k, in one batch; the last token is the same in all."""
    model = lbr_st.from_backbone(make_backbone(tmp_path, family="llama"), compression_ratio=5, max_seq_length=24)
    examples = examples_of([SHORT_PAIR, *PAIRS, LONG_PAIR], model, "sft")
    number = [example["segments"].count(BOTTLENECK) for example in examples]
    assert (min(number), max(number)) == (1, 4)
    for example, pair in zip(examples, [SHORT_PAIR, *PAIRS, LONG_PAIR], strict=True):
        parts = example["segments"]
        assert parts == sorted(parts)  # BOS, source, bottleneck, target
        encoded = model.preprocess([pair["query"]])["input_ids"][0].tolist()
        assert example["input_ids"][: len(encoded)] == encoded
        assert parts.index(TARGET) == len(encoded)
    batch = collate(list(examples))
    mean = CutOffModel(model[0].model)(**batch)["loss"]
    targets = [sum(label != IGNORE for label in example["labels"]) for example in examples]
    alone = [CutOffModel(model[0].model)(**collate([example]))["loss"] for example in examples]
    expected = sum(loss * n for loss, n in zip(alone, targets, strict=True)) / sum(targets)
    assert abs(mean - expected) < 1e-5


def two_pass_loss(model, pair):
    """Sum and count of the loss by hand: run X and Z, keep the keys and values of Z alone, then read Y from them."""
    module, language_model = model[0], model[0].model
    x = model.preprocess([pair["query"]])["input_ids"]
    y = torch.tensor([[*model.tokenizer(pair["document"])["input_ids"][:-2], model.tokenizer.eos_token_id]])
    whole, kept = DynamicCache(), DynamicCache()
    first = language_model(x, use_cache=True, **{CACHE: whole})
    k, length = module.num_bottleneck_tokens, x.shape[1]
    for index, layer in enumerate(whole.layers):
        kept.update(layer.keys[:, :, -k:], layer.values[:, :, -k:], index)
    positions = torch.arange(length, length + y.shape[1])[None]
    mask = torch.ones(1, k + y.shape[1], dtype=torch.long)
    second = language_model(y, position_ids=positions, attention_mask=mask, **{CACHE: kept})
    logits = torch.cat([first.logits[:, -1:], second.logits[:, :-1]], dim=1)[0]
    return torch.nn.functional.cross_entropy(logits, y[0], reduction="sum"), y.shape[1]


def test_loss_is_the_mean_over_target_tokens_of_the_batch(model):
    """Sequences of different lengths in one batch against each one by hand, in two passes."""
    model.max_seq_length = 100
    batch = collate(list(examples_of(PAIRS, model, "sft")))
    loss = CutOffModel(model[0].model)(**batch)["loss"]
    sums, counts = zip(*(two_pass_loss(model, pair) for pair in PAIRS), strict=True)
    assert len(set(counts)) > 1
    assert abs(loss - sum(sums) / sum(counts)) < 1e-5


def test_read_out_loss_asks_the_embedding_for_all_targets(model):
    """Against what the head makes of the state that encoding ends with; alone, and packed into a row."""
    model.max_seq_length = 100
    language_model, examples = model[0].model, list(examples_of(PAIRS, model, "sft"))
    losses = []
    for pair, example in zip(PAIRS, examples, strict=True):
        last = language_model(model.preprocess([pair["query"]])["input_ids"]).logits[0, -1]
        targets = [label for label in example["labels"] if label != IGNORE]
        losses += (-last.log_softmax(0)[targets]).tolist()
    plain, weighted = CutOffModel(language_model), CutOffModel(language_model, read_out_weight=0.5)
    for batch in (collate(examples), collate([join(examples)])):
        expected = plain.train()(**batch)["loss"].item() + 0.5 * sum(losses) / len(losses)
        assert abs(weighted.train()(**batch)["loss"].item() - expected) < 1e-5
        # Held-out losses of both are those of the paper, and the read-out loss is beside it.
        found = plain.eval()(**batch)
        assert weighted.eval()(**batch)["loss"].item() == found["loss"].item()
        assert abs(found["read_out_loss_sums"].sum() - sum(losses)) < 1e-4


def test_without_the_cut_off_the_target_sees_the_text(model):
    """Against the language model's own loss on the whole row, Z in it."""
    model.max_seq_length = 100
    [example] = examples_of(PAIRS[:1], model, "sft", arm=Arm.NO_CUT_OFF)
    cut, *_ = examples_of(PAIRS[:1], model, "sft")
    assert (example["input_ids"], example["labels"]) == (cut["input_ids"], cut["labels"])
    ids, labels = torch.tensor([example["input_ids"]]), torch.tensor([example["labels"]])
    expected = model[0].model(ids, labels=labels).loss
    training_model = CutOffModel(model[0].model)
    assert abs(training_model(**collate([example]))["loss"] - expected) < 1e-5
    assert abs(training_model(**collate([cut]))["loss"] - expected) > 1e-3


def test_loss_of_a_zeroed_head_is_the_log_of_the_vocabulary(tmp_path):
    model = lbr_st.from_backbone(make_backbone(tmp_path / "backbone", tied=False), max_seq_length=24)
    head = model[0].model.get_output_embeddings()
    torch.nn.init.zeros_(head.weight)
    loss = CutOffModel(model[0].model)(**collate(list(examples_of(PAIRS, model, "sft"))))["loss"]
    assert abs(loss.item() - math.log(head.weight.shape[0])) < 1e-5


def test_head_runs_on_target_rows_only(model, monkeypatch):
    seen = []
    training_model = CutOffModel(model[0].model)
    found = ibgl_model.cross_entropy_sum
    monkeypatch.setattr(ibgl_model, "cross_entropy_sum", lambda *args: (seen.append(args[1].shape), found(*args))[1])
    model[0].model.get_output_embeddings().register_forward_hook(lambda *args: pytest.fail("the head ran on all rows"))
    batch = collate(list(examples_of(PAIRS, model, "sft")))
    training_model(**batch)
    targets = int((batch["labels"] != IGNORE).sum())
    assert seen == [(targets, model[0].model.config.hidden_size)]


@pytest.mark.parametrize(
    ("model_type", "extra"),
    [
        ("gemma2", {"final_logit_softcapping": 3.0}),
        ("cohere2", {"logit_scale": 0.0625}),
        ("granite", {"logits_scaling": 8.0}),
        ("qwen2", {}),
    ],
)
def test_loss_is_that_of_the_logits_the_model_generates_with(model_type, extra):
    """Some families cap or scale what their head gives."""
    settings = SHAPE | {"vocab_size": 50, "pad_token_id": 0} | extra
    torch.manual_seed(0)
    language_model = AutoModelForCausalLM.from_config(
        AutoConfig.for_model(model_type, **settings), attn_implementation="eager"
    ).eval()
    ids = torch.randint(1, 50, (1, 9), generator=torch.Generator().manual_seed(1))
    segments = torch.tensor([[SOURCE] * 4 + [BOTTLENECK] * 2 + [TARGET] * 3])
    labels = torch.where(segments == TARGET, ids, IGNORE)
    found = CutOffModel(language_model)(ids, torch.ones_like(ids), segments, labels)["loss"]
    mask = cutoff_mask(
        language_model.config, language_model.get_input_embeddings()(ids), torch.ones_like(ids), segments
    )
    logits = language_model(input_ids=ids, attention_mask=mask, use_cache=False).logits
    expected = torch.nn.functional.cross_entropy(logits[0, 5:8], ids[0, 6:])
    assert abs(found - expected) < 1e-5


def loss_and_gradients(model, batch, **options):
    model.zero_grad()
    training_model = CutOffModel(model, **options)
    loss = training_model(**batch)["loss"]
    loss.backward()
    return loss.detach(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_same(found, expected, tolerance=1e-5):
    assert abs(found[0] - expected[0]) < tolerance
    assert found[1].keys() == expected[1].keys()
    scale = max(gradient.abs().max() for gradient in expected[1].values())
    assert scale > 1e-3
    for name, gradient in expected[1].items():
        assert (found[1][name] - gradient).abs().max() < tolerance * scale, name


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("family", FAMILIES)
def test_packed_is_unpacked(tmp_path, family, attention):
    """Same loss and gradients as one example a row; windows, learned positions and BOS included."""
    backbone = make_backbone(tmp_path, family=family)
    model = lbr_st.from_backbone(backbone, num_bottleneck_tokens=2, max_seq_length=24, attn_implementation=attention)
    examples = list(examples_of([SHORT_PAIR, *PAIRS, LONG_PAIR], model, "sft"))
    rows = PackedRows(examples, [[0, 4, 1], [3, 2]], [len(e["input_ids"]) for e in examples])
    language_model = model[0].model.eval()
    check_packing(language_model)
    expected = loss_and_gradients(language_model, collate(examples))
    assert_same(loss_and_gradients(language_model, collate(rows)), expected)


@pytest.mark.parametrize("objective", ["sft", "reconstruct", "prefix-suffix"])
def test_control_is_the_librarys_own_loss(model, objective):
    """Without a bottleneck: transformers' loss of the plain causal model, on the same targets."""
    examples = list(examples_of(PAIRS, model, objective, arm=Arm.PLAIN))
    z = set(model[0].bottleneck_token_ids)
    assert not any(z & {*example["input_ids"]} for example in examples)
    batch = collate(examples)
    language_model = model[0].model
    found = loss_and_gradients(language_model, batch, bottleneck=False)
    language_model.zero_grad()
    output = language_model(**{name: batch[name] for name in ("input_ids", "attention_mask", "labels")})
    output.loss.backward()
    expected = output.loss.detach(), {name: p.grad.clone() for name, p in language_model.named_parameters()}
    assert_same(found, expected)
    rows = PackedRows(examples, [[0, 1], [2]], [len(e["input_ids"]) for e in examples])
    assert_same(loss_and_gradients(language_model, collate(rows), bottleneck=False), expected)


def test_control_differs_from_the_bottleneck_arm_by_z_and_sight(model):
    """The same tokens of X and Y in both arms, and another loss."""
    arms = [examples_of(PAIRS, model, "sft", arm=arm) for arm in (Arm.CUT_OFF, Arm.PLAIN)]
    z = model[0].bottleneck_token_ids
    for with_z, without in zip(*arms, strict=True):
        assert [i for i in with_z["input_ids"] if i not in z] == without["input_ids"]
        assert [i for i in with_z["labels"] if i != IGNORE] == [i for i in without["labels"] if i != IGNORE]


def test_activation_checkpointing_changes_nothing(model):
    batch = collate(list(examples_of(PAIRS, model, "sft")))
    language_model = model[0].model.train()
    expected = loss_and_gradients(language_model, batch)
    # The Trainer of transformers calls the one that there is.
    both = ("activation_checkpointing_enable", "gradient_checkpointing_enable")
    enable = next(name for name in both if hasattr(language_model, name))
    getattr(CutOffModel(language_model), enable)()
    assert_same(loss_and_gradients(language_model, batch), expected, tolerance=1e-6)


def test_sums_of_each_row_in_evaluation(model):
    """What held-out losses are made of."""
    examples = list(examples_of([SHORT_PAIR, *PAIRS, LONG_PAIR], model, "sft"))
    training_model = CutOffModel(model[0].model).eval()
    with torch.no_grad():
        output = training_model(**collate(examples))
        alone = [training_model(**collate([example])) for example in examples]
    targets = [sum(label != IGNORE for label in example["labels"]) for example in examples]
    assert output["targets"].tolist() == targets
    expected = torch.stack([each["loss"] * n for each, n in zip(alone, targets, strict=True)])
    assert (output["loss_sums"] - expected).abs().max() < 1e-4
    assert abs(output["loss"] - expected.sum() / sum(targets)) < 1e-5
