"""Nets of several styles and of any painting: training, choosing, mixing, and what they fold into."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import ROOT, picture
from PIL import Image

import fastnst
from fastnst.checkpoint import export, load_net, load_style
from fastnst.commands.evaluate import main as evaluate
from fastnst.commands.export import main as export_other
from fastnst.commands.infer import main as infer
from fastnst.commands.train import main as train
from fastnst.data.files import sample_photographs
from fastnst.errors import UserError
from fastnst.losses.objective import Objective
from fastnst.losses.vgg import LossNetwork
from fastnst.losses.vgg_layers import STYLE_LAYERS
from fastnst.models.arbitrary import AXES, POOLED, ArbitraryNet, Painted, Pooling, first_row
from fastnst.models.conditional import MultiStyleNet, row_of
from fastnst.models.transform_net import TransformNet
from fastnst.web.page import Studio


@pytest.fixture
def several(small_training, paintings):
    """Overrides for a small training of two styles."""
    dropped = ("style.image=", "style.name=")
    return (
        *(argument for argument in small_training if not argument.startswith(dropped)),
        f"style.images={{a: '{paintings}/0.png', b: '{paintings}/1.png'}}", "model=multi",
    )  # fmt: skip


def random_multi(styles=("a", "b"), width=4):
    net = MultiStyleNet(styles, width)
    torch.nn.init.normal_(net.rows, 0.5, 0.5)
    return net.eval()


def test_each_picture_is_given_its_own_style():
    net, photographs = random_multi(), torch.rand(3, 3, 32, 40)
    with torch.no_grad():
        together = net(photographs, torch.tensor([0, 1, 0]))
        alone = [net.choose({net.styles[i]: 1.0})(photographs[n : n + 1]) for n, i in enumerate((0, 1, 0))]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-5, rtol=0)
    assert (together[0] - net(photographs[:1], torch.tensor([1]))[0]).abs().mean() > 0.01
    assert net.numbers == 412 and MultiStyleNet(["a"], 32).numbers == 3212  # 100 times the width, and 12


def test_a_row_holds_an_ordinary_nets_scales_and_shifts():
    plain, net = TransformNet(width=4).eval(), MultiStyleNet(["a", "b"], 4)
    for parameter in plain.parameters():
        torch.nn.init.normal_(parameter, 0.2, 0.3)
    net.start(plain, dict.fromkeys("ab", row_of(plain)))
    photographs = torch.rand(1, 3, 32, 32)
    for style in ("a", "b"):
        torch.testing.assert_close(net.choose({style: 1})(photographs), plain(photographs))
    net = random_multi()
    torch.testing.assert_close(row_of(net.choose({"b": 1}))[:-12], net.rows[1, :-12].detach())  # the colours are folded in


def test_styles_mix_by_their_rows():
    net = random_multi()
    torch.testing.assert_close(
        row_of(net.choose({"a": 1, "b": 3}))[:-12], (0.25 * net.rows[0] + 0.75 * net.rows[1]).detach()[:-12]
    )
    for shares, message in (({"c": 1}, "has a, b"), ({"a": -1}, "from 0"), ({"a": 0}, "not all 0")):
        with pytest.raises(UserError, match=message):
            net.choose(shares)


def test_starting_keeps_the_rows_of_styles_it_knows():
    net, new = random_multi(), MultiStyleNet(["b", "new"], 4)
    new.start(net, {style: first_row(net, style) for style in new.styles})
    torch.testing.assert_close(new.rows[0], net.rows[1])
    torch.testing.assert_close(new.rows[1], net.rows.mean(0))
    with pytest.raises(UserError, match="'width': 4"):
        MultiStyleNet(["b"], 5).start(net, {"b": net.rows[0]})
    batch = TransformNet("batch", 4)
    with pytest.raises(UserError, match="'norm': 'batch'"):
        MultiStyleNet(["b"], 4).start(batch, {"b": first_row(batch, "b")})
    predicted = ArbitraryNet(width=4)
    predicted.start(net)
    torch.testing.assert_close(predicted.head[2].bias, net.rows.mean(0))


def test_the_objective_compares_each_picture_with_its_own_painting():
    network = LossNetwork()
    paintings = [torch.rand(1, 3, 32, 48), torch.rand(1, 3, 40, 32) ** 3]
    objective, images = Objective(network, paintings), torch.cat([p[..., :32, :32] for p in paintings])
    target = objective.target(images)
    crossed, own = (objective(images, target, objective.paintings(torch.tensor(i)))["style"] for i in ((1, 0), (0, 1)))
    one = [Objective(network, [p])(images[i : i + 1], target[i : i + 1])["style"] for i, p in enumerate(paintings)]
    assert own.item() == pytest.approx(sum(one).item() / 2, rel=1e-4)
    assert crossed > 2 * own


def test_several_styles_in_one_net(command, several, tmp_path, photographs):
    status, out, err = command(train, *several)
    assert status == 0, err
    net, info = load_net(tmp_path / "checkpoints" / "a+b.safetensors")
    assert net.styles == ["a", "b"] and info["style"]["name"] == "a+b"
    totals = info["validation"]
    assert totals["val/total"] == pytest.approx((totals["val/total/a"] + totals["val/total/b"]) / 2)
    assert not torch.equal(net.rows[0], net.rows[1])
    last = next(tmp_path.glob("runs/a+b/*/last.ckpt"))
    assert load_net(last)[0].styles == ["a", "b"]

    results = {}
    photograph = photographs / "00.jpg"
    for style in ("a", "b", "{a: 0.5, b: 0.5}"):
        status, out, err = command(infer, "ckpt=checkpoints/a+b.safetensors", f"img={photograph}", f"style={style}")
        assert status == 0, err
        results[style] = np.asarray(Image.open(tmp_path / out.strip()), int)
    assert set(p.name for p in (tmp_path / "outputs").iterdir()) == {"00_a+b_a.jpg", "00_a+b_b.jpg", "00_a+b_a+b.jpg"}
    expected = fastnst.load(tmp_path / "checkpoints/a+b.safetensors", style="a")(Image.open(photograph))
    exactly = ("ckpt=checkpoints/a+b.safetensors", f"img={photograph}", "style=a", "out=a.png")
    assert command(infer, *exactly)[0] == 0
    assert Image.open(tmp_path / "a.png").tobytes() == expected.tobytes()
    assert not np.array_equal(results["a"], results["b"])
    for arguments, message in (((), "holds a, b: give style=NAME"), (("style=c",), "this checkpoint has a, b")):
        status, _, err = command(infer, "ckpt=checkpoints/a+b.safetensors", f"img={photograph}", *arguments)
        assert status == 2 and message in err and len(err.splitlines()) == 1
    status, out, err = command(export_other, "ckpt=checkpoints/a+b.safetensors", "style=b", "format=torchscript")
    assert status == 0 and float(out.split(": ")[1].split(" /")[0]) <= 1, err


def test_norms_alone_are_learnt_for_a_new_painting(command, several, small_training, tmp_path):
    assert command(train, *several, "out=base.safetensors")[0] == 0
    new = (*small_training, "model=multi", "train=norms", "out=new.safetensors", "optimizer.lr=0.0005")
    status, _, err = command(train, *new, "model.width=4", "init=base.safetensors")
    assert status == 0, err
    base, _ = load_net(tmp_path / "base.safetensors")
    net, info = load_net(tmp_path / "new.safetensors")
    assert net.styles == ["small"]
    for name, weight in net.body.state_dict().items():
        assert torch.equal(weight, base.body.state_dict()[name])
    assert (net.rows[0] - base.rows.mean(0)).abs().max() > 0.01
    status, out, err = command(infer, "ckpt=new.safetensors", "img=photographs/00.jpg")  # its one style need not be named
    assert status == 0, err
    for arguments, message in ((new, "init=FILE"), ((*small_training, "train=norms"), "model=multi"),
                               ((*small_training, "train=some"), "all or norms")):  # fmt: skip
        status, _, err = command(train, *arguments)
        assert status == 2 and message in err and len(err.splitlines()) == 1


def test_a_row_of_ones_own_begins_on_the_shipped_net(command, small_training, tmp_path):
    shipped = ROOT / "checkpoints" / "painters.safetensors"
    few = [argument for argument in small_training if not argument.startswith("model")]
    status, _, err = command(train, "experiment=row", *few, "out=mine.safetensors")
    assert status == 0, err
    (net, info), (start, _) = load_net(tmp_path / "mine.safetensors"), load_net(shipped)
    assert net.styles == ["small"] and info["steps"] == 6
    assert all(torch.equal(weight, start.body.state_dict()[name]) for name, weight in net.body.state_dict().items())
    moved = (net.rows[0] - start.rows.mean(0)).abs().max()
    assert 0.01 < moved < 0.3  # six steps of at most 0.04 from where it began


def test_a_net_of_ones_own_begins_on_the_shipped_one(command, small_training, tmp_path):
    shipped = ROOT / "checkpoints" / "arbitrary.safetensors"
    few = [argument for argument in small_training if not argument.startswith("model")]
    status, _, err = command(train, "experiment=minutes", *few, "out=mine.safetensors")
    assert status == 0, err
    net, info = load_net(tmp_path / "mine.safetensors")
    assert isinstance(net, TransformNet) and info["steps"] == 6
    first = load_style(shipped, str(tmp_path / "painting.png"))[0].at(1.0).state_dict()
    for name, weight in net.state_dict().items():
        assert (weight - first[name]).abs().max() < 0.01  # six steps of 1e-3 from where it began
    assert not torch.equal(weight, first[name])


def test_what_is_shipped_restyles(tmp_path):
    photograph = Image.open(sample_photographs()[1][0]).convert("RGB").resize((96, 64))
    results = []
    for file in sorted((ROOT / "checkpoints").glob("*.safetensors")):
        assert file.stat().st_size < 10e6
        net, _ = load_net(file)
        names = net.styles if isinstance(net, MultiStyleNet) else [None]
        if isinstance(net, ArbitraryNet):
            picture(1).save(tmp_path / "painting.png")
            names = [str(tmp_path / "painting.png"), str(ROOT / "fastnst/assets/artworks/mosaic.jpg")]
        results += [fastnst.load(file, style=name)(photograph) for name in names]
    pictures = [np.asarray(photograph, int), *(np.asarray(result, int) for result in results)]
    for i, one in enumerate(pictures):
        assert all(abs(one - other).mean() > 10 for other in pictures[:i])  # from the photograph and from each other


def test_a_model_of_one_style_refuses_several(command, several):
    status, _, err = command(train, *several, "model=johnson", "model.width=4")
    assert status == 2 and "model=multi" in err and len(err.splitlines()) == 1


def test_artworks_are_listed_by_name(command, small_training, tmp_path):
    arguments = [a for a in small_training if not a.startswith("style")]
    status, _, err = command(
        train, *arguments, "style=[wave,inkwash]", "style.size=32", "model=multi", "trainer.max_steps=1"
    )
    assert status == 0, err
    assert load_net(tmp_path / "checkpoints/wave+inkwash.safetensors")[0].styles == ["wave", "inkwash"]


def test_any_painting_in_one_pass(command, several, paintings, photographs, tmp_path):
    arguments = (*several, "model=arbitrary", "model.width=4", "out=any.safetensors")
    status, _, err = command(train, *arguments)
    assert status == 2 and "data.styles=/folder" in err
    script = [sys.executable, ROOT / "scripts/train.py", *arguments, f"data.styles={paintings}", "run_dir=runs/any/x"]
    done = subprocess.run(script, cwd=tmp_path, capture_output=True, text=True, timeout=200)  # all its processes end
    assert done.returncode == 0, done.stderr
    _, info = load_net(tmp_path / "any.safetensors")
    assert {"val/total/a", "val/total/b"} <= set(info["validation"])

    rows = [load_style(tmp_path / "any.safetensors", str(paintings / f"{i}.png"))[0].row for i in (2, 3)]
    assert (rows[0] - rows[1]).abs().max() > 1e-3

    again = (*arguments, f"data.styles={paintings}", "trainer.max_steps=4", "run_dir=runs/any/y", "out=part.safetensors")
    # A schedule that knows nothing of the number of steps: four, and then two more, are the same as six.
    assert command(train, *again)[0] == 0
    status, _, err = command(train, *again, "trainer.max_steps=6", "ckpt=runs/any/y/last.ckpt")
    assert status == 0, err
    whole, part = (load_net(tmp_path / f"{name}.safetensors")[0].state_dict() for name in ("any", "part"))
    assert all(torch.equal(whole[key], part[key]) for key in whole)

    for style in (paintings / "2.png", f"{{{paintings}/2.png: 1, {paintings}/3.png: 2}}"):
        status, out, err = command(infer, "ckpt=any.safetensors", f"img={photographs}/00.jpg", f"style={style}")
        assert status == 0, err
    # A net of the painting's own, or a new row, begins at the row that is predicted for it.
    row = load_style(tmp_path / "any.safetensors", str(paintings / "2.png"))[0].row
    first = ("init=any.safetensors", "style=custom", f"style.image={paintings}/2.png", "style.name=c", "optimizer.lr=0")
    few = [argument for argument in several if not argument.startswith(("style", "model"))]
    for model in ("johnson", "multi"):
        status, _, err = command(train, *few, *first, f"model={model}", "model.width=4", f"out={model}.safetensors")
        assert status == 0, err
    own, multi = (load_net(tmp_path / f"{model}.safetensors")[0] for model in ("johnson", "multi"))
    torch.testing.assert_close(multi.rows[0], row)
    photograph = torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(own(photograph), multi.choose({"c": 1})(photograph))
    for arguments, message in (((), "style=painting.jpg"), (("style=none.png",), "no such picture")):
        status, _, err = command(infer, "ckpt=any.safetensors", f"img={photographs}/00.jpg", *arguments)
        assert status == 2 and message in err and len(err.splitlines()) == 1
    status, _, err = command(
        evaluate, "ckpt=any.safetensors", "style=custom", f"style.image={paintings}/2.png", f"data.root={photographs}",
        "fast=true", "size=64",
    )  # fmt: skip
    assert status == 0, err


def random_arbitrary(tmp_path):
    net = ArbitraryNet(width=4)
    torch.manual_seed(0)
    net.survey(0.1 * torch.rand(128, POOLED))
    torch.nn.init.normal_(net.head[2].weight, 0, 0.2)
    info = {"style": {"name": "x", "size": 48}, "objective": {"loss_network": {"network": "vgg16", "weights": "oxford"}}}
    export(tmp_path / "any.safetensors", net, info)
    return net


def test_paintings_are_told_by_how_they_differ():
    net, scale = ArbitraryNet(width=4), torch.logspace(0, -3, POOLED)
    pooled = 5 + torch.randn(300, POOLED, generator=torch.Generator().manual_seed(0)) * scale
    net.survey(pooled)
    seen = net.seen(pooled)
    torch.testing.assert_close(seen.mean(0), torch.zeros(AXES), atol=0.02, rtol=0)
    torch.testing.assert_close(seen.T @ seen / len(seen), torch.eye(AXES), atol=0.1, rtol=0)
    far = 5 + 100 * (pooled[:2] - 5)
    assert not torch.equal(net.predict(far), net.predict(pooled[:2]))
    assert (net.seen(far).abs() <= 3).all() and (net.seen(far).abs() == 3).any()  # at the rim of what was learnt from
    net.survey(pooled[:, :1] * torch.linspace(0.5, 1, POOLED))  # that differ in one way alone
    assert net.seen(pooled[:2]).isfinite().all()
    with pytest.raises(UserError, match="all alike"):
        net.survey(torch.ones(128, POOLED))


def test_a_row_is_predicted_from_the_painting(tmp_path, paintings):
    net, network = random_arbitrary(tmp_path), LossNetwork()
    files = [str(paintings / f"{i}.png") for i in range(2)]
    one, other, both = (Painted(net, network, shares, 48).row for shares in (
        {files[0]: 1}, {files[1]: 1}, {files[0]: 1, files[1]: 1}))  # fmt: skip
    torch.testing.assert_close(both, (one + other) / 2)
    assert (one - other).abs().max() > 0.01
    styled, _ = load_style(tmp_path / "any.safetensors", files[0])
    torch.testing.assert_close(styled.row, one)
    photographs = torch.rand(1, 3, 32, 32)
    pooled = Pooling(network)(network(torch.rand(1, 3, 48, 48), STYLE_LAYERS))
    folded = net.fold(net.predict(pooled)[0])
    torch.testing.assert_close(net(photographs, pooled), folded(photographs), atol=1e-5, rtol=0)


def test_strength_moves_between_the_photographs_own_style_and_the_paintings(tmp_path, paintings):
    random_arbitrary(tmp_path)
    style = fastnst.load(tmp_path / "any.safetensors", style=str(paintings / "0.png"))
    photograph = picture(3)
    full, half, none = (np.asarray(style(photograph, strength=s), int) for s in (1.0, 0.5, 0.0))
    own = style.styles[0].at(0.0, photograph)
    expected = own(torch.from_numpy(np.array(photograph)).permute(2, 0, 1)[None] / 255).clamp(0, 1)[0] * 255
    assert abs(expected.permute(1, 2, 0).detach().numpy().round() - none).max() <= 1
    blend = (full + none) / 2
    assert abs(half - full).mean() > 0.5 and abs(half - blend).mean() > 0.1  # not a mixture of the two pictures


def test_the_page_offers_every_style(tmp_path, paintings, photographs):
    random_arbitrary(tmp_path)
    export(tmp_path / "many.safetensors", random_multi(), {"style": {"name": "a+b"}})
    folder = tmp_path / "page"
    folder.mkdir()
    studio = Studio(tmp_path, folder, 1e6)
    assert list(studio.styles) == ["any: your painting", "many: a", "many: b"] and len(studio.thumbnails()) == 3
    photograph, rest = str(photographs / "00.jpg"), (1.0, False, 1.0)
    files = [studio.restyle(photograph, style, *rest)[1] for style in ("many: a", "many: b")]
    files += [studio.restyle(photograph, "any: your painting", *rest, str(paintings / f"{i}.png"))[1] for i in range(2)]
    assert len({Image.open(file).tobytes() for file in files}) == 4
    with pytest.raises(UserError, match="Drop a painting too"):
        studio.restyle(photograph, "any: your painting", *rest)
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(UserError, match="cannot be"):
        studio.restyle(photograph, "any: your painting", *rest, str(tmp_path / "text.png"))


def test_a_checkpoint_of_one_style_refuses_a_name(tmp_path):
    export(tmp_path / "one.safetensors", TransformNet(width=4), {"style": {"name": "one"}})
    with pytest.raises(UserError, match="holds one style"):
        load_style(tmp_path / "one.safetensors", "wave")
    random_arbitrary(tmp_path)
    for style in ({}, 5, [1]):
        with pytest.raises(UserError, match="give"):
            load_style(tmp_path / "any.safetensors", style)
