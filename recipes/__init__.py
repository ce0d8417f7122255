"""Recipes: whole trainings, from data sets to a packaged model. Not part of the wheel."""
