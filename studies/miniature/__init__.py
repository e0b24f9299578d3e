"""Recipes that trained the models of the shipped miniature, and the scores that chose them."""
