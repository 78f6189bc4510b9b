"""Stage 1 with a nested bottleneck: Y sees the first part of Z that was drawn, and nothing beside it."""

import pytest
import torch
from helpers import CACHE, PAIRS, examples_of, make_backbone
from transformers import DynamicCache

import lbr_st
from lbr_st.errors import InputError
from lbr_st.learning.batches import IGNORE, collate, join
from lbr_st.learning.config import LearnConfig
from lbr_st.learning.examples import ExampleMaker, build_examples
from lbr_st.learning.masked_model import CutOffModel
from lbr_st.learning.objectives import Arm
from lbr_st.model.cutoff import BOTTLENECK, PREFIX, SOURCE, TARGET, cutoff_mask
from lbr_st.model.nested import draw_numbers

RECORDS = [{"query": f"{n} " * n, "document": f"so {n}"} for n in range(1, 9)]


@pytest.fixture
def nested(tmp_path):
    backbone = make_backbone(tmp_path / "backbone", family="llama")
    return lbr_st.from_backbone(backbone, num_bottleneck_tokens=4, nested=True, max_seq_length=40).eval()


def test_examples_written_out(nested):
    module, tokenizer = nested[0], nested.tokenizer
    nested.prompts["query"] = "q: "
    numbers = draw_numbers(["q: " + record["query"] for record in RECORDS], 4, 5)
    assert len(set(numbers)) == 4
    for example, record, k in zip(examples_of(RECORDS, nested, seed=5), RECORDS, numbers, strict=True):
        x = tokenizer("q: " + record["query"], add_special_tokens=False)["input_ids"]
        y = [*tokenizer(record["document"], add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
        assert example["input_ids"] == [tokenizer.bos_token_id, *x, *module.bottleneck_token_ids[:k], *y]
        assert example["segments"] == [PREFIX] + [SOURCE] * len(x) + [BOTTLENECK] * k + [TARGET] * len(y)
        assert example["labels"] == [IGNORE] * (1 + len(x) + k) + y


def test_what_is_held_out_has_all_tokens(nested):
    """Losses of dev data are of one model, not of what was drawn."""
    found = build_examples(RECORDS, ExampleMaker(nested, "sft", draws=False))
    assert {segments.count(BOTTLENECK) for segments in found["segments"]} == {4}


def test_the_mask_of_a_first_part_written_out(nested):
    """Y sees BOS, the first k of Z, and Y up to itself."""
    rows = [example for example in examples_of(RECORDS[:4], nested) if example["segments"].count(BOTTLENECK) == 2]
    example = rows[0]
    b, x, y = 1, example["segments"].count(SOURCE), example["segments"].count(TARGET)
    batch = collate([example])
    embeddings = torch.empty(*batch["input_ids"].shape, 0)
    mask = cutoff_mask(nested[0].model.config, embeddings, batch["attention_mask"], batch["segments"], None)
    seen = mask[0, 0] if mask.dtype == torch.bool else mask[0, 0] == 0
    for row in range(y):
        expected = [1] * b + [0] * x + [1] * 2 + [1] * (row + 1) + [0] * (y - row - 1)
        assert seen[b + x + 2 + row].int().tolist() == expected


def two_pass_loss(model, record, k):
    """Sum of the loss by hand: run X and all of Z, keep the keys and values of BOS and of the first k alone."""
    module, language_model = model[0], model[0].model
    x = model.preprocess([record["query"]])["input_ids"]
    y = model.tokenizer(record["document"], add_special_tokens=False)["input_ids"] + [model.tokenizer.eos_token_id]
    whole, kept = DynamicCache(), DynamicCache()
    first = language_model(x, use_cache=True, **{CACHE: whole})
    length = x.shape[1] - module.num_bottleneck_tokens
    columns = [0, *range(length, length + k)]
    for index, layer in enumerate(whole.layers):
        kept.update(layer.keys[:, :, columns], layer.values[:, :, columns], index)
    second = language_model(
        torch.tensor([y]), position_ids=torch.arange(length + k, length + k + len(y))[None], **{CACHE: kept}
    )
    logits = torch.cat([first.logits[0, length + k - 1 : length + k], second.logits[0, :-1]])
    return torch.nn.functional.cross_entropy(logits, torch.tensor(y), reduction="sum")


def test_the_loss_is_that_of_a_model_that_reads_all_of_z_and_shows_the_first_part(nested):
    """Alone, in a batch and packed: what comes after the part has no part in it."""
    examples = list(examples_of(RECORDS, nested))
    numbers = [example["segments"].count(BOTTLENECK) for example in examples]
    assert len(set(numbers)) > 2
    with torch.no_grad():
        expected = torch.stack([two_pass_loss(nested, record, k) for record, k in zip(RECORDS, numbers, strict=True)])
        model = CutOffModel(nested[0].model).eval()
        assert (model(**collate(examples))["loss_sums"] - expected).abs().max() < 1e-4
        assert abs(model(**collate([join(examples)]))["loss_sums"][0] - expected.sum()) < 1e-3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"bottleneck_tokens": 1}, "--nested needs bottleneck tokens to choose from"),
        ({"compression_ratio": 5.0}, "--nested and --compression-ratio both say"),
        ({"arm": Arm.PLAIN}, "--nested means nothing with --arm plain"),
    ],
)
def test_settings_that_contradict_each_other(settings, message):
    with pytest.raises(InputError, match=message):
        LearnConfig(model="none", data=["none"], output_dir="none", nested=True, **settings)


def test_wrong_sources_keep_their_own_part(nested):
    """What the bottleneck carries is measured on the same examples: a Z of another has its own number of tokens."""
    from lbr_st.learning.examples import with_wrong_source

    own = examples_of([*PAIRS, *RECORDS], nested)
    wrong = with_wrong_source(own)
    assert {row["segments"].count(BOTTLENECK) for row in wrong} == {row["segments"].count(BOTTLENECK) for row in own}
    for row in wrong:
        assert row["segments"] == sorted(row["segments"])
