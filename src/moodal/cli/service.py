"""A service's commands: serve, keys, feedback, retrain, promote, rollback, monitor."""
