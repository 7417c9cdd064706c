"""The console command: ``mxnetseg COMMAND ...``, also ``python -m mxnetseg COMMAND ...``.

Each command is a module with ``add_arguments(parser)`` and ``run(args) -> exit code``, imported only
when it is called, so that ``mxnetseg --help`` and ``mxnetseg doctor`` need neither MXNet nor NumPy.

Exit codes: 0 done, 1 a check failed or data is bad, 2 wrong use, 130 interrupted.
"""
from __future__ import annotations

import argparse
import errno
import logging
import os
import re
import sys
import traceback
from contextlib import contextmanager, redirect_stdout
from importlib import import_module
from pathlib import Path
from typing import Dict, Iterator, List, Optional, Sequence, Tuple

from ..errors import EnvironmentProblem, MXNetSegError, UnknownNameError, UsageError, nearest, printable, short
from ..files import expand

# command -> (module, what it does), in the order that --help shows them
COMMANDS: Dict[str, Tuple[str, str]] = {
    "train": ("mxnetseg.tools.train", "train a network"),
    "eval": ("mxnetseg.tools.eval", "score a checkpoint, or write its predictions"),
    "predict": ("mxnetseg.tools.predict", "segment pictures of your own"),
    "demo": ("mxnetseg.tools.demo", "train on the built-in sample, evaluate, draw pictures"),
    "convert": ("mxnetseg.tools.convert", "turn other people's weights into a checkpoint"),
    "models": ("mxnetseg.tools.models", "list the networks"),
    "summary": ("mxnetseg.tools.summary", "what a network has and costs, its paper and published figures"),
    "datasets": ("mxnetseg.tools.datasets", "list the data sets and where they are"),
    "prepare": ("mxnetseg.tools.prepare", "convert downloads, or masks of your own, into what a data set reads"),
    "check-data": ("mxnetseg.tools.check_data", "find what is wrong with a data set, and what it holds"),
    "browse": ("mxnetseg.tools.browse", "draw pictures of a data set and of what the network is shown"),
    "pack": ("mxnetseg.tools.pack", "write a data set as one file a split, for slow disks"),
    "benchmark": ("mxnetseg.tools.benchmark", "this library beside plain MXNet and PyTorch, in turns"),
    "config": ("mxnetseg.tools.config", "show, explain or save a configuration"),
    "doctor": ("mxnetseg.tools.doctor", "check this installation and say how to mend it"),
}

