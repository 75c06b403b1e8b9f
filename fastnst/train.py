"""Trains one style, from a composed config to an exported checkpoint: read `train` from top to bottom."""

import os
from pathlib import Path

import pytorch_lightning as pl
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.callbacks import LearningRateMonitor, ModelCheckpoint, TQDMProgressBar
from pytorch_lightning.loggers import TensorBoardLogger

from fastnst import __version__
from fastnst.checkpoint import export, load_net, read_training
from fastnst.cli import check_flags, check_numbers, check_whole, path_of, run, style_name
from fastnst.errors import UserError
from fastnst.images import load_rgb, to_tensor, write_bytes
from fastnst.memory import keep_freed_memory
from fastnst.training import Panels, StyleTransfer, Throughput

LEAST = {
    "trainer.max_steps": 1,
    "checkpoint_every": 1,
    "style.size": 16,
    "data.size": 16,
    "data.batch_size": 1,
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
    out, painting = path_of(cfg, "out"), path_of(cfg, "style.image")
    pl.seed_everything(cfg.seed, verbose=False)

    data = instantiate(cfg.data)
    style_image = to_tensor(load_rgb(painting, cfg.style.size)).unsqueeze(0)
    net = instantiate(cfg.model)
    if cfg.init is not None:
        start, _ = load_net(path_of(cfg, "init"))
        if start.architecture != net.architecture:
            raise UserError(f"init={cfg.init}: its net is {start.architecture}, not {net.architecture}; give the same model")
        net.load_state_dict(start.state_dict())
    if resume and read_training(resume)[1] != net.architecture:
        raise UserError(f"{resume}: its net is {read_training(resume)[1]}, not {net.architecture}; give the same model")
    layers = [cfg.loss.content_layer, *cfg.loss.style_layers]
    objective = instantiate(cfg.loss, loss_network=instantiate(cfg.loss_network, layers=layers), style_image=style_image)
    info = {
        "version": __version__,
        "style": {"name": style_name(cfg), "size": cfg.style.size},
        "objective": OmegaConf.to_container(cfg.loss, resolve=True)
        | {"loss_network": {"network": cfg.loss_network.network, "weights": str(cfg.loss_network.weights)}},
    }
    optimizer, schedule = instantiate(cfg.optimizer.optimizer), instantiate(cfg.optimizer.schedule)
    for part in (net, objective, objective.loss_network) if cfg.compile else ():
        part.compile()
    module = StyleTransfer(net, objective, optimizer, schedule, info, dict(cfg.stability))

    trainer = instantiate(
        cfg.trainer,
        logger=TensorBoardLogger(run_dir, name="", version="", default_hp_metric=False),
        callbacks=[
            TQDMProgressBar(),
            LearningRateMonitor(),
            Throughput(),
            Panels(style_image),
            ModelCheckpoint(
                run_dir, filename="last", every_n_train_steps=cfg.checkpoint_every, enable_version_counter=False
            ),
        ],
    )
    config = OmegaConf.to_yaml(cfg, resolve=True)
    if trainer.is_global_zero:
        write_bytes(run_dir / "config.yaml", config.encode())
        trainer.logger.experiment.add_text("config", f"```yaml\n{config}\n```")

    trainer.fit(module, data, ckpt_path=resume, weights_only=True)
    trainer.save_checkpoint(run_dir / "last.ckpt")
    (losses,) = trainer.validate(module, data, verbose=False)
    if trainer.is_global_zero:
        export(out, net, module.info | {"steps": trainer.global_step, "validation": losses})
        print(", ".join(f"{name} {value:.4g}" for name, value in losses.items()))
        print(f"run: {run_dir}\ncheckpoint: {out}")
    return losses


def find_checkpoint(cfg: DictConfig) -> Path | None:
    """The .ckpt that `ckpt` names; `ckpt=last` is the newest of this style's runs. Raises UserError if it is not there."""
    if cfg.ckpt is None:
        return None
    if cfg.ckpt != "last":
        path = path_of(cfg, "ckpt")
        if not path.is_file():
            raise UserError(f"{path}: no such checkpoint to resume; give ckpt=last or the path of a last.ckpt")
        return path
    runs = path_of(cfg, "run_dir").parent
    found = sorted(runs.glob("*/last.ckpt"), key=os.path.getmtime)
    if not found:
        raise UserError(f"ckpt=last: no run in {runs} has a last.ckpt; start one without ckpt")
    return found[-1]


def main() -> None:
    keep_freed_memory()
    torch.set_float32_matmul_precision("high")
    run(train, "train")


if __name__ == "__main__":
    main()
