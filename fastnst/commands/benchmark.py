"""Times a training step, its parts, decoding and inference, and measures memory: read `benchmark` from top to bottom."""

import json

from omegaconf import DictConfig, OmegaConf

from fastnst.benchmark.measurements import (
    SCALE,
    compare_losses,
    machine,
    photographs,
    time_decoding,
    time_inference,
    time_parts,
    time_steps,
)
from fastnst.benchmark.report import markdown
from fastnst.benchmark.steps import DTYPES, measure_memory
from fastnst.commands.options import check_flags, check_whole, path_of, whole_numbers
from fastnst.data.crops import Photographs, collate
from fastnst.data.files import find_photographs
from fastnst.errors import UserError, is_whole
from fastnst.files import check_writable, write_bytes
from fastnst.images import best_device
from fastnst.memory import keep_freed_memory

FAST = {"width": 4, "batch_size": 2, "size": 32, "rounds": 2, "inference_sizes": [32], "memory_steps": [[1, 32]], "count": 4}
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
    settings = {key: cfg[key] for key in ("width", "batch_size", "size", "rounds")}
    settings |= {"inference_sizes": sizes, "memory_steps": steps, "count": cfg.data.count}
    settings = FAST if cfg.fast else settings
    out = path_of(cfg, "out") / "fast" if cfg.fast else path_of(cfg, "out")
    root = None if cfg.data.root is None else path_of(cfg, "data.root")
    device = best_device()
    check_writable(out)

    with photographs(root, settings["count"]) as folder:
        paths = find_photographs(folder)
        crops = Photographs(paths, settings["size"], SCALE, seed=0)
        batch = collate([crops[i, i % len(paths)] for i in range(settings["batch_size"])])["image"]
        results = {
            "machine": machine(device),
            "settings": settings,
            "losses": compare_losses(batch.to(device), settings["width"]),
            "step": time_steps(batch, settings, device),
            "decoding": time_decoding(folder, settings),
            "inference": [time_inference(side, settings) for side in settings["inference_sizes"]],
        }
        parts = {name: time_parts(batch.to(device), crops, settings, dtype) for name, dtype in DTYPES.items()}
    memory = [measure_memory(*step, settings["width"]) for step in settings["memory_steps"]]
    results |= {"parts": parts, "memory": memory}
    table = markdown(results)
    write_bytes(out / "table.md", table.encode())
    write_bytes(out / "results.json", json.dumps(results, indent=1).encode())
    print(f"{table}\n{out}")
    return results


def memory_steps(cfg: DictConfig) -> list[list[int]]:
    steps = OmegaConf.to_container(cfg.memory_steps) if OmegaConf.is_list(cfg.memory_steps) else [None]
    for step in steps:
        if not (isinstance(step, list) and len(step) == 2 and is_whole(step[0], 1) and is_whole(step[1], LEAST)):
            raise UserError(
                f"memory_steps={cfg.memory_steps}: give pairs of a batch from 1 and a side from {LEAST}, such as [[4,256]]"
            )
    return steps
