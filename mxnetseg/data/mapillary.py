"""Mapillary Vistas 1.2: streets of six continents in 65 classes, at 2 megapixels and more.

Neuhold, Ollmann, Rota Bulò, Kontschieder: The Mapillary Vistas dataset for semantic understanding of street scenes,
ICCV 2017.
"""
from __future__ import annotations

import json

import numpy as np

from ..errors import DataError
from .base import IGNORE, Pair, SegDataset, hex_palette
from .layouts import by_folder

_FOLDERS: dict[str, str] = {"train": "training", "val": "validation", "test": "testing"}


class Mapillary(SegDataset):
    """Street images: 18000 for training, 2000 for validation, 5000 for testing.

    The masks hold 0..65; 65 means unlabelled and is ignored. ``config.json`` gives the colours. If its classes are
    not the classes of version 1.2, the masks are not either, and the data set is refused. See
    :class:`~mxnetseg.data.base.SegDataset` for the arguments.
    """

    name = "Mapillary"
    splits = ("train", "val", "test", "trainval")
    combined = {"trainval": ("train", "val")}
    counts = {"train": 18000, "val": 2000, "test": 5000}
    classes = (
        "Bird", "Ground Animal", "Curb", "Fence", "Guard Rail", "Barrier", "Wall", "Bike Lane", "Crosswalk - Plain",
        "Curb Cut", "Parking", "Pedestrian Area", "Rail Track", "Road", "Service Lane", "Sidewalk", "Bridge",
        "Building", "Tunnel", "Person", "Bicyclist", "Motorcyclist", "Other Rider", "Lane Marking - Crosswalk",
        "Lane Marking - General", "Mountain", "Sand", "Sky", "Snow", "Terrain", "Vegetation", "Water", "Banner",
        "Bench", "Bike Rack", "Billboard", "Catch Basin", "CCTV Camera", "Fire Hydrant", "Junction Box", "Mailbox",
        "Manhole", "Phone Booth", "Pothole", "Street Light", "Pole", "Traffic Sign Frame", "Utility Pole",
        "Traffic Light", "Traffic Sign (Back)", "Traffic Sign (Front)", "Trash Can", "Bicycle", "Boat", "Bus", "Car",
        "Caravan", "Motorcycle", "On Rails", "Other Vehicle", "Trailer", "Truck", "Wheeled Slow", "Car Mount",
        "Ego Vehicle")
    palette = hex_palette("""
        a52a2a 00c000 c4c4c4 be9999 b4a5b4 5a7896 66669c 8040ff 8c8cc8 aaaaaa faaaa0 606060 e6968c 804080 6e6e6e
        f423e8 966464 464646 96785a dc143c ff0000 ff0064 ff00c8 c88080 ffffff 40aa40 e6a032 4682b4 beffff 98fb98
        6b8e23 00aa1e ffff80 fa001e 648cb4 dcdcdc dc8080 de2828 64aa1e 282828 212121 6480a0 8e0000 466496 d2aa64
        999999 808080 000050 faaa1e c0c0c0 dcdc00 8c8c14 770b20 9600ff 003c64 00008e 00005a 0000e6 005064 804040
        00006e 000046 0000c0 202020 780a0a""")
    label_map = {**{i: i for i in range(65)}, 65: IGNORE}
    subdir = "Mapillary"
    markers = ("config.json",)
    home_page = "https://www.mapillary.com/dataset/vistas (mapillary-vistas-dataset_public_v1.2.zip)"
    licence = "CC BY-NC-SA 4.0"
    layout = """\
<root>/config.json
<root>/{training,validation,testing}/images/NAME.jpg     or {train,val,test}
<root>/{training,validation}/labels/NAME.png             8 bits: 0..64, 65 = unlabelled"""
    label_hint = "the masks of version 1.2 hold 0..65 in 8 bits; the folder instances holds 16 bits: take labels"

    def _prepare(self) -> None:
        path = self.root / "config.json"
        try:
            labels = json.loads(path.read_text(encoding="utf-8"))["labels"]
            names = [str(label["readable"]) for label in labels]
            colors = np.array([label["color"] for label in labels[:65]]).astype(np.uint8).reshape(-1, 3)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError("Mapillary's config.json has an unexpected structure", where=path,
                            received=f"{type(error).__name__}: {error}", fix="unpack it again") from error

        wanted = [*self.classes, "Unlabeled"]
        for i, (name, known) in enumerate(zip([*names, "nothing"], [*wanted, "nothing"])):
            if name != known:
                raise DataError(f"Mapillary's config.json has other classes than version 1.2: id {i} is not {known!r}",
                                where=path, received=f"{name!r}; {len(names)} labels",
                                fix="take version 1.2; version 2.0 has other ids and other folders")
        self.palette = colors

    def find_pairs(self) -> list[Pair]:
        pairs: list[Pair] = []
        for part in self.parts:
            folder = _FOLDERS[part] if (self.root / _FOLDERS[part]).is_dir() else part
            pairs += by_folder(self, images=f"{folder}/images", prefix=f"{part}/",
                               masks=None if part == "test" else f"{folder}/labels")
        return pairs
