"""Times training steps, decoding and inference beside what others do: read `benchmark` from top to bottom."""

import itertools
import json
import platform

import torch
from omegaconf import DictConfig, OmegaConf

from fastnst.benchmark.measurements import samples, time_decoding, time_folder, time_inference
from fastnst.benchmark.steps import DTYPES, profile_step, time_steps
from fastnst.commands.options import check_whole, path_of, whole_numbers
from fastnst.data.files import Loaded, first_readable
from fastnst.errors import UserError
from fastnst.files import check_writable, write_bytes
from fastnst.memory import keep_freed_memory
from fastnst.tables import table

LEAST = 64  # px, of any side: three scales take no less


def benchmark(cfg: DictConfig) -> dict:
    """Measures what `cfg` (configs/benchmark.yaml) names and writes it to `cfg.out`. Returns the tables.

    Raises UserError for anything in `cfg` that cannot be used.
    """
    keep_freed_memory()  # as training and inference do
    check_whole(cfg, {"width": 1, "batch_size": 1, "size": LEAST, "rounds": 1, "data.count": 1})
    widths, sides = whole_numbers(cfg, "inference_widths", 1), whole_numbers(cfg, "inference_sizes", LEAST)
    if cfg.size % 4:
        raise UserError(f"size={cfg.size}: give a multiple of 4, as the textbook net takes no others")
    out = path_of(cfg, "out")
    root = None if cfg.data.root is None else path_of(cfg, "data.root")
    check_writable(out)

    if root is None:
        files = list(itertools.islice(samples(), cfg.data.count))
    else:
        files = [Loaded("", path.name, path.open("rb").read()) for path in first_readable(root, cfg.data.count)]
    width, rounds, step = cfg.width, cfg.rounds, (cfg.batch_size, cfg.size, cfg.width, cfg.rounds)
    measures = {
        "steps": lambda: time_steps(*step),
        "parts": lambda: [row for kind in DTYPES for row in profile_step(*step, kind)],
        "decoding": lambda: time_decoding(files, cfg.size, rounds),
        "folder": lambda: time_folder(files, width, rounds),
        "inference": lambda: [row for w in widths for side in sides for row in time_inference(side, w, rounds)],
    }
    tables = cfg.tables if OmegaConf.is_list(cfg.tables) else [cfg.tables]
    if not set(tables) <= measures.keys():
        raise UserError(f"tables={cfg.tables}: give some of {', '.join(measures)}, such as tables=[steps]")
    results = {name: measures[name]() for name in tables}
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no CUDA"
    about = (
        f"Width {width}, batch {cfg.batch_size}, {cfg.size} px, {rounds} rounds; {torch.get_num_threads()} threads "
        f"({platform.machine()}), {gpu}, torch {torch.__version__}"
    )
    text = f"# Benchmark\n\n{about}\n"
    for name, rows in results.items():
        heads = [head.replace("_", " ") for head in rows[0]]
        text += "\n".join(["", f"## {name.capitalize()}", "", *table(heads, [[*row.values()] for row in rows]), ""])
    write_bytes(out / "table.md", text.encode())
    write_bytes(out / "results.json", json.dumps({"about": about, **results}, indent=1).encode())
    print(f"{text}\n{out}")
    return results
