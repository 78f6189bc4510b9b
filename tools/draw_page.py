"""Draw the page of ``lbr serve``: ``python tools/draw_page.py URL`` writes ``docs/search_page.png``.

At URL is a server of the quickstart's model: ``lbr serve --model lbr-model --data docs``. It takes Chromium, and
playwright, which is there after ``make .integrations/chromium/.installed``:
``PYTHONPATH=.integrations/chromium python tools/draw_page.py http://127.0.0.1:8000``. This program is not in ``docs``,
where its question would be found.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

PICTURE = Path(__file__).parent.parent / "docs" / "search_page.png"
QUESTION = "remove near duplicates from my data"
WINDOW, SCALE = {"width": 1200, "height": 640}, 1.25  # in CSS pixels, and how many of the picture each is


def draw(url: str) -> None:
    """Ask the page the question, have it say what the vectors say, and write the picture."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"))
        page = browser.new_page(viewport=WINDOW, device_scale_factor=SCALE, color_scheme="light")
        page.goto(url)
        page.get_by_role("checkbox").check()
        page.get_by_role("searchbox").fill(QUESTION)
        page.keyboard.press("Enter")
        page.locator("li .words > *").first.wait_for(timeout=300_000)  # the language model is opened
        page.screenshot(path=PICTURE)
        browser.close()


if __name__ == "__main__":
    draw(sys.argv[1])
