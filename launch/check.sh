#!/usr/bin/env bash
# Style, formatting and types.
set -euo pipefail
cd "$(dirname "$0")/.."
source launch/setup.sh
ruff check .
ruff format --check .
mypy
