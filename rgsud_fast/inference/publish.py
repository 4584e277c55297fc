"""A finished run on a model hub: its weights, model card and gallery."""

from __future__ import annotations

import os
from pathlib import Path

from safetensors import safe_open

from ..config.parts import PARTS
from ..errors import UserError
from ..runs.folder import RunFolder
from ..runs.model_card import without_paths, write_card
from ..system.hub import PREFIX, explaining, import_hub, parse_name, reachable
from ..system.names import takes_home, utf8_name
from ..system.safetensors_bytes import safetensors_bytes


@takes_home
def publish(run: str | Path, repository: str, *, public: bool = False) -> str:
    """Upload a finished run to a repository of a model hub, which is made where there is none.

    Sent are the weights of its networks and its scorer (.safetensors), the model card README.md, and gallery.html,
    which shows photographs that the run was trained on. config.yaml, which names folders of this machine, is not.

    Args:
        run: folder of a finished run.
        repository: OWNER/REPO, with hf: before it or not.
        public: whether everybody may see a repository that is made here; one that is there stays as it is.

    Returns:
        The address of the repository.

    Raises:
        UserError: no finished run, a malformed name, no network, no token that allows it, or no huggingface_hub.
    """
    files = files_to_publish(Path(run))
    plain = repository.removeprefix(PREFIX)
    if plain.count("/") != 1:
        raise UserError(f"{repository} is no name of a repository: give OWNER/REPO")
    name = parse_name(PREFIX + plain)
    hub = import_hub()
    endpoint = os.environ.get("HF_ENDPOINT")
    if not reachable(endpoint):
        raise UserError(f"{PREFIX}{name.repository}: no network; try again when there is one")
    with explaining(f"{PREFIX}{name.repository}", hub):
        if hub.get_token() is None:
            raise hub.errors.LocalTokenNotFoundError
        api = hub.HfApi(endpoint=endpoint)
        address = api.create_repo(name.repository, private=not public, exist_ok=True)
        additions = [hub.CommitOperationAdd(path_in_repo=file.name, path_or_fileobj=_content(file)) for file in files]
        api.create_commit(name.repository, additions, commit_message=f"{Path(run).resolve().name} by rgsud_fast")
    return str(address)


def files_to_publish(run: Path) -> list[Path]:
    """What `publish` sends of a run; its model card is brought up to date first, or stays where it is the user's.

    Raises:
        UserError: the folder holds no finished run.
    """
    folder = RunFolder(run)
    if not folder.weights("derainer").is_file():
        begun = f": train --resume --out {run} finishes it" if folder.checkpoint.is_file() else ""
        raise UserError(f"{run} is no finished run{begun or ': give the folder of one'}")
    write_card(run)
    kinds = dict.fromkeys(kind for parts in PARTS.values() for kind in parts)
    names = [*(f"{kind}.safetensors" for kind in kinds), "scorer.safetensors", "README.md", folder.gallery.name]
    files = [run / name for name in names if (run / name).is_file()]
    for file in files:
        if not file.resolve().is_relative_to(run.resolve()):
            raise UserError(f"{file} is a link that leads out of the run folder, to {file.resolve()}: remove it")
    return files


def _content(file: Path) -> bytes | Path:
    """What is sent of a file: of the scorer without the folders of the file that it was read of."""
    if file.name != "scorer.safetensors":
        return file
    with utf8_name(file) as name, safe_open(name, framework="pt") as opened:
        text = without_paths(opened.metadata() or {})
        return safetensors_bytes({key: opened.get_tensor(key) for key in opened.keys()}, text)  # noqa: SIM118