_INTERRUPTED = 130  # 128 + SIGINT, as shells report it


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run ``mxnetseg`` with the given arguments (default: the process's own); return the exit code."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv:
        print(overview(), file=sys.stderr)
        return 2
    name, rest = argv[0], argv[1:]
    if name in ("-h", "--help", "help") and not rest:
        print(overview())
        return 0
    if name == "--version":
        from .. import __version__
        print(f"mxnetseg {__version__}")
        return 0
    if name == "help":
        name, rest = rest[0], ["--help"]
    return run_command(name, rest)


def run_command(name: str, argv: Sequence[str], *, prog: Optional[str] = None) -> int:
    """Run one command; return its exit code. Never raises for what a user can cause.

    Args:
        name: a key of :data:`COMMANDS`.
        argv: its arguments.
        prog: how the usage line calls the program; default ``mxnetseg NAME``.
    """
    prog = prog or f"mxnetseg {name}"
    debug = "--debug" in argv
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a terminal without UTF-8 shows escapes where it lacks a letter
            stream.reconfigure(errors="backslashreplace")
    try:
        if name not in COMMANDS:
            prog = "mxnetseg"
            raise UnknownNameError("command", name, COMMANDS)
        module = import_module(COMMANDS[name][0])
        parser = Parser(prog=prog, description=COMMANDS[name][1].capitalize() + ".")
        module.add_arguments(parser)
        parser.add_argument("--debug", action="store_true",
                            help="log more, and show where in the program an error arose")
        args = parser.parse_args(argv)
        _expand_paths(args)
        with _logging(debug), redirect_stdout(_Printable(sys.stdout)):
            code = module.run(args)
        sys.stdout.flush()  # here, where a closed pipe is understood
        return code
    except MXNetSegError as error:
        if debug:
            traceback.print_exc()
        print(printable(f"{prog}: {error}"), file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print(f"\n{prog}: interrupted", file=sys.stderr)
        return _INTERRUPTED
    except BrokenPipeError:  # `mxnetseg models | head`: whoever read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:  # of a file: a broken disk, missing permissions, a path too long
        if error.filename is None:
            raise
        if debug:
            traceback.print_exc()
        problem = _explained(error)
        print(printable(f"{prog}: {problem}"), file=sys.stderr)
        return problem.exit_code
    except SystemExit as stop:  # argparse ends so: after --help with 0, after a usage error with 2
        return stop.code if isinstance(stop.code, int) else 2


def _explained(error: OSError) -> MXNetSegError:
    """Return our error for an operating system's about a file that no other place expected."""
    if error.errno == errno.ENAMETOOLONG:
        return UsageError("the path is too long", where=short(str(error.filename)), received=error.strerror,
                          fix="give a shorter path")
    return EnvironmentProblem("a file or folder cannot be used", where=error.filename, received=error.strerror,
                              fix="check its permissions and the disk; --debug shows where in the program this arose")


class _Printable:
    """A text stream on which control characters come as escapes."""

    def __init__(self, stream):
        self._stream = stream

    def write(self, text: str) -> int:
        return self._stream.write(printable(text))

    def __getattr__(self, name: str):
        return getattr(self._stream, name)


def _expand_paths(args: argparse.Namespace) -> None:
    """Take a leading ``~`` for the home folder: shells leave that of ``--out=~/x`` alone."""
    for key, value in vars(args).items():
        if isinstance(value, Path):
            setattr(args, key, expand(value))
        elif isinstance(value, list):
            setattr(args, key, [expand(item) if isinstance(item, Path) else item for item in value])


def overview() -> str:
    """What ``mxnetseg --help`` prints."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {summary}" for name, (_, summary) in COMMANDS.items()]
    return "\n".join([
        "usage: mxnetseg COMMAND [options]",
        "",
        "Semantic segmentation for Apache MXNet.",
        "",
        "commands:",
        *lines,
        "",
        "`mxnetseg COMMAND --help` explains one. `mxnetseg --version` prints the version.",
    ])


class Parser(argparse.ArgumentParser):
    """An argument parser without abbreviations, which suggests the nearest option for a typo.

    It also takes options as wandb's sweep agent writes them: ``--batch_size=4`` as ``--batch-size=4``, and, where
    there is a ``--set``, ``--optimizer.lr=0.001`` as ``--set optimizer.lr=0.001``.
    """

    def __init__(self, **settings):
        super().__init__(allow_abbrev=False, **settings)

    def parse_known_args(self, args=None, namespace=None):
        return super().parse_known_args(self._as_declared(sys.argv[1:] if args is None else args), namespace)

    def _as_declared(self, args: Sequence[str]) -> List[str]:
        """Rewrite underscores in options and dotted keys into the options that are declared."""
        known, declared, rest = self._option_string_actions, [], iter(args)
        for text in rest:
            option, equals, value = text.partition("=")
            if text == "--":  # whatever follows is no option
                declared += [text, *rest]
            elif not option.startswith("--") or option in known:
                declared.append(text)
            elif option.replace("_", "-") in known:
                declared.append(option.replace("_", "-") + equals + value)
            elif "--set" in known and "." in option:
                declared += ["--set", f"{option[2:]}={value if equals else next(rest, '')}"]
            else:
                declared.append(text)
        return declared

    def format_usage_line(self) -> str:
        """Return the usage on one line: every option is in ``--help``, not here."""
        shapes = {"?": "[{}]", "*": "[{} ...]", "+": "{} [...]"}
        words = [shapes.get(action.nargs, "{}").format(action.metavar or action.dest)
                 for action in self._get_positional_actions()]
        return " ".join(["usage:", self.prog, "[options]", *words]) + f"   (all options: {self.prog} --help)\n"

    def error(self, message: str):
        """Print one line of usage, the message and the nearest options; exit with 2."""
        options = [option for option in self._option_string_actions if option.startswith("--")]
        for option in re.findall(r"(?<!\S)--[\w-]+", message.partition("unrecognized arguments:")[2]):
            close = nearest(option, options, n=2)
            if close:
                message += f"\n  fix:      for {option}, did you mean {' or '.join(close)}?"
        self.exit(2, f"{self.format_usage_line()}{self.prog}: {message}\n")


@contextmanager
def _logging(debug: bool) -> Iterator[None]:
    """Show the library's log on stderr while a command runs: warnings by name, information plainly."""
    logger = logging.getLogger("mxnetseg")
    handler = logging.StreamHandler()
    handler.setFormatter(_Formatter())
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG if debug else logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


class _Formatter(logging.Formatter):
    """``text`` for information, ``warning: text`` and the like for all else."""

    def format(self, record: logging.LogRecord) -> str:
        text = printable(super().format(record))
        return text if record.levelno == logging.INFO else f"{record.levelname.lower()}: {text}"
