"""What every preparation is: a list of files to make, and the one way in which they are made."""
from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import cv2
import numpy as np

from ...errors import DataError, DataNotFoundError, MXNetSegError, UsageError
from ...files import PathLike, atomic_write
from ..audit import Audit, audit
from ..base import list_files
from ..folder import read_classes
from ..parallel import in_parallel
from .stamp import fingerprint

__all__ = ["Job", "Preparation", "Prepared", "files_by_name", "fingerprint", "place", "prepare", "read_json",
           "write_png", "write_text"]

STAMP = ".mxnetseg-prepare.json"
_DEPTH = 4  # folders below the source in which its parts are looked for

Progress = Callable[[Iterable, int], Iterable]


class Job(NamedTuple):
    """One file to make.

    Attributes:
        target: it is made if it is not there.
        write: makes it, wholly or not at all; or leaves it out.
        origin: :func:`fingerprint` of everything it is made from, the resolved classes included for a mask whose
            ids depend on them. A later run makes the file again if its origin has changed.
    """

    target: Path
    write: Callable[[], None]
    origin: str = ""


class Prepared(NamedTuple):
    """What :func:`prepare` did: files made, files that were there, files left out, and the audit of the result."""

    made: int
    kept: int
    left_out: int
    audit: Audit


class Preparation:
    """Base of the conversions. A subclass declares the attributes below and writes :meth:`jobs`.

    Args:
        source: folder with the parts that ``needs`` names, or one above them.
        target: folder to write.
        classes: file with the classes, see :func:`~mxnetseg.data.folder.read_classes`, if ``options`` has it.

    Attributes:
        dataset: the data set that reads the result.
        needs: what the source holds.
        makes: what the result holds.
        options: which of the further arguments it takes.
        walks: it takes whatever it finds below the source, so that the target must not lie there.
    """

    dataset: str = "folder"
    needs: str = ""
    makes: str = ""
    options: Tuple[str, ...] = ()
    walks: bool = False

    def __init__(self, source: Path, target: Path, *, classes: Optional[Path] = None):
        self.source, self.target, self.classes_file = source, target, classes

    def jobs(self) -> List[Job]:
        """The files to make, in a fixed order; reads lists and headers only.

        Raises:
            DataNotFoundError, DataError: the source is not what ``needs`` says.
        """
        raise NotImplementedError

    def finish(self) -> None:
        """Write what depends on all files, such as the lists: it says that the result is whole."""

    def audited(self) -> Tuple[str, Path]:
        """The data set to audit in the end, and its root."""
        return self.dataset, self.target

    # ---- what subclasses use ----------------------------------------------------------------

    def find(self, *parts: str, what: str, optional: bool = False) -> Optional[Path]:
        """The folder, at or below the source, that holds all ``parts``.

        Raises:
            DataNotFoundError: there is none.
        """
        for folder in _folders(self.source, _DEPTH):
            if all((folder / part).exists() for part in parts):
                return folder
        if optional:
            return None
        raise self.lacking(f"a folder with {', '.join(parts)} ({what})")

    def lacking(self, what: str) -> DataNotFoundError:
        """The error for a source that lacks something."""
        return DataNotFoundError(f"the source lacks {what}", where=self.source.absolute(),
                                 fix=f"SRC, or a folder below it, holds {self.needs}")

    def given_classes(self) -> Optional[Path]:
        """The file that names the classes: the option's, else the source's classes.txt; None without either."""
        beside = self.source / "classes.txt"
        return self.classes_file or (beside if beside.is_file() else None)

    def named_classes(self) -> Optional[Tuple[str, ...]]:
        """The classes of :meth:`given_classes`, None if there are none."""
        file = self.given_classes()
        return read_classes(file)[0] if file else None

    def write_list(self, name: str, lines: Sequence[str]) -> None:
        """Write a list below the target, one entry a line."""
        write_text(self.target / name, "".join(f"{line}\n" for line in lines))

    def copy_lists(self) -> None:
        """Take over train.txt, val.txt and test.txt if the source has them."""
        for split in ("train", "val", "test"):
            if (self.source / f"{split}.txt").is_file():
                write_text(self.target / f"{split}.txt", (self.source / f"{split}.txt").read_text(encoding="utf-8-sig"))


