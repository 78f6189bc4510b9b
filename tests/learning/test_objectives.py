"""How objectives, their weights and their data are written."""

import pytest

from lbr_st.errors import InputError
from lbr_st.learning.objectives import parse_data, parse_objective


@pytest.mark.parametrize(
    ("text", "expected"),
    [("sft", {"sft": 1.0}), ("sft:0.7,reconstruct:0.3", {"sft": 0.7, "reconstruct": 0.3}),
     ("prefix-suffix:1, sft:3", {"prefix-suffix": 0.25, "sft": 0.75})],
)  # fmt: skip
def test_objectives_and_their_weights(text, expected):
    assert parse_objective(text) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("text", "message"),
    [("sftt", "'sftt' is none of sft, doc2query, reconstruct, prefix-suffix"), ("sft:1,sft:1", "sft is there twice"),
     ("sft,reconstruct:1", "sft has no weight"), ("sft:x,reconstruct:1", "the weight of sft must be a number above 0"),
     ("sft:0,reconstruct:1", "not '0'"), ("sft:inf", "not 'inf'"), ("", "'' is none of")],
)  # fmt: skip
def test_objectives_that_are_refused(text, message):
    with pytest.raises(InputError, match=message):
        parse_objective(text)


def test_data_of_each_objective():
    both = ["sft", "reconstruct"]
    assert parse_data("--data", ["a=b.jsonl"], both) == {"sft": "a=b.jsonl", "reconstruct": "a=b.jsonl"}
    assert parse_data("--data", ["reconstruct=c", "sft=p"], both) == {"sft": "p", "reconstruct": "c"}
    for sources, message in (
        (["sft=p"], "nothing to read for reconstruct"),
        (
            ["p", "c"],
            "several sources are written one for each objective, sft=FILE reconstruct=FILE; for all objectives, lbr "
            "data prepare p c --output-dir SET makes one set of them, which is one source",
        ),
        (["sft=p", "prefix-suffix=c"], "--data prefix-suffix=c: several sources"),
        (["sft=p", "sft=c"], "sft has a source already"),
    ):
        with pytest.raises(InputError, match=message):
            parse_data("--data", sources, both)


def test_a_mistyped_objective_before_a_file_is_named(tmp_path):
    """The file is there, what stands before it is not."""
    (tmp_path / "a.jsonl").touch()
    with pytest.raises(InputError, match="^--data lern=.*: 'lern' is none of sft, .*; or write .*a.jsonl alone$"):
        parse_data("--data", [f"lern={tmp_path / 'a.jsonl'}"], ["sft"])
    (tmp_path / "a=b.jsonl").touch()
    assert parse_data("--data", [str(tmp_path / "a=b.jsonl")], ["sft"]) == {"sft": str(tmp_path / "a=b.jsonl")}
