"""The full ADE20K, with its thousands of names -> the 150 classes of the scene parsing benchmark."""
from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import List

import numpy as np

from ...errors import DataError
from ..base import list_files, read_image
from ..mat import read_mat
from .base import Job, Preparation, fingerprint, place, write_png

_INDEX = "index_ade20k.mat"
_SPLITS = ("training", "validation")
_log = logging.getLogger(__name__)

# Names of the benchmark's classes 1 to 150, as the index has them; '|' between names that are one class.
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
    """Masks are ``NAME_seg.png``, in which the name's number is ``red / 10 * 256 + green``, rounded down.

    A class takes the name of the index that is the benchmark's, all its synonyms included. The pictures keep
    their size; the benchmark's own, ADEChallengeData2016.zip, are scaled down, so that results are not quite the
    same.
    """

    dataset = "ade20k"
    needs = f"the full ADE20K: {_INDEX}, and images/ with training and validation somewhere below"
    makes = "images/{training,validation}/NAME.jpg, annotations/{training,validation}/NAME.png (1..150, 0 = other)"

    def jobs(self) -> List[Job]:
        root = self.find(_INDEX, what="ADE20K")
        self.index, self.table = root / _INDEX, _table(root / _INDEX)
        jobs: List[Job] = []
        for image in list_files(root, (".jpg",)):
            split = next((part for part in image.relative_to(root).parts if part in _SPLITS), None)
            mask = image.with_name(f"{image.stem}_seg.png")
            if split is not None and mask.is_file():
                jobs += self._pair(split, image, mask)
        if not jobs:
            raise self.lacking("pictures with their NAME_seg.png, below training and validation")
        return jobs

    def _pair(self, split: str, image: Path, mask: Path) -> List[Job]:
        pictures, masks = (self.target / kind / split / f"{image.stem}{suffix}"
                           for kind, suffix in (("images", ".jpg"), ("annotations", ".png")))
        return [Job(pictures, lambda: place(image, pictures), fingerprint(image), image),
                Job(masks, lambda: write_png(self._ids(mask), masks), fingerprint(mask, self.index))]

    def _ids(self, path: Path) -> np.ndarray:
        rgb = read_image(path)
        number = rgb[..., 0].astype(np.int64) // 10 * 256 + rgb[..., 1]
        if number.max() >= len(self.table):
            raise DataError("a mask holds names that the index does not know", where=path,
                            received=f"number {number.max()}; the index has {len(self.table) - 1}",
                            fix=f"take mask and {_INDEX} from the same release")
        return self.table[number]


def _table(path: Path) -> np.ndarray:
    """uint8 (n + 1,): number of a name in the index, from 1, -> class 1 to 150, 0 for all others.

    Raises:
        DataError: the file is no index of ADE20K.
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
    """A name with its synonyms, however they are separated and written."""
    return " ".join(re.split(r"[\s,;]+", name.strip().lower()))
