"""What a reader in a hurry is promised: a README of few lines, short sentences, links that lead somewhere."""

import re
import statistics

import pytest
from documents import GUIDES, PAGES, README, prose_of, sentences_of, words_of
from helpers import ROOT

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
MACHINE = re.compile(r"(?<![\w.])/(work|root|home|opt|mnt|Users)/|[A-Z]:\\")
WRITTEN_FOR_PEOPLE = [README, *GUIDES, ROOT / "docs" / "README.md", ROOT / "docs" / "glossary.md"]


def slug(heading: str) -> str:
    """Return the anchor that GitHub makes of a heading."""
    plain = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").strip().lower()
    return re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")


def anchors_of(page) -> set[str]:
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    found: dict[str, int] = {}
    anchors = set()
    for heading in re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE):
        name = slug(heading)
        times = found[name] = found.get(name, -1) + 1
        anchors.add(f"{name}-{times}" if times else name)
    return anchors


def test_readme_is_short():
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 150


@pytest.mark.parametrize("page", WRITTEN_FOR_PEOPLE, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_sentence_is_long(page):
    long = [sentence for sentence in sentences_of(page) if words_of(sentence) > 40]
    assert not long


def test_sentences_are_short_on_average():
    lengths = [words_of(sentence) for page in (README, *GUIDES) for sentence in sentences_of(page)]
    assert statistics.mean(lengths) < 18


def test_words_are_counted_and_sentences_split():
    """The ruler itself: an abbreviation or a number ends no sentence, a bold or bracketed end does."""

    class Page:
        def read_text(self, encoding):
            return "# Title\n\nOne `a b` 0.5 two. **Three four.** Five?\n\n| a | table |\n\n- six\n- seven [x](y.md)\n"

    assert prose_of(Page()) == ["One code 0.5 two. **Three four.** Five?", "- six", "- seven x"]
    assert [words_of(each) for each in sentences_of(Page())] == [4, 2, 1, 1, 2]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for link in LINK.findall(text):
        if link.startswith(("https://", "http://")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name}: {link}"
        assert target.is_relative_to(ROOT), f"{page.name}: {link} is outside of the repository"
        if anchor and target.suffix == ".md":
            assert anchor in anchors_of(target), f"{page.name}: {link}"


def test_every_page_is_in_the_index():
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    for page in sorted((ROOT / "docs").rglob("*.md")):
        path = str(page.relative_to(ROOT / "docs"))
        assert path == "README.md" or f"({path})" in index, path


def test_pages_that_code_names_are_there():
    for folder in ("lbr_st", "tests", "benchmarks", "examples", "configs", "tools"):
        for file in (ROOT / folder).rglob("*"):
            if file.suffix in (".py", ".yaml", ".jinja") and "results" not in file.parts:
                for page in re.findall(r"docs/[\w/]+\.(?:md|svg)", file.read_text(encoding="utf-8")):
                    assert (ROOT / page).is_file(), f"{file}: {page}"


@pytest.mark.parametrize("folder", ["docs", "examples", "configs"])
def test_nothing_names_a_path_of_a_machine(folder):
    files = [each for each in (ROOT / folder).rglob("*") if each.suffix in (".md", ".py", ".yaml", ".json", ".svg")]
    for file in [*files, README, ROOT / "CHANGELOG.md", ROOT / "CITATION.cff"]:
        assert not MACHINE.search(file.read_text(encoding="utf-8")), file
