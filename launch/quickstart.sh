#!/usr/bin/env bash
# The whole pipeline, from recordings to a report and a prediction without EEG.
#   bash launch/quickstart.sh                  the simulated study
#   bash launch/quickstart.sh eegmat           rest against mental arithmetic; recordings fetched from PhysioNet
#   bash launch/quickstart.sh eegmat FOLDER    the same with the recordings in FOLDER
set -euo pipefail
study=${1:-simulated}
folder=${2:+data.folder=$(realpath -- "$2")}
cd "$(dirname "$0")/.."
source launch/setup.sh
exec mtkd run "configs/study/$study.yaml" ${folder:+"$folder"}
