"""The command `lbr evaluate`: own pairs or public tests, several models in one table."""

import pytest
from helpers import TEXTS, make_bert
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Router
from sentence_transformers.sentence_transformer.modules import StaticEmbedding

import lbr_st
from lbr_st.cli import evaluate as command
from lbr_st.cli.evaluate import main
from lbr_st.errors import InputError
from lbr_st.evaluation.own_data import local_task
from lbr_st.evaluation.public_tests import Outcome
from lbr_st.evaluation.tables import score_table
from lbr_st.files import write_jsonl
from lbr_st.model.contract import fingerprint
from lbr_st.model.encoding import TextEncoder
from lbr_st.publish.results import results_of
from lbr_st.use.encode import EncodeConfig, encode_corpus

A_NUMBER = "must be a whole number from 1 to 2,147,483,647"
PAIRS = [{"id": f"p{n}", "question": f"{n} {q}", "answer": f"{n} {d}"} for n in range(12) for q, d in [TEXTS[:2]]]


@pytest.fixture
def pairs(tmp_path):
    write_jsonl(tmp_path / "test.jsonl", PAIRS)
    write_jsonl(tmp_path / "train.jsonl", [{"text": text} for text in TEXTS])
    return str(tmp_path / "test.jsonl")


def test_a_table_of_models(model, pairs, tmp_path, capsys):
    folder, results = str(tmp_path / "model"), str(tmp_path / "results")
    lbr_st.save(model, folder)
    flags = ["--data", pairs, "--corpus-extra", str(tmp_path / "train.jsonl"), "--results-dir", results]
    main(["--model", "bm25", folder, *flags])
    printed = capsys.readouterr().out
    labels = {"bm25 (English)": "bm25", folder: folder}
    extra = tmp_path / "train.jsonl"
    scores = {label: lbr_st.evaluate(name, pairs, corpus_extra=extra) for label, name in labels.items()}
    assert printed == (
        f"\n12 queries, 18 documents\n{score_table(scores)}\n\nSaved mteb's result files in {results}.\n"
        f"next: lbr search --model {folder} --data {pairs} 'your question'\n"
    )
    assert len(list((tmp_path / "results").rglob("test-train-*.json"))) == 2


def test_models_with_bm25(model, pairs, tmp_path, capsys):
    """Three rows for each model, beside BM25; with the weight that is given, or chosen on other pairs."""
    folder, results = str(tmp_path / "model"), str(tmp_path / "results")
    lbr_st.save(model, folder)
    write_jsonl(tmp_path / "dev.jsonl", [{"question": "Sorting a list?", "answer": TEXTS[4]}])
    dev = str(tmp_path / "dev.jsonl")
    flags = ["--model", folder, "--data", pairs, "--results-dir", results, "--fuse", "bm25"]
    for more, weight in (([], "0.7"), (["--fuse-weight", "0.25"], "0.25"), (["--fuse-dev", dev], None)):
        main([*flags, *more])
        printed = capsys.readouterr().out
        rows = [line for line in printed.splitlines() if line.startswith("| ") and "---" not in line]
        names = [row.split("|")[1].strip() for row in rows]
        if weight is None:
            weight = printed.split("--fuse-weight ")[1].split()[0]
            assert float(weight) in [tenths / 10 for tenths in range(11)]
        of_both = [f"{folder}, with BM25 ({how})" for how in ("by ranks", f"{weight} of its scores")]
        assert names == ["model", "bm25 (English)", folder, *of_both]
        assert f"lbr search --model {folder} --fuse bm25 --fuse-weight {weight} --data {pairs} " in printed
    assert float(rows[1].split("|")[3]) == pytest.approx(lbr_st.evaluate("bm25", pairs)["ndcg_at_10"], abs=1e-3)
    seen = {path.parent.parent.name for path in (tmp_path / "results").rglob("test-*.json")}
    assert {"local__model", "local__model-with-bm25-rrf", "local__model-with-bm25-0.25"} <= seen
    of_the_model = {path.parent.parent.name for path in results_of(results, folder)}
    assert of_the_model == {"local__model"}  # whose card has no scores of both


