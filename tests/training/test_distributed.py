"""Two processes against one (gloo, on the CPU; stage 2 by torchrun), and what shards do to the loss and a save."""

import json
import os
import shutil
import socket
import subprocess
import sys
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from accelerate.state import AcceleratorState
from helpers import examples_of, fork, make_backbone, make_bert
from safetensors.torch import load_file
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.fsdp import fully_shard
from transformers import TrainingArguments

import lbr_st
from lbr_st.alignment.run import plan
from lbr_st.errors import InputError
from lbr_st.files import write_jsonl
from lbr_st.learning.batches import collate
from lbr_st.learning.masked_model import CutOffModel
from lbr_st.learning.trainer import LearnTrainer
from lbr_st.training.launch import _check_fsdp, check_launch

ROWS = [{"query": f"{n} " * (1 + n % 7), "document": f"so {n} " * (1 + n % 5)} for n in range(24)]


def both(settings, folder):
    """Stage 1 in every process, then the same model sharded by FSDP2, which the trainer leaves out on a CPU."""
    config = lbr_st.LearnConfig(**settings)
    lbr_st.learn(config)
    is_first = dist.get_rank() == 0

    # Cut off within the second epoch, and gone on with: what came after the checkpoint of step 4 is deleted.
    resumed = folder / "resumed"
    if is_first:
        shutil.copytree(config.output_dir, resumed)
        for name in ("config.json", "checkpoints/checkpoint-5/trainer_state.json"):
            (resumed / name).unlink()
    dist.barrier()
    lbr_st.learn(replace(config, output_dir=str(resumed), resume=True))

    model = lbr_st.from_backbone(config.model, max_seq_length=24)
    examples = list(examples_of(ROWS, model))
    training_model = CutOffModel(model[0].model, read_out_weight=1)
    mesh = dist.device_mesh.init_device_mesh("cpu", (2,))
    for layer in training_model.language_model.model.layers:
        assert type(layer).__name__ in training_model._no_split_modules
        fully_shard(layer, mesh=mesh)
    fully_shard(training_model, mesh=mesh)
    mine = examples[dist.get_rank() :: 2]
    targets = sum(label != -100 for example in examples for label in example["labels"])
    loss = training_model(**collate(mine), num_items_in_batch=targets / 2)["loss"]  # shards average, as DDP does
    loss.backward()
    whole = StateDictOptions(full_state_dict=True, cpu_offload=True)
    gradients = {n: p.grad.full_tensor() for n, p in training_model.named_parameters()}
    dist.all_reduce(loss)
    weights = get_model_state_dict(training_model, options=whole)
    if is_first:
        torch.save((loss.detach() / 2, gradients), folder / "gradients.pt")
        arguments = TrainingArguments(output_dir=str(folder / "trainer"), use_cpu=True, report_to="none")
        trainer = LearnTrainer(lbr_st.from_backbone(config.model, max_seq_length=24), args=arguments)
        for parameter in trainer.sentence_transformer.parameters():
            parameter.data.zero_()  # what is saved is what was gathered
        trainer._save(str(folder / "sharded"), state_dict=weights)


