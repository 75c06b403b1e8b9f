"""What a checkpoint is measured by."""

import pytest
import torch
import yaml
from conftest import ROOT, picture

from fastnst.checkpoint import load_net
from fastnst.commands.entry import train
from fastnst.errors import UserError
from fastnst.evaluation.measurements import OBJECTIVES, trained_objective
from fastnst.losses import recipes


def test_the_objective_is_the_checkpoints_own(command, small_training, tmp_path):
    assert (
        command(
            train,
            *small_training,
            "loss._target_=fastnst.losses.recipes.Isotropic",
            "loss.tv_weight=0.7",
            "trainer.max_steps=2",
        )[0]
        == 0
    )
    objective = trained_objective(
        load_net(tmp_path / "checkpoints/small.safetensors")[1], tmp_path / "painting.png", torch.device("cpu")
    )
    assert type(objective) is recipes.Isotropic and objective.weights["tv"] == 0.7
    for info in ({}, {"objective": {"_target_": "os.system"}, "style": {"name": "small", "size": 48}}):
        with pytest.raises(UserError, match="does not say what objective"):
            trained_objective(info, tmp_path / "painting.png", torch.device("cpu"))


def test_every_checkpoint_finds_its_objective(tmp_path):
    """By the names that version 0.1 wrote, whatever they are called now, and by those that trainings write today."""
    picture(1).save(tmp_path / "painting.png")
    shipped = set()
    for file in (ROOT / "checkpoints").glob("*.safetensors"):
        info = load_net(file)[1]
        shipped.add(info["objective"]["_target_"])
        info["style"]["size"] = 64  # as it is, the painting would take seconds
        trained_objective(info, tmp_path / "painting.png", torch.device("cpu"))
    assert shipped == {"fastnst.losses.Objective", "fastnst.losses.objective.Objective"}
    assert OBJECTIVES["fastnst.recipes.Gatys"] is recipes.Gatys
    files = [*ROOT.glob("configs/recipe/*.yaml"), *ROOT.glob("configs/loss/*.yaml")]
    targets = {yaml.safe_load(file.read_text()).get("loss", {}).get("_target_") for file in files}
    targets |= {yaml.safe_load(file.read_text()).get("_target_") for file in files}
    assert len(targets - {None}) == 6 and targets - {None} <= set(OBJECTIVES)
