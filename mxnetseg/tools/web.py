"""``mxnetseg web``: a page in the browser that segments images."""
from __future__ import annotations

import errno
import math
import os
import socket
import sys
import tempfile
import threading
import time
from argparse import ArgumentParser, Namespace
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .common import (
    add_backend_argument,
    add_decoding_arguments,
    add_precision_argument,
    add_weights_argument,
    choose_checkpoint,
    choose_decoding,
    decoding_changes,
    open_named_network,
    resolve_precision,
    whole_number,
)

if TYPE_CHECKING:
    from ..engine.predictor import Predictor
    from ..report.web import Shown

_LOADED = 2  # networks that stay in memory
_LOCAL = ("127.0.0.1", "localhost", "::1")


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("checkpoints", nargs="*", metavar="CHECKPOINT", help="networks to offer first, as "
                        "`mxnetseg predict --checkpoint` takes them (default: the best checkpoint of each run below "
                        "the weights folder, and the included network)")
    parser.add_argument("--host", default="127.0.0.1", metavar="ADDRESS", help="address to listen on; 0.0.0.0 opens "
                        "the page to every computer that reaches this one, without a password (default: %(default)s)")
    parser.add_argument("--port", type=whole_number(0, 65535), default=7860, metavar="N",
                        help="port to listen on; 0: any that is free (default: %(default)s)")
    parser.add_argument("--no-browser", action="store_true", help="do not open the page")
    parser.add_argument("--max-megapixels", type=whole_number(1, 1000), default=4, metavar="N",
                        help="larger images are scaled down to this size, with a note (default: %(default)s)")
    parser.add_argument("--max-upload", type=whole_number(1, 10_000), default=50, metavar="MB",
                        help="largest file that is accepted (default: %(default)s)")
    add_backend_argument(parser)
    add_precision_argument(parser, "auto")
    add_decoding_arguments(parser)
    add_weights_argument(parser)


def run(args: Namespace) -> int:
    """Serve the page until Ctrl-C; return 0."""
    choose_decoding(args)  # refuses values out of range
    listening = _listen(args.host, args.port)
    with listening, tempfile.TemporaryDirectory(prefix="mxnetseg-web-") as uploads:
        os.environ["GRADIO_TEMP_DIR"] = uploads  # read when Gradio is imported; uploads end with the command
        os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
        networks = _Networks(args)
        app = _make_app(networks, args)
        networks.load_first()  # reports a damaged checkpoint here, and makes the first image fast
        _serve(app, listening, args)
    return 0


def _make_app(networks: _Networks, args: Namespace) -> Any:
    from ..report.web import Choices, make_app

    limits = (f"Up to {args.max_upload} MB. Images of more than {args.max_megapixels} megapixels are scaled down; "
              "mxnetseg predict --tile auto segments them at full size.")
    choices = Choices(networks.list_networks, networks.list_backends, networks.segment)
    return make_app(choices, max_bytes=args.max_upload * 1_000_000, limits=limits)


def _serve(app: Any, listening: socket.socket, args: Namespace) -> None:
    """Serve the page until it is interrupted."""
    import webbrowser

    import uvicorn

    from ..viz.notebook import has_desktop

    host, port = listening.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    if args.host not in _LOCAL:
        print(f"warning: every computer that reaches {shown} can use this page; there is no password", file=sys.stderr)
    address = f"http://{'127.0.0.1' if host == '0.0.0.0' else '[::1]' if host == '::' else shown}:{port}"
    print(f"page        {address}  (Ctrl-C stops it)", flush=True)
    if not args.no_browser and has_desktop():
        threading.Thread(target=webbrowser.open, args=[address], daemon=True).start()

    config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=1)
    try:
        uvicorn.Server(config).run(sockets=[listening])
    except KeyboardInterrupt:  # the usual end
        pass
    print("stopped")


