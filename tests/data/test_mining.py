"""Mined negatives against a search written out, and the sets that hold them."""

import json
import logging
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import TEXTS
from shapes import PAIRS, about, qa, read, write_jsonl

import lbr_st
from lbr_st.data import MineConfig, PreparedSet, mine
from lbr_st.data.mining import with_negatives, without_held_out
from lbr_st.data.overlap import overlaps
from lbr_st.data.prepared_set import refuse_overlaps
from lbr_st.data.records import read_tuples
from lbr_st.errors import InputError

RECORDS = [
    {"id": str(n), "query": q, "document": d, "negatives": []}
    for n, (q, d) in enumerate([*zip(TEXTS[::2], TEXTS[1::2], strict=True), (TEXTS[0], "So does salt.")])
]
CORPUS = [{"id": "a", "document": "Pressure in pipes."}, {"id": "b", "document": "Iron is a metal."}]


def settings(**changes):
    config = MineConfig(source="pairs.jsonl", model="model", output_dir="mined", negatives=2, batch_size=3)
    return replace(config, **changes)


def cosine(a, b):
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def expected(model, count, keep, from_mean=False):
    """Return the documents nearest to each query that are not its own and that ``keep(similarity, of its own)``."""
    documents = [*dict.fromkeys(r["document"] for r in [*CORPUS, *RECORDS])]
    of_documents = model.encode_document(documents, normalize_embeddings=True)
    of_query = {r["query"]: {other["document"] for other in RECORDS if other["query"] == r["query"]} for r in RECORDS}
    found = {}
    mean = of_documents.mean(axis=0) if from_mean else 0
    for record in RECORDS:
        query = model.encode_query(record["query"], normalize_embeddings=True) - mean
        scores = [cosine(query, document - mean) for document in of_documents]
        own = of_query[record["query"]]
        least = min(score for score, text in zip(scores, documents, strict=True) if text in own)
        ranked = sorted(zip(scores, documents, strict=True), reverse=True)
        negatives = [text for score, text in ranked if text not in own and keep(score, least)]
        if len(negatives) >= count:
            found[record["id"]] = negatives[:count]
    return found


@pytest.mark.parametrize(
    ("changes", "keep"),
    [
        ({}, lambda score, own: True),
        ({"margin": 0.05}, lambda score, own: score <= own - 0.05),
        ({"relative_margin": 0.2}, lambda score, own: score <= own - 0.2 * abs(own)),
        ({"max_score": 0.15}, lambda score, own: score <= 0.15),
    ],
    ids=["none", "margin", "relative margin", "max score"],
)
def test_the_nearest_that_are_no_answers(model, changes, keep):
    model.prompts |= {"query": "q: ", "document": "d: "}
    mined = with_negatives(RECORDS, model, settings(**changes), CORPUS)
    found = {record["id"]: record["negatives"] for record in mined}
    assert found == expected(model, 2, keep, "relative_margin" in changes)
    assert len(found) > 0 and (changes == {} or found != expected(model, 2, lambda score, own: True))


class Shifted(torch.nn.Module):
    """Moves all vectors far to one side, as a language model has them."""

    def forward(self, features):
        return features | {"sentence_embedding": features["sentence_embedding"] + 3}


@pytest.mark.parametrize("width", [None, 16])
def test_a_relative_margin_is_measured_from_the_mean(model, width):
    """Vectors that point nearly one way are all within 5% of each other, and some are farther from the mean."""
    model.append(Shifted())
    model.truncate_dim = width
    vectors = model.encode([*TEXTS])
    found = with_negatives(RECORDS, model, settings(negatives=1, relative_margin=0.05), CORPUS)
    assert {record["id"]: record["negatives"] for record in found} == expected(
        model, 1, lambda score, own: score <= own - 0.05 * abs(own), from_mean=True
    )
    assert len(found) > 0
    assert not expected(model, 1, lambda score, own: score <= own - 0.05 * abs(own))
    np.testing.assert_array_equal(model.encode([*TEXTS]), vectors)  # as it was before


def test_the_nearest_ones_may_be_skipped(model):
    [one, *_] = with_negatives(RECORDS, model, settings(negatives=1, skip=1), CORPUS)
    assert one["negatives"] == expected(model, 2, lambda score, own: True)[one["id"]][1:]


