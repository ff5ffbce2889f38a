"""Counting what a network answers, image by image: one run, several, in views of the papers."""
