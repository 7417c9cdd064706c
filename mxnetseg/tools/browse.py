"""``mxnetseg browse``: pictures of a data set and of what the network is shown, as a sheet and a page."""
from __future__ import annotations

import base64
from argparse import ArgumentParser, Namespace
from html import escape
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Sequence, Tuple

import cv2
import numpy as np

from .common import (
    add_data_arguments,
    add_decoding_arguments,
    add_out_argument,
    add_quiet_argument,
    add_set_argument,
    decoding_changes,
    progress_bar,
    whole_number,
)

SHEET, PAGE = "contact_sheet.png", "index.html"
_THUMBNAIL, _PICTURE = 300, 720  # greatest width and height in pixels: on the sheet, on the page
_SHADE = 0.35  # brightness of ignored pixels where classes are laid over a picture


class Shot(NamedTuple):
    """One item of the data set, and crops of it as they are trained on.

    Attributes:
        name: as the data set calls it.
        files: of the image and the mask.
        image, mask: uint8 (H, W, 3) RGB and (H, W) train ids.
        crops: pairs of these.
    """

    name: str
    files: Tuple[Path, Path]
    image: np.ndarray
    mask: np.ndarray
    crops: List[Tuple[np.ndarray, np.ndarray]]


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_data_arguments(parser, optional=True)
    add_out_argument(parser, "out/browse", "the sheet and the page")
    parser.add_argument("--split", help="default: the configuration's training split")
    parser.add_argument("--count", type=whole_number(), default=8, metavar="N", help="images (default: %(default)s)")
    parser.add_argument("--crops", type=whole_number(), default=2, metavar="N",
                        help="crops of each (default: %(default)s)")
    parser.add_argument("--seed", type=whole_number(0), default=0, metavar="N",
                        help="seed of the choice and the crops (default: %(default)s)")
    parser.add_argument("--config", metavar="NAME|FILE", help="cut the crops as this configuration does; without "
                        "NAME|PATH show its data")
    add_set_argument(parser, "change a key of the configuration: --set data.crop_size=256")
    add_decoding_arguments(parser)
    add_quiet_argument(parser)


def run(args: Namespace) -> int:
    """Write the sheet and the page; 1 if a chosen picture could not be read."""
    from ..data.parallel import in_parallel
    from ..errors import MXNetSegError

    _check(args)
    config, dataset = _open(args)
    shots, broken = [], []

    def shoot(i: int):
        try:
            return _shoot(dataset, i, config.data, args.crops, args.seed)
        except MXNetSegError as error:  # of one image; the others are shown
            return error

    chosen = np.sort(np.random.default_rng(args.seed).permutation(len(dataset))[:args.count]).tolist()
    made = in_parallel(shoot, chosen, timeout=config.data.timeout, where=dataset.image_path)
    for result in progress_bar("browse", args.quiet)(made, len(chosen)):
        (shots if isinstance(result, Shot) else broken).append(result)
    for error in broken:
        print(f"not shown: {error}")
    if not shots:
        return 1
    _write_sheet(args.out / SHEET, shots, dataset, config.data)
    _write_page(args.out / PAGE, shots, dataset, config.data)
    print(f"{len(shots)} of {len(dataset)} pictures of {dataset.name}, split {dataset.split}\n"
          f"  {args.out / SHEET}\n  {args.out / PAGE}")
    return 1 if broken else 0


def _check(args: Namespace) -> None:
    from ..errors import UsageError

    if args.name is None and args.config is None:
        raise UsageError("nothing to show", fix="name a data set, a folder or a configuration: mxnetseg browse camvid")
    if args.out.exists() and not args.out.is_dir():
        raise UsageError("a file is where the pictures should go", where="--out", received=args.out,
                         fix="name a folder")


def _open(args: Namespace):
    """The configuration and the split to show."""
    from ..config import load_config
    from ..data import get_dataset, without_folder
    from ..data.decoding import Decoding
    from ..errors import DataError

    config = load_config(args.config, overrides=args.overrides)
    config = config.replace(decoding_changes(args), where="the command line")
    recorded = without_folder(config.data.name) if args.root else config.data.name
    name, root = (args.name, args.root) if args.name else (recorded, args.root or config.data.root)
    dataset = get_dataset(name, split=args.split or config.data.train_split, root=root,
                          decoding=Decoding.of(config.data))
    if dataset.mask_path(0) is None:
        raise DataError("this split has no masks, so it is not trained on", where=repr(dataset),
                        fix=f"choose another with --split: {', '.join(dataset.splits)}")
    if args.config is None:  # the sizes of another data set would not do
        config = _sized(config, dataset, args.overrides)
    return config, dataset


