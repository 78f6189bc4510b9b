"""Which queries stay: those that find their passage, that are no copies, and that nobody asked before."""

import json
import math

import pytest
import torch
from helpers import make_bert, make_reranker
from sentence_transformers import CrossEncoder, SentenceTransformer
from shapes import write_jsonl

from lbr_st.adaptation.filtering import FilterConfig, filter_file, filter_queries, is_copy
from lbr_st.data.records import read_records
from lbr_st.errors import InputError, UnfinishedError

# Ten subjects; of each, three passages that have words of their own.
SUBJECTS = ["anaemia", "asthma", "gout", "malaria", "measles", "mumps", "rabies", "scurvy", "tetanus", "typhus"]
ASPECTS = {"treated": "iron and rest", "caused": "germs or dust", "found": "blood and scans"}
PASSAGES = [
    {"id": f"{subject}-{aspect}", "document": f"{subject.capitalize()} is mostly {aspect} by {means}, they say."}
    for subject in SUBJECTS
    for aspect, means in ASPECTS.items()
]
TEXTS = {passage["id"]: passage["document"] for passage in PASSAGES}
LONG = "Gout comes when too much uric acid is in the blood and settles as crystals in the joints, often at night."


def row(id_, query, passage, kind="question"):
    return {"id": id_, "query": query, "document": TEXTS.get(passage, passage), "kind": kind}


def ids(rows):
    return [each["id"] for each in rows]


def test_a_query_stays_if_its_passage_comes_back():
    """By BM25 among the first three of thirty, a tenth."""
    rows = [
        row("finds", "How is gout treated?", "gout-treated"),
        row("of another", "How is gout treated then?", "measles-caused"),
        row("says nothing", "What do they say of this text?", "mumps-found"),
        row("no word", "zebra", "rabies-found"),
    ]
    kept, drops = filter_queries(rows, PASSAGES, FilterConfig())
    assert ids(kept) == ["finds"] and kept[0] is rows[0]
    assert drops.counts == {"passage not among the first 3 of bm25": 3}
    assert [sample["text"] for sample in drops.samples] == [each["query"] for each in rows[1:]]
    assert ids(filter_queries(rows, PASSAGES, FilterConfig(keep_first=30))[0]) == ids(rows)


def test_how_many_are_the_first():
    """Twenty, or a tenth of fewer than 200 passages; what is said is meant."""
    config = FilterConfig()
    assert [config.first_of(number) for number in (1, 19, 20, 150, 200, 10**6)] == [1, 1, 2, 15, 20, 20]
    assert FilterConfig(keep_first=20).first_of(30) == 20


@pytest.fixture
def embedder(tmp_path):
    """A model that gives a text the vector of the characters in it."""
    return make_bert(tmp_path / "bert", dropout=0.0)


def test_one_that_finds_it_is_enough(embedder, caplog):
    """The model is asked for what BM25 misses alone; each says how many it found."""
    caplog.set_level("INFO", "lbr_st")
    model = SentenceTransformer(embedder)
    texts = [passage["document"] for passage in PASSAGES]
    # Not one word in common, but the characters.
    query = texts[4].replace(" ", "x").replace(",", "x").replace(".", "x")
    similarities = (model.encode_query([query]) @ model.encode_document(texts).T)[0]
    target = int(similarities.argmax())
    last = int(similarities.argmin())
    rows = [
        row("words", "asthma treated", "asthma-treated"),
        row("characters", query, PASSAGES[target]["id"]),
        row("neither", f"{query}y", PASSAGES[last]["id"]),
    ]
    kept, drops = filter_queries(rows, PASSAGES, FilterConfig(models=[embedder, "bm25"], keep_first=1))
    assert ids(kept) == ["words", "characters"]
    assert drops.counts == {"passage not among the first 1 of bm25 or bert/st": 1}  # of a folder its name
    said = [record.getMessage() for record in caplog.records if " finds " in record.getMessage()]
    assert said == [
        "bm25 finds the passages of 1 of 3 queries among its first 1 of 30",
        f"{embedder} finds the passages of 1 of 2 queries among its first 1 of 30",
    ]
    assert ids(filter_queries(rows, PASSAGES, FilterConfig(keep_first=1))[0]) == ["words"]


