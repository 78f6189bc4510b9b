"""The page about an adaptation: all in one file, what users wrote is text in it, and the largest changes come first."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from lbr_st.adaptation.report import MOST_QUERIES, Example, Report, largest_changes, write_report
from lbr_st.adaptation.steps import Step


def example(before, after, query="q"):
    return Example(query, "d", before, after, "x", "y")


@pytest.fixture
def report(tmp_path):
    (tmp_path / "training.png").write_bytes(b"\x89PNG")
    return Report(
        title="my-model",
        verdict="VERDICT WIN: recall@10 0.812, +0.071 (0.049 to 0.093) against the start",
        notes=["The questions are titles."],
        next_steps=[("Search with it:", "lbr search --model my-model"), ("Bring a teacher.", "")],
        scores={"start": {"recall@10": "0.741"}, "end": {"recall@10": "0.812", "nDCG@10": "0.7"}},
        steps=[
            Step(
                "learn",
                "stage 1",
                tmp_path,
                {"tokens_read": 1000, "nothing": None, "lost": {"copied": 200, "not ended": 1000}},
                90.0,
            )
        ],
        gained=[example(20, 1, "<script>alert(1)</script>")],
        lost=[],
        data={"passages": "1,000"},
        pictures={"Stage 1": tmp_path / "training.png"},
        command="lbr adapt handbook",
    )


class Page(HTMLParser):
    """What a browser would see: tags, their attributes, and the text."""

    def __init__(self, content):
        super().__init__()
        self.tags, self.text = [], []
        self.feed(content)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text.append(data)


def test_all_of_it_is_in_one_page(report, tmp_path):
    page = Page(write_report(tmp_path, report).read_text())
    text = " ".join(" ".join(page.text).split())
    for said in (
        report.verdict, "The questions are titles.", "end 0.812 0.7",
        "stage 1 tokens read: 1,000 lost: 1,200 not ended: 1,000 copied: 200 1.5",
        "What to do next Search with it: lbr search --model my-model Bring a teacher. Scores",
        "rank 20 → 1", "passages 1,000", "lbr adapt handbook",
    ):  # fmt: skip
        assert said in text, said
    assert [attrs["src"] for tag, attrs in page.tags if tag == "img"] == ["data:image/png;base64,iVBORw=="]
    assert not [attrs for _, attrs in page.tags if re.match("https?:", attrs.get("src") or attrs.get("href") or "")]
    assert ("p", {"class": "verdict WIN"}) in page.tags


def test_what_users_wrote_is_no_markup(report, tmp_path):
    page = Page(write_report(tmp_path, report).read_text())
    assert "script" not in {tag for tag, _ in page.tags}
    assert "<script>alert(1)</script>" in "".join(page.text)


def test_the_largest_changes_first():
    examples = [example(10, 9), example(20, 2), example(3, 3), example(9, 10), example(1, 5), example(2, 1)]
    gained, lost = largest_changes(examples)
    assert [(each.before, each.after) for each in gained] == [(20, 2), (2, 1), (10, 9)]
    assert [(each.before, each.after) for each in lost] == [(1, 5), (9, 10)]
    assert len(largest_changes([example(5, 1)] * 50)[0]) == MOST_QUERIES


def test_a_page_is_whole_or_not_there(report, tmp_path):
    Path(tmp_path / "training.png").unlink()
    with pytest.raises(FileNotFoundError):
        write_report(tmp_path, report)
    assert not (tmp_path / "report.html").exists()