def _listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens, before anything slow is loaded.

    Raises:
        UsageError: the port is taken or reserved, or the address is not one of this machine.
    """
    from ..errors import UsageError

    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise UsageError("the host is not an address", where="--host", received=f"{host} ({error})",
                         fix="--host 127.0.0.1") from None
    listening = socket.socket(family, kind, protocol)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(address)
        listening.listen(128)
        return listening
    except OSError as error:
        listening.close()
        what, where, fix = {
            errno.EADDRINUSE: ("the port is taken, perhaps by another page", "--port", "--port 0 takes a free port"),
            errno.EACCES: ("the port is reserved for the administrator", "--port", "--port 7860"),
            errno.EADDRNOTAVAIL: ("this machine does not have the address", "--host", "--host 127.0.0.1"),
        }.get(error.errno, ("the page cannot listen there", "--host and --port", "leave both out"))
        raise UsageError(what, where=where, received=f"{host}, port {port} ({error.strerror})", fix=fix) from None


class _Networks:
    """The networks that the page offers. One thread computes, one image after the other."""

    def __init__(self, args: Namespace):
        self._args = args
        self._loaded: OrderedDict[tuple[str, str], Predictor] = OrderedDict()
        # one thread for all work, because libraries keep a pool of threads for each thread that calls them
        self._worker = ThreadPoolExecutor(1)
        self._given = [str(named) for named in args.checkpoints]

    def list_networks(self) -> list[tuple[str, str]]:
        """Return pairs (label, name): given networks, the best checkpoint of each run, newest first, the included one.

        Without any of these, the name is empty; opening it raises the error that says what to do.
        """
        from ..engine.included import has_included
        from ..engine.named import INCLUDED

        given = [(os.path.basename(name.rstrip("/")), name) for name in self._given]
        found = [(label, name) for label, name in _find_checkpoints(self._args.weights)
                 if not any(_same_file(name, other) for other in self._given)]
        included = [(INCLUDED, INCLUDED)] if has_included() and INCLUDED not in self._given else []
        return given + found + included or [("none", "")]

    def list_backends(self, name: str) -> list[str]:
        """Return ``'auto'`` and the installed backends that read a network."""
        from ..backends.choice import CHECKPOINT, ONNX, format_of, installed_backends
        from ..engine.named import INCLUDED, is_name

        if name == INCLUDED:  # a checkpoint, and an ONNX file
            return ["auto", *dict.fromkeys(installed_backends(CHECKPOINT) + installed_backends(ONNX))]
        return ["auto", *installed_backends(CHECKPOINT if not name or is_name(name) else format_of(name))]

    def load_first(self) -> None:
        """Open the network that the page begins with; of the others that were given, check that they are there."""
        for name in self._given[1:]:
            _check_exists(name, self._args.weights)
        self._worker.submit(self._predictor, self.list_networks()[0][1], self._args.backend).result()

    def segment(self, path: Path, name: str, backend: str) -> Shown:
        """Segment an image. Several threads may call it; they wait for one another."""
        return self._worker.submit(self._segment, path, name, backend).result()

    def _segment(self, path: Path, name: str, backend: str) -> Shown:
        from ..data.decoding import IMAGE_SUFFIXES, RESTORE
        from ..engine.predictor import as_rgb
        from ..errors import DataError
        from ..report.web import Shown

        predictor = self._predictor(name, backend)
        try:
            image = as_rgb(path, predictor.decoding)
        except DataError as error:
            if error.fix == RESTORE:  # written for data sets
                error.fix = f"choose an image of another format: {', '.join(IMAGE_SUFFIXES)}"
            raise
        notes = []
        height, width = image.shape[:2]
        limit = self._args.max_megapixels
        if height * width > limit * 1_000_000:
            image = _scale_to(image, limit * 1_000_000)
            notes.append(f"The image was scaled down from {width} × {height} to {image.shape[1]} × {image.shape[0]} "
                         f"pixels, and so are mask and overlay: this page computes {limit} megapixels at most "
                         f"(--max-megapixels). At full size: mxnetseg predict {path.name}, which cuts large images "
                         "into tiles (--tile)")
        began = time.perf_counter()
        prediction = predictor(image)
        seconds = time.perf_counter() - began
        prediction.name = path.stem
        height, width = image.shape[:2]
        return Shown(prediction, notes, f"{predictor.name}, {predictor.precision} in {predictor.backend.backend}; "
                     f"{width} × {height} pixels in {seconds:.2f} s")

    def _predictor(self, name: str, backend: str) -> Predictor:
        """Return a loaded network; the one that was used least recently makes room."""
        from ..engine.predictor import Predictor

        key = name, backend
        if key not in self._loaded:
            args = self._args
            network = open_named_network(name or None, args.weights, backend=backend, ctx=args.ctx and args.ctx[:1])
            predictor = Predictor(network, precision=resolve_precision(args.precision, network),
                                  overrides=decoding_changes(args))
            while len(self._loaded) >= _LOADED:
                self._loaded.popitem(last=False)
            self._loaded[key] = predictor
        self._loaded.move_to_end(key)
        return self._loaded[key]


def _check_exists(name: str, weights: Path) -> None:
    """Raise a CheckpointError if there is no such file; names such as ``hub:USER/NAME`` are looked up when used."""
    from ..backends.choice import CHECKPOINT, format_of
    from ..engine.named import is_name
    from ..errors import CheckpointError

    if is_name(name):
        return
    if format_of(name) == CHECKPOINT:
        choose_checkpoint(name, weights)
    elif not os.path.exists(name):
        raise CheckpointError("the exported file is not there", where=os.path.abspath(name), fix="check the path")


def _find_checkpoints(weights: Path) -> list[tuple[str, str]]:
    """Return pairs (label, path) of the checkpoints below a folder, newest first: of each run the best, else the last.

    MXNet is not imported, and damaged files are left out.
    """
    from ..engine.sidecar import BEST, PARAMS, parse

    found: dict[Path, tuple[float, str]] = {}
    for sidecar in weights.glob("**/*.json"):
        path = sidecar.with_suffix(PARAMS)
        if not path.is_file():
            continue
        try:
            metrics = parse(sidecar).get("metrics")
        except (OSError, ValueError):
            continue
        miou = metrics.get("miou") if isinstance(metrics, dict) else None
        score = f" (mIoU {100 * miou:.1f} %)" if isinstance(miou, float) else ""
        found[path] = sidecar.stat().st_mtime, path.stem + score
    chosen = {path: about for path, about in found.items() if path.with_name(path.stem + BEST + PARAMS) not in found}
    return [(label, str(path)) for path, (_, label) in sorted(chosen.items(), key=lambda one: -one[1][0])]


def _same_file(one: str, other: str) -> bool:
    return os.path.exists(one) and os.path.exists(other) and os.path.samefile(one, other)


def _scale_to(image: Any, pixels: int) -> Any:
    """Scale an image, (H, W, 3), down to at most so many pixels."""
    import cv2

    height, width = image.shape[:2]
    factor = math.sqrt(pixels / (height * width))
    size = max(int(width * factor), 1), max(int(height * factor), 1)
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)
