"""Judges what a node has for containers: the site's runtime, what the kernel allows, the job's images and mounts."""

from collections.abc import Iterator

from slurm_tf.doctor import findings
from slurm_tf.doctor.findings import Finding
from slurm_tf.run.container_settings import Runtime
from slurm_tf.run.examination import ContainerFacts, ImageFacts, RuntimeSettings
from slurm_tf.run.image_kind import ImageKind

_ADMINS = "ask your administrators"
_FILES = tuple(kind.value for kind in ImageKind if kind.is_file)
_OF_APPTAINER = (ImageKind.SIF, ImageKind.SQUASHFS, ImageKind.FOLDER)
_RUNS = {
    Runtime.APPTAINER: _OF_APPTAINER,
    Runtime.SINGULARITY: _OF_APPTAINER,
    Runtime.CHARLIECLOUD: (ImageKind.FOLDER, ImageKind.SQUASHFS),
    Runtime.PYXIS: (ImageKind.SQUASHFS,),
    Runtime.OCI: (ImageKind.OCI_BUNDLE,),
}
# Installed with the setuid bit they need neither of what other runtimes do.
_MAY_BE_ROOT = (Runtime.APPTAINER, Runtime.SINGULARITY)
_NO_NEED = (Runtime.OCI,)  # slurmd starts it, as root


def check(facts: ContainerFacts, settings: RuntimeSettings) -> Iterator[Finding]:
    """Yield what one node's facts mean for containers of the site's runtime."""
    runtime = settings.runtime
    yield _program(facts, runtime)
    if runtime not in _NO_NEED:
        yield _namespaces(facts, runtime)
    if runtime.wraps:
        yield _fuse(facts, runtime)
    for image in facts.images:
        yield _image(image, runtime)
        if image.unseen:
            said = "; ".join(f"{path}: {why}" for path, why in image.unseen.items())
            do = "correct mounts of [container], in the job file or the site's profile"
            yield findings.error("container-mounts", said, "files and folders that this node has", do)


def _program(facts: ContainerFacts, runtime: Runtime) -> Finding:
    if runtime is Runtime.OCI:
        return findings.ok("container-runtime", "Slurm starts it, as oci.conf says")
    if facts.problem:
        do = "set command or modules below [container] of the profile, or use other nodes (constraint, --exclude)"
        return findings.error("container-runtime", facts.problem, f"{runtime.value} on each node", do)
    of_pyxis = " for pyxis" if runtime is Runtime.PYXIS else ""
    return findings.ok("container-runtime", f"{facts.program}{of_pyxis}, {facts.version}")


def _namespaces(facts: ContainerFacts, runtime: Runtime) -> Finding:
    """Return whether a user may make user namespaces, in which a program sees the image as its root."""
    taken = [f"{name} is {value}" for name, value in facts.restrictions.items()]
    if not facts.namespaces:
        is_off = "the kernel has no user namespaces" if facts.namespaces is None else "user.max_user_namespaces is 0"
        taken = [is_off, *taken]
    if not taken:
        return findings.ok("user-namespaces", f"user.max_user_namespaces is {facts.namespaces}")
    found = ", ".join(taken)
    if all("apparmor" in each for each in taken):
        needed = f"a profile of AppArmor that allows {runtime.value} user namespaces"
        do = f"{_ADMINS}: the package of {runtime.value} may bring it; preflight shows whether it works"
        return findings.warning("user-namespaces", found, needed, do)
    if runtime in _MAY_BE_ROOT:
        needed = f"user namespaces, or {runtime.value} installed with the setuid bit"
        return findings.warning("user-namespaces", found, needed, f"{_ADMINS}; preflight shows whether it works")
    do = f"{_ADMINS}: sysctl user.max_user_namespaces, and on Debian kernel.unprivileged_userns_clone=1"
    return findings.error("user-namespaces", found, f"user namespaces for users: {runtime.value} needs them", do)


def _fuse(facts: ContainerFacts, runtime: Runtime) -> Finding:
    """Return whether images that are files can be mounted, which is judged only where the job has such an image."""
    files = [each.image for each in facts.images if each.kind in _FILES]
    there = "there is no /dev/fuse" if facts.fuse is None else f"/dev/fuse has mode {facts.fuse:04o}"
    if facts.opens_fuse or not files:
        needs_none = "" if files else "; the job has no image that is a file"
        return findings.ok("fuse", f"{there}{needs_none}")
    found = f"{there}, and {', '.join(files)} is a file"
    needed = "a /dev/fuse that users may open (mode 0666), or an image that is a folder"
    if runtime in _MAY_BE_ROOT:
        do = f"{_ADMINS}; without it each start unpacks the image, unless {runtime.value} has the setuid bit"
        return findings.warning("fuse", found, needed, do)
    return findings.error("fuse", found, needed, f"{_ADMINS}: modprobe fuse, and its mode by udev")


def _image(image: ImageFacts, runtime: Runtime) -> Finding:
    kinds = [kind.value for kind in _RUNS[runtime]]
    if image.problem:
        return findings.error("image", f"{image.image}: {image.problem}", "an image that each node can read", _CORRECT)
    if image.kind not in kinds:
        needed = f"{' or '.join(kinds)}, which {runtime.value} runs"
        return findings.error("image", f"{image.image} is {_article(image.kind)}", needed, _BUILD)
    return findings.ok("image", f"{image.image}: {image.kind}; slurm-tf preflight JOB starts something in it")


_CORRECT = "correct image of [container]: slurm-tf images list shows those of the site"
_BUILD = "slurm-tf images build makes one of them"


def _article(kind: str) -> str:
    return f"{'an' if kind[0] in 'AEIOU' else 'a'} {kind}"
