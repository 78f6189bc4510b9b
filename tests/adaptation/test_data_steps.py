"""What the steps that make the data read beside texts."""

from lbr_st.adaptation.data_steps import kinds_of
from lbr_st.data.same_text import same_text
from lbr_st.files import write_jsonl


def test_kinds_are_read_by_every_name_of_a_query(tmp_path):
    """What is no text is no kind."""
    rows = [
        {"question": "What is iron?", "answer": "A metal.", "kind": "claim"},
        {"question": "And salt?", "answer": "None.", "kind": ["claim"]},
        {"question": "And tin?", "answer": "One."},
    ]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    assert kinds_of(str(tmp_path / "rows.jsonl")) == {same_text("What is iron?"): "claim"}
