"""A user's mistakes while training, each one line; and the package as it is installed."""

import argparse
import os
import shutil
import subprocess
import sys
import zipfile

import pytest
from conftest import ROOT, picture, random_arbitrary
from forked import spawning
from omegaconf import OmegaConf

from fastnst.commands.cli import quote
from fastnst.commands.entry import export, infer, train


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["style=waves"], "there is no such style; there are custom, inkwash, mosaic, starry, wave"),
        (["style=custom"], "style.image is missing; give style.image="),
        (["style=custom", "style.image=missing.png"], "no such picture file"),
        (["style=custom", "style.image=text.png"], "cannot be read as a picture"),
        (["data=folder"], "data.root is missing"),
        (["data=folder", "data.root=missing"], "no such folder"),
        (["data=folder", "data.root=empty"], "no photographs"),
        (["data=folder", "data.root=text.png"], "neither a folder nor a whole zip"),
        (["init=missing.safetensors"], "no such checkpoint"),
        (["ckpt=missing.ckpt"], "no such checkpoint to resume"),
        (["ckpt=text.png"], "not a checkpoint of fastnst's training"),
        (["model.norm=layer"], "give instance or batch"),
        (["model.width=0"], "model.width=0"),
        (["model.output=sigmoid"], "give tanh or linear"),
        (["loss.style_layers={relu9_1: 1}"], "relu9_1"),
        (["loss.style_layers=null"], "loss.style_layers=None: give layers with their weights"),
        (["loss_network.network=vgg11"], "give vgg16 or vgg19"),
        (["loss_network.weights=missing.pth"], "no such file"),
        (["optimizer.rate=3"], "optimizer.rate"),
        (["optimizer=lbfgs"], "give optimizer=adam"),
        (["optimizer.optimizer._target_=torch.optim.SGD"], "betas"),
        (["optimizer.lr=-1"], "optimizer.optimizer: Invalid learning rate: -1"),
        (["+optimizer.schedule.every=10"], "optimizer.schedule: "),
        (["trainer.log_every_n_steps=0"], "trainer.log_every_n_steps=0"),
        (["seed=5000000000"], "seed=5000000000"),
        (["out=mine.ckpt"], "out=mine.ckpt: what training exports is no .ckpt"),
        (["data.scale=[1,1.5]"], "data.scale=[1, 1.5]: give the smallest and the largest side"),
        (["data.scale=[a,b]"], "data.scale=['a', 'b']"),
        (["data.scale=1"], "data.scale=1: "),
        (["data=folder", "data.root=.", "data.val_count=-1"], "data.val_count=-1: give a whole number from 1"),
        (["trainer.max_steps=many"], "trainer.max_steps=many"),
        (["style.size=0"], "style.size=0"),
        (["style.size=1000000"], "style.size=1000000"),
        (["data.size=8"], "data.size=8"),
        (["data.size=1000000"], "data.size=1000000: a step takes 8000000.0 GB of memory at the least"),
        (["data.size=5e9"], "data.size=5000000000.0: give a whole number"),
        (["data.batch_size=100000000000"], "data.size=256: a step takes"),
        (["data.batch_size=0"], "data.batch_size=0"),
        (["max_bad_steps=-1"], "max_bad_steps=-1"),
        (["trainer=gpu"], "gpu backend"),
    ],
)
def test_bad_input_gets_one_line(command, tmp_path, arguments, message):
    import torch

    if arguments == ["trainer=gpu"] and torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.png").write_text("no picture")
    before = sorted(tmp_path.rglob("*"))
    status, out, err = command(train, "style.size=64", *arguments)  # small, in case it gets so far
    assert status == 2, err
    assert message in err and len(err.splitlines()) == 1
    assert out == ""
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    "argument, quoted",
    [
        ("img=a (1).jpg", "img='a (1).jpg'"),
        ("ckpt=step=3.ckpt", "ckpt='step=3.ckpt'"),
        ("img=it's.jpg", "img='it\\'s.jpg'"),
        ("img='a b.jpg'", "img='a b.jpg'"),
        ("ckpt=null", "ckpt=null"),
        ("style=wave", "style=wave"),
    ],
)
def test_paths_are_quoted_for_hydra(argument, quoted):
    assert quote(argument) == quoted


NAMES = ["it's.png", "'quoted'.png", '"quoted".png', "'", "a${x}.png", "\\${x}", "back\\", "back\\\\", "a\\'b", "~/home.png",
         "~nobody.png", "[a,b]", "{a: 1}", "a=(b) [c], d.png", " a", "#a", "ø\n", "a\\${x}.png", "it's\\", "[a].png",
         "n" * 240 + ".png"]  # fmt: skip


@pytest.mark.parametrize("number", range(len(NAMES)))
def test_what_is_there_is_taken_under_any_name(command, tmp_path, number):
    """Each name is that of a checkpoint, of a painting and of a photograph in turn."""
    checkpoint, painting, photograph = (NAMES[(number + i) % len(NAMES)] for i in range(3))
    random_arbitrary(tmp_path)
    for name in (painting, photograph, checkpoint):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        picture(0).save(tmp_path / name, "PNG")
    shutil.copy(tmp_path / "any.safetensors", tmp_path / checkpoint)
    status, out, err = command(infer, f"ckpt={checkpoint}", f"style={painting}", f"img={photograph}", "out=result.png")
    assert status == 0 and out == "result.png\n", err


def test_a_name_of_what_is_not_there_may_hold_other_options(command):
    status, out, err = command(infer, "ckpt=x", "img=y", "out=${size}/~x's\\", "size=32", "--cfg", "job", "--resolve")
    assert status == 0 and OmegaConf.create(out).out == "32/~x's\\", err


