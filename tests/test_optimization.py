"""The slow method: its recipes' formulas against NumPy, the descent itself, and the command."""

from functools import partial

import numpy as np
import pytest
import torch
from conftest import picture
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fastnst.commands import optimize as command_module
from fastnst.commands.optimize import main
from fastnst.errors import UserError
from fastnst.images import load_rgb, to_tensor
from fastnst.losses import recipes
from fastnst.losses.objective import Objective
from fastnst.losses.terms import isotropic_total_variation
from fastnst.losses.vgg import LossNetwork
from fastnst.optimization import initial, optimize, resized
from fastnst.training.schedules import constant

LBFGS = partial(torch.optim.LBFGS, lr=1.0, max_iter=1, history_size=100)


class Pixels(torch.nn.Module):
    """A loss network whose one layer is the picture itself, in units of its `std`."""

    network = "vgg16"

    def __init__(self, std: float):
        super().__init__()
        self.std = torch.full((1, 3, 1, 1), std, dtype=torch.float64)

    def forward(self, images, layers):
        return {layer: images / self.std for layer in layers}


def random(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)


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
    objective = recipe(Pixels(std), painting, "relu1_1", {"relu1_1": 0.5}, 2.0, 3.0, 4.0)
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


def test_isotropic_total_variation_against_loops():
    images, total = random(2, 3, 4, 5), 0.0
    for image in images.numpy():
        for c, y, x in np.ndindex(image.shape):
            dx = image[c, y, x + 1] - image[c, y, x] if x + 1 < 5 else 0
            dy = image[c, y + 1, x] - image[c, y, x] if y + 1 < 4 else 0
            total += np.hypot(dx, dy) / (3 * 4 * 5)
    assert isotropic_total_variation(images).item() == pytest.approx(total / 2, rel=1e-6)
    assert torch.autograd.gradcheck(isotropic_total_variation, random(1, 2, 3, 4).requires_grad_())
    flat = torch.full((1, 3, 4, 4), 0.5, requires_grad=True)
    isotropic_total_variation(flat).backward()
    assert flat.grad.isfinite().all()


def test_isotropic_is_the_objective_but_for_tv():
    network, painting, image = LossNetwork(), torch.rand(1, 3, 32, 32), torch.rand(1, 3, 32, 32)
    terms = []
    for kind in (Objective, recipes.Isotropic):
        objective = kind(network, painting)
        terms.append(objective(image, objective.target(painting)))
    assert terms[0]["content"] == terms[1]["content"] and terms[0]["style"] == terms[1]["style"]
    assert terms[0]["tv"] != terms[1]["tv"]


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


@pytest.fixture
def files(tmp_path):
    picture(1, 80, 60).save(tmp_path / "photo.jpg")
    picture(2, 70, 64).save(tmp_path / "painting.png")
    return ("content=photo.jpg", "style=custom", "style.image=painting.png", "style.size=48", "steps=3")


def test_the_command(command, files, tmp_path):
    status, out, err = command(main, *files, "sizes=[32,48]", "save_every=2", "run_dir=run")
    assert status == 0, err
    result = tmp_path / "outputs/photo_custom_johnson.png"
    assert out.splitlines()[-1] == str(result.relative_to(tmp_path))
    assert load_rgb(result).size == (48, 36)
    written = {p.name for p in (tmp_path / "outputs").iterdir()}
    steps = ("00000", "00002", "00004", "00006")  # two of each pass, counted on
    assert written == {result.name, "photo_custom_johnson_losses.png", *(f"photo_custom_johnson_{n}.png" for n in steps)}
    assert load_rgb(tmp_path / "outputs/photo_custom_johnson_losses.png").width > 300
    events = EventAccumulator(str(tmp_path / "run")).Reload()
    assert {"total", "content", "style", "tv", "style/relu4_3"} <= set(events.Tags()["scalars"])
    assert {"style", "result"} == set(events.Tags()["images"])
    totals = [event.value for event in events.Scalars("total")]
    assert len(totals) == 8 and totals[3] < totals[0] and totals[7] < totals[4]


def test_each_pass_starts_from_the_result_before_it(command, files, monkeypatch):
    starts, ends = [], []

    def watched(objective, photograph, start, *arguments):
        starts.append(start)
        for iterate in optimize(objective, photograph, start, *arguments):
            yield iterate
        ends.append(iterate.picture)

    monkeypatch.setattr(command_module, "optimize", watched)
    assert command(main, *files, "sizes=[32,64]", "init=noise")[0] == 0
    torch.testing.assert_close(starts[1], resized(ends[0], 48, 64))
    assert starts[0].std() > 0.25  # noise


