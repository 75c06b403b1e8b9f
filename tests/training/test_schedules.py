"""Learning rates over a run."""

import pytest
import torch

from fastnst.training import schedules


def test_cosine_rises_then_falls_to_nothing():
    optimizer = torch.optim.Adam([torch.zeros(1, requires_grad=True)], lr=2.0)
    schedule = schedules.cosine(optimizer, 100, warmup=0.1)
    rates = []
    for _ in range(101):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    assert rates[0] < 0.5 and max(rates) == pytest.approx(rates[10], rel=0.1) and rates[50] == pytest.approx(1.0)
    assert rates[100] == pytest.approx(0, abs=1e-12)


def test_decay_falls_in_steps():
    optimizer = torch.optim.Adam([torch.zeros(1, requires_grad=True)], lr=2.0)
    schedule = schedules.decay(optimizer, 100, every=10, factor=0.5)
    rates = []
    for _ in range(21):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    assert rates[9] == 2.0 and rates[10] == 1.0 and rates[20] == 0.5
