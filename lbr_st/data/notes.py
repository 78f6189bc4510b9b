"""What programs for notes write into Markdown for themselves: properties of Logseq, Joplin's block, comments."""

from __future__ import annotations

import re

from lbr_st.data.account import Account

PROPERTIES = "with properties that a program for notes wrote (name:: or name:), of which only the title was used"
OTHERS = "with other properties (name:: value), which stay in the text"
COMMENTS = "with comments (%%...%% or <!-- -->), which were not used"

# A page says what it is in lines of its own at its beginning, or below its first heading; blocks say what the program
# needs of them.
_OF_PAGE = re.compile(r"(\s*(?:#{1,6}[ \t].*\n\s*)?)((?:[\w-]+::(?:[ \t].*)?(?:\n|\Z))+)(?=\s|\Z)")
_OF_BLOCK = re.compile(
    r"^[ \t]*(?:[-*][ \t]+)?(?:id|collapsed|heading|background-color|ls-type|(?:hl|card|query)-[\w-]+|"
    r"(?:created|updated)-at|logseq\.[\w.-]+)::[ \t].*$",
    re.MULTILINE,
)
_OTHER = re.compile(r"^[ \t]*(?:[-*][ \t]+)?[A-Za-z][\w-]*::[ \t]+\S", re.MULTILINE)
_TITLE = re.compile(r"^title::[ \t]+(.*)$", re.MULTILINE | re.IGNORECASE)
# The note as Joplin syncs it: a title, the text, and a block that ends with the type.
_JOPLIN = re.compile(r"\n(?:[a-z_]+:(?: .*)?\n)+type_: \d+\s*\Z")
_FIRST_LINE = re.compile(r"(\S.*)\n[ \t]*\n")
# Code is passed over; percent signs behind a number are of it. What goes on in other lines, or begins a line with a
# space behind its signs, ends where the next signs are, at the end of a line: elsewhere they are those of a program.
# It may hold code, and does not end within.
_COMMENT = re.compile(
    r"(?P<code>^[ \t]*(?P<fence>```+|~~~+).*?^[ \t]*(?P=fence)[ \t]*$|`[^`\n]+`)|"
    r"(?<![\d%])%%(?=[^\s%])[^\n]*?(?<=\S)%%|^[ \t]*%%[ \t]*\n.*?^[ \t]*%%[ \t]*$|"
    r"(?:^ {0,3}(?:[-*+>][ \t]+)*%%(?!%)|(?<!\S)%%(?=[^\s%]))"
    r"(?:^[ \t]*(?P<within>```+|~~~+).*?^[ \t]*(?P=within)[ \t]*$|(?!%%|^[ \t]*(?:```|~~~)).)*"
    r"(?<!\d)(?<!# )(?<!// )%%(?=[ \t]*$)|<!--.*?-->",
    re.MULTILINE | re.DOTALL,
)


def without_notes(text: str, account: Account) -> tuple[str, str]:
    """Return the title that a program for notes says of a text, or "", and the text without what it wrote for itself.

    Lines keep their numbers.

    Args:
        text: Text of Markdown, without front matter.
        account: Takes note of what was left out.
    """
    title, whole = "", text
    if page := _OF_PAGE.match(text):
        found = _TITLE.search(page[2])
        lines = "\n" * page[2].count("\n")
        title, text = (found[1].strip() if found else ""), page[1] + lines + text[page.end() :]
    text = _OF_BLOCK.sub("", text)
    if block := _JOPLIN.search(text):
        text = text[: block.start()]
        if first := _FIRST_LINE.match(text):
            title, text = first[1].strip(), _blank(first) + text[first.end() :]
    account.note(PROPERTIES, text != whole)
    bare = _COMMENT.sub(lambda each: each[0] if each["code"] else _blank(each), text)
    account.note(COMMENTS, bare != text)
    account.note(OTHERS, _OTHER.search(bare) is not None)
    return title, bare


def _blank(part: re.Match[str]) -> str:
    return "\n" * part[0].count("\n")
