#!/usr/bin/env bash
# The checks and all tests. MTKD_TEST_DATA names a folder with eegmat/ and biosemi/; tests that need it say so where it is absent.
set -euo pipefail
cd "$(dirname "$0")/.."
source launch/setup.sh
bash launch/check.sh
exec pytest "$@"
