"""Sharded tar files: who reads what, what is damaged, and how they are packed."""

import itertools
import shutil
import sys
import tarfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import colour_of, one_colour_each, same, zipped
from PIL import Image

from fastnst.checkpoint import load_net
from fastnst.commands.train import main as train
from fastnst.data.files import find_photographs
from fastnst.data.shards import ShardData, Shards, find_shards, read_shard
from fastnst.errors import UserError
from fastnst.training import module as training

pytest.importorskip("webdataset", reason="needs webdataset")


def write_shards(folder: Path, files: list[Path], *counts: int) -> str:
    """The files in shards of so many each, as any program might write them. Returns data.urls."""
    folder.mkdir()
    files = iter(files)
    for shard, count in enumerate(counts):
        with tarfile.open(folder / f"{shard:03}.tar", "w") as archive:
            for file in itertools.islice(files, count):
                archive.add(file, file.name)
    return f"{folder}/{{000..{len(counts) - 1:03}}}.tar"


def loader(urls, start=0, workers=0, seed=0, max_steps=8, rank=0, world=1, batch_size=2, **arguments):
    module = ShardData(urls, val_count=2, size=24, batch_size=batch_size, seed=seed, workers=workers, **arguments)
    module.trainer = SimpleNamespace(
        max_steps=max_steps, world_size=world, global_rank=rank, global_step=start, accumulate_grad_batches=1
    )
    return module.train_dataloader()


@pytest.fixture
def urls(photographs, tmp_path):
    return write_shards(tmp_path / "shards", sorted(photographs.iterdir()), 5, 4, 3)


@pytest.mark.parametrize("counts", [(12,), (1, 1), (5, 4, 3), (2, 0, 6, 3), (3, 3, 3, 3)])
@pytest.mark.parametrize("consumers", [1, 2, 3, 5, 8, 16])
def test_each_epoch_gives_each_photograph_to_exactly_one_consumer(tmp_path, counts, consumers):
    files = find_photographs(one_colour_each(tmp_path / "colours", sum(counts)))
    shards = Shards(find_shards(write_shards(tmp_path / "shards", files, *counts)), set(), 24, (1, 1), 0, 4, 1, 1)
    epochs = 2 * consumers
    seen = [
        place
        for consumer in range(consumers)
        for place, _ in itertools.takewhile(lambda item: item[0][0] < epochs, shards.order(consumer, consumers))
    ]
    everything = [(e, shard, place) for e in range(epochs) for shard, n in enumerate(counts) for place in range(n)]
    assert sorted(seen) == everything


