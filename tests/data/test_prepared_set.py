"""Prepared sets as the other commands read them, and what they refuse to train on."""

import json
import math

import pytest
from sentence_transformers import SentenceTransformer
from shapes import PAIRS, SHAPES, qa, write_jsonl

import lbr_st
from lbr_st.alignment.config import AlignConfig
from lbr_st.alignment.run import align, read_data
from lbr_st.data.prepared_set import PreparedSet, file_of, mteb_tasks_of, refuse_overlaps, same_text_of
from lbr_st.data.records import read_records
from lbr_st.errors import InputError
from lbr_st.evaluation.own_data import evaluate, local_task
from lbr_st.learning.config import LearnConfig
from lbr_st.learning.run import learn

FEW = {"max_length": 24, "max_steps": 1, "per_device_train_batch_size": 8, "eval_steps": 1, "save_strategy": "no"}


def run_of(folder):
    return json.loads((folder / "lbr_run.json").read_text())


def stage1(model, data, output_dir, **settings):
    """Run stage 1 on a source, with no more said than its size."""
    return learn(LearnConfig(model=str(model), data=[str(data)], output_dir=str(output_dir), **FEW | settings))


def stage2(model, data, output_dir, **settings):
    """The same of stage 2."""
    return align(AlignConfig(model=str(model), data=str(data), output_dir=str(output_dir), **FEW | settings))


# Of the others plain pairs come out, as of BEIR.
SLOW = {"qa", "sides", "chemistry", "choice", "markdown"}


@pytest.mark.parametrize("shape", [pytest.param(s, marks=[pytest.mark.slow] if s in SLOW else []) for s in SHAPES])
def test_both_stages_and_evaluation_read_every_shape(shape, prepare, backbone, tmp_path):
    """With nothing more said, but for size; the test is asked of the whole corpus."""
    folder = prepare(**SHAPES[shape](tmp_path))
    stage1(backbone, folder, tmp_path / "stage1")
    stage2(tmp_path / "stage1", folder, tmp_path / "out")
    log = json.loads((tmp_path / "out" / "training_log.json").read_text())
    assert any("eval_dev_cosine_ndcg@10" in entry for entry in log)
    assert any("eval_loss" in entry for entry in json.loads((tmp_path / "stage1" / "training_log.json").read_text()))
    task = local_task(folder)
    about = json.loads((folder / "lbr_set.json").read_text())
    assert len(task.documents) == about["files"]["corpus"]["records"]
    if shape == "beir":  # what follows is the same for all
        scores = evaluate(SentenceTransformer(str(tmp_path / "out")), task)
        assert 0 <= scores["ndcg_at_10"] <= 1


def test_stage_1_does_what_the_set_is_for(prepare, backbone, tmp_path):
    """Corpus-taught: the mixture, with the corpus as passages; held-out pairs alone are a loss on what is not seen."""
    folder = prepare(**qa(tmp_path), regime="corpus-taught", derived_from=["medquad"])
    stage1(backbone, folder, tmp_path / "out")
    run = run_of(tmp_path / "out")
    assert run["arguments"]["objective"] == "sft:0.5,reconstruct:0.5"
    assert run["contents"]["mteb_tasks"] == ["MedicalQARetrieval"]
    [entry] = lbr_st.load(str(tmp_path / "out"))[0].history
    assert entry["mteb_tasks"] == ["MedicalQARetrieval"]
    log = json.loads((tmp_path / "out" / "training_log.json").read_text())
    assert not any("eval_reconstruct_loss" in entry for entry in log)
    stage1(backbone, folder, tmp_path / "pairs", objective="doc2query")
    assert "eval_loss" in (tmp_path / "pairs" / "training_log.json").read_text()
    stage1(backbone, folder, tmp_path / "other", objective="prefix-suffix")
    assert run_of(tmp_path / "other")["arguments"]["objective"] == "prefix-suffix"


def test_passages_alone_are_for_stage_1(prepare, backbone, tmp_path):
    rows = [{"id": row["id"], "text": row["answer"]} for row in PAIRS]
    folder = prepare(write_jsonl(tmp_path / "f.jsonl", rows))
    stage1(backbone, folder, tmp_path / "out")
    assert run_of(tmp_path / "out")["arguments"]["objective"] == "reconstruct"
    with pytest.raises(InputError, match=r"set has no align.jsonl \(stage 2: pairs\); its documents have no queries"):
        stage2(backbone, folder, tmp_path / "no")
    with pytest.raises(InputError, match="has no test.jsonl"):
        local_task(folder)
    with pytest.raises(InputError, match="has no learn.jsonl"):
        stage1(backbone, folder, tmp_path / "no", objective="sft")


