"""What tables are told apart by, and refused for, before any is read."""

import gzip
import subprocess
import sys

import pytest

from lbr_st.cli.main import main
from lbr_st.data import names
from lbr_st.errors import InputError
from lbr_st.recommending.interactions import read_interactions
from lbr_st.recommending.tables import find_tables

ITEMS = "movieId,title\n7,Heat\n8,Caf\u00e9\n"


def found(folder, name, text, items=ITEMS, **settings):
    (folder / name).write_text(text, encoding="latin-1")
    (folder / "items.csv").write_text(items, encoding="utf-8")
    return find_tables(folder / name, folder / "items.csv", **settings)


@pytest.mark.parametrize(
    ("header", "user", "item"),
    [
        ("CustomerID,StockCode,InvoiceDate", "customer_id", "stock_code"),
        ("visitorid,itemid", "visitor_id", "item_id"),
        ("reviewerID,asin", "reviewer_id", "asin"),
        ("user_name,user_id,movie,movie_id", "user_id", "movie_id"),
    ],
)
def test_usual_names(tmp_path, header, user, item):
    tables = found(tmp_path, "t.csv", f"{header}\n1,2,3,4\n")
    assert user in tables.user and item in tables.item


def test_the_column_that_both_tables_have_comes_first(tmp_path):
    """And an id in the table of its own comes before a word, which is what it is called."""
    tables = found(tmp_path, "t.csv", "user,asin,product\n", "product,id,asin\n")
    assert tables.item[0] == tables.own_item[0] == "asin"
    own = found(tmp_path, "t.csv", "user,product_id\n", "id,product\n").own_item
    assert own.index("id") < own.index("product")


MATRIX = ",".join(["user", *(f"item {number}" for number in range(30))])


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        (
            "t.csv",
            "a,b\n1,2\n",
            r"t.csv: no column user_id \(found: a, b\), nor another usual name of it \(uid, .*rename",
        ),
        ("t.csv", "user,b\n1,2\n", r"no column item_id .* \(iid, movie_id, product_id, .*that has it to item_id"),
        ("t.csv", f"{MATRIX}\n", "a row for each choice: pandas' melt writes it so"),
        ("t.jsonl", '{"user": 1, "items": [2, 3]}\n', "if items has them, write a row for each entry"),
        ("t.tsv", "1\t7\t4\t9\n", r"its first line names no columns .*rating\\ttimestamp\\n'; cat .*\) > t_named.tsv"),
        ("u.data", "1\t7\t4\t9\n", "u.data: its name does not say that it is a table; its first line names no col"),
        ("t.dat", "user_id::item_id\n1::7\n", r"separated by ::. What is read, this writes: cat .* | sed .* > t.tsv"),
        ("t.csv", "A1,7,5.0,9,8\n", r"printf 'user_id,item_id,rating,timestamp,column_5\\n'; cat .* > t_named.csv"),
    ],
)
def test_a_form_that_is_not_read(tmp_path, name, text, said):
    with pytest.raises(InputError, match=said):
        found(tmp_path, name, text)


def test_what_is_printed_for_the_files_of_movielens_makes_files_that_are_read(tmp_path):
    """Titles in Latin-1 are in UTF-8 then."""
    choices, items = tmp_path / "ratings.dat", tmp_path / "movies.dat"
    choices.write_text("".join(f"1::{item}::{item - 5}::{9 - item}\n2::{item}::5::1\n" for item in (7, 8, 9)))
    items.write_text("7::Heat::Drama\n8::Caf\u00e9|Bar::Drama\n9::Up::Kids\n", encoding="latin-1")
    for arguments in ((choices, None), (tmp_path / "ratings.tsv", items)):
        with pytest.raises(InputError) as error:
            find_tables(*arguments)
        shell = str(error.value).partition("this writes: ")[2]
        subprocess.run(["bash", "-c", shell], cwd=tmp_path, check=True)
    read = read_interactions(tmp_path / "ratings.tsv", tmp_path / "movies.tsv", min_score=3)
    assert read.names == ["Heat", "Caf\u00e9|Bar", "Up"] and read.histories == [[0, 1, 2], [2, 1]]


def test_a_packed_table_without_names_is_unpacked_by_what_is_printed(tmp_path):
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(b"1,7,4,9\n"))
    with pytest.raises(InputError, match="its first line names no columns") as error:
        find_tables(tmp_path / "t.csv.gz")
    shell = str(error.value).partition("this writes: ")[2]
    subprocess.run(["bash", "-c", shell], cwd=tmp_path, check=True)
    assert (tmp_path / "t.csv").read_text() == "user_id,item_id,rating,timestamp\n1,7,4,9\n"


def test_a_folder_without_atomic_files_says_what_it_has(tmp_path):
    (tmp_path / "ratings.dat").touch()
    with pytest.raises(InputError, match=r"0 files in it end in .inter; name the file .*\(found: ratings.dat\)"):
        find_tables(tmp_path)


def test_tables_are_looked_at_before_torch_is_imported():
    code = "import sys, lbr_st.cli.recommend; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_the_command_refuses_a_table_first(tmp_path, capsys):
    """Before a model that is not there."""
    (tmp_path / "t.csv").write_text("a,b\n1,2\n")
    table, out = str(tmp_path / "t.csv"), str(tmp_path / "out")
    with pytest.raises(SystemExit):
        main(["recommend", "train", "--model", "absent", "--data", table, "--items", table, "--output-dir", out])
    assert "no column user_id" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("choices", "items", "user", "item"),
    [
        ("user,session_id,item,timestamp", "item,title", "user", "item"),
        ("user,author_id,book,timestamp", "id,title", "user", "book"),
        ("user_id,item_id,product,timestamp", "id,product", "user_id", "item_id"),
        ("session_id,sku,timestamp", "sku,title", "session_id", "sku"),
    ],
)
def test_an_id_of_something_else_is_the_last(tmp_path, choices, items, user, item):
    for name, header in (("choices.csv", choices), ("items.csv", items)):
        (tmp_path / name).write_text(f"{header}\n{','.join(['a'] * len(header.split(',')))}\n")
    found = find_tables(tmp_path / "choices.csv", tmp_path / "items.csv")
    assert names.first(choices.split(","), found.user) == user and names.first(choices.split(","), found.item) == item


def test_a_first_row_without_a_column_is_one_row(tmp_path):
    (tmp_path / "choices.jsonl").write_text('{"foo": 1}\n{"user_id": "u", "item_id": "i"}\n')
    (tmp_path / "items.csv").write_text("item_id,title\ni,I\n")
    assert find_tables(tmp_path / "choices.jsonl", tmp_path / "items.csv").user[0] == "user_id"
