"""``lbr recommend`` as somebody types it: from a table of choices to a suggestion with its title."""

import dataclasses
import re
import shlex
import shutil

import pytest
from toy_choices import write_choices

from lbr_st.cli import recommend as command
from lbr_st.cli.main import main
from lbr_st.errors import InputError
from lbr_st.recommending.config import RecommendConfig
from lbr_st.recommending.ranking import rank_held_out
from lbr_st.recommending.recommender import open_recommender


@pytest.fixture(scope="module")
def trained(backbone, tmp_path_factory):
    folder = tmp_path_factory.mktemp("recommend")
    choices, items = write_choices(folder)
    main([
        "recommend", "train", "--model", backbone, "--data", choices, "--items", items, "--item-text", "{title}",
        "--output-dir", str(folder / "made"), "--recommender-steps", "20", "--recommender-batch-size", "64",
        "--dimensions", "8", "--rounds", "1", "--steps", "2", "--joint-steps", "2", "--batch-size", "4",
    ])  # fmt: skip
    return folder / "made"


def test_scores_are_shown_and_what_is_next(trained, capsys):
    """Each line of the table is a way to rank; the next command runs."""
    main(["recommend", "evaluate", "--model", str(trained)])
    printed = capsys.readouterr().out
    opened = open_recommender(trained)
    for name, score in opened.scorers().items():
        figures = rank_held_out(score, opened.interactions).figures().values()
        cells = re.search(rf"^\| {name} +\|(.*)\|$", printed, flags=re.MULTILINE)[1].split("|")
        assert [cell.strip() for cell in cells] == [f"{each:.4f}" for each in figures]
    assert "16 users; the first three among up to 12 items that a user never chose, the others among 12" in printed
    argv = shlex.split(printed.splitlines()[-1].removeprefix("next: "))
    main(argv[1:])
    lines = capsys.readouterr().out.splitlines()
    [first, *_] = opened.suggest("u0")
    assert lines[1] == f"  {first.score:.3f}  {first.name}  ({first.id})"
    search = shlex.split(lines[-1].partition("next: ")[2].partition(", to search")[0])
    main(search[1:])
    assert "Item [item_" in capsys.readouterr().out


def test_files_that_do_not_fit(trained, tmp_path):
    """A row that somebody takes out would give each item behind it the vector of another."""
    folder = shutil.copytree(trained, tmp_path / "changed")
    file = folder / "recommender" / "items.jsonl"
    file.write_text("".join(file.read_text().splitlines(keepends=True)[1:]))
    with pytest.raises(InputError, match="items.jsonl has 11 rows, and recommender.safetensors vectors of 12"):
        open_recommender(folder)


def test_a_token_is_no_name(trained):
    opened = open_recommender(trained)
    with pytest.raises(InputError, match=r"^--liked: \[user_3\] is a token of the model; name an item by its title"):
        opened.suggest(liked=["[user_3]"])


def test_somebody_new(trained, capsys):
    main(["recommend", "suggest", "--model", str(trained), "--liked", "red wine", "a film", "--top-k", "3"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6 and "red wine" not in "".join(lines[1:4])


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["suggest", "--model", "x"], "one of the arguments --user --liked is required"),
        (["train", "--model", "x", "--data", "y"], "the following arguments are required: --output-dir"),
        (["train", "--tokens", "some"], "argument --tokens: invalid choice"),
        (["train", "--steps", "many"], "argument --steps: invalid int value"),
        (["evaluate", "--model", "absent"], "--model absent is no recommender"),
    ],
)
def test_what_cannot_be_meant_is_one_line(argv, said, capsys):
    with pytest.raises(SystemExit) as error:
        main(["recommend", *argv])
    assert error.value.code == 2
    printed = capsys.readouterr().err
    assert said in printed and len(printed.splitlines()) == 1


def test_flags_are_the_fields_of_the_configuration(capsys):
    """With the help and the default of each."""
    with pytest.raises(SystemExit):
        main(["recommend", "train", "--help"])
    printed = " ".join(capsys.readouterr().out.split())
    for field in dataclasses.fields(RecommendConfig):
        assert f" --{field.name.replace('_', '-')} " in printed
    assert "weight g of the distance between both (default: 0.1; without tokens 0)" in printed
    assert "most items that a user's text tells, the newest first (default: 10)" in printed


def test_every_command_has_help(capsys):
    for name in command.COMMANDS:
        with pytest.raises(SystemExit) as error:
            main(["recommend", name, "--help"])
        assert error.value.code == 0 and f"usage: lbr recommend {name} " in capsys.readouterr().out
