"""Stage 2's rows and batches: what may be a negative of what."""

import logging
import time
from collections import Counter

import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from lbr_st.alignment.batches import DistinctBatchSampler, documents_by_query, training_rows
from lbr_st.errors import InputError


def record(query, document, *negatives):
    return {"id": f"{query}-{document}", "query": query, "document": document, "negatives": list(negatives)}


def rows_of(pairs):
    return training_rows([record(*pair) for pair in pairs])


def batches(dataset, size, epoch=0, **kwargs):
    sampler = DistinctBatchSampler(dataset, size, kwargs.pop("drop_last", False), **kwargs)
    sampler.set_epoch(epoch)
    found = list(sampler)
    assert len(found) == len(sampler)
    return found


def check(batch, dataset):
    """Nothing is there twice but a hard negative, and nothing that answers a query is another row's, either way."""
    rows = [dataset[index] for index in batch]
    pairs = [{row["anchor"], row["positive"]} for row in rows]
    assert max(Counter(text for pair in pairs for text in pair).values()) == 1
    for number, row in enumerate(rows):
        assert not {*row.values()} & {text for other in pairs[:number] + pairs[number + 1 :] for text in other}
    for row in rows:
        answers = {other["positive"] for other in dataset if other["anchor"] == row["anchor"]}
        for other in rows:
            if other is not row:
                assert not answers.intersection(other.values())


def test_rows_of_pairs_and_tuples(caplog):
    assert rows_of([("q", "d"), ("r", "e")]).column_names == ["anchor", "positive"]
    with caplog.at_level(logging.WARNING):
        rows = rows_of([("q", "d", "n", "m"), ("r", "e", "o")])
    assert rows.to_list()[0] == {"anchor": "q", "positive": "d", "negative_1": "n"}
    assert "records have 1 to 2 hard negatives; the first 1 of each are used (record r-e has no more)" in caplog.text
    with pytest.raises(InputError, match="at least 2 pairs, found 1"):
        rows_of([("q", "d")])


def test_where_some_records_have_no_hard_negative_another_document_stands_in(caplog):
    """One that does not answer the query: judged data have queries without a wrong document."""
    with caplog.at_level(logging.WARNING):
        rows = rows_of([("q", "d", "n", "m"), ("r", "e"), ("r", "f"), ("s", "g", "o", "p")])
    assert [(row["negative_1"], row["negative_2"]) for row in rows] == [("n", "m"), ("g", "d"), ("g", "d"), ("o", "p")]
    assert rows.column_names == ["anchor", "positive", "negative_1", "negative_2"]
    assert "2 of 4 records have no hard negative, or too few; the document of another record stands in" in caplog.text
    with pytest.raises(InputError, match="record q-e has no hard negative, and 0 documents of others do not"):
        rows_of([("q", "d", "n"), ("q", "e")])


def test_a_negative_that_answers_the_query_is_left_out_and_its_record_stays(caplog):
    with caplog.at_level(logging.WARNING):
        rows = rows_of([("q", "d", "e"), ("q", "e", "n"), ("r", "f", "d"), ("s", "good", "Good ")])
    assert [tuple(row.values()) for row in rows] == [
        ("q", "d", "f"), ("q", "e", "n"), ("r", "f", "d"), ("s", "good", "d"),
    ]  # fmt: skip
    assert "known to answer their query, left out: 2, such as 'e' (q-d); 'Good' (s-good)" in caplog.text


def test_a_negative_that_is_left_out_takes_none_from_the_others():
    rows = rows_of([("q", "d", "n", "d", "o"), ("r", "e", "p", "s", "t"), ("s", "f", "u", "v", "f")])
    negatives = [[row[f"negative_{n}"] for n in (1, 2, 3)] for row in rows]
    assert negatives == [["n", "o", "e"], ["p", "s", "t"], ["u", "v", "d"]]


