"""The page of ``lbr serve`` in Chromium, by playwright: asked, read and walked through as a reader does."""

import contextlib
import os
import re
import shutil
import struct
import subprocess
import sys

import pytest
from environments import environment
from helpers import ROOT, TEXTS, make_backbone, make_bert
from servers import serving

import lbr_st
from lbr_st.files import write_jsonl
from lbr_st.use.encode import EncodeConfig, encode_corpus

pytestmark = pytest.mark.integration

QUESTION = "How is anaemia treated?"
BY = {"dense": "Dense: by the vectors", "bm25": "BM25: by the words", "fused": "Fused: by both"}
DESKTOP, TELEPHONE = {"width": 1200, "height": 800}, {"width": 390, "height": 844}
HOSTILE = '<script>window.ran = 1</script><img src="x" onerror="window.ran = 1"> & anaemia'
HOSTILE_NAME = "<img src=x onerror=window.ran=1>.txt"
LONG = "\n".join(f"Anaemia, line {number}." for number in range(12))


@pytest.fixture(scope="module")
def chromium():
    """Chromium, run by the playwright of the environment."""
    packages, program = environment("chromium"), shutil.which("chromium")
    assert program, "there is no Chromium: apt-get install chromium"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [*sys.path, str(packages)])
        from playwright.sync_api import sync_playwright

        with (
            sync_playwright() as playwright,
            contextlib.closing(playwright.chromium.launch(executable_path=program)) as found,
        ):
            yield found


@pytest.fixture
def opened(chromium):
    """Open the page of a server.

    At the end it has run nothing of a text, asked no other host, and complained of nothing but refusals.
    """
    with contextlib.ExitStack() as stack:

        def open_page(served, viewport=DESKTOP, at="", refused=False, **settings):
            context = stack.enter_context(contextlib.closing(chromium.new_context(viewport=viewport, **settings)))
            page = context.new_page()
            page.set_default_timeout(30_000)
            said, asked = [], []
            page.on("console", lambda message: said.append(message.text))
            page.on("pageerror", lambda error: said.append(f"raised: {error}"))
            page.on("request", lambda request: asked.append(request.url))

            def check():
                if refused:  # the browser says so itself
                    said[:] = [text for text in said if not text.startswith("Failed to load resource")]
                assert said == []
                assert asked and all(url.startswith((f"{served.url}/", "data:")) for url in asked), asked
                assert page.evaluate("window.ran") is None

            stack.callback(check)
            page.goto(f"{served.url}/{at}")
            return page

        yield open_page


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model of random weights, whose tokens are words of the tests."""
    folder = tmp_path_factory.mktemp("model")
    backbone = make_backbone(folder / "backbone", max_position_embeddings=1024)
    made = lbr_st.from_backbone(backbone, num_bottleneck_tokens=1, max_seq_length=800).eval()
    made.prompts |= {"query": "ask: ", "document": "find: "}
    lbr_st.save(made, folder / "lbr-model")
    return str(folder / "lbr-model")


@pytest.fixture(scope="module")
def docs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("docs")
    for number, text in enumerate(TEXTS):
        (folder / f"{number}.md").write_text(text)
    (folder / "long.md").write_text(LONG)
    (folder / f"{'w' * 80}.md").write_text("anaemia" * 40)
    (folder / HOSTILE_NAME).write_text(HOSTILE)
    return folder


@pytest.fixture(scope="module")
def served(model, docs):
    with serving(model=model, data=str(docs)) as found:
        yield found


@pytest.fixture(scope="module")
def comparing(model, docs, tmp_path_factory):
    other = make_bert(tmp_path_factory.mktemp("other") / "bert", dropout=0)
    with serving(model=model, data=str(docs), compare=other) as found:
        yield found


def ask(page, question=QUESTION):
    """Type a question, without a click, and wait for what is found."""
    page.get_by_role("searchbox").select_text()
    page.keyboard.type(question)
    page.keyboard.press("Enter")
    status(page, re.compile("found|Nothing"))


def status(page, text):
    page.get_by_role("status").filter(has_text=text).wait_for()


def read_words(page):
    """Have the words of vectors shown."""
    page.get_by_role("checkbox").check()
    page.locator("li .words > *").first.wait_for()


def columns(page, section=0):
    """Return for each column its heading, and of its hits the head and the text."""
    return page.evaluate(
        """section => [...document.querySelectorAll("#results > section")[section].querySelectorAll("section")].map(
            column => [column.querySelector("h3").textContent, [...column.querySelectorAll("li")].map(
                hit => [hit.querySelector(".head").textContent, hit.querySelector(".text").textContent])])""",
        section,
    )


def expected(served, question, by, side="after"):
    _, _, answer = served.ask("GET", f"/search?q={question.replace(' ', '+')}&k=5&by={by}&side={side}")
    return [
        [f"{rank}. {hit['id']}{hit['score']:.3f}" + ranks_of(hit), hit["text"]]
        for rank, hit in enumerate(answer["hits"], 1)
    ]


def ranks_of(hit):
    return f", ranks: dense {hit['ranks']['dense']}, BM25 {hit['ranks']['bm25'] or '-'}" if "ranks" in hit else ""


def focused(page):
    """Return the column and the place of the hit that has the focus; the id of what is no hit."""
    return page.evaluate(
        """() => { const at = document.activeElement, list = at.closest("ol");
        return list ? [[...document.querySelectorAll("ol")].indexOf(list), [...list.children].indexOf(at)] : at.id; }"""
    )


def test_a_question_is_answered_by_all_three(served, opened):
    """Source, score, ranks and text of each hit, and its words of the question marked."""
    page = opened(served)
    assert page.title() == "Search with lbr-model" and page.locator("h1").inner_text() == "lbr-model"
    assert page.locator("#about").inner_text() == "9 passages"
    page.keyboard.type("x/y")  # it has the focus, and takes / as any letter
    assert page.get_by_role("searchbox").input_value() == "x/y"
    page.keyboard.press("Control+a")
    page.keyboard.type(QUESTION)
    page.keyboard.press("Enter")
    status(page, "found.")
    found = columns(page)
    assert found == [[heading, expected(served, QUESTION, by)] for by, heading in BY.items()]
    assert [len(hits) for _, hits in found] == [5, 4, 5]
    marks = page.locator("li", has_text="folic acid").first.locator("mark")
    assert marks.all_inner_texts() == ["Anaemia", "treated"]
    ask(page, "zzz")
    assert page.locator("ol").nth(1).locator("li").count() == 0
    assert page.get_by_text("Nothing: no passage has a word of it.").is_visible()


def test_what_a_passage_spells_is_text(served, opened):
    """Tags of a text and of a file's name are shown as they are; that nothing is run is looked at for every page."""
    page = opened(served)
    ask(page, "onerror <img src=x onerror=window.ran=1>")
    hit = page.locator("li", has_text="<script>").first
    assert hit.locator(".text").inner_text() == HOSTILE
    assert hit.locator(".head strong").inner_text() == f"1. {HOSTILE_NAME}:1"
    read_words(page)
    assert page.locator("main :is(img, script)").count() == 0