@pytest.mark.parametrize("stage", [stage1, stage2])
def test_training_refuses_what_is_held_out(stage, backbone, tmp_path, monkeypatch):
    """Before the model is opened; unless told otherwise."""
    train = write_jsonl(tmp_path / "train.jsonl", PAIRS[:20])
    changed = [PAIRS[3] | {"question": PAIRS[3]["question"].upper(), "answer": "Something else."}]
    dev = write_jsonl(tmp_path / "dev.jsonl", PAIRS[20:30] + changed)
    held_out = {"dev_data": [dev] if stage is stage1 else dev}
    with (
        monkeypatch.context() as closed,
        pytest.raises(InputError, match=r"dev.jsonl overlap in 1 queries \(1 normalised\): query of anaemia-diagnosed"),
    ):
        for of_stage in ("learning", "alignment"):
            closed.setattr(f"lbr_st.{of_stage}.run._open", lambda *args: pytest.fail("the model was opened"))
        stage(backbone, train, tmp_path / "o", **held_out)
    stage(backbone, train, tmp_path / "o", **held_out, allow_overlap=True)


def test_a_set_that_was_changed_is_checked_again(prepare, tmp_path, backbone):
    """Records moved by hand from test to training, also when the file is given by its name."""
    folder = prepare(**qa(tmp_path))
    stolen = read_records(folder / "test.jsonl")[0]
    file = folder / "align.jsonl"
    refuse_overlaps([(str(file), read_records(file))], [], allowed=False)
    file.write_text(file.read_text() + json.dumps(stolen) + "\n")
    with pytest.raises(InputError, match=f"test.jsonl overlap in 1 queries .* of {stolen['id']} and of {stolen['id']}"):
        stage2(backbone, folder, tmp_path / "out")
    with pytest.raises(InputError, match="test.jsonl overlap in 1 queries"):
        stage2(backbone, file, tmp_path / "out")


def test_an_untouched_set_is_not_compared_again(prepare, tmp_path, monkeypatch):
    """It was when it was made; for large sets that takes minutes."""
    folder = prepare(**qa(tmp_path))
    monkeypatch.setattr("lbr_st.data.prepared_set.refuse_overlap", lambda *_: pytest.fail("compared again"))
    train, dev = ((str(folder / f"{name}.jsonl"), []) for name in ("align", "dev"))
    refuse_overlaps([train], [dev], allowed=False)
    monkeypatch.chdir(folder.parent)
    refuse_overlaps([train], [(f"{folder.name}/dev.jsonl", [])], allowed=False)


@pytest.mark.parametrize(("level", "is_refused"), [("auto", False), ("loose", True)])
def test_what_is_the_same_text_in_a_set_is_so_for_who_reads_it(prepare, tmp_path, level, is_refused):
    """Its folder or a file of it: for the checks of both stages, and for the batches of stage 2."""
    source = write_jsonl(tmp_path / "f.jsonl", [{"question": "CO", "answer": "A gas"}, *PAIRS])
    folder = prepare(source, same_text=level, test=0, dev=0)
    dev = write_jsonl(tmp_path / "dev.jsonl", [{"question": "Co", "answer": "It is a metal."}])
    for source in (folder, folder / "align.jsonl"):
        assert same_text_of(str(source)) == level
        refused = False
        try:
            data = read_data(AlignConfig(model="m", data=str(source), dev_data=dev, output_dir=str(tmp_path / "o")))
            assert data.same == level
        except InputError as error:
            refused = "dev.jsonl overlap in 1 queries (1 normalised)" in str(error)
        assert refused is is_refused
    assert same_text_of(dev) == "auto"


def test_in_a_corpus_taught_set_passages_may_be_those_of_test(prepare, tmp_path):
    folder = prepare(**qa(tmp_path), regime="corpus-taught")
    file = folder / "passages.jsonl"
    file.write_text(file.read_text() + "\n")
    refuse_overlaps([(str(file), read_records(file, ("document",)))], [], allowed=False)
    strict = prepare(**qa(tmp_path), folder="strict")
    (strict / "passages.jsonl").write_text(file.read_text())
    with pytest.raises(InputError, match=r"test.jsonl overlap in 6 documents"):
        refuse_overlaps([(str(strict / "passages.jsonl"), read_records(file, ("document",)))], [], allowed=False)


