"""What a composed config holds, checked: each value of the wrong kind is a UserError that names its key."""

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from fastnst.errors import UserError, is_name, is_number, is_whole


def check_whole(cfg: DictConfig, least: Mapping[str, int], optional: Collection[str] = ()) -> None:
    """Raises UserError unless each key of `least` holds a whole number from that on, or null where it is `optional`."""
    for key, smallest in least.items():
        value = OmegaConf.select(cfg, key)
        if not (value is None and key in optional) and not is_whole(value, smallest):
            raise UserError(f"{key}={value}: give a whole number from {smallest}")


def whole_numbers(cfg: DictConfig, key: str, least: int) -> list[int]:
    """The list that `key` holds. Raises UserError unless it is one of whole numbers from `least`, and not empty."""
    values = OmegaConf.select(cfg, key)
    if not OmegaConf.is_list(values) or not len(values) or not all(is_whole(value, least) for value in values):
        raise UserError(f"{key}={values}: give whole numbers from {least} in brackets, such as {key}=[256,512]")
    return list(values)


def check_numbers(cfg: DictConfig, ranges: Mapping[str, tuple[float, float]]) -> None:
    """Raises UserError unless each key of `ranges` holds a number in its range, both ends included."""
    for key, (least, most) in ranges.items():
        value = OmegaConf.select(cfg, key)
        if not is_number(value, least, most):
            raise UserError(f"{key}={value}: give a number from {least:g} to {most:g}")


def check_flags(cfg: DictConfig, *keys: str) -> None:
    """Raises UserError unless each key holds true or false."""
    for key in keys:
        if not isinstance(OmegaConf.select(cfg, key), bool):
            raise UserError(f"{key}={OmegaConf.select(cfg, key)}: give true or false")


def path_of(cfg: DictConfig, key: str) -> Path:
    """The path that `key` holds, see `as_path`. Raises UserError if it holds none."""
    return as_path(OmegaConf.select(cfg, key, throw_on_missing=True), key)


def as_path(value: object, key: str) -> Path:
    """`value` as a path, a leading ~ expanded unless there is a file of that name.

    `key` is named in the UserError if it is none.
    """
    if not isinstance(value, str) or not value.strip():
        raise UserError(f"{key}={value}: give a path")
    try:
        return Path(value) if os.path.exists(value) else Path(value).expanduser()
    except RuntimeError as error:
        raise UserError(f"{key}={value}: {error}") from None


def layers_of(loss: DictConfig) -> list[str]:
    """The loss network's layers that a loss reads. Raises UserError if its style layers are none."""
    if not OmegaConf.is_dict(loss.style_layers) or not loss.style_layers:
        raise UserError(f"loss.style_layers={loss.style_layers}: give layers with their weights, such as {{relu1_2: 1}}")
    return [loss.content_layer, *loss.style_layers]


def style_of(cfg: DictConfig) -> str | dict[str, float | str] | None:
    """Which style of a checkpoint `style` chooses: a name, a file, or shares or masks of several."""
    style: Any = OmegaConf.to_container(cfg.style) if OmegaConf.is_config(cfg.style) else cfg.style
    return by_name(style)


def by_name(given: Any) -> Any:
    """A mapping from names of styles, with names in place of numbers, as which Hydra reads 1; whatever else as it is."""
    return {str(name): value for name, value in given.items()} if isinstance(given, Mapping) else given


def title_of(style: str | dict[str, float | str]) -> str:
    """A short name for what `style_of` gives: the styles' or the paintings' names."""
    return "+".join(Path(name).stem for name in ([style] if isinstance(style, str) else style))


def names_of(style: DictConfig) -> list[str]:
    """The styles' names, which files are called after: `style.name`, or the keys of `style.images` (style=[wave,mosaic]).

    Raises UserError for a name that no file can be called after.
    """
    several = style.images and (len(style.images) > 1 or OmegaConf.is_missing(style, "image"))
    names = list(style.images) if several else [style.name]
    for name in names:
        if not is_name(name):
            raise UserError(f"style.name={name}: give a short name for files, without slashes and not hidden")
    return names


def paintings_of(style: DictConfig) -> dict[str, Path]:
    """Each painting's file by the style's name. Raises UserError for a name or a path that is none."""
    names = names_of(style)
    images = [style.image] if names == [style.name] else [style.images[name] for name in names]
    return {name: as_path(image, "style.image") for name, image in zip(names, images, strict=True)}


def painting_of(style: DictConfig) -> tuple[str, Path]:
    """The style's name and its painting's file. Raises UserError if it has several."""
    paintings = paintings_of(style)
    if len(paintings) > 1:
        raise UserError(f"style={', '.join(paintings)}: give one style")
    return next(iter(paintings.items()))
