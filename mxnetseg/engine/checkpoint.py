"""Checkpoints: parameters, a sidecar that says all about them, and the state to resume from.

``weights/<model>/<model>_<backbone>_<data>_<yyyymmdd>_<HHMMSS>[_best].params``   parameters
the same with ``.json``                                                            sidecar
the same with ``.state``                                                           optimiser tensors

The sidecar holds the SHA-256 of the other files and its own. So that a crash at any moment leaves a set that fits
together, new files are first written beside the old ones (``.new``), then the sidecar is replaced, in
one atomic step, by one that names the new contents, and only then the ``.new`` files take their
places. A crash between the last two steps leaves contents in ``.new`` files: readers find them there by their
checksum, and the next writer moves them.

One process writes a run (:mod:`mxnetseg.engine.lock`); any number read it meanwhile. Readers change nothing on the
disk. When the files are replaced while they read, they start again.
"""
from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import sys
import time
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Union

import mxnet as mx

from .. import __version__
from ..config.schema import Model
from ..errors import CheckpointError, EnvironmentProblem, MXNetSegError, UsageError, nearest, reason
from ..files import atomic_write, expand, no_file, sha256, sha256_of, sweep
from ..models import MODELS, build_model
from ..models.weights.loading import assign, initialize, load_arrays, read_params
from ..nn.norm import choose_norm
from .sidecar import FORMAT, PARAMS, STATE, check, parse

log = logging.getLogger(__name__)

BEST = "_best"
_SIDECAR = ".json"
_CHECKSUM = "sha256"  # of the sidecar itself
_AT_ONCE = 200  # arrays that multi_all_finite() takes; given more, it writes beyond its own memory
# A reader whom a writer overtakes starts again: so often in all, so often while the sidecar stays the same. The writer
# renames within milliseconds, so files that still do not fit the same sidecar are damaged.
_ATTEMPTS, _ATTEMPTS_SAME = 100, 4
_SMALL = 1 << 24  # parameters; whatever differs in a network of so few is reported by name
_PAUSE = 0.01  # seconds; before the n-th further attempt, n times as long


def model_record(config: Model, nclass: int) -> Dict[str, Any]:
    """The arguments of :func:`~mxnetseg.models.get_model` that a configuration asks for, as a sidecar keeps them.

    Args:
        config: the configuration's model section.
        nclass: classes.
    """
    arguments = {"backbone": config.backbone, "output_stride": config.output_stride, "aux": config.aux or None,
                 **config.options}
    return {"name": MODELS.resolve(config.name), "nclass": nclass,
            **{key: value for key, value in arguments.items() if value is not None}}


def restore_network(checkpoint: "Checkpoint", contexts: Sequence[mx.Context]):
    """The network of a checkpoint, ready for inference, and its sidecar.

    Raises:
        CheckpointError: a file is missing or damaged, or does not fit the network it names.
    """
    sidecar, params, _ = checkpoint.read()
    norm_layer, norm_kwargs = choose_norm("bn", contexts)
    try:
        net = build_model(**sidecar["model"], norm_layer=norm_layer, norm_kwargs=norm_kwargs)
    except MXNetSegError as error:
        raise CheckpointError(f"the checkpoint's network cannot be built: model: {error.what}",
                              where=checkpoint.sidecar_path, received=error.received, fix=error.fix) from error
    _refuse_larger(net, params, checkpoint.path)
    initialize(net, contexts)
    take_normalisation(net, sidecar)
    assign(net, params, where=checkpoint.path)
    return net, sidecar


def _refuse_larger(net, params: Mapping[str, mx.nd.NDArray], where: Path) -> None:
    """Refuse a network far larger than its file, before memory is allocated for it."""
    asked = sum(math.prod(p.shape) for p in net.collect_params().values() if p.shape)  # 0 where not yet known
    there = sum(value.size for value in params.values())
    if asked > 2 * there + _SMALL:
        raise CheckpointError("the weights do not fit this network", where=where,
                              received=f"the sidecar's network has {asked:,} parameters; the file holds {there:,}",
                              fix="correct the sidecar's section 'model', or copy it again")


def take_normalisation(net, sidecar: Dict[str, Any]) -> None:
    """Let the network scale pixels as the checkpoint's did; before anything is built that does it."""
    net.mean, net.std = (tuple(sidecar["normalisation"][k]) for k in ("mean", "std"))


class Contents(NamedTuple):
    """A checkpoint in memory; all of it was written at once."""

    sidecar: Dict[str, Any]
    params: Dict[str, mx.nd.NDArray]
    state: Optional[Dict[str, mx.nd.NDArray]]  # the tensors to resume from, if asked for


