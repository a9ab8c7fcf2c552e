"""Token datasets on the Hugging Face Hub: pushed as they lie in their folder, pulled into one.

What goes there is the card, the index and the shards. The receipts and the ledger of rejected
recordings stay at home: they name files of the machine that made the dataset.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError, CorpusError, CorruptShard
from .damage import check_dataset
from .manifest import SPLITS
from .output import make_folder
from .receipts import CARD_NAME, INDEX_NAME, read_index

if TYPE_CHECKING:
    from huggingface_hub import HfApi

_SHARDS = [f"{split}-*.parquet" for split in SPLITS]
_SHARED = [CARD_NAME, INDEX_NAME, *_SHARDS]


def push_to_hub(
    folder: str | os.PathLike[str],
    repo_id: str,
    *,
    private: bool = True,
    revision: str | None = None,
    message: str = "Token dataset made by speechlm",
    token: str | None = None,
    endpoint: str | None = None,
    progress: bool = False,
) -> str:
    """Check a dataset to its last value, then put it on the Hub in one commit.

    Shards that an earlier push left there and that the dataset no longer has are deleted by the same
    commit, so the repository is never a mixture of two datasets.

    Args:
        folder: A finished dataset.
        repo_id: `name` or `organisation/name`; made if it is not there.
        private: Whether a repository that is made now is private.
        revision: Branch; the main one by default.
        message: Of the commit.
        token: Of the Hub; by default the one that `hf auth login` stored.
        endpoint: Another server than the Hub's.
        progress: Show a bar of the check.

    Returns:
        Address of the commit.

    Raises:
        ConfigError: If `repo_id` is no name of a repository.
        CorpusError: If the folder is no finished dataset, or the Hub cannot be reached or refuses.
        CorruptShard: If anything in the dataset is damaged.
    """
    name = Path(folder)
    report = check_dataset(name, progress=progress)
    if not report.whole:
        said = [damage.reason for damage in report.damaged] + [
            f"{name / stray} is not in the index; delete it." for stray in report.strays
        ]
        more = f" (and {len(said) - 1} more)" if len(said) > 1 else ""
        raise CorruptShard(f"{name} was not pushed: {said[0]}{more}")
    if not (name / CARD_NAME).is_file():
        raise CorpusError(f"{name} has no card ({CARD_NAME}); tokenize again, which writes it.")
    with _hub(f"push {name} to", repo_id, token, endpoint) as api:
        made = api.create_repo(repo_id, repo_type="dataset", private=private, exist_ok=True)
        commit = api.upload_folder(
            repo_id=made.repo_id,
            repo_type="dataset",
            folder_path=name,
            revision=revision,
            commit_message=message,
            allow_patterns=_SHARED,
            delete_patterns=_SHARDS,
        )
        return str(commit.commit_url)


def pull_from_hub(
    repo_id: str,
    folder: str | os.PathLike[str],
    *,
    revision: str | None = None,
    token: str | None = None,
    endpoint: str | None = None,
) -> Path:
    """Download a token dataset into a folder, which `TokenShards` then opens and checks.

    Args:
        repo_id: `organisation/name`.
        folder: Where it shall lie; files that are there already are not downloaded again.
        revision: Branch, tag or commit; the main branch by default.
        token: Of the Hub; by default the one that `hf auth login` stored.
        endpoint: Another server than the Hub's.

    Returns:
        The folder.

    Raises:
        ConfigError: If `repo_id` is no name of a repository, or a file lies where the folder shall.
        CorpusError: If the Hub cannot be reached or refuses, or what is there is no token dataset.
    """
    name = make_folder(Path(folder))
    with _hub(f"fill {name} from", repo_id, token, endpoint) as api:
        api.snapshot_download(
            repo_id,
            repo_type="dataset",
            revision=revision,
            local_dir=name,
            allow_patterns=_SHARED,
        )
    read_index(name)  # a repository without an index is some other dataset; say so now
    return name


@contextmanager
def _hub(doing: str, repo_id: str, token: str | None, endpoint: str | None) -> Iterator[HfApi]:
    """The Hub's client, whose errors become ours."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    # Which HTTP library lies below, and raises what is no HfHubHTTPError, differs by version
    unreachable: Any = HfHubHTTPError.__mro__[1]
    try:
        yield HfApi(endpoint=endpoint, token=token)
    except HFValidationError as error:
        raise ConfigError(f"{repo_id!r} is no name of a repository ({error}).") from error
    except (OSError, unreachable) as error:
        raise CorpusError(
            f"Could not {doing} {repo_id} on the Hub ({error}); look at the name, the network and "
            "`hf auth whoami`."
        ) from error
