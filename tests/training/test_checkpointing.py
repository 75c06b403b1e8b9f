"""A run that is killed goes on from a whole checkpoint."""

import os
import signal
import subprocess
import sys

import pytest
import torch
from conftest import ROOT, picture
from forked import script

from fastnst.checkpoint import load_training
from fastnst.commands.entry import train
from fastnst.errors import UserError
from fastnst.training import checkpointing
from fastnst.training import module as training
from fastnst.training.checkpointing import check_same, newest


def test_lightnings_loop_is_its_own_again_after_the_training(command, small_training, monkeypatch):
    patched, save = [], training.StyleTransfer.on_save_checkpoint

    def watched(self, checkpoint):
        patched.append("_broadcast_sigterm_tensor" in vars(self.trainer.fit_loop.epoch_loop))
        save(self, checkpoint)

    monkeypatch.setattr(training.StyleTransfer, "on_save_checkpoint", watched)
    assert command(train, *small_training)[0] == 0
    assert patched == [True, True, True, False]  # the last is written after the training


def test_killed_at_any_moment(fork, command, small_training, same_weights, tmp_path):
    """Each run goes on from the one before, writes a checkpoint after a step, and is killed at or after the second one."""
    kept = ("checkpoint_every=1", "data.workers=0", "ckpt=last")
    killed, step = ROOT / "tests" / "training" / "killed.py", 0
    for moment, steps in (("half", 1), ("moved", 1), ("written", 1), ("step", 2), ("renamed", 2)):
        run = fork(script, killed, moment, *small_training, *kept, "trainer.max_steps=100")
        _, err = run.communicate()
        assert run.returncode == -signal.SIGKILL, err
        found = newest(tmp_path / "runs/small/next")
        assert found.name == ("previous.ckpt" if moment == "moved" else "last.ckpt")
        step += steps
        assert load_training(found)[1]["steps"] == step  # raises if it is damaged
    whole = f"trainer.max_steps={step + 1}"
    assert command(train, *small_training, *kept, whole, "out=part.safetensors")[0] == 0
    assert command(train, *small_training, whole, "checkpoint_every=100", "out=whole.safetensors")[0] == 0
    assert same_weights("whole", "part")
    (run,) = tmp_path.glob("runs/small/*/previous.ckpt")
    assert not list(run.parent.glob("*.part"))


def test_a_truncated_checkpoint_is_refused_and_the_one_before_it_offered(command, small_training, same_weights, tmp_path):
    assert command(train, *small_training, "out=whole.safetensors")[0] == 0
    (last,) = tmp_path.glob("runs/small/*/last.ckpt")
    last.write_bytes(last.read_bytes()[:-1000])
    status, _, err = command(train, *small_training, "ckpt=last")
    assert status == 2 and len(err.splitlines()) == 1
    assert f"{last.relative_to(tmp_path)}: not a checkpoint" in err
    offered = err.strip().split("ckpt=")[-1]
    assert offered == str(last.with_name("previous.ckpt").relative_to(tmp_path))
    steps = torch.load(tmp_path / offered, weights_only=True)["global_step"]
    longer = (*small_training, "trainer.max_steps=8", "checkpoint_every=4")
    assert command(train, *longer, f"ckpt={offered}", "out=part.safetensors")[0] == 0
    # The damaged one has not taken the whole one's place at the first writing.
    assert torch.load(last.with_name("previous.ckpt"), weights_only=True)["global_step"] > steps
    assert command(train, *longer, "run_dir=runs/other/x", "out=whole.safetensors")[0] == 0
    assert same_weights("whole", "part")


def test_another_painting_or_objective_does_not_resume(command, small_training, tmp_path):
    short = (*small_training, "trainer.max_steps=2", "data.workers=0")
    assert command(train, *short)[0] == 0
    for changed, message in (
        (["loss.style_weight=3"], "differs in loss.style_weight; "),
        (["brushwork=6"], "differs in brushwork; "),
        (["model.width=5"], "its net is"),
        ([], "differs in style.image; "),
    ):
        if not changed:
            picture(1, 80, 72).save(tmp_path / "painting.png")
        status, _, err = command(train, *short, *changed, "ckpt=last")
        assert status == 2 and message in err and len(err.splitlines()) == 1
    picture(99, 80, 72).save(tmp_path / "painting.png")
    assert command(train, *short, "ckpt=last")[0] == 0


