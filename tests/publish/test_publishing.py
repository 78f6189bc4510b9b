"""What a model tells the world: its card, the leaderboard, the Hub; and public tests."""

import ast
import json
import math
import re

import mteb
import pytest
import yaml
from helpers import PAIRS
from huggingface_hub import HfApi, ModelCard
from mteb.models.model_meta import ScoringFunction
from sentence_transformers import SentenceTransformer

import lbr_st
from lbr_st.alignment import run as grcl
from lbr_st.errors import InputError
from lbr_st.evaluation import public_tests
from lbr_st.files import write_json, write_jsonl
from lbr_st.learning import run as ibgl
from lbr_st.model import card as model_card
from lbr_st.model.contract import fingerprint
from lbr_st.publish import hub as push
from lbr_st.publish import leaderboard as submit
from lbr_st.publish import results as model_card_command

REVISION = "0123456789" * 4


@pytest.fixture
def trained(backbone, tmp_path):
    """A model after stage 2, with prompts and dev scores."""
    for name, rows in (("pairs", PAIRS), ("dev", PAIRS[:3])):
        made = ({**row, "question": f"{name} {row['query']}", "answer": f"{name} {row['document']}"} for row in rows)
        write_jsonl(tmp_path / f"{name}.jsonl", ({k: r[k] for k in ("question", "answer")} for r in made))
    argv = ["--model", str(backbone), "--data", str(tmp_path / "pairs.jsonl"), "--output-dir", str(tmp_path / "m")]
    more = "--max-length 24 --bottleneck-tokens 2 --max-steps 2 --per-device-train-batch-size 4 --learning-rate 0.001"
    grcl.main([*argv, "--dev-data", str(tmp_path / "dev.jsonl"), "--query-prompt", "ask: ", *more.split()])
    return tmp_path / "m"


def metadata(folder):
    front = re.match(r"---\n(.*?)\n---\n", (folder / "README.md").read_text(), re.DOTALL)
    return yaml.safe_load(front[1])


def test_the_card_of_a_trained_model(trained):
    """Usage that runs as it is written, the recipe, the data, the scores."""
    card = (trained / "README.md").read_text()
    [usage] = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    assert len(usage.strip().splitlines()) == 6
    names = {}
    exec(usage.replace("'m'", repr(str(trained))).replace("print", "shown = list"), names)  # noqa: S102
    assert names["queries"].shape == (1, names["model"].get_embedding_dimension())
    for part in (
        "lbr train-grcl", "--query-prompt 'ask: '", "--max-steps 2", "--learning-rate 0.001", "--bottleneck-tokens 2",
        "pairs.jsonl", "No public test", "query 'ask: '", "nDCG@10", "recall@10", "Texts are cut after 24 tokens",
        "2 bottleneck tokens", "@article{liang2026learn", "Limits",
    ):  # fmt: skip
        assert part in card, part
    assert str(trained.parent) not in card
    log = json.loads((trained / "training_log.json").read_text())
    best = max(entry["eval_dev_cosine_ndcg@10"] for entry in log if "eval_dev_cosine_ndcg@10" in entry)
    assert f"nDCG@10 | {best:.4f} |" in card
    about = metadata(trained)
    assert about["library_name"] == "sentence-transformers" and about["pipeline_tag"] == "sentence-similarity"
    assert "base_model" not in about and "datasets" not in about
    assert ModelCard.load(trained / "README.md").data.to_dict().items() >= about.items()


@pytest.mark.parametrize(
    "flags, asked",
    [([], "--read-out-weight 1.0"), (["--read-out-weight", "0"], "--read-out-weight 0"), (["--no-bottleneck"], None)],
)
def test_the_recipe_says_which_loss_it_was(backbone, tmp_path, flags, asked):
    """A weight of 0 is not the default, and runs from before there was such a loss say nothing of it."""
    write_jsonl(tmp_path / "train.jsonl", PAIRS)
    argv = ["--model", str(backbone), "--data", str(tmp_path / "train.jsonl"), "--output-dir", str(tmp_path / "m")]
    ibgl.main([*argv, *flags, "--max-steps", "1", "--max-length", "24", "--seed", "0"])
    card = (tmp_path / "m" / "README.md").read_text()
    assert re.findall(r"--read-out-weight [\d.]+", card) == ([asked] if asked else [])
    assert "--seed 0" in card


def test_ids_of_the_hub_are_metadata(model, tmp_path):
    """The base model and the data; what they are tested by is said."""
    step = {"data_sha256": "ab" * 32, "mteb_tasks": ["MedicalQARetrieval"]}
    model[0].history += [
        {"stage": "ibgl", "model": "Qwen/Qwen2-1.5B", "data": ["sft=owner/pairs", "local.jsonl"], **step},
        {"stage": "grcl", "model": "stage1", "data": "owner/pairs", **step},
    ]
    lbr_st.save(model, tmp_path / "m")
    assert metadata(tmp_path / "m")["base_model"] == "Qwen/Qwen2-1.5B"
    assert metadata(tmp_path / "m")["datasets"] == ["owner/pairs"]
    assert "tests on the same sources: MedicalQARetrieval." in (tmp_path / "m" / "README.md").read_text()


