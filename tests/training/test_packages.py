"""Packages and values that training arguments ask for are looked at when they are given, before any data are read."""

import pytest
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled

from lbr_st.alignment.config import AlignConfig
from lbr_st.errors import InputError
from lbr_st.learning.config import LearnConfig

MADE = {"model": "none", "output_dir": "none"}
STAGES = [
    lambda **more: LearnConfig(data=["none"], **MADE, **more),
    lambda **more: AlignConfig(data="none", **MADE, **more),
]


@pytest.mark.parametrize("stage", STAGES, ids=["learn", "align"])
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"optim": "adamw_8bit"}, "^--optim adamw_8bit: .*bitsandbytes"),
        ({"optim": "paged_adamw_32bit"}, "^--optim paged_adamw_32bit: .*bitsandbytes"),
        ({"optim": "lion_8bit"}, "^--optim lion_8bit: .*bitsandbytes"),
        ({"optim": "galore_adamw", "optim_target_modules": "all-linear"}, "^--optim galore_adamw: .*galore"),
        ({"optim": "schedule_free_adamw"}, "^--optim schedule_free_adamw: .*schedulefree"),
        ({"optim": "adamw_torch_xla"}, "^--optim adamw_torch_xla: .*xla"),
        ({"optim": "no_such"}, "no_such"),
        ({"optim_args": "foo"}, "^--optim-args foo: write name=value, several with commas: momentum=0.9,nesterov=true"),
        ({"optim_args": "eps=1e-6,=3"}, "^--optim-args eps=1e-6,=3: write name=value"),
        ({"optim_args": "momentum=0.9"}, "^--optim adamw_torch_fused .*this optimizer takes no momentum; leave it out"),
        ({"optim": "sgd", "optim_args": "momentum=0.9,eps=1"}, "^--optim sgd .*this optimizer takes no eps; leave it"),
        (
            {"optim": "sgd", "optim_args": "momentum=a"},
            "^--optim sgd --optim-args momentum=a: could not convert",
        ),
        (
            {"optim": "sgd", "optim_args": "momentum=-1"},
            "^--optim sgd --optim-args momentum=-1: Invalid momentum",
        ),
        ({"adam_beta1": 2.0}, "^--adam-beta1 must be a number from 0 to below 1, got 2.0"),
        ({"adam_beta2": 1.0}, "^--adam-beta2 must be a number from 0 to below 1, got 1.0"),
        ({"adam_epsilon": -1.0}, "^--adam-epsilon must be at least 0, got -1.0"),
        ({"weight_decay": -1.0}, "^--weight-decay must be at least 0, got -1.0"),
        ({"max_grad_norm": -1.0}, "^--max-grad-norm must be at least 0, got -1.0"),
        ({"warmup_steps": -3}, "^--warmup-steps must be at least 0, got -3|warmup_steps"),
        ({"dataloader_num_workers": -1}, "^--dataloader-num-workers must be at least 0, got -1"),
        ({"dataloader_prefetch_factor": 2}, "prefetch.factor"),
        ({"num_train_epochs": 0.0}, "^--num-train-epochs must be above 0, got 0: nothing is trained"),
        ({"num_train_epochs": 0.0, "max_steps": -5}, "^--max-steps must be at least 1, got -5"),
        ({"max_steps": 0}, "^--max-steps must be at least 1, got 0; leave it out for whole epochs"),
        ({"max_length": 0}, "^--max-length must be at least 1, got 0"),
        ({"bottleneck_tokens": 0}, "^--bottleneck-tokens 0: the number of bottleneck tokens must be at least 1, got 0"),
        (
            {"compression_ratio": 0.0},
            "^--compression-ratio 0.0: .* must be a number above 0, got 0.0",
        ),
        (
            {"max_length": 16, "bottleneck_tokens": 16},
            "^--bottleneck-tokens 16: a maximum length of 16 leaves no ",
        ),
        ({"lr_scheduler_kwargs": "-1"}, "^--lr-scheduler-type linear --lr-scheduler-kwargs '-1': .*mapping"),
        ({"lr_scheduler_kwargs": {"x": 1}}, "^--lr-scheduler-type linear .*unexpected keyword argument 'x'"),
        ({"lr_scheduler_type": "cosine", "lr_scheduler_kwargs": '{"num_cycles": "a"}'}, "^--lr-scheduler-type cosine "),
        ({"lr_scheduler_type": "cosine_with_min_lr"}, "min_lr or min_lr_rate should be set"),
        ({"lr_scheduler_type": "warmup_stable_decay"}, "^--lr-scheduler-type warmup_stable_decay: .*num_decay_steps"),
        ({"lr_scheduler_type": "constant", "lr_scheduler_kwargs": {"x": 1}}, "this schedule takes no options"),
        ({"report_to": "wandb"}, "^--report-to wandb needs wandb, which is not installed: pip install wandb"),
        ({"report_to": ["tensorboard", "mlflow"]}, "^--report-to mlflow needs mlflow, "),
        ({"report_to": "comet_ml"}, "^--report-to comet_ml needs comet_ml, "),
        ({"report_to": "flyte"}, "^--report-to flyte: .*flyte"),
        ({"report_to": "no-such"}, "^--report-to no-such: no-such is not supported"),
        ({"lora_rank": 2, "load_in_4bit": True}, "^--load-in-4bit needs bitsandbytes, .*pip install 'lbr-st.qlora.'"),
        ({"deepspeed": "absent.json"}, "^--deepspeed needs deepspeed, which is not installed: pip install deepspeed"),
        ({"accelerator_config": "absent.json"}, "absent.json"),
        ({"seed": -1}, "^--seed must be a whole number from 0 to 4294967295, got -1"),
        ({"data_seed": 2**32}, "^--data-seed must be a whole number from 0 to 4294967295"),
        ({"learning_rate": float("nan")}, "^--learning-rate must be at least 0, got nan"),
        ({"learning_rate": float("inf")}, "^--learning-rate must be a number, got inf"),
        ({"weight_decay": float("nan")}, "^--weight-decay must be a number, got nan"),
        ({"gradient_accumulation_steps": 0}, "^--gradient-accumulation-steps must be at least 1"),
    ],
)
def test_packages_and_values_are_looked_at_first(stage, settings, message):
    with pytest.raises(InputError, match=message) as refused:
        stage(**settings)
    assert "\n" not in str(refused.value)


