"""Judges a checkpoint by the slow method: read `evaluate` from top to bottom."""

import itertools
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from hydra.utils import instantiate
from matplotlib.figure import Figure
from omegaconf import DictConfig
from PIL import Image, ImageDraw
from torch import Tensor, nn

from fastnst.checkpoint import load_net, load_style
from fastnst.commands.cli import run
from fastnst.commands.options import check_flags, check_whole, painting_of, path_of, whole_numbers
from fastnst.data.files import find_photographs, is_readable, sample_photographs
from fastnst.errors import UserError
from fastnst.evaluation.figures import ARTEFACTS, PAINTING_SIZE, flicker, relative_content, relative_style, worth
from fastnst.files import check_writable, write_bytes
from fastnst.images import best_device, fit, load_rgb, save, to_image, to_tensor
from fastnst.losses import recipes
from fastnst.losses.objective import Objective
from fastnst.losses.vgg import LossNetwork
from fastnst.memory import PeakMemory
from fastnst.models.arbitrary import ArbitraryNet
from fastnst.models.conditional import MultiStyleNet
from fastnst.models.transform_net import TransformNet
from fastnst.optimization import optimize
from fastnst.plots import save_figure

TERMS = ("total", "content", "style", "tv")
FAST = {"count": 1, "size": 128, "iterations": [2, 4], "speed_sizes": [64]}
LEAST = 64  # px; below it the artefact figures say nothing
# Each kind under the name that checkpoints of version 0.1 have for it, whatever its class is called now.
OBJECTIVES = {
    "fastnst.losses.Objective": Objective,
    "fastnst.recipes.Isotropic": recipes.Isotropic,
    "fastnst.recipes.Gatys": recipes.Gatys,
    "fastnst.recipes.PyTorch": recipes.PyTorch,
    "fastnst.recipes.TensorFlow": recipes.TensorFlow,
    "fastnst.recipes.D2L": recipes.D2L,
}
OBJECTIVES |= {f"{kind.__module__}.{kind.__qualname__}": kind for kind in OBJECTIVES.values()}


def evaluate(cfg: DictConfig) -> dict:
    """Measures what `cfg` (configs/evaluate.yaml) names and writes it to `cfg.out`. Returns the contents of results.json.

    Raises UserError for anything in `cfg` that cannot be used.
    """
    check_whole(cfg, {"size": LEAST, "data.count": 1})
    check_flags(cfg, "fast")
    size, count = (FAST["size"], FAST["count"]) if cfg.fast else (cfg.size, cfg.data.count)
    marks = FAST["iterations"] if cfg.fast else whole_numbers(cfg, "iterations", 1)
    speed_sizes = FAST["speed_sizes"] if cfg.fast else whole_numbers(cfg, "speed_sizes", LEAST)
    out, (style, painting_file) = path_of(cfg, "out"), painting_of(cfg.style)
    out = out / "fast" if cfg.fast else out
    net, info = load_painting(path_of(cfg, "ckpt"), style, painting_file)
    paths = sample_photographs()[1] if cfg.data.root is None else find_photographs(path_of(cfg, "data.root"))
    paths = list(itertools.islice(filter(is_readable, paths), count))
    if not paths:
        raise UserError(f"{cfg.data.root}: none of the files can be read as a photograph")
    device = best_device()
    net = net.to(device, memory_format=torch.channels_last)
    objective = trained_objective(info, painting_file, device)
    # The relative measures are Oxford's VGG16's, whatever the checkpoint was trained on.
    network = LossNetwork().to(device, memory_format=torch.channels_last)
    painting = read(painting_file, device, short_side=PAINTING_SIZE)
    optimizer, schedule = instantiate(cfg.optimizer.optimizer), instantiate(cfg.optimizer.schedule)
    check_writable(out)

    def descend(photograph: Tensor, steps: int):
        return optimize(objective, photograph, photograph, optimizer, schedule, steps)

    results, rows = [], []
    for path in paths:
        photograph = read(path, device, size)
        if min(photograph.shape[-2:]) < LEAST:
            raise UserError(f"{path}: {LEAST} px is the least side; at size={size} it has {min(photograph.shape[-2:])}")
        with torch.no_grad():
            restyled = net(photograph).clamp(0, 1)
            target = objective.target(photograph)
            network_terms, photograph_terms = (numbers(objective(p, target)) for p in (restyled, photograph))
        curve, at, pictures = [], {}, [photograph, restyled]
        for step, picture, terms in descend(photograph, max(marks)):
            curve.append(terms["total"].item())
            if step in marks:
                at[step] = numbers(terms)
            if step in (100, max(marks)):
                pictures.append(picture)
        value = worth(curve, network_terms["total"])
        results.append(
            {
                "photograph": path.name,
                "terms": {"photograph": photograph_terms, "network": network_terms, **{str(k): v for k, v in at.items()}},
                "curve": curve,
                "worth": value,
                "relative_content": relative_content(network, restyled, photograph),
                "relative_style": relative_style(network, restyled, painting),
                "flicker": flicker(lambda p: net(p).clamp(0, 1), photograph),
                "artefacts": {
                    name: {"photograph": figure(photograph), "network": figure(restyled)}
                    for name, (figure, _) in ARTEFACTS.items()
                },
            }
        )
        rows.append(pictures)
        print(f"{path.name}: worth {_count(value, marks)} iterations", flush=True)

    most = max(marks)
    median = statistics.median_low(most + 1 if r["worth"] is None else r["worth"] for r in results)
    summary = {
        "checkpoint": str(cfg.ckpt),
        "checkpoint_mb": path_of(cfg, "ckpt").stat().st_size / 1e6,
        "style": style,
        "steps": info.get("steps"),
        "size": size,
        "worth_median": None if median > most else median,  # None: more than were run
        "relative_content": statistics.mean(r["relative_content"] for r in results),
        "relative_style": statistics.mean(r["relative_style"] for r in results),
        "flicker": statistics.mean(r["flicker"] for r in results),
        "artefacts": {name: artefact(name, results) for name in ARTEFACTS},
        "speed": [speed(net, descend, read(paths[0], device, side), side, max(marks)) for side in speed_sizes],
        "photographs": results,
    }
    table = markdown(summary, marks)
    write_bytes(out / "table.md", table.encode())
    write_bytes(out / "results.json", json.dumps(summary, indent=1).encode())
    draw_curves(out / "curves.png", results)
    titles = ["photograph", "network", *(f"{n} iterations" for n in sorted({100, max(marks)}) if n <= max(marks))]
    save(contact_sheet(rows, titles), out / "contact.png")
    print(f"\n{table}\n{out}")
    return summary