def _sized(config, dataset, overrides: Sequence[str]):
    """The configuration with sizes that suit the data set, where none were given."""
    from .check_data import suggest_sizes

    given = [text.partition("=")[0].strip() for text in overrides]
    height, width = dataset.load_image(0).shape[:2]
    sizes = {f"data.{key}": value for key, value in suggest_sizes(width, height).items()}
    return config.replace({key: value for key, value in sizes.items() if key not in given})


def _shoot(dataset, i: int, data, crops: int, seed: int) -> Shot:
    from ..data.recipes import make_transform

    transform = make_transform(data)
    image, mask, name = dataset[i]
    pairs = [transform(image, mask, np.random.default_rng([seed, i, k])) for k in range(crops)]
    return Shot(name, (dataset.image_path(i), dataset.mask_path(i)), image, mask, pairs)


# ---- pictures -------------------------------------------------------------------------------


def _laid_over(image: np.ndarray, mask: np.ndarray, palette: np.ndarray, classes: Sequence[str] = ()) -> np.ndarray:
    """The picture tinted by class, except for the background; what is ignored is dark."""
    from ..data.base import IGNORE
    from ..viz.overlay import overlay

    picture = overlay(image, mask, palette, classes=classes)
    ignored = mask == IGNORE
    picture[ignored] = (picture[ignored] * _SHADE).astype(np.uint8)
    return picture


def _fitted(picture: np.ndarray, limit: int) -> np.ndarray:
    """Scaled down to at most ``limit`` pixels; a mask, (H, W), keeps its ids."""
    scale = limit / max(picture.shape[:2])
    if scale >= 1:
        return np.ascontiguousarray(picture)
    size = tuple(max(round(side * scale), 1) for side in picture.shape[1::-1])
    return cv2.resize(np.ascontiguousarray(picture), size,
                      interpolation=cv2.INTER_AREA if picture.ndim == 3 else cv2.INTER_NEAREST_EXACT)


def _ignored_colour(palette: np.ndarray) -> Tuple[int, int, int]:
    """Black, unless a class is; then another that is no class's."""
    taken = {tuple(colour) for colour in np.asarray(palette).tolist()}
    greys = ((level,) * 3 for level in (0, 255, 128, *range(1, 255)))
    return next(colour for colour in greys if colour not in taken)


def _legend(dataset) -> Tuple[List[str], np.ndarray]:
    """Names and colours, ignored pixels last."""
    colours = [*np.asarray(dataset.palette).tolist(), _ignored_colour(dataset.palette)]
    return [*dataset.classes, "ignored"], np.array(colours, np.uint8)


def _coloured(mask: np.ndarray, palette: np.ndarray) -> np.ndarray:
    from ..viz.palette import colorize

    return colorize(mask, palette, ignore_colour=_ignored_colour(palette))


def _present(shots: Sequence[Shot], nclass: int) -> np.ndarray:
    """int64 (nclass + 1,): pixels of each class in the pictures shown, ignored ones last."""
    counts = sum(np.bincount(shot.mask.ravel(), minlength=256) for shot in shots)
    return np.append(counts[:nclass], counts[-1])


def _write_sheet(path: Path, shots: Sequence[Shot], dataset, data) -> None:
    from ..viz.overlay import grid, with_legend
    from ..viz.palette import save_rgb_png

    palette, rows = dataset.palette, []
    for shot in shots:
        image, mask = _fitted(shot.image, _THUMBNAIL), _fitted(shot.mask, _THUMBNAIL)
        row = [image, _coloured(mask, palette), _laid_over(image, mask, palette, dataset.classes)]
        for crop in shot.crops:
            image, mask = (_fitted(part, _THUMBNAIL) for part in crop)
            row += [image, _laid_over(image, mask, palette, dataset.classes)]
        rows.append(row)
    captions = ["picture", "mask", "overlay"]
    for k in range(len(shots[0].crops)):
        captions += [f"crop {k + 1}, {data.crop_size[1]} x {data.crop_size[0]}", "its overlay"]
    names, colours = _legend(dataset)
    present = np.flatnonzero(_present(shots, dataset.nclass))
    save_rgb_png(with_legend(grid(rows, captions), names, colours, present=present), path)


# ---- the page -------------------------------------------------------------------------------