@pytest.fixture
def vectors(model, pairs, tmp_path):
    """Encode all documents with a model; return the folders of both."""
    lbr_st.save(model, tmp_path / "model")
    sources = [pairs, str(tmp_path / "train.jsonl")]

    def encode(precision="float32", data=sources):
        folder = tmp_path / precision
        settings = {"precision": precision, "with_text": True, "shard_rows": 7}
        encode_corpus(EncodeConfig(model=str(tmp_path / "model"), data=data, output_dir=folder, **settings))
        return str(tmp_path / "model"), str(folder)

    return encode


def test_vectors_that_are_there(vectors, pairs, tmp_path, capsys, monkeypatch):
    """The same scores, alone and with BM25, and nothing but the queries is encoded."""
    folder, of_documents = vectors()
    flags = [
        "--data",
        pairs,
        "--corpus-extra",
        str(tmp_path / "train.jsonl"),
        "--results-dir",
        str(tmp_path / "results"),
    ]
    fused, printed = ["--fuse", "bm25"], []
    for more in ([], fused):
        main(["--model", "bm25", folder, *flags, *more])
        printed.append(capsys.readouterr().out)
    roles, encode = set(), TextEncoder.encode

    def kept(self, texts, role, *args, **kwargs):
        roles.add(role)
        return encode(self, texts, role, *args, **kwargs)

    monkeypatch.setattr(TextEncoder, "encode", kept)
    monkeypatch.setattr("lbr_st.evaluation.own_data.rows_within", lambda *bounds: 5)
    for more, expected in zip((["--memory-mib", "1"], fused), printed, strict=True):
        main(["--model", "bm25", folder, *flags, *more, "--vectors", of_documents])
        assert capsys.readouterr().out == expected.replace(f"--data {pairs}", f"--data {of_documents}")
    assert roles == {"query"}


def test_vectors_in_int8_have_scores_of_their_own(vectors, pairs, tmp_path, capsys):
    """In the table, and where mteb files them: the card of the model does not show them."""
    folder, of_documents = vectors("int8")
    results = tmp_path / "results"
    flags = ["--corpus-extra", str(tmp_path / "train.jsonl"), "--results-dir", str(results)]
    main(["--model", folder, "--data", pairs, *flags, "--vectors", of_documents])
    assert f"| {folder} (int8) |" in capsys.readouterr().out
    [file] = results.rglob("test-train-*.json")
    revision = fingerprint(folder)[:40]
    assert file.parent.name == f"{revision}-int8" and file.parent.parent.name == "local__model-int8"
    assert list(results_of(results, folder)) == []


def test_vectors_that_are_not_those_of_all_documents(vectors, pairs, tmp_path, monkeypatch):
    """Of another model, without one of the documents, of the test or of dev; before a model is opened."""
    folder, of_documents = vectors(data=pairs)
    monkeypatch.setattr(command, "open_for_evaluation", None)
    flags = ["--data", pairs, "--results-dir", str(tmp_path / "results"), "--vectors", of_documents]
    with pytest.raises(InputError, match=r"^--vectors .*float32: 6 of 18 documents are not in it, such as "):
        main(["--model", folder, *flags, "--corpus-extra", str(tmp_path / "train.jsonl")])
    write_jsonl(tmp_path / "dev.jsonl", [{"question": "Sorting a list?", "answer": TEXTS[4]}])
    with pytest.raises(InputError, match=r"^--vectors .*float32: 1 of 13 documents are not in it, such as "):
        main(["--model", folder, *flags, "--fuse", "bm25", "--fuse-dev", str(tmp_path / "dev.jsonl")])
    other = make_bert(tmp_path / "bert")
    with pytest.raises(InputError, match=f"was encoded with another model, {folder}; encode it with {other}"):
        main(["--model", folder, other, *flags])
    monkeypatch.setattr(command, "local_task", None)  # vectors that are none are refused before the data are read
    with pytest.raises(InputError, match="^typo holds no vectors: lbr encode makes such a folder$"):
        main(["--model", folder, "--data", pairs, "--vectors", "typo"])