def test_the_keyboard_alone(served, opened):
    page = opened(served)
    assert focused(page) == "question"
    page.keyboard.press("ArrowDown")
    assert focused(page) == "question"
    ask(page)
    walked = []
    for key in ("Down", "Down", "Right", "Right", "Right", "Left", "Left", "Up", "Up", "Up", "Down"):
        page.keyboard.press(f"Arrow{key}")
        walked.append(focused(page))
    assert walked == [
        [0, 0], [0, 1], [1, 1], [2, 1], [2, 1], [1, 1], [0, 1], [0, 0], "question", "question", [0, 0],
    ]  # fmt: skip
    for _ in range(5):
        page.keyboard.press("ArrowDown")
    assert focused(page) == [1, 0]  # behind the last of a column
    page.keyboard.press("/")
    assert focused(page) == "question"
    page.keyboard.type("iron")  # in place of what was there
    assert page.get_by_role("searchbox").input_value() == "iron"
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    assert focused(page) == "say"
    page.keyboard.press("Space")
    page.locator("#of-question > *").first.wait_for()
    page.keyboard.press("/")
    assert focused(page) == "question"


def test_an_arrow_that_chooses_a_character_stays_where_it_is(served, opened):
    """Input methods of Chinese and Japanese take the arrows themselves."""
    page = opened(served)
    ask(page)
    question = page.get_by_role("searchbox")
    question.dispatch_event("keydown", {"key": "ArrowDown", "isComposing": True})
    question.dispatch_event("keydown", {"key": "ArrowDown", "shiftKey": True})
    assert focused(page) == "question"


def test_a_hit_with_the_focus_is_whole_and_shown_wherever_it_is(served, opened):
    page = opened(served)
    ask(page, "line of anaemia")
    hit = page.locator("li", has_text="line 11").first
    text = hit.locator(".text")
    lines = text.evaluate("each => each.getBoundingClientRect().height / parseFloat(getComputedStyle(each).lineHeight)")
    assert round(lines) == 6
    hit.focus()
    assert text.evaluate("each => each.getBoundingClientRect().height >= each.scrollHeight")
    same = page.locator("li.same strong").all_inner_texts()
    assert len(same) >= 2 and {name[3:] for name in same} == {"long.md:1"}
    page.keyboard.press("/")
    assert page.locator("li.same").count() == 0


