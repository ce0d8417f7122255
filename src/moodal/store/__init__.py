"""What a service remembers: answers, corrections, models, alerts, and inputs where it may."""
