#!/bin/sh
# Train with torchrun. Run the same command on each host; HOST0 is the name or address of the first one.
#   HOSTS=2 HOST0=node1 NUMBER=0 demo/distributed/torchrun.sh --model fcn      (on node1; NUMBER=1 on node2)
set -eu
exec ${PYTHON:-python} -m torch.distributed.run \
    --nnodes "${HOSTS:-1}" --node-rank "${NUMBER:-0}" --nproc-per-node "${PROCESSES:-4}" \
    --master-addr "${HOST0:-127.0.0.1}" --master-port "${PORT:-29500}" \
    -m mxnetseg train --backend torch --resume auto "$@"
