"""The whole path on a toy: from a folder of Markdown to a model with a verdict, killed on the way and gone on with."""

import errno
import html
import json
import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import kill_after_checkpoint, make_bert, same_weights
from peft import LoraConfig, get_peft_model
from sentence_transformers import SentenceTransformer
from transformers import AutoModelForCausalLM

from lbr_st.adaptation import judging, run, writers
from lbr_st.adaptation.data_steps import rows_of
from lbr_st.adaptation.run import adapt
from lbr_st.cli.adapt import main
from lbr_st.cli.main import run_command
from lbr_st.evaluation.general import general_pairs, general_score
from lbr_st.model.saving import load

# What each step does, by what is called for it.
CALLED = {
    "start": "data_steps.mean_pooled",
    "passages": "data_steps.prepare",
    "queries": "data_steps.write_queries",
    "filter": "data_steps.filter_file",
    "set": "data_steps.hold_out",
    "learn": "training_steps.learn",
    "negatives": "training_steps.with_negatives",
    "align": "training_steps.align",
    "merge": "training_steps.merge",
    "verdict": "judging.write_report",
}


def full_disk(*args, **kwargs):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "out")


def stopped(*args, **kwargs):
    raise KeyboardInterrupt


def message_of(config, capsys, code=2):
    """Run it as the command does, and return its last line."""
    with pytest.raises(SystemExit) as end:
        run_command(lambda: adapt(config))
    assert end.value.code == code
    *_, line = capsys.readouterr().err.strip().splitlines()
    return line.removeprefix("error: ")


def found_in_all_passages(config, dev):
    """Return recall@10 and nDCG@10 of what stage 2 starts with, by hand: a toy has fewer passages than are drawn."""
    model = SentenceTransformer(str(config.work / "6-learn" / "model"))
    passages = [row["document"] for row in rows_of(config.work / "5-set" / "set" / "corpus.jsonl")]
    scores = model.encode_query([row["query"] for row in dev]) @ model.encode_document(passages).T
    right = scores[np.arange(len(dev)), [passages.index(row["document"]) for row in dev]]
    ranks = 1 + (scores > right[:, None]).sum(axis=1)
    return np.mean(ranks <= 10), np.mean(np.where(ranks <= 10, 1 / np.log2(1 + ranks), 0))


def test_from_a_folder_to_a_model_with_a_verdict_by_a_full_disk_at_each_step(config, tmp_path, monkeypatch, capsys):
    """Each time it is one line that says how to go on; what is done is not done again."""
    for number, (name, called) in enumerate(CALLED.items(), start=1):
        with monkeypatch.context() as full:
            full.setattr(f"lbr_st.adaptation.{called}", full_disk)
            assert message_of(config, capsys, 1) == (
                f"out: No space left on device; make room on the disk. It was step {number} of 10, {name}; the same "
                "command goes on there"
            )
    with monkeypatch.context() as full:
        full.setattr("lbr_st.adaptation.run.shutil.copytree", full_disk)
        assert message_of(config, capsys, 1).endswith("It was saving the model; the same command goes on there")
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr("lbr_st.adaptation.training_steps.align", lambda *args: pytest.fail("trained again"))
    made = adapt(config)
    assert [step.name for step in made.steps] == [*CALLED]
    general = general_pairs(config.general, seed=config.seed)
    assert made.verdict.outside == tuple(
        general_score(SentenceTransformer(str(config.work / place)), general)
        for place in ("1-start/embeds", "9-merge/model")
    )
    for stage in ("6-learn", "8-align"):
        assert not (config.work / stage / "model" / "checkpoints").exists()
    assert str(made.verdict).startswith(f"VERDICT {made.verdict.word}: recall@10 ")
    assert "against the start; BM25 " in str(made.verdict) and "outside the domain" in str(made.verdict)
    page = " ".join(html.unescape(made.report.read_text()).split())
    together = made.verdict.fused > max(made.verdict.recall, made.verdict.bm25)
    assert made.search in page and ("--fuse bm25 --fuse-weight" in made.search) == together
    assert str(made.verdict) in page and "No query of a passage that is asked for was trained on." in page
    assert SentenceTransformer(str(tmp_path / "out")).encode("iron").shape == (32,)
    assert "SentenceTransformer('out')" in (tmp_path / "out" / "README.md").read_text()
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
    dev = rows_of(config.work / "5-set" / "set" / "dev.jsonl")
    first = json.loads((config.work / "8-align" / "model" / "training_log.json").read_text())[0]
    recall, ndcg = found_in_all_passages(config, dev)
    assert recall < 1  # of a dozen passages all would be among the first ten
    assert first["eval_dev_cosine_recall@10"] == pytest.approx(recall, abs=1e-6)
    assert made.steps[8].said["dev_nDCG@10_of_shares"]["0"] == pytest.approx(ndcg, abs=1e-4)
    mined = [json.loads(line)["negatives"] for line in (config.work / "7-negatives" / "align.jsonl").open()]
    assert any(mined) and not held_out.intersection(*[sum(mined, [])])


