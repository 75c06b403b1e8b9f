"""A static page that restyles in the browser, offline."""

import subprocess
import tarfile
import tempfile
from pathlib import Path

from fastnst.errors import UserError
from fastnst.files import write_bytes

ONNXRUNTIME_WEB = "onnxruntime-web@1.30.0"
RUNTIME_FILES = ("ort.wasm.min.js", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
PAGE = Path(__file__).with_name("index.html")


def export_page(onnx_file: Path, folder: Path) -> None:
    """Makes a folder of static files that restyles in a browser, offline: a page, the style, and ONNX Runtime's WebAssembly.

    The runtime comes from the npm registry, by npm. Raises UserError where it cannot be had.
    """
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
    write_bytes(folder / "index.html", PAGE.read_bytes())
    write_bytes(folder / "style.onnx", onnx_file.read_bytes())
