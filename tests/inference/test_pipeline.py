"""Decoding, restyling and writing overlap, in order, and leave whole files whatever happens."""

import threading
from contextlib import nullcontext

import pytest
from conftest import picture
from PIL import Image

from fastnst.inference import pipeline
from fastnst.inference.pipeline import Line, Picture
from fastnst.inference.stylizer import DEFAULTS


@pytest.fixture
def pictures(photographs, tmp_path):
    return [Picture(file, tmp_path / "out" / f"{file.stem}.png") for file in sorted(photographs.iterdir())]


def showing(_):
    return nullcontext(lambda share: None)


def test_the_next_is_decoded_and_the_last_written_while_the_net_works(stylizer, pictures, monkeypatch):
    opened, open_file = [threading.Event() for _ in pictures], pipeline.open_file
    written, save_result = [threading.Event() for _ in pictures], pipeline.save_result
    held = threading.Event()

    def opens(stylizer, source, *options):
        image = open_file(stylizer, source, *options)
        opened[int(source.stem)].set()
        return image

    def saves(result, target):
        if target.stem == "03":
            assert held.wait(30)
        save_result(result, target)
        written[int(target.stem)].set()

    class Waits(type(stylizer)):
        def __call__(self, image, *arguments, **options):
            number = int(image.filename[-6:-4])
            assert number + 1 == len(pictures) or opened[number + 1].wait(30)
            assert number == 4 or number == 0 or written[number - 1].wait(30)
            if number == 4:
                assert not written[3].is_set()
                held.set()
            return super().__call__(image, *arguments, **options)

    stylizer.__class__ = Waits
    monkeypatch.setattr(pipeline, "open_file", opens)
    monkeypatch.setattr(pipeline, "save_result", saves)
    told = []
    Line(stylizer, None, DEFAULTS, told.append).run(pictures, showing)
    assert told == pictures and all(p.error is None and p.size == (64, 48) and p.seconds > 0 for p in pictures)


def test_large_pictures_are_not_decoded_ahead(stylizer, pictures, monkeypatch):
    monkeypatch.setattr(pipeline, "free_memory", lambda: 1)
    asked, open_file = [], pipeline.open_file
    monkeypatch.setattr(pipeline, "open_file", lambda *a: asked.append(len(a)) or open_file(*a))
    Line(stylizer, None, DEFAULTS, lambda picture: None).run(pictures[:3], showing)
    assert len(asked) == 6 and all(p.target.is_file() for p in pictures[:3])


def test_an_interruption_leaves_whole_files_alone(stylizer, pictures, tmp_path):
    class Interrupted(type(stylizer)):
        def __call__(self, image, *arguments, **options):
            if image.filename.endswith("03.jpg"):
                raise KeyboardInterrupt
            return super().__call__(image, *arguments, **options)

    stylizer.__class__ = Interrupted
    with pytest.raises(KeyboardInterrupt):
        Line(stylizer, None, DEFAULTS, lambda picture: None).run(pictures, showing)
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert written in (["00.png", "01.png"], ["00.png", "01.png", "02.png"])
    for name in written:
        Image.open(tmp_path / "out" / name).load()


def test_each_file_is_opened_once(command, checkpoint, tmp_path, monkeypatch):
    from fastnst.commands.entry import infer

    picture(0).save(tmp_path / "moves.gif", save_all=True, append_images=[picture(1)])
    opened, image_open = [], Image.open
    monkeypatch.setattr(Image, "open", lambda file, *a, **k: opened.append(file) or image_open(file, *a, **k))
    status, _, err = command(infer, f"ckpt={checkpoint}", "img=moves.gif", "out=out.png")
    assert status == 0 and "first frame alone" in err and len(opened) == 1
