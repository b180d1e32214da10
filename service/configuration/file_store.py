"""The configuration in a file, for one replica or for independent replicas."""

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

from service.configuration.store import Store, decode, require_version
from service.engine.operating import History
from service.errors import StoreUnavailableError

_Models = dict[str, msgspec.Raw]

_LOCK_TIMEOUT_S = 5.0
_LOCK_POLL_S = 0.01


def default_path(model: str) -> Path:
    """The file of this model in the user's state folder (XDG base directories)."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "dvt" / f"{quote(model, safe='')}.json"


class FileStore(Store):
    """One entry of a JSON file with an entry for each model. The file is replaced atomically.

    Several processes may change the file; each holds a lock from reading to replacing it. A symbolic link and the
    file's mode are kept. If the file cannot be written, it is read only, and changes are not kept.

    Args:
        model: the entry's name.
        num_stages: stages of the model.
    """

    def __init__(self, path: Path, *, model: str, num_stages: int) -> None:
        self._path = path
        self._model = model
        self._num_stages = num_stages
        self.durable = self._is_writable()

    async def read(self) -> History | None:
        """As `Store.read`."""
        return await asyncio.to_thread(self.read_now)

    def read_now(self) -> History | None:
        """`read` without an event loop.

        Raises:
            StoreUnavailableError: as `Store.read`; caused by an OSError if the file cannot be opened.
        """
        return decode(self._models().get(self._model), self._num_stages, f"{self._path}, {self._model!r},")

    async def replace(self, history: History, *, over: int) -> None:
        """As `Store.replace`."""
        if self.durable:
            await asyncio.to_thread(self._replace, history, over)

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

    def _replace(self, history: History, over: int) -> None:
        path = Path(os.path.realpath(self._path))
        try:
            with _locked(path):
                require_version(self.read_now(), over)
                models: _Models = {**self._models(), self._model: msgspec.Raw(msgspec.json.encode(history))}
                _write_whole(path, msgspec.json.format(msgspec.json.encode(models)))
        except OSError as error:
            raise StoreUnavailableError(f"{self._path} cannot be written: {error}") from error


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Lock a file beside `path`, because `path` itself is replaced."""
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
            if path.exists():
                status = path.stat()
                with suppress(PermissionError):  # only root may change the owner
                    os.fchown(descriptor, status.st_uid, status.st_gid)
                os.fchmod(descriptor, stat.S_IMODE(status.st_mode))
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        os.replace(temporary, path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # or a power failure may undo the rename
    finally:
        os.close(folder)
