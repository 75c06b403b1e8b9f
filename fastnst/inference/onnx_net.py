"""A net in an ONNX file, as scripts/export.py writes it, run by ONNX Runtime without torch."""

import json
from pathlib import Path

import numpy as np

from fastnst.errors import UserError, line_of
from fastnst.shipped import checkpoint_file


class OnnxNet:
    """Called with pictures, (N, H, W, 3) uint8, it gives the restyled ones, the same.

    info: what the file says of its checkpoint. channels: as `TransformNet.channels`. It runs on the CPU.
    Raises UserError for a file that is no net of scripts/export.py, or if ONNX Runtime is not installed.
    """

    def __init__(self, path: str | Path):
        path = checkpoint_file(path)
        try:
            import onnxruntime
        except ImportError:
            raise UserError(f"{path}: needs ONNX Runtime: pip install 'fastnst[export]'") from None
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # what is wrong is told in one line here
        try:
            self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
            self.info = json.loads(self.session.get_modelmeta().custom_metadata_map["fastnst"])
            self.channels = int(self.info.get("width", 32))  # files of 0.1.0 do not tell
            pictures, *more = self.session.get_inputs()
            (_,) = self.session.get_outputs()
            self.inside = {"tensor(uint8)": True, "tensor(float)": False}[pictures.type]
        except Exception as error:  # the runtime's own classes come from its C++ alone
            reason = line_of(error)[:200]
            raise UserError(f"{path}: not a net that scripts/export.py wrote, or a damaged one ({reason})") from None
        if more:
            raise UserError(f"{path}: takes an embedding beside the picture; export one style of it, with style=NAME")
        self.path, self.name = path, pictures.name

    def __call__(self, pictures: np.ndarray) -> np.ndarray:
        if not self.inside:
            pictures = np.ascontiguousarray(pictures.transpose(0, 3, 1, 2), dtype=np.float32) / 255
        try:
            (results,) = self.session.run(None, {self.name: pictures})
        except Exception as error:
            raise UserError(f"{self.path}: cannot restyle it ({line_of(error)[:200]})") from None
        return results if self.inside else (results * 255).round().astype(np.uint8).transpose(0, 2, 3, 1)