def test_every_model_is_opened_that_is_named(embedder, tmp_path):
    """Also one that could find nothing more: a mistyped name is never accepted in silence, and no data are read."""
    rows = [row("words", "asthma treated", "asthma-treated")]
    for config, message in (
        (FilterConfig(models=["bm25", "never-saved/one"]), "--model never-saved/one is not a model: there is no such"),
        (FilterConfig(models=["bm25", embedder, "./absent"]), "--model ./absent is not a model: no such directory"),
        (FilterConfig(models=["bm26"]), "--model bm26: no such directory; is bm25 meant"),
        (FilterConfig(reranker="never-saved/one"), "--reranker never-saved/one is not a model: there is no such"),
    ):
        with pytest.raises(InputError, match=message):
            filter_queries(rows, PASSAGES, config)
        with pytest.raises(InputError, match=message):
            filter_file(tmp_path / "absent", tmp_path / "absent", tmp_path / "out", config)
    assert filter_queries(rows, PASSAGES, FilterConfig(models=[embedder, "bm25"]))[0] == rows


def test_rows_that_cannot_be_used_are_skipped_where_that_is_said(tmp_path, caplog):
    queries, corpus = tmp_path / "queries.jsonl", tmp_path / "corpus.jsonl"
    write_jsonl(queries, [row("a", "How is gout treated?", "gout-treated"), row("b", "", "gout-treated")])
    write_jsonl(corpus, [*PASSAGES, {"id": "blank", "document": " "}])
    with pytest.raises(InputError, match="queries.jsonl, line 2, .*; --on-error skip leaves such rows out"):
        filter_file(queries, corpus, tmp_path / "out", FilterConfig())
    about = filter_file(queries, corpus, tmp_path / "out", FilterConfig(on_error="skip"))
    assert (about["filter"]["read"], about["filter"]["kept"], about["filter"]["passages"]) == (1, 1, len(PASSAGES))
    assert "queries.jsonl: rows left out: 1" in caplog.text and "corpus.jsonl: rows left out: 1" in caplog.text
    caplog.clear()
    write_jsonl(
        queries,
        [
            row("a", "How is gout treated?", "gout-treated") | {"score": 0.5},
            row("b", "What is mumps?", "mumps-found") | {"score": 0.1},
        ],
    )
    with pytest.raises(InputError, match="say --min-score S"):
        filter_file(queries, corpus, tmp_path / "graded", FilterConfig(on_error="skip"))
    config = FilterConfig(on_error="skip", min_score=0.3, keep_first=99)
    assert filter_file(queries, corpus, tmp_path / "graded", config)["filter"]["read"] == 1
    assert "--keep-first 99: there are 30 passages, so that all queries stay" in caplog.text
    with pytest.raises(InputError, match="--on-error must be stop or skip, got never"):
        FilterConfig(on_error="never")


def test_what_people_asked_stays():
    """Also what no search finds; and a written query that asks the same goes."""
    rows = [
        row("written", "How is mumps treated", "mumps-treated"),
        row("given", "how is mumps treated?", "rabies-found", "given"),
        row("copy", TEXTS["gout-found"], "gout-found", "given"),
    ]
    kept, drops = filter_queries(rows, PASSAGES, FilterConfig())
    assert ids(kept) == ["given", "copy"] and drops.counts == {"asked already": 1}
    assert drops.samples[0]["like_id"] == "given"


def test_a_heading_over_several_passages_asks_for_each_of_them():
    """But for one passage once, and not where a question says the same."""
    rows = [
        row("one", "gout", "gout-found", "title"),
        row("two", "gout", "gout-treated", "title"),
        row("again", "Gout", "gout-treated", "title"),
        row("written", "gout", "gout-treated"),
    ]
    rows[2]["document"] = rows[0]["document"]
    kept, drops = filter_queries(rows, PASSAGES, FilterConfig(keep_first=40))
    assert ids(kept) == ["one", "two"] and drops.counts == {"asked already": 2}


