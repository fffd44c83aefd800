"""Train a VAE on the drawn faces, learn what moves a smile, and draw a strip from frown to grin.

python examples/smile.py --steps 1500 --out smile.png     (two minutes on two cores)
"""

import argparse

import triptych
from triptych import edit
from triptych.modes import flush_subnormals


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--faces", type=int, default=10_000)
    parser.add_argument("--out", default="smile.png")
    options = parser.parse_args()
    flush_subnormals()  # before the first parallel operation

    faces = triptych.data.load("faces", size=32, n=options.faces)
    model = triptych.train("vae", faces, preset="faces", steps=options.steps)

    directions = edit.learn_directions(model, faces.train[:], faces.train.attributes)
    x = model.codec.centre(faces.test[:5])
    strip = edit.sweep(model, x, "smile", [-2, -1.5, -1, -0.5, 0, 0.5, 1, 1.5, 2], directions)
    triptych.save(strip, options.out, model)
    print(options.out)


if __name__ == "__main__":
    main()
