"""JSON Lines and JSON: objects and lists, and what is none of either."""

import json

import pytest
from helpers import values_in

from lbr_st.data.rows import read_rows
from lbr_st.errors import InputError

LISTS = [
    (["q", "d"], {"anchor": "q", "positive": "d"}),
    (["q", "d", "n", "m"], {"anchor": "q", "positive": "d", "negative_1": "n", "negative_2": "m"}),
    (["q", ["d", "e"]], {"anchor": "q", "positive": ["d", "e"]}),
    (["q", "d", 0.5], {"anchor": "q", "positive": "d", "score": 0.5}),
    ([7, "q", "d"], {"id": 7, "anchor": "q", "positive": "d"}),
    (["d"], {"text": "d"}),
]


@pytest.mark.parametrize("name", ["f.jsonl", "g.json", "h.json"])
def test_lists_of_texts_are_pairs_and_triplets(tmp_path, name):
    """As sentence-transformers publishes them: a line each, or one list of all, whatever the file is called."""
    lists = [row for row, _ in LISTS]
    text = json.dumps(lists) if name == "h.json" else "".join(json.dumps(row) + "\n" for row in lists)
    (tmp_path / name).write_text(text)
    assert values_in(tmp_path / name) == [expected for _, expected in LISTS]


@pytest.mark.parametrize("name", ["f.jsonl", "h.json"])
def test_a_first_list_may_name_the_columns(tmp_path, name):
    lists = [["id", "question", "answer"], ["1", "q", "d"], ["2", "r"], ["3", "s", "e"]]
    (tmp_path / name).write_text(json.dumps(lists) if name == "h.json" else "\n".join(map(json.dumps, lists)))
    errors = []
    assert values_in(tmp_path / name, wrong=errors.append) == [
        {"id": "1", "question": "q", "answer": "d"}, {"id": "3", "question": "s", "answer": "e"},
    ]  # fmt: skip
    assert [error.reason for error in errors] == ["no object"]


@pytest.mark.parametrize(
    ("content", "hint"),
    [
        ('{\n  "question": "q",\n  "answer": "a"\n}\n', "; an object is to be on one line: jq -c . FILE writes it so"),
        ('{"question": "q",\n "answer": "a"}\n', "; an object is to be on one line: jq -c . FILE writes it so"),
        ('[\n{"question": "q", "answer": "a"}\n]\n', "; a file that is one JSON list is named .json"),
        ('{"question": "q" "answer": "a"}\n', "'"),
    ],
)
def test_objects_over_several_lines(tmp_path, content, hint):
    (tmp_path / "f.jsonl").write_text(content)
    with pytest.raises(InputError, match="line 1, column .*: not JSON") as error:
        list(read_rows(tmp_path / "f.jsonl"))
    assert str(error.value).endswith(hint)


TWICE = [
    '{"query": "q", "positive": "d", "positive": "e"}',
    '{"query": "q", "positive": "d", "query": "r"}',
    '{"query": "q", "positive": {"text": "d", "text": "e"}}',
    '{"query": "q", "pos": ["d"], "neg": [{"text": "m"}, {"text": "n", "text": "o"}]}',
    '{"query": "q", "positive": "d", "label": 1, "label": 0}',
]


@pytest.mark.parametrize("line", TWICE)
@pytest.mark.parametrize("name", ["f.jsonl", "f.json"])
def test_a_key_that_is_twice_in_an_object_is_refused(tmp_path, line, name):
    (tmp_path / name).write_text(line if name == "f.jsonl" else f"[{line}]")
    with pytest.raises(InputError, match=f"{name}.*: the key '(query|positive|text|label)' is there twice"):
        list(read_rows(tmp_path / name))


def test_a_key_that_is_twice_with_the_same_value_loses_nothing(tmp_path):
    (tmp_path / "f.jsonl").write_text('{"query": "q", "positive": "d", "positive": "d"}')
    assert [row.values for row in read_rows(tmp_path / "f.jsonl")] == [{"query": "q", "positive": "d"}]


def test_commas_after_lines_of_json(tmp_path):
    (tmp_path / "f.jsonl").write_text('{"text": "a"},\n{"text": "b"},\n')
    with pytest.raises(InputError, match="in '.*'; a line of JSON Lines ends without a comma"):
        values_in(tmp_path / "f.jsonl")


@pytest.mark.parametrize(
    ("name", "text", "is_python"),
    [
        ("f.jsonl", "{'question': 'q', 'answer': None}\n", True),
        ("f.jsonl", """{"question": "it's", 'answer': 'd'}\n""", True),
        ("f.json", "{'question': 'q', 'answer': 'd'}\n{'question': 'r', 'answer': 'e'}\n", True),
        ("f.json", "[{'question': 'q',\n  'answer': 'd'}]\n", True),
        ("f.json", "[\n  {'question': 'q', 'answer': 'd'}\n]\n", True),
        ("f.jsonl", "{'question': 'q', 'answer': null}\n", False),
        ("f.jsonl", '{"question": "q", "answer": "d"} {"question": "r"}\n', False),
        ("f.jsonl", '{"question": "q"; "answer": "d"}\n', False),
    ],
)
def test_what_python_wrote_is_named(tmp_path, name, text, is_python):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match="not JSON") as error:
        values_in(tmp_path / name)
    assert ("it is in Python's notation: json.dumps(ast.literal_eval(" in str(error.value)) is is_python


def test_a_file_whose_name_says_nothing_is_told_how_to_be_named(tmp_path):
    (tmp_path / "wiki_00").write_text('<doc id="1">\n')
    with pytest.raises(
        InputError, match=r"in '<doc id=\"1\">'; a file is read by what its name says, .* name text .txt"
    ):
        values_in(tmp_path / "wiki_00")
    (tmp_path / "f.jsonl").write_text("<doc>\n")
    with pytest.raises(InputError, match="in '<doc>'$"):
        values_in(tmp_path / "f.jsonl")


def test_a_list_of_texts(tmp_path):
    (tmp_path / "f.json").write_text('["one text", "another"]')
    assert values_in(tmp_path / "f.json") == [{"text": "one text"}, {"text": "another"}]


def test_a_suffix_that_is_not_read_is_named(tmp_path):
    (tmp_path / "f.srt").write_text("1\n00:00:00,000 --> 00:00:02,000\nA parasite.\n")
    with pytest.raises(InputError, match="f.srt, line 1: .*; files that end in .srt are not read: name text .txt"):
        list(read_rows(tmp_path / "f.srt"))


@pytest.mark.parametrize("name", ["f.json", "f.jsonl", "f.ndjson"])
def test_a_table_by_its_columns_on_one_line(name, tmp_path):
    table = {"question": ["what is a", "what is b"], "answer": ["a is one", "b is two"]}
    (tmp_path / name).write_text(json.dumps(table) + "\n")
    assert [row.values for row in read_rows(tmp_path / name)] == [
        {"question": "what is a", "answer": "a is one"},
        {"question": "what is b", "answer": "b is two"},
    ]
