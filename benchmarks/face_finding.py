"""Faces found and aligned in photographs made of CelebA's: pasted tilted, small and sideways into larger canvases.

The pictures are of real people: what this writes stays under benchmarks/out, which is never committed.

    TRIPTYCH_DATA=… python benchmarks/face_finding.py                      # shares found, distances of eyes, times
    TRIPTYCH_DATA=… python benchmarks/face_finding.py --measure            # where celeba10k's own pictures have the eyes
    TRIPTYCH_DATA=… python benchmarks/face_finding.py --paste              # ways of pasting an edit back, to be looked at
"""

from __future__ import annotations

import io
import time
from typing import Any

import numpy as np
import torch
from common import arguments, begin, write
from PIL import Image, ImageOps
from torch import Tensor

from triptych import edit, figures
from triptych.data import load
from triptych.edit.alignment import CELEBA
from triptych.edit.finding import opencv
from triptych.edit.photographs import read_photograph
from triptych.edit.placing import place

TILTS = (0, 10, 20, 30)


def canvas(chance: np.random.Generator, side: int) -> np.ndarray:
    """A background without faces: soft colours, edges and grain, (H, W, 3)."""
    cv2, height = opencv(), side * 3 // 4
    soft = cv2.resize(chance.integers(0, 256, (9, 12, 3), dtype=np.uint8), (side, height), interpolation=cv2.INTER_CUBIC)
    for _ in range(12):
        low, high = np.sort(chance.integers(0, (side, height), (2, 2)), axis=0).tolist()
        cv2.rectangle(soft, low, high, chance.integers(0, 256, 3).tolist(), int(chance.choice([-1, 3])))
    grain = chance.normal(0, 6, soft.shape)
    return (soft + grain).clip(0, 255).astype(np.uint8)


def pasted(face: np.ndarray, chance: np.random.Generator, tilt: float) -> tuple[bytes, np.ndarray]:
    """A photograph (JPEG, of any EXIF orientation) with the face in it, and where its upright self has the eyes."""
    cv2 = opencv()
    side = int(chance.integers(700, 1800))
    ground, (h, w) = canvas(chance, side), face.shape[:2]
    size = chance.uniform(0.2, 0.7) * ground.shape[0] / h  # the aligned picture, of the canvas' height
    angle = np.radians(tilt * chance.choice([-1, 1]))
    linear = size * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    reach = np.abs(linear) @ (w, h) / 2
    free = np.maximum(np.array(ground.shape[1::-1]) - 2 * reach, 0)
    shift = reach + chance.uniform(0, 1, 2) * free - linear @ (w / 2, h / 2)
    matrix = np.c_[linear, shift + linear.sum(1) / 2 - 0.5]
    cv2.warpAffine(face, matrix, ground.shape[1::-1], dst=ground, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_TRANSPARENT)
    eyes = np.array([CELEBA.left, CELEBA.right]) * (w, h)
    return _exif(Image.fromarray(ground), int(chance.integers(1, 9))), eyes @ linear.T + shift


def _exif(upright: Image.Image, orientation: int) -> bytes:
    """A JPEG whose pixels lie as a camera of this orientation stores them."""
    back = {5: 5, 6: 8, 8: 6, 7: 7}.get(orientation, orientation)  # what undoes it
    exif = Image.Exif()
    exif[0x0112] = back
    whole = io.BytesIO()
    upright.save(whole, "PNG", exif=exif)
    stored, target = ImageOps.exif_transpose(Image.open(whole)), io.BytesIO()
    exif[0x0112] = orientation
    stored.save(target, "JPEG", quality=92, exif=exif)
    return target.getvalue()


def found(pictures: list[np.ndarray], tilt: float, seed: int = 0) -> dict[str, Any]:
    """Of faces pasted at a tilt: shares found, with eyes; distances of the eyes as shares of their distance; time."""
    chance, errors, seen, others, times = np.random.default_rng(seed + int(tilt)), [], 0, 0, []
    for face in pictures:
        content, eyes = pasted(face, chance, tilt)
        photograph = read_photograph(content).pixels
        began = time.process_time()
        faces = edit.find_faces(photograph)
        times.append(time.process_time() - began)
        apart = float(np.linalg.norm(eyes[1] - eyes[0]))
        near = [one for one in faces if np.linalg.norm(np.add(one.left, one.right) / 2 - eyes.mean(0)) < apart]
        others += len(faces) - len(near[:1])
        if near:
            placed = place(near[0], CELEBA, (109, 89))
            wanted = np.array([CELEBA.left, CELEBA.right]) * (89, 109)
            errors.append(np.linalg.norm(placed.to_picture(eyes) - wanted, axis=1).mean() / (wanted[1] - wanted[0])[0])
            seen += near[0].seen
    share = len(errors) / len(pictures)
    return {
        "n": len(pictures), "found": share, "found_stderr": float(np.sqrt(share * (1 - share) / len(pictures))),
        "eyes_seen": seen / max(1, len(errors)), "others_per_picture": others / len(pictures),
        "eye_error_percent": {f"p{q}": float(np.percentile(100 * np.array(errors), q)) for q in (50, 90, 99)},
        "cpu_seconds": {f"p{q}": float(np.percentile(times, q)) for q in (50, 99)},
    }  # fmt: skip


