"""The processes of a run, as the launcher that started them describes them in environment variables.

==============  ============================================  ==================================================
launcher        rank, number of processes, rank on the host   address of rank 0
==============  ============================================  ==================================================
``torchrun``    RANK, WORLD_SIZE, LOCAL_RANK                  MASTER_ADDR and MASTER_PORT
``slurm``       SLURM_PROCID, SLURM_NTASKS, SLURM_LOCALID     MASTER_ADDR, else the first host of SLURM_NODELIST
``openmpi``     OMPI_COMM_WORLD_RANK, OMPI_COMM_WORLD_SIZE,   MASTER_ADDR; on one host it may be missing
                OMPI_COMM_WORLD_LOCAL_RANK
``kubernetes``  JOB_COMPLETION_INDEX, WORLD_SIZE, 0           MASTER_ADDR
==============  ============================================  ==================================================

``MXNETSEG_LAUNCHER`` names one of them, or ``none``, where the variables of several are set. MASTER_PORT has a default
everywhere but under ``torchrun``. Rank 0 listens on the port after MASTER_PORT, or on MXNETSEG_CONTROL_PORT.
"""
from __future__ import annotations

import os
import platform
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ..errors import UsageError

LAUNCHER, CONTROL_PORT = "MXNETSEG_LAUNCHER", "MXNETSEG_CONTROL_PORT"
_PORT = 29500  # PyTorch's default
_LOOPBACK = "127.0.0.1"
_TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
_SLURM = ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID")
_OPEN_MPI = ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK")
_KUBERNETES = ("JOB_COMPLETION_INDEX", "WORLD_SIZE", "MASTER_ADDR")

Environment = Mapping[str, str]


