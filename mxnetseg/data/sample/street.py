"""Painter of street scenes with their label maps, the images of the built-in data set.

A scene is a small world in metres (X to the right of the middle of the road, Y up, Z ahead), seen through a
pinhole camera. It is painted from far to near at twice the final size: colour, class id and distance of each pixel.
:func:`paint` is a pure function of its seed and index.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

from ...errors import UnknownNameError
from ..base import IGNORE

CLASSES = ("road", "marking", "sidewalk", "building", "vegetation", "sky", "vehicle", "person", "pole")
ROAD, MARKING, SIDEWALK, BUILDING, VEGETATION, SKY, VEHICLE, PERSON, POLE = range(len(CLASSES))
PALETTE = np.array([  # distinct in red-green deficient vision too, see viz/vision.py
    (125, 64, 128), (241, 221, 113), (244, 35, 236), (110, 64, 54), (43, 139, 88), (30, 130, 187),
    (0, 19, 159), (238, 33, 16), (251, 150, 0)], np.uint8)
WEATHERS = ("noon", "dusk", "clear", "night", "rain", "fog", "snow")

_FINE = 2  # painted at twice the size, for smooth edges in the image and to find boundaries for the mask
_FAR = 90.0  # metres, where the street ends
_CIRCLE = np.stack([f(np.linspace(0, 2 * np.pi, 20, endpoint=False)) for f in (np.cos, np.sin)], 1)

Color = Sequence[float]  # red, green, blue
Rng = np.random.Generator


@dataclass(frozen=True)
class _Light:
    """Weather and time of day; colours are RGB in 0..1.

    Attributes:
        zenith, horizon: colours of the sky.
        ambient: factors by which the colours of things are multiplied.
        haze: colour of distant things; its share is one half at ``sight`` metres.
        clouds: fraction of the sky that clouds cover, 0..1.
        shadow: strength of shadows, 0..1.
        lamps: whether street lamps and windows are lit.
        wet, snow: 0..1.
    """

    zenith: Color
    horizon: Color
    ambient: Color
    haze: Color
    sight: float
    clouds: float = 0.4
    shadow: float = 0.1
    lamps: bool = False
    wet: float = 0.0
    snow: float = 0.0

    @property
    def night(self) -> bool:
        """Return whether it is dark except for lamps."""
        return self.lamps and max(self.zenith) < .1


_LIGHTS = {
    "noon": _Light((.22, .45, .80), (.70, .82, .93), (1.08, 1.04, .96), (.75, .84, .93), 160, .55, .42),
    "clear": _Light((.35, .58, .85), (.86, .89, .90), (1.0, .97, .93), (.84, .88, .92), 130, .25, .32),
    "dusk": _Light((.26, .25, .48), (.98, .60, .32), (.86, .66, .58), (.85, .56, .42), 95, .7, .25, True),
    "night": _Light((.015, .025, .08), (.07, .09, .18), (.25, .28, .41), (.06, .07, .14), 110, .2, .1, True),
    "rain": _Light((.40, .44, .50), (.62, .65, .68), (.66, .69, .74), (.60, .63, .67), 60, .6, .12, wet=.6),
    "fog": _Light((.74, .76, .78), (.80, .81, .82), (.82, .83, .85), (.79, .80, .81), 17, .05, .05),
    "snow": _Light((.66, .70, .76), (.84, .86, .89), (.90, .92, .97), (.84, .86, .90), 55, .3, .1, snow=.85),
}


@dataclass
class _Camera:
    """Pinhole camera over a road that bends as X = curve * Z^2; lengths in metres, ``f`` in fine pixels."""

    f: float
    cx: float
    horizon: float
    height: float
    offset: float
    curve: float

    def project(self, points: np.ndarray) -> np.ndarray:
        """Project points (n, 3), X, Y, Z, to (n, 2) fine pixels; a Z below 0.5 counts as 0.5."""
        points = np.asarray(points, np.float64).reshape(-1, 3)
        z = np.maximum(points[:, 2], 0.5)
        x = points[:, 0] + self.curve * z * z - self.offset
        y = self.height - points[:, 1]
        return np.stack([self.cx + self.f * x / z, self.horizon + self.f * y / z], 1)

    def ground(self, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the ground that each pixel sees: X (height, width), Z (height, 1); Z is inf above the horizon."""
        rows = np.arange(height, dtype=np.float32)[:, None] + 0.5 - self.horizon
        z = np.where(rows > 0.5, self.f * self.height / np.maximum(rows, 0.5), np.inf).astype(np.float32)
        near = np.minimum(z, 1e3)  # so that X stays finite
        x = (np.arange(width, dtype=np.float32) + 0.5 - self.cx) * near / self.f
        return x + self.offset - self.curve * near * near, z


