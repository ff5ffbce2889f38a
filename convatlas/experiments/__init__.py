"""Experiments that answer a question with trainings or steps of their own, each a command; some with a page."""
