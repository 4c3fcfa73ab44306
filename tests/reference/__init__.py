"""Plain NumPy versions of the methods, written as loops, to compare the compiled ones with."""
