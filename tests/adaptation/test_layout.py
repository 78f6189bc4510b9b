"""Which steps there are, and where they leave what others read."""

from dataclasses import replace
from pathlib import Path

import pytest

import lbr_st
from lbr_st.adaptation.layout import Layout, content_of, content_of_corpus


def test_the_steps_of_each_kind_of_start(config, embedding_model, model, tmp_path):
    """An embedding model has no stage 1; a language model without it has nothing to be merged with."""
    everything = [
        "start", "passages", "queries", "filter", "set", "learn", "negatives", "align", "merge", "verdict",
    ]  # fmt: skip
    layout = Layout(config)
    assert layout.names == everything and layout.pools
    assert [step.name for step in layout.planned()] == everything
    assert (layout.backbone, layout.start) == (config.model, str(config.work / "1-start" / "embeds"))
    assert (layout.before, layout.end) == (layout.learned, str(config.work / "9-merge" / "model"))

    embeds = Layout(replace(config, model=embedding_model, learn={}))
    assert embeds.names == [name for name in everything if name != "learn"]
    assert (embeds.start, embeds.before, embeds.learned) == (embedding_model,) * 3

    short = Layout(replace(config, learn={}, skip=["learn", "filter", "negatives"]))
    assert short.names == ["start", "passages", "queries", "set", "align", "verdict"]
    assert (short.queries, short.pairs) == (short.written, short.set / "align.jsonl")
    assert (short.learned, short.end) == (config.model, str(config.work / "5-align" / "model"))

    lbr_st.save(model, tmp_path / "ours")
    ours = Layout(replace(config, model=str(tmp_path / "ours")))
    assert ours.names == everything and not ours.pools and ours.start == str(tmp_path / "ours")


def test_a_model_without_a_chat_template_writes_after_stage_1(config, chat_backbone):
    """Where nothing else writes, and stage 1 teaches it to."""
    base = replace(config, queries=None)
    layout = Layout(base)
    assert layout.writes and layout.names[5:8] == ["learn", "write", "negatives"]
    assert (layout.first_set, layout.set) == (config.work / "5-set" / "set", config.work / "7-write" / "set")
    assert layout.objective == "sft:0.4,doc2query:0.2,reconstruct:0.4"
    [learn] = [step for step in layout.planned() if step.name == "learn"]
    assert learn.settings["objective"] == layout.objective
    for told, objective in (
        ({"model": chat_backbone}, None),
        ({"queries": config.queries}, None),
        ({"generator": "http://localhost", "generator_model": "m"}, None),
        ({"skip": ["write"]}, None),
        ({"skip": ["learn"], "learn": {}}, None),
        ({"learn": {"objective": "sft"}}, "sft"),
        ({"learn": {"arm": "plain"}}, None),
    ):
        other = Layout(replace(base, **told))
        assert (other.writes, other.objective) == (False, objective), told
        assert "write" not in other.names and other.set == other.first_set
    assert Layout(replace(base, learn={"objective": "doc2query"})).writes


def test_a_trial_reads_what_is_done(config):
    layout = Layout(config, trial=Path("trial"), done=["start", "passages"])
    assert layout.passages == config.work / "2-passages" / "set"
    assert layout.set == Path("trial") / "5-set" / "set"


@pytest.mark.parametrize(
    ("setting", "steps"),
    [("general", ["merge", "verdict"]), ("pairs", ["queries"]), ("teacher", ["filter", "negatives", "align"])],
)
def test_every_step_that_reads_a_file_knows_its_contents(config, tmp_path, setting, steps):
    """A file of other contents by the same name, or none, is another step: what was done before is not taken."""
    found = []
    for contents in (None, "one", "two"):
        if contents is not None:
            (tmp_path / "file").write_text(contents)
        told = Layout(replace(config, **{setting: str(tmp_path / "file") if contents else None})).planned()
        found.append({step.name: step.settings for step in told})
    for one, other in ((0, 1), (1, 2)):
        assert [name for name in found[0] if found[one][name] != found[other][name]] == steps


def test_a_source_is_known_by_its_contents(tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "a").write_text("a")
    first = content_of(tmp_path / "one")
    (tmp_path / "one").rename(tmp_path / "two")
    assert content_of(tmp_path / "two") == first
    (tmp_path / "two" / "a").write_text("b")
    assert content_of(tmp_path / "two") != first
    assert (content_of("an/id"), content_of(None)) == ("an/id", None)


def test_steps_may_lie_in_the_corpus(tmp_path):
    """They are not read as its passages, and it is the same corpus when they are there."""
    (tmp_path / "page.md").write_text("# Iron")
    first = content_of_corpus(tmp_path)
    step = tmp_path / "my-model.work" / "1-start"
    step.mkdir(parents=True)
    (step / "lbr_step.json").write_text("{}")
    (step / "text.md").write_text("# Salt")
    assert content_of_corpus(tmp_path) == first
    assert content_of_corpus(tmp_path / "page.md") == content_of(tmp_path / "page.md")
    (tmp_path / "other.md").write_text("# Salt")
    assert content_of_corpus(tmp_path) != first
