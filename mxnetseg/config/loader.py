"""Where a configuration comes from: files with ``_base_`` inheritance, and ``a.b=c`` overrides.

Layers, each laid over the one before: the schema's defaults, the files named by ``_base_``, the file
itself, the ``model`` argument, the overrides. Every layer is checked on its own, so that a message
names the file or option that holds the mistake. Nothing is ever read from the working directory
unless its path was given.
"""
from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Dict, Iterable, List, Optional, Tuple, Union

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
_MOST_LEVELS = 20  # of _base_, one file naming the next, and of a dotted key
_SHOWN = 200  # characters of an override that messages show


def load_config(source: Union[str, Path, None] = None, *, model: Optional[str] = None,
                overrides: Iterable[str] = ()) -> Config:
    """The configuration of a run.

    Args:
        source: path of a YAML file, or a name from :func:`list_configs`. Without it, the default of
            ``model`` (``configs/<model>.yaml``, where there is one), else the schema's defaults.
        model: canonical name of the network; wins over the file's ``model.name``.
        overrides: ``'a.b=c'`` texts, the value read as YAML: ``'optimizer.lr=1e-2'``,
            ``'data.crop_size=[480, 480]'``.

    Raises:
        UnknownNameError: no such configuration or key, with the nearest ones.
        ConfigError: broken YAML, or a value that does not fit; names the file or the override.
    """
    values: Dict[str, Any] = {}
    origins: List[str] = []
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


def overview(source: Union[str, Path], *, overrides: Iterable[str] = ()) -> str:
    """A configuration as a short YAML file: what differs from the defaults, below notes on what was translated.

    Args:
        source, overrides: as of :func:`load_config`.
    """
    path = find_config(source)
    content = read_file(path)
    notes = from_mxnetseg(content, path)[1] if is_flat(content) else []
    config = load_config(path, overrides=overrides)
    changed = _difference(config.to_dict(), Config().to_dict())
    for section in ("data", "model"):  # what it is about is said even where it is the default
        changed = {section: {"name": getattr(config, section).name, **changed.get(section, {})},
                   **{key: value for key, value in changed.items() if key != section}}
    text = yaml.safe_dump(changed, sort_keys=False, default_flow_style=None, allow_unicode=True, width=110)
    return "".join(f"# {note}\n" for note in notes) + text


def _difference(values: Dict[str, Any], plain: Optional[Dict[str, Any]]) -> Dict[str, Any]:
    """Of nested ``values`` those that ``plain`` has not so."""
    found = {}
    for key, value in values.items():
        old = (plain or {}).get(key)
        if isinstance(value, dict) and isinstance(old, dict):
            value = _difference(value, old)
            if value:
                found[key] = value
        elif value != old:
            found[key] = value
    return found


def parse_override(text: str) -> Tuple[str, Any]:
    """``'optimizer.lr=1e-2'`` -> ``('optimizer.lr', 0.01)``.

    Raises:
        ConfigError: no ``=``, or a value that is not YAML.
    """
    key, equals, value = text.partition("=")
    if not equals or not key.strip() or key.count(".") > _MOST_LEVELS:
        raise ConfigError("an override has the form KEY=VALUE", where="--set", received=text[:_SHOWN],
                          fix="for example --set optimizer.lr=0.01")
    return key.strip(), parse(value, where=f"--set {text[:_SHOWN]}")


def configs_dir() -> Path:
    """The folder of the configurations that come with mxnetseg: in a wheel or in a checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"


def list_configs() -> List[str]:
    """Names of the configurations that come with mxnetseg, sorted."""
    return sorted(path.stem for path in _shipped().values())


def _shipped() -> Dict[str, Path]:
    """Canonical name -> file, of the configurations that come with mxnetseg."""
    return {canonical(path.stem): path for path in sorted(configs_dir().glob("*.yaml"))}


def find_config(source: Union[str, Path], relative_to: Optional[Path] = None) -> Path:
    """The file that a path or a name means.

    Args:
        source: a path if it ends in .yaml or .yml, else a name from :func:`list_configs`.
        relative_to: folder that a relative path starts from; default the working directory.

    Raises:
        ConfigError: no file at that path.
        UnknownNameError: no configuration of that name, with the nearest ones.
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


def read_layers(path: Path) -> Dict[str, Any]:
    """The checked values of a file, laid over those of the files that its ``_base_`` names.

    MXNetSeg's flat ``config.yml`` and wandb's exports are understood, see :mod:`mxnetseg.config.legacy`.

    Raises:
        ConfigError: unreadable, not YAML, not a mapping, or ``_base_`` runs in a circle or too deep.
    """
    return _layers(path.resolve(), (), {})


def _layers(path: Path, chain: Tuple[Path, ...], known: Dict[Path, Dict[str, Any]]) -> Dict[str, Any]:
    """As :func:`read_layers`.

    Args:
        chain: the files that lead to ``path``.
        known: files that have been read, each read once: n files of two bases can be reached in 2^n ways.
    """
    if path in chain or len(chain) > _MOST_LEVELS:
        kind = "runs in a circle" if path in chain else f"names more than {_MOST_LEVELS} files, one naming the next"
        files = " -> ".join(p.name for p in (*chain[chain.index(path) if path in chain else 0:], path))
        raise ConfigError(f"{BASE_KEY} {kind}", where=chain[-1], received=files,
                          fix=f"remove {BASE_KEY} from one of these files")
    if path not in known:
        content = read_file(path)
        if is_flat(content):
            content, notes = from_mxnetseg(content, path)
            log.info("%s is a configuration of MXNetSeg; in today's keys:\n%s", path, "\n".join(notes))
        bases = content.pop(BASE_KEY, None) or []
        bases = [bases] if isinstance(bases, str) else bases
        if not isinstance(bases, list) or not all(isinstance(b, str) for b in bases):
            raise ConfigError(f"{BASE_KEY} takes a file or a list of files", where=path, received=short(bases))
        values: Dict[str, Any] = {}
        for base in bases:
            values = merge(values, _layers(find_config(base, path.parent).resolve(), (*chain, path), known))
        known[path] = merge(values, check_mapping(Config, content, path))
    return known[path]


def read_file(path: Path) -> Dict[str, Any]:
    """What one file holds, without the wrapping that wandb's exports have, in whatever keys it is written.

    Raises:
        ConfigError: unreadable, not YAML, or not a mapping.
    """
    with open_regular(path, "the configuration file", ConfigError) as file:
        data = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise ConfigError("the configuration file is too large", where=path,
                          received=f"more than {MOST_BYTES >> 20} MiB", fix="give a file of YAML with a configuration")
    try:
        content = parse(data.decode("utf-8"), where=path)
    except UnicodeDecodeError as error:
        raise ConfigError("the configuration file cannot be read as text", where=path,
                          received=f"byte {data[error.start]:#04x} at position {error.start}",
                          fix="save it as plain UTF-8 text") from None
    if content is None:
        content = {}
    if not isinstance(content, dict):
        raise ConfigError("a configuration file holds a mapping of sections", where=path,
                          received=type(content).__name__, fix="for example:\ntrain:\n  epochs: 30")
    return unwrap_wandb(content)
