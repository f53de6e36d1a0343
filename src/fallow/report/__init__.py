"""Results for people: a table in the terminal, line charts, one self-contained HTML page.

Everything is made from the plain mapping that `results.json` holds; see `fallow.report.tables` for its keys.
"""
