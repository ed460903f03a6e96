import os
import tempfile

import pytest
from hypothesis import settings

from tests.raylets import COMMIT, Cluster

# Ray Train polls its workers every 2 s by default, longer than an epoch here; read once, when Ray Train is imported.
os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.3")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

# On a loaded machine any example may take long; how long tests may take is pytest-timeout's to say.
settings.register_profile("endocurate", deadline=None)
settings.load_profile("endocurate")


@pytest.fixture(scope="module")
def commit():
    """The commit that every row tells, here and on a cluster of `tests.raylets`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ENDOCURATE_COMMIT", COMMIT)
        yield


@pytest.fixture(scope="module")
def cluster():
    """A cluster of `tests.raylets` whose head is not begun yet."""
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="r-") as folder, Cluster(folder) as made:
        yield made


@pytest.fixture(scope="module")
def clips(request, tmp_path_factory):
    """A folder with as many clips in `videos` as the module's CLIPS says, and a scorer."""
    from tests.crashes import trials  # loads torch, which most tests do without

    folder = tmp_path_factory.mktemp("clips")
    trials.make_clips(folder, request.module.CLIPS)
    return folder
