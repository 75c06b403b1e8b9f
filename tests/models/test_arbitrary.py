"""Zero-shot nets."""

from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import random_arbitrary

from fastnst.checkpoint import load_style
from fastnst.errors import UserError
from fastnst.losses.layer_names import STYLE_LAYERS
from fastnst.losses.objective import Objective
from fastnst.losses.terms import reference_picture
from fastnst.losses.vgg import LossNetwork
from fastnst.models import arbitrary, colors
from fastnst.models.arbitrary import AXES, POOLED, ArbitraryNet, Painted, Pooling
from fastnst.models.colors import MOST_STRETCH
from fastnst.models.dials import MOST_WEIGHT
from fastnst.training.module import AnyPainting, StyleTransfer


def test_units_of_oxfords_network_are_known():
    assert Pooling.measured(LossNetwork()) == pytest.approx(arbitrary.UNITS, rel=1e-4)


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


def test_hidden_units_are_whitened_and_predictions_stay():
    net = ArbitraryNet(width=4)
    pooled = torch.rand(400, POOLED, generator=torch.Generator().manual_seed(0))
    net.survey(pooled)
    before = net.predict(pooled, 2.0)
    old = {name: x.clone() for name, x in net.state_dict().items() if name not in ("head.2.center", "head.2.axes")}
    assert not net.last.whitened
    net.whiten(pooled)
    assert net.last.whitened
    torch.testing.assert_close(net.predict(pooled, 2.0), before, atol=1e-4, rtol=1e-4)
    hidden = net.head[:2](torch.cat([net.seen(pooled), torch.zeros(400, 1)], dim=1))
    seen = (hidden - net.last.center) @ net.last.axes
    assert seen.mean(0).norm() < 0.3 * hidden.mean(0).norm()  # not 0, as the dial was drawn, and is 0 here
    assert seen.square().mean(0).median().item() == pytest.approx(1, abs=0.3)
    assert hidden.square().mean(0).median() < 0.6
    again = ArbitraryNet(width=4)
    again.load_state_dict(net.state_dict())
    assert torch.equal(again.predict(pooled), net.predict(pooled))
    again.load_state_dict(old)  # of a file without it
    assert not again.last.whitened and torch.equal(again.predict(pooled, 2.0), before)


def test_the_last_layer_learns_as_embeddings_do():
    net = ArbitraryNet(width=4)
    first, last = AnyPainting.parameter_groups(SimpleNamespace(net=net, embedding_rate=20.0))
    assert {*last["params"]} == {net.last.weight, net.last.bias} and last["rate"] == 20 / 128
    assert {*first["params"]} == {*net.parameters()} - {*last["params"]}


def test_a_run_of_before_the_layers_own_rate_cannot_go_on():
    run = SimpleNamespace(parameter_groups=lambda: [{}, {}])
    for groups in (2, 1):
        with nullcontext() if groups == 2 else pytest.raises(UserError, match="ckpt=null init="):
            StyleTransfer.on_load_checkpoint(run, {"optimizer_states": [{"param_groups": groups * [{}]}]})


def test_nets_of_before_have_no_dial():
    net, pooled = ArbitraryNet(width=4), torch.randn(3, POOLED)
    net.survey(torch.randn(200, POOLED))
    state = net.state_dict()
    state["head.0.weight"] = state["head.0.weight"][:, :AXES]  # as in 0.1.0
    old = ArbitraryNet(width=4)
    old.load_state_dict(state)
    torch.testing.assert_close(old.predict(pooled, 3.0), old.predict(pooled))
    assert not torch.equal(net.predict(pooled, 3.0), net.predict(pooled))


def test_training_draws_the_dial():
    """Over its whole range, and the same again in a resumed run."""
    drawn = [AnyPainting.style_factor(SimpleNamespace(global_step=step)) for step in range(200)]
    assert drawn == [AnyPainting.style_factor(SimpleNamespace(global_step=step)) for step in range(200)]
    logarithms = np.log(drawn) / np.log(MOST_WEIGHT)
    assert -1 <= min(logarithms) < -0.9 and 0.9 < max(logarithms) <= 1 and abs(np.mean(logarithms)) < 0.1


