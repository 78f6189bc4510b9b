"""What a configuration refuses before anything is read, and what it says of itself."""

import pytest
from shapes import PAIRS, write_jsonl

from lbr_st.data import PrepareConfig
from lbr_st.data.config import size_of
from lbr_st.errors import InputError


def config(**settings):
    return PrepareConfig(**{"sources": ["qa.jsonl"], "output_dir": "set"} | settings)


@pytest.mark.parametrize(
    ("size", "expected"),
    [("10%", 10), ("100%", 100), ("1", 1), ("0", 0), ("250", 250), ("12.5%", 12), ("0%", 0), ("0.0%", 0), ("0.5%", 0)],
)
def test_sizes(size, expected):
    assert size_of(size, 100, "test") == expected


@pytest.mark.parametrize("total", [7, 8, 100])
@pytest.mark.parametrize("of_learn", [50, 30, 66.6, 0])
def test_both_shares_of_a_whole_share_no_record(total, of_learn):
    assert size_of(f"{of_learn}%", total, "learn") + size_of(f"{100 - of_learn:g}%", total, "align") == total


@pytest.mark.parametrize(
    "size", ["-1", "1.5", "ten", "nan", "-0.5", "inf", "0.1", "1.0", "101%", "-1%", "%", "1 %", "٣"]
)
def test_sizes_that_are_none(size):
    message = r"--test .*: write a number of records \(--test 100\) or a share \(--test 10%\), or the path of a file"
    with pytest.raises(InputError, match=message):
        size_of(size, 100, "test")
    with pytest.raises(InputError, match=r"or a share \(--learn 10%\)$"):
        size_of(size, 100, "learn")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sources": []}, "no source: name a file"),
        ({"document_characters": (5, 3)}, "--document-characters must be two numbers from 1, the smaller first"),
        ({"query_characters": (0, 3)}, "--query-characters must be two numbers from 1, the smaller first"),
        ({"near_duplicates": 0.5}, "--near-duplicates must be from 0.8 to 1"),
        ({"test": "half"}, "--test half: write a number of records"),
        ({"test": 0.1}, r"--test 0.1: write a number of records \(--test 100\) or a share \(--test 10%\), or the path"),
        (
            {"dev": "absent.jsonl"},
            "--dev absent.jsonl: no such file; write a number of records .* the path of a file",
        ),
        ({"align": "1.0"}, "--align 1.0: write a number of records"),
        ({"derived_from": ["medquid"]}, "--derived-from medquid: no set of the registry"),
        ({"num_proc": 0}, "--num-proc must be at least 1, got 0"),
        ({"chunk_tokens": 0}, "--chunk-tokens must be at least 1, got 0"),
        ({"same_text": "fuzzy"}, "--same-text must be auto or exact or case or loose, got fuzzy"),
        ({"regime": "loose"}, "--regime must be strict or corpus-taught, got loose"),
        ({"first_option": 2}, "--first-option must be 0 or 1, got 2"),
        ({"isolate": "document"}, "--isolate must be both or query, got document"),
        ({"on_error": "go on"}, "--on-error must be stop or skip, got go on"),
        ({"query": "no field"}, "template 'no field' has no field"),
    ],
)
def test_refusals(settings, message):
    with pytest.raises(InputError, match=message):
        config(**settings)


def test_a_file_or_a_size(tmp_path, monkeypatch):
    """A number is a number, also where a file has its name; the stages' parts are never files."""
    monkeypatch.chdir(tmp_path)
    for name in ("100", "held-out.jsonl"):
        write_jsonl(tmp_path / name, PAIRS[:3])
    assert config(test="100").sides == [("qa.jsonl", None)]
    assert config(test="held-out.jsonl").sides == [("qa.jsonl", None), ("held-out.jsonl", "test")]
    assert config(dev=tmp_path / "held-out.jsonl").sides[1] == (str(tmp_path / "held-out.jsonl"), "dev")
    with pytest.raises(InputError, match="--learn held-out.jsonl: write a number"):
        config(learn="held-out.jsonl")


def test_one_source_needs_no_list():
    assert list(config(sources="qa.jsonl").sources) == ["qa.jsonl"]


def test_the_command_that_makes_it_again():
    """Without where and how fast; what is a default is not said."""
    plain = config(num_proc=3, test=None, choices=[], query_characters=[1, 2000])
    assert plain.command == "lbr data prepare qa.jsonl --output-dir DIR"
    every = config(
        sources=["a b.jsonl", "c.csv"], query="{q}", negative=["{n}", "{m}"], choices=["x", "y"], keep_html=True,
        query_characters=(2, 10), test=6, dev="5%", near_duplicates=0, isolate="query", derived_from=["medquad", "o/n"],
    )  # fmt: skip
    assert every.command == (
        "lbr data prepare 'a b.jsonl' c.csv --query '{q}' --negative '{n}' --negative '{m}' --choices x y --keep-html "
        "--query-characters 2 10 --near-duplicates 0 --test 6 --dev 5% --isolate query --derived-from medquad o/n "
        "--output-dir DIR"
    )


def test_where_things_are_in_a_row():
    assert config(choices=["options"]).columns.choices == "options"
    assert [template.text for template in config(choices=["a", "b"]).columns.choices] == ["{a}", "{b}"]
    assert config().columns.choices is None
