"""Upload of a shared folder to the model hub: private and gated before a byte of it is there."""

from __future__ import annotations

import os
import re
from pathlib import Path

from unharm.core.errors import Problem, UserError, raise_all
from unharm.core.secrets import redact

REPO = re.compile(r"[\w.-]+/[\w.-]+")
EXISTS, FORBIDDEN, MISSING = 409, (401, 403), 404


def check_target(repo: str, public: bool, gated: bool) -> None:
    """Raise `UserError` if a repository has no valid name, or would be open to everybody by accident."""
    problems = []
    if not REPO.fullmatch(repo):
        problems.append(Problem(f"{repo!r} is no repository", "--repo", "expected OWNER/NAME"))
    if not gated and not public:
        problems.append(
            Problem("a private repository needs no open gate", "--ungated", "add --public, or leave it out")
        )
    if not os.environ.get("HF_TOKEN"):
        problems.append(
            Problem("no token", "HF_TOKEN", "set it to a token that may write to the repository")
        )
    raise_all(problems)


def push_folder(folder: Path, repo: str, public: bool, gated: bool, update: bool) -> str:
    """Upload a folder to a repository of the hub and return its address.

    The repository is made private, gated, filled, and only then made public, so that nothing of it is open
    if a step fails.

    Args:
        folder: What to upload.
        repo: `OWNER/NAME`.
        public: Whether everybody sees that it exists.
        gated: Whether access has to be granted.
        update: Whether the repository may exist already.

    Raises:
        UserError: The repository exists, the token may not write, or the hub cannot be reached.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT"), token=os.environ.get("HF_TOKEN"))
    try:
        url = api.create_repo(repo, private=True, exist_ok=update)
        if gated:
            api.update_repo_settings(repo, gated="manual")
        api.upload_folder(repo_id=repo, folder_path=folder, commit_message="Adapters and tables of a study")
        if public:
            api.update_repo_settings(repo, private=False)
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else 0
        raise UserError(*_advice(status, str(error), repo)) from None
    except OSError as error:
        raise UserError(f"the hub cannot be reached: {redact(str(error))}", repo, "try again") from None
    return str(url)


def _advice(status: int, text: str, repo: str) -> tuple[str, str, str]:
    """Return message, place and remedy for an answer of the hub."""
    if status == EXISTS:
        return "this repository exists already", repo, "choose another --repo, or add to it with --update"
    if status in FORBIDDEN or status == MISSING:
        return (
            "no permission to write to this repository",
            repo,
            "set HF_TOKEN to a token that may write there",
        )
    first = next(iter(redact(text).splitlines()), "")
    return f"the hub answered {status or 'nothing'}: {first}", repo, "try again"
