"""What every preparation is: a list of files to make, and the one way in which they are made."""
from __future__ import annotations

import json
import os
import shutil
import unicodedata
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import cv2
import numpy as np

from ...errors import DataError, DataNotFoundError, MXNetSegError, UsageError
from ...files import PathLike, atomic_write, expand, no_file
from ..audit import audit
from ..base import list_files, read_list
from ..findings import Audit
from ..folder import read_classes
from ..parallel import TIMEOUT, in_parallel
from .stamp import STAMP, Stamp, fingerprint

__all__ = ["Job", "Preparation", "Prepared", "STAMP", "composed", "files_by_name", "fingerprint", "place", "prepare",
           "read_json", "write_png", "write_text"]

_DEPTH = 4  # folders below the source in which its parts are looked for

Progress = Callable[[Iterable, int], Iterable]


class Job(NamedTuple):
    """One file to make.

    Attributes:
        target: it is made if it is not there.
        write: makes it, wholly or not at all; or leaves it out.
        origin: :func:`fingerprint` of everything it is made from, the resolved classes included for a mask whose
            ids depend on them. A later run makes the file again if its origin has changed.
        source: the file that :func:`place` links or copies, for a target that may be this file itself.
    """

    target: Path
    write: Callable[[], None]
    origin: str
    source: Optional[Path] = None


