"""A dataset is recognised by its manifest."""

from pathlib import Path

from vqdist.foundation.dataset_folder import MANIFEST, is_dataset


def test_a_folder_with_a_manifest_is_a_dataset(tmp_path: Path) -> None:
    assert not is_dataset(tmp_path)
    assert not is_dataset("starter")
    (tmp_path / MANIFEST).write_text("{}")
    assert is_dataset(tmp_path)
    assert not is_dataset(tmp_path / MANIFEST)
