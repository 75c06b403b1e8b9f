"""Restyles one photograph by the slow method, coarse to fine: read `optimize_file` from top to bottom."""

from pathlib import Path

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from fastnst.cli import check_whole, run
from fastnst.errors import UserError
from fastnst.images import best_device, fit, is_folder, load_rgb, save, to_image, to_tensor
from fastnst.optimization import initial, optimize, resized
from fastnst.plots import loss_curves


def optimize_file(cfg: DictConfig) -> Path:
    """Runs what `cfg` (configs/optimize.yaml) describes. Returns the result's path.

    Raises UserError for anything in `cfg` that cannot be used.
    """
    check_whole(cfg, {"steps": 1, "style.size": 16, "save_every": 1}, optional=("save_every",))
    content, out = Path(str(cfg.content)), Path(str(cfg.out)).expanduser()
    picture = load_rgb(content)
    sizes = list(cfg.sizes) if cfg.sizes else [max(picture.size)]
    for size in sizes:
        if not isinstance(size, int) or size < 16:
            raise UserError(f"sizes={sizes}: give long sides in px, each at least 16")
    target = out / f"{content.stem}_{cfg.style.name}_{cfg.recipe_name}.png" if is_folder(out) else out
    if target.resolve() == content.resolve():
        raise UserError(f"out={out}: this is the photograph itself; give another name")
    device = best_device()
    layers = [cfg.loss.content_layer, *cfg.loss.style_layers]
    network = instantiate(cfg.loss_network, layers=layers).to(device, memory_format=torch.channels_last)
    optimizer, schedule = instantiate(cfg.optimizer.optimizer), instantiate(cfg.optimizer.schedule)

    result, history, passes = None, [], []
    board = None
    for size in sizes:
        photograph = to_tensor(fit(picture, size)).unsqueeze(0).to(device)
        # The painting shrinks with the photograph, so that every pass strives for strokes of the same place in it.
        short_side = max(16, round(cfg.style.size * size / sizes[-1]))
        painting = to_tensor(load_rgb(cfg.style.image, short_side)).unsqueeze(0).to(device)
        objective = instantiate(cfg.loss, loss_network=network, style_image=painting).to(device)
        start = initial(cfg.init, photograph, cfg.init_noise, cfg.seed) if result is None else result
        start = resized(start, *photograph.shape[-2:])
        if board is None:  # not before the config has proved sound
            board = SummaryWriter(cfg.run_dir)
            board.add_text("config", f"```yaml\n{OmegaConf.to_yaml(cfg, resolve=True)}\n```")
            board.add_image("style", painting[0])
        passes.append(len(history))
        iterates = optimize(objective, photograph, start, optimizer, schedule, cfg.steps)
        with tqdm(iterates, total=cfg.steps + 1, desc=f"{size} px") as bar:
            for step, result, terms in bar:
                count = len(history)
                terms = {name: value.item() * objective.weights.get(name, 1.0) for name, value in terms.items()}
                history.append(terms)
                bar.set_postfix({name: f"{terms[name]:.3g}" for name in ("total", "content", "style", "tv")}, refresh=False)
                for name, value in terms.items():
                    board.add_scalar(name, value, count)
                if cfg.save_every and step % cfg.save_every == 0:
                    save(to_image(result[0]), target.with_stem(f"{target.stem}_{count:05}"))
                    board.add_image("result", result[0], count)
        board.add_image("result", result[0], len(history) - 1)
    board.close()
    save(to_image(result[0]), target)
    curves = target.with_name(f"{target.stem}_losses.png")
    loss_curves(curves, history, passes[1:])
    print(f"losses: {curves}\nrun: {cfg.run_dir}\n{target}")
    return target


def main() -> None:
    run(optimize_file, "optimize")


if __name__ == "__main__":
    main()