def test_every_other_step_has_the_colours_of_inference():
    net, paintings = ArbitraryNet(width=4), torch.rand(2, 3, 64, 64)
    net.survey(0.1 * torch.rand(128, POOLED))
    objective = Objective(LossNetwork(), [paintings[:1]], scales=[1], median=1)
    module = AnyPainting(net, objective, None, None, {}, {}, {"held_out": paintings[:1]})
    seen, photographs = [], torch.rand(2, 3, 48, 48)
    for step in (0, 1):
        trainer = SimpleNamespace(
            global_step=step,
            datamodule=SimpleNamespace(next_paintings=lambda: {"image": paintings, "bad": []}),
            strategy=SimpleNamespace(batch_to_device=lambda batch: batch),
        )
        module._trainer = trainer
        condition, _ = module.condition({"image": photographs, "bad": []})
        seen.append((condition, net(photographs, *condition)))
    ((pooled, weight, none), plain), ((pooled_too, weight_too, colors), colored) = seen
    assert none is None and colors.shape == (2, 12) and weight != weight_too
    assert torch.equal(plain, net(photographs, pooled, weight))
    embeddings = net.predict(pooled_too, weight_too)
    sized = module._resized(paintings, 1)
    expected = torch.stack([net.colored(e, p) for e, p in zip(embeddings, sized.split(1), strict=True)])
    torch.testing.assert_close(colored, net.restyle(photographs, expected), atol=1e-5, rtol=0)
    ((_, (_, one, validated), _),) = module.validated(2)
    torch.testing.assert_close(validated, net.colored(net.predict(module.held_out)[0], paintings[:1])[-12:].expand(2, -1))
    assert one == 1


def test_a_step_with_the_colours_of_inference_reaches_all_weights():
    net, paintings = ArbitraryNet(width=4), torch.rand(1, 3, 64, 64)
    net.survey(0.1 * torch.rand(128, POOLED))
    objective = Objective(LossNetwork(), [paintings], scales=[1], median=1)
    module = AnyPainting(net, objective, None, None, {}, {}, {"x": paintings})
    with torch.autocast("cpu", torch.bfloat16):
        colors = module._colors(module.held_out, paintings)
        net(torch.rand(1, 3, 48, 48), module.held_out, 1.0, colors).square().sum().backward()
    assert all(weight.grad is not None for weight in net.parameters())


def colours_of(net, embedding):
    return F.avg_pool2d(net.fold(embedding).layers(reference_picture() * 2 - 1), 4)[0].flatten(1)


def test_results_have_the_paintings_colours(tmp_path, monkeypatch):
    net = random_arbitrary(tmp_path)
    torch.manual_seed(1)
    embedding = net.predict(torch.rand(1, POOLED))[0].detach()
    embedding[-12:] *= 0.6  # beside which the floor of a covariance is small
    colours = 0.4 * F.interpolate(torch.randn(1, 3, 16, 16), 128, mode="bicubic")
    painting = net.body.output(colours)
    torch.testing.assert_close(net.body.before_output(painting), colours, atol=1e-4, rtol=0)
    wanted = F.avg_pool2d(colours, 4)[0].flatten(1)
    with monkeypatch.context() as patch:
        patch.setattr(colors, "MOST_STRETCH", 100)
        full = colours_of(net, net.colored(embedding, painting))
    torch.testing.assert_close(full.mean(1), wanted.mean(1), atol=1e-3, rtol=0)
    torch.testing.assert_close(torch.cov(full), torch.cov(wanted), atol=0.1 * wanted.var().item(), rtol=0)
    torch.testing.assert_close(net.colored(embedding, painting)[:-12], embedding[:-12])
    embedding[-12:] *= 0.02  # a stretch has its limit
    pale, stretched = colours_of(net, embedding), colours_of(net, net.colored(embedding, painting))
    torch.testing.assert_close(stretched.mean(1), wanted.mean(1), atol=1e-3, rtol=0)
    spread = torch.cov(stretched).trace() / torch.cov(pale).trace()
    torch.testing.assert_close(spread, torch.tensor(MOST_STRETCH**2), atol=1e-2, rtol=0)


def test_an_embedding_is_predicted_from_the_painting(tmp_path, paintings):
    net, network = random_arbitrary(tmp_path), LossNetwork()
    files = [str(paintings / f"{i}.png") for i in range(2)]
    one, other, both = (Painted(net, network, shares, 48).embedding for shares in (
        {files[0]: 1}, {files[1]: 1}, {files[0]: 1, files[1]: 1}))  # fmt: skip
    torch.testing.assert_close(both, (one + other) / 2)
    assert (one - other).abs().max() > 0.01
    styled, _ = load_style(tmp_path / "any.safetensors", files[0])
    torch.testing.assert_close(styled.embedding, one)
    for size in (64, 80, 96):  # a visitor's, who moves the dial
        styled.embeddings_at(size)
    assert list(styled.looked) == [80, 96]  # not the pixels of all sizes
    torch.testing.assert_close(styled.embeddings_at(48)[files[0]], one)
    photographs = torch.rand(1, 3, 32, 32)
    pooled = Pooling(network)(network(torch.rand(1, 3, 48, 48), STYLE_LAYERS))
    folded = net.fold(net.predict(pooled)[0])
    torch.testing.assert_close(net(photographs, pooled), folded(photographs), atol=1e-5, rtol=0)
