"""Several processes, on one machine and on two: they compute what one would, share the data, and one of them writes."""

import signal
import socket
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from conftest import ROOT
from forked import script, torchrun, torchrun_anew
from pytorch_lightning.utilities import rank_zero_only

from fastnst.checkpoint import load_net
from fastnst.commands.entry import train

# float64 and SGD: a net of four channels blows up float32's rounding, and Adam the sign of a gradient near 0. The painting
# itself: on the median of one of 48 px each step magnifies what rounding there is tenfold.
EXACT = ("trainer.precision=64-true", "optimizer.optimizer._target_=torch.optim.SGD", "~optimizer.optimizer.betas",
         "~optimizer.optimizer.eps", "loss.median=1")  # fmt: skip
RECORD, TRAIN = ROOT / "tests" / "training" / "ddp_record.py", ROOT / "scripts" / "train.py"
ONE_MACHINE = ("--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0", "--nproc_per_node=2")


@pytest.fixture
def ddp_training(small_training):
    """Overrides for two processes with one photograph each."""
    return (*(a for a in small_training if a != "trainer=cpu"), "trainer=ddp", "trainer.accelerator=cpu",
            "trainer.devices=2", "trainer.precision=32-true", "data.batch_size=1", "data.workers=0")  # fmt: skip


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def told(err: str) -> list[str]:
    return [line for line in err.splitlines() if line.startswith("fastnst: ")]


def positions(folder: Path) -> list[int]:
    """Those of the photographs that two processes have read, in order."""
    lines = [line for rank in (0, 1) for line in (folder / f"read{rank}.txt").read_text().splitlines()]
    return sorted(int(line.split()[0]) for line in lines)


def check_records(folder, steps: int) -> None:
    """Two ranks have seen each photograph once an epoch between them, had the same gradients, and rank 0 alone wrote."""
    seen = [[tuple(map(int, line.split())) for line in (folder / f"read{r}.txt").read_text().splitlines()] for r in (0, 1)]
    assert len(seen[0]) == len(seen[1]) == steps
    by_epoch: dict[int, list[int]] = {}
    for position, photograph in sorted(seen[0] + seen[1]):
        by_epoch.setdefault(position // 11, []).append(photograph)
    assert len(by_epoch) == 2 * steps // 11
    assert all(sorted(photographs) == list(range(11)) for photographs in by_epoch.values())
    first, second = (torch.load(folder / f"gradients{r}.pt", weights_only=True) for r in (0, 1))
    assert all(torch.equal(a, b) for one, other in zip(first, second, strict=True) for a, b in zip(one, other, strict=True))
    written = [(folder / f"written{r}.txt").read_text() for r in (0, 1)]
    assert "last.part" in written[0] and "config.yaml" in written[0]
    assert str(folder) not in written[1].replace(str(folder / "read1.txt"), "") and "runs/" not in written[1]


def check_equals_one_process(fork, small_training, folder, steps: int) -> None:
    """The gradients of each step and the final weights equal those of one process with the same global batch."""
    (folder / "one").mkdir()
    arguments = (*small_training, *EXACT, f"trainer.max_steps={steps}", "out=one.safetensors")
    whole = fork(script, RECORD, *arguments, FOLDER=str(folder / "one"))
    _, err = whole.communicate()
    assert whole.returncode == 0, err
    one, both = (torch.load(folder / path, weights_only=True) for path in ("one/gradients0.pt", "gradients0.pt"))
    assert len(one) == len(both) == steps
    for first, second in zip(one, both, strict=True):
        for a, b in zip(first, second, strict=True):
            torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)
    one, both = (load_net(folder / f"{name}.safetensors")[0].state_dict() for name in ("one", "two"))
    for key in one:
        torch.testing.assert_close(one[key], both[key], atol=1e-5, rtol=1e-5)


def test_two_processes_that_learn_any_painting_equal_one(fork, small_training, ddp_training, paintings, tmp_path):
    any_painting = (*EXACT, "model=arbitrary", f"data.styles={paintings}", "trainer.max_steps=3")
    one = fork(script, TRAIN, *small_training, *any_painting, "out=one.safetensors")
    two = fork(torchrun, *ONE_MACHINE, TRAIN, *ddp_training, *any_painting, "out=two.safetensors", "run_dir=runs/two")
    for process in (one, two):
        _, err = process.communicate()
        assert process.returncode == 0, err
    one, two = (load_net(tmp_path / f"{name}.safetensors")[0].state_dict() for name in ("one", "two"))
    for key in one:
        torch.testing.assert_close(one[key], two[key], atol=1e-5, rtol=1e-5)


def test_two_processes_of_torchrun_equal_one(fork, small_training, ddp_training, tmp_path):
    arguments = (RECORD, *ddp_training, *EXACT, "trainer.max_steps=11", "out=two.safetensors")
    two = fork(torchrun_anew, "--standalone", "--nproc_per_node=2", *arguments, FOLDER=str(tmp_path))
    out, err = two.communicate()
    assert two.returncode == 0, err
    assert out.count("checkpoint: two.safetensors") == 1 and out.count("run: runs/small/") == 1
    assert len(list(tmp_path.glob("runs/small/*"))) == 1
    check_records(tmp_path, 11)
    check_equals_one_process(fork, small_training, tmp_path, 11)


def test_two_machines(fork, ddp_training, tmp_path):
    """Two groups of torchrun on the loopback, each of one process."""
    port = free_port()
    arguments = (*ddp_training, "trainer.devices=1", "trainer.num_nodes=2", "trainer.max_steps=11", "out=two.safetensors")
    nodes = [
        fork(torchrun, "--nnodes=2", "--nproc_per_node=1", f"--node_rank={rank}", "--master_addr=127.0.0.1",
             f"--master_port={port}", RECORD, *arguments, FOLDER=str(tmp_path))
        for rank in (0, 1)
    ]  # fmt: skip
    results = [node.communicate() for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], results
    assert "checkpoint: two.safetensors" in results[0][0] and "checkpoint:" not in results[1][0]
    check_records(tmp_path, 11)