def read(path: Path, device: torch.device, long_side: int | None = None, short_side: int | None = None) -> Tensor:
    """A picture as (1, 3, H, W) in 0-1, of that size in px."""
    image = load_rgb(path, short_side)
    return to_tensor(fit(image, long_side) if long_side else image).unsqueeze(0).to(device)


def load_painting(checkpoint: Path, style: str, painting: Path) -> tuple[TransformNet, dict]:
    """A checkpoint's net for a style, or for a painting's file if it takes any, and its info.

    Raises UserError if it was trained on other styles.
    """
    net, info = load_net(checkpoint)
    if isinstance(net, ArbitraryNet):
        return load_style(checkpoint, str(painting))[0].at(1.0), info
    if isinstance(net, MultiStyleNet):
        return net.choose({style: 1.0}), info
    name = info.get("style", {}).get("name")
    if style != name:
        raise UserError(
            f"the checkpoint's style is {name}, not {style}; give style={name}, or style.name={name} and its image"
        )
    return net, info


def trained_objective(info: dict, painting: Path, device: torch.device) -> Objective:
    """The objective that a checkpoint says it was trained on, for a painting. Raises UserError if it does not say."""
    try:
        arguments, size = dict(info["objective"]), info["style"]["size"]
        kind = OBJECTIVES[arguments.pop("_target_")]
        layers = [arguments["content_layer"], *arguments["style_layers"]]
        network = arguments.pop("loss_network")
        weights, network = network["weights"], network["network"]
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"the checkpoint does not say what objective it was trained on ({error!r})") from None
    network = LossNetwork(weights, network, layers).to(device, memory_format=torch.channels_last)
    return kind(network, [read(painting, device, short_side=size)], **arguments).to(device)


def numbers(terms: dict[str, Tensor]) -> dict[str, float]:
    return {name: terms[name].item() for name in TERMS}


def artefact(name: str, results: list[dict]) -> dict:
    """Medians over the photographs and over the net's results, and whether the threshold is kept."""
    photographs, network = (statistics.median(r["artefacts"][name][of] for r in results) for of in ("photograph", "network"))
    threshold = ARTEFACTS[name][1]
    return {
        "photographs": photographs,
        "network": network,
        "threshold": threshold,
        "kept": network <= photographs + threshold,
    }