def test_pairs_without_enough_are_left_out_with_a_count(model, caplog):
    """And where none is left, the filters are named."""
    margins = [n / 20 for n in range(1, 20)]
    left = {m: expected(model, 2, lambda score, own, m=m: score <= own - m) for m in margins}
    some = next(m for m in margins if 0 < len(left[m]) < len(RECORDS))
    with caplog.at_level(logging.INFO, logger="lbr_st"):
        mined = with_negatives(RECORDS, model, settings(margin=some), CORPUS)
    assert [record["id"] for record in mined] == list(left[some])
    assert f"mined 2 hard negatives for {len(mined)} of 4 pairs; there are fewer for the others" in caplog.text
    with pytest.raises(
        InputError, match="2 hard negatives were found for none of 4 pairs; weaken --max-score, take another --model"
    ):
        with_negatives(RECORDS, model, settings(max_score=-1), CORPUS)


def test_an_answer_in_other_capitals_is_no_negative(model):
    capitals = [record["document"].upper().replace(" SS.", " ß.") for record in RECORDS]  # SS alone is no ordinary word
    corpus = [{"document": f" {text}"} for text in capitals]
    mined = with_negatives(RECORDS, model, settings(), corpus)
    assert {text for record in mined for text in record["negatives"]} <= {record["document"] for record in RECORDS}


def test_nor_is_an_answer_that_two_pairs_spell_otherwise(model):
    """Of one text there is one spelling; the pair with the other one keeps its own."""
    records = [*RECORDS, {"id": "x", "query": "More", "document": RECORDS[0]["document"].upper(), "negatives": []}]
    mined = with_negatives(records, model, settings(negatives=1), CORPUS)
    same = [record for record in mined if record["document"].lower() == RECORDS[0]["document"].lower()]
    assert [record["document"] for record in same] == [RECORDS[0]["document"], records[-1]["document"]]
    assert not any(text.lower() == RECORDS[0]["document"].lower() for r in same for text in r["negatives"])


def test_nor_is_an_answer_to_a_query_in_other_capitals(model):
    """Of three documents two are answers, and one is left; each pair keeps its own spelling of the query."""
    query = RECORDS[0]["query"]
    other = {"id": "x", "query": f" {query.lower()} ", "document": RECORDS[1]["document"], "negatives": []}
    one = CORPUS[:1]
    mined = with_negatives([RECORDS[0], other], model, settings(negatives=1), one)
    assert [(r["query"], r["negatives"]) for r in mined] == [
        (query, [one[0]["document"]]), (other["query"], [one[0]["document"]]),
    ]  # fmt: skip
    with pytest.raises(InputError, match="2 hard negatives were found for none of 2 pairs"):
        with_negatives([RECORDS[0], other], model, settings(negatives=2), one)


@pytest.mark.parametrize(("level", "mined"), [("auto", ["Co"]), ("case", [])])
def test_a_formula_in_other_capitals_is_a_negative(model, level, mined):
    records = [{"id": "1", "query": "carbon monoxide", "document": "CO", "negatives": []}]
    try:
        found = with_negatives(records, model, settings(negatives=1), [{"document": "Co"}], level)
    except InputError:
        found = []
    assert [text for record in found for text in record["negatives"]] == mined


def test_numbers_out_of_range():
    for changes, message in (
        ({"negatives": 0}, "--negatives must be at least 1, got 0"),
        ({"skip": -1}, "--skip must be at least 0, got -1"),
        ({"batch_size": 0}, "--batch-size must be at least 1, got 0"),
        ({"relative_margin": 0.05, "max_score": 0.9}, "--relative-margin measures similarities from the mean"),
    ):
        with pytest.raises(InputError, match=message):
            settings(**changes)


@pytest.fixture
def folder(model, tmp_path):
    """A saved model, at ``model``."""
    lbr_st.save(model, tmp_path / "model")
    return tmp_path


@pytest.fixture
def config(folder):
    return MineConfig(
        source=folder / "set", model=str(folder / "model"), output_dir=folder / "mined", negatives=2, batch_size=8
    )