def in_two_processes(work):
    """Run a function in two processes, as torchrun starts them, but for what they have imported."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}

    def of_rank(rank):
        os.environ |= common | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        AcceleratorState._reset_state(reset_partial_state=True)  # what it was told in the process of the tests
        work()

    processes = [fork(partial(of_rank, rank)) for rank in range(2)]
    try:
        for process in processes:
            process.join(60)
        assert [process.exitcode for process in processes] == [0, 0]
    finally:
        for process in processes:
            process.kill()


@pytest.mark.slow
@pytest.mark.whole_run
def test_two_processes_are_one(tmp_path):
    """Same weights from two processes of 4 as from one of 8; logged once; resumed within an epoch as well."""
    backbone = make_backbone(tmp_path / "backbone")
    write_jsonl(tmp_path / "train.jsonl", ROWS)
    one, two = tmp_path / "one", tmp_path / "two"
    data = [str(tmp_path / "train.jsonl")]
    settings = {
        "model": backbone, "data": data, "dev_data": data, "allow_overlap": True, "max_length": 24, "optim": "sgd",
        "learning_rate": 1e-1, "max_steps": 5, "logging_steps": 1, "save_steps": 4,
    }  # fmt: skip
    lbr_st.learn(lbr_st.LearnConfig(**settings, output_dir=str(one), per_device_train_batch_size=8))
    of_two = settings | {"output_dir": str(two), "per_device_train_batch_size": 4}
    in_two_processes(lambda: both(of_two, tmp_path))
    first, second = load_file(one / "model.safetensors"), load_file(two / "model.safetensors")
    start = load_file(tmp_path / "backbone" / "model.safetensors")
    moved = max((first[name] - start[name]).abs().max() for name in start if first[name].shape == start[name].shape)
    assert moved > 1e-3
    assert all((first[name] - second[name]).abs().max() < 1e-5 for name in first)
    logs = [json.loads((folder / "training_log.json").read_text()) for folder in (one, two)]
    for name in ("loss", "eval_loss", "eval_bottleneck_nats"):
        values = [[entry[name] for entry in log if name in entry] for log in logs]
        assert values[0] == pytest.approx(values[1], abs=1e-4)
    tokens = [[entry["tokens_per_second"] for entry in log if "tokens_per_second" in entry] for log in logs]
    assert len(tokens[0]) == len(tokens[1]) == 5
    [stage] = lbr_st.load(str(two))[0].history
    assert stage["processes"] == 2

    resumed = load_file(tmp_path / "resumed" / "model.safetensors")
    assert all(torch.equal(second[name], resumed[name]) for name in second)
    check_shards(backbone, tmp_path)


def check_shards(backbone, folder):
    """Loss, gradients and a save of the model in two shards, against the whole one."""
    model = lbr_st.from_backbone(backbone, max_seq_length=24)
    training_model = CutOffModel(model[0].model, read_out_weight=1)
    expected = training_model(**collate(list(examples_of(ROWS, model))))["loss"]
    expected.backward()
    loss, gradients = torch.load(folder / "gradients.pt")
    assert abs(loss - expected.detach()) < 1e-5
    for name, parameter in training_model.named_parameters():
        assert (gradients[name] - parameter.grad).abs().max() < 1e-4 * max(1, parameter.grad.abs().max())
    saved = lbr_st.load(str(folder / "sharded"))
    weights = model[0].model.state_dict()
    assert all(torch.equal(weight, weights[name]) for name, weight in saved[0].model.state_dict().items())


@pytest.mark.parametrize(
    ("config", "message"),
    [({"state_dict_type": "SHARDED_STATE_DICT"}, "must be FULL_STATE_DICT"),
     ({"cpu_ram_efficient_loading": True}, "would untie the head"),
     ({"activation_checkpointing": True}, "activation checkpointing is on twice")],
)  # fmt: skip
def test_settings_of_fsdp_that_cannot_work(config, message):
    """As they would be on GPUs, in two processes."""
    given = SimpleNamespace(
        fsdp=True, fsdp_config=config, world_size=2, gradient_checkpointing=True, activation_checkpointing=True
    )
    with pytest.raises(InputError, match=message):
        _check_fsdp(given)
    with pytest.raises(InputError, match="--fsdp shards over several processes: start it with torchrun"):
        _check_fsdp(SimpleNamespace(fsdp=True, fsdp_config={}, world_size=1))


def arguments():
    return lbr_st.LearnConfig(model="none", data=["none"], output_dir="none")


def test_launches_that_run_as_one_process_are_refused(monkeypatch):
    check_launch(arguments())
    monkeypatch.setenv("ACCELERATE_USE_CPU", "True")  # what `accelerate launch --cpu --num_processes 2` sets
    with pytest.raises(InputError, match="one process on a CPU, whatever --num_processes says; start it with torchrun"):
        check_launch(arguments())
    monkeypatch.delenv("ACCELERATE_USE_CPU")
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(InputError, match="a configuration of accelerate asks for fsdp: .* give --fsdp instead"):
        check_launch(arguments())
    monkeypatch.delenv("ACCELERATE_USE_FSDP")
    several = arguments()
    several._n_gpu = 2
    with pytest.raises(InputError, match="this one process sees 2 GPUs: .* or start it with torchrun"):
        check_launch(several)


# Stage 2 with each loss: plain, cached, and with stage 1's beside it; then gone on with within an epoch.
STAGE_2 = """
import json, shutil, sys
from dataclasses import replace
from pathlib import Path
import torch.distributed as dist
from accelerate import PartialState
import lbr_st
from lbr_st.alignment.run import plan

