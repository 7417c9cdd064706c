"""Environment variables of launchers: complete ones are read, others are refused and shown."""
import pytest

from mxnetseg.engine.processes import Processes, first_host
from mxnetseg.errors import UsageError

TORCHRUN = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "MASTER_ADDR": "node1", "MASTER_PORT": "29400"}
SLURM = {"SLURM_PROCID": "3", "SLURM_NTASKS": "4", "SLURM_LOCALID": "1", "SLURM_NODELIST": "gpu[03-05,9],cpu1"}
OPEN_MPI = {"OMPI_COMM_WORLD_RANK": "3", "OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_LOCAL_RANK": "1"}
KUBERNETES = {"JOB_COMPLETION_INDEX": "3", "WORLD_SIZE": "4", "MASTER_ADDR": "train-0.train"}


def without(variables, *names):
    return {name: value for name, value in variables.items() if name not in names}


@pytest.mark.parametrize("variables, launcher, local_rank, address, port", [
    (TORCHRUN, "torchrun", 1, "node1", 29400),
    (SLURM, "slurm", 1, "gpu03", 29500), ({**SLURM, "SLURM_JOB_ID": "1234567"}, "slurm", 1, "gpu03", 20000 + 4 * 2067),
    ({**SLURM, "MASTER_ADDR": "other", "MASTER_PORT": "4000"}, "slurm", 1, "other", 4000),
    ({**OPEN_MPI, "OMPI_COMM_WORLD_LOCAL_SIZE": "4"}, "openmpi", 1, "127.0.0.1", 29500),
    ({**OPEN_MPI, "OMPI_COMM_WORLD_LOCAL_SIZE": "2", "MASTER_ADDR": "a"}, "openmpi", 1, "a", 29500),
    (KUBERNETES, "kubernetes", 0, "train-0.train", 29500),
    # a launcher within another one
    ({**TORCHRUN, "TORCHELASTIC_RUN_ID": "1", "SLURM_PROCID": "1", "SLURM_NTASKS": "2", "SLURM_LOCALID": "0",
      "SLURM_NODELIST": "a,b"}, "torchrun", 1, "node1", 29400),
    ({**TORCHRUN, "JOB_COMPLETION_INDEX": "1"}, "torchrun", 1, "node1", 29400),
    ({**TORCHRUN, "SLURM_PROCID": "0", "SLURM_NTASKS": "1", "SLURM_LOCALID": "0"}, "torchrun", 1, "node1", 29400),
    ({**SLURM, **OPEN_MPI, "OMPI_COMM_WORLD_RANK": "0", "MASTER_ADDR": "a", "MXNETSEG_LAUNCHER": "slurm"}, "slurm", 1,
     "a", 29500)])
def test_the_variables_of_a_launcher(variables, launcher, local_rank, address, port):
    place = Processes.from_environment(variables)
    assert (place.rank, place.size, place.launcher) == (3, 4, launcher)
    assert (place.local_rank, place.address, place.port, place.control_port) == (local_rank, address, port, port + 1)
    assert Processes.from_environment({**variables, "MXNETSEG_CONTROL_PORT": "7"}).control_port == 7


@pytest.mark.parametrize("variables", [
    {}, {"MASTER_ADDR": "node1"}, {"SLURM_PROCID": "0"}, {**SLURM, "SLURM_PROCID": "0", "SLURM_NTASKS": "1"},
    {"JOB_COMPLETION_INDEX": "3"}, {**TORCHRUN, "MXNETSEG_LAUNCHER": "none"},
    {**TORCHRUN, "RANK": "0", "WORLD_SIZE": "1"}])
def test_one_process(variables):
    place = Processes.from_environment(variables)
    assert (place.rank, place.size) == (0, 1)


@pytest.mark.parametrize("variables, what, words", [
    *((without(TORCHRUN, name), "incomplete", f"missing: {name}")
      for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")),
    ({"WORLD_SIZE": "4"}, "incomplete", "missing: RANK, LOCAL_RANK"),
    (without(SLURM, "SLURM_NTASKS"), "incomplete", "SLURM_PROCID=3, SLURM_LOCALID=1; missing: SLURM_NTASKS"),
    (without(SLURM, "SLURM_NODELIST"), "does not name the host of rank 0", "SLURM_NODELIST"),
    (OPEN_MPI, "does not name the host of rank 0", "OMPI_COMM_WORLD_SIZE=4"),
    (without(KUBERNETES, "MASTER_ADDR"), "incomplete", "missing: MASTER_ADDR"),
    ({**SLURM, **OPEN_MPI, "OMPI_COMM_WORLD_RANK": "0", "MASTER_ADDR": "a"}, "contradict",
     "slurm: rank 3 of 4\nopenmpi: rank 0 of 4"),
    ({**TORCHRUN, **SLURM, "WORLD_SIZE": "8"}, "contradict", "torchrun: rank 3 of 8\nslurm: rank 3 of 4"),
    ({**TORCHRUN, "RANK": "4"}, "below the number of processes", "RANK=4, WORLD_SIZE=4"),
    ({**TORCHRUN, "RANK": "-1"}, "whole number", "-1"),
    ({**TORCHRUN, "WORLD_SIZE": "four"}, "whole number", "four"),
    ({**TORCHRUN, "MASTER_PORT": "65536"}, "port", "65536"), ({"MXNETSEG_LAUNCHER": "srun"}, "unknown", "srun"),
    ({"MXNETSEG_LAUNCHER": "slurm"}, "not set", "slurm")])
def test_what_cannot_be_understood_is_refused(variables, what, words):
    with pytest.raises(UsageError, match=what) as error:
        Processes.from_environment(variables)
    assert words in str(error.value.received) and error.value.fix


@pytest.mark.parametrize("nodes, host", [
    ("node1", "node1"), ("node1,node2", "node1"), ("gpu[03-05,9],cpu1", "gpu03"), ("n[7]", "n7"),
    ("rack[1-2]node[08-10]", "rack1node08"), ("a.b.example.org,c", "a.b.example.org")])
def test_the_first_host_of_slurms_list(nodes, host):
    assert first_host(nodes) == host


@pytest.mark.parametrize("nodes", ["", "gpu[", "gpu[a-b]", "a b", "gpu[1-2", ",a"])
def test_other_lists_are_refused(nodes):
    with pytest.raises(UsageError, match="cannot be read"):
        first_host(nodes)
