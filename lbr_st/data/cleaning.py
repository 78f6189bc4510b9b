"""Cleaning: of one text, and of the texts of a record."""

from __future__ import annotations

import html
import re
import unicodedata
from html.parser import HTMLParser
from typing import Any

from lbr_st.data.data_uris import without_data_uris
from lbr_st.data.raised import SUB, SUP, joined
from lbr_st.records import FIELDS, WHITE, Record

# Elements that markup of running text is made of, with attributes that have values. A text with none of them is no
# HTML, whatever angle brackets it has; nor is a<b and c>d.
HTML_TAG = re.compile(
    r"(?<!\w)</?(a|abbr|b|blockquote|br|center|code|div|em|font|h[1-6]|hr|i|img|li|ol|p|pre|small|span|strong|sub|sup|table|"
    r"tbody|td|th|thead|tr|u|ul)(\s+[\w-]+\s*=\s*(\"[^\"]*\"|'[^']*'|[^\s\"'<>=]+))*\s*/?>"
    r"|(?<=\w)</(a|b|code|em|i|p|span|strong|sub|sup|td|th|u|li|div|h[1-6])>|(?<=\w)<(br|sub|sup)\s*/?>",
    re.IGNORECASE,
)
HTML_ENTITY = re.compile(r"&(#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z]{2,31}\d{0,2});")
BLOCK_TAG = re.compile(r"<(br|/?(p|div|li|tr|h[1-6]|table|ul|ol|dl|dt|dd|blockquote|pre))\b[^<>]*>", re.IGNORECASE)
CELL_TAG = re.compile(r"<(td|th)\b[^<>]*>", re.IGNORECASE)  # what is in two cells are two words
HIDDEN = ("script", "style")
# What else than these is no tag: a parser takes all for one that stands between x <y and the next bracket.
_ATTRIBUTES = r"(\s+[\w:-]+\s*=\s*(\"[^\"]*\"|'[^']*'|[^\s\"'<>=]+))*\s*/?>"
_ELEMENTS = (
    "abbr|address|area|article|aside|audio|base|bdi|bdo|big|blockquote|body|br|button|canvas|caption|center|cite|code|"
    "col|colgroup|data|datalist|dd|del|details|dfn|dialog|div|dl|dt|em|embed|fieldset|figcaption|figure|font|footer|"
    "form|frame|frameset|h[1-6]|head|header|hgroup|hr|html|iframe|img|input|ins|kbd|label|legend|li|link|main|map|mark|"
    "menu|meta|meter|nav|nobr|noscript|object|ol|optgroup|option|output|param|picture|pre|progress|rp|rt|ruby|samp|"
    "script|search|section|select|slot|small|source|span|strike|strong|style|sub|summary|sup|svg|table|tbody|td|"
    "template|textarea|tfoot|th|thead|time|title|tr|track|tt|ul|var|video|wbr"
)
NO_TAG = re.compile(
    rf"<(?!/?({_ELEMENTS})\b[^<>]*>|a\s[^<>]*\bhref\s*=[^<>]*>|/?[a-z][\w:-]*{_ATTRIBUTES}|!--|!doctype\b|!\[|\?)",
    re.IGNORECASE,
)

# What is seen by nobody and stands in texts by accident: controls but tab and newline, halves of surrogate pairs,
# noncharacters, soft hyphens, zero-width spaces and marks of byte order. Joiners stay: scripts are written with them.
INVISIBLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u200b\u2060\ufeff\ufdd0-\ufdef\ufffe\uffff\ud800-\udfff]")
LINE_BREAKS = re.compile("\r\n|[\r\x0b\x0c\x1c-\x1e\x85\u2028]")
SPACES = re.compile(r"[^\S\n\t]+")
OTHER_SPACES = re.compile(r"[^\S\n\t ]")
TRAILING = re.compile(r"(?<![ \t])[ \t]+$", re.MULTILINE)
BLANK_LINES = re.compile(r"\n{3,}")

# Code in Markdown; and what lines of it begin or end with where no fence says so.
CODE = re.compile(r"(^[ \t]*(```+|~~~+)[^`\n]*\n.*?^[ \t]*\2[ \t]*$|`[^`\n]+`)", re.MULTILINE | re.DOTALL)
OF_CODE = re.compile(
    r"[ \t]*(?:(?:class|const|def|elif|else|fn|for|from|func|function|if|import|let|package|private|public|return|"
    r"static|try|using|var|while)\b|#include\b|@\w|//|.*[;{}():]\s*$)"
)
BEGINS_WITH_TAG = re.compile(r"[ \t]*</?[A-Za-z!]")