def without(n: int, seed: int = 1) -> float:
    """Faces found in canvases without any, per picture."""
    chance = np.random.default_rng(seed)
    grounds = [canvas(chance, int(chance.integers(700, 1800))) for _ in range(n)]
    return sum(len(edit.find_faces(torch.from_numpy(g).permute(2, 0, 1))) for g in grounds) / n


def measured(pictures: Tensor) -> dict[str, Any]:
    """Where aligned pictures have their eyes, as found in them."""
    faces = [edit.find_faces(picture)[:1] for picture in pictures]
    eyes = np.array([[one.left, one.right] for face in faces for one in face if one.seen])
    shares = eyes / np.array([pictures.shape[3], pictures.shape[2]])
    spread = 100 * (eyes - np.median(eyes, 0)).std(0) / np.diff(np.median(eyes, 0), axis=0)[0, 0]
    return {
        "n": len(pictures), "found": sum(map(len, faces)) / len(pictures), "with_eyes": len(eyes) / len(pictures),
        "median": np.median(shares, axis=0).tolist(), "spread_percent_of_eye_distance": spread.tolist(),
    }  # fmt: skip


def pasting(train: Any, faces: Tensor, out: Any) -> dict[str, Any]:
    """A sheet: photographs, and a smile pasted into them in three ways; the model is linear (128 principal components)."""
    cv2, chance, rows = opencv(), np.random.default_rng(0), []
    stored = train[:2000].float()
    middle, smiling = stored.mean(0), torch.as_tensor(train.attributes["Smiling"][:2000]) > 0
    smile = stored[smiling].mean(0) - stored[~smiling].mean(0)
    basis = torch.pca_lowrank((stored - middle).flatten(1), 128)[2]
    for face in faces:
        content, _ = pasted(face.permute(1, 2, 0).contiguous().numpy(), chance, 15)
        photograph = read_photograph(content).pixels
        if not (found := edit.find_faces(photograph)):
            continue
        placed = place(found[0], CELEBA.cropped((218, 178), (64, 64)), (64, 64))
        x = edit.align(photograph, placed).float() - middle
        again = (x.flatten(1) @ basis @ basis.T).view_as(x) + middle
        before, after = (y.clamp(0, 255).round().byte() for y in (again, again + 1.5 * smile))
        changed = edit.paste_back(photograph, placed, before, after)
        whole = _enlarged(photograph, placed, after)
        replaced = edit.paste_back(photograph, placed, edit.align(photograph, placed), after)
        mask = np.full(whole.shape[1:], 255, np.uint8)
        region = placed.corners.round().astype(np.int32)
        inside = cv2.fillPoly(np.zeros_like(mask), [region], 255)
        x0, y0, w, h = cv2.boundingRect(inside)
        source, target = (y.permute(1, 2, 0).contiguous().numpy() for y in (whole, photograph))
        cloned = cv2.seamlessClone(source, target, inside, (x0 + w // 2, y0 + h // 2), cv2.NORMAL_CLONE)
        shown = [photograph, changed, replaced, torch.from_numpy(cloned).permute(2, 0, 1)]
        middle_of = np.clip(placed.corners.mean(0), 160, np.array(target.shape[1::-1]) - 160).astype(int)
        rows += [y[:, middle_of[1] - 160 : middle_of[1] + 160, middle_of[0] - 160 : middle_of[0] + 160] for y in shown]
    figures.save(torch.stack(rows), out / "pasting.png", columns=4)
    return {"photographs": len(rows) // 4, "columns": ["photograph", "change added", "difference to it added", "Poisson"]}


def _enlarged(photograph: Tensor, placed: Any, picture: Tensor) -> Tensor:
    """The photograph with the picture in its place, as it is."""
    cv2 = opencv()
    matrix = np.c_[np.array(placed.linear), np.array(placed.shift) + np.array(placed.linear).sum(1) / 2 - 0.5]
    size = (photograph.shape[2], photograph.shape[1])
    values = picture[0].permute(1, 2, 0).contiguous().numpy()
    drawn = cv2.warpAffine(
        values, matrix, size, flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE
    )
    return torch.from_numpy(drawn).permute(2, 0, 1).contiguous()


def main() -> None:
    parser = arguments(__doc__, "face_finding")
    parser.add_argument("--n", type=int, default=200)
    parser.add_argument("--measure", action="store_true")
    parser.add_argument("--paste", action="store_true")
    parser.add_argument("--tilts", default=",".join(map(str, TILTS)))
    options = parser.parse_args()
    out = begin(options)
    pictures = load("celeba10k").test[: options.n]
    if options.measure:
        write(out, "measured", measured(pictures))
        return
    if options.paste:
        write(out, "pasting", pasting(load("celeba10k", size=64).train, pictures[:8], out))
        return
    upright = [picture.permute(1, 2, 0).contiguous().numpy() for picture in pictures]
    results: dict[str, Any] = {str(tilt): found(upright, int(tilt)) for tilt in options.tilts.split(",")}
    results["faces_per_canvas_without_any"] = without(options.n)
    write(out, "found", results)


if __name__ == "__main__":
    main()
