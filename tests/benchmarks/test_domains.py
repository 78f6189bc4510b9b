"""What each stage may read, and what is held out."""

import pytest
from toy_domains import rows


def test_what_is_held_out_is_not_taught(tmp_path, argv):
    """No disease of a test question in stage 2, no test question in either; the passages in one regime only."""
    import domains

    domain = domains.prepare("medical", tmp_path / "data", tmp_path / "medical", pairs=20, records=20)
    held_out = {row[key] for file in (domain.dev, domain.test) for row in rows(file) for key in ("query", "document")}
    assert len(rows(domain.pairs)) == 11
    assert not [row for row in rows(domain.pairs) if "Test 0" in row["query"]]
    strict = rows(domain.stage1("strict", "pairs"))
    assert len(strict) == 12
    assert not held_out & {row[key] for row in strict for key in ("query", "document")}
    taught = rows(domain.stage1("corpus-taught", "pairs"))
    more = [row for row in taught if row not in strict]
    assert {row["document"] for row in more} == {text for text in held_out if text.startswith("The")}
    assert not held_out & {row["query"] for row in taught}
    assert {"query": "Test 0 disease", "document": "The Test 0 disease is test 0.", "id": "test-0"} in taught
    passages = rows(domain.stage1("corpus-taught", "passages"))
    assert {"id": "test-0", "document": "Test 0 disease\nThe Test 0 disease is test 0."} in passages
    assert [row["id"] for row in passages] == [row["id"] for row in taught]
    assert {row["id"] for row in rows(domain.full)} == {f"train-{n}" for n in range(12)}


def test_a_near_spelling_is_no_alias(tmp_path, argv):
    import domains

    domain = domains.prepare("chemistry", tmp_path / "data", tmp_path / "chemistry", pairs=4, records=6)
    taught = {row["id"]: row["query"] for row in rows(domain.stage1("corpus-taught", "pairs"))}
    assert taught["test-0"] == "test oil 0"
    assert len(taught) == 6 + 8
    assert len(rows(domain.pairs)) == 4
    assert {row["id"] for row in rows(domain.pairs)} <= {row["id"] for row in rows(domain.full)}
    assert domains.likeness("1-naphthyl amine", "1-Naphthylamine") == 1
    kinds = {"names": ["vx"], "formula": "C", "iupac": "n-[2-[ethoxy(methyl)phosphoryl]]", "smiles": "C", "id": "1"}
    assert domains.chemistry_record(kinds)["kind"] == "trivial"
    assert domains.chemistry_record(kinds)["title"] == "C"
    assert domains.chemistry_record(kinds | {"names": ["2,3-dichloronitrobenzene"]})["kind"] == "systematic"


def test_groups_of_packages_are_apart(monkeypatch):
    """Backbone, domain and test are of different packages."""
    import domains

    pairs = [
        {"id": str(n), "query": f"does {n}", "document": f"def f{n}(self):\n    return {n}", "package": f"p{n % 40}"}
        for n in range(400)
    ]
    monkeypatch.setattr(domains, "installed_pairs", lambda: iter(pairs))
    monkeypatch.setattr(domains, "CODE_SIZES", {"dev": 5, "test": 5})
    splits = domains.code_records()
    packages = {split: {record["topic"] for record in records} for split, records in splits.items()}
    assert not packages["train"] & (packages["dev"] | packages["test"])
    assert {domains.group_of(package) for package in packages["train"]} == {1}
    assert len(splits["dev"]) == len(splits["test"]) == 5
    assert next(record["title"] for record in splits["train"]).startswith("f")


def test_files_of_other_sizes_are_not_taken(tmp_path, argv):
    """A scale that wants other files is refused; the same ones are written once."""
    import domains

    from lbr_st.errors import InputError

    folder = tmp_path / "medical"
    domain = domains.prepare("medical", tmp_path / "data", folder, pairs=4, records=6)
    domain.dev.unlink()
    assert domains.prepare("medical", tmp_path / "data", folder, pairs=4, records=6) == domain
    assert not domain.dev.exists()
    for pairs, records in ((3, 6), (4, 5)):
        with pytest.raises(InputError, match=f"medical was made of .*, not of .*'records': {records}.*--work-dir"):
            domains.prepare("medical", tmp_path / "data", folder, pairs=pairs, records=records)
    (tmp_path / "data" / "medical" / "test.jsonl").write_text("{}\n")
    with pytest.raises(InputError, match="medical was made of"):
        domains.prepare("medical", tmp_path / "data", folder, pairs=4, records=6)
