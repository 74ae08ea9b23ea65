"""Fetching models from the hub, in safetensors, with one clear message for each thing that can be wrong."""

from __future__ import annotations

from pathlib import Path

from potstill.errors import ModelError
from potstill.models import catalogue
from potstill.models.folder import is_whole

_FILES = ["*.json", "*.safetensors", "*.jinja", "*.model", "merges.txt", "vocab.txt"]


def fetch_from_hub(hub_id: str, revision: str | None = None, *, code: bool = False) -> Path:
    """The folder of a hub model in the hub's own cache, downloaded where it is missing: no pickles, and Python files only with `code`.

    Raises ModelError, one clear message for each thing that can be wrong.
    """
    try:
        from huggingface_hub import errors, snapshot_download
    except ModuleNotFoundError:
        raise ModelError(f"{hub_id}: hub models need an extra: pip install 'potstill[train]'") from None
    files = [*_FILES, "*.py"] if code else _FILES
    what = f"{hub_id}@{revision}" if revision else hub_id
    try:
        return Path(snapshot_download(hub_id, revision=revision, allow_patterns=files))
    except errors.GatedRepoError:
        reason = f"is gated: accept its licence at https://huggingface.co/{hub_id}, then set HF_TOKEN to a token of that account"
    except errors.RevisionNotFoundError:
        reason = f"has no revision {revision}; look at https://huggingface.co/{hub_id}/commits/main"
    except errors.RepositoryNotFoundError:
        near = catalogue.near_names(hub_id)
        hint = f"; did you mean {' or '.join(near)} of the catalogue?" if near else ""
        reason = f"is not on the model hub (or private: then set HF_TOKEN){hint}"
    except errors.HFValidationError as error:
        reason = f"is not a hub id: {error}"
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled, ConnectionError):
        reason = (
            "is not on this machine, and the model hub cannot be reached (or HF_HUB_OFFLINE is set); "
            "go online, name a folder or a GGUF file, or take smollm2-135m-instruct, which needs no hub"
        )
    except errors.HfHubHTTPError as error:
        reason = f"cannot be fetched: {str(error).splitlines()[0]}"
    except OSError as error:
        reason = f"cannot be fetched: {(error.strerror or str(error)).lower()}; check the disk, and the network"
    raise ModelError(f"{what}: {reason}")


def in_hub_cache(hub_id: str, revision: str | None = None) -> Path | None:
    """The folder of a hub model that is whole in the hub's cache; None where loading would fetch it, or the rest of it.

    Nothing is fetched. Raises ModelError where it would have to be fetched although that is forbidden.
    """
    try:
        from huggingface_hub import constants
    except ModuleNotFoundError:
        return None
    # The library takes a fifth of a second to come, only to say that nothing is there.
    if Path(constants.HF_HUB_CACHE, f"models--{hub_id.replace('/', '--')}").is_dir():
        folder = _snapshot(hub_id, revision)
        if folder is not None and is_whole(folder):
            return folder
    if constants.HF_HUB_OFFLINE:
        raise ModelError(
            f"{hub_id}: is not on this machine, or not all of it, and HF_HUB_OFFLINE forbids to fetch it: `potstill models pull {hub_id}` "
            "without it"
        )
    return None


def _snapshot(hub_id: str, revision: str | None) -> Path | None:
    from huggingface_hub import errors, snapshot_download

    try:
        return Path(snapshot_download(hub_id, revision=revision, local_files_only=True))
    except (errors.LocalEntryNotFoundError, errors.HFValidationError):
        return None
