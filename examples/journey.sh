#!/bin/sh
# A practitioner's journey, from a folder of pictures sorted into two to edited pictures, odd ones out, and two models side by side.
#
#   sh examples/journey.sh [FOLDER [STEPS [PICTURES]]]      ten minutes on two cores; the pictures are drawn, put your own there instead
set -eu
folder=${1:-journey} steps=${2:-2000} pictures=${3:-4000}
mkdir -p "$folder"
cd "$folder"

# photos/smiling and photos/not_smiling: two folders are an attribute
python - "$pictures" <<'PYTHON'
import sys
from pathlib import Path

from PIL import Image

import triptych

faces = triptych.data.load("faces", size=32, n=int(sys.argv[1])).train
for i, smile in enumerate(faces.attributes["smile"]):
    place = Path("photos", "smiling" if smile > 0 else "not_smiling")
    place.mkdir(parents=True, exist_ok=True)
    Image.fromarray(faces[i].permute(1, 2, 0).numpy()).save(place / f"{i:05}.png")
PYTHON

triptych train vae --data photos --preset faces --steps "$steps" --out runs/vae
triptych train dcgan --data photos --steps "$((steps / 4))" --out runs/gan
triptych directions runs/vae
triptych edit runs/vae photos/not_smiling --set smiling=+1 --force --triptych --out smiling
triptych score runs/vae photos --split test --out scores.csv
triptych sample runs/vae --n 16 --out new.png
triptych list runs
triptych evaluate runs/vae runs/gan --samples 50 --features pixels --k 10 --images 100
