"""Files that hold several arrays: npz, MATLAB's .mat, HDF5."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

from triptych.data.arrays import Array
from triptych.data.attributes import RawColumn
from triptych.data.formats.reading import DEFLATE, readable, refuse_short, stream
from triptych.data.formats.roles import Header, columns_of_array, roles, unused
from triptych.data.stored import identity, rows_in_chunk
from triptych.errors import TriptychError

FREY = (28, 20)
"""Of the faces in frey_rawface.mat, whose pictures are the columns of one matrix."""


def read_npy(path: Path) -> Array:
    """An .npy file; mapped, so that a large one is never read whole. Pickled objects are refused."""
    with readable(path, "npy file of numbers"):
        try:
            values = np.load(path, mmap_mode="r", allow_pickle=False)
        except ValueError:  # maps cannot be empty
            values = np.load(path, allow_pickle=False)
    return Array.of(values, str(path), identity(path))


def read_npz(path: Path) -> dict[str, Array]:
    """An .npz file: of each split the array of examples, and arrays as long as it as attributes."""
    headers, ordered = {}, {}
    with readable(path, "npz file of numbers"), zipfile.ZipFile(path) as archive:
        for name in (name for name in archive.namelist() if name.endswith(".npy")):
            with archive.open(name) as file:
                shape, in_columns, dtype = _npy_header(file)
                headers[name[:-4]], ordered[name[:-4]] = Header(shape, dtype), in_columns
        packed = {name: archive.getinfo(f"{name}.npy").compress_size for name in headers}

    def whole(name: str) -> np.ndarray:
        if headers[name].dtype.kind == "O":
            raise TriptychError(
                f"{path}: {name} holds Python objects, which may run whatever they say: save it as text or numbers "
                "(.astype(str))"
            )
        with readable(path, "npz file of numbers"), zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as file:
            return npy.read_array(file)

    def chunks(name: str) -> Iterator[np.ndarray]:
        if ordered[name]:  # Fortran's order: its rows are nowhere together
            yield whole(name)
            return
        with readable(path, "npz file"), zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as file:
            _npy_header(file)
            yield from stream(file, *headers[name], str(path))

    for name, header in headers.items():
        if header.dtype.kind in "buif":
            refuse_short(str(path), *header, packed[name] * DEFLATE)
    return _arrays(path, headers, whole, chunks)


def read_npys(folder: Path, names: list[str]) -> dict[str, Array]:
    """Arrays in .npy files of one folder, with the roles that their names say: X and y, images and labels, x_train, …"""
    values = {}
    for name in names:
        with readable(folder / name, "npy file of numbers"):
            values[Path(name).stem] = np.load(folder / name, mmap_mode="r", allow_pickle=False)
    headers = {name: Header(value.shape, value.dtype) for name, value in values.items()}

    def chunks(name: str) -> Iterator[np.ndarray]:
        step = rows_in_chunk(values[name].shape[1:], values[name].dtype)
        return (np.asarray(values[name][i : i + step]) for i in range(0, len(values[name]), step))

    return _arrays(folder, headers, lambda name: np.asarray(values[name]), chunks)


def _npy_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether the values are in Fortran's order, and dtype."""
    old = npy.read_magic(file) == (1, 0)
    return npy.read_array_header_1_0(file) if old else npy.read_array_header_2_0(file)


def _arrays(
    path: Path,
    headers: Mapping[str, Header],
    whole: Callable[[str], np.ndarray],
    chunks: Callable[[str], Iterator[np.ndarray]],
) -> dict[str, Array]:
    """The splits, with their attributes read."""
    parts, found = {}, roles(str(path), headers)
    for split, role in found.items():
        columns: dict[str, RawColumn] = {}
        for name, key in role.attributes.items():
            columns |= columns_of_array(name, whole(key))
        shape, dtype = headers[role.data]
        its = (identity(path / f"{role.data}.npy" if path.is_dir() else path), role.data)
        parts[split] = Array(f"{path}[{role.data}]", shape, dtype, _again(chunks, role.data), its, columns=columns)
    over = [f"{name} {headers[name].shape}" for name in unused(headers, found)]
    parts["train"].aside = (f"arrays {', '.join(over[:3])}{', …' * (len(over) > 3)}",) if over else ()
    return parts


def _again(chunks: Callable[[str], Iterator[np.ndarray]], name: str) -> Callable[[], Iterator[np.ndarray]]:
    return lambda: chunks(name)


def read_mat(path: Path) -> dict[str, Array]:
    """MATLAB's files up to version 7: matrices of examples as rows, or (H, W, C, N); Frey's faces, which are columns."""
    from scipy.io import loadmat

    with path.open("rb") as file:
        if file.read(20).startswith(b"MATLAB 7.3"):
            return read_hdf5(path)
    with readable(path, "MATLAB file"):
        found = {name: value for name, value in loadmat(path).items() if isinstance(value, np.ndarray) and name[0] != "_"}
    values = {name: _upright(name, value) for name, value in found.items()}
    headers = {name: Header(value.shape, value.dtype) for name, value in values.items()}

    def chunks(name: str) -> Iterator[np.ndarray]:
        yield values[name]

    return _arrays(path, headers, values.__getitem__, chunks)


def _upright(name: str, value: np.ndarray) -> np.ndarray:
    """Examples along the first axis."""
    if name == "ff" and value.ndim == 2 and value.shape[0] == FREY[0] * FREY[1]:
        return np.ascontiguousarray(value.T).reshape(-1, 1, *FREY)
    if value.ndim == 4 and value.shape[2] <= 4 < value.shape[3]:
        return np.ascontiguousarray(value.transpose(3, 0, 1, 2))
    return value.reshape(-1) if value.ndim == 2 and 1 in value.shape else value


def read_hdf5(path: Path) -> dict[str, Array]:
    """HDF5: its arrays, in groups or not, with the roles that their names say.

    Raises:
        TriptychError: also where h5py is not installed.
    """
    try:
        import h5py
    except ImportError:
        raise TriptychError(f"{path}: HDF5 is read with h5py: pip install 'triptych[hdf5]'") from None
    headers: dict[str, Header] = {}

    def note(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.shape is not None and item.dtype.kind in "buifS":
            headers[name] = Header(item.shape, item.dtype)

    def whole(name: str) -> np.ndarray:
        with readable(path, "HDF5 file"), h5py.File(path, "r") as file:
            return np.asarray(file[name])

    def chunks(name: str) -> Iterator[np.ndarray]:
        (count, *event), dtype = headers[name]
        step = rows_in_chunk(tuple(event), dtype)
        with readable(path, "HDF5 file"), h5py.File(path, "r") as file:
            for start in range(0, count, step):
                yield np.asarray(file[name][start : start + step])

    with readable(path, "HDF5 file"), h5py.File(path, "r") as file:
        file.visititems(note)
    return _arrays(path, headers, whole, chunks)
