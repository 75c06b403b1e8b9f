"""Trainings of the page, with a process that stands in for `scripts/train.py`. tests/web/test_page.py has a real one."""

import sys
import time

import pytest
import torch
from conftest import picture
from hydra.core.override_parser.overrides_parser import OverridesParser

from fastnst.errors import UserError
from fastnst.models.transform_net import TransformNet
from fastnst.web import training
from fastnst.web.training import Trainings
from fastnst.web.training_tab import describe

# Saves a step when it begins, and ends by itself, or when it is told to.
STAND_IN = """
import os, shutil, sys, time
options = dict(option.split("=", 1) for option in sys.argv[1:])
os.makedirs(options["run_dir"], exist_ok=True)
open(options["run_dir"] + "/name.txt", "w", encoding="utf-8").write("style.name=" + options["style.name"])
shutil.copy(os.environ["STEP"], options["run_dir"] + "/last.ckpt")
print("fastnst: a warning", file=sys.stderr, flush=True)
if options["trainer.max_steps"] == "1":
    sys.exit(2)
if options["trainer.max_steps"] == "2":
    shutil.copy(os.environ["DONE"], options["out"])
    sys.exit()
time.sleep(600)
"""


@pytest.fixture
def trainings(tmp_path, monkeypatch, checkpoint):
    net = TransformNet(width=4)
    state = {f"net.{name}": weight for name, weight in net.state_dict().items()}
    info = {"style": {"name": "mine", "size": 64}, "steps": 7}
    torch.save({"state_dict": state, "fastnst": {"architecture": net.architecture, "info": info}}, tmp_path / "step.ckpt")
    monkeypatch.setenv("STEP", str(tmp_path / "step.ckpt"))
    monkeypatch.setenv("DONE", str(checkpoint))
    monkeypatch.setattr(training, "COMMAND", [sys.executable, "-c", STAND_IN])
    picture(5, 80, 60).save(tmp_path / "painting.jpg")
    made = Trainings(tmp_path / "trainings")
    yield made
    if made.unfinished():
        made.cancel()


def wait(condition) -> None:
    for _ in range(600):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("nothing happened")


def test_one_at_a_time_and_then_in_the_list(trainings, tmp_path):
    painting = str(tmp_path / "painting.jpg")
    assert trainings.progress().status == "none" and describe(trainings.progress()) == ""
    for name in ("", "../mine", ".mine", "a/b", "${oc.env:HOME}", "taken", "x" * 50, "\u6ce2" * 40):
        with pytest.raises(UserError, match="short name"):
            trainings.begin(name, painting, 5, ["taken"])
    (tmp_path / "text.jpg").write_text("no picture")
    with pytest.raises(UserError, match="cannot be read"):
        trainings.begin("mine", str(tmp_path / "text.jpg"), 5)
    assert not trainings.root.exists()
    trainings.begin("mine", painting, 5)
    assert trainings.progress().status == "running" and trainings.progress().steps == 5
    with pytest.raises(UserError, match="mine is still learning"):
        trainings.begin("other", painting, 5)
    last = trainings.root / "mine" / "run" / "last.ckpt"
    wait(last.exists)
    kept = trainings.keep()
    assert "| training steps | 7 |" in kept.with_name("mine.safetensors.md").read_text()
    assert trainings.finished() == [kept] and trainings.progress().status == "none"
    with pytest.raises(UserError, match="not taken"):
        trainings.begin("mine", painting, 5)
    trainings.begin("other", painting, 2)
    wait(lambda: trainings.progress().status == "none")
    assert [path.stem for path in trainings.finished()] == ["mine", "other"]


def test_a_name_may_have_letters_of_any_language(trainings, tmp_path):
    name = "\u00e9t\u00e9 \u6ce2"
    trainings.begin(name, str(tmp_path / "painting.jpg"), 2)
    wait(lambda: (tmp_path / f"trainings/{name}/{name}.safetensors").exists())
    (override,) = (tmp_path / "trainings").glob("*/run/name.txt")
    assert OverridesParser.create().parse_override(override.read_text(encoding="utf-8")).value() == name


def test_it_goes_on_after_the_page_or_the_machine_went_down(trainings, tmp_path):
    trainings.begin("mine", str(tmp_path / "painting.jpg"), 5)
    anew = Trainings(trainings.root)  # the page was killed
    assert anew.progress().status == "running"
    anew.resume()  # it is running: nothing is to be done
    wait((trainings.root / "mine" / "run" / "last.ckpt").exists)
    anew.close()  # the page was told to stop
    wait(lambda: trainings.progress().status == "stopped")
    with pytest.raises(UserError, match="still learning"):
        anew.begin("other", str(tmp_path / "painting.jpg"), 5)
    anew.resume()
    assert anew.progress().status == "running"
    anew.cancel()
    assert anew.progress().status == "none" and not (anew.root / "mine").exists()
    for action in (anew.cancel, anew.keep, anew.resume):
        with pytest.raises(UserError, match="Nothing is being learnt"):
            action()


def test_what_ended_it_is_told(trainings, tmp_path):
    trainings.begin("mine", str(tmp_path / "painting.jpg"), 1)
    wait(lambda: trainings.progress().status == "stopped")
    assert "a warning" in describe(trainings.progress())
    (trainings.root / "mine" / "run" / "last.ckpt").unlink()
    with pytest.raises(UserError, match="learnt nothing yet"):
        trainings.keep()
