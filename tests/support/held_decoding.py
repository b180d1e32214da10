"""Decodings that a test holds back."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest


class Held:
    """A decoding that does not end until it may."""

    def __init__(self, decode):
        self.decode = decode
        self.begun: list[bytes] = []
        self.may_end = threading.Event()

    def __call__(self, data):
        self.begun.append(data)
        assert self.may_end.wait(10)
        return self.decode(data)


@contextmanager
def held(
    monkeypatch: pytest.MonkeyPatch, decoder: object, lane: str, earlier: tuple[str, ...], slow: bytes
) -> Iterator[Held]:
    """`slow` is left by the earlier lanes, and waits in `lane`; everything else goes where it always goes."""

    def leave(decode):
        return lambda data: None if data == slow else decode(data)

    for name in earlier:
        monkeypatch.setattr(decoder, name, leave(getattr(decoder, name)))
    decode = getattr(decoder, lane)
    waiting = Held(decode)
    monkeypatch.setattr(decoder, lane, lambda data: waiting(data) if data == slow else decode(data))
    try:
        yield waiting
    finally:
        waiting.may_end.set()


def ordinary(monkeypatch, serving, slow):
    """Hold `slow` in the pool of ordinary images."""
    return held(monkeypatch, serving.context.decoder, "decode_ordinary", ("decode_small",), slow)


def large(monkeypatch, serving, slow):
    """Hold `slow` in the lane of large images."""
    return held(monkeypatch, serving.context.decoder, "decode", ("decode_small", "decode_ordinary"), slow)
