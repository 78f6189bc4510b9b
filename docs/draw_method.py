"""Draw the method: ``python docs/draw_method.py`` writes ``docs/method.svg``.

On the left is what both stages read, on the right who may see whom in stage 1. The picture has a card of its own
behind it, light or dark as the reader's system is, so that it reads on any page.
"""

from __future__ import annotations

from pathlib import Path

PICTURE = Path(__file__).with_name("method.svg")

TOKENS = "XXXZYY"
CELL, ROW_X, ROW_Y = 34, 40, 96
GRID_X, GRID_Y = 574, 78

LIGHT = {
    "card": "#ffffff", "line": "#d0d7de", "text": "#1f2328", "soft": "#59636e", "x": "#cfe3ff", "z": "#ffd591",
    "y": "#c6efce", "hidden": "#f1f3f5", "cut": "#cf222e", "edge": "#57606a",
}  # fmt: skip
DARK = {
    "card": "#0d1117", "line": "#3d444d", "text": "#f0f6fc", "soft": "#9198a1", "x": "#1c4a85", "z": "#8a5a00",
    "y": "#1f5f33", "hidden": "#1b2028", "cut": "#ff7b72", "edge": "#9198a1",
}  # fmt: skip


def may_see(row: int, column: int) -> bool:
    """Return whether the token of a row attends to that of a column: causal, and never from Y to X."""
    return column <= row and not (TOKENS[row] == "Y" and TOKENS[column] == "X")


def rules(colours: dict[str, str]) -> str:
    """Return the style of each class in the given colours."""
    fills = [f".{name} {{ fill: {colours[name]} }}" for name in ("card", "text", "soft", "x", "z", "y", "hidden")]
    return "\n    ".join(
        [
            *fills,
            f".frame {{ stroke: {colours['line']} }}",
            f".arrow {{ stroke: {colours['edge']}; fill: none; stroke-width: 2 }}",
            f".tip {{ fill: {colours['edge']} }}",
            f".cut {{ stroke: {colours['cut']}; fill: none; stroke-width: 2 }}",
            f".warn {{ fill: {colours['cut']} }}",
        ]
    )


def text(x: float, y: float, words: str, style: str = "text", size: int = 14, anchor: str = "start") -> str:
    """Return a line of text."""
    return f'<text class="{style}" x="{x}" y="{y}" font-size="{size}" text-anchor="{anchor}">{words}</text>'


def box(x: float, y: float, letter: str, label: str = "") -> str:
    """Return a token: a square in the colour of its part."""
    square = f'<rect class="{letter.lower()} frame" x="{x}" y="{y}" width="{CELL}" height="{CELL}" rx="4"/>'
    return square + text(x + CELL / 2, y + CELL / 2 + 5, label or letter, anchor="middle")


def arrow(points: str, tip: tuple[float, float], style: str = "arrow") -> str:
    """Return a curve that ends in an arrow head, which points down."""
    x, y = tip
    head = "" if style == "cut" else f'<path class="tip" d="M{x - 5} {y - 8} L{x + 5} {y - 8} L{x} {y} Z"/>'
    return f'<path class="{style}" d="{points}"/>{head}'


def centre(index: int) -> float:
    """Return where the middle of a token of the upper row is."""
    return ROW_X + index * (CELL + 6) + CELL / 2


def stage_1() -> list[str]:
    """Return the row that stage 1 reads, with the two ways that are open and the one that is cut."""
    x, z, y = centre(1), centre(3), centre(4) + 20
    top = ROW_Y - 2
    return [
        text(ROW_X, 36, "Stage 1, learn: predict Y from X, through Z alone", size=15),
        *(box(centre(i) - CELL / 2, ROW_Y, letter) for i, letter in enumerate(TOKENS)),
        arrow(f"M{x} {top} Q{(x + z) / 2} {top - 30} {z - 7} {top - 5}", (z - 7, top)),
        arrow(f"M{z + 7} {top} Q{(z + y) / 2} {top - 30} {y} {top - 5}", (y, top)),
        f'<path class="cut" stroke-dasharray="5 4" d="M{x} {ROW_Y + CELL + 2} Q{z} {ROW_Y + CELL + 56} {y} '
        f'{ROW_Y + CELL + 2}"/>',
        f'<path class="cut" d="M{z - 9} {ROW_Y + CELL + 20} l18 18 m0 -18 l-18 18"/>',
        text(z, ROW_Y + CELL + 58, "cut off", "warn", 13, "middle"),
        text(centre(5) + 36, ROW_Y + 12, "X  the text, or a question", "soft", 13),
        text(centre(5) + 36, ROW_Y + 31, "Z  the bottleneck token", "soft", 13),
        text(centre(5) + 36, ROW_Y + 50, "Y  the text again, or its answer", "soft", 13),
    ]


