"""What tests of the views of models share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.page.running_page import RunningPage, running_page
from tests.page.test_page import own_folders


@pytest.fixture(scope="module")
def page(folder: Path, base: Path) -> Iterator[RunningPage]:
    """Start the page of the module's `folder`, once its model `base` is there."""
    assert base.is_dir()
    with running_page(folder, **own_folders(folder)) as started:
        assert started.open().status == 200
        yield started
