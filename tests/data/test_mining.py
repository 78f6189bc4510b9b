"""Mined negatives against a search written out, and runs that mine once."""

import argparse
import logging

import pytest
from helpers import MANY, TEXTS, make_bert

from lbr_st.alignment import run as grcl
from lbr_st.data import mining as hard_negatives
from lbr_st.data.records import read_tuples
from lbr_st.errors import InputError
from lbr_st.files import write_jsonl

RECORDS = [
    {"id": str(n), "query": q, "document": d, "negatives": []}
    for n, (q, d) in enumerate([*zip(TEXTS[::2], TEXTS[1::2], strict=True), (TEXTS[0], "So does salt.")])
]
CORPUS = [{"id": "a", "document": "Pressure in pipes."}, {"id": "b", "document": "Iron is a metal."}]


def arguments(*flags):
    parser = argparse.ArgumentParser()
    hard_negatives.add_arguments(parser)
    return parser.parse_args(flags)


def expected(model, count, keep):
    """Return the documents nearest to each query that are not its own and that ``keep(similarity, of its own)``."""
    documents = [*dict.fromkeys(r["document"] for r in [*CORPUS, *RECORDS])]
    of_query = {r["query"]: {other["document"] for other in RECORDS if other["query"] == r["query"]} for r in RECORDS}
    found = {}
    for record in RECORDS:
        scores = model.similarity(model.encode_query([record["query"]]), model.encode_document(documents))[0].tolist()
        own = of_query[record["query"]]
        least = min(score for score, text in zip(scores, documents, strict=True) if text in own)
        ranked = sorted(zip(scores, documents, strict=True), reverse=True)
        negatives = [text for score, text in ranked if text not in own and keep(score, least)]
        if len(negatives) >= count:
            found[record["id"]] = negatives[:count]
    return found


@pytest.mark.parametrize(
    ("flags", "keep"),
    [
        ([], lambda score, own: True),
        (["--mining-margin", "0.05"], lambda score, own: score <= own - 0.05),
        (["--mining-relative-margin", "0.2"], lambda score, own: score <= own - 0.2 * abs(own)),
        (["--mining-max-score", "0.15"], lambda score, own: score <= 0.15),
    ],
    ids=["none", "margin", "relative margin", "max score"],
)
def test_the_nearest_that_are_no_answers(model, flags, keep):
    model.prompts |= {"query": "q: ", "document": "d: "}
    mined = hard_negatives.mine(RECORDS, model, arguments("--mine-negatives", "2", *flags), CORPUS, batch_size=3)
    found = {record["id"]: record["negatives"] for record in mined}
    assert found == expected(model, 2, keep)
    assert len(found) > 0 and (flags == [] or found != expected(model, 2, lambda score, own: True))


def test_the_nearest_ones_may_be_skipped(model):
    [one, *_] = hard_negatives.mine(RECORDS, model, arguments("--mine-negatives", "1", "--mining-skip", "1"), CORPUS, 3)
    assert one["negatives"] == expected(model, 2, lambda score, own: True)[one["id"]][1:]


def test_pairs_without_enough_are_left_out_with_a_count(model, caplog):
    """And where none is left, the filters are named."""
    margins = [str(n / 20) for n in range(1, 20)]
    left = {m: expected(model, 2, lambda score, own, m=m: score <= own - float(m)) for m in margins}
    some = next(m for m in margins if 0 < len(left[m]) < len(RECORDS))
    with caplog.at_level(logging.INFO, logger="lbr_st"):
        mined = hard_negatives.mine(
            RECORDS, model, arguments("--mine-negatives", "2", "--mining-margin", some), CORPUS, 3
        )
    assert [record["id"] for record in mined] == list(left[some])
    assert f"mined 2 hard negatives for {len(mined)} of 4 pairs; there are fewer for the others" in caplog.text
    with pytest.raises(
        InputError, match="2 hard negatives were found for none of 4 pairs; weaken --mining-max-score, take"
    ):
        hard_negatives.mine(RECORDS, model, arguments("--mine-negatives", "2", "--mining-max-score", "-1"), CORPUS, 3)


def test_given_ones_are_not_replaced():
    records = [{**RECORDS[0], "negatives": ["given"]}, *RECORDS[1:]]
    with pytest.raises(InputError, match="record 0 of --data has hard negatives already: leave out --mine-negatives"):
        hard_negatives.check_records(arguments("--mine-negatives", "1"), records)
    hard_negatives.check_records(arguments(), records)


def test_an_answer_in_other_capitals_is_no_negative(model):
    corpus = [{"document": f" {record['document'].upper()}"} for record in RECORDS]
    mined = hard_negatives.mine(RECORDS, model, arguments("--mine-negatives", "2"), corpus, 3)
    assert {text for record in mined for text in record["negatives"]} <= {record["document"] for record in RECORDS}


def test_flags_out_of_range():
    for flags in (["--mine-negatives", "0"], ["--mine-negatives", "1", "--mining-skip", "-1"]):
        with pytest.raises(InputError, match="must be at least"):
            hard_negatives.check_arguments(arguments(*flags))
    with pytest.raises(InputError, match="--mining-max-score needs --mine-negatives"):
        hard_negatives.check_arguments(arguments("--mining-max-score", "0.5"))


def test_a_run_mines_once(backbone, tmp_path, monkeypatch):
    """A resumed run reads what was mined; another model to mine with is another run."""
    write_jsonl(tmp_path / "train.jsonl", MANY)
    write_jsonl(tmp_path / "corpus.jsonl", CORPUS)
    bert = make_bert(tmp_path / "bert")
    out = tmp_path / "out"
    argv = [
        "--model", backbone, "--data", str(tmp_path / "train.jsonl"), "--max-length", "24", "--output-dir", str(out),
        "--per-device-train-batch-size", "4", "--max-steps", "2", "--save-steps", "1", "--mine-negatives", "2",
        "--mining-corpus", str(tmp_path / "corpus.jsonl"), "--mining-skip", "1",
    ]  # fmt: skip
    grcl.main([*argv, "--mining-model", bert])
    [file] = (out / "checkpoints").glob("mined-*.jsonl")
    mined = read_tuples(file)
    assert {len(record["negatives"]) for record in mined} == {2}
    answers = {record["document"] for record in mined}
    assert {text for record in mined for text in record["negatives"]} - answers <= {r["document"] for r in CORPUS}
    (out / "config.json").unlink()
    monkeypatch.setattr(hard_negatives, "mine", None)  # would fail if it were called
    grcl.main([*argv, "--mining-model", bert, "--resume"])
    (out / "config.json").unlink()
    with pytest.raises(InputError, match="mining_model: was 'st', now None"):
        grcl.main([*argv, "--resume"])
