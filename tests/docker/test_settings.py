"""Every DVT_ variable that a file of the deployment sets is one that the service reads."""

import re

from deployment import DEPLOYMENT, ROOT

from service.settings import CONFIG_FILE_VARIABLE, PREFIX, Settings

KNOWN = {PREFIX + name.upper() for name in Settings.model_fields} | {CONFIG_FILE_VARIABLE}
SUFFIXES = {".yaml", ".env", ".py", ".sh", ".md"}


def test_deployment_names_only_settings_that_exist() -> None:
    files = [ROOT / "Dockerfile", *(file for file in DEPLOYMENT.rglob("*") if file.suffix in SUFFIXES)]
    named = {str(file.relative_to(ROOT)): set(re.findall(rf"\b{PREFIX}[A-Z_]+\b", file.read_text())) for file in files}

    assert {file: names - KNOWN for file, names in named.items() if names - KNOWN} == {}
    # They are found where they are set.
    assert "DVT_HTTP_HOST" in named["Dockerfile"]
    assert "DVT_ADMIN_KEY_FILE" in named["docker/compose.yaml"] & named["docker/kubernetes/base/deployment.yaml"]
    assert "DVT_DEVICE" in named["docker/kubernetes/overlays/gpu/settings.env"]