def test_two_encoders_in_one_directory_are_scored_without_a_word_of_mteb(model, pairs, tmp_path, capsys, caplog):
    """It looks for a vocabulary and a longest text, which a table of words has not."""
    bert = SentenceTransformer(make_bert(tmp_path / "bert"))
    table = StaticEmbedding(bert.tokenizer, embedding_dim=16)
    router = Router.for_query_document([table], list(bert.children()))
    SentenceTransformer(modules=[router]).save_pretrained(str(tmp_path / "router"))
    caplog.clear()
    main(["--model", str(tmp_path / "router"), "--data", pairs, "--results-dir", str(tmp_path / "results")])
    assert "12 queries, 12 documents" in capsys.readouterr().out
    assert not [each for each in caplog.records if not each.name.startswith("lbr_st")]


def test_dev_is_searched_in_the_same_corpus(pairs, tmp_path):
    """And in its own documents."""
    write_jsonl(tmp_path / "dev.jsonl", [{"question": "Sorting a list?", "answer": TEXTS[4]}])
    task = local_task(pairs)
    dev = command.dev_task(str(tmp_path / "dev.jsonl"), None, task)
    assert set(dev.documents) == {*task.documents, TEXTS[4]} and list(dev.queries) == ["Sorting a list?"]
    write_jsonl(tmp_path / "same.jsonl", [PAIRS[0], {"question": "why", "answer": "so"}])
    with pytest.raises(
        InputError, match="same.jsonl: 1 of its 2 queries are in --data too; choose the weight on others"
    ):
        command.dev_task(str(tmp_path / "same.jsonl"), None, task)


def test_public_tests(tmp_path, monkeypatch, capsys):
    """Which tasks and models are run, and what is shown of them."""
    asked = []

    def evaluate_on_tasks(models, tasks, results_dir):
        asked.append((models, tasks, results_dir))
        return [Outcome("NFCorpus", "ndcg_at_10", dict.fromkeys(models, 0.25)), Outcome("SciFact", "map", {}, "gone")]

    monkeypatch.setattr(command, "tasks_of", lambda names: [f"task {name}" for name in names])
    monkeypatch.setattr(command, "check_searchers", lambda names, check: None)
    monkeypatch.setattr(command, "open_for_evaluation", lambda name, batch_tokens, _, variant: (batch_tokens, variant))
    monkeypatch.setattr(command, "evaluate_on_tasks", evaluate_on_tasks)
    monkeypatch.setattr(command, "trained_on", lambda name: {"NFCorpus"} if name == "ours" else set())
    flags = ["--batch-tokens", "3", "--dimensions", "8"]
    main(["--model", "bm25", "ours", "--tasks", "NFCorpus", "SciFact", *flags])
    assert asked == [({"bm25": (3, ""), "ours": (3, "-8d")}, ["task NFCorpus", "task SciFact"], "results")]
    printed = capsys.readouterr().out
    assert "| NFCorpus | 0.2500 | (trained on) 0.2500 | ndcg_at_10 |" in printed
    assert "Not run, 1 of 2:\n  SciFact: gone" in printed
    assert printed.endswith("Saved mteb's result files in results.\n")  # a card has no scores of fewer dimensions
    main(["--model", "ours", "--tasks", "NFCorpus", "SciFact"])
    assert capsys.readouterr().out.endswith("next: lbr publish card --model ours --results-dir results\n")


@pytest.mark.slow
def test_nothing_can_be_run(tmp_path, capsys):
    """What mteb's loader says of SciFact without a network."""
    with pytest.raises(
        InputError, match=r"not one task could be run \(SciFact: .*\); where data are missing: is there a network"
    ):
        main(["--model", "bm25", "--tasks", "SciFact", "--results-dir", str(tmp_path)])
    assert capsys.readouterr().out == ""