_STYLE = """
:root { --alpha: .5; color-scheme: light dark; }
body { font: 15px/1.4 system-ui, sans-serif; margin: 0 auto; max-width: 1500px; padding: 0 1rem 3rem; }
header { position: sticky; top: 0; z-index: 1; background: Canvas; padding: .6rem 0; border-bottom: 1px solid #8884; }
h1 { font-size: 1.2rem; margin: 0 0 .3rem; } h2 { font-size: 1rem; margin: 1.6rem 0 .4rem; }
h2 small { font-weight: normal; opacity: .7; }
ul { display: flex; flex-wrap: wrap; gap: .2rem 1rem; list-style: none; margin: .4rem 0 0; padding: 0; }
ul { max-height: 20vh; overflow: auto; }
li i { display: inline-block; width: .9em; height: .9em; border: 1px solid #888; vertical-align: -.1em; }
li small, figcaption { opacity: .7; }
.row { display: flex; flex-wrap: wrap; gap: .6rem; align-items: flex-start; }
figure { margin: 0; } figure div { position: relative; } figure img { display: block; height: 300px; }
figure img + img { position: absolute; inset: 0; opacity: var(--alpha); image-rendering: pixelated; }
"""
_SCRIPT = "document.documentElement.style.setProperty('--alpha', this.value)"


def _write_page(path: Path, shots: Sequence[Shot], dataset, data) -> None:
    """One file that needs nothing else: the pictures are inside."""
    from ..files import atomic_write

    with atomic_write(path, "w") as stream:
        stream.writelines(line + "\n" for line in _page(shots, dataset, data))


def _page(shots: Sequence[Shot], dataset, data) -> Iterator[str]:
    title = escape(f"{dataset.name}, split {dataset.split}")
    yield f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
    yield f"<header><h1>{title}: {len(shots)} of {len(dataset)} pictures</h1>"
    yield ('<label>strength of the classes <input type="range" min="0" max="1" step="0.05" value="0.5" '
           f'oninput="{_SCRIPT}"></label> &nbsp; crops: {escape(_describe(data))}<ul>')
    counts = _present(shots, dataset.nclass)
    for i, (name, colour, n) in enumerate(zip(*_legend(dataset), counts)):
        if n:
            id_text = f"{i} " if i < dataset.nclass else ""
            yield (f'<li><i style="background:rgb{tuple(colour.tolist())}"></i> {id_text}{escape(name)} '
                   f"<small>{n / counts.sum():.1%}</small></li>")
    yield "</ul></header>"
    for shot in shots:
        height, width = shot.mask.shape
        yield (f"<h2>{escape(shot.name)} <small>{width} x {height}, {escape(str(shot.files[0]))}, "
               f'{escape(str(shot.files[1]))}</small></h2><div class="row">')
        yield _figure(shot.image, shot.mask, dataset, "the picture")
        for k, crop in enumerate(shot.crops, 1):
            yield _figure(*crop, dataset, f"crop {k}, as the network is shown it")
        yield "</div>"
    yield "</html>"


def _describe(data) -> str:
    height, width = data.crop_size
    if data.recipe:
        return f"{width} x {height}, by the recipe {data.recipe} with base_size {data.base_size}"
    return (f"{width} x {height} of pictures whose long side is {data.base_size} times {data.scale[0]:g} to "
            f"{data.scale[1]:g}")


def _figure(image: np.ndarray, mask: np.ndarray, dataset, caption: str) -> str:
    from ..viz.palette import background_ids

    image, mask = _fitted(image, _PICTURE), _fitted(mask, _PICTURE)
    opaque = ~np.isin(mask, background_ids(dataset.classes)) * np.uint8(255)
    return (f'<figure><div><img alt="" src="{_uri(image, ".jpg")}">'
            f'<img alt="" src="{_uri(np.dstack([_coloured(mask, dataset.palette), opaque]), ".png")}"></div>'
            f"<figcaption>{escape(caption)}</figcaption></figure>")


def _uri(picture: np.ndarray, suffix: str) -> str:
    """The picture, (H, W, 3) RGB or (H, W, 4) with opacity, as the address of itself."""
    options: Dict[str, Any] = {".jpg": ("jpeg", [cv2.IMWRITE_JPEG_QUALITY, 92]), ".png": ("png", [])}
    kind, settings = options[suffix]
    _, data = cv2.imencode(suffix, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR if picture.shape[2] == 3 else
                                             cv2.COLOR_RGBA2BGRA), settings)
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
