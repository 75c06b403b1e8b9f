"""Trains a net, from a composed config to an exported checkpoint: read `train` from top to bottom."""

from collections.abc import Mapping
from pathlib import Path

import pytorch_lightning as pl
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.callbacks import LearningRateMonitor
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor

from fastnst import __version__
from fastnst.checkpoint import ancestor, export, load_net, load_style, load_training
from fastnst.commands.cli import check_flags, check_numbers, check_whole, paintings_of, path_of, run
from fastnst.errors import UserError
from fastnst.files import write_bytes
from fastnst.images import load_rgb, to_tensor
from fastnst.losses.vgg_layers import STYLE_LAYERS
from fastnst.memory import keep_freed_memory
from fastnst.models.arbitrary import ArbitraryNet, first_row
from fastnst.models.conditional import MultiStyleNet, StyledNet
from fastnst.models.transform_net import TransformNet
from fastnst.training.failures import BEFORE, LAST, BadFiles, BadSteps, Checkpoints, WholeCheckpoints, one_line
from fastnst.training.module import MODULES, Panels, Progress, Throughput

LEAST = {
    "trainer.max_steps": 1,
    "checkpoint_every": 1,
    "style.size": 16,
    "data.size": 16,
    "data.batch_size": 1,
    "max_bad_steps": 0,
    "seed": 0,
    "stability.shift": 0,
}


def train(cfg: DictConfig) -> dict[str, float]:
    """Runs the training that `cfg` (configs/train.yaml) describes and exports `cfg.out`. Returns the validation losses.

    Raises UserError for anything in `cfg` that cannot be used.
    """
    check_whole(cfg, LEAST)
    check_flags(cfg, "compile")
    check_numbers(cfg, {"stability.weight": (0, 1e6), "stability.noise": (0, 1)})
    if cfg.stability.weight > 0 and cfg.data.size < 2 * cfg.stability.shift + 32:
        raise UserError(
            f"stability.shift={cfg.stability.shift}: data.size={cfg.data.size} leaves too little of a crop moved so far"
        )
    resume = find_checkpoint(cfg)
    run_dir = resume.parent if resume else path_of(cfg, "run_dir")
    out, paintings = path_of(cfg, "out"), paintings_of(cfg.style)
    pl.seed_everything(cfg.seed, verbose=False)

    data = instantiate(cfg.data)
    style_images = {name: to_tensor(load_rgb(path, cfg.style.size)).unsqueeze(0) for name, path in paintings.items()}
    net = instantiate(cfg.model)
    if isinstance(net, TransformNet) and len(paintings) > 1:
        raise UserError(f"style={', '.join(paintings)}: this model learns one style; give model=multi, or -m to train each")
    parent = start_from(net, cfg, paintings)
    if resume and read_last(resume) != net.architecture:
        raise UserError(f"{resume}: its net is {read_last(resume)}, not {net.architecture}; give the same model")
    layers = [cfg.loss.content_layer, *cfg.loss.style_layers, *(STYLE_LAYERS if isinstance(net, ArbitraryNet) else ())]
    loss_network = instantiate(cfg.loss_network, layers=layers)
    objective = instantiate(cfg.loss, loss_network=loss_network, style_images=list(style_images.values()))
    info = {
        "version": __version__,
        # A net of any painting has none of its own: those that style= names are held out.
        "style": {"name": "any" if isinstance(net, ArbitraryNet) else "+".join(paintings), "size": cfg.style.size},
        "objective": OmegaConf.to_container(cfg.loss, resolve=True)
        | {"loss_network": {"network": cfg.loss_network.network, "weights": str(cfg.loss_network.weights)}},
    }
    info |= {} if parent is None else {"ancestor": parent}
    optimizer, schedule = instantiate(cfg.optimizer.optimizer), instantiate(cfg.optimizer.schedule)
    for part in (net, objective, objective.loss_network) if cfg.compile else ():
        part.compile()
    module = MODULES[type(net)](net, objective, optimizer, schedule, info, dict(cfg.stability), style_images)

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
    config = OmegaConf.to_yaml(cfg, resolve=True)
    with one_line(trainer, run_dir, data.reading):
        if trainer.is_global_zero:
            write_bytes(run_dir / "config.yaml", config.encode())
            trainer.logger.experiment.add_text("config", f"```yaml\n{config}\n```")
        trainer.fit(module, data, ckpt_path=resume, weights_only=True)
        trainer.save_checkpoint(run_dir / LAST)
        (losses,) = trainer.validate(module, data, verbose=False)
    if trainer.is_global_zero:
        export(out, net, module.info | {"steps": trainer.global_step, "validation": losses})
        print(", ".join(f"{name} {value:.4g}" for name, value in losses.items()))
        print(f"run: {run_dir}\ncheckpoint: {out}")
    return losses


