"""The command `lbr data`: what its flags become, what it prints, and its errors of one line."""

import shlex

import pytest
from shapes import PAIRS, about, qa, read, sides, write_jsonl

import lbr_st
from lbr_st.adaptation.filtering import FilterConfig
from lbr_st.adaptation.queries import QueriesConfig
from lbr_st.cli import data
from lbr_st.cli.data import main
from lbr_st.data import MineConfig, PrepareConfig
from lbr_st.errors import InputError


@pytest.fixture
def made(monkeypatch):
    """The configurations that the command would run with."""

    class Stopped(Exception):
        pass

    def run(*argv):
        found = []

        def keep(config):
            found.append(config)
            raise Stopped

        monkeypatch.setattr("lbr_st.data.preparing.prepare", keep)
        monkeypatch.setattr("lbr_st.data.mining.mine", keep)
        monkeypatch.setattr("lbr_st.adaptation.queries.write_queries", keep)
        monkeypatch.setattr("lbr_st.adaptation.filtering.filter_file", lambda *args: keep(args))
        with pytest.raises(Stopped):
            main([*map(str, argv)])
        return found[0]

    return run


def test_what_is_not_said_is_left_to_the_configuration(made):
    assert made("prepare", "a.jsonl", "--output-dir", "set") == PrepareConfig(sources=["a.jsonl"], output_dir="set")
    said = made("mine", "set", "--model", "m", "--output-dir", "out")
    assert said == MineConfig(source="set", model="m", output_dir="out")
    assert made("queries", "a", "b", "--output-dir", "out") == QueriesConfig(sources=["a", "b"], output_dir="out")


def test_every_flag_is_a_field(made):
    """The command of a configuration gives the configuration again."""
    config = PrepareConfig(
        sources=["a b.jsonl", "c.csv"], output_dir="DIR", query="{q}", document="{d}", negative=["{n}", "{m}"],
        choices=["x", "y"], answer="z", min_score=0.5, judged_by="j", id="key", encoding="latin-1", on_error="skip",
        tokenizer="tok", chunk_tokens=12, keep_html=True, query_characters=[2, 10], document_characters=[3, 11],
        near_duplicates=0.95, same_text="case", test="6", dev="5%", learn="50%", align="20", group_by="g", resplit=True,
        isolate="query",
        regime="corpus-taught", name="n", license="MIT", derived_from=["medquad", "o/n"],
    )  # fmt: skip
    assert made(*shlex.split(config.command)[2:]) == config
    for filters in ({"margin": 0.1, "max_score": 0.9}, {"relative_margin": 0.05}):
        mining = MineConfig(
            source="set", model="m", output_dir="DIR", negatives=2, corpus="c.jsonl", skip=3, min_score=2.0, **filters
        )
        assert made(*shlex.split(mining.command)[2:]) == mining
    shared = {
        "output_dir": "DIR", "pairs": "p.jsonl", "kinds": ["title", "claim"], "per_passage": 2, "most": 9, "seed": 4,
        "temperature": 0.5, "on_error": "skip", "min_score": 2.0,
    }  # fmt: skip
    for more in ({"model": "m", "dtype": "bfloat16"}, {"generator": "http://a/v1", "generator_model": "n"}):
        queries = QueriesConfig(sources=["a b", "c.csv"], **shared, **more)
        assert made(*shlex.split(queries.command)[2:]) == queries


