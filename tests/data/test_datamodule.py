"""Photographs of every kind, the order they come in, and files that are no photographs."""

import pickle
import shutil
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import SHARED, colour_of, one_colour_each, picture
from PIL import Image

from fastnst.data import crops, datamodule
from fastnst.data.crops import Photographs, Stream, crop
from fastnst.data.datamodule import PhotoData
from fastnst.data.files import find_photographs, sample_photographs, split
from fastnst.errors import UserError
from fastnst.images import UNREADABLE, decode, load_rgb, to_image, to_rgb, to_tensor


def loader(root, start=0, workers=0, seed=0, max_steps=8, rank=0, world=1, **arguments):
    module = PhotoData(str(root), val_count=2, size=24, batch_size=2, seed=seed, workers=workers, **arguments)
    module.trainer = SimpleNamespace(
        max_steps=max_steps, world_size=world, global_rank=rank, global_step=start, accumulate_grad_batches=1
    )
    return module.train_dataloader()


def same(a, b):
    return len(a) == len(b) and all(torch.equal(x["image"], y["image"]) for x, y in zip(a, b, strict=True))


def test_the_seed_decides_whatever_the_number_of_workers(photographs):
    first = list(loader(photographs))
    assert len(first) == 8
    assert same(first, list(loader(photographs, workers=2)))
    assert same(first, list(loader(photographs, workers=3)))
    assert not same(first, list(loader(photographs, seed=1)))


def test_a_resumed_stream_continues(photographs):
    assert same(list(loader(photographs))[3:], list(loader(photographs, start=3)))


def test_ranks_share_the_stream_without_overlap():
    whole = list(Stream(7, total=28, seed=0))
    parts = [list(Stream(7, total=28, seed=0, rank=r, world=2)) for r in range(2)]
    assert [item for pair in zip(*parts, strict=True) for item in pair] == whole
    assert [len(Stream(7, 28, 0, rank=r, world=2)) for r in range(2)] == [14, 14]
    for epoch in range(4):
        assert sorted(index for _, index in whole[7 * epoch : 7 * epoch + 7]) == list(range(7))


def test_crops_differ_between_epochs(photographs):
    dataset = Photographs(find_photographs(photographs), 24, (0.5, 1.0), seed=0)
    assert not torch.equal(dataset[0, 3]["image"], dataset[12, 3]["image"])


def save_variants(folder: Path) -> dict[str, Path]:
    """The same picture in every mode a photograph comes in."""
    image = picture(5)
    gray = image.convert("L")
    sixteen = Image.fromarray(np.asarray(gray).astype(np.uint16) * 257)
    alpha = image.convert("RGBA")
    alpha.putalpha(Image.new("L", image.size, 255))
    variants = {}
    for name, variant, suffix in (
        ("rgb", image, "png"), ("gray", gray, "png"), ("cmyk", image.convert("CMYK"), "jpg"),
        ("palette", image.convert("P", palette=Image.Palette.ADAPTIVE), "png"), ("alpha", alpha, "png"),
        ("gray_alpha", gray.convert("LA"), "png"), ("sixteen", sixteen, "png"), ("bilevel", gray.convert("1"), "png"),
        ("webp", image, "webp"), ("progressive", image, "jpeg"),
    ):  # fmt: skip
        variants[name] = folder / f"{name}.{suffix}"
        variant.save(variants[name], **({"lossless": True} if suffix == "webp" else {"quality": 100}))
    return variants


def test_every_mode_becomes_the_same_picture(tmp_path):
    variants = save_variants(tmp_path)
    color = to_tensor(picture(5))
    gray = to_tensor(picture(5).convert("L").convert("RGB"))
    for name, path in variants.items():
        expected = gray if name in ("gray", "gray_alpha", "sixteen", "bilevel") else color
        got = to_tensor(load_rgb(path))
        assert got.shape == (3, 48, 64), name
        limit = {"palette": 0.05, "cmyk": 0.03, "progressive": 0.03, "bilevel": 0.6}.get(name, 0.005)
        assert (got - expected).abs().mean() < limit, name
        assert crop(path, 0.9, 0.5, 0.5, False, 24).shape == (3, 24, 24), name


def test_transparency_falls_on_white():
    image = picture(1).convert("RGBA")
    image.putalpha(0)
    assert to_rgb(image).getextrema() == ((255, 255),) * 3


def test_exif_orientation(tmp_path):
    image = picture(2)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it rotated by 270 degrees
    image.save(tmp_path / "turned.png", exif=exif)
    upright = image.transpose(Image.Transpose.ROTATE_270)
    assert load_rgb(tmp_path / "turned.png").tobytes() == upright.tobytes()
    upright.save(tmp_path / "upright.png")
    arguments = (0.7, 0.2, 0.9, True, 24)
    torch.testing.assert_close(crop(tmp_path / "turned.png", *arguments), crop(tmp_path / "upright.png", *arguments))


def test_a_photograph_smaller_than_the_crop_is_enlarged(tmp_path):
    picture(3, 20, 17).save(tmp_path / "small.png")
    assert crop(tmp_path / "small.png", 1.0, 0.5, 0.5, False, 64).shape == (3, 64, 64)


def test_jpegs_are_decoded_at_the_smallest_sufficient_scale(tmp_path, monkeypatch):
    picture(4, 1600, 1200).save(tmp_path / "large.jpg", quality=95)
    decoded = []

    def recorded(*arguments):
        pixels = decode(*arguments)
        decoded.append(pixels.shape)
        return pixels

    monkeypatch.setattr(crops, "decode", recorded)
    for side in (1.0, 0.5, 0.25):
        small = crop(tmp_path / "large.jpg", side, 0.3, 0.6, False, 256)
        with Image.open(tmp_path / "large.jpg") as image:
            edge = side * 1200
            left, top = 0.3 * (1600 - edge), 0.6 * (1200 - edge)
            box = (left, top, left + edge, top + edge)
            full = to_tensor(image.resize((256, 256), Image.Resampling.BICUBIC, box=box))
        assert (small - full).abs().mean() < 0.01
    assert decoded == [(300, 400, 3), (600, 800, 3), (1200, 1600, 3)]


