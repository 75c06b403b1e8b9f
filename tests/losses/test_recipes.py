"""The recipes' formulas."""

import numpy as np
import pytest
import torch
from conftest import Pixels, random

from fastnst.errors import UserError
from fastnst.losses import recipes
from fastnst.losses.objective import Objective
from fastnst.losses.vgg import LossNetwork


def gram_by_loops(features: np.ndarray) -> np.ndarray:
    channels, rows, columns = features.shape
    gram = np.zeros((channels, channels))
    for y in range(rows):
        for x in range(columns):
            gram += np.outer(features[:, y, x], features[:, y, x])
    return gram


@pytest.mark.parametrize("std", [0.226, 1 / 255])  # whichever weights are there, features come in the recipe's own range
@pytest.mark.parametrize("name", ["Gatys", "PyTorch", "TensorFlow", "D2L"])
def test_formulas_against_numpy(name, std):
    recipe = getattr(recipes, name)
    photograph, painting, result = random(1, 3, 6, 5), random(1, 3, 4, 7), random(1, 3, 6, 5) ** 2
    objective = recipe(Pixels(std), [painting], "relu1_1", {"relu1_1": 0.5}, 2.0, 3.0, 4.0)
    terms = {key: value.item() for key, value in objective(result, objective.target(photograph)).items()}

    scale = 255.0 if name in ("Gatys", "TensorFlow") else 1 / 0.226
    x, s, y = (scale * p[0].numpy() for p in (photograph, painting, result))
    difference, grams = (y - x) ** 2, [(gram_by_loops(p), p.shape[1] * p.shape[2]) for p in (y, s)]
    if name in ("Gatys", "TensorFlow"):
        (a, b) = (gram / positions for gram, positions in grams)
    else:
        (a, b) = (gram / (3 * positions) for gram, positions in grams)
    content = 0.5 * difference.sum() if name == "Gatys" else difference.mean()
    style = 0.5 * (((a - b) ** 2).sum() / (4 * 3**2) if name == "Gatys" else ((a - b) ** 2).mean())
    pixels = result[0].numpy()
    down, across = np.diff(pixels, axis=1), np.diff(pixels, axis=2)
    tv = ((down**2).sum() + (across**2).sum()) / pixels.size
    if name == "D2L":
        tv = (np.abs(down).mean() + np.abs(across).mean()) / 2 / 0.226
    assert terms["content"] == pytest.approx(content)
    assert terms["style"] == pytest.approx(style)
    assert terms["tv"] == pytest.approx(tv)
    assert terms["total"] == pytest.approx(2 * content + 3 * style + 4 * tv)


def test_isotropic_is_the_objective_but_for_tv():
    network, painting, image = LossNetwork(), torch.rand(1, 3, 32, 32), torch.rand(1, 3, 32, 32)
    terms = []
    for kind in (Objective, recipes.Isotropic):
        objective = kind(network, [painting])
        terms.append(objective(image, objective.target(painting)))
    assert terms[0]["content"] == terms[1]["content"] and terms[0]["style"] == terms[1]["style"]
    assert terms[0]["tv"] != terms[1]["tv"]


def test_terms_that_no_recipe_has_are_refused():
    for name in ("palette", "tone"):
        with pytest.raises(UserError, match=f"loss.{name}_weight=1: this recipe has no such term"):
            recipes.Gatys(Pixels(0.226), [random(1, 3, 4, 7)], "relu1_1", {"relu1_1": 0.5}, **{f"{name}_weight": 1})
