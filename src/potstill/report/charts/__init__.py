"""The report's charts: each is a Vega-Lite specification that becomes static SVG, and the same figures as a table."""

Point = tuple[float, float]
"""(step, value)."""
