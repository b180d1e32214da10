from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from images import encode, two_colour_images

from weights.data.labelled import DataError
from weights.data.parquet import parquet_files, read_parquet

PNG = encode(two_colour_images(1)[0][0])


def table(path: Path, images: list[Any], labels: list[Any]) -> list[Path]:
    pq.write_table(pa.table({"image": images, "label": labels}), path)
    return [path]


def test_read_parquet_images_may_be_plain_bytes_and_labels_names(tmp_path: Path) -> None:
    found = read_parquet(table(tmp_path / "a.parquet", [{"bytes": PNG}] * 3, ["dog", "cat", "dog"]))
    assert (found.class_names, found.labels) == (("cat", "dog"), [1, 0, 1])
    found = read_parquet(table(tmp_path / "a.parquet", [PNG, PNG], [0, 1]))
    assert [read() for read in found.read] == [PNG, PNG]
    assert found.class_names == ("0", "1")


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        ([{"bytes": None, "path": "x.jpg"}], [0], r"a\.parquet, row 0 holds no image bytes"),
        ([PNG, PNG], [0, None], r"a\.parquet, row 1 has no label"),
        ([PNG], [1.5], "class numbers or class names throughout, found 1.5"),
        ([PNG], [-1], "labels reach from -1 to -1"),
    ],
)
def test_read_parquet_unusable_row_raises_naming_it(
    tmp_path: Path, images: list[Any], labels: list[Any], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        read_parquet(table(tmp_path / "a.parquet", images, labels))


def test_read_parquet_cut_file_or_other_columns_raise_naming_them(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"x": [1]}), path)
    with pytest.raises(DataError, match=r"columns \['x'\], expected 'image' and 'label'"):
        read_parquet([path])
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"a\.parquet is not a complete parquet file"):
        read_parquet([path])


def test_parquet_files_path_that_is_neither_raises(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").touch()
    with pytest.raises(DataError, match=r"photo\.jpg is not a parquet file; give"):
        parquet_files([tmp_path / "photo.jpg"])
    with pytest.raises(DataError, match="missing does not exist"):
        parquet_files([tmp_path / "missing"])
