"""The page of ``mxnetseg web``: an image in, its classes over it. Gradio serves it; nothing comes from a network.

The network runs once for an image. The page then gets the class map, and draws opacity and hidden classes itself.
"""
from __future__ import annotations

import gzip
import json
import logging
import secrets
import sys
import threading
from collections import OrderedDict
from collections.abc import Awaitable, Sequence
from functools import partial
from html import escape
from importlib import resources
from io import BytesIO
from pathlib import Path
from typing import Any, Callable, NamedTuple

import numpy as np
from PIL import Image

from .._compat import import_optional
from ..errors import EnvironmentProblem, MXNetSegError, printable
from ..viz.names import place_names
from ..viz.overlay import find_borders
from ..viz.palette import background_ids, palette_image

log = logging.getLogger(__name__)

_PYTHON = (3, 10)  # the first version of Python that Gradio 6 runs on
_KEPT = 12  # results whose images and downloads stay available
_WAITING = 20  # images in the queue; further ones are refused with a message
_EMPTY = '<p class="mxs-empty">The result appears here.</p>'
# all that the page may load, also if Gradio asks for more: nothing from another server
_POLICY = ("default-src 'self' data: blob:; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
           "style-src 'self' 'unsafe-inline'; frame-ancestors 'self'")


class Shown(NamedTuple):
    """A prediction with what the page says about it.

    Attributes:
        prediction: a :class:`~mxnetseg.engine.predictor.Prediction`.
        notes: sentences that the reader must see, for example that the image was scaled down.
        about: network, backend and time.
    """

    prediction: Any
    notes: Sequence[str]
    about: str


class Choices(NamedTuple):
    """Networks and backends that the page offers.

    Attributes:
        networks: returns pairs (label, name); the first is chosen.
        backends: returns the names of the backends that compute a network.
        segment: computes (file, name of the network, name of the backend) -> :class:`Shown`.
    """

    networks: Callable[[], list[tuple[str, str]]]
    backends: Callable[[str], list[str]]
    segment: Callable[[Path, str, str], Shown]


def make_app(choices: Choices, *, max_bytes: int, limits: str) -> Any:
    """Return the page as an ASGI application.

    Args:
        choices: networks and backends, and what computes them.
        max_bytes: largest upload.
        limits: one sentence on the sizes that are accepted.

    Raises:
        EnvironmentProblem: Gradio is not installed, or Python is too old for it.
    """
    if sys.version_info < _PYTHON:
        raise EnvironmentProblem("the page needs Gradio 6, which needs a newer Python", received=sys.version.split()[0],
                                 fix="install mxnetseg[web] in an environment with Python 3.10 or later")
    gr, fastapi = (import_optional(module, "the page", fix="pip install 'mxnetseg[web]'")
                   for module in ("gradio", "fastapi"))

    results = _Results()
    app = fastapi.FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    _add_results(app, results)
    page = _make_page(gr, choices, results, max_bytes, limits)
    gr.mount_gradio_app(app, page, path="/", max_file_size=max_bytes, show_error=False, footer_links=[], pwa=False,
                        ssr_mode=False, mcp_server=False, run_history=False, enable_monitoring=False,
                        theme=gr.themes.Default(primary_hue="blue", font="system-ui", font_mono="monospace"),
                        head=f"<style>{_file('web.css')}</style><script>{_file('web.js')}</script>")
    return _with_policy(app)


def _make_page(gr: Any, choices: Choices, results: _Results, max_bytes: int, limits: str) -> Any:
    """Return Gradio's blocks."""
    offered = choices.networks()
    first = offered[0][1]
    html = partial(gr.HTML, apply_default_css=False)

    def segment(file: str | None, network: str, backend: str) -> str:
        if not file:
            return _EMPTY
        path = Path(file)
        try:
            shown = choices.segment(path, network, backend)
        except MXNetSegError as error:
            return _problem(error, path)
        except Exception:  # a defect: the page stays usable
            log.exception("the image %s could not be segmented", path.name)
            return _problem(EnvironmentProblem(
                "the image could not be segmented, because of an unexpected error",
                fix="the terminal that runs `mxnetseg web` shows the traceback; please report it"), path)
        return _result(shown, results.keep(shown))

    def list_backends(network: str, backend: str) -> Any:
        names = choices.backends(network)
        return gr.update(choices=names, value=backend if backend in names else names[0])

    with gr.Blocks(title="mxnetseg", analytics_enabled=False, delete_cache=(600, 3600)) as page:
        html('<h1 class="mxs-title">mxnetseg</h1>'
             '<p class="mxs-soft">Segment an image. It stays on the machine that runs this page.</p>')
        with gr.Row(equal_height=False):
            with gr.Column(scale=2, min_width=280):
                upload = gr.UploadButton("Choose or drop an image", elem_id="mxs-upload", elem_classes="mxs-upload",
                                         file_count="single", type="filepath", variant="primary")
                html('<button type="button" class="mxs-paste">Paste from the clipboard</button>'
                     f'<p class="mxs-say" role="status" data-most="{max_bytes}"></p>'
                     f'<p class="mxs-soft">{escape(limits)}</p>')
                network = gr.Dropdown(offered, value=first, label="Network", filterable=len(offered) > 8)
                backend = gr.Dropdown(choices.backends(first), label="Backend", filterable=False)
            with gr.Column(scale=7, min_width=320):
                shown = html(_EMPTY)

        work = {"fn": segment, "inputs": [upload, network, backend], "outputs": shown, "concurrency_limit": 1,
                "concurrency_id": "segment", "trigger_mode": "always_last"}
        page.load(lambda: gr.update(choices=choices.networks()), None, network, show_progress="hidden")
        upload.upload(**work)
        backend.input(**work)
        network.input(list_backends, [network, backend], backend, show_progress="hidden").then(**work)
    return page.queue(max_size=_WAITING)


