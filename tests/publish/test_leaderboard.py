"""A submission to mteb's leaderboard: both parts, as the two repositories take them."""

import ast
import json
from datetime import date

import pytest
from mteb.models.model_meta import ScoringFunction
from sentence_transformers import SentenceTransformer

import lbr_st
from lbr_st.errors import InputError
from lbr_st.publish import leaderboard
from lbr_st.publish.leaderboard import SubmissionConfig, prepare_submission


@pytest.mark.slow
def test_submission(saved, results, tmp_path, revision):
    config = SubmissionConfig(
        model=saved,
        name="owner/name",
        revision=revision,
        output_dir=tmp_path / "new" / "submission",
        results_dir=results,
        license="mit",
    )
    made = prepare_submission(config)
    assert made.folder == tmp_path / "new" / "submission" and made.tasks == ["NFCorpus"]
    assert made.results == made.folder / "results" / "owner__name" / revision
    assert sorted(file.name for file in made.results.iterdir()) == ["NFCorpus.json", "model_meta.json"]
    meta = json.loads((made.results / "model_meta.json").read_text())
    assert (meta["name"], meta["revision"], meta["training_datasets"]) == ("owner/name", revision, ["NFCorpus"])
    assert meta["release_date"] == date.today().isoformat()
    assert made.description == made.folder / "owner_models.py"
    check_description(made.description.read_text(), SentenceTransformer(str(saved)))
    with pytest.raises(InputError, match=f"--output-dir {made.folder} is not empty"):
        prepare_submission(config)


@pytest.mark.parametrize(("name", "expected"), [("Lbr-Python", "lbr_python"), ("3B-law", "_3b_law"), ("in", "_in")])
def test_a_name_in_python(name, expected):
    assert leaderboard._name_in_python(name) == expected


def check_description(source, model):
    """The Python that mteb takes makes a ModelMeta of which every field is filled, with what the model is."""
    ast.parse(source)
    names = {}
    exec(source, names)  # noqa: S102
    meta = names["name"]
    empty = {name for name, value in meta.model_dump().items() if value is None}
    allowed = {"n_active_parameters_override", "superseded_by", "contacts", "experiment_kwargs", "output_dtypes"}
    allowed |= {"extra_requirements_groups", "public_training_code", "public_training_data"}
    assert empty <= allowed
    state = {name: weight for name, weight in model[0].model.named_parameters()}
    assert meta.n_parameters == sum(weight.numel() for weight in state.values())
    assert meta.n_embedding_parameters == state["embed_tokens.weight"].numel()
    assert (meta.embed_dim, meta.max_tokens) == (model.get_embedding_dimension(), model.max_seq_length)
    assert meta.similarity_fn_name == ScoringFunction.COSINE and meta.use_instructions
    assert meta.loader_kwargs == {"model_prompts": {"query": "ask: "}}
    assert (meta.adapted_from, meta.training_datasets) == ("Qwen/Qwen2-1.5B", {"NFCorpus"})
    assert meta.is_zero_shot_on(["NFCorpus"]) is False and meta.is_zero_shot_on(["SciFact"]) is True


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "name"}, "--name name is no name on the Hub; write owner/name"),
        ({"revision": "main"}, "--revision main is no commit; lbr publish push says"),
        ({"license": "MIT License"}, "^--license MIT License: mteb takes ids, such as mit$"),
        (
            {"license": "creativeml-openrail-m"},
            "^--license creativeml-openrail-m: mteb takes ids of its list alone",
        ),
        ({"languages": ["English"]}, "mteb refuses this description: "),
        ({"license": None}, "states no license; give --license, or write it with lbr publish card --license"),
        ({}, "has no scores on public tests of this model with the weights it has now; lbr evaluate"),
    ],
)
def test_what_cannot_be_submitted(saved, tmp_path, change, message, monkeypatch, revision):
    monkeypatch.setattr(leaderboard, "try_out", lambda folder: [])
    wanted = {"model": saved, "name": "o/n", "revision": revision, "license": "mit"}
    wanted |= {"results_dir": tmp_path / "none", "output_dir": tmp_path / "submission"} | change
    with pytest.raises(InputError, match=message):
        prepare_submission(SubmissionConfig(**wanted))
    assert not (tmp_path / "submission").exists()


def test_a_model_that_fails_on_mock_tasks_is_not_submitted(saved, results, tmp_path, revision, monkeypatch):
    monkeypatch.setattr(leaderboard, "try_out", lambda folder: ["MockRetrieval"])
    wanted = {"model": saved, "name": "o/n", "revision": revision, "license": "mit", "results_dir": results}
    with pytest.raises(InputError, match="mteb's mock tasks fail: MockRetrieval"):
        prepare_submission(SubmissionConfig(**wanted, output_dir=tmp_path / "submission"))


def test_the_native_layout_is_refused(backbone, tmp_path, revision):
    lbr_st.save(lbr_st.from_backbone(backbone, compression_ratio=5, max_seq_length=24), tmp_path / "m")
    with pytest.raises(InputError, match="is in the native layout, which mteb's runners do not open"):
        prepare_submission(
            SubmissionConfig(model=tmp_path / "m", name="o/n", revision=revision, output_dir=tmp_path / "s")
        )


def test_license_of_the_card(saved):
    lbr_st.model.card.write(saved, "owner/name", license="apache-2.0")
    assert leaderboard.license_of(saved) == "apache-2.0"
