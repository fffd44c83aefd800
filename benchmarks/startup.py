"""What a user waits for: `import triptych`, `triptych --help`, and the drawing of faces.

python benchmarks/startup.py
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

import numpy as np
from common import arguments, begin, write

from triptych.data.faces import attributes, draw


def seconds(words: list[str], repetitions: int) -> dict[str, float]:
    """Median and extremes of a command's wall time."""
    times = []
    for _ in range(repetitions):
        start = time.perf_counter()
        subprocess.run(words, check=True, capture_output=True)
        times.append(time.perf_counter() - start)
    return {"median": statistics.median(times), "min": min(times), "max": max(times), "n": repetitions}


def drawing(size: int, count: int, repetitions: int) -> dict[str, float]:
    """Faces a second."""
    values = attributes(np.arange(count))
    draw({name: a[:64] for name, a in values.items()}, size)
    rates = []
    for _ in range(repetitions):
        start = time.perf_counter()
        draw(values, size)
        rates.append(count / (time.perf_counter() - start))
    return {"median": statistics.median(rates), "min": min(rates), "max": max(rates), "n": repetitions}


def main() -> None:
    options = arguments(__doc__, "startup").parse_args()
    out = begin(options)
    bare = seconds([sys.executable, "-c", ""], 9)
    results = {
        "import_triptych_s": seconds([sys.executable, "-c", "import triptych"], 9),
        "bare_python_s": bare,
        "help_s": seconds([sys.executable, "-m", "triptych", "--help"], 9),
        "train_help_s": seconds([sys.executable, "-m", "triptych", "train", "vae", "--help"], 9),
        "faces_per_s": {str(size): drawing(size, max(64, 2_000_000 // size**2), 7) for size in (16, 32, 64, 128, 256)},
    }
    write(out, "startup", results)


if __name__ == "__main__":
    main()
