"""Terms are found by counts and pieces in what is trained on, never in what is held out, and read again from a file."""

import json

import pytest
from helpers import make_tokenizer
from shapes import qa, write_jsonl

from lbr_st.data.terms import Term, find_terms, read_terms, terms_in, training_texts, write_terms
from lbr_st.errors import InputError

LONG, LONGER = "zzyzx", "acetylsalicylic"


@pytest.fixture(scope="module")
def tokenizer():
    return make_tokenizer("qwen2")


def pieces(tokenizer, word):
    return len(tokenizer(f" {word}", add_special_tokens=False)["input_ids"])


def test_found_by_count_and_pieces(tokenizer):
    texts = [
        f"pressure {LONG}, {LONG} {LONGER}_x.",
        f"({LONGER}) pressure {LONGER} 12345 2zzyzx 2zzyzx 2zzyzx",
        LONG,
        "漢字漢字 " * 9,
    ]
    assert pieces(tokenizer, "pressure") == 1
    long, longer = (Term(LONG, 3, pieces(tokenizer, LONG)), Term(LONGER, 2, pieces(tokenizer, LONGER)))
    assert longer.saved == 2 * (longer.pieces - 1) > long.saved == 3 * (long.pieces - 1) > 0
    assert find_terms(texts, tokenizer, least_count=2) == [longer, long]
    assert find_terms(texts, tokenizer, least_count=3) == [long]
    assert find_terms(texts, tokenizer, least_count=2, most=1) == [longer]
    assert find_terms(texts, tokenizer, least_count=2, least_pieces=long.pieces + 1) == [longer]
    assert find_terms(texts, tokenizer) == []


def test_what_is_held_out_is_not_read(prepare, tmp_path):
    folder = prepare(**qa(tmp_path))
    texts = set(training_texts(str(folder)))
    learn, test = (set(training_of(folder, name)) for name in ("learn", "test"))
    assert texts == learn and test and not texts & test
    assert set(training_texts(str(folder / "learn.jsonl"))) == learn
    for name in ("test", "dev", "corpus"):
        with pytest.raises(InputError, match=f"{name}.jsonl: terms are found in what is trained on; name {folder}, or"):
            training_texts(str(folder / f"{name}.jsonl"))


def test_all_that_the_objective_reads_is_read(prepare, tmp_path):
    """Of a corpus-taught set its passages too, of which most have no query."""
    folder = prepare(**qa(tmp_path), regime="corpus-taught")
    (folder / "passages.jsonl").open("a").write(json.dumps({"id": "x", "document": "a passage alone"}) + "\n")
    texts = set(training_texts(str(folder)))
    assert texts >= set(training_of(folder, "learn")) and "a passage alone" in texts


def training_of(folder, name):
    from shapes import read

    return [text for record in read(folder, name) for text in (record["query"], record["document"])]


def test_documents_alone(tmp_path):
    file = write_jsonl(tmp_path / "a.jsonl", [{"text": "one"}, {"text": "two"}, {"text": "one"}])
    assert training_texts(file) == ["one", "two"]
    with pytest.raises(InputError, match="no such file"):
        training_texts(str(tmp_path / "none.jsonl"))


def test_a_row_without_a_query_takes_none_from_the_others(tmp_path):
    rows = [{"query": "one?", "document": "one"}, {"query": "", "document": "two"}]
    with pytest.raises(InputError, match="line 2, column 'query'"):
        training_texts(write_jsonl(tmp_path / "a.jsonl", rows))
    assert training_texts(write_jsonl(tmp_path / "b.jsonl", rows[:1])) == ["one?", "one"]


