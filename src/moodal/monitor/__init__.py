"""What the journal tells: drift, quality, alerts; corrections as rows; which model stays."""
