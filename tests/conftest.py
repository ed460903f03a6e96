import os

# Ray Train polls its workers every 2 s by default, longer than an epoch here; read once, when Ray Train is imported.
os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.3")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
