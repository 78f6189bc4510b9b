"""Who chose what, out of files; and what is held out of it."""

import json
import logging

import pytest
from toy_choices import write_choices

from lbr_st.errors import InputError
from lbr_st.recommending import interactions

INTER = """user_id:token\titem_id:token\trating:float\ttimestamp:float
9\t50\t3\t300
9\t7\t5\t100
2\t7\t1\t5
9\t8\t4\t100
9\t7\t2\t900
2\t8\t1\t5.5
2\t50\t1\t4
"""
ITEM = """item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq
7\tToy Story\t1995\tAnimation Comedy
8\tHeat &amp; Dust\t1983\t
50\tStar Wars\t1977\tAction
3\tNever chosen\t2000\tDrama
"""
USER = "user_id:token\tage:token\tgender:token\n9\t24\tM\n7\t30\tF\n"


def read_interactions(*files, **settings):
    """Read choices, of which every row is one."""
    return interactions.read_interactions(*files, **{"judged_by": "none", **settings})


@pytest.fixture
def folder(tmp_path):
    for suffix, text in (("inter", INTER), ("item", ITEM), ("user", USER)):
        (tmp_path / f"toy.{suffix}").write_text(text, encoding="utf-8")
    return tmp_path


def test_atomic_files(folder, caplog):
    """By time, of one time by row; a choice that comes again counts once; empty fields are left out."""
    caplog.set_level(logging.INFO, "lbr_st")
    found = read_interactions(folder)
    assert found.users == ["9", "2"] and found.about == ["", ""]
    assert found.items == ["7", "8", "50", "3"]
    assert found.names == ["Toy Story", "Heat & Dust", "Star Wars", "Never chosen"]
    assert found.texts[:2] == ["Toy Story, 1995, Animation Comedy", "Heat & Dust, 1983"]
    assert found.histories == [[0, 1, 2], [2, 0, 1]]
    assert "7 interactions; columns used: user_id, item_id, timestamp; not used: rating; 1 again" in caplog.text


def test_the_file_itself_and_templates(folder):
    """A user of whom nothing is told has no text."""
    found = read_interactions(
        folder / "toy.inter", item_text="{movie_title} ({release_year})", user_text="{age}, {gender}"
    )
    assert found.texts[0] == "Toy Story (1995)" and found.names[0] == "Toy Story"
    assert found.about == ["24, M", ""]


@pytest.mark.parametrize(
    ("columns", "template", "called"),
    [
        ("main_category,title,price", None, "b"),
        ("main_category,title,price", "{main_category}", "b"),
        ("product_code,prod_name", None, "b"),
        ("code,colour", "{colour}, {code}", "b"),
        ("code,colour", None, "a"),
    ],
)
def test_what_an_item_is_called(tmp_path, columns, template, called, caplog):
    """Where users are told of it: by its title, else by what the template begins with, else by the first column."""
    caplog.set_level(logging.INFO, "lbr_st")
    (tmp_path / "ratings.csv").write_text("userId,movieId\n1,10\n1,20\n1,30\n2,10\n2,30\n")
    cells = ",".join("abc"[: len(columns.split(","))])
    rows = "".join(f"{id_},{cells}\n" for id_ in (10, 20, 30))
    (tmp_path / "movies.csv").write_text(f"movieId,{columns}\n{rows}")
    found = read_interactions(tmp_path / "ratings.csv", tmp_path / "movies.csv", item_text=template)
    assert found.names == [called] * 3
    assert "called in" not in caplog.text and f"by {columns.split(',')['abc'.index(called)]}" in caplog.text


def test_tables_of_usual_names(tmp_path):
    """Those of MovieLens; without a time the order is that of the rows."""
    (tmp_path / "ratings.csv").write_text("userId,movieId,rating\n1,20,5\n1,10,3\n1,30,1\n2,30,4\n")
    (tmp_path / "movies.csv").write_text(
        'movieId,title,genres\n10,Heat (1995),Action\n20,"Ran, The",Drama\n30,Up,Kids\n'
    )
    found = read_interactions(tmp_path / "ratings.csv", tmp_path / "movies.csv")
    assert found.histories == [[1, 0, 2], [2]]
    assert found.texts[1] == "Ran, The, Drama"


