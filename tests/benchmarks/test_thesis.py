"""The thesis test: its budget, its arms, its summary."""

import dataclasses
import json

import numpy as np
import pytest
from toy_domains import rows

import lbr_st


def test_stage_1_reads_its_budget_of_tokens(tmp_path, argv, backbone):
    """Steps times batch times the mean length is the budget, in every arm."""
    import arms
    from arms import Lab

    lab = Lab(dataclasses.replace(arms.SCALES["nano"], backbone=str(backbone), stage1_tokens=5000), tmp_path / "work")
    domain = lab.domain("medical", tmp_path / "data")
    for stage in arms.STAGE1.values():
        if stage is None:
            continue
        model = lbr_st.from_backbone(str(backbone), num_bottleneck_tokens=1, max_seq_length=16)
        pairs, passages = (rows(domain.stage1("strict", of)) for of in ("pairs", "passages"))

        def count(text, model=model):
            return min(len(model.tokenizer(text, add_special_tokens=False)["input_ids"]), 15)

        def target(text, model=model):
            return min(len(model.tokenizer(text, add_special_tokens=False)["input_ids"]) + 1, 16)

        k = int(stage.arm.has_bottleneck)
        sft = np.mean([count(row["query"]) + k + target(row["document"]) for row in pairs])
        reconstruct = np.mean([k * (count(row["document"]) + 1) + target(row["document"]) for row in passages])
        means = {"sft": sft, "reconstruct": reconstruct, "sft:0.5,reconstruct:0.5": (sft + reconstruct) / 2}
        if stage.objective in means:
            assert lab.stage1_steps(domain, "strict", stage) == round(5000 / (means[stage.objective] * 2))


def test_thesis(tmp_path, argv, monkeypatch):
    """Every arm, its files, and the summary once all are there."""
    import arms
    import results
    import thesis

    for name, pairs in (("MAIN_PAIRS", 4), ("FEW_PAIRS", 2), ("MANY_PAIRS", 6)):
        monkeypatch.setattr(thesis, name, pairs)
    monkeypatch.setattr(thesis, "DOMAINS", ("chemistry",))
    monkeypatch.setattr(thesis, "SEEDS", (0,))
    monkeypatch.setattr(arms, "STAGE1", {name: arms.STAGE1[name] for name in ("none", "ibgl-mixture")})
    thesis.main([*argv, "--domains", "chemistry", "--regimes", "corpus-taught"])
    folder = tmp_path / "results" / "thesis"
    assert not (folder / "summary.json").exists()
    thesis.main([*argv, "--domains", "chemistry"])
    figures = json.loads((folder / "summary.json").read_text())["figures"]
    for regime, end in (("corpus-taught", ""), ("strict", "_strict")):
        arm = results.read_arm("thesis", f"chemistry-{regime}-ibgl-mixture-4", 0)
        assert figures[f"chemistry_ibgl_cl_recall_at_10_full_4{end}"] == round(arm["scores"]["recall_at_10_full"], 4)
        assert figures[f"chemistry_ibgl_cl_recall_at_10_full_4{end}_systematic"] == round(arms.hits_of([arm]).mean(), 4)
        cl = results.read_arm("thesis", "chemistry-none-4", 0)["scores"]["recall_at_10_full"]
        less = figures[f"chemistry_ibgl_cl_less_cl_recall_at_10_full_4{end}"]
        assert less == pytest.approx(arm["scores"]["recall_at_10_full"] - cl, abs=1e-3)
    assert len(list(folder.glob("*-seed0.json"))) == 2 + 2 + 5 + 2  # BM25s, grids, taught arms, strict arms


def test_order_of_the_thesis(argv):
    """Each arm once; those without stage 1 belong to both regimes."""
    import thesis

    names = [(arm.name, seed) for arm, seed in thesis.order()]
    # 1,000 pairs and 200, each corpus-taught and strict, the arms with three seeds and those with one; 5,000 pairs.
    of_domain = (9 * 3) + (6 * 3 + 2) + (7 * 3 + 2) + 6 + 5
    assert len(names) == len(set(names)) == 2 * of_domain
    assert names[0] == ("medical-none-1000", 0)
    assert ("chemistry-strict-gl-1000", 2) in names and ("chemistry-strict-gl-200", 1) not in names
    assert ("chemistry-strict-ibgl-sft-1000", 0) in names and ("chemistry-strict-ibgl-sft-1000", 1) not in names
    assert ("medical-corpus-taught-ibgl-sft-1000", 2) in names and ("medical-strict-ibgl-sft-200", 0) not in names