def stage_2() -> list[str]:
    """Return the two rows that stage 2 reads: the last state of Z is the embedding."""
    y = 258
    parts = [text(ROW_X, 232, "Stage 2, align: the state of Z is the embedding", size=15)]
    for start, name in ((ROW_X, "a query"), (ROW_X + 262, "its document")):
        parts += [box(start + i * (CELL + 6), y, letter) for i, letter in enumerate("XXXZ")]
        middle = start + 3 * (CELL + 6) + CELL / 2
        parts.append(arrow(f"M{middle} {y + CELL + 2} V{y + CELL + 20}", (middle, y + CELL + 28)))
        parts.append(f'<circle class="z frame" cx="{middle}" cy="{y + CELL + 40}" r="10"/>')
        parts.append(text(start, y + CELL + 20, name, "soft", 13))
    left, right = ROW_X + 3 * (CELL + 6) + CELL / 2 + 16, ROW_X + 262 + 3 * (CELL + 6) + CELL / 2 - 16
    parts.append(f'<path class="arrow" stroke-dasharray="2 5" d="M{left} {y + CELL + 40} H{right}"/>')
    return [*parts, text((left + right) / 2, y + CELL + 62, "close; others far", "soft", 13, "middle")]


def mask() -> list[str]:
    """Return the mask of stage 1: a filled square where a row sees a column."""
    parts = [text(GRID_X, 36, "Who sees whom in stage 1", size=15)]
    for i, letter in enumerate(TOKENS):
        parts.append(text(GRID_X + 28 + i * CELL + CELL / 2, GRID_Y - 8, letter.lower(), "soft", 13, "middle"))
        parts.append(text(GRID_X + 12, GRID_Y + i * CELL + CELL / 2 + 5, letter.lower(), "soft", 13, "middle"))
        for j, column in enumerate(TOKENS):
            style = column.lower() if may_see(i, j) else "hidden"
            x, y = GRID_X + 28 + j * CELL, GRID_Y + i * CELL
            parts.append(f'<rect class="{style} frame" x="{x}" y="{y}" width="{CELL}" height="{CELL}"/>')
    x, y = GRID_X + 28, GRID_Y + 4 * CELL
    parts.append(f'<rect class="cut" x="{x}" y="{y}" width="{3 * CELL}" height="{2 * CELL}"/>')
    parts.append(f'<path class="cut" d="M{x} {y} l{3 * CELL} {2 * CELL} m0 -{2 * CELL} l-{3 * CELL} {2 * CELL}"/>')
    bottom = GRID_Y + 6 * CELL
    parts.append(text(x, bottom + 24, "A row sees the columns that are filled.", "soft", 13))
    return [*parts, text(x, bottom + 44, "Rows of y never see x: the cut-off.", "warn", 13)]


def draw() -> str:
    """Return the picture."""
    dark = rules(DARK).replace("\n", "\n  ")
    return "\n".join(
        [
            '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 880 370" role="img" '
            'font-family="-apple-system, Segoe UI, Helvetica, Arial, sans-serif">',
            "  <title>The method: X to Z to Y, the way from X to Y cut off; the state of Z is the embedding</title>",
            f"  <style>\n    {rules(LIGHT)}",
            f"    @media (prefers-color-scheme: dark) {{\n      {dark}\n    }}\n  </style>",
            '  <rect class="card frame" x="1" y="1" width="878" height="368" rx="10"/>',
            *(f"  {part}" for part in [*stage_1(), *stage_2(), *mask()]),
            "</svg>\n",
        ]
    )


if __name__ == "__main__":
    PICTURE.write_text(draw(), encoding="utf-8")
