"""The evidence of adaptations, at toy size: arms, what they share, what goes on, and the figures."""

import dataclasses
import json
import random

import pytest
from helpers import make_backbone, make_bert
from toy_domains import rows
from transformers import AutoTokenizer

import lbr_st
from lbr_st.adaptation.query_text import Answer
from lbr_st.adaptation.writers import ChatWriter
from lbr_st.errors import InputError
from lbr_st.files import write_json, write_jsonl

CHAT = "{% for message in messages %}<user>{{ message['content'] }}\n{% endfor %}<assistant>"
SYLLABLES = ["ba", "de", "fi", "go", "ku", "la", "me", "ni", "po", "ru", "sa", "te"]


def text_of(seed, words):
    """Return made-up words, in which BM25 finds its way."""
    draw = random.Random(seed)
    return " ".join("".join(draw.choices(SYLLABLES, k=3)) for _ in range(words))


@pytest.fixture
def toy(tmp_path, argv, monkeypatch):
    """Arguments for the program, over one domain of made-up words and a model that writes their first ones."""
    import adapt
    import arms
    import systems

    for split, number in {"train": 60, "dev": 2, "test": 12}.items():
        write_jsonl(
            tmp_path / "data" / "medical" / f"{split}.jsonl",
            (
                {"id": f"{split}-{n}", "question": f"What is {text_of(f'{split}{n}', 2)}, {split} {n}?",
                 "answer": text_of(f"{split}{n}", 12), "focus": f"{split} {n}", "question_type": "t", "source": "s"}
                for n in range(number)
            ),
        )  # fmt: skip
    sizes = {"PAIRS": 30, "TESTED": 12, "DISTRACTORS": 48, "READ": 45, "WRITTEN_FOR": 45, "GENERAL": 6}
    without = {"without_merge": "merge"}
    begins = {adapt.WHOLE: adapt.BEGINS[adapt.WHOLE], "without_merge": (adapt.WHOLE, "merge")}
    more = {
        "DOMAINS": ("medical",),
        "WITHOUT": without,
        "BEGINS": begins,
        "MORE_LEARN": adapt.MORE_LEARN | {"max_steps": 1},
    }
    for name, value in (sizes | more).items():
        monkeypatch.setattr(adapt, name, value)
    stage2 = {"per_device_train_batch_size": 4, "mini_batch_size": 2, "attention": "eager"}
    scale = dataclasses.replace(arms.SCALES["nano"], length=64, records=60, epochs={30: 1}, stage2=stage2)
    monkeypatch.setitem(arms.SCALES, "nano", scale)
    teacher = make_bert(tmp_path / "teacher")
    monkeypatch.setattr(systems, "minilm", lambda: teacher)
    backbone = make_backbone(tmp_path / "chat", max_position_embeddings=1024)
    tokenizer = AutoTokenizer.from_pretrained(backbone)
    tokenizer.chat_template = CHAT
    tokenizer.save_pretrained(backbone)
    monkeypatch.setattr(
        ChatWriter,
        "write",
        lambda self, requests: (
            (each, Answer(f"What of {' '.join(each.passage.document.split()[:3])}?", True)) for each in requests
        ),
    )
    return ["--data", str(tmp_path / "data"), "--work-dir", str(tmp_path / "work"), "--scale", "nano",
            "--backbone", backbone]  # fmt: skip


