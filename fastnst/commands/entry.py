"""The commands by name. A command's module, and with it torch, is imported when its options are composed, and not before."""

import sys

from fastnst.commands.cli import run


def train() -> None:
    run("fastnst.commands.train.train", "train")


def infer() -> None:
    run("fastnst.commands.infer.infer", "inference/infer")


def export() -> None:
    run("fastnst.commands.export.export", "inference/export")


def optimize() -> None:
    run("fastnst.commands.optimize.optimize_file", "optimize")


def evaluate() -> None:
    _fast_is_an_option()
    run("fastnst.commands.evaluate.evaluate", "evaluate")


def compare_peer() -> None:
    run("fastnst.commands.compare_peer.compare", "compare_peer")


def benchmark() -> None:
    _fast_is_an_option()
    run("fastnst.commands.benchmark.benchmark", "benchmark")


def serve() -> None:
    run("fastnst.commands.serve.serve", "serve")


def pack() -> None:
    run("fastnst.commands.pack.pack", "pack")


def convert() -> None:
    if sys.argv[1:] and "=" not in sys.argv[1] and not sys.argv[1].startswith("-"):
        sys.argv[1] = f"ckpt={sys.argv[1]}"  # as one types it: convert.py net.pth out=net.safetensors
    run("fastnst.commands.convert.convert", "convert")


def _fast_is_an_option() -> None:
    sys.argv[1:] = ["fast=true" if argument == "--fast" else argument for argument in sys.argv[1:]]
