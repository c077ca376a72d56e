#!/usr/bin/env bash
# One of several machines that train the temporal teacher together. On each of them, in the same environment, with one
# workspace and the same data:
#   NODES=2 NODE_RANK=0 RANKS=8 HEAD=node0 bash launch/node.sh study.yaml [key.sub=value ...]
# NODES machines of RANKS GPUs each; NODE_RANK is this one's number, from 0; HEAD is the first's name or address.
set -euo pipefail
exec accelerate launch --config_file "$(dirname "$0")/../configs/accelerate/many_nodes.yaml" \
    --num_machines "$NODES" --machine_rank "$NODE_RANK" --num_processes "$((NODES * RANKS))" \
    --main_process_ip "$HEAD" --main_process_port "${PORT:-29500}" -m mtkd temporal "$@"
