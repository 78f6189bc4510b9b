"""Every block of README and docs is run, or a comment before it says why not; every ``lbr`` command is parsed.

The blocks of a page are run one after the other in a folder that holds, under the names that the pages use, a tiny
backbone, a few pairs in each form, a prepared set and models: the commands themselves are those of the page.
"""

import contextlib
import io
import json
import os
import re
import shutil

import pytest
import yaml
from documents import GUIDES, PAGES, README, Block, blocks_of
from helpers import ROOT, make_backbone
from toy_choices import write_choices

import lbr_st
from lbr_st.cli import stages
from lbr_st.cli.arguments import Parser
from lbr_st.cli.main import COMMANDS, NAMES, _main_of, help_text
from lbr_st.data import PrepareConfig, prepare
from lbr_st.files import write_json, write_jsonl

BLOCKS = [block for page in PAGES for block in blocks_of(page)]
LANGUAGES = {"sh", "python", "text", "json", "yaml", "js"}
TO_RUN = [block for block in BLOCKS if block.language in ("sh", "python") and not block.not_run]
# What is run in the fast suite; the blocks of the other pages are slow.
FAST = [README, ROOT / "docs" / "guides" / "using.md"]

SUBJECTS = ["anaemia", "asthma", "gout", "measles", "malaria", "scurvy", "rickets", "mumps", "tetanus", "cholera"]
QUESTIONS = ["How is {} treated?", "What causes {}?", "Who gets {} most?", "How is {} found?", "Can {} come again?"]
ANSWERS = [
    "Doctors give iron, rest or other medicine against {}, and look again after some weeks.",
    "Food, water, germs or what runs in a family bring {} about, as far as anyone knows.",
    "Children under five and people above seventy have {} more often than all others.",
    "Blood is drawn, a picture is taken, and a list of signs tells {} from what is like it.",
    "Once {} is over it may return within ten years; a vaccine or a diet can keep it away.",
]


def made_up_pairs() -> list[dict]:
    return [
        {"question": question.format(subject), "answer": answer.format(subject)}
        for subject in SUBJECTS
        for question, answer in zip(QUESTIONS, ANSWERS, strict=True)
    ]


def id_of(block: Block) -> str:
    return str(block).replace(", line ", ":")


@pytest.mark.parametrize("block", BLOCKS, ids=id_of)
def test_a_block_says_what_it_is(block):
    assert block.language in LANGUAGES, "a block without a language can be no command and no output"
    if block.language == "text":
        assert not re.search(r"^\$? ?(lbr|make|pip|python|git) ", block.text, flags=re.MULTILINE), "a command as output"
    if block.language == "json":
        assert all(json.loads(line) for line in block.text.splitlines())
    if block.language == "yaml":
        assert yaml.safe_load(block.text)
    if block.language == "python":
        compile(block.text, str(block), "exec")


class Parsed(Exception):
    """Ends a command when its arguments are read and found good."""


@pytest.fixture
def parse_only(monkeypatch):
    """Let a command end when its arguments are read, its configuration of a stage made."""
    of_parser, of_stage = Parser.parse_args, stages.StageParser.parse_args_into_dataclasses

    def parse_args(self, *args, **kwargs):
        of_parser(self, *args, **kwargs)
        raise Parsed

    def parse_stage(self, *args, **kwargs):
        found = of_stage(self, *args, **kwargs)
        assert not found[-1], f"unknown: {found[-1]}"
        raise Parsed

    monkeypatch.setattr(Parser, "parse_args", parse_args)
    monkeypatch.setattr(stages.StageParser, "parse_args_into_dataclasses", parse_stage)
    monkeypatch.chdir(ROOT)  # where --config finds configs/


LBR = [(block, argv) for block in BLOCKS if block.language == "sh" for argv in block.commands if argv[0] == "lbr"]


@pytest.mark.parametrize(("block", "argv"), LBR, ids=lambda part: id_of(part) if isinstance(part, Block) else part[1])
def test_a_command_is_one_that_there_is(block, argv, parse_only):
    """Those of blocks that are not run, too."""
    with pytest.raises(Parsed):
        _main_of(argv[1])(argv[2:])


def inline_commands() -> set[str]:
    """Return the commands that pages name in a sentence or a table: `lbr data list`."""
    pages = [page.read_text(encoding="utf-8") for page in PAGES if page.name not in ("CHANGELOG.md", "results.md")]
    return {name for page in pages for name in re.findall(r"`lbr ([a-z]+)", page)}


def test_a_command_in_a_sentence_is_one_that_there_is():
    assert inline_commands() <= set(NAMES)


def test_every_command_is_in_a_block():
    assert {argv[1] for _, argv in LBR} == set(NAMES) - {"quickstart"}  # make quickstart, in README
    assert all(name in help_text() for group in COMMANDS.values() for name in group)


# ---- run