class _Canvas:
    """Colour (float, 0..1), class id and distance of every fine pixel, painted together."""

    def __init__(self, height: int, width: int, camera: _Camera, light: _Light):
        self.color = np.zeros((height, width, 3), np.float32)
        self.ids = np.full((height, width), SKY, np.uint8)
        self.depth = np.full((height, width), 1e4, np.float32)
        self.camera, self.light = camera, light
        self.glows: list[tuple[float, float, float, float, Color]] = []  # x, y, depth, radius, colour

    def lit(self, color: Color, shade: float = 1.0) -> np.ndarray:
        """Return a colour as it looks in this light."""
        return np.asarray(color, np.float32) * np.asarray(self.light.ambient, np.float32) * shade

    def shape(self, points: np.ndarray, color: Color, label: int, depth: float, *, shade: float = 1.0,
              glows: bool = False) -> None:
        """Fill a polygon given in fine pixels; a glowing one keeps its colour at night."""
        corners = np.round(np.clip(points, -9000, 9000) * 8).astype(np.int32)
        value = np.asarray(color) * shade if glows else self.lit(color, shade)
        cv2.fillPoly(self.color, [corners], [float(v) for v in value], shift=3)
        cv2.fillPoly(self.ids, [corners], label, shift=3)
        cv2.fillPoly(self.depth, [corners], depth, shift=3)

    def solid(self, points: Sequence[Sequence[float]], color: Color, label: int, *, shade: float = 1.0,
              glows: bool = False) -> None:
        """Fill a flat polygon given in metres."""
        points = np.asarray(points, np.float64)
        near = float(points[:, 2].min())
        self.shape(self.camera.project(points), color, label, near, shade=shade, glows=glows)

    def disk(self, x: float, y: float, rx: float, ry: float, color: Color, label: int, depth: float, *,
             shade: float = 1.0, glows: bool = False) -> None:
        """Fill an ellipse; centre and radii in fine pixels."""
        self.shape(_CIRCLE * (rx, ry) + (x, y), color, label, depth, shade=shade, glows=glows)

    def limb(self, a: np.ndarray, b: np.ndarray, radius: float, color: Color, label: int, depth: float, *,
             shade: float = 1.0) -> None:
        """Draw a rounded bar from ``a`` to ``b``, in fine pixels."""
        along = np.arctan2(b[1] - a[1], b[0] - a[0])
        t = np.linspace(np.pi / 2, 3 * np.pi / 2, 7)
        ring = np.stack([np.cos(t + along), np.sin(t + along)], 1) * radius
        self.shape(np.concatenate([a + ring, b - ring]), color, label, depth, shade=shade)

    def wall(self, texture: np.ndarray, corners: np.ndarray, label: int, depths: tuple[float, float]) -> None:
        """Stretch a texture with its light over four points in fine pixels.

        Args:
            texture: float32 (h, w, 3).
            corners: (4, 2), the positions of its top left, top right, bottom right and bottom left corners.
            depths: distances of its left and right edges.
        """
        height, width = self.ids.shape
        low = np.floor(corners.min(0)).astype(int).clip(0, (width, height))
        high = np.ceil(corners.max(0)).astype(int).clip(0, (width, height))
        if (high - low).min() <= 0:
            return
        size = max(np.linalg.norm(corners[3] - corners[0]), np.linalg.norm(corners[2] - corners[1]))
        shrink = max(size, 2) / texture.shape[0]
        if shrink < 0.6:  # far away: shrink the texture first, which averages its pixels and prevents aliasing
            small = max(int(texture.shape[1] * shrink), 2), int(texture.shape[0] * shrink)
            texture = cv2.resize(texture, small, interpolation=cv2.INTER_AREA)
        h, w = texture.shape[:2]
        source = np.array([(0, 0), (w, 0), (w, h), (0, h)], np.float32)
        matrix = cv2.getPerspectiveTransform(source, (corners - low).astype(np.float32))
        w, h = (int(v) for v in high - low)
        stretched = cv2.warpPerspective(texture, matrix, (w, h), flags=cv2.INTER_LINEAR,
                                        borderMode=cv2.BORDER_REPLICATE)
        inside = np.zeros((h, w), np.uint8)
        cv2.fillConvexPoly(inside, np.round(np.clip(corners - low, -9000, 9000)).astype(np.int32), 1)
        inside = inside.astype(bool)
        window = slice(low[1], high[1]), slice(low[0], high[0])
        self.color[window][inside] = stretched[inside]
        self.ids[window][inside] = label
        # along a wall, 1 / depth is linear in the image
        a, b = 1 / max(depths[0], 0.5), 1 / max(depths[1], 0.5)
        left, right = corners[0, 0] - low[0], corners[1, 0] - low[0]
        along = (np.arange(w, dtype=np.float32) - left) / (right - left if abs(right - left) > 1 else 1.0)
        row = 1 / (a + (b - a) * along.clip(0, 1))
        self.depth[window][inside] = np.broadcast_to(row, (h, w))[inside]

    def shade_ground(self, points: Sequence[Sequence[float]], strength: float, blur: int = 5) -> None:
        """Darken the ground (not the labels) inside a polygon given in metres."""
        corners = np.round(np.clip(self.camera.project(np.asarray(points)), -9000, 9000)).astype(np.int32)
        height, width = self.ids.shape
        (left, top), (right, bottom) = corners.min(0) - blur, corners.max(0) + blur + 1
        left, right = (int(np.clip(v, 0, width)) for v in (left, right))
        top, bottom = (int(np.clip(v, 0, height)) for v in (top, bottom))
        if left == right or top == bottom:
            return
        mask = np.zeros((bottom - top, right - left), np.float32)
        cv2.fillPoly(mask, [corners - np.int32((left, top))], strength)
        self.color[top:bottom, left:right] *= (1 - cv2.blur(mask, (blur, blur)))[..., None]

    def glow(self, x: float, y: float, depth: float, radius: float, color: Color) -> None:
        """Add a light at (x, y), painted at the end unless something nearer hides it."""
        self.glows.append((x, y, depth, radius, color))


@dataclass
class _Scene:
    """Parts of one image. ``things`` are painted from far to near: (distance, painter)."""

    rng: Rng
    canvas: _Canvas
    light: _Light
    road: float  # half width, metres
    pavement: float  # |X| of the outer edge of the sidewalks
    noise: np.ndarray  # float32, periodic, mean 0, about -1..1
    things: list[tuple[float, Callable[[], None]]] = field(default_factory=list)
    lamps: list[tuple[float, float]] = field(default_factory=list)  # X, Z

    def add(self, distance: float, painter: Callable[..., None], *args: float) -> None:
        """Add a thing at a distance, painted by ``painter(scene, *args)``."""
        self.things.append((distance, lambda: painter(self, *args)))