def test_a_card_by_hand_is_left_alone(model, tmp_path):
    lbr_st.save(model, tmp_path / "m")
    (tmp_path / "m" / "README.md").write_text("mine")
    lbr_st.save(model, tmp_path / "m")
    assert (tmp_path / "m" / "README.md").read_text() == "mine"
    with pytest.raises(InputError, match="was not written by lbr-st; move it away"):
        model_card_command.main(["--model", str(tmp_path / "m")])


def test_a_model_by_length_says_what_it_needs(tmp_path, backbone):
    model = lbr_st.from_backbone(str(backbone), compression_ratio=4, max_seq_length=16)
    lbr_st.save(model, tmp_path / "m")
    card = (tmp_path / "m" / "README.md").read_text()
    assert "SentenceTransformer('m', trust_remote_code=True)" in card and "pip install lbr-st" in card


@pytest.fixture
def nfcorpus(tmp_path, monkeypatch):
    """The task of mteb by that name, over local data of its schema."""
    folder = tmp_path / "nfcorpus"
    folder.mkdir()
    write_jsonl(
        folder / "corpus.jsonl", ({"_id": f"d{n}", "title": "", "text": r["document"]} for n, r in enumerate(PAIRS))
    )
    write_jsonl(folder / "queries.jsonl", ({"_id": f"q{n}", "text": r["query"]} for n, r in enumerate(PAIRS)))
    write_jsonl(
        folder / "qrels.jsonl", ({"query-id": f"q{n}", "corpus-id": f"d{n}", "score": 1} for n in range(len(PAIRS)))
    )
    configs = [
        {"config_name": name, "data_files": [{"split": split, "path": f"{file}.jsonl"}]}
        for name, split, file in (
            ("corpus", "corpus", "corpus"),
            ("queries", "queries", "queries"),
            ("default", "test", "qrels"),
        )
    ]
    (folder / "README.md").write_text(f"---\n{yaml.safe_dump({'configs': configs})}---\n")
    task = type(mteb.get_task("NFCorpus"))
    dataset = {"path": str(folder), "revision": REVISION}
    monkeypatch.setattr(task, "metadata", task.metadata.model_copy(update={"dataset": dataset}))
    return folder


@pytest.fixture
def saved(model, tmp_path):
    """A saved model that was trained on what one task of mteb tests."""
    step = {"data_sha256": "ab" * 32, "mteb_tasks": ["NFCorpus"], "model": "Qwen/Qwen2-1.5B", "data": "owner/pairs"}
    model[0].history.append({"stage": "grcl", **step})
    model.prompts["query"] = "ask: "
    lbr_st.save(model, tmp_path / "saved")
    return tmp_path / "saved"


def test_public_tests(saved, nfcorpus, tmp_path, capsys):
    """What can be loaded is run, what cannot is listed, what was trained on is flagged; then card and submission."""
    results = tmp_path / "results"
    argv = ["--model", str(saved), "--results-dir", str(results)]
    public_tests.main([*argv, "--suite", "NFCorpus", "SciFact"])
    shown = capsys.readouterr().out
    model = SentenceTransformer(str(saved))
    queries = model.encode_query([row["query"] for row in PAIRS])
    similar = queries @ model.encode_document([row["document"] for row in PAIRS]).T
    ranks = (similar > similar.diagonal()[:, None]).sum(axis=1)
    ndcg = sum(1 / math.log2(rank + 2) for rank in ranks if rank < 10) / len(PAIRS)
    assert f"| NFCorpus (trained on) | {ndcg:.4f} | ndcg_at_10 |" in shown
    assert "Not run, 1 of 2, as their data cannot be loaded:\n  SciFact: " in shown
    assert "Trained on: NFCorpus." in shown

    model_card_command.main(
        ["--model", str(saved), "--name", "owner/name", "--results-dir", str(results), "--licence", "mit"]
    )
    about = metadata(saved)
    [of_model] = about["model-index"]
    assert of_model["name"] == "owner/name" and about["license"] == "mit"
    metrics = {m["type"]: m["value"] for each in of_model["results"] for m in each["metrics"]}
    assert metrics["ndcg_at_10"] == pytest.approx(ndcg, abs=1e-4)
    assert "lbr benchmark --model owner/name --suite NFCorpus" in (saved / "README.md").read_text()

    output = tmp_path / "submission"
    wanted = ["--prepare", "--model", str(saved), "--name", "owner/name", "--revision", REVISION]
    submit.main([*wanted, "--results-dir", str(results), "--output", str(output)])
    shown = capsys.readouterr().out
    assert "1 task (NFCorpus); mteb's mock tasks pass" in shown and "lbr push" in shown
    folder = output / "results" / "owner__name" / REVISION
    assert sorted(file.name for file in folder.iterdir()) == ["NFCorpus.json", "model_meta.json"]
    meta = json.loads((folder / "model_meta.json").read_text())
    assert (meta["name"], meta["revision"], meta["training_datasets"]) == ("owner/name", REVISION, ["NFCorpus"])
    check_description((output / "owner_models.py").read_text(), model)


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


