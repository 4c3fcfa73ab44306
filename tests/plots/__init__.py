"""Histories made by hand, and ways to read a picture back, for the tests beside them."""
