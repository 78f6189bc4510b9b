"""Pictures and other files that are written into a text, as ``data:`` URIs: thousands of letters that say nothing."""

from __future__ import annotations

import re

TAKEN_OUT = "files written into texts (data: URIs, such as pictures), which were taken out"

# The least of what a file is written with: an example in a text about such URIs is shorter.
_URI = r"data:[\w.+-]+/[\w.+-]+(?:;[\w.=+-]+)*,[^\s\"'<>()\[\]\\]{60,}"
_IN_HTML = re.compile(rf"<(?:img|source|image|embed|object)\b[^<>]*{_URI}[^<>]*>", re.IGNORECASE)
_IN_MARKDOWN = re.compile(rf"!\[([^\]\n]*)\]\(\s*<?{_URI}>?[^()\n]*\)", re.IGNORECASE)
_DEFINED = re.compile(rf"^[ \t]*\[([^\]\n]+)\]:[ \t]*<?{_URI}>?[^\n]*$", re.IGNORECASE | re.MULTILINE)
_BARE = re.compile(_URI, re.IGNORECASE)


def without_data_uris(text: str) -> tuple[str, int]:
    """Return a text without the files that are written into it, and how many these were.

    Of a picture what is said in its place stays. Lines keep their numbers.
    """
    if ("data:" not in text and "DATA:" not in text) or not _BARE.search(text):
        return text, 0
    names = {found[1] for found in _DEFINED.finditer(text)}
    text, number = _IN_HTML.subn(lambda tag: "\n" * tag[0].count("\n"), text)
    for pattern, stays in ((_DEFINED, ""), (_IN_MARKDOWN, r"\1"), (_BARE, "")):
        text, taken = pattern.subn(stays, text)
        number += taken
    for name in names:  # the places of what was defined
        text = re.sub(rf"!\[([^\]\n]*)\]\[{re.escape(name)}\]", r"\1", text)
        text = re.sub(rf"!\[{re.escape(name)}\](?:\[\])?", "", text)
    return text, number
