#!/usr/bin/env bash
# The whole pipeline, from recordings to a report and a prediction without EEG.
#   bash launch/quickstart.sh                    the simulated study
#   bash launch/quickstart.sh eegmat             rest against mental arithmetic; recordings fetched from PhysioNet
#   bash launch/quickstart.sh eegmat FOLDER      the same with the recordings in FOLDER
#   bash launch/quickstart.sh STUDY key.sub=value ...   another study, by its name in configs/study or its file, with changes
set -euo pipefail
study=${1:-simulated}
[ ! -f "$study" ] || study=$(realpath -- "$study")
changes=("${@:2}")
if [ $# -ge 2 ] && [[ $2 != *=* ]]; then
    changes[0]="data.folder=$(realpath --canonicalize-missing -- "$2")"
fi
cd "$(dirname "$0")/.."
source launch/setup.sh
[ -f "$study" ] || study=configs/study/$study.yaml
exec mtkd run "$study" "${changes[@]}"