def test_the_last_two_are_held_out(folder):
    """Of a user with three items or more; popularity is that of what is left."""
    split = read_interactions(folder).split
    assert (split.train, split.dev, split.test) == ([[0], [2]], {0: 1, 1: 0}, {0: 2, 1: 1})
    assert read_interactions(folder).counts.tolist() == [1, 0, 1, 0]
    with (folder / "toy.inter").open("a") as file:
        file.write("5\t7\t1\t1\n5\t8\t1\t2\n")
    split = read_interactions(folder).split
    assert split.train[2] == [0, 1] and 2 not in split.dev and 2 not in split.test


@pytest.mark.parametrize(
    ("suffix", "line", "said"),
    [
        ("inter", "9\t99\t1\t1", r"toy.inter, line 9: item '99' is not in .*toy.item"),
        (
            "inter",
            "9\t7\t1\tsoon",
            r"line 9: column timestamp: seconds, or a date as .* are needed, found \"soon\"; pandas",
        ),
        ("inter", "9\t7\t1\tinf", r"line 9: column timestamp: seconds"),
        ("inter", "\t7\t1\t1", r"line 9: column user_id: an id is needed"),
        ("item", "7\tAgain\t1\t", r"toy.item, line 6: item '7' is told of twice"),
        ("item", "4\t\t\t", r"line 6: no text"),
        ("item", "4\tLike [item_7]\t1\t", r"line 6: \[item_7\] is a token"),
    ],
)
def test_a_row_that_cannot_be_used(folder, suffix, line, said, caplog):
    """It stops the command, or is left out and counted."""
    before = read_interactions(folder)
    with (folder / f"toy.{suffix}").open("a") as file:
        file.write(f"{line}\n")
    with pytest.raises(InputError, match=f"{said}.*--on-error skip leaves such rows out"):
        read_interactions(folder)
    assert read_interactions(folder, on_error="skip") == before
    assert "rows left out: 1 " in caplog.text


