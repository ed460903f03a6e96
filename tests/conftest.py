import os

from hypothesis import settings

# Ray Train polls its workers every 2 s by default, longer than an epoch here; read once, when Ray Train is imported.
os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.3")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

# On a loaded machine any example may take long; how long tests may take is pytest-timeout's to say.
settings.register_profile("endocurate", deadline=None)
settings.load_profile("endocurate")
