"""The benchmarks of smaller models, at toy size: fewer layers, and students that encode queries."""

import dataclasses
import json
import statistics

import numpy as np
import pytest
import torch
from tiny_models import make_backbone
from toy_domains import rows
from transformers import AutoConfig

from lbr_st.errors import InputError
from lbr_st.files import write_jsonl


@pytest.fixture
def figures_of(tmp_path):
    """What reads the figures of a program's summary."""
    return lambda program: json.loads((tmp_path / "results" / program / "summary.json").read_text())["figures"]


@pytest.mark.slow
def test_programs_of_smaller_models(tmp_path, argv, lab, medical, prepare, figures_of, monkeypatch):
    """Models are trained once, files are read by both programs, and figures are those of the files."""
    import arms
    import fewer_layers
    import query_students
    import results

    backbone = make_backbone(tmp_path / "backbone", layers=3)  # two are the fewest that stage 1 can train
    argv += ["--backbone", backbone]
    lab = dataclasses.replace(lab, scale=dataclasses.replace(lab.scale, backbone=backbone))
    monkeypatch.setitem(arms.SCALES, "smollm2", arms.SCALES["nano"])
    for name, value in (("LAYERS", (3, 2)), ("PAIRS", 4), ("DISTRACTORS", 3), ("PASSAGES", 3), ("REPEATS", 3)):
        monkeypatch.setattr(fewer_layers, name, value)
    fewer_layers.main([*argv, "--beside", "tests"])
    figures = figures_of("fewer_layers")

    def found(name, program="fewer_layers"):
        return results.read_arm(program, name, 0)

    for layers in (3, 2):
        folder = fewer_layers.aligned(layers, medical, lab)
        config = AutoConfig.from_pretrained(folder)
        assert config.num_hidden_layers == layers
        assert figures[f"recall_at_10_dev_{layers}_layers"] == np.mean(found(f"{layers}-dev")["recalls"])
        assert figures[f"seconds_stage2_{layers}_layers"] > 0 and found(f"{layers}-stage1")["beside"] == "tests"
    assert found("3-stage1")["steps"] == found("2-stage1")["steps"] > 0
    assert figures["million_parameters_2_layers"] < figures["million_parameters_3_layers"]
    encoding = found("encoding")
    documents = {row["document"] for row in rows(medical.dev)}
    assert len(documents) == 4 and 3 < encoding["tokens"] < 4 * 3 * 16
    both = [np.array(encoding["seconds"][layers]) for layers in "32"]
    assert figures["encoding_speed_2_over_3_layers"] == pytest.approx(np.median(both[0] / both[1]), abs=1e-4)
    median = encoding["tokens"] / np.median(both[1])
    assert figures["tokens_per_second_2_layers"] == pytest.approx(median, abs=1e-3)
    trained = [sum(found(f"{layers}-{stage}")["seconds"] for stage in ("stage1", "stage2")) for layers in "32"]
    assert figures["training_speed_2_over_3_layers"] == pytest.approx(trained[0] / trained[1], abs=1e-4)
    monkeypatch.setattr(fewer_layers, "run", lambda *args: pytest.fail("measured again"))
    fewer_layers.main(argv)

    students = {"table": {"student": "table"}, "layers_1": {"student": "layers:1"}}
    for name, value in (("STUDENTS", students), ("QUERIES", 10), ("DISTRACTORS", 3), ("TIMED", 3)):
        monkeypatch.setattr(query_students, name, value)
    pairs = [{"query": f"how is part {n} made", "document": f"def part_{n}(): return {n}"} for n in range(24)]
    write_jsonl(tmp_path / "pairs.jsonl", pairs)
    prepared = prepare(str(tmp_path / "pairs.jsonl"), test=6, dev=2, near_duplicates=0)
    with pytest.raises(InputError, match="--code-model and --code-set are needed for code"):
        query_students.main(argv)
    argv += ["--code-model", str(folder), "--code-set", str(prepared)]
    query_students.main(argv)
    figures = figures_of("query_students")
    for domain, queries in (("medical", 4), ("code", 6)):
        recalls = found(f"{domain}-rank", "query_students")["recalls"]
        seconds = found(f"{domain}-latency", "query_students")["seconds"]
        assert {len(each) for each in recalls.values()} == {queries}
        assert {len(each) for each in seconds.values()} == {3}
        for student in students:
            end = f"{domain}_{student}"
            share = np.mean(recalls[student]) / np.mean(recalls["model"])
            assert figures[f"student_recall_share_{end}"] == pytest.approx(share, abs=1e-4)
            ratio = statistics.median(seconds["model"]) / statistics.median(seconds[student])
            assert figures[f"query_latency_student_vs_model_{end}"] == pytest.approx(ratio, abs=1e-3)
            assert figures[f"cosine_held_out_{end}"] == round(
                found(f"{domain}-{student}", "query_students")["cosine"], 4
            )
        # The model was asked once: both students have the same file.
        files = list((lab.work / domain / "query_students").glob("*/checkpoints/teacher-*/*.safetensors"))
        assert len(files) == 2 and len({file.stat().st_mtime_ns for file in files}) == 1
    queries = {row["query"] for row in rows(lab.work / "medical" / "query_students" / "queries.jsonl")}
    assert len(queries) == 10 and not queries & {row["query"] for row in rows(medical.dev)}
    monkeypatch.setattr(query_students, "distil", lambda *args: pytest.fail("measured again"))
    query_students.main(argv)


def test_recall_at_10_of_vectors():
    """Eleven documents, of which each query misses the one that is farthest from it; lengths say nothing."""
    from query_students import recalls_at_10

    documents = torch.stack([torch.tensor([1.0, angle / 10]) for angle in range(11)])
    documents[3] *= 100
    queries = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    assert recalls_at_10(queries, documents, [[10, 9], [0]]) == [0.5, 0.0]
    assert recalls_at_10(queries, documents, [[0], [1, 10]]) == [1.0, 1.0]


def test_runs_are_interleaved(monkeypatch):
    """Each repeat begins with the next one; seconds are those of the run itself."""
    import interleaved

    clock, order = [0.0], []

    def run(name, takes):
        def work(repeat):
            order.append((name, repeat))
            clock[0] += takes

        return work

    monkeypatch.setattr(interleaved, "time", type("clock", (), {"perf_counter": lambda: clock[0]}))
    seconds = interleaved.interleaved({"a": run("a", 2.0), "b": run("b", 4.0)}, 3)
    assert seconds == {"a": [2.0] * 3, "b": [4.0] * 3}
    assert order == [("a", 0), ("b", 0), ("b", 1), ("a", 1), ("a", 2), ("b", 2)]
    assert interleaved.ratio("x", [4.0, 2.0, 9.0], [2.0, 2.0, 3.0]) == {"x": 2.0, "x_min": 1.0, "x_max": 3.0}