@pytest.mark.slow
def test_it_goes_on_where_it_was_cut_off(config, tmp_path, monkeypatch):
    """At each step, with the same end; what is done is not done again."""
    straight = adapt(replace(config, output_dir=tmp_path / "straight"))
    for called in CALLED.values():
        with monkeypatch.context() as cut:
            cut.setattr(f"lbr_st.adaptation.{called}", stopped)
            with pytest.raises(KeyboardInterrupt):
                adapt(config)
        assert not (tmp_path / "out").exists()
    made = adapt(config)
    assert str(made.verdict) == str(straight.verdict)
    assert same_weights(tmp_path / "straight", tmp_path / "out")


@pytest.mark.slow
def test_killed_in_both_stages_it_ends_with_the_same_bytes(config, tmp_path, monkeypatch):
    steps = {**config.learn, "max_steps": 3, "save_steps": 1}
    files = {}
    for name in ("straight", "killed"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        argv = [
            str(config.sources[0]), "--model", config.model, "--output-dir", "out", "--queries", config.queries,
            "--general", config.general, "--max-length", "48",
            *(word for stage in ("learn", "align") for word in (f"--{stage}", *(f"{n}={v}" for n, v in steps.items()))),
        ]  # fmt: skip
        if name == "killed":
            for step in ("6-learn", "8-align"):
                kill_after_checkpoint("lbr_st.cli.adapt", argv, Path("out.work", step, "model"), 1)
        main(argv)
        files[name] = {
            str(file.relative_to("out")): file.read_bytes()
            for file in Path("out").rglob("*")
            if file.is_file() and file.name != "report.html"  # which says how long it took
        }
    assert "model.safetensors" in files["straight"]
    assert files["killed"] == files["straight"]


def test_an_endpoint_that_stops_answering(config, server, tmp_path, monkeypatch, capsys):
    """What it has answered is kept, and the same command goes on with it."""
    config = replace(config, queries=None, generator=server.url, generator_model="m", most_passages=10)
    answered = []

    def answer(content):
        answered.append(content)
        return f"What is found at place {len(answered)} by people?" if len(answered) < 8 else (503, "busy", {})

    server.answer = answer
    line = message_of(config, capsys, 1)
    assert "does not answer: HTTP 503: busy; is it running, and is the address right? " in line
    assert line.endswith("and the same command goes on with them") and " answers are kept in " in line
    server.answer = lambda content: f"What is found at place {server.asked.append(1) or len(server.asked)} by people?"
    with pytest.raises(KeyboardInterrupt), monkeypatch.context() as cut:
        cut.setattr("lbr_st.adaptation.data_steps.filter_file", stopped)
        adapt(config)
    assert json.loads((config.work / "3-queries" / "lbr_step.json").read_text())["said"]["title"] == 60


def test_no_queries_at_all(config, tmp_path, capsys):
    plain = tmp_path / "plain.txt"
    plain.write_text("\n\n".join(f"Much {thing} is found in rocks by people of old." for thing in ("iron", "salt")))
    line = message_of(replace(config, sources=[plain], queries=None), capsys)
    assert line == (
        f"{plain}: no query can be used, and {config.model} writes none, as it has no chat template; give --pairs "
        "FILE, --queries FILE, or --generator URL --generator-model NAME, which writes some"
    )
    assert not config.work.exists()


def test_all_queries_filtered_out(config, server, tmp_path, monkeypatch, capsys):
    """The way on is named by the flags of this command, and it is one."""
    plain = tmp_path / "plain.txt"
    plain.write_text(
        "\n\n".join(f"Much of number {n} is found in rocks by people of old {'x' * n}." for n in range(45))
    )
    server.answer = lambda content: f"Does {'z' * (server.asked.append(1) or len(server.asked))} eat anything?"
    config = replace(config, sources=[plain], queries=None, generator=server.url, generator_model="m", per_passage=1)
    line = message_of(config, capsys)
    assert line.startswith("not one of ") and "passage not among the first" in line
    assert ": --skip filter keeps all of them, --teacher names a model that finds more, --pairs" in line
    assert "--keep-first" not in line
    with pytest.raises(KeyboardInterrupt), monkeypatch.context() as cut:
        cut.setattr("lbr_st.adaptation.data_steps.hold_out", stopped)
        adapt(replace(config, skip=["filter"]))


def test_a_teacher_that_is_too_weak(config, embedding_model, monkeypatch, capsys):
    """Both numbers are said, and --weak-teacher goes on with it."""
    monkeypatch.setattr("lbr_st.alignment.teacher.EmbeddingTeacher.on_dev", lambda *args: [0.5, 0.25])
    config = replace(config, teacher=embedding_model, learn={}, skip=["learn", "negatives", "merge"])
    line = message_of(config, capsys)
    assert "its dev nDCG@10 is 0.250, that of the model before training 0.500" in line
    assert "or say --weak-teacher. It was step 6 of 7, align; what was done before it is kept in" in line
    with pytest.raises(KeyboardInterrupt), monkeypatch.context() as cut:
        cut.setattr("lbr_st.adaptation.training_steps.align", stopped)
        adapt(replace(config, weak_teacher=True))


def test_a_model_without_a_chat_template_writes_what_stage_1_taught_it(config, monkeypatch):
    """It goes on where it was cut off; no question of what is held out is trained on, and the rest is."""
    asked = []
    write = writers.Doc2QueryWriter.write

    def told_what_to_say(self, requests):
        if len(asked) == 24:
            asked.append(None)
            raise KeyboardInterrupt
        for request, answer in write(self, requests):  # which a toy cannot say in words
            asked.append(request.passage.document)
            name, place = re.match(r"(?s).*Much (\w+) is found in ([\w ]+),", request.passage.document).groups()
            yield request, answer._replace(text=f"where did people look for {name} in {place}", ended=True)

    monkeypatch.setattr(writers.Doc2QueryWriter, "write", told_what_to_say)
    config = replace(config, queries=None, skip=["merge"])
    with pytest.raises(KeyboardInterrupt):
        adapt(config)
    made = adapt(config)
    assert len(asked) == 61 and len({*asked}) == 61  # each once, and where it was cut off
    assert [step.name for step in made.steps][5:8] == ["learn", "write", "negatives"]
    assert made.steps[2].said["lost"] and made.steps[3].said["lost"] is None  # what a step itself lost
    said = made.steps[6].said
    assert (said["title"], said["question"]) == (60, 60)
    card = (config.work / "7-write" / "written" / "README.md").read_text()
    assert re.search(r"\| question \| [a-z ]+ \| 60 +\| 50% +\|", card)
    history = load(config.work / "6-learn" / "model")[0].history
    assert history[-1]["objective"] == "sft:0.4,doc2query:0.2,reconstruct:0.4"
    first, then = (
        {side: rows_of(config.work / step / "set" / f"{side}.jsonl") for side in ("align", "dev", "test")}
        for step in ("5-set", "7-write")
    )
    assert (first["dev"], first["test"]) == (then["dev"], then["test"])
    documents = {side: {row["document"] for row in then[side]} for side in then}
    assert not documents["align"] & (documents["dev"] | documents["test"])
    questions = {row["document"] for row in then["align"] if row["query"].startswith("where did people")}
    assert questions == {row["document"] for row in first["align"]} and len(questions) == 40
    mined = {row["query"] for row in rows_of(config.work / "8-negatives" / "align.jsonl")}
    assert mined == {row["query"] for row in then["align"]}


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
    found = judging.verdict
    monkeypatch.setattr(judging, "verdict", lambda before, after, **more: found(before + 1, after * 0, **more))
    made = adapt(replace(config, keep=keep, skip=["merge", "negatives"]))
    assert (made.verdict.word, made.saved) == ("REGRESSION", saved)
    chosen = tmp_path / ("out.work/1-start/embeds" if saved == "start" else "out.work/7-align/model")
    vectors = [SentenceTransformer(str(folder)).encode(["iron", "salt"]) for folder in (chosen, tmp_path / "out")]
    assert np.array_equal(*vectors)
    assert ("The end finds less: the start was saved again." in made.report.read_text()) == (saved == "start")


def test_a_start_of_the_hub_is_saved_after_a_regression(embedding_model, tmp_path, monkeypatch):
    """It is no folder that could be copied."""
    opened = SentenceTransformer(embedding_model)
    monkeypatch.setattr(run, "open_sentence_transformer", {"owner/name": opened}.__getitem__)
    run._save("owner/name", tmp_path / "hub")
    run._save(embedding_model, tmp_path / "local")
    vectors = [SentenceTransformer(str(tmp_path / name)).encode(["iron"]) for name in ("hub", "local")]
    assert np.array_equal(*vectors) and np.array_equal(vectors[0], opened.encode(["iron"]))
