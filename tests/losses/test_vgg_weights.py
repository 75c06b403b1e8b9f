"""Each source of the loss network's weights."""

import numpy as np
import pytest
import torch
import torchvision
from conftest import oxford_state
from safetensors.torch import load_file, save_file
from torchvision.models.vgg import cfgs, make_layers

from fastnst.errors import UserError
from fastnst.losses import vgg_weights
from fastnst.losses.layer_names import convolutions, torchvision_index
from fastnst.losses.vgg import LossNetwork
from fastnst.losses.vgg_weights import ASSETS, OXFORD, WeightSet

LAYERS = tuple(name.replace("conv", "relu") for name in convolutions("vgg16"))


def test_weights_are_oxfords():
    paper, block5 = (load_file(file) for file in OXFORD)
    np.testing.assert_allclose(paper["conv1_1.bias"][:3], [0.73429835, 0.09340367, 0.06775674], rtol=1e-3)
    assert sum(t.numel() for t in paper.values()) == 7_635_264
    assert sum(t.numel() for t in block5.values()) == 3 * (512 * 512 * 9 + 512)
    assert [file.stat().st_size < 16e6 for file in OXFORD] == [True, True]


def test_vgg19_that_cannot_be_had_names_vgg16(monkeypatch):
    def get_state_dict(self, progress):
        raise OSError("no route to host")

    monkeypatch.setattr(torchvision.models.VGG19_Weights, "get_state_dict", get_state_dict)
    with pytest.raises(UserError, match=r"vgg19.*cannot be downloaded.*loss_network=vgg16"):
        LossNetwork("torchvision", "vgg19")
    with pytest.raises(UserError, match="oxford is VGG16 alone"):
        LossNetwork("oxford", "vgg19")
    with pytest.raises(UserError, match="torchvision has no such vgg19"):
        LossNetwork("torchvision_features", "vgg19")


@pytest.fixture(scope="module")
def torchvision_features():
    torch.manual_seed(0)
    return make_layers(cfgs["D"], batch_norm=False).eval()


@pytest.fixture(scope="module")
def torchvision_state(torchvision_features):
    """As torchvision.models.vgg16 names it, whose classifier no style transfer reads: most of it is left out here."""
    state = {f"features.{key}": value for key, value in torchvision_features.state_dict().items()}
    return {**state, "classifier.6.bias": torch.zeros(1000)}


def test_torchvision_layout_equals_torchvision(torchvision_features, torchvision_state, tmp_path):
    path = tmp_path / "vgg16.pth"
    torch.save(torchvision_state, path)
    images = torch.rand(1, 3, 32, 32)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.no_grad():
        expected = torchvision_features[:23]((images - mean) / std)
    torch.testing.assert_close(LossNetwork(str(path))(images, ["relu4_3"])["relu4_3"], expected)


def test_oxford_weights_in_torchvisions_layout_are_recognised(tmp_path):
    ours, index = oxford_state(), torchvision_index("vgg16")
    theirs = {f"features.{i}.{k}": ours[f"{name}.{k}"] for name, i in index.items() for k in ("weight", "bias")}
    save_file(theirs, tmp_path / "features.safetensors")
    images = torch.rand(1, 3, 32, 32)
    network = LossNetwork(str(tmp_path / "features.safetensors"), layers=LAYERS)
    torch.testing.assert_close(network(images, LAYERS), LossNetwork(layers=LAYERS)(images, LAYERS))


@pytest.mark.parametrize("source, name", [("torchvision", "IMAGENET1K_V1"), ("torchvision_features", "IMAGENET1K_FEATURES")])
def test_torchvisions_own_weights(monkeypatch, torchvision_state, source, name):
    asked = []

    def get_state_dict(self, progress):
        asked.append(self.name)
        return torchvision_state

    monkeypatch.setattr(torchvision.models.VGG16_Weights, "get_state_dict", get_state_dict)
    assert WeightSet.load(source).weights["conv4_3.weight"].shape == (512, 512, 3, 3)
    assert asked == [name]


def test_a_download_that_fails_names_the_way_out(monkeypatch):
    def get_state_dict(self, progress):
        raise OSError("no route to host")

    monkeypatch.setattr(torchvision.models.VGG16_Weights, "get_state_dict", get_state_dict)
    with pytest.raises(UserError, match=r"no route to host.*loss_network\.weights=oxford"):
        LossNetwork("torchvision")


def test_a_damaged_shipped_file_is_refused(monkeypatch, tmp_path):
    damaged, file = tmp_path / "vgg16.safetensors", ASSETS / "vgg16_oxford.safetensors"
    damaged.write_bytes(file.read_bytes()[:-1] + b"x")
    monkeypatch.setattr(vgg_weights, "OXFORD", {damaged: OXFORD[file]})
    with pytest.raises(UserError, match="SHA-256"):
        LossNetwork()


def test_other_files_are_refused(tmp_path):
    (tmp_path / "text.pth").write_text("hello")
    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    for path in (tmp_path / "text.pth", tmp_path / "other.safetensors", tmp_path / "missing.pth"):
        with pytest.raises(UserError, match=path.name):
            LossNetwork(str(path))
