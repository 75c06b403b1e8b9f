"""Optimization-based style transfer: its recipes' formulas against NumPy, the descent itself, and the command."""

from functools import partial

import pytest
import torch
from conftest import Pixels, picture, random

from fastnst.errors import UserError
from fastnst.images import to_tensor
from fastnst.losses import recipes
from fastnst.optimization import initial, optimize, resized
from fastnst.training.schedules import constant

LBFGS = partial(torch.optim.LBFGS, lr=1.0, max_iter=1, history_size=100)


def test_lbfgs_finds_the_least_loss_and_keeps_the_range():
    # With features that are pixels and content alone, the photograph itself is the answer.
    photograph, start = random(1, 3, 8, 8), random(1, 3, 8, 8) ** 2
    objective = recipes.PyTorch(Pixels(0.226), [photograph], "relu1_1", {"relu1_1": 1.0}, style_weight=0.0, tv_weight=0.0)
    iterates = list(optimize(objective, photograph, start, LBFGS, constant, 30))
    assert [i.step for i in iterates] == list(range(31))
    torch.testing.assert_close(iterates[0].picture, start)
    torch.testing.assert_close(iterates[-1].picture, photograph, atol=1e-4, rtol=0)
    assert iterates[-1].terms["total"] < 1e-6 * iterates[0].terms["total"]
    # Each iterate's terms are its own.
    for iterate in iterates[::10]:
        torch.testing.assert_close(objective(iterate.picture, objective.target(photograph))["total"], iterate.terms["total"])
    bright = optimize(objective, photograph + 1, start, LBFGS, constant, 10)
    assert all(i.picture.min() >= 0 and i.picture.max() <= 1 for i in bright)


@pytest.mark.parametrize("unit", [1.0, 1 / 255])
def test_a_step_of_adam_is_in_the_recipes_unit(unit):
    photograph, start = torch.ones(1, 3, 8, 8), torch.full((1, 3, 8, 8), 0.5)
    objective = recipes.TensorFlow(Pixels(1 / 255), [photograph.double()], "relu1_1", {"relu1_1": 1.0}, style_weight=0.0)
    objective.pixel_unit = unit
    *_, last = optimize(objective, photograph.double(), start.double(), partial(torch.optim.Adam, lr=0.1), constant, 1)
    torch.testing.assert_close(last.picture, start.double() + 0.1 * unit)


def test_a_loss_that_is_not_finite_stops():
    photograph = random(1, 3, 8, 8)
    objective = recipes.PyTorch(Pixels(0.226), [photograph], "relu1_1", {"relu1_1": 1.0})
    objective.weights["content"] = float("inf")
    with pytest.raises(UserError, match=r"not finite at step 0 \(.*total.*optimizer\.lr"):
        list(optimize(objective, photograph, photograph, LBFGS, constant, 5))


def test_initial_pictures():
    photograph = torch.full((1, 3, 40, 40), 0.5)
    assert torch.equal(initial("content", photograph), photograph)
    noise, blend = initial("noise", photograph, seed=3), initial("blend", photograph, 0.25, seed=3)
    assert noise.min() >= 0 and noise.max() <= 1 and noise.std() > 0.25
    torch.testing.assert_close(blend, 0.75 * photograph + 0.25 * noise)
    assert torch.equal(noise, initial("noise", photograph, seed=3)) and not torch.equal(noise, initial("noise", photograph))
    for arguments in (("photo",), ("blend", 1.5)):
        with pytest.raises(UserError):
            initial(arguments[0], photograph, *arguments[1:])


def test_resized():
    image = to_tensor(picture(0)).unsqueeze(0)
    assert resized(image, 96, 128).shape == (1, 3, 96, 128)
    assert resized(image, *image.shape[-2:]) is image
    assert resized(image, 20, 200).min() >= 0 and resized(image, 20, 200).max() <= 1
