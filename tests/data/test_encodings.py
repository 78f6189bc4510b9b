"""Text in any encoding, and bytes that are of another one."""

import pytest
from helpers import values_in

from lbr_st.data.rows import read_rows
from lbr_st.errors import InputError


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16", "utf-16-le", "cp1252", "utf-8-sig"])
def test_other_encodings(tmp_path, encoding):
    (tmp_path / "f.jsonl").write_bytes('{"a": "café"}\n'.encode(encoding))
    assert values_in(tmp_path / "f.jsonl", encoding=encoding) == [{"a": "café"}]


def test_encodings_that_are_wrong(tmp_path):
    (tmp_path / "f.jsonl").write_bytes(b'{"a": "b"}\n\xff')
    with pytest.raises(InputError, match="Python knows no such encoding"):
        values_in(tmp_path / "f.jsonl", encoding="utf-88")
    for name in ("base64", "utf\x008", ""):
        with pytest.raises(InputError, match="Python knows no such encoding"):
            values_in(tmp_path / "f.jsonl", encoding=name)
    (tmp_path / "f.json").write_text('[{"a": "b"}]')
    with pytest.raises(InputError, match="f.json: not utf-16"):
        values_in(tmp_path / "f.json", encoding="utf-16")
    with pytest.raises(InputError, match="f.jsonl, after line 0: not utf-16"):
        values_in(tmp_path / "f.jsonl", encoding="utf-16")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("f.jsonl", '{"question": "Ümlaut und 中文?"}\n'),
        ("f.csv", "question\nÜmlaut und 中文?\n"),
        ("f.json", '[{"question": "Ümlaut und 中文?"}]'),
    ],
)
def test_utf_16_is_known_by_its_mark_or_its_zeros(tmp_path, encoding, name, text):
    """What Excel saves as Unicode; the first letters of a table are ASCII."""
    (tmp_path / name).write_bytes(text.encode(encoding))
    assert values_in(tmp_path / name) == [{"question": "Ümlaut und 中文?"}]


def test_what_cannot_be_unpacked(tmp_path):
    """Only a file that needs a package is told to install it."""
    (tmp_path / "f.jsonl.gz").write_bytes(b"\xff\xfeno gzip")
    with pytest.raises(InputError) as error:
        values_in(tmp_path / "f.jsonl.gz")
    assert "zstandard" not in str(error.value)


ENCODINGS = {
    "Windows": ("a patient\u2019s caf\xe9 \u2013 so", "cp1252", "--encoding cp1252 (or what it is) reads it"),
    "Latin-1": ("a caf\xe9", "latin-1", "--encoding cp1252 (or what it is) reads it"),
    "Cyrillic": ("\u043f\u0440\u0438\u0432\u0435\u0442", "cp1251", "--encoding with its name (cp1251, gb18030, "),
    "Chinese": ("\u963f\u53f8\u5339\u6797\u662f\u836f", "gb18030", "--encoding with its name (cp1251, gb18030, "),
    "Japanese": ("\u85ac\u306e\u52b9\u679c", "shift_jis", "--encoding with its name (cp1251, gb18030, shift_jis"),
}


@pytest.mark.parametrize("row", ENCODINGS.values(), ids=ENCODINGS)
def test_an_encoding_is_proposed_that_reads_the_text(tmp_path, row):
    text, encoding, remedy = row
    (tmp_path / "f.csv").write_bytes(f"question,answer\nq,{text}\n".encode(encoding))
    with pytest.raises(InputError) as error:
        list(read_rows(tmp_path / "f.csv"))
    assert remedy in str(error.value) and "latin-1" not in str(error.value)
    if "cp1252" in remedy.partition("(")[0]:
        assert [each.values["answer"] for each in read_rows(tmp_path / "f.csv", "cp1252")] == [text]


def test_a_character_in_two_halves_is_no_other_encoding(tmp_path):
    """CESU-8, as MySQL and Oracle export it."""
    (tmp_path / "f.csv").write_bytes(b"question,answer\nq,a \xed\xa0\xbd\xed\xb8\x80\n")
    with pytest.raises(InputError, match=r"two halves \(CESU-8, .*: export it as utf8mb4 or AL32UTF8$"):
        list(read_rows(tmp_path / "f.csv"))


@pytest.mark.parametrize("encoding", ["latin-1", "ISO-8859-1", "iso8859-15"])
def test_latin_1_has_no_quotes_of_windows(tmp_path, encoding):
    """They would be control characters, and cleaned away."""
    (tmp_path / "f.jsonl").write_bytes(b'{"question": "a patient\x92s", "answer": "b"}\n')
    with pytest.raises(InputError, match=r"column 24: no letter of .*: byte 0x92 in .* --encoding cp1252"):
        list(read_rows(tmp_path / "f.jsonl", encoding))
    (tmp_path / "f.jsonl").write_bytes(b'{"question": "caf\xe9", "answer": "b"}\n')
    assert next(read_rows(tmp_path / "f.jsonl", encoding)).values["question"] == "caf\xe9"


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "cp1251", "koi8-r", "mac-roman", "gb18030", "shift_jis"])
def test_a_file_in_utf8_is_read_so_in_any_encoding(tmp_path, caplog, encoding):
    (tmp_path / "f.jsonl").write_bytes('{"text": "für – 锌"}\n'.encode())
    assert values_in(tmp_path / "f.jsonl", encoding=encoding) == [{"text": "für – 锌"}]
    assert f"f.jsonl: in UTF-8 and read so, not as {encoding}" in caplog.text
    (tmp_path / "g.csv").write_bytes("text\nZn\n".encode(encoding))
    assert values_in(tmp_path / "g.csv", encoding=encoding) == [{"text": "Zn"}]


def test_a_line_in_utf8_among_others_is_refused(tmp_path):
    (tmp_path / "f.jsonl").write_bytes('{"text": "für"}\n'.encode("cp1252") + '{"text": "für"}\n'.encode())
    with pytest.raises(InputError, match=r"f.jsonl, line 2: is UTF-8, not CP1252: '\{\"text\": \"für\"\}'"):
        values_in(tmp_path / "f.jsonl", encoding="cp1252")
