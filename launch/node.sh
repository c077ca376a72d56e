#!/usr/bin/env bash
# One of several machines that train the temporal teacher together. On each of them, in the same environment, with one
# workspace and the same data:
#   NODES=2 NODE_RANK=0 RANKS=8 HEAD=node0 bash launch/node.sh study.yaml [key.sub=value ...]
# NODES machines of RANKS GPUs each; NODE_RANK is this one's number, from 0; HEAD is the first's name or address.
set -euo pipefail
: "${NODES:?is not set}" "${NODE_RANK:?is not set}" "${RANKS:?is not set}" "${HEAD:?is not set}"
accelerate launch --config_file "$(dirname "$0")/../configs/accelerate/many_nodes.yaml" \
    --num_machines "$NODES" --machine_rank "$NODE_RANK" --num_processes "$((NODES * RANKS))" \
    --main_process_ip "$HEAD" --main_process_port "${PORT:-29500}" -m mtkd temporal "$@" &
launcher=$!
trap 'kill -TERM "$launcher"' TERM INT  # it ends its ranks; bash would leave them to nobody
until code=0; wait "$launcher" || code=$?; ! kill -0 "$launcher" 2>/dev/null; do :; done  # a signal ends a wait too
if [ "$code" != 0 ]; then
    echo "mtkd: machine $NODE_RANK of $NODES: a rank was lost or has failed; the next start goes on from the last checkpoint" >&2
fi
exit "$code"
