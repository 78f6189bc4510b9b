"""The picture of the method: what is drawn is the mask that stage 1 has, and the file is what the script writes.

That of the page is small; integrations/test_page.py draws one.
"""

import importlib.util
from xml.etree import ElementTree

import torch
from helpers import ROOT

from lbr_st.model.cutoff import BOTTLENECK, SOURCE, TARGET, cutoff_rule

spec = importlib.util.spec_from_file_location("draw_method", ROOT / "docs" / "draw_method.py")
draw_method = importlib.util.module_from_spec(spec)
spec.loader.exec_module(draw_method)


def test_drawn_mask_is_that_of_stage_1():
    parts = {"X": SOURCE, "Z": BOTTLENECK, "Y": TARGET}
    rule = cutoff_rule(torch.tensor([[parts[letter] for letter in draw_method.TOKENS]]))
    zero = torch.tensor(0)
    for row in range(len(draw_method.TOKENS)):
        for column in range(len(draw_method.TOKENS)):
            allowed = column <= row and bool(rule(zero, zero, torch.tensor(row), torch.tensor(column)))
            assert draw_method.may_see(row, column) == allowed


def test_file_is_what_the_script_draws():
    drawn = draw_method.draw()
    assert draw_method.PICTURE.read_text(encoding="utf-8") == drawn
    ElementTree.fromstring(drawn)
    assert "prefers-color-scheme: dark" in drawn


def test_the_picture_of_the_page_is_small():
    picture = (ROOT / "docs" / "search_page.png").read_bytes()
    assert picture.startswith(b"\x89PNG") and len(picture) < 300_000
