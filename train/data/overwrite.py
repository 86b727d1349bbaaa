"""Whether what lies at a path may be replaced by a new dataset."""

from __future__ import annotations

from pathlib import Path

from .formats.format import Format
from .formats.registry import all_formats, open_dataset


def check_replaceable(path: Path, kind: Format) -> None:
    """Raise unless `path` is a dataset, and nothing but a dataset, that may be replaced.

    Args:
        path: What exists.
        kind: Format of the new dataset.

    Raises:
        FileExistsError: If it is something else, or holds something else too.
    """
    advice = "nothing was changed; remove it yourself, or choose another name"
    if path.is_dir():
        if not any(path.iterdir()):
            return
        if kind.suffixes and ".zarr" not in path.suffixes:
            raise FileExistsError(
                f"{path}: is a folder, and not a dataset of {kind.name}; {advice}"
            )
    elif not path.is_file() or not kind.suffixes:
        raise FileExistsError(f"{path}: is a file, and not a folder of {kind.name}; {advice}")
    elif path.stat().st_size == 0:
        return
    found = next((one for one in all_formats().values() if one.recognise(path)), None)
    if found is None:
        raise FileExistsError(f"{path}: is not a dataset; {advice}")
    foreign = _foreign_part(path, found)
    if foreign is not None:
        raise FileExistsError(
            f"{path}: holds {str(foreign)!r}, which is no part of a {found.name} dataset; {advice}"
        )
    try:
        with open_dataset(path):
            pass
    except ValueError as error:
        raise FileExistsError(f"{path}: is not a dataset that can be read; {advice}") from error


def _foreign_part(path: Path, kind: Format) -> Path | None:
    """A file or link in a folder that does not belong to its format."""
    for part in sorted(path.rglob("*")) if path.is_dir() else ():
        relative = part.relative_to(path)
        if part.is_symlink() or (part.is_file() and not kind.parts.fullmatch(relative.as_posix())):
            return relative
    return None


def check_source(target: Path, source: Path) -> None:
    """Raise ValueError if writing `target` would touch the dataset that is read.

    Raises:
        ValueError: If one of them is, or lies in, the other.
    """
    target, source = target.resolve(), source.resolve()
    if target == source or (target.exists() and target.samefile(source)):
        raise ValueError(f"{target}: source and target are the same; choose another name")
    if target in source.parents:
        raise ValueError(f"{target}: holds the source {source}; choose another name")
    if source in target.parents:
        raise ValueError(f"{target}: lies in the source {source}; choose another name")