def test_a_set_gets_hard_negatives(prepare, folder, config, caplog):
    """All its other files stay; what it says of itself is true of the new ones."""
    source = prepare(**qa(folder), test=6, dev=4, learn=30, align=20)
    held_out = read(source, "test")[0]["document"].upper()
    extra = write_jsonl(folder / "extra.jsonl", [{"text": text} for text in [held_out, "Nobody's answer.", *TEXTS]])
    with caplog.at_level(logging.INFO, logger="lbr_st"):
        made = mine(replace(config, corpus=extra))
    assert made.folder == folder / "mined" and made.about == about(folder / "mined")
    assert "1 documents of --corpus are held out" in caplog.text
    before, after = about(source), about(made.folder)
    for name in ("learn", "passages", "dev", "test", "corpus"):
        assert read(made.folder, name) == read(source, name)
        assert after["files"][name] == before["files"][name]
    mined = read(made.folder, "align")
    assert [{key: row[key] for key in row if key != "negatives"} for row in mined] == read(source, "align")
    assert {len(row["negatives"]) for row in mined} == {2}
    negatives = {text for row in mined for text in row["negatives"]}
    assert negatives.isdisjoint(row["document"] for name in ("dev", "test") for row in read(source, name))
    assert negatives <= {row["document"] for row in mined} | {"Nobody's answer.", *TEXTS}
    assert after["pairs_with_hard_negatives"] == 20 and after["in_both_stages"] == before["in_both_stages"] == 0
    assert not any(number for kinds in after["overlaps_left"].values() for number in kinds.values())
    assert after["command"].splitlines() == [before["command"], replace(config, corpus=extra).command]
    card = (made.folder / "README.md").read_text()
    assert f"Hard negatives: 2 for each pair of align, found by {config.model}, with documents of {extra}." in card
    assert PreparedSet.open(made.folder).was_compared(made.file("align"), made.file("test"))
    with pytest.raises(InputError, match="align.jsonl has hard negatives already; mine for pairs that have none"):
        mine(replace(config, source=made.folder, output_dir=folder / "again"))


def test_a_corpus_may_be_a_set(prepare, folder, config, caplog):
    source = prepare(**qa(folder), test=6, dev=4, learn=30, align=20)
    caplog.set_level(logging.INFO, logger="lbr_st")
    made = mine(replace(config, corpus=str(source), negatives=1))
    assert f"in {source / 'corpus.jsonl'} too" in caplog.text and made.about["mined"]["corpus"] == str(source)
    with pytest.raises(InputError, match="model: is a model, where data are needed"):
        mine(replace(config, corpus=str(folder / "model"), source="absent.jsonl", output_dir=folder / "other"))


def test_what_is_held_out_is_no_negative(prepare, folder, config):
    """With a corpus of nothing else, all negatives are answers of other training pairs; nearly counts as well."""
    long = [row | {"answer": row["answer"] + " " + " ".join(f"{row['id']}-{n}" for n in range(30))} for row in PAIRS]
    source = prepare(write_jsonl(folder / "long.jsonl", long), test=8, dev=8)
    held_out = [row["document"] + " more" for name in ("dev", "test") for row in read(source, name)]
    corpus = write_jsonl(folder / "held-out.jsonl", [{"text": text} for text in held_out])
    made = mine(replace(config, corpus=corpus))
    mined = read(made.folder, "align")
    assert {text for row in mined for text in row["negatives"]} <= {row["document"] for row in read(source, "align")}
    assert not list(overlaps(mined, read(source, "test")))


def test_what_the_corpus_or_the_set_of_a_file_holds_out_is_no_negative(prepare, folder, config):
    """Pairs that are a file have the test of the set whose corpus is searched, and of the set that they are of."""
    source = prepare(**qa(folder), test=20, dev=10)
    held_out = {row["document"] for name in ("dev", "test") for row in read(source, name)}
    pairs = write_jsonl(folder / "pairs.jsonl", [row | {"negatives": []} for row in read(source, "align")])
    texts = write_jsonl(folder / "corpus.jsonl", [{"text": text} for text in held_out])
    for pairs_of, corpus, name in ((pairs, source, "one"), (str(source / "align.jsonl"), texts, "two")):
        made = mine(replace(config, source=pairs_of, corpus=str(corpus), output_dir=folder / name))
        assert not {text for row in read(made.folder, "align") for text in row["negatives"]} & held_out


def test_a_set_that_is_not_isolated_is_not_kept(prepare, folder, config, monkeypatch):
    """The files that were written are compared, whatever was searched."""
    source = prepare(**qa(folder))
    stolen = read(source, "test")[0]["document"]
    mined = [record | {"negatives": [stolen]} for record in read_tuples(source / "align.jsonl")]
    monkeypatch.setattr("lbr_st.data.mining.with_negatives", lambda *_: mined)
    with pytest.raises(RuntimeError, match="'negative': {'exact': 51, .*this is a bug"):
        mine(config)
    assert not (folder / "mined").exists()


def test_a_set_that_was_changed_is_looked_at_first(prepare, folder, config):
    """A pair that was taken away is no harm; one of the test is."""
    source = prepare(**qa(folder))
    file = source / "align.jsonl"
    file.write_text("".join(file.read_text().splitlines(keepends=True)[1:]))
    made = mine(config)
    assert about(made.folder)["files"]["align"]["records"] == 50
    file.write_text(file.read_text() + json.dumps(read(source, "test")[0]) + "\n")
    with pytest.raises(InputError, match="set was changed, and holds texts on two sides; make it again"):
        mine(replace(config, output_dir=folder / "other"))


