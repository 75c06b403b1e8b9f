"""Checkpoints for inference: a safetensors file with the transform net's weights, and what they are, as metadata.

Nothing here unpickles: a Lightning .ckpt is read by torch's weights_only loader, which makes tensors and plain containers.
"""

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from fastnst.errors import UserError
from fastnst.images import write_bytes
from fastnst.transform_net import TransformNet

FORMAT = "fastnst transform net 1"


def export(path: str | Path, net: TransformNet, info: dict) -> None:
    """Writes `net` and `info` (anything JSON holds: style, objective, steps, version), whole or not at all."""
    metadata = {"format": FORMAT, "architecture": json.dumps(net.architecture), "info": json.dumps(info)}
    write_bytes(path, save({k: v.detach().cpu().contiguous() for k, v in net.state_dict().items()}, metadata))


def load_net(path: str | Path) -> tuple[TransformNet, dict]:
    """The transform net, in eval mode on the CPU, and its info, from an exported file or a Lightning .ckpt.

    Raises UserError, with a line that says what is wrong, for anything else.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint; train one with scripts/train.py, or give ckpt=FILE")
    weights, architecture, info = (read_training if path.suffix == ".ckpt" else _read_exported)(path)
    try:
        if not isinstance(architecture, dict):
            raise TypeError("no architecture")
        net = TransformNet(**architecture)
        net.load_state_dict(weights)
    except (RuntimeError, TypeError, UserError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path}: its weights are not those of the transform net it names ({reason})") from None
    if not all(tensor.isfinite().all() for tensor in weights.values()):
        raise UserError(f"{path}: holds weights that are not finite numbers; its training had failed")
    return net.eval(), info


def _read_exported(path: Path) -> tuple[dict[str, Tensor], dict, dict]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise UserError(f"{path}: a safetensors file, but not a fastnst checkpoint")
            # Half-precision files save space, not time: a CPU computes in float32.
            weights = {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118 (not a dict)
        return weights, json.loads(metadata["architecture"]), json.loads(metadata["info"])
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise UserError(f"{path}: not a fastnst checkpoint, or a damaged one ({error})") from None


def read_training(path: Path) -> tuple[dict[str, Tensor], dict, dict]:
    """Weights of the net, its architecture and its info, from a Lightning .ckpt. Raises UserError for anything else."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        weights = {k.removeprefix("net."): v for k, v in state["state_dict"].items() if k.startswith("net.")}
        return weights, state["fastnst"]["architecture"], state["fastnst"]["info"]
    except Exception:  # torch.load raises nearly anything on a file that is not its own
        raise UserError(f"{path}: not a checkpoint of fastnst's training, or a damaged one") from None
