"""The configuration in a file: for one replica, or replicas that need not agree."""

import asyncio
import fcntl
import os
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

import msgspec

from service.configuration.store import decode, encode, require_version
from service.engine.operating import History
from service.errors import StoreUnavailableError

_Models = dict[str, msgspec.Raw]

# Writing takes milliseconds.
_LOCK_TIMEOUT_S = 5.0
_LOCK_POLL_S = 0.01


def default_path(model: str) -> Path:
    """The file of this model where a user's programs keep what they should remember (XDG base directories)."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "dvt" / f"{quote(model, safe='')}.json"


class FileStore:
    """One entry of a JSON file that has one for each model; always whole, whenever the machine stops.

    Several processes may change one file: each holds a lock from reading it to replacing it. A symbolic link and the
    file's mode stay.

    Where the file cannot be written, it is read all the same, and changes are not kept.

    Args:
        model: the entry's name.
        num_stages: stages of the model.
    """

    poll_interval_s = None

    def __init__(self, path: Path, *, model: str, num_stages: int) -> None:
        self._path = path
        self._model = model
        self._num_stages = num_stages
        self.durable = self._is_writable()

    def check(self) -> History | None:
        """What is stored, read at once.

        Raises:
            StoreUnavailableError: as `Store.read`; by an OSError where the file cannot be read at all.
        """
        return self._read()

    async def read(self) -> History | None:
        """As `Store.read`."""
        return await asyncio.to_thread(self._read)

    async def replace(self, history: History, *, over: int) -> None:
        """As `Store.replace`."""
        if self.durable:
            await asyncio.to_thread(self._replace, history, over)

    async def close(self) -> None:
        """Nothing is held open."""

    def _is_writable(self) -> bool:
        try:
            path = Path(os.path.realpath(self._path))
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=path.parent):
                return not path.exists() or os.access(path, os.W_OK)
        except OSError:
            return False

    def _models(self) -> _Models:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=_Models)
        except FileNotFoundError:
            return {}
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise StoreUnavailableError(f"{self._path} cannot be read: {error}") from error

    def _read(self) -> History | None:
        entry = self._models().get(self._model)
        place = f"{self._path}, {self._model!r},"
        return None if entry is None else decode(entry, self._num_stages, place)

    def _replace(self, history: History, over: int) -> None:
        path = Path(os.path.realpath(self._path))
        try:
            with _locked(path):
                require_version(self._read(), over)
                models: _Models = {**self._models(), self._model: msgspec.Raw(encode(history))}
                _write_whole(path, msgspec.json.format(msgspec.json.encode(models)))
        except OSError as error:
            raise StoreUnavailableError(f"{self._path} cannot be written: {error}") from error


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock of a file that is replaced: the file beside it stays, so that all wait for the same one."""
    descriptor = os.open(path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        deadline = time.monotonic() + _LOCK_TIMEOUT_S
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"another process has locked it for {_LOCK_TIMEOUT_S:g} s") from None
                time.sleep(_LOCK_POLL_S)
        yield
    finally:
        os.close(descriptor)


def _write_whole(path: Path, data: bytes) -> None:
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            _take_over_permissions(path, descriptor)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # or the new name may be lost with the machine
    finally:
        os.close(folder)


def _take_over_permissions(path: Path, descriptor: int) -> None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return
    with suppress(PermissionError):  # only root gives files away
        os.fchown(descriptor, status.st_uid, status.st_gid)
    os.fchmod(descriptor, stat.S_IMODE(status.st_mode))
