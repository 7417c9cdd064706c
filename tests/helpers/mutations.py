"""Damage for fuzz tests: seeded and deterministic, so that a failing case can be repeated by its number.

``mutate_json(value, seed)`` damages a structure of JSON, ``mutate_bytes(data, seed)`` a file. The same value and seed
give the same result on every Python. Tests of one format pass ``odd``, what this format's readers may trip over.
"""
from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator, Sequence
from typing import Any

# Values that replace others. ``dump`` can write each as JSON.
ODD_VALUES = (
    None, True, False, 0, -1, 1, 255, 256, 2 ** 31, 2 ** 63, -2 ** 70, 10 ** 400, 0.5, -0.0, 1e308, float("nan"),
    float("inf"), "", " ", "x", "0", "nan", "../../x", "/etc/passwd", "\x00", "\x1b[31m", "\ud800", "ä" * 300,
    "n" * 5000, [], [[]], [None], [0] * 300, {}, {"": None}, {"name": []}, [{"a": [{}]}], [1, "2", None, [3]],
)
ODD_BYTES = (b"\x00", b"\xff", b"\x7f", b"\x80", b"\n", b"\x00" * 8, b"\xff" * 8, b"\xff\xff\xff\x7f", b"{", b"}", b"[",
             b"]", b'"', b",", b":", b"\xef\xbb\xbf", b"\xfe\xff", b"&a *a ", b"!!python/name:os.system ",
             b"1e999", b"9" * 5000)


def mutate_json(value: Any, seed: int, odd: Sequence[Any] = ODD_VALUES) -> Any:
    """Return a copy of a structure of dictionaries and lists with one to three elements damaged."""
    rng, value = random.Random(seed), copy.deepcopy(value)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        spots = list(_spots(value))
        if not spots:
            return rng.choice(odd)
        _damage(*rng.choice(spots), rng, odd)
    return rng.choice(odd) if rng.random() < 0.02 else value


def dump(value: Any) -> bytes:
    """Return a damaged structure as the bytes of a JSON file; NaN, which JSON lacks, as Python writes it."""
    return json.dumps(value).encode()


def mutate_bytes(data: bytes, seed: int, odd: Sequence[bytes] = ODD_BYTES) -> bytes:
    """Return ``data`` with one to eight damages: bits flipped, pieces cut, repeated, exchanged or overwritten."""
    rng, result = random.Random(seed), bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 8))):
        # readers check headers most, so half of the damages are near the beginning
        limit = min(len(result), 64) if rng.random() < 0.5 else len(result)
        at = rng.randrange(limit) if limit else 0
        length = rng.choice((1, 2, 4, 8, 64))
        damage = rng.randrange(7)
        if damage == 0 and result:
            result[at] ^= 1 << rng.randrange(8)
        elif damage == 1 and result:
            result[at] = rng.randrange(256)
        elif damage == 2:
            del result[at:at + length]
        elif damage == 3:
            result[at:at] = result[at:at + length] * rng.choice((1, 2, 50))
        elif damage == 4:
            piece = rng.choice(odd)
            result[at:at + len(piece)] = piece
        elif damage == 5:
            result[at:at] = rng.choice(odd)
        else:
            del result[rng.randrange(len(result) + 1):]
    return bytes(result)


def _spots(value: Any, depth: int = 12) -> Iterator[tuple[Any, Any]]:
    """Yield every (container, key) below ``value``."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in list(items):
        yield value, key
        if depth:
            yield from _spots(item, depth - 1)


def _damage(container: Any, key: Any, rng: random.Random, odd: Sequence[Any]) -> None:
    damage = rng.randrange(6)
    item = container[key]
    if damage == 0:
        del container[key]
    elif damage == 1 and isinstance(container, dict):
        container[rng.choice(("", "x", "root", "pretrained_base", "ctx", "norm"))] = container.pop(key)
    elif damage == 2 and isinstance(item, list):
        container[key] = item * 2 if rng.random() < 0.5 else item[:-1]
    elif damage == 3:
        container[key] = [item]
    elif damage == 4 and isinstance(item, (int, float)) and not isinstance(item, bool):
        container[key] = rng.choice((-item, item * 10 ** 9, item + 0.5, str(item), item + 1))
    elif damage == 5 and rng.random() < 0.2:
        for _ in range(400):  # deeper than a recursive reader may go, not so deep that json cannot write it
            item = [item]
        container[key] = item
    else:
        container[key] = copy.deepcopy(rng.choice(odd))