def test_what_the_vectors_say(served, opened):
    """The words of the question and of each hit, those that both have in bold."""
    page = opened(served)
    ask(page)
    read_words(page)
    ask(page)  # they are read of the next question too
    page.locator("li .words > *").first.wait_for()
    texts = page.locator("li .text").all_inner_texts()
    [of_question] = served.ask("POST", "/words", {"input": [QUESTION], "input_type": "query"})[2]["words"]
    of_texts = served.ask("POST", "/words", {"input": texts, "input_type": "document"})[2]["words"]
    assert page.locator("#of-question > *").all_inner_texts() == [word for word, _ in of_question]
    spelled = {word.lower() for word, _ in of_question}
    numbers = set()
    for hit, words in zip(page.locator("li .words").all(), of_texts, strict=True):
        assert hit.locator("> *").all_inner_texts() == [word for word, _ in words]
        shared = [word for word, _ in words if word.lower() in spelled]
        assert hit.locator("strong").all_inner_texts() == shared
        numbers.add(len(shared) < len(words) and len(shared) > 0)
    assert True in numbers
    page.get_by_role("checkbox").uncheck()
    assert page.locator(".words > *").count() == 0 and page.locator("#of-question").inner_text() == ""


def test_before_and_after(comparing, opened):
    page = opened(comparing)
    ask(page)
    assert page.locator("h2").all_inner_texts() == ["After: lbr-model", "Before: st"]
    assert columns(page) == [[heading, expected(comparing, QUESTION, by)] for by, heading in BY.items()]
    assert columns(page, 1) == [[BY[by], expected(comparing, QUESTION, by, "before")] for by in ("dense", "fused")]
    assert columns(page, 1)[0] != columns(page)[0]
    boxes = [heading.bounding_box()["x"] for heading in page.locator("h3").all()]
    assert len(boxes) == 5 and boxes[3:] == [boxes[0], boxes[2]]  # each below its own
    read_words(page)
    words = page.locator("#results > section").nth(1).locator(".words")
    assert words.count() == 0  # its vectors are others


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [DESKTOP, TELEPHONE], ids=["desktop", "telephone"])
def test_all_that_is_written_can_be_read(comparing, opened, theme, viewport):
    """WCAG's contrast of 4.5, of every text with what is behind it."""
    page = opened(comparing, viewport, color_scheme=theme, refused=True)
    ask(page)
    read_words(page)
    check_contrast(page, theme)
    page.evaluate("fail(new Error('wrong')); document.getElementById('key-form').hidden = false")
    page.get_by_role("searchbox").fill("")
    check_contrast(page, theme)


def check_contrast(page, theme):
    found = page.evaluate(
        """() => {
        const behind = each => { for (; each; each = each.parentElement) {
            const colour = getComputedStyle(each).backgroundColor;
            if (colour !== "rgba(0, 0, 0, 0)") return colour; } return "none"; };
        const of = (each, part) => [each.tagName, getComputedStyle(each, part).color, behind(each)];
        const inputs = [...document.querySelectorAll("input:not([type=checkbox])")];
        const texts = [...document.body.querySelectorAll("*")].filter(each => each.checkVisibility() &&
            [...each.childNodes].some(node => node.nodeType === Node.TEXT_NODE && node.data.trim()));
        return [...texts.map(each => of(each)), ...inputs.map(each => of(each)),
                ...inputs.map(each => of(each, "::placeholder")), ["BODY", "rgb(0, 0, 0)", behind(document.body)]]; }"""
    )
    *texts, (_, _, paper) = found
    assert {tag for tag, _, _ in texts} >= {"H1", "H2", "H3", "P", "MARK", "SPAN", "BUTTON", "LABEL", "INPUT", "FOOTER"}
    low = {(tag, text, back) for tag, text, back in texts if contrast(text, back) < 4.5}
    assert low == set()
    assert (luminance(paper) < 0.05) == (theme == "dark")