class Checkpoint:
    """One checkpoint on the disk, named by its ``.params`` file.

    Args:
        path: the ``.params`` file, existing or to be written.
    """

    def __init__(self, path: Union[str, Path]):
        path = expand(path)
        self.path = path if path.suffix == PARAMS else path.parent / (path.name + PARAMS)

    def _file(self, suffix: str) -> Path:
        return self.path.with_name(self.path.name[:-len(PARAMS)] + suffix)

    @property
    def sidecar_path(self) -> Path:
        return self._file(_SIDECAR)

    @property
    def stem(self) -> str:
        """File name without its ending."""
        return self.path.name[:-len(PARAMS)]

    # ---- writing ------------------------------------------------------------------------------

    def write(self, net, record: Mapping[str, Any], state: Optional[Mapping[str, mx.nd.NDArray]] = None) -> None:
        """Write parameters, state (if given) and sidecar; all of it is on the disk afterwards, or the old set.

        Args:
            net: the network.
            record: the sidecar's content, JSON-able; versions, time and checksums are added.
            state: named tensors to resume from.

        Raises:
            EnvironmentProblem: the disk is full, or the folder cannot be written to any more.
        """
        try:
            self._write(net, record, state)
        except OSError as error:
            raise EnvironmentProblem("the checkpoint could not be written", where=error.filename or self.path,
                                     received=error.strerror or error,
                                     fix="check the folder's permissions and the disk, or choose another folder "
                                         "(--weights DIR)") from error

    def _write(self, net, record: Mapping[str, Any], state: Optional[Mapping[str, mx.nd.NDArray]]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.has_sidecar():  # a crash may have left its contents in the .new files, about to be overwritten
            with suppress(CheckpointError):
                self._settle(self._peek()["files"])
        # of several contexts the first speaks for all: they hold the same, unless batch norm is unsynchronised
        contents = {PARAMS: {name: p.list_data()[0] for name, p in net.named_parameters().items()}}
        if state is not None:
            contents[STATE] = dict(state)
        try:
            files = {}
            for suffix, tensors in contents.items():
                new = self._new(suffix)
                _save(new, tensors)
                files[suffix] = {"sha256": sha256(new), "bytes": new.stat().st_size}
            sidecar = {"format": FORMAT, "mxnetseg": __version__, "mxnet": mx.__version__,
                       "written": datetime.now(timezone.utc).isoformat(timespec="seconds"), "files": files, **record}
            sidecar = json.loads(json.dumps(sidecar, allow_nan=False))  # as whoever reads it will see it
            text = json.dumps({**sidecar, _CHECKSUM: _digest(sidecar)}, indent=1)
            with atomic_write(self.sidecar_path, "w") as file:  # from here on the new set is the valid one
                file.write(text)
        except BaseException:
            self._delete_unnamed()  # on a full disk they would be in the way of everything else
            raise
        self._settle(files)

    def recover(self) -> None:
        """Finish or undo what a killed writer has left. Call it only while no other process writes this checkpoint.

        Raises:
            CheckpointError: the sidecar is damaged; nothing was changed.
        """
        if self.has_sidecar():
            self._settle(self._peek()["files"])
        self._delete_unnamed()
        sweep(self.sidecar_path)

    def _new(self, suffix: str) -> Path:
        return self._file(suffix + ".new")

    def _settle(self, files: Mapping[str, Mapping[str, Any]]) -> None:
        """Move ``.new`` files to their places, where they are what the sidecar names."""
        for suffix, expected in files.items():
            new = self._new(suffix)
            with suppress(FileNotFoundError):  # an older mxnetseg that reads the checkpoint moves it, too
                if sha256(new) == expected["sha256"]:
                    os.replace(new, self._file(suffix))

    def _delete_unnamed(self) -> None:
        """Delete the ``.new`` files that are not what the sidecar names; all of them stay if it is damaged."""
        with suppress(OSError, CheckpointError):
            files = self._peek()["files"] if self.has_sidecar() else {}
            for suffix in (PARAMS, STATE):
                new = self._new(suffix)
                if new.exists() and sha256(new) != files.get(suffix, {}).get("sha256"):
                    new.unlink()

    # ---- reading ------------------------------------------------------------------------------

    def has_sidecar(self) -> bool:
        return os.path.isfile(self.sidecar_path)  # unlike Path.is_file() it takes a path of any length

    def read_sidecar(self) -> Dict[str, Any]:
        """The sidecar, after every file that it names has been checked against its SHA-256.

        Raises:
            CheckpointError: a file is missing, truncated or changed; or the sidecar itself is damaged.
        """
        return self._read({})[0]

    def read(self, *, state: bool = False) -> Contents:
        """The sidecar and the tensors that belong to it, also while a training replaces the files.

        Args:
            state: read the training state too.

        Raises:
            CheckpointError: as :meth:`read_sidecar`; or ``state`` is asked for and there is none, as in a best
                checkpoint.
        """
        sidecar, tensors = self._read({PARAMS: read_params, **({STATE: load_arrays} if state else {})})
        return Contents(sidecar, tensors[PARAMS], tensors[STATE] if state else None)

    def _read(self, loaders: Mapping[str, Callable[[Path], Any]]):
        """The sidecar, and by suffix what the loaders return for the files that it names."""
        files, attempts_same = None, 0
        for _ in range(_ATTEMPTS):
            sidecar = self._peek()
            attempts_same = attempts_same + 1 if sidecar["files"] == files else 1
            files = sidecar["files"]
            if STATE in loaders and STATE not in files:
                raise CheckpointError("this checkpoint cannot be resumed: it has no training state", where=self.path,
                                      fix="resume from the run's last checkpoint (without _best), or fine-tune from "
                                          "this one with --set train.init_from=PATH")
            try:
                return sidecar, {suffix: self._take(suffix, expected, loaders.get(suffix))
                                 for suffix, expected in files.items()}
            except CheckpointError:
                if attempts_same == _ATTEMPTS_SAME:
                    raise
            time.sleep(_PAUSE * attempts_same)
        raise self._overtaken()

    def _take(self, suffix: str, expected: Mapping[str, Any], load: Optional[Callable[[Path], Any]]) -> Any:
        """Check one file, in its place or still ``.new``; return what ``load`` makes of it."""
        for path in (self._file(suffix), self._new(suffix)):
            if os.path.exists(path) and no_file(path):  # opening a pipe waits for its writer
                continue
            try:
                with open(path, "rb") as file:  # while it is open, no other file gets its inode
                    before = _identity(os.fstat(file.fileno()))
                    if before[2] != expected["bytes"] or sha256_of(file) != expected["sha256"]:
                        continue
                    tensors = load(path) if load else None
                    if _identity(os.stat(path)) == before:
                        return tensors
            except FileNotFoundError:
                continue
            except OSError as error:
                raise CheckpointError("a file of the checkpoint cannot be read", where=path,
                                      received=error.strerror, fix="check its permissions and its disk") from None
        self._check(self._file(suffix), expected)
        raise self._overtaken()

    def _overtaken(self) -> CheckpointError:
        return CheckpointError("the checkpoint was replaced again and again while it was read", where=self.path,
                               fix="repeat the command when the training saves less often, or has ended")

    def _peek(self) -> Dict[str, Any]:
        if not self.has_sidecar():
            if not os.path.exists(self.path):
                raise CheckpointError("the checkpoint is not there", where=self.path, fix=self._look_alikes())
            raise CheckpointError("the checkpoint has no sidecar, so nothing tells what network it is",
                                  where=self.sidecar_path, fix="keep the .json that was written with it beside it")
        try:
            sidecar = parse(self.sidecar_path)
            if sidecar.get(_CHECKSUM) not in (None, _digest(sidecar)):
                raise ValueError("it has changed since it was written (SHA-256)")
        except (OSError, ValueError) as error:
            raise CheckpointError("the checkpoint's sidecar is damaged", where=self.sidecar_path,
                                  received=getattr(error, "strerror", None) or reason(error),
                                  fix="copy it again, or use another checkpoint of the run; if you changed it "
                                      f"yourself, remove its {_CHECKSUM!r}") from None
        check(sidecar, self.sidecar_path)
        return sidecar

    def _check(self, file: Path, expected: Mapping[str, Any]) -> None:
        problem = no_file(file)
        if problem is not None:
            raise CheckpointError(f"a file of the checkpoint {problem.replace('not there', 'missing')}", where=file,
                                  fix="copy it too, or use another checkpoint of the run")
        size = file.stat().st_size
        if size != expected["bytes"]:
            raise CheckpointError("a file of the checkpoint is truncated or was replaced", where=file,
                                  received=f"{size:,} bytes; {expected['bytes']:,} were written",
                                  fix="copy it again, or use another checkpoint of the run")
        if sha256(file) != expected["sha256"]:
            raise CheckpointError("a file of the checkpoint has changed since it was written (SHA-256)",
                                  where=file, fix="copy it again, or use another checkpoint of the run")

    def _look_alikes(self) -> str:
        names = [p.name for p in sorted(self.path.parent.glob("*" + PARAMS))]
        close = nearest(self.path.name, names)
        return "did you mean " + " or ".join(close) + "?" if close else "train first, or check the path"


def new_stem(folder: Path, model: str, backbone: str, data: str) -> str:
    """A name for a run, ``<model>_<backbone>_<data>_<yyyymmdd>_<HHMMSS>``, that no other run has taken.

    Two runs begun in the same second get different names.

    Raises:
        UsageError: the folder cannot be made or written to.
    """
    now = datetime.now()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        while True:
            stem = f"{model}_{backbone}_{data}_{now:%Y%m%d_%H%M%S}"
            try:
                (folder / f"{stem}.yaml").touch(exist_ok=False)  # the run's configuration; taken in one atomic step
                return stem
            except FileExistsError:
                now = now.fromtimestamp(now.timestamp() + 1)
    except OSError as error:
        raise UsageError("checkpoints cannot be written there", where=folder.absolute(), received=error.strerror,
                         fix="choose another folder: --weights DIR") from None


def find_checkpoint(text: Union[str, Path], folder: Path) -> Checkpoint:
    """The checkpoint that a user names: a path, or a file name below ``folder``.

    Raises:
        CheckpointError: neither; the message has the nearest names.
    """
    direct = Checkpoint(text)
    if os.path.exists(direct.path) or direct.has_sidecar():
        return direct
    known = {p.name: p for p in sorted(Path(folder).glob(f"**/*{PARAMS}"))}
    if direct.path.name in known:
        return Checkpoint(known[direct.path.name])
    close = nearest(direct.path.name, known)
    raise CheckpointError("no such checkpoint", where=f"{direct.path.absolute()}, nor below {Path(folder).absolute()}",
                          received=text, fix="did you mean " + " or ".join(close) + "?" if close else
                          "train first (python train.py --model fcn), or give the path of a .params file")


def newest(folder: Path, *, resumable: bool = False,
           matches: Callable[[Mapping[str, Any]], bool] = lambda sidecar: True) -> Optional[Checkpoint]:
    """The checkpoint below ``folder`` that was written last, or None; of a run, the best one if there is one.

    Args:
        folder: ``weights/``, or one network's folder in it.
        resumable: a run's last checkpoint, with its training state, instead of the best.
        matches: asked with each sidecar.
    """
    found: List[Checkpoint] = []
    for path in Path(folder).glob(f"**/*{_SIDECAR}"):
        checkpoint = Checkpoint(path.with_suffix(PARAMS))
        places = checkpoint.path, checkpoint._new(PARAMS), checkpoint.path  # a writer may rename it meanwhile
        if not any(place.exists() for place in places):
            continue  # others write .json files too: wandb
        try:
            sidecar = checkpoint._peek()
            if matches(sidecar) and (STATE in sidecar["files"] or not resumable):
                found.append(checkpoint)
        except (CheckpointError, KeyError):
            log.warning("passed over, for its sidecar is damaged: %s", path)
    if not found:
        return None
    latest = max(found, key=lambda c: (c.sidecar_path.stat().st_mtime_ns, c.stem))
    best = Checkpoint(latest.path.with_name(latest.stem + BEST + PARAMS))
    return best if not resumable and best.has_sidecar() else latest


def all_finite(net) -> bool:
    """Whether no parameter of ``net`` is NaN or infinite."""
    return finite([p.list_data()[0] for p in net.named_parameters().values()])


def finite(arrays: Sequence[mx.nd.NDArray]) -> bool:
    """Whether no number in ``arrays``, all on one device, is NaN or infinite."""
    some = [arrays[i:i + _AT_ONCE] for i in range(0, len(arrays), _AT_ONCE)]
    return all(bool(mx.nd.multi_all_finite(*a, num_arrays=len(a)).asnumpy().all()) for a in some)


def _identity(status: os.stat_result) -> tuple:
    """What tells one file, unchanged, from all others."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _digest(sidecar: Mapping[str, Any]) -> str:
    """SHA-256 of a sidecar's content but for the line that holds it, however it is laid out."""
    content = {key: value for key, value in sidecar.items() if key != _CHECKSUM}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _save(path: Path, tensors: Mapping[str, mx.nd.NDArray]) -> None:
    """Write named tensors, and wait until they are on the disk."""
    try:
        mx.nd.save(str(path), dict(tensors))
        with open(path, "rb+") as file:
            os.fsync(file.fileno())
            # the file ends with the last name, and MXNet does not notice when the end finds no room
            name = list(tensors)[-1].encode()
            file.seek(0, os.SEEK_END)
            file.seek(max(file.tell() - len(name) - 8, 0))
            problem = None if file.read() == len(name).to_bytes(8, sys.byteorder) + name else "its end is missing"
    except (mx.MXNetError, OSError) as error:
        problem = str(error).strip().splitlines()[-1]
    if problem is not None:
        raise EnvironmentProblem("the checkpoint could not be written", where=path, received=problem,
                                 fix="see whether the disk is full, or choose another (--weights DIR)")