def test_a_refused_file_of_deepspeed_is_forgotten(monkeypatch):
    """Whoever keeps the error keeps what was half made, and transformers would ask that at the next model."""
    monkeypatch.setattr("lbr_st.training.config.find_spec", lambda name: name)  # it is there
    with pytest.raises(InputError) as kept:
        STAGES[0](deepspeed="absent.json")
    assert kept.value.__cause__ is not None
    assert not is_deepspeed_zero3_enabled()


def test_liger_kernels():
    with pytest.raises(InputError, match="^--use-liger-kernel needs liger_kernel, .*pip install 'lbr-st.gpu.'"):
        STAGES[1](use_liger_kernel=True)
    with pytest.raises(InputError, match="--use-liger-kernel: the loss uses liger-kernel wherever it is installed"):
        STAGES[0](use_liger_kernel=True)


@pytest.mark.parametrize("stage", STAGES, ids=["learn", "align"])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"optim": "adafactor"},
        {"lr_scheduler_type": "cosine_with_min_lr", "lr_scheduler_kwargs": {"min_lr_rate": 0.1}},
        {"lr_scheduler_type": "warmup_stable_decay", "lr_scheduler_kwargs": '{"num_decay_steps": 2}'},
        {"optim": "sgd"},
        {"optim": "rmsprop"},
        {"report_to": "tensorboard"},
        {"report_to": "all"},
        {"report_to": "none"},
        {"optim": "sgd", "optim_args": "momentum=0.9, nesterov=true"},
        {"optim": "adagrad", "optim_args": "eps=1e-6"},
        {"num_train_epochs": 0.0, "max_steps": 1},
    ],
)
def test_what_is_there_is_taken(stage, settings):
    stage(**settings)