# ---- results --------------------------------------------------------------------------------


class _Results:
    """The last results, under names that cannot be guessed."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, Shown] = OrderedDict()
        self._lock = threading.Lock()

    def keep(self, shown: Shown) -> str:
        """Keep a result, drop the oldest one if there are too many, and return its name."""
        name = secrets.token_urlsafe(16)
        with self._lock:
            self._kept[name] = shown
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return name

    def get(self, name: str) -> Any:
        """Return a prediction, None if it is not kept."""
        shown = self._kept.get(name)
        return shown and shown.prediction


def _add_results(app: Any, results: _Results) -> None:
    """Add the addresses of a result: image, class map, and both downloads."""
    from fastapi import HTTPException, Response

    def prediction_of(name: str) -> Any:
        prediction = results.get(name)
        if prediction is None:
            raise HTTPException(404, "This result is no longer kept: segment the image again.")
        return prediction

    def answer(content: bytes, kind: str, **headers: str) -> Any:
        return Response(content, media_type=kind, headers={"Cache-Control": "private, max-age=3600", **headers})

    def image(name: str) -> Any:
        return answer(_encoded(Image.fromarray(prediction_of(name).image), "JPEG", quality=92), "image/jpeg")

    def ids(name: str) -> Any:
        class_map = prediction_of(name).class_map
        planes = class_map.tobytes() + find_borders(class_map).tobytes()
        return answer(gzip.compress(planes, 1), "application/octet-stream", **{"Content-Encoding": "gzip"})

    def mask(name: str) -> Any:
        prediction = prediction_of(name)
        return answer(_encoded(palette_image(prediction.class_map, prediction.palette), "PNG"), "image/png")

    def overlay(name: str, opacity: int = 50, hidden: str = "", names: int = 0) -> Any:
        prediction = prediction_of(name)
        ids = [int(text) for text in hidden.split(",") if text.isdecimal()]
        if not 0 <= opacity <= 100 or any(i >= len(prediction.classes) for i in ids):
            raise HTTPException(400, "opacity is 0 to 100, hidden are class ids")
        drawn = prediction.draw(names=bool(names), alpha=opacity / 100, hidden=[prediction.classes[i] for i in ids])
        return answer(_encoded(Image.fromarray(drawn), "PNG"), "image/png")

    for path, function in (("image", image), ("ids", ids), ("mask.png", mask), ("overlay.png", overlay)):
        app.get(f"/result/{{name}}/{path}")(function)


def _encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


# ---- HTML -----------------------------------------------------------------------------------


def _result(shown: Shown, name: str) -> str:
    """Return the viewer of a result."""
    import jinja2  # Gradio needs it, too

    prediction = shown.prediction
    height, width = prediction.class_map.shape
    shares = np.bincount(prediction.class_map.ravel(), minlength=256)[:len(prediction.classes)] / (height * width)
    untinted = background_ids(prediction.classes)
    rows = [{"id": int(i), "name": prediction.classes[i],
             "percent": f"{100 * shares[i]:.1f}" if shares[i] >= 0.0005 else "< 0.1",
             "bar": f"{100 * shares[i] / shares.max():.1f}", "colour": "#" + bytes(prediction.palette[i]).hex(),
             "untinted": i in untinted}
            for i in np.argsort(-shares, kind="stable") if shares[i]]
    colours = [None if i in untinted else colour for i, colour in enumerate(prediction.palette.tolist())]
    names = [{"id": one.class_id, "text": prediction.classes[one.class_id],
              "x": round(50 * (one.box[0] + one.box[2]) / width, 2),
              "y": round(50 * (one.box[1] + one.box[3]) / height, 2)}
             for one in place_names(prediction.class_map, prediction.classes)]
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True,
                                     finalize=lambda value: printable(value) if type(value) is str else value)
    return environment.from_string(_file("web.html")).render(
        url=f"result/{name}", name=prediction.name, width=width, height=height, notes=shown.notes, about=shown.about,
        rows=rows, names=names, colours=json.dumps(colours), absent=[
            one for i, one in enumerate(prediction.classes) if not shares[i]],
        summary=", ".join(f"{row['name']} {row['percent']} %" for row in rows[:5]))


def _problem(error: MXNetSegError, path: Path) -> str:
    """Return an error as a message, with the name of the image in place of the server's path."""
    parts = (("where", error.where), ("received", error.received), ("fix", error.fix))
    lines = "".join(f"<dt>{label}</dt><dd>{_text(value, path)}</dd>" for label, value in parts if value is not None)
    return f'<div class="mxs-problem" role="alert"><h2>{_text(error.what, path)}</h2><dl>{lines}</dl></div>'


def _text(value: Any, path: Path) -> str:
    return escape(printable(str(value).replace(str(path), path.name)))


def _file(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text("utf-8")


def _with_policy(app: Any) -> Any:
    """Add the content security policy to every answer."""
    async def answer(scope: dict[str, Any], receive: Callable[[], Awaitable[Any]],
                     send: Callable[[Any], Awaitable[None]]) -> None:
        async def send_with_policy(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"content-security-policy", _POLICY.encode())]
            await send(message)
        await app(scope, receive, send_with_policy)
    return answer
