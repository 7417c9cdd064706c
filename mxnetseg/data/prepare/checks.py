"""Checks of single elements of an annotation file, whose errors name the file and the element."""
from __future__ import annotations

from pathlib import Path
from typing import Any, Callable

from ...errors import DataError, short
from ..headers import HIGHEST_LIMIT
from .exports import as_class_name

MOST_PIXELS = 1e6  # a larger coordinate is a mistake


class Checker:
    """Checks of one annotation file.

    Args:
        path: path of the file.
        tool: the tool whose format is expected, for messages.
    """

    def __init__(self, path: Path, tool: str):
        self.path, self.tool = path, tool

    def error(self, where: str, expected: str, received: Any, fix: str = "") -> DataError:
        """Return the error for an element that is not as expected."""
        return DataError(f"{where or 'the file'}: expected {expected}", where=self.path, received=short(received, 200),
                         fix=fix or f"correct it in {self.tool} and export again, or correct or remove this element")

    def dictionary(self, value: Any, where: str) -> dict:
        if not isinstance(value, dict):
            raise self.error(where, "an object", value)
        return value

    def array(self, value: Any, where: str) -> list:
        if not isinstance(value, list):
            raise self.error(where, "a list", value)
        return value

    def text(self, value: Any, where: str) -> str:
        if not isinstance(value, str) or not value.strip():
            raise self.error(where, "a text", value)
        return value

    def name(self, value: Any, where: str) -> str:
        """Return the name of a class, which must fit on one line of classes.txt."""
        name = as_class_name(value) if isinstance(value, str) else None
        if name is None:
            raise self.error(where, "a class name: not empty, on one line, without '#'", value, "rename this class")
        return name

    def number(self, value: Any, where: str, *, most: float = MOST_PIXELS) -> float:
        """Return a number from ``-most`` to ``most``. Text is refused."""
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not -most <= value <= most:
            raise self.error(where, f"a number from {-most:g} to {most:g}", value)
        return float(value)

    def parsed(self, value: Any, where: str, *, most: float = MOST_PIXELS) -> float:
        """Return a number that is given as text."""
        try:
            number = float(value) if isinstance(value, str) and len(value) < 64 and "_" not in value else None
        except ValueError:
            number = None
        if number is None:
            raise self.error(where, "a number", value)
        return self.number(number, where, most=most)

    def whole(self, value: Any, where: str, *, most: int = HIGHEST_LIMIT, least: int = 0) -> int:
        """Return a whole number, given as a number or as decimal digits."""
        if isinstance(value, str) and value.isascii() and len(value) < 12 and value.removeprefix("-").isdecimal():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most \
                or value != int(value):
            raise self.error(where, f"a whole number from {least} to {most}", value)
        return int(value)

    def parsed_all(self, values: list[str], where: Callable[[int], str]) -> list[float]:
        """Return numbers that are given as text; ``where(i)`` is the position of the i-th."""
        try:
            numbers = [float(value) for value in values]
            if all(-MOST_PIXELS <= number <= MOST_PIXELS for number in numbers) and "_" not in "".join(values):
                return numbers
        except ValueError:
            pass
        return [self.parsed(value, where(i)) for i, value in enumerate(values)]

    def points(self, value: Any, where: str, *, least: int = 3) -> list[list[float]]:
        """Return the points ``[[x, y], ...]`` of an outline."""
        points = self.array(value, where)
        if len(points) < least:
            raise self.error(where, f"at least {least} points", points)
        for i, point in enumerate(points):
            if not isinstance(point, list) or len(point) != 2:
                raise self.error(f"{where}[{i}]", "two numbers", point)
            if not all(type(value) in (int, float) and -MOST_PIXELS <= value <= MOST_PIXELS for value in point):
                for value in point:
                    self.number(value, f"{where}[{i}]")
        return [[float(x), float(y)] for x, y in points]
