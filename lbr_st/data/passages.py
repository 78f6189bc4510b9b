"""Passages out of text, Markdown, HTML and source files, cut where sentences, paragraphs and functions end."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from lbr_st.data.account import Account
from lbr_st.data.cells import Wrong, stop
from lbr_st.data.data_uris import TAKEN_OUT, without_data_uris
from lbr_st.data.elements import Element, elements_of
from lbr_st.data.encodings import READ_AS_UTF8, check_decoded, is_utf8, open_text
from lbr_st.data.front_matter import BROKEN, split_front_matter
from lbr_st.data.installed_packages import documented_functions
from lbr_st.data.kinds import check_kind
from lbr_st.data.marked_lines import note_marks, references_of
from lbr_st.data.notes import without_notes
from lbr_st.data.raised import raise_in
from lbr_st.data.same_text import same_text
from lbr_st.data.words import count_words
from lbr_st.errors import InputError, RowError, one_line, require
from lbr_st.records import CODE, HTML, MARKDOWN, Record

CHUNK_TOKENS = 256
# Characters for each token of a passage that are looked at together: several passages, in any script.
BLOCK = 16
TRAIL = " > "
THEMATIC_BREAKS = re.compile(r"[-*_\s]*")  # a passage of Markdown that is nothing else says nothing
LINES = "of lines that each end a sentence, joined to passages: in a CSV with the column text each would be one"
LEAST_LINES, LEAST_ENDED = 5, 0.8
_ENDED = re.compile(r"[.!?\u3002\uff1f\uff01][\"')\]\u201d\u2019]*\s*$")
NO_TEXT, UNDECODED = "without text", "in another encoding and left out"

Count = Callable[[str], int]


class Chunker:
    """Cuts text into passages of at most so many tokens, as large as they can be, at the highest boundary there is.

    Boundaries are blank lines, lines, sentences and words, in this order (Unicode Annex 29; `semantic_text_splitter`).
    In code these are functions, statements and lines. What is cut is text of the original, none twice, and none left
    out but white space.

    Args:
        tokens: Most tokens of a passage.
        count: Counts the tokens of a text as the model does that will read the passages; default is words and marks.

    Raises:
        InputError: If the package that finds the boundaries is not installed.
    """

    def __init__(self, tokens: int = CHUNK_TOKENS, count: Count = count_words) -> None:
        self.tokens, self.count = tokens, count
        splitter = require("semantic_text_splitter", "cutting text into passages").TextSplitter
        self._splitter = splitter.from_callback(count, tokens, trim=False)

    def cut(self, text: str) -> Iterator[tuple[int, str]]:
        """Yield (line from 1, passage); indentation stays."""
        line, end = 1, 0
        for start, chunk in self._chunks(text):
            line += text.count("\n", end, start)
            end = start
            stripped = chunk.strip("\n").rstrip()
            if stripped.strip():
                blank = len(chunk) - len(chunk.lstrip("\n"))
                yield line + blank, stripped

    def cut_titled(self, text: str, title: str) -> list[str]:
        """Return the passages of a document that begins with its title, each with the title before it.

        One that takes more than half of a passage is before the first alone, and so is one that the text does not
        begin with.
        """
        body = text.removeprefix(title)
        heading = title + body[: len(body) - len(body.lstrip())]
        is_before = bool(title) and body != text and heading != title and 2 * self.count(title) <= self.tokens
        if not is_before or self.count(text) <= self.tokens:
            return [chunk for _, chunk in self.cut(text)]
        beside = Chunker(self.tokens, lambda chunk: self.count(heading + chunk))
        return [heading + chunk for _, chunk in beside.cut(text.removeprefix(heading))]

    def _chunks(self, text: str) -> Iterator[tuple[int, str]]:
        """Yield (where it starts, chunk), a block of text at a time: for text without marks the splitter is slow.

        The last chunk of a block may go on behind it, so the next block begins with it; one that is all of a block
        takes a larger one.
        """
        start, size = 0, BLOCK * self.tokens
        while start + size < len(text):
            found = self._splitter.chunk_indices(text[start : start + size])
            if len(found) < 2:
                size *= 2
                continue
            yield from ((start + at, chunk) for at, chunk in found[:-1])
            start, size = start + found[-1][0], BLOCK * self.tokens
        yield from ((start + at, chunk) for at, chunk in self._splitter.chunk_indices(text[start:]))


def read_text_files(
    files: Iterable[Path],
    folder: Path,
    chunker: Chunker,
    encoding: str = "utf-8",
    wrong: Wrong = stop,
    account: Account | None = None,
    with_headings: bool = False,
) -> Iterator[Record]:
    """Yield the passages of text files.

    Args:
        files: Text, Markdown, HTML or source files.
        folder: Folder that their names are relative to.
        chunker: Cuts them.
        encoding: Encoding of the files.
        wrong: Called with a `RowError` for a file that is not in it; reading goes on if it returns.
        account: Takes note of files without text, and of front matter that cannot be read.
        with_headings: Whether headings and docstrings stay in the passages, which have no queries then: what is to be
            found by these words.

    Yields:
        Records with ``id`` (file and line, with a number from the second passage of one line on; of HTML file and
        number of the passage; of a file of several documents the id that each says), ``document`` and ``file``. Those
        under headings of Markdown or HTML have them as ``query``, after the title that front matter says, and Python
        functions their docstring, which is cut out of them.

    Raises:
        InputError: If a file cannot be read.
    """
    account = account or Account()
    for file in files:
        name = file.relative_to(folder).as_posix()
        try:
            check_kind(file)
            own = "utf-8" if (is_other := is_utf8(file, encoding)) else encoding
            account.note(READ_AS_UTF8.format(encoding), is_other)
            with open_text(file, own, newline=None) as opened:
                text = opened.read()
            for number, line in enumerate(text.split("\n"), start=1):
                check_decoded(f"{file}, line {number}", line, own)
        except RowError as error:
            wrong(error)
            account.note(UNDECODED)
            continue
        except (OSError, UnicodeError) as error:
            raise InputError(f"{file}: cannot be read: {one_line(error)}") from error
        times: Counter[str] = Counter()
        for passage in passages_of(name, text, chunker, account, with_headings):
            times[passage["id"]] += 1
            again = times[passage["id"]]  # a long line is cut into several that all start in it
            own = passage["id"] if again == 1 else f"{passage['id']}#{again}"
            yield {**passage, "id": own, "file": name}
        account.note(NO_TEXT, not times)


def passages_of(
    name: str, text: str, chunker: Chunker, account: Account | None = None, with_headings: bool = False
) -> Iterator[Record]:
    """Yield ``id``, ``document`` and, where there is one, ``query`` of the passages of one file."""
    suffix = Path(name).suffix.lower()
    title, text, is_broken = split_front_matter(text, suffix)
    text, files = without_data_uris(text)
    if account:
        account.note(BROKEN, is_broken)
        account.note(TAKEN_OUT, files)
    if suffix in MARKDOWN:
        of_note, text = without_notes(text, account or Account())
        title = title or of_note
    if suffix in HTML:
        of_page, body = _from_html(text)
        yield from _sections(body, chunker, lambda _, number: f"{name}#{number}", title or of_page, with_headings)
    elif suffix in MARKDOWN:
        yield from _sections(text, chunker, lambda line, _: f"{name}:{line}", title, with_headings)
    elif suffix == ".py":
        yield from _python(name, text, chunker, with_headings)
    elif suffix not in CODE and (elements := _documents_of(text, suffix, account or Account())):
        for element in elements:
            yield from _element(element, element.id or f"{name}:{element.line}", chunker)
    else:
        yield from ({"id": f"{name}:{line}", "document": chunk} for line, chunk in chunker.cut(text))


def _documents_of(text: str, suffix: str, account: Account) -> list[Element]:
    """Return the documents of a file of several; none where it is one, of which is noted what stays in it."""
    found = (references_of(text, account) or elements_of(text, account)) if suffix == ".txt" else []
    if not found:
        note_marks(text, account)
        account.note(LINES, suffix == ".txt" and _are_sentences(text))
    return found


def _are_sentences(text: str) -> bool:
    """Tell whether a text looks like one that has a text on each line: most of them end a sentence."""
    lines = text.strip().split("\n")
    return len(lines) >= LEAST_LINES and sum(map(bool, map(_ENDED.search, lines))) >= LEAST_ENDED * len(lines)


def _element(element: Element, id_: str, chunker: Chunker) -> Iterator[Record]:
    """Yield the passages of one document of several in a file, with the ids that those of a row have."""
    chunks = chunker.cut_titled(element.text, element.title)
    for number, chunk in enumerate(chunks, start=1):
        yield {"id": f"{id_}#{number}" if len(chunks) > 1 else id_, "document": chunk}


def _from_html(text: str) -> tuple[str, str]:
    """Return the title of a page that has no heading of the first level, or "", and its body as Markdown."""
    soup = require("bs4", "HTML").BeautifulSoup(text, "html.parser")
    title = "" if soup.title is None or soup.h1 is not None else " ".join(soup.title.get_text().split())
    # Not the head: a page may leave its end out, and the parser takes what follows for a part of it.
    for element in soup(["script", "style", "title", "template", "noscript", "nav"]):
        element.decompose()
    raise_in(soup)
    return title, require("markdownify", "HTML").markdownify(str(soup), heading_style="atx")


def _sections(
    text: str, chunker: Chunker, id_of: Callable[[int, int], str], page: str, with_headings: bool
) -> Iterator[Record]:
    """Yield the passages of Markdown; the headings above a passage are its query, or before it: ``Guide > Install``.

    The title of the page is above all of them, where none of them says it again.
    """
    lines = text.split("\n")
    tokens = require("markdown_it", "Markdown").MarkdownIt().parse(text)
    headings = [
        (token.map, int(token.tag[1]), inline.content)
        for token, inline in zip(tokens, tokens[1:], strict=False)
        if token.type == "heading_open" and token.map and not token.level
    ]
    starts = [(0, 0, 0, "")] + [(span[0], span[1], level, title) for span, level, title in headings]
    trail: dict[int, str] = {-1: page} if page else {}
    number = 0
    for section, (_, begin, level, title) in enumerate(starts):
        trail = {depth: above for depth, above in trail.items() if depth < level}
        if title.strip() and same_text(title) != same_text(page):
            trail[level] = " ".join(title.split())
        end = starts[section + 1][0] if section + 1 < len(starts) else len(lines)
        above, body = TRAIL.join(trail.values()), "\n".join(lines[begin:end])
        for line, chunk in _below(above, body, chunker) if above and with_headings else chunker.cut(body):
            if THEMATIC_BREAKS.fullmatch(chunk.removeprefix(f"{above}\n")):
                continue
            number += 1
            passage = {"id": id_of(begin + line, number), "document": chunk}
            yield {**passage, "query": above} if above and not with_headings else passage


def _below(above: str, text: str, chunker: Chunker) -> Iterator[tuple[int, str]]:
    """Yield (line from 1, passage) with the headings before each; long ones are before the first alone."""
    before = f"{above}\n"
    if 2 * chunker.count(before) > chunker.tokens:
        yield from ((max(line - 1, 1), chunk) for line, chunk in chunker.cut(before + text))
        return
    beside = Chunker(chunker.tokens, lambda chunk: chunker.count(before + chunk))
    yield from ((line, before + chunk) for line, chunk in beside.cut(text))


def _python(name: str, text: str, chunker: Chunker, with_docstrings: bool) -> Iterator[Record]:
    """Yield documented functions with their docstring as query, or in them, then what is left of the file."""
    lines: list[Any] = text.split("\n")
    for function in documented_functions(text, nested=False):
        if not function.code:  # all of it stands beside its docstring on one line: it is left in the file
            continue
        whole = "\n".join(lines[function.start - 1 : function.end]) if with_docstrings else function.code
        for line, chunk in chunker.cut(whole):
            # A line of code is further down than in the file once the docstring above it is cut out.
            id_ = f"{name}:{function.line}+{line - 1}" if line > 1 else f"{name}:{function.line}"
            passage = {"id": id_, "document": chunk}
            yield passage if with_docstrings else {**passage, "query": function.docstring}
        lines[function.start - 1 : function.end] = [None] * (function.end - function.start + 1)
    start = 0
    for at in range(len(lines) + 1):
        if at == len(lines) or lines[at] is None:
            for line, chunk in chunker.cut("\n".join(lines[start:at])):
                yield {"id": f"{name}:{start + line}", "document": chunk}
            start = at + 1
