"""The fused kernel of liger-kernel, by Triton's interpreter on a CPU: value and gradients of the plain loss."""

import json
import os
import subprocess
import sys

import pytest
from helpers import ROOT

pytestmark = pytest.mark.integration
ENVIRONMENT = ROOT / ".integrations" / "liger"

COMPARE = """
import json, sys
import torch
import torch.nn.functional as F
from lbr_st.learning.cross_entropy import fused_cross_entropy_sum

bias, frozen = json.loads(sys.argv[1])
torch.manual_seed(0)
head = torch.nn.Linear(32, 70, bias=bias).requires_grad_(not frozen)
hidden, targets = torch.randn(9, 32), torch.randint(0, 70, (9,))
found = []
for fused in (True, False):
    rows = hidden.clone().requires_grad_()
    head.zero_grad()
    if fused:
        loss = fused_cross_entropy_sum(head.weight, head.bias, rows, targets)
    else:
        loss = F.cross_entropy(head(rows), targets, reduction="sum")
    (loss / 9).backward()
    gradients = [rows.grad, *(parameter.grad for parameter in head.parameters())]
    found.append([loss.detach() / 9, *(None if g is None else g.clone() for g in gradients)])
differences = [None if a is None or b is None else (a - b).abs().max().item() for a, b in zip(*found)]
print(json.dumps([differences, [g is None for g in found[0]], [g is None for g in found[1]]]))
"""


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("frozen", [False, True])
def test_fused_kernel_is_the_plain_loss(bias, frozen):
    path = os.pathsep.join([str(ROOT), str(ENVIRONMENT)])
    done = subprocess.run(
        [sys.executable, "-c", COMPARE, json.dumps([bias, frozen])],
        env=os.environ | {"PYTHONPATH": path, "TRITON_INTERPRET": "1"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    differences, missing, expected_missing = json.loads(done.stdout.splitlines()[-1])
    assert missing == expected_missing
    assert len(differences) == 3 + bias
    assert all(difference is None or difference < 1e-5 for difference in differences)
