"""Commit, versions and Slurm job of a run."""

import subprocess
from pathlib import Path

from vqdist.runs.environment import find_commit, find_git_state, find_slurm_variables, find_versions


def test_slurm_variables_and_versions(tmp_path: Path) -> None:
    assert find_slurm_variables({"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": "2", "HOME": "/"}) == {
        "job_id": "7",
        "restart_count": "2",
    }
    assert set(find_versions(["numpy", "no-such-package"])) == {"numpy"}
    (tmp_path / "module.py").touch()
    assert find_commit(tmp_path / "module.py") is None


def test_commit_of_a_tracked_file(tmp_path: Path) -> None:
    def git(*words: str) -> str:
        who = ["-c", "user.name=a", "-c", "user.email=a@b.example"]
        return subprocess.run(
            ["git", "-C", str(tmp_path), *who, *words], capture_output=True, text=True, check=True
        ).stdout.strip()

    git("init")
    (tmp_path / "module.py").write_text("a = 1\n")
    (tmp_path / "other.py").touch()
    git("add", "module.py")
    git("commit", "-m", "first")
    commit = git("rev-parse", "HEAD")
    assert find_commit(tmp_path / "module.py") == commit
    assert find_commit(tmp_path / "other.py") is None
    (tmp_path / "module.py").write_text("a = 2\n")
    assert find_commit(tmp_path / "module.py") == commit + "-dirty"
    assert find_git_state(tmp_path / "module.py") == {"git_commit": commit}
    assert find_git_state(tmp_path / "other.py") == {}
    git("remote", "add", "origin", "https://me:secret@host.example/me/vqdist.git")
    remote = "https://host.example/me/vqdist.git"
    assert find_git_state(tmp_path / "module.py") == {"git_commit": commit, "git_remote_url": remote}
