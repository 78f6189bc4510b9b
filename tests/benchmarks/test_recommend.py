"""The benchmark of recommending, at toy size: every arm, and figures by another way of counting."""

import json

import numpy as np
import pytest

from lbr_st.errors import InputError


def test_program_of_recommend(tmp_path, monkeypatch):
    import recommend
    import results

    monkeypatch.setattr(results, "RESAMPLES", 20)
    monkeypatch.setitem(recommend.SEEDS, "tiny", (0,))
    argv = ["--scale", "tiny", "--work-dir", str(tmp_path / "work")]
    recommend.main(argv)
    figures = json.loads((tmp_path / "results" / "recommend_tiny" / "summary.json").read_text())["figures"]
    ranks = {
        arm: np.array(results.read_arm("recommend_tiny", arm, 0)["ranks"]["joined"]["test"]["full"])
        for arm in ("preloaded", "random")
    }
    of = {arm: np.mean([1 / np.log2(1 + rank) if rank < 11 else 0 for rank in each]) for arm, each in ranks.items()}
    assert figures["preloaded_joined_full_ndcg_at_10"] == pytest.approx(of["preloaded"])
    assert figures["preloaded_less_random"] == pytest.approx(of["preloaded"] - of["random"])
    assert figures["lightgcn_lightgcn_full_ndcg_at_10"] > figures["popularity_popularity_full_ndcg_at_10"]
    unseen = results.read_arm("recommend_tiny", "unseen", 0)
    assert len(unseen["unseen_users"]) == len(unseen["unseen_items"]) == 4
    assert len(unseen["unseen"]["users"]["language model"]) == 4
    monkeypatch.setattr(recommend.Bench, "trained", lambda *args: pytest.fail("trained again"))
    recommend.main(argv)
    with pytest.raises(InputError, match="name a small language model"):
        recommend.main(["--data", str(tmp_path)])
