"""Trains a net, from a composed config to an exported checkpoint: read `train` from top to bottom."""

import hashlib
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

import pytorch_lightning as pl
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.callbacks import LearningRateMonitor
from pytorch_lightning.loggers import TensorBoardLogger

from fastnst import __version__
from fastnst.checkpoint import export
from fastnst.commands.options import check_flags, check_numbers, check_whole, layers_of, paintings_of, path_of
from fastnst.errors import UserError, line_of
from fastnst.files import check_file, locked
from fastnst.images import load_rgb, to_tensor
from fastnst.inference.card import write_card
from fastnst.losses.layer_names import STYLE_LAYERS
from fastnst.memory import check_step, keep_freed_memory
from fastnst.models.arbitrary import MOST_SIZE
from fastnst.models.dials import MOST_BRUSHWORK
from fastnst.training.callbacks import Panels, Progress, Throughput, own_lines
from fastnst.training.checkpointing import LAST, Checkpoints, WholeCheckpoints, check_same, newest
from fastnst.training.failures import BadFiles, BadSteps, one_line
from fastnst.training.module import MODULES
from fastnst.training.warm_start import freeze, start_from

LEAST = {
    "trainer.max_steps": 1,
    "checkpoint_every": 1,
    "style.size": 16,
    "data.size": 16,
    "data.batch_size": 1,
    "max_bad_steps": 0,
    "trainer.log_every_n_steps": 1,
    "seed": 0,
    "stability.shift": 0,
}


@own_lines()
def train(cfg: DictConfig) -> dict[str, float]:
    """Runs the training that `cfg` (configs/train.yaml) describes and exports `cfg.out`. Returns the validation losses.

    Raises UserError for anything in `cfg` that cannot be used.
    """
    keep_freed_memory()
    torch.set_float32_matmul_precision("high")
    check_whole(cfg, LEAST)
    check_flags(cfg, "compile")
    check_numbers(cfg, {"stability.weight": (0, 1e6), "stability.noise": (0, 1), "style.size": (16, MOST_SIZE)})
    check_numbers(cfg, {"brushwork": (0, MOST_BRUSHWORK), "embedding_rate": (0, 1e6), "seed": (0, 2**32 - 1)})
    if cfg.stability.weight > 0 and cfg.data.size < 2 * cfg.stability.shift + 32:
        raise UserError(
            f"stability.shift={cfg.stability.shift}: data.size={cfg.data.size} leaves too little of a crop moved so far"
        )
    resume = find_checkpoint(cfg)
    run_dir = resume.parent if resume else path_of(cfg, "run_dir")
    out, paintings = path_of(cfg, "out"), paintings_of(cfg.style)
    if out.suffix == ".ckpt":
        raise UserError(f"out={out}: what training exports is no .ckpt to resume from; let it end in .safetensors")
    pl.seed_everything(cfg.seed, verbose=False)

    data = instantiate(cfg.data)
    style_images = {name: to_tensor(load_rgb(path, cfg.style.size)).unsqueeze(0) for name, path in paintings.items()}
    net = instantiate(cfg.model)
    name = net.name_of(paintings)
    init = None if cfg.init is None else path_of(cfg, "init")
    freeze(net, cfg.train, init)
    parent = start_from(net, init, paintings) if init and not resume else None
    layers = [*layers_of(cfg.loss), *(STYLE_LAYERS if net.any_painting else ())]
    loss_network = instantiate(cfg.loss_network, layers=layers)
    objective = instantiate(cfg.loss, loss_network=loss_network, style_images=list(style_images.values()))
    if cfg.data.size < objective.least:
        scales = list(objective.scales)
        raise UserError(f"data.size={cfg.data.size}: loss.scales={scales} takes {objective.least} px at least")
    terms: Any = OmegaConf.to_container(cfg.loss, resolve=True)
    info = {
        "version": __version__,
        "style": {
            "name": name,
            "size": cfg.style.size,
            # A zero-shot net has none of its own: those that style= names are held out.
            "image": {title: hashlib.sha256(path.read_bytes()).hexdigest()[:16] for title, path in paintings.items()},
        },
        "data": data_of(cfg.data),
        "brushwork": cfg.brushwork,
        "objective": terms
        | {"loss_network": {"network": cfg.loss_network.network, "weights": str(cfg.loss_network.weights)}},
    }
    if resume:
        parent = check_same(resume, net.architecture, info).get("ancestor")
    info |= {} if parent is None else {"ancestor": parent}
    optimizer, schedule = instantiate(cfg.optimizer.optimizer), instantiate(cfg.optimizer.schedule)
    check_optimizer(optimizer, schedule)
    for part in (net, objective, objective.loss_network) if cfg.compile else ():
        part.compile()
    options = (dict(cfg.stability), style_images, cfg.brushwork, cfg.embedding_rate)
    module = MODULES[type(net)](net, objective, optimizer, schedule, info, *options)

    trainer = instantiate(
        cfg.trainer,
        logger=TensorBoardLogger(run_dir, name="", version="", default_hp_metric=False),
        callbacks=[
            Progress(),
            LearningRateMonitor(),
            Throughput(),
            Panels(),
            BadFiles(),
            BadSteps(cfg.max_bad_steps),
            Checkpoints(run_dir, cfg.checkpoint_every, resume),
        ],
        plugins=[WholeCheckpoints()],
    )
    check_launch(trainer)
    check_step(f"data.size={cfg.data.size}", cfg.data.batch_size * cfg.data.size**2, trainer.strategy.root_device)
    config = OmegaConf.to_yaml(cfg, resolve=True)
    with one_line(trainer, run_dir, data.reading), ExitStack() as held:
        if trainer.is_global_zero:
            check_file(out)
            held.enter_context(begin(run_dir, config, taken=cfg.ckpt is not None))
            print(f"device: {trainer.strategy.root_device}" + f", {trainer.world_size} processes" * (trainer.world_size > 1))
            if cfg.ckpt is not None:
                print(f"resumes: {resume or 'nothing, as no run of this style has a checkpoint'}")
            trainer.logger.experiment.add_text("config", f"```yaml\n{config}\n```")
        trainer.fit(module, data, ckpt_path=resume, weights_only=True)
        trainer.save_checkpoint(run_dir / LAST)  # as training leaves it: a run that goes on does not know that it had ended
        net.light([*style_images.values()])
        losses = dict(*trainer.validate(module, data, verbose=False))  # of none with trainer.limit_val_batches=0
    if trainer.is_global_zero:
        if trainer.global_step < cfg.trainer.max_steps:
            print(f"ended early: after {trainer.global_step} of {cfg.trainer.max_steps} steps")
        if out.exists():
            print(f"replaced: the {out} that was there")
        learnt = module.info | {"steps": trainer.global_step, "lit": True, "validation": losses}
        export(out, net, learnt)
        about = write_card(out, out, "safetensors", learnt, {})
        print(", ".join(f"{name} {value:.4g}" for name, value in losses.items()))
        print(f"card: {about}\nrun: {run_dir}\ncheckpoint: {out}")
    return losses