def test_decoding_gives_what_pillow_gives(tmp_path):
    image, exif = picture(8, 150, 101), Image.Exif()
    exif[0x0112] = 6
    for variant, options in (
        (image, {}), (image, {"progressive": True}), (image, {"subsampling": 0}), (image.convert("L"), {}),
        (image.convert("CMYK"), {}), (image, {"exif": exif}),
    ):  # fmt: skip
        variant.save(tmp_path / "a.jpg", **options)
        data = (tmp_path / "a.jpg").read_bytes()
        expected = np.asarray(load_rgb(tmp_path / "a.jpg")).astype(int)
        assert np.abs(decode(data, 101) - expected).max() <= 1
        half = decode(data, 50)
        assert min(half.shape[:2]) == 51 and half.shape[2] == 3
        with pytest.raises(UNREADABLE):
            decode(data[: len(data) // 2], 101)
        # Bytes that do not belong there are no reason to lose a photograph, as long as Pillow reads it.
        assert np.abs(decode(data + b"more", 101) - expected).max() <= 1


def test_flip_and_range(tmp_path):
    picture(6).save(tmp_path / "a.png")
    plain = crop(tmp_path / "a.png", 1.0, 0.0, 0.0, False, 48)
    torch.testing.assert_close(crop(tmp_path / "a.png", 1.0, 0.0, 0.0, True, 48), plain.flip(-1))
    torch.testing.assert_close(plain, to_tensor(picture(6))[:, :, :48], atol=0.01, rtol=0)
    assert plain.min() >= 0 and plain.max() <= 1


def test_image_and_tensor_are_inverse():
    assert to_image(to_tensor(picture(7))).tobytes() == picture(7).tobytes()


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


def test_folders_without_photographs(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        PhotoData(str(tmp_path / "missing"))
    with pytest.raises(UserError, match="no photographs"):
        PhotoData(str(tmp_path))
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_text("not a picture")
    with pytest.raises(UserError, match="none of the files"):
        PhotoData(str(tmp_path))


def test_any_tree_is_searched(tmp_path):
    for name in ("a.JPG", "deep/er/b.jpeg", "deep/c.webp", "notes.txt", ".hidden.jpg", ".git/d.png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert [p.name for p in find_photographs(tmp_path)] == ["a.JPG", "c.webp", "b.jpeg"]


def test_held_out_photographs_are_never_trained_on(photographs):
    paths = find_photographs(photographs)
    train, val = split(paths, 3, None)
    assert not set(train) & set(val)
    assert sorted([*train, *val]) == paths
    assert split(paths, 3, None) == (train, val)
    with pytest.raises(UserError, match="hold out"):
        split(paths[:1], 3, None)
    train, val = sample_photographs()
    assert not set(train) & set(val)


def zipped(folder: Path, method: int = zipfile.ZIP_DEFLATED) -> Path:
    """A zip of the folder, as COCO's are: everything in one folder of its own."""
    path = folder.with_name(f"{folder.name}_{method}.zip")
    with zipfile.ZipFile(path, "w", method) as archive:
        for file in sorted(folder.rglob("*"), reverse=True):
            archive.write(file, Path("top", file.relative_to(folder)))
    return path


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


def test_zips_that_cannot_be_used(photographs, tmp_path):
    archive = zipped(photographs)
    whole = archive.read_bytes()
    (tmp_path / "cut.zip").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.zip").write_text("not a zip")
    encrypted, at = bytearray(whole), -1
    while (at := encrypted.find(b"PK\1\2", at + 1)) >= 0:
        encrypted[at + 8] |= 1
    (tmp_path / "secret.zip").write_bytes(encrypted)
    with zipfile.ZipFile(tmp_path / "none.zip", "w") as none:
        none.writestr("notes.txt", "no pictures")
    for name, message in (
        ("cut", "neither a folder nor a whole zip"), ("text", "neither a folder nor a whole zip"),
        ("secret", "encrypted"), ("none", "no photographs"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=message) as error:
            PhotoData(str(tmp_path / f"{name}.zip"))
        assert f"{name}.zip" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("kind", ["folder", "zip"])
@pytest.mark.parametrize("world, workers", [(1, 2), (2, 0), (2, 2), (3, 0), (4, 1)])
def test_each_photograph_is_seen_by_exactly_one_rank_per_epoch(tmp_path, kind, world, workers):
    root = one_colour_each(tmp_path / "colours", 12)
    arguments = {"val_root": str(root), "max_steps": 12, "world": world, "workers": workers}
    ranks = [
        [
            colour_of(image)
            for batch in loader(zipped(root) if kind == "zip" else root, rank=r, **arguments)
            for image in batch["image"]
        ]
        for r in range(world)
    ]
    share = 12 // world
    for epoch in range(2):
        seen = [colour for rank in ranks for colour in rank[epoch * share : (epoch + 1) * share]]
        assert sorted(seen) == list(range(12))


def test_samples_are_there():
    module = PhotoData(size=32)
    assert len(module.train_paths) == 12
    assert len(list(module.val_dataloader())) == 2


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the photographs of ../shared/data")
def test_real_photographs():
    batches = list(loader(SHARED / "photos" / "train", max_steps=20))
    images = torch.cat([batch["image"] for batch in batches])
    assert not any(batch["bad"] for batch in batches)
    assert 0.2 < images.mean() < 0.7