def luminance(colour):
    """Return the relative luminance of WCAG 2.2."""
    parts = re.fullmatch(r"rgb\((\d+), (\d+), (\d+)\)", colour)
    assert parts, colour
    channels = [int(part) / 255 for part in parts.groups()]
    linear = [each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    low, high = sorted([luminance(one), luminance(other)])
    return (high + 0.05) / (low + 0.05)


def test_a_telephone(comparing, opened):
    """Nothing is wider than it, whatever a text spells; what is touched is large enough, and a touched hit is whole."""
    page = opened(comparing, TELEPHONE, has_touch=True, is_mobile=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    ask(page, "line of anaemia")
    read_words(page)
    assert "w" * 80 in page.locator("#results").inner_text()
    assert page.evaluate("[document.documentElement.scrollWidth, innerWidth, visualViewport.width]") == [390, 390, 390]
    assert len({column.bounding_box()["x"] for column in page.locator("ol").all()}) == 1  # one below the other
    for control in ("searchbox", "button"):
        assert page.get_by_role(control).bounding_box()["height"] >= 44
    text = page.locator("li .text", has_text="line 11").first
    before = text.bounding_box()["height"]
    text.tap()
    assert text.bounding_box()["height"] > before + 50


def test_a_link_to_a_question(served, opened):
    """Its address has the question, whatever it spells."""
    question = "50% of a & b # c?"
    page = opened(served)
    ask(page, question)
    other = opened(served, at=page.url.removeprefix(served.url).lstrip("/"))
    status(other, "found.")
    assert other.get_by_role("searchbox").input_value() == question
    assert opened(served, at="#q=50%").get_by_role("searchbox").input_value() == "50%"


def test_the_answer_to_an_older_question_is_not_shown(served, opened):
    page, held = opened(served), []
    page.route(re.compile("q=older"), lambda route: held.append(route))
    page.keyboard.type("older")
    page.keyboard.press("Enter")
    ask(page)
    for route in held:
        with page.expect_response(re.compile("q=older")):
            route.continue_()
    page.wait_for_timeout(100)
    assert len(held) == 3 and page.locator("ol").count() == 3
    assert columns(page)[0][1] == expected(served, QUESTION, "dense")


def test_errors_of_the_server_are_said(model, docs, served, opened):
    with serving(model=model, data=str(docs), max_tokens=3) as other:
        page = opened(other, refused=True)
        ask(page)
        page.get_by_role("checkbox").check()
        status(page, re.compile(r"^input has \d+ tokens, and a request may have 3$"))
        assert page.locator("li").count() == 14
    page.get_by_role("button", name="Search").click()
    status(page, f"{other.url.removeprefix('http://')} does not answer: is lbr serve running?")
    assert page.locator("li").count() == 0
    page = opened(served, refused=True)
    page.route(re.compile("/search"), lambda route: route.fulfill(status=502, body="<h1>Bad Gateway</h1>"))
    page.keyboard.type(QUESTION)  # of something between that speaks no JSON
    page.keyboard.press("Enter")
    status(page, "the server answers 502")
    with serving(model=model) as empty:
        page = opened(empty, refused=True)
        assert page.locator("#about").inner_text() == "Nothing to search: start lbr serve with --data."
        page.keyboard.type(QUESTION)
        page.keyboard.press("Enter")
        status(page, "there is nothing to search: start lbr serve with --data")


def test_a_key(model, docs, opened):
    """It is asked for when it is needed, once; a wrong one is said."""
    with serving(model=model, data=str(docs), api_key="secret") as served:
        page = opened(served, refused=True)
        assert not page.get_by_label("API key").is_visible()
        page.keyboard.type(QUESTION)
        page.keyboard.press("Enter")
        for key in ("wrong", "secret"):
            status(page, "the key is missing or wrong")
            assert focused(page) == "key"
            page.keyboard.press("Control+a")
            page.keyboard.type(key)
            page.keyboard.press("Enter")
        status(page, "found.")
        assert not page.get_by_label("API key").is_visible() and page.locator("li").count() == 14
        assert "secret" not in page.url


DRAW = """
import sys, draw_page
from pathlib import Path
draw_page.PICTURE = Path(sys.argv[2])
draw_page.draw(sys.argv[1])
"""


def test_the_picture_of_the_readme_can_be_drawn(served, tmp_path):
    """Of another model than its own; it is as large as the one that is there."""
    paths = os.pathsep.join([str(environment("chromium")), str(ROOT / "tools")])
    command = [sys.executable, "-c", DRAW, served.url, str(tmp_path / "drawn.png")]
    subprocess.run(command, env=os.environ | {"PYTHONPATH": paths}, check=True)
    sizes = [
        struct.unpack(">II", picture.read_bytes()[16:24])
        for picture in (tmp_path / "drawn.png", ROOT / "docs" / "search_page.png")
    ]
    assert sizes[0] == sizes[1] == (1500, 800)


def test_texts_that_were_not_kept(model, tmp_path, opened):
    """What can be found without them is; the other columns say why they are empty, and no words are read of them."""
    write_jsonl(tmp_path / "corpus.jsonl", [{"_id": f"d{number}", "text": text} for number, text in enumerate(TEXTS)])
    encode_corpus(
        EncodeConfig(model=model, data=[str(tmp_path / "corpus.jsonl")], output_dir=str(tmp_path / "encoded"))
    )
    with serving(model=model, data=str(tmp_path / "encoded")) as served:
        page = opened(served, refused=True)
        page.get_by_role("checkbox").check()
        ask(page)
        page.locator("#of-question > *").first.wait_for()
        assert (
            page.locator("p.wrong").all_inner_texts() == ["BM25 needs the texts: run lbr encode with --with-text"] * 2
        )
        assert page.locator("li .text").all_inner_texts() == ["(the text was not kept)"] * 5
        assert page.locator("li .words").count() == 0
