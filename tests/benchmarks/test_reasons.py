"""The benchmark of reasons, at toy size: its questions, equal tokens of Y, and figures by another way of counting."""

import dataclasses
import json
import re
from collections import Counter

import numpy as np
import pytest


def test_answers_are_calculated_and_cannot_be_copied():
    """Each calculation is done again, from the numbers of the question alone."""
    from dosages import KINDS, numbers_in, problems

    drawn = problems(600, seed=0)
    assert drawn == problems(600, seed=0) != problems(600, seed=1)
    assert {kind: sum(each.kind == kind for each in drawn) for kind in KINDS} == dict.fromkeys(KINDS, 200)
    every = problems(4200, seed=0)  # as many as the program asks for
    numbers = [(each.kind, *sorted(re.findall(r"[\d.]*\d", each.query))) for each in every]
    assert len({*numbers}) == len(every) == 4200
    for each in drawn:
        [answer] = numbers_in(each.answer)
        assert answer not in numbers_in(each.query) | numbers_in(each.reasoning)
        *_, last = each.reasoning.split("; ")
        one, sign, other = last.split()[0], last.split()[2], last.split()[3]
        assert answer == pytest.approx(float(one) / float(other) if sign == "/" else float(one) * float(other))
        first = each.reasoning.split("; ")[0].split()[0]
        assert {float(first), float(other)} <= numbers_in(each.query)


@pytest.mark.slow
def test_program(tmp_path, monkeypatch):
    import reasons
    import results
    from dosages import KINDS

    monkeypatch.setattr(results, "RESAMPLES", 20)
    monkeypatch.setattr(reasons, "SEEDS", (0,))
    few = dataclasses.replace(reasons.SCALES["tiny"], target_tokens=400)
    monkeypatch.setitem(reasons.SCALES, "tiny", few)
    argv = ["--scale", "tiny", "--work-dir", str(tmp_path / "work")]
    reasons.main(argv)
    figures = json.loads((tmp_path / "results" / "reasons_tiny" / "summary.json").read_text())["figures"]
    found = {arm: results.read_arm("reasons_tiny", f"{arm}-16", 0) for arm in (*reasons.TARGETS, "none")}
    assert found["answers"]["steps"] > 2 * found["same-questions"]["steps"]
    assert found["same-questions"]["steps"] == found["reasons-answers"]["steps"]
    recall = {arm: np.mean([rank <= 10 for rank in each["ranks"]]) for arm, each in found.items()}
    assert figures["none_16_all_recall_at_10"] == pytest.approx(recall["none"], abs=1e-4)
    train, test = (bench_of(reasons, tmp_path, side) for side in ("train", "test"))
    often = {kind: Counter(each.answer for each in train if each.kind == kind).most_common(10) for kind in KINDS}
    expected = np.mean([each.answer in dict(often[each.kind]) for each in test])
    assert figures["commonest_all_recall_at_10"] == pytest.approx(expected, abs=1e-4)
    more = figures["reasons-answers_less_answers_16_all_recall_at_10"]
    assert more == pytest.approx(recall["reasons-answers"] - recall["answers"], abs=1e-4)
    assert {"eval_target_reasoning_loss", "eval_target_answer_loss"} <= found["reasons-answers"]["held_out"].keys()
    assert "eval_target_answer_loss" not in found["reasons"]["held_out"]
    rows = [json.loads(line) for line in (tmp_path / "work" / "tiny" / "pairs-16.jsonl").read_text().splitlines()]
    assert len(rows) == 16 and not {row["query"] for row in rows} & {each.query for each in bench_of(reasons, tmp_path)}
    monkeypatch.setattr(reasons.Bench, "measure", lambda *args: pytest.fail("it is there"))
    reasons.main(argv)


def bench_of(reasons, tmp_path, side="test"):
    """Return the questions of a side."""
    return reasons.Bench("", tmp_path, reasons.SCALES["tiny"], bf16=False).questions(side)
