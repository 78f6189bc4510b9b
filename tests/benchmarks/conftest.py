"""The programs of the evidence, at toy size: data, sizes, a place to run in."""

import dataclasses
import gc
from pathlib import Path

import pytest
from toy_domains import SPLITS, chemistry_row, medical_row

from lbr_st.files import write_jsonl


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.benchmarks)


@pytest.fixture(scope="session", autouse=True)
def _programs():
    """What the programs import is not looked at by every collection of a run's garbage."""
    import arms  # noqa: F401

    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def _toy_results(tmp_path, monkeypatch):
    """Result files go to a folder of the test. Models are not verified, which has tests of its own."""
    import results

    monkeypatch.setattr(results, "RESULTS", tmp_path / "results")
    monkeypatch.setattr("lbr_st.model.saving.verify", lambda *args, **kwargs: [])


@pytest.fixture
def argv(tmp_path, monkeypatch, backbone):
    """Arguments for a program of the evidence, over data and with sizes of a toy."""
    import arms
    import results

    monkeypatch.setattr(results, "RESAMPLES", 20)
    toy = dataclasses.replace(
        arms.SCALES["nano"],
        length=16,
        records=10,
        stage1_tokens=100,
        stage1={"learning_rate": 5e-4, "per_device_train_batch_size": 2},
        stage2={"per_device_train_batch_size": 4},
        epochs={2: 1, 4: 1, 6: 1},
        learning_rates=(1e-3,),
    )
    monkeypatch.setitem(arms.SCALES, "nano", toy)
    data = tmp_path / "data"
    for domain, row in (("medical", medical_row), ("chemistry", chemistry_row)):
        (data / domain).mkdir(parents=True)
        for split, number in SPLITS.items():
            write_jsonl(data / domain / f"{split}.jsonl", (row(split, n) for n in range(number)))
    return ["--data", str(data), "--work-dir", str(tmp_path / "work"), "--backbone", str(backbone)]


@pytest.fixture
def lab(tmp_path, argv, backbone):
    """A place to run arms of toy size in."""
    import arms

    return arms.Lab(dataclasses.replace(arms.SCALES["nano"], backbone=str(backbone)), tmp_path / "work")


@pytest.fixture
def medical(tmp_path, lab):
    """The domain, of toy size."""
    return lab.domain("medical", tmp_path / "data")
