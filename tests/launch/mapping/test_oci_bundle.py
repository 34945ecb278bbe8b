"""The config.json of an OCI container, from an image's own; what crun and Slurm make of it: tests/cluster."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from slurm_tf.errors import ContainerError
from slurm_tf.launch.mapping import oci_bundle
from slurm_tf.run.container_settings import Mount

# as `crun spec --rootless` and the hooks of NVIDIA's runtime make it, shortened
OF_IMAGE: dict[str, Any] = {
    "ociVersion": "1.0.2",
    "process": {
        "terminal": True,
        "user": {"uid": 0, "gid": 0},
        "env": ["PATH=/opt/bin", "TF_CONFIG={}", "A=b"],
        "cwd": "/",
    },
    "root": {"path": "rootfs", "readonly": True},
    "mounts": [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["size=65536k"]},
        {"destination": "/data", "type": "none", "source": "data", "options": ["rbind", "ro"]},
        {"destination": "/scratch", "type": "tmpfs", "source": "tmpfs"},
    ],
    "hooks": {"prestart": [{"path": "/usr/bin/nvidia-container-runtime-hook"}]},
    "linux": {"namespaces": [{"type": "pid"}, {"type": "network"}], "maskedPaths": ["/proc/kcore"]},
}


def make_image(folder: Path, *names: str, config: object = OF_IMAGE) -> Path:
    """Make a bundle whose root file system has these files and folders."""
    for name in ("proc", "sys", "dev", "tmp", "etc", "data", "scratch", *names):
        (folder / "image/rootfs" / name).mkdir(parents=True)
    if config:
        (folder / "image/config.json").write_text(json.dumps(config))
    return folder / "image"


def written(folder: Path, image: Path, *mounts: Mount) -> dict[str, Any]:
    oci_bundle.write(str(folder / "bundle"), str(image), mounts, "/work")
    config: dict[str, Any] = json.loads((folder / "bundle/config.json").read_text())
    return config


def test_of_the_image_its_environment_mounts_and_hooks_stay(tmp_path: Path) -> None:
    image = make_image(tmp_path, "work", "work/run")
    config = written(tmp_path, image, Mount("/srv", "/work"), Mount("/home/a/run $x", "/work/run", True))
    assert config["process"]["env"] == ["PATH=/opt/bin", "A=b", "SLURM_TF_INSIDE=oci"]
    assert config["process"]["cwd"] == "/work"
    assert config["hooks"] == OF_IMAGE["hooks"]
    assert {each["type"] for each in config["linux"]["namespaces"]} == {"user", "mount"}
    assert config["linux"]["uidMappings"] == [{"containerID": os.getuid(), "hostID": os.getuid(), "size": 1}]
    found = [(each["source"], each["destination"], "ro" in each.get("options", [])) for each in config["mounts"]]
    assert found == [
        ("/proc", "/proc", False), ("/sys", "/sys", False), ("/dev", "/dev", False), ("/tmp", "/tmp", False),
        (str(image / "data"), "/data", True), ("tmpfs", "/scratch", False),
        ("/srv", "/work", False), ("/home/a/run $x", "/work/run", True),
    ]  # fmt: skip
    assert os.path.samefile(tmp_path / "bundle/rootfs", image / "rootfs")
    assert config["root"]["path"] == str(image / "rootfs")


def test_a_root_file_system_without_a_config_is_an_image_and_is_written_again_as_it_was(tmp_path: Path) -> None:
    image = make_image(tmp_path, config=None) / "rootfs"
    (image / "etc/hosts").touch()
    config = written(tmp_path, image)
    assert config == written(tmp_path, image)
    assert config["process"]["env"][0].startswith("PATH=/usr/local/sbin:")
    assert config["mounts"][-1]["destination"] == "/etc/hosts"
    assert os.path.samefile(tmp_path / "bundle/rootfs", image)


def test_a_mount_point_that_cannot_be_made_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = make_image(tmp_path)
    monkeypatch.setattr(os, "access", lambda *_: False)  # as for a user who is not root
    with pytest.raises(ContainerError, match="has no /lost; needed it, to mount /srv there"):
        written(tmp_path, image, Mount("/srv", "/lost"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "read the image's .*config.json"),
        ("[]", "a bundle of OCI"),
        ('{"root": {"path": "no"}}', "no: No such file"),
    ],
)
def test_an_image_that_is_none_is_said(tmp_path: Path, text: str, said: str) -> None:
    image = make_image(tmp_path, config=None)
    (image / "config.json").write_text(text)
    with pytest.raises(ContainerError, match=said):
        written(tmp_path, image)
    with pytest.raises(ContainerError, match="gone: No such file or directory"):
        written(tmp_path, tmp_path / "gone")