@pytest.mark.parametrize(
    "counts, world, workers",
    [(4 * (3,), 1, 0), (4 * (3,), 1, 2), (4 * (3,), 2, 2), (4 * (3,), 3, 1), ((6, 6), 3, 0), ((6, 6), 3, 2), ((12,), 4, 1)],
)
def test_each_photograph_is_seen_by_exactly_one_rank_per_epoch(tmp_path, counts, world, workers):
    root = one_colour_each(tmp_path / "colours", 12)
    urls = write_shards(tmp_path / "shards", find_photographs(root), *counts)
    arguments = {"val_root": str(root), "max_steps": 24, "world": world, "workers": workers, "batch_size": 1}
    ranks = [[colour_of(batch["image"]) for batch in loader(urls, rank=r, **arguments)] for r in range(world)]
    for epoch in range(2):
        seen = [colour for rank in ranks for colour in rank[epoch * 12 // world : (epoch + 1) * 12 // world]]
        assert sorted(seen) == list(range(12))


def test_the_seed_decides_the_order_and_the_crops(urls):
    first = list(loader(urls))
    assert len(first) == 8
    assert all(batch["image"].shape == (2, 3, 24, 24) and batch["bad"] == [] for batch in first)
    assert same(first, list(loader(urls)))
    assert not same(first, list(loader(urls, seed=1)))
    assert not torch.equal(torch.cat([b["image"] for b in first[:5]]), torch.cat([b["image"] for b in first[5:]])[:10])


def test_a_crop_is_the_same_whoever_makes_it(urls, tmp_path):
    def crops(world):
        items = [b["image"] for r in range(world) for b in loader(urls, batch_size=1, world=world, rank=r, max_steps=90)]
        return {image.numpy().tobytes() for image in items}

    assert len(crops(1) & crops(3)) >= 70  # the consumers' epochs do not end together


@pytest.mark.parametrize("workers", [0, 2, 3])
def test_a_resumed_run_continues(photographs, tmp_path, workers):
    (photographs / "03.jpg").write_text("no picture")
    (photographs / "04.jpg").write_text("no picture")
    urls = write_shards(tmp_path / "shards", sorted(photographs.iterdir()), 5, 4, 3)
    whole = list(loader(urls, max_steps=14, workers=workers))
    assert [len(list(loader(urls, max_steps=steps, workers=workers))) for steps in (1, 3, 4, 7)] == [1, 3, 4, 7]
    for start in range(1, 14, 2):
        assert same(whole[start:], list(loader(urls, max_steps=14, workers=workers, start=start)))


def test_held_out_photographs_are_never_trained_on(tmp_path):
    root = one_colour_each(tmp_path / "colours", 20)
    urls = write_shards(tmp_path / "shards", find_photographs(root), 12, 8)
    module = ShardData(urls, val_count=2, size=24)
    held_out = {colour_of(batch["image"]) for batch in module.val_dataloader()}
    trained = {colour_of(image) for batch in loader(urls, max_steps=20) for image in batch["image"]}
    assert len(held_out) == 2
    assert trained == set(range(20)) - held_out
    assert [str(p) for p in module.val_paths] == [str(p) for p in ShardData(urls, val_count=2, seed=5).val_paths]
    named = ShardData(urls, str(zipped(root)), val_count=3, size=24)
    assert [p.name for p in named.val_paths] == ["00.png", "01.png", "02.png"] and not named.held_out


def test_damage_is_passed_over_and_named(photographs, tmp_path):
    (photographs / "01.jpg").write_text("no picture")
    (photographs / "02.json").write_text("{}")
    urls = write_shards(tmp_path / "shards", sorted(photographs.iterdir()), 5, 4, 4)
    cut = tmp_path / "shards/001.tar"
    cut.write_bytes(cut.read_bytes()[:2500])  # in the second photograph
    (tmp_path / "shards/003.tar").write_text("not a tar")
    urls = urls.replace("002", "003")
    training_data = loader(urls, max_steps=40, val_root=str(photographs))
    (tmp_path / "shards/002.tar").unlink()
    batches = list(training_data)
    assert len(batches) == 40 and all(batch["image"].shape == (2, 3, 24, 24) for batch in batches)
    assert {name.removeprefix(f"{tmp_path}/shards/") for batch in batches for name in batch["bad"]} == {
        "000.tar: 01.jpg", "001.tar: the rest of it", "002.tar: the rest of it", "003.tar: the rest of it"
    }  # fmt: skip


def test_a_shard_damaged_in_its_midst_is_named(tmp_path):
    for i in range(6):
        Image.effect_noise((200, 200), 90).save(tmp_path / f"{i}.png")
    urls = write_shards(tmp_path / "shards", sorted(tmp_path.glob("*.png")), 6)
    (shard,) = find_shards(urls)
    with tarfile.open(shard) as archive:
        header = archive.getmembers()[2].offset
    content = bytearray(Path(shard).read_bytes())
    content[header : header + 512] = b"x" * 512
    Path(shard).write_bytes(content)
    assert [photograph.name for photograph in read_shard(shard)] == ["0.png", "1.png", "the rest of it"]


def test_an_end_that_never_comes_is_an_error(urls, photographs):
    data = loader(urls, val_root=str(photographs))
    for shard in Path(urls).parent.iterdir():
        shard.unlink()
    with pytest.raises(UserError, match="in none of the 3 shards"):
        list(data)
    data.dataset.urls = [str(Path(urls).parent / "empty.tar")]
    with tarfile.open(data.dataset.urls[0], "w"):
        pass
    with pytest.raises(UserError, match="in none of the 1 shards"):
        list(data)


@pytest.mark.skipif(not shutil.which("curl"), reason="webdataset downloads with curl")
def test_shards_at_an_address(urls):
    class Server(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Server, directory=Path(urls).parent)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/{Path(urls).name}"
        assert same(list(loader(urls)), list(loader(address)))
        with pytest.raises(UserError, match="no file in it that can be read"):
            ShardData(address.replace("000..002", "007..008"))
        server.shutdown()


def test_without_the_library(urls, monkeypatch):
    monkeypatch.setitem(sys.modules, "webdataset", None)
    with pytest.raises(UserError, match=r"pip install 'fastnst\[shards\]'"):
        find_shards(urls)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "data.urls is missing"),
        (["data.urls=shards/{000..005}.tar"], "shards/003.tar: no such shard (3 of 6 are missing)"),
        (["data.urls=shards/{000..00"], "data.urls=shards/{000..00: "),
        (["data.urls=shards"], "shards: no such shard"),
        (["data.urls=shards/{0..9999999}.tar"], "names more than 100000 shards"),
        (["data.urls=shards/{0..999}{0..999}.tar"], "names more than 100000 shards"),
        (["data.urls=" + 1100 * "{" + 1100 * "}"], "data.urls="),
        (["data.urls=shards/000.tar", "data.shuffle=0"], "data.shuffle=0"),
        (["data.urls=text.tar"], "no file in it that can be read"),
        (["data.urls=shards/000.tar", "data.val_root=missing"], "missing: no such folder"),
        (["data.urls=shards/000.tar", "data.val_root=text.tar"], "text.tar: neither a folder nor a whole zip"),
    ],
)
def test_bad_input_gets_one_line(command, urls, small_training, tmp_path, arguments, message):
    (tmp_path / "text.tar").write_text("not a tar")
    before = sorted(tmp_path.rglob("*"))
    others = [a for a in small_training if not a.startswith(("data=", "data.root="))]
    status, out, err = command(train, *others, "data=webdataset", *arguments)
    assert status == 2 and out == ""
    assert message in err and len(err.splitlines()) == 1, err
    assert sorted(tmp_path.rglob("*")) == before


