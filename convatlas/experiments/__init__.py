"""Experiments that answer a question with trainings of their own, each a command and one page."""
