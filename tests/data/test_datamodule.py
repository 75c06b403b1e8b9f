"""Photographs of every kind, the order they come in, and files that are no photographs."""

import pickle
import shutil
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import SHARED, colour_of, one_colour_each, same, zipped

from fastnst.data import datamodule
from fastnst.data.datamodule import PhotoData
from fastnst.data.files import find_photographs
from fastnst.images import load_rgb, to_tensor


def loader(root, start=0, workers=0, seed=0, max_steps=8, rank=0, world=1, **arguments):
    module = PhotoData(str(root), val_count=2, size=24, batch_size=2, seed=seed, workers=workers, **arguments)
    module.trainer = SimpleNamespace(
        max_steps=max_steps, world_size=world, global_rank=rank, global_step=start, accumulate_grad_batches=1
    )
    return module.train_dataloader()


def test_the_seed_decides_whatever_the_number_of_workers(photographs):
    first = list(loader(photographs))
    assert len(first) == 8
    assert same(first, list(loader(photographs, workers=2)))
    assert same(first, list(loader(photographs, workers=3)))
    assert not same(first, list(loader(photographs, seed=1)))


def test_a_resumed_stream_continues(photographs):
    assert same(list(loader(photographs))[3:], list(loader(photographs, start=3)))


def spoil(folder: Path) -> list[Path]:
    whole = (folder / "00.jpg").read_bytes()
    (folder / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "text.jpg").write_text("not a picture")
    (folder / "empty.png").touch()
    return [folder / name for name in ("truncated.jpg", "text.jpg", "empty.png")]


def test_bad_files_are_replaced_and_named(photographs):
    bad = {str(path) for path in spoil(photographs)}
    named = set()
    for batch in loader(photographs, max_steps=20):
        assert batch["image"].shape == (2, 3, 24, 24)
        named |= set(batch["bad"])
    module = PhotoData(str(photographs), val_count=2, size=24)
    assert named == bad & {str(path) for path in module.train_paths}
    assert named


@pytest.fixture
def tree(photographs):
    """The photographs in nested folders, and files that are none."""
    for name, target in (("03.jpg", "deep/03.JPG"), ("04.jpg", "deep-er/04.jpg"), ("05.jpg", "deep/er/05.jpg")):
        (photographs / target).parent.mkdir(parents=True, exist_ok=True)
        (photographs / name).rename(photographs / target)
    for name in (".hidden.jpg", ".git/d.png", "notes.txt"):
        (photographs / name).parent.mkdir(exist_ok=True)
        (photographs / name).write_text("not a picture")
    return photographs


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
def test_a_zip_equals_its_folder(tree, method):
    folder = list(loader(tree))
    archive = zipped(tree, method)
    assert [Path(p.inside).relative_to("top") for p in find_photographs(archive)] == [
        p.relative_to(tree) for p in find_photographs(tree)
    ]
    for workers in (0, 2):
        assert same(folder, list(loader(archive, workers=workers)))
    assert torch.equal(to_tensor(load_rgb(find_photographs(archive)[3])), to_tensor(load_rgb(find_photographs(tree)[3])))


def test_workers_are_forked_where_a_fork_server_is_the_rule(photographs, monkeypatch):
    monkeypatch.setattr(datamodule, "get_start_method", lambda: "forkserver")
    assert loader(photographs, workers=1).multiprocessing_context.get_start_method() == "fork"
    assert same(list(loader(photographs, workers=1)), list(loader(photographs)))


def test_a_zip_is_read_by_workers_that_are_spawned_too(photographs):
    ours = loader(zipped(photographs)).dataset
    theirs = pickle.loads(pickle.dumps(ours))  # as a spawned worker gets it
    assert all(torch.equal(ours[i, i]["image"], theirs[i, i]["image"]) for i in range(10))


def test_a_zip_to_validate_on(photographs, tmp_path):
    (tmp_path / "val").mkdir()
    for i in range(3):
        shutil.move(photographs / f"{i:02}.jpg", tmp_path / "val")
    module = PhotoData(str(zipped(photographs)), str(zipped(tmp_path / "val")), size=24)
    assert len(module.train_paths) == 9
    assert [p.name for p in module.val_paths] == ["00.jpg", "01.jpg", "02.jpg"]
    assert same(
        list(module.val_dataloader()), list(PhotoData(str(photographs), str(tmp_path / "val"), size=24).val_dataloader())
    )


def test_damaged_members_of_a_zip_are_replaced_and_named(photographs):
    spoil(photographs)
    archive = zipped(photographs, zipfile.ZIP_STORED)
    content = bytearray(archive.read_bytes())
    flipped = content.index((photographs / "05.jpg").read_bytes()) + 150  # only the checksum tells
    content[flipped] ^= 1
    archive.write_bytes(content)
    named = {Path(path).name for batch in loader(archive, max_steps=20) for path in batch["bad"]}
    held_out = {p.name for p in PhotoData(str(archive), val_count=2, size=24).val_paths}
    assert named == {"truncated.jpg", "text.jpg", "empty.png", "05.jpg"} - held_out
    assert "05.jpg" in named


@pytest.mark.parametrize("kind", ["folder", "zip"])
@pytest.mark.parametrize("world, workers", [(1, 2), (2, 0), (2, 2), (3, 0), (4, 1)])
def test_each_photograph_is_seen_by_exactly_one_rank_per_epoch(tmp_path, kind, world, workers):
    folder = one_colour_each(tmp_path / "colours", 12)
    root, val_root = (zipped(folder), folder) if kind == "zip" else (folder, zipped(folder))
    arguments = {"val_root": str(val_root), "max_steps": 12, "world": world, "workers": workers}
    ranks = [
        [colour_of(image) for batch in loader(root, rank=r, **arguments) for image in batch["image"]] for r in range(world)
    ]
    share = 12 // world
    for epoch in range(2):
        seen = [colour for rank in ranks for colour in rank[epoch * share : (epoch + 1) * share]]
        assert sorted(seen) == list(range(12))


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the photographs of ../shared/data")
def test_real_photographs():
    batches = list(loader(SHARED / "photos" / "train", max_steps=20))
    images = torch.cat([batch["image"] for batch in batches])
    assert not any(batch["bad"] for batch in batches)
    assert 0.2 < images.mean() < 0.7
