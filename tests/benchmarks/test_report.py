"""Numbers, tables and pictures of the report, and its intervals."""

import importlib
import json

import pytest

from lbr_st.errors import InputError


class Half(dict):
    """Figures of a program that measured 0.5 of everything."""

    def __missing__(self, name):
        return 0.5

    def __contains__(self, name):
        return True

    def get(self, name, default=None):
        return self[name]


@pytest.fixture
def report(argv):
    """The program that writes the report, over results of a toy."""
    import report

    return report


def test_report(report, tmp_path):
    """Figures, tables and conditions are put in their places; what is not there says so, what cannot be is refused."""
    import results

    (results.RESULTS / "thesis").mkdir(parents=True)
    key = "medical_ibgl_cl_less_pt_cl_recall_at_10_full_1000"
    figures = {name: 0.25 for name in needed(report, "thesis")}
    figures |= {"medical_ibgl_cl_recall_at_10_full_1000": 0.7512, "medical_bm25_recall_at_10_full": 0.5}
    figures |= {key: 0.1, f"{key}_low": -0.01, f"{key}_high": 0.21}
    results.write_summary("thesis", figures, [results.conditions()], ["--data", "d"])
    template = "{{thesis:medical_ibgl_cl_recall_at_10_full_1000}} {{table:sceptic}} {{table1:x}} {{conditions:thesis}}"
    found = report.fill(template)
    assert found.startswith("0.751 | domain |")
    row = next(line for line in found.splitlines() if line.startswith("| medical | corpus-taught"))
    a_quarter = "+25.0 (+25.0 to +25.0)"
    assert row.endswith(f"| 0.751 | {a_quarter} | {a_quarter} | +10.0 (-1.0 to +21.0) | {a_quarter} | {a_quarter} |")
    assert "not measured yet" in found and "python benchmarks/thesis.py --data d" in found
    with pytest.raises(InputError, match="thesis has no figure nothing"):
        report.fill("{{thesis:nothing}}")
    with pytest.raises(InputError, match="there is no table nothing"):
        report.fill("{{table:nothing}}")
    report.main(["--output", str(tmp_path / "results.md")])
    written = (tmp_path / "results.md").read_text()
    assert "{{" not in written
    assert "![thesis](../benchmarks/results/thesis/thesis.png)" in written and "figure3.png" not in written
    assert (results.RESULTS / "thesis" / "thesis.png").stat().st_size > 10_000


def test_sections_that_are_not_measured(report):
    """A section whose program measured nothing is left out, and the one behind it is not."""
    import results

    (results.RESULTS / "thesis").mkdir(parents=True)
    results.write_summary("thesis", {}, [results.conditions()], [])
    kept = "# Results\n\nText.\n\n"
    template = kept + "## Missing\n\n{{conditions:table1}}\n\n### There\n\n{{conditions:thesis}}\n"
    assert report.measured(template) == kept + "### There\n\n{{conditions:thesis}}\n"


def test_conditions_of_two_machines(report):
    """Every commit, machine and version is named, once."""
    import results

    one = {"commit": "1" * 40, "versions": {"python": "3.11", "torch": "2.13"}, "hardware": "one CPU"}
    other = {"commit": "2" * 40, "versions": {"python": "3.11", "torch": "2.14"}, "hardware": "other CPU"}
    (results.RESULTS / "thesis").mkdir(parents=True)
    results.write_summary("thesis", {}, [one, other, one], ["--data", "d"])
    said = "`python benchmarks/thesis.py --data d`; commit 1111111111, 2222222222; one CPU and other CPU"
    assert report.fill("{{conditions:thesis}}") == f"{said}; python 3.11, torch 2.13 or 2.14"


def test_hours_of_the_evidence(report, monkeypatch):
    """Minutes of all arms, whole or step by step, by processor; an arm that trained nothing has none."""
    import results

    monkeypatch.setattr(results, "conditions", lambda: {"hardware": "A, 2 cores"})
    results.write_arm("thesis", "one", 0, {"minutes": {"stage1": 60.0, "scores": 30.0}})
    results.write_arm("thesis", "bm25", 0, {})
    monkeypatch.setattr(results, "conditions", lambda: {"hardware": "A, 4 cores"})
    results.write_arm("table4", "other", 0, {"minutes": 12.0})
    monkeypatch.setattr(results, "conditions", lambda: {"hardware": "B, 2 cores"})
    results.write_arm("figure3", "third", 0, {"minutes": 6.0})
    results.write_arm("joint", "of no arm of the evidence", 0, {"minutes": 600.0})
    assert report.fill("{{hours:evidence}}") == "1.7 on A and 0.1 on B"