@pytest.fixture(scope="module")
def furnished(tmp_path_factory):
    """A folder with everything that the pages take for granted."""
    folder = tmp_path_factory.mktemp("furnished")
    backbone = make_backbone(folder / "Qwen" / "Qwen2.5-0.5B", max_position_embeddings=1024)
    make_backbone(folder / "Qwen" / "Qwen3-0.6B-Base", "qwen3", max_position_embeddings=1024)
    pairs = made_up_pairs()
    lines = [f'"{pair["question"]}","{pair["answer"]}"' for pair in pairs]
    (folder / "pairs.csv").write_text("\n".join(["question,answer", *lines]) + "\n", encoding="utf-8")
    parts = {"pairs": pairs[:30], "train": pairs[:30], "dev": pairs[30:40], "test": pairs[40:]}
    for name, rows in parts.items():
        write_jsonl(folder / f"{name}.jsonl", rows)
    write_jsonl(folder / "queries.jsonl", pairs[:30])
    write_jsonl(folder / "other-topic.jsonl", pairs[:10])
    write_choices(folder)
    write_jsonl(folder / "corpus.jsonl", [{"text": pair["answer"]} for pair in pairs])
    write_jsonl(folder / "forum.jsonl", [{"title": p["question"], "answers": [{"body": p["answer"]}]} for p in pairs])
    options = [pair["answer"] for pair in pairs]
    exam = [
        {
            "question": pair["question"],
            "choices": [options[(i + i % 3 - n) % len(options)] for n in range(3)],
            "answer": i % 3,
        }
        for i, pair in enumerate(pairs)
    ]
    write_jsonl(folder / "exam.jsonl", exam)
    for name in ("medical", "chemistry", "my-beir", "docs"):
        (folder / name).mkdir()
    for name in ("train", "dev", "test"):
        write_jsonl(folder / "medical" / f"{name}.jsonl", parts[name])
        names = ("iupac", "formula", "smiles")
        compounds = [{"names": [p["question"]], **dict.fromkeys(names, p["answer"])} for p in parts[name]]
        write_jsonl(folder / "chemistry" / f"{name}.jsonl", compounds)
    numbered = [(f"q{i}", f"d{i}", pair) for i, pair in enumerate(pairs)]
    beir = folder / "my-beir"
    write_jsonl(beir / "corpus.jsonl", [{"_id": d, "title": "", "text": pair["answer"]} for _, d, pair in numbered])
    write_jsonl(beir / "queries.jsonl", [{"_id": q, "text": pair["question"]} for q, _, pair in numbered])
    (beir / "qrels").mkdir()
    for name, part in (("train", numbered[:35]), ("test", numbered[35:])):
        lines = "".join(f"{q}\t{d}\t1\n" for q, d, _ in part)
        (beir / "qrels" / f"{name}.tsv").write_text(f"query-id\tcorpus-id\tscore\n{lines}", encoding="utf-8")
    text = "\n\n".join(f"## {pair['question']}\n\n{pair['answer']}" for pair in pairs)
    (folder / "docs" / "questions.md").write_text(f"# Questions\n\n{text}\n", encoding="utf-8")

    steps = {"max_steps": 1, "per_device_train_batch_size": 4, "max_length": 64}
    with contextlib.chdir(folder):
        prepare(PrepareConfig(sources=["pairs.csv"], output_dir="my-set", num_proc=1))
        lbr_st.learn(lbr_st.LearnConfig(model=backbone, data=["my-set"], output_dir="stage1", **steps))
        lbr_st.align(lbr_st.AlignConfig(model="stage1", data="my-set", output_dir="lbr-model", **steps))
    (folder / "results").mkdir()
    write_json(folder / "results" / "none.json", {})
    return folder


def clear(block: Block) -> None:
    """Remove what a block is about to make, where it is there already: a page makes the same folder again and again."""
    if block.language == "python":
        made = re.findall(r'output_dir="([^"]+)"|save\(model, "([^"]+)"', block.text)
        made = [name or other for name, other in made] + re.findall(r'copytree\("[^"]+", "([^"]+)"', block.text)
    else:
        made = [argv[argv.index("--output-dir") + 1] for argv in block.commands if "--output-dir" in argv]
    for name in made:
        shutil.rmtree(name, ignore_errors=True)


def run(block: Block) -> str:
    """Run a block where it stands and return what it printed."""
    clear(block)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        if block.language == "python":
            exec(compile(block.text, str(block), "exec"), {"__name__": "__main__"})
        else:
            for program, command, *argv in block.commands:
                assert program == "lbr", f"{block}: {program} is not run here; say why in a comment before the block"
                _main_of(command)(argv)
    return printed.getvalue()


def run_page(page, furnished, tmp_path, monkeypatch) -> None:
    folder = tmp_path / "page"
    shutil.copytree(furnished, folder)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    for block in TO_RUN:
        if block.page == page:
            try:
                printed = run(block)
            except BaseException as error:
                raise AssertionError(f"{block} does not run: {type(error).__name__}: {error}") from error
            assert "next: " in printed or block.language == "python", f"{block}: no last line says what to do next"


PAGES_TO_RUN = [page for page in PAGES if any(block.page == page for block in TO_RUN)]
NAMED = [
    pytest.param(page, id=str(page.relative_to(ROOT)), marks=[] if page in FAST else [pytest.mark.slow])
    for page in PAGES_TO_RUN
]


@pytest.mark.parametrize("page", NAMED)
def test_blocks_run(page, furnished, tmp_path, monkeypatch):
    run_page(page, furnished, tmp_path, monkeypatch)


def test_guides_have_blocks_that_run():
    """The test above sees them: a change of how they are written would leave it with nothing to do."""
    assert set(PAGES_TO_RUN) == {README, *GUIDES}
