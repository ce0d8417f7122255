"""A model's folder and those that stood there before: put in its place, and back, by rename.

DIR                     the model that is used
.DIR.versions/
  0001-3fa9c2d41b07     what stood at DIR before, the newest with the highest number
  undone-0001-9b1e...   what a rollback took away
  new                   on its way to DIR
  leaving, gone         on their way out, where two renames are needed
  intent.json           what a swap is about, while it lasts: whoever comes next can end it
  lock
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from moodal import bundle
from moodal.bundle import Info
from moodal.errors import ConfigError, ModelError

KEPT = 5
"""Models kept of those that stood there before, and of those that were taken away."""
NEW, LEAVING, GONE, INTENT, LOCK = "new", "leaving", "gone", "intent.json", "lock"
UNDONE = "undone-"
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
"""Source: linux/fcntl.h, linux/fs.h."""
_CANNOT = (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP)


def install(new: Path, over: Path, *, instead_of: str) -> Info:
    """Put a copy of a model in the place of another, which is kept.

    over: a folder that need not exist. instead_of: the seal of the model that should stand there,
    "" = none: what was compared is what is replaced.
    Raises: ModelError when `new` is damaged, stands there already, or another model stands there;
        ConfigError when `over` is no place for one; CapacityError when the disk is full.
    """
    over = place_of(over)
    with _alone(over) as store:
        info = bundle.load(new)
        there = bundle.load(over).seal if (over / bundle.INFO).is_file() else ""
        if info.seal == there:
            raise ModelError(f"{over}: holds this very model already ({there[:12]})")
        if there != instead_of:
            raise ModelError(
                f"{over}: another model came to stand there in the meantime ({there[:12] or 'none'}"
                f", not {instead_of[:12] or 'none'}); compare again"
            )
        _copy(new, info, store / NEW)
        if there:
            number = 1 + max((_number(path) for path in kept(over)), default=0)
            _swap(store / NEW, over, outgoing=f"{number:04d}-{there[:12]}")
        else:
            (store / NEW).rename(over)
            _sync(over.parent)
        _trim(store)
    return info


def back(folder: Path) -> tuple[str, Info]:
    """Put the model that stood there before in its place again.

    Returns: the seal of the one that was taken away, "" if it could not be read; and the other.
    Raises: ConfigError when none is kept; ModelError when the one that is kept is damaged.
    """
    folder = place_of(folder)
    with _alone(folder) as store:
        before = next(iter(kept(folder)), None)
        if before is None:
            raise ConfigError(f"{folder}: no model is kept that stood there before")
        try:
            info = bundle.verify(before)
        except ModelError as error:
            raise ModelError(f"{error}, or remove {before} to go back one further") from error
        there = _seal(folder)
        undone = [_number(path) for path in store.glob(f"{UNDONE}*")]
        number = 1 + max(undone, default=0)
        _swap(before, folder, outgoing=f"{UNDONE}{number:04d}-{there[:12] or 'damaged'}")
        _trim(store)
    return there, info


def kept(folder: Path) -> list[Path]:
    """The models that stood there before, the latest first."""
    store = _store(place_of(folder))
    return sorted(store.glob("[0-9]*-*"), key=_number, reverse=True)


def mend(folder: Path) -> None:
    """Put right what a killed promotion or rollback left: the old model is there, or the new."""
    folder = place_of(folder)
    if _store(folder).is_dir():
        with _alone(folder):
            pass


def place_of(folder: Path) -> Path:
    """Where a model's folder really is. Raises: ConfigError for the packaged one."""
    folder = bundle.find(folder).resolve()  # a link stays one
    if folder == bundle.PACKAGED.resolve():
        raise ConfigError(
            f"{folder}: is the model that comes with the package, which stays as it is; name a "
            "folder of your own"
        )
    return folder


def _store(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.versions")


@contextmanager
def _alone(folder: Path) -> Iterator[Path]:
    """The folder of versions, in the hands of no other process, and in order.

    Raises: ConfigError when something that is no model stands at `folder`, or it cannot be renamed.
    """
    store = _store(folder)
    bundle.check_target(folder)
    with bundle.writing(folder):
        store.mkdir(parents=True, exist_ok=True)
        with (store / LOCK).open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            try:
                _mend(store, folder)
                yield store
            except OSError as error:
                if error.errno not in (errno.EXDEV, errno.EBUSY):
                    raise
                raise ConfigError(
                    f"{folder}: cannot be renamed, it is where a disk is mounted; name a folder on "
                    "that disk"
                ) from error


def _mend(store: Path, folder: Path) -> None:
    if (store / INTENT).is_file():
        intent = json.loads((store / INTENT).read_text(encoding="utf-8"))
        incoming, leaving = store / intent["incoming"], store / LEAVING
        outgoing = store / intent["outgoing"]
        if leaving.exists():
            leaving.rename(outgoing if folder.exists() else folder)
        elif incoming.exists() and _seal(incoming) != intent["seal"]:
            incoming.rename(outgoing)
        (store / INTENT).unlink()
    for name in (NEW, GONE):
        shutil.rmtree(store / name, ignore_errors=True)


def _swap(incoming: Path, folder: Path, *, outgoing: str) -> None:
    """incoming to `folder`, and what stood there to its name among the versions."""
    store = incoming.parent
    intent = {"incoming": incoming.name, "seal": _seal(incoming), "outgoing": outgoing}
    _write(store / "intent", json.dumps(intent).encode())
    (store / "intent").rename(store / INTENT)
    _sync(store)
    if _exchange(incoming, folder):
        left = incoming
    else:
        left = folder.rename(store / LEAVING)
        incoming.rename(folder)
    _sync(folder.parent)
    left.rename(store / outgoing)
    (store / INTENT).unlink()
    _sync(store)


def _exchange(one: Path, other: Path) -> bool:
    """Swap two folders in one step; False where the system or the disk cannot.

    Source: renameat2(2), Linux 3.15.
    """
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    names = os.fsencode(one), os.fsencode(other)
    failed: int = rename(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE)
    if failed and (number := ctypes.get_errno()) not in _CANNOT:
        raise OSError(number, os.strerror(number), str(other))
    return not failed


def _copy(source: Path, info: Info, target: Path) -> None:
    """Every file of a model, checked as it is read, and on the disk when this returns."""
    target.mkdir()
    for name in info.files:
        _write(target / name, bundle.read(source, info, name))
    _write(target / bundle.INFO, (source / bundle.INFO).read_bytes())
    if bundle.load(target).seal != info.seal:
        raise ModelError(f"{source}: has changed while it was read; try again")
    _sync(target)


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    """See that the names in a folder are on the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _trim(store: Path) -> None:
    for pattern in ("[0-9]*-*", f"{UNDONE}*"):
        for path in sorted(store.glob(pattern), key=_number)[:-KEPT]:
            path.rename(store / GONE)  # a version stands there whole or not at all
            shutil.rmtree(store / GONE)


def _number(path: Path) -> int:
    return int(path.name.removeprefix(UNDONE).split("-")[0])


def _seal(folder: Path) -> str:
    """ "" where there is no model, or one that cannot be read."""
    try:
        return bundle.load(folder).seal
    except ModelError:
        return ""