def paint(seed: int, index: int, *, width: int = 288, height: int = 192,
          weather: str | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Paint scene ``index`` of the series ``seed``.

    Args:
        seed, index: not negative; together they determine the image.
        width, height: pixels.
        weather: one of ``WEATHERS``; by default they alternate with the index.

    Returns:
        image, uint8 (height, width, 3) RGB; mask, uint8 (height, width), ids of ``CLASSES``, and IGNORE on
        the boundaries between classes and on the bonnet of the camera's car.

    Raises:
        UnknownNameError: no such weather.
    """
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, index])))
    weather = weather or WEATHERS[index % len(WEATHERS)]
    if weather not in _LIGHTS:
        raise UnknownNameError("weather", weather, WEATHERS)
    light = _LIGHTS[weather]
    w, h = width * _FINE, height * _FINE
    road = rng.uniform(3.4, 5.0)
    camera = _Camera(f=w * rng.uniform(.72, .9), cx=w * rng.uniform(.44, .56),
                     horizon=h * rng.uniform(.40, .50), height=rng.uniform(1.45, 2.1),
                     offset=rng.uniform(.15, .5) * road, curve=rng.normal(0, .0014))
    scene = _Scene(rng, _Canvas(h, w, camera, light), light, road, road + rng.uniform(2.0, 3.6), _noise(rng))
    _plan(scene)
    _sky(scene)
    _ground(scene)
    _skyline(scene)
    for _, painter in sorted(scene.things, key=lambda thing: -thing[0]):
        painter()
    _air(scene)
    _lights(scene)
    if rng.random() < 0.6:
        _bonnet(scene)
    return _finish(scene)


def _plan(scene: _Scene) -> None:
    """Draw the places of all things."""
    rng, road, pavement = scene.rng, scene.road, scene.pavement
    busy = rng.uniform(.5, 1.0)
    for side in (-1, 1):
        green = rng.random() < .25  # a park instead of houses
        z = rng.uniform(1.0, 4.0)
        while z < _FAR:
            length = rng.uniform(6, 14)
            if green or rng.random() < .16:
                scene.add(z + length, _hedge, side, z, z + length)
                for _ in range(2):
                    at = z + rng.uniform(0, length)
                    scene.add(at, _tree, side * (pavement + rng.uniform(1.5, 4.0)), at, rng.uniform(5, 9))
            else:
                scene.add(z + length, _house, side, z, z + length)
            z += length
        if rng.random() < .65:  # an avenue of trees
            z, step = rng.uniform(7, 13), rng.uniform(9, 14)
            while z < 45:
                scene.add(z, _tree, side * (pavement - rng.uniform(.3, .6)), z, rng.uniform(4, 6.5))
                z += step
        z, step = rng.uniform(5.5, 14), rng.uniform(13, 20)
        while z < 36:  # street lamps
            scene.lamps.append((side * (road + .45), z))
            scene.add(z, _lamp, side, side * (road + .45), z)
            z += step
        for _ in range(rng.integers(1, 3)):
            at = rng.uniform(5.5, 16)
            scene.add(at, _sign, side * (road + rng.uniform(.35, .7)), at)
        z = rng.uniform(5, 16)
        while z < 50:  # parked cars
            if rng.random() < .55 * busy:
                scene.add(z, _car, side * (road - 1.05), z, side if rng.random() < .8 else -side)
            z += rng.uniform(5.6, 9)
        for _ in range(rng.integers(2, 5)):  # people on the sidewalk
            at = 4.6 + 9 * rng.random() ** 1.3
            scene.add(at, _person, side * rng.uniform(road + .3, pavement - .3), at)
    for lane, least in ((1, 8.0), (-1, 7.0)):  # traffic: ahead, and coming
        if rng.random() < .75:
            at = rng.uniform(least, 30)
            scene.add(at, _car, lane * road * .42, at, lane)
    for _ in range(rng.integers(0, 3)):  # people who cross the road
        at = rng.uniform(5.0, 10)
        scene.add(at, _person, rng.uniform(-road, road) * .8, at)


# ---- background -----------------------------------------------------------------------------


def _noise(rng: Rng, size: int = 256) -> np.ndarray:
    """Periodic fractal noise: float32 (size, size), mean 0, most of it within -1..1."""
    total = np.zeros((size, size), np.float32)
    for octave in (4, 8, 16, 32, 64, 128):
        coarse = rng.standard_normal((octave, octave)).astype(np.float32)
        wrapped = np.pad(coarse, 2, mode="wrap")
        scale = size // octave
        big = cv2.resize(wrapped, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
        total += big[2 * scale:2 * scale + size, 2 * scale:2 * scale + size] * (2.0 / octave) ** .75
    return total / (2 * total.std())


def _sky(scene: _Scene) -> None:
    canvas, light, rng = scene.canvas, scene.light, scene.rng
    height, width = canvas.ids.shape
    top = max(int(canvas.camera.horizon) + 2, 1)
    height_share = (np.linspace(0, 1, top, dtype=np.float32) ** 1.6)[:, None, None]
    sky = np.float32(light.zenith) * (1 - height_share) + np.float32(light.horizon) * height_share
    sky = np.repeat(sky, width, 1)
    # clouds: noise stretched sideways, and ever flatter towards the horizon
    rows = 60 / (1.15 - np.linspace(0, 1, top, dtype=np.float32))[:, None] + rng.uniform(0, 256)
    columns = np.arange(width, dtype=np.float32)[None] * .22 + rng.uniform(0, 256)
    cover = cv2.remap(scene.noise, np.broadcast_to(columns, (top, width)) % 256,
                      np.broadcast_to(rows, (top, width)) % 256, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    cover = np.clip((cover + light.clouds * 1.6 - .75) * 1.3, 0, .85)[..., None]
    cloud = np.clip(np.float32(light.horizon) * 1.06 + .04, 0, 1) if not light.lamps else \
        np.float32(light.horizon) * .55 + np.float32(light.zenith) * .6
    sky = sky * (1 - cover) + cloud * cover
    if light.night:  # stars, and in some images a moon
        stars = rng.integers((0, 0), (top, width), (int(top * width / 1500), 2))
        sky[stars[:, 0], stars[:, 1]] += rng.uniform(.1, .8, (len(stars), 1)).astype(np.float32)
        if rng.random() < .6:
            canvas.glow(rng.uniform(.1, .9) * width, rng.uniform(.05, .35) * top, 1e4, 14, (.95, .93, .8))
    elif light.shadow > .2:  # a sun
        canvas.glow(rng.uniform(0, 1) * width, rng.uniform(.1, .8) * top, 1e4, 60,
                    np.float32(light.horizon) * .6)
    canvas.color[:top] = sky[:height]


def _ground(scene: _Scene) -> None:
    canvas, light, rng = scene.canvas, scene.light, scene.rng
    height, width = canvas.ids.shape
    x, z = canvas.camera.ground(height, width)
    first = int(np.argmax(np.isfinite(z[:, 0])))
    x, z = x[first:], z[first:]
    side = np.abs(x)
    fade = np.exp(-z / 18)

    def grain(scale: float) -> np.ndarray:
        rows = np.broadcast_to((z * scale) % 256, x.shape)
        return fade * cv2.remap(scene.noise, (x * scale) % 256, rows, cv2.INTER_LINEAR,
                                borderMode=cv2.BORDER_WRAP)

    coarse, fine = grain(9.0), grain(47.0)
    asphalt = np.float32(rng.uniform(.27, .46)) * np.float32([1, 1, rng.uniform(.98, 1.06)])
    paving = np.float32(rng.uniform(.44, .66)) * np.float32([rng.uniform(1, 1.1), 1, rng.uniform(.86, 1)])
    verge = np.float32([rng.uniform(.24, .42), rng.uniform(.40, .50), .18])
    color = np.empty((*x.shape, 3), np.float32)
    ids = np.full(x.shape, ROAD, np.uint8)

    color[:] = asphalt * (1 + .13 * coarse + .10 * fine)[..., None]
    tracks = np.exp(-((np.abs(side - scene.road * .42) - .75) / .3) ** 2)
    color *= (1 - .10 * tracks)[..., None]

    painted = _markings(scene, x, z)
    worn = np.clip(.92 - .22 * np.maximum(coarse, 0), 0, 1)[painted]
    color[painted] = color[painted] * (1 - worn)[:, None] + np.float32([.88, .88, .84]) * worn[:, None]
    ids[painted] = MARKING

    walk = side > scene.road
    tile = rng.uniform(.5, 1.0)
    joint = ((x % tile < .05) | (z % tile < .05 * (1 + z / 6))) & (z < 16)
    color[walk] = paving * (1 + .10 * coarse + .06 * fine - .18 * joint)[walk][:, None]
    kerb = walk & (side < scene.road + .18)
    color[kerb] = color[kerb] * .3 + np.float32([.70, .69, .66]) * .7
    ids[walk] = SIDEWALK
    grass = side > scene.pavement + .05
    color[grass] = verge * (1 + .3 * coarse + .3 * fine)[grass][:, None]
    ids[grass] = VEGETATION

    if light.snow:
        depth = light.snow * np.clip(np.where(side < scene.road, .52 + .5 * coarse - .45 * tracks,
                                              .85 + .3 * coarse), 0, 1)
        depth[painted] *= .25  # otherwise the paint would be invisible
        depth = depth[..., None]
        color = color * (1 - depth) + np.float32([.93, .95, .98]) * depth
    color *= np.float32(light.ambient)
    if light.shadow > .2:  # one side of the street lies in the shadow of its houses
        edge = scene.road * rng.uniform(-.5, 1.2)
        edge = edge + 1.2 * np.sin(z / 4 + rng.uniform(0, 6)) * (np.sin(z / 9) > 0)
        dark = np.clip((x * rng.choice((-1, 1)) - edge) / .4, 0, 1) * light.shadow
        color *= (1 - dark)[..., None]
    if light.lamps:
        for lx, lz in scene.lamps:
            pool = np.exp(-((x - lx * .75) ** 2 + (z - lz) ** 2) / 18.0)[..., None]
            color *= 1 + pool * np.float32([2.1, 1.7, 1.0]) * (.75 if light.night else .25)
        ahead = np.exp(-((x - canvas.camera.offset) / 3.2) ** 2 - ((z - 8) / 8) ** 2)[..., None]
        color *= 1 + ahead * (1.5 if light.night else .2)
    canvas.color[first:] = color
    canvas.ids[first:] = ids
    canvas.depth[first:] = z


def _markings(scene: _Scene, x: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Return the ground points (X, Z) on which the road is painted: bool."""
    rng, road = scene.rng, scene.road
    half = rng.uniform(.16, .22)
    phase, period = rng.uniform(0, 6), rng.uniform(4.5, 7)
    middle = (np.abs(x) < half) & ((z + phase) % period < period * rng.uniform(.5, .7))
    if rng.random() < .25:
        middle = (np.abs(np.abs(x) - 2 * half) < half)  # a double line
    painted = middle
    if rng.random() < .7:
        painted = painted | (np.abs(np.abs(x) - road + .35) < half * .9)
    if rng.random() < .45:  # a zebra crossing
        start = rng.uniform(5, 11)
        band = (z > start) & (z < start + 3.6) & (np.abs(x) < road - .3)
        painted = np.where((z > start - .8) & (z < start + 4.4), band & (x % 1.5 < .8), painted)
    return painted & (z < 30) & (np.abs(x) < road)


def _skyline(scene: _Scene) -> None:
    """Paint the end of the street: trees or houses, small and hazy."""
    canvas, rng = scene.canvas, scene.rng
    width = canvas.ids.shape[1]
    base = canvas.camera.horizon + 3
    x = -10.0
    while x < width:
        step = rng.uniform(14, 46)
        top = base - rng.uniform(10, 46)
        if rng.random() < .45:
            tone = rng.uniform(.3, .6) * np.float32([1, rng.uniform(.92, 1), rng.uniform(.85, 1)])
            block = np.array([(x, base), (x, top), (x + step, top), (x + step, base)])
            canvas.shape(block, tone, BUILDING, _FAR)
        else:
            for _ in range(4):
                canvas.disk(x + rng.uniform(0, step), base - rng.uniform(0, 14), step * .45,
                            rng.uniform(8, 16), (.22, .34, .16), VEGETATION, _FAR, shade=rng.uniform(.8, 1.2))
        x += step


# ---- things ---------------------------------------------------------------------------------


_WALLS = ((.62, .33, .25), (.80, .70, .52), (.72, .72, .70), (.55, .57, .60), (.85, .80, .72), (.56, .66, .74),
          (.82, .58, .42), (.48, .42, .38), (.60, .68, .56))


def _house(scene: _Scene, side: int, near: float, far: float) -> None:
    rng, canvas = scene.rng, scene.canvas
    tall = rng.uniform(5.5, 15)
    front = scene.pavement + rng.uniform(0, .25)
    deep = rng.uniform(6, 10)
    tone = np.float32(_WALLS[rng.integers(len(_WALLS))]) * rng.uniform(.8, 1.12)
    texture = _facade(scene, far - near, tall, tone)
    if side > 0:
        texture = texture[:, ::-1]
    ends = (far, near) if side > 0 else (near, far)  # from left to right in the image
    # the gable, which faces the camera, then the front along the street
    roof = rng.uniform(0, 2.4) if rng.random() < .5 else 0.0
    x0, x1 = side * front, side * (front + deep)
    ridge = (x0 + x1) / 2, tall + roof
    if near > 1.5:
        canvas.solid([(x0, 0, near), (x0, tall, near), (*ridge, near), (x1, tall, near), (x1, 0, near)], tone,
                     BUILDING, shade=.72)
    if roof:
        canvas.solid([(x0, tall, near), (x0, tall, far), (*ridge, far), (*ridge, near)],
                     _snowy(scene, np.float32([.40, .24, .20]), 1.0), BUILDING, shade=rng.uniform(.7, 1.1))
    a, b = ends
    corners = canvas.camera.project([(x0, tall, a), (x0, tall, b), (x0, 0, b), (x0, 0, a)])
    canvas.wall(texture, corners, BUILDING, ends)


def _facade(scene: _Scene, length: float, tall: float, tone: np.ndarray) -> np.ndarray:
    """Paint the front of a house with its light: float32 (h, w, 3), 20 pixels per metre."""
    rng, canvas, light = scene.rng, scene.canvas, scene.light
    unit = 20
    h, w = int(tall * unit), int(length * unit)
    grain = cv2.resize(scene.noise, (w, h), interpolation=cv2.INTER_LINEAR)
    face = canvas.lit(tone) * (1 + .07 * grain)[..., None]
    if rng.random() < .35:  # courses of brick
        face[::6] *= .88
    storey, bay = int(rng.uniform(2.7, 3.4) * unit), int(rng.uniform(1.7, 2.8) * unit)
    ww, wh = int(bay * rng.uniform(.38, .62)), int(storey * rng.uniform(.45, .62))
    frame = canvas.lit((.86, .85, .82) if rng.random() < .6 else (.25, .23, .22))
    dark, warm = canvas.lit((.20, .26, .33)), np.float32([1.0, .80, .45])
    glass_sky = canvas.lit(np.float32(light.horizon) * .55 + .05)
    lit_fraction = .5 if light.lamps else .03
    shop = rng.random() < .45
    for row, bottom in enumerate(range(h, storey // 2, -storey)):
        for left in range(bay // 2 - ww // 2, w - ww, bay):
            top = bottom - storey // 5 - wh
            if top < 3 or left < 2 or (row == 0 and shop):
                continue
            pane = warm * rng.uniform(.6, 1.05) if rng.random() < lit_fraction else \
                (dark if rng.random() < .6 else glass_sky)
            face[top - 2:top + wh + 2, left - 2:left + ww + 2] = frame
            face[top:top + wh, left:left + ww] = pane
            face[top:top + wh // 3, left:left + ww] *= .82
            face[top:top + wh, left + ww // 2] = frame
        if rng.random() < .5:
            face[max(bottom - storey, 0):max(bottom - storey, 0) + 3] *= .75  # a cornice
    ground = h - storey
    if shop and ground > 0:
        awning = canvas.lit(rng.uniform(.15, .9, 3))
        face[ground + storey // 3:h - 6, 6:w - 6] = warm * .8 if light.lamps else dark * 1.2
        for left in range(6, w - 6, 2 * unit):
            face[ground + storey // 3:h - 6, left:left + 3] = frame
        face[ground + 4:ground + storey // 3, 3:w - 3] = awning
        face[ground + 4:ground + storey // 3, 3:w - 3:12] *= .8
    else:
        door = int(rng.uniform(.1, .8) * w)
        face[h - 42:, door:door + 20] = canvas.lit(rng.uniform(.1, .5, 3))
    face[:5] *= .7
    return np.ascontiguousarray(face, np.float32)


def _hedge(scene: _Scene, side: int, near: float, far: float) -> None:
    """Paint bushes beyond the sidewalk."""
    rng, canvas = scene.rng, scene.canvas
    tone = np.float32([.20, .33, .13]) * rng.uniform(.8, 1.3)
    z = far
    while z > max(near, 2.5):
        for _ in range(4):
            x = side * (scene.pavement + rng.uniform(.5, 1.3))
            x, y = canvas.camera.project([(x, rng.uniform(.3, 1.0), z)])[0]
            r = canvas.camera.f / z * rng.uniform(.35, .6)
            canvas.disk(x, y, r, r, _snowy(scene, tone, .4), VEGETATION, z, shade=rng.uniform(.7, 1.2))
        z -= max(1.0, z * .06)


_LEAVES = ((.21, .36, .12), (.30, .42, .14), (.16, .30, .16), (.56, .40, .12), (.55, .26, .12))


def _tree(scene: _Scene, x: float, z: float, tall: float) -> None:
    rng, canvas = scene.rng, scene.canvas
    unit = canvas.camera.f / z
    foot, head = canvas.camera.project([(x, 0, z), (x, tall, z)])
    tone = np.float32(_LEAVES[rng.choice(len(_LEAVES), p=(.3, .25, .2, .15, .1))])
    _contact_shadow(scene, x, z, 1.2)
    canvas.limb(foot, foot * .45 + head * .55, unit * .14, (.30, .23, .17), VEGETATION, z)
    count = int(np.clip(unit * tall * .25, 12, 48))
    # from the back and bottom, dark, to the front and top, light
    spots = rng.normal(0, (.40, .36), (count, 2)).clip(-1, 1)
    spots = spots[np.argsort(-spots[:, 1] + rng.normal(0, .3, count))]
    for k, (dx, dy) in enumerate(spots):
        r = unit * tall * rng.uniform(.08, .15)
        shade = .55 + .6 * k / count + rng.uniform(-.08, .08)
        canvas.disk(head[0] + dx * unit * tall * .33, head[1] + (.32 + dy * .30) * unit * tall, r, r * .9,
                    _snowy(scene, tone, .5 * (dy < 0)), VEGETATION, z, shade=shade)


def _snowy(scene: _Scene, tone: np.ndarray, most: float) -> np.ndarray:
    cover = most * scene.light.snow
    return tone * (1 - cover) + np.float32([.9, .92, .95]) * cover


def _contact_shadow(scene: _Scene, x: float, z: float, radius: float) -> None:
    t = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    ring = np.stack([x + radius * np.cos(t), 0 * t, np.maximum(z + radius * .6 * np.sin(t), 1.0)], 1)
    scene.canvas.shade_ground(ring, .18 + scene.light.shadow * .6)


def _lamp(scene: _Scene, side: int, x: float, z: float) -> None:
    canvas = scene.canvas
    tone = (.30, .31, .33) if scene.rng.random() < .6 else (.55, .57, .58)
    unit = canvas.camera.f / z
    tall = scene.rng.uniform(5.0, 6.2)
    foot, top, tip = canvas.camera.project([(x, 0, z), (x, tall, z), (x - side * 1.3, tall + .25, z)])
    canvas.limb(foot, foot * .85 + top * .15, unit * .21, tone, POLE, z)
    canvas.limb(foot, top, unit * .14, tone, POLE, z)
    canvas.limb(top, tip, unit * .11, tone, POLE, z)
    canvas.disk(*tip, unit * .46, unit * .19, (1.0, .9, .65) if scene.light.lamps else tone, POLE, z,
                glows=scene.light.lamps)
    if scene.light.lamps:
        canvas.glow(*tip, z, unit * 1.5 + 6, (.9, .68, .32))


def _sign(scene: _Scene, x: float, z: float) -> None:
    """Paint a traffic sign or a traffic light on its post."""
    rng, canvas = scene.rng, scene.canvas
    unit = canvas.camera.f / z
    tall = rng.uniform(2.3, 3.0)
    foot, head = canvas.camera.project([(x, 0, z), (x, tall, z)])
    canvas.limb(foot, head, unit * .12, (.52, .53, .54), POLE, z)
    sign, r = rng.integers(4), unit * rng.uniform(.5, .65)
    white, red, blue = (.92, .92, .92), (.80, .10, .12), (.10, .28, .66)
    night = scene.light.lamps  # signs reflect headlights
    shade = .75 if night else 1.0
    if sign == 0:  # no entry, or a limit
        canvas.disk(*head, r, r, red, POLE, z, glows=night, shade=shade)
        if rng.random() < .5:
            canvas.disk(*head, r * .72, r * .72, white, POLE, z, glows=night, shade=shade)
        else:
            bar = np.array([(-.7, -.18), (.7, -.18), (.7, .18), (-.7, .18)])
            canvas.shape(head + bar * r, white, POLE, z, glows=night, shade=shade)
    elif sign == 1:  # a warning
        triangle = np.array([(0, -1.1), (1.05, .75), (-1.05, .75)])
        canvas.shape(head + triangle * r, red, POLE, z, glows=night, shade=shade)
        canvas.shape(head + triangle * r * .6, white, POLE, z, glows=night, shade=shade)
    elif sign == 2:  # parking, or a crossing
        square = np.array([(-.85, -.85), (.85, -.85), (.85, .85), (-.85, .85)])
        canvas.shape(head + square * r, blue, POLE, z, glows=night, shade=shade)
        canvas.shape(head + square * r * (.25, .6), white, POLE, z, glows=night, shade=shade)
    else:
        box = np.array([(-.5, -1.3), (.5, -1.3), (.5, 1.3), (-.5, 1.3)])
        canvas.shape(head + box * r, (.10, .10, .11), POLE, z)
        on = rng.integers(3)
        for k, color in enumerate(((.95, .15, .10), (.95, .75, .10), (.15, .85, .35))):
            y = head[1] + (k - 1) * r * .82
            canvas.disk(head[0], y, r * .34, r * .34, color, POLE, z, glows=k == on,
                        shade=1 if k == on else .3)
            if k == on and night:
                canvas.glow(head[0], y, z, r * 1.4, np.float32(color) * .7)


# Profiles, rear to front: (distance from the rear, height) in metres; glass lies between the marked points.
_BODIES = {
    "saloon": (1.78, [(0, .30), (0, .82), (.10, .95), (.75, 1.0), (1.30, 1.42), (2.55, 1.44), (3.25, .98),
                      (4.15, .86), (4.35, .62), (4.35, .30)], (3, 5), .85, 3.45),
    "hatchback": (1.72, [(0, .30), (0, .75), (.08, .92), (.42, 1.46), (2.30, 1.50), (2.95, 1.00), (3.70, .88),
                         (3.85, .62), (3.85, .30)], (2, 4), .70, 3.05),
    "van": (1.95, [(0, .35), (0, .95), (.05, 1.15), (.12, 1.95), (.30, 2.10), (3.70, 2.10), (4.40, 1.25),
                   (4.85, 1.05), (4.95, .70), (4.95, .35)], (2, 5), .95, 3.95),
}


_PAINTS = ((.70, .10, .10), (.12, .22, .55), (.10, .38, .28), (.85, .65, .12), (.45, .62, .78),
           (.60, .35, .15))


def _car(scene: _Scene, x: float, z: float, heading: int) -> None:
    """Paint a vehicle whose near end is at ``z``; heading 1 drives away from the camera, -1 towards it."""
    rng, canvas = scene.rng, scene.canvas
    body = ("saloon", "hatchback", "van")[rng.choice(3, p=(.45, .37, .18))]
    wide, outline, glass, *axles = _BODIES[body]
    tone = np.float32([rng.uniform(.12, .9)] * 3)
    if rng.random() < .55:
        tone = np.float32(_PAINTS[rng.integers(len(_PAINTS))]) * rng.uniform(.8, 1.1)
    window = np.float32([.10, .13, .16])
    length = outline[-1][0]

    def at(s: float) -> float:
        return z + (s if heading > 0 else length - s)

    left, right = x - wide / 2, x + wide / 2
    canvas.shade_ground([(left - .15, 0, z - .2), (right + .15, 0, z - .2), (right + .15, 0, z + length),
                         (left - .15, 0, z + length)], .55)
    faces: list[tuple[float, list, Color, float]] = []
    for k, ((s0, y0), (s1, y1)) in enumerate(zip(outline, outline[1:])):
        flat = abs(s1 - s0) > abs(y1 - y0)
        quad = [(left, y0, at(s0)), (right, y0, at(s0)), (right, y1, at(s1)), (left, y1, at(s1))]
        faces.append(((at(s0) + at(s1)) / 2, quad, tone, 1.12 if flat else .92))
        if k in glass:
            post = .12
            pane = [(left + post, y0 + .04 * (y1 > y0), at(s0)), (right - post, y0, at(s0)),
                    (right - post * 1.6, y1 - .05 * (y1 > y0), at(s1)), (left + post * 1.6, y1, at(s1))]
            faces.append(((at(s0) + at(s1)) / 2 - .01, pane, window, 1.0))
    edge = left if x > canvas.camera.offset else right
    faces.append((z + length / 2, [(edge, y, at(s)) for s, y in outline], tone, .74))
    first, last = glass
    belt = min(outline[first][1], outline[last + 1][1])
    panes = [(edge, belt + .02, at(outline[first][0] + .25)), (edge, outline[first + 1][1] - .09,
             at(outline[first + 1][0] + .12)), (edge, outline[last][1] - .09, at(outline[last][0] - .12)),
             (edge, belt + .02, at(outline[last + 1][0] - .35))]
    faces.append((z + length / 2 - .02, panes, window, 1.0))
    for _, quad, color, shade in sorted(faces, key=lambda face: -face[0]):
        canvas.solid(quad, color, VEHICLE, shade=shade)
    t = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    for axle in axles:
        for radius, color in ((.33, (.06, .06, .06)), (.18, (.55, .55, .56))):
            ring = np.stack([np.full(16, edge), .33 + radius * np.sin(t), at(axle) + radius * np.cos(t)], 1)
            canvas.solid(ring, color, VEHICLE)
    _car_end(scene, left, right, z, heading)


def _car_end(scene: _Scene, left: float, right: float, z: float, heading: int) -> None:
    """Paint lights, number plate and tyres of the end that faces the camera."""
    canvas, night = scene.canvas, scene.light.lamps
    near = z - .02
    color = (.75, .06, .05) if heading > 0 else (.95, .93, .85)

    def box(x0: float, x1: float, y0: float, y1: float) -> list:
        return [(x0, y0, near), (x1, y0, near), (x1, y1, near), (x0, y1, near)]

    for x in (left, right - .22):
        canvas.solid(box(x, x + .22, .02, .32), (.05, .05, .05), VEHICLE)
    canvas.solid(box(left, right, .30, .42), (.12, .12, .12), VEHICLE)
    if heading < 0:
        canvas.solid(box(left + .45, right - .45, .48, .62), (.10, .10, .11), VEHICLE)
    middle = (left + right) / 2
    canvas.solid(box(middle - .26, middle + .26, .44, .56), (.88, .88, .80), VEHICLE)
    for x in (left + .05, right - .37):
        canvas.solid(box(x, x + .32, .60, .76), color, VEHICLE, glows=night)
        if night:
            at = canvas.camera.project([(x + .16, .68, near)])[0]
            canvas.glow(*at, near, canvas.camera.f / z * (.35 if heading > 0 else .8) + 3,
                        (.9, .08, .05) if heading > 0 else (.85, .82, .68))


def _person(scene: _Scene, x: float, z: float) -> None:
    rng, canvas = scene.rng, scene.canvas
    tall = rng.uniform(1.55, 1.9)
    unit = canvas.camera.f / z
    foot = canvas.camera.project([(x, 0, z)])[0]
    _contact_shadow(scene, x, z, .35)
    skin = np.float32([(.90, .72, .60), (.75, .55, .42), (.48, .33, .24), (.36, .24, .18)][rng.integers(4)])
    shirt, legs = rng.uniform(.08, .95, 3), rng.uniform(.06, .55, 3) * (1, 1, 1.25)
    hair = rng.uniform(.05, .45) * skin

    def spot(dx: float, y: float) -> np.ndarray:
        return foot + np.array([dx * unit * tall, -y * unit * tall])

    def limb(a: np.ndarray, b: np.ndarray, radius: float, color: Color, shade: float = 1.0) -> None:
        canvas.limb(a, b, 1.15 * radius * unit * tall, color, PERSON, z, shade=shade)

    step, swing, way = rng.uniform(.02, .13), rng.uniform(.02, .12), rng.choice((-1, 1))
    limb(spot(-.06, .78), spot(-.06 - swing, .48), .042, shirt, .7)
    for dx, shade in ((-step, .75), (step, 1.0)):
        limb(spot(dx * .3, .47), spot(dx, .05), .058, legs, shade)
        limb(spot(dx, .03), spot(dx + way * .04, .025), .034, (.08, .07, .07), shade)
    limb(spot(0, .54), spot(0, .76), .105, shirt)
    if rng.random() < .25:  # a coat or a skirt
        hem = rng.uniform(.26, .36)
        cloth = np.stack([spot(-.09, .56), spot(.09, .56), spot(.14, hem), spot(-.14, hem)])
        canvas.shape(cloth, shirt, PERSON, z, shade=.92)
    limb(spot(.07, .78), spot(.07 + swing, .48), .042, shirt, .88)
    limb(spot(.07 + swing, .47), spot(.07 + swing, .45), .035, skin)
    limb(spot(0, .84), spot(0, .87), .04, skin, .85)
    head = spot(0, .925)
    r = .068 * unit * tall
    canvas.disk(*head, r, r * 1.15, skin, PERSON, z)
    crown = np.array([(-1.05, -.1), (-.9, -.9), (0, -1.3), (.9, -.9), (1.05, -.1), (0, -.45)])
    canvas.shape(head + crown * r, hair, PERSON, z)
    if scene.light.wet and rng.random() < .5:  # an umbrella
        top, cloth = spot(.05, 1.13), rng.uniform(.1, .9, 3)
        limb(spot(.05, .6), top, .012, (.1, .1, .1))
        t = np.linspace(np.pi, 2 * np.pi, 12)
        dome = np.stack([np.cos(t) * .34, np.sin(t) * .2 + .08], 1)
        canvas.shape(top + dome * unit * tall, cloth, PERSON, z)


# ---- air, light and lens --------------------------------------------------------------------


def _air(scene: _Scene) -> None:
    """Add haze that grows with the distance, and reflections on a wet road."""
    canvas, light = scene.canvas, scene.light
    haze = (1 - np.exp2(-canvas.depth / light.sight))[..., None]
    haze[canvas.ids == SKY] = 0
    canvas.color += (np.float32(light.haze) - canvas.color) * haze
    if light.wet:
        height = canvas.ids.shape[0]
        rows = np.clip(2 * canvas.camera.horizon - np.arange(height) * 1.0, 0, height - 1).astype(int)
        reflection = cv2.blur(canvas.color[rows], (5, 25))
        wet = np.isin(canvas.ids, (ROAD, MARKING, SIDEWALK)) * light.wet
        wet = (wet * np.float32([.55])).astype(np.float32)[..., None]
        canvas.color += (reflection - canvas.color * .95) * wet


def _lights(scene: _Scene) -> None:
    canvas = scene.canvas
    height, width = canvas.ids.shape
    for x, y, depth, radius, color in canvas.glows:
        column, row = int(round(x)), int(round(y))
        if not (0 <= row < height and 0 <= column < width) or canvas.depth[row, column] < depth - .5:
            continue
        reach = int(radius * 2.5) + 1
        rows = slice(max(row - reach, 0), min(row + reach + 1, height))
        columns = slice(max(column - reach, 0), min(column + reach + 1, width))
        dy = np.arange(rows.start, rows.stop, dtype=np.float32)[:, None] - y
        dx = np.arange(columns.start, columns.stop, dtype=np.float32)[None] - x
        shine = np.exp(-np.sqrt(dx * dx + dy * dy) / (radius * .42))
        canvas.color[rows, columns] += shine[..., None] * np.float32(color)


def _bonnet(scene: _Scene) -> None:
    """Paint the bonnet of the camera's car, which belongs to no class."""
    canvas, rng = scene.canvas, scene.rng
    height, width = canvas.ids.shape
    t = np.linspace(np.pi, 2 * np.pi, 40)
    tone, high = canvas.lit(rng.uniform(.08, .5, 3)), height * rng.uniform(.07, .12)
    for k in range(6):  # a dark rim, and a sheen towards the middle
        size = 1 - k * .09
        x, y = width / 2 + np.cos(t) * width * .62 * size, height + 4 + np.sin(t) * high * size
        shape = np.stack([x, y], 1)
        value = [float(v) for v in tone * (.55 + .16 * k)]
        cv2.fillPoly(canvas.color, [shape.astype(np.int32)], value)
        cv2.fillPoly(canvas.ids, [shape.astype(np.int32)], IGNORE)


def _finish(scene: _Scene) -> tuple[np.ndarray, np.ndarray]:
    """Reduce fine pixels to pixels; add rain or snow and the effects of lens and sensor."""
    canvas, rng, light = scene.canvas, scene.rng, scene.light
    height, width = canvas.ids.shape
    image = cv2.resize(canvas.color, (width // _FINE, height // _FINE), interpolation=cv2.INTER_AREA)
    h, w = image.shape[:2]
    if light.wet or light.snow:
        layer = np.zeros((h, w), np.float32)
        for _ in range(h * w // (420 if light.wet else 350)):
            x, y = rng.uniform(0, w), rng.uniform(0, h)
            if light.wet:
                fall = rng.uniform(4, 11)
                end = int(x - fall * .18), int(y + fall)
                cv2.line(layer, (int(x), int(y)), end, rng.uniform(.05, .22), 1)
            else:  # centre and radius in eighths of a pixel
                radius, white = int(8 * rng.uniform(.3, 1.1)), rng.uniform(.2, .75)
                cv2.circle(layer, (int(x * 8), int(y * 8)), radius, white, -1, cv2.LINE_AA, 3)
        image += (.95 - image) * layer[..., None]
    dy, dx = np.linspace(-1, 1, h, dtype=np.float32)[:, None], np.linspace(-1, 1, w, dtype=np.float32)[None]
    image *= (1 - .13 * (dx * dx + dy * dy))[..., None] * np.float32(rng.uniform(.94, 1.06, 3))
    image += .009 * rng.standard_normal(image.shape, dtype=np.float32)
    image = (image.clip(0, 1) * 255 + .5).astype(np.uint8)

    # a pixel is on a boundary if the fine pixels in it and around it disagree
    square = np.ones((3, 3), np.uint8)
    low, high = (f(canvas.ids, square).reshape(h, _FINE, w, _FINE) for f in (cv2.erode, cv2.dilate))
    mask = canvas.ids[::_FINE, ::_FINE].copy()
    mask[low.min((1, 3)) != high.max((1, 3))] = IGNORE
    return image, mask
