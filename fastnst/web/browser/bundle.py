"""A static page that paints the camera, a film or a picture in the browser, offline."""

import copy
import json
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from fastnst.errors import UserError
from fastnst.files import write_bytes
from fastnst.images import fit, save
from fastnst.inference.export import Predictor, Product, export_predictor, export_product, with_half_weights
from fastnst.inference.stylizer import STYLE_SIZES, Stylizer
from fastnst.models.arbitrary import ArbitraryNet
from fastnst.models.conditional import StyledNet
from fastnst.models.dials import brushwork_of
from fastnst.models.net import Net
from fastnst.models.transform_net import TransformNet
from fastnst.shipped import ARTWORKS
from fastnst.web.page import title_of

ONNXRUNTIME_WEB = "onnxruntime-web@1.30.0"
RUNTIME_FILES = (
    "ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm",
    "ort.webgpu.min.mjs", "ort-wasm-simd-threaded.asyncify.mjs", "ort-wasm-simd-threaded.asyncify.wasm",
)  # fmt: skip
PAGE_FILES = ("index.html", "page.css", "page.js", "sources.js", "worker.js", "brushwork.js", "serve.py")
THUMBNAIL = 128, 96  # px


def export_page(nets: Mapping[str, tuple[Net, dict]], folder: Path) -> None:
    """Makes a folder of static files: a page, the styles of `nets`, each with its checkpoint's info, and ONNX Runtime Web.

    The runtime comes from the npm registry, by npm. Raises UserError where it cannot be had.
    """
    _fetch_runtime(folder / "runtime")
    page: dict = {"nets": {}, "styles": []}
    with Image.open(ARTWORKS / "inkwash.jpg") as file:
        sample = fit(file.convert("RGB"), 2 * max(THUMBNAIL))
    for name, (net, info) in nets.items():
        embeddings = _embeddings(net, info, name)
        page["nets"][name] = _export_net(name, net, info, folder / "nets")
        write_bytes(folder / f"nets/{name}.embeddings", torch.stack([*embeddings.values()]).numpy().astype("<f4").tobytes())
        for i, (style, embedding) in enumerate(embeddings.items()):
            thumbnail = Stylizer((net.fold(embedding), info))(sample).resize(THUMBNAIL)
            save(thumbnail, folder / f"nets/{name}_{i}.jpg")
            title = f"{title_of(name)}: {title_of(style)}" if net.any_painting else title_of(style)
            page["styles"].append({"net": name, "embedding": i, "title": title})
    write_bytes(folder / "styles.json", json.dumps(page).encode())
    for file_name in PAGE_FILES:
        write_bytes(folder / file_name, Path(__file__).with_name(file_name).read_bytes())


def _embeddings(net: Net, info: dict, name: str) -> dict[str, Tensor]:
    """The styles' embeddings by their names. A zero-shot net begins with the artworks."""
    if net.any_painting:
        return net.first_embeddings({path.stem: path for path in sorted(ARTWORKS.glob("*.jpg"))}, info, Path(name))
    return {style: net.first_embedding(style) for style in (net.styles or [name])}


def _export_net(name: str, net: Net, info: dict, folder: Path) -> dict:
    """Writes a net's graphs, with weights in half precision. Returns what the page is to know of it."""
    assert isinstance(net, (TransformNet, StyledNet))
    numbers = net.numbers if isinstance(net, StyledNet) else 0
    entry: dict = {"file": f"nets/{name}.onnx", "numbers": numbers, "brushwork": brushwork_of(info)}
    export_product(Product(copy.deepcopy(net), inside=True, half=False).eval(), "onnx", folder / f"{name}.onnx", info)
    files = [folder / f"{name}.onnx"]
    if isinstance(net, ArbitraryNet):
        predictor = Predictor(net, info, Path(name), inside=True).eval()
        files.append(folder / f"{name}_painting.onnx")
        export_predictor(predictor, files[-1], info)
        entry |= {"painting": f"nets/{name}_painting.onnx", "size": predictor.size, "sizes": STYLE_SIZES}
    for file in files:
        write_bytes(file, with_half_weights(file.read_bytes()))
    return entry


def _fetch_runtime(folder: Path) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        try:
            subprocess.run(
                ["npm", "pack", "--silent", ONNXRUNTIME_WEB], cwd=temporary, check=True, capture_output=True, timeout=300
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise UserError(f"page=true needs npm and its registry, for {ONNXRUNTIME_WEB} ({error})") from None
        (archive,) = Path(temporary).glob("*.tgz")
        with tarfile.open(archive) as package:
            for name in RUNTIME_FILES:
                file = package.extractfile(f"package/dist/{name}")
                assert file is not None  # no folder
                write_bytes(folder / name, file.read())
