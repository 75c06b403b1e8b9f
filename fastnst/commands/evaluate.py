"""Measures a checkpoint by figures, and beside optimization: read `evaluate` from top to bottom."""

import json
import statistics
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from torch import Tensor

from fastnst.brushwork import brushed
from fastnst.checkpoint import load_net
from fastnst.commands.options import check_flags, check_whole, painting_of, path_of, whole_numbers
from fastnst.errors import UserError
from fastnst.evaluation.figures import ARTEFACTS, PAINTING_SIZE, flicker, gram_matrices
from fastnst.evaluation.measurements import (
    artefact,
    beside_optimization,
    means,
    measure,
    median_iterations,
    share_own,
    speed,
    trained_objective,
)
from fastnst.evaluation.pictures import LEAST, choose_photographs, find_paintings, read, read_photograph
from fastnst.evaluation.report import contact_sheet, count_of, draw_curves, figure_line, markdown
from fastnst.files import check_writable, write_bytes
from fastnst.images import best_device, save
from fastnst.losses.vgg import LossNetwork
from fastnst.models.dials import brushwork_of
from fastnst.optimization import optimize
from fastnst.shipped import checkpoint_file

FAST: dict[str, Any] = {"count": 1, "size": 128, "iterations": [2, 4], "speed_sizes": [128]}


def evaluate(cfg: DictConfig) -> dict:
    """Measures what `cfg` (configs/evaluate.yaml) names and writes it to `cfg.out`. Returns the contents of results.json.

    Raises UserError for anything in `cfg` that cannot be used.
    """
    check_whole(cfg, {"size": LEAST, "data.count": 1})
    check_flags(cfg, "fast")
    size, count, speed_sizes = cfg.size, cfg.data.count, whole_numbers(cfg, "speed_sizes", LEAST)
    marks = [] if cfg.iterations is None else whole_numbers(cfg, "iterations", 1)
    if cfg.paintings is None:
        title, painting_file = painting_of(cfg.style)
        paintings = {title: painting_file}
    else:  # L-BFGS would take hours
        folder = path_of(cfg, "paintings")
        title, paintings, marks = folder.resolve().name, find_paintings(folder), []
    out = Path("outputs", "evaluation", title) if cfg.out is None else path_of(cfg, "out")
    if cfg.fast:
        size, count, speed_sizes, out = FAST["size"], FAST["count"], FAST["speed_sizes"], out / "fast"
        marks = marks and FAST["iterations"]
    checkpoint, device = checkpoint_file(path_of(cfg, "ckpt")), best_device()
    whole, info = load_net(checkpoint)
    nets = {style: whole.pick_painting(style, file, info, checkpoint) for style, file in paintings.items()}
    paths = choose_photographs(None if cfg.data.root is None else path_of(cfg, "data.root"), count)
    photographs = [read_photograph(path, device, size) for path in paths]
    # As inference does it. Flicker and speed are the net's alone.
    given = [brushed(photograph, brushwork_of(info)) for photograph in photographs]
    # The figures are Oxford's VGG16's, whatever the checkpoint was trained on.
    network = LossNetwork().to(device).to(memory_format=torch.channels_last)
    if marks:
        objective = trained_objective(info, painting_file, device)
    least = objective.least if marks else 16
    timed = {side: read(paths[0], device, side) for side in speed_sizes}
    if min(min(picture.shape[-2:]) for picture in (*photographs, *timed.values())) < least:
        raise UserError(
            f"size={size}, speed_sizes={speed_sizes}: a photograph has a side of less than {least} px, the least for "
            + ("the checkpoint's scales; give larger sizes, or iterations=null" if marks else "a net; give larger sizes")
        )
    optimizer, schedule = instantiate(cfg.optimizer.optimizer), instantiate(cfg.optimizer.schedule)
    check_writable(out)

    def descend(photograph: Tensor, steps: int):
        return optimize(objective, photograph, photograph, optimizer, schedule, steps)

    pictures = {style: read(file, device, short_side=PAINTING_SIZE) for style, file in paintings.items()}
    grams = {style: gram_matrices(network, picture) for style, picture in pictures.items()}
    results: list[dict[str, Any]] = []
    sheet: dict[str, list[Tensor | None]] = {"photographs": [None, *photographs]}
    for style, net in nets.items():
        net.to(device).to(memory_format=torch.channels_last)
        row = sheet[f"{style}: painting, results"] = [pictures[style]]
        for path, photograph, brushed_photograph in zip(paths, photographs, given, strict=True):
            with torch.no_grad():
                restyled = net(brushed_photograph).clamp(0, 1)
            result: dict[str, Any] = {
                "painting": style,
                "photograph": path.name,
                **measure(network, restyled, photograph, style, pictures, grams),
                "flicker": flicker(lambda p: net(p).clamp(0, 1), photograph),  # noqa: B023
                "artefacts": {
                    name: {"photograph": figure(photograph), "network": figure(restyled)}
                    for name, (figure, _) in ARTEFACTS.items()
                },
            }
            results.append(result)
            row.append(restyled)
            print(f"{style}, {path.name}: {figure_line(result)}", flush=True)
            if marks:
                beside, iterates = beside_optimization(objective, photograph, restyled, descend, marks)
                result |= beside
                for step, picture in iterates.items():
                    sheet.setdefault(f"{step} iterations", [None]).append(picture)
                print(f"  equivalent to {count_of(result['equivalent_iterations'], marks)} iterations", flush=True)

    summary = {
        "checkpoint": str(cfg.ckpt),
        "checkpoint_mb": checkpoint.stat().st_size / 1e6,
        "styles": list(nets),
        "steps": info.get("steps"),
        "size": size,
        **({"equivalent_iterations": median_iterations(results, max(marks))} if marks else {}),
        **means(results),
        **({"nearest_is_own": share_own(results)} if len(nets) > 1 else {}),
        "flicker": statistics.mean(r["flicker"] for r in results),
        "artefacts": {name: artefact(name, results) for name in ARTEFACTS},
        "speed": [speed(net, timed[side], side, descend, max(marks, default=0)) for side in speed_sizes],
        "results": results,
    }
    table = markdown(summary, marks)
    write_bytes(out / "table.md", table.encode())
    write_bytes(out / "results.json", json.dumps(summary, indent=1).encode())
    if marks:
        draw_curves(out / "curves.png", results)
    save(contact_sheet(sheet), out / "contact.png")
    print(f"\n{table}\n{out}")
    return summary
