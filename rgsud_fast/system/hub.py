"""Files of a model hub by name, `hf:OWNER/REPO[/FILE]`, through huggingface_hub, which keeps them in its cache."""

from __future__ import annotations

import contextlib
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from ..errors import UserError, install, reason

PREFIX = "hf:"
ENDINGS = (".safetensors", ".pth")  # of what may be the weights of a repository that has just one such file
_NAME = re.compile(r"hf:([\w.-]+/[\w.-]+)(?:/(.+))?")
_TOKEN = "log in with `hf auth login`, or set HF_TOKEN"


class HubName(NamedTuple):
    """What `hf:OWNER/REPO[/FILE]` names."""

    repository: str
    file: str | None


def is_hub_name(path: str | Path) -> bool:
    """Whether a path is a name on the hub."""
    return str(path).startswith(PREFIX)


def fetch(path: str | Path, usual: str) -> Path:
    """The local copy of a file on the hub, downloaded where the cache has none of its present version.

    Args:
        path: hf:OWNER/REPO/FILE, or hf:OWNER/REPO for the usual file, else the only one that ends as `ENDINGS`.
        usual: the name of the usual file.

    Raises:
        UserError: a malformed name, no such repository or file, no network, no token, or the extra `hub` is missing.
    """
    repository, file = parse_name(str(path))
    hub = import_hub()
    endpoint, cache = os.environ.get("HF_ENDPOINT"), os.environ.get("HF_HUB_CACHE")
    there = reachable(endpoint)
    with explaining(f"{PREFIX}{repository}", hub):
        if file is None:
            file = _file_of(hub.HfApi(endpoint=endpoint), repository, usual) if there else usual
        options = {"endpoint": endpoint, "cache_dir": cache, "local_files_only": not there}
        return Path(hub.hf_hub_download(repository, file, **options))


def parse_name(name: str) -> HubName:
    """Take a name apart.

    Raises:
        UserError: it is none.
    """
    found = _NAME.fullmatch(name)
    if found is None or ".." in name.split("/"):
        raise UserError(f"{name} is no name on the hub: give hf:OWNER/REPO or hf:OWNER/REPO/FILE")
    return HubName(found.group(1), found.group(2))


def import_hub() -> Any:
    """huggingface_hub, imported when first needed.

    Raises:
        UserError: it is missing.
    """
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        import huggingface_hub
        import huggingface_hub.errors  # it is no attribute before
    except ImportError:
        raise UserError(f"the model hub needs huggingface_hub: {install('hub')}") from None
    return huggingface_hub


def reachable(endpoint: str | None) -> bool:
    """Whether the hub's machine answers, asked once: huggingface_hub itself tries for more than a minute.

    Behind a proxy only the proxy knows, and the answer is yes.
    """
    address = urlsplit(endpoint or "https://huggingface.co")
    if os.environ.get("HF_HUB_OFFLINE", "0").upper() in ("1", "ON", "YES", "TRUE"):
        return False
    if {f"{address.scheme}_proxy", "all_proxy"} & {name.lower() for name in os.environ}:
        return True
    try:
        port = address.port or (80 if address.scheme == "http" else 443)
        socket.create_connection((address.hostname or "", port), timeout=5).close()
    except (OSError, ValueError):
        return False
    return True


@contextlib.contextmanager
def explaining(name: str, hub: Any) -> Iterator[None]:
    """Tell in one line what the hub or the network refused; `name` is what was asked for."""
    errors = hub.errors
    try:
        yield
    except errors.GatedRepoError:
        raise UserError(f"{name}: its owner must let you in: accept its terms on its page, then {_TOKEN}") from None
    except errors.RepositoryNotFoundError:
        raise UserError(f"{name}: no such repository, or a private one: check the name, or {_TOKEN}") from None
    except errors.LocalEntryNotFoundError:
        raise UserError(f"{name}: no network, and no copy of it in the cache") from None
    except errors.EntryNotFoundError as error:
        raise UserError(f"{name}: no such file: {reason(error, 200)}") from None
    except errors.LocalTokenNotFoundError:
        raise UserError(f"{name}: no token: {_TOKEN}") from None
    except errors.HFValidationError as error:
        raise UserError(f"{name} is no name on the hub: {reason(error, 120)}") from None
    except errors.HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else 0
        if status in (401, 403):
            raise UserError(f"{name}: no token that allows this: {_TOKEN}") from None
        raise UserError(f"{name}: the hub refuses: {reason(error, 200)}") from None
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(f"{name}: {reason(error, 200)}") from None
    except Exception as error:  # the HTTP library of this version has errors of its own
        if not type(error).__module__.startswith("http"):
            raise
        raise UserError(f"{name}: no network ({reason(error, 120)}); try again, or give a file") from None


def _file_of(api: Any, repository: str, usual: str) -> str:
    """The weights' file in a repository.

    Raises:
        UserError: there are none, or several.
    """
    files = api.list_repo_files(repository)
    weights = sorted(file for file in files if file.endswith(ENDINGS))
    if usual in weights:
        return usual
    if len(weights) == 1:
        return str(weights[0])
    named = ", ".join(f"{PREFIX}{repository}/{file}" for file in weights[:8])
    more = f" and {len(weights) - 8} more" if len(weights) > 8 else ""
    if not weights:
        raise UserError(f"{PREFIX}{repository} holds no {' and no '.join(ENDINGS)} file")
    raise UserError(f"{PREFIX}{repository} holds several files of weights: give one of {named}{more}")
