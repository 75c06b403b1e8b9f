"""Compares a checkpoint with optimization-based style transfer: read `evaluate` from top to bottom."""

import itertools
import json
import statistics

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from torch import Tensor

from fastnst.commands.options import check_flags, check_whole, painting_of, path_of, whole_numbers
from fastnst.data.files import find_photographs, is_readable, sample_photographs
from fastnst.errors import UserError
from fastnst.evaluation.figures import ARTEFACTS, PAINTING_SIZE, flicker, relative_content, relative_style, worth
from fastnst.evaluation.measurements import artefact, load_painting, read, speed, trained_objective
from fastnst.evaluation.report import contact_sheet, count_of, draw_curves, markdown
from fastnst.files import check_writable, write_bytes
from fastnst.images import best_device, save
from fastnst.losses.objective import without_parts
from fastnst.losses.vgg import LossNetwork
from fastnst.optimization import optimize
from fastnst.shipped import checkpoint_file

FAST = {"count": 1, "size": 128, "iterations": [2, 4], "speed_sizes": [64]}
LEAST = 64  # px; below it the artefact figures say nothing


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
    checkpoint = checkpoint_file(path_of(cfg, "ckpt"))
    net, info = load_painting(checkpoint, style, painting_file)
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
            network_terms, photograph_terms = (without_parts(objective(p, target)) for p in (restyled, photograph))
        curve, at, pictures = [], {}, [photograph, restyled]
        for step, picture, terms in descend(photograph, max(marks)):
            curve.append(terms["total"].item())
            if step in marks:
                at[step] = without_parts(terms)
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
        print(f"{path.name}: equivalent to {count_of(value, marks)} iterations", flush=True)

    most = max(marks)
    median = statistics.median_low(most + 1 if r["worth"] is None else r["worth"] for r in results)
    summary = {
        "checkpoint": str(cfg.ckpt),
        "checkpoint_mb": checkpoint.stat().st_size / 1e6,
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