def data_of(cfg: DictConfig) -> dict:
    """What a checkpoint tells of its photographs: the last part of their folder's, zip's or shards' name, and the crops."""
    source = cfg.get("root") or cfg.get("urls")
    name = "scikit-image's samples" if source is None else Path(str(source)).name
    return {"from": name, "crops of px": cfg.size, "batch": cfg.batch_size}


def check_optimizer(optimizer: Callable, schedule: Callable) -> None:
    """Raises UserError for an optimizer or a schedule with options that it has not, or an optimizer without single steps."""
    try:
        made = optimizer([torch.nn.Parameter(torch.zeros(1))])
    except (TypeError, ValueError) as error:
        raise UserError(f"optimizer.optimizer: {line_of(error)}; ~optimizer.optimizer.NAME takes one out") from None
    if isinstance(made, torch.optim.LBFGS):
        raise UserError("optimizer=lbfgs: is for scripts/optimize.py; give optimizer=adam")
    try:
        schedule(made, 1)
    except (TypeError, ValueError) as error:
        raise UserError(f"optimizer.schedule: {line_of(error)}; ~optimizer.schedule.NAME takes one out") from None


def begin(run_dir: Path, config: str, taken: bool) -> IO[str]:
    """Writes a run's config.yaml. taken: the folder may hold a run's already, which goes on.

    Returns the file: until it is closed no other process can train there. Raises UserError if one does, or if the folder is
    another run's: of two runs that begin at once, the second is refused.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    try:
        file = open(run_dir / "config.yaml", "a" if taken else "x")  # noqa: SIM115 (it stays open)
    except FileExistsError:
        raise UserError(f"run_dir={run_dir}: holds another run; give another folder, or ckpt=last to resume it") from None
    if not locked(file):
        file.close()
        raise UserError(f"run_dir={run_dir}: another process trains there; wait for it, or give ckpt=null to start another")
    file.truncate(0)
    file.write(config)
    file.flush()
    return file


def find_checkpoint(cfg: DictConfig) -> Path | None:
    """The .ckpt that `ckpt` names; `ckpt=last` is run_dir's own, or the newest of the style's runs.

    None if there is nothing to resume.

    Raises UserError if a path is given and no file is there.
    """
    if cfg.ckpt is None:
        return None
    if cfg.ckpt != "last":
        path = path_of(cfg, "ckpt")
        if not path.is_file():
            raise UserError(f"{path}: no such checkpoint to resume; give ckpt=last or the path of a {LAST}")
        return path
    return newest(path_of(cfg, "run_dir"))


def check_launch(trainer: pl.Trainer) -> None:
    """Raises UserError if torchrun or SLURM has started other than the trainer's number of processes."""
    environment = getattr(trainer.strategy.launcher, "cluster_environment", None)
    if environment is not None:
        try:
            environment.validate_settings(trainer.num_devices, trainer.num_nodes)
        except ValueError as error:
            raise UserError(f"{' '.join(str(error).split())} (trainer.devices, trainer.num_nodes)") from None
