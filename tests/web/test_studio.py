"""What the page does, without the page."""

import threading
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import picture, random_arbitrary, random_multi
from PIL import Image
from safetensors import safe_open

from fastnst import checkpoint
from fastnst.checkpoint import export
from fastnst.errors import UserError
from fastnst.images import load_rgb
from fastnst.inference.stylizer import Controls
from fastnst.models.arbitrary import Painted
from fastnst.models.transform_net import TransformNet
from fastnst.web.studio import Look, Studio, title_of


@pytest.fixture
def studio(checkpoints, tmp_path):
    (tmp_path / "temporary").mkdir()
    return Studio(checkpoints, tmp_path / "temporary", 1e6)


def test_restyle_gives_full_resolution(studio, tmp_path):
    picture(0, 1800, 400).save(tmp_path / "photo.png")
    (before, after), file = studio.restyle(str(tmp_path / "photo.png"), Look("sea"))
    assert before.size == after.size == (1600, 356)
    assert load_rgb(file).size == (1800, 400) and file.endswith("photo_sea.png")
    assert np.array_equal(load_rgb(file), studio.stylizer(Look("sea"))(picture(0, 1800, 400)))
    assert tmp_path / "temporary" in Path(file).parents


def test_a_preview_is_the_result_of_the_reduced_photograph(studio, tmp_path):
    picture(0, 1600, 400).save(tmp_path / "photo.png")
    before, after = studio.preview(str(tmp_path / "photo.png"), Look("sea"))
    assert before.size == (640, 160) and np.array_equal(after, studio.stylizer(Look("sea"))(before))


def test_thumbnails_show_the_painting_beside_the_result(studio, checkpoints, tmp_path):
    made = studio.thumbnails()
    assert list(made) == ["ink", "sea"] and made["ink"].size == (320, 160) and made["ink"].tobytes() != made["sea"].tobytes()
    Image.new("RGB", (80, 60), "red").save(tmp_path / "painting.png")
    (tmp_path / "mine.safetensors").write_bytes((checkpoints / "ink.safetensors").read_bytes())
    studio.add_trained([tmp_path / "mine.safetensors"] * 2)
    assert studio.groups["Trained here"] == ["mine"] and "mine" in studio.card("mine").lower()
    left, right = (studio.thumbnails()["mine"].crop((x, 0, x + 160, 160)) for x in (0, 160))
    assert left.getcolors() == [(160 * 160, (255, 0, 0))] and len(right.getcolors(1 << 16)) > 100


def test_shipped_styles_have_cards_and_paintings(tmp_path):
    studio = Studio(Path("great_wave"), tmp_path, 1e6)
    assert "Hokusai" in studio.card("great_wave") and "public domain" in studio.card("great_wave")
    assert "320 steps" in studio.card("great_wave") and studio.paintings["great_wave"].is_file()
    assert "strokes 0.426" in studio.card("great_wave")
    assert "MIT" in Studio(Path("wave"), tmp_path, 1e6).card("wave") and studio.card("nothing") == ""


def test_what_strangers_send_gets_a_message(studio, tmp_path, monkeypatch):
    (tmp_path / "text.png").write_text("no picture")
    Image.new("L", (1001, 1000)).save(tmp_path / "large.png")
    Image.new("L", (8, 8)).save(tmp_path / "small.png")
    Image.new("L", (900, 900)).save(tmp_path / "bomb.png")
    for name, message in (("text", "cannot be restyled"), ("large", "1 is the most"), ("small", "too small")):
        with pytest.raises(UserError, match=message):
            studio.restyle(str(tmp_path / f"{name}.png"), Look("sea"))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(UserError, match="decompression bomb"):
        studio.restyle(str(tmp_path / "bomb.png"), Look("sea"))
    with pytest.raises(UserError, match="Drop a photograph"):
        studio.restyle(None, Look("sea"))
    with pytest.raises(UserError, match="Choose a style"):
        studio.restyle(str(tmp_path / "small.png"), Look("../sea"))
    assert not list((tmp_path / "temporary").iterdir())


