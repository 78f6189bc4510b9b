"""Files that are written into texts."""

import pytest

from lbr_st.data.account import Account
from lbr_st.data.cleaning import clean
from lbr_st.data.data_uris import without_data_uris
from lbr_st.data.passages import Chunker, passages_of

PNG = "data:image/png;base64," + "iVBORw0KGgoAAAANSUhEUg" * 30


@pytest.mark.parametrize(
    ("text", "left", "number"),
    [
        (f"a ![A chart]({PNG}) b", "a A chart b", 1),
        (f'a ![]({PNG} "title") b', "a  b", 1),
        (f"See ![][image1] and ![chart][image1].\n\n[image1]: <{PNG}>\nb", "See  and chart.\n\n\nb", 1),
        (f'<p>a</p><img alt="x" src="{PNG}"/>', "<p>a</p>", 1),
        (f"a\n<img\n src='{PNG}'\n alt='x'>\nb", "a\n\n\n\nb", 1),
        (f"background: url({PNG});", "background: url();", 1),
        (f"{PNG}, {PNG.upper()}", " ", 2),
        ("data:image/svg+xml;utf8,%3Csvg" + "%20a" * 30, "", 1),
        ("Write data:text/plain;base64,SGVsbG8= there.", "Write data:text/plain;base64,SGVsbG8= there.", 0),
        ("The data: a/b, c", "The data: a/b, c", 0),
    ],
)
def test_files_in_texts_are_taken_out_and_counted(text, left, number):
    assert without_data_uris(text) == (left, number)
    assert "base64,iVB" not in clean(text) + clean(text, keep_html=True)


@pytest.mark.parametrize(("name", "mark"), [("a.md", "![]({})"), ("a.html", "<p><img src='{}'></p>"), ("a.txt", "{}")])
def test_files_in_documents_are_no_passages(name, mark):
    account = Account()
    found = list(passages_of(name, f"Zinc.\n\n{mark.format(PNG)}\n", Chunker(20), account))
    assert [each["document"] for each in found] == ["Zinc."]
    assert "1 files written into texts (data: URIs, such as pictures), which were taken out" in account.notes
