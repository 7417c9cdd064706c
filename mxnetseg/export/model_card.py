"""The model card of an export: what the network is, what it was trained and measured on, and how to use it."""
from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ..backends.package import NetworkRecord

_TEXT = """---
{header}
---

# {title}

{network}

## Use

```python
from mxnetseg import Predictor, from_pretrained

prediction = Predictor("{address}")("street.png")  # class map, colours, overlay
net = from_pretrained("{address}")  # the Gluon network
```

Images are RGB. {normalisation}

## Data

{data}

## Metrics

{metrics}

## Classes

{classes}

## Licence

{license}
{notes}"""


def model_card(record: NetworkRecord, name: str, *, address: str | None = None, notes: str = "") -> str:
    """Return the text of ``README.md``.

    Args:
        record: the description of the network.
        name: name of the folder.
        address: what :class:`~mxnetseg.Predictor` takes; None: a folder, or an id of the hub.
        notes: Markdown that is added as the last section.
    """
    sidecar = record.sidecar
    data, model = sidecar.get("data", {}), sidecar.get("model", {})
    title = " ".join(str(part) for part in (model.get("name", name), model.get("backbone", "")) if part)
    metrics = sidecar.get("metrics") or {}
    return _TEXT.format(
        header=_header(data.get("name"), metrics, title), title=title, network=_network(model),
        address=address or f"PATH/OR/USER/{name}", notes=f"\n## Notes\n\n{notes.strip()}\n" if notes else "",
        normalisation=_normalisation(record), data=_data(sidecar), metrics=_metrics(sidecar, metrics),
        classes=_classes(record), license=sidecar.get("license", "Not recorded.")).replace("\r", "")


def _header(data: str | None, metrics: Mapping[str, Any], title: str) -> str:
    """Return the metadata of the card, which is YAML; each value is written as JSON, which YAML contains."""
    lines = ["library_name: mxnetseg", "pipeline_tag: image-segmentation", "license: other",
             "tags: [semantic-segmentation, mxnet, gluon]"]
    if metrics.get("miou") is not None and data:
        result = {"task": {"type": "image-segmentation"}, "dataset": {"type": data, "name": data},
                  "metrics": [{"type": "mean_iou", "value": metrics["miou"]}]}
        lines.append(f"model-index: {json.dumps([{'name': title, 'results': [result]}], ensure_ascii=False)}")
    return "\n".join(lines)


def _network(model: Mapping[str, Any]) -> str:
    if not model:
        return "A network that was exported from MXNet by mxnetseg."
    options = ", ".join(f"{key}={value}" for key, value in model.items() if key not in ("name", "nclass", "backbone"))
    backbone = f" on the backbone `{model['backbone']}`" if "backbone" in model else ""
    return (f"Semantic segmentation with `{model['name']}`{backbone}, {model['nclass']} classes"
            + (f" ({options})" if options else "") + ".")


def _normalisation(record: NetworkRecord) -> str:
    if record.mean is None:
        return "How the network expects them to be normalised is not recorded."
    return (f"Pixels in [0, 1] are normalised with mean {list(record.mean)} and standard deviation "
            f"{list(record.std or ())}.")


def _data(sidecar: Mapping[str, Any]) -> str:
    if "data" not in sidecar:
        return "Not recorded."
    lines = [f"Data set `{sidecar['data']['name']}`."]
    for split, content in (sidecar.get("contents") or {}).items():
        if content:
            lines.append(f"* {split}: split `{content['split']}`, {content['images']} images")
    config = sidecar.get("config", {})
    train = {**config.get("train", {}), **config.get("data", {})} if isinstance(config.get("train", {}), dict) else {}
    known = {key: train[key] for key in ("epochs", "batch_size", "crop_size") if key in train}
    if known:
        lines.append("* training: " + ", ".join(f"{key} {value}" for key, value in known.items()))
    return "\n".join(lines)


def _metrics(sidecar: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    if metrics.get("miou") is None:
        return "Not recorded."
    protocol = metrics.get("protocol") or _protocol(sidecar)
    lines = [f"Split `{metrics.get('split') or sidecar['protocol']['splits']['val']}`, {protocol}.", "",
             "| metric | value |", "|---|---|"]
    for key, label in (("miou", "mean IoU"), ("pixel_accuracy", "pixel accuracy"), ("mean_accuracy", "mean accuracy"),
                       ("frequency_weighted_iou", "frequency-weighted IoU")):
        if metrics.get(key) is not None:
            lines.append(f"| {label} | {100 * metrics[key]:.2f} % |")
    return "\n".join(lines)


def _protocol(sidecar: Mapping[str, Any]) -> str:
    """Describe the validation during training, which the configuration gives."""
    section = sidecar.get("config", {}).get("eval", {})
    mode = "whole images" if section.get("mode", "whole") == "whole" else f"{section['mode']}, crop " \
        f"{section.get('crop_size')}"
    return f"{mode}, scales {section.get('scales', [1.0])}, {'with' if section.get('flip') else 'without'} flip"


def _classes(record: NetworkRecord) -> str:
    if record.classes is None:
        return "Not recorded."
    scores = {entry["name"]: entry for entry in (record.sidecar.get("metrics") or {}).get("classes", ())
              if isinstance(entry, dict) and "name" in entry}
    columns = ("id", "class", "colour", "IoU")[:4 if scores else 3]
    lines = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    for i, (name, colour) in enumerate(zip(record.classes, record.palette.tolist())):
        iou = scores.get(name, {}).get("iou")
        cells = (str(i), _cell(name), f"#{bytes(colour).hex()}", "" if iou is None else f"{100 * iou:.2f} %")
        lines.append("| " + " | ".join(cells[:len(columns)]) + " |")
    return "\n".join(lines)


def _cell(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ")
