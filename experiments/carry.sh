#!/bin/sh
# Gather what a bare training machine needs into FOLDER: training objects and the diffusers wheel.
#   experiments/carry.sh OBJECTS.zip FOLDER           the checkout travels too: use PYTHONPATH=src
#   experiments/carry.sh OBJECTS.zip FOLDER --wheel   FOLDER travels alone, with our wheel in it
# The wheel holds the weights that families build on, not matting nor the finished orbit model.
# WEIGHTS=DIR in the environment adds a folder of cards. Fails if over 64 MiB would travel.
set -eu
objects=$1
folder=$2
root=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-python3}
diffusers=$(sed -n 's/^diffusers==//p' "$root/constraints.txt")

mkdir -p "$folder/wheels"
cp "$objects" "$folder/objects.zip"
[ -z "${WEIGHTS:-}" ] || cp -r "$WEIGHTS" "$folder/weights"
"$python" -m pip download -q --no-deps --only-binary=:all: -d "$folder/wheels" "diffusers==$diffusers"
kib=$(du -sk "$folder" | cut -f1)
if [ "${3:-}" = --wheel ]; then
    "$python" -m pip wheel -q --no-deps -w "$folder/wheels" "$root"
    "$python" - "$folder/wheels" <<'PY'
import sys, zipfile
from pathlib import Path

for path in Path(sys.argv[1]).glob("roundview-*.whl"):
    slim = path.with_suffix(".slim")
    with zipfile.ZipFile(path) as full, zipfile.ZipFile(slim, "w", zipfile.ZIP_DEFLATED) as out:
        for item in full.infolist():
            if not item.filename.endswith(("u2netp.onnx", "orbit-small.safetensors")):
                out.writestr(item, full.read(item))
    slim.replace(path)
PY
    kib=$(du -sk "$folder" | cut -f1)
else
    kib=$((kib + $(cd "$root" && git ls-files -z | xargs -0 du -ck | tail -1 | cut -f1)))
fi
du -h "$folder"/wheels/* "$folder/objects.zip"
echo "$((kib / 1024)) MiB travel"
[ "$kib" -le 65536 ] || { echo "that is over 64 MiB" >&2; exit 1; }