def start_from(net: TransformNet | StyledNet, cfg: DictConfig, paintings: Mapping[str, Path]) -> str | None:
    """Loads the weights of `cfg.init`, if it is given, and freezes what `cfg.train` leaves out. Returns the net's ancestor.

    Raises UserError if the nets do not fit, or for another value of `cfg.train`.
    """
    parent = None
    if cfg.init is not None:
        init = path_of(cfg, "init")
        start, info = load_net(init)
        parent = ancestor(start, info)
        if isinstance(net, ArbitraryNet):
            net.start(start)
        elif isinstance(net, MultiStyleNet):
            net.start(start, first_rows(start, init, paintings))
        else:
            if isinstance(start, StyledNet):
                (row,) = first_rows(start, init, paintings).values()
                start = start.fold(row)
            if start.architecture != net.architecture:
                raise UserError(
                    f"init={cfg.init}: its net is {start.architecture}, not {net.architecture}; give the same model"
                )
            net.load_state_dict(start.state_dict())
    if cfg.train not in ("all", "norms"):
        raise UserError(f"train={cfg.train}: give all or norms")
    if cfg.train == "norms":
        if not isinstance(net, StyledNet) or cfg.init is None:
            raise UserError("train=norms: learns new rows for a trained net of several styles; give model=multi init=FILE")
        net.body.requires_grad_(False)
    return parent


def first_rows(start: TransformNet | StyledNet, init: Path, paintings: Mapping[str, Path]) -> dict[str, Tensor]:
    """The row, (numbers,), that each style begins at: what a net of any painting predicts for it, or see `first_row`."""
    if not isinstance(start, ArbitraryNet):
        return {name: first_row(start, name) for name in paintings}
    painted, _ = load_style(init, {str(file): 1.0 for file in paintings.values()})
    return {name: painted.rows[str(file)] for name, file in paintings.items()}


def find_checkpoint(cfg: DictConfig) -> Path | None:
    """The .ckpt that `ckpt` names; `ckpt=last` is the newest of this style's runs. None if there is nothing to resume.

    Raises UserError if a path is given and no file is there.
    """
    if cfg.ckpt is None:
        return None
    if cfg.ckpt != "last":
        path = path_of(cfg, "ckpt")
        if not path.is_file():
            raise UserError(f"{path}: no such checkpoint to resume; give ckpt=last or the path of a {LAST}")
        return path
    runs = path_of(cfg, "run_dir").parent
    # A run killed between two renamings has none but previous.ckpt.
    found = [path for name in (LAST, BEFORE) for path in runs.glob(f"*/{name}")]
    return max(found, key=lambda path: path.stat().st_mtime_ns, default=None)


def read_last(path: Path) -> dict:
    """The architecture of the net in a .ckpt. Raises UserError if it is damaged, and offers the one before it."""
    try:
        return load_training(path)[0].architecture
    except UserError as error:
        before = path.with_name(BEFORE)
        try:
            load_training(before)
        except UserError:
            raise error from None
        raise UserError(f"{error}; the one before it is whole: give ckpt={before}") from None


def check_launch(trainer: pl.Trainer) -> None:
    """Raises UserError if torchrun or SLURM has started other than the trainer's number of processes."""
    launcher = trainer.strategy.launcher
    if launcher is not None:
        try:
            launcher.cluster_environment.validate_settings(trainer.num_devices, trainer.num_nodes)
        except ValueError as error:
            raise UserError(f"{' '.join(str(error).split())} (trainer.devices, trainer.num_nodes)") from None


def main() -> None:
    keep_freed_memory()
    torch.set_float32_matmul_precision("high")
    run(train, "train")
