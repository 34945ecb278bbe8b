"""Makes the bundle of an OCI container (srun --container) from an image: its config.json, for the tasks of one role.

The image is a bundle, as umoci or `docker export` beside a config.json make it, or just a root file system. Of its own
config.json the environment, mounts, hooks and annotations stay. Its process and its namespaces do not: tasks are
processes of the same user beside those that are in no container, with the node's network, devices and shared memory.

Slurm (22.05.8, container.c) puts in the command, and the step's environment behind the image's, which it so overrides;
it takes BUNDLE/rootfs for the root file system, later releases take what `root.path` says.
"""

import json
import os
import shlex
from typing import Any, Dict, FrozenSet, List, Mapping, Optional, Sequence, Tuple

from slurm_tf import files
from slurm_tf.errors import ContainerError
from slurm_tf.launch.mapping import container
from slurm_tf.run import env
from slurm_tf.run.container_settings import Mount

CONFIG, ROOT = "config.json", "rootfs"
# The node's own, whole: TensorFlow reads /proc and /sys, collectives and data loaders use /dev/shm.
_OF_NODE = ("/proc", "/sys", "/dev", "/tmp")  # noqa: S108 - the name, no file in it
# So that names of hosts and users are known inside; where the image has the file.
_FILES_OF_NODE = ("/etc/hosts", "/etc/resolv.conf", "/etc/passwd", "/etc/group")


def write(bundle: str, image: str, mounts: Sequence[Mount], cwd: str) -> FrozenSet[str]:
    """Write the bundle, a folder with config.json and a link to the image's root file system.

    Return the names of the variables that the image sets.

    `mounts`: beside the node's own /proc, /sys, /dev and /tmp, each after those that it is below. `cwd`: where the
    tasks start. Jobs of one submission write it at any time, each the same. Raises ContainerError or OSError.
    """
    of_image, root = read_image(image)
    config = make_config(of_image, image, root, mounts, cwd, (os.getuid(), os.getgid()))
    for mount in config["mounts"]:
        _check_mount_point(root, mount, config["mounts"])
    os.makedirs(bundle, mode=0o700, exist_ok=True)
    link = os.path.join(bundle, ROOT)
    if not os.path.lexists(link) or os.readlink(link) != root:
        aside = f"{link}.{os.uname().nodename}.{os.getpid()}"
        os.symlink(root, aside)
        os.rename(aside, link)
    files.write_whole(os.path.join(bundle, CONFIG), json.dumps(config, indent=1).encode())
    return frozenset(each.partition("=")[0] for each in config["process"]["env"])


def read_image(image: str) -> Tuple[Mapping[str, Any], str]:
    """Return the image's own config.json, {} where it has none, and the path of its root file system.

    Raises ContainerError.
    """
    path = os.path.join(image, CONFIG)
    try:
        with open(path, encoding="utf-8") as file:
            of_image = json.load(file)
        root = os.path.join(image, of_image.get("root", {}).get("path", ROOT))
    except FileNotFoundError:
        of_image, root = {}, image
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise ContainerError(f"cannot read the image's {path}: {error}", "a bundle of OCI") from error
    try:
        os.listdir(root)
    except OSError as error:
        needed = "a folder: a bundle of OCI, or a root file system"
        raise ContainerError(f"the image's {root}: {error.strerror}", needed) from error
    return of_image, os.path.realpath(root)


def make_config(
    of_image: Mapping[str, Any],
    image: str,
    root: str,
    mounts: Sequence[Mount],
    cwd: str,
    user: Tuple[int, int],
) -> Dict[str, Any]:
    """Return the config.json for tasks of `user` (user id, group id). `of_image`: the image's own."""
    taken = {each.target for each in mounts}
    own = [
        _absolute(image, each)
        for each in of_image.get("mounts", [])
        if not _is_of_node(each["destination"]) and each["destination"] not in taken
    ]
    of_node = [_bind(Mount(path, path, False)) for path in _OF_NODE]
    of_node += [_bind(Mount(path, path, True)) for path in _FILES_OF_NODE if _is_in_both(root, path)]
    wanted = [_bind(each) for each in mounts]
    config = {
        "ociVersion": of_image.get("ociVersion", "1.0.0"),
        "process": {
            "terminal": False,
            "user": {"uid": user[0], "gid": user[1]},
            "args": ["true"],
            "env": _environ(of_image),
            "cwd": cwd,
            "noNewPrivileges": True,
        },
        "root": {"path": root, "readonly": True},
        "mounts": [*of_node, *own, *wanted],
        # files that the user may read as a member of other groups stay readable (crun)
        "annotations": {**of_image.get("annotations", {}), "run.oci.keep_original_groups": "1"},
        "linux": {
            "namespaces": [{"type": "user"}, {"type": "mount"}],
            "uidMappings": [{"containerID": user[0], "hostID": user[0], "size": 1}],
            "gidMappings": [{"containerID": user[1], "hostID": user[1], "size": 1}],
        },
    }
    return {**config, "hooks": of_image["hooks"]} if "hooks" in of_image else config


def _environ(of_image: Mapping[str, Any]) -> List[str]:
    """Return the container's environment; by its last variable an agent knows that it is inside.

    What Slurm and slurm-tf say to a task no image does: devices that Slurm did not give, or another rank.
    """
    found: List[str] = of_image.get("process", {}).get("env", [])
    variables = [each for each in found if not container.is_slurms(each.partition("=")[0])]
    path = [] if any(each.startswith("PATH=") for each in variables) else [f"PATH={container.DEFAULT_PATH}"]
    return [*variables, *path, f"{env.INSIDE}={env.OCI}"]


def _is_of_node(target: str) -> bool:
    return any(target == path or target.startswith(f"{path}/") for path in ("/", *_OF_NODE))


def _is_in_both(root: str, path: str) -> bool:
    return os.path.exists(path) and os.path.isfile(root + path)


def _absolute(image: str, mount: Mapping[str, Any]) -> Dict[str, Any]:
    """Return a mount of the image's own, whose source may be relative to it."""
    is_bind = any(each in ("bind", "rbind") for each in mount.get("options", []))
    return {**mount, "source": os.path.join(image, mount["source"])} if is_bind else dict(mount)


def _bind(mount: Mount) -> Dict[str, Any]:
    options = ["rbind", "ro"] if mount.read_only else ["rbind"]
    return {"destination": mount.target, "type": "none", "source": mount.source, "options": options}


def _check_mount_point(root: str, mount: Mapping[str, Any], mounts: Sequence[Mapping[str, Any]]) -> None:
    """Raise ContainerError if there is nothing to mount on, in an image in which the runtime may not make it."""
    path = _seen_from_node(root, mount["destination"], mounts[: mounts.index(mount)])
    if os.path.lexists(path):
        return
    above = os.path.dirname(path)
    while not os.path.lexists(above):
        above = os.path.dirname(above)
    if not os.access(above, os.W_OK):
        found = f"the image {root} has no {mount['destination']}"
        raise ContainerError(found, f"it, to mount {mount['source']} there", f"mkdir -p {shlex.quote(path)}")


def _seen_from_node(root: str, target: str, mounted: Sequence[Mapping[str, Any]]) -> str:
    """Return the path, outside the container, of what is at `target` once `mounted` is."""
    above: Optional[Mapping[str, Any]] = None
    for mount in mounted:
        if target.startswith(f"{mount['destination'].rstrip('/')}/"):
            above = mount
    return root + target if above is None else above["source"] + target[len(above["destination"].rstrip("/")) :]
