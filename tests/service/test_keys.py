import pytest

from service.keys import KeyRing


@pytest.mark.parametrize(
    ("text", "holders"),
    [
        ("hush", {"hush": "admin"}),
        ("two words", {"two words": "admin"}),
        ("alice:hush", {"hush": "alice"}),
        ("alice:hush,bob:shush", {"hush": "alice", "shush": "bob"}),
        (" alice:hush \r\n\n bob.b-2_:shush\n", {"hush": "alice", "shush": "bob.b-2_"}),
        ("hush,bob:shush", {"hush": "admin", "shush": "bob"}),
        ("schlüssel==", {"schlüssel==": "admin"}),
        ("alice: hush", {"hush": "alice"}),
    ],
)
def test_holder_of_each_key_is_who_it_was_given_to(text, holders) -> None:
    ring = KeyRing.parse(text, name="admin")

    assert {key: ring.holder(key.encode()) for key in holders} == holders
    assert ring.holder(b"wrong") is None
    assert ring.holder(b"") is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "holds no key"),
        (" ,\n", "holds no key"),
        ("hush,shush", "needs another name for each of its 2 keys"),
        ("alice:hush,alice:shush", "needs another name for each of its 2 keys"),
        ("alice:", "entry 1 is not like"),
        (":hush", "entry 1 is not like"),
        ("ok,a b:hush", "entry 2 is not like"),
        ("a:b:hush", "entry 1 is not like"),
        ("\ufeffhush", r"entry 1 has a character at place 1 that cannot be seen or sent \(U\+FEFF\)"),
        ("ok,bob:hu\u200bsh", r"entry 2 has a character at place 3 that cannot be seen or sent \(U\+200B\)"),
        ("hush\x00", r"U\+0000"),
        ("hush\x7f", r"U\+007F"),
        ("hush\tsh", r"U\+0009"),
    ],
)
def test_parse_what_is_not_keys_raises_without_showing_one(text, words) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        KeyRing.parse(text, name="admin")
    assert "hush" not in str(caught.value)


def test_repr_shows_no_key() -> None:
    assert "hush" not in repr(KeyRing.parse("alice:hush", name="admin"))
