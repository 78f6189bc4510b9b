"""What a dry run says: exact where it counts, there where it measures; it leaves nothing."""

import json
import math
import re
from dataclasses import replace

import pytest

from lbr_st.adaptation import data_steps
from lbr_st.adaptation.planning import plan
from lbr_st.adaptation.run import adapt
from lbr_st.cli.adapt import plan_text

EPOCHS = {"num_train_epochs": 1, "per_device_train_batch_size": 4, "learning_rate": 1e-3}


def test_a_dry_run_says_what_the_run_will_do(config, tmp_path, monkeypatch):
    """Counts, tokens and steps are those that the steps make; those that are done say so."""
    config = replace(config, learn=EPOCHS, align=EPOCHS)
    before = sorted(tmp_path.rglob("*"))
    found = plan(config)
    assert sorted(tmp_path.rglob("*")) == before
    much = {step.name: step.much for step in found.steps}
    assert [*much] == [
        "start", "passages", "queries", "filter", "set", "learn", "negatives", "align", "merge", "verdict",
    ]  # fmt: skip
    assert much["queries"] == "60 given, 60 title"  # 10 pages with 6 sections each, and 60 questions
    assert all(step.minutes > 0 and step.peak_bytes > 2**20 for step in found.steps)
    assert found.minutes == pytest.approx(sum(step.minutes for step in found.steps))
    assert len(found.left_out) == 2  # nothing stands for anything

    # Those before the first stage, done.
    with pytest.raises(KeyboardInterrupt), monkeypatch.context() as cut:
        cut.setattr("lbr_st.adaptation.training_steps.learn", stopped)
        adapt(config)
    folder = config.work / "5-set" / "set"
    rows = {name: read(folder / f"{name}.jsonl") for name in ("align", "dev", "test", "corpus", "learn", "passages")}
    assert much["set"] == ", ".join(f"{len(rows[name])} {name}" for name in ("align", "dev", "test"))
    assert much["passages"] == f"{len(read(config.work / '2-passages' / 'set' / 'corpus.jsonl'))} passages"
    kept = read(config.work / "4-filter" / "queries" / "queries.jsonl")
    assert much["filter"] == f"{len(kept)} of 120 queries stay"
    assert much["align"].endswith(f" tokens an epoch, {math.ceil(len(rows['align']) / 4)} steps")
    assert much["negatives"] == f"{len(rows['align'])} queries, {len(rows['corpus'])} passages"
    assert much["merge"] == f"5 shares, {len(rows['dev'])} dev, 12 general"
    assert much["verdict"] == f"{len(rows['test'])} queries, {len(rows['corpus'])} passages"

    again = plan(config)
    assert [step.minutes is None for step in again.steps] == [True] * 5 + [False] * 5
    assert [step.much for step in again.steps][5:] == [step.much for step in found.steps][5:]
    lines = plan_text(again).splitlines()
    assert [line.split(" | ")[0].strip("| ") for line in lines[2:13]] == [
        *(f"{number} {name}" for number, name in enumerate(much, start=1)), "all",
    ]  # fmt: skip
    assert [line.split("|")[5].strip() for line in lines[2:7]] == ["done"] * 5
    assert lines[14].startswith("Disk: at least 0.00 GiB of ")


def test_passages_under_one_heading_are_parted_as_they_will_be(config, handbook, chat_backbone, monkeypatch):
    """The filter leaves no heading that does not find its passages: a dry run does not hang all of a page together."""
    for number, page in enumerate(handbook.iterdir()):
        name = page.stem
        page.write_text(
            re.sub("^## .*", "", page.read_text(), flags=re.MULTILINE).replace(f"Much {name}", f"No {number}")
        )
    made = []

    def one_more(layout, folder):
        made.append(data_steps.make_set(layout, folder))
        raise KeyboardInterrupt

    monkeypatch.setattr("lbr_st.adaptation.planning.make_set", one_more)
    config = replace(config, model=chat_backbone, queries=None)
    with pytest.raises(KeyboardInterrupt):
        plan(config)
    assert made[0]["dev"] >= 10 and made[0]["test"] >= 10


def stopped(*args, **kwargs):
    raise KeyboardInterrupt


def read(file):
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.mark.slow
def test_queries_that_are_to_be_written_are_counted(config, backbone, chat_backbone, monkeypatch):
    """Three kinds for each of 60 passages; words of the passages stand for them, and one batch is written."""
    config = replace(config, model=chat_backbone, queries=None, learn={}, skip=["learn", "negatives", "merge"])
    made = []
    make_set = data_steps.make_set
    monkeypatch.setattr(
        "lbr_st.adaptation.planning.make_set", lambda layout, folder: made.append(make_set(layout, folder))
    )
    found = plan(config)
    [queries] = [step for step in found.steps if step.name == "queries"]
    assert queries.much == "60 title, 180 to be written"
    assert sum("180 queries are not written yet" in said for said in found.left_out) == 1
    assert any("The filter takes queries away" in said for said in found.left_out)
    base = replace(config, model=backbone, learn=EPOCHS, skip=["negatives", "merge"])
    found = plan(base)
    [write] = [step for step in found.steps if step.name == "write"]
    # A title and a question of each of 40 passages; nothing of the 20 that are held out.
    assert write.much == "60 to be written, 80 align" and write.minutes > 0
    assert (made[0]["align"], made[0]["dev"], made[0]["test"]) == (160, 40, 40)  # 4 of each of 40, 10 and 10 passages
    assert not config.work.exists()