@pytest.mark.slow
def test_arms_of_an_adaptation(toy, tmp_path, monkeypatch, capsys):
    """All arms and one ablation: what they read, take from each other and leave; one that is cut off goes on."""
    import adapt
    import report
    import results

    from lbr_st.adaptation import run, training_steps

    with monkeypatch.context() as cut:
        cut.setattr(training_steps, "align", lambda config: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            adapt.main([*toy, "--arms", "none"])
    folder = tmp_path / "work" / "medical"
    assert (folder / "adapt-none.work" / "6-learn" / "model").is_dir()
    with monkeypatch.context() as written:
        written.setattr(ChatWriter, "write", lambda *args: pytest.fail("written again"))
        adapt.main([*toy, "--arms", "none"])
    capsys.readouterr()
    monkeypatch.setattr(adapt, "adapt", lambda config: pytest.fail("run again") if "none" in str(config) else
                        run.adapt(config))  # fmt: skip
    adapt.main([*toy, "--ablate"])
    assert "not measured" not in capsys.readouterr().out
    assert not list(folder.glob("*.work")) and not list(folder.glob("adapt-*"))  # nothing is left of the models

    found = {arm: results.read_arm("adapt", f"medical-{arm}", 0) for arm in adapt.arms_of("medical")}
    assert not any("query" in row for row in rows(folder / "adapt" / "passages.jsonl"))
    assert found["none"]["steps"]["queries"].keys() == {"question", "keywords", "claim", "lost"}
    assert found["200"]["steps"]["queries"]["given"] == 30
    assert "merge" in found["200_teacher"]["steps"] and "merge" not in found["without_merge"]["steps"]
    for arm, of, taken in (("200_teacher", "200", "queries"), ("without_merge", "200_teacher", "align")):
        assert found[arm]["minutes_of_steps"][taken] == found[of]["minutes_of_steps"][taken]

    summary = json.loads((tmp_path / "results" / "adapt" / "summary.json").read_text())["figures"]
    bm25 = lbr_st.evaluate("bm25", folder / "test.jsonl", corpus_extra=folder / "adapt" / "distractors.jsonl")
    for metric in ("recall_at_10", "ndcg_at_10"):
        assert summary[f"medical_{metric}_bm25"] == pytest.approx(bm25[metric], abs=1e-4)
        assert summary[f"medical_{metric}_none_fused"] == round(found["none"]["scores"][f"{metric}_fused"], 4)
    assert summary["verdict_runs"] == 4
    assert "medical_minutes_without_merge_test" in summary
    for make, lines in ((report.of_adapt, 9), (report.of_adapt_compared, 9), (report.of_adapt_minutes, 3),
                        (report.of_ablation, 2)):  # fmt: skip
        table = make(summary).splitlines()[2:]
        assert len(table) == lines and not [line for line in table if "|  |" in line]


@pytest.mark.slow
def test_a_run_without_queries_is_a_result(toy, tmp_path, monkeypatch):
    """Of which the rest is said; what else is wrong is no result."""
    import adapt
    import results

    monkeypatch.setattr(
        ChatWriter, "write", lambda self, requests: ((each, Answer("What of ba?", True)) for each in requests[:1])
    )
    monkeypatch.setattr(adapt, "WRITTEN_FOR", 1)
    adapt.main([*toy, "--arms", "none"])
    refused = results.read_arm("adapt", "medical-none", 0)["refused"]
    assert refused.startswith("not one of 1 queries is left")
    summary = json.loads((tmp_path / "results" / "adapt" / "summary.json").read_text())["figures"]
    assert summary == {"medical_refused_none": 1}
    monkeypatch.setattr(adapt, "adapt", lambda config: (_ for _ in ()).throw(InputError("no room on the disk")))
    with pytest.raises(InputError, match="no room"):
        adapt.main([*toy, "--arms", "200"])


def test_the_beginning_of_a_document(argv, backbone):
    """As many of its tokens as are asked for, and no other text."""
    import adapt

    tokenizer = AutoTokenizer.from_pretrained(backbone)
    text = "Anaemia is treated with iron. Sorting a list takes long."
    cut = adapt.beginning(text, tokenizer, 5)
    assert text.startswith(cut) and len(tokenizer(cut)["input_ids"]) == 5 < len(tokenizer(text)["input_ids"])
    assert adapt.beginning(text, tokenizer, 500) == text


def result(hits, fused=None, difference=None, word=None):
    """Return the result of an arm that found some of four test questions."""
    found = {"scores": {"recall_at_10": hits.count("1") / 4}, "hits_at_10": {"": hits}}
    if fused is not None:
        found["scores"]["recall_at_10_fused"] = fused.count("1") / 4
        found["hits_at_10"]["_fused"] = fused
        found["minutes_of_steps"] = {"learn": 6.0, "test": 2.0}
        found |= {"verdict": {"difference": difference, "word": word}, "weight_beside_bm25": 0.4}
    return found


def test_figures_of_adaptations(argv):
    """Each by hand: two runs are right, by sign; of a third the start finds as much, and it said that it finds more."""
    import adapt

    figures = adapt.figures_of(
        {
            ("medical", "start"): result("1000"),
            ("medical", "bm25"): result("1100"),
            ("medical", "none"): result("1110", "1111", 0.1, "MARGINAL"),
            ("medical", "200"): result("0000", "1100", -0.3, "REGRESSION"),
            ("medical", "200_teacher"): result("0001", "0111", 0.2, "WIN"),
        }
    )
    assert figures["medical_recall_at_10_none"] == 0.75 and figures["medical_recall_at_10_none_fused"] == 1
    assert figures["medical_none_less_bm25_recall_at_10"] == 0.25
    assert figures["medical_none_fused_less_bm25_recall_at_10"] == 0.5
    assert figures["medical_200_less_200_teacher_recall_at_10"] == -0.25  # without a teacher
    assert figures["medical_minutes_none"] == 8 and figures["medical_minutes_200_learn"] == 6
    assert figures["verdict_right"] == pytest.approx(2 / 3) and figures["verdict_runs"] == 3
    assert "medical_200_teacher_less_teacher_recall_at_10" not in figures  # which is not measured


def test_steps_are_taken_up_to_one(tmp_path, argv):
    import adapt

    of, to = tmp_path / "of.work", tmp_path / "to.work"
    adapt.take_steps(of, to, "learn")
    assert not to.exists()  # there is nothing to take
    for name in ("1-start", "2-passages", "9-learn", "10-negatives"):
        (of / name).mkdir(parents=True)
        write_json(of / name / "lbr_step.json", {})
    write_json(of / "precision.json", {})
    adapt.take_steps(of, to, "negatives")
    assert sorted(each.name for each in to.iterdir()) == ["2-passages", "9-learn", "precision.json"]
    adapt.take_steps(of, to, "end")
    assert not (to / "10-negatives").exists()  # it has begun


@pytest.mark.parametrize(
    ("docstring", "found"),
    [
        (f"Return what a list holds. {'It is so. ' * 7}", ("Return what a list holds.", " ".join(["It is so."] * 7))),
        (f"Sort a list in place.\n\n{'word ' * 20}", ("Sort a list in place.", " ".join(["word"] * 20))),
        (f"Sort it.\n\n{'word ' * 20}", None),
        (f"Sort a list in place.\n\n{'word ' * 19}", None),
        (f"Sort a list in place.\n\nsort a list in  place. {'word ' * 20}", None),
        ("", None),
    ],
)  # fmt: skip
def test_what_a_docstring_asks(argv, docstring, found):
    import package_docs

    assert package_docs.question_of(docstring) == found


def test_documentation_of_packages(tmp_path, argv, monkeypatch):
    """Sides are apart by package, and each text is there once; too little of it is said."""
    import package_docs

    code = (
        '"""A module."""\n\n\ndef {}(x):\n    """Return the {} of many things.\n\n    ' + "word " * 20 + '{}\n    """\n'
    )
    for package in ("a", "b", "c", "d", "e", "f"):
        (tmp_path / f"{package}.py").write_text(code.format(package, package, package))
        (tmp_path / f"{package}_again.py").write_text(code.format(package, package, package))
    files = [(each.stem[0], each.relative_to(tmp_path), each) for each in sorted(tmp_path.glob("*.py"))]
    monkeypatch.setattr(package_docs, "_files_in_drawn_order", lambda: files)
    held_out = {each for each in "abcdef" if package_docs.group_of(each) == 2}
    domain = package_docs.prepare(tmp_path / "docs", len(held_out), 6 - len(held_out))
    assert 0 < len(held_out) < 6
    assert {row["id"][0] for row in rows(domain.test)} == held_out
    assert {row["id"][0] for row in rows(domain.pairs)} == set("abcdef") - held_out
    [first, *_] = rows(domain.pairs)
    name = first["id"][0]
    assert (first["id"], first["query"]) == (f"{name}.py:4", f"Return the {name} of many things.")
    assert first["document"] == f"{name}\n{'word ' * 20}{name}"
    with pytest.raises(InputError, match="document 6 functions for|document [1-5] functions for"):
        package_docs.prepare(tmp_path / "more", 7, 7)
    assert not (tmp_path / "more").exists()


def test_pinned_packages_are_read(argv):
    """Each in the version of constraints.txt, and no other."""
    import package_docs

    packages = {package for package, _, _ in package_docs._files_in_drawn_order()}
    assert "torch" in packages and "lbr-st" not in packages and "json" not in packages