def test_given_ones_are_left_where_no_other_is(caplog):
    rows = [row("given", "zebra", "rabies-found", "given"), row("lost", "zebra", "rabies-found")]
    assert ids(filter_queries(rows, PASSAGES, FilterConfig())[0]) == ["given"]
    assert "not one of 1 queries is left (1 passage not among the first 3 of bm25): " in caplog.text
    assert "; the 1 that were given stay" in caplog.text


@pytest.mark.parametrize(
    ("query", "passage", "copied"),
    [
        ("gout is mostly found by blood and scans, they say", TEXTS["gout-found"], True),
        ("Gout comes when too much uric acid is in the blood and settles", LONG, True),
        ("when too much uric acid is in the blood and settles as", LONG, True),  # twelve words
        ("too much uric acid is in the blood and settles as", LONG, False),  # eleven: a term may be long
        ("uric acid", LONG, False),
        ("Why does uric acid in the blood settle as crystals in joints, and when does it come?", LONG, False),
        (f"Question about the text: {LONG} What is it?", LONG, True),
        ("水在一百度沸腾但是在高山上更低因为", "水在一百度沸腾但是在高山上更低因为气压低。铁。", True),
        ("急性淋巴细胞白血病", "急性淋巴细胞白血病是血癌。", False),
    ],
)
def test_copies(query, passage, copied):
    assert is_copy(query, passage) is copied
    rows = [row("first", "How is gout treated?", "gout-treated"), row("this", query, passage)]
    kept, drops = filter_queries(rows, PASSAGES, FilterConfig(keep_first=40))
    assert ids(kept) == (["first"] if copied else ["first", "this"])
    assert drops.counts == ({"copied from the passage": 1} if copied else {})


def test_duplicates_go_after_those_that_find_nothing():
    """The first of them would stay in the place of one that finds its passage."""
    words = "how is gout treated by iron and rest when it comes at night and stays for many a long day or more"
    rows = [
        row("elsewhere", words, "measles-caused"),
        row("finds", words, "gout-treated"),
        row("again", f"{words}?", "gout-treated"),
        row("nearly", f"{words} now", "gout-treated"),
        row("other", "gout found", "gout-found"),
    ]
    kept, drops = filter_queries(rows, PASSAGES, FilterConfig(keep_first=1))
    assert ids(kept) == ["finds", "other"]
    assert drops.counts == {
        "passage not among the first 1 of bm25": 1,
        "asked already": 1,
        "near-duplicate of another query": 1,
    }
    assert {sample.get("like_id") for sample in drops.samples} == {None, "finds"}
    exact = filter_queries(rows, PASSAGES, FilterConfig(keep_first=1, near_duplicates=0))
    assert ids(exact[0]) == ["finds", "nearly", "other"]


def test_near_duplicates_of_every_given_query_go():
    """Also of one that is nearly another given one, which stays."""
    words = "how is gout treated by iron and rest when it comes at night and stays for many a long day or more"
    rows = [
        row("first", f"tell me {words}", "gout-treated", "given"),
        row("second", words, "gout-treated", "given"),
        row("nearly the second", f"{words} now", "gout-treated"),
    ]
    kept, drops = filter_queries(rows, PASSAGES, FilterConfig(keep_first=1))
    assert ids(kept) == ["first", "second"]
    assert [sample["like_id"] for sample in drops.samples] == ["second"]


def test_documents_that_are_no_passages_join_them(caplog):
    """They are searched, once each."""
    rows = [row("old", "How is gout treated?", "gout-treated"), row("new", "uric acid crystals", LONG)]
    assert ids(filter_queries(rows, PASSAGES * 2, FilterConfig(keep_first=1))[0]) == ["old", "new"]
    assert "1 documents of queries are not among the 30 passages, and join them" in caplog.text