def test_written_edited_and_read(tmp_path):
    write_terms(tmp_path / "terms.jsonl", [Term(LONG, 3, 5), Term("vitamin B12", 2, 4)])
    assert read_terms(tmp_path / "terms.jsonl") == [LONG, "vitamin B12"]
    (tmp_path / "terms.txt").write_text(f"{LONG}\n\n  vitamin  B12 \n{LONG}\n")
    assert read_terms(tmp_path / "terms.txt") == [LONG, "vitamin B12"]
    (tmp_path / "terms.csv").write_text("term,count\nvitamin B12,9\n")
    assert read_terms(tmp_path / "terms.csv") == ["vitamin B12"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("terms.jsonl", '{"word": "interleukin 6", "count": 3}\n{"word": "iron"}\n'),
        ("terms.csv", "N,TERM,Definition\n1,interleukin 6,a cytokine\n2,iron,a metal\n"),
        ("terms.tsv", "Fachwort\tAnzahl\ninterleukin 6\t10\niron\t9\n"),
        ("terms.json", '["interleukin 6", "iron"]'),
        ("terms.txt", "interleukin 6\niron\n"),
    ],
)
def test_forms_of_lists(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    assert read_terms(tmp_path / name) == ["interleukin 6", "iron"]


def test_a_folder_holds_no_terms(tmp_path):
    with pytest.raises(InputError, match="is a folder, a file of terms is needed; lbr data terms writes one"):
        read_terms(tmp_path)


def test_terms_that_come_as_whole_words():
    terms = ["iron", "folic acid", "B12", "Iron", "acid rain", "mg", "漢字", "cafe\u0301", "हिन्द"]
    texts = ["ironic environment, folic acid.", "vitamin-B12 is 5mg", "iron_ore 漢字", "café हिन्दी"]
    assert terms_in(terms, texts) == {"iron", "folic acid", "B12", "mg", "漢字", "cafe\u0301"}
    assert terms_in(terms, []) == set()


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("terms.txt", "good\n1127\n", "terms.txt, line 2: the term '1127' has no letter"),
        ("terms.txt", "\n", "terms.txt: no terms"),
        ("terms.jsonl", '{"term": "C++"}\n', "terms.jsonl, line 1: the term 'C.+' must begin and end with a letter"),
        ("terms.jsonl", '{"term": 5}\n', "terms.jsonl, line 1, column 'term': a term is needed, found 5"),
        (
            "terms.jsonl",
            '{"a": "x y", "b": "z"}\n',
            r"line 1: has no column 'term' \(found: a, b\); write a term a l",
        ),
        ("terms.csv", "arrhythmia,10\nwarfarin,9\n", r"line 2: has no column 'term' or has no header \(found: arrh"),
        ("terms.csv", "arrhythmia\nwarfarin\n", r"line 2: has no column 'term' or has no header \(found: arrhythmia\)"),
        ("terms.csv", "word,n\none; two,3\n", "line 2: 'one; two' is not one term; write a term a line"),
        ("terms.txt", "good\narrhythmia\t10\n", r"line 2: 'arrhythmia\\t10' is not one term; .* header that names a"),
        ("terms.txt", "one; two\n", "line 1: 'one; two' is not one term"),
        ("terms.txt", "arrhythmia 10\nwarfarin, 9\n" * 3, "line 1: 'arrhythmia 10' is a term and a number"),
        ("terms.txt", "   10 arrhythmia\n    9 warfarin\n" * 3, "line 1: '10 arrhythmia' is a term and a number"),
    ],
)
def test_refusals(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=message):
        read_terms(tmp_path / name)


def test_of_several_columns_of_texts_the_term_is_to_be_called_so(tmp_path):
    for row in ({"text": "asthma", "entity": "DISEASE"}, {"name": "Bob Smith", "keyword": "asthma"}):
        with pytest.raises(InputError, match="have texts: call the one of the terms 'term'"):
            read_terms(write_jsonl(tmp_path / "a.jsonl", [row]))
    assert read_terms(write_jsonl(tmp_path / "b.jsonl", [{"word": "asthma", "count": 3}])) == ["asthma"]
    assert read_terms(write_jsonl(tmp_path / "c.jsonl", [{"term": "PC(16:0|18:1)a", "kind": "lipid"}])) == [
        "PC(16:0|18:1)a"
    ]
    (tmp_path / "d.txt").write_text("interleukin 6\ninterleukin 10\n")
    assert read_terms(tmp_path / "d.txt") == ["interleukin 6", "interleukin 10"]
