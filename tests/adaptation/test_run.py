"""The whole path on a toy: from a folder of Markdown to a model with a verdict, killed on the way and gone on with."""

import html
import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from helpers import make_bert, same_weights
from peft import LoraConfig, get_peft_model
from sentence_transformers import SentenceTransformer
from transformers import AutoModelForCausalLM

from lbr_st.adaptation import run
from lbr_st.adaptation.config import AdaptConfig
from lbr_st.adaptation.run import adapt
from lbr_st.adaptation.scoring import Judge, fused
from lbr_st.data.same_text import same_text
from lbr_st.errors import InputError
from lbr_st.evaluation.own_data import LocalRetrieval
from lbr_st.files import write_jsonl
from lbr_st.verdict import Verdict

THINGS = ["iron", "salt", "copper", "zinc", "gold", "lead", "tin", "silver", "nickel", "cobalt"]
PLACES = ["rocks", "rivers", "plants", "blood", "old coins", "the sea"]
STEPS = {"num_train_epochs": 1, "max_steps": 2, "per_device_train_batch_size": 4, "learning_rate": 1e-3}


@pytest.fixture
def handbook(tmp_path):
    """A page for each thing, a section for each place: 60 passages with headings."""
    folder = tmp_path / "handbook"
    folder.mkdir()
    for thing in THINGS:
        sections = [
            f"## {thing} in {place}\n\nMuch {thing} is found in {place}, where people of long ago looked for it.\n"
            for place in PLACES
        ]
        (folder / f"{thing}.md").write_text("\n".join([f"# About {thing}\n", *sections]))
    return folder


@pytest.fixture
def config(handbook, backbone, tmp_path):
    general = tmp_path / "general.jsonl"
    rows = [{"query": f"sort {n}", "document": f"def sort_{n}(): sorted({n})"} for n in range(12)]
    general.write_text("".join(json.dumps(row) + "\n" for row in rows))
    titles = tmp_path / "titles.jsonl"
    rows = [
        {"query": f"Where is {thing} in {place}?", "document": f"Much {thing} lies in {place}.", "kind": "question"}
        for thing in THINGS
        for place in PLACES
    ]
    titles.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return AdaptConfig(
        sources=[handbook],
        queries=str(titles),
        model=str(backbone),
        output_dir=tmp_path / "out",
        general=str(general),
        max_length=48,
        learn=STEPS,
        align=STEPS,
    )


def test_from_a_folder_to_a_model_with_a_verdict(config, tmp_path):
    made = adapt(config)
    assert [step.name for step in made.steps] == [
        "start", "passages", "queries", "filter", "set", "learn", "negatives", "align", "merge", "verdict",
    ]  # fmt: skip
    assert str(made.verdict).startswith(f"VERDICT {made.verdict.word}: recall@10 ")
    assert "against the start; BM25 " in str(made.verdict) and "outside the domain" in str(made.verdict)
    page = " ".join(html.unescape(made.report.read_text()).split())
    assert str(made.verdict) in page and "No query of a passage that is asked for was trained on." in page
    assert SentenceTransformer(str(tmp_path / "out")).encode("iron").shape == (32,)
    own = json.loads((config.work / "5-set" / "set" / "lbr_set.json").read_text())
    assert own["regime"] == "corpus-taught"
    assert made.steps[4].said["test_asks"].endswith("written (question)")  # as the column of --queries says
    rows = {
        side: {json.loads(line)["document"] for line in (config.work / "5-set" / "set" / f"{side}.jsonl").open()}
        for side in ("align", "dev", "test")
    }
    assert rows["align"] and rows["dev"] and rows["test"]
    held_out = rows["dev"] | rows["test"]
    assert not rows["align"] & held_out and not rows["dev"] & rows["test"]
    mined = [json.loads(line)["negatives"] for line in (config.work / "7-negatives" / "align.jsonl").open()]
    assert any(mined) and not held_out.intersection(*[sum(mined, [])])


