"""The command `lbr inspect`, for a saved model of this package and for any other."""

import shlex

import pytest
from helpers import PAIRS, make_bert
from sentence_transformers import SentenceTransformer

import lbr_st
from lbr_st.cli.inspect import main
from lbr_st.errors import InputError
from lbr_st.evaluation.inspect import MEANINGS, inspect
from lbr_st.evaluation.read_out import read_out, warn_of_unlearned
from lbr_st.files import write_jsonl

RECORDS = [{"id": str(n), **pair} for n, pair in enumerate(PAIRS)]


@pytest.fixture
def pairs(tmp_path):
    write_jsonl(tmp_path / "pairs.jsonl", RECORDS)
    return str(tmp_path / "pairs.jsonl")


def test_a_model_of_this_package(model, pairs, tmp_path, capsys):
    lbr_st.save(model, tmp_path / "ours")
    capsys.readouterr()
    main(["--model", str(tmp_path / "ours"), "--data", pairs])
    printed = capsys.readouterr().out
    expected = inspect(model, RECORDS)
    head, *lines, _, last = printed.splitlines()
    assert head == "3 queries, 3 documents"
    numbers = {line[:17].strip(): line[17:].split()[0] for line in lines if line[:17].strip()}
    assert set(numbers) == set(MEANINGS)
    assert all(float(value) == pytest.approx(expected[name], abs=1e-3) for name, value in numbers.items())
    assert f"{expected['low']:8.4f} to {expected['high']:.4f}" in printed
    assert last == f"next: lbr evaluate --model {tmp_path / 'ours'} bm25 --data {pairs}"
    others = [{"query": RECORDS[0]["query"], "document": text, "score": 0.2} for text in ("another", "one more")]
    write_jsonl(tmp_path / "judged.jsonl", [*({**record, "score": 0.9} for record in RECORDS), *others])
    judged = str(tmp_path / "judged.jsonl")
    main(["--model", str(tmp_path / "ours"), "--data", judged, "--min-score", "0.5", "--on-error", "skip"])
    head, *_, last = capsys.readouterr().out.splitlines()
    assert head == "3 queries, 5 documents" and last.endswith(f"--data {judged} --min-score 0.5 --on-error skip")
    (tmp_path / "ours" / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(InputError, match="ours"):
        main(["--model", str(tmp_path / "ours"), "--data", pairs])


def test_a_text_in_words(model, tmp_path, capsys):
    lbr_st.save(model, tmp_path / "ours")
    capsys.readouterr()
    texts = [PAIRS[0]["query"], "a"]
    main(["--model", str(tmp_path / "ours"), *texts])
    lines = capsys.readouterr().out.splitlines()
    assert lines[:4:2] == texts
    assert lines[-1] == f"next: lbr search --model {tmp_path / 'ours'} --data DOCUMENTS {shlex.quote(texts[0])}"
    for line, words in zip(lines[1:4:2], read_out(model, texts), strict=True):
        assert line == "    " + ", ".join(f"{word} {weight:.2f}" for word, weight in words)
    with pytest.raises(InputError, match="--min-score goes with --data: a text has no judgements"):
        main(["--model", str(tmp_path / "ours"), "--min-score", "1", "a"])
    with pytest.raises(InputError, match="nothing to look at: give --data, or a text"):
        main(["--model", str(tmp_path / "ours")])


def test_what_cannot_be_said_in_words(model, pairs, tmp_path, caplog):
    """A file is no text, another model has no words, and one that never learned any says so."""
    bert = make_bert(tmp_path / "bert")
    with pytest.raises(
        InputError, match="^lbr inspect: .*pairs.jsonl is a file or folder here, .* asked as a text; --d"
    ):
        main(["--model", bert, "--data", pairs, pairs])
    with pytest.raises(
        InputError, match="only a model of lbr-st says its embeddings in words, and .* is none; give --data"
    ):
        main(["--model", bert, "--data", pairs, "iron"])
    for weight, said in ((0.5, False), (0.0, True)):
        model[0].history = [{"stage": "learn", "read_out_weight": weight}, {"stage": "align"}]
        caplog.clear()
        warn_of_unlearned(model)
        assert ("no stage of this model learned with the read-out loss" in caplog.text) is said


def test_any_other_model(pairs, tmp_path, capsys):
    bert = make_bert(tmp_path / "bert")
    main(["--model", bert, "--data", pairs])
    printed = capsys.readouterr().out
    found = inspect(SentenceTransformer(bert), RECORDS)
    assert f"Separation Ratio  {found['Separation Ratio']:8.4f} " in printed
    assert "nats" not in found and "bottleneck" not in printed


def test_the_least_score_of_an_answer(tmp_path, capsys):
    """And which columns were read for it."""
    rows = [{**record, "score": score} for record in RECORDS for score in (0.2, 0.8)]
    write_jsonl(tmp_path / "scored.jsonl", rows)
    argv = ["--model", make_bert(tmp_path / "bert"), "--data", str(tmp_path / "scored.jsonl")]
    with pytest.raises(InputError, match="column 'score' grades the documents .0.2.: say --min-score S"):
        main(argv)
    main([*argv, "--min-score", "0.5"])
    assert capsys.readouterr().out.startswith("3 queries, 3 documents\n")


def test_refusals(backbone, pairs, tmp_path):
    with pytest.raises(InputError, match="^lbr inspect: argument --batch-size: must be a whole number .*, got 0"):
        main(["--model", backbone, "--data", pairs, "--batch-size", "0"])
    with pytest.raises(InputError, match="is a language model, not an embedding model"):  # it is looked at first
        main(["--model", backbone, "--data", str(tmp_path / "absent.jsonl")])
    with pytest.raises(InputError, match="--model ./absent is not a model"):
        main(["--model", "./absent", "--data", str(tmp_path / "absent.jsonl")])


def test_half_a_character_is_cleaned_and_nothing_is_refused(model, tmp_path, capsys):
    lbr_st.save(model, tmp_path / "model")
    with pytest.raises(InputError, match="a text is empty"):
        main(["--model", str(tmp_path / "model"), " "])
    main(["--model", str(tmp_path / "model"), "iron \ud83d"])
    assert capsys.readouterr().out.startswith("iron")