def test_training_from_shards_resumes_to_the_same_weights(command, urls, small_training, tmp_path, monkeypatch):
    others = [a for a in small_training if not a.startswith(("data=", "data.root="))]
    arguments = [*others, "data=webdataset", f"data.urls={urls}", "data.workers=2"]
    status, _, err = command(train, *arguments, "out=whole.safetensors", "run_dir=runs/whole/x")
    assert status == 0, err
    step = training.StyleTransfer.training_step

    def interrupted(self, batch, index):
        if self.global_step == 3:
            raise OSError("the machine went away")
        return step(self, batch, index)

    monkeypatch.setattr(training.StyleTransfer, "training_step", interrupted)
    assert command(train, *arguments, "out=part.safetensors", "run_dir=runs/part/x")[0] == 2
    monkeypatch.undo()
    status, _, err = command(train, *arguments, "out=part.safetensors", "run_dir=runs/part/y", "ckpt=last")
    assert status == 0, err
    whole, part = (load_net(tmp_path / f"{name}.safetensors")[0].state_dict() for name in ("whole", "part"))
    assert all(torch.equal(whole[key], part[key]) for key in whole)


def test_training_from_a_zip_equals_training_from_its_folder(command, photographs, small_training, tmp_path):
    for name, root in (("folder", photographs), ("zip", zipped(photographs))):
        others = [a for a in small_training if not a.startswith("data.root=")]
        status, _, err = command(train, *others, f"data.root={root}", f"out={name}.safetensors", "trainer.max_steps=3")
        assert status == 0, err
    first, second = (load_net(tmp_path / f"{name}.safetensors")[0].state_dict() for name in ("folder", "zip"))
    assert all(torch.equal(first[key], second[key]) for key in first)


# Packing