def test_two_passages_of_one_query_are_never_negatives_of_each_other():
    """As rows of the same query, with another query, and as another row's hard negative."""
    pairs = [("q", "d1"), ("q", "d2"), ("r", "d2"), *((f"x{n}", f"y{n}") for n in range(5))]
    dataset = rows_of(pairs)
    for epoch in range(20):
        for batch in batches(dataset, 8, epoch):
            assert len({0, 1, 2}.intersection(batch)) <= 1
    dataset = rows_of([("q", "d1", "n1"), ("q", "d2", "n2"), ("r", "e", "d2"), ("s", "f", "n3")])
    for epoch in range(20):
        for batch in batches(dataset, 8, epoch):
            assert len({0, 1, 2}.intersection(batch)) <= 1


def test_what_is_known_to_answer_a_query_of_other_rows():
    """q is answered by d1, as another of its rows says: d1 is no negative of q."""
    records = [record(*each) for each in [("q", "d1", "d2"), ("q", "d2", "n1"), ("r", "d1", "n2"), ("s", "e", "n3")]]
    dataset = training_rows(records)
    known = documents_by_query(records)
    dataset = dataset.select([1, 2, 3])
    assert dataset["anchor"][:] == ["q", "r", "s"]
    for epoch in range(20):
        for batch in batches(dataset, 4, epoch, known=known):
            assert not {0, 1} <= set(batch)
    assert any({0, 1} <= set(batch) for epoch in range(20) for batch in batches(dataset, 4, epoch))


def test_capitals_and_white_space_make_no_other_text():
    dataset = rows_of([("What is  Anaemia?", "d1"), ("what is anaemia? ", "a lack"), ("r", "A Lack "), ("s", "e")])
    for epoch in range(20):
        for batch in batches(dataset, 4, epoch):
            assert len({0, 1, 2}.intersection(batch)) <= 1


def test_formulas_that_differ_in_case_are_several_texts():
    """Carbon monoxide may be a negative of cobalt, unless the set that they are of says otherwise."""
    records = [record("CO", "C", "O"), record("CO", "N", "O"), record("Co", "S", "C")]
    assert documents_by_query(records) == {"CO": {"C", "N"}, "Co": {"S"}}
    records.append(record("r", "P", "O"))
    assert [training_rows(records, same)["negative_1"][2] for same in ("auto", "loose")] == ["C", "P"]
    dataset = rows_of([("CO", "C"), ("Co", "c")])
    assert sorted(batches(dataset, 2)[0]) == [0, 1]
    with pytest.raises(InputError, match="not one batch"):
        batches(dataset, 2, same="loose")


def test_what_is_known_is_compared_as_it_is_returned():
    """Of which not every word would be taken for the same once more: white space is gone from it."""
    known = documents_by_query([record("q", "N methyl oxide")])
    assert known == {"q": {"Nmethyloxide"}}
    with pytest.raises(InputError, match="not one batch"):
        batches(rows_of([("q", "d"), ("r", "N methyl oxide")]), 2, known=known)


def test_few_documents_make_small_batches_in_little_time(caplog):
    """Every batch has each of the documents once at the most; that they are small is said."""
    dataset = Dataset.from_list([{"anchor": f"q{n}", "positive": f"d{n % 10}"} for n in range(20_000)])
    start = time.perf_counter()
    with caplog.at_level(logging.WARNING):
        found = batches(dataset, 64)
    assert time.perf_counter() - start < 20  # half a second; a quarter of an hour if all rows that wait were tried
    assert "batches have 10.0 rows on average, where 64 were asked for" in caplog.text
    assert [len(batch) for batch in found] == [10] * 2000


