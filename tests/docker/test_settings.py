"""Every DVT_ variable that a file of the deployment sets is one that the service reads."""

from pathlib import Path

import pytest
from deployment import DEPLOYMENT, ROOT, known_settings, settings_in

FILES = [
    ROOT / "Dockerfile",
    *sorted(file for file in DEPLOYMENT.rglob("*") if file.suffix in {".yaml", ".env", ".py", ".sh", ".md"}),
]


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_file_names_only_settings_that_exist(file: Path) -> None:
    assert settings_in(file.read_text()) <= known_settings()


@pytest.mark.parametrize(
    ("file", "setting"),
    [
        ("Dockerfile", "DVT_HTTP_HOST"),
        ("docker/compose.yaml", "DVT_ADMIN_KEY_FILE"),
        ("docker/kubernetes/base/deployment.yaml", "DVT_ADMIN_KEY_FILE"),
        ("docker/kubernetes/overlays/gpu/settings.env", "DVT_DEVICE"),
    ],
)
def test_settings_are_found_where_they_are_set(file: str, setting: str) -> None:
    assert ROOT / file in FILES
    assert setting in settings_in((ROOT / file).read_text())
