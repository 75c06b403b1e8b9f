"""Lays a zero-shot checkpoint beside Magenta's net: read `compare` from top to bottom."""

import functools
import json

import torch
from omegaconf import DictConfig
from torch import Tensor

from fastnst.checkpoint import choose_style, load_net
from fastnst.commands.options import check_whole, path_of
from fastnst.evaluation.figures import PAINTING_SIZE, gram_matrices
from fastnst.evaluation.measurements import FIGURES, means, measure, share_own
from fastnst.evaluation.peer import OURS, PEER, WORKING_SIZE, load_peer, markdown, seconds_of, share_lower
from fastnst.evaluation.pictures import LEAST, choose_photographs, find_paintings, read, read_photograph
from fastnst.evaluation.report import contact_sheet
from fastnst.files import check_writable, write_bytes
from fastnst.images import best_device, save, to_image, to_tensor
from fastnst.inference.stylizer import Stylizer
from fastnst.losses.vgg import LossNetwork
from fastnst.shipped import checkpoint_file


def compare(cfg: DictConfig) -> dict:
    """Measures both nets on what `cfg` (configs/compare_peer.yaml) names, and writes it to `cfg.out`.

    Each net is called as its users call it, and measured by its results as 8-bit pictures. Returns the contents of
    results.json. Raises UserError for anything in `cfg` that cannot be used, or if the wheel is not installed.
    """
    check_whole(cfg, {"size": LEAST, "data.count": 1})
    peer, device, out = load_peer(), best_device(), path_of(cfg, "out")
    checkpoint, paintings = checkpoint_file(path_of(cfg, "ckpt")), find_paintings(path_of(cfg, "paintings"))
    whole, info = load_net(checkpoint)
    paths = choose_photographs(None if cfg.data.root is None else path_of(cfg, "data.root"), cfg.data.count)
    photographs = [read_photograph(path, device, cfg.size) for path in paths]
    network = LossNetwork().to(device).to(memory_format=torch.channels_last)
    check_writable(out)

    pictures = {name: read(file, device, short_side=PAINTING_SIZE) for name, file in paintings.items()}
    grams = {name: gram_matrices(network, picture) for name, picture in pictures.items()}
    results: dict[str, list[dict]] = {OURS: [], PEER: []}
    sheet: dict[str, list[Tensor | None]] = {"photographs": [None, *photographs]}
    for name, file in paintings.items():
        net = Stylizer((choose_style(whole, info, checkpoint, file), info))
        nets = {
            OURS: functools.partial(net, tile=None),
            PEER: functools.partial(peer.stylize_with, style_image=str(file), max_size=max(cfg.size, WORKING_SIZE)),
        }
        for which, restyle in nets.items():
            row = sheet[f"{name}: painting, results of {which}"] = [pictures[name]]
            for path, photograph in zip(paths, photographs, strict=True):
                restyled = to_tensor(restyle(to_image(photograph[0]))).unsqueeze(0).to(device)
                measured = measure(network, restyled, photograph, name, pictures, grams)
                results[which].append({"painting": name, "photograph": path.name, **measured})
                row.append(restyled)
        print(name, flush=True)

    summary = {
        "checkpoint": str(cfg.ckpt),
        "size": cfg.size,
        "means": {which: means(own) for which, own in results.items()},
        "ours_lower": {name: share_lower(results[OURS], results[PEER], name) for name in FIGURES},
        "nearest_is_own": {which: share_own(own) for which, own in results.items()},
        "pass_seconds": {which: seconds_of(restyle, to_image(photographs[0][0])) for which, restyle in nets.items()},
        "devices": {OURS: net.device.type, PEER: peer.device},
        "threads": torch.get_num_threads(),
        "results": results,
    }
    table = markdown(summary)
    write_bytes(out / "table.md", table.encode())
    write_bytes(out / "results.json", json.dumps(summary, indent=1).encode())
    save(contact_sheet(sheet), out / "contact.png")
    print(f"\n{table}\n{out}")
    return summary