@pytest.mark.slow
def test_it_goes_on_where_it_was_cut_off(config, tmp_path, monkeypatch):
    """At each step, with the same end; what is done is not done again."""
    straight = adapt(replace(config, output_dir=tmp_path / "straight"))
    for name in (
        "write_queries",
        "filter_file",
        "prepare",
        "learn",
        "with_negatives",
        "align",
        "merge",
        "write_report",
    ):
        with monkeypatch.context() as cut:
            cut.setattr(run, name, lambda *args, **kwargs: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                adapt(config)
        assert not (tmp_path / "out").exists()
    with monkeypatch.context() as cut:  # once more: only the last step is left
        cut.setattr(run, "align", lambda *args: pytest.fail("trained again"))
        made = adapt(config)
    assert str(made.verdict) == str(straight.verdict)
    assert same_weights(tmp_path / "straight", tmp_path / "out")


@pytest.mark.slow
def test_a_start_that_is_an_embedding_model_has_no_stage_1(config, tmp_path):
    made = adapt(replace(config, model=make_bert(tmp_path / "bert"), learn={}))
    assert "learn" not in [step.name for step in made.steps]
    assert SentenceTransformer(str(tmp_path / "out")).encode("iron").ndim == 1


@pytest.mark.slow
def test_an_adapter_is_merged_into_its_base(config, backbone, tmp_path):
    adapted = get_peft_model(
        AutoModelForCausalLM.from_pretrained(backbone), LoraConfig(r=2, target_modules="all-linear")
    )
    adapted.peft_config["default"].base_model_name_or_path = str(backbone)
    adapted.save_pretrained(tmp_path / "adapter")
    made = adapt(replace(config, model=str(tmp_path / "adapter"), skip=["merge", "negatives", "filter"]))
    assert [step.name for step in made.steps][:2] == ["start", "passages"]
    assert (config.work / "1-start" / "backbone" / "config.json").is_file()


@pytest.mark.slow
def test_a_language_model_without_stage_1_is_not_merged(config, tmp_path):
    """There is no start of its kind."""
    made = adapt(replace(config, learn={}, skip=["learn", "filter"]))
    assert [step.name for step in made.steps][-2:] == ["align", "verdict"]
    assert SentenceTransformer(str(tmp_path / "out")).encode("iron").shape == (32,)


@pytest.mark.slow
@pytest.mark.parametrize(("keep", "saved"), [("better", "start"), ("end", "end")])
def test_an_end_that_finds_less_is_not_saved_unless_asked_for(config, tmp_path, monkeypatch, keep, saved):
    found = run.verdict
    monkeypatch.setattr(run, "verdict", lambda before, after, **more: found(before + 1, after * 0, **more))
    made = adapt(replace(config, keep=keep, skip=["merge", "negatives"]))
    assert (made.verdict.word, made.saved) == ("REGRESSION", saved)
    chosen = tmp_path / ("out.work/1-start/embeds" if saved == "start" else "out.work/7-align/model")
    vectors = [SentenceTransformer(str(folder)).encode(["iron", "salt"]) for folder in (chosen, tmp_path / "out")]
    assert np.array_equal(*vectors)
    assert ("The end finds less: the start was saved again." in made.report.read_text()) == (saved == "start")


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"model": "absent/"}, "^--model absent/ is not a model"),
        ({"teacher": "./absent"}, "^--teacher ./absent is not a model"),
        ({"queries": "absent.jsonl"}, "^--queries absent.jsonl: no such file"),
        ({"pairs": "absent.jsonl"}, "^--pairs absent.jsonl: no such file"),
        ({"general": "absent.jsonl"}, "^--general absent.jsonl: no such file"),
        ({"sources": ["absent.md"]}, "^absent.md: no such file"),
        (
            {"model": "no-such-model"},
            "^--model no-such-model is not a model: there is no such directory",
        ),
        ({"teacher": "typo"}, "^--teacher typo is not a model: there is no such directory"),
        ({"align": {"optim": "adamw_8bit"}}, "^--optim adamw_8bit: .*bitsandbytes"),
        ({"learn": {"report_to": "wandb"}}, "^--report-to wandb needs wandb"),
        ({"max_length": 100_000}, "^--max-length 100000: "),
    ],
)
def test_what_is_refused_before_any_work(config, told, message):
    with pytest.raises(InputError, match=message):
        adapt(replace(config, **told))
    assert not config.work.exists()


def test_a_folder_that_holds_something_is_refused(config, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    with pytest.raises(InputError, match="^--output-dir .* is not empty"):
        adapt(config)


def test_kinds_are_read_by_every_name_of_a_query(tmp_path):
    """What is no text is no kind."""
    rows = [
        {"question": "What is iron?", "answer": "A metal.", "kind": "claim"},
        {"question": "And salt?", "answer": "None.", "kind": ["claim"]},
        {"question": "And tin?", "answer": "One."},
    ]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    assert run.kinds_of(str(tmp_path / "rows.jsonl")) == {same_text("What is iron?"): "claim"}


@pytest.mark.parametrize(
    ("word", "keep", "saved"),
    [
        ("WIN", "better", "end"), ("MARGINAL", "better", "end"), ("REGRESSION", "better", "start"),
        ("REGRESSION", "end", "end"),
    ],
)  # fmt: skip
def test_what_is_saved(word, keep, saved):
    assert run.what_is_saved(Verdict(word, 0.5, 0.1, 0.0, 0.2, queries=9), keep) == saved


def test_fused_are_the_scores_of_the_same_query():
    """BM25 may have the queries in another order."""
    dense = SimpleNamespace(queries=["a", "b"], scores=np.float32([[1, 0], [0, 1]]))
    lexical = SimpleNamespace(queries=["b", "a"], scores=np.float32([[0, 4], [4, 0]]))
    assert fused(dense, lexical, 0.5).tolist() == [[1, -1], [-1, 1]]


def test_what_a_judge_finds():
    """Two queries, of which one has two documents: recall, nDCG, ranks and examples by hand."""
    records = [
        {"id": "a", "query": "one", "document": "d0"},
        {"id": "b", "query": "one", "document": "d2"},
        {"id": "c", "query": "two", "document": "d1"},
    ]
    more = [{"id": f"m{n}", "document": f"d{n}"} for n in range(3, 14)]
    judge = Judge(LocalRetrieval(records, more, name="toy", revision="1"))
    position = {text: number for number, text in enumerate(judge.documents)}
    scores = np.tile(-np.arange(14, dtype=np.float32), (2, 1))
    scores[0, position["d0"]], scores[0, position["d2"]] = 9, -99  # first, and last
    scores[1, position["d1"]] = -2.5  # fourth, or behind whatever is before it
    found = judge.found(["a", "c"], scores)
    rank = int((scores[1] > -2.5).sum()) + 1
    assert found.recall.tolist() == [0.5, 1.0]
    assert found.ranks.tolist() == [1, rank]
    ideal = 1 + 1 / np.log2(3)
    assert found.ndcg == pytest.approx((1 / ideal + 1 / np.log2(rank + 1)) / 2)
    [one, two] = judge.examples(["a", "c"], found, found)
    assert (one.query, one.document, one.before, one.first_after) == ("one", "d0", 1, "d0")
    assert (two.query, two.document, two.after) == ("two", "d1", rank)
