"""What trainers do at certain moments."""

import pytest
from transformers import TrainerState

from lbr_st.training.callbacks import SetEpoch


@pytest.mark.parametrize(("epoch", "expected"), [(None, 0), (0, 0), (1.0, 1), (1.4, 1)])
def test_the_sampler_is_told_the_epoch(epoch, expected):
    """Also where a run goes on within one."""

    class Sampler:
        def set_epoch(self, epoch):
            self.epoch = epoch

    sampler = Sampler()
    SetEpoch(sampler).on_epoch_begin(None, TrainerState(epoch=epoch), None)
    assert sampler.epoch == expected
