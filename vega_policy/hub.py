"""Which commit of a Hub repository stands for a branch or a tag, as this machine has it.

A checkpoint that leaves weights to the Hub has to name a commit: a branch moves.
"""

import re
from pathlib import Path


def commit_of(source: str | None, revision: str | None) -> str | None:
    """The commit; None if the Hub's cache here does not know it.

    Args:
        source: Hub id.
        revision: Commit, tag or branch; None is the main branch.
    """
    if revision is not None and re.fullmatch(r"[0-9a-f]{40}", revision):
        return revision
    if source is None:
        return None
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    home = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=source, repo_type="model")
    reference = home / "refs" / (revision or "main")
    return reference.read_text(encoding="utf-8").strip() if reference.is_file() else None