@pytest.mark.parametrize(
    "argument, style",
    [
        ("style=painting.jpg", "painting.jpg"),
        ("style=a=(b) [c].jpg", "a=(b) [c].jpg"),
        ("style={a.jpg: 1, b.jpg: 2}", {"a.jpg": 1, "b.jpg": 2}),
        ("style=null", None),
    ],
)
def test_style_is_a_plain_key_of_inference(command, argument, style):
    for main in (infer, export):
        status, out, err = command(main, argument, "ckpt=x", "--cfg", "job")
        assert status == 0, err
        assert OmegaConf.create(out).style == style


def test_hydra_writes_nothing_of_its_own(command):
    for name, main in (("train", train), ("infer", infer)):
        hydra = OmegaConf.create(command(main, "--cfg", "hydra")[1]).hydra
        assert hydra.job.name == name
        assert hydra.output_subdir is hydra.job_logging.root is hydra.hydra_logging.root is None
        assert hydra.run.dir == "."


def test_an_experiment_overrides_everything(command):
    status, out, _ = command(train, "experiment=demo", "--cfg", "job")
    assert status == 0
    for line in ("out: outputs/demo/${style.name}.safetensors", "checkpoint_every: 100", "  max_steps: 240", "  width: 32"):
        assert line in out.splitlines()


def test_options_are_read_where_help_texts_are_looked_into(command, monkeypatch):
    add = argparse.ArgumentParser.add_argument

    def as_python_3_14_does(self, *names, **options):
        action = add(self, *names, **options)
        self._check_help(action)
        return action

    def look(self, action):
        return "%" in (action.help or "")

    monkeypatch.setattr(argparse.ArgumentParser, "_check_help", look, raising=False)
    monkeypatch.setattr(argparse.ArgumentParser, "add_argument", as_python_3_14_does)
    assert command(train, "--cfg", "job")[0] == 0
    assert argparse.ArgumentParser._check_help is look


def test_other_parsers_stay_as_they_are(command):
    before = vars(argparse.ArgumentParser).copy()
    assert command(train, "--nonesuch")[0] == 2
    assert command(train, "style=nonesuch")[0] == 2
    assert vars(argparse.ArgumentParser) == before


@pytest.mark.parametrize(
    "arguments, message",
    [
        ("train style=nonesuch", "there is no such style"),
        ("train --nonesuch", "see --help"),
        ("infer ckpt=wave nonesuch=1", "nonesuch"),
        ("infer img=photo.jpg", "ckpt is missing; give ckpt=VALUE"),
        ("optimize style=wave", "content is missing"),
        ("evaluate --fast", "ckpt is missing"),
    ],
)
def test_a_wrong_option_is_refused_before_torch_is_imported(tmp_path, arguments, message):
    """Which takes seconds."""
    name, *overrides = arguments.split()
    code = f"import sys; from fastnst.commands import entry\ntry:\n    entry.{name}()\n" \
           "finally:\n    print({'torch', 'pytorch_lightning', 'numpy'} & set(sys.modules))"  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code, *overrides], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2 and message in done.stderr and len(done.stderr.splitlines()) == 1
    assert done.stdout == "set()\n"


def test_scripts_run_from_any_directory(tmp_path):
    for name, option, message in (("train.py", "style=no", "no such style"), ("infer.py", "img=.", "ckpt is missing")):
        command = [sys.executable, ROOT / "scripts" / name, option]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 2 and message in done.stderr and len(done.stderr.splitlines()) == 1


def test_training_runs_where_processes_are_spawned(fork, small_training, paintings, tmp_path):  # as on macOS
    random_arbitrary(tmp_path)
    done = fork(spawning, ROOT / "scripts/train.py", *small_training, "model=arbitrary", "model.upsample=nearest",
                "init=any.safetensors", f"data.styles={paintings}", "data.workers=1", "trainer.max_steps=2")  # fmt: skip
    _, err = done.communicate()
    assert done.returncode == 0 and "fastnst: " not in err, err
    assert (tmp_path / "checkpoints/small.safetensors").is_file()


def test_the_wheel_holds_configs_artworks_weights_and_checkpoints(tmp_path):
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(tmp_path),
        str(ROOT),
    ]
    subprocess.run(build, check=True, stdout=subprocess.DEVNULL)
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.stat().st_size < 60e6
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        entries = archive.read(next(n for n in names if n.endswith("entry_points.txt"))).decode()
    ours = [ROOT / "fastnst/py.typed", *ROOT.glob("fastnst/**/*.py"), *ROOT.glob("fastnst/web/browser/*.*")]
    shipped = [*ROOT.glob("configs/**/*.yaml"), *ROOT.glob("checkpoints/*.safetensors"), *ROOT.glob("fastnst/assets/**/*.*")]
    for path in (*shipped, *ours):
        name = path.relative_to(ROOT).as_posix()
        assert (name if name.startswith("fastnst/") else f"fastnst/{name}") in names
    for command in ("train", "infer", "optimize", "evaluate", "export", "serve", "pack", "benchmark"):
        assert f"fastnst-{command} = fastnst.commands.entry:{command}" in entries
    # As it is installed: what is shipped lies in it, and is found by name.
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")
    code = "from fastnst.shipped import checkpoint_file; print(checkpoint_file('wave'))"
    variables = os.environ | {"PYTHONPATH": str(tmp_path / "installed")}
    found = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=variables, capture_output=True, text=True).stdout
    assert found.strip() == str(tmp_path / "installed/fastnst/checkpoints/wave.safetensors")
