import numpy as np
import pytest

from weights.data.labelled import EncodedImages, LabelledImages


def labelled(labels: list[int], *names: str) -> LabelledImages:
    return LabelledImages(np.zeros((len(labels), 3, 4, 4), dtype=np.uint8), np.array(labels), names)


@pytest.mark.parametrize(("limit", "kept"), [(2, ["0", "4"]), (3, ["0", "1", "4"]), (9, list("0123456"))])
def test_first_takes_classes_evenly_in_their_order(limit: int, kept: list[str]) -> None:
    encoded = EncodedImages(list("0123456"), [bytes] * 7, [0, 0, 0, 0, 1, 1, 1], ("a", "b"))
    assert encoded.first(limit).where == kept
    assert len(encoded.first(limit).labels) == len(encoded.first(limit).read) == len(kept)


def test_relabelled_classes_of_a_part_get_the_numbers_of_all() -> None:
    data = labelled([0, 1, 0], "dog", "cat").relabelled(("cat", "cow", "dog"))
    assert data.labels.tolist() == [2, 0, 2]
    assert data.class_names == ("cat", "cow", "dog")
    # A class without images does not matter.
    assert labelled([0], "cat", "yak").relabelled(("dog", "cat")).labels.tolist() == [1]