def test_refusals(backbone, pairs, monkeypatch):
    for flags, message in (
        ([], "lbr evaluate: one of the arguments --data --tasks is required"),
        (["--data", pairs, "--tasks", "NFCorpus"], "argument --tasks: not allowed with argument --data"),
        (["--tasks", "NFCorpus", "--corpus-extra", pairs], "lbr evaluate: --corpus-extra goes with --data"),
        (["--tasks", "NFCorpus", "--min-score", "1"], "lbr evaluate: --min-score goes with --data"),
        (["--tasks", "NFCorpus", "--fuse", "bm25"], "lbr evaluate: --fuse goes with --data"),
        (["--tasks", "NFCorpus", "--vectors", pairs], "lbr evaluate: --vectors goes with --data"),
        (["--tasks", "NFCorpus", "--memory-mib", "1"], "lbr evaluate: --memory-mib goes with --data"),
        (["--data", pairs, "--fuse", "bm25", "--memory-mib", "1"], "--memory-mib goes without --fuse, which keeps"),
        (["--data", pairs, "--fuse-dev", pairs], "lbr evaluate: --fuse-dev goes with --fuse bm25"),
        (["--data", pairs, "--fuse-weight", "0"], "lbr evaluate: --fuse-weight goes with --fuse bm25"),
        (["--data", pairs, "--fuse-weight", "0", "--fuse-dev", pairs], "not allowed with argument --fuse-weight"),
        (["--data", pairs, "--batch-tokens", "0"], f"argument --batch-tokens: {A_NUMBER}, got 0"),
        (["--data", pairs, "--batch-tokens", str(2**63)], f"argument --batch-tokens: {A_NUMBER}, got {2**63}"),
        (["--data", "absent.jsonl"], "is a language model, not an embedding model"),  # the model is looked at first
    ):
        with pytest.raises(InputError) as error:
            main(["--model", "bm25", backbone, *flags])
        assert message in str(error.value)
    with pytest.raises(InputError, match="^lbr evaluate: --model names bm25 twice"):
        main(["--model", "bm25", backbone, "bm25", "--data", pairs])
    with pytest.raises(InputError, match="--fuse bm25: give a --model to fuse with it"):
        main(["--model", "bm25", "--data", pairs, "--fuse", "bm25"])
    for flag, value in (("runtime", "onnx"), ("dtype", "float16"), ("dimensions", "8"), ("memory-mib", "9")):
        with pytest.raises(InputError, match=f"--{flag} goes with an embedding model, and bm25 counts words"):
            main(["--model", "bm25", "--data", pairs, f"--{flag}", value])
    with pytest.raises(InputError, match="--vectors goes with the --model that they were encoded with"):
        main(["--model", "bm25", "--data", pairs, "--vectors", pairs])
    for flags, message in (
        (["--model", "bm25", "--data", "absent.jsonl"], "absent.jsonl: no such file"),
        (["--model", "bm26"], "--model bm26: no such directory; is bm25 meant?"),
        (["--model", "BM25"], "--model BM25: no such directory; is bm25 meant?"),
        (["--model", "bm25", "./absent"], "--model ./absent is not a model: no such directory"),
        (["--model", "bm25", "--results-dir", pairs], f"--results-dir {pairs} is a file; a folder is needed"),
        (["--model", "bm25", "--results-dir", f"{pairs}/in"], f"--results-dir {pairs}/in: {pairs} is a file"),
    ):
        with pytest.raises(InputError) as error:
            main([*flags, "--data", "absent.jsonl"])  # before the data are read
        assert message in str(error.value)
    monkeypatch.setattr(command, "evaluate", lambda *args, **kwargs: pytest.fail("a model was scored"))
    with pytest.raises(InputError, match="never-saved is not a model"):  # before the first one is scored
        main(["--model", "bm25", "never-saved", "--data", pairs])
