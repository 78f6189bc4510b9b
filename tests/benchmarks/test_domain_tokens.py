"""The program that compares models with domain tokens and without, at toy size."""

import json

import numpy as np
import pytest
from helpers import make_backbone

from lbr_st.data.terms import read_terms


@pytest.mark.slow
def test_program(tmp_path, argv, monkeypatch):
    """Both arms of both domains: terms of training records alone, equal tokens, and the hits of each group."""
    import arms
    import domain_tokens as program
    import results
    import smollm2_thesis

    monkeypatch.setitem(arms.SCALES, "smollm2", arms.SCALES["nano"])
    monkeypatch.setattr(program, "LEAST_COUNT", 2)
    monkeypatch.setattr(smollm2_thesis, "FEW", 2)
    argv = [*argv[:-1], make_backbone(tmp_path / "backbone", "llama")]
    summary = tmp_path / "results" / "domain_tokens" / "summary.json"
    program.main([*argv, "--domains", "medical"])
    assert not summary.exists()
    program.main(argv)
    figures = json.loads(summary.read_text())["figures"]
    for domain, word in (("medical", "Train"), ("chemistry", "trainamine")):
        terms = read_terms(tmp_path / "work" / domain / "terms.jsonl")
        assert word in terms and not any("est" in term.lower() or "dev" in term.lower() for term in terms)
        assert figures[f"{domain}_terms"] == len(terms)
        assert figures[f"{domain}_terms_tokens_of_an_example"] < figures[f"{domain}_plain_tokens_of_an_example"]
    hits = {
        arm: arms.hits_of([results.read_arm("domain_tokens", f"chemistry-{arm}-4", program.SEED)])
        for arm in ("plain", "terms")
    }
    name = "chemistry_all_4_terms_less_plain_recall_at_10_full"
    assert figures[name] == pytest.approx(np.mean(hits["terms"] - hits["plain"]), abs=1e-4)
    assert figures["chemistry_all_4_queries"] == 4
    assert {f"{name}_low", "chemistry_plain_ndcg_at_10_full_0", "medical_with_term_2_queries"} <= set(figures)
    monkeypatch.setattr(program, "measure", lambda *args: pytest.fail("it is there"))
    program.main(argv)
