"""Weight files on this machine and on servers: the caches, GluonCV's store and its mirrors, and verified downloads.

A download that is cut short stays as ``NAME.zip.part`` in mxnetseg's cache. The next attempt continues it, or starts
again if the server cannot send the rest. No file is used before its checksum is verified.
"""
from __future__ import annotations

import hashlib
import http.client
import logging
import os
import re
import shutil
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import IO, Callable, NamedTuple, Optional

from ...files import atomic_write, expand, home, sha256

try:
    import fcntl
except ImportError:  # Windows: two processes that download one file at once then fail at its checksum
    fcntl = None

log = logging.getLogger(__name__)

MIRROR_VARIABLE = "MXNETSEG_MIRROR"
STORE = "https://apache-mxnet.s3-accelerate.dualstack.amazonaws.com/"
TIMEOUT = 30.0  # seconds without an answer
# no server, no such file, no address, an incomplete answer, no zip file, one without the member, a damaged one
BROKEN = (OSError, ValueError, http.client.HTTPException, zipfile.BadZipFile, KeyError, zlib.error)
_BLOCK = 1 << 20

# bytes received so far, and in all if the server says so
Progress = Callable[[int, Optional[int]], None]


class Source(NamedTuple):
    """A place that may have weights.

    Attributes:
        where: its name in messages.
        fetch: returns a file with the right checksum, or raises one of :data:`BROKEN`.
    """

    where: str
    fetch: Callable[[], Path]


class GluonCVFile(NamedTuple):
    """A file of GluonCV's store: its name without an ending, and the SHA-1 that GluonCV publishes."""

    name: str
    sha1: str

    @classmethod
    def of(cls, model: str, sha1: str) -> GluonCVFile:
        """Return the file of a model of GluonCV's zoo."""
        return cls(f"{model}-{sha1[:8]}", sha1)

    @property
    def member(self) -> str:
        """The name of the weights, in the cache and in the archive."""
        return f"{self.name}.params"

    @property
    def on_server(self) -> str:
        """The path of the archive below the address of a server."""
        return f"gluon/models/{self.name}.zip"


def caches() -> list[Path]:
    """Return folders that may contain GluonCV's weight files: first mxnetseg's, then GluonCV's."""
    gluoncv = expand(os.environ.get("MXNET_HOME") or "~/.mxnet")
    return [home() / "models", gluoncv / "models"]


def cached(file: GluonCVFile) -> Iterator[Source]:
    """Yield the places of a file on this machine."""
    for folder in caches():
        path = folder / file.member
        yield Source(str(path), partial(verified, path, file.sha1, "sha1"))


def mirror() -> str | None:
    """Return the address of the user's own server; None if there is none."""
    return os.environ.get(MIRROR_VARIABLE) or None


def stores() -> list[str]:
    """Return the addresses of servers of GluonCV's store."""
    return [address for address in (os.environ.get("MXNET_GLUON_REPO"), STORE) if address]


def at_server(address: str, file: GluonCVFile, progress: Progress | None = None) -> Source:
    """Return a server as a source of a file."""
    url = f"{address.rstrip('/')}/{file.on_server}"
    return Source(url, partial(_download_archive, url, file, progress))


def verified(path: Path, checksum: str, algorithm: str = "sha256") -> Path:
    """Return the file if its checksum begins with the given one, of at least eight digits.

    Raises:
        ValueError: the file does not exist, or its checksum is unknown or wrong.
    """
    if not path.is_file():
        raise ValueError("not there")
    if not re.fullmatch("[0-9a-f]{8,}", checksum):
        raise ValueError("its checksum is not known")
    found = sha256(path) if algorithm == "sha256" else _digest(path, algorithm)
    if not found.startswith(checksum):
        raise ValueError("wrong checksum")
    return path


def _digest(path: Path, algorithm: str) -> str:
    digest = hashlib.new(algorithm)
    with open(path, "rb") as stream:
        for block in iter(partial(stream.read, _BLOCK), b""):
            digest.update(block)
    return digest.hexdigest()


# ---- archives ------------------------------------------------------------------------------------


def _download_archive(url: str, file: GluonCVFile, progress: Progress | None) -> Path:
    """Download an archive and store its member in the cache."""
    target = caches()[0] / file.member
    with _partial_file(target.with_name(f"{file.name}.zip.part")) as part:
        with suppress(ValueError):
            return verified(target, file.sha1, "sha1")  # another process has just downloaded it
        resumed = _receive(url, part, progress)
        try:
            _unpack(part, file, target)
        except BROKEN:
            part.truncate(0)
            if not resumed:
                raise
            _receive(url, part, progress)  # the kept beginning may be of another file
            try:
                _unpack(part, file, target)
            except BROKEN:
                part.truncate(0)
                raise
        part.truncate(0)
    log.info("downloaded %s to %s", url, target)
    return target


@contextmanager
def _partial_file(path: Path) -> Iterator[IO[bytes]]:
    """Open a partial download, which one process uses at a time; remove it at the end if it is empty."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "ab+") as part:
        if fcntl is not None:
            with suppress(OSError):  # a file system without locks
                fcntl.flock(part, fcntl.LOCK_EX)
        try:
            yield part
        finally:
            part.flush()
            if not os.fstat(part.fileno()).st_size:
                with suppress(FileNotFoundError):
                    path.unlink()


def _receive(url: str, part: IO[bytes], progress: Progress | None) -> bool:
    """Append the rest of a server's file to a partial one; return whether its beginning was kept.

    Raises:
        ValueError: the answer is a web page, or was cut short; what came stays.
    """
    start = part.seek(0, os.SEEK_END)
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    try:
        answer = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != 416 or not start:
            raise
        part.truncate(0)  # the server's file is no longer than the kept beginning
        return _receive(url, part, progress)

    with answer:
        if answer.headers.get_content_type() == "text/html" and not url.startswith("file:"):
            raise ValueError("a web page came instead of the file")
        resumed = bool(start) and str(answer.headers.get("Content-Range", "")).startswith(f"bytes {start}-")
        if not resumed:
            part.truncate(0)
            start = 0
        promised = answer.headers.get("Content-Length")
        total = start + int(promised) if promised is not None else None
        log.info("downloading %s%s", url, f", {(total - start) / 1e6:.0f} MB" if total is not None else "")
        if progress:
            progress(start, total)
        for block in iter(partial(answer.read, _BLOCK), b""):
            part.write(block)
            start += len(block)
            if progress:
                progress(start, total)
    part.flush()
    if total is not None and start != total:
        raise ValueError(f"cut short after {start:,} of {total:,} bytes; the next attempt continues there")
    return resumed


def _unpack(part: IO[bytes], file: GluonCVFile, target: Path) -> None:
    """Store the member of an archive, unless its checksum is wrong."""
    with zipfile.ZipFile(part) as archive, archive.open(file.member) as member, atomic_write(target) as stream:
        hashing = _Hashing(stream)
        shutil.copyfileobj(member, hashing, _BLOCK)
        if hashing.digest.hexdigest() != file.sha1:
            raise ValueError("wrong checksum")


class _Hashing:
    """A stream for writing that computes the SHA-1 of what passes."""

    def __init__(self, stream: IO[bytes]):
        self._stream, self.digest = stream, hashlib.sha1()

    def write(self, block: bytes) -> int:
        self.digest.update(block)
        return self._stream.write(block)