@settings(max_examples=60, deadline=None)
@given(
    pairs=st.lists(st.tuples(*[st.integers(0, 12).map(str)] * 3), min_size=4, max_size=40),
    size=st.integers(2, 6),
    processes=st.integers(1, 3),
    epoch=st.integers(0, 2),
)
def test_batches_of_any_rows(pairs, size, processes, epoch):
    dataset = Dataset.from_list([{"anchor": f"q{q}", "positive": d, "negative_1": n} for q, d, n in pairs])
    try:
        parts = [
            batches(dataset, size, epoch, seed=7, num_processes=processes, process_index=index)
            for index in range(processes)
        ]
    except InputError:
        return
    for step in zip(*parts, strict=True):
        assert len({len(part) for part in step}) == 1
        batch = [row for part in step for row in part]
        assert 2 <= len(batch) <= size * processes
        check(batch, dataset)


def test_distinct_rows_are_all_there_once_an_epoch():
    dataset = rows_of([(f"q{n}", f"d{n}") for n in range(23)])
    first, second = batches(dataset, 5), batches(dataset, 5, epoch=1)
    assert [len(batch) for batch in first] == [5, 5, 5, 5, 3]
    assert sorted(sum(first, [])) == sorted(sum(second, [])) == list(range(23))
    assert first != second and first == batches(dataset, 5)
    assert batches(dataset, 5, seed=1) != first
    assert [len(batch) for batch in batches(dataset, 5, drop_last=True)] == [5, 5, 5, 5]
    # A last batch of one row has no negatives.
    assert [len(batch) for batch in batches(dataset, 11)] == [11, 11]


def test_parts_of_two_processes_are_the_batch_of_one():
    dataset = rows_of([(f"q{n // 2}", f"d{n}") for n in range(46)])
    whole = batches(dataset, 8, epoch=2)
    parts = [batches(dataset, 4, epoch=2, num_processes=2, process_index=index) for index in (0, 1)]
    joined = [sorted(a + b) for a, b in zip(*parts, strict=True)]
    assert joined == [sorted(batch[: len(batch) // 2 * 2]) for batch in whole]


def test_an_epoch_is_as_long_as_the_first():
    """Rows of few queries make more or fewer batches, as the order happens to be."""
    dataset = rows_of([(f"q{n % 5}", f"d{n}") for n in range(31)])
    lengths = {len(batches(dataset, 4, epoch)) for epoch in range(30)}
    assert len(lengths) == 1


def test_a_hard_negative_of_many_rows_keeps_none_out(caplog):
    """It answers none of their queries, and is named where it is that of most."""
    rows = [(f"q{n}", f"d{n}", "I do not know." if n % 5 else f"n{n}") for n in range(100)]
    with caplog.at_level(logging.WARNING):
        found = batches(rows_of(rows), 8)
    assert sorted(sum(found, [])) == list(range(100))
    [said] = caplog.messages
    assert said.startswith(
        "80 of 100 rows have the hard negative 'I do not know.': it counts as often as it is in a batch"
    )
    # What is a document of one row and a hard negative of another stays apart.
    apart = batches(rows_of([("q0", "d0", "n"), ("q1", "n", "d2"), ("q2", "d2", "n")]), 3)
    assert sorted(map(sorted, apart)) == [[0, 2]]


def test_rows_that_are_in_no_batch_are_counted(caplog):
    """Nine tenths of the queries have one answer: its rows find too few of others."""
    with caplog.at_level(logging.WARNING):
        found = batches(rows_of([(f"q{n}", f"d{n % 3 if n % 10 == 0 else 9}") for n in range(100)]), 8)
    used = sum(map(len, found))
    assert used < 40
    assert f"{100 - used} of 100 rows are in no batch of an epoch" in caplog.text


def test_no_batch_can_be_made():
    with pytest.raises(InputError, match="not one batch of up to 4 rows can be made.* in one batch$"):
        batches(rows_of([("q", f"d{n}") for n in range(9)]), 4)
    with pytest.raises(InputError, match="not one batch of 16 rows can be made"):
        batches(rows_of([(f"q{n}", f"d{n}") for n in range(9)]), 16, drop_last=True)
