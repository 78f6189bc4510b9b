"""The curves of a run, point by point."""

import matplotlib.figure
import pytest

from lbr_st.alignment.run import CURVES as ALIGN
from lbr_st.learning.run import CURVES as LEARN
from lbr_st.training.curves import plot

pytestmark = pytest.mark.whole_run


def test_curves(tmp_path, monkeypatch):
    """Each number of the log is a point of the curve it belongs to; a panel without points is not drawn."""
    log = [
        {"step": 1, "loss": 3.0, "tokens_per_second": 10.0},
        {
            "step": 2,
            "eval_loss": 2.5,
            "eval_sft_loss": 2.0,
            "eval_prefix-suffix_loss": 3.0,
            "eval_runtime": 1.0,
            "eval_read_out_loss": 5.0,
            "eval_sft_read_out_loss": 4.0,
        },
        {"step": 3, "loss": 2.0, "tokens_per_second": 12.0},
        {"step": 4, "train_loss": 2.5, "train_runtime": 9.0},
    ]
    drawn = {}
    save = matplotlib.figure.Figure.savefig

    def look(self, *args, **kwargs):
        for axes in self.axes:
            drawn[axes.get_title()] = {line.get_label(): line.get_xydata().tolist() for line in axes.lines}
        save(self, *args, **kwargs)

    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", look)
    plot(log, tmp_path, LEARN)
    assert drawn == {
        "loss, nats per target token": {
            "training": [[1, 3.0], [3, 2.0]], "held out": [[2, 2.5]], "held out, sft": [[2, 2.0]],
            "held out, prefix-suffix": [[2, 3.0]],
        },
        "read-out loss, nats per target token": {"held out": [[2, 5.0]], "held out, sft": [[2, 4.0]]},
        "tokens per second": {"training": [[1, 10.0], [3, 12.0]]},
    }  # fmt: skip
    assert (tmp_path / "training.png").read_bytes().startswith(b"\x89PNG")
    assert [file.name for file in tmp_path.iterdir()] == ["training.png"]
    nothing = tmp_path / "nothing"
    nothing.mkdir()
    plot([{"step": 1, "train_loss": 1.0}], nothing, LEARN)
    assert not list(nothing.iterdir())


def test_curves_of_stage_2(tmp_path, monkeypatch):
    """What a real log has: every panel, and the parts of a joint loss beside it."""
    numbers = ["recall@10", "ndcg@10"]
    log = [
        {"step": 0, **{f"eval_dev_cosine_{name}": 0.1 for name in numbers}, "eval_dev_variance": 0.5},
        {"step": 1, "loss": 3.0, "contrastive": 2.0, "lm": 1.0, "grad_norm": 1.0},
        {"step": 2, "eval_dev_mean_cosine": 0.4, "eval_dev_alignment": 1.0, "eval_dev_uniformity": -1.0},
        {"step": 3, "eval_dev_separation_ratio": 2.0, "eval_dev_lm_loss": 4.0},
    ]
    titles = []
    save = matplotlib.figure.Figure.savefig

    def look(self, *args, **kwargs):
        titles.extend(axes.get_title() for axes in self.axes if axes.get_visible())
        lines.update({line.get_label(): line.get_xydata().tolist() for axes in self.axes for line in axes.lines})
        save(self, *args, **kwargs)

    lines = {}
    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", look)
    plot(log, tmp_path, ALIGN)
    assert titles == list(ALIGN)
    assert lines["InfoNCE"] == [[1, 2.0]] and lines["nDCG@10"] == [[0, 0.1]] and lines["alignment"] == [[2, 1.0]]