def test_ten_visitors_take_turns(studio, tmp_path, monkeypatch):
    picture(0).save(tmp_path / "photo.png")
    working, most = [], []

    class Slow:
        def __call__(self, image, controls):
            working.append(1)
            most.append(len(working))
            time.sleep(0.01)
            working.pop()
            return image

    monkeypatch.setattr(studio, "stylizer", lambda *style: Slow())
    visit = threading.Thread
    visitors = [visit(target=studio.restyle, args=(str(tmp_path / "photo.png"), Look("sea"))) for _ in range(10)]
    for visitor in visitors:
        visitor.start()
    for visitor in visitors:
        visitor.join()
    assert len(most) == 10 and max(most) == 1


def test_names_are_as_people_write_them():
    assert title_of("great_wave") == "Great Wave" and title_of("composition_vii") == "Composition VII"
    assert title_of("painters: van_gogh_auvers") == "Painters: Van Gogh Auvers" and title_of("Éos") == "Éos"
    assert title_of("any: your painting") == "Any: Your Painting" and title_of("__mix_") == "  Mix "


def test_the_page_offers_every_style(tmp_path, paintings, photographs):
    random_arbitrary(tmp_path)
    export(tmp_path / "many.safetensors", random_multi(), {"style": {"name": "a+b"}})
    folder = tmp_path / "page"
    folder.mkdir()
    studio = Studio(tmp_path, folder, 1e6)
    assert list(studio.styles) == ["any: your painting", "many: a", "many: b"] and len(studio.thumbnails()) == 3
    photograph = str(photographs / "00.jpg")
    looks = [Look("many: a"), Look("many: b"), *(Look("any: your painting", str(paintings / f"{i}.png")) for i in range(2))]
    assert len({Image.open(studio.restyle(photograph, look)[1]).tobytes() for look in looks}) == 4
    picture(0, 3000, 4).save(tmp_path / "long.png")  # enlarged to the net's 48 px it would have 36000 x 48
    (tmp_path / "text.png").write_text("no picture")
    Image.new("L", (1001, 1000)).save(tmp_path / "large.png")
    for painting, message in (
        (None, "Drop a painting"),
        ("long", "too long"),
        ("text", "cannot be"),
        ("large", "1 is the most"),
    ):
        with pytest.raises(UserError, match=message):
            studio.restyle(photograph, Look("any: your painting", painting and str(tmp_path / f"{painting}.png")))


def test_two_styles_mix_or_divide_the_picture(checkpoints, tmp_path, paintings, photographs):
    random_arbitrary(checkpoints)
    export(checkpoints / "many.safetensors", random_multi(), {"style": {"name": "a+b"}})
    studio = Studio(checkpoints, tmp_path, 1e6)
    first, second = (str(paintings / f"{i}.png") for i in range(2))
    any_painting = "any: your painting"
    left = Image.new("L", (30, 30))
    left.paste(255, (0, 0, 15, 30))
    left.save(tmp_path / "mask.png")
    Image.new("RGBA", (30, 30)).save(tmp_path / "nothing.png")
    photograph = picture(3, 200, 60)
    photograph.save(tmp_path / "photo.png")

    def made(**look) -> np.ndarray:
        return np.asarray(studio.preview(str(tmp_path / "photo.png"), Look(**look))[1], int)

    pairs = [
        ({"style": "ink"}, {"second": "sea"}),
        ({"style": "many: a"}, {"second": "many: b"}),
        ({"style": "ink"}, {"second": "many: b"}),
        ({"style": any_painting, "painting": first}, {"second": any_painting, "second_painting": second}),
        ({"style": "ink"}, {"second": any_painting, "second_painting": second}),
    ]
    for one, two in pairs:
        other = {"style": two["second"], "painting": two.get("second_painting")}
        alone, also = made(**one), made(**other)
        assert np.abs(made(**one, **two, share=0.0) - alone).max() <= 1
        assert np.abs(made(**one, **two, share=1.0) - also).max() <= 1
        assert np.abs(made(**one, **two, mask=str(tmp_path / "nothing.png"), share=0.0) - alone).max() <= 1
        divided = made(**one, **two, mask=(tmp_path / "mask.png").read_bytes())
        # Far from the edge each side is the style's own.
        assert np.abs(divided - also)[:, :20].max() <= 1 and np.abs(divided - alone)[:, -20:].max() <= 1
    with pytest.raises(UserError, match="cannot be restyled"):
        made(style="ink", second="sea", mask=b"no picture")


