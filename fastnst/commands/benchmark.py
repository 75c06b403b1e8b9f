"""Times a training step, its parts, decoding and inference, and measures memory: read `benchmark` from top to bottom."""

import json
import platform
import tempfile
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from fastnst.benchmark.measurements import (
    SCALE,
    compare_losses,
    time_decoding,
    time_inference,
    time_parts,
    write_samples,
)
from fastnst.benchmark.report import markdown
from fastnst.benchmark.steps import DTYPES, measure_memory, time_steps
from fastnst.commands.options import check_flags, check_whole, path_of, whole_numbers
from fastnst.data.crops import Photographs, collate
from fastnst.data.files import first_readable
from fastnst.errors import UserError, is_whole
from fastnst.files import check_writable, write_bytes
from fastnst.images import best_device
from fastnst.memory import keep_freed_memory

FAST: dict[str, Any] = {
    "width": 4, "batch_size": 2, "size": 32, "rounds": 2, "inference_widths": [4], "inference_sizes": [32],
    "memory_steps": [[1, 32]], "count": 4,
}  # fmt: skip
LEAST = 32  # px, of any side


def benchmark(cfg: DictConfig) -> dict:
    """Measures what `cfg` (configs/benchmark.yaml) names and writes it to `cfg.out`. Returns the contents of results.json.

    Raises UserError for anything in `cfg` that cannot be used.
    """
    keep_freed_memory()  # as training and inference do
    check_flags(cfg, "fast")
    check_whole(cfg, {"width": 1, "batch_size": 1, "size": LEAST, "rounds": 1, "data.count": 1})
    sizes, steps = whole_numbers(cfg, "inference_sizes", LEAST), memory_steps(cfg)
    if any(side % 4 for side in (cfg.size, *sizes)):
        raise UserError("size, inference_sizes: give multiples of 4, as the textbook net takes no others")
    settings: dict[str, Any] = {key: cfg[key] for key in ("width", "batch_size", "size", "rounds")}
    settings |= {"inference_widths": whole_numbers(cfg, "inference_widths", 1), "inference_sizes": sizes}
    settings |= {"memory_steps": steps, "count": cfg.data.count}
    settings = FAST if cfg.fast else settings
    width, size, rounds = (settings[key] for key in ("width", "size", "rounds"))
    out = path_of(cfg, "out") / "fast" if cfg.fast else path_of(cfg, "out")
    root = None if cfg.data.root is None else path_of(cfg, "data.root")
    device = best_device()
    check_writable(out)

    with tempfile.TemporaryDirectory() as temporary:
        paths = first_readable(write_samples(Path(temporary)) if root is None else root, settings["count"])
        crops = Photographs(paths, size, SCALE, seed=0)
        batch = collate([crops[i, i % len(paths)] for i in range(settings["batch_size"])])["image"].to(device)
        results = {
            "machine": {
                "threads": torch.get_num_threads(),
                "cpu": platform.machine(),
                "gpu": name_of(device),
                "torch": torch.__version__,
            },
            "settings": settings,
            "step": time_steps(len(batch), size, width, rounds),
            "losses": compare_losses(batch, width),
            **{f"parts_{kind}": time_parts(batch, width, rounds, kind) for kind in DTYPES},
            "decoding": time_decoding(paths, size, rounds),
            "inference": [
                time_inference(side, width, rounds)
                for width in settings["inference_widths"]
                for side in settings["inference_sizes"]
            ],
            "memory": [measure_memory(count, side, width) for count, side in settings["memory_steps"]],
        }
    text = markdown(results)
    write_bytes(out / "table.md", text.encode())
    write_bytes(out / "results.json", json.dumps(results, indent=1).encode())
    print(f"{text}\n{out}")
    return results


def name_of(device: torch.device) -> str | None:
    """The accelerator's; None for the CPU."""
    if device.type == "cpu":
        return None
    module = torch.get_device_module(device)
    return module.get_device_name(device) if hasattr(module, "get_device_name") else device.type


def memory_steps(cfg: DictConfig) -> list[list[int]]:
    steps: Any = OmegaConf.to_container(cfg.memory_steps) if OmegaConf.is_list(cfg.memory_steps) else [None]
    for step in steps:
        if not (isinstance(step, list) and len(step) == 2 and is_whole(step[0], 1) and is_whole(step[1], LEAST)):
            raise UserError(
                f"memory_steps={cfg.memory_steps}: give pairs of a batch from 1 and a side from {LEAST}, such as [[4,256]]"
            )
    return steps
