"""docs/distributed.md and demo/distributed/: the files exist and are well-formed, and the computed table is current."""
import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from benchmarks import scaling

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "demo/distributed"
PAGE = (ROOT / "docs/distributed.md").read_text(encoding="utf-8")


def test_the_page_names_every_file():
    named = set(re.findall(r"\(\.\./demo/distributed/([\w.]+)\)", PAGE))
    assert named | {"one_host.sh"} == {path.name for path in FOLDER.iterdir()}


@pytest.mark.parametrize("script", ["one_host.sh", "torchrun.sh", "mpirun.sh", "slurm.sbatch"])
def test_a_script_starts_what_it_promises(tmp_path, script):
    """Python, mpirun, srun and scontrol are replaced by programs that print their arguments."""
    for program in ("python", "mpirun", "srun", "scontrol"):
        path = tmp_path / program
        path.write_text(f"#!/bin/sh\necho {program} \"$@\"\n" + ("exit 75\n" if program == "srun" else ""))
        path.chmod(0o755)
    done = subprocess.run(["bash" if script.endswith("sbatch") else "sh", str(FOLDER / script), "--model", "fcn"],
                          capture_output=True, text=True,
                          env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "7"})
    assert done.returncode == (75 if script == "slurm.sbatch" else 0) and not done.stderr
    assert done.stdout.splitlines() == {
        "one_host.sh": ["python -m mxnetseg train --backend torch --ctx 0 1 2 3 --resume auto --model fcn"],
        "torchrun.sh": ["python -m torch.distributed.run --nnodes 1 --node-rank 0 --nproc-per-node 4 --master-addr "
                        "127.0.0.1 --master-port 29500 -m mxnetseg train --backend torch --resume auto --model fcn"],
        "mpirun.sh": ["mpirun -n 4 --bind-to none -x MASTER_ADDR=127.0.0.1 -x MASTER_PORT=29500 -x PATH -x PYTHONPATH "
                      "python -m mxnetseg train --backend torch --resume auto --model fcn"],
        "slurm.sbatch": ["srun --kill-on-bad-exit=0 python -m mxnetseg train --backend torch --resume auto --model fcn",
                         "scontrol requeue 7"]}[script]


def test_the_job_of_kubernetes():
    service, job = yaml.safe_load_all((FOLDER / "kubernetes.yaml").read_text())
    spec, pod = job["spec"], job["spec"]["template"]["spec"]
    assert (service["kind"], job["kind"], spec["completionMode"]) == ("Service", "Job", "Indexed")
    assert service["metadata"]["name"] == pod["subdomain"]
    assert service["spec"]["selector"] == {"job-name": job["metadata"]["name"]}
    variables = {one["name"]: one["value"] for one in pod["containers"][0]["env"]}
    assert int(variables["WORLD_SIZE"]) == spec["completions"] == spec["parallelism"]
    assert variables["MASTER_ADDR"] == f"{job['metadata']['name']}-0.{service['metadata']['name']}"

    from mxnetseg.config.loader import parse_override
    from mxnetseg.engine.processes import Processes
    place = Processes.from_environment({**variables, "JOB_COMPLETION_INDEX": "3"})
    assert (place.rank, place.size, place.launcher) == (3, 4, "kubernetes")
    arguments = pod["containers"][0]["args"]
    assert parse_override(arguments[arguments.index("--set") + 1]) == ("train.start_timeout", 900)


def test_the_table_is_what_the_program_computes():
    assert scaling.table() in PAGE


def test_the_formula():
    work = scaling.Workload(seconds=0.06, gradients=100_000_000, norms=10)
    assert scaling.efficiency(work, 1, 1e9, synchronise_norm=True) == 1
    # two GPUs at 1 GB/s: 100 ms and 50 us for the gradients, of which 40 ms overlap; 10 layers of 50 us
    exposed = 0.1 + 50e-6 - 0.04
    assert scaling.efficiency(work, 2, 1e9, synchronise_norm=False) == pytest.approx(0.06 / (0.06 + exposed))
    assert scaling.efficiency(work, 2, 1e9, synchronise_norm=True) == pytest.approx(0.06 / (0.06 + exposed + 500e-6))
    fast = scaling.efficiency(work, 2, 1e12, synchronise_norm=False)
    assert fast == pytest.approx(0.06 / (0.06 + 150e-6 * scaling.BUCKET / work.gradients))
