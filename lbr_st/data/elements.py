"""Text files of several documents, each in an element of its own, as WikiExtractor, TREC and MediaWiki write them."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from typing import NamedTuple

from lbr_st.data.account import Account
from lbr_st.data.texts import with_title

IN_ELEMENTS = "documents, each in an element <{}> of its own"
OUTSIDE = "lines outside of the elements, which were not used"
UNUSED = "with {}, which was not used"
OLDER = "versions of a text before its last one, which were not used"
MARKUP = "with lines of markup, such as {}, which stays in the text"
MOST_SHOWN = 3

_BEGIN = re.compile(r"^[ \t]*<(doc|page|document)((?:[ \t][^\n]*)?)>[ \t]*\r?$", re.IGNORECASE | re.MULTILINE)
# What may stand before the first: nothing, or what MediaWiki says of the site.
_HEAD = re.compile(
    r"\ufeff?(?:[ \t]*\r?\n)*(?:[ \t]*<mediawiki\b[^>]*>\s*?\n(?:\s*<siteinfo>.*?</siteinfo>[ \t]*\r?\n)?)?", re.DOTALL
)
_ID, _TITLE, _TEXT = {"docno", "docid", "id"}, {"title", "headline", "head", "hl", "ttl", "ti"}, {"text", "body"}
# What an element of a document may have in it that is no text: numbers, dates, and what holds others.
_CHILD = re.compile(r"<([A-Za-z][\w-]*)(?:\s[^<>]*)?>(.*?)</\1>", re.DOTALL)
_TAG = re.compile(r"</?[A-Za-z][\w:-]*(?:\s[^<>]*)?/?>")
_MARKED_LINE = re.compile(rf"^[ \t]*({_TAG.pattern})", re.MULTILINE)
_WHITE_LINES = re.compile(r"\n\s*\n\s*\n")


class Element(NamedTuple):
    """One document of a file.

    Attributes:
        id: The id that it says, or "".
        text: Its title and its text.
        line: The line that it begins on, from 1.
        title: The title alone, or "".
    """

    id: str
    text: str
    line: int
    title: str = ""


def elements_of(text: str, account: Account) -> list[Element]:
    """Return the documents of a text that begins with an element of one; none where it does not, and stays as it is.

    Args:
        text: Text of a whole file.
        account: Takes note of what was not used, and of markup in a text that stays as it is.
    """
    head = _HEAD.match(text)
    begin = _BEGIN.match(text, head.end() if head else 0)
    if begin is None:
        tags = list(dict.fromkeys(_MARKED_LINE.findall(text)))
        account.note(MARKUP.format(", ".join(tags[:MOST_SHOWN])), len(tags) > 1)
        return []
    return list(_elements(text, begin[1], account))


def _elements(text: str, name: str, account: Account) -> Iterator[Element]:
    begins = [each for each in _BEGIN.finditer(text) if each[1] == name]
    ends = [*(each.start() for each in begins[1:]), len(text)]
    for begin, end in zip(begins, ends, strict=True):
        inside, closing, behind = text[begin.end() : end].partition(f"</{name}>")
        account.note(OUTSIDE, sum(bool(line.strip()) for line in behind.split("\n")) if closing else 0)
        account.note(IN_ELEMENTS.format(name))
        line = text.count("\n", 0, begin.start()) + 1
        for other in set(re.findall(r"\s([\w:-]+)=\"", begin[2])) - {"id", "title"}:
            account.note(UNUSED.format(other))
        id_, title = _attribute(begin[2], "id"), _attribute(begin[2], "title")
        yield (
            Element(id_, with_title(title, inside.strip()), line, title) if id_ else _of_children(inside, line, account)
        )


def _attribute(about: str, name: str) -> str:
    """Return what an element says of itself; a title may have quotes in it that nobody escaped."""
    found = re.search(rf'\s{name}="(.*?)"(?=\s+[\w:-]+="|\s*$)', about, re.IGNORECASE)
    return html.unescape(found[1]).strip() if found else ""


def _of_children(inside: str, line: int, account: Account) -> Element:
    """Return a document whose id, title and texts are elements in it; where none is a text, all else is."""
    children = [(child[1].lower(), child[2]) for child in _CHILD.finditer(inside)]
    if not any(name in _TEXT for name, _ in children):
        # Within another, as in a revision of MediaWiki, of which the last is read.
        last = {name: each for name, each in children if any(c[1].lower() in _TEXT for c in _CHILD.finditer(each))}
        account.note(OLDER, sum(name in last for name, _ in children) - len(last))
        children = [(name, each) for name, each in children if name not in last]
        children += [(child[1].lower(), child[2]) for each in last.values() for child in _CHILD.finditer(each)]
    first = {name: _bare(each) for name, each in reversed(children)}
    id_ = next((first[name] for name in first if name in _ID), "")
    title = next((first[name] for name in first if name in _TITLE), "")
    texts = [_bare(each) for name, each in children if name in _TEXT]
    if not texts:
        rest = _CHILD.sub(lambda child: "" if child[1].lower() in _ID | _TITLE else child[0], inside)
        texts = [_bare(rest)]
    else:
        for name in dict.fromkeys(name for name, _ in children if name not in _ID | _TITLE | _TEXT):
            account.note(UNUSED.format(f"<{name}>"))
    return Element(id_, with_title(title, "\n\n".join(texts)), line, title)


def _bare(text: str) -> str:
    return _WHITE_LINES.sub("\n\n", html.unescape(_TAG.sub("", text))).strip()