def test_a_sheet_holds_every_style(studio, tmp_path):
    picture(0, 300, 200).save(tmp_path / "photo.png")
    shares = []
    sheet = Image.open(studio.sheet(str(tmp_path / "photo.png"), progress=shares.append))
    assert sheet.size == (272, 8 + 3 * (171 + 14 + 8)) and shares == [0, 0.5]
    ink = studio.preview(str(tmp_path / "photo.png"), Look("ink"))
    small = studio.reduced(str(tmp_path / "photo.png"), 256)
    assert np.array_equal(sheet.crop((8, 215, 264, 386)), studio.stylizer(Look("ink"))(small)) and ink[0].size == (300, 200)


def test_a_film_is_bounded_and_shares_the_time(studio, tmp_path):
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "clip.mp4"), "w") as film:
        stream = film.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for i in range(6):
            film.mux(stream.encode(av.VideoFrame.from_image(picture(i))))
        film.mux(stream.encode())
    clip = str(tmp_path / "clip.mp4")
    with av.open(studio.film(clip, Look("sea"))) as film:
        assert sum(1 for _ in film.decode(video=0)) == 6
    made = set((tmp_path / "temporary").rglob("*.*"))
    studio.max_seconds = 0.5
    with pytest.raises(UserError, match="longer than 0.5 s"):
        studio.film(clip, Look("sea"))
    studio.max_pixels = 1000
    with pytest.raises(UserError, match="64 x 48 px"):
        studio.film(clip, Look("sea"))
    (tmp_path / "text.mp4").write_text("no film")
    for file, message in ((str(tmp_path / "text.mp4"), "as a film"), (None, "Drop a film")):
        with pytest.raises(UserError, match=message) as error:
            studio.film(file, Look("sea"))
        assert str(tmp_path) not in str(error.value)
    assert set((tmp_path / "temporary").rglob("*.*")) == made


def test_the_last_paintings_are_looked_at_once(tmp_path, paintings, photographs, monkeypatch):
    random_arbitrary(tmp_path)
    looked = []
    look = Painted.look
    monkeypatch.setattr(Painted, "look", lambda self, p: looked.append(p.size) or look(self, p))
    (tmp_path / "page").mkdir()
    studio = Studio(tmp_path, tmp_path / "page", 1e6)

    def restyle(painting: Path, controls: Controls) -> bytes:
        (_, result), _ = studio.restyle(
            str(photographs / "00.jpg"), Look("any: your painting", str(painting), controls=controls)
        )
        return result.tobytes()

    copy = tmp_path / "upload.png"
    copy.write_bytes((paintings / "0.png").read_bytes())
    first = restyle(copy, Controls())
    copy.unlink()
    assert restyle(paintings / "0.png", Controls()) == first and len(looked) == 1
    assert restyle(paintings / "0.png", Controls(style_size=64)) != first and len(looked) == 2  # the upload is gone
    others = [restyle(paintings / f"{i}.png", Controls()) for i in (1, 2)]
    assert first not in others and len(studio.kept) == 2 and len(looked) == 4
    assert restyle(paintings / "0.png", Controls()) == first and len(looked) == 5


def test_each_checkpoint_is_read_once(tmp_path, paintings, photographs, monkeypatch):
    random_arbitrary(tmp_path)
    export(tmp_path / "many.safetensors", random_multi(("a", "b", "c")), {"style": {"name": "a+b+c"}})
    export(tmp_path / "one.safetensors", TransformNet(width=4), {"style": {"name": "one"}})
    read = []
    monkeypatch.setattr(checkpoint, "safe_open", lambda file, **options: read.append(file) or safe_open(file, **options))
    (tmp_path / "page").mkdir()
    studio = Studio(tmp_path, tmp_path / "page", 1e6)
    studio.thumbnails()
    for name in studio.styles:
        studio.restyle(str(photographs / "00.jpg"), Look(name, str(paintings / "0.png")))
    assert len(studio.styles) == 5 and sorted(file.stem for file in read) == ["any", "many", "one"]