def test_what_cannot_be_used_at_all(folder, tmp_path):
    (tmp_path / "a.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="give --items"):
        read_interactions(tmp_path / "a.csv")
    with pytest.raises(InputError, match="say with --user-text what is told"):
        read_interactions(folder, users=folder / "toy.user")
    (folder / "toy.user").unlink()
    with pytest.raises(InputError, match="give --users"):
        read_interactions(folder, user_text="{age}")
    (folder / "toy.inter").write_text("\n".join(INTER.splitlines()[:3]) + "\n")
    with pytest.raises(InputError, match="1 users and 4 items; two of each"):
        read_interactions(folder)
    (folder / "toy.inter").write_text("\n".join(INTER.splitlines()[:4]) + "\n")
    with pytest.raises(InputError, match="no user has 3 items"):
        read_interactions(folder)
    (folder / "other.inter").write_text(INTER)
    with pytest.raises(InputError, match="2 files in it end in .inter"):
        read_interactions(folder)


def test_a_user_who_is_told_of_twice(folder):
    with (folder / "toy.user").open("a") as file:
        file.write((folder / "toy.user").read_text().splitlines()[1] + "\n")
    with pytest.raises(InputError, match="toy.user, line 4: user '9' is told of twice"):
        read_interactions(folder, user_text="{age}")


def test_choices_of_the_helpers(tmp_path):
    choices, items = write_choices(tmp_path)
    found = read_interactions(choices, items)
    assert len(found.users) == 16 and all(len({item // 6 for item in history}) == 1 for history in found.histories)


TIMED = """user,item,created_at
u,a,2024-02-02 10:00:00
u,b,2024-01-01T10:00:00Z
u,c,2024-03-01
v,a,2024-01-01 12:00:00 UTC
v,b,2024-01-01T12:00:00+02:00
"""
TITLES = "item,title\na,Heat\nb,Ran\nc,Up\n"


def written(folder, choices, items=TITLES, name="choices.csv"):
    (folder / name).write_text(choices, encoding="utf-8")
    (folder / "items.csv").write_text(items, encoding="utf-8")
    return folder / name, folder / "items.csv"


def test_times_are_dates_too(tmp_path, caplog):
    caplog.set_level(logging.INFO, "lbr_st")
    assert read_interactions(*written(tmp_path, TIMED)).histories == [[1, 0, 2], [1, 0]]
    assert "columns used: user, item, created_at" in caplog.text and "no times" not in caplog.text


def test_a_day_and_a_time_of_day_are_two_columns(tmp_path, caplog):
    """As in tables of sales; the time alone, or beside a whole date, is no part of it."""
    caplog.set_level(logging.INFO, "lbr_st")
    rows = ("u,a,2024-01-01,18:00", "u,b,2024-01-01,9:05", "u,c,2024-01-01,12:00:30", "v,a,2024-01-02,1:00")
    choices = "\n".join(["user,item,order_date,order_time", *rows, ""])
    assert read_interactions(*written(tmp_path, choices)).histories == [[1, 2, 0], [0]]
    assert "columns used: user, item, order_date, order_time" in caplog.text
    whole = choices.replace("2024-01-01", "2024-01-01 10:00:00").replace("2024-01-02", "2024-01-02 10:00:00")
    assert read_interactions(*written(tmp_path, whole)).histories == [[0, 1, 2], [0]]


def test_without_times_it_is_said_that_the_order_is_that_of_the_rows(tmp_path, caplog):
    caplog.set_level(logging.INFO, "lbr_st")
    files = written(tmp_path, TIMED.replace("created_at", "shelf"))
    assert read_interactions(*files).histories == [[0, 1, 2], [0, 1]]
    assert "choices.csv: no times (looked for timestamp, datetime, " in caplog.text
    lines = [{"user": "u", "item": item, "time": time} for item, time in (("a", 1), ("b", 2), ("c", 3))]
    del lines[1]["time"]
    text = "".join(f"{json.dumps(line)}\n" for line in lines)
    with pytest.raises(InputError, match="line 2: some rows have a time and others have none"):
        read_interactions(*written(tmp_path, text, name="choices.jsonl"))


def test_a_date_of_another_form_is_refused_before_what_else_is_wrong(tmp_path):
    """As in a table of purchases, of which the first has no customer."""
    files = written(tmp_path, "CustomerID,StockCode,InvoiceDate\n,a,12/1/2010 8:26\n1,a,12/2/2010 8:26\n")
    with pytest.raises(InputError, match=r"line 2: column InvoiceDate: seconds, or a date.*none of the 2 rows"):
        read_interactions(*files)
    with pytest.raises(InputError, match=r"no rows that can be used; rows left out: 2 .*column InvoiceDate"):
        read_interactions(*files, on_error="skip")


@pytest.mark.parametrize(("id_", "meant"), [("8.0", "8"), ("008", "8")])
def test_ids_that_a_program_took_for_numbers(tmp_path, id_, meant):
    files = written(tmp_path, f"user,item\nu,{id_}\n", f"item,title\n{meant},Heat\n")
    with pytest.raises(InputError, match=f"item '{id_}' is not in .*, but '{meant}' is"):
        read_interactions(*files)


def test_a_table_in_another_encoding(tmp_path):
    choices, items = written(tmp_path, "user;item\nu;a\nu;b\nu;c\n")
    items.write_text(TITLES.replace("Heat", "Caf\u00e9"), encoding="latin-1")
    with pytest.raises(InputError, match="items.csv, line 2, .*: not in UTF-8; iconv -f cp1252 -t utf-8 .*items.csv >"):
        read_interactions(choices, items)


def test_users_of_whom_nothing_is_told_are_counted(folder, caplog):
    read_interactions(folder, user_text="{age}")
    assert "toy.user: nothing tells of 1 of 2 users, such as 2" in caplog.text