@dataclass(frozen=True)
class Processes:
    """Place of this process among the processes of a run.

    Attributes:
        rank: number of this process, from 0.
        size: number of processes.
        local_rank: number of this process among those of its host, from 0.
        host: name of its host.
        launcher: a key of the table above, or ``none``.
        address: host name or address of rank 0.
        port: MASTER_PORT; backends may use it at rank 0.
        control_port: port on which rank 0 listens for the other processes.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    host: str = platform.node()
    launcher: str = "none"
    address: str = _LOOPBACK
    port: int = _PORT
    control_port: int = _PORT + 1

    def __str__(self) -> str:
        return f"rank {self.rank} of {self.size} on {self.host}"

    @classmethod
    def from_environment(cls, environment: Environment = os.environ) -> Processes:
        """Return the place of this process; one process alone if no launcher has started it.

        Args:
            environment: the environment variables.

        Raises:
            UsageError: the variables of a launcher are incomplete or no numbers, or two launchers contradict each
                other.
        """
        chosen = environment.get(LAUNCHER, "")
        if chosen == "none":
            return cls()
        if chosen:
            if chosen not in _READERS:
                raise UsageError("unknown launcher", where=LAUNCHER, received=chosen,
                                 fix=f"one of {', '.join(_READERS)}, none")
            found = _READERS[chosen](environment)
            if found is None:
                raise UsageError(f"the variables of the launcher {chosen} are not set", where=LAUNCHER,
                                 received=chosen, fix=f"unset {LAUNCHER}, or set it to none for one process")
            return found

        places = [place for read in _READERS.values() if (place := read(environment)) is not None]
        if "TORCHELASTIC_RUN_ID" in environment:  # torchrun was started by the others, so its variables are the inner
            places = [place for place in places if place.launcher == "torchrun"] or places
        several = [place for place in places if place.size > 1]
        if len({(place.rank, place.size) for place in several}) > 1:
            raise UsageError("the environment variables of two launchers contradict each other",
                             where="environment", received="\n".join(
                                 f"{place.launcher}: rank {place.rank} of {place.size}" for place in several),
                             fix="\nor ".join(f"{LAUNCHER}={place.launcher}" for place in several))
        return several[0] if several else cls()


# ---- launchers --------------------------------------------------------------------------------


def _torchrun(environment: Environment) -> Processes | None:
    if not {"RANK", "LOCAL_RANK"} & set(environment) and ("WORLD_SIZE" not in environment
                                                          or "JOB_COMPLETION_INDEX" in environment):
        return None
    _require(environment, _TORCHRUN, "torchrun")
    return _place(environment, "torchrun", *_TORCHRUN[:3])


def _slurm(environment: Environment) -> Processes | None:
    if "SLURM_PROCID" not in environment:
        return None
    if "SLURM_NTASKS" not in environment and environment["SLURM_PROCID"] == "0":
        return None  # a batch script without --ntasks, or an interactive shell
    _require(environment, _SLURM, "slurm")
    if _number(environment, "SLURM_NTASKS") == 1:
        return Processes(launcher="slurm")

    address = environment.get("MASTER_ADDR")
    if not address:
        nodes = next((environment[name] for name in ("SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST", "SLURM_NODELIST")
                      if environment.get(name)), None)
        if nodes is None:
            raise UsageError("the environment does not name the host of rank 0", where="environment",
                             received="SLURM_PROCID without SLURM_NODELIST or MASTER_ADDR",
                             fix="start the processes with srun, or set MASTER_ADDR to the host of rank 0")
        address = first_host(nodes)
    # jobs that share a host need ports of their own
    job = _number(environment, "SLURM_JOB_ID") if environment.get("SLURM_JOB_ID") else None
    port = _PORT if job is None else 20000 + 4 * (job % 2500)
    return _place(environment, "slurm", *_SLURM, address=address, port=port)


def _open_mpi(environment: Environment) -> Processes | None:
    if not set(_OPEN_MPI[:2]) & set(environment):
        return None
    _require(environment, _OPEN_MPI, "openmpi")
    address = environment.get("MASTER_ADDR")
    if not address:
        size, local = environment["OMPI_COMM_WORLD_SIZE"], environment.get("OMPI_COMM_WORLD_LOCAL_SIZE")
        if size != local:
            raise UsageError("the environment does not name the host of rank 0", where="environment",
                             received=f"OMPI_COMM_WORLD_SIZE={size}, _LOCAL_SIZE={local}, no MASTER_ADDR",
                             fix="mpirun -x MASTER_ADDR=HOST, with the first host")
        address = _LOOPBACK
    return _place(environment, "openmpi", *_OPEN_MPI, address=address)


def _kubernetes(environment: Environment) -> Processes | None:
    if "JOB_COMPLETION_INDEX" not in environment or "RANK" in environment:
        return None
    if not {"WORLD_SIZE", "MASTER_ADDR"} & set(environment):
        return None  # an indexed job whose pods do not know each other
    _require(environment, _KUBERNETES, "kubernetes")
    return _place(environment, "kubernetes", "JOB_COMPLETION_INDEX", "WORLD_SIZE", None)


_READERS: dict[str, Callable[[Environment], Processes | None]] = {
    "torchrun": _torchrun, "slurm": _slurm, "openmpi": _open_mpi, "kubernetes": _kubernetes}


# ---- variables --------------------------------------------------------------------------------


def _place(environment: Environment, launcher: str, rank: str, size: str, local_rank: str | None, *,
           address: str | None = None, port: int = _PORT) -> Processes:
    """Return the place that the named variables describe."""
    port = _port(environment, "MASTER_PORT", port)
    place = Processes(
        rank=_number(environment, rank), size=_number(environment, size),
        local_rank=_number(environment, local_rank) if local_rank else 0, launcher=launcher,
        address=address or environment["MASTER_ADDR"].strip(), port=port,
        control_port=_port(environment, CONTROL_PORT, port + 1))
    if place.rank >= place.size:
        raise UsageError("the number of this process must be below the number of processes", where="environment",
                         received=f"{rank}={place.rank}, {size}={place.size}", fix="count the processes from 0")
    return place


def _require(environment: Environment, names: tuple[str, ...], launcher: str) -> None:
    """Refuse an environment in which only some variables of a launcher are set."""
    missing = [name for name in names if not environment.get(name, "").strip()]
    if missing:
        present = ", ".join(f"{name}={environment[name]}" for name in names if name not in missing)
        raise UsageError(f"the environment variables of the launcher {launcher} are incomplete", where="environment",
                         received=f"{present}; missing: {', '.join(missing)}",
                         fix=f"set {', '.join(missing)}; or {LAUNCHER}=none for one process")


def _number(environment: Environment, name: str) -> int:
    text = environment[name].strip()
    if not re.fullmatch("[0-9]{1,9}", text):
        raise UsageError("an environment variable must be a whole number", where=name, received=text,
                         fix=f"start the processes with their launcher, or set {LAUNCHER}=none for one process")
    return int(text)


def _port(environment: Environment, name: str, default: int) -> int:
    port = _number(environment, name) if environment.get(name) else default
    if not 0 < port < 65536:
        raise UsageError("a port must be from 1 to 65535", where=name, received=port, fix=f"{name}={_PORT}")
    return port


def first_host(nodes: str) -> str:
    """Return the first host of SLURM's list of hosts: ``'gpu03'`` for ``'gpu[03-05,9],cpu1'``.

    Raises:
        UsageError: the text is no such list.
    """
    first = re.match(r"[^,\[]*(?:\[[^\]]*\][^,\[]*)*(?=,|$)", nodes.strip())
    host = re.sub(r"\[(\d+)[-,\d]*\]", r"\1", first[0]) if first else ""
    if not re.fullmatch(r"[\w.:-]+", host):
        raise UsageError("the list of hosts cannot be read", where="SLURM_NODELIST", received=nodes,
                         fix="set MASTER_ADDR to the first host")
    return host
