"""Loading configurations: files with ``_base_`` inheritance, and ``a.b=c`` overrides.

A configuration has layers, of which a later one overrides the earlier ones: the schema's defaults, the files named by
``_base_``, the file itself, the ``model`` argument, the overrides. Every layer is checked separately, so that a message
names the file or option that holds the mistake. The working directory is not searched: only paths that the user gives
are read.
"""
from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from ..errors import ConfigError, UnknownNameError, canonical, short
from ..files import expand, no_file, open_regular
from .legacy import from_mxnetseg, is_flat, unwrap_wandb
from .options import check_mapping
from .plain_yaml import MOST_BYTES, parse
from .schema import Config, merge, nested

log = logging.getLogger(__name__)

BASE_KEY = "_base_"
_SUFFIXES = (".yaml", ".yml")
_MOST_LEVELS = 20  # of files that name each other in _base_, and of a dotted key
_SHOWN = 200  # characters of an override in a message


def load_config(source: str | Path | None = None, *, model: str | None = None,
                overrides: Iterable[str] = ()) -> Config:
    """Return the configuration of a run.

        >>> from mxnetseg.config import load_config
        >>> config = load_config("fcn", overrides=["train.epochs=3", "data.crop_size=[64, 96]"])
        >>> config.model.backbone, config.train.epochs, config.data.crop_size
        ('resnet18', 3, (64, 96))

    Args:
        source: path of a YAML file, or a name from :func:`list_configs`. The default is the configuration of ``model``
            (``configs/<model>.yaml``) if there is one, else the schema's defaults.
        model: canonical name of the network; it overrides the file's ``model.name``.
        overrides: ``'a.b=c'`` texts, whose values are read as YAML: ``'optimizer.lr=1e-2'``,
            ``'data.crop_size=[480, 480]'``.

    Raises:
        UnknownNameError: there is no such configuration or key; the message has the nearest ones.
        ConfigError: broken YAML, or an invalid value; the message names the file or the override.
    """
    values: dict[str, Any] = {}
    origins: list[str] = []
    path = _shipped().get(canonical(model)) if model is not None else None
    if source is not None:
        path = find_config(source)
    if path is not None:
        values = read_layers(path)
        origins.append(str(path))

    if model is not None:
        values = merge(values, nested("model.name", model))

    for text in overrides:
        origins.append(f"--set {text[:_SHOWN]}")
        values = merge(values, check_mapping(Config, nested(*parse_override(text)), origins[-1]))
    return Config.from_dict(values, where=" with ".join(origins) or None)


def overview(source: str | Path, *, overrides: Iterable[str] = ()) -> str:
    """Return a configuration as a short YAML file: notes on its translation, and the values that are not defaults.

    Args:
        source, overrides: as in :func:`load_config`.
    """
    path = find_config(source)
    content = read_file(path)
    notes = from_mxnetseg(content, path)[1] if is_flat(content) else []
    config = load_config(path, overrides=overrides)
    changed = _difference(config.to_dict(), Config().to_dict())
    for section in ("data", "model"):  # network and data set are shown even if they are the defaults
        changed = {section: {"name": getattr(config, section).name, **changed.get(section, {})},
                   **{key: value for key, value in changed.items() if key != section}}
    text = yaml.safe_dump(changed, sort_keys=False, default_flow_style=None, allow_unicode=True, width=110)
    return "".join(f"# {note}\n" for note in notes) + text


def _difference(values: dict[str, Any], defaults: dict[str, Any] | None) -> dict[str, Any]:
    """Return those of the nested ``values`` that differ from ``defaults``."""
    found = {}
    for key, value in values.items():
        old = (defaults or {}).get(key)
        if isinstance(value, dict) and isinstance(old, dict):
            value = _difference(value, old)
            if value:
                found[key] = value
        elif value != old:
            found[key] = value
    return found


def parse_override(text: str) -> tuple[str, Any]:
    """Return key and value of an override: ``('optimizer.lr', 0.01)`` for ``'optimizer.lr=1e-2'``.

    Raises:
        ConfigError: there is no ``=``, or the value is not YAML.
    """
    key, equals, value = text.partition("=")
    if not equals or not key.strip() or key.count(".") > _MOST_LEVELS:
        raise ConfigError("an override must have the form KEY=VALUE", where="--set", received=text[:_SHOWN],
                          fix="for example --set optimizer.lr=0.01")
    return key.strip(), parse(value, where=f"--set {text[:_SHOWN]}")


