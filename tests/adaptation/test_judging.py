"""What the report says to do after a verdict, and that the general score of a merge is that of the model it saves."""

from dataclasses import replace

import pytest

from lbr_st.adaptation.judging import next_steps, what_is_saved
from lbr_st.adaptation.layout import Layout
from lbr_st.verdict import Verdict

WIN = Verdict("WIN", 0.8, 0.1, 0.05, 0.15, 100, bm25=0.7, fused=0.85, outside=(0.5, 0.5))


@pytest.mark.parametrize(
    ("verdict", "saved", "said"),
    [
        (WIN, "end", ["Search with the new model:", "Together with BM25 it finds more:"]),
        (replace(WIN, fused=0.8), "end", ["Search with the new model:"]),
        (
            replace(WIN, word="MARGINAL", bm25=0.9, fused=0.9),
            "end",
            [
                "Search with the new model:",
                "BM25 alone finds more than the new model: search with both, or with BM25.",
                "The new model may find no more than the start. What may help: real queries with their documents "
                "(--pairs), a teacher (--teacher), more text.",
            ],
        ),
        (
            replace(WIN, word="REGRESSION", fused=0.9),
            "start",
            [
                "The new model finds less than the start. What may help: real queries with their documents (--pairs), "
                "a teacher (--teacher), more text.",
            ],
        ),
    ],
)
def test_what_to_do_next(config, verdict, saved, said):
    found = next_steps(Layout(config), verdict, saved, 0.3)
    assert [what for what, _ in found] == said
    commands = [command for _, command in found]
    if len(said) == 2:
        assert commands[1].endswith("--fuse bm25 --fuse-weight 0.3 'your question'")


@pytest.mark.parametrize(
    ("word", "keep", "saved"),
    [
        ("WIN", "better", "end"), ("MARGINAL", "better", "end"), ("REGRESSION", "better", "start"),
        ("REGRESSION", "end", "end"),
    ],
)  # fmt: skip
def test_what_is_saved(word, keep, saved):
    assert what_is_saved(Verdict(word, 0.5, 0.1, 0.0, 0.2, queries=9), keep) == saved
