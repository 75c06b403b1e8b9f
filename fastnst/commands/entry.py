"""The commands by name. A command's module, and with it torch, is imported when its options are composed, and not before."""

import sys

from fastnst.commands.startup import importing


def train() -> None:
    _run("fastnst.commands.train.train", "train")


def infer() -> None:
    _run("fastnst.commands.infer.infer", "inference/infer")


def export() -> None:
    _run("fastnst.commands.export.export", "inference/export")


def optimize() -> None:
    _run("fastnst.commands.optimize.optimize_file", "optimize")


def evaluate() -> None:
    _fast_is_an_option()
    _run("fastnst.commands.evaluate.evaluate", "evaluate")


def compare_peer() -> None:
    _run("fastnst.commands.compare_peer.compare", "compare_peer")


def benchmark() -> None:
    _run("fastnst.commands.benchmark.benchmark", "benchmark")


def serve() -> None:
    _run("fastnst.commands.serve.serve", "serve")


def pack() -> None:
    _run("fastnst.commands.pack.pack", "pack")


def convert() -> None:
    if sys.argv[1:] and "=" not in sys.argv[1] and not sys.argv[1].startswith("-"):
        sys.argv[1] = f"ckpt={sys.argv[1]}"  # as one types it: convert.py net.pth out=net.safetensors
    _run("fastnst.commands.convert.convert", "convert")


def _run(task: str, config_name: str) -> None:
    with importing():
        from fastnst.commands.cli import run
    run(task, config_name)


def _fast_is_an_option() -> None:
    sys.argv[1:] = ["fast=true" if argument == "--fast" else argument for argument in sys.argv[1:]]