def test_only_what_was_compared_is_taken_as_compared(prepare, tmp_path):
    """The test itself, or a file of another name, was not."""
    folder = prepare(**qa(tmp_path))
    for name in ("test", "corpus"):
        file = str(folder / f"{name}.jsonl")
        fields = ("document",) if name == "corpus" else ("query", "document")
        with pytest.raises(InputError, match="test.jsonl overlap in"):
            refuse_overlaps([(file, read_records(file, fields))], [], allowed=False)
    copy = folder / "align.csv"
    row = read_records(folder / "test.jsonl")[0]
    copy.write_text(f"question,answer\n{row['query']},{row['document']}\n")
    with pytest.raises(InputError, match="test.jsonl overlap in"):
        refuse_overlaps([(str(copy), read_records(copy))], [], allowed=False)


def test_sets_as_dev_data(prepare, tmp_path, backbone):
    folder = prepare(**qa(tmp_path))
    other = [row | {"question": f"{row['focus']}: {n}?", "answer": f"{n} of {n}"} for n, row in enumerate(PAIRS)]
    train = write_jsonl(tmp_path / "other.jsonl", other)
    stage1(backbone, f"sft={train}", tmp_path / "out", dev_data=[str(folder)])
    assert "eval_loss" in (tmp_path / "out" / "training_log.json").read_text()


def test_a_file_of_a_set_that_was_changed_is_named(prepare, tmp_path, caplog):
    folder = prepare(**qa(tmp_path))
    (folder / "notes.jsonl").write_text("of somebody")
    assert [file_of(str(source), "align") for source in (folder, folder / "align.jsonl", folder / "notes.jsonl")]
    assert "was changed" not in caplog.text
    (folder / "align.jsonl").write_text("".join((folder / "align.jsonl").read_text().splitlines(True)[1:]))
    for source in (folder, folder / "align.jsonl"):
        caplog.clear()
        file_of(str(source), "align")
        assert f"{folder / 'align.jsonl'} was changed since its set was made" in caplog.text
    caplog.clear()
    file_of(str(folder), "dev")
    assert "was changed" not in caplog.text


def test_what_a_source_means(prepare, tmp_path):
    folder = prepare(**qa(tmp_path))
    assert file_of(str(folder), "align") == str(folder / "align.jsonl")
    assert file_of("owner/name", "align") == "owner/name"
    assert file_of(str(folder / "dev.jsonl"), "align") == str(folder / "dev.jsonl")
    assert PreparedSet.open(tmp_path / "absent") is None
    assert mteb_tasks_of([f"sft={folder}"], []) == []
    (folder / "lbr_set.json").write_text('{"files": 5}')
    with pytest.raises(InputError, match="lbr_set.json is not what lbr data prepare wrote"):
        PreparedSet.open(folder)


def test_graded_relevance_reaches_mteb(tmp_path):
    """Two documents of one query, of grades 2 and 1: nDCG by hand where the better one comes second."""
    rows = [{"id": "1", "query": "q", "document": "good", "relevance": 2},
            {"id": "2", "query": "q", "document": "fair", "relevance": 1}]  # fmt: skip
    task = local_task(write_jsonl(tmp_path / "test.jsonl", [*rows, {"id": "3", "query": "r", "document": "x"}]))
    task.load_data()
    data = task.dataset["default"]["test"]
    assert len(data["queries"]) == 2 and len(data["corpus"]) == 3
    ids = {row["text"]: row["id"] for row in data["corpus"]}
    assert data["relevant_docs"]["1"] == {ids["good"]: 2, ids["fair"]: 1}

    from mteb._evaluators.retrieval_metrics import calculate_retrieval_scores

    found = {"1": {ids["fair"]: 0.9, ids["good"]: 0.8, ids["x"]: 0.1}, "3": {ids["x"]: 1.0}}
    scores = calculate_retrieval_scores(found, data["relevant_docs"], (10,), False)
    ideal = 2 + 1 / math.log2(3)
    expected = ((1 + 2 / math.log2(3)) / ideal + 1) / 2
    assert scores.ndcg["NDCG@10"] == pytest.approx(expected, abs=1e-4)