class Prepared(NamedTuple):
    """Result of :func:`prepare`.

    Attributes:
        made: number of files written, the ``remade`` included.
        kept: number of files that were there and up to date.
        left_out: number of files that the preparation leaves out.
        audit: of the result.
        remade: files, as paths below the target, that were there and whose source or classes have changed.
        removed: files whose source is gone.
        notes: sentences about what the user must learn of.
    """

    made: int
    kept: int
    left_out: int
    audit: Audit
    remade: Tuple[str, ...] = ()
    removed: Tuple[str, ...] = ()
    notes: Tuple[str, ...] = ()


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
        classes: class names, set by :meth:`jobs` if they come from the source.
        notes: sentences about what the user must learn of, added by :meth:`jobs`.
    """

    dataset: str = "folder"
    needs: str = ""
    makes: str = ""
    options: Tuple[str, ...] = ()
    walks: bool = False
    classes: Tuple[str, ...] = ()

    def __init__(self, source: Path, target: Path, *, classes: Optional[Path] = None):
        self.source, self.target, self.classes_file = source, target, classes
        self.notes: List[str] = []
        self.texts: Dict[str, str] = {}

    def jobs(self) -> List[Job]:
        """The files to make, in a fixed order; reads lists and headers only.

        Raises:
            DataNotFoundError, DataError: the source is not what ``needs`` says.
        """
        raise NotImplementedError

    def finish(self) -> None:
        """Add the lists, which are written last: they say that the result is whole. Called after :meth:`jobs`."""

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

    def write_list(self, name: str, lines: Iterable[str]) -> None:
        """Add a list, to be written below the target, one entry a line."""
        self.texts[name] = "".join(f"{line}\n" for line in lines)

    def copy_lists(self) -> None:
        """Take over train.txt, val.txt and test.txt if the source has them."""
        for split in ("train", "val", "test"):
            if (self.source / f"{split}.txt").is_file():
                self.write_list(f"{split}.txt", map(composed, read_list(self.source / f"{split}.txt")))


def prepare(name: str, source: PathLike, target: PathLike, *, classes: Optional[PathLike] = None, force: bool = False,
            boxes: Optional[str] = None, workers: Optional[int] = None, timeout: float = TIMEOUT,
            progress: Optional[Progress] = None) -> Prepared:
    """Convert a source into what its data set reads, and audit the result.

    The source is not changed. Images that need no change are hard links to the source's where the file system
    allows it, else copies. A file whose sources and classes are as before is kept; if they have changed it is made
    again, and it is removed if its source is gone.

    Args:
        name: a name of :data:`~mxnetseg.data.prepare.PREPARATIONS`.
        source: folder with what the preparation needs.
        target: folder to write.
        classes: file with the classes, for those that take one.
        force: make all files again, those that were edited included.
        boxes: ``'ignore'`` or ``'fill'``: use of objects with a box but no outline, for those that take it.
        workers: threads; default one for each core.
        timeout: seconds to wait for one file.
        progress: wraps a stream of items: ``progress(items, count)``.

    Raises:
        UnknownNameError: no such preparation.
        UsageError: an option that it does not take; a target with files of another preparation or source, files
            of unknown origin, or outdated files that were edited; or a target inside the source.
        DataNotFoundError: the source lacks something.
        DataError: a file of the source is damaged. What was made before stays.
        EnvironmentProblem: a package is needed to read the source.
    """
    from . import PREPARATIONS

    kind, name = PREPARATIONS.get(name), PREPARATIONS.resolve(name)
    source, target = expand(source), expand(target)
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
    jobs = _checked(preparation.jobs(), target)
    preparation.finish()
    lists = {file: Job(target / file, partial(write_text, target / file, text), fingerprint(text))
             for file, text in preparation.texts.items()}
    stamp = Stamp(target, name, source, preparation.classes)
    stamp.begin({file: job.origin for file, job in {**jobs, **lists}.items()
                 if not _is_its_source(job)}, force=force)
    unfinished = set(stamp.unfinished)

    def make(file: str, job: Job) -> Optional[bool]:
        """Return True if the file was made, False if it was up to date, None if it is left out."""
        if file in unfinished:
            _named(job)
            return stamp.note(file, job.origin) or None
        return False if job.target.exists() else None

    counts = {True: 0, False: 0, None: 0}
    bar = progress or (lambda items, count: items)
    try:
        done = in_parallel(lambda item: make(*item), jobs.items(), workers=workers, timeout=timeout,
                           where=lambda item: item[1].target)
        for made in bar(done, len(jobs)):
            counts[made] += 1
        for file, job in lists.items():
            make(file, job)
        stamp.end()
    finally:
        stamp.close()
    dataset, root = preparation.audited()
    result = audit(dataset, root=root, workers=workers, timeout=timeout, progress=progress)
    return Prepared(counts[True], counts[False], counts[None], result, tuple(n for n in stamp.remade if n in jobs),
                    tuple(stamp.removed), (*stamp.notes, *preparation.notes))


def _checked(jobs: Iterable[Job], target: Path) -> Dict[str, Job]:
    """Path below the target -> job. Refuse files outside of it, and two sources of one file.

    Raises:
        DataError: see above.
    """
    found: Dict[str, Job] = {}
    for job in jobs:
        parts = job.target.relative_to(target).parts if target in job.target.parents else ("..",)
        if ".." in parts:
            raise DataError("a name in the source leads out of the target", where=target.absolute(),
                            received=job.target, fix="correct this name in the source's lists or annotations")
        file = "/".join(parts)
        if found.setdefault(file, job).origin != job.origin:
            raise DataError("two files of the source become one file of the target", where=job.target,
                            fix="rename one of them")
    return found


def _is_its_source(job: Job) -> bool:
    """Return whether a file is to stay where it is, since the target is the folder of the source."""
    return job.source is not None and os.path.realpath(job.source) == os.path.realpath(job.target)


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
        DataError: it is damaged, no JSON or no regular file.
    """
    problem = no_file(path)
    if problem not in (None, "is not there"):
        raise DataError(f"a file of annotations {problem}", where=path, fix="restore it from its source, or remove it")
    try:
        return json.loads(path.read_bytes())  # UTF-8, -16 or -32, with or without a byte order mark
    except FileNotFoundError:
        raise DataNotFoundError("a file of annotations is missing", where=path,
                                fix="unpack the source again") from None
    except (OSError, ValueError, RecursionError) as error:
        raise DataError("a file of annotations is damaged or no JSON", where=path, received=error,
                        fix="restore it from its source") from error


def composed(name: str) -> str:
    """Unicode's composed form of a name. macOS writes names decomposed, which look the same and compare unequal."""
    return unicodedata.normalize("NFC", name)


def files_by_name(folder: Path, suffixes: Sequence[str]) -> Dict[str, Path]:
    """Path below ``folder`` without extension, :func:`composed` -> file.

    Raises:
        DataError: two files of one name.
    """
    found: Dict[str, Path] = {}
    for path in list_files(folder, suffixes):
        name = composed(path.relative_to(folder).with_suffix("").as_posix())
        if name in found:
            raise DataError("two files share one name", where=f"{found[name]}\n{path}",
                            fix="remove or rename one of them")
        found[name] = path
    return found
