"""Convert the full ADE20K, with thousands of names, to the 150 classes of the scene parsing benchmark."""
from __future__ import annotations

import logging
import re
from pathlib import Path

import numpy as np

from ...errors import DataError
from ..base import list_files, read_image
from ..mat import read_mat
from .base import Job, Preparation, fingerprint, place, write_png

_INDEX = "index_ade20k.mat"
_SPLITS = ("training", "validation")
_log = logging.getLogger(__name__)

# Names of the benchmark's classes 1 to 150, as in the index; '|' separates names of the same class.
NAMES = """
wall
building, edifice
sky
floor, flooring
tree
ceiling
road, route
bed
windowpane, window
grass
cabinet
sidewalk, pavement
person, individual, someone, somebody, mortal, soul
earth, ground
door | double door
table
mountain, mount
plant, flora, plant life
curtain, drape, drapery, mantle, pall
chair
car, auto, automobile, machine, motorcar
water
painting, picture
sofa, couch, lounge
shelf
house
sea
mirror
rug, carpet, carpeting
field
armchair
seat
fence, fencing
desk
rock, stone
wardrobe, closet, press
lamp
bathtub, bathing tub, bath, tub
railing, rail
cushion
base, pedestal, stand
box
column, pillar
signboard, sign
chest of drawers, chest, bureau, dresser
counter
sand
sink
skyscraper
fireplace, hearth, open fireplace
refrigerator, icebox
grandstand, covered stand
path
stairs, steps
runway
case, display case, showcase, vitrine
pool table, billiard table, snooker table
pillow
screen door, screen
stairway, staircase
river
bridge, span
bookcase
blind, screen
coffee table, cocktail table
toilet, can, commode, crapper, pot, potty, stool, throne
flower
book
hill
bench
countertop
stove, kitchen stove, range, kitchen range, cooking stove
palm, palm tree
kitchen island
computer, computing machine, computing device, data processor, electronic computer, information processing system
swivel chair
boat
bar
arcade machine
hovel, hut, hutch, shack, shanty
bus, autobus, coach, charabanc, double-decker, jitney, motorbus, motorcoach, omnibus, passenger vehicle
towel
light, light source
truck, motortruck
tower
chandelier, pendant, pendent
awning, sunshade, sunblind
streetlight, street lamp
booth, cubicle, stall, kiosk
television receiver, television, television set, tv, tv set, idiot box, boob tube, telly, goggle box
airplane, aeroplane, plane
dirt track
apparel, wearing apparel, dress, clothes
pole
land, ground, soil
bannister, banister, balustrade, balusters, handrail
escalator, moving staircase, moving stairway
ottoman, pouf, pouffe, puff, hassock
bottle
buffet, counter, sideboard
poster, posting, placard, notice, bill, card
stage
van
ship
fountain
conveyer belt, conveyor belt, conveyer, conveyor, transporter
canopy
washer, automatic washer, washing machine
plaything, toy
swimming pool, swimming bath, natatorium
stool
barrel, cask
basket, handbasket
waterfall, falls
tent, collapsible shelter
bag
minibike, motorbike
cradle
oven
ball
food, solid food
step, stair
tank, storage tank
trade name, brand name, brand, marque
microwave, microwave oven
pot, flowerpot
animal, animate being, beast, brute, creature, fauna
bicycle, bike, wheel, cycle
lake
dishwasher, dish washer, dishwashing machine
screen, silver screen, projection screen
blanket, cover
sculpture
hood, exhaust hood
sconce
vase
traffic light, traffic signal, stoplight
tray
ashcan, trash can, garbage can, wastebin, ash bin, ash-bin, ashbin, dustbin, trash barrel, trash bin
fan
pier, wharf, wharfage, dock
crt screen | screen, crt screen
plate
monitor, monitoring device
bulletin board, notice board
shower
radiator
glass, drinking glass
clock
flag
""".strip().splitlines()


class ADE20KFull(Preparation):
    """Convert masks ``NAME_seg.png``, in which ``red // 10 * 256 + green`` is the number of a name in the index.

    A name of the index belongs to a class if it equals the benchmark's name, with all synonyms. Images keep their
    size. The benchmark's own images, ADEChallengeData2016.zip, are scaled down, so results differ slightly.
    """

    dataset = "ade20k"
    needs = f"the full ADE20K: {_INDEX}, and images/ with folders training and validation below"
    makes = "images/{training,validation}/NAME.jpg, annotations/{training,validation}/NAME.png (1..150, 0 = other)"

    def jobs(self) -> list[Job]:
        root = self.find(_INDEX, what="ADE20K")
        self.index, self.table = root / _INDEX, _table(root / _INDEX)
        jobs: list[Job] = []
        for image in list_files(root, (".jpg",)):
            split = next((part for part in image.relative_to(root).parts if part in _SPLITS), None)
            mask = image.with_name(f"{image.stem}_seg.png")
            if split is not None and mask.is_file():
                jobs += self._pair(split, image, mask)
        if not jobs:
            raise self.source_error("images with their NAME_seg.png, below training and validation")
        return jobs

    def _pair(self, split: str, image: Path, mask: Path) -> list[Job]:
        new_image = self.target / "images" / split / f"{image.stem}.jpg"
        new_mask = self.target / "annotations" / split / f"{image.stem}.png"
        return [Job(new_image, lambda: place(image, new_image), fingerprint(image), image),
                Job(new_mask, lambda: write_png(self._ids(mask), new_mask), fingerprint(mask, self.index))]

    def _ids(self, path: Path) -> np.ndarray:
        rgb = read_image(path)
        number = rgb[..., 0].astype(np.int64) // 10 * 256 + rgb[..., 1]
        if number.max() >= len(self.table):
            raise DataError("a mask holds names that are not in the index", where=path,
                            received=f"number {number.max()}; the index has {len(self.table) - 1}",
                            fix=f"take mask and {_INDEX} from the same release")
        return self.table[number]


def _table(path: Path) -> np.ndarray:
    """Return number of a name in the index, from 1, -> class 1 to 150, or 0 for other names: uint8 (n + 1,).

    Raises:
        DataError: the file is not an index of ADE20K.
    """
    index = read_mat(path)
    try:
        names = [str(name) for name in np.atleast_1d(index["index"].objectnames)]
    except (KeyError, AttributeError, TypeError) as error:
        raise DataError("the index of ADE20K has no names", where=path, received=repr(error),
                        fix="restore it from the archive") from error

    classes = {_words(name): i for i, line in enumerate(NAMES, 1) for name in line.split("|")}
    table = np.array([0] + [classes.get(_words(name), 0) for name in names], np.uint8)
    missing = sorted(set(range(1, len(NAMES) + 1)) - set(table.tolist()))
    if missing:
        _log.warning("%d of the 150 classes have no name in %s: %s", len(missing), path,
                     "; ".join(NAMES[i - 1] for i in missing[:5]))
    return table


def _words(name: str) -> str:
    """Return a name with its synonyms in lower case, separated by single spaces."""
    return " ".join(re.split(r"[\s,;]+", name.strip().lower()))
