"""Keys that open parts of the service, each with the name of who holds it."""

import hmac
import re
from dataclasses import dataclass, field

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_SEPARATORS = re.compile(r"[,\r\n]")


@dataclass(frozen=True, slots=True)
class KeyRing:
    """Some keys; their text is never shown."""

    _keys: tuple[tuple[str, bytes], ...] = field(repr=False)

    @classmethod
    def parse(cls, text: str, name: str) -> "KeyRing":
        """Keys separated by commas or line ends, each as `holder:key`; one without a holder belongs to `name`.

        Raises:
            ValueError: there is none, a holder's name is not one, two are the same, or a key cannot be sent;
                without showing one.
        """
        entries = [entry.strip() for entry in _SEPARATORS.split(text) if entry.strip()]
        keys = tuple(_entry(entry, number, name) for number, entry in enumerate(entries, 1))
        if not keys:
            raise ValueError("holds no key")
        holders = [holder for holder, _ in keys]
        if len(set(holders)) < len(holders):
            raise ValueError(f"needs another name for each of its {len(keys)} keys, as in alice:KEY,bob:KEY")
        return cls(keys)

    def holder(self, key: bytes) -> str | None:
        """Whose key this is; None for nobody's. Takes as long for a wrong key as for a right one."""
        found = None
        for holder, own in self._keys:
            if hmac.compare_digest(key, own):
                found = holder
        return found


def _entry(entry: str, number: int, name: str) -> tuple[str, bytes]:
    holder, colon, key = entry.rpartition(":")
    key = key.strip()
    if colon and not (_NAME.fullmatch(holder) and key):
        raise ValueError(
            f"entry {number} is not like alice:KEY: a name has up to 64 letters, digits, '_', '.' or '-', "
            "a key has no ':' and is not empty"
        )
    for place, character in enumerate(key, 1):
        if not character.isprintable():
            # Nobody could type it, and some of these characters are not allowed in a header.
            raise ValueError(
                f"entry {number} has a character at place {place} that cannot be seen or sent "
                f"(U+{ord(character):04X}); write the key anew"
            )
    return (holder or name, key.encode())