def test_a_reranker_scores_instead(tmp_path):
    """Query and passage together; half a probability is enough, or what is said."""
    reranker = make_reranker(tmp_path / "reranker")
    rows = [row(f"{a}{b}", f"{a} {b}", f"{a}-{b}") for a in SUBJECTS for b in ("treated", "found")]
    scores = CrossEncoder(reranker).predict([(each["query"], each["document"]) for each in rows])
    assert 0 < sum(scores >= 0.5) < len(rows)
    kept, drops = filter_queries(rows, PASSAGES, FilterConfig(reranker=reranker))
    assert ids(kept) == [each["id"] for each, score in zip(rows, scores, strict=True) if score >= 0.5]
    assert drops.counts == {f"score below 0.5 by {reranker}": sum(scores < 0.5)}
    least = float(sorted(scores)[-3])
    assert len(filter_queries(rows, PASSAGES, FilterConfig(reranker=reranker, least_score=least))[0]) == 3
    with pytest.raises(InputError, match=r"not one of 20 .* with --least-score, as the best score is 0\.\d+, or write"):
        filter_queries(rows, PASSAGES, FilterConfig(reranker=reranker, least_score=1.5))


def test_the_score_that_is_enough_is_that_of_the_model(tmp_path):
    """Of logits 0, which is the probability of a half; of others it has to be said."""
    rows = [row(f"{a}{b}", f"{a} {b}", f"{a}-{b}") for a in SUBJECTS for b in ("treated", "found")]
    names = [make_reranker(tmp_path / name) for name in ("sigmoid",)]
    names.append(make_reranker(tmp_path / "logits", torch.nn.Identity()))
    first, second = (ids(filter_queries(rows, PASSAGES, FilterConfig(reranker=name))[0]) for name in names)
    assert first == second
    other = make_reranker(tmp_path / "other", torch.nn.Tanh())
    with pytest.raises(InputError, match="neither probabilities nor logits; say with --least-score which are enough"):
        filter_queries(rows, PASSAGES, FilterConfig(reranker=other))
    assert filter_queries(rows, PASSAGES, FilterConfig(reranker=other, least_score=-1.0))[0] == rows


def test_all_filtered_out_says_how_to_go_on():
    rows = [row(str(n), f"zebra{n}", "rabies-found") for n in range(4)] + [row("c", TEXTS["gout-found"], "gout-found")]
    with pytest.raises(InputError) as error:
        filter_queries(rows, PASSAGES, FilterConfig())
    assert str(error.value) == (
        "not one of 5 queries is left (4 passage not among the first 3 of bm25, 1 copied from the passage): ask for "
        "less with --keep-first above 3, name a --model that finds more, or write other queries"
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"keep_first": 0}, "--keep-first must be at least 1, got 0"),
        ({"batch_size": 0}, "--batch-size must be at least 1, got 0"),
        ({"near_duplicates": 0.5}, "--near-duplicates must be from 0.8 to 1, or 0 for none, got 0.5"),
        ({"least_score": 0.5}, "--least-score is of --reranker; give one, or --keep-first"),
        ({"reranker": "r", "keep_first": 3}, "--reranker scores in the place of --model and --keep-first; give one"),
        ({"reranker": "r", "models": ["bm25"]}, "--reranker scores in the place of --model and --keep-first; give one"),
        ({"models": []}, "--model: name bm25, or a model"),
    ],
)
def test_settings_that_cannot_be_meant(settings, message):
    with pytest.raises(InputError) as error:
        FilterConfig(**settings)
    assert str(error.value).startswith(message)


