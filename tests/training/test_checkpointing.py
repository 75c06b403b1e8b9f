"""A run that is killed goes on from a whole checkpoint."""

import subprocess
import sys

import torch
from conftest import ROOT

from fastnst.commands.entry import train


def test_killed_twenty_times(command, small_training, same_weights, one_thread, tmp_path):
    kept = ("checkpoint_every=1", "data.workers=0")
    script = [sys.executable, ROOT / "tests" / "training" / "killed.py", tmp_path / "runs/small", *small_training, *kept,
              "trainer.max_steps=100000", "ckpt=last"]  # fmt: skip
    done = subprocess.run(script, cwd=tmp_path, stdout=subprocess.PIPE, text=True, stderr=subprocess.DEVNULL)
    assert done.returncode == 0
    whole = f"trainer.max_steps={int(done.stdout.splitlines()[-1]) + 3}"
    assert command(train, *small_training, *kept, whole, "ckpt=last", "out=part.safetensors")[0] == 0
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