def speed(net: nn.Module, descend: Callable, photograph: Tensor, side: int, steps: int) -> dict:
    """Seconds and peak memory of one pass, and of `steps` iterations of optimization reckoned from a few timed ones.

    The few leave out that L-BFGS's own work grows with its history: the true ratio is a little higher.
    """

    def seconds(work: Callable[[], object]) -> float:
        started = time.perf_counter()
        work()
        if photograph.is_cuda:
            torch.cuda.synchronize()
        return time.perf_counter() - started

    @torch.inference_mode()
    def restyle() -> None:
        net(photograph)

    restyle()
    with PeakMemory(photograph.device) as pass_memory:
        one_pass = statistics.median(seconds(restyle) for _ in range(3))
    iterates = descend(photograph, max(steps, 4))
    next(iterates)
    with PeakMemory(photograph.device) as optimization_memory:
        iteration = statistics.median(seconds(lambda: next(iterates)) for _ in range(3))
    return {
        "size": side,
        "pass_seconds": one_pass,
        "optimization_seconds": iteration * steps,
        "ratio": iteration * steps / one_pass,
        "pass_memory_mb": pass_memory.megabytes,
        "optimization_memory_mb": optimization_memory.megabytes,
    }


def markdown(summary: dict, marks: list[int]) -> str:
    """The results as Markdown tables."""
    lines = [
        f"# {summary['checkpoint']} ({summary['checkpoint_mb']:.1f} MB), {summary['style']}",
        "",
        f"{len(summary['photographs'])} photographs, long side {summary['size']} px. Worth "
        f"**{_count(summary['worth_median'], marks)}** iterations of L-BFGS from the photograph (median); "
        f"relative_content {summary['relative_content']:.3f}, relative_style {summary['relative_style']:.3f}; "
        f"flicker {255 * summary['flicker']:.2f} / 255.",
        "",
        "| photograph | picture | total | content | style | tv | worth |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for result in summary["photographs"]:
        for name, terms in result["terms"].items():
            cells = [
                result["photograph"] if name == "photograph" else "",
                name if not name.isdigit() else f"{name} iterations",
            ]
            cells += [f"{terms[term]:.4g}" for term in TERMS]
            cells.append(_count(result["worth"], marks) if name == "network" else "")
            lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "| artefact | photographs | network | threshold above | kept |", "| --- | --- | --- | --- | --- |"]
    for name, a in summary["artefacts"].items():
        kept = "yes" if a["kept"] else "no"
        lines.append(f"| {name} | {a['photographs']:.3g} | {a['network']:.3g} | {a['threshold']:g} | {kept} |")
    lines += [
        "",
        f"| size (px) | one pass (s) | {max(marks)} iterations (s) | times faster | process, pass (MB) | iterations (MB) |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for s in summary["speed"]:
        memory = [s[key] if s[key] is not None else "not told" for key in ("pass_memory_mb", "optimization_memory_mb")]
        lines.append(
            f"| {s['size']} | {s['pass_seconds']:.3g} | {s['optimization_seconds']:.3g} | {s['ratio']:.0f} | "
            f"{memory[0]} | {memory[1]} |"
        )
    return "\n".join(lines) + "\n"


def _count(worth: int | None, marks: list[int]) -> str:
    return f"over {max(marks)}" if worth is None else str(worth)


def draw_curves(path: Path, results: list[dict]) -> None:
    """The paper's Figure 5: optimization's total loss over its iterations against the network's, means over photographs."""
    figure = Figure(figsize=(7, 4.2))
    axes = figure.subplots()
    curves = torch.tensor([r["curve"] for r in results])
    steps = range(curves.shape[1])
    axes.plot(steps, curves.mean(0), label="L-BFGS from the photograph")
    if len(results) > 1:
        axes.fill_between(steps, curves.amin(0), curves.amax(0), alpha=0.15, linewidth=0)
    for name, color in (("network", "C1"), ("photograph", "C7")):
        values = [r["terms"][name]["total"] for r in results]
        axes.axhline(statistics.mean(values), color=color, linestyle="--", label=name)
    axes.set(yscale="log", xlabel="iteration", ylabel="total loss")
    axes.grid(alpha=0.3)
    axes.legend()
    save_figure(figure, path)


def contact_sheet(rows: list[list[Tensor]], titles: list[str]) -> Image.Image:
    """Rows of pictures, (1, 3, H, W) each, under titles."""
    gap, top = 6, 18
    width = max(picture.shape[-1] for row in rows for picture in row)
    heights = [max(picture.shape[-2] for picture in row) for row in rows]
    sheet = Image.new("RGB", (len(titles) * (width + gap) - gap, top + sum(heights) + gap * (len(rows) - 1)), "white")
    pen = ImageDraw.Draw(sheet)
    for column, title in enumerate(titles):
        pen.text((column * (width + gap), 2), title, fill="black")
    down = top
    for row, height in zip(rows, heights, strict=True):
        for column, picture in enumerate(row):
            sheet.paste(to_image(picture[0]), (column * (width + gap), down))
        down += height + gap
    return sheet


def main() -> None:
    sys.argv[1:] = ["fast=true" if argument == "--fast" else argument for argument in sys.argv[1:]]
    run(evaluate, "evaluate")
