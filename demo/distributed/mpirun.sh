#!/bin/sh
# Train with Open MPI's mpirun. HOSTFILE lists the hosts and their slots, one slot for each GPU.
#   HOSTFILE=hosts HOST0=node1 PROCESSES=8 demo/distributed/mpirun.sh --model fcn
set -eu
exec ${MPIRUN:-mpirun} ${HOSTFILE:+--hostfile "$HOSTFILE"} -n "${PROCESSES:-4}" --bind-to none \
    -x MASTER_ADDR="${HOST0:-127.0.0.1}" -x MASTER_PORT="${PORT:-29500}" -x PATH -x PYTHONPATH \
    ${PYTHON:-python} -m mxnetseg train --backend torch --resume auto "$@"