def prepare(name: str, source: PathLike, target: PathLike, *, classes: Optional[PathLike] = None, force: bool = False,
            workers: Optional[int] = None, progress: Optional[Progress] = None,
            boxes: Optional[str] = None) -> Prepared:
    """Convert a source into what its data set reads, and audit the result.

    The source is not changed. Pictures that need no change are hard links to the source's where the file
    system allows it, else copies. What is there already is kept.

    Args:
        name: a name of :data:`~mxnetseg.data.prepare.PREPARATIONS`.
        source: folder with what the preparation needs.
        target: folder to write.
        classes: file with the classes, for those that take one.
        boxes: ``'ignore'`` or ``'fill'``: use of objects with a box but no outline, for those that take it.
        force: make again what is there.
        workers: threads; default one for each core.
        progress: wraps a stream of items: ``progress(items, count)``.

    Raises:
        UnknownNameError: no such preparation.
        UsageError: an option that it does not take, a target that another preparation has made, or one that
            would be taken for a part of the source.
        DataNotFoundError: the source lacks something.
        DataError: a file of the source is damaged. What was made before stays.
        EnvironmentProblem: a package is needed to read the source.
    """
    from . import PREPARATIONS

    kind, name = PREPARATIONS.get(name), PREPARATIONS.resolve(name)
    source, target = Path(source).expanduser(), Path(target).expanduser()
    options: Dict[str, Any] = {} if classes is None else {"classes": Path(classes)}
    options.update({} if boxes is None else {"boxes": boxes})
    for option in options:
        if option not in kind.options:
            raise UsageError(f"the preparation {name!r} takes no {option}", received=options[option],
                             fix=f"leave out --{option}")
    if not source.exists():
        raise DataNotFoundError("there is no such source", where=source.absolute(), fix=f"SRC holds {kind.needs}")
    if kind.walks and source.resolve() in (target.resolve(), *target.resolve().parents):
        raise UsageError("the target lies inside the source, where it would be taken for a part of it",
                         where=target.absolute(), fix="choose a DST outside SRC")
    preparation = kind(source, target, **options)
    jobs = preparation.jobs()
    _stamp(target, {"preparation": name, "classes": _classes_text(preparation)}, force=force)
    counts = {True: 0, False: 0, None: 0}

    def make(job: Job) -> Optional[bool]:
        """Whether the file was made; None if it was left out."""
        if not force and job.target.exists():
            return False
        _named(job)
        return True if job.target.exists() else None

    bar = progress or (lambda items, count: items)
    for made in bar(in_parallel(make, jobs, workers=workers), len(jobs)):
        counts[made] += 1
    preparation.finish()
    dataset, root = preparation.audited()
    result = audit(dataset, root=root, workers=workers, progress=progress)
    return Prepared(counts[True], counts[False], counts[None], result)


def _named(job: Job) -> None:
    """Run a job; whatever a library throws becomes an error with the file's name."""
    try:
        job.write()
    except MXNetSegError:
        raise
    except Exception as error:
        raise DataError("a file could not be made from its source", where=job.target,
                        received=f"{type(error).__name__}: {error}",
                        fix="check the source's file of this name; what has been made so far stays") from error


def _classes_text(preparation: Preparation) -> Optional[str]:
    file = preparation.given_classes() if "classes" in preparation.options else None
    return file.read_text(encoding="utf-8-sig") if file else None


def _stamp(target: Path, made: Dict[str, Any], *, force: bool) -> None:
    """Note in the target how it is made; refuse one that is made otherwise, whose files would be taken for ours.

    Raises:
        UsageError: the target was made by another preparation, or with other classes.
    """
    path = target / STAMP
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        before = None
    if before not in (None, made) and not force:
        if before.get("preparation") != made["preparation"]:
            received = f"made by {before.get('preparation')!r}, now {made['preparation']!r}"
        else:
            received = "made with other classes"
        raise UsageError("the target holds the result of another preparation", where=target.absolute(),
                         received=received, fix="choose another DST, or --force to make all files again")
    write_text(path, json.dumps(made) + "\n")


def _folders(top: Path, depth: int) -> Iterator[Path]:
    """``top`` and the folders below it, nearest first."""
    level = [top] if top.is_dir() else []
    for _ in range(depth):
        yield from level
        below: List[Path] = []
        for folder in level:
            with os.scandir(folder) as entries:
                below += sorted(Path(e.path) for e in entries if e.is_dir() and not e.name.startswith("."))
        level = below
    yield from level


# ---- files ----------------------------------------------------------------------------------


def place(source: Path, target: Path) -> None:
    """Put a file of the source in its place, unchanged: as a hard link, or as a copy on another file system.

    Raises:
        DataNotFoundError: there is no such file.
    """
    if not source.is_file():
        raise DataNotFoundError("a file of the source is missing", where=source,
                                fix="unpack the source again; what has been made so far stays")
    if target.exists():
        if os.path.samefile(source, target):
            return
        target.unlink()
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(os.path.realpath(source), target)
    except OSError:
        with open(source, "rb") as stream, atomic_write(target) as copy:
            shutil.copyfileobj(stream, copy)


def write_png(array: np.ndarray, target: Path) -> None:
    """Write a mask, uint8 (H, W), or a picture, uint8 (H, W, 3) RGB, atomically."""
    array = np.ascontiguousarray(array if array.ndim == 2 else array[..., ::-1])
    _, data = cv2.imencode(".png", array)
    with atomic_write(target) as stream:
        stream.write(data)


def write_text(path: Path, text: str) -> None:
    """Write a text atomically, unless the file holds it already."""
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return
    with atomic_write(path, "w") as stream:
        stream.write(text)


def read_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        DataNotFoundError: there is no such file.
        DataError: it is damaged or no JSON.
    """
    try:
        with open(path, encoding="utf-8") as stream:
            return json.load(stream)
    except FileNotFoundError:
        raise DataNotFoundError("a file of annotations is missing", where=path,
                                fix="unpack the source again") from None
    except (OSError, ValueError, RecursionError) as error:
        raise DataError("a file of annotations is damaged or no JSON", where=path, received=error,
                        fix="restore it from its source") from error


def files_by_name(folder: Path, suffixes: Sequence[str]) -> Dict[str, Path]:
    """Path below ``folder`` without extension -> file.

    Raises:
        DataError: two files of one name.
    """
    found: Dict[str, Path] = {}
    for path in list_files(folder, suffixes):
        name = path.relative_to(folder).with_suffix("").as_posix()
        if name in found:
            raise DataError("two files share one name", where=f"{found[name]}\n{path}",
                            fix="remove or rename one of them")
        found[name] = path
    return found