def test_queries(tmp_path, capsys, monkeypatch):
    """It says what it made, and what comes next."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").write_text("# Gout\n\nGout is when uric acid makes the joints hurt.\n")
    main(["queries", "docs", "--output-dir", "out"])
    printed = capsys.readouterr().out
    assert "1 query for 1 of 1 passages" in printed and "## Examples" not in printed
    assert printed.splitlines()[-2:] == [
        "Saved out (1 title); examples are in its README.md.",
        "next: lbr align --model MODEL --data out/queries.jsonl --output-dir model",
    ]
    with pytest.raises(InputError, match="^lbr data queries: argument --kinds: invalid choice: 'poem'"):
        main(["queries", "docs", "--output-dir", "more", "--kinds", "poem"])


def test_flags_of_the_filter(made):
    files = ["filter", "queries", "--data", "set", "--output-dir", "out"]
    assert made(*files) == ("queries", "set", "out", FilterConfig())
    argv = shlex.split("--model bm25 a b --keep-first 7 --near-duplicates 0.95 --same-text case --batch-size 3")
    argv += ["--on-error", "skip", "--min-score", "0.5"]
    config = FilterConfig(
        models=["bm25", "a", "b"],
        keep_first=7,
        near_duplicates=0.95,
        same_text="case",
        batch_size=3,
        on_error="skip",
        min_score=0.5,
    )
    assert made(*files, *argv)[3] == config
    argv = ["--reranker", "r", "--least-score", "-2.5"]
    assert made(*files, *argv)[3] == FilterConfig(reranker="r", least_score=-2.5)


def test_filter(tmp_path, capsys, monkeypatch):
    """Of queries for passages; it says what it left out, and what comes next."""
    monkeypatch.chdir(tmp_path)
    qa(tmp_path)
    rows = [{"id": p["id"], "query": p["question"], "document": p["answer"], "kind": "question"} for p in PAIRS[:9]]
    write_jsonl(
        tmp_path / "queries" / "queries.jsonl", [*rows, rows[0] | {"id": "again"}, rows[1] | {"query": "zebra"}]
    )
    main(["filter", "queries", "--data", "qa.jsonl", "--output-dir", "kept"])
    assert capsys.readouterr().out.splitlines() == [
        "       1  passage not among the first 6 of bm25",
        "       1  asked already",
        "Saved kept: 9 of 11 queries; some of the others are in dropped.jsonl.",
        "next: lbr data mine kept/queries.jsonl --model MODEL --output-dir mined",
    ]
    assert read(tmp_path / "kept", "queries") == rows
    with pytest.raises(InputError, match="argument --keep-first: must be a whole number from 1"):
        main(["filter", "queries", "--data", "qa.jsonl", "--output-dir", "more", "--keep-first", "0"])


def test_prepare_mine_and_check(model, tmp_path, capsys, monkeypatch):
    """From a file to a set with hard negatives; each says what it made and what comes next."""
    monkeypatch.chdir(tmp_path)
    qa(tmp_path)
    main(["prepare", "qa.jsonl", "--output-dir", "set", "--num-proc", "1", "--test", "10%"])
    printed = capsys.readouterr().out
    assert "| learn.jsonl    | stage 1: pairs" in printed and "lengths" not in printed
    assert printed.splitlines()[-2:] == [
        "Saved set (51 learn, 51 passages, 51 align, 3 dev, 6 test, 60 corpus); what is above is in its README.md.",
        "next: lbr learn --model BACKBONE --data set --output-dir stage1",
    ]
    lbr_st.save(model, "model")
    main(["mine", "set", "--model", "model", "--negatives", "1", "--output-dir", "mined"])
    assert capsys.readouterr().out.splitlines()[-2:] == [
        "Saved mined (51 learn, 51 passages, 51 align, 3 dev, 6 test, 60 corpus), 1 hard negatives for each pair of "
        "align.",
        "next: lbr align --model MODEL --data mined --output-dir model",
    ]
    assert {len(row["negatives"]) for row in read(tmp_path / "mined", "align")} == {1}
    other = [row | {"question": f"{row['focus']}: {n}?", "answer": f"{n} of {n}"} for n, row in enumerate(PAIRS)]
    write_jsonl(tmp_path / "other.jsonl", other)
    main(["check", "set", "other.jsonl"])
    both = "set/learn.jsonl and set/align.jsonl"
    assert capsys.readouterr().out == f"no overlap of 51 records of {both} with 60 of other.jsonl\n"
    with pytest.raises(InputError, match="overlap in 6 queries .6 exact. and 6 documents .6 exact."):
        main(["check", "set/test.jsonl", "set"])
    with pytest.raises(InputError, match="overlap in 6 queries .6 exact.: query of"):
        main(["check", "set/test.jsonl", "set", "--isolate", "query"])
    # Of a set all that is trained on is compared, with all that is held out.
    main(
        ["prepare", "qa.jsonl", "--output-dir", "parts", "--test", "6", "--dev", "4", "--learn", "20", "--align", "20"]
    )
    for train, held_out in (
        ("parts", "parts/learn.jsonl"),
        ("parts", "parts/align.jsonl"),
        ("parts/dev.jsonl", "parts"),
    ):
        with pytest.raises(InputError, match="overlap in (20|4) queries"):
            main(["check", train, held_out])


def test_check_follows_the_set(tmp_path, monkeypatch, capsys):
    """What is the same text is what it was when the set was made, unless said."""
    monkeypatch.chdir(tmp_path)
    rows = [{"question": "CO", "answer": "A gas."}, {"question": "Si", "answer": "A solid."}]
    write_jsonl(tmp_path / "f.jsonl", rows)
    write_jsonl(tmp_path / "other.jsonl", [{"question": "Co", "answer": "It is a metal."}])
    sizes = ["--test", "0", "--dev", "0"]
    main(["prepare", "f.jsonl", *sizes, "--same-text", "loose", "--output-dir", "loose"])
    assert "by `--same-text" not in (tmp_path / "loose" / "README.md").read_text()  # nothing is held out
    for argv in (["loose", "other.jsonl"], ["f.jsonl", "other.jsonl", "--same-text", "case"]):
        with pytest.raises(InputError, match="overlap in 1 queries .1 normalised."):
            main(["check", *argv])
    capsys.readouterr()
    main(["check", "loose", "other.jsonl", "--same-text", "exact"])
    main(["check", "f.jsonl", "other.jsonl"])
    assert capsys.readouterr().out.count("no overlap of 2 records") == 2


def test_which_files_are_read_is_said(tmp_path, capsys, caplog):
    with caplog.at_level("INFO", logger="lbr_st"):
        main(["prepare", *sides(tmp_path)["sources"], "--output-dir", str(tmp_path / "set"), "--num-proc", "1"])
    assert "reading test.jsonl, dev.jsonl, train.jsonl" in caplog.text
    assert about(tmp_path / "set")["files"]["test"]["records"] == 12


def test_columns_that_are_used_and_not_are_said(tmp_path, caplog):
    caplog.set_level("INFO", logger="lbr_st")
    source = write_jsonl(tmp_path / "qa.jsonl", [row | {"label": 1, "neg": f"no {n}"} for n, row in enumerate(PAIRS)])
    main(["prepare", source, "--output-dir", str(tmp_path / "set"), "--num-proc", "1"])
    line = "qa.jsonl: 60 pairs; columns used: id, question, answer, label, neg; not used: focus"
    assert line in caplog.messages
    caplog.clear()
    main(["check", source, write_jsonl(tmp_path / "other.jsonl", [{"query": "q", "text": "d", "score": 3, "x": 1}]),
          "--min-score", "1"])  # fmt: skip
    assert [message.rpartition("/")[2] for message in caplog.messages] == [
        line, "other.jsonl: 1 pair; columns used: query, text, score; not used: x",
    ]  # fmt: skip


def test_terms(tmp_path, backbone, capsys):
    """A table of what is found, and a file that is not written over."""
    texts = [f"zzyzx {n} acetylsalicylic" for n in range(12)] + ["acetylsalicylic pressure"]
    source = write_jsonl(tmp_path / "a.jsonl", [{"text": text} for text in texts])
    output = tmp_path / "new" / "terms.jsonl"
    argv = ["terms", "--data", source, "--model", backbone, "--output", str(output), "--least-count", "12"]
    main(argv)
    printed = capsys.readouterr().out.splitlines()
    assert [row["term"] for row in read(tmp_path / "new", "terms")] == ["acetylsalicylic", "zzyzx"]
    first = read(tmp_path / "new", "terms")[0]
    assert first["count"] == 13 and first["pieces"] > 2
    saved = 13 * (first["pieces"] - 1)
    assert [cell.strip() for cell in printed[2].split("|")[1:-1]] == [
        "acetylsalicylic", "13", f"{first['pieces']}", f"{saved}",
    ]  # fmt: skip
    assert printed[-1] == (
        f"next: lbr learn --model {backbone} --data {source} --domain-tokens {output} --output-dir stage1"
    )
    with pytest.raises(InputError, match="terms.jsonl is there already; choose another file"):
        main(argv)
    output.unlink()
    with pytest.raises(InputError, match="no word of .* comes 14 times and falls into 3 pieces; lower --least"):
        main([*argv, "--least-count", "14"])
    with pytest.raises(InputError, match="--model none/at/all is not a model: no such directory"):
        main([*argv, "--model", "none/at/all"])


def test_list(capsys):
    main(["list"])
    printed = capsys.readouterr().out
    assert printed.startswith("chemistry\n  camel_chemistry ") and "license: CC-BY-NC-4.0" in printed
    assert printed.endswith("next: lbr data prepare NAME --output-dir my-set\n")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "^lbr data: the following arguments are required: COMMAND"),
        (["prepare"], "^lbr data prepare: the following arguments are required: SOURCE, --output-dir"),
        (["prepare", "a", "--output-dir", "s", "--num-proc", "0"], "^lbr data prepare: argument --num-proc: must be a"),
        (["prepare", "a", "--output-dir", "s", "--chunk-tokens", "x"], "--chunk-tokens: must be a whole number"),
        (
            ["prepare", "a", "--output-dir", "s", "--licence", "x"],
            "lbr data prepare: unrecognized|unrecognized arguments",
        ),
        (["prepare", "a", "--output-dir", "s", "--test", "0.1"], r"^--test 0.1: write a number .*--test 10%\), or the"),
        (["prepare", "a", "--output-dir", "s", "--learn", "1.0"], r"^--learn 1.0: write a number .*--learn 10%\)$"),
        (["prepare", "absent.jsonl", "--output-dir", "s"], "^absent.jsonl: no such file or folder"),
        (["mine", "set", "--output-dir", "s"], "^lbr data mine: the following arguments are required: --model"),
        (["mine", "s", "--model", "m", "--output-dir", "o", "--negatives", "0"], "--negatives: must be a whole number"),
        (["check", "a", "b", "--near-duplicates", "0.5"], "^--near-duplicates must be from 0.8 to 1"),
        (["cheque"], "^lbr data: argument COMMAND: invalid choice: 'cheque'"),
    ],
)
def test_refusals(argv, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message) as error:
        main(argv)
    assert "\n" not in str(error.value) and not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", data.COMMANDS)
def test_help_names_every_flag_with_its_default(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([command, "--help"])
    printed = " ".join(capsys.readouterr().out.split())
    assert stopped.value.code == 0 and "None" not in printed and "SUPPRESS" not in printed
    if command == "prepare":
        for text in (
            "columns: found by their usual names", "splits: a SIZE is a number (100) or a share (10%)",
            "(default: 10%)", "(default: 5%)", "(default: 100%)", "(default: 1 2000)", "(default: 256)",
            "(default: strict)", "(default: 0.9)",
        ):  # fmt: skip
            assert text in printed, text