def needed(report, program):
    """Return the names of all figures that the tables and pictures of a program ask for."""
    asked = set()

    class Asked(Half):
        def __missing__(self, name):
            asked.add(name)
            return 0.5

    for of, make in report.TABLES.values():
        if of == program:
            make(Asked())
    if program == "thesis":
        report.results.RESULTS.mkdir(exist_ok=True)
        report.draw_thesis(Asked(), report.results.RESULTS / "all.png")
    return asked


@pytest.mark.parametrize(
    "table",
    [
        "table1",
        "comparison",
        "table2",
        "table3",
        "table4",
        "table5",
        "grid",
        "table6",
        "figure3",
        "explore",
        "rate",
        "best_model",
        "adapt",
        "adapt-compared",
        "adapt-minutes",
        "ablation",
        "serving",
        "encode_speed",
    ],
)
def test_tables_of_the_report(report, table):
    """As many cells in every row, and none of them empty but where nothing is measured."""
    lines = report.TABLES[table][1](Half()).splitlines()
    assert len({line.count("|") for line in lines}) == 1 and len(lines) > 3
    empty = [cell for line in lines[2:] for cell in line.split("|")[2:-1] if not cell.strip()]
    assert not empty or table == "table3"  # differences are of the full corpus alone


def test_figures_of_the_thesis_are_those_of_the_report(report, monkeypatch):
    """Every figure that the report asks for is one that the program computes."""
    import results
    import thesis

    arm = {
        "scores": {f"{m}_at_10_{c}": 0.5 for m in ("recall", "ndcg") for c in ("test", "full")},
        "hits_at_10": {"full": "0101"},
        "dev_ndcg_at_10": {"x": 0.5},
    }
    monkeypatch.setattr(results, "read_arm", lambda *args: arm)
    figures = {}
    for domain in thesis.DOMAINS:
        figures |= thesis.figures_of(domain, ["trivial", "systematic"] * 2)
    assert needed(report, "thesis") <= set(figures)
    for domain in thesis.DOMAINS:
        for name in ("ibgl_cl", "cl", "gl_cl", "pt_cl"):
            assert f"{domain}_{name}_recall_at_10_full_1000" in figures


@pytest.mark.parametrize(
    "program", ["table1", "table2", "table3", "table4", "table5", "table6", "figure3", "explore", "rate"]
)
def test_summaries_have_the_figures_of_the_report(program, report, argv, lab, medical, monkeypatch):
    """Every figure that the report asks a program for, of all domains; and no summary of some domains alone."""
    import arms
    import results
    import table5
    from domains import Domain

    arm = {
        "scores": {f"{m}_at_10_{c}": 0.5 for m in ("recall", "ndcg") for c in ("test", "full")}
        | {f"{m}_{way}": 1.0 for m in ("bleu_4", "rouge_l") for way in ("open", "bottleneck")},
        "hits_at_10": {"full": "0101"}, "dev_ndcg_at_10": {"x": 0.5}, "best": [1e-3, 0.02],
        "tokens_per_second": 1000.0, "examples": 10, "bottleneck_tokens": 3, **results.conditions(),
    }  # fmt: skip
    monkeypatch.setattr(results, "is_measured", lambda *args: True)
    monkeypatch.setattr(results, "read_arm", lambda *args: arm)
    monkeypatch.setattr(arms.Lab, "domain", lambda self, name, data: Domain(name, medical.folder))
    monkeypatch.setattr(table5, "LEAST_TOKENS", 5)
    main, summary = importlib.import_module(program).main, results.RESULTS / program / "summary.json"
    summary.parent.mkdir(parents=True)
    if program != "table5":  # which has one
        main([*argv, "--domains", "medical"])
        assert not summary.exists()
    main(argv)
    figures = set(json.loads(summary.read_text())["figures"])
    if program == "explore":  # where what has no bottleneck token is not measured as it is
        assert figures <= needed(report, program) and len(figures) > 50
    else:
        assert needed(report, program) <= figures


def test_spread():
    import results

    found = results.spread("recall", [0.3, 0.1, 0.5])
    assert found == pytest.approx({"recall": 0.3, "recall_min": 0.1, "recall_max": 0.5})
