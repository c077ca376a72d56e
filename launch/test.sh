#!/usr/bin/env bash
# The checks and all tests. MTKD_TEST_DATA names a folder with eegmat/ and biosemi/; tests that need it say so where it is absent.
set -euo pipefail
cd "$(dirname "$0")/.."
source launch/setup.sh
bash launch/check.sh
# a group of tests a process: those that share a fixture that takes long, or a file; one more than there are cores, as
# some of them wait for others; a process that is lost fails, and none takes up its tests again
exec pytest --max-worker-restart 0 --numprocesses "$(($(nproc) < 4 ? $(nproc) + 1 : 4))" --dist loadscope --no-loadscope-reorder "$@"
