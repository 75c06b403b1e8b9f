"""Optimization-based style transfer of one photograph, coarse to fine: read `optimize_file` from top to bottom."""

import os
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from fastnst.commands.options import check_numbers, check_whole, layers_of, painting_of, path_of, whole_numbers
from fastnst.errors import UserError
from fastnst.files import check_writable
from fastnst.images import best_device, fit, is_folder, load_rgb, save, to_image, to_tensor
from fastnst.losses.objective import without_parts
from fastnst.memory import check_step
from fastnst.models.arbitrary import MOST_SIZE
from fastnst.optimization import initial, optimize, resized
from fastnst.plots import loss_curves


def optimize_file(cfg: DictConfig) -> Path:
    """Runs what `cfg` (configs/optimize.yaml) describes. Returns the result's path.

    Raises UserError for anything in `cfg` that cannot be used.
    """
    check_whole(cfg, {"style.size": 16, "save_every": 1, "seed": 0}, optional=["save_every"])
    if OmegaConf.is_list(cfg.steps):
        whole_numbers(cfg, "steps", 1)
    else:
        check_whole(cfg, {"steps": 1})
    check_numbers(cfg, {"init_noise": (0, 1), "style.size": (16, MOST_SIZE)})
    content, (style, painting_file) = path_of(cfg, "content"), painting_of(cfg.style)
    picture = load_rgb(content)
    sizes = [max(picture.size)] if cfg.sizes is None else whole_numbers(cfg, "sizes", 16)
    out, run_dir = path_of(cfg, "out"), path_of(cfg, "run_dir")
    target = out / f"{content.stem}_{style}_{cfg.recipe_name}.png" if is_folder(out) else out
    for source in (content, painting_file):
        lie = [os.path.dirname(os.path.realpath(path)) for path in (source, target)]
        if lie[0] == lie[1] and source.stem.startswith(target.stem):
            raise UserError(f"out={out}: {source} might be overwritten; give another name")
    device = best_device()
    # The painting shrinks with the photograph, so that every pass strives for strokes of the same place in it.
    short_sides = [max(16, round(cfg.style.size * size / sizes[-1])) for size in sizes]
    for size, short_side in zip(sizes, short_sides, strict=True):
        check_step(f"sizes={size}", size * max(1, size * min(picture.size) // max(picture.size)), device)
        if short_side > MOST_SIZE:
            raise UserError(f"sizes={size}: such a pass sees the painting at {short_side} px; {MOST_SIZE} px is the most")
    network = instantiate(cfg.loss_network, layers=layers_of(cfg.loss)).to(device, memory_format=torch.channels_last)
    optimizer = instantiate(cfg.optimizer.optimizer)

    history: list[dict[str, float]] = []
    passes: list[int] = []
    for number, size in enumerate(sizes):
        steps = of_pass(cfg, "steps", number)
        options = {key: of_pass(cfg, f"optimizer.schedule.{key}", number) for key in cfg.optimizer.schedule}
        schedule = instantiate(options)
        photograph = to_tensor(fit(picture, size)).unsqueeze(0).to(device)
        painting = to_tensor(load_rgb(painting_file, short_sides[number])).unsqueeze(0).to(device)
        objective = instantiate(cfg.loss, loss_network=network, style_images=[painting]).to(device)
        if number == 0:
            result = initial(cfg.init, photograph, cfg.init_noise, cfg.seed)
        start = resized(result, *photograph.shape[-2:])
        passes.append(len(history))
        iterates = optimize(objective, photograph, start, optimizer, schedule, steps)
        with tqdm(iterates, total=steps + 1, desc=f"{size} px") as bar:
            for step, result, terms in bar:
                if not history:  # at the first iterate, when all else has proved sound
                    check_writable(target.parent)
                    check_writable(run_dir, "run_dir")
                    board = SummaryWriter(run_dir)
                    board.add_text("config", f"```yaml\n{OmegaConf.to_yaml(cfg, resolve=True)}\n```")
                    board.add_image("style", painting[0])
                count = len(history)
                for name, value in terms.items():
                    board.add_scalar(name, value.item(), count)
                weighted = {name: value * objective.weights.get(name, 1.0) for name, value in without_parts(terms).items()}
                history.append(weighted)
                bar.set_postfix({name: f"{value:.3g}" for name, value in weighted.items()}, refresh=False)
                if cfg.save_every and step % cfg.save_every == 0:
                    save(to_image(result[0]), target.with_stem(f"{target.stem}_{count:05}"))
                    board.add_image("result", result[0], count)
        board.add_image("result", result[0], len(history) - 1)
    board.close()
    save(to_image(result[0]), target)
    curves = target.with_name(f"{target.stem}_losses.png")
    loss_curves(curves, history, passes[1:])
    print(f"losses: {curves}\nrun: {run_dir}\n{target}")
    return target


def of_pass(cfg: DictConfig, key: str, number: int) -> Any:
    """What `key` holds for pass `number`, from 0: of a list one each, its last for further ones.

    Raises UserError for an empty list.
    """
    value = OmegaConf.select(cfg, key)
    if not OmegaConf.is_list(value):
        return value
    if not len(value):
        raise UserError(f"{key}=[]: give a value, or one for each of sizes={cfg.sizes}")
    return value[min(number, len(value) - 1)]
