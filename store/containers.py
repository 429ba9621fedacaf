"""Containers as cgroups name them: paths in which Docker, containerd, CRI-O and Podman put a container's id."""

from __future__ import annotations

import re

from tracectl.store.errors import UserError

SHORTEST = 12
# docker-ID.scope, cri-containerd-ID.scope, crio-ID.scope, libpod-ID.scope, nerdctl-ID.scope, or the id alone; not their
# helpers' (crio-conmon-ID.scope), and with all that is below.
_FORM = r"(^|/)((docker|cri-containerd|crio|libpod|nerdctl)-)?{id}[0-9a-f]*(\.scope)?(/|$)"
_ANY = re.compile(r"(?<![^/])((docker|cri-containerd|crio|libpod|nerdctl)-)?(?P<id>[0-9a-f]{64})(\.scope)?(?=/|$)")
_ID = re.compile(rf"(?:[a-z][a-z0-9+.-]*://)?([0-9a-f]{{{SHORTEST},64}})", re.IGNORECASE)


def container_id(text: str) -> str:
    """A container's id, or a begin of it: as ``docker ps`` or ``kubectl`` (``containerd://…``) print it.

    Raises:
        UserError: it is none, or too short to mean one container.
    """
    found = _ID.fullmatch(text)
    if not found:
        raise UserError(
            f"{text} is no container id", f"at least {SHORTEST} hexadecimal digits, as docker ps and kubectl print them"
        )
    return found[1].lower()


def container_in(path: str) -> str | None:
    """The whole id of the container that a cgroup path is in, the innermost one; None: of none."""
    found = list(_ANY.finditer(path))
    return found[-1]["id"] if found else None


def path_pattern(identifier: str) -> str:
    """A regular expression (RE2 and Python) found in the cgroup paths of the container with this id."""
    return _FORM.format(id=identifier)
