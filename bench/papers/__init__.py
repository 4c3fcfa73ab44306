"""Results that papers print, made again: one module a result, run by `papers.py` beside this folder."""