common, runs, folder = json.loads(sys.argv[1])
for name, settings in runs.items():
    config = lbr_st.AlignConfig(**common | settings, output_dir=f"{folder}/{name}")
    lbr_st.align(config)
resumed = Path(folder, "resumed")
if dist.get_rank() == 0:
    shutil.copytree(Path(folder, name), resumed)
    resumed.joinpath("config.json").unlink()
    shutil.rmtree(resumed / "checkpoints/checkpoint-5")
dist.barrier()
lbr_st.align(replace(config, output_dir=str(resumed), resume=True))

found = plan(replace(config, output_dir=f"{folder}/none"))
if dist.get_rank() == 0:
    Path(folder, "plan.json").write_text(json.dumps([found.tokens, found.steps, found.evaluations]))
PartialState().destroy_process_group()  # gloo aborts now and then where a process just ends
"""


@pytest.mark.slow
def test_two_processes_of_stage_2_are_one(tmp_path):
    """Negatives are those of both; the last batch of an epoch is not full. What it takes is counted over both."""
    backbone = make_backbone(tmp_path / "backbone")
    rows = [
        {"query": f"{n} " * (1 + n % 7), "document": f"so {n} " * (1 + n % 5), "negative": f"not {n}"}
        for n in range(22)
    ]
    write_jsonl(tmp_path / "train.jsonl", rows)
    data = str(tmp_path / "train.jsonl")
    common = {
        "model": backbone, "data": data, "dev_data": data, "allow_overlap": True, "max_length": 24, "optim": "sgd",
        "learning_rate": 1e-1, "max_steps": 5, "logging_steps": 1, "save_steps": 4, "keep": "last", "temperature": 0.1,
        "eval_steps": 3,
    }  # fmt: skip
    runs = {
        "joint": {"lm_weight": 0.5},
        "cached": {"mini_batch_size": 3, "matryoshka_dims": [8]},
        "other": {"model": make_bert(tmp_path / "bert", dropout=0)},
        "plain": {"symmetric": True},
    }
    script = tmp_path / "stage2.py"
    script.write_text(STAGE_2)
    two = tmp_path / "two"
    of_two = common | {"per_device_train_batch_size": 4}
    subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script),
         json.dumps([of_two, runs, str(two)])],
        env=os.environ | {"OMP_NUM_THREADS": "1"}, check=True, timeout=120, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    start = load_file(tmp_path / "backbone" / "model.safetensors")
    for name, settings in runs.items():
        one = tmp_path / "one" / name
        config = lbr_st.AlignConfig(**common | settings, output_dir=str(one), per_device_train_batch_size=8)
        lbr_st.align(config)
        first, second = load_file(one / "model.safetensors"), load_file(two / name / "model.safetensors")
        before = start if name != "other" else load_file(tmp_path / "bert" / "st" / "model.safetensors")
        moved = max((first[key] - before[key]).abs().max() for key in before if first[key].shape == before[key].shape)
        assert moved > 1e-3
        assert all((first[key] - second[key]).abs().max() < 1e-5 for key in first), name
        logs = [json.loads((folder / "training_log.json").read_text()) for folder in (one, two / name)]
        for number in ("loss", "eval_dev_cosine_ndcg@10", "eval_dev_separation_ratio", "eval_dev_lm_loss"):
            values = [[entry[number] for entry in log if number in entry] for log in logs]
            assert values[0] == pytest.approx(values[1], abs=1e-4), (name, number)
    resumed = load_file(two / "resumed" / "model.safetensors")
    assert all(torch.equal(second[key], resumed[key]) for key in second)
    planned = plan(replace(config, output_dir=str(tmp_path / "none")))
    assert json.loads((two / "plan.json").read_text()) == [planned.tokens, planned.steps, planned.evaluations]
