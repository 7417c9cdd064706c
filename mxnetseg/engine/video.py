"""Videos as streams of RGB frames, read and written by OpenCV."""
from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np

from ..errors import DataError, EnvironmentProblem
from ..files import atomic_path, no_file

VIDEO_SUFFIXES = (".mp4", ".mov", ".avi", ".mkv", ".webm")
CODECS = {"avc1": "H.264", "mp4v": "MPEG-4 Part 2"}  # of the mp4 files that are written; the first that works is used
_ESTIMATED = (".mkv", ".webm")  # containers that do not store the number of frames
_ROTATES = getattr(cv2, "CAP_PROP_ORIENTATION_AUTO", 49)  # OpenCV before 4.5.2 has no name for it
_USUAL_RATE = 25.0  # frames per second, if a file does not say
# libavcodec prints of damaged frames and of codecs that are missing; errors of this module say it once
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "8")  # AV_LOG_FATAL


class VideoReader:
    """Frames of a video, upright.

    Args:
        path: the file.
        every: give every n-th frame, the first one included.

    Attributes:
        rate: frames per second of what is given: that of the file divided by ``every``.
        count: number of frames that will be given, as the file's header says; 0 if it does not say.
        read: number of frames of the file that were read.

    Raises:
        DataError: the file is no video that OpenCV can read.
    """

    def __init__(self, path: Path, every: int = 1):
        self.path, self._every, self.read = path, every, 0
        problem = no_file(path)
        if problem:
            raise DataError(f"the video {problem}", where=path, fix="check the path")
        self._capture = cv2.VideoCapture(str(path))
        if not self._capture.isOpened():
            raise DataError("a video cannot be opened: it is damaged, incomplete or no video", where=path,
                            received=f"{path.stat().st_size} bytes",
                            fix="play it to check; ffmpeg -i VIDEO -c:v libx264 NEW.mp4 converts it")
        self._capture.set(_ROTATES, 1)  # as phones store it
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        self.rate = (rate if 0 < rate < 1000 else _USUAL_RATE) / every
        self._announced = max(int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)), 0)
        self.count = -(-self._announced // every)

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield uint8 (H, W, 3) RGB frames. Those that are left out are decoded, too, since others depend on them."""
        while self._capture.grab():
            is_wanted = self.read % self._every == 0
            self.read += 1
            if is_wanted:
                is_decoded, frame = self._capture.retrieve()
                if not is_decoded:
                    return
                yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)

    def missing(self) -> int:
        """Return how many frames at the end could not be read, after all that can be were."""
        tolerance = self.rate * self._every if self.path.suffix.lower() in _ESTIMATED else 1
        missing = self._announced - self.read
        return missing if missing > tolerance else 0

    def close(self) -> None:
        """Close the file."""
        self._capture.release()


class VideoWriter:
    """A video that is being written, see :func:`write_video`."""

    def __init__(self, path: Path, rate: float, codec: str):
        self._path, self._rate, self._codec = path, rate, codec
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)
        self.count = 0

    def add(self, frame: np.ndarray) -> None:
        """Append a frame: uint8 (H, W, 3), RGB. An odd last row or column is left out, since codecs take none."""
        height, width = (side - side % 2 for side in frame.shape[:2])
        if self._writer is None:
            self._size = width, height
            self._writer = _open(self._path, self._codec, self._rate, self._size)
            if self._writer is None:
                raise EnvironmentProblem("OpenCV cannot write this video", where=self._path,
                                         received=f"codec {self._codec} ({CODECS[self._codec]}), {width} x {height}, "
                                                  f"{self._rate:g} frames per second", fix="--no-overlay writes the "
                                                  "table only")
        if self._size != (width, height):
            raise DataError("the frames of a video differ in size", where=self._path,
                            received=f"{width} x {height} after {self._size[0]} x {self._size[1]}",
                            fix="ffmpeg -i VIDEO -c:v libx264 NEW.mp4 makes them equal")
        self._writer.write(cv2.cvtColor(frame[:height, :width], cv2.COLOR_RGB2BGR))
        self.count += 1

    def finish(self) -> None:
        """End the file, and check that it holds all frames, because OpenCV reports no error of writing."""
        if self._writer is not None:
            self._writer.release()
        written = _frames_of(self._path)
        if written != self.count:
            raise EnvironmentProblem("the video was not written completely", where=self._path.parent,
                                     received=f"{written} of {self.count} frames", fix="make room on that disk")

    def abandon(self) -> None:
        """Close the file."""
        if self._writer is not None:
            self._writer.release()


@contextmanager
def write_video(path: Path, rate: float, codec: str) -> Iterator[VideoWriter]:
    """Yield a writer of an mp4 file that gets its name when it is complete; otherwise nothing stays.

    Args:
        path: the file.
        rate: frames per second.
        codec: one that :func:`choose_codec` returns.

    Raises:
        EnvironmentProblem: OpenCV cannot write the video, or the disk is full.
    """
    with atomic_path(path) as temporary:
        writer = VideoWriter(temporary, rate, codec)
        try:
            yield writer
            writer.finish()
        finally:
            writer.abandon()


def choose_codec() -> str:
    """Return the first of :data:`CODECS` with which this OpenCV writes a video that it reads again.

    Raises:
        EnvironmentProblem: there is none.
    """
    with TemporaryDirectory() as folder:
        for codec in CODECS:
            path = Path(folder, f"{codec}.mp4")
            writer = _open(path, codec, _USUAL_RATE, (64, 64))
            if writer is not None:
                for _ in range(2):
                    writer.write(np.zeros((64, 64, 3), np.uint8))
                writer.release()
                if _frames_of(path) == 2:
                    return codec
    tried = ", ".join(f"{codec} ({name})" for codec, name in CODECS.items())
    raise EnvironmentProblem("OpenCV cannot write mp4 videos here", received=f"tried the codecs {tried}",
                             fix="pip install opencv-python, which brings FFmpeg; or --no-overlay: the table only")


def _open(path: Path, codec: str, rate: float, size: tuple[int, int]) -> cv2.VideoWriter | None:
    # OpenCV prints that it lacks a codec; old versions have no function for it
    set_level, level = getattr(cv2, "setLogLevel", None), getattr(cv2, "getLogLevel", int)()
    if set_level is not None:
        set_level(0)
    try:
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), rate, size)
    finally:
        if set_level is not None:
            set_level(level)
    return writer if writer.isOpened() else None


def _frames_of(path: Path) -> int:
    if not path.is_file():
        return 0
    capture = cv2.VideoCapture(str(path))
    count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if capture.isOpened() else 0
    capture.release()
    return count
