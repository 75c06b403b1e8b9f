"""The command that optimizes one picture."""

import pytest
import torch
from conftest import picture
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fastnst.commands import optimize as command_module
from fastnst.commands.entry import optimize as main
from fastnst.images import load_rgb
from fastnst.optimization import Iterate, optimize, resized


@pytest.fixture
def files(tmp_path):
    picture(1, 80, 60).save(tmp_path / "photo.jpg")
    picture(2, 70, 64).save(tmp_path / "painting.png")
    return ("content=photo.jpg", "style=custom", "style.image=painting.png", "style.size=96", "steps=3")


def test_the_command(command, files, tmp_path):
    status, out, err = command(main, *files, "sizes=[48,64]", "loss.scales=[1]", "save_every=2", "run_dir=run")
    assert status == 0, err
    result = tmp_path / "outputs/photo_custom_johnson.png"
    assert out.splitlines()[-1] == str(result.relative_to(tmp_path))
    assert load_rgb(result).size == (64, 48)
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
    assert command(main, *files, "sizes=[48,64]", "loss.scales=[1]", "init=noise")[0] == 0
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
    size = 88 if recipe == "tv" else 48  # the former's objective has three scales
    status, out, err = command(main, *files, f"recipe={recipe}", "loss_network=vgg16", f"sizes=[{size}]")
    assert status == 0, err
    assert (tmp_path / f"outputs/photo_custom_{recipe}.png").is_file()


def test_each_size_has_its_own_steps_and_decay(command, files, monkeypatch):
    passes = []

    def watched(objective, photograph, start, optimizer, schedule, steps):
        stepper = optimizer([torch.zeros(1, requires_grad=True)])
        rates, scheduler = [], schedule(stepper, steps)
        for _ in range(steps):
            rates.append(scheduler.get_last_lr()[0])
            stepper.step()
            scheduler.step()
        passes.append((photograph.shape[-1], steps, [i for i in range(1, steps) if rates[i] < rates[i - 1]]))
        yield Iterate(0, start, {"total": torch.ones(())})

    monkeypatch.setattr(command_module, "optimize", watched)
    arguments = ("recipe=d2l", "loss_network=vgg16", "loss.content_layer=conv4_3", "steps=[500,300]")
    assert command(main, *files, *arguments)[0] == 0
    assert passes == [(300, 500, [200, 400]), (1200, 300, [100, 200])]
    passes.clear()
    assert command(main, *files, *arguments, "sizes=[32,48,64]", "steps=[2,3]")[0] == 0
    assert [steps for _, steps, _ in passes] == [2, 3, 3]


def test_d2l_runs_on_vgg16_with_another_content_layer(command, files):
    arguments = ("recipe=d2l", "loss_network=vgg16", "loss.content_layer=conv4_3", "sizes=[32]")
    assert command(main, *files, *arguments)[0] == 0


def test_d2l_runs_on_a_file_of_vgg19(command, files, tmp_path):
    from torchvision.models import vgg

    torch.manual_seed(0)
    layers = torch.nn.ModuleDict({"features": vgg.make_layers(vgg.cfgs["E"])})  # of vgg.vgg19, without the large classifier
    torch.save(layers.state_dict(), tmp_path / "vgg19.pth")
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
        (["sizes=[32,1000000]"], "sizes=1000000: a step takes 1500000.0 GB of memory at the least"),
        (["sizes=[2000,32]"], "sizes=2000: such a pass sees the painting at 6000 px; 2048 px is the most"),
        (["style.size=1000000"], "style.size=1000000: give a number from 16 to 2048"),
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
        (["steps=[5,0]"], "steps=[5, 0]: give whole numbers"),
        (["+optimizer.schedule.every=[]"], "optimizer.schedule.every=[]: give a value"),
        (["save_every=0"], "save_every=0"),
        (["out=photo.jpg"], "photo.jpg might be overwritten"),
        (["optimizer.rate=3"], "optimizer.rate"),
    ],
)
def test_bad_input_gets_one_line(command, files, tmp_path, arguments, message):
    picture(1, 320, 10).save(tmp_path / "thin.png")
    picture(1).save(tmp_path / "wave_00001.png")
    before = sorted(tmp_path.rglob("*"))
    status, _, err = command(main, *files, "sizes=[64]", *arguments)  # small, in case it gets so far
    assert status == 2, err
    assert message in err and len(err.splitlines()) == 1
    assert sorted(tmp_path.rglob("*")) == before
