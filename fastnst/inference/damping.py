"""Less flicker in films: the result before is carried along the optical flow of the photographs."""

from typing import Any

import numpy as np
from PIL import Image

from fastnst.errors import UserError


class Damping:
    """Damps flicker: the result before is moved as the photograph has moved, and mixed in.

    share: from 0, none, to 1, all of it where the photograph only moves: out_t = (1 - w) y_t + w out_(t-1)(x + f(x)), with f
    the optical flow from the frame back to the one before (Kroeger et al. 2016, DIS, on luminance) and
    w = share exp(-(d / 12)^2 - (e / 2)^2). d: the difference of the blurred photographs along the flow, of 255. e: how far,
    in px, the flow back and the flow forth together lead astray: something is hidden, or comes to light. Across a cut, where
    hardly anything is found again, nothing is carried.
    Raises UserError if OpenCV is not there.
    """

    def __init__(self, share: float):
        try:
            import cv2
        except ImportError:
            raise UserError("temporal needs OpenCV: pip install 'fastnst[film]'") from None
        self.share = share
        self.cv2: Any = cv2  # its types know of no result left to it to make
        # At full resolution, since an error of the flow blurs the result; the way forth is only compared with it.
        self.back = self.cv2.DISOpticalFlow.create(self.cv2.DISOPTICAL_FLOW_PRESET_FAST)
        self.back.setFinestScale(0)
        self.forth = self.cv2.DISOpticalFlow.create(self.cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        self.before: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None  # luminance, blurred photograph, result

    def __call__(self, photograph: Image.Image, result: Image.Image) -> Image.Image:
        """Takes RGB pictures of one size, at least 16 px a side: a frame, and what became of it. Gives the frame to show."""
        gray = np.asarray(photograph.convert("L"))
        blurred = self.cv2.GaussianBlur(np.asarray(photograph, np.float32), (0, 0), 2)
        pixels = np.asarray(result, np.float32)
        if self.before is not None and self.before[0].shape == gray.shape:
            pixels = self._mixed(gray, blurred, pixels, *self.before)
        self.before = gray, blurred, pixels
        return Image.fromarray(pixels.round().astype(np.uint8))

    def _mixed(self, gray, blurred, pixels, gray_before, blurred_before, pixels_before) -> np.ndarray:
        height, width = gray.shape
        flow = self.back.calc(gray, gray_before, None)
        origin = flow + np.dstack(np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)))
        astray = flow + self._at(origin, self.forth.calc(gray_before, gray, None))
        difference = np.abs(blurred - self._at(origin, blurred_before)).max(2)
        agreement = np.exp(-((difference / 12) ** 2) - (astray**2).sum(2) / 4)
        inside = ((origin >= 0) & (origin <= (width - 1, height - 1))).all(2)
        agreement = np.where(inside & (agreement >= 0), agreement, 0)  # of very small pictures a flow may be NaN
        if agreement.mean() < 0.3:  # a cut: what agrees is no match
            return pixels
        weight = self.share * agreement[..., None]
        # Linear interpolation would blur the result a little more with each frame.
        carried = self._at(origin, pixels_before, self.cv2.INTER_CUBIC).clip(0, 255)
        return (1 - weight) * pixels + weight * carried

    def _at(self, origin: np.ndarray, values: np.ndarray, interpolation: int = 1) -> np.ndarray:
        """Values (H, W, C) at the px `origin`, (H, W, 2) as (x, y); linear by default."""
        return self.cv2.remap(values, origin, None, interpolation, borderMode=self.cv2.BORDER_REPLICATE)