def test_what_an_older_version_did_not_tell_is_not_compared(tmp_path, monkeypatch):
    told = {"style": {"size": 48}, "objective": {"_target_": "fastnst.losses.Objective", "style_weight": 5.0}}
    monkeypatch.setattr(checkpointing, "read_last", lambda path: ({"width": 4}, told))
    info = {"style": {"size": 48, "image": {"a": "0"}}, "objective": {"_target_": "x", "style_weight": 5.0, "scales": [1]}}
    check_same(tmp_path / "last.ckpt", {"width": 4}, info)
    info["objective"]["style_weight"] = 27.0
    with pytest.raises(UserError, match="differs in loss.style_weight"):
        check_same(tmp_path / "last.ckpt", {"width": 4}, info)


def test_each_run_has_a_folder_of_its_own(command, small_training, tmp_path):
    short = (*small_training, "trainer.max_steps=1", "data.workers=0")
    assert command(train, *short, "run_dir=runs/small/x")[0] == 0
    last = (tmp_path / "runs/small/x/last.ckpt").read_bytes()
    status, out, err = command(train, *short, "run_dir=runs/small/x", "out=other.safetensors")
    assert status == 2 and "run_dir=runs/small/x: holds another run" in err and len(err.splitlines()) == 1
    assert (tmp_path / "runs/small/x/last.ckpt").read_bytes() == last and not (tmp_path / "other.safetensors").exists()
    status, out, _ = command(train, *short)
    assert status == 0 and len(list((tmp_path / "runs/small").iterdir())) == 2
    assert "replaced: the checkpoints/small.safetensors that was there" in out.splitlines()


def test_two_processes_do_not_train_in_one_folder(command, small_training, tmp_path):
    short = (*small_training, "trainer.max_steps=1", "data.workers=0", "run_dir=runs/small/x")
    assert command(train, *short)[0] == 0
    hold = "import sys; from fastnst.files import locked; x = open(sys.argv[1], 'a'); print(locked(x), flush=True); input()"
    other = subprocess.Popen(
        [sys.executable, "-c", hold, tmp_path / "runs/small/x/config.yaml"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert other.stdout.readline() == "True\n"
    status, _, err = command(train, *short, "ckpt=last", "trainer.max_steps=2")
    assert status == 2 and "run_dir=runs/small/x: another process trains there" in err and len(err.splitlines()) == 1
    other.kill()
    other.communicate()
    status, _, err = command(train, *short, "ckpt=last", "trainer.max_steps=2")
    assert status == 0, err


def test_an_export_that_cannot_be_written_is_told_before_the_first_step(command, small_training, at_step, tmp_path):
    (tmp_path / "file").touch()
    at_step(0, lambda: pytest.fail("a step was made"))
    for out in (tmp_path, "file/net.safetensors"):
        status, _, err = command(train, *small_training, f"out={out}")
        assert status == 2 and f"out={out}: " in err and len(err.splitlines()) == 1
    assert not (tmp_path / "runs").exists()


def test_the_last_checkpoint_comes_first_whatever_the_clock_says(tmp_path):
    for name, when in (("a/last.ckpt", 5), ("a/previous.ckpt", 9), ("b/previous.ckpt", 4)):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
        os.utime(path, (when, when))
    assert newest(tmp_path / "c") == tmp_path / "a/last.ckpt"
    (tmp_path / "a/last.ckpt").unlink()
    assert newest(tmp_path / "c") == tmp_path / "a/previous.ckpt"
    assert newest(tmp_path / "b") == tmp_path / "b/previous.ckpt"  # its own, though a's is newer
