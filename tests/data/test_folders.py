"""What of a folder is read, and what is not, is said in one line by every command."""

import logging

import pytest

from lbr_st.data.folders import text_files
from lbr_st.data.parts import Reading, parts_of
from lbr_st.data.passages import Chunker
from lbr_st.data.records import iterate_passages, read_passages, read_records, read_text_records
from lbr_st.errors import InputError

LINE = (
    "3 passages; 7 of 11 files read (5 .md, 1 .py, 1 .txt); 4 not read: 2 .pdf, 1 without a suffix, 1 .jsonl; 2 "
    "hidden, not looked into; 1 with front matter that cannot be read, left out but for a title; 4 without text"
)


@pytest.fixture
def folder(tmp_path):
    """Files of many kinds, some in folders below, and some hidden."""
    texts = {"a.md": "# A\n\nOne.", "sub/b.txt": "Two.", "c.pdf": "%PDF", "sub/deep/d.pdf": "%PDF", "LICENSE": "MIT",
             "e.jsonl": "{}", "f.py": "x = 1", "g.md": "", "h.md": "---\ntitle: only\n---\n", "i.md": "---\n\n***\n",
             "j.md": "---\ntitle: \"a\" b\n---\n", ".git/config": "x", "sub/.hidden.md": "# Hidden\n\nNo."}  # fmt: skip
    for name, text in texts.items():
        (tmp_path / "docs" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "docs" / name).write_text(text)
    return tmp_path / "docs"


def test_the_line(folder, prepare, tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="lbr_st")
    passages = read_passages(folder)
    assert [passage["document"] for passage in passages] == ["A\nOne.", "x = 1", "Two."]
    assert passages == list(iterate_passages(folder))
    (tmp_path / "docs" / "e.jsonl").rename(tmp_path / "docs" / "sub" / "e.jsonl")  # above, it would be asked for
    prepare(folder, dev=0, test=0)
    lines = [record.getMessage() for record in caplog.records if " passages; " in record.getMessage()]
    assert lines == [f"{folder}: {LINE}"] * 3


def test_files_of_data_in_a_folder(prepare, tmp_path, caplog):
    """A folder whose files are named after the sides, and one in the form of BEIR."""
    caplog.set_level(logging.INFO, logger="lbr_st")
    (tmp_path / "data").mkdir()
    for name in ("train.csv", "test.csv", "notes.json", "README.md"):
        rows = "".join(f"{name} {n},answer {n} of {name}\n" for n in range(3))
        (tmp_path / "data" / name).write_text("question,answer\n" + rows)
    prepare(tmp_path / "data", folder="sides", dev=0)
    assert f"{tmp_path / 'data'}: 2 of 4 files read (2 .csv); 2 not read: 1 .md, 1 .json" in caplog.text


def test_links_to_folders_are_counted(folder, tmp_path, caplog):
    """They are not looked into: one may lead anywhere, and back."""
    caplog.set_level(logging.INFO, logger="lbr_st")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "x.md").write_text("Elsewhere.")
    (folder / "more").symlink_to(tmp_path / "elsewhere")
    (folder / "sub" / "up").symlink_to(folder)
    assert [passage["document"] for passage in read_passages(folder)] == ["A\nOne.", "x = 1", "Two."]
    assert "2 links to folders, not looked into: more, sub/up;" in caplog.text


def test_a_file_in_another_encoding_is_counted(folder, caplog):
    caplog.set_level(logging.INFO, logger="lbr_st")
    (folder / "k.txt").write_bytes(b"caf\xe9")
    errors = []
    assert len(read_passages(folder, wrong=errors.append)) == 3 and len(errors) == 1
    assert "1 in another encoding and left out" in caplog.text


def test_a_collection_of_beir_is_named_with_its_corpus(tmp_path):
    """Though it has a README, as those of the Hub do."""
    for name in ("corpus.jsonl", "queries.jsonl", "README.md"):
        (tmp_path / name).write_text("{}")
    with pytest.raises(
        InputError, match=f"in the form of BEIR: give {tmp_path / 'corpus.jsonl'} itself, or .* lbr data"
    ):
        read_passages(tmp_path)


def test_a_folder_of_files_that_are_not_read_names_one(tmp_path):
    (tmp_path / "export.xml").write_text("<page>")
    with pytest.raises(InputError, match="no text in files that end in .*; export.xml is there: name what is"):
        text_files(tmp_path)


def test_a_folder_of_tables_names_one(tmp_path):
    (tmp_path / "pairs.csv").write_text("a,b\n")
    with pytest.raises(
        InputError,
        match="no text in files that end in .*; its tables are pairs.csv: one with texts can be given itself",
    ):
        text_files(tmp_path)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (("dataset_info.json", "state.json", "data-00000-of-00001.arrow"), r"load_from_disk\('.*'\).to_parquet\("),
        (("dataset_dict.json",), r"load_from_disk\('.*'\)\['train'\].to_parquet\("),
    ],
)
def test_a_saved_dataset_is_named(tmp_path, files, said):
    for name in files:
        (tmp_path / name).write_text("{}")
    for read in (read_passages, read_records, lambda path: parts_of(str(path), Reading())):
        with pytest.raises(InputError, match=f"{tmp_path}: is what save_to_disk of datasets wrote: .*{said}"):
            read(tmp_path)


def test_a_file_in_utf8_is_read_so_whatever_encoding_is_said(tmp_path, caplog):
    """A folder may have files of both; one in ASCII is the same in either."""
    (tmp_path / "a.txt").write_bytes("Zinc für Ärzte.".encode("cp1252"))
    (tmp_path / "b.txt").write_bytes("Eisen für Ärzte – täglich.".encode())
    (tmp_path / "c.txt").write_bytes(b"ASCII.")
    (tmp_path / "d.txt").write_bytes("\ufeffÖl.".encode())
    with caplog.at_level(logging.INFO):
        found = [record["document"] for record in read_text_records(tmp_path, Chunker(), "cp1252")]
    assert found == ["Zinc für Ärzte.", "Eisen für Ärzte – täglich.", "ASCII.", "Öl."]
    assert "; 2 in UTF-8 and read so, not as cp1252" in caplog.text


def test_tables_below_a_folder_without_text_are_named(tmp_path):
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "test.parquet").write_bytes(b"PAR1")
    (tmp_path / "users.json").write_text("[]")
    with pytest.raises(
        InputError, match="; its tables are corpus/test.parquet, users.json: one with texts can be given"
    ):
        text_files(tmp_path)


@pytest.mark.parametrize("names", [["nfcorpus"], ["sub/scifact", "sub/fiqa"]])
def test_a_collection_within_a_folder_is_named(tmp_path, folder, caplog, names):
    """As a ZIP file of one leaves it; beside texts, which are read, it is named among what is not."""
    caplog.set_level(logging.INFO, logger="lbr_st")
    for name in names:
        for where in ("zip", "docs"):
            (tmp_path / where / name).mkdir(parents=True, exist_ok=True)
            (tmp_path / where / name / "corpus.jsonl").write_text('{"_id": "d", "text": "iron"}')
            (tmp_path / where / name / "queries.jsonl.gz").write_text("")
    with pytest.raises(InputError, match=f"{sorted(names)[0]}.*: give that folder, lbr data prepare {tmp_path}/zip/"):
        list(parts_of(str(tmp_path / "zip"), Reading())[0].records())
    assert len(read_passages(folder)) == 3
    assert f"{len(names)} in the form of BEIR, not read: {', '.join(sorted(names))}" in caplog.text
