from pathlib import Path

import pytest

from weights.conversion.classes import class_names
from weights.conversion.foreign import ConversionError


def test_class_names_thousand_are_imagenet_s_and_others_indices() -> None:
    names = class_names(1000)
    assert len(names) == 1000
    assert (names[0], names[207], names[999]) == ("tench", "golden retriever", "toilet tissue")
    assert class_names(3) == ("0", "1", "2")


@pytest.mark.parametrize("text", ["cat\ndog \n", '["cat", "dog"]', "\ufeffcat\r\ndog"])
def test_class_names_file_is_lines_or_json(tmp_path: Path, text: str) -> None:
    (tmp_path / "names").write_text(text)
    assert class_names(2, tmp_path / "names") == ("cat", "dog")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cat\n", "expected 2 names, none of them empty; found 1"),
        ("cat\n\n", "none of them empty"),
        ("cat\ncat", "'cat' is the name of 2 classes"),
        ("[", "not a readable list of class names"),
        (None, "names is not a readable list"),
    ],
)
def test_class_names_wrong_file_raises(tmp_path: Path, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / "names").write_text(text)
    with pytest.raises(ConversionError, match=message):
        class_names(2, tmp_path / "names")
