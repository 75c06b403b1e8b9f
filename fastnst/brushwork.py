"""Brushwork: faint strokes on a photograph, for a net to paint along.

A net makes the same of each place that looks the same. So it fills a flat sky with one small motif, where a painter lays
strokes. Faint strokes, a few levels of 255, which the eye hardly sees, tell such places apart: the net paints along them.
They follow the forms of the photograph, and wander in whirls where it has none.
"""

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

SIDE = 256  # px of the short side at which strokes are laid; a larger picture has them enlarged, as large beside its forms
REACH = 8  # steps of 2 px that a stroke reaches to either side
WHIRLS = 4  # hills and hollows that strokes run around, across the short side
LUMINANCE = (0.299, 0.587, 0.114)  # of R, G and B
CALM = 0.04  # where contrast is less than this, from 0 to 1 in 4 px, whirls decide


def brushed(pictures: Tensor, amount: float, seed: int = 0) -> Tensor:
    """Pictures, (N, 3, H, W) in 0-1, with strokes whose standard deviation is `amount` of 255: the same shape, in 0-1."""
    if amount == 0:
        return pictures
    return (pictures + amount / 255 * strokes(luminance(pictures), seed)).clamp(0, 1)


def brushed_picture(picture: Image.Image, amount: float) -> np.ndarray:
    """`brushed` for an RGB picture: (H, W, 3) uint8. Within two levels the same, in little memory beside the picture's."""
    grey = torch.from_numpy(np.asarray(picture.convert("L"), np.float32)).div_(255)
    laid = strokes(grey[None, None])[0, 0].mul_(amount).round_().clamp_(-127, 127).to(torch.int8).numpy()
    pixels = np.array(picture)
    for top in range(0, len(pixels), 256):
        rows = pixels[top : top + 256]
        rows[:] = (rows + laid[top : top + 256, :, None].astype(np.int16)).clip(0, 255)
    return pixels


def luminance(pictures: Tensor) -> Tensor:
    """0.299 R + 0.587 G + 0.114 B of (N, 3, H, W): (N, 1, H, W)."""
    return (pictures * pictures.new_tensor(LUMINANCE).view(1, 3, 1, 1)).sum(1, keepdim=True)


@torch.no_grad()
def strokes(pictures: Tensor, seed: int = 0) -> Tensor:
    """Strokes for grey pictures, (N, 1, H, W) in 0-1: the same shape, standard deviation 1.

    Noise smeared along lines that follow the forms (line integral convolution, Cabral and Leedom 1993), about 4 px wide and
    32 long where the short side has SIDE px. The lines run across the strongest change of brightness (the structure tensor,
    as in Kyprianidis and Kang 2011). The same picture and seed give the same strokes.
    """
    whole, pictures = pictures, pictures.float()
    scale = SIDE / min(whole.shape[-2:])
    if scale < 1:
        pictures = F.interpolate(pictures, size=[max(1, round(side * scale)) for side in whole.shape[-2:]], mode="area")
    height, width = pictures.shape[-2:]
    random = torch.Generator().manual_seed(seed)
    rows, columns = -(-height // 2), -(-width // 2)
    flow = _flow(pictures, random)
    noise = torch.randn(1, 1, rows, columns, generator=random).to(flow)
    noise = _smooth(noise, 3).expand(len(pictures), -1, -1, -1)
    down, across = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    start = torch.stack([across, down]).to(flow).expand(len(pictures), -1, -1, -1)
    smeared = noise.clone()
    first = _direction(flow, start, None)
    for along in (first, -first):
        place = start
        for _ in range(REACH):
            place = place + along
            smeared += _sampled(noise, place)
            along = _direction(flow, place, along)
    smeared = smeared / smeared.std(dim=(2, 3), keepdim=True).clamp_min(1e-6)
    return F.interpolate(smeared, size=whole.shape[-2:], mode="bicubic").to(whole.dtype)


def _flow(pictures: Tensor, random: torch.Generator) -> Tensor:
    """The lines' direction at a quarter of the size, (N, 2, h, w), as cosine and sine of twice its angle."""
    small = F.avg_pool2d(pictures, 4, ceil_mode=True, count_include_pad=False)
    height, width = small.shape[-2:]
    # Hills and hollows of about one size, that lines run around: noise of one wavelength, in all directions.
    waves = torch.fft.fftfreq(height)[:, None].square() + torch.fft.rfftfreq(width).square()
    gain = torch.exp(-0.5 * ((2 / WHIRLS * min(height, width) * waves.sqrt() - 1) / 0.3).square())
    hills = torch.fft.irfft2(torch.fft.rfft2(torch.randn(1, 1, height, width, generator=random)) * gain, (height, width))
    hills = hills.to(small)
    forms, whirls = _smooth(_smooth(_tensor(small), 5), 5), _tensor(hills)
    whirls = whirls / (whirls[:, :1] + whirls[:, 2:]).clamp_min(1e-12)
    xx, xy, yy = (forms + CALM**2 * whirls).unbind(1)
    return F.normalize(torch.stack([yy - xx, -2 * xy], dim=1), dim=1)


def _tensor(pictures: Tensor) -> Tensor:
    """The structure tensor's three numbers at each place, (N, 3, H, W), not smoothed."""
    framed = F.pad(pictures, (0, 1, 0, 1), mode="replicate")
    dx, dy = (framed[..., :-1, 1:] - pictures, framed[..., 1:, :-1] - pictures)
    return torch.cat([dx * dx, dx * dy, dy * dy], dim=1)


def _smooth(maps: Tensor, size: int) -> Tensor:
    """Means over size x size px, of those that lie in the picture. (N, C, H, W) in and out; size: odd."""
    return F.avg_pool2d(maps, size, 1, size // 2, count_include_pad=False)


def _direction(flow: Tensor, place: Tensor, before: Tensor | None) -> Tensor:
    """Unit steps along the flow, (N, 2, h, w) as x and y, in the sense of the step before."""
    cosine, sine = _sampled(flow, place).unbind(1)
    angle = torch.atan2(sine, cosine) / 2
    along = torch.stack([angle.cos(), angle.sin()], dim=1)
    if before is None:
        return along
    return torch.where((along * before).sum(1, keepdim=True) < 0, -along, along)


def _sampled(maps: Tensor, place: Tensor) -> Tensor:
    """Maps, (N, C, h', w'), at places, (N, 2, h, w) as x and y in px of a picture of h x w: (N, C, h, w)."""
    scale = place.new_tensor([2 / place.shape[-1], 2 / place.shape[-2]]).view(1, 2, 1, 1)
    grid = (place + 0.5) * scale - 1
    return F.grid_sample(maps, grid.permute(0, 2, 3, 1), padding_mode="border", align_corners=False)