@pytest.mark.parametrize("init", ["content", "noise"])
def test_gatys_falls_from_either_start(command, files, init, tmp_path):
    arguments = ("recipe=gatys", "loss_network=vgg16", "sizes=[64]", "steps=10", f"init={init}", "run_dir=run")
    assert command(main, *files, *arguments)[0] == 0
    totals = [e.value for e in EventAccumulator(str(tmp_path / "run")).Reload().Scalars("total")]
    assert totals == sorted(totals, reverse=True) and totals[-1] < totals[0] / 3


@pytest.mark.parametrize("recipe", ["tv", "gatys", "pytorch", "tensorflow"])
def test_recipes_run_on_the_shipped_network(command, files, tmp_path, recipe):
    status, out, err = command(main, *files, f"recipe={recipe}", "loss_network=vgg16", "sizes=[32]")
    assert status == 0, err
    assert (tmp_path / f"outputs/photo_custom_{recipe}.png").is_file()


def test_d2l_runs_on_vgg16_with_another_content_layer(command, files):
    arguments = ("recipe=d2l", "loss_network=vgg16", "loss.content_layer=conv4_3", "sizes=[32]")
    assert command(main, *files, *arguments)[0] == 0


def test_d2l_runs_on_a_file_of_vgg19(command, files, tmp_path):
    import torchvision

    torch.manual_seed(0)
    torch.save(torchvision.models.vgg19().state_dict(), tmp_path / "vgg19.pth")
    status, _, err = command(main, *files, "recipe=d2l", "loss_network.weights=vgg19.pth", "sizes=[32,48]")
    assert status == 0, err
    assert load_rgb(tmp_path / "outputs/photo_custom_d2l.png").size == (48, 36)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["content=missing.jpg"], "no such picture file"),
        (["style=waves"], "there is no such style"),
        (["recipe=vangogh"], "there is no such recipe; there are d2l, gatys, johnson, pytorch, tensorflow, tv"),
        (["recipe=d2l", "loss_network=vgg16"], "vgg16 has no layer 'conv4_4'"),
        (["init=photo"], "give content, noise or blend"),
        (["init=blend", "init_noise=2"], "init_noise=2"),
        (["sizes=[8]"], "sizes=[8]: give whole numbers from 16"),
        (["sizes=32"], "sizes=32: give whole numbers"),
        (["init_noise=abc"], "init_noise=abc"),
        (["seed=abc"], "seed=abc"),
        (["loss.style_weight=-1"], "loss.style_weight=-1: give a number from 0"),
        (["loss.style_weight=nan"], "loss.style_weight=nan"),
        (["optimizer.lr=-1"], "optimizer: "),
        (["recipe=tensorflow", "loss_network=vgg16", "optimizer=lbfgs"], "betas"),
        (["recipe=null"], "cannot be put together"),
        (["style=null"], "cannot be put together"),
        (["style.image=null"], "style.image=None: give a path"),
        (["style.name=a/b"], "style.name=a/b"),
        (["content="], "content=: give a path"),
        (["out=x.gif"], "out=x.gif: give a name that ends in"),
        (["out=~nouser/x"], "out=~nouser/x"),
        (["content=thin.png", "sizes=[64]"], "64 x 2 px is too small for the loss network"),
        (["content=wave_00001.png", "out=wave.png"], "wave_00001.png might be overwritten"),
        (["--nosuchflag"], "--nosuchflag"),
        (["steps=0"], "steps=0"),
        (["save_every=0"], "save_every=0"),
        (["out=photo.jpg"], "photo.jpg might be overwritten"),
        (["optimizer.rate=3"], "optimizer.rate"),
    ],
)
def test_bad_input_gets_one_line(command, files, tmp_path, arguments, message):
    picture(1, 320, 10).save(tmp_path / "thin.png")
    picture(1).save(tmp_path / "wave_00001.png")
    before = sorted(tmp_path.rglob("*"))
    status, _, err = command(main, *files, *arguments)
    assert status == 2, err
    assert message in err and len(err.splitlines()) == 1
    assert sorted(tmp_path.rglob("*")) == before
