import pytest

from service.keys import KeyRing


@pytest.mark.parametrize(
    ("text", "holders"),
    [
        ("two words", {"two words": "admin"}),
        (" alice:hush \r\n\n bob.b-2_: shush\n", {"hush": "alice", "shush": "bob.b-2_"}),
        ("hush,bob:shush", {"hush": "admin", "shush": "bob"}),
        ("schlüssel==", {"schlüssel==": "admin"}),
    ],
)
def test_holder_of_each_key_is_who_it_was_given_to(text, holders) -> None:
    ring = KeyRing.parse(text, name="admin")

    assert {key: ring.holder(key.encode()) for key in holders} == holders
    assert ring.holder(b"wrong") is None
    assert ring.holder(b"") is None
    assert "hush" not in repr(ring)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (" ,\n", "holds no key"),
        ("hush,shush", "needs another name for each of its 2 keys"),
        ("alice:hush,alice:shush", "needs another name for each of its 2 keys"),
        ("alice:", "entry 1 is not like"),
        ("ok,a b:hush", "entry 2 is not like"),
        ("a:b:hush", "entry 1 is not like"),
        (f"{'a' * 65}:hush", "entry 1 is not like"),
        ("ok,bob:hu\u200bsh", r"entry 2 has a character at place 3 that cannot be seen or sent \(U\+200B\)"),
        ("hush\tsh", r"U\+0009"),
    ],
)
def test_parse_what_is_not_keys_raises_without_showing_one(text, words) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        KeyRing.parse(text, name="admin")
    assert "hush" not in str(caught.value)