def test_from_a_folder_to_a_folder(tmp_path):
    """What is lost is counted together with what was lost before; the texts are those of the file."""
    source = tmp_path / "queries"
    rows = [
        {**row("a", "How is gout treated?", "gout-treated"), "document_id": "gout-treated"},
        row("b", "iron & <b>blood</b>", "A text about <b>blood</b> and iron.", "keywords"),
        row("c", "zebra", "rabies-found"),
    ]
    write_jsonl(source / "queries.jsonl", rows)
    (source / "lbr_queries.json").write_text(json.dumps({"kinds": {}, "lost": {"empty": 2}, "passages": {"read": 30}}))
    write_jsonl(tmp_path / "corpus.jsonl", PASSAGES)
    about = filter_file(source, tmp_path / "corpus.jsonl", tmp_path / "kept", FilterConfig())
    assert about == json.loads((tmp_path / "kept" / "lbr_queries.json").read_text())
    assert about["kinds"] == {"question": 1, "keywords": 1}
    assert about["lost"] == {"empty": 2, "passage not among the first 3 of bm25": 1}
    assert about["passages"] == {"read": 30, "with_queries": 2}
    assert {name: about["filter"][name] for name in ("read", "kept", "passages", "keep_first")} == {
        "read": 3, "kept": 2, "passages": 30, "keep_first": None,
    }  # fmt: skip
    written = [json.loads(line) for line in (tmp_path / "kept" / "queries.jsonl").read_text().splitlines()]
    assert written == rows[:2]
    assert [each["kind"] for each in read_records(tmp_path / "kept" / "queries.jsonl")] == ["question", "keywords"]
    assert len((tmp_path / "kept" / "dropped.jsonl").read_text().splitlines()) == 1
    again = filter_file(source / "queries.jsonl", tmp_path / "corpus.jsonl", tmp_path / "again", FilterConfig())
    assert again == about
    assert (tmp_path / "again" / "queries.jsonl").read_bytes() == (tmp_path / "kept" / "queries.jsonl").read_bytes()


def test_what_cannot_be_filtered(tmp_path, monkeypatch):
    """Nothing is written then."""
    queries, corpus = tmp_path / "queries.jsonl", tmp_path / "corpus.jsonl"
    write_jsonl(queries, [row("a", "How is gout treated?", "gout-treated")])
    write_jsonl(corpus, PASSAGES)
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a").write_text("")
    target = tmp_path / "out"
    write_jsonl(tmp_path / "cut" / "queries.jsonl", [row("a", "How is gout treated?", "gout-treated")])
    (tmp_path / "cut" / "lbr_queries.json").write_text('{"kinds": ')
    for source, data, folder, config, message in (
        (tmp_path / "cut", corpus, target, {}, "lbr_queries.json is not what lbr data queries wrote: Expecting value"),
        (tmp_path / "empty", corpus, target, {}, "is no folder that lbr data queries wrote: it has no queries.jsonl"),
        (tmp_path / "absent.jsonl", corpus, target, {}, "absent.jsonl: no such file"),
        (queries, tmp_path / "absent.jsonl", target, {}, "absent.jsonl: no such file"),
        (queries, corpus, tmp_path / "full", {}, "full is not empty; choose another folder"),
        (queries, corpus, target, {"models": ["./absent"]}, "--model ./absent is not a model: no such directory"),
        (queries, corpus, target, {"reranker": "./absent"}, "--reranker ./absent is not a model: no such directory"),
    ):
        with pytest.raises(InputError) as error:
            filter_file(source, data, folder, FilterConfig(**config))
        assert message in str(error.value) and not target.exists()
    with pytest.raises(UnfinishedError, match="out was not written: "):
        monkeypatch.setattr("lbr_st.adaptation.filtering.write_jsonl", full_disk)
        filter_file(queries, corpus, target, FilterConfig())
    assert not target.exists()
    monkeypatch.setattr("lbr_st.errors.find_spec", lambda name: None)
    with pytest.raises(InputError, match="--model bm25 needs bm25s, which is not installed"):
        filter_file(queries, corpus, target, FilterConfig())


def full_disk(*args):
    raise OSError(28, "No space left on device")


def test_a_model_that_fails_finds_nothing(embedder, monkeypatch):
    """Similarities that are no numbers leave no query in."""
    monkeypatch.setattr(SentenceTransformer, "similarity", lambda self, a, b: torch.full((len(a), len(b)), math.nan))
    with pytest.raises(InputError, match="not one of 1 queries is left"):
        filter_queries([row("a", "gout", "gout-found")], PASSAGES, FilterConfig(models=[embedder]))