def test_suites_of_mteb():
    """Those that the project is about, tasks alone, and the nearest name to one that is none."""
    for name in ("MTEB(Medical, v1)", "ChemTEB(v1.1)", "MTEB(Code, v1)", "MTEB(Law, v1)"):
        assert public_tests.tasks_of([name])
    [task] = public_tests.tasks_of(["NFCorpus", "NFCorpus"])
    assert task.metadata.name == "NFCorpus"
    with pytest.raises(InputError, match=r"no benchmark or task of that name; the nearest are .*MTEB\(Medical, v1\)"):
        public_tests.tasks_of(["MTEB(Medicine, v1)"])


def test_nothing_can_be_run(saved, tmp_path):
    with pytest.raises(InputError, match="not one task could be run"):
        public_tests.main(["--model", str(saved), "--suite", "SciFact", "--results-dir", str(tmp_path)])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"--name": "name"}, "--name name is no name on the Hub"),
        ({"--revision": "main"}, "--revision main is no commit"),
        ({"--licence": "none of these"}, "mteb refuses this description"),
        ({"--licence": ""}, "states no licence; give --licence, or write it with lbr card --licence"),
        ({}, "has no scores on public tests of this model as it is now"),
    ],
)
def test_what_cannot_be_submitted(saved, tmp_path, change, message, monkeypatch):
    monkeypatch.setattr(submit, "try_out", lambda folder: [])
    wanted = {"--model": str(saved), "--name": "o/n", "--revision": REVISION, "--licence": "mit"}
    wanted |= {"--results-dir": str(tmp_path / "none"), "--output": str(tmp_path / "submission")} | change
    with pytest.raises(InputError, match=message):
        submit.main(["--prepare", *(word for pair in wanted.items() for word in pair)])


def test_results_of_other_weights_are_not_submitted(saved, tmp_path):
    """By their contents, whatever the folder is called."""
    for revision in (fingerprint(saved)[:40], REVISION):
        file = tmp_path / "results" / "local__saved" / revision / "NFCorpus.json"
        file.parent.mkdir(parents=True)
        write_json(file, {"task_name": "NFCorpus"})
    [file] = model_card_command.results_of(tmp_path / "results", saved)
    assert file.parent.name == fingerprint(saved)[:40]


def test_push(saved, monkeypatch, caplog):
    """Up to the network: what would be sent, and what the Hub says in one line."""
    sent = {}
    (saved / "checkpoints").mkdir()
    (saved / "checkpoints" / "x").write_text("x")

    class Commit:
        oid = REVISION

    monkeypatch.setattr(HfApi, "create_repo", lambda self, repo_id, **kw: sent.update(kw) or f"https://hub/{repo_id}")
    monkeypatch.setattr(HfApi, "upload_folder", lambda self, **kw: sent.update(kw) or Commit)
    caplog.set_level("INFO")
    push.main(["--model", str(saved), "--repo-id", "owner/name"])
    assert sent["private"] and sent["folder_path"] == str(saved) and "checkpoints/*" in sent["ignore_patterns"]
    assert f"https://hub/owner/name is there, revision {REVISION}" in caplog.text


def test_push_without_a_network(saved):
    with pytest.raises(InputError, match="--repo-id owner/name: "):
        push.main(["--model", str(saved), "--repo-id", "owner/name"])


def test_push_refuses_what_is_broken(saved):
    (saved / "tokenizer.json").write_text("{}")
    with pytest.raises(InputError):
        push.main(["--model", str(saved), "--repo-id", "owner/name"])


def test_scores_are_of_the_checkpoint_that_is_kept(trained):
    """What history says, the card repeats."""
    [step] = model_card.read(trained)["history"]
    assert set(step["scores"]) == {"recall@10", "nDCG@10"}
    assert step["training_arguments"]["max_steps"] == 2


def test_the_card_describes_the_prepared_set(backbone, prepare, tmp_path):
    """Its records, its regime, what is kept apart, its licence."""
    rows = (
        {"question": f"What is thing number {n} made of?", "answer": f"Thing {n} is " + "abcdefgh"[n % 8] * n}
        for n in range(1, 41)
    )
    write_jsonl(tmp_path / "things.jsonl", rows)
    folder = prepare(tmp_path / "things.jsonl", "--licence", "CC0-1.0", "--name", "things")
    argv = ["--model", str(backbone), "--data", str(folder), "--output-dir", str(tmp_path / "m"), "--max-length", "24"]
    grcl.main([*argv, "--max-steps", "1", "--per-device-train-batch-size", "4"])
    records = json.loads((folder / "lbr_set.json").read_text())["files"]
    card = (tmp_path / "m" / "README.md").read_text()
    named = ", ".join(f"{of['records']} in {name}" for name, of in records.items())
    assert f"Set things ({named} records), strict; " in card
    assert "kept apart by query and document; licence CC0-1.0." in card