def test_pairs_that_are_left_out_are_said(prepare, folder, config, monkeypatch):
    source = prepare(**qa(folder))
    some = [record | {"negatives": ["Nobody's answer."]} for record in read_tuples(source / "align.jsonl")[2:]]
    monkeypatch.setattr("lbr_st.data.mining.with_negatives", lambda *_: some)
    write_jsonl(source / "dropped.jsonl", [{"reason": "empty text", "id": "", "text": "line 7: the text is empty"}])
    made = mine(config)
    assert read(made.folder, "dropped")[-1]["reason"] == "empty text"
    assert about(made.folder)["dropped"] == about(source)["dropped"] | {"align: fewer than 2 hard negatives": 2}
    assert {sample["id"] for sample in read(made.folder, "dropped")[:-1]} == {
        row["id"] for row in read(source, "align")[:2]
    }
    assert about(made.folder)["files"]["align"]["records"] == 49 == about(made.folder)["in_both_stages"]
    words = about(source)["files"]["align"]["tokens"] - about(made.folder)["files"]["align"]["tokens"]
    assert 0 < words < math.inf


def test_a_file_of_pairs_becomes_a_set(folder, config):
    """Of which nothing is held out: data that is, is compared when a stage reads both."""
    source = write_jsonl(folder / "pairs.jsonl", PAIRS)
    made = mine(replace(config, source=source))
    assert set(about(made.folder)["files"]) == {"align"} and made.about["name"] == "pairs"
    assert [row["id"] for row in read(made.folder, "align")] == [row["id"] for row in PAIRS]
    assert "Nothing is held out, so nothing was compared." in (made.folder / "README.md").read_text()
    dev = [{"id": "d", "query": "Asked anew", "document": read(made.folder, "align")[0]["negatives"][0]}]
    with pytest.raises(InputError, match="dev.jsonl overlap in"):
        refuse_overlaps([(made.file("align"), read_tuples(made.file("align")))], [("dev.jsonl", dev)], allowed=False)


def test_pairs_that_are_graded(folder, config):
    """What scores less is no pair, and is not taken for a hard negative that was given."""
    rows = [{**row, "score": 0.9} for row in PAIRS] + [{**PAIRS[0], "document": "Something else.", "score": 0.1}]
    source = write_jsonl(folder / "pairs.jsonl", rows)
    made = mine(replace(config, source=source, min_score=0.5))
    assert [row["id"] for row in read(made.folder, "align")] == [row["id"] for row in PAIRS]


def test_refusals_come_before_the_model(prepare, folder, config, monkeypatch):
    monkeypatch.setattr("lbr_st.data.mining.open_sentence_transformer", lambda *_: pytest.fail("opened"))
    write_jsonl(folder / "passages.jsonl", [{"text": row["answer"]} for row in PAIRS])
    prepare(folder / "passages.jsonl")
    for changes, message in (
        ({}, r"has no align.jsonl \(stage 2: pairs\); its documents have no queries"),
        ({"source": folder / "absent"}, "absent: no such file"),
        ({"source": folder}, "is a folder, a file is needed"),
        ({"model": "./absent"}, "--model ./absent"),
        ({"output_dir": folder / "model"}, "--output-dir .*model is not empty"),
    ):
        with pytest.raises(InputError, match=message):
            mine(replace(config, **changes))
    assert not (folder / "mined").exists()


@pytest.mark.parametrize("content", ["3", '{"document": 1}', "[" * 5000, "\udc84"], ids=range(4))
@pytest.mark.parametrize("name", ["learn", "dev"])
def test_a_damaged_file_of_a_set_is_named_with_its_line(prepare, folder, config, name, content):
    made = prepare(**qa(folder), test=6, dev=4)
    file = made / f"{name}.jsonl"
    first, *_ = file.read_text().splitlines()
    file.write_bytes(f"{first}\n{content}\n".encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError, match=f"{name}.jsonl, line 2"):
        mine(replace(config, source=str(made)))


@pytest.mark.parametrize("name", ["negatives", "skip"])
def test_more_negatives_than_there_are_documents(model, name):
    with pytest.raises(InputError, match=f"^--{name} {2**63}: there are 6 documents to find them in"):
        with_negatives(RECORDS, model, settings(**{name: 2**63}), CORPUS)


def test_a_held_out_file_that_is_damaged_is_named(prepare, tmp_path):
    folder = prepare(**qa(tmp_path))
    rows = read(folder, "test")
    del rows[0]["document"]
    write_jsonl(folder / "test.jsonl", rows)
    with pytest.raises(InputError, match="test.jsonl, line 1.*document"):
        without_held_out(PreparedSet.open(folder), [])