def test_slurms_variables_are_understood(fork, ddp_training, tmp_path):
    """What srun sets for two tasks; srun itself is not needed."""
    common = {"SLURM_JOB_ID": "12345", "SLURM_JOB_NAME": "train", "SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2",
              "SLURM_NNODES": "1", "SLURM_NODEID": "0", "SLURM_NODELIST": "127.0.0.1",
              "MASTER_PORT": str(free_port()), "FOLDER": str(tmp_path)}  # fmt: skip
    tasks = [
        fork(script, RECORD, *ddp_training, "trainer.max_steps=11", "ckpt=last",
             SLURM_PROCID=str(rank), SLURM_LOCALID=str(rank), **common)
        for rank in (0, 1)
    ]  # fmt: skip
    results = [task.communicate() for task in tasks]
    assert [task.returncode for task in tasks] == [0, 0], results
    check_records(tmp_path, 11)


def test_a_signal_and_a_spoiled_step_stop_all_processes_at_one_step(fork, ddp_training, tmp_path):
    """The second process is Lightning's own. The run is stopped, resumed, and ended by that process's bad loss."""
    arguments = (script, RECORD, *ddp_training, "ckpt=last", "max_bad_steps=0")
    run = fork(*arguments, "trainer.max_steps=100000", FOLDER=str(tmp_path))
    while not list(tmp_path.glob("runs/small/*/last.ckpt")):
        assert run.returncode is None, run.communicate()
        time.sleep(0.1)
    run.send_signal(signal.SIGTERM)  # to the first process alone
    _, err = run.communicate()
    (line,) = told(err)
    assert run.returncode == 143 and "stopped by SIGTERM after step" in line and "Traceback" not in err
    (last,) = tmp_path.glob("runs/small/*/last.ckpt")
    step = torch.load(last, weights_only=True)["global_step"]
    assert f"after step {step}," in line
    assert positions(tmp_path) == list(range(2 * step))
    run = fork(*arguments, f"trainer.max_steps={step + 9}", FOLDER=str(tmp_path), SPOIL=f"1,{step + 3}")
    out, err = run.communicate()
    (line,) = told(err)
    assert f"resumes: {last.relative_to(tmp_path)}" in out
    assert run.returncode == 2 and f"not finite in 1 steps up to step {step + 4}" in line and "Traceback" not in err
    assert positions(tmp_path) == list(range(2 * step + 8))
    gradients = torch.load(tmp_path / "gradients0.pt", weights_only=True)  # of the process whose own loss was good
    assert len(gradients) == 4 and gradients[3][0].isnan().all() and gradients[2][0].isfinite().all()


def test_mistakes_are_told_by_one_process_of_a_machine(command, ddp_training, monkeypatch):
    monkeypatch.setattr(rank_zero_only, "rank", 0)  # Lightning sets it, and it would stay
    for name in ("TORCHELASTIC_RUN_ID", "MASTER_ADDR"):
        monkeypatch.setenv(name, "none")
    for name, value in {"WORLD_SIZE": 2, "RANK": 0, "LOCAL_RANK": 0, "GROUP_RANK": 0, "LOCAL_WORLD_SIZE": 2}.items():
        monkeypatch.setenv(name, str(value))
    for override, message in (("init=missing", "missing: no such checkpoint"), ("trainer.devices=4", "trainer.devices")):
        for rank in ("0", "1"):
            monkeypatch.setenv("RANK", rank)
            monkeypatch.setenv("LOCAL_RANK", rank)
            status, _, err = command(train, *ddp_training, override)
            assert status == 2
            lines = told(err)
            assert (len(lines) == 1 and message in lines[0]) if rank == "0" else not lines


def test_a_process_that_fails_alone_does_not_leave_the_others_waiting(fork, ddp_training, tmp_path):
    """The second process meets files that the first one still could read."""
    spoil = "import fastnst.data.crops, os, sys\nfrom fastnst.errors import UserError\n" \
            "def fail(*a):\n    raise UserError('only here')\n" \
            "if os.environ.get('LOCAL_RANK') == '1':\n    fastnst.data.crops.Photographs._draw = fail\n" \
            "from fastnst.commands.entry import train\ntrain()\n"  # fmt: skip
    (tmp_path / "spoil.py").write_text(f"import sys\nsys.path.insert(0, {str(ROOT)!r})\n{spoil}")
    run = fork(torchrun, *ONE_MACHINE, tmp_path / "spoil.py", *ddp_training)
    _, err = run.communicate(timeout=120)
    assert run.returncode != 0 and "fastnst: only here" in told(err) and "[rank" not in err  # no process's traceback


def test_many_styles(small_training, tmp_path):
    joblib = find_spec("hydra_plugins") and find_spec("hydra_plugins.hydra_joblib_launcher")
    launcher = "joblib" if joblib else "basic"
    several = [a for a in small_training if not a.startswith("style")]
    # A new interpreter: joblib's processes now and then wait without end in a forked one.
    command = [sys.executable, TRAIN, "-m", "style=wave,mosaic", f"hydra/launcher={launcher}", *several,
               "style.size=48", "data.workers=0", "trainer.max_steps=1"]  # fmt: skip
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert {p.name for p in tmp_path.glob("checkpoints/*.safetensors")} == {"wave.safetensors", "mosaic.safetensors"}
    assert len(list(tmp_path.glob("runs/*/*/last.ckpt"))) == 2
