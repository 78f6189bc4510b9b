"""The card that a trained model ends with says how it was trained, on what, and what it scored."""

import json

import pytest
from helpers import PAIRS

from lbr_st import AlignConfig, LearnConfig, align, learn
from lbr_st.files import write_jsonl
from lbr_st.model.card import read


@pytest.fixture
def pairs(tmp_path):
    write_jsonl(tmp_path / "pairs.jsonl", PAIRS)
    return str(tmp_path / "pairs.jsonl")


def test_card_after_stage_2(backbone, pairs, tmp_path):
    config = AlignConfig(
        model=backbone,
        data=pairs,
        dev_data=pairs,
        allow_overlap=True,
        output_dir=str(tmp_path / "m"),
        max_length=24,
        bottleneck_tokens=2,
        query_prompt="ask: ",
        max_steps=2,
        per_device_train_batch_size=4,
        learning_rate=0.001,
    )
    align(config)
    card = (tmp_path / "m" / "README.md").read_text()
    for part in (
        "lbr align", "--query-prompt 'ask: '", "--max-steps 2", "--learning-rate 0.001", "--bottleneck-tokens 2",
        "--data pairs.jsonl", "No public test", "query 'ask: '", "nDCG@10", "recall@10",
    ):  # fmt: skip
        assert part in card, part
    assert str(tmp_path) not in card
    log = json.loads((tmp_path / "m" / "training_log.json").read_text())
    best = max(entry["eval_dev_cosine_ndcg@10"] for entry in log if "eval_dev_cosine_ndcg@10" in entry)
    assert f"nDCG@10 | {best:.4f} |" in card
    [step] = read(tmp_path / "m")["history"]
    assert set(step["scores"]) == {"recall@10", "nDCG@10"}
    assert step["training_arguments"]["max_steps"] == 2


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, ["--read-out-weight 1.0", "--arm cut-off"]),
        ({"read_out_weight": 0.0}, ["--read-out-weight 0.0", "--arm cut-off"]),
        ({"arm": "plain"}, ["--read-out-weight 0.0", "--arm plain"]),
    ],
)
def test_recipe_says_which_loss_it_was(backbone, pairs, tmp_path, changes, said):
    config = LearnConfig(
        model=backbone, data=[pairs], output_dir=str(tmp_path / "m"), max_steps=1, max_length=24, seed=0, **changes
    )
    learn(config)
    card = (tmp_path / "m" / "README.md").read_text()
    for part in ["lbr learn", "--seed 0", *said]:
        assert part in card, part


def test_card_describes_the_prepared_set(backbone, prepare, tmp_path):
    """Its records, its regime, what is kept apart, its license."""
    rows = (
        {"question": f"What is thing number {n} made of?", "answer": f"Thing {n} is " + "abcdefgh"[n % 8] * n}
        for n in range(1, 41)
    )
    write_jsonl(tmp_path / "things.jsonl", rows)
    folder = prepare(str(tmp_path / "things.jsonl"), license="CC0-1.0", name="things")
    config = AlignConfig(
        model=backbone,
        data=str(folder),
        output_dir=str(tmp_path / "m"),
        max_length=24,
        max_steps=1,
        per_device_train_batch_size=4,
    )
    align(config)
    records = json.loads((folder / "lbr_set.json").read_text())["files"]
    card = (tmp_path / "m" / "README.md").read_text()
    named = ", ".join(f"{of['records']:,} in {name}" for name, of in records.items())
    assert f"Set things ({named} records), strict; " in card
    assert "kept apart by query and document; license CC0-1.0." in card
