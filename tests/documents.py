"""What the tests of the documentation share: its files, their fenced blocks and their sentences."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from helpers import ROOT

README = ROOT / "README.md"
GUIDES = sorted((ROOT / "docs" / "guides").glob("*.md"))
PAGES = sorted([README, ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])

FENCE = re.compile(r"^```(\w*)$")
NOT_RUN = re.compile(r"^<!-- not run: (.+) -->$")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page: its language, its text, and why it is not run, where it is not."""

    page: Path
    line: int
    language: str
    text: str
    not_run: str | None

    def __str__(self):
        return f"{self.page.relative_to(ROOT)}, line {self.line}"

    @property
    def commands(self) -> list[list[str]]:
        """The commands of a block of the shell, without comments and line breaks."""
        lines = self.text.replace("\\\n", " ").splitlines()
        return [argv for line in lines if (argv := shlex.split(line, comments=True))]


def blocks_of(page: Path) -> list[Block]:
    lines = page.read_text(encoding="utf-8").splitlines()
    blocks, start = [], None
    for number, line in enumerate(lines):
        if not (fence := FENCE.match(line)):
            continue
        if start is None:
            start, language = number, fence[1]
            reason = NOT_RUN.match(lines[number - 1])
        else:
            text = "\n".join(lines[start + 1 : number])
            blocks.append(Block(page, start + 1, language, text, reason and reason[1]))
            start = None
    assert start is None, f"{page}, line {start}: a block without an end"
    return blocks


def prose_of(page: Path) -> list[str]:
    """Return paragraphs and list items, without headings, code, tables and what only machines read."""
    text = re.sub(r"^```.*?^```$", "\n", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"<!--.*?-->", "\n", text, flags=re.DOTALL)
    text = re.sub(r"^\|.*$", "", text, flags=re.MULTILINE)
    text = re.sub(r"^#+ .*$", "\n", text, flags=re.MULTILINE)
    text = re.sub(r"^(?=- )", "\n", text, flags=re.MULTILINE)
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"`[^`]*`", "code", text)
    return [" ".join(part.split()) for part in re.split(r"\n\s*\n", text) if part.strip()]


def sentences_of(page: Path) -> list[str]:
    return [sentence for part in prose_of(page) for sentence in re.split(r"(?<=[.!?])\)?\**\s+", part)]


def words_of(sentence: str) -> int:
    return sum(any(letter.isalnum() for letter in word) for word in sentence.split())


def blocks_under(page: Path, heading: str) -> list[Block]:
    """Return the blocks between a heading and the next one of its level."""
    lines = page.read_text(encoding="utf-8").splitlines()
    start = lines.index(heading)
    level = heading.split()[0] + " "
    end = next((i for i in range(start + 1, len(lines)) if lines[i].startswith(level)), len(lines))
    return [block for block in blocks_of(page) if start < block.line <= end]