def clean(text: str, keep_html: bool = False, one_line: bool = False) -> str:
    """Return a text in Unicode's form C, without control characters, markup, files, and white space that says nothing.

    Indentation and single blank lines stay, as code and Markdown mean something by them; in HTML they mean nothing.
    Cleaning a text that is clean changes nothing, unless it spells markup by entities.

    Args:
        text: Any string.
        keep_html: Whether tags and entities stay.
        one_line: Whether white space of any kind becomes one space, as in a query.
    """
    text, _ = without_data_uris(text)
    if not keep_html:
        text = without_html(text)
    if not (text.isascii() and text.replace("\n", "").isprintable()):  # else there is none of what goes here
        text = LINE_BREAKS.sub("\n", text).replace("\u2029", "\n\n").replace("\x1f", " ")
        text = unicodedata.normalize("NFC", INVISIBLE.sub("", text))
        text = OTHER_SPACES.sub(" ", text)
    if one_line:
        return WHITE.sub(" ", text).strip()
    return BLANK_LINES.sub("\n\n", TRAILING.sub("", text)).strip("\n").rstrip()


def clean_record(record: Record, keep_html: bool = False) -> Record:
    """Clean the texts of a record in place, and return it; hard negatives of which nothing is left go.

    Args:
        record: With ``document``, and what it has of ``query`` and ``negatives``.
        keep_html: Whether tags and entities stay.
    """
    for name in FIELDS:
        if name in record:
            record[name] = clean(record[name], keep_html, one_line=name == "query")
    if "negatives" in record:
        negatives = (clean(text, keep_html) for text in record["negatives"])
        record["negatives"] = [text for text in negatives if text]
    return record


def without_html(text: str) -> str:
    """Return the text of HTML, with a line for every block; what is no HTML comes back as it is, entities resolved.

    Code comes back as it is: what is fenced or between backticks, and a text at least half of whose lines are code.
    """
    if not ("<" in text and HTML_TAG.search(text)):
        return _without_entities(text)
    if "`" not in text and "~~~" not in text:
        return text if _is_code(text) else _text_of_html(text)
    parts = CODE.split(text)  # text, code, its fence, text ...
    kept = [_beside_code(part) if number % 3 == 0 else part for number, part in enumerate(parts) if number % 3 < 2]
    return "".join(kept)


def _is_code(text: str) -> bool:
    """Tell whether a text of several lines is code: half begin or end as its lines do, and none begins with a tag."""
    lines = [line for line in text.split("\n") if line.strip()]
    return (
        len(lines) > 1
        and 2 * sum(OF_CODE.match(line) is not None for line in lines) >= len(lines)
        and not any(map(BEGINS_WITH_TAG.match, lines))
    )


def _beside_code(text: str) -> str:
    """Return the text of HTML before, between or after pieces of code, with the white space around it."""
    if not HTML_TAG.search(text):
        return _without_entities(text)
    if _is_code(text):
        return text
    before, after = text[: len(text) - len(text.lstrip())], text[len(text.rstrip()) :]
    return f"{before}{_text_of_html(text)}{after}"


def _without_entities(text: str) -> str:
    return html.unescape(text) if "&" in text and HTML_ENTITY.search(text) else text


def _text_of_html(text: str) -> str:
    parser = _TextOfHtml()
    marked = NO_TAG.sub("&lt;", _without_open_ends(text))
    try:
        parser.feed(CELL_TAG.sub(r" \g<0>", BLOCK_TAG.sub(r"\n\g<0>", marked)))
        parser.close()
    except AssertionError:  # a declaration that it does not know: no HTML of anybody
        return text
    lines = (SPACES.sub(" ", line).strip() for line in joined(parser.pieces).split("\n"))
    return re.sub(r"\n{2,}", "\n", "\n".join(lines)).strip()


def _without_open_ends(text: str) -> str:
    """Return HTML without the beginnings of hidden elements that end nowhere: all that follows would be hidden."""
    for name in HIDDEN:
        ends = [end.end() for end in re.finditer(rf"</{name}\b", text, re.IGNORECASE)]
        last = ends[-1] if ends else 0
        text = text[:last] + re.sub(rf"<{name}\b[^<>]*>", "", text[last:], flags=re.IGNORECASE)
    return text


class _TextOfHtml(HTMLParser):
    """Collects what a reader of a page sees; the standard library's parser, as cleaning needs no other package."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[tuple[str, str]] = []  # with what they are in of sup and sub
        self._hidden, self._raised = 0, list[str]()

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        """Enter an element."""
        self._hidden += tag in HIDDEN
        if tag in (SUP, SUB):
            self._raised.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Leave an element; one that was never entered is none."""
        self._hidden -= tag in HIDDEN and self._hidden > 0
        if tag in self._raised:
            self._raised = self._raised[: self._raised.index(tag)]

    def handle_data(self, data: str) -> None:
        """Keep text."""
        if not self._hidden:
            self.pieces.append((self._raised[-1] if self._raised else "", data))


def printable(text: str) -> str:
    """Return a text without what cannot be written or seen, for ids and messages."""
    return INVISIBLE.sub("", text)
