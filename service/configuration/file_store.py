"""The configuration in a file: for one replica, or replicas that need not agree."""

import asyncio
import os
import tempfile
from contextlib import suppress
from pathlib import Path

import msgspec

from service.configuration.store import decode, encode, require_version
from service.engine.operating import History
from service.errors import StoreUnavailableError

_Models = dict[str, msgspec.Raw]


def default_path() -> Path:
    """Where a user's programs keep what they should remember (XDG base directories)."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "dvt" / "config.json"


class FileStore:
    """One entry of a JSON file that has one for each model; always whole, whenever the machine stops.

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

    def check(self) -> None:
        """Read what is there.

        Raises:
            StoreUnavailableError: it is not a configuration of this model.
        """
        self._read()

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
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self._path.parent):
                return not self._path.exists() or os.access(self._path, os.W_OK)
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
        require_version(self._read(), over)
        models: _Models = {**self._models(), self._model: msgspec.Raw(encode(history))}
        try:
            _write_whole(self._path, msgspec.json.format(msgspec.json.encode(models)))
        except OSError as error:
            raise StoreUnavailableError(f"{self._path} cannot be written: {error}") from error


def _write_whole(path: Path, data: bytes) -> None:
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
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
