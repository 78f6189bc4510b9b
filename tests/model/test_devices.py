"""A device that is not there is refused, and no model is blamed for it."""

import pytest
import torch

import lbr_st
from lbr_st.cli import verify
from lbr_st.errors import InputError
from lbr_st.model.devices import check_device

ABSENT = [f"cuda:{torch.cuda.device_count()}", "cudaa", "xpu:3", "meta", "", "tpu", "-1"]


@pytest.mark.parametrize("name", ABSENT)
def test_a_device_that_is_not_there(name, tmp_path, capsys):
    message = f"^--device {name}: no such device on this machine, which has cpu"
    with pytest.raises(InputError, match=message):
        verify.main([str(tmp_path), f"--device={name}"])
    with pytest.raises(InputError, match=message):
        lbr_st.load(str(tmp_path), device=name)
    assert capsys.readouterr().out == ""


def test_a_device_that_is_there():
    check_device("cpu")
    check_device(None)
