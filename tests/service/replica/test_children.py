import os

from service.replica.children import ROOT, child_environment


def test_child_environment_finds_this_package_first_and_nothing_in_the_working_directory(monkeypatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    environment = child_environment({"DVT_MODEL": "m"})

    assert environment["PYTHONPATH"] == os.pathsep.join((str(ROOT), "/elsewhere"))
    assert (environment["PYTHONSAFEPATH"], environment["DVT_MODEL"]) == ("1", "m")


def test_child_environment_of_an_installed_package_adds_nothing_to_the_path(monkeypatch) -> None:
    monkeypatch.setattr("sysconfig.get_path", lambda _: str(ROOT))
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")

    assert child_environment()["PYTHONPATH"] == "/elsewhere"