def configs_dir() -> Path:
    """Return the folder of the configurations that come with mxnetseg, in a wheel or in a checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"


def list_configs() -> list[str]:
    """Return the names of the configurations that come with mxnetseg, sorted.

    Example:
        >>> from mxnetseg import list_configs
        >>> [name for name in list_configs() if name.startswith("pspnet")]
        ['pspnet', 'pspnet-resnet101-ade20k', 'pspnet-resnet101-cityscapes']
    """
    return sorted(path.stem for path in _shipped().values())


def _shipped() -> dict[str, Path]:
    """Return the configurations that come with mxnetseg: canonical name -> file."""
    return {canonical(path.stem): path for path in sorted(configs_dir().glob("*.yaml"))}


def find_config(source: str | Path, relative_to: Path | None = None) -> Path:
    """Return the file of a configuration, which is given by path or name.

    Args:
        source: a path if it ends in .yaml or .yml, else a name from :func:`list_configs`.
        relative_to: folder that a relative path starts from, by default the working directory.

    Raises:
        ConfigError: there is no file at that path.
        UnknownNameError: there is no configuration of that name; the message has the nearest ones.
    """
    if Path(source).suffix in _SUFFIXES:
        path = Path(relative_to or "", expand(source))
        problem = no_file(path)
        if problem is None:
            return path
        if problem != "is not there":
            raise ConfigError(f"the configuration file {problem}", where=path, fix="give the path of a YAML file")
        raise ConfigError("there is no such configuration file", received=path,
                          fix=f"give a path that exists, or one of the names {', '.join(list_configs())}")

    try:
        return _shipped()[canonical(str(source))]
    except KeyError:
        raise UnknownNameError("configuration", str(source), list_configs(),
                               listed_by="mxnetseg config --list") from None


def read_layers(path: Path) -> dict[str, Any]:
    """Return the checked values of a file, merged with those of the files that its ``_base_`` names.

    MXNetSeg's flat ``config.yml`` and wandb's exports can be read, see :mod:`mxnetseg.config.legacy`.

    Raises:
        ConfigError: the file cannot be read, is not YAML or not a mapping, or ``_base_`` forms a circle or too long a
            chain.
    """
    return _layers(path.resolve(), (), {})


def _layers(path: Path, chain: tuple[Path, ...], known: dict[Path, dict[str, Any]]) -> dict[str, Any]:
    """Do the work of :func:`read_layers`.

    Args:
        path: the file to read.
        chain: the files that lead to ``path``.
        known: values of the files that were read before; each is read once, because there can be 2^n ways to the last
            of n files.
    """
    if path in chain or len(chain) > _MOST_LEVELS:
        problem = "runs in a circle" if path in chain else f"names more than {_MOST_LEVELS} files, one naming the next"
        files = " -> ".join(p.name for p in (*chain[chain.index(path) if path in chain else 0:], path))
        raise ConfigError(f"{BASE_KEY} {problem}", where=chain[-1], received=files,
                          fix=f"remove {BASE_KEY} from one of these files")

    if path not in known:
        content = read_file(path)
        if is_flat(content):
            content, notes = from_mxnetseg(content, path)
            log.info("%s is a configuration of MXNetSeg; translated as follows:\n%s", path, "\n".join(notes))
        bases = content.pop(BASE_KEY, None) or []
        bases = [bases] if isinstance(bases, str) else bases
        if not isinstance(bases, list) or not all(isinstance(b, str) for b in bases):
            raise ConfigError(f"{BASE_KEY} must be a file or a list of files", where=path, received=short(bases))

        values: dict[str, Any] = {}
        for base in bases:
            values = merge(values, _layers(find_config(base, path.parent).resolve(), (*chain, path), known))
        known[path] = merge(values, check_mapping(Config, content, path))
    return known[path]


def read_file(path: Path) -> dict[str, Any]:
    """Return the content of one file with its own keys, without the wrapping of wandb's exports.

    Raises:
        ConfigError: the file cannot be read, is not YAML, or not a mapping.
    """
    with open_regular(path, "the configuration file", ConfigError) as file:
        data = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise ConfigError("the configuration file is too large", where=path,
                          received=f"more than {MOST_BYTES >> 20} MiB", fix="give a YAML file with a configuration")

    try:
        content = parse(data.decode("utf-8"), where=path)
    except UnicodeDecodeError as error:
        raise ConfigError("the configuration file cannot be read as text", where=path,
                          received=f"byte {data[error.start]:#04x} at position {error.start}",
                          fix="save it as plain UTF-8 text") from None

    if content is None:
        content = {}
    if not isinstance(content, dict):
        raise ConfigError("a configuration file must hold a mapping of sections", where=path,
                          received=type(content).__name__, fix="for example:\ntrain:\n  epochs: 30")
    return unwrap_wandb(content)
